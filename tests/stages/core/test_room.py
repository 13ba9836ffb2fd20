"""Where workers fit among the nodes of a cluster."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewarm.stages.core.resources import cpus_each, fits


@pytest.mark.parametrize(
    ("nodes", "workers", "each"),
    [
        ([2.0], 2, 1),
        ([8.0], 3, 2),
        ([8.0, 8.0], 3, 4),  # 16 // 3 is 5, but two of five on one node of eight are not to be had
        ([1.0], 2, 0),  # an entrypoint holds the other
        ([0.5, 0.5], 1, 0),  # a worker lies on one node
        ([3.5], 1, 3),
        ([], 1, 0),
    ],
)
def test_every_worker_gets_the_most_that_all_can_have(nodes: list[float], workers: int, each: int) -> None:
    assert cpus_each(nodes, workers) == each


@given(st.lists(st.floats(0, 64), max_size=6), st.integers(1, 16))
def test_what_is_given_fits_and_one_more_does_not(nodes: list[float], workers: int) -> None:
    each = cpus_each(nodes, workers)
    assert each == 0 or fits(nodes, workers, each)
    assert not fits(nodes, workers, each + 1)
