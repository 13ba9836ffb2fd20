"""The optimizer state that a trunk keeps for the next update, if the recipe asks for it.

The papers begin every update with an empty optimizer (Ibrahim et al. 2024, section 5), and so does the default recipe.
With ``train.save_optimizer`` a trunk's last checkpoint is kept in ``trunk/optimizer`` for as long as an update may
start from it: until the next update is released.
"""

from rewarm.pipeline.lineage.lineage import Lineage, read_plan
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.train import TrainSettings

OPTIMIZER = "optimizer"  # in the trunk's folder: its complete last checkpoint, with weights and moments
TRUNK_RUN = "train"  # name of a trunk's training run, and of the folder of its checkpoints
FITTING = ("zero_stage", "precision")  # a checkpoint can only be loaded with the same; the number of workers may change


def start_optimizer(lineage: Lineage, settings: TrainSettings) -> Folder | None:
    """Return the checkpoint whose optimizer state the next update loads; None: it begins with an empty optimizer.

    Raises ``UsageError`` if ``train.keep_optimizer`` asks for a state that the trunk does not have, or that was saved
    under incompatible settings.
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
            f"{wanted}, whose optimizer state is missing from {kept} (train.save_optimizer keeps it); "
            "set train.keep_optimizer=false to begin with an empty optimizer"
        )
    before = read_plan(lineage.workspace, head.id)["recipe"]["train"]
    for name in FITTING:
        if before[name] != getattr(settings, name):
            raise UsageError(
                f"{wanted}, whose optimizer state was saved with train.{name}={before[name]} and cannot be loaded "
                f"with {getattr(settings, name)}; set train.{name}={before[name]} or train.keep_optimizer=false"
            )
    return kept


def keep_optimizer(update: Folder, checkpoint: str, settings: TrainSettings) -> None:
    """Move the last checkpoint of an update's training into its trunk, before the checkpoints are deleted.

    Does nothing if it was moved before, or if nothing was trained. Only the name of ``checkpoint`` is used, because the
    workspace may have been moved since.
    """
    last = update / "checkpoints" / TRUNK_RUN / Folder(checkpoint).name
    if settings.save_optimizer and checkpoint and last.exists():
        (update / "trunk").take(last, OPTIMIZER)


def drop_optimizers(lineage: Lineage) -> None:
    """Delete the optimizer states that no further update can start from; called after an update finished."""
    kept = {entry.id for entry in lineage.possible_starts()}
    for update in lineage.entries:
        if update.id not in kept:
            (lineage.workspace.update(update.id) / "trunk" / OPTIMIZER).delete()
