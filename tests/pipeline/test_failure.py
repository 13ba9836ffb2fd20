"""Errors as records for machines: every kind has its code, causes come through Ray, and the command leaves one."""

import errno
import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from rewarm.pipeline import failure
from rewarm.pipeline.failure import KINDS, Failure, code_lines, failure_of, read
from rewarm.stages.core.errors import (
    BusyError,
    DamagedError,
    RewarmError,
    StageError,
    UnreachableError,
    UsageError,
    origin,
)

Command = Callable[..., tuple[int, str, str]]


def every(base: type[RewarmError]) -> list[type[RewarmError]]:
    return [one for child in base.__subclasses__() for one in (child, *every(child))]


def test_every_error_has_a_kind_and_a_documented_code() -> None:
    for one in every(RewarmError):
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", one.kind), one
        assert one.code in dict(KINDS.values()), one
    assert len({one.kind for one in every(RewarmError)}) >= len(KINDS)
    assert sorted({code for code, _ in KINDS.values()}) == list(range(1, 10))


def test_the_help_and_the_page_of_commands_have_every_code(rewarm: Command) -> None:
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    table = page.partition("| Code |")[2].partition("\n\n")[0]
    codes = re.findall(r"^\| (\d+) \|", table, re.MULTILINE)
    assert [int(code) for code in codes] == list(code_lines())
    code, out, _ = rewarm("--help")
    assert code == 0
    for code in code_lines():
        assert re.search(rf"\b{code}:\s", out), code


def test_the_operators_page_says_what_to_do_for_each_exit_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    table = page.partition("## Responses to exit codes")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([\d, ]+) \| (.+) \| (.+) \|$", table, re.MULTILINE)
    assert [int(code) for codes, _, _ in rows for code in codes.split(", ")] == list(code_lines())
    assert all(len(what.split()) >= 3 for codes, _, what in rows if codes != "0")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UsageError("x"), ("usage", 2, "change")),
        (UnreachableError("x", "s3://b"), ("unreachable", 6, "later")),
        (FileNotFoundError(2, "No such file", "/x"), ("failed", 1, "again")),
        (KeyError("x"), ("unforeseen", 1, "again")),
    ],
)
def test_a_record_of_an_error(error: Exception, expected: tuple[str, int, str], tmp_path: Path) -> None:
    found = failure_of(error)
    assert (found.error, found.code, found.remedy) == expected
    file = tmp_path / "failure.json"
    file.write_text(found.line())
    assert read(file) == found
    file.write_text(json.dumps({**json.loads(found.line()), "of a later version": 1}))
    assert read(file) == found
    file.write_text(found.line()[:-5])
    assert read(file) is None, "a record that a kill has cut"
    assert read(tmp_path / "nothing") is None


def test_a_command_leaves_its_record(rewarm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "termination-log"
    monkeypatch.setenv(failure.FILE, str(kept))
    code, _, error = rewarm("status", tmp_path / "nowhere")
    assert error.startswith("rewarm: ")
    monkeypatch.setenv(failure.FORM, "json")
    again, out, line = rewarm("status", tmp_path / "nowhere")
    assert (code, again, out) == (2, 2, "")
    shown, stored = Failure(**json.loads(line)), read(kept)
    assert stored == shown
    assert (shown.error, shown.code) == ("usage", 2)
    assert "no rewarm workspace" in shown.message


def test_an_error_of_a_ray_task_arrives_as_its_type(ray_cluster: None) -> None:
    @ray.remote
    def fail() -> None:
        raise UnreachableError("s3://b: no answer", "s3://b")

    @ray.remote
    class Actor:
        def fail(self) -> None:
            raise DamagedError("x: damaged")

    with pytest.raises(UnreachableError) as failed:
        ray.get(fail.remote())
    found = failure_of(failed.value)
    assert (found.error, found.message, found.address) == ("unreachable", "s3://b: no answer", "s3://b")
    with pytest.raises(DamagedError) as damaged:
        ray.get(Actor.remote().fail.remote())  # type: ignore[attr-defined]
    assert failure_of(damaged.value).message == "x: damaged"


def test_an_unforeseen_error_of_a_ray_task_is_told_without_its_traceback_and_colours(ray_cluster: None) -> None:
    @ray.remote
    def fail() -> None:
        raise KeyError("wanted")

    @ray.remote
    class Actor:
        def __init__(self) -> None:
            raise KeyError("wanted")

        def work(self) -> None: ...

    with pytest.raises(KeyError) as failed:
        ray.get(fail.remote())
    assert "\x1b[" in str(failed.value), "Ray colours its texts"
    said = failure_of(failed.value).message
    assert re.match(r"KeyError at \S+: 'wanted'\. ", said), said
    with pytest.raises(ray.exceptions.ActorDiedError, match=r"\x1b\[") as died:
        ray.get(Actor.remote().work.remote())  # type: ignore[attr-defined]
    said = failure_of(died.value).message
    assert "The actor died" in said and "[36m" not in said, said


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ESTALE, "unreachable"), (errno.EIO, "unreachable"), (errno.ENOSPC, "full")]
)
def test_a_disk_s_error_in_a_ray_task_is_later_s_business(ray_cluster: None, number: int, kind: str) -> None:
    @ray.remote
    def fail() -> None:
        raise OSError(number, os.strerror(number), "/shared/lm/tokens.arrow")

    with pytest.raises(OSError, match="tokens") as failed:
        ray.get(fail.remote())
    found = failure_of(failed.value)
    assert (found.error, found.remedy, found.address) == (kind, "later", "/shared/lm/tokens.arrow")
    assert found.message == f"/shared/lm/tokens.arrow: {os.strerror(number)}"
    outer = RuntimeError("reading failed")
    outer.__cause__ = failed.value
    assert failure_of(outer).error == kind
    outer.__cause__ = FileNotFoundError(2, "No such file or directory", "/x")
    assert failure_of(outer).error == "unforeseen"


def test_an_error_of_a_worker_group_arrives_as_its_type() -> None:
    from ray.train.v2._internal.exceptions import UserExceptionWithTraceback
    from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

    inner = UserExceptionWithTraceback(BusyError("at work"), "trace")
    group = pickle.loads(pickle.dumps(WorkerGroupError("rank 1 failed", {1: inner, 0: ValueError("x")})))
    assert failure_of(group).error == "busy"
    assert isinstance(origin(ControllerError(UsageError("x"))), UsageError)


def test_the_outermost_typed_error_counts() -> None:
    outer = StageError("outer")
    outer.__cause__ = UnreachableError("inner")
    assert failure_of(outer).message == "outer"
    wrapper = ValueError("plain")
    wrapper.__cause__ = outer
    assert failure_of(wrapper).message == "outer"
    assert origin(ValueError("plain")) is None
    circle = ValueError("plain")
    circle.__cause__ = KeyError("x")
    circle.__cause__.__cause__ = circle
    assert origin(circle) is None
