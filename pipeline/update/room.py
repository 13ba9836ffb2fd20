"""The check that a cluster has enough resources for an update, used by updates, dry runs, plans and the doctor."""

import os
from pathlib import Path

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import RECORD, Workspace
from rewarm.pipeline.recipe.recipe import Recipe
from rewarm.pipeline.update.inputs import Arrival, distilled_tokens, recipe_of
from rewarm.stages.core.cluster import joined
from rewarm.stages.core.resources import Node, Room, find_room
from rewarm.stages.train import TrainSettings, awaited, refuse_without_models, refuse_without_room


def room_for(lineage: Lineage, arrival: Arrival, recipe: Recipe) -> str | None:
    """Return what an update must wait for on the cluster; raises ``UsageError`` if it can never be scheduled."""
    if lineage.updates or recipe.model.path is None:
        return check_room(recipe.train)
    runs_models = bool(arrival.inputs) or distilled_tokens(recipe, arrival.inputs) > 0
    return check_room(recipe.train, trains=False) if runs_models else None


def refuse_here(lineage: Lineage, arrival: Arrival, recipe: Recipe) -> None:
    """Raise ``UsageError``, before Ray is started on this machine, if the update can never be scheduled on it."""
    if not os.environ.get("RAY_ADDRESS"):
        room_for(lineage, arrival, recipe)


def refuse_on_machine(settings: TrainSettings) -> None:
    """Raise ``UsageError`` if this machine can never train with these settings; on a cluster, updates check later."""
    if not os.environ.get("RAY_ADDRESS"):
        check_room(settings)


def check_room(settings: TrainSettings, trains: bool = True) -> str | None:
    """Return what training must wait for on the cluster, or None; raises ``UsageError`` if it can never be scheduled.

    With ``trains=False``, checks for inference only. If Ray is not running yet, checks this machine, or the cluster at
    ``RAY_ADDRESS``.
    """
    import ray

    if settings.device == "gpu" and not ray.is_initialized() and not os.environ.get("RAY_ADDRESS"):
        room = machine_room()
    elif settings.device == "gpu":
        with joined():
            room = find_room()
    else:
        return None  # training on CPUs reduces the CPUs per worker to what the machine has
    if trains:
        refuse_without_room(settings, room)
        return awaited(settings, room)
    refuse_without_models(settings, room)
    return None


def machine_room() -> Room:
    """Return the resources of a local Ray on this machine: its CPUs, and the GPUs that torch can use."""
    import torch

    return Room((Node(float(len(os.sched_getaffinity(0))), float(torch.cuda.device_count())),))


def workspace_settings(folder: Path) -> TrainSettings | None:
    """Return the training settings of the workspace in ``folder``; None if there is no workspace."""
    return recipe_of(Workspace.open(str(folder))).train if (folder / RECORD).is_file() else None
