"""The gate on an evaluation's own files: what is compared with what, and what is noted instead."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from records import record

from rewarm.pipeline.gate.verdict import Check, Verdict
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import Recipe, apply_settings, load_recipe
from rewarm.pipeline.record import UpdateRecord
from rewarm.pipeline.terminal import Terminal
from rewarm.pipeline.update.context import UpdateContext
from rewarm.pipeline.update.gate import Gate, run_gate
from rewarm.pipeline.update.inputs import Arrival, create
from rewarm.pipeline.update.model_steps import conditions
from rewarm.pipeline.update.runner import Runner
from rewarm.stages.core.digests import now
from rewarm.stages.core.storage import MANIFEST, Folder
from rewarm.stages.data.documents import DOCUMENT_SCHEMA
from rewarm.stages.evaluate.losses import LOSS_SCHEMA
from rewarm.stages.evaluate.own_tasks import task_name

DOCUMENTS = 40
QUESTIONS = task_name("docs", "continuation")
ORDERS = {f"news{number}": 1.0 for number in range(30)}  # right on the order of the arrival's words


def write_losses(evaluation: Folder, dataset: str, loss: float, ids: str = "d") -> None:
    """Losses of ``DOCUMENTS`` documents around ``loss`` nats per token."""
    tokens = [50 + number for number in range(DOCUMENTS)]
    nats = [size * (loss + 0.02 * (number % 5 - 2)) for number, size in enumerate(tokens)]
    names = [f"{ids}{number}" for number in range(DOCUMENTS)]
    with (evaluation / "losses").writing(f"release-{dataset}.parquet") as path:
        pq.write_table(pa.table([names, nats, tokens, tokens], schema=LOSS_SCHEMA), path)


def write_samples(evaluation: Folder, task: str, scores: Mapping[str, float], metric: str = "acc") -> None:
    lines = [{"doc_id": name, "filter": "none", metric: score} for name, score in scores.items()]
    lines += [{"doc_id": name, "filter": "strict", metric: 0.0} for name in scores]
    (evaluation / "samples").write(f"{task}.jsonl", b"".join(orjson.dumps(line) + b"\n" for line in lines))


class World:
    """A base that was evaluated on ``docs``, and an update in the making that takes in ``news``."""

    def __init__(self, root: Path, *sets: str) -> None:
        self.recipe: Recipe = apply_settings(load_recipe("tiny"), sets)
        self.workspace = Workspace(str(root))
        create(self.workspace, self.recipe)
        self.before = self.workspace.update("0000-docs") / "evaluation"
        Lineage(self.workspace).record(self.base())
        self.context = UpdateContext(
            self.workspace,
            Lineage(self.workspace),
            Arrival({"news": []}, {"news": ""}),
            self.recipe,
            "0001-news",
            Runner(Terminal(quiet=True)),
        )
        self.candidate = self.context.folder / "evaluation"
        self.against = self.candidate / "against-0000-docs"
        for folder in (self.before, self.candidate):
            self.commit(folder, "evaluate", conditions(self.context, self.recipe.evaluate), {})
        self.measured("news")
        (self.workspace.update("0000-docs") / "release" / "model").write("config.json", b"{}")
        write_losses(self.before, "docs", 4.0)
        write_losses(self.candidate, "docs", 4.1)
        write_losses(self.candidate, "news", 3.0)
        write_samples(self.candidate, task_name("news", "order"), ORDERS)

    def base(self) -> UpdateRecord:
        return record("0000-docs", losses={"release": {"docs": 4.0}}, weights={"release": "base"})

    def commit(self, folder: Folder, step: str, settings: object, inputs: object) -> None:
        identity = {"step": step, "version": 1, "settings": settings, "inputs": inputs}
        folder.write_json(
            MANIFEST,
            {"step": step, "fingerprint": "", "identity": identity, "outcome": {}, "seconds": 1.5, "finished": now()},
        )

    def measured(self, *names: str) -> None:
        """The step that measures the current release, done before on these datasets."""
        settings = conditions(self.context, self.recipe.evaluate.model_copy(update={"tasks": ()}))
        self.commit(self.against, "gate", settings, {"release": "base", "datasets": list(names)})
        for name in names:
            write_losses(self.against, name, 5.0 if name == "news" else 4.0)

    def next_update(self, number: int, loss: float) -> None:
        """Another update in the context, whose candidate has this loss on ``docs``."""
        self.context = replace(
            self.context, lineage=Lineage(self.workspace), id=f"{number:04d}-news", runner=Runner(Terminal(quiet=True))
        )
        self.candidate = self.context.folder / "evaluation"
        current = self.context.lineage.release
        self.against = self.candidate / f"against-{current}"
        self.commit(self.candidate, "evaluate", conditions(self.context, self.recipe.evaluate), {})
        self.measured("news")
        (self.workspace.update(str(current)) / "release" / "model").write("config.json", b"{}")
        write_losses(self.candidate, "docs", loss)
        write_losses(self.candidate, "news", 5.0 - number)
        write_samples(self.candidate, task_name("news", "order"), ORDERS)

    def promote(self, loss: float) -> None:
        """The update in the making becomes the current release."""
        losses = {"release": {"docs": loss}}
        Lineage(self.workspace).record(replace(self.base(), id=self.context.id, datasets=[], losses=losses))

    def verdict(self) -> Verdict:
        found = run_gate(self.context)
        assert found is not None
        return found


def by_name(verdict: Verdict) -> dict[str, Check]:
    """The checks of losses and of tasks, but for the order of the arrival's words."""
    return {check.name: check for check in verdict.checks if check.kind != "order"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_old_data_from_the_record_and_new_data_measured_here(world: World) -> None:
    found = world.verdict()
    checks = by_name(found)
    assert (found.passed, found.against, list(checks)) == (True, "0000-docs", ["docs", "news"])
    assert checks["docs"].change == pytest.approx(0.1)
    assert (checks["docs"].role, checks["news"].role) == ("old", "new")
    assert (checks["news"].candidate, checks["news"].current) == (pytest.approx(3, abs=0.1), pytest.approx(5, abs=0.1))
    assert checks["news"].n == DOCUMENTS
    assert world.context.runner.taken["gate"].seconds == 1.5


def test_what_was_forgotten_or_not_learned_is_refused(world: World) -> None:
    write_losses(world.candidate, "docs", 4.7)
    assert not world.verdict().passed
    write_losses(world.candidate, "docs", 4.0)
    write_losses(world.candidate, "news", 5.0)
    assert world.verdict().because == ["news: was not learned: +0.000 (p 1)"]


def test_an_arrival_whose_words_are_in_no_order_is_refused_though_its_loss_fell(world: World) -> None:
    (check,) = (check for check in world.verdict().checks if check.kind == "order")
    assert (check.name, check.candidate, check.current, check.limit, check.passed) == ("news", 1.0, 0.25, 0.5, True)
    assert check.p == pytest.approx(0.25**30)
    write_samples(world.candidate, task_name("news", "order"), {name: float(name < "news16") for name in ORDERS})
    refused = world.verdict()
    assert not refused.passed
    assert refused.because[0].startswith("news: prefers the original word order in 0.27 of 30 excerpts")
    (world.candidate / "samples").delete(f"{task_name('news', 'order')}.jsonl")
    held = world.verdict()
    assert (held.outcome, held.undecided) == ("held", ["order news"])
    assert held.because[0].startswith("news: no excerpt of its validation split is long enough")
    world.context = replace(world.context, recipe=apply_settings(world.recipe, ["gate.min_order=null"]))
    assert world.verdict().because[1:] == []


@pytest.mark.parametrize("reason", ["other documents", "other settings"])
def test_what_the_record_cannot_be_compared_with_is_measured_again(tmp_path: Path, reason: str) -> None:
    world = World(tmp_path)
    if reason == "other documents":
        write_losses(world.before, "docs", 1.0, ids="other")
    else:
        write_losses(world.before, "docs", 1.0)
        world.commit(world.before, "evaluate", {"seq_len": 1}, {})
    world.measured("docs", "news")
    assert by_name(world.verdict())["docs"].current == pytest.approx(4, abs=0.1)


def test_a_current_release_that_is_gone_or_unlike_leaves_the_check_undecided(world: World) -> None:
    write_losses(world.against, "news", 5.0, ids="other")
    found = world.verdict()
    assert (found.outcome, found.undecided) == ("held", ["loss news"])
    assert found.because[0].startswith("news: the models were measured on different documents")
    (world.workspace.update("0000-docs") / "release").delete()
    assert "is missing, so it could not be measured" in world.verdict().because[0]


def test_an_arrival_without_a_validation_split_passes_no_gate_that_requires_learning(tmp_path: Path) -> None:
    world = World(tmp_path, "gate.max_forgetting_by_dataset={dcos: 0.1}")
    (world.candidate / "losses").delete("release-news.parquet")
    held = world.verdict()
    assert (held.outcome, held.passed, held.undecided) == ("held", False, ["loss news"])
    assert held.because == [
        "news: its validation split has too few tokens for a loss, so it was not compared "
        "(`gate.require_learning=false` does not require one): undecided",
        "gate.max_forgetting_by_dataset: dcos is not an earlier dataset",
    ]
    world.context = replace(world.context, recipe=apply_settings(world.recipe, ["gate.require_learning=false"]))
    assert world.verdict().passed


def test_an_earlier_dataset_that_cannot_be_measured_is_undecided_unless_it_is_left_unguarded(world: World) -> None:
    (world.candidate / "losses").delete("release-docs.parquet")
    held = world.verdict()
    assert held.undecided == ["loss docs"]
    assert "`gate.max_forgetting_by_dataset={docs: null}` leaves it unguarded" in held.because[0]
    sets = ["gate.max_forgetting_by_dataset={docs: null}"]
    world.context = replace(world.context, recipe=apply_settings(world.recipe, sets))
    assert world.verdict().passed


def test_documents_of_one_site_count_as_one(world: World) -> None:
    sites = [f"http://{number % 8}.example{number % 8}.org/{number}" for number in range(DOCUMENTS)]
    rows = [
        dict.fromkeys(DOCUMENT_SCHEMA.names) | {"doc_id": f"d{number}", "text": "", "num_bytes": 0, "url": url}
        for number, url in enumerate(sites)
    ]
    with (world.workspace.dataset("docs") / "validation").writing("00000.parquet") as path:
        pq.write_table(pa.Table.from_pylist(rows, schema=DOCUMENT_SCHEMA), path)
    check = by_name(world.verdict())["docs"]
    assert (check.n, check.units) == (DOCUMENTS, 8)
    world.context = replace(world.context, recipe=apply_settings(world.recipe, ["gate.units=document"]))
    assert by_name(world.verdict())["docs"].units == DOCUMENTS


def test_small_losses_do_not_add_up_over_updates(tmp_path: Path) -> None:
    """Each update loses 0.45 nats of docs, within the limit of 0.5; the third is refused against the best release."""
    world = World(tmp_path)
    outcomes = []
    for number in range(1, 13):
        world.next_update(number, 4.0 + 0.45 * number)
        found = world.verdict()
        outcomes.append(found.outcome)
        if not found.passed:
            break
        world.promote(4.0 + 0.45 * number)
    assert outcomes == ["passed", "passed", "refused"], found.because
    assert found.because[0].startswith("docs: forgets 1.350 since 0000-docs, the best release so far, more than 1 (p")
    (check,) = (check for check in found.checks if check.kind == "best")
    assert (check.name, check.current, check.limit) == ("docs", pytest.approx(4.0, abs=0.1), 1.0)


def test_tasks_are_paired_by_question(world: World) -> None:
    right = {f"q{number}": 1.0 for number in range(30)}
    write_samples(world.before, QUESTIONS, right)
    write_samples(world.candidate, QUESTIONS, {name: float(name < "q2") for name in reversed(right)})
    write_samples(world.candidate, "piqa", right)
    write_samples(world.candidate, task_name("docs", "rolling"), right, "bits_per_byte")
    found = world.verdict()
    check = by_name(found)[QUESTIONS]
    assert (check.role, check.metric, check.n, check.limit) == ("old", "acc", 30, 0.05)
    assert (check.current, check.passed) == (1.0, False)
    assert (check.p or 1) < 1e-4
    assert found.because[1:] == ["piqa: 0000-docs has no scores on the same questions; not compared"]
    write_samples(world.before, QUESTIONS, dict.fromkeys(list(right)[1:], 1.0))
    assert QUESTIONS not in by_name(world.verdict())


def test_switched_off_or_for_a_base_nothing_is_compared(tmp_path: Path) -> None:
    world = World(tmp_path, "gate.enabled=false")
    found = world.verdict()
    assert (found.passed, found.checks, found.because) == (True, [], ["gate.enabled is false: nothing was compared"])
    world.context.lineage.stand_on([])
    assert run_gate(world.context) is None


def test_a_budget_leaves_datasets_out_and_says_so(tmp_path: Path) -> None:
    world = World(tmp_path, "evaluate.earlier_datasets=1")
    world.context.lineage.stand_on([world.base(), record("0001-code", weights={"release": "code"})])
    world.context = replace(world.context, id="0007-news")
    world.commit(world.context.folder / "evaluation", "evaluate", conditions(world.context, world.recipe.evaluate), {})
    (measured,) = world.context.measured()
    gate = Gate(world.context, world.base())
    assert set(gate.roles) == {measured, "news"} < {"docs", "code", "news"}
    assert any("measured on 1 of 2 earlier datasets" in note for note in gate.notes)
