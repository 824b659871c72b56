"""What happens now."""

from fastapi import APIRouter, Request, Response

from service.access.document import refusal
from service.answers.view_schemas import LiveRecord
from service.monitoring.live import LiveAnswer
from service.state import state_of

router = APIRouter()


@router.get(
    "/live",
    status_code=200,
    response_class=LiveAnswer,
    summary="What happens now",
    responses={
        200: {"model": LiveRecord, "description": "Lines without an end, each of this form."},
        503: refusal("As many read already as may.", "/live"),
    },
)
async def live(request: Request) -> Response:
    """One record at once and one a second, without an end: counts, the queue, latency and p-values of every model."""
    return LiveAnswer(state_of(request).live)
