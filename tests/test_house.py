"""The structure and the language of the code base hold the goals of ``benchmarks/house.py``."""

import pytest
from house import ROWS, Row


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_goal_holds(row: Row) -> None:
    name, measure, goal, holds = row
    value = measure()
    assert holds(value), f"{name}: {value}, goal {goal}"
