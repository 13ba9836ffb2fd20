"""What a trunk hands to the next update besides its weights: the optimizer's state, where that is to be kept.

The papers begin every update with an empty optimizer (Ibrahim et al. 2024, section 5), and so does a recipe by
default. A trunk's last checkpoint stays in ``trunk/optimizer`` as long as an update may start from it: until the next
one is released.
"""

from rewarm.pipeline.lineage.lineage import Lineage, read_plan
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.train import TrainSettings

OPTIMIZER = "optimizer"  # in the trunk's folder: its last checkpoint, weights, moments and all
TRUNK_RUN = "train"  # name of the training run that makes a trunk, and of the folder of its checkpoints
FITTING = ("zero_stage", "precision")  # settings that a checkpoint's files are bound to; the number of workers is not


def start_optimizer(lineage: Lineage, settings: TrainSettings) -> Folder | None:
    """The checkpoint whose optimizer state an update goes on with; None: it begins with an empty optimizer.

    Raises ``UsageError`` where ``train.keep_optimizer`` asks for a state that the trunk does not have, or that was
    saved under settings it cannot be loaded with.
    """
    head = lineage.head
    if head is None or not settings.keep_optimizer:
        return None
    wanted = f"train.keep_optimizer: an update starts from the trunk of {head.id}"
    if not head.facts.schedule:
        raise UsageError(f"{wanted}, an imported model, which has no optimizer state; set train.keep_optimizer=false")
    kept = lineage.workspace.update(head.id) / "trunk" / OPTIMIZER
    if not kept.exists():
        raise UsageError(
            f"{wanted}, whose optimizer state is not in {kept} (train.save_optimizer keeps it); "
            "set train.keep_optimizer=false to begin with an empty one"
        )
    before = read_plan(lineage.workspace, head.id)["recipe"]["train"]
    for name in FITTING:
        if before[name] != getattr(settings, name):
            raise UsageError(
                f"{wanted}, whose optimizer state was saved under train.{name}={before[name]} and cannot be loaded "
                f"under {getattr(settings, name)}; set train.{name}={before[name]} or train.keep_optimizer=false"
            )
    return kept


def keep_optimizer(update: Folder, checkpoint: str, settings: TrainSettings) -> None:
    """Take the last checkpoint of an update's training into its trunk, before its checkpoints are deleted.

    Does nothing where that was done before, or where nothing was trained. Only the checkpoint's name is looked at: an
    unfinished workspace may have been moved.
    """
    last = update / "checkpoints" / TRUNK_RUN / Folder(checkpoint).name
    if settings.save_optimizer and checkpoint and last.exists():
        (update / "trunk").take(last, OPTIMIZER)


def drop_optimizers(lineage: Lineage) -> None:
    """Delete the states that no update will start from, after one was finished."""
    kept = lineage.possible_starts()
    for update in lineage.entries:
        if update.id not in kept:
            (lineage.workspace.update(update.id) / "trunk" / OPTIMIZER).delete()
