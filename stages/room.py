"""Where work fits on the cluster: the CPUs of every node, less what the entrypoints of submitted jobs hold."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

SUPERVISOR = "JobSupervisor"  # Ray's actor behind a submitted job; it holds what ``--entrypoint-num-cpus`` asked for


@dataclass(frozen=True)
class Room:
    """What a cluster has for work."""

    cpus: tuple[float, ...]  # of each living node, less what entrypoints hold there
    held: float  # CPUs that entrypoints hold, on all nodes together
    gpus: float


def find_room() -> Room:
    """The room on the cluster that this driver is connected to."""
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    held = entrypoint_cpus() if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else Counter()
    cpus = tuple(max(0.0, node["Resources"].get("CPU", 0.0) - held[node["NodeID"]]) for node in nodes)
    return Room(cpus, sum(held.values()), sum(node["Resources"].get("GPU", 0.0) for node in nodes))


def entrypoint_cpus() -> Counter[str]:
    """CPUs that the entrypoints of all submitted jobs hold while they run, by node."""
    from ray.util.state import list_actors

    found: Counter[str] = Counter()
    for actor in list_actors(filters=[("class_name", "=", SUPERVISOR), ("state", "=", "ALIVE")], detail=True):
        found[actor.node_id or ""] += (actor.required_resources or {}).get("CPU", 0.0)
    return found


def fits(cpus: Sequence[float], workers: int, each: int) -> bool:
    """Whether ``workers`` of ``each`` CPUs find a place; a worker lies on one node."""
    return sum(int(node // each) for node in cpus) >= workers


def cpus_each(cpus: Sequence[float], workers: int) -> int:
    """The most CPUs that every one of ``workers`` can have; 0 where they do not fit with one each."""
    return next((each for each in range(int(sum(cpus) // workers), 0, -1) if fits(cpus, workers, each)), 0)
