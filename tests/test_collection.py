"""The test folders by themselves: fixtures are found in every order of the files on the command line."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.faults
def test_a_folder_named_twice_keeps_its_fixtures() -> None:
    order = ["tests/pipeline/update/test_effects.py", "tests/test_house.py", "tests/pipeline/test_trace.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--setup-plan", *order]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
