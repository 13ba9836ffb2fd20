"""The gate of an update: the comparison of candidate and current release on all common measurements."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from rewarm.pipeline.gate.pairs import Sampled, alike, pair_losses, pair_samples, read_losses, read_samples
from rewarm.pipeline.gate.sites import read_sites
from rewarm.pipeline.gate.statistics import Estimate, above_chance
from rewarm.pipeline.gate.verdict import LOSS_METRIC, ORDER_METRIC, Comparison, Role, Verdict, decide
from rewarm.pipeline.lineage.recorded import refuse_changed
from rewarm.pipeline.recipe.recipe import differences
from rewarm.pipeline.record import UpdateRecord
from rewarm.pipeline.update.context import UpdateContext
from rewarm.pipeline.update.measured import measured_note
from rewarm.pipeline.update.model_steps import conditions, measure
from rewarm.pipeline.update.runner import Step
from rewarm.stages import evaluate
from rewarm.stages.core.shapes import stage_manifest
from rewarm.stages.core.storage import Folder
from rewarm.stages.evaluate.order_task import NUM_ORDERS
from rewarm.stages.evaluate.own_tasks import task_name
from rewarm.stages.evaluate.run import RELEASE, losses_file
from rewarm.stages.evaluate.settings import APART

ORDER = "order"
LOSSES_DEPEND_ON = ("seq_len", "reading", "document_mask")  # settings in an evaluation's manifest
KINDS = ("rolling", "continuation")  # kinds of tasks that are generated from every dataset


def run_gate(context: UpdateContext) -> Verdict | None:
    """Return the verdict on an evaluated update; None for a base, which has no earlier release to compare with.

    The current release's own evaluation is reused for everything that was measured under the same conditions. The rest
    is measured here, in particular on the arrival, which is new to the current release.
    """
    current, settings = context.compared_with(), context.recipe.gate
    if current is None:
        return None
    if not settings.enabled:
        because = ["gate.enabled is false: nothing was compared"]
        return Verdict(True, current.id, settings.alpha, settings.correction, because, [])
    gate = Gate(context, current)
    comparisons = [*gate.losses(), *gate.best(), *gate.orders(), *gate.tasks()]
    return decide(comparisons, settings, current.id, gate.notes)


class Gate:
    """The comparisons of candidate and current release; notes what cannot be compared."""

    def __init__(self, context: UpdateContext, current: UpdateRecord) -> None:
        self.context, self.current = context, current
        self.notes: list[str] = []
        self.candidate = context.folder / "evaluation"
        self.before = context.workspace.update(current.id) / "evaluation"
        self.changed = self._changed(self.before)
        earlier, settings = list(context.lineage.datasets()), context.recipe.gate
        self.measured = context.measured()
        old: Role = "old"
        new: Role = "new"
        self.roles = dict.fromkeys(self.measured, old) | dict.fromkeys(context.arrival.inputs, new)
        strange = [name for name in settings.max_forgetting_by_dataset if name not in earlier]
        self.notes += [f"gate.max_forgetting_by_dataset: {name} is not an earlier dataset" for name in strange]
        self.notes += [
            f"{name}: learned by {current.id} but not by this lineage; not compared"
            for name in current.losses.get(RELEASE, {})
            if name not in earlier and name not in self.roles
        ]
        self.notes += [note] if (note := measured_note(earlier, context.recipe.evaluate, context.id)) else []
        self.missing: dict[str, str] = {}  # why a dataset cannot be compared
        self.sources = self._sources()
        self.sites: dict[str, dict[str, str]] = {}

    def _changed(self, evaluation: Folder) -> list[str]:
        """Return the settings of losses and tasks in which the candidate's evaluation differs from another's."""
        if not evaluation.committed():
            return ["it was not evaluated"]
        before, after = (
            {name: value for name, value in stage_manifest(folder)["identity"]["settings"].items() if name not in APART}
            for folder in (evaluation, self.candidate)
        )
        return differences(before, after)

    def _same_losses(self, evaluation: Folder) -> bool:
        """Return whether another release's losses were measured under the same settings as the candidate's."""
        if not evaluation.committed():
            return False
        ways = [stage_manifest(folder)["identity"]["settings"] for folder in (evaluation, self.candidate)]
        return all(ways[0].get(name) == ways[1].get(name) for name in LOSSES_DEPEND_ON)

    def _sources(self) -> dict[str, Folder]:
        """Return dataset → folder of the current release's measurements; measures it where none are comparable."""
        found: dict[str, Folder] = {}
        again = []
        for name in self.roles:
            mine = read_losses(self.candidate, name)
            if mine is None:
                self.missing[name] = self._unmeasured(name)
            elif not self.changed and alike(mine, read_losses(self.before, name)):
                found[name] = self.before
            else:
                again.append(name)
        if not again:
            return found
        if not self._model(self.current).exists():
            gone = f"{self._model(self.current)} is missing, so it could not be measured and was not compared"
            self.missing |= dict.fromkeys(again, gone)
            return found
        return found | dict.fromkeys(again, self._measure(self.current, again))

    def _unmeasured(self, name: str) -> str:
        """Return the message for a dataset without a loss, with the setting that excludes it."""
        settle = (
            "`gate.require_learning=false` does not require one"
            if self.roles[name] == "new"
            else f"`gate.max_forgetting_by_dataset={{{name}: null}}` leaves it unguarded"
        )
        return f"its validation split has too few tokens for a loss, so it was not compared ({settle})"

    def _model(self, update: UpdateRecord) -> Folder:
        """Return the model folder of a release."""
        return self.context.workspace.update(update.id) / "release" / "model"

    def _measure(self, update: UpdateRecord, names: list[str]) -> Folder:
        """Evaluate an earlier release on datasets and their generated tasks; samples are drawn of the current one."""
        context, out = self.context, self.candidate / f"against-{update.id}"
        without = {"tasks": ()} if update.id == self.current.id else {"tasks": (), "samples": 0}
        settings = context.recipe.evaluate.model_copy(update=without)
        step = Step(
            "gate" if update.id == self.current.id else f"gate {update.id}",
            lambda: measure(context, {RELEASE: self._model(update)}, names, out, settings),
            evaluate.EvaluateOutcome,
            out,
            conditions(context, settings),
            {"release": update.weights.release, "datasets": names},
        )
        context.runner.run(step)
        return out

    def _pair(self, name: str, mine: pa.Table, theirs: pa.Table) -> Estimate:
        """Compare both models' losses, with the documents of a site as one unit."""
        if name not in self.sites:
            by_site = self.context.recipe.gate.units == "site"
            validation = self.context.workspace.dataset(name) / "validation"
            self.sites[name] = read_sites(validation) if by_site else {}
        return pair_losses(mine, theirs, self.sites[name])

    def losses(self) -> Iterator[Comparison]:
        """Compare both models on every dataset's validation split."""
        for name, role in self.roles.items():
            because, source = self.missing.get(name, ""), self.sources.get(name)
            mine = read_losses(self.candidate, name)
            theirs = None if source is None else read_losses(source, name)
            if mine is not None and theirs is not None and alike(mine, theirs):
                yield Comparison("loss", name, LOSS_METRIC, role, self._pair(name, mine, theirs))
            else:
                because = because or "the models were measured on different documents, so it was not compared"
                yield Comparison("loss", name, LOSS_METRIC, role, None, because)

    def best(self) -> Iterator[Comparison]:
        """Compare with the best release so far on every earlier dataset, unless that is the current release."""
        settings = self.context.recipe.gate
        again: dict[str, list[str]] = {}
        for name in self.measured:
            limit = settings.forgetting_limit(name)
            best = self._best(name)
            mine = read_losses(self.candidate, name)
            if settings.max_forgetting_since_best is None or limit is None or best is None or mine is None:
                continue
            evaluation = self.context.workspace.update(best.id) / "evaluation"
            refuse_changed(self.context.lineage, evaluation, f"losses/{losses_file(RELEASE, name)}")
            theirs = read_losses(evaluation, name) if self._same_losses(evaluation) else None
            if theirs is not None and alike(mine, theirs):
                yield Comparison("best", name, LOSS_METRIC, "old", self._pair(name, mine, theirs), best=best.id)
            else:
                again.setdefault(best.id, []).append(name)
        for update, names in again.items():
            yield from self._best_again(self.context.lineage.find(update), names)

    def _best(self, dataset: str) -> UpdateRecord | None:
        """Return the release with the least loss on a dataset of all that were ever current; None: the current one.

        Releases that were tuned outside of the lineage do not count.
        """
        lineage = self.context.lineage
        branches = {entry.id for entry in lineage.entries if entry.facts.branch}
        ever = {entry["update"] for entry in lineage.history} - branches
        losses = {
            update.id: update.losses.get(RELEASE, {}).get(dataset) for update in lineage.updates if update.id in ever
        }
        known = {name: loss for name, loss in losses.items() if loss is not None}
        least = min(known, key=lambda name: known[name], default=self.current.id)
        return None if least == self.current.id else lineage.find(least)

    def _best_again(self, best: UpdateRecord, names: list[str]) -> Iterator[Comparison]:
        """Compare with the best release, evaluated again under the candidate's settings."""
        gone = not self._model(best).exists()
        because = f"{self._model(best)}, the best release so far, is missing and could not be measured again"
        source = None if gone else self._measure(best, names)
        for name in names:
            mine = read_losses(self.candidate, name)
            theirs = None if source is None else read_losses(source, name)
            if mine is not None and theirs is not None and alike(mine, theirs):
                yield Comparison("best", name, LOSS_METRIC, "old", self._pair(name, mine, theirs), best=best.id)
            else:
                yield Comparison("best", name, LOSS_METRIC, "old", None, because, best=best.id)

    def orders(self) -> Iterator[Comparison]:
        """Compare the candidate with chance on the word order of the arrival."""
        recipe = self.context.recipe
        for name in self.context.arrival.inputs:
            sampled = read_samples(self.candidate, task_name(name, ORDER))
            if sampled is not None:
                found = above_chance(np.array([*sampled.values.values()]), 1 / NUM_ORDERS)
                yield Comparison("order", name, ORDER_METRIC, "new", found)
            elif recipe.gate.min_order is not None and recipe.evaluate.task_documents:
                because = (
                    "no excerpt of its validation split is long enough to test the word order "
                    "(`gate.min_order=null` disables the test)"
                )
                yield Comparison("order", name, ORDER_METRIC, "new", None, because)
            elif recipe.gate.min_order is not None:
                self.notes.append(f"{name}: word order was not tested because evaluate.task_documents is 0")

    def tasks(self) -> Iterator[Comparison]:
        """Compare both models on every task with scores by question, except word order (see ``orders``)."""
        datasets = {task_name(name, kind): name for name in self.roles for kind in KINDS}
        orders = {task_name(name, ORDER) for name in self.roles}
        found = [file.removesuffix(".jsonl") for file in (self.candidate / "samples").files(".jsonl")]
        measured = [task for task in found if task not in orders]
        limited = self.context.recipe.gate.max_task_drop_by_task
        self.notes += [
            f"gate.max_task_drop_by_task: {name} "
            + ("is judged by gate.min_order" if name in orders else "is not a task of this update")
            for name in limited
            if name not in measured
        ]
        for task in measured:
            mine, dataset = read_samples(self.candidate, task), datasets.get(task)
            if mine is None:
                continue
            source = self.before if dataset is None else self.sources.get(dataset)
            role: Role = "old" if dataset is None else self.roles[dataset]
            theirs = None if source is None else self._theirs(source, task)
            paired = None if theirs is None else pair_samples(mine, theirs)
            if paired is None:
                self.notes.append(f"{task}: {self.current.id} has no scores on the same questions; not compared")
            else:
                yield Comparison("task", task, mine.metric, role, paired, generated=dataset is not None)

    def _theirs(self, source: Folder, task: str) -> Sampled | None:
        """Return the current release's scores; None if they were measured under other settings."""
        return None if source == self.before and self.changed else read_samples(source, task)
