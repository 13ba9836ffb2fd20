"""The commands on releases: which one is current, whether they are whole, where they go, and what can be deleted.

A verdict in a few lines, for the terminal.
"""

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from rewarm.pipeline.api import releases as release_actions
from rewarm.pipeline.cli.app import app, print_json
from rewarm.pipeline.cli.options import DryRunOption, JsonOption, WaitOption, WorkspaceArgument
from rewarm.pipeline.gate.verdict import Check, Verdict
from rewarm.pipeline.lineage.prune import KEEP
from rewarm.pipeline.terminal import Terminal, echo, result_console, short

PANEL = "Releases"

UpdateArgument = Annotated[str, typer.Argument(metavar="UPDATE", help="An update's id or number.")]
ByOption = Annotated[
    str, typer.Option("--by", metavar="NAME", help="Who decides it; by default REWARM_USER, else USER@HOST.")
]
BecauseOption = Annotated[str, typer.Option("--because", metavar="TEXT", help="Why; it stays in the history.")]


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
    """Make an update's release the current one, in one step, after a check of its weights.

    A release that the gate refused or holds, undecided, can be promoted too. What the next update starts from does
    not change.
    """
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
    """Go back to the release that was current before, in one step, after a check of its weights."""
    with Terminal(quiet=as_json) as terminal:
        show_move(release_actions.rollback(workspace, because, dry_run, terminal, by, wait), as_json)


def show_move(found: dict[str, Any], as_json: bool) -> None:
    """Which release was current, and which one is now."""
    if as_json:
        print_json(found)
        return
    if "warning" in found:
        echo(f"{found['current']} was {found['warning']}", err=True)
    says = "would be" if found["dry_run"] else "is now"
    if found["changed"]:
        by = f" (by {found['by']})" if found["by"] else ""
        echo(f"current release: was {found['before'] or 'none'}, {says} {found['current']}{by}")
    else:
        echo(f"current release: {found['current']}, as before")


@app.command(rich_help_panel=PANEL)
def verify(
    workspace: WorkspaceArgument,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the digests of the weights.")] = False,
    mend: Annotated[
        bool, typer.Option("--repair", help="First rebuild lost or damaged commits and releases.json from the records.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check every document, token, weight and record against the digests of when it was made.

    Writes nothing, unless --repair is given: it rebuilds the log of commits and the pointer to the current release.

    Exit code 1 where something is wrong. Orphans, which nothing refers to, are listed and are no problem.
    """
    with Terminal(quiet=as_json) as terminal:
        found = release_actions.verify(workspace, quick, mend, terminal)
    if as_json:
        print_json(found)
    else:
        show_verified(found)
    if not found["ok"]:
        raise typer.Exit(1)


@app.command(rich_help_panel=PANEL)
def convert(workspace: WorkspaceArgument) -> None:
    """Give a workspace that an earlier rewarm made today's format; only its records change."""
    for line in release_actions.convert(workspace):
        echo(line)


def show_verified(found: dict[str, Any]) -> None:
    """Problems with what to do, orphans, and what was looked at."""
    for problem in found["problems"]:
        echo(f"{problem['file']}\n  expected  {problem['expected']}\n  found     {problem['found']}")
        echo(f"  to do     {problem['remedy']}")
    if found["orphans"]:
        console = result_console()
        console.print(
            size_table("Orphans: nothing refers to them; `rewarm prune` deletes all but the unknown", found["orphans"])
        )
    for note in found["notes"]:
        echo(note)
    looked = ", ".join(f"{count:,} {what}" for what, count in found["checked"].items()) or "nothing"
    count = len(found["problems"])
    verdict = "everything is as its records say" if found["ok"] else f"{count} problem{'s' if count > 1 else ''}"
    echo(f"{found['workspace']}: {verdict} ({looked})")


@app.command(rich_help_panel=PANEL)
def prune(
    workspace: WorkspaceArgument,
    keep: Annotated[
        int, typer.Option("--keep", metavar="N", min=1, help="Releases to keep, the current one among them.")
    ] = KEEP,
    studies: Annotated[bool, typer.Option("--studies", help="Also the models of studies' finished trials.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only say what would go.")] = False,
    wait: WaitOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Delete weights that nothing needs any more, and what killed commands left. First a dry run: add --yes to delete.

    Records, data, the current release and what the next update starts from always stay.
    """
    with Terminal(quiet=as_json) as terminal:
        found = release_actions.prune(workspace, keep, studies, yes, terminal, wait)
    if as_json:
        print_json(found)
        return
    console = result_console()
    if found["prune"]:
        console.print(size_table("Deleted" if yes else "Would be deleted", found["prune"]))
    table = Table("weights that stay", "because", title_justify="left")
    for name, because in found["keep"].items():
        table.add_row(name, because)
    console.print(table)
    says = "deleted" if yes else "can be deleted: the same command with --yes"
    echo(f"{short(found['bytes'])}B {says}" if found["prune"] else "nothing to delete")


def size_table(title: str, rows: list[dict[str, Any]]) -> Table:
    """Paths with their sizes."""
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
            "--to", metavar="TARGET", help="hf://ORG/NAME, a repository of the hub; or a folder, s3://, gs://."
        ),
    ],
    update: Annotated[
        str | None, typer.Argument(metavar="[UPDATE]", help="An update's id or number; the current release by default.")
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Where the repository is made now: only for its owner.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="BRANCH", help="A branch of the repository; main by default.")
    ] = None,
    message: Annotated[str | None, typer.Option("--message", metavar="TEXT", help="The commit's message.")] = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Send a release with its model card to a repository of the hub, or to any folder.

    The hub's token is taken from HF_TOKEN, its address from HF_ENDPOINT. What was pushed before is replaced.
    """
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


def verdict_lines(gate: Verdict | None, update: str = "") -> Iterator[str]:
    """The lines of a record's verdict: the outcome with its reasons, then the losses that were compared."""
    if gate is None:
        return
    yield f"gate: {OUTCOMES[gate.outcome]}, against {gate.against}"
    for reason in gate.because:
        yield f"  {reason}"
    for check in gate.checks:
        if check.kind in ("loss", "best") and check.passed:
            yield f"  {check.name} ({check.role}): {check.because}, nats per token, {seen(check)}"
    if gate.outcome == "held":
        yield f"  promote it with `rewarm promote WORKSPACE {update or 'UPDATE'}`, or leave it: nothing changes then"


def seen(check: Check) -> str:
    """What a check rests on, and the least that it detects."""
    documents = f"{check.n} documents"
    if check.units != check.n:
        documents += f" of {check.units} sites"
    return documents if check.detectable is None else f"{documents}, detects {check.detectable:.2g}"
