"""Whether the scores of a model still look like those of its calibration."""

import numpy as np
import orjson
from fastapi import APIRouter, Request, Response

from elbound.calibration.drift import LOG_THRESHOLD
from service.answers.schemas import DriftAnswer, ErrorAnswer
from service.monitoring.drift import ModelDrift
from service.state import state_of

ANSWERED_BINS = 20
"""Bins of the answer's histogram; they divide those of the bets."""
NOT_FOLLOWED: dict[str, object] = {
    "followed": False,
    "reason": "the calibration items also trained the model: new scores would differ from theirs without any drift",
}

router = APIRouter()


@router.get(
    "/models/{name}/drift",
    response_model=DriftAnswer,
    summary="Drift of one model",
    responses={404: {"model": ErrorAnswer}},
)
async def get_drift(request: Request, name: str) -> Response:
    """The log martingale against its threshold, the histogram of online p-values, since when and of how many scores."""
    state = state_of(request)
    scorer = state.registry.get(name).scorer
    drift = state.drift.models.get(scorer.name)
    document = {
        "model": {"name": scorer.name, "version": scorer.version},
        "log_threshold": LOG_THRESHOLD,
        **(_followed(drift, kept=state.drift.folder is not None) if drift else NOT_FOLLOWED),
    }
    return Response(orjson.dumps(document), media_type="application/json")


def _followed(drift: ModelDrift, *, kept: bool) -> dict[str, object]:
    martingale = drift.up_to_date()
    return {
        "followed": True,
        "drifted": martingale.alarmed,
        "drifted_at": drift.alarmed_at,
        "drifted_after_scores": martingale.alarmed_after,
        "log_martingale": martingale.log_martingale,
        "max_log_martingale": martingale.max_log_martingale,
        "since": drift.since,
        "scores": martingale.scores,
        "epoch": martingale.epoch,
        "epoch_scores": martingale.n_seen,
        "p_values": {
            "edges": np.linspace(0, 1, ANSWERED_BINS + 1).round(2).tolist(),
            "counts": martingale.p_value_counts.reshape(ANSWERED_BINS, -1).sum(axis=1).tolist(),
        },
        "kept": kept,
        "saved_at": drift.saved_at,
        "lost": drift.lost,
    }
