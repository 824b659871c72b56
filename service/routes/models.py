"""Which models are served, and all about one."""

from dataclasses import asdict

from fastapi import APIRouter, Request, Response

from elbound.scorer import Scorer
from service.answers.documents import fixed_header
from service.answers.schemas import ErrorAnswer, Limits, ModelAnswer, ModelsAnswer
from service.http.error_answers import json_response
from service.models.store.records import StoreModel
from service.scoring.terms import Terms
from service.state import state_of

HEADER_FIELDS = ("guarantee", "smallest_alpha", "warning", "realised_rate", "verdict", "scores")

router = APIRouter()


@router.get("/models", response_model=ModelsAnswer, summary="The models that are served")
async def list_models(request: Request) -> Response:
    """Every model by name."""
    state = state_of(request)
    models = [_summary(served.scorer, state.ready) for served in state.registry.models.values()]
    stored = state.store.models.values() if state.store else []
    problems = [one for one in (state.store and state.store.problem, *(model.problem for model in stored)) if one]
    refused = [one for model in stored for one in _refused(model)]
    limits = {name: getattr(state.settings, name) for name in Limits.model_fields}
    return json_response({"models": models, "refused": refused, "store_problems": problems, "limits": limits})


@router.get("/models/{name}", response_model=ModelAnswer, summary="One model", responses={404: {"model": ErrorAnswer}})
async def get_model(request: Request, name: str) -> Response:
    """The schema of its items, its thresholds at its own alpha, and how it was trained."""
    state = state_of(request)
    scorer = state.registry.get(name).scorer
    stored = state.store.models.get(name) if state.store else None
    shadow = state.shadows.running.get(name)
    manifest, calibration = scorer.manifest, scorer.calibration
    header = fixed_header(scorer, Terms(scorer.alpha, scorer.guarantee))
    return json_response(
        {
            **_summary(scorer, state.ready),
            "created": manifest.created.isoformat(),
            **{name: header[name] for name in HEADER_FIELDS},
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
            "store": None if stored is None else _stored(stored, shadow.served.scorer.version if shadow else None),
            "shadow": None if shadow is None else shadow.document(),
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


def _stored(model: StoreModel, shadow: str | None) -> dict[str, object]:
    def state_of_version(version: str) -> str:
        if version == model.active:
            return "active"
        if version == shadow:
            return "shadow"
        return "refused" if version in model.refused else "there"

    return {
        "versions": [{"version": one, "state": state_of_version(one)} for one in model.listing.versions],
        "pinned": model.listing.pin,
        "refused": _refused(model),
        "changes": [asdict(change) for change in model.trail.changes],
        "problem": model.problem,
    }


def _refused(model: StoreModel) -> list[dict[str, object]]:
    return [
        {"name": model.name, "version": version, "code": refusal.code, "message": refusal.message}
        for version, refusal in model.refused.items()
    ]
