"""Ray Data jobs over shards: one function for many shards, each written once, with progress as they finish."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from rewarm.stages.core.errors import origin
from rewarm.stages.core.progress import Progress


def map_shards(
    work: Callable[[dict[str, Any]], dict[str, Any]],
    shards: Sequence[dict[str, Any]],
    progress: Progress,
    label: str,
    advance: str,
    num_cpus: float = 1,
) -> list[dict[str, Any]]:
    """Run ``work`` over ``shards`` as one Ray Data job; return the results in the order of ``shards``.

    ``work`` receives one shard's record (plain JSON types) and returns its account. It must be idempotent and skip
    finished shards, so that an interrupted job resumes. ``advance`` names the field of the input record that measures
    progress (bytes, documents). An exception in ``work`` ends the job and is raised here.
    """
    import ray
    from ray.data import DataContext

    progress.begin(label, sum(shard[advance] for shard in shards), advance)
    if not shards:
        return []
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.raise_original_map_exception = True
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    rows = [{"position": position, "shard": orjson.dumps(shard)} for position, shard in enumerate(shards)]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(Numbered(work), num_cpus=num_cpus)
    dataset.set_name(label.replace(" ", "_"))  # the name shown in the dashboard
    results: dict[int, dict[str, Any]] = {}
    try:
        for row in dataset.iter_rows():
            results[row["position"]] = orjson.loads(row["result"])
            progress.advance(shards[row["position"]][advance])
    except ray.exceptions.RayTaskError as error:
        raise (origin(error) or error) from None
    return [results[position] for position in range(len(rows))]


class Numbered:
    """Wrapper that carries a shard's position through Ray Data, which guarantees no order; records travel as JSON."""

    def __init__(self, work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.work = work

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Process one row."""
        result = self.work(orjson.loads(row["shard"]))
        return {"position": row["position"], "result": orjson.dumps(result)}
