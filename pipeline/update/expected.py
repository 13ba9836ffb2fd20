"""The progress of an update's run: its stages, their expected durations, and its journal."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from rewarm.pipeline.lineage.lineage import PLAN, Lineage, read_plan
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.progress.log import DONE, FAILED, RUNNING, STOPPED, Journal, Standing
from rewarm.pipeline.progress.pace import Itinerary, Work, expected_seconds
from rewarm.pipeline.recipe.recipe import Recipe
from rewarm.pipeline.update.inputs import Arrival, distilled_tokens
from rewarm.stages.core.storage import Folder


class Run:
    """The run of one update by one command."""

    def __init__(self, home: Folder, update: str, plan: Callable[[], Itinerary]) -> None:
        """``plan`` is called when the first stage begins, because the update's plan is only written just before."""
        self.journal = Journal(home, update)
        self._plan = plan
        self._itinerary: Itinerary | None = None
        self._stage: str | None = None  # the current stage, unless it was skipped
        self._entered = time.monotonic()
        self._began = time.time()
        self.journal.line(f"begins ({update})")

    def enter(self, stage: str, skipped: bool) -> None:
        """Enter a stage, which may be skipped because it is already done."""
        self._leave()
        self._itinerary = self._itinerary or self._plan()
        self._itinerary.enter(stage)
        self._stage, self._entered = None if skipped else stage, time.monotonic()
        place = f"{self._itinerary.place + 1} of {len(self._itinerary.names)}"
        self.journal.line(f"stage {place}: {stage}" + (", done before" if skipped else ""))

    def _leave(self) -> None:
        if self._stage is not None:
            self.journal.line(f"{self._stage} took {time.monotonic() - self._entered:.1f} s")
        self._stage = None

    def standing(self, work: Work | None, state: str = RUNNING) -> Standing:
        """Return the progress of the run, with the current task."""
        at, planned = time.monotonic(), self._itinerary
        left = work.left(at) if work else None
        standing = Standing(
            self.journal.update,
            state,
            time.time(),
            self._began,
            planned.current if planned else "",
            planned.place + 1 if planned else 0,
            len(planned.names) if planned else 0,
            left=left,
            run_left=planned.left(at - self._entered, left) if planned and state == RUNNING else None,
        )
        if work is None:
            return standing
        return replace(
            standing,
            label=work.label,
            unit=work.unit,
            done=work.done,
            total=work.total,
            rate=work.rate(at),
            figures=dict(work.figures),
        )

    def close(self, work: Work | None, error: BaseException | None) -> None:
        """End the run; ``error`` is the exception that ended it early, if any."""
        state = DONE if error is None else STOPPED if isinstance(error, KeyboardInterrupt) else FAILED
        if error is None:
            self._leave()
            self.journal.line(DONE)
        else:
            said = str(error) or type(error).__name__
            self.journal.line(f"{STOPPED}; the same command resumes it" if state == STOPPED else f"{FAILED}: {said}")
        self.journal.stand(self.standing(work, state))


def run_of(workspace: Workspace, arrival: Arrival, recipe: Recipe) -> Run:
    """Return the run of an update that ingests ``arrival``."""
    lineage = Lineage(workspace)
    update = f"{len(lineage.entries):04d}-{arrival.name}"
    return Run(workspace.folder, update, lambda: foresee(lineage, update, list(arrival.inputs), recipe))


def foresee(lineage: Lineage, update: str, datasets: Sequence[str], recipe: Recipe) -> Itinerary:
    """Return the stages of an update with expected seconds, from its plan if it has one, else the previous update."""
    names = stage_names(recipe, datasets, not lineage.entries)
    folder = lineage.workspace.update(update)
    if lineage.latest is None:
        return Itinerary(names, {})
    before = lineage.read(lineage.latest.id)
    plan = (read_plan(lineage.workspace, update).get("plan") if folder.exists(PLAN) else None) or {}
    budget, trained = recipe.budget.update_tokens, before.tokens.planned
    grows = budget / trained if budget and trained else 1.0
    return Itinerary(names, expected_seconds(names, before.seconds, grows, plan.get("seconds") or {}))


def stage_names(recipe: Recipe, datasets: Sequence[str], base: bool) -> list[str]:
    """Return the stages of a base or an update, in order, without those that are only known during the run."""
    imports = base and recipe.model.path is not None
    written = 1 if imports and distilled_tokens(recipe, datasets) else 0
    several = len(datasets) + written > 1
    guarded = recipe.ingest.decontaminate.enabled and (recipe.evaluate.tasks or recipe.ingest.decontaminate.tasks)

    def each(stage: str, named: bool = several) -> list[str]:
        return [f"{stage} {name}" if named else stage for name in datasets]

    guards = ["guards"] if guarded and datasets else []
    if imports:
        begun = ["tokenizer", "import", *guards, *each("ingest"), *each("tokenize")]
        return [*begun, *(["distill"] if written else []), "evaluate"]
    first = [*guards, *each("ingest"), *(["tokenizer"] if base else [])]
    chosen = each("select", len(datasets) > 1) if recipe.select.chooses and not base else []
    made = ["initial weights"] if base else []
    return [*first, *each("tokenize"), *chosen, "replay", *made, "train", "anneal", "evaluate"]
