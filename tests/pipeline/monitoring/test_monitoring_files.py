"""The dashboard and the rules speak of our metrics alone, and of all of them; Prometheus finds the rules right."""

import itertools
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from monitoring_queries import asked, dashboard, metrics_in, panel_queries, panels, rules, variable_queries

from rewarm.pipeline.monitoring.files import NAMES, content, write_files
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.metrics import METRICS

EXPRESSIONS = [expression for _, expression in panel_queries()] + [rule["expr"] for rule in rules()]
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is missing")


def test_every_query_is_of_metrics_that_are_defined_with_labels_that_they_have() -> None:
    for expression in [*EXPRESSIONS, *variable_queries()]:
        names = metrics_in(expression)
        assert names and names <= set(METRICS), (expression, names - set(METRICS))
        labels = set().union(*(METRICS[name].labels for name in names)) | {"le"}
        for grouped in re.findall(r"(?:by|on) \(([^)]*)\)", expression):
            assert set(grouped.replace(" ", "").split(",")) <= labels, expression


def test_every_metric_is_on_the_dashboard_or_in_a_rule() -> None:
    assert set().union(*map(metrics_in, EXPRESSIONS)) == set(METRICS)


def test_queries_aggregate_over_rays_own_labels() -> None:
    """A restarted worker is another WorkerId: a bare selector would show the update twice."""
    for expression in EXPRESSIONS:
        assert re.search(r"\b(sum|max|min) by \(", expression), expression


def test_the_names_say_the_unit() -> None:
    units = ("_seconds", "_ratio", "_nats", "_bytes", "_total", "_per_second")
    plain = {"learning_rate", "gradient_norm", "training_step", "training_steps", "stage_active", "step_documents_in"}
    plain |= {"step_documents_out", "documents_refused", "gate_accepted", "gate_failed_checks", "release_current"}
    plain |= {"arrivals", "watch_running", "watch_paused", "watch_blocked"}
    for metric in METRICS.values():
        assert metric.name.endswith(units) or metric.name.removeprefix("rewarm_") in plain, metric.name
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert "workspace" in metric.labels and metric.description.endswith(".")


def test_the_dashboard_can_be_imported() -> None:
    found = dashboard()
    assert found["id"] is None and found["uid"] and found["schemaVersion"] >= 36  # Grafana 9 and later
    ids = [panel["id"] for panel in found["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels():
        assert panel["datasource"]["uid"] == "${datasource}" and panel["title"] and panel["description"].endswith(".")
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEF"[: len(panel["targets"])])
        for target in panel["targets"]:
            asked(target["expr"])
    assert {one["name"] for one in found["templating"]["list"]} == {"datasource", "workspace", "update"}


def test_no_panels_overlap() -> None:
    for one, other in itertools.combinations([panel["gridPos"] for panel in dashboard()["panels"]], 2):
        apart = [one[at] + one[size] <= other[at] or other[at] + other[size] <= one[at] for at, size in ("xw", "yh")]
        assert any(apart), (one, other)
        assert one["x"] + one["w"] <= 24


def test_the_files_are_written_and_edited_ones_are_kept(tmp_path: Path) -> None:
    assert [path.read_bytes() for path in write_files(tmp_path / "new")] == [content(name) for name in NAMES]
    write_files(tmp_path / "new")
    (tmp_path / "new" / "alerts.yaml").write_text("groups: []")
    (tmp_path / "new" / "grafana.json").unlink()
    with pytest.raises(UsageError, match=r"alerts\.yaml differ"):
        write_files(tmp_path / "new")
    assert (tmp_path / "new" / "alerts.yaml").read_text() == "groups: []"
    assert not (tmp_path / "new" / "grafana.json").exists()


def test_the_operators_page_says_what_to_do_for_each_alert() -> None:
    page = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
    parts = re.split(r"^### (\w+)$", page, flags=re.MULTILINE)
    paragraphs = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert list(paragraphs) == [rule["alert"] for rule in rules()], "each alert, in the order of alerts.yaml"
    for alert, text in paragraphs.items():
        assert len(text.split()) >= 25, alert


TARGETS = "/tmp/ray/prom_metrics_service_discovery.json"


@needs_promtool
def test_prometheus_finds_rules_and_settings_right(tmp_path: Path) -> None:
    write_files(tmp_path)
    found = tmp_path / "found.json"  # Ray's list of targets, which is there while a Ray with a dashboard runs
    found.write_text("[]")
    settings = (tmp_path / "prometheus.yaml").read_text()
    assert TARGETS in settings
    (tmp_path / "prometheus.yaml").write_text(settings.replace(TARGETS, str(found)))
    for check in (["rules", "alerts.yaml"], ["config", "prometheus.yaml"]):
        done = subprocess.run(
            ["promtool", "check", *check], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr


def series(name: str, values: str, labels: str = "") -> dict[str, str]:
    """One of our series in promtool's notation: ``values`` by the minute, ``_`` for none, ``stale`` for its end."""
    own = f'workspace="lm", update="0001-news"{"," if labels else ""}{labels}'
    return {"series": f"ray_rewarm_{name}{{{own}}}", "values": values}


STAGE = 'stage="train"'
CASES: list[tuple[str, str, list[dict[str, str]], bool]] = [
    # alert, time to look, series by the minute, whether it fires
    ("RewarmStalled", "60m", [series("last_progress_timestamp_seconds", "0+60x10 600x60", STAGE)], True),
    ("RewarmStalled", "60m", [series("last_progress_timestamp_seconds", "0+60x10 stale", STAGE)], True),
    ("RewarmStalled", "60m", [series("last_progress_timestamp_seconds", "0+60x60", STAGE)], False),
    (
        "RewarmStalled",
        "60m",
        [
            series("last_progress_timestamp_seconds", "0+60x10 stale", STAGE),
            series("update_finished_timestamp_seconds", "_x9 600x2 stale"),
        ],
        False,
    ),
    ("RewarmLossSpike", "34m", [series("training_loss_nats", "3+0.01x15 3.15-0.01x15 5x10", STAGE)], True),
    ("RewarmLossSpike", "24m", [series("training_loss_nats", "10-0.2x40", STAGE)], False),
    ("RewarmLossNotANumber", "5m", [series("training_loss_nats", "3x3 NaN NaN NaN", STAGE)], True),
    ("RewarmLossNotANumber", "5m", [series("gradient_norm", "1x10", STAGE)], False),
    ("RewarmSlow", "50m", [series("tokens_per_second", "1000x30 400x40", STAGE)], True),
    ("RewarmSlow", "50m", [series("tokens_per_second", "1000x30 600x40", STAGE)], False),
    (
        "RewarmForgetting",
        "5m",
        [series("forgetting_nats", "0.2x9", 'dataset="docs"'), series("release_current", "1x9")],
        True,
    ),
    (
        "RewarmForgetting",
        "5m",
        [series("forgetting_nats", "0.2x9", 'dataset="docs"'), series("release_current", "0x9")],
        False,
    ),
    (
        "RewarmRefused",
        "5m",
        [series("gate_accepted", "0x9"), series("update_finished_timestamp_seconds", "60x9")],
        True,
    ),
    ("RewarmLeaseLost", "5m", [series("lease_expires_in_seconds", "60-30x9")], True),
    ("RewarmLeaseLost", "5m", [series("lease_expires_in_seconds", "60x9")], False),
    ("RewarmArrivalLate", "9m", [series("update_finished_timestamp_seconds", "-691000x2 stale")], True),
    ("RewarmArrivalLate", "2m", [series("update_finished_timestamp_seconds", "-691000x2 stale")], False),
    ("RewarmScheduleSilent", "9m", [series("watch_tick_timestamp_seconds", "-345500x2 stale")], True),
    ("RewarmScheduleSilent", "2m", [series("watch_tick_timestamp_seconds", "-345000x2 stale")], False),
    ("RewarmScheduleSilent", "9m", [series("watch_seen_timestamp_seconds", "-345500x2 stale")], True),
    ("RewarmScheduleSilent", "2m", [series("watch_seen_timestamp_seconds", "-345000x2 stale")], False),
    (
        "RewarmScheduleSilent",
        "9m",
        [
            series("watch_seen_timestamp_seconds", "540x9"),
            series("watch_tick_timestamp_seconds", "-345500x2 stale"),
        ],
        True,
    ),
    ("RewarmArrivalHeld", "5m", [series("arrivals", "1x9", 'state="held"')], True),
    ("RewarmArrivalHeld", "5m", [series("arrivals", "1x9", 'state="failed"')], False),
    ("RewarmWatchBlocked", "15m", [series("watch_blocked", "1x20")], True),
    ("RewarmWatchBlocked", "15m", [series("watch_blocked", "1x4 0x5 1x9")], False),
    ("RewarmWatchDown", "30m", [series("watch_running", "1x5 stale")], True),
    ("RewarmWatchDown", "30m", [series("watch_running", "1x5 0x30")], True),
    ("RewarmWatchDown", "30m", [series("watch_running", "0x40")], False),
    ("RewarmWatchDown", "30m", [series("watch_running", "1x5 0x5 1x30")], False),
    ("RewarmDiskLow", "5m", [series("disk_free_bytes", "9x9"), series("disk_used_bytes", "91x9")], True),
    ("RewarmDiskLow", "5m", [series("disk_free_bytes", "11x9"), series("disk_used_bytes", "89x9")], False),
]


@needs_promtool
def test_each_alert_fires_when_it_should_and_not_otherwise(tmp_path: Path) -> None:
    """Prometheus' own engine runs the rules over made-up series."""
    write_files(tmp_path)
    assert {alert for alert, *_, fires in CASES if fires} == {rule["alert"] for rule in rules()}
    tests = [expected(*case) for case in CASES]
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump({"rule_files": ["alerts.yaml"], "tests": tests}))
    command = ["promtool", "test", "rules", "tests.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def expected(alert: str, when: str, given: list[dict[str, str]], fires: bool) -> dict[str, Any]:
    """One of promtool's tests: it asks for the series that ``ALERTS`` holds, whatever the annotations say."""
    count = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})'
    samples = [{"labels": "{}", "value": 1}] if fires else []
    query = {"expr": count, "eval_time": when, "exp_samples": samples}
    return {"interval": "1m", "name": f"{alert} {fires}", "input_series": given, "promql_expr_test": [query]}
