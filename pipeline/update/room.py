"""Whether an update will find room: looked up before anything is spent, also by dry runs, plans and the doctor."""

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
    """What has to come before an update finds room on the cluster; ``UsageError`` if it never will."""
    if lineage.updates or recipe.model.path is None:
        return check_room(recipe.train)
    runs_models = bool(arrival.inputs) or distilled_tokens(recipe, arrival.inputs) > 0
    return check_room(recipe.train, trains=False) if runs_models else None


def refuse_here(lineage: Lineage, arrival: Arrival, recipe: Recipe) -> None:
    """``UsageError`` before a Ray is started on this machine if the update will never find room on it."""
    if not os.environ.get("RAY_ADDRESS"):
        room_for(lineage, arrival, recipe)


def refuse_on_machine(settings: TrainSettings) -> None:
    """``UsageError`` if this machine alone can never train so; on a cluster each update looks for itself."""
    if not os.environ.get("RAY_ADDRESS"):
        check_room(settings)


def check_room(settings: TrainSettings, trains: bool = True) -> str | None:
    """What has to come before training finds room on the cluster; None if nothing. ``UsageError`` if it never will.

    Without ``trains`` it is about models that are only read. Where no Ray runs yet, this machine is looked at, or the
    cluster that ``RAY_ADDRESS`` names.
    """
    import ray

    if settings.device == "gpu" and not ray.is_initialized() and not os.environ.get("RAY_ADDRESS"):
        room = machine_room()
    elif settings.device == "gpu":
        with joined():
            room = find_room()
    else:
        return None  # what a machine's CPUs hold is known when training begins, and workers get fewer of them
    if trains:
        refuse_without_room(settings, room)
        return awaited(settings, room)
    refuse_without_models(settings, room)
    return None


def machine_room() -> Room:
    """What a Ray of our own has on this machine: its CPUs, and the GPUs that torch can use."""
    import torch

    return Room((Node(float(len(os.sched_getaffinity(0))), float(torch.cuda.device_count())),))


def workspace_settings(folder: Path) -> TrainSettings | None:
    """How the workspace in ``folder`` trains; None if there is none."""
    return recipe_of(Workspace.open(str(folder))).train if (folder / RECORD).is_file() else None
