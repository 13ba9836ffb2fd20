"""The function behind ``rewarm adopt``: a model that was tuned from a release becomes a release of its own."""

from collections.abc import Sequence
from pathlib import Path

from rewarm.pipeline.api.releases import person
from rewarm.pipeline.api.reports import write_report
from rewarm.pipeline.api.updates import opened
from rewarm.pipeline.escaping import in_one_line
from rewarm.pipeline.lineage.lease import find_holder
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.status import Status
from rewarm.pipeline.lineage.status import status as summarize
from rewarm.pipeline.monitoring.workspace import observed
from rewarm.pipeline.terminal import Terminal
from rewarm.pipeline.update import adopt as adoption
from rewarm.pipeline.update.anneal_trunk import refuse_unread
from rewarm.pipeline.update.hub import fetch, parse_model
from rewarm.pipeline.update.room import check_room
from rewarm.stages.core.cluster import connected


def adopt(
    uri: str,
    name: str,
    source: str,
    sets: Sequence[str],
    terminal: Terminal,
    *,
    because: str = "",
    by: str = "",
    wait_s: float = 0.0,
) -> tuple[Status, list[str]]:
    """Adopt a tuned model; return the lineage's status, in which it is the last update, and what to know about it."""
    because, by = in_one_line(because), in_one_line(by)
    refuse_unread(sets, adoption.READ)
    workspace, recipe = opened(uri, sets)
    lineage = Lineage(workspace, recipe.gate.trunk)
    before = adoption.find_source(lineage, name)
    wanted = parse_model(source)
    if wanted is None:
        origin = adoption.Origin(Path(source).absolute(), str(Path(source).absolute()), by or person(), because)
    else:
        found = fetch(wanted, terminal)
        origin = adoption.Origin(found.folder, found.repository.address, by or person(), because)
    adoption.check(lineage, before, origin.folder, recipe)
    with workspace.lease(wait_s=wait_s, note=terminal.note):
        terminal.update(f"{workspace.folder}: adopt a model tuned from {before.id}")
        with connected(), observed(workspace, lease=lambda: find_holder(workspace.folder)):
            if (awaits := check_room(recipe.train, trains=False)) is not None:
                terminal.note(awaits)
            done = adoption.adopt(workspace, before.id, origin, recipe, terminal)
        terminal.note(f"report: {write_report(workspace)}")
        status = summarize(Lineage(workspace))
        return status, [*adoption.lines_of(done, done.gate, status.release)]
