"""The gate of an update: candidate against current release, on everything that both can be measured on."""

from collections.abc import Iterable

import numpy as np

from pipeline.config import differences
from pipeline.gate.pairs import Sampled, alike, pair_losses, pair_samples, read_losses, read_samples
from pipeline.gate.statistics import above_chance
from pipeline.gate.verdict import LOSS_METRIC, ORDER_METRIC, Comparison, Role, Verdict, decide
from pipeline.learning import conditions, measure
from pipeline.lineage import Update
from pipeline.making import Making
from stages import evaluate
from stages.evaluate.orders import NUM_ORDERS
from stages.evaluate.run import RELEASE
from stages.evaluate.tasks import task_name
from stages.storage import Folder

ORDER = "order"
KINDS = ("rolling", "continuation", ORDER)  # of the tasks that are generated from a dataset


def run_gate(making: Making) -> Verdict | None:
    """The verdict on an update whose stages are done; None for a base, which has nothing to be compared with.

    The current release's own evaluation serves again for what it was measured on under the same conditions; it is
    measured here on the rest, first of all on the arrival, which was not known then.
    """
    current, settings = making.lineage.current(), making.recipe.gate
    if current is None:
        return None
    if not settings.enabled:
        because = ["gate.enabled is false: nothing was compared"]
        return Verdict(True, current.id, settings.alpha, settings.correction, because, [])
    gate = Gate(making, current)
    comparisons = [*gate.losses(), *gate.orders(), *gate.tasks()]
    return decide(comparisons, settings, current.id, gate.notes)


class Gate:
    """Where the measurements of both models are; what cannot be compared is noted."""

    def __init__(self, making: Making, current: Update) -> None:
        self.making, self.current = making, current
        self.notes: list[str] = []
        self.candidate = making.folder / "evaluation"
        self.before = making.workspace.update(current.id) / "evaluation"
        self.changed = self._changed()
        earlier, limits = making.lineage.datasets(), making.recipe.gate.max_forgetting_by_dataset
        old: Role = "old"
        new: Role = "new"
        self.roles = dict.fromkeys(earlier, old) | dict.fromkeys(making.arrival.inputs, new)
        strange = [name for name in limits if name not in earlier]
        self.notes += [f"gate.max_forgetting_by_dataset: {name} is no earlier dataset" for name in strange]
        self.notes += [
            f"{name}: {current.id} has learned it and this lineage has not; not compared"
            for name in current.losses.get(RELEASE, {})
            if name not in self.roles
        ]
        self.sources = self._sources()

    def _changed(self) -> list[str]:
        """How the candidate was evaluated otherwise than the current release, but for the tasks that are named."""
        if not self.before.committed():
            return ["it was not evaluated"]
        before, after = (
            {name: value for name, value in folder.manifest()["identity"]["settings"].items() if name != "tasks"}
            for folder in (self.before, self.candidate)
        )
        return differences(before, after)

    def _sources(self) -> dict[str, Folder]:
        """By dataset, where the current release's measurements are; it is measured where there are none that fit."""
        found: dict[str, Folder] = {}
        missing = []
        for name in self.roles:
            mine = read_losses(self.candidate, name)
            if mine is None:
                self.notes.append(f"{name}: has too few validation tokens for a loss; not compared")
            elif not self.changed and alike(mine, read_losses(self.before, name)):
                found[name] = self.before
            else:
                missing.append(name)
        if not missing:
            return found
        if not self.model.exists():
            self.notes += [f"{name}: {self.model} is not there to be measured; not compared" for name in missing]
            return found
        return found | dict.fromkeys(missing, self._measure(missing))

    @property
    def model(self) -> Folder:
        """The current release."""
        return self.making.workspace.update(self.current.id) / "release" / "model"

    def _measure(self, names: list[str]) -> Folder:
        """Evaluate the current release on datasets, and on the tasks that are generated from them."""
        making, out = self.making, self.candidate / f"against-{self.current.id}"
        settings = making.recipe.evaluate.model_copy(update={"tasks": ()})
        making.runner.run(
            "gate",
            lambda: measure(making, {RELEASE: self.model}, names, out, settings),
            evaluate.EvaluateOutcome,
            out,
            conditions(making, settings),
            {"release": self.current.weights["release"], "datasets": names},
        )
        return out

    def losses(self) -> Iterable[Comparison]:
        """Both models on every dataset's validation split."""
        for name, source in self.sources.items():
            mine, theirs = read_losses(self.candidate, name), read_losses(source, name)
            if mine is not None and theirs is not None and alike(mine, theirs):
                yield Comparison("loss", name, LOSS_METRIC, self.roles[name], pair_losses(mine, theirs))
            else:
                self.notes.append(f"{name}: both models were not measured on the same documents; not compared")

    def orders(self) -> Iterable[Comparison]:
        """The candidate against chance on the order of the arrival's words."""
        for name in self.making.arrival.inputs:
            sampled = read_samples(self.candidate, task_name(name, ORDER))
            if sampled is not None:
                found = above_chance(np.array([*sampled.values.values()]), 1 / NUM_ORDERS)
                yield Comparison("order", name, ORDER_METRIC, "new", found)
            elif self.making.recipe.gate.min_order is not None:
                self.notes.append(f"{name}: the order of its words was not asked for: it has no such task")

    def tasks(self) -> Iterable[Comparison]:
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
                yield Comparison("task", task, mine.metric, role, paired)

    def _theirs(self, source: Folder, task: str) -> Sampled | None:
        """The current release's scores; None where they were taken under other conditions."""
        return None if source == self.before and self.changed else read_samples(source, task)
