"""Functions behind the commands on updates; ``cli/`` parses arguments and prints results."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rewarm.pipeline import demo_text
from rewarm.pipeline.api.reports import refuse_target, write_report
from rewarm.pipeline.lineage.commits import RELEASES, known_commits, write_pointer
from rewarm.pipeline.lineage.lease import find_holder
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.optimizer import drop_optimizers
from rewarm.pipeline.lineage.status import Status
from rewarm.pipeline.lineage.status import status as summarize
from rewarm.pipeline.lineage.verify import refuse_damaged
from rewarm.pipeline.lineage.weights import require_weights
from rewarm.pipeline.lineage.workspace import RECORD, Workspace, refuse_lineage
from rewarm.pipeline.monitoring.workspace import observed
from rewarm.pipeline.plan.memory import model_memory
from rewarm.pipeline.plan.plan import make_plan, require_base
from rewarm.pipeline.recipe.recipe import Recipe, apply_settings, given_names, load_recipe
from rewarm.pipeline.schedule_preview import Preview, preview_schedule
from rewarm.pipeline.terminal import Terminal
from rewarm.pipeline.trace import COVERS, read_ledger, trace_documents
from rewarm.pipeline.update import inputs as base
from rewarm.pipeline.update.anneal_trunk import anneal_trunk, check_settings, find_source, refuse_unread
from rewarm.pipeline.update.disk_space import demands, make_room
from rewarm.pipeline.update.effects import refuse_carried, refuse_without_effect
from rewarm.pipeline.update.expected import run_of
from rewarm.pipeline.update.hub import HUB, fetch, fetch_data, parse_model, pinned
from rewarm.pipeline.update.inputs import Arrival, find, identify_arrival, parse_data, taken_in
from rewarm.pipeline.update.preview import preview
from rewarm.pipeline.update.room import check_room, refuse_here, refuse_on_machine, room_for
from rewarm.pipeline.update.update import discard as drop
from rewarm.pipeline.update.update import update as run_update
from rewarm.stages.core.cluster import connected
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.ingest import find_inputs


def init(
    uri: str,
    recipe_name: str,
    data: Sequence[str],
    source: str | Path | None,
    sets: Sequence[str],
    dry_run: bool,
    terminal: Terminal,
    wait_s: float = 0.0,
) -> Status | dict[str, Any]:
    """Create a workspace and its base; with ``dry_run``, return what would be done."""
    recipe, workspace = load_recipe(recipe_name, sets), Workspace(uri)
    refuse_taken(workspace)
    if source is not None:
        recipe = with_model(recipe, str(source), workspace, terminal)
    refuse_without_effect(load_recipe(recipe_name), recipe, sets)
    paths = parse_data(data)
    recipe = base.with_prompts(recipe, paths)
    if (given_tokenizer := recipe.model.path or recipe.tokenizer.path) is not None:
        recipe = base.with_tokenizer(recipe, Folder(given_tokenizer))
    if not paths and recipe.model.path is None:
        raise UsageError(
            "a base needs data to be pre-trained on (--data NAME=PATH) or a model to import (--from HF_DIR or ORG/NAME)"
        )
    check_model(recipe, sets, terminal)
    base.check_distill(recipe, paths)
    paths, sources = fetch_data(paths, base.begun_sources(Lineage(workspace)), terminal)
    arrival = replace(identify_arrival(paths, Lineage(workspace), recipe.ingest, terminal), sources=sources)
    if recipe.distill.prompts is not None and recipe.distill.prompts not in paths:
        find_inputs([recipe.distill.prompts], recipe.ingest, terminal)
    if dry_run:
        return preview(Lineage(workspace), arrival, recipe, demands(Lineage(workspace), recipe, arrival.inputs))
    make_room(Lineage(workspace), recipe, arrival.inputs, terminal)
    with workspace.lease(wait_s=wait_s, note=terminal.note):
        base.create(workspace, recipe)
        try:
            return carry_out(workspace, arrival, recipe, terminal)
        except UsageError:
            forget_empty(workspace)
            raise


def refuse_taken(workspace: Workspace) -> None:
    """Refuse a folder that has a base or holds other files, before a model or data is fetched."""
    if workspace.folder.exists(RECORD):
        workspace.check_format()
        base.refuse_second_base(Lineage(workspace))
    elif workspace.folder.exists():
        refuse_lineage(workspace.folder)
        if workspace.folder.files():
            raise UsageError(
                f"{workspace.folder}: the folder holds other files; a workspace is made in an empty or a new folder"
            )


def with_model(recipe: Recipe, source: str, workspace: Workspace, terminal: Terminal) -> Recipe:
    """Return the recipe with the model that ``--from`` names: a folder, or a model on the Hub, at a pinned commit."""
    wanted = parse_model(source)
    if wanted is None:
        path = str(Path(source).absolute())
        return recipe.model_copy(update={"model": recipe.model.model_copy(update={"path": path})})
    begun = base.recipe_of(workspace).card if workspace.folder.exists(RECORD) else recipe.card
    if begun.base_model and begun.base_model_revision:
        wanted = pinned(wanted, [f"{HUB}{begun.base_model}@{begun.base_model_revision}"])
    found = fetch(wanted, terminal)
    card = {"base_model": wanted.name, "base_model_revision": found.repository.revision}
    return recipe.model_copy(
        update={
            "model": recipe.model.model_copy(update={"path": str(found.folder)}),
            "card": recipe.card.model_copy(update=card),
        }
    )


def check_model(recipe: Recipe, sets: Sequence[str], terminal: Terminal) -> None:
    """Refuse a model that cannot be the base, and report remarks on one that can."""
    unused = [given for given in sets if given.strip().startswith(("model.type", "model.config"))]
    if recipe.model.path is not None and unused:
        raise UsageError(
            f"--set {unused[0]}: has no effect on an imported model, whose config.json says what it is; leave it out"
        )
    for remark in base.check_model(recipe):
        terminal.note(remark)


def forget_empty(workspace: Workspace) -> None:
    """Delete ``workspace.json`` if the base was refused before anything was created."""
    lineage = Lineage(workspace)
    if not lineage.entries and lineage.unfinished is None:
        workspace.folder.delete(RECORD)


def opened(uri: str, sets: Sequence[str]) -> tuple[Workspace, Recipe]:
    """Open a workspace with ``--set`` applied to its recipe; refuse changes of settings that a lineage fixes."""
    workspace = Workspace.open(uri)
    recipe = base.recipe_of(workspace)
    changed = apply_settings(recipe, sets)
    base.refuse_fixed(recipe, changed)
    return workspace, base.with_tokenizer(changed, workspace.tokenizer)


def given(data: Sequence[str], what: str) -> dict[str, list[str]]:
    """Parse the datasets of ``--data``; raise ``UsageError`` if there are none."""
    paths = parse_data(data)
    if not paths:
        raise UsageError(f"{what} needs data: --data NAME=PATH")
    return paths


def update(
    uri: str, data: Sequence[str], sets: Sequence[str], dry_run: bool, terminal: Terminal, wait_s: float = 0.0
) -> Status | dict[str, Any]:
    """Update the model with one arrival; an arrival that was already processed is skipped."""
    workspace, recipe = opened(uri, sets)
    lineage = Lineage(workspace, recipe.gate.trunk)
    paths, sources = fetch_data(given(data, "an update"), base.begun_sources(lineage), terminal)
    if not dry_run and (before := taken_in(paths, lineage, recipe.ingest, terminal)) is not None:
        terminal.note(f"{before.id}: took in these files already; nothing is left to do")
        finish_records(workspace, terminal, wait_s)
        return status_with(lineage, before.id)
    refuse_without_effect(base.recipe_of(workspace), recipe, sets, lineage)
    refuse_carried(lineage, recipe)
    arrival = replace(identify_arrival(paths, lineage, recipe.ingest, terminal), sources=sources)
    if dry_run:
        return preview(lineage, arrival, recipe, demands(lineage, recipe, arrival.inputs))
    make_room(lineage, recipe, arrival.inputs, terminal)
    with workspace.lease(wait_s=wait_s, note=terminal.note):
        return carry_out(workspace, arrival, recipe, terminal)


def finish_records(workspace: Workspace, terminal: Terminal, wait_s: float = 0.0) -> None:
    """Do what follows a commit, if the command that made the last one was killed before it did."""
    if known_commits(workspace.folder) == len(Lineage(workspace).log.commits):
        return
    with workspace.lease(wait_s=wait_s, note=terminal.note):
        lineage = Lineage(workspace)
        write_pointer(workspace.folder, lineage.log)
        drop_optimizers(lineage)
        path = write_report(workspace)
    terminal.note(f"{RELEASES} was behind the last commit and is written again; report: {path}")


def carry_out(workspace: Workspace, arrival: Arrival, recipe: Recipe, terminal: Terminal) -> Status:
    """Run one update on the cluster and write the report; return the lineage's status."""
    refuse_here(Lineage(workspace), arrival, recipe)
    terminal.update(f"{workspace.folder}: {arrival.name}", run_of(workspace, arrival, recipe))
    with connected(), observed(workspace, lease=lambda: find_holder(workspace.folder)):
        if (awaits := room_for(Lineage(workspace), arrival, recipe)) is not None:
            terminal.note(awaits)
        run_update(workspace, arrival, recipe, terminal)
    path = write_report(workspace)
    terminal.note(f"report: {path}")
    return summarize(Lineage(workspace))


def anneal(uri: str, name: str | None, sets: Sequence[str], terminal: Terminal, wait_s: float = 0.0) -> Status:
    """Anneal a release from a finished trunk; return the lineage's status, in which it is the last update."""
    refuse_unread(sets)
    workspace, recipe = opened(uri, sets)
    lineage = Lineage(workspace, recipe.gate.trunk)
    find_source(lineage, name)
    check_settings(recipe.anneal)
    refuse_on_machine(recipe.train)
    with workspace.lease(wait_s=wait_s, note=terminal.note):
        terminal.update(f"{workspace.folder}: anneal")
        with connected(), observed(workspace, lease=lambda: find_holder(workspace.folder)):
            if (awaits := check_room(recipe.train)) is not None:
                terminal.note(awaits)
            anneal_trunk(workspace, name, recipe, terminal)
        terminal.note(f"report: {write_report(workspace)}")
        return summarize(Lineage(workspace))


def plan(uri: str, data: Sequence[str], sets: Sequence[str], save: Path | None, terminal: Terminal) -> dict[str, Any]:
    """Measure an arrival, choose the settings of its update and predict its cost; write only ``save``."""
    workspace, recipe = opened(uri, sets)
    paths, sources = fetch_data(given(data, "a plan"), {}, terminal)
    lineage = Lineage(workspace, recipe.gate.trunk)
    require_base(lineage)
    refuse_without_effect(base.recipe_of(workspace), recipe, sets, lineage)
    refuse_carried(lineage, recipe)
    if save is not None:
        refuse_target("--save", save)
    refuse_on_machine(recipe.train)
    inputs = find(paths, lineage, recipe.ingest, terminal)
    terminal.update(f"{workspace.folder}: plan of {'+'.join(inputs)}")
    with connected():
        if (awaits := check_room(recipe.train)) is not None:
            terminal.note(awaits)
        made = make_plan(lineage, inputs, recipe, set(given_names(sets)), terminal)
    found = {
        "workspace": str(workspace.folder),
        "datasets": list(inputs),
        **({"sources": sources} if sources else {}),
        "starts_from": f"the trunk of {lineage.head.id}" if lineage.head else None,
        **made.to_json(),
        "notes": [*made.predicted.notes, *base.chat_remarks(lineage.trunk())],
        "disk": [one.to_json() for one in demands(lineage, recipe, inputs, made.storage)],
        "memory": model_memory(lineage.trunk(), recipe.train),
    }
    if save is not None:
        Folder(save.absolute().parent).write_json(save.name, found)
    return found


def status(uri: str, everything: bool = False) -> Status:
    """Return the status of the lineage: its last updates, or all."""
    lineage = Lineage(Workspace.open(uri))
    return summarize(lineage, None) if everything else summarize(lineage)


def status_with(lineage: Lineage, update: str) -> Status:
    """Return the status of the lineage, including an update that may be older than the last ones."""
    found = summarize(lineage)
    if any(one.id == update for one in found.updates):
        return found
    return replace(found, updates=[lineage.read(update), *found.updates], earlier=found.earlier - 1)


def export(uri: str, update_name: str | None, to: Path) -> str:
    """Copy a release's Hugging Face folder after verifying its files and weights; return the path of the copy."""
    workspace = Workspace.open(uri)
    found = Lineage(workspace).find(update_name)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UsageError(f"{to}: exists and is not an empty folder; name a new one")
    if to.exists() and to.samefile(Path.cwd()):
        raise UsageError(f"{to}: is the current folder; name a new one in it")
    if not (home := next(one for one in to.absolute().parents if one.exists())).is_dir():
        raise UsageError(f"{to}: {home} is a file, so there can be no folder in it; name another one")
    release = require_weights(workspace, found.id)
    refuse_damaged(workspace, found)
    target = Folder(to.parent)
    if to.exists():
        to.rmdir()
    with target.writing(to.name) as scratch:
        scratch.mkdir(parents=True)
        for name in release.files():
            with release.fetched(name) as file:
                shutil.copyfile(file, scratch / name)
    return str(to)


def trace(
    uri: str, ids: Sequence[str], text: str | None, update_name: str | None, to: Path | None, terminal: Terminal
) -> dict[str, Any]:
    """Return when documents were trained on: those named, or all that were replayed."""
    lineage = Lineage(Workspace.open(uri))
    if not ids and text is None:
        return {"workspace": uri, "covers": COVERS, "updates": read_ledger(lineage, update_name, terminal, to)}
    if to is not None:
        raise UsageError("--to writes the whole ledger; leave out the documents' ids and --text")
    if text is not None and not text.strip():
        raise UsageError("--text: expected words of a document, found nothing")
    if ids and text is not None:
        raise UsageError("documents are looked for by their ids or by --text, not by both at once")
    found = trace_documents(lineage, ids, text, update_name, terminal)
    return {"workspace": uri, "covers": COVERS, "documents": [asdict(document) for document in found]}


def schedule(
    recipe_name: str, arrivals: int | None, tokens: str | None, imported: bool, sets: Sequence[str], to: Path | None
) -> Preview:
    """Preview a recipe's learning rate over a base and its updates; ``to`` is the path for the page."""
    if to is not None and to.suffix != ".html":
        raise UsageError(f"--to {to}: the plot is written as a page, expected a name that ends in .html")
    if to is not None and to.is_dir():
        raise UsageError(f"--to {to}: is a folder, expected the name of a file")
    found = preview_schedule(recipe_name, load_recipe(recipe_name, sets), arrivals, tokens, imported)
    if to is not None:
        from rewarm.pipeline.schedule_preview import page

        Folder(to.absolute().parent).write(to.name, page(found).encode())
    return found


def discard(uri: str, wait_s: float = 0.0, note: Callable[[str], None] | None = None) -> str | None:
    """Discard the unfinished update; return its id."""
    workspace = Workspace.open(uri)
    with workspace.lease(wait_s=wait_s, note=note):
        lineage = Lineage(workspace)
        name = lineage.unfinished
        if name is not None:
            drop(workspace, lineage, name)
            forget_empty(workspace)
        return name


def demo(directory: Path, sets: Sequence[str], terminal: Terminal, wait_s: float = 0.0) -> tuple[Status, str]:
    """Train a base and two updates on the installed packages' own text: a weak shift, then a strong one."""
    terminal.update("the demo's text")
    files = demo_text.write_corpora(directory / "text", terminal)
    uri = str(directory / "-".join(["workspace", *sets]).replace("/", "_"))
    recipe = load_recipe("tiny", sets)
    steps = (("ml-docs", "replay.share=0.05"), ("code", "replay.share=0.25"))
    with connected(num_cpus=max(2, recipe.train.num_workers)):
        done = set(Lineage(Workspace(uri)).ingested())
        if "sci-docs" not in done:
            init(uri, "tiny", [f"sci-docs={files['sci-docs']}"], None, sets, False, terminal, wait_s)
        for name, share in steps:
            if name not in done:
                update(uri, [f"{name}={files[name]}"], [share, *sets], False, terminal, wait_s)
    return status(uri), write_report(Workspace.open(uri))
