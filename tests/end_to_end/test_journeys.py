"""The journeys of three new users: every command of their page in the documentation, in its order, until its result.

What a page's reader has and a test has not is replaced: the student's demo is shorter, the engineer's card and model
are two cores and a small model, the researcher's grid is smaller.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from documentation import PAGES, Page
from small_lineage import RECIPE, Lineage, rewarm

pytestmark = pytest.mark.faults

SHORT = ["budget.base_tokens=400000", "budget.update_tokens=200000"]
SMALL = ["train.seq_len=64", "train.global_batch=8", "budget.update_tokens=16384", "evaluate.task_documents=8"]
CPU = ["train.device=cpu", "train.precision=fp32", "train.num_workers=1", "train.micro_batch=null"]


def page(name: str) -> Page:
    return next(one for one in PAGES if one.name == f"docs/{name}.md")


def commands(name: str) -> Iterator[list[str]]:
    """The calls of rewarm on a page, each once, in its order."""
    yield from (
        list(words)
        for words in dict.fromkeys(tuple(words[1:]) for words in page(name).commands() if words[0] == "rewarm")
    )


def called(words: list[str]) -> subprocess.CompletedProcess[str]:
    done = rewarm(*words)
    assert done.returncode == 0, (words, done.stderr[-3000:])
    assert done.stdout or done.stderr
    return done


def options(settings: list[str]) -> list[str]:
    return [part for one in settings for part in ("--set", one)]


def result(words: list[str]) -> str:
    """What a command printed."""
    return called(words).stdout


@pytest.mark.timeout(2400)
@pytest.mark.usefixtures("ray_cluster")
def test_a_student_sees_learning_and_forgetting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ours, theirs = (f"demo/workspace-{'-'.join(sets)}" for sets in (SHORT, ["replay.share=0", *SHORT]))
    places = {"demo/workspace": ours, "demo/workspace-replay.share=0": theirs}
    said: dict[str, str] = {}
    for words in commands("first-steps"):
        made = [places.get(word, word) for word in words]
        if words != ["demo", "--set", "schedule.kind=cosine"]:  # a third run shows no other command
            said[" ".join(words)] = result([*made, *(options(SHORT) if words[0] == "demo" else [])])
    table = said["status demo/workspace"]
    assert all(name in table for name in ("sci-docs", "ml-docs", "code (new)")) and "…" not in table
    assert "B - A" in said["compare demo/workspace-replay.share=0 demo/workspace"]
    samples = said["samples demo/workspace"]
    assert samples.count("begins") == 6 and samples.count("0002-code") == 7 and samples.count("0001-ml-docs") == 6
    assert (tmp_path / ours / "report" / "index.html").exists()


def test_an_engineer_updates_a_model_of_others(base: Lineage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    called(["export", str(base.workspace), "0", "--to", "model"])
    (tmp_path / "data").mkdir()
    shutil.copy(base.docs, "data/docs.jsonl")
    shutil.copytree(base.code, "data/news")
    replaced = {"ORG/NAME": "model", "docs=data/like-it-was-trained-on": "docs=data/docs.jsonl"}
    replaced |= {"hf://ORG/NAME": "pushed"}
    for words in commands("one-gpu"):
        made = [replaced.get(word, word) for word in words if word != "--private"]
        if made[0] == "init":
            made += options([*CPU, *SMALL, "gate.undecided=pass"])
        result(made) if made[0] != "doctor" else rewarm(*made)  # it may find this machine wanting
    found = json.loads(called(["status", "lm", "--json"]).stdout)
    assert [update["id"] for update in found["updates"]] == ["0000-docs", "0001-news"]
    update = found["updates"][1]
    assert update["replay"]["achieved"] > 0 and update["losses"]["release"]["news"] > 0
    assert {"model.safetensors", "README.md", "config.json"} <= {path.name for path in (tmp_path / "pushed").iterdir()}
    recipe = json.loads((tmp_path / "lm" / "workspace.json").read_text())["recipe"]
    assert recipe["replay"]["share"] == 0.1


def test_a_researcher_compares_settings_and_models(
    base: Lineage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "docs").mkdir()
    shutil.copy(base.docs, "data/docs/docs.jsonl")
    shutil.copytree(base.code, "data/forum")
    (tmp_path / "mine.yaml").write_text("extends: tiny\nbudget:\n  base_tokens: 40000\n  update_tokens: 16384\n")
    replaced = {"3": "1", "replay.share=0,0.05,0.25": "replay.share=0,0.25", "tiny": "mine.yaml"}
    said: dict[str, str] = {}
    for words in commands("experiments"):
        made = [replaced.get(word, word) if words[0] != "recipes" else word for word in words]
        if made[0] == "init":
            model = RECIPE["model"]["config"]  # type: ignore[index]
            made += options(
                [*SMALL, "budget.update_tokens=65536", f"model.config={json.dumps(model)}", "tokenizer.vocab_size=1024"]
            )
        said[words[0]] = result(made)
    assert "model:" in said["recipes"]
    study = tmp_path / "lm" / "studies" / "forum"
    rows = json.loads((study / "results.json").read_text())
    assert [row["name"] for row in rows["rows"]] == ["replay.share=0", "replay.share=0.25", "joint"]
    assert set(rows["before"]["losses"]) == {"docs", "forum"}
    assert "before the update" in said["study"] and "before the update" in (study / "index.html").read_text()
    assert "B better" in said["compare"], "the update has learned its arrival"
    assert json.loads(said["trace"])["updates"]
