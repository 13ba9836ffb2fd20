"""Terminal output: progress of stages, tables, and plain lines if the output is not a terminal."""

import sys
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer
from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from rewarm.pipeline.escaping import message, visible
from rewarm.pipeline.progress.pace import Work, duration
from rewarm.stages.core.faults import DISK

if TYPE_CHECKING:
    from rewarm.pipeline.progress.log import Standing
    from rewarm.pipeline.update.expected import Run

PLAIN_INTERVAL = 60.0  # seconds between two lines of one stage when not on a terminal, and in a run's log
STANDING_INTERVAL = 2.0  # seconds between two records of a run's progress
NARROW = 100  # columns below which the bars are short, and of the figures only those that fit are shown
BAR, LONG_BAR = 10, 40  # columns
LONGEST_NAME = 18  # columns of a stage's or an update's name on a narrow terminal
WAIT_SHOWN = 2.0  # seconds without progress after which a task says that its workers are starting
TICK = 0.5  # seconds between two refreshes of the display


class SafeConsole(Console):
    """A console that shows text as it is: no markup, no emoji codes, and no control characters but its own.

    A string is made visible before it is measured, so that tables stay in line; the segments are looked at once more,
    as what is printed may be rich's own objects, made of anybody's text.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """A string as rich's text."""
        return super().render_str(str(visible(text)), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """An object as segments; rich's own movements of the cursor are segments with a ``control``."""
        for segment in super().render(renderable, options):
            plain = segment.control or segment.text.isprintable() or segment.text == "\n"
            yield segment if plain else Segment(str(visible(segment.text)), segment.style)


def echo(text: str = "", err: bool = False) -> None:
    """A line of a result on stdout, or of what goes wrong on stderr, without control characters."""
    typer.echo(str(visible(text)), err=err)


class Terminal:
    """Progress of stages: live bars on a terminal, else a line at each stage and one a minute within it.

    Progress goes to stderr, so that stdout holds a command's result alone. What is shown of an update is also kept with
    its workspace (``pipeline.progress.log``), for ``rewarm status`` and ``rewarm logs``.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.console = SafeConsole(stderr=True, soft_wrap=True, quiet=quiet)
        self.live = self.console.is_terminal and not quiet
        self._narrow = self.console.width < NARROW
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(BAR if self._narrow else LONG_BAR),
            TextColumn("{task.percentage:>3.0f} %", markup=False),
            TextColumn("{task.fields[figures]}", markup=False),
            *(() if self._narrow else (TimeElapsedColumn(),)),
            TextColumn("{task.fields[left]}", markup=False),
            console=self.console,
            transient=True,
        )
        self._whole: TaskID | None = None
        self._task: TaskID | None = None
        self._work: Work | None = None
        self._run: Run | None = None
        self._stage = ""
        self._entered = self._said = self._stood = time.monotonic()
        self._lock = threading.RLock()  # stages tell of themselves from threads of their own
        self._end = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> "Terminal":
        if self.live:
            self._bars.start()
        self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._ticker.join()
        self._close(None if isinstance(error, typer.Exit) else error)
        if self.live:
            self._bars.stop()

    def _close(self, error: BaseException | None) -> None:
        with self._lock:
            if self._run is not None:
                self._run.close(self._work, error)
            self._drop()
            if self._whole is not None:
                self._bars.remove_task(self._whole)
            self._run, self._whole, self._stage = None, None, ""

    def _drop(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._work = self._task = None

    def update(self, name: str, run: "Run | None" = None) -> None:
        """Begin an update: print its name; ``run`` records what is shown of it."""
        with self._lock:
            self._close(None)
            self._run = run
            if self.live and run is not None:
                self._whole = self._bars.add_task(self._named(run.journal.update), total=None, figures="", left="")
        name = message(name)
        self._print(f"\n{name}" if self.live else name, "bold" if self.live else None)

    def stage(self, name: str, skipped: bool) -> None:
        """Begin a stage, or report that it is skipped."""
        self._print(f"  {name}: done before" if skipped else f"  {name}")
        with self._lock:
            self._drop()
            self._stage, self._entered = "" if skipped else name, time.monotonic()
            self._said = self._entered
            if self._run is not None:
                self._run.enter(name, skipped)

    def begin(self, label: str, total: float, unit: str) -> None:
        """Open a progress line."""
        label = message(label)
        with self._lock:
            self._drop()
            self._work = Work(label, total, unit, began=time.monotonic())
            if self.live:
                self._task = self._bars.add_task(self._named(label), total=total or None, figures="", left="")

    def _named(self, name: str) -> str:
        """Return the name of a bar, cut on a narrow terminal."""
        return name if not self._narrow or len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"

    def advance(self, by: float = 1, **figures: float) -> None:
        """Advance the open progress line."""
        with self._lock:
            if self._work is not None:
                self._work.advance(by, figures, time.monotonic())

    def note(self, text: str) -> None:
        """Print a permanent line."""
        text = message(text)
        self._print(f"    {text}")
        with self._lock:
            if self._run is not None:
                self._run.journal.line(f"    {text}")

    def _print(self, text: str, style: str | None = None) -> None:
        """Print a line; stderr may be a log on a disk that fails for a while: such a line appears with a later one."""
        try:
            self.console.print(text, style=style)
        except OSError as error:
            if error.errno not in DISK:
                raise

    def _tick(self) -> None:
        """Show what moved: the bars twice a second, the standing every two seconds, a plain line once a minute."""
        while not self._end.wait(TICK):
            with self._lock:
                at = time.monotonic()
                standing = self._run.standing(self._work) if self._run else None
                if self.live:
                    self._draw(standing, at)
                if self._run and standing and at - self._stood >= STANDING_INTERVAL:
                    self._stood = at
                    self._run.journal.stand(standing)
                if (self._work is not None or self._stage) and at - self._said >= PLAIN_INTERVAL:
                    self._said = at
                    self._say(self._work, at)

    def _draw(self, standing: "Standing | None", at: float) -> None:
        work, whole = self._work, standing.run_left if standing else None
        ends = ["" if left is None else f"{duration(left)} left" for left in (work.left(at) if work else None, whole)]
        room = self._room(max(map(len, ends)))
        if self._task is not None and work is not None:
            self._bars.update(self._task, completed=work.done, figures=fitted(amounts(work, at), room), left=ends[0])
        if self._whole is not None and standing is not None and standing.stages:
            self._bars.update(
                self._whole,
                total=standing.stages,
                completed=standing.number - 1 + (work.part if work else 0.0),
                figures=fitted([f"stage {standing.number} of {standing.stages}", f", {standing.stage}"], room),
                left=ends[1] if self._narrow or not ends[1] else f"about {ends[1]}",
            )

    def _room(self, left: int) -> int | None:
        """Return the columns that a narrow terminal has for figures beside the time left; None: as many as needed."""
        if not self._narrow:
            return None
        names = [len(task.description) for task in self._bars.tasks]
        return self.console.width - sum((2, max(names, default=0) + 1, BAR + 1, len("100 %") + 1, left + 1, 1))

    def _say(self, work: Work | None, at: float) -> None:
        if work is None:
            line = f"{self._stage}: for {duration(at - self._entered)}"
        else:
            left = work.left(at)
            line = f"{work.label}: {work.part:.0%}  {''.join(amounts(work, at))}"
            line += "" if left is None else f"  {duration(left)} left"
        if not self.live:
            self._print(f"    {line}")
        if self._run is not None:
            self._run.journal.line(f"    {line}")


def amounts(work: Work, at: float) -> list[str]:
    """What is done of a task, how fast, and its figures; or that it waits for its workers."""
    if (waited := work.waited(at)) > WAIT_SHOWN:
        return ["workers are starting" if work.unit == "tokens" else "no result yet", f", {duration(waited)}"]
    rate, total = work.rate(at), f"/{short(work.total)}" if work.total else ""
    speed = [] if rate is None else [f", {short(rate)}/s"]
    return [
        f"{short(work.done)}{total} {work.unit}",
        *speed,
        *(f"  {name} {value:.4g}" for name, value in work.figures.items()),
    ]


def fitted(parts: list[str], room: int | None) -> str:
    """Join the parts that fit into ``room`` columns, the first ones first; a part is shown whole or not at all."""
    text = ""
    for part in parts:
        if room is not None and len(text) + len(part) > max(room, len(parts[0])):
            break
        text += part
    return text


def short(value: float) -> str:
    """A count for people: 950, 9.5 k, 1.2 M, 3.4 G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def compact(title: str, caption: str = "") -> Table:
    """Return a table without vertical lines, to save room; ``names`` and ``figures`` add its columns."""
    return Table(
        title=title,
        caption=caption or None,
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title_justify="left",
        caption_justify="left",
    )


def figures(table: Table, *titles: str) -> None:
    """Add columns of figures, which are never cut."""
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True, min_width=len(title))


def names(table: Table, *titles: str) -> None:
    """Add columns of names, which are folded where the terminal is too narrow."""
    for title in titles:
        table.add_column(title, overflow="fold")


def ledger_table(ledger: dict[str, Any]) -> Table:
    """Return the documents and tokens that every update replayed, by dataset and source."""
    caption = (
        "Documents of which a part was replayed, of those there are; tokens of these documents, every read counted. "
        f"Covers {ledger['covers']}."
    )
    table = compact("Replayed documents", caption)
    names(table, "update", "dataset", "source")
    figures(table, "documents", "of", "tokens", "reads a document")
    for update in ledger["updates"]:
        for row in update["replayed"]:
            reads = f"{row['times'] / row['documents']:.2f}" if row["documents"] else ""
            counts = [f"{row['documents']:,}", f"{row['of']:,}", short(row["tokens"]), reads]
            table.add_row(update["update"], row["dataset"], row["source"], *counts)
        if not update["replayed"]:
            table.add_row(update["update"], "nothing", *[""] * 5)
    return table


def result_console() -> Console:
    """Return the console for results: stdout, with a fixed width of 200 if it is not a terminal."""
    console = SafeConsole()
    if console.is_terminal:
        return console
    return SafeConsole(width=200, file=sys.stdout, no_color=True)
