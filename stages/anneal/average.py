"""A release without a branch: the mean of the trunk's weights along its tail (2507.17634; 2505.12082).

At a constant learning rate the trunk circles around what a decay would settle into, and the mean of where it has been
comes near it. Which states enter is decided by the settings alone: training keeps a snapshot at those steps, whatever
the interval of its checkpoints.
"""

from typing import TYPE_CHECKING

from stages import train
from stages.anneal.settings import AnnealSettings
from stages.errors import StageError
from stages.storage import Folder

if TYPE_CHECKING:
    import torch


def snapshot_steps(settings: AnnealSettings, schedule: train.Schedule, steps: int) -> tuple[int, ...]:
    """Steps after which a trunk of ``steps`` steps must leave its weights; none unless an average is made of them.

    ``average_last`` of them (or as many as there are) evenly over the last ``share``, the trunk's end the last one.
    """
    if settings.shape != "average" or schedule.decayed:
        return ()
    length = settings.steps(steps)
    count = min(settings.average_last, length)
    return tuple(steps - back * length // count for back in reversed(range(count)))


def average(trunk: train.Job, trained: train.TrainOutcome, out: Folder, dtype: str) -> str:
    """Write ``out/model``, the mean of the trunk's snapshots, summed in fp64 in their order; returns its digest.

    Raises ``StageError`` where a snapshot is missing or damaged, or the last one is not the trunk's end.
    """
    from stages.train.snapshots import read_snapshot
    from stages.train.weights import write_model

    total: dict[str, torch.Tensor] = {}
    found = ""
    for step in trunk.snapshots:
        weights, found = read_snapshot(trunk.out, step)
        for name, weight in weights.items():
            total[name] = total[name].add_(weight) if name in total else weight.double()
    if found != trained.digest:
        raise StageError(
            f"{trunk.out}: the last snapshot has weights of digest {found}, the trunk of {trained.digest}; "
            "they are not of one run"
        )
    mean = {name: (summed / len(trunk.snapshots)).float() for name, summed in total.items()}
    return write_model(trunk.start.local(), mean, out, dtype, trunk.tokenizer)
