"""The wheel: what it holds, and a lineage made with it by a user who has packages called pipeline and stages."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from copied_source import copy_source
from small_lineage import Lineage

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]
SOURCE = ("rewarm", "pipeline", "stages", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")
OURS = "import setuptools.build_meta as build, sys; print(build.build_sdist(sys.argv[1]))"
NOTEBOOK = """
import json, sys
import ray
import pipeline, stages
import rewarm

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)

@ray.remote
def places():
    import pipeline, stages
    import rewarm.stages.core.storage as ours
    return [pipeline.WHOSE, stages.WHOSE, ours.__file__]

found = ray.get(places.remote())
docs, code, recipe = sys.argv[1:]
lm = rewarm.init("lm", {"docs": docs}, recipe=recipe)
lm = rewarm.update(lm, {"code": code})
print(json.dumps([pipeline.WHOSE, stages.WHOSE, *found, lm.updates[-1].state]))
"""


def run(command: list[object], folder: Path) -> str:
    """Standard output of a command that must succeed; nothing of this environment leads it to the checkout."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RAY_ADDRESS")}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=2200)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def pip_wheel(source: Path, out: Path) -> Path:
    """Build a wheel without network."""
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    run([sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", out, "."], source)
    [wheel] = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout: building writes beside the sources."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCE:
        copy_source(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pip_wheel(source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, and all other packages of this one."""
    venv = tmp_path_factory.mktemp("environment") / "venv"
    run([sys.executable, "-m", "venv", "--without-pip", venv], venv.parent)
    quiet = ("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    run([sys.executable, "-m", "pip", "--python", venv / "bin" / "python", "install", *quiet, wheel], venv.parent)
    [site] = venv.glob("lib/*/site-packages")
    others = [entry for entry in sys.path if entry.endswith("site-packages")]
    (site / "others.pth").write_text("\n".join(others))
    operators = Path(sys.prefix) / "share" / "rewarm"
    if operators.exists():  # compiled once for this environment
        (venv / "share").mkdir()
        (venv / "share" / "rewarm").symlink_to(operators)
    return venv / "bin"


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's project, with packages of the same names as our folders."""
    folder = tmp_path_factory.mktemp("work") / "my project"
    for name in ("pipeline", "stages"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("WHOSE = 'mine'\n")
    return folder


def test_a_wheel_has_the_whole_package_under_one_name(source: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as held:
        names = set(held.namelist())
    files = [path for name in ("pipeline", "stages") for path in (source / name).rglob("*") if path.is_file()]
    expected = {f"rewarm/{path.relative_to(source)}" for path in files if not path.name.startswith(".")}
    found = {name for name in names if ".dist-info/" not in name}
    assert found == expected | {"rewarm/__init__.py", "rewarm/__main__.py"}
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"rewarm"}


def test_a_wheel_from_the_source_distribution_is_the_same(source: Path, wheel: Path, tmp_path: Path) -> None:
    name = run([sys.executable, "-c", OURS, tmp_path], source).splitlines()[-1]
    with tarfile.open(tmp_path / name) as packed:
        assert {Path(member.name).parts[1] for member in packed if "/" in member.name} <= {
            *("rewarm", "rewarm.egg-info", "PKG-INFO", "setup.cfg"),
            *SOURCE,
        } - {"pipeline", "stages"}
        packed.extractall(tmp_path, filter="data")
    again = pip_wheel(tmp_path / name.removesuffix(".tar.gz"), tmp_path / "wheel")
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        assert sorted(first.namelist()) == sorted(second.namelist())


def test_its_commands_run_beside_the_users_packages(programs: Path, mine: Path) -> None:
    assert run([programs / "rewarm", "--version"], mine) == run(
        [programs / "python", "-m", "rewarm", "--version"], mine
    )
    assert "--install-completion" in run([programs / "rewarm", "--help"], mine)
    ask = "import rewarm, pipeline; from rewarm import Workspace; print(rewarm.__file__, pipeline.WHOSE)"
    place, whose = run([programs / "python", "-c", ask], mine).rsplit(maxsplit=1)
    assert (Path(place).parents[1].name, whose) == ("site-packages", "mine")
    assert "tiny" in json.loads(run([programs / "rewarm", "recipes", "--json"], mine))
    run([programs / "rewarm", "monitoring", "--to", mine / "dashboards"], mine)
    assert any((mine / "dashboards").rglob("*.json"))


@pytest.mark.timeout(2400)
def test_a_notebook_in_the_users_project_makes_a_lineage(programs: Path, mine: Path, tmp_path: Path) -> None:
    lineage = Lineage(tmp_path)
    words = [programs / "python", "-", lineage.docs, lineage.code, lineage.recipe]
    script = tmp_path / "cells.py"
    script.write_text(NOTEBOOK)
    shutil.copy(script, mine / "cells.py")
    words[1] = "cells.py"
    *whose, place, state = json.loads(run(words, mine).splitlines()[-1])
    assert whose == ["mine"] * 4
    assert "site-packages" in place
    assert state == "released"
    report = run([programs / "rewarm", "report", "lm"], mine).strip()
    assert "<html" in Path(mine, report).read_text()
    dry = ("study", "lm", "--data", f"more={lineage.docs}", "--grid", "replay.share=0,0.25", "--dry-run", "--json")
    assert json.loads(run([programs / "rewarm", *dry], mine))
