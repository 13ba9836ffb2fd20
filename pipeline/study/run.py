"""Runner of a study on Ray Tune: the arrival's data is prepared once, then every trial is a Ray Train run.

Finished trials are known by their files: a killed study resumes with the trials that have no result, each from its
last checkpoint. Running the same study with a larger grid adds trials to it.
"""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import Any

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.weights import is_pruned
from rewarm.pipeline.lineage.workspace import TRIAL, Workspace
from rewarm.pipeline.plan.plan import resolve_auto
from rewarm.pipeline.plan.studied import PLAN
from rewarm.pipeline.recipe.recipe import Recipe
from rewarm.pipeline.shift.objective import mean_loss
from rewarm.pipeline.study.grid import BASE, Trial, meaning
from rewarm.pipeline.study.results import BEFORE, Study, collect
from rewarm.pipeline.study.settings import Options
from rewarm.pipeline.study.trial import StudyWorkspace, Task, run_trial
from rewarm.pipeline.update.context import UpdateContext
from rewarm.pipeline.update.data_steps import run_ingest, run_tokenize, run_tokenizer
from rewarm.pipeline.update.inputs import SOURCES, Arrival, recipe_of
from rewarm.pipeline.update.model_steps import conditions, measure
from rewarm.pipeline.update.recipe_change import write_recipe
from rewarm.pipeline.update.runner import Runner, Step, refuse_changes
from rewarm.pipeline.update.update import check
from rewarm.stages import evaluate
from rewarm.stages.core.digests import now
from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.progress import Announcer
from rewarm.stages.core.resources import find_room
from rewarm.stages.core.shapes import understood
from rewarm.stages.train import model_places, placed

LOOK_INTERVAL = 2.0  # seconds between two looks for finished trials
GRACE = 25  # per cent of a trial's steps, before it may be stopped early


def run(
    workspace: StudyWorkspace,
    arrival: Arrival,
    recipe: Recipe,
    trials: list[Trial],
    options: Options,
    progress: Announcer,
) -> Study:
    """Run the unfinished trials and collect the results of all; Ray must be initialised.

    Raises:
        UsageError: another arrival or head under the same study's name.
        StageError: trials failed (their logs say why); the others' results stay.
    """
    begin(workspace, arrival, recipe, trials, options)
    lineage = Lineage(workspace, recipe.gate.trunk)
    trials = with_meanings(trials, recipe, lineage)
    for trial in trials:
        if trial.meaning and trial.seed == trials[0].seed:
            progress.note(f"{trial.label}: {trial.meaning}")
    if options.from_base:
        require_only_base(workspace, lineage)
    recipe, _ = resolve_auto(lineage, arrival.inputs, recipe, None, progress)
    context = UpdateContext(workspace, lineage, arrival, recipe, "data", Runner(progress))
    tokenizer = run_tokenizer(context)
    for name in arrival.inputs:
        run_tokenize(context, name, run_ingest(context, name), tokenizer)
    with closing(context):
        run_before(workspace, context)
    bases = base_trials(trials) if options.from_base else []
    for wanted in (bases, trials):
        pending = [trial for trial in wanted if not workspace.trial(trial.id).exists(TRIAL)]
        if len(pending) < len(wanted):
            progress.note(f"{len(wanted) - len(pending)} of {len(wanted)} trials were done before")
        if pending:
            tasks = [task_of(workspace, arrival, recipe, trial, options) for trial in pending]
            tune(workspace, tasks, recipe, options, progress)
    return collect(workspace, trials, options.old_weight, recipe.plan.arrival_cost)


def run_before(workspace: StudyWorkspace, context: UpdateContext) -> None:
    """Measure the current release on all datasets: the row that shows what any update starts with."""
    current = context.compared_with()
    if current is None:
        return
    if is_pruned(workspace.update(current.id), "release"):
        context.runner.progress.note(f"the row before the update is left out: the weights of {current.id} were pruned")
        return
    settings, out = context.recipe.evaluate, workspace.study / BEFORE
    names = [*context.lineage.datasets(), *context.arrival.inputs]
    models = {"release": workspace.update(current.id) / "release" / "model"}
    step = Step(
        "before the update",
        lambda: measure(context, models, names, out, settings),
        evaluate.EvaluateOutcome,
        out,
        conditions(context, settings),
        {"release": current.weights.release, "datasets": names},
    )
    context.runner.run(step)


def with_meanings(trials: list[Trial], recipe: Recipe, lineage: Lineage) -> list[Trial]:
    """Return the trials, with remarks on baselines that differ from the papers' on this trunk."""
    followed = lineage.followed()
    return [
        replace(trial, meaning=meaning(trial.kind, trial.recipe(recipe), followed, lineage.position))
        for trial in trials
    ]


def base_trials(trials: list[Trial]) -> list[Trial]:
    """The bases that further seeds start from: trained as the lineage's was, from weights and an order of their own."""
    seeds = dict.fromkeys(trial.seed for trial in trials)
    return [Trial(BASE, BASE, {}, seed) for seed in list(seeds)[1:]]


def require_only_base(workspace: StudyWorkspace, lineage: Lineage) -> None:
    """Raise ``UsageError`` if a base of another seed cannot represent what the lineage has trained."""
    if len(lineage.learned) != 1 or not lineage.learned[0].facts.schedule:
        raise UsageError(
            f"{workspace.folder}: --from-base trains the base anew for each further seed, and this lineage has "
            f"{'an imported base' if not lineage.learned[0].facts.schedule else 'updates after it'}; leave it out"
        )


def begin(workspace: StudyWorkspace, arrival: Arrival, recipe: Recipe, trials: list[Trial], options: Options) -> None:
    """Write ``study.json``; an existing one must have the same data, trunk and recipe."""
    lineage = Lineage(workspace, recipe.gate.trunk)
    if lineage.head is None:
        raise UsageError(f"{workspace.folder}: the workspace has no base yet; finish `rewarm init` before a study")
    if recipe.model.path is not None and (scratch := sorted({trial.kind for trial in trials if trial.scratch})):
        raise UsageError(
            f"--baselines {', '.join(scratch)}: from scratch, but the base was imported: its pre-training cannot be "
            "repeated here"
        )
    for trial in trials:
        if not trial.scratch:
            check(workspace, lineage, list(arrival.inputs), trial.recipe(recipe))
    plan = {"arrival": arrival.digests, "head": lineage.head.id, "recipe": recipe.identity()}
    if workspace.study.exists(PLAN):
        with understood(f"{workspace.study}/{PLAN}"):
            begun_with = {name: workspace.study.read_json(PLAN)[name] for name in plan}
        refuse_changes(
            begun_with,
            plan,
            f"{workspace.study}: a study of this name was begun with other data, another head or another recipe "
            "(give this one its own with --name)",
        )
    shown = [trial.to_json() for trial in trials]
    sources = {SOURCES: arrival.sources} if arrival.sources else {}
    begun = {**plan, **sources, "trials": shown, "old_weight": options.old_weight, "started": now()}
    workspace.study.write_json(PLAN, begun)


def task_of(workspace: StudyWorkspace, arrival: Arrival, recipe: Recipe, trial: Trial, options: Options) -> Task:
    """Return the input of a trial's process."""
    return Task(
        workspace.folder.uri,
        workspace.study.name,
        arrival.digests,
        recipe.model_dump(mode="json"),
        trial,
        options.old_weight,
        Trial(BASE, BASE, {}, trial.seed).id if options.from_base and starts_anew(trial, recipe) else "",
    )


def starts_anew(trial: Trial, recipe: Recipe) -> bool:
    """Return whether a trial starts from a base of its own seed (``--from-base``): all but those of the first seed."""
    return trial.kind != BASE and not trial.scratch and trial.seed != recipe.seed


def tune(workspace: StudyWorkspace, tasks: list[Task], recipe: Recipe, options: Options, progress: Announcer) -> None:
    """Run the tasks as one Tune experiment; a trial that Tune stopped early has a result marked as such."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # it would end the study as if all trials were done
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "16")
    os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
    from ray import tune as ray_tune

    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    for name in ("ray.tune.tune", "ray.tune.execution.tune_controller", "ray.tune.experiment.trial"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    by_id = {task.trial.id: task for task in tasks}
    side_by_side = options.concurrent or places(recipe)
    progress.note(f"{len(tasks)} trials, {min(side_by_side, len(tasks))} side by side")
    progress.begin("study", len(tasks), "trials")

    def trainable(config: dict[str, Any]) -> None:
        task = by_id[config["trial"]]
        run_trial(task, (watcher(task),))

    filesystem, place = workspace.study.filesystem()
    tuner = ray_tune.Tuner(
        ray_tune.with_resources(trainable, {"memory": 1}),  # its workers hold the CPUs; Tune wants something held
        param_space={"trial": ray_tune.grid_search(list(by_id))},
        tune_config=ray_tune.TuneConfig(
            max_concurrent_trials=side_by_side, scheduler=scheduler(options), reuse_actors=False
        ),
        run_config=ray_tune.RunConfig(
            name="tune",
            storage_path=place,
            storage_filesystem=None if workspace.study.is_local else filesystem,
            verbose=0,
            failure_config=ray_tune.FailureConfig(max_failures=1),
        ),
    )
    workspace.study.delete("tune")  # what Tune remembers of an earlier attempt; our own files say what is done
    with shown(workspace, list(by_id), progress):
        results = tuner.fit()
    failed = []
    for number in range(len(results)):
        result = results[number]
        name = str((result.config or {}).get("trial", ""))
        if not name:  # it ended before Tune had given it its settings: a node that went, no memory
            failed.append(f"a trial that never began: {str(result.error).strip().splitlines()[-1]}")
            continue
        folder = workspace.trial(name)
        if folder.exists(TRIAL):
            continue
        if result.error is not None:
            failed.append(f"{name}: {str(result.error).strip().splitlines()[-1]}")
        else:
            last = {key: value for key, value in (result.metrics or {}).items() if isinstance(value, int | float)}
            trial = by_id[name].trial.to_json()
            folder.write_json(TRIAL, {"state": "stopped early", "trial": trial, "last": last})
    if failed:
        listing = "\n  ".join(failed)
        raise StageError(
            f"{workspace.study}: {len(failed)} of {len(tasks)} trials failed, the others' results stay; the same "
            f"command tries them again (each has its log, trials/…/log.txt):\n  {listing}"
        )


def places(recipe: Recipe) -> int:
    """Return how many trials fit on the cluster at the same time."""
    settings, _, on_gpu = placed(recipe.train)
    if on_gpu:
        return max(1, model_places(recipe.train)[1] // settings.num_workers)
    return max(1, int(sum(find_room().cpus) // (settings.num_workers * (recipe.train.cpus_per_worker or 1))))


def scheduler(options: Options) -> Any:
    """Tune's scheduler for the way of early stopping that was asked for; None runs every trial to its end.

    Trials are compared at the same part of their own length, so that a longer one is not stopped for being longer.
    """
    from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule

    compared: dict[str, Any] = {"time_attr": "percent", "metric": "score", "mode": "min"}
    if options.early_stop == "asha":
        # It looks at a quarter and at half; a trial that is through its training is not ended: the anneal is to come.
        return AsyncHyperBandScheduler(
            max_t=99, grace_period=GRACE, reduction_factor=2, stop_last_trials=False, **compared
        )
    if options.early_stop == "median":
        return MedianStoppingRule(grace_period=GRACE, **compared)
    return None


def watcher(task: Task) -> Any:
    """A Ray Train callback that tells Tune the score of a trial's last look at validation, at every checkpoint."""
    from ray.tune.integration.ray_train import TuneReportCallback

    class Score(TuneReportCallback):
        """Score that Tune's schedulers compare; checkpoints remain those of Ray Train."""

        def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
            """Pass the first worker's metrics on."""
            first = metrics[0]
            told = {"score": mean_loss(first["losses"], list(task.digests), task.old_weight), "loss": first["loss"]}
            super().after_report(run_context, [{**told, "percent": first["percent"], "step": first["step"]}], None)

    return Score()  # type: ignore[no-untyped-call]


@contextmanager
def shown(workspace: StudyWorkspace, names: list[str], progress: Announcer) -> Iterator[None]:
    """Move the study's progress as trials leave their results. Tune stores its callbacks, and a terminal can't be."""
    left, stop = list(names), threading.Event()

    def look() -> None:
        for name in [name for name in left if workspace.trial(name).exists(TRIAL)]:
            left.remove(name)
            progress.advance(1)
            progress.note(f"{name}: finished")

    def watch() -> None:
        while not stop.wait(LOOK_INTERVAL):
            with suppress(OSError):  # a bucket that does not answer right now
                look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        look()


def apply_best(workspace: Workspace, study: Study, by: str) -> dict[str, Any]:
    """Write the settings of the study's best row into the workspace's recipe, on behalf of ``by``; returns them."""
    if study.best is None:
        raise UsageError("--apply: the study has no finished row that an update could follow")
    chosen: dict[str, Any] = study.best.settings
    before = recipe_of(workspace)
    recipe = Trial(study.best.name, "row", chosen, before.seed).recipe(before)
    write_recipe(workspace, recipe, by, f"the best row of a study: {study.best.name}")
    return chosen
