"""The gate of an update: candidate against current release, on everything that both can be measured on."""

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
from rewarm.pipeline.update.model_steps import conditions, measure
from rewarm.stages import evaluate
from rewarm.stages.core.shapes import stage_manifest
from rewarm.stages.core.storage import Folder
from rewarm.stages.evaluate.order_task import NUM_ORDERS
from rewarm.stages.evaluate.own_tasks import task_name
from rewarm.stages.evaluate.run import RELEASE, losses_file

ORDER = "order"
LOSSES_DEPEND_ON = ("seq_len", "reading", "document_mask")  # of what an evaluation's manifest names
KINDS = ("rolling", "continuation", ORDER)  # of the tasks that are generated from a dataset


def run_gate(context: UpdateContext) -> Verdict | None:
    """The verdict on an update whose stages are done; None for a base, which has nothing to be compared with.

    The current release's own evaluation serves again for what it was measured on under the same conditions; it is
    measured here on the rest, first of all on the arrival, which was not known then.
    """
    current, settings = context.lineage.current(), context.recipe.gate
    if current is None:
        return None
    if not settings.enabled:
        because = ["gate.enabled is false: nothing was compared"]
        return Verdict(True, current.id, settings.alpha, settings.correction, because, [])
    gate = Gate(context, current)
    comparisons = [*gate.losses(), *gate.best(), *gate.orders(), *gate.tasks()]
    return decide(comparisons, settings, current.id, gate.notes)


class Gate:
    """Where the measurements of the models are; what cannot be compared is noted."""

    def __init__(self, context: UpdateContext, current: UpdateRecord) -> None:
        self.context, self.current = context, current
        self.notes: list[str] = []
        self.candidate = context.folder / "evaluation"
        self.before = context.workspace.update(current.id) / "evaluation"
        self.changed = self._changed(self.before)
        earlier, settings = context.lineage.datasets(), context.recipe.gate
        old: Role = "old"
        new: Role = "new"
        self.roles = dict.fromkeys(earlier, old) | dict.fromkeys(context.arrival.inputs, new)
        strange = [name for name in settings.max_forgetting_by_dataset if name not in earlier]
        self.notes += [f"gate.max_forgetting_by_dataset: {name} is no earlier dataset" for name in strange]
        self.notes += [
            f"{name}: {current.id} has learned it and this lineage has not; not compared"
            for name in current.losses.get(RELEASE, {})
            if name not in self.roles
        ]
        self.missing: dict[str, str] = {}  # why a dataset cannot be compared
        self.sources = self._sources()
        self.sites: dict[str, dict[str, str]] = {}

    def _changed(self, evaluation: Folder) -> list[str]:
        """How the candidate was evaluated otherwise than another release, but for the tasks that are named."""
        if not evaluation.committed():
            return ["it was not evaluated"]
        before, after = (
            {name: value for name, value in stage_manifest(folder)["identity"]["settings"].items() if name != "tasks"}
            for folder in (evaluation, self.candidate)
        )
        return differences(before, after)

    def _same_losses(self, evaluation: Folder) -> bool:
        """Whether another release's losses were measured as the candidate's, whatever tasks each was asked."""
        if not evaluation.committed():
            return False
        ways = [stage_manifest(folder)["identity"]["settings"] for folder in (evaluation, self.candidate)]
        return all(ways[0].get(name) == ways[1].get(name) for name in LOSSES_DEPEND_ON)

    def _sources(self) -> dict[str, Folder]:
        """By dataset, where the current release's measurements are; it is measured where there are none that fit."""
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
            gone = f"{self._model(self.current)} is not there to be measured, so it was not compared"
            self.missing |= dict.fromkeys(again, gone)
            return found
        return found | dict.fromkeys(again, self._measure(self.current, again))

    def _unmeasured(self, name: str) -> str:
        """What to say of a dataset without a loss, and how it can be left out."""
        settle = (
            "`gate.require_learning=false` asks for none"
            if self.roles[name] == "new"
            else f"`gate.max_forgetting_by_dataset={{{name}: null}}` leaves it unguarded"
        )
        return f"its validation split has too few tokens for a loss, so it was not compared ({settle})"

    def _model(self, update: UpdateRecord) -> Folder:
        """A release."""
        return self.context.workspace.update(update.id) / "release" / "model"

    def _measure(self, update: UpdateRecord, names: list[str]) -> Folder:
        """Evaluate an earlier release on datasets, and on the tasks that are generated from them."""
        context, out = self.context, self.candidate / f"against-{update.id}"
        settings = context.recipe.evaluate.model_copy(update={"tasks": ()})
        context.runner.run(
            "gate" if update.id == self.current.id else f"gate {update.id}",
            lambda: measure(context, {RELEASE: self._model(update)}, names, out, settings),
            evaluate.EvaluateOutcome,
            out,
            conditions(context, settings),
            {"release": update.weights.release, "datasets": names},
        )
        return out

    def _pair(self, name: str, mine: pa.Table, theirs: pa.Table) -> Estimate:
        """Both models' losses, with the documents of a site as one unit."""
        if name not in self.sites:
            by_site = self.context.recipe.gate.units == "site"
            validation = self.context.workspace.dataset(name) / "validation"
            self.sites[name] = read_sites(validation) if by_site else {}
        return pair_losses(mine, theirs, self.sites[name])

    def losses(self) -> Iterator[Comparison]:
        """Both models on every dataset's validation split."""
        for name, role in self.roles.items():
            because, source = self.missing.get(name, ""), self.sources.get(name)
            mine = read_losses(self.candidate, name)
            theirs = None if source is None else read_losses(source, name)
            if mine is not None and theirs is not None and alike(mine, theirs):
                yield Comparison("loss", name, LOSS_METRIC, role, self._pair(name, mine, theirs))
            else:
                because = because or "both models were not measured on the same documents, so it was not compared"
                yield Comparison("loss", name, LOSS_METRIC, role, None, because)

    def best(self) -> Iterator[Comparison]:
        """The candidate and, on every earlier dataset, the best release so far if that is not the current one."""
        settings = self.context.recipe.gate
        again: dict[str, list[str]] = {}
        for name in self.context.lineage.datasets():
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
        """The release of least loss on a dataset among all that were ever current; None if that is the current one."""
        lineage = self.context.lineage
        ever = {entry["update"] for entry in lineage.history}
        losses = {one.id: one.losses.get(RELEASE, {}).get(dataset) for one in lineage.updates if one.id in ever}
        known = {name: loss for name, loss in losses.items() if loss is not None}
        least = min(known, key=lambda name: known[name], default=self.current.id)
        return None if least == self.current.id else lineage.find(least)

    def _best_again(self, best: UpdateRecord, names: list[str]) -> Iterator[Comparison]:
        """The best release, measured as the candidate was; it was measured otherwise when it was made."""
        gone = not self._model(best).exists()
        because = f"{self._model(best)}, the best release so far, is not there to be measured under these settings"
        source = None if gone else self._measure(best, names)
        for name in names:
            mine = read_losses(self.candidate, name)
            theirs = None if source is None else read_losses(source, name)
            if mine is not None and theirs is not None and alike(mine, theirs):
                yield Comparison("best", name, LOSS_METRIC, "old", self._pair(name, mine, theirs), best=best.id)
            else:
                yield Comparison("best", name, LOSS_METRIC, "old", None, because, best=best.id)

    def orders(self) -> Iterator[Comparison]:
        """The candidate against chance on the order of the arrival's words."""
        recipe = self.context.recipe
        for name in self.context.arrival.inputs:
            sampled = read_samples(self.candidate, task_name(name, ORDER))
            if sampled is not None:
                found = above_chance(np.array([*sampled.values.values()]), 1 / NUM_ORDERS)
                yield Comparison("order", name, ORDER_METRIC, "new", found)
            elif recipe.gate.min_order is not None and recipe.evaluate.task_documents:
                because = (
                    "no excerpt of its validation split is long enough to ask for the order of its words "
                    "(`gate.min_order=null` asks for none)"
                )
                yield Comparison("order", name, ORDER_METRIC, "new", None, because)
            elif recipe.gate.min_order is not None:
                self.notes.append(f"{name}: the order of its words was not asked for: evaluate.task_documents is 0")

    def tasks(self) -> Iterator[Comparison]:
        """Both models on every task that has scores by question."""
        datasets = {task_name(name, kind): name for name in self.roles for kind in KINDS}
        for file in (self.candidate / "samples").files(".jsonl"):
            task = file.removesuffix(".jsonl")
            mine, dataset = read_samples(self.candidate, task), datasets.get(task)
            if mine is None:
                continue
            source = self.before if dataset is None else self.sources.get(dataset)
            role: Role = "old" if dataset is None else self.roles[dataset]
            theirs = None if source is None else self._theirs(source, task)
            paired = None if theirs is None else pair_samples(mine, theirs)
            if paired is None:
                self.notes.append(f"{task}: {self.current.id} was not asked the same questions; not compared")
            else:
                yield Comparison("task", task, mine.metric, role, paired, generated=dataset is not None)

    def _theirs(self, source: Folder, task: str) -> Sampled | None:
        """The current release's scores; None where they were taken under other conditions."""
        return None if source == self.before and self.changed else read_samples(source, task)
