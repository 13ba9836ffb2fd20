"""The doctor: what it finds on this very machine, what it says where something is missing, and its verdict."""

import io
import json
import os
import sys
from pathlib import Path

import pytest

from rewarm.pipeline import doctor
from rewarm.pipeline.doctor import Check
from rewarm.pipeline.terminal import SafeConsole

HERE = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


@pytest.fixture(scope="module")
def examined(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Check]]:
    """A fresh home, and all that the doctor finds from there."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in set(os.environ) - set(HERE):
            patch.delenv(name)
        patch.setenv("HOME", str(home))
        return home, doctor.examine(home)


def test_a_local_ray_starts_and_is_described(examined: tuple[Path, list[Check]]) -> None:
    home, checks = examined
    (found,) = [check for check in checks if check.name == "Ray"]
    assert found.ok is True, found
    assert "starts on this machine" in found.found and "1 node" in found.found and "CPU" in found.found
    assert (home / ".ray" / "auth_token").exists(), "Ray makes its token in a fresh home"


def test_a_home_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    found = doctor.ray_cluster(HERE | {"HOME": "/proc/nobody"})
    assert found.ok is False
    assert "RAY_AUTH_TOKEN" in found.advice


def test_a_cluster_that_does_not_answer_is_given_up_in_time() -> None:
    found = doctor.ray_cluster(HERE | {"RAY_ADDRESS": "127.0.0.1:1"}, seconds=4)
    assert found.ok is False
    assert "127.0.0.1:1" in found.found and "no answer in 4 s" in found.found
    assert "unset RAY_ADDRESS" in found.advice


def test_a_dashboard_that_does_not_answer_is_a_failure() -> None:
    found = doctor.ray_cluster(HERE | {"RAY_ADDRESS": "http://127.0.0.1:1"}, seconds=60)
    assert found.ok is False
    assert "http://127.0.0.1:1" in found.found


def test_the_machines_own_checks(tmp_path: Path) -> None:
    assert doctor.python().ok is True
    assert doctor.fast_tokenizer().ok is True
    assert float(doctor.cores().found) > 0
    assert doctor.memory().found.endswith("GiB")
    assert str(tmp_path) in doctor.disk(tmp_path / "not" / "yet").found


def test_a_container_with_little_shared_memory_is_told_but_not_refused(tmp_path: Path) -> None:
    absent = doctor.shared_memory(tmp_path / "none")
    assert absent.ok is None and absent.advice


@pytest.mark.parametrize(
    ("files", "cores", "size"),
    [
        ({"cpu.max": "150000 100000", "memory.max": "2147483648"}, 1.5, 2147483648),
        ({"cpu.max": "max 100000", "memory.max": "max"}, None, None),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4.0, None),
        ({"cpu/cpu.cfs_quota_us": "-1", "memory/memory.limit_in_bytes": "1024"}, None, 1024),
        ({}, None, None),
    ],
)
def test_limits_of_a_container(files: dict[str, str], cores: float | None, size: int | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    assert doctor.cpu_limit(tmp_path) == cores
    assert doctor.memory_limit(tmp_path) == size


def installed(folder: Path, name: str, version: str, requires: tuple[str, ...] = ()) -> None:
    place = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    place.mkdir()
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    (place / "METADATA").write_text("\n".join(lines) + "\n")


def test_versions_are_compared_with_the_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path, "house", "1.0", ("torchlike==2.13.0", "Old_One[hf]==0.4.13", "away>=3"))
    installed(tmp_path, "torchlike", "2.13.0+cpu")
    installed(tmp_path, "old-one", "0.4.1")
    monkeypatch.syspath_prepend(str(tmp_path))
    fits, old, away = doctor.versions(("torchlike", "old-one", "away"), distribution="house")
    assert fits == Check("torchlike", True, "2.13.0+cpu")  # a build of the same version is that version
    assert old.ok is False and "0.4.1" in old.found and "==0.4.13" in old.found and "[hf]" in old.advice
    assert away.ok is False and "not installed" in away.found


def test_without_an_installed_package_versions_are_only_listed() -> None:
    (torch,) = doctor.versions(("torch",), distribution="no-such-house")
    assert torch.ok is True and "no pin" in torch.found


def test_the_demos_packages_are_optional() -> None:
    (check,) = doctor.demo_packages(("numpy", "no-such-package"))
    assert check.ok is None and "no-such-package" in check.found and "numpy" not in check.found


def test_a_missing_compiler_matters_only_until_the_operators_are_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    found = doctor.compiler()
    assert found.ok is False and "no-such-compiler" in found.found and "g++" in found.advice
    assert doctor.built_operators().ok is False
    monkeypatch.setenv("DS_ACCELERATOR", "cuda")  # none are needed there
    assert doctor.compiler().ok is None
    assert doctor.built_operators().ok is True


CHECKS = [Check("a", True, "here"), Check("b", None, "[dim]none", "take [b]"), Check("c", False, "gone", "get it")]


def test_the_report_is_plain_off_a_terminal_and_its_verdict_is_the_exit_code() -> None:
    out = io.StringIO()
    assert doctor.print_report(CHECKS, SafeConsole(file=out, soft_wrap=True)) == 1
    assert out.getvalue().splitlines() == [
        "ok       a: here",
        "optional b: [dim]none  ->  take [b]",
        "missing  c: gone  ->  get it",
        "missing: c",
    ]
    assert doctor.print_report(CHECKS[:2], SafeConsole(file=io.StringIO())) == 0


def test_the_report_is_a_table_on_a_terminal() -> None:
    out = io.StringIO()
    assert doctor.print_report(CHECKS, SafeConsole(file=out, force_terminal=True, color_system=None, width=100)) == 1
    assert "[dim]none" in out.getvalue() and "what to do" in out.getvalue()


def test_json_is_one_object() -> None:
    told = json.loads(doctor.as_json(CHECKS))
    assert told["ready"] is False
    assert told["checks"][1] == {"name": "b", "ok": None, "found": "[dim]none", "advice": "take [b]"}
    assert json.loads(doctor.as_json(CHECKS[:2]))["ready"] is True


def test_examine_names_everything_once(examined: tuple[Path, list[Check]]) -> None:
    checks = examined[1]
    names = [check.name for check in checks]
    assert len(names) == len(set(names))
    assert {"Python", "C++ compiler", "ninja", "DeepSpeed operators", "torch", "GPUs", "free disk", "Ray"} <= set(names)
    assert all(check.advice for check in checks if not check.ok)
    assert sys.prefix in checks[0].found
