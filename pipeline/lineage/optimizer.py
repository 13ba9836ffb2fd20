"""The optimizer state that a trunk keeps for the next update, if the recipe asks for it.

The papers begin every update with an empty optimizer (Ibrahim et al. 2024, section 5), and so does the default recipe.
With ``train.save_optimizer`` a trunk's last checkpoint is kept in ``trunk/optimizer`` for as long as an update may
start from it: until the next update is released.
"""

from rewarm.pipeline.lineage.lineage import Lineage, read_plan
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.train import TrainSettings, read_progress

OPTIMIZER = "optimizer"  # in the trunk's folder: its complete last checkpoint, with weights and moments
TRUNK_RUN = "train"  # name of a trunk's training run, and of the folder of its checkpoints
FITTING = ("zero_stage", "precision", "optimizer", "decay_embeddings")  # a checkpoint can only be loaded with the same


def start_optimizer(lineage: Lineage, settings: TrainSettings) -> Folder | None:
    """Return the checkpoint whose optimizer state the next update loads; None: it begins with an empty optimizer.

    Raises ``UsageError`` if ``train.keep_optimizer`` asks for a state that the trunk does not have, or that was saved
    under incompatible settings, and if the optimizer is another than the lineage's (``refuse_switch``).
    """
    head = lineage.head
    refuse_switch(lineage, settings)
    if head is None or not settings.keep_optimizer:
        return None
    wanted = f"train.keep_optimizer: an update starts from the trunk of {head.id}"
    trained = lineage.trunk_trained_by(head)
    if trained is None:
        raise UsageError(f"{wanted}, an imported model, which has no optimizer state; set train.keep_optimizer=false")
    kept = lineage.workspace.update(trained.id) / "trunk" / OPTIMIZER
    if not kept.exists():
        raise UsageError(
            f"{wanted}, whose optimizer state is missing from {kept} (train.save_optimizer keeps it); "
            "set train.keep_optimizer=false to begin with an empty optimizer"
        )
    before = read_plan(lineage.workspace, trained.id)["recipe"]["train"]
    for name in FITTING:
        value = before.get(name, TrainSettings.model_fields[name].default)  # not recorded by versions without it
        if value != getattr(settings, name):
            raise UsageError(
                f"{wanted}, whose optimizer state was saved with train.{name}={value} and cannot be loaded with "
                f"{getattr(settings, name)}; set train.{name}={value} or train.keep_optimizer=false"
            )
    if settings.needs_same_workers and (saved := read_progress(kept).world_size) != settings.num_workers:
        raise UsageError(
            f"{wanted}, whose optimizer state was saved by {saved} workers, and Muon's cannot be divided anew among "
            f"{settings.num_workers}; set train.num_workers={saved} or train.keep_optimizer=false"
        )
    return kept


def refuse_switch(lineage: Lineage, settings: TrainSettings) -> None:
    """Raise ``UsageError`` if an update would change the lineage's optimizer without ``train.switch_optimizer``."""
    head = lineage.head
    if head is None or settings.switch_optimizer:
        return
    trained = [entry for entry in lineage.learned if entry.facts.schedule]
    before = optimizer_of(lineage, trained[-1].id) if trained else "adamw"
    if settings.optimizer != before:
        raise UsageError(
            f"train.optimizer={settings.optimizer}: "
            + (f"{trained[-1].id} was trained with {before}" if trained else "the model was imported")
            + ", and a model forgets more under another optimizer than it was trained with; set "
            f"train.optimizer={before}, or train.switch_optimizer=true to change it all the same"
        )


def optimizer_of(lineage: Lineage, update: str) -> str:
    """Return the optimizer that a finished update was trained with."""
    training = lineage.read(update).train
    return "adamw" if training is None else training.optimizer


def keep_optimizer(update: Folder, checkpoint: str, settings: TrainSettings) -> None:
    """Move the last checkpoint of an update's training into its trunk, before the checkpoints are deleted.

    Does nothing if it was moved before, or if nothing was trained. Only the name of ``checkpoint`` is used, because the
    workspace may have been moved since.
    """
    last = update / "checkpoints" / TRUNK_RUN / Folder(checkpoint).name
    if settings.save_optimizer and checkpoint and last.exists():
        (update / "trunk").take(last, OPTIMIZER)


def optimizers_needed(lineage: Lineage) -> set[str]:
    """Return the updates that have trained a trunk from which the next update may start."""
    starts = (lineage.trunk_trained_by(entry) for entry in lineage.possible_starts())
    return {entry.id for entry in starts if entry is not None}


def drop_optimizers(lineage: Lineage) -> None:
    """Delete the optimizer states that no further update can start from; called after an update finished."""
    kept = optimizers_needed(lineage)
    for update in lineage.entries:
        if update.id not in kept:
            (lineage.workspace.update(update.id) / "trunk" / OPTIMIZER).delete()
