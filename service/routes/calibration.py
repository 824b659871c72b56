"""What a model decides at every rate, and the report of its training."""

import logging

from fastapi import APIRouter, Request, Response

from elbound.bundle import read_checked
from elbound.errors import BundleCorrupt
from service.answers.scales import scales_document
from service.answers.schemas import ErrorAnswer
from service.answers.view_schemas import CalibrationAnswer
from service.errors import ReportMissing
from service.models.registry import ServedModel
from service.state import state_of

REPORT = "report/index.html"
POLICY = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'"
"""A bundle's HTML is not ours: no script, no origin, nothing from elsewhere, and in no frame. Our page shows its text,
which it fetches and cleans, in a frame without an address."""

router = APIRouter()
logger = logging.getLogger("elbound")


@router.get(
    "/models/{name}/calibration",
    response_model=CalibrationAnswer,
    summary="Thresholds and histograms of one model",
    responses={404: {"model": ErrorAnswer}},
)
async def get_calibration(request: Request, name: str) -> Response:
    """The threshold of every score at each alpha that a slider can ask for, and where the normals lie."""
    state = state_of(request)
    document = await state.documents.run(scales_document, state.registry.get(name).scorer)
    return Response(document, media_type="application/json")


@router.get(
    "/models/{name}/report",
    response_class=Response,
    summary="Report of the training of one model",
    responses={200: {"content": {"text/html": {}}}, 404: {"model": ErrorAnswer}},
)
async def get_report(request: Request, name: str) -> Response:
    """The page that training wrote into the bundle, to be shown in a frame of its own."""
    state = state_of(request)
    page = await state.documents.run(_read_report, state.registry.get(name))
    headers = {"content-security-policy": POLICY, "referrer-policy": "no-referrer"}
    return Response(page, headers=headers, media_type="text/html")


def _read_report(served: ServedModel) -> bytes:
    """Raises ReportMissing; what is read is checked by the manifest that was loaded."""
    record = served.scorer.manifest.files.get(REPORT)
    if record is None:
        raise ReportMissing(f"the bundle of {served.name} has no report", where="name")
    try:
        return read_checked(served.path, REPORT, record)
    except BundleCorrupt as error:
        logger.error("%s", error.message)
        raise ReportMissing(
            f"the bundle of {served.name} is not on disk any more as it was loaded", where="name"
        ) from error
