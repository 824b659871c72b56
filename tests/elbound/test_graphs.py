"""CUDA graphs score as the eager detector; where there is no GPU, only which graph a chunk takes can be tried."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from elbound.engines.cuda_graphs import SIZES, CudaGraphs, graph_sizes, size_for
from elbound.scorer import Scorer

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")


@given(st.integers(1, 10_000), st.data())
def test_a_chunk_takes_the_smallest_graph_that_holds_it(chunk: int, data: st.DataObject) -> None:
    sizes = graph_sizes(chunk)
    rows = data.draw(st.integers(1, chunk))
    size = size_for(rows, sizes)
    assert rows <= size <= max(8 * rows, 1)
    assert sizes[-1] == chunk
    assert set(sizes) <= {*SIZES, chunk}


@on_a_gpu
def test_any_number_of_rows_scores_as_without_graphs(table_bundle) -> None:  # type: ignore[no-untyped-def]
    scorer = Scorer.from_bundle(table_bundle, device="cuda")
    assert scorer.engine.name == "cuda_graphs", scorer.engine.reason
    chunk = scorer.detector.cuda_chunk
    rows = scorer.golden.repeat(3 * chunk // len(scorer.golden), 1)
    for n in (0, 1, 7, 8, 9, 600, chunk, chunk + 1, 2 * chunk + 5):
        expected = scorer.detector(rows[:n], scorer.device).cpu()
        torch.testing.assert_close(scorer.engine.score(rows[:n]), expected, rtol=1e-5, atol=1e-5)


@on_a_gpu
def test_callers_in_several_threads_get_their_own_scores(table_bundle) -> None:  # type: ignore[no-untyped-def]
    scorer = Scorer.from_bundle(table_bundle, device="cuda")
    expected = scorer.raw_scores(scorer.golden)
    wrong: list[int] = []

    def call(i: int) -> None:
        for _ in range(200):
            found = scorer.raw_scores(scorer.golden[i : i + 1])
            if not np.allclose(found, expected[i : i + 1], rtol=1e-5, atol=1e-5):
                wrong.append(i)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(scorer.golden))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@on_a_gpu
def test_a_model_is_loaded_while_another_serves(table_bundle) -> None:  # type: ignore[no-untyped-def]
    serving = Scorer.from_bundle(table_bundle, device="cuda")
    assert isinstance(serving.engine.score, CudaGraphs)
    expected = serving.raw_scores(serving.golden)
    engines: list[str] = []
    loader = threading.Thread(
        target=lambda: engines.append(Scorer.from_bundle(table_bundle, device="cuda").engine.name)
    )
    loader.start()
    while loader.is_alive():
        np.testing.assert_allclose(serving.raw_scores(serving.golden), expected, rtol=1e-5, atol=1e-5)
    assert engines == ["cuda_graphs"]
