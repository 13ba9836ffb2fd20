"""The image and the Kubernetes manifests: what KubeRay's definitions accept, and what keeps a cluster safe.

No Docker and no Kubernetes: the manifests are checked against KubeRay's published schema, the Dockerfile by its parts.
"""

import json
import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml
from copied_source import assert_complete, copy_source
from fake_cluster import AWS
from typer.main import get_command

from rewarm.pipeline.cli import app

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "pipeline" / "deploy"
SCHEMA = json.loads((ROOT / "tests" / "kuberay_schema.json").read_text())


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def job_specs() -> dict[str, dict[str, Any]]:
    """Both manifests' RayJob specs."""
    return {
        "RayJob": documents("kuberay-rayjob.yaml")[0]["spec"],
        "RayCronJob": documents("kuberay-raycronjob.yaml")[0]["spec"]["jobTemplate"],
    }


@pytest.fixture(params=["RayJob", "RayCronJob"])
def spec(request: pytest.FixtureRequest) -> dict[str, Any]:
    return job_specs()[request.param]


def validate(manifest: dict[str, Any]) -> None:
    definition = {"$ref": f"#/$defs/{manifest['kind']}", "$defs": SCHEMA["$defs"]}
    jsonschema.Draft202012Validator(definition).validate(manifest)


def pods(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The pods of submitter, head and workers."""
    return [template["spec"] for template in templates(spec)]


def templates(spec: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = spec["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [spec["submitterPodTemplate"], *(group["template"] for group in groups)]


@pytest.mark.parametrize(
    ("name", "kind"), [("kuberay-rayjob.yaml", "RayJob"), ("kuberay-raycronjob.yaml", "RayCronJob")]
)
def test_manifests_are_what_kuberay_accepts(name: str, kind: str) -> None:
    manifest = documents(name)[-1]
    assert manifest["kind"] == kind
    validate(manifest)
    for path, value in (("spec.historyLimit", 3), ("metadata.nam", "x"), ("spec.rayClusterSpec.auth", {})):
        *parents, last = path.split(".")
        broken = json.loads(json.dumps(manifest))
        at = broken
        for parent in parents:
            at = at.setdefault(parent, {})
        at[last] = value
        with pytest.raises(jsonschema.ValidationError):
            validate(broken)


def test_a_cluster_asks_for_its_token(spec: dict[str, Any]) -> None:
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}


def test_pods_are_what_pod_security_restricted_admits(spec: dict[str, Any]) -> None:
    """The standard's list: https://kubernetes.io/docs/concepts/security/pod-security-standards/."""
    contained = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    for pod in pods(spec):
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == context["fsGroup"] == 1000
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not set(pod) & {"hostNetwork", "hostPID", "hostIPC"}
        assert [container["securityContext"] for container in pod["containers"]] == [contained]
        for volume in pod.get("volumes", []):
            assert set(volume) - {"name"} <= {"persistentVolumeClaim", "emptyDir", "configMap", "secret", "projected"}
    assert spec["rayClusterSpec"]["autoscalerOptions"]["securityContext"] == contained  # KubeRay adds this container
    assert "useradd --create-home --uid 1000" in (DEPLOY / "Dockerfile").read_text()


def test_a_lost_head_is_another_try_and_nothing_stays_behind(spec: dict[str, Any]) -> None:
    assert spec["backoffLimit"] >= 1
    assert spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["submitterPodTemplate"]["spec"]["restartPolicy"] == "Never"
    assert "entrypointNumCpus" not in spec


def test_clusters_go_when_a_run_has_ended_and_runs_when_they_are_old(spec: dict[str, Any]) -> None:
    """As KubeRay checks: no ``shutdownAfterJobFinishes`` beside rules, none twice, no run gone before its cluster."""
    assert not {"shutdownAfterJobFinishes", "ttlSecondsAfterFinished"} & set(spec)
    seconds: dict[tuple[str, str], dict[str, int]] = {}
    for rule in spec["deletionStrategy"]["deletionRules"]:
        [how] = [(key, value) for key, value in rule["condition"].items() if key != "ttlSeconds"]
        assert rule["policy"] not in seconds.setdefault(how, {})
        seconds[how][rule["policy"]] = rule["condition"]["ttlSeconds"]
    assert set(seconds) == {("jobStatus", "SUCCEEDED"), ("jobStatus", "FAILED"), ("jobDeploymentStatus", "Failed")}
    for after in seconds.values():
        assert 0 < after["DeleteCluster"] <= 3600
        assert 86400 <= after["DeleteSelf"] <= 30 * 86400


def test_a_run_is_not_moved_and_its_disk_is_reserved(spec: dict[str, Any]) -> None:
    for template in templates(spec):
        assert template["metadata"]["annotations"] == {
            "karpenter.sh/do-not-disrupt": "true",
            "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
        }
        [container] = template["spec"]["containers"]
        assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"]["requests"])
        assert {"memory", "ephemeral-storage"} <= set(container["resources"]["limits"])


def test_one_worker_has_a_whole_gpu_node_and_comes_from_nothing(spec: dict[str, Any]) -> None:
    cluster = spec["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is True
    [group] = cluster["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"]) == (0, 0)
    assert group["maxReplicas"] >= 1
    pod = group["template"]["spec"]
    [worker] = pod["containers"]
    kind = pod["nodeSelector"]["node.kubernetes.io/instance-type"]
    cpus, gpus = AWS[kind]
    limits, requests = worker["resources"]["limits"], worker["resources"]["requests"]
    assert int(limits["nvidia.com/gpu"]) == gpus, f"all GPUs of a {kind}"
    assert cpus * 0.8 < int(limits["cpu"]) < cpus
    assert {name: limits[name] for name in ("cpu", "memory", "nvidia.com/gpu")} == {
        name: requests[name] for name in ("cpu", "memory", "nvidia.com/gpu")
    }
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]


def test_head_and_workers_see_one_workspace_and_have_shared_memory(spec: dict[str, Any]) -> None:
    [claim] = documents("kuberay-volume.yaml")
    assert claim["kind"] == "PersistentVolumeClaim"
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in pods(spec)[1:]:
        volumes, [container] = {volume["name"]: volume for volume in pod["volumes"]}, pod["containers"]
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
        assert mounts["/shared"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"
        for path in re.findall(r"(?<![\w-])/\w+", spec["entrypoint"]):
            assert path in mounts


def test_each_arrival_is_a_job_of_its_own() -> None:
    [job] = documents("kuberay-rayjob.yaml")
    assert "name" not in job["metadata"], "a second apply of one name does nothing: KubeRay runs a RayJob once"
    assert len(job["metadata"]["generateName"]) + 5 <= 47  # KubeRay's limit; Kubernetes adds five characters
    assert "kubectl create -f kuberay-rayjob.yaml" in (DEPLOY / "kuberay-rayjob.yaml").read_text()


def test_the_feature_gate_that_a_schedule_needs_is_named() -> None:
    said = (DEPLOY / "kuberay-raycronjob.yaml").read_text()
    assert "featureGates[0].name=RayCronJob" in said
    assert "OFF by default" in said


@pytest.mark.parametrize(("code", "ends"), [(0, 0), (1, 1), (2, 1), (3, 0), (4, 0), (137, 1), (143, 1)])
def test_a_finished_update_is_not_run_again_whatever_its_verdict(code: int, ends: int, tmp_path: Path) -> None:
    """KubeRay runs a job again that ends with anything but 0; the shells are those that KubeRay and Ray start."""
    entrypoint = job_specs()["RayJob"]["entrypoint"]
    rewarm = tmp_path / "rewarm"
    rewarm.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/given\nexit {code}\n')
    rewarm.chmod(0o755)
    submit = f'for word in {entrypoint} ; do printf "%s\\0" "$word"; done'  # its submitter's shell takes it apart,
    words = subprocess.run(["bash", "-c", submit], capture_output=True, check=True, text=True).stdout.split("\0")[:-1]
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(shlex.join(words), shell=True, env={**os.environ, "PATH": path}, check=False)  # as Ray does
    assert done.returncode == ends
    assert (tmp_path / "given").read_text().split()[:2] == ["update", "/shared/lm"]


def test_all_run_one_image_with_the_ray_that_is_pinned(spec: dict[str, Any]) -> None:
    assert len({container["image"] for pod in pods(spec) for container in pod["containers"]}) == 1
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert pinned is not None
    assert spec["rayClusterSpec"]["rayVersion"] == pinned[1]


def test_entrypoints_are_commands_of_ours() -> None:
    group = get_command(app)
    for kind, spec in job_specs().items():
        words = shlex.split(spec["entrypoint"])
        words = shlex.split(words[2].partition(";")[0]) if words[0] == "sh" else words
        assert words[0] == "rewarm"
        if kind == "RayCronJob" and words[1] not in group.commands:  # type: ignore[attr-defined]
            continue
        context = typer.Context(group, info_name="rewarm")
        name, command, rest = group.resolve_command(context, words[1:])  # type: ignore[attr-defined]
        assert command is not None
        command.make_context(name, list(rest), parent=context)


def test_a_schedule_has_five_fields_and_a_zone() -> None:
    [cron] = documents("kuberay-raycronjob.yaml")
    assert len(cron["spec"]["schedule"].split()) == 5
    assert cron["spec"]["timeZone"]


def test_the_image_is_made_of_files_that_are_there_and_sent() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line for line in lines if line and not line.startswith("#")]
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    sent = [line.removeprefix("!") for line in ignore if line.startswith("!")]
    assert "*" in ignore
    copied = [word for step in steps if step.startswith("COPY") for word in shlex.split(step)[1:-1] if "--" not in word]
    assert set(copied) == set(sent)
    assert all((ROOT / name).exists() for name in copied)
    users = [step.split()[1] for step in steps if step.startswith("USER")]
    assert users[-1] == "rewarm"
    order = [
        next(at for at, step in enumerate(steps) if text in step)
        for text in ("requirements.lock", "rewarm.stages.core.operators")
    ]
    assert order == sorted(order)
    assert not [step for step in steps if re.search(r"https?://", step)], "an index is the builder's choice"


def test_the_image_has_the_whole_package(tmp_path: Path) -> None:
    for line in (DEPLOY / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY"):
            *names, target = (word for word in shlex.split(line)[1:] if not word.startswith("--"))
            for name in names:
                copy_source(ROOT / name, tmp_path / (name if target == "./" else target))
    assert_complete(tmp_path)


def test_the_images_python_is_one_we_run_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = re.search(r"^ARG PYTHON=(\S+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert found is not None
    assert project["requires-python"] == ">=3.11,<3.13"
    assert found[1] in ("3.11", "3.12")
