"""Every query of the dashboard, and every alert's, asked of a real Prometheus that scraped real updates."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from monitoring_queries import asked, metrics_in, panel_queries, rules
from prometheus import Cluster, Prometheus, prometheus, ray_with_metrics, wait_for
from small_lineage import Lineage, command

from rewarm.pipeline.monitoring.files import content
from rewarm.stages.core.metrics import METRICS

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(
        shutil.which("prometheus") is None,
        reason="prometheus (Debian and Ubuntu: apt-get install prometheus) is missing",
    ),
]
SMALL = (
    *("evaluate.task_documents=0", "train.num_workers=1", "budget.base_tokens=16000", "budget.update_tokens=8000"),
    "ingest.shard_bytes=100000",  # more shards than are run without Ray Data
)


@dataclass(frozen=True)
class Watched:
    """A base and an update, and the Prometheus that watched."""

    prometheus: Prometheus
    cluster: Cluster
    workspace: Path

    def record(self, name: str) -> Any:
        return json.loads((self.workspace / name).read_text())

    def last(self, metric: str, **labels: str) -> dict[tuple[str, ...], float]:
        """The last value of every series of a metric that has these labels, by its other labels."""
        chosen = ", ".join(f'{name}="{value}"' for name, value in labels.items())
        rest = [label for label in METRICS[metric].labels if label not in labels]
        query = f"max by ({', '.join(rest)}) (ray_{metric}{{{chosen}}})"
        return {tuple(found[name] for name in rest): values[-1] for found, values in self.prometheus.series(query)}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    root = tmp_path_factory.mktemp("watched")
    (root / "inbox").mkdir()
    lineage, edited = Lineage(root), yaml.safe_load(content("alerts.yaml"))
    sets = [word for setting in SMALL for word in ("--set", setting)]
    [group] = edited["groups"]
    group["interval"] = "1s"
    for rule in group["rules"]:
        if rule["alert"] == "RewarmArrivalLate":
            rule["expr"] = rule["expr"].replace("8 * 86400", "1")
    with ray_with_metrics(root) as cluster, prometheus(root, cluster.discovery, edited) as found:
        for arguments in (
            [*lineage.init(lineage.workspace), *sets],
            ["watch", str(lineage.workspace), "--inbox", str(root / "inbox"), "--once"],  # one tick of a schedule
            [*lineage.update(lineage.workspace), *sets],
        ):
            done = subprocess.run(
                command(*arguments),
                env=cluster.environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=400,
            )
            assert done.returncode == 0, done.stderr[-3000:]
        finished = 'count(ray_rewarm_update_finished_timestamp_seconds{update="0001-code"})'
        wait_for("the end of the update", lambda: found.series(finished), 20)
        yield Watched(found, cluster, lineage.workspace)


def test_every_query_of_the_dashboard_returns_data(watched: Watched) -> None:
    for title, query in panel_queries():
        found = watched.prometheus.series(asked(query))
        assert found, f"{title}: nothing for {query}"


def test_every_metric_of_the_alerts_is_there_and_prometheus_runs_them(watched: Watched) -> None:
    for name in set().union(*(metrics_in(rule["expr"]) for rule in rules())):
        assert watched.prometheus.series(f"count(ray_{name})"), name
    found = watched.prometheus.rules()
    assert found.keys() == {rule["alert"] for rule in rules()}
    assert {rule["health"] for rule in found.values()} == {"ok"}, found


def test_an_alert_fires(watched: Watched) -> None:
    """With a threshold of a second, the next arrival is late at once."""
    wait_for("the alert", lambda: watched.prometheus.rules()["RewarmArrivalLate"]["state"] == "firing", 20)


def test_the_figures_are_those_of_the_records(watched: Watched) -> None:
    update, code = watched.record("updates/0001-code/update.json"), {"update": "0001-code"}
    assert watched.last("rewarm_forgetting_nats", workspace="work space", **code) == pytest.approx(
        {(name,): value for name, value in update["forgetting"].items()}
    )
    losses = watched.last("rewarm_release_loss_nats", workspace="work space", **code)
    assert losses == pytest.approx({(name,): value for name, value in update["losses"]["release"].items()})
    assert watched.last("rewarm_gate_accepted", workspace="work space") == {("0000-docs",): 1, ("0001-code",): 1}
    assert watched.last("rewarm_training_step", workspace="work space", stage="train", **code) == {
        (): update["train"]["steps"]
    }
    assert watched.last("rewarm_replay_share_ratio", workspace="work space", stage="train", **code) == pytest.approx(
        {(): update["replay"]["achieved"]}
    )
    steps = watched.record("datasets/docs/account.json")["steps"]
    out = watched.last("rewarm_step_documents_out", workspace="work space", update="0000-docs", dataset="docs")
    assert out == {(step["name"],): step["documents_out"] for step in steps}
    refused = watched.last("rewarm_documents_refused", workspace="work space", dataset="docs", update="0000-docs")
    assert refused["read", "invalid JSON"] == 1, refused


def test_the_utilisation_is_plausible(watched: Watched) -> None:
    """Measured against a timed matrix product, a small model on CPUs is somewhere between nothing and all of it."""
    for utilization in watched.last("rewarm_model_flops_utilization_ratio").values():
        assert 1e-4 < utilization < 1


def test_what_is_set_once_stays_as_long_as_its_process(watched: Watched) -> None:
    """Ray by itself would forget a gauge two report intervals after it was set."""
    [(_, started)] = watched.prometheus.series('max(ray_rewarm_update_started_timestamp_seconds{update="0001-code"})')
    steps = watched.record("updates/0001-code/update.json")["steps"].values()
    took = sum(step["seconds"] for step in steps)
    assert len(started) > 0.8 * took


def test_the_train_page_says_what_a_run_is_of(watched: Watched) -> None:
    runs = [
        run["run_settings"]["train_loop_config"] for run in watched.cluster.ask("/api/train/v2/runs/v1")["train_runs"]
    ]
    found = {(run["workspace"], run["update"], run["stage"]): run["datasets"] for run in runs}
    assert found.keys() == {("work space", update, "train") for update in ("0000-docs", "0001-code")}, (
        "the branch is trained by the workers of the trunk, in its run"
    )
    assert found["work space", "0001-code", "train"] == ["code", "docs"]


def test_the_data_page_names_the_jobs(watched: Watched) -> None:
    """The cluster's second driver is the base's, the third the update's."""
    for driver in ("02000000", "03000000"):
        names = [one["dataset"] for one in watched.cluster.ask(f"/api/data/datasets/{driver}")["datasets"]]
        assert {"reading", "writing", "tokenizing"} <= {name.split("_")[0] for name in names}, names


@pytest.mark.timeout(1500)
def test_every_query_of_the_dashboard_returns_data_during_a_demo(tmp_path: Path) -> None:
    """The demo's own text and recipe, with smaller budgets."""
    budgets = ("budget.base_tokens=120000", "budget.update_tokens=60000", "evaluate.task_documents=0")
    arguments = ["demo", "--dir", str(tmp_path / "demo"), *(word for one in budgets for word in ("--set", one))]
    alerts = yaml.safe_load(content("alerts.yaml"))
    with ray_with_metrics(tmp_path) as cluster, prometheus(tmp_path, cluster.discovery, alerts) as found:
        done = subprocess.run(
            command(*arguments), env=cluster.environment, capture_output=True, text=True, check=False, timeout=1200
        )
        assert done.returncode == 0, done.stderr[-3000:]
        for title, query in panel_queries():
            assert found.series(asked(query)), f"{title}: nothing for {query}"
