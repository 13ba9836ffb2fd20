"""Jobs over shards: one function for many shards, each written once, with progress as they finish.

Many shards are a Ray Data job. A few are plain Ray tasks, as planning and starting a job takes longer than they do.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson

from rewarm.stages.core.errors import origin
from rewarm.stages.core.progress import Progress

FEW = 4  # shards that are plain tasks; what a job adds, its memory-aware scheduling, matters from many shards on
ENDING = 0.5  # seconds for tasks that begin or end just now: if one is cancelled then, Ray 2.60 may abort this process


def map_shards(
    work: Callable[[dict[str, Any]], dict[str, Any]],
    shards: Sequence[dict[str, Any]],
    progress: Progress,
    label: str,
    advance: str,
    num_cpus: float = 1,
) -> list[dict[str, Any]]:
    """Run ``work`` over ``shards`` as tasks of ``num_cpus``; return the results in the order of ``shards``.

    ``work`` receives one shard's record (plain JSON types) and returns its account. It must be idempotent and skip
    finished shards, so that an interrupted job resumes. ``advance`` names the field of the input record that measures
    progress (bytes, documents). An exception in ``work`` ends the job and is raised here.
    """
    import ray

    progress.begin(label, sum(shard[advance] for shard in shards), advance)
    if not shards:
        return []
    rows = [{"position": position, "shard": orjson.dumps(shard)} for position, shard in enumerate(shards)]
    finished = run_tasks if len(rows) <= FEW else run_job
    results: dict[int, dict[str, Any]] = {}
    try:
        for row in finished(Numbered(work), rows, label, num_cpus):
            results[row["position"]] = orjson.loads(row["result"])
            progress.advance(shards[row["position"]][advance])
    except ray.exceptions.RayTaskError as error:
        raise (origin(error) or error) from None
    return [results[position] for position in range(len(rows))]


def run_job(work: "Numbered", rows: list[dict[str, Any]], label: str, num_cpus: float) -> Iterator[dict[str, Any]]:
    """Yield the result of every row as it finishes, from one Ray Data job."""
    import ray
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.raise_original_map_exception = True
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(work, num_cpus=num_cpus)
    dataset.set_name(label.replace(" ", "_"))  # the name shown in the dashboard
    yield from dataset.iter_rows()


def run_tasks(work: "Numbered", rows: list[dict[str, Any]], label: str, num_cpus: float) -> Iterator[dict[str, Any]]:
    """Yield the result of every row as it finishes, from a task each; placed and repeated as Ray Data's tasks are."""
    import ray

    remote: Any = ray.remote  # its stubs lack the name
    task = remote(num_cpus=num_cpus, max_retries=-1, scheduling_strategy="SPREAD", name=label)(run_one)
    running = [task.remote(work, row) for row in rows]
    try:
        while running:
            done, running = ray.wait(running)
            yield ray.get(done[0])
    finally:
        if running:  # after an error, or when the command is stopped
            _, running = ray.wait(running, num_returns=len(running), timeout=ENDING)
        for reference in running:
            ray.cancel(reference, force=True)


class Numbered:
    """Wrapper that carries a shard's position through Ray Data, which guarantees no order; records travel as JSON."""

    def __init__(self, work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.work = work

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Process one row."""
        result = self.work(orjson.loads(row["shard"]))
        return {"position": row["position"], "result": orjson.dumps(result)}


def run_one(work: Numbered, row: dict[str, Any]) -> dict[str, Any]:
    """Process one row, as a Ray task."""
    return work(row)
