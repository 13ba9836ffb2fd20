"""The function behind ``rewarm study``: many trials of one arrival, their results, and the study's page."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rewarm.pipeline.api.releases import person
from rewarm.pipeline.api.updates import given, opened
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.plan.studied import PLAN, RESULTS
from rewarm.pipeline.recipe.recipe import Recipe
from rewarm.pipeline.study.forecast import as_json as forecast_json
from rewarm.pipeline.study.forecast import outlook, outlook_lines
from rewarm.pipeline.study.grid import Trial, parse_grid, parse_rows, trials
from rewarm.pipeline.study.results import Study
from rewarm.pipeline.study.run import apply_best
from rewarm.pipeline.study.run import run as run_study
from rewarm.pipeline.study.settings import Options
from rewarm.pipeline.study.table import PAGE
from rewarm.pipeline.study.table import page as study_page
from rewarm.pipeline.study.trial import StudyWorkspace
from rewarm.pipeline.terminal import Terminal
from rewarm.pipeline.update.effects import refuse_carried
from rewarm.pipeline.update.hub import fetch_data
from rewarm.pipeline.update.inputs import SOURCES, identify_arrival
from rewarm.pipeline.update.room import check_room, refuse_on_machine
from rewarm.stages.core.cluster import connected
from rewarm.stages.core.shapes import understood

QUIET_STUDY = ("evaluate.tasks=[]", "evaluate.task_documents=0", "evaluate.samples=0")  # losses, unless --set says more


@dataclass(frozen=True)
class StudyRequest:
    """A study as a user asks for it, in the words of the command line."""

    data: Sequence[str]
    grid: Sequence[str] = ()
    rows: Sequence[str] = ()
    baselines: Sequence[str] = ()
    seeds: int = 1
    name: str | None = None
    options: Options = field(default_factory=Options)
    forecast_tokens: float | None = None
    sets: Sequence[str] = ()
    apply: bool = False  # write the best row's settings to the workspace's recipe


def study(
    uri: str, asked: StudyRequest, dry_run: bool, terminal: Terminal, wait_s: float = 0.0
) -> tuple[Study | None, dict[str, Any]]:
    """Train one arrival under many settings without promoting any; return the study, and its results as JSON types.

    A dry run returns None and the trials that would run.
    """
    home, recipe = opened(uri, [*QUIET_STUDY, *asked.sets])
    recipe = measuring_all(recipe, len(Lineage(home).datasets()), terminal)
    wanted = given(asked.data, "a study")
    workspace = StudyWorkspace(uri, asked.name or "+".join(wanted), list(wanted))
    paths, sources = fetch_data(wanted, begun_sources(workspace), terminal)
    tried = trials(
        parse_grid(asked.grid),
        parse_rows(asked.rows),
        asked.baselines,
        range(recipe.seed, recipe.seed + asked.seeds),
    )
    lineage = Lineage(workspace, recipe.gate.trunk)
    arrival = replace(identify_arrival(paths, lineage, recipe.ingest, terminal), sources=sources)
    for trial in tried:
        asked_for = trial.recipe(recipe)  # a setting that cannot be is refused before anything starts
        refuse_on_machine(asked_for.train)
        if trial.kind in ("grid", "row"):
            refuse_carried(lineage, asked_for)
    if dry_run:
        check_room(recipe.train)
        return None, {"study": str(workspace.study), "trials": [trial.to_json() for trial in tried]}
    terminal.update(f"{workspace.study}: {len(tried)} trials")
    with workspace.lease(wait_s=wait_s, note=terminal.note), connected():
        found = run_study(workspace, arrival, recipe, tried, asked.options, terminal)
    if asked.apply:
        with home.lease(wait_s=wait_s, note=terminal.note):
            chosen = apply_best(home, found, person())
        terminal.note(f"the recipe of {uri} now has {chosen}" + (f"; {found.compute}" if found.compute else ""))
    made = write_study(workspace, tried, found, asked.forecast_tokens)
    for line in made["forecast"]["lines"]:
        terminal.note(line)
    terminal.note(f"page: {(workspace.study / PAGE).uri}")
    return found, made


def measuring_all(recipe: Recipe, earlier: int, terminal: Terminal) -> Recipe:
    """Return the recipe without a sample of the ``earlier`` datasets, which would differ from trial to trial."""
    if recipe.evaluate.earlier_datasets is None or recipe.evaluate.earlier_datasets >= earlier:
        return recipe
    terminal.note("evaluate.earlier_datasets is ignored: a study measures every trial on all earlier datasets")
    return recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"earlier_datasets": None})})


def begun_sources(workspace: StudyWorkspace) -> dict[str, list[str]]:
    """Return the addresses on the Hub, with their commits, that a study of this name was begun with, by dataset."""
    with understood(f"{workspace.study}/{PLAN}"):
        return dict(workspace.study.read_json(PLAN).get(SOURCES, {})) if workspace.study.exists(PLAN) else {}


def write_study(
    workspace: StudyWorkspace, tried: Sequence[Trial], found: Study, tokens: float | None
) -> dict[str, Any]:
    """Write a study's results and page to its folder; return the results as JSON types."""
    forecast, why = outlook(workspace, tried, found, tokens)
    lines = outlook_lines(forecast, why)
    sources = begun_sources(workspace)
    made = {
        **found.to_json(),
        **({SOURCES: sources} if sources else {}),
        "forecast": {**forecast_json(forecast, why), "lines": lines},
    }
    workspace.study.write_json(RESULTS, made)
    workspace.study.write(PAGE, study_page(found, lines).encode())
    return made
