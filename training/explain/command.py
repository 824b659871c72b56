"""The command: choose items, explain them, draw each."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import orjson
import typer

from elbound.bundle.signature import Trust
from elbound.calibration.conformal import check_alpha, check_guarantee
from elbound.errors import ConfigError, DataError
from elbound.explain import (
    explain_fired,
    explain_images,
    explain_rows,
    fired_documents,
    image_documents,
    row_documents,
)
from elbound.explain.counterfactual import NearestNormal, has_counterfactuals
from elbound.scorer import Scorer
from training.console import console, warn
from training.explain.choice import Chosen, Rate, Verdict, Which, choose_items, events_of
from training.explain.pictures import image_picture
from training.explain.rows import changes_table, fired_table, headline, nearest_headline, row_table
from training.score.heatmaps import picture_name

NEAREST_ITEMS = 2

Document: TypeAlias = dict[str, object]


@dataclass(frozen=True)
class Explained:
    """One item, why it scores as it does, what the score that decided adds, and the nearest normal of an anomaly.

    `heat` is an image's map.
    """

    verdict: Verdict
    explanation: Document
    fired: Document | None
    counterfactual: Document | None
    heat: np.ndarray | None


def explain_file(
    bundle: Path,
    file: Path,
    which: Which,
    *,
    top: int,
    out: Path,
    as_json: bool,
    alpha: float | None = None,
    guarantee: float | None = None,
    device: str = "auto",
    trust: Trust | None = None,
) -> None:
    """Print or draw why the chosen items of `file` are odd. Raises BundleError, ConfigError, DataError."""
    if top < 1:
        raise ConfigError(f"--top must be at least 1. Got {top} instead", where="top")
    scorer = Scorer.from_bundle(bundle, device=device, trust=trust)
    rate = Rate(
        scorer.alpha if alpha is None else check_alpha(alpha),
        scorer.guarantee if guarantee is None else check_guarantee(guarantee),
    )
    if (silent := scorer.unresolved(rate.alpha, rate.guarantee)) is not None:
        warn(silent)
    chosen = choose_items(scorer, file, which, rate)
    for one in _explained(scorer, chosen.verdicts, rate, top):
        if as_json:
            typer.echo(orjson.dumps(_document(one)))
        elif scorer.image is None:
            _print_row(scorer, one)
        else:
            _draw_image(scorer, one, out)
    if not as_json:
        console.print(_summary(chosen, which), soft_wrap=True)


def _explained(scorer: Scorer, verdicts: list[Verdict], rate: Rate, top: int) -> Iterator[Explained]:
    if not verdicts:
        return
    x = events_of(verdicts)
    names = [one.fired if one.is_anomaly else None for one in verdicts]
    fired = explain_fired(scorer, x, names, nearest_items=NEAREST_ITEMS)
    heats: list[np.ndarray | None] = [None] * len(x)
    if scorer.image is None:
        documents = row_documents(scorer, x, explain_rows(scorer, x), top)
    else:
        shares = explain_images(scorer, x)
        documents, heats = image_documents(scorer, x, shares), list(shares.heat)
    told = fired_documents(scorer, x, fired, top)
    for verdict, document, more, heat in zip(verdicts, documents, told, heats, strict=True):
        yield Explained(verdict, document, more, _nearest_normal(scorer, verdict, rate), heat)


def _nearest_normal(scorer: Scorer, verdict: Verdict, rate: Rate) -> Document | None:
    """What would make an anomaly normal, where this model can tell."""
    if not (verdict.is_anomaly and has_counterfactuals(scorer)):
        return None
    x, group = verdict.event[None], verdict.group
    search = NearestNormal(scorer, x, alpha=rate.alpha, guarantee=rate.guarantee, group=group)
    return search.finish().document(scorer)


def _document(one: Explained) -> Document:
    verdict = {name: value for name, value in asdict(one.verdict).items() if name != "event"}
    return {
        **verdict,
        "explanation": one.explanation,
        "fired_explanation": one.fired,
        "counterfactual": one.counterfactual,
    }


def _print_row(scorer: Scorer, one: Explained) -> None:
    console.print(headline(one.verdict), soft_wrap=True)
    console.print(row_table(one.explanation))
    if one.fired is not None:
        console.print(_normal_range(scorer, one.fired), soft_wrap=True)
        table = fired_table(one.fired)
        if table is not None:
            console.print(table)
    if one.counterfactual is not None:
        console.print(nearest_headline(one.counterfactual), soft_wrap=True)
        console.print(changes_table(one.counterfactual))
    console.print()


def _draw_image(scorer: Scorer, one: Explained, out: Path) -> None:
    assert scorer.image is not None
    assert one.heat is not None
    pixels = scorer.image.from_tensor(one.verdict.event[None])[0]
    path = out / picture_name(one.verdict.place, one.verdict.name)
    try:
        out.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_picture(pixels, one.heat, one.explanation, one.fired, one.counterfactual))
    except OSError as error:
        raise DataError(f"{path} could not be written: {error.strerror or error}", where=str(path)) from error
    console.print(headline(one.verdict), soft_wrap=True)
    if one.fired is not None:
        console.print(_normal_range(scorer, one.fired), soft_wrap=True)
    console.print(f"  drawn in {path}", markup=False, soft_wrap=True)


def _normal_range(scorer: Scorer, fired: Document) -> str:
    name, normal = str(fired["score"]), fired["normal"]
    assert isinstance(normal, dict)
    return (
        f"  {name} ({scorer.detector.units[name]}) of nine in ten normal items lies from {normal['low']:.3g} to "
        f"{normal['high']:.3g}, the median is {normal['median']:.3g}"
    )


def _summary(chosen: Chosen, which: Which) -> str:
    kind = "items" if which.every or which.places else "anomalies"
    shown = len(chosen.verdicts)
    left = f"; only the {shown:,} with the largest scores shown (--most)" if shown < chosen.wanted else ""
    kind = kind if chosen.wanted != 1 else "item" if kind == "items" else "anomaly"
    return f"{chosen.wanted:,} {kind} among {chosen.items:,} items{left}"
