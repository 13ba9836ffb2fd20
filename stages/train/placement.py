"""Where training runs: how many CPUs its workers get, whether they get a GPU, and whether the cluster can hold them.

A worker with a GPU gets its share of the CPUs of a node that has GPUs; nodes without any, such as the head, do not
count.
"""

import os

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.resources import Node, Room, cpus_beside_gpu, cpus_each, find_room, fits, gpu_workers
from rewarm.stages.train.settings import TrainSettings


def placed(settings: TrainSettings) -> tuple[TrainSettings, dict[str, float], bool]:
    """The settings with the CPUs of a worker filled in, a worker's resources, and whether it gets a GPU.

    Raises ``UsageError`` if the cluster cannot hold the workers, also with what its autoscaler is known to add.
    """
    room, workers = find_room(), settings.num_workers
    refuse_without_room(settings, room)
    if on_gpus(settings, room):
        each = gpu_worker_cpus(settings, room)
        return settings.model_copy(update={"cpus_per_worker": each}), {"CPU": each, "GPU": 1}, True
    each = settings.cpus_per_worker or cpus_each(room.cpus, workers) or 1
    return settings.model_copy(update={"cpus_per_worker": each}), {"CPU": each}, False


def on_gpus(settings: TrainSettings, room: Room) -> bool:
    """Whether training runs on GPUs; ``auto`` takes those that are up, ``gpu`` waits for them as well."""
    if settings.device == "auto":
        return gpu_workers(room.nodes, settings.cpus_per_worker or 1) >= settings.num_workers
    return settings.device == "gpu"


def gpu_worker_cpus(settings: TrainSettings, room: Room) -> int:
    """CPUs of a worker with a GPU: its share on nodes that are up if they suffice, else also on those that may come.

    Where nodes come of which nothing is known, a worker asks for one CPU: then it fits on every node with a GPU.
    """
    workers = settings.num_workers
    found = cpus_beside_gpu(room.nodes, workers) or cpus_beside_gpu(room.future, workers)
    return settings.cpus_per_worker or found or 1


def refuse_without_room(settings: TrainSettings, room: Room) -> None:
    """``UsageError`` where the workers cannot find room, however long they wait."""
    workers, each = settings.num_workers, settings.cpus_per_worker or 1
    if on_gpus(settings, room):
        if room.coming is not None and gpu_workers(room.future, each) < workers:
            raise UsageError(too_few_gpus(settings, room))
        return
    each = settings.cpus_per_worker or cpus_each(room.cpus, workers) or 1
    if not fits(room.cpus, workers, each) and (settings.device == "cpu" or room.held):
        held = (
            f", and {room.held:g} more that the entrypoints of jobs hold (--entrypoint-num-cpus)" if room.held else ""
        )
        raise UsageError(
            f"train.num_workers {workers} asks for {each} CPU{'s' * (each > 1)} each; the cluster's nodes have "
            f"{' + '.join(f'{cpus:g}' for cpus in room.cpus)} free for work{held}"
        )


def refuse_without_models(settings: TrainSettings, room: Room) -> None:
    """``UsageError`` if models that are not trained are to run on GPUs, and there can be none."""
    if settings.device == "gpu" and room.coming is not None and not gpu_workers(room.future):
        raise UsageError(too_few_gpus(settings, room))


def too_few_gpus(settings: TrainSettings, room: Room) -> str:
    """What is asked, what there is, and the settings that would fit."""
    each = settings.cpus_per_worker
    asked = f"{settings.num_workers} GPU{'s' * (settings.num_workers != 1)}" + (
        f" with {each} CPUs each" if each else ""
    )
    where = "the cluster" if os.environ.get("RAY_ADDRESS") else "this machine"
    more = sum(int(node.gpus) for node in room.coming or ())
    has = f"{where} has {room.gpus}" + (f" and its autoscaler may add {more}" if more else "")
    if each and gpu_workers(room.future) >= settings.num_workers:
        return f"train.cpus_per_worker {each} asks for {asked}; {has}, on nodes of {kinds(room.future)}: set it lower"
    most = gpu_workers(room.future, each or 1)
    fitting = max((count for count in range(1, most + 1) if settings.global_batch % count == 0), default=None)
    fewer = f"--set train.num_workers={fitting} or " if fitting else ""
    cpu = "--set train.device=cpu" + (
        "" if fitting else ", with --set train.num_workers=N for as many as its CPUs hold"
    )
    return f"train.device gpu with train.num_workers {settings.num_workers} asks for {asked}, {has}: {fewer}{cpu}"


def kinds(nodes: tuple[Node, ...]) -> str:
    """The different nodes with GPUs, in words."""
    found = dict.fromkeys(f"{node.gpus:g} GPUs and {node.cpus:g} CPUs" for node in nodes if node.gpus)
    return ", ".join(found)


def awaited(settings: TrainSettings, room: Room) -> str | None:
    """What a cluster that may grow has to add before training can begin; None if nothing is missing."""
    if not on_gpus(settings, room) or gpu_workers(room.nodes, settings.cpus_per_worker or 1) >= settings.num_workers:
        return None
    return (
        f"training asks for {settings.num_workers} GPUs, the cluster has {room.gpus} now; it will wait for the nodes "
        "that come"
    )


def model_places(settings: TrainSettings) -> tuple[bool, int]:
    """Whether models run on GPUs where they are not trained, and on how many actors that is possible.

    With ``train.device`` ``gpu`` they do, also while no node with a GPU is up: asking for one brings it. Raises
    ``UsageError`` if there can be none.
    """
    room = find_room()
    refuse_without_models(settings, room)
    if settings.device == "gpu":
        most = max(room.gpus, settings.num_workers)
        return True, most if room.coming is None else min(most, gpu_workers(room.future))
    if settings.device == "auto" and room.gpus:
        return True, room.gpus
    return False, max(1, int(sum(room.cpus)))
