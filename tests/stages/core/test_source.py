"""What processes of rewarm's own are given to import from: the package, and nothing that hides a module of Python's."""

import os
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib.metadata import version

import pytest

from rewarm.pipeline.lineage.lease.protocol import PROGRAM
from rewarm.stages.core.cluster import SOURCE, worker_path


def test_workers_import_the_package_and_pythons_own_modules() -> None:
    """``stages.select`` on the path by its own name would stand before Python's ``select``: no worker of Ray starts."""
    ask = "import select, rewarm.stages.core.cluster as cluster; print(hasattr(select, 'poll'), cluster.SOURCE)"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    found = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=False)
    assert (found.stdout.split(), found.stderr) == (["True", str(SOURCE)], "")
    assert not [name for name in sys.stdlib_module_names if (SOURCE / name).exists()]


def test_the_program_is_known_by_its_file() -> None:
    assert PROGRAM.is_file()


def test_a_wheel_has_every_file_that_a_package_reads() -> None:
    given = tomllib.loads((SOURCE / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for marker in sorted((SOURCE / "pipeline").rglob("__init__.py")):
        folder = marker.parent
        name = ".".join(("rewarm", *folder.relative_to(SOURCE).parts))
        data = [file.name for file in folder.iterdir() if file.is_file() and file.suffix not in (".py", ".pyc")]
        left = [file for file in data if not any(fnmatch(file, pattern) for pattern in given.get(name, []))]
        assert not left, f"pyproject.toml's package-data leaves files of {name} out of a wheel"


def test_workers_keep_the_users_path_before_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/mine", "", "/other"]))
    assert worker_path().split(os.pathsep) == ["/mine", "/other", str(SOURCE)]
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    assert worker_path() == str(SOURCE)
    monkeypatch.setattr("site.getsitepackages", lambda: [str(SOURCE)])
    monkeypatch.delenv("PYTHONPATH")
    assert worker_path() == "", "installed: workers have it, and in front it would hide Python's own modules"


def test_the_package_is_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "rewarm", "--version"], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (version("rewarm"), "")
