"""Which models are served, and all about one."""

import orjson
from fastapi import APIRouter, Request, Response

from elbound.scorer import Scorer
from service.answer import fixed_header
from service.schemas import ErrorAnswer, ModelAnswer, ModelsAnswer
from service.scoring import Terms
from service.state import state_of

router = APIRouter()


@router.get("/models", response_model=ModelsAnswer, summary="The models that are served")
async def list_models(request: Request) -> Response:
    """Every model by name."""
    state = state_of(request)
    models = [_summary(served.scorer, state.ready) for served in state.registry.models.values()]
    return _json({"models": models})


@router.get("/models/{name}", response_model=ModelAnswer, summary="One model", responses={404: {"model": ErrorAnswer}})
async def get_model(request: Request, name: str) -> Response:
    """The schema of its items, its thresholds at its own alpha, and how it was trained."""
    state = state_of(request)
    scorer = state.registry.get(name).scorer
    manifest, calibration = scorer.manifest, scorer.calibration
    header = fixed_header(scorer, Terms(scorer.alpha, scorer.guarantee))
    return _json(
        {
            **_summary(scorer, state.ready),
            "created": manifest.created.isoformat(),
            **{name: header[name] for name in ("guarantee", "smallest_alpha", "realised_rate", "verdict", "scores")},
            "groups": None
            if calibration.item_groups is None
            else {
                name: ranking.verdict.n
                for name, ranking in zip(calibration.item_groups.names, calibration.by_group, strict=True)
            },
            "rate_is_promised": calibration.held_out,
            "item": manifest.item.model_dump(mode="json"),
            "detector": manifest.detector.model_dump(mode="json"),
            "training": manifest.training.model_dump(mode="json"),
            "metrics": manifest.metrics,
            "software": manifest.software,
        }
    )


def _summary(scorer: Scorer, ready: bool) -> dict[str, object]:
    return {
        "name": scorer.name,
        "version": scorer.version,
        "kind": scorer.schema.kind,
        "ready": ready,
        "alpha": scorer.alpha,
        "n_calibration": scorer.calibration.n,
        "device": str(scorer.device),
        "engine": {"name": scorer.engine.name, "reason": scorer.engine.reason},
    }


def _json(document: object) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
