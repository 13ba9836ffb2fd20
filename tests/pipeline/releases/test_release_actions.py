"""``rewarm promote`` and ``rewarm rollback``: one step, checked first, and said."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from release_world import files_of

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.stages.core.errors import UsageError

Command = Callable[..., tuple[int, str, str]]


def releases(workspace: Workspace) -> dict[str, object]:
    value: dict[str, object] = workspace.folder.read_json("releases.json")
    return value


def test_promote_and_roll_back(lm: Workspace, rewarm: Command) -> None:
    code, out, error = rewarm("promote", lm.folder, "1", "--because", "the newer ones talk too much")
    assert code == 0, error
    assert "was 0003-more, is now 0001-news" in out
    assert Lineage(lm).release == "0001-news"
    assert lm.folder.read_json("releases.json")["history"][-1]["because"] == "the newer ones talk too much"
    assert rewarm("status", lm.folder, "--json")[1].count('"release": "0001-news"') == 1
    code, out, error = rewarm("rollback", lm.folder, "--json", "--because", "they do not")
    found = json.loads(out)
    assert (code, found["before"], found["current"], found["changed"]) == (0, "0001-news", "0003-more", True), error
    assert Lineage(lm).release == "0003-more"
    assert lm.folder.read_json("releases.json")["history"][-1]["because"] == "they do not"
    assert rewarm("rollback", lm.folder)[0] == 0
    assert Lineage(lm).release == "0002-code"


def test_a_dry_run_says_the_same_and_writes_nothing(lm: Workspace, rewarm: Command) -> None:
    before = files_of(lm.folder)
    code, out, _ = rewarm("promote", lm.folder, "0000-docs", "--dry-run")
    assert code == 0
    assert "was 0003-more, would be 0000-docs" in out
    code, out, _ = rewarm("rollback", lm.folder, "--dry-run")
    assert "was 0003-more, would be 0002-code" in out
    assert files_of(lm.folder) == before


def test_the_current_release_stays_where_it_is_named_again(lm: Workspace, rewarm: Command) -> None:
    before = releases(lm)
    code, out, _ = rewarm("promote", lm.folder, "3")
    assert (code, "0003-more, unchanged" in out) == (0, True)
    assert releases(lm) == before


def test_there_is_an_end_to_rolling_back(lm: Workspace, rewarm: Command) -> None:
    assert [rewarm("rollback", lm.folder)[0] for _ in range(4)] == [0, 0, 0, 2]
    assert Lineage(lm).release == "0000-docs"


@pytest.mark.parametrize(
    ("damage", "code", "says"),
    [("flip", 7, "digest"), ("cut", 7, "found"), ("missing", 2, "no weights"), ("unknown", 2, "no update '9'")],
)
def test_a_release_that_is_not_whole_is_not_promoted(
    lm: Workspace, rewarm: Command, damage: str, code: int, says: str
) -> None:
    file = lm.update("0002-code").path / "release" / "model" / "model.safetensors"
    data = file.read_bytes()
    if damage == "flip":
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "cut":
        file.write_bytes(data[:5000])
    elif damage == "missing":
        file.unlink()
    before = releases(lm)
    for command in (["promote", lm.folder, "9" if damage == "unknown" else "2"], ["rollback", lm.folder]):
        if damage == "unknown" and command[0] == "rollback":
            continue
        found, _, error = rewarm(*command)
        assert found == code, error
        assert says in error
    assert releases(lm) == before


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "missing"])
def test_a_damaged_release_goes_nowhere_and_its_file_is_named(
    lm: Workspace, rewarm: Command, tmp_path: Path, name: str, damage: str
) -> None:
    file = lm.update("0002-code").path / "release" / "model" / name
    data = file.read_bytes()
    if damage == "missing" and name != "model.safetensors":
        file.unlink()
    else:
        file.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    for command in (
        ["promote", lm.folder, "2"],
        ["push", lm.folder, "2", "--to", tmp_path / "pushed"],
        ["export", lm.folder, "2", "--to", tmp_path / "exported"],
    ):
        code, _, error = rewarm(*command)
        assert (code, f"release/model/{name}" in error) == (7, True), (command, error)
    assert not (tmp_path / "pushed").exists()
    assert not (tmp_path / "exported").exists()


def test_one_command_at_a_time(lm: Workspace, rewarm: Command) -> None:
    before = releases(lm)
    with lm.lease():
        for command in (["promote", lm.folder, "1"], ["rollback", lm.folder], ["prune", lm.folder, "--yes"]):
            code, _, error = rewarm(*command)
            assert code != 0, command
            assert "another rewarm command" in error
    assert releases(lm) == before


def test_an_update_is_found_by_its_arrival(lm: Workspace) -> None:
    lineage = Lineage(lm)
    assert [lineage.find(name).id for name in ("news", "1", "0001-news")] == ["0001-news"] * 3
    with pytest.raises(UsageError, match="available updates: 0000-docs"):
        lineage.find("nowhere")
