"""The log of commits: any file of it can be lost or damaged, and the lineage is never shorter in silence."""

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from release_world import files_of
from watch_world import update

from rewarm.pipeline.api.updates import discard
from rewarm.pipeline.lineage.commits import COMMITS, RELEASES, Commit, Log, decode, encode, file_of, number_of, read_log
from rewarm.pipeline.lineage.convert import convert
from rewarm.pipeline.lineage.lineage import PLAN, Lineage
from rewarm.pipeline.lineage.verify.repair import repair
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.update.inputs import create
from rewarm.stages.core.errors import DamagedError, StageError, UsageError
from rewarm.stages.core.storage import Folder

BASE, NEWS, WORSE, CODE = "0000-docs", "0001-news", "0002-worse", "0003-code"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A base and three updates, the second refused and then promoted by hand; one rollback."""
    made = Workspace(str(tmp_path / "lm"))
    create(made, load_recipe("tiny"))
    for number, name in enumerate(["docs", "news", "worse"]):
        add(made, number, name)
    Lineage(made).promote(WORSE, "we need it")
    add(made, 3, "code")
    Lineage(made).rollback()
    return made


def add(workspace: Workspace, number: int, name: str) -> None:
    done = update(number, name, "refused" if name == "worse" else "released", finished=f"2026-01-0{number + 1}")
    (workspace.update(done.id) / "release" / "model").write("config.json", b"{}")
    workspace.update(done.id).write_json(PLAN, {"data": {name: "0d"}, "arrival": name, "started": ""})
    workspace.dataset(name).write("documents/0.parquet", b"1")
    Lineage(workspace).record(done)


def what(workspace: Workspace) -> tuple[object, ...]:
    lineage = Lineage(workspace)
    return [one.id for one in lineage.updates], lineage.release, lineage.standing(), lineage.unfinished


AS_MADE = ([BASE, NEWS, WORSE, CODE], WORSE, [BASE, NEWS, WORSE], None)


def test_everything_follows_from_the_log(workspace: Workspace) -> None:
    assert what(workspace) == AS_MADE
    log = read_log(workspace.folder)
    assert [(one.kind, one.update, one.state) for one in log.commits] == [
        ("update", BASE, "released"),
        ("update", NEWS, "released"),
        ("update", WORSE, "refused"),
        ("release", WORSE, None),
        ("update", CODE, "released"),
        ("release", WORSE, None),
    ]
    for damage in (b"", b"{", b'{"current": "0000-docs", "history": []}'):
        workspace.folder.write(RELEASES, damage)
        assert what(workspace) == AS_MADE
    workspace.folder.delete(RELEASES)
    assert what(workspace) == AS_MADE, "with releases.json lost nothing is lost"
    assert discard(workspace.folder.uri) is None
    assert what(workspace) == AS_MADE
    assert repair(workspace) == [f"{RELEASES}: rewritten from the log; the current release is {WORSE}"]
    assert repair(workspace) == []


@pytest.mark.parametrize("lost", [(n,) for n in range(6)] + [(0, 1), (4, 5), (2, 3, 4), (0, 1, 2, 3, 4, 5)])
def test_lost_commits_are_noticed_and_come_back_byte_for_byte(workspace: Workspace, lost: tuple[int, ...]) -> None:
    before = files_of(workspace.folder)
    for number in lost:
        workspace.folder.delete(f"{COMMITS}/{file_of(number)}")
    with pytest.raises(DamagedError, match="verify --repair"):
        Lineage(workspace).promote(NEWS)
    with pytest.raises((DamagedError, UsageError), match="verify --repair"):
        drop(workspace)
    assert len(repair(workspace)) == len(lost)
    assert files_of(workspace.folder) == before


def drop(workspace: Workspace) -> None:
    """Discard, as a user who believes that an update is unfinished; nothing may be there to be discarded."""
    if discard(workspace.folder.uri) is None:
        raise UsageError("nothing to discard; verify --repair")


@pytest.mark.parametrize("damage", [b"", b"{", b"null", b"[]", b"\0" * 300, b'{"format": 9}', b'{"format": 1}'])
@pytest.mark.parametrize("number", [0, 3, 5])
def test_damaged_commits_are_kept_aside_and_rebuilt(workspace: Workspace, number: int, damage: bytes) -> None:
    place, name = workspace.folder / COMMITS, file_of(number)
    before = files_of(place)
    place.write(name, damage)
    with pytest.raises(DamagedError, match=name):
        Lineage(workspace)
    assert len(repair(workspace)) == 1
    assert files_of(place) == {**before, f"{name}.damaged": damage}


@pytest.mark.parametrize("number", range(6))
def test_any_flipped_letter_is_noticed_and_mended(workspace: Workspace, number: int) -> None:
    """Also where the file is still a commit: the next one's digest, or the pointer's, tells."""
    place, name = workspace.folder / COMMITS, file_of(number)
    before, whole = files_of(workspace.folder), place.read(name)
    for at in range(0, len(whole), 7):
        place.write(name, whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        repair(workspace)
        place.delete(f"{name}.damaged")
        assert files_of(workspace.folder) == before, at


def test_with_log_and_pointer_lost_the_records_are_committed_again(workspace: Workspace) -> None:
    workspace.folder.delete(COMMITS)
    workspace.folder.delete(RELEASES)
    with pytest.raises(DamagedError, match=r"no commit of 0000-docs, 0001-news.*verify --repair"):
        Lineage(workspace)
    with pytest.raises(DamagedError):
        discard(workspace.folder.uri)
    assert len(repair(workspace)) == 5
    assert what(workspace) == ([BASE, NEWS, WORSE, CODE], CODE, [BASE, NEWS, CODE], None)


def test_a_move_by_hand_that_nothing_tells_of_leaves_a_mark(workspace: Workspace) -> None:
    (workspace.folder / COMMITS).delete(file_of(3))
    workspace.folder.delete(RELEASES)
    assert "its content cannot be recovered" in repair(workspace)[0]
    assert what(workspace) == AS_MADE
    assert read_log(workspace.folder).commits[3].kind == "lost"


def test_a_lost_record_is_no_repair_s_to_invent(workspace: Workspace) -> None:
    workspace.update(NEWS).delete("update.json")
    with pytest.raises(DamagedError, match=r"0001-news/update.json: the record of a finished update is missing"):
        Lineage(workspace)
    with pytest.raises(DamagedError):
        discard(workspace.folder.uri)


def test_an_altered_record_is_noticed(workspace: Workspace) -> None:
    file = workspace.update(NEWS).path / "update.json"
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b'"order_seed":0', b'"order_seed":1'))
    with pytest.raises(DamagedError, match=r"0001-news/update.json: expected the committed record with digest"):
        Lineage(workspace).find(NEWS)
    file.write_bytes(whole + b" ")
    with pytest.raises(DamagedError, match=r"0001-news/update.json: expected the committed record of \d+ bytes"):
        Lineage(workspace)


def test_discard_refuses_what_has_a_finished_record(workspace: Workspace) -> None:
    """Stopped between record and commit, or the last commit lost: the record says that it was finished."""
    for name in (file_of(4), file_of(5)):
        (workspace.folder / COMMITS).delete(name)
    workspace.folder.delete(RELEASES)
    assert what(workspace)[3] == CODE
    before = files_of(workspace.folder)
    with pytest.raises(UsageError, match="0003-code has a finished record, so it is not discarded"):
        discard(workspace.folder.uri)
    assert files_of(workspace.folder) == before
    repair(workspace)
    assert what(workspace) == ([BASE, NEWS, WORSE, CODE], CODE, [BASE, NEWS, WORSE, CODE], None)


def test_a_file_that_belongs_to_no_log_is_named(workspace: Workspace) -> None:
    (workspace.folder / COMMITS).write("99999999.json", b"{}")
    with pytest.raises(DamagedError, match=r"00000006.json: missing, although 99999999"):
        Lineage(workspace)
    with pytest.raises(DamagedError, match=r"99999999.json: expected at most"):
        repair(workspace)


def test_updates_beyond_9999_keep_their_order() -> None:
    commits = [Commit("update", "", f"{number:04d}-x", "released") for number in (10_000, 9_999, 10_001, 2)]
    assert [number_of(name) for name in Log(Folder("/tmp"), commits, "").finished] == [2, 9_999, 10_000, 10_001]
    assert sorted(map(file_of, (9_999, 10_000, 10))) == [file_of(number) for number in (10, 9_999, 10_000)]


@given(st.text(), st.text(), st.integers(0, 10**8 - 1))
def test_a_commit_is_read_as_it_was_written(because: str, before: str, number: int) -> None:
    commit = Commit("release", "2026", "0001-x", because=because, rolled_back="0002-y")
    try:
        data = encode(commit, number, before)
    except TypeError:
        return  # lone surrogates are no text that can be written
    assert decode(data, number) == (commit, before)


@given(st.lists(st.integers(0, 9), max_size=30))
def test_standing_is_what_a_stack_says(moves: list[int]) -> None:
    """Promotions push, rollbacks pop; against a plain stack."""
    log, stack = Log(Folder("/tmp"), [], ""), list[str]()
    for move, at in zip(moves, itertools.count(), strict=False):
        name = f"{move:04d}-x"
        if move < 4 and len(stack) > 1:
            left = stack.pop()
            log.commits.append(Commit("release", str(at), stack[-1], rolled_back=left))
        elif name != log.current:
            stack.append(name)
            log.commits.append(Commit("release", str(at), name))
        assert (log.standing, log.current) == (stack, stack[-1] if stack else None)


# -- workspaces of format 1 ------------------------------------------------------------------------------------------


@pytest.fixture
def old(workspace: Workspace) -> Workspace:
    """The same lineage as rewarm 0.1 left it: no log, the promotions in ``releases.json``, no digests of records."""
    entries = [
        {"update": BASE, "at": "2026-01-01", "because": ""},
        {"update": NEWS, "at": "2026-01-02", "because": "all checks passed"},
        {"update": WORSE, "at": "2026-01-03", "because": "we need it"},
        {"update": CODE, "at": "2026-01-04"},
        {"update": WORSE, "at": "2026-01-05", "because": "rolled back from 0003-code", "rolled_back": CODE},
    ]
    workspace.folder.delete(COMMITS)
    workspace.folder.write_json(RELEASES, {"current": WORSE, "history": entries})
    workspace.folder.write_json("workspace.json", {**workspace.record(), "format": 1})
    return workspace


Run = Callable[..., tuple[int, str, str]]


def test_an_old_workspace_is_refused_with_the_way_to_convert_it(old: Workspace, rewarm: Run) -> None:
    before = files_of(old.folder)
    for command in (["status"], ["discard"], ["verify", "--repair"], ["prune"], ["rollback"], ["report"]):
        code, _, error = rewarm(command[0], old.folder, *command[1:])
        assert (code, f"`rewarm convert {old.folder}`" in error) == (2, True), error
    assert files_of(old.folder) == before
    records = {name: data for name, data in before.items() if name.endswith("update.json")}
    code, out, error = rewarm("convert", old.folder)
    assert (code, error) == (0, "")
    assert f"the current release is {WORSE}" in out
    assert what(old) == AS_MADE
    assert [entry["because"] for entry in Lineage(old).history][1:3] == ["all checks passed", "we need it"]
    assert {name: data for name, data in files_of(old.folder).items() if name.endswith("update.json")} == records
    assert rewarm("convert", old.folder)[:2] == (
        0,
        f"{old.folder}: already has the current format; nothing was changed\n",
    )


def test_an_old_workspace_whose_releases_are_lost_keeps_its_updates(old: Workspace) -> None:
    old.folder.delete(RELEASES)
    notes = convert(old)
    assert "releases.json is missing" in notes[0]
    assert what(old) == ([BASE, NEWS, WORSE, CODE], CODE, [BASE, NEWS, CODE], None)


def test_an_old_workspace_with_an_older_copy_of_its_releases_keeps_its_updates(old: Workspace) -> None:
    history = old.folder.read_json(RELEASES)["history"]
    old.folder.write_json(RELEASES, {"current": BASE, "history": history[:1]})
    notes = convert(old)
    assert [note.partition(":")[0] for note in notes[:2]] == [NEWS, CODE]
    assert what(old) == ([BASE, NEWS, WORSE, CODE], CODE, [BASE, NEWS, CODE], None)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"history": 3}', '{"history": [{"update": 1}]}'])
def test_an_old_workspace_with_damaged_releases_is_refused(old: Workspace, damage: str, rewarm: Run) -> None:
    (old.folder.path / RELEASES).write_text(damage)
    code, _, error = rewarm("convert", old.folder)
    assert (code, RELEASES in error, error.count("\n")) == (7, True, 1)
    assert old.record()["format"] == 1


def test_a_conversion_that_was_killed_goes_on(old: Workspace, tmp_path: Path) -> None:
    whole = Workspace(str(shutil.copytree(old.folder.path, tmp_path / "whole")))
    convert(whole)
    for name in whole.folder.path.joinpath(COMMITS).iterdir():
        (old.folder / COMMITS).write(name.name, name.read_bytes())
        convert(Workspace(str(shutil.copytree(old.folder.path, tmp_path / name.stem))))
    convert(old)
    assert files_of(old.folder / COMMITS) == files_of(whole.folder / COMMITS)


def test_the_pointer_is_plain_for_other_programs(workspace: Workspace) -> None:
    found = json.loads(workspace.folder.read(RELEASES))
    assert (found["current"], found["commits"]) == (WORSE, 6)
    assert found["history"][-1] == orjson.loads(
        orjson.dumps({"update": WORSE, "at": found["history"][-1]["at"], "because": "rolled back from 0003-code",
                      "rolled_back": CODE, "commit": 5})
    )  # fmt: skip


def test_another_command_s_commit_is_not_overwritten(workspace: Workspace) -> None:
    late = Lineage(workspace)
    Lineage(workspace).promote(BASE)
    with pytest.raises((StageError, DamagedError)):
        late.promote(NEWS)
    assert Lineage(workspace).release == BASE
