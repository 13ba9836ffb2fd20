"""Commands on releases: promote, roll back, adopt, verify, convert, prune, push; also prints the gate's verdict."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from rewarm.pipeline.cli.app import app, print_json, show
from rewarm.pipeline.cli.options import DryRunOption, JsonOption, SetOption, WaitOption, WorkspaceArgument
from rewarm.pipeline.terminal import Terminal, echo, result_console, short
from rewarm.stages.core.errors import RefusedError, RewarmError, UndecidedError

if TYPE_CHECKING:
    from rewarm.pipeline.gate.verdict import Check, Verdict
    from rewarm.pipeline.record import State, UpdateRecord

PANEL = "Releases"
# State of a finished update whose release was not promoted → error of its command.
ENDS: "dict[State, tuple[type[RewarmError], str]]" = {
    "refused": (RefusedError, "refused by the gate; the previous release stays current"),
    "undecided": (UndecidedError, "held because the gate could not decide; `rewarm promote` makes it current"),
}
KEEP = 3  # releases that `prune` keeps: the current one, the one to roll back to, and one more

UpdateArgument = Annotated[str, typer.Argument(metavar="UPDATE", help="Id, number or arrival of the update.")]
ByOption = Annotated[
    str, typer.Option("--by", metavar="NAME", help="Who decides; by default REWARM_USER, else USER@HOST.")
]
BecauseOption = Annotated[str, typer.Option("--because", metavar="TEXT", help="Reason, recorded in the history.")]


@app.command(rich_help_panel=PANEL)
def promote(
    workspace: WorkspaceArgument,
    update: UpdateArgument,
    because: BecauseOption = "",
    by: ByOption = "",
    wait: WaitOption = 0.0,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make the release of an update current, atomically, after verifying its weights.

    Releases that the gate refused or held can also be promoted. With gate.trunk=before, such an update is then also
    the start of the next one, unless a later update was released; otherwise the start does not change.
    """
    from rewarm.pipeline.api import releases as release_actions

    with Terminal(quiet=as_json) as terminal:
        show_move(release_actions.promote(workspace, update, because, dry_run, terminal, by, wait), as_json)


@app.command(rich_help_panel=PANEL)
def rollback(
    workspace: WorkspaceArgument,
    because: BecauseOption = "",
    by: ByOption = "",
    wait: WaitOption = 0.0,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Roll back to the previously current release, atomically, after verifying its weights."""
    from rewarm.pipeline.api import releases as release_actions

    with Terminal(quiet=as_json) as terminal:
        show_move(release_actions.rollback(workspace, because, dry_run, terminal, by, wait), as_json)


def show_move(found: dict[str, Any], as_json: bool) -> None:
    """Print the previous and the current release."""
    if as_json:
        print_json(found)
        return
    if "warning" in found:
        echo(f"{found['current']} was {found['warning']}", err=True)
    becomes = "would be" if found["dry_run"] else "is now"
    if found["changed"]:
        by = f" (by {found['by']})" if found["by"] else ""
        echo(f"current release: was {found['before'] or 'none'}, {becomes} {found['current']}{by}")
    else:
        echo(f"current release: {found['current']}, unchanged")


@app.command(rich_help_panel=PANEL)
def adopt(
    workspace: WorkspaceArgument,
    update: UpdateArgument,
    source: Annotated[
        str,
        typer.Option("--from", metavar="HF_DIR|ORG/NAME", help="The tuned model, a folder or a model on the Hub."),
    ],
    because: BecauseOption = "",
    by: ByOption = "",
    sets: SetOption = None,
    wait: WaitOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Take a model that was tuned from the release of an update as a release on a branch of its own.

    It is checked like an import, measured on the lineage's validation documents, and judged by the gate against the
    release that it was tuned from. The current release and the trunk do not change.

    Exits with 3 if the gate refuses the release, and with 4 if it is held because the gate could not decide.
    """
    from rewarm.pipeline.api.adopt import adopt as run_adopt

    with Terminal() as terminal:
        found, lines = run_adopt(workspace, update, source, sets or [], terminal, because=because, by=by, wait_s=wait)
    show(found, as_json=as_json)
    finish(found.updates[-1], lines, as_json)


def finish(done: "UpdateRecord", lines: Iterable[str], as_json: bool) -> None:
    """Print the verdict on a finished update and what to know about it; raise the error of one that was held back."""
    for line in () if as_json else (*verdict_lines(done.gate, done.id), *lines):
        echo(line)
    if done.state in ENDS:
        kind, reason = ENDS[done.state]
        raise kind(f"{done.id}: {reason}")


@app.command(rich_help_panel=PANEL)
def verify(
    workspace: WorkspaceArgument,
    quick: Annotated[bool, typer.Option("--quick", help="Skip the digests of the weights.")] = False,
    mend: Annotated[
        bool, typer.Option("--repair", help="First rebuild lost or damaged commits and releases.json from records.")
    ] = False,
    wait: WaitOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Verify every document, token, weight and record against the digest taken when it was written.

    Writes nothing unless --repair is given, which rebuilds the log of commits and the pointer to the current release.

    The exit code is 1 if there is a problem. Orphans (files that nothing refers to) are listed but are not a problem.
    """
    from rewarm.pipeline.api import releases as release_actions

    with Terminal(quiet=as_json) as terminal:
        found = release_actions.verify(workspace, quick, mend, terminal, wait)
    if as_json:
        print_json(found)
    else:
        show_verified(found)
    if not found["ok"]:
        raise typer.Exit(1)


@app.command(rich_help_panel=PANEL)
def convert(workspace: WorkspaceArgument, wait: WaitOption = 0.0) -> None:
    """Convert a workspace of an earlier rewarm to the current format; only its records change."""
    from rewarm.pipeline.api import releases as release_actions

    for line in release_actions.convert(workspace, wait, partial(echo, err=True)):
        echo(line)


def show_verified(found: dict[str, Any]) -> None:
    """Print the problems with their remedies, the orphans, and counts of what was verified."""
    for problem in found["problems"]:
        echo(f"{problem['file']}\n  expected  {problem['expected']}\n  found     {problem['found']}")
        echo(f"  to do     {problem['remedy']}")
    if found["orphans"]:
        console = result_console()
        console.print(
            size_table("Orphans: nothing refers to them; `rewarm prune` deletes all but unknown ones", found["orphans"])
        )
    for note in found["notes"]:
        echo(note)
    checked = ", ".join(f"{count:,} {kind}" for kind, count in found["checked"].items()) or "nothing"
    count = len(found["problems"])
    verdict = "everything matches its records" if found["ok"] else f"{count} problem{'s' if count > 1 else ''}"
    echo(f"{found['workspace']}: {verdict} (checked: {checked})")


@app.command(rich_help_panel=PANEL)
def prune(
    workspace: WorkspaceArgument,
    keep: Annotated[
        int, typer.Option("--keep", metavar="N", min=1, help="Number of releases to keep, including the current one.")
    ] = KEEP,
    studies: Annotated[
        bool, typer.Option("--studies", help="Also delete the models of finished study trials.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; by default only show what would be deleted.")] = False,
    wait: WaitOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Delete weights that are no longer needed, and leftovers of killed commands. A dry run unless --yes is given.

    Records, data, the current release and the starting point of the next update are always kept.
    """
    from rewarm.pipeline.api import releases as release_actions

    with Terminal(quiet=as_json) as terminal:
        found = release_actions.prune(workspace, keep, studies, yes, terminal, wait)
    if as_json:
        print_json(found)
        return
    console = result_console()
    if found["prune"]:
        console.print(size_table("Deleted" if yes else "Would be deleted", found["prune"]))
    table = Table("kept weights", "because", title_justify="left")
    for name, because in found["keep"].items():
        table.add_row(name, because)
    console.print(table)
    outcome = "deleted" if yes else "can be deleted: run the same command with --yes"
    echo(f"{short(found['bytes'])}B {outcome}" if found["prune"] else "nothing to delete")


def size_table(title: str, rows: list[dict[str, Any]]) -> Table:
    """Return a table of paths with their sizes."""
    table = Table(title=title, title_justify="left")
    table.add_column("path", no_wrap=True)
    table.add_column("kind")
    table.add_column("bytes", justify="right")
    table.add_column("because")
    for row in rows:
        table.add_row(
            Text(row["path"]), row["kind"], short(row["bytes"]), row.get("because", "no release or update needs them")
        )
    return table


@app.command(rich_help_panel=PANEL)
def push(
    workspace: WorkspaceArgument,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="TARGET", help="A Hub repository (hf://ORG/NAME), or a folder (path, s3://, gs://)."
        ),
    ],
    update: Annotated[
        str | None,
        typer.Argument(metavar="UPDATE", help="Id, number or arrival of the update; by default the current release."),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="If the repository is created now, make it private.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="BRANCH", help="Branch of the repository; by default main.")
    ] = None,
    message: Annotated[str | None, typer.Option("--message", metavar="TEXT", help="Commit message.")] = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Upload a release with its model card to a Hugging Face Hub repository, or copy it to a folder.

    The token of the Hub is read from HF_TOKEN, its address from HF_ENDPOINT. Files pushed before are replaced.
    """
    from rewarm.pipeline.api import releases as release_actions

    with Terminal(quiet=as_json) as terminal:
        found = release_actions.push(
            workspace,
            update,
            to,
            revision=revision,
            private=private,
            message=message,
            dry_run=dry_run,
            terminal=terminal,
        )
    if as_json or dry_run:
        print_json(found)
    else:
        echo(f"{found['update']}: {found['url']}")


OUTCOMES = {"passed": "passed", "refused": "REFUSED", "held": "HELD, undecided"}


def verdict_lines(gate: "Verdict | None", update: str = "") -> Iterator[str]:
    """Yield the lines of a verdict: the outcome with its reasons, then the compared losses."""
    if gate is None:
        return
    yield f"gate: {OUTCOMES[gate.outcome]}, against {gate.against}"
    for reason in gate.because:
        yield f"  {reason}"
    for check in gate.checks:
        if check.kind in ("loss", "best") and check.passed:
            yield f"  {check.name} ({check.role}): {check.because}, nats per token, {seen(check)}"
    if gate.outcome == "held":
        yield f"  promote it with `rewarm promote WORKSPACE {update or 'UPDATE'}`, or do nothing to keep it held"


def seen(check: "Check") -> str:
    """Return the number of documents behind a check, and the smallest change that it detects."""
    documents = f"{check.n} documents"
    if check.units != check.n:
        documents += f" of {check.units} sites"
    return documents if check.detectable is None else f"{documents}, detects {check.detectable:.2g}"
