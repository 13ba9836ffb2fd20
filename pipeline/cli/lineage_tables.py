"""Tables of ``rewarm status``: losses, forgetting, seconds by stage, large removals by ingest, and attempts."""

from collections.abc import Iterator

from rich.table import Table

from rewarm.pipeline.lineage.status import Status
from rewarm.pipeline.progress.pace import duration
from rewarm.pipeline.record import UNFINISHED, UpdateRecord
from rewarm.pipeline.terminal import short

COLUMNS = 12  # datasets that have a column: those that arrived last
HELD = {"refused": " refused", "undecided": " held, undecided"}


def lineage_table(status: Status) -> Table:
    """Per update: the release's loss on the last datasets and what it forgot, tokens, the share achieved, time."""
    measured = dict.fromkeys(name for update in status.updates for name in update.losses.get("release", {}))
    names = list(dict.fromkeys([*measured, *status.datasets]))
    title = f"{status.workspace}, release {status.release or 'none'}"
    caption = "Loss of each release, nats per token of the full validation split (change against the release before)"
    if status.earlier:
        caption += f". {status.earlier:,} earlier updates are not shown (--all)"
    if len(names) > COLUMNS:
        caption += f". {len(names) - COLUMNS:,} earlier datasets have no column (--json has them)"
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("update", no_wrap=True)
    for name in names[-COLUMNS:]:
        table.add_column(name, justify="right", no_wrap=True)
    for title in ("forgetting", "new", "replayed", "share", "tokens/s", "attempts", "seconds"):
        table.add_column(title, justify="right", no_wrap=True)
    for update in status.updates:
        table.add_row(*lineage_row(update, names[-COLUMNS:], status.release))
    return table


def lineage_row(update: UpdateRecord, names: list[str], release: str | None) -> list[str]:
    """One update's cells."""
    losses, forgetting = update.losses.get("release", {}), update.forgetting
    cells = [f"{update.id}{HELD.get(update.state, '')}{' *' if update.id == release else ''}"]
    for name in names:
        change = f" ({forgetting[name]:+.3f})" if name in forgetting else ""
        cells.append(f"{losses[name]:.3f}{change}" if name in losses else "")
    if update.state == UNFINISHED:
        return [*cells, "unfinished", *[""] * 4, attempted(update), ""]
    speed = update.train.tokens_per_second if update.train else 0.0
    return [
        *cells,
        f"{max(forgetting.values()):+.3f}" if forgetting else "",
        short(update.tokens.new),
        short(update.tokens.replayed),
        f"{update.replay.achieved:.2%}",
        short(speed) if speed else "",
        attempted(update),
        f"{sum(update.seconds.values()):.0f}",
    ]


def attempted(update: UpdateRecord) -> str:
    """How often an update was started, and how many of these failed."""
    spent = update.attempts
    if spent is None or not spent.count:
        return ""  # not counted: a record of format 1, or an update that an earlier version began
    return f"{spent.count}" + (f", {spent.failed} failed" if spent.failed else "")


def seconds_table(status: Status) -> Table:
    """Seconds of every stage of every update."""
    updates = [update for update in status.updates if update.steps]
    stages = list(dict.fromkeys(stage for update in updates for stage in update.steps))
    table = Table(title="Seconds per stage, of all its attempts", title_justify="left")
    table.add_column("update", no_wrap=True)
    for stage in stages:
        table.add_column(stage, justify="right")
    for update in updates:
        cells = [f"{update.steps[stage].seconds:.1f}" if stage in update.steps else "" for stage in stages]
        table.add_row(update.id, *cells)
    return table


def lines_of(status: Status) -> Iterator[str]:
    """Yield large removals by ingest steps, and the time and cost of failed attempts."""
    for name, (_, part) in status.datasets.items():
        for removal in part.ingest.removals:
            yield f"{name}: {removal['sentence']}"
    for update in status.updates:
        spent = update.attempts
        if spent is not None and spent.failed:
            price = update.cost.price if update.cost else None
            cost = f", {price:,.2f} {update.cost.currency}" if update.cost and price is not None else ""
            yield (
                f"{update.id}: {spent.count} attempts, {spent.failed} of them failed; {duration(spent.seconds)} in "
                f"all{cost}, of which {duration(spent.lost_seconds)} in failed attempts"
            )
