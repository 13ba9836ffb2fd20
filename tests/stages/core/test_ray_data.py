"""Jobs over shards: a few as tasks and many as a Ray Data job give the same results, errors and repeats."""

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.ray_data import FEW, map_shards

pytestmark = pytest.mark.usefixtures("ray_cluster")

NUMBERS = [1, FEW, FEW + 2]


class Counted(Silent):
    """Progress of which the test knows the sum."""

    total = done = 0.0

    def begin(self, label: str, total: float, unit: str) -> None:
        self.total = total

    def advance(self, by: float = 1, **figures: float) -> None:
        self.done += by


def squared(shard: dict[str, Any]) -> dict[str, Any]:
    return {"squared": shard["size"] ** 2}


def refused(shard: dict[str, Any]) -> dict[str, Any]:
    if shard["size"] == 1:
        raise UsageError("shard 1 is not wanted")
    return squared(shard)


def killed_once(shard: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Square; the first attempt at the first shard ends with its process."""
    if shard["size"] > 1:
        return squared(shard)
    try:
        (folder / "killed").touch(exist_ok=False)
    except FileExistsError:
        return squared(shard)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("killed")


def shards(number: int) -> list[dict[str, Any]]:
    return [{"size": size} for size in range(1, number + 1)]


@pytest.mark.parametrize("number", NUMBERS)
def test_results_are_in_the_order_of_the_shards(number: int) -> None:
    progress = Counted()
    found = map_shards(squared, shards(number), progress, "squaring", "size")
    assert [one["squared"] for one in found] == [size**2 for size in range(1, number + 1)]
    assert progress.done == progress.total == sum(range(1, number + 1))


@pytest.mark.parametrize("number", NUMBERS)
def test_an_error_is_raised_as_it_is(number: int) -> None:
    with pytest.raises(UsageError, match="shard 1 is not wanted"):
        map_shards(refused, shards(number), Silent(), "squaring", "size")


@pytest.mark.parametrize("number", [1, FEW + 2])
def test_a_killed_worker_is_replaced(number: int, tmp_path: Path) -> None:
    found = map_shards(partial(killed_once, folder=tmp_path), shards(number), Silent(), "squaring", "size")
    assert (tmp_path / "killed").exists()
    assert [one["squared"] for one in found] == [size**2 for size in range(1, number + 1)]
