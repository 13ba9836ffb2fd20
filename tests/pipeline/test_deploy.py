"""The image and the Kubernetes manifests: what KubeRay's definitions accept, and what keeps a cluster safe.

No Docker and no Kubernetes: the manifests are checked against KubeRay's published schema, the Dockerfile by its parts.
"""

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml
from typer.main import get_command

from pipeline.cli import app

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "pipeline" / "deploy"
SCHEMA = json.loads((ROOT / "tests" / "kuberay_schema.json").read_text())


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def job_specs() -> dict[str, dict[str, Any]]:
    """Both manifests' RayJob specs."""
    return {
        "RayJob": documents("kuberay-rayjob.yaml")[1]["spec"],
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
    cluster = spec["rayClusterSpec"]
    templates = [spec["submitterPodTemplate"], cluster["headGroupSpec"]["template"]]
    return [
        template["spec"] for template in [*templates, *(group["template"] for group in cluster["workerGroupSpecs"])]
    ]


@pytest.mark.parametrize(
    ("name", "kind"), [("kuberay-rayjob.yaml", "RayJob"), ("kuberay-raycronjob.yaml", "RayCronJob")]
)
def test_manifests_are_what_kuberay_accepts(name: str, kind: str) -> None:
    manifest = documents(name)[-1]
    assert manifest["kind"] == kind
    validate(manifest)
    for path, value in (("spec.shutdownAfterJob", True), ("metadata.nam", "x"), ("spec.rayClusterSpec.auth", {})):
        *parents, last = path.split(".")
        broken = json.loads(json.dumps(manifest))
        at = broken
        for parent in parents:
            at = at.setdefault(parent, {})
        at[last] = value
        with pytest.raises(jsonschema.ValidationError):
            validate(broken)


def test_a_cluster_asks_for_its_token_and_no_pod_is_root(spec: dict[str, Any]) -> None:
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    for pod in pods(spec):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 1000
    assert "useradd --create-home --uid 1000" in (DEPLOY / "Dockerfile").read_text()


def test_a_lost_head_is_another_try_and_nothing_stays_behind(spec: dict[str, Any]) -> None:
    assert spec["backoffLimit"] >= 1
    assert spec["shutdownAfterJobFinishes"] is True
    assert 0 < spec["ttlSecondsAfterFinished"] <= 3600
    assert spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["submitterPodTemplate"]["spec"]["restartPolicy"] == "Never"
    assert "entrypointNumCpus" not in spec


def test_workers_come_from_nothing_with_one_gpu_each(spec: dict[str, Any]) -> None:
    cluster = spec["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is True
    [group] = cluster["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"]) == (0, 0)
    assert group["maxReplicas"] >= 1
    [worker] = group["template"]["spec"]["containers"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert worker["resources"]["limits"] == worker["resources"]["requests"]


def test_head_and_workers_see_one_workspace(spec: dict[str, Any]) -> None:
    claim = documents("kuberay-rayjob.yaml")[0]
    assert claim["kind"] == "PersistentVolumeClaim"
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in pods(spec)[1:]:
        [volume], [container] = pod["volumes"], pod["containers"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        [mount] = container["volumeMounts"]
        assert mount["name"] == volume["name"]
        for path in re.findall(r"(?<![\w-])/\w+", spec["entrypoint"]):
            assert path.startswith(mount["mountPath"])


def test_all_run_one_image_with_the_ray_that_is_pinned(spec: dict[str, Any]) -> None:
    assert len({container["image"] for pod in pods(spec) for container in pod["containers"]}) == 1
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert pinned is not None
    assert spec["rayClusterSpec"]["rayVersion"] == pinned[1]


def test_entrypoints_are_commands_of_ours() -> None:
    group = get_command(app)
    for kind, spec in job_specs().items():
        words = shlex.split(spec["entrypoint"])
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
        next(at for at, step in enumerate(steps) if text in step) for text in ("requirements.lock", "stages.operators")
    ]
    assert order == sorted(order)
    assert not [step for step in steps if re.search(r"https?://", step)], "an index is the builder's choice"


def test_the_images_python_is_one_we_run_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = re.search(r"^ARG PYTHON=(\S+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert found is not None
    assert project["requires-python"] == ">=3.11,<3.13"
    assert found[1] in ("3.11", "3.12")
