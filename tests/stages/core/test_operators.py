"""DeepSpeed's operators: built once, found again without a compiler, and never waited for in vain."""

import fcntl
import os
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

from rewarm.stages.core import operators
from rewarm.stages.core.errors import StageError, UsageError

ROOT = Path(__file__).parent.parent.parent
on_cpu = pytest.mark.skipif(operators.accelerator() != "cpu", reason="the shared-memory operator is for CPU training")

USE = """
from rewarm.stages.core import operators
names = operators.load()
import deepspeed, deepspeed.comm
deepspeed.init_distributed("gloo", verbose=False)
operator = deepspeed.comm.comm.cdb.shm_comm_op
print(*names, operator.__file__, operator.vector_kernel_level(), sep="|")
"""


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCH_EXTENSIONS_DIR", "CXX"):
        monkeypatch.delenv(name, raising=False)


def fake_build(folder: Path, name: str = "deepspeed_shm_comm", stamp: str | None = None) -> Path:
    place = folder / name
    place.mkdir(parents=True)
    (place / f"{name}.so").write_bytes(b"\x7fELF")
    if stamp is not None:
        (place / operators._COMPLETE).write_text(stamp)
    return place


def test_the_folder_belongs_to_the_installation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert operators.extensions_dir().is_relative_to(Path(sys.prefix))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "mine"))
    assert operators.extensions_dir() == tmp_path / "mine"


def test_the_folder_names_what_the_operators_are_bound_to() -> None:
    import torch

    assert f"torch{torch.__version__}" in operators.extensions_dir().name
    assert operators.extensions_dir().name.endswith(operators.accelerator())


def test_without_a_writable_installation_it_lies_in_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "no-folder").touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "no-folder" / "installation"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert operators.extensions_dir().is_relative_to(tmp_path / ".cache" / "rewarm")


def test_a_worker_finds_ninja_where_no_environment_is_activated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    variables = operators.environment()
    assert variables["PATH"].split(os.pathsep) == [sysconfig.get_path("scripts"), "/usr/bin"]
    monkeypatch.setenv("PATH", variables["PATH"])
    assert operators.environment()["PATH"] == variables["PATH"]  # asked twice, the same


@on_cpu
def test_only_a_finished_build_for_these_versions_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    assert not operators.built()
    place = fake_build(tmp_path)
    assert not operators.built()
    (place / operators._COMPLETE).write_text("py39-torch1.0-deepspeed0.1-cpu")
    assert not operators.built()
    (place / operators._COMPLETE).write_text(operators.versions())
    assert operators.built()


@on_cpu
def test_each_missing_tool_is_named_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UsageError, match=r"no-such-compiler.*apt-get install g\+\+"):
        operators.build(say=lambda line: None)
    monkeypatch.setenv("CXX", sys.executable)  # anything that is there
    scripts = sysconfig.get_path("scripts")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path) if name == "include" else scripts)
    with pytest.raises(UsageError, match=r"Python\.h.*apt-get install python3\.\d+-dev"):
        operators.build(say=lambda line: None)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="pip install ninja"):
        operators.build(say=lambda line: None)


@on_cpu
def test_a_failed_build_says_what_the_compiler_said_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiler = tmp_path / "bin" / "c++"
    compiler.parent.mkdir()
    compiler.write_text(
        '#!/bin/sh\ncase "$1" in -v|--version|-dump*) exec c++ "$@";; esac\necho this-is-broken >&2; exit 1\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "operators"))
    with pytest.raises(StageError, match="this-is-broken"):
        operators.build(say=lambda line: None)
    assert not operators.built()


def test_what_a_killed_build_left_is_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    torn = fake_build(tmp_path)
    (torn / "lock").touch()
    operators._discard_torn(torn.name)
    assert not torn.exists()
    whole = fake_build(tmp_path, stamp=operators.versions())
    (whole / "lock").touch()
    operators._discard_torn(whole.name)
    assert (whole / "deepspeed_shm_comm.so").exists() and not (whole / "lock").exists()


@on_cpu
def test_a_second_process_waits_for_the_first_and_then_builds_nothing(tmp_path: Path) -> None:
    variables = os.environ | {"TORCH_EXTENSIONS_DIR": str(tmp_path), "CXX": sys.executable, "PYTHONPATH": str(ROOT)}
    with (tmp_path / "rewarm.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        command = [sys.executable, "-m", "rewarm.stages.core.operators"]
        second = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert second.stdout is not None
        assert "waiting for another process" in second.stdout.readline()
        assert second.poll() is None
        fake_build(tmp_path, stamp=operators.versions())  # the first one ends well
    said, _ = second.communicate(timeout=60)
    assert (second.returncode, said) == (0, "")  # CXX is no compiler: had it built, it would have failed


@on_cpu
def test_built_once_then_loaded_in_a_moment_without_a_compiler(capsys: pytest.CaptureFixture[str]) -> None:
    assert operators.main([]) == 0  # the installation's own: built now if `make install` did not
    assert operators.built()
    before = time.monotonic()
    assert operators.main([]) == 0
    assert time.monotonic() - before < 5
    assert "in place" in capsys.readouterr().out.splitlines()[-1]

    library = operators.extensions_dir() / "deepspeed_shm_comm" / "deepspeed_shm_comm.so"
    changed = library.stat().st_mtime_ns
    rank = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    no_tools = {"PATH": "/nonexistent", "CXX": "/nonexistent/c++", "PYTHONPATH": str(ROOT)}
    variables = {name: value for name, value in os.environ.items() if name != "DS_ACCELERATOR"} | rank | no_tools
    done = subprocess.run(
        [sys.executable, "-c", USE], env=variables, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    name, file, level = done.stdout.strip().splitlines()[-1].split("|")
    assert (name, Path(file)) == ("deepspeed_shm_comm", library)
    assert int(level) >= 0  # a function of the library's, so it is really open
    assert library.stat().st_mtime_ns == changed
