"""Selection in an update, up to what training is going to read: by perplexity, and by a classifier from files."""

import shutil
from pathlib import Path

import pytest
from small_lineage import Lineage as Small
from small_lineage import docstrings, stdlib

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import apply_settings
from rewarm.pipeline.terminal import Terminal
from rewarm.pipeline.update import inputs as bases
from rewarm.pipeline.update.context import UpdateContext
from rewarm.pipeline.update.data_steps import (
    run_choose,
    run_ingest,
    run_replay,
    run_select,
    run_tokenize,
    run_tokenizer,
    update_budget,
)
from rewarm.pipeline.update.inputs import identify_arrival
from rewarm.pipeline.update.model_steps import run_start, trunk_job
from rewarm.pipeline.update.update import open_update
from rewarm.stages.core.errors import UsageError
from rewarm.stages.data.tokens import read_selection

pytestmark = pytest.mark.faults


@pytest.fixture
def workspace(base: Small, tmp_path: Path) -> Workspace:
    copy = tmp_path / "workspace"
    shutil.copytree(base.workspace, copy)
    return Workspace(str(copy))


@pytest.fixture
def arrival(tmp_path: Path) -> Path:
    """Code, and docstrings that the base has not seen."""
    folder = tmp_path / "arrival"
    folder.mkdir()
    for path in stdlib()[130:180]:
        (folder / path.with_suffix(".txt").name).write_text(path.read_text(encoding="utf-8")[:6000])
    for number, doc in enumerate(list(dict.fromkeys(docstrings()))[1600:1680]):
        (folder / f"doc-{number}.txt").write_text(doc)
    return folder


def begun(workspace: Workspace, arrival: Path, *sets: str) -> UpdateContext:
    """An update at its beginning."""
    given = ["select.share=0.25", "budget.update_tokens=null", *sets]
    recipe, lineage, terminal = apply_settings(bases.recipe_of(workspace), given), Lineage(workspace), Terminal(True)
    inputs = identify_arrival({"more": [str(arrival)]}, lineage, recipe.ingest, terminal)
    return open_update(workspace, inputs, recipe, terminal)


@pytest.mark.usefixtures("ray_cluster")
def test_several_epochs_over_what_the_base_predicts_best(workspace: Workspace, arrival: Path) -> None:
    context = begun(workspace, arrival, "select.by=perplexity", "select.epochs=3", "replay.share=0.25")
    documents = {"more": run_ingest(context, "more")}
    tokenizer = run_tokenizer(context)
    tokens = {"more": run_tokenize(context, "more", documents["more"], tokenizer)}
    selected = run_select(context, tokens)
    chosen = selected["more"]
    assert 0.25 * chosen.tokens <= chosen.chosen_tokens < 0.35 * chosen.tokens
    assert chosen.best < chosen.threshold, "the lowest perplexity first"
    mixture = run_replay(context, tokens, selected).outcome
    source, start = context.mixture().new[0], run_start(context, tokenizer)
    stream = trunk_job(context, start).tokens[source.key].open()
    assert stream.num_tokens == chosen.chosen_tokens
    assert stream.num_sequences(64) == source.num_sequences
    assert 0 <= mixture.planned - 3 * source.num_sequences * 64 < 8 * 64, "three epochs, and the last batch filled up"
    assert mixture.epochs == pytest.approx(3 * 0.75, abs=0.1), "a quarter of them is replayed"

    # The same scores serve another share, and the same update finds all of it done.
    best = run_choose(context, "best", "more", tokens["more"], 0.1, context.folder / "best")
    assert set(read_selection(context.folder / "best")) < set(read_selection(context.folder / "selection" / "more"))
    assert best.best == chosen.best
    times = {path: path.stat().st_mtime_ns for path in context.folder.path.rglob("*") if path.is_file()}
    again = begun(workspace, arrival, "select.by=perplexity", "select.epochs=3", "replay.share=0.25")
    assert run_select(again, tokens) == selected
    assert {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.usefixtures("ray_cluster")
def test_documents_like_a_reference_are_chosen(workspace: Workspace, arrival: Path, tmp_path: Path) -> None:
    for number, path in enumerate(stdlib()[100:130]):
        (tmp_path / "like this").mkdir(exist_ok=True)
        (tmp_path / "like this" / f"{number}.txt").write_text(path.read_text(encoding="utf-8")[:6000])
    given = ["select.by=classifier", f"select.reference={tmp_path / 'like this'}"]
    context = begun(workspace, arrival, *given, "budget.update_tokens=6000")
    documents = {"more": run_ingest(context, "more")}
    tokens = {"more": run_tokenize(context, "more", documents["more"], run_tokenizer(context))}
    selected = run_select(context, tokens)
    assert selected["more"].best > selected["more"].threshold, "the most alike first"
    assert update_budget(context)[0] == 6000, "the budget goes before epochs"
    assert (context.folder / "reference" / "documents").files(".parquet")
    assert (run_replay(context, tokens, selected).outcome.planned - 6000) in range(-8 * 64 + 1, 1)


def test_a_reference_that_is_not_there_is_refused_before_anything_is_spent(workspace: Workspace, arrival: Path) -> None:
    for reference, message in (("wiki", r"neither a dataset of this lineage \(docs"), ("no/*.txt", "no/")):
        with pytest.raises(UsageError, match=message):
            begun(workspace, arrival, "select.by=classifier", f"select.reference={reference}")
        assert Lineage(workspace).unfinished is None
