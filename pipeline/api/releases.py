"""Functions behind the commands on releases; ``cli/releases.py`` parses arguments and prints results."""

import getpass
import os
import socket
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rewarm.pipeline.api.reports import write_report
from rewarm.pipeline.compare import Comparison, compare, find_home, find_model
from rewarm.pipeline.escaping import in_one_line
from rewarm.pipeline.lineage.convert import convert as run_convert
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.prune import find_leftovers, find_prunable, refuse_damaged_records
from rewarm.pipeline.lineage.prune import prune as run_prune
from rewarm.pipeline.lineage.push import pack, parse_target
from rewarm.pipeline.lineage.push import push as send
from rewarm.pipeline.lineage.verify import refuse_damaged
from rewarm.pipeline.lineage.verify import verify as run_verify
from rewarm.pipeline.lineage.verify.repair import repair
from rewarm.pipeline.lineage.weights import require_weights
from rewarm.pipeline.lineage.workspace import CARD, CONVERTED_FORMAT, RECORD, Workspace
from rewarm.pipeline.record import REFUSED, UNDECIDED, UpdateRecord
from rewarm.pipeline.redaction import redact
from rewarm.pipeline.terminal import Terminal
from rewarm.pipeline.update.card import make_card
from rewarm.pipeline.update.inputs import recipe_of
from rewarm.stages.core.cluster import connected
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.core.temporary import temporary

USER = "REWARM_USER"  # environment variable: who promotes, if it is not the user of this machine
STATES = {REFUSED: "refused by the gate", UNDECIDED: "held by the gate, undecided"}


def promote(
    uri: str, name: str, because: str, dry_run: bool, terminal: Terminal, by: str = "", wait_s: float = 0.0
) -> dict[str, Any]:
    """Make an update's release current, atomically, after verifying its weights."""
    workspace, because, by = Workspace.open(uri), in_one_line(because), in_one_line(by)
    with nullcontext() if dry_run else workspace.lease(wait_s=wait_s, note=terminal.note):
        lineage = Lineage(workspace)
        update, before = lineage.find(name), lineage.release
        check_release(workspace, update, terminal)
        if not dry_run:
            lineage.promote(update.id, because, by or person())
            write_report(workspace)
        warning = f"{STATES[update.state]}: {why(update)}" if update.state in STATES else ""
        return moved(before, update.id, because, by or person(), dry_run, warning)


def rollback(
    uri: str, because: str, dry_run: bool, terminal: Terminal, by: str = "", wait_s: float = 0.0
) -> dict[str, Any]:
    """Roll back to the previously current release after verifying its weights."""
    workspace, because, by = Workspace.open(uri), in_one_line(because), in_one_line(by)
    with nullcontext() if dry_run else workspace.lease(wait_s=wait_s, note=terminal.note):
        lineage = Lineage(workspace)
        releases, before = lineage.standing(), lineage.release
        if len(releases) < 2:
            raise UsageError(f"{uri}: no release precedes {before or 'the first'}, so there is none to roll back to")
        target = lineage.find(releases[-2])
        check_release(workspace, target, terminal)
        now = target.id if dry_run else lineage.rollback(because, by or person())
        if not dry_run:
            write_report(workspace)
        return moved(before, now, because, by or person(), dry_run, "")


def check_release(workspace: Workspace, update: UpdateRecord, terminal: Terminal) -> None:
    """Refuse a release whose weights are pruned, missing or damaged."""
    require_weights(workspace, update.id)
    terminal.note(f"checking the weights of {update.id}")
    refuse_damaged(workspace, update)


def why(update: UpdateRecord) -> str:
    """Why the gate refused or held an update; empty if it did not."""
    reasons = update.gate.because if update.gate else []
    return "; ".join(reasons) or "it gave no reason" if update.state in STATES else ""


def person() -> str:
    """Who runs this command: ``REWARM_USER``, as a service sets it, else the user and host."""
    if name := os.environ.get(USER):
        return name
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def moved(before: str | None, now: str, because: str, by: str, dry_run: bool, warning: str) -> dict[str, Any]:
    """Return the outcome of a promotion or a rollback."""
    found = {
        "before": before,
        "current": now,
        "changed": before != now,
        "because": because,
        "by": by,
        "dry_run": dry_run,
    }
    return {**found, "warning": warning} if warning else found


def convert(uri: str, wait_s: float = 0.0, note: Callable[[str], None] | None = None) -> list[str]:
    """Convert a workspace of an earlier format; return lines on what was done and what to know."""
    workspace = Workspace(uri)
    if not workspace.folder.exists(RECORD) or workspace.record().get("format") != CONVERTED_FORMAT:
        Workspace.open(uri)
        return [f"{uri}: already has the current format; nothing was changed"]
    with workspace.lease(wait_s=wait_s, note=note):
        return run_convert(workspace)


def verify(uri: str, quick: bool, mend: bool, terminal: Terminal, wait_s: float = 0.0) -> dict[str, Any]:
    """Verify everything in a workspace against its records, and list files that nothing refers to.

    With ``mend``, the log of commits and ``releases.json`` are rebuilt first.
    """
    workspace = Workspace.open(uri)
    if mend:
        with workspace.lease(wait_s=wait_s, note=terminal.note):
            for line in repair(workspace):
                terminal.note(f"repaired: {line}")
    findings = run_verify(workspace, quick, terminal)
    left = []
    if not findings.unread:
        lineage = Lineage(workspace)
        if lineage.unfinished is not None:
            findings.notes.append(f"{lineage.unfinished}: unfinished, so it was not verified")
        left = [asdict(one) for one in find_leftovers(lineage)]
    return {"workspace": str(workspace.folder), **findings.to_json(), "orphans": left}


def prune(uri: str, keep: int, studies: bool, yes: bool, terminal: Terminal, wait_s: float = 0.0) -> dict[str, Any]:
    """Return what can be deleted; with ``yes``, delete it."""
    workspace = Workspace.open(uri)
    if yes:
        with workspace.lease(wait_s=wait_s, note=terminal.note):
            found = run_prune(workspace, keep, studies, terminal, wait_s)
    else:
        refuse_damaged_records(workspace)
        found = find_prunable(Lineage(workspace), keep, studies)
    return {"workspace": str(workspace.folder), "pruned": yes, **found.to_json()}


def push(
    uri: str,
    name: str | None,
    to: str,
    *,
    revision: str | None,
    private: bool,
    message: str | None,
    dry_run: bool,
    terminal: Terminal,
) -> dict[str, Any]:
    """Send a release, the current one by default, to the hub or to a folder; addresses are returned without secrets."""
    workspace = Workspace.open(uri)
    lineage = Lineage(workspace)
    update, target = lineage.find(name), parse_target(to, revision, private)
    release = require_weights(workspace, update.id)
    parcel = pack(release, card_of(lineage, update))
    said = redact(message or f"{update.id}, finished {update.finished}")
    files = [{"file": file, "bytes": parcel.bytes(file)} for file in parcel.files]
    planned = {"update": update.id, "to": redact(target.uri), "message": said, "files": files, "dry_run": dry_run}
    if dry_run:
        return planned
    check_release(workspace, update, terminal)
    sent = send(parcel, target, said, terminal)
    return {**planned, **sent, "url": redact(sent["url"])}


def card_of(lineage: Lineage, update: UpdateRecord) -> str:
    """The card that the release carries, or, for one made without, the one it would carry."""
    model = lineage.workspace.update(update.id) / "release" / "model"
    if model.exists(CARD):
        return model.read(CARD).decode()
    recipe = recipe_of(lineage.workspace)
    return make_card(lineage.workspace, lineage.entries, update, recipe.card, recipe.model.path is not None)


def comparison(a: str, b: str, on: str | None, scratch: Path | None, terminal: Terminal) -> Comparison:
    """Compare two releases or models; writes only to ``scratch``, or to a temporary folder that is then removed."""
    models = find_model(a, terminal), find_model(b, terminal)
    if models[0].folder.uri == models[1].folder.uri:
        raise UsageError(f"{a} and {b} are the same model ({models[0].folder})")
    home = find_home(models, on)
    if scratch is not None and scratch.exists() and any(scratch.iterdir()):
        raise UsageError(f"--scratch {scratch}: expected an empty or a new folder")
    with temporary("compare") as own:
        place = Folder(scratch.absolute() if scratch is not None else own)
        terminal.update(f"{models[1].title} against {models[0].title}")
        with connected():
            return compare(*models, home, place, terminal)
