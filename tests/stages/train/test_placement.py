"""Where work is placed on clusters of several nodes, as the shipped manifests describe them, and mixed ones.

The nodes are fake ones of a real Ray.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import aws_nodes, kuberay_nodes, on_cluster

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.resources import Node, Room, bootstrap_kinds, cpus_beside_gpu, gpu_workers
from rewarm.stages.train import TrainSettings
from rewarm.stages.train.placement import awaited, gpu_worker_cpus, refuse_without_room

MANIFESTS = {
    "cluster.yaml": aws_nodes(),
    "rayjob": kuberay_nodes("kuberay-rayjob.yaml"),
    "raycronjob": kuberay_nodes("kuberay-raycronjob.yaml"),
}
HEAD = (4, 0)


def spread(nodes: list[tuple[tuple[int, int], int]]) -> list[tuple[int, int]]:
    return [shape for shape, count in nodes for _ in range(count)]


def room(*shapes: tuple[int, int], coming: tuple[tuple[int, int], ...] | None = ()) -> Room:
    return Room(
        tuple(Node(*shape) for shape in shapes),
        coming=None if coming is None else tuple(Node(*shape) for shape in coming),
    )


def settings(workers: int, **given: Any) -> TrainSettings:
    return TrainSettings.model_validate({"global_batch": 5040, "num_workers": workers, "device": "gpu", **given})


@pytest.mark.parametrize(
    ("shapes", "workers", "each"),
    [
        ([(16, 0), (48, 4)], 4, 12),
        ([(8, 0), *[(8, 1)] * 8], 8, 8),  # over all nodes it would be 9, which no pod has
        ([(16, 0), *[(48, 4)] * 4], 16, 12),  # over all nodes it would be 13, which places 12
        ([(48, 4), (32, 8)], 4, 12),
        ([(48, 4), (32, 8)], 5, 4),
        ([(48, 4), (32, 8)], 12, 4),
        ([(2, 4)], 2, 1),
        ([(2, 4)], 3, 0),  # two CPUs hold two workers
        ([(64, 0)], 1, 0),
        ([], 1, 0),
    ],
)
def test_a_worker_beside_a_gpu_gets_its_share_of_that_node(
    shapes: list[tuple[int, int]], workers: int, each: int
) -> None:
    nodes = [Node(*shape) for shape in shapes]
    assert cpus_beside_gpu(nodes, workers) == each
    if each:
        assert gpu_workers(nodes, each) >= workers


def test_nodes_that_may_come_count_only_if_those_that_are_up_do_not_suffice() -> None:
    assert gpu_worker_cpus(settings(4), room((16, 0), (48, 4), coming=((96, 8),))) == 12
    assert gpu_worker_cpus(settings(8), room((16, 0), coming=((96, 8),))) == 12
    assert gpu_worker_cpus(settings(8), room((16, 0), coming=None)) == 1  # it fits wherever a GPU is
    assert gpu_worker_cpus(settings(8, cpus_per_worker=3), room((16, 0), coming=None)) == 3


@pytest.mark.parametrize(
    ("given", "there", "says"),
    [
        ({"workers": 8}, room((2, 0)), "needs 8 GPUs, but this machine has 0: --set train.device=cpu"),
        ({"workers": 1}, room((2, 0)), "needs 1 GPU, but this machine has 0"),
        ({"workers": 8}, room((64, 6)), "this machine has 6: --set train.num_workers=6 or --set train.device=cpu"),
        ({"workers": 8, "global_batch": 8}, room((64, 6)), "--set train.num_workers=6 or"),
        (
            {"workers": 8},
            room((8, 0), coming=((32, 4),)),
            "has 0 and its autoscaler may add 4: --set",
        ),
        ({"workers": 4, "cpus_per_worker": 13}, room((48, 4)), "on nodes of 4 GPUs and 48 CPUs: lower it"),
        (
            {"workers": 4},
            room((4, 0), (2, 4)),
            "needs 4 GPUs, but this machine has 4, on nodes of 4 GPUs and 2 CPUs, which hold 2 workers of one GPU and "
            "one CPU: --set train.num_workers=2 or --set train.device=cpu",
        ),
    ],
)
def test_what_can_never_be_placed_is_refused_with_what_there_is(given: dict[str, Any], there: Room, says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("(", r"\(")):
        refuse_without_room(settings(**given), there)


def test_a_cluster_that_may_grow_is_waited_for() -> None:
    growing = room((8, 0), coming=None)
    refuse_without_room(settings(8), growing)
    assert "needs 8 GPUs, the cluster has 0 now" in (awaited(settings(8), growing) or "")
    assert awaited(settings(8), room((96, 8), coming=None)) is None
    assert awaited(settings(8, device="cpu"), growing) is None


def test_the_kinds_of_nodes_are_known_from_what_ray_up_leaves_on_the_head(tmp_path: Path) -> None:
    file = tmp_path / "ray_bootstrap_config.yaml"
    assert bootstrap_kinds(file) is None
    kinds = {"head": {"resources": {"CPU": 16}, "max_workers": 0}, "gpu": {"resources": {"CPU": 48, "GPU": 4}}}
    file.write_text(json.dumps({"max_workers": 3, "available_node_types": kinds}))
    assert bootstrap_kinds(file) == {(16.0, 0.0): 0, (48.0, 4.0): 3}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_full_cluster_of_each_shipped_file_holds_a_worker_on_every_gpu(name: str) -> None:
    nodes = [Node(*shape) for shape in spread(MANIFESTS[name])]
    every = sum(int(node.gpus) for node in nodes)
    each = cpus_beside_gpu(nodes, every)
    assert each >= 1
    assert gpu_workers(nodes, each) == every


def test_workers_are_placed_on_a_gpu_node_beside_a_head_without_one() -> None:
    found = on_cluster({"do": "place", "nodes": [(16, 0), (48, 4)], "settings": [{"num_workers": 4}]})["found"]
    assert found == [
        {"each": {"CPU": 12, "GPU": 1}, "gpu": True, "placed": True, "nodes": 1, "models": [True, 4]},
    ]


@pytest.mark.faults
@pytest.mark.parametrize("name", ["cluster.yaml", "rayjob"])
def test_every_gpu_of_a_full_cluster_gets_its_worker(name: str) -> None:
    nodes = spread(MANIFESTS[name])
    every, shape = sum(gpus for _, gpus in nodes), nodes[-1]
    found = on_cluster({"do": "place", "nodes": nodes, "settings": [{"num_workers": every}, {"num_workers": shape[1]}]})
    full, one = found["found"]
    assert full["placed"]
    assert full["each"] == {"CPU": shape[0] // shape[1], "GPU": 1}
    assert full["nodes"] == len(nodes) - 1
    assert one["placed"]
    assert one["nodes"] == 1, "workers that fit on one node do not buy another"


@pytest.mark.faults
def test_nodes_of_several_kinds_hold_what_they_can() -> None:
    nodes = [HEAD, (12, 4), (8, 8), (6, 1)]
    counts = [1, 4, 5, 12]
    found = on_cluster({"do": "place", "nodes": nodes, "settings": [{"num_workers": count} for count in counts]})[
        "found"
    ]
    assert [one["placed"] for one in found] == [True] * 4
    assert [one["each"]["CPU"] for one in found] == [6, 3, 3, 1]


@pytest.mark.faults
def test_a_cluster_without_gpu_nodes_asks_for_what_its_autoscaler_can_add() -> None:
    asked = {"do": "place", "nodes": [(16, 0)], "kinds": aws_nodes(), "patience": 1}
    found = on_cluster({**asked, "settings": [{"num_workers": 16}]})["found"]
    assert found == [{"each": {"CPU": 12, "GPU": 1}, "gpu": True, "placed": False, "nodes": 0, "models": [True, 16]}]
    refused = on_cluster({**asked, "settings": [{"num_workers": 20}]})["error"]
    assert "needs 20 GPUs, but the cluster has 0 and its autoscaler may add 16" in refused


@pytest.mark.faults
def test_models_wait_for_a_gpu_node_and_say_so() -> None:
    found = on_cluster({"do": "read", "nodes": [HEAD], "comes": (8, 2)})
    assert found["found"] == "done"
    assert (
        "reading: waiting for room: requested 2 × (1 GPU + 1 CPU); available: 1 node with 4 of 4 CPUs"
        in found["notes"][0]
    )
    assert "no node is being started" in found["notes"][0]


@pytest.mark.faults
def test_models_that_find_no_room_end_with_what_was_asked() -> None:
    found = on_cluster({"do": "read", "nodes": [HEAD]}, RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S="1")
    assert found["error"].startswith("NoRoomError: reading: found no room on the cluster in 0 minutes: requested 2 × (")


@pytest.mark.faults
def test_training_that_finds_no_room_says_so_and_ends(tmp_path: Path) -> None:
    given = {"device": "gpu", "num_workers": 2, "max_failures": 1}
    found = on_cluster(
        {"do": "train", "nodes": [HEAD], "folder": str(tmp_path), "settings": given},
        RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S="4",
    )
    waits = [note for note in found["notes"] if "waiting for room: requested 2 × (1 GPU + 1 CPU)" in note]
    assert len(waits) >= 2
    assert any("its workers found no room on the cluster in time" in note for note in found["notes"])
    assert found["error"].startswith("NoRoomError: train: found no room on the cluster in 2 attempts: requested 2 × (")
