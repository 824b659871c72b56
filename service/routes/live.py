"""What happens now."""

from fastapi import APIRouter, Request, Response

from service.decode import NDJSON
from service.live import LiveAnswer
from service.schemas import ErrorAnswer
from service.state import state_of
from service.view_schemas import LiveRecord

router = APIRouter()


@router.get(
    "/live",
    response_class=Response,
    summary="What happens now",
    responses={
        200: {"content": {NDJSON: {"schema": {"type": "string"}, "itemSchema": LiveRecord.model_json_schema()}}},
        503: {"model": ErrorAnswer},
    },
)
async def live(request: Request) -> Response:
    """One record at once and one a second, without an end: counts, the queue, latency and p-values of every model."""
    return LiveAnswer(state_of(request).live)
