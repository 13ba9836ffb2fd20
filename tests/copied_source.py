"""The checkout's source in another folder, as rsync and Docker copy it: links stay links."""

import shutil
import subprocess
import sys
from pathlib import Path

ASK = "import rewarm.pipeline.cli.app, rewarm.stages.core.operators as found; print(found.__file__)"


def copy_source(source: Path, target: Path) -> None:
    """Copy a file, or a folder without compiled modules."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def assert_complete(folder: Path) -> None:
    """Assert that rewarm can be installed from a folder: it imports from there, and the files of its metadata exist."""
    done = subprocess.run([sys.executable, "-c", ASK], cwd=folder, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(folder / "rewarm" / "stages" / "core" / "operators.py"), done.stderr
    assert all((folder / name).is_file() for name in ("pyproject.toml", "README.md", "LICENSE", "requirements.lock"))
