"""``rewarm adopt``: a tuned release on a branch of its own, and every command that meets it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from model_folders import edit_config, edit_weights
from release_world import files_of, recipe

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.terminal import Terminal
from rewarm.pipeline.update.adopt import Origin, begin

Command = Callable[..., tuple[int, str, str]]
ID = "0004-tuned-code"


def tune(workspace: Workspace, update: str, folder: Path, by: float = 0.01) -> Path:
    """The release of an update, with its weights moved a little, and a chat template."""
    shutil.copytree(workspace.update(update).path / "release" / "model", folder)
    torch.manual_seed(0)
    edit_weights(
        folder, lambda given: {name: one + by * one.std() * torch.randn_like(one) for name, one in given.items()}
    )
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    return folder


@pytest.fixture(scope="module")
def adopted(drawn: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A lineage of four updates whose third release was tuned after the fourth had been released."""
    from small_lineage import rewarm

    root = tmp_path_factory.mktemp("adopted")
    shutil.copytree(drawn.folder.path, root / "lm")
    tuned = tune(drawn, "0002-code", root / "tuned")
    done = rewarm("adopt", root / "lm", "code", "--from", tuned, "--by", "ann", "--because", "chats of May")
    assert done.returncode == 0, done.stderr
    assert "kept beside the current release, 0003-more" in done.stdout, done.stdout
    return Workspace(str(root / "lm"))


@pytest.fixture
def with_branch(adopted: Workspace, tmp_path: Path) -> Workspace:
    shutil.copytree(adopted.folder.path, tmp_path / "lm")
    return Workspace(str(tmp_path / "lm"))


def called(rewarm: Command, *words: object) -> Any:
    code, out, error = rewarm(*words, "--json")
    assert code == 0, error
    return json.loads(out)


def test_it_is_recorded_with_its_origin_and_judged_against_it(adopted: Workspace, rewarm: Command) -> None:
    found = called(rewarm, "status", adopted.folder)
    assert found["release"] == "0003-more"
    made = found["updates"][-1]
    assert (made["id"], made["follows"], made["state"], made["datasets"]) == (ID, "0002-code", "released", [])
    origin, source = made["adopted"], found["updates"][2]
    assert (origin["tuned_from"], origin["by"], origin["because"]) == ("0002-code", "ann", "chats of May")
    assert origin["release"] == source["weights"]["release"] != made["weights"]["release"]
    assert origin["source"].endswith("/tuned") and len(origin["digest"]) == 32 and origin["chat_template"]
    assert 0.001 < origin["distance"] < 0.02 and 0 < origin["changed"] <= origin["tensors"]
    assert made["gate"]["against"] == "0002-code"
    assert set(made["losses"]) == {"release"} and set(made["losses"]["release"]) == {"docs", "news", "code"}
    assert made["position"] == source["position"] and made["weights"]["trunk"] == ""
    assert {
        check["name"]: check["role"] for check in made["gate"]["checks"] if check["kind"] == "loss"
    } == dict.fromkeys(("docs", "news", "code"), "old")
    assert "tuned from 0002-code, a branch of its own" in rewarm("status", adopted.folder)[1]


def test_the_next_update_starts_from_the_trunk_and_is_compared_with_an_untuned_release(
    with_branch: Workspace, rewarm: Command
) -> None:
    for policy in ("before", "continue"):
        lineage = Lineage(with_branch, policy)  # type: ignore[arg-type]
        assert [entry.id for entry in lineage.learned] == ["0000-docs", "0001-news", "0002-code", "0003-more"]
        assert [entry.id for entry in lineage.possible_starts()] == ["0003-more"]
    assert rewarm("promote", with_branch.folder, ID)[0] == 0
    lineage = Lineage(with_branch)
    assert lineage.release == ID and lineage.head is not None
    assert lineage.head.id == "0003-more"
    compared = lineage.compared_with()
    assert compared is not None and compared.id == "0002-code"
    assert called(rewarm, "verify", with_branch.folder)["problems"] == []
    assert rewarm("rollback", with_branch.folder)[0] == 0
    assert Lineage(with_branch).release == "0003-more"


def test_every_command_knows_it(with_branch: Workspace, rewarm: Command, tmp_path: Path) -> None:
    home = with_branch.folder
    assert called(rewarm, "verify", home)["problems"] == []
    assert rewarm("export", home, ID, "--to", tmp_path / "out")[0] == 0
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == "{{ messages[0].content }}"
    card = (tmp_path / "out" / "README.md").read_text()
    assert "tuned by another program from the release of 0002-code" in card
    assert "- adopted" in card and "not tuned to follow instructions" not in card
    sent = [one["file"] for one in called(rewarm, "push", home, ID, "--to", tmp_path / "pushed", "--dry-run")["files"]]
    assert {"chat_template.jinja", "model.safetensors", "README.md"} <= set(sent)
    rows = called(rewarm, "compare", f"{home}@2", f"{home}@{ID}")["rows"]
    assert {"docs", "news", "code"} <= {row["name"] for row in rows}
    assert rewarm("report", home)[0] == 0
    page = (home.path / "report" / f"{ID}.html").read_text()
    assert "adopted by ann: chats of May" in page and "tuned from the release of" in page
    index = (home.path / "report" / "index.html").read_text()
    assert "tuned from 0002-code" in index and f"{ID} is newer" not in index
    kept = called(rewarm, "prune", home, "--keep", "2")["keep"]
    assert kept[f"{ID}/release"] == "tuned from 0002-code, which is kept"
    assert f"{ID}/trunk" not in kept


def test_a_changed_weight_is_found(with_branch: Workspace, rewarm: Command) -> None:
    model = with_branch.update(ID).path / "release" / "model"
    edit_weights(model, lambda given: {name: one * 1.001 for name, one in given.items()})
    code, out, _ = rewarm("verify", with_branch.folder, "--json")
    assert code == 1
    assert any(f"updates/{ID}/release" in problem["file"] for problem in json.loads(out)["problems"])
    assert rewarm("export", with_branch.folder, ID, "--to", model / "out")[0] == 7


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: edit_weights(folder, lambda given: dict(list(given.items())[1:])), "missing in the files"),
        (lambda folder: edit_weights(folder, lambda given: {n: one * float("nan") for n, one in given.items()}), "NaN"),
        (lambda folder: edit_config(folder, vocab_size=399), "have different|of another shape|belong to different"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "missing tokenizer.json"),
    ],
)
def test_a_refused_model_leaves_nothing(
    lm: Workspace, rewarm: Command, tmp_path: Path, change: Callable[[Path], object], says: str
) -> None:
    tuned = tune(lm, "0002-code", tmp_path / "tuned")
    change(tuned)
    before = files_of(lm.folder)
    code, _, error = rewarm("adopt", lm.folder, "code", "--from", tuned)
    assert code == 2 and re.search(says, error), error
    assert {name: data for name, data in files_of(lm.folder).items() if not name.startswith(("logs/", "."))} == before


def test_the_release_itself_is_nothing_to_adopt(lm: Workspace, rewarm: Command, tmp_path: Path) -> None:
    assert rewarm("export", lm.folder, "code", "--to", tmp_path / "same")[0] == 0
    code, _, error = rewarm("adopt", lm.folder, "code", "--from", tmp_path / "same")
    assert code == 2 and "there is nothing to adopt" in error, error
    code, _, error = rewarm("adopt", lm.folder, "code", "--from", tmp_path / "same", "--set", "replay.share=0.1")
    assert code == 2 and "would have no effect" in error, error


def test_an_unfinished_adoption_is_shown_and_can_be_discarded(lm: Workspace, rewarm: Command, tmp_path: Path) -> None:
    tuned = tune(lm, "0002-code", tmp_path / "tuned")
    begin(lm, "code", Origin(tuned, "tuned", "ann"), recipe(), Terminal(quiet=True))
    assert Lineage(lm).unfinished == ID
    shown = called(rewarm, "status", lm.folder)["updates"][-1]
    assert (shown["id"], shown["state"], shown["follows"]) == (ID, "unfinished", "0002-code")
    code, out, _ = rewarm("discard", lm.folder)
    assert (code, f"discarded {ID}" in out) == (0, True)
    assert called(rewarm, "verify", lm.folder)["orphans"] == []


@pytest.mark.faults
def test_a_harmful_tuning_is_refused(lm: Workspace, rewarm: Command, tmp_path: Path) -> None:
    tuned = tune(lm, "0003-more", tmp_path / "tuned", by=8.0)
    code, _, error = rewarm("adopt", lm.folder, "more", "--from", tuned, "--set", "gate.max_forgetting=0.05")
    assert code == 3, error
    found = called(rewarm, "status", lm.folder)
    made = found["updates"][-1]
    assert (found["release"], made["state"]) == ("0003-more", "refused")
    assert any("was it tuned from another model?" in note for note in made["notes"])
    assert rewarm("promote", lm.folder, "4")[0] == 2, "a reason is asked for"
