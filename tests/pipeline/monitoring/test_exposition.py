"""Metrics as text from a workspace's records: what Prometheus' own parser reads is what the records say."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from watch_world import update

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.monitoring.exposition import OF_A_PROCESS, escaped, exposition
from rewarm.pipeline.watch.journal import Draft, Journal, only_watch
from rewarm.pipeline.watch.run import now
from rewarm.stages.core.errors import StageError
from rewarm.stages.core.metrics import METRICS


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def labelled(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"ray_rewarm_{name}", frozenset({"workspace": "lm", **labels}.items())


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(str(tmp_path / "lm"))
    Lineage(made).record(update(0, "docs", finished="2026-11-01T03:00:00+00:00"))
    return made


def test_what_the_records_say_is_read_without_a_cluster(workspace: Workspace) -> None:
    dataset = 'nächste "Woche"\\'
    known = {"finished": "2026-11-30T03:00:00+00:00", "forgetting": {"docs": 0.25, dataset: -0.5}}
    lineage = Lineage(workspace)
    lineage.record(update(1, "news", state="refused", **known))
    journal = Journal(workspace.folder / "watch")
    journal.append(Draft("seen", "/in/a", {"name": "a", "fingerprint": "1", "files": 1, "bytes": 9}), now())
    (workspace.folder / "watch").write_json("clock.json", {"handled": "2026-11-30T03:00:00+00:00"})
    found = samples(exposition(workspace))
    assert found[labelled("update_finished_timestamp_seconds", update="0001-news")] == 1796007600
    assert found[labelled("gate_accepted", update="0001-news")] == 0
    assert found[labelled("release_current", update="0000-docs")] == 1
    assert found[labelled("forgetting_nats", update="0001-news", dataset=dataset)] == -0.5
    assert found[labelled("arrivals", state="arriving")] == 1
    assert found[labelled("watch_tick_timestamp_seconds")] == 1796007600
    assert labelled("watch_seen_timestamp_seconds") not in found, "nobody has watched"
    with only_watch(workspace.folder / "watch"):
        pass
    seen = samples(exposition(workspace))[labelled("watch_seen_timestamp_seconds")]
    assert 0 <= now().timestamp() - seen < 60
    assert found[labelled("disk_free_bytes")] > 0
    names = {name.removeprefix("ray_") for name, _ in found}
    assert names <= set(METRICS)
    assert not names & set(OF_A_PROCESS), "a command that has ended well is no alarm"


def test_records_that_cannot_be_read_are_an_error_not_fewer_metrics(workspace: Workspace) -> None:
    (workspace.folder.path / "commits" / "00000000.json").write_text("{")
    with pytest.raises(StageError):
        exposition(workspace)


def test_labels_are_escaped() -> None:
    assert escaped('a"b\\c\nd') == 'a\\"b\\\\c\\nd'
