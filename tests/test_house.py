"""The structure and the language of the code base: what ``benchmarks/house.py`` measures, held where it is reached."""

import pytest
from house import ROWS

HELD = (
    "rooms of pipeline/ in import cycles",
    "imports between rooms that point upward",
    "files from the command to the commit",
    "longest module, lines",
    "README lines",
)


@pytest.mark.parametrize("name", HELD)
def test_a_goal_that_was_reached_is_held(name: str) -> None:
    (row,) = (row for row in ROWS if row[0] == name)
    value = row[1]()
    assert row[3](value), f"{name}: {value}, goal {row[2]}"
