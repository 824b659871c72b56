"""`POST /score` as the OpenAPI document tells of it; `ScoreEndpoint` answers it before FastAPI is asked."""

from fastapi import APIRouter, Response

from service.answers.schemas import ErrorAnswer, ScoreAnswer
from service.http.accept import STREAMED
from service.score.request import HEADERS, PARAMETERS

RESPONSES: dict[int | str, dict[str, object]] = {
    200: {
        "description": "What was found; by Accept as one document or record by record.",
        "content": {form: {"schema": {"type": "string"}} for form in STREAMED},
    },
}
RESPONSES |= {
    status: {"model": ErrorAnswer, "description": text}
    for status, text in {
        400: "The body or a parameter cannot be read.",
        406: "The answer has no form that Accept takes.",
        401: "The key is missing or wrong.",
        404: "No model of that name.",
        413: "Larger than a limit.",
        415: "A content type or encoding that is not read.",
        422: "Not one item could be scored, or the columns are not those of the model.",
        503: "The queue is full; see Retry-After.",
        504: "The deadline passed.",
    }.items()
}

router = APIRouter()


@router.post(
    "/score",
    response_model=ScoreAnswer,
    responses=RESPONSES,
    summary="Score an upload",
    openapi_extra={
        "parameters": [
            *({"name": name, "in": "query", **facts} for name, facts in PARAMETERS.items()),
            *({"name": name, "in": "header", **facts} for name, facts in HEADERS.items()),
        ]
    },
)
async def score() -> Response:
    """Rows of a table or images, by content type; an answer for each item, errors included."""
    raise AssertionError("ScoreEndpoint stands in front of this route. This is a bug.")
