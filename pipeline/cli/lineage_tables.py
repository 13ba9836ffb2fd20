"""Tables of ``rewarm status``, for a terminal of 80 columns: losses by dataset, updates, seconds by stage, remarks."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.table import Table

from rewarm.pipeline.lineage.status import Status
from rewarm.pipeline.progress.pace import duration
from rewarm.pipeline.record import UNFINISHED, UpdateRecord
from rewarm.pipeline.terminal import compact, figures, short

LAST, WORST = 12, 8  # datasets shown of a long lineage: those that arrived last, and those furthest above their best
TIMED = 12  # updates whose stages are shown
STATES = {"refused": "refused", "undecided": "held", "unfinished": "unfinished"}


@dataclass(frozen=True)
class DatasetLoss:
    """The loss of the current release on one dataset, in nats per token of its full validation split."""

    name: str
    loss: float
    change: float | None  # against the release before; None: it was not measured on this dataset
    best: float | None  # the least of the releases before, as far as the gate compared it
    arrived: bool  # with the update that made this release
    bits: float | None = None  # bits per byte of text; None: not measured

    @property
    def above(self) -> float:
        """How far the loss is above the least of any release; 0 for a release that is itself the best."""
        return 0.0 if self.best is None else max(0.0, self.loss - self.best)


def dataset_losses(update: UpdateRecord) -> list[DatasetLoss]:
    """Return the losses of an update's release, in the order in which the datasets arrived."""
    checks = update.gate.checks if update.gate else []
    best = {check.name: check.current for check in checks if check.kind == "best"}
    before = {check.name: check.change for check in checks if check.kind == "loss"} | update.forgetting
    bits = update.bits_per_byte.get("release", {})
    return [
        DatasetLoss(name, loss, before.get(name), best.get(name), name in update.datasets, bits.get(name))
        for name, loss in update.losses.get("release", {}).items()
    ]


def of_release(status: Status) -> UpdateRecord | None:
    """Return the update of the current release, else the last finished one; None before the first."""
    finished = [update for update in status.updates if update.state != UNFINISHED]
    return next((update for update in finished if update.id == status.release), finished[-1] if finished else None)


def chosen(losses: list[DatasetLoss], everything: bool) -> list[DatasetLoss]:
    """Return the datasets to show, in order: all, or the last that arrived and the furthest above their best."""
    if everything or len(losses) <= LAST + WORST:
        return losses
    worst = sorted(losses[:-LAST], key=lambda one: -one.above)[:WORST]
    return [one for one in losses[:-LAST] if one in worst] + losses[-LAST:]


def losses_table(status: Status, everything: bool = False) -> Table | None:
    """One row a dataset: the current release's loss, its change, and the best loss so far; None before a release."""
    update = of_release(status)
    if update is None:
        return None
    losses = dataset_losses(update)
    shown = chosen(losses, everything)
    caption = "Nats per token on the whole validation split, less is better. change: against the release before."
    if left := [one for one in losses if one not in shown]:
        most = max(one.above for one in left)
        caption += f" {len(left):,} more datasets, at most {most:.3f} above their best (--all shows them)."
    table = compact(f"Losses of {update.id}", caption)
    table.add_column("dataset", overflow="fold")
    columns = {
        "loss": [f"{one.loss:.3f}" for one in shown],
        "bits/byte": ["" if one.bits is None else f"{one.bits:.3f}" for one in shown],
        "change": ["" if one.change is None else f"{one.change:+.3f}" for one in shown],
        "best before": ["" if one.best is None else f"{one.best:.3f}" for one in shown],
        "above best": [f"{one.above:.3f}" if one.above else "" for one in shown],
    }
    filled = {title: cells for title, cells in columns.items() if any(cells)}
    figures(table, *filled)
    for one, *cells in zip(shown, *filled.values(), strict=True):
        table.add_row(f"{one.name} (new)" if one.arrived else one.name, *cells)
    return table


def updates_table(status: Status) -> Table:
    """One row an update: the loss on its arrival, what was learned and forgotten, tokens, the share achieved, time."""
    caption = (
        "loss: on the arrival. learned: its change against the release before. forgot: the largest rise on an earlier "
        "dataset. *: the current release."
    )
    if status.earlier:
        caption += f" {status.earlier:,} earlier updates are not shown (--all shows them)."
    table = compact("Updates", caption)
    table.add_column("update", overflow="fold")
    figures(table, "loss", "learned", "forgot", "new", "replay", "tokens/s", "time")
    for update in status.updates:
        table.add_row(*update_row(update, status.release))
    return table


def update_row(update: UpdateRecord, release: str | None) -> list[str]:
    """One update's cells."""
    state = STATES.get(update.state, "")
    name = f"{update.id}{' *' if update.id == release else ''}{f' {state}' if state else ''}"
    if update.state == UNFINISHED:
        return [name, *[""] * 7]
    own = [one for one in dataset_losses(update) if one.arrived]
    learned = [one.change for one in own if one.change is not None]
    forgetting = [change for dataset, change in update.forgetting.items() if dataset not in update.datasets]
    speed = update.train.tokens_per_second if update.train else 0.0
    return [
        name,
        f"{sum(one.loss for one in own) / len(own):.3f}" if own else "",
        f"{sum(learned) / len(learned):+.3f}" if learned else "",
        f"{max(forgetting):+.3f}" if forgetting else "",
        short(update.tokens.new),
        f"{update.replay.achieved:.2%}",
        short(speed) if speed else "",
        duration(sum(update.seconds.values())),
    ]


def seconds_table(status: Status) -> Table:
    """Seconds of every stage of the last updates."""
    updates = [update for update in status.updates if update.steps][-TIMED:]
    stages = list(dict.fromkeys(stage for update in updates for stage in update.steps))
    table = compact("Seconds per stage, of all its attempts")
    table.add_column("update", overflow="fold")
    figures(table, *stages)
    for update in updates:
        cells = [f"{update.steps[stage].seconds:.1f}" if stage in update.steps else "" for stage in stages]
        table.add_row(update.id, *cells)
    return table


def lines_of(status: Status) -> Iterator[str]:
    """Yield large removals by ingest steps, the origin of tuned releases, and time and cost of failed attempts."""
    for name, (_, part) in status.datasets.items():
        for removal in part.ingest.removals:
            yield f"{name}: {removal['sentence']}"
    for update in status.updates:
        if (origin := update.adopted) is not None:
            yield (
                f"{update.id}: tuned from {origin.tuned_from}, a branch of its own; {origin.changed:,} of "
                f"{origin.tensors:,} tensors changed by {origin.distance:.2%}; adopted by {origin.by}"
            )
        spent = update.attempts
        if spent is not None and spent.failed:
            price = update.cost.price if update.cost else None
            cost = f", {price:,.2f} {update.cost.currency}" if update.cost and price is not None else ""
            yield (
                f"{update.id}: {spent.count} attempts, {spent.failed} of them failed; {duration(spent.seconds)} in "
                f"all{cost}, of which {duration(spent.lost_seconds)} in failed attempts"
            )
