"""Resources of a cluster: its nodes, nodes that its autoscaler may add, and the workers that fit on them."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

SUPERVISOR = "JobSupervisor"  # Ray's actor of a submitted job; it occupies the CPUs of ``--entrypoint-num-cpus``
BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")  # cluster.yaml as stored by ``ray up`` on the head
MOST_NODES = 1024  # of one kind, if the configuration sets no limit


@dataclass(frozen=True)
class Node:
    """Resources of one node."""

    cpus: float  # excluding CPUs of jobs' entrypoints
    gpus: float = 0.0

    def workers(self, cpus: int) -> int:
        """Return the number of workers with one GPU and ``cpus`` CPUs that fit on the node."""
        return min(int(self.gpus), int(self.cpus // cpus))

    @property
    def share(self) -> int:
        """Return the whole CPUs per GPU, at least one."""
        return max(1, int(self.cpus // self.gpus))


@dataclass(frozen=True)
class Room:
    """Resources of a cluster."""

    nodes: tuple[Node, ...]  # nodes that are up
    held: float = 0.0  # CPUs of entrypoints on all nodes together
    coming: tuple[Node, ...] | None = ()  # nodes that an autoscaler may add; None: possible, but unknown

    @property
    def cpus(self) -> tuple[float, ...]:
        """The CPUs of each node that is up."""
        return tuple(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> int:
        """The GPUs of all nodes that are up."""
        return sum(int(node.gpus) for node in self.nodes)

    @property
    def future(self) -> tuple[Node, ...]:
        """The nodes that are up and those that may be added."""
        return (*self.nodes, *(self.coming or ()))


def find_room() -> Room:
    """Return the resources of the cluster that this driver is connected to."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    held = entrypoint_cpus() if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else Counter()
    nodes = tuple(
        Node(
            max(0.0, node["Resources"].get("CPU", 0.0) - held[node["NodeID"]]),
            node["Resources"].get("GPU", 0.0),
        )
        for node in alive
    )
    whole = [(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)) for node in alive]
    joined = bool(os.environ.get("RAY_ADDRESS"))  # a local Ray never has other nodes
    return Room(nodes, sum(held.values()), coming(whole) if joined else ())


def coming(alive: Iterable[tuple[float, float]]) -> tuple[Node, ...] | None:
    """Return the nodes that the cluster's autoscaler may still add, from its configuration; None if it is unknown.

    ``alive`` are the CPUs and GPUs of the nodes that are up; they count towards the limit of their kind.
    """
    kinds = reported_kinds() or bootstrap_kinds(BOOTSTRAP.expanduser())
    if kinds is None:
        return None
    up = Counter(alive)
    return tuple(Node(cpus, gpus) for (cpus, gpus), most in kinds.items() for _ in range(max(0, most - up[cpus, gpus])))


Kinds = dict[tuple[float, float], int]  # maximum number of nodes by their CPUs and GPUs


def reported_kinds() -> Kinds | None:
    """Return the kinds of nodes in the cluster's configuration in Ray's own store; None without one."""
    from ray._private import state  # as in Ray Train's check of the maximum cluster size; there is no public API

    config: Any = state.state.get_cluster_config()
    if config is None or not config.node_group_configs:
        return None
    kinds: Kinds = Counter()
    for group in config.node_group_configs:
        most = MOST_NODES if group.max_count < 0 else group.max_count
        kinds[float(group.resources.get("CPU", 0)), float(group.resources.get("GPU", 0))] += most
    return kinds


def bootstrap_kinds(file: Path) -> Kinds | None:
    """Return the kinds of nodes in the configuration that ``ray up`` stores on the head; None without one."""
    if not file.is_file():
        return None
    config = yaml.safe_load(file.read_text())
    kinds: Kinds = Counter()
    for group in config["available_node_types"].values():
        offers, most = group.get("resources", {}), group.get("max_workers", config["max_workers"])
        kinds[float(offers.get("CPU", 0)), float(offers.get("GPU", 0))] += min(most, config["max_workers"])
    return kinds


def entrypoint_cpus() -> Counter[str]:
    """Return the CPUs that the entrypoints of running jobs occupy, by node."""
    from ray.util.state import list_actors

    found: Counter[str] = Counter()
    for actor in list_actors(filters=[("class_name", "=", SUPERVISOR), ("state", "=", "ALIVE")], detail=True):
        found[actor.node_id or ""] += (actor.required_resources or {}).get("CPU", 0.0)
    return found


def fits(cpus: Sequence[float], workers: int, each: int) -> bool:
    """Return whether ``workers`` with ``each`` CPUs fit, each on a single node."""
    return sum(int(node // each) for node in cpus) >= workers


def cpus_each(cpus: Sequence[float], workers: int) -> int:
    """Return the maximum CPUs per worker for ``workers``; 0 if they do not fit with one each."""
    return next((each for each in range(int(sum(cpus) // workers), 0, -1) if fits(cpus, workers, each)), 0)


def gpu_workers(nodes: Iterable[Node], cpus: int = 1) -> int:
    """Return the number of workers with one GPU and ``cpus`` CPUs each that fit."""
    return sum(node.workers(cpus) for node in nodes)


def cpus_beside_gpu(nodes: Iterable[Node], workers: int) -> int:
    """Return the CPUs per worker, each with one GPU, that leave no GPU idle; 0 if the workers do not fit.

    Only nodes with GPUs count, and each node's CPUs are divided among its own GPUs. All workers are equal, so the
    smallest share among the required nodes decides.
    """
    found = 0
    for node in sorted((node for node in nodes if node.gpus >= 1), key=lambda node: node.share, reverse=True):
        found += node.workers(node.share)
        if found >= workers:
            return node.share
    return 0
