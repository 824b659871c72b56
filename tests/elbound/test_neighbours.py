"""The blocked search of neighbours is exact, and says the same of an item alone and in a batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elbound.scores.neighbours import BLOCK_ITEMS, nearest_distances


@given(
    n=st.integers(1, 2 * BLOCK_ITEMS + 3),
    m=st.integers(1, 200),
    p=st.integers(1, 40),
    k=st.integers(1, 20),
    far=st.sampled_from([0.0, 10.0, 1000.0]),
)
@settings(deadline=None, max_examples=60)
def test_distances_are_those_of_a_full_search(n: int, m: int, p: int, k: int, far: float) -> None:
    draw = torch.Generator().manual_seed(n * m * p + k)
    points = torch.randn(m, p, generator=draw) + far
    queries = torch.randn(n, p, generator=draw) + far
    queries[: min(n, m)] = points[: min(n, m)]
    expected = torch.cdist(queries.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist")
    expected = expected.topk(min(k, m), 1, largest=False).values
    torch.testing.assert_close(nearest_distances(queries, points, k), expected, rtol=1e-12, atol=1e-12)


def test_an_item_alone_has_the_distance_it_has_in_a_batch() -> None:
    """Also among near twins far from the origin, where float32 would lose which one is nearest."""
    draw = torch.Generator().manual_seed(0)
    points = 100 + 1e-3 * torch.randn(500, 30, generator=draw)
    queries = 100 + 1e-3 * torch.randn(300, 30, generator=draw)
    together = nearest_distances(queries, points, 2)
    alone = torch.cat([nearest_distances(query[None], points, 2) for query in queries])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=0)


@pytest.mark.parametrize("far", [1e3, 1e30])
def test_no_query_is_too_far(far: float) -> None:
    found = nearest_distances(torch.full((2, 3), far), torch.randn(40, 3), 2)
    assert torch.isfinite(found).all()
    assert found[0, 0] == pytest.approx(far * 3**0.5, rel=0.01)
