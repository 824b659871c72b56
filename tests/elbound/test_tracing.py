"""Small batches by a trace: the same scores; whatever cannot be traced is scored as before."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elbound.engines.agreement import AGREEMENT, hard_rows, worst_difference
from elbound.engines.engine import choose_engine, with_small_batches
from elbound.engines.traced import SMALL_ROWS, graph_of, traced
from elbound.scorer import Scorer
from tests.conftest import odd_detector

CPU = torch.device("cpu")
_KEPT: dict[str, Scorer] = {}


@pytest.fixture(scope="module", autouse=True)
def _keep(table_scorer: Scorer) -> None:
    """Hypothesis calls a test many times; the fixture reaches it here."""
    hastened = Scorer(
        table_scorer.manifest, table_scorer.detector, table_scorer.calibration, table_scorer.golden, device=CPU
    )
    hastened.hasten_small_batches()
    _KEPT.update(eager=table_scorer, hastened=hastened)


def rows_of(seed: int, n: int, scale: float) -> torch.Tensor:
    """Rows of `mixed_table`'s kind with gaps, `(n, 5)`."""
    draw = np.random.default_rng(seed)
    x = torch.from_numpy(draw.normal(size=(n, 5)) * scale)
    x[:, 3] = torch.from_numpy(draw.integers(0, 2, n))
    x[:, 4] = torch.from_numpy(draw.integers(0, 4, n))
    x[torch.from_numpy(draw.random((n, 5)) < 0.1)] = torch.nan
    return x


def test_who_asks_is_told_that_small_batches_go_by_a_trace() -> None:
    assert _KEPT["eager"].engine[:2] == ("torch", "the bundle has no export")
    assert _KEPT["hastened"].engine[:2] == ("torch", "the bundle has no export; small batches are scored by a trace")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, SMALL_ROWS + 3), st.floats(0.1, 1e4))
def test_a_batch_scores_as_without_a_trace(seed: int, n: int, scale: float) -> None:
    x = rows_of(seed, n, scale)
    found, expected = (torch.from_numpy(_KEPT[name].raw_scores(x)) for name in ("hastened", "eager"))
    assert worst_difference(found, expected) <= AGREEMENT


def test_batches_of_several_threads_do_not_meet() -> None:
    batches = [rows_of(seed, 1 + seed % 9, 1.0) for seed in range(60)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(_KEPT["hastened"].raw_scores, batches))
    for x, scores in zip(batches, found, strict=True):
        assert (scores == _KEPT["hastened"].raw_scores(x)).all()


def test_other_parts_than_the_defaults_are_traced_too() -> None:
    detector, schema, events = odd_detector()
    small = traced(detector, schema, events[:4])
    assert small is not None
    with torch.inference_mode():
        rows = hard_rows(events[:50], schema)
        assert worst_difference(small(rows), detector.score(rows)) <= AGREEMENT


def test_what_cannot_be_traced_is_scored_as_before(image_scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    image_scorer.hasten_small_batches()
    assert image_scorer.engine[:2] == ("torch", "the bundle has no export")
    scorer = _KEPT["eager"]
    for broken in (lambda *_: 1 / 0, lambda *_: lambda _: None):
        monkeypatch.setattr("elbound.engines.traced.graph_of", broken)
        assert traced(scorer.detector, scorer.schema, scorer.golden) is None


def test_a_trace_that_scores_otherwise_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = _KEPT["eager"]
    monkeypatch.setattr(
        "elbound.engines.traced.graph_of", lambda scores, x: lambda rows: graph_of(scores, x)(rows) * 1.001
    )
    engine = choose_engine(scorer.detector, scorer.golden, CPU, None)
    assert with_small_batches(engine, scorer.detector, scorer.schema, scorer.golden) is engine


def test_a_trace_goes_with_its_detector() -> None:
    detector, schema, events = odd_detector()
    small = traced(detector, schema, events[:4])
    assert small is not None
    small(events[:1])
    held = [weakref.ref(tensor) for tensor in (*detector.parameters(), *detector.buffers())]
    del detector, small
    gc.collect()
    assert not any(ref() is not None for ref in held)
