"""The table of faults names tests that exist."""

import re
from pathlib import Path

TESTS = Path(__file__).parent


def test_every_test_that_the_table_names_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", (TESTS / "faults.md").read_text())
    assert len(named) > 30
    missing = [f"{file}::{name}" for file, name in named if not re.search(rf"def {name}\(", (TESTS / file).read_text())]
    assert missing == []
