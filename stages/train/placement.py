"""Placement of training: the CPUs and GPUs of its workers, and a check that the cluster has room for them.

A worker with a GPU gets its share of the CPUs of a GPU node; nodes without GPUs, such as the head, do not count.
"""

import os

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.resources import Node, Room, cpus_beside_gpu, cpus_each, find_room, fits, gpu_workers
from rewarm.stages.train.settings import TrainSettings


def placed(settings: TrainSettings) -> tuple[TrainSettings, dict[str, float], bool]:
    """Return the settings with CPUs per worker filled in, a worker's resources, and whether it gets a GPU.

    Raises ``UsageError`` if the cluster has no room for the workers, even with the nodes that its autoscaler may add.
    """
    room, workers = find_room(), settings.num_workers
    refuse_without_room(settings, room)
    if on_gpus(settings, room):
        each = gpu_worker_cpus(settings, room)
        return settings.model_copy(update={"cpus_per_worker": each}), {"CPU": each, "GPU": 1}, True
    each = settings.cpus_per_worker or cpus_each(room.cpus, workers) or 1
    return settings.model_copy(update={"cpus_per_worker": each}), {"CPU": each}, False


def on_gpus(settings: TrainSettings, room: Room) -> bool:
    """Return whether training runs on GPUs; ``auto`` uses those that are up, ``gpu`` also waits for them."""
    if settings.device == "auto":
        return gpu_workers(room.nodes, settings.cpus_per_worker or 1) >= settings.num_workers
    return settings.device == "gpu"


def gpu_worker_cpus(settings: TrainSettings, room: Room) -> int:
    """Return the CPUs of a worker with a GPU: its share of current nodes if they suffice, else also of future nodes.

    If nothing is known about future nodes, a worker requests one CPU, so that it fits on every node with a GPU.
    """
    workers = settings.num_workers
    found = cpus_beside_gpu(room.nodes, workers) or cpus_beside_gpu(room.future, workers)
    return settings.cpus_per_worker or found or 1


def refuse_without_room(settings: TrainSettings, room: Room) -> None:
    """Raise ``UsageError`` if the workers can never be placed, however long they wait."""
    workers, each = settings.num_workers, settings.cpus_per_worker or 1
    if on_gpus(settings, room):
        if room.coming is not None and gpu_workers(room.future, each) < workers:
            raise UsageError(too_few_gpus(settings, room))
        return
    each = settings.cpus_per_worker or cpus_each(room.cpus, workers) or 1
    if not fits(room.cpus, workers, each) and (settings.device == "cpu" or room.held):
        held = f", and {room.held:g} more held by the entrypoints of jobs (--entrypoint-num-cpus)" if room.held else ""
        raise UsageError(
            f"train.num_workers {workers} needs {each} CPU{'s' * (each > 1)} per worker; the cluster's nodes have "
            f"{' + '.join(f'{cpus:g}' for cpus in room.cpus)} available{held}"
        )


def refuse_without_models(settings: TrainSettings, room: Room) -> None:
    """Raise ``UsageError`` if models are to run on GPUs for inference and none can become available."""
    if settings.device == "gpu" and room.coming is not None and not gpu_workers(room.future):
        raise UsageError(too_few_gpus(settings, room))


def too_few_gpus(settings: TrainSettings, room: Room) -> str:
    """Return the error message: GPUs requested, GPUs available, and settings that would fit."""
    each = settings.cpus_per_worker
    asked = f"{settings.num_workers} GPU{'s' * (settings.num_workers != 1)}" + (
        f" with {each} CPUs each" if each else ""
    )
    where = "the cluster" if os.environ.get("RAY_ADDRESS") else "this machine"
    more = sum(int(node.gpus) for node in room.coming or ())
    has = f"{where} has {room.gpus}" + (f" and its autoscaler may add {more}" if more else "")
    if each and gpu_workers(room.future) >= settings.num_workers:
        return f"train.cpus_per_worker {each} needs {asked}; {has}, on nodes of {kinds(room.future)}: lower it"
    most = gpu_workers(room.future, each or 1)
    if not each and room.gpus + more >= settings.num_workers:
        has += f", on nodes of {kinds(room.future)}, which hold {most} workers of one GPU and one CPU"
    fitting = min(most, settings.global_batch)
    fewer = f"--set train.num_workers={fitting} or " if fitting else ""
    cpu = "--set train.device=cpu" + (
        "" if fitting else ", with --set train.num_workers=N for as many workers as its CPUs allow"
    )
    return f"train.device gpu with train.num_workers {settings.num_workers} needs {asked}, but {has}: {fewer}{cpu}"


def kinds(nodes: tuple[Node, ...]) -> str:
    """Describe the different types of nodes with GPUs."""
    found = dict.fromkeys(f"{node.gpus:g} GPUs and {node.cpus:g} CPUs" for node in nodes if node.gpus)
    return ", ".join(found)


def awaited(settings: TrainSettings, room: Room) -> str | None:
    """Return a line on the GPUs that a growing cluster must add before training can start; None if none are missing."""
    if not on_gpus(settings, room) or gpu_workers(room.nodes, settings.cpus_per_worker or 1) >= settings.num_workers:
        return None
    return f"training needs {settings.num_workers} GPUs, the cluster has {room.gpus} now; training waits for more nodes"


def model_places(settings: TrainSettings) -> tuple[bool, int]:
    """Return whether inference runs on GPUs, and the largest possible number of actors.

    With ``train.device`` ``gpu`` it does, even if no node with a GPU is up: requesting one makes the cluster add it.
    Raises ``UsageError`` if none can become available.
    """
    room = find_room()
    refuse_without_models(settings, room)
    if settings.device == "gpu":
        most = max(room.gpus, settings.num_workers)
        return True, most if room.coming is None else min(most, gpu_workers(room.future))
    if settings.device == "auto" and room.gpus:
        return True, room.gpus
    return False, max(1, int(sum(room.cpus)))
