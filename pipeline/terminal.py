"""What a person sees in the terminal: progress over stages, tables, and plain lines where nobody watches."""

import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

PLAIN_INTERVAL = 60.0  # seconds between two lines of one stage when not on a terminal


class Terminal:
    """Progress of stages: a live bar on a terminal, else a line at each stage and one a minute within it.

    Progress goes to stderr, so that stdout holds a command's result alone.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=quiet)
        self.live = self.console.is_terminal and not quiet
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._label, self._unit, self._total, self._done = "", "", 0.0, 0.0
        self._began = self._said = time.monotonic()
        self._update = ""

    def __enter__(self) -> "Terminal":
        if self.live:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self._bars.stop()

    def update(self, name: str) -> None:
        """An update begins; its name stands before its stages."""
        self._update = name
        self.console.print(f"\n[bold]{name}[/bold]" if self.live else name)

    def stage(self, name: str, skipped: bool) -> None:
        """A stage begins, or is skipped."""
        self.console.print(f"  {name}: done before" if skipped else f"  {name}")

    def begin(self, label: str, total: float, unit: str) -> None:
        """Open a line of work."""
        self._label, self._total, self._unit, self._done = label, total, unit, 0.0
        self._began = self._said = time.monotonic()
        if not self.live:
            return
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(label, total=total or None, figures="")

    def advance(self, by: float = 1, **figures: float) -> None:
        """Move the open line on."""
        self._done += by
        if self.live and self._task is not None:
            self._bars.update(self._task, advance=by, figures=self._figures(figures))
        elif not self.live and time.monotonic() - self._said > PLAIN_INTERVAL:
            self._said = time.monotonic()
            part = self._done / self._total if self._total else 0.0
            self.console.print(f"    {self._label}: {part:.0%}  {self._figures(figures)}")

    def _figures(self, figures: dict[str, float]) -> str:
        rate = self._done / max(time.monotonic() - self._began, 1e-3)
        amount = f"{short(self._done)}/{short(self._total)} {self._unit}, {short(rate)}/s"
        return "  ".join([amount, *(f"{name} {value:.4g}" for name, value in figures.items())])

    def note(self, text: str) -> None:
        """Say one line that stays."""
        self.console.print(f"    {text}", markup=False)


def short(value: float) -> str:
    """A count for people: 950, 9.5 k, 1.2 M, 3.4 G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def lineage_table(status: dict[str, Any]) -> Table:
    """Per update: the release's loss on every dataset so far and what it forgot, tokens, the share achieved, time."""
    names = [dataset["name"] for dataset in status["datasets"]]
    title = f"{status['workspace']}, release {status['release'] or 'none'}"
    caption = "Loss of each release, nats per token of the full validation split (change against the release before)"
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("update", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for title in ("forgetting", "new", "replayed", "share", "tokens/s", "seconds"):
        table.add_column(title, justify="right", no_wrap=True)
    for update in status["updates"]:
        table.add_row(*lineage_row(update, names, status["release"]))
    return table


def lineage_row(update: dict[str, Any], names: list[str], release: str | None) -> list[str]:
    """One update's cells."""
    losses, forgetting = update["losses"].get("release", {}), update["forgetting"]
    refused = " refused" if update["state"] == "refused" else ""
    cells = [f"{update['id']}{refused}{' *' if update['id'] == release else ''}"]
    for name in names:
        change = f" ({forgetting[name]:+.3f})" if name in forgetting else ""
        cells.append(f"{losses[name]:.3f}{change}" if name in losses else "")
    if update["state"] == "unfinished":
        return [*cells, "unfinished", *[""] * 5]
    worst = f"{max(forgetting.values()):+.3f}" if forgetting else ""
    achieved = update["replay"]["achieved"]
    tokens, speed = update["tokens"], update["train"]["tokens_per_second"]
    return [
        *cells,
        worst,
        short(tokens["new"]),
        short(tokens["replayed"]),
        f"{achieved:.2%}",
        short(speed) if speed else "",
        f"{sum(update['seconds'].values()):.0f}",
    ]


def seconds_table(status: dict[str, Any]) -> Table:
    """Seconds of every stage of every update."""
    updates = [update for update in status["updates"] if update["seconds"]]
    stages = list(dict.fromkeys(stage for update in updates for stage in update["seconds"]))
    table = Table(title="Seconds per stage", title_justify="left")
    table.add_column("update", no_wrap=True)
    for stage in stages:
        table.add_column(stage, justify="right")
    for update in updates:
        cells = [f"{update['seconds'][stage]:.1f}" if stage in update["seconds"] else "" for stage in stages]
        table.add_row(update["id"], *cells)
    return table


def ledger_table(ledger: dict[str, Any]) -> Table:
    """What every update replayed: documents and tokens by dataset and source."""
    caption = (
        "Documents of which a part was replayed, of those there are; tokens of these documents, every read counted. "
        f"Covers {ledger['covers']}."
    )
    table = Table(title="Replayed documents", caption=caption, title_justify="left", caption_justify="left")
    for title in ("update", "dataset", "source"):
        table.add_column(title, no_wrap=True)
    for title in ("documents", "of", "tokens", "reads a document"):
        table.add_column(title, justify="right", no_wrap=True)
    for update in ledger["updates"]:
        for row in update["replayed"]:
            reads = f"{row['times'] / row['documents']:.2f}" if row["documents"] else ""
            counts = [f"{row['documents']:,}", f"{row['of']:,}", short(row["tokens"]), reads]
            table.add_row(update["update"], row["dataset"], row["source"], *counts)
        if not update["replayed"]:
            table.add_row(update["update"], "nothing", *[""] * 5)
    return table


def result_console() -> Console:
    """Where results are printed: stdout, as wide as its content where it is not a terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=200, file=sys.stdout, no_color=True)
