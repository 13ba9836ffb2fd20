"""Runs a search's tasks: as a Ray Data job, or one after the other where that takes less than starting one."""

from collections.abc import Callable, Sequence
from typing import Any

from stages.progress import Progress
from stages.shards import map_shards

FEW_ROWS = 100_000  # of an arrival that is decided in the driver, in about the time that a job takes to start


def run_tasks(
    work: Callable[[dict[str, Any]], dict[str, Any]],
    tasks: Sequence[dict[str, Any]],
    rows: int,
    progress: Progress,
    label: str,
) -> None:
    """Do ``work`` for every task of an arrival of ``rows`` documents; each leaves its result in staging."""
    if rows > FEW_ROWS:
        map_shards(work, [{**task, "tasks": 1} for task in tasks], progress, label, "tasks")
        return
    progress.begin(label, len(tasks), "tasks")
    for task in tasks:
        work(task)
        progress.advance()
