"""Clusters of fake nodes on this machine, as the shipped files describe them, and where work is placed there.

Run as a script: Ray keeps one connection a process, and its fake cluster must be used from the main thread. The nodes
are real raylets that claim CPUs and GPUs; nothing computes on them.
"""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
AWS = {"m6i.4xlarge": (16, 0), "g5.12xlarge": (48, 4), "p4d.24xlarge": (96, 8)}  # vCPUs and GPUs of instance types
Shape = tuple[int, int]  # CPUs and GPUs


def aws_nodes() -> list[tuple[Shape, int]]:
    """The node types of cluster.yaml, each with how many there may be, the head first."""
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    kinds = config["available_node_types"]
    head = kinds.pop(config["head_node_type"])
    return [
        (AWS[head["node_config"]["InstanceType"]], 1),
        *((AWS[kind["node_config"]["InstanceType"]], kind["max_workers"]) for kind in kinds.values()),
    ]


def kuberay_nodes(name: str) -> list[tuple[Shape, int]]:
    """The pods of a manifest, each with how many there may be, the head first."""
    manifest = list(yaml.safe_load_all((ROOT / "pipeline" / "deploy" / name).read_text()))[-1]["spec"]
    cluster = manifest.get("jobTemplate", manifest)["rayClusterSpec"]
    groups = [(cluster["headGroupSpec"], 1), *((group, group["maxReplicas"]) for group in cluster["workerGroupSpecs"])]
    limits = [(group["template"]["spec"]["containers"][0]["resources"]["limits"], count) for group, count in groups]
    return [((int(limit["cpu"]), int(limit.get("nvidia.com/gpu", 0))), count) for limit, count in limits]


def on_cluster(asked: dict[str, Any], **environment: str) -> dict[str, Any]:
    """The outcome of ``asked`` on a fake cluster of its own, in a process of its own."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "fake_cluster.py", json.dumps(asked)],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        stdout=subprocess.PIPE,
        check=True,
        timeout=900,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


class Echo:
    """An actor of a pool that does nothing."""

    def __init__(self, conditions: object) -> None:
        pass

    def work(self, piece: str) -> None:
        pass


def main(asked: dict[str, Any]) -> dict[str, Any]:
    """Start ``nodes``, place what is ``asked`` on them, and print the outcome."""
    import ray
    from ray.cluster_utils import Cluster

    from rewarm.stages.core import awaiting
    from rewarm.stages.core.errors import StageError, UsageError
    from rewarm.stages.core.progress import Silent

    class Notes(Silent):
        def __init__(self) -> None:
            self.notes = list[str]()

        def note(self, text: str) -> None:
            self.notes.append(text)

    awaiting.EVERY = 1.0
    small = {"object_store_memory": 80 << 20}
    (cpus, gpus), *others = asked["nodes"]
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": cpus, "num_gpus": gpus, "include_dashboard": False, **small},
    )
    for cpus, gpus in others:
        cluster.add_node(num_cpus=cpus, num_gpus=gpus, **small)
    os.environ["RAY_ADDRESS"] = cluster.address
    ray.init(address=cluster.address, log_to_driver=False)
    progress = Notes()
    try:
        if "kinds" in asked:
            report(asked["kinds"])
        return {**globals()[asked["do"]](asked, cluster, progress), "notes": progress.notes}
    except (StageError, UsageError) as error:
        return {"error": f"{type(error).__name__}: {error}", "notes": progress.notes}
    finally:
        ray.shutdown()
        cluster.shutdown()


def report(kinds: list[tuple[Shape, int]]) -> None:
    """Put a cluster's configuration where its autoscaler keeps it."""
    from ray import _raylet
    from ray.core.generated import autoscaler_pb2
    from ray.experimental.internal_kv import _internal_kv_put

    config = autoscaler_pb2.ClusterConfig()
    for number, ((cpus, gpus), most) in enumerate(kinds):
        group = config.node_group_configs.add(name=f"kind-{number}", max_count=most)
        group.resources.update({"CPU": cpus, "GPU": gpus})
    _internal_kv_put(
        _raylet.GCS_AUTOSCALER_CLUSTER_CONFIG_KEY.encode(),
        config.SerializeToString(),
        namespace=_raylet.GCS_AUTOSCALER_STATE_NAMESPACE.encode(),
    )


def place(asked: dict[str, Any], cluster: Any, progress: Any) -> dict[str, Any]:
    """Reserve for each setting what training would, as Ray Train does, one after the other."""
    import ray
    from ray.util.placement_group import placement_group, placement_group_table

    from rewarm.stages.train import TrainSettings, model_places, placed

    found = []
    for given in asked["settings"]:
        settings = TrainSettings.model_validate({"global_batch": 5040, "device": "gpu", **given})
        _, resources, on_gpu = placed(settings)
        group = placement_group([resources] * settings.num_workers, strategy="PACK")
        there = group.wait(asked.get("patience", 20))
        nodes = placement_group_table(group)["bundles_to_node_id"].values() if there else []
        ray.util.remove_placement_group(group)
        placed_on = {"placed": there, "nodes": len(set(nodes))}
        found.append({"each": resources, "gpu": on_gpu, **placed_on, "models": model_places(settings)})
    return {"found": found}


def read(asked: dict[str, Any], cluster: Any, progress: Any) -> dict[str, Any]:
    """Work through pieces on GPUs; after some seconds a node that has one comes, if ``comes`` names it."""
    from rewarm.stages.inference.actors import Pool

    left: list[BaseException] = []

    def work() -> None:
        try:
            with Pool(2, True, {}) as pool:
                pool.work_through(Echo, None, ["a", "b"], "reading", progress)
        except BaseException as error:
            left.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(4)
    if "comes" in asked:
        cpus, gpus = asked["comes"]
        cluster.add_node(num_cpus=cpus, num_gpus=gpus, object_store_memory=80 << 20)
    thread.join()
    if left:
        raise left[0]
    return {"found": "done"}


def update(asked: dict[str, Any], cluster: Any, progress: Any) -> dict[str, Any]:
    """Run an update by its command's function on the cluster; the nodes on which its processes ran, by kind."""
    import ray
    import ray._private.state

    from rewarm.pipeline.api import updates
    from rewarm.pipeline.terminal import Terminal

    ray.shutdown()  # the command joins the cluster itself
    status = updates.update(asked["workspace"], asked["data"], [], False, Terminal(quiet=True))
    assert not isinstance(status, dict)
    ray.init(address=cluster.address, log_to_driver=False)
    kinds: dict[str, list[str]] = {}
    for actor in ray._private.state.actors().values():
        if node := actor["Address"]["NodeID"]:
            kinds.setdefault(actor["ActorClassName"], []).append(node)
    weights = status.updates[-1].weights
    return {"found": kinds, "weights": {"trunk": weights.trunk, "release": weights.release}}


def train(asked: dict[str, Any], cluster: Any, progress: Any) -> dict[str, Any]:
    """Train on GPUs that never come."""
    from training_world import make_world

    from rewarm.stages import train as training

    job = make_world(Path(asked["folder"])).job("run", **asked["settings"])
    training.run(job, training.Group(progress))
    return {"found": "done"}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
