"""Is the process alive, can it score, what does it count."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from service.answers.schemas import HealthAnswer
from service.monitoring.metrics import CONTENT_TYPE
from service.state import state_of

router = APIRouter()


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", response_model=HealthAnswer, summary="Alive")
async def healthz() -> JSONResponse:
    """200 while the process answers."""
    return JSONResponse({"status": "ok"})


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", response_model=HealthAnswer, summary="Ready to score", responses={503: {"model": HealthAnswer}})
async def readyz(request: Request) -> JSONResponse:
    """200 once every model is loaded and while the device works; else 503."""
    ready = state_of(request).ready
    return JSONResponse({"status": "ok" if ready else "not_ready"}, 200 if ready else 503)


@router.get("/metrics", response_class=Response, summary="Prometheus metrics")
async def metrics(request: Request) -> Response:
    """The text format of Prometheus."""
    return Response(state_of(request).metrics.render(), media_type=CONTENT_TYPE)
