"""Packages whose names are imported when they are first used: a function may have the name of its module."""

import subprocess
import sys
from pathlib import Path

import pytest

INIT = '''"""A package."""

from typing import TYPE_CHECKING

from rewarm.stages.core.lazy import import_lazily

if TYPE_CHECKING:
    from stage.run import VERSION, run
    from stage.settings import Settings
else:
    import_lazily(__name__)
'''
ORDERS = (
    "import stage; print(stage.run(), stage.VERSION); from stage.run import run; print(run(), stage.run())",
    "from stage.run import VERSION; import stage; print(stage.run(), VERSION); from stage import run; print(run(), 1)",
    "from stage import run, other; print(run(), other.__name__); import stage.run; print(stage.run(), stage.VERSION)",
)


@pytest.mark.parametrize("code", ORDERS)
def test_a_function_with_the_name_of_its_module_is_found_in_any_order(tmp_path: Path, code: str) -> None:
    package = tmp_path / "stage"
    package.mkdir()
    (package / "__init__.py").write_text(INIT)
    (package / "run.py").write_text("VERSION = 1\n\ndef run(): return 'ran'\n")
    (package / "settings.py").write_text("raise RuntimeError('nothing has asked for the settings')\n")
    (package / "other.py").write_text("")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ran", "ran"]


def test_a_name_that_a_package_lacks_is_an_attribute_error() -> None:
    from rewarm.stages import ingest

    with pytest.raises(AttributeError, match=r"'rewarm\.stages\.ingest' has no attribute 'nothing'"):
        ingest.nothing  # type: ignore[attr-defined]  # noqa: B018
