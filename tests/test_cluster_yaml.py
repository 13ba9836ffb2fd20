"""cluster.yaml is what Ray accepts, and keeps the doors shut. Offline: nothing here talks to AWS."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from copied_source import assert_complete, copy_source
from ray.autoscaler._private.util import hash_runtime_conf, prepare_config, validate_config

ROOT = Path(__file__).parent.parent
CLUSTER = ROOT / "cluster.yaml"


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load(CLUSTER.read_text())


@pytest.fixture
def prepared(cluster: dict[str, Any]) -> dict[str, Any]:
    """As ``ray up`` completes it with Ray's own defaults."""
    return prepare_config(cluster)


def ray_starts(prepared: dict[str, Any]) -> dict[str, str]:
    """The command that starts Ray, by where it is found; every one of them, whatever the group is called."""
    found = {
        f"{key}[{position}]": command
        for key, commands in prepared.items()
        if key.endswith("_commands")
        for position, command in enumerate(commands)
        if re.search(r"\bray start\b", command)
    }
    assert {key.partition("[")[0] for key in found} == {"head_start_ray_commands", "worker_start_ray_commands"}
    return found


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for key, item in value.items() for text in [str(key), *strings(item)]]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [str(value)]


def test_it_holds_only_what_rays_schema_knows(cluster: dict[str, Any]) -> None:
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(cluster, schema)
    with pytest.raises(jsonschema.ValidationError, match="nodes_of_mine"):
        jsonschema.validate(cluster | {"nodes_of_mine": 3}, schema)


def test_ray_prepares_and_accepts_it(prepared: dict[str, Any]) -> None:
    validate_config(prepared)
    assert prepared["head_node_type"] == "head"
    assert prepared["available_node_types"]["head"]["max_workers"] == 0


def test_gpu_nodes_scale_from_nothing_and_go_again(prepared: dict[str, Any]) -> None:
    group = prepared["available_node_types"]["gpu"]
    assert group["min_workers"] == 0
    assert 0 < group["max_workers"] <= prepared["max_workers"]
    assert prepared["idle_timeout_minutes"] > 0
    assert "InstanceMarketOptions" not in group["node_config"]  # spot is the user's choice: in a comment
    assert "# InstanceMarketOptions: {MarketType: spot}" in CLUSTER.read_text()


def test_the_settings_in_comments_are_what_ray_accepts() -> None:
    """A role for buckets, and spot nodes: the user takes the comment sign away."""
    text = CLUSTER.read_text()
    for line in ("IamInstanceProfile: {Name: rewarm-bucket}", "InstanceMarketOptions: {MarketType: spot}"):
        assert text.count(f"# {line}") == 1
        text = text.replace(f"# {line}", line)
    config = prepare_config(yaml.safe_load(text))
    validate_config(config)
    gpu = config["available_node_types"]["gpu"]["node_config"]
    assert gpu["IamInstanceProfile"] == {"Name": "rewarm-bucket"}
    assert gpu["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "IamInstanceProfile" not in config["available_node_types"]["head"]["node_config"]  # Ray's own can buy nodes


def test_the_dashboard_listens_on_loopback(prepared: dict[str, Any]) -> None:
    for where, command in ray_starts(prepared).items():
        hosts = re.findall(r"--dashboard-host[= ](\S+)", command)
        assert hosts == (["127.0.0.1"] if "--head" in command else []), where


def test_every_ray_asks_for_the_token_and_every_node_has_it(prepared: dict[str, Any]) -> None:
    for where, command in ray_starts(prepared).items():
        before = command.partition("ray start")[0]
        assert re.search(r"export [^;]*\bRAY_AUTH_MODE=token\b", before), where
    assert prepared["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    assert prepared["auth"]["ssh_user"] == "ubuntu"  # whose home that is


def test_no_port_is_open_to_the_internet(prepared: dict[str, Any]) -> None:
    assert not [text for text in strings(prepared) if "0.0.0.0" in text or "::/0" in text]
    for name, node in prepared["available_node_types"].items():
        # without groups of its own a node gets Ray's, which opens SSH to 0.0.0.0/0
        assert node["node_config"].get("SecurityGroupIds"), name
    assert "security_group" not in prepared["provider"]


def test_no_ids_of_anybodys_account(cluster: dict[str, Any]) -> None:
    assert not [text for text in strings(cluster) if re.search(r"\b(ami|sg|subnet|vpc)-[0-9a-f]{8,}\b", text)]


def test_training_waits_for_autoscaling(prepared: dict[str, Any]) -> None:
    for where, command in ray_starts(prepared).items():
        seconds = re.search(r"\bRAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S=(\d+)", command)
        assert seconds is not None and int(seconds.group(1)) >= 600, where
        assert "RAY_TRAIN_ENABLE_STATE_TRACKING=1" in command, where


def test_operators_are_built_on_every_node_before_ray_runs(prepared: dict[str, Any]) -> None:
    for key in ("head_setup_commands", "worker_setup_commands"):
        commands = prepared[key]
        lock, build = (
            next(position for position, command in enumerate(commands) if word in command)
            for word in ("requirements.lock", "-m rewarm.stages.core.operators")
        )
        assert lock < build, key


def test_mounted_code_is_there_and_small(cluster: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = {far: near for far, near in cluster["file_mounts"].items() if near.startswith("./")}
    assert {"./rewarm", "./pipeline", "./stages", "./requirements.lock"} <= set(mounts.values())
    assert not [near for near in mounts.values() if near in (".", "./")]  # Ray would hash .venv and every workspace
    assert {"__pycache__", ".venv", ".git", "workspaces"} <= set(cluster["rsync_exclude"])
    monkeypatch.chdir(ROOT)
    assert not [near for near in mounts.values() if not Path(near).exists()]
    runtime, _ = hash_runtime_conf(mounts, None, {"test": "cluster.yaml"})
    assert runtime


def test_mounted_code_is_the_whole_package(cluster: dict[str, Any], tmp_path: Path) -> None:
    home = "/home/ubuntu/rewarm/"
    for far, near in cluster["file_mounts"].items():
        if far.startswith(home):
            copy_source(ROOT / near, tmp_path / far.removeprefix(home))
    assert_complete(tmp_path)
