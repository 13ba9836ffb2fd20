"""What a workspace reports of itself: the lease as time goes on, the disk, and gauges that stay as long as they are."""

import errno
import gc
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.monitoring.workspace import STATES, WorkspaceReport, observed
from rewarm.pipeline.watch.journal import MODE, Draft, Journal, only_watch
from rewarm.stages.core.errors import DamagedError, StageError
from rewarm.stages.core.metrics import METRICS, REFRESH
from rewarm.stages.core.patience import DEADLINE, patiently
from rewarm.stages.core.storage import Folder

pytestmark = pytest.mark.usefixtures("ray_cluster")


def report(folder: Path, lease: Callable[[], Mapping[str, Any] | None]) -> WorkspaceReport:
    return WorkspaceReport(Workspace(str(folder)), lease)


def gauges(of: WorkspaceReport) -> dict[str, float]:
    return {name.removeprefix("rewarm_"): value for (name, _), value in of.metrics._gauges.items()}


def test_disk_and_lease(tmp_path: Path) -> None:
    of = report(tmp_path, lambda: {"holder": "host, process 7", "age_s": 30.0, "expires_in_s": 45.0})
    of.surroundings()
    found = gauges(of)
    assert found["lease_age_seconds"] == pytest.approx(30, abs=1)
    assert found["lease_expires_in_seconds"] == pytest.approx(45, abs=1)
    assert found["disk_free_bytes"] > 0 and found["disk_used_bytes"] > 0


def test_a_lease_without_expiry_has_an_age_alone(tmp_path: Path) -> None:
    of = report(tmp_path, lambda: {"age_s": 100.0})
    of.surroundings()
    assert gauges(of)["lease_age_seconds"] == pytest.approx(100, abs=1)
    assert "lease_expires_in_seconds" not in gauges(of)


def test_a_lease_runs_out_also_where_its_storage_does_not_answer(tmp_path: Path) -> None:
    answers: list[Mapping[str, Any] | None] = [{"age_s": 1.0, "expires_in_s": 0.2}]

    def look() -> Mapping[str, Any] | None:
        if not answers:
            raise OSError("the storage does not answer")
        return answers.pop()

    of = report(tmp_path / "not there", look)
    of.surroundings()
    assert gauges(of)["lease_expires_in_seconds"] > 0
    time.sleep(0.3)
    of.surroundings()
    assert gauges(of)["lease_expires_in_seconds"] < 0 and gauges(of)["lease_age_seconds"] > 1.2
    assert "disk_free_bytes" not in gauges(of)
    answers.append(None)
    of.surroundings()
    left = gauges(of)
    assert not any(name.startswith(("lease", "disk")) for name in left), left


def test_a_store_that_does_not_answer_ends_nothing(tmp_path: Path) -> None:
    def silent() -> Mapping[str, Any] | None:
        raise StageError("the storage does not answer")

    (tmp_path / "watch" / "journal.jsonl").mkdir(parents=True)
    (tmp_path / "commits" / "00000000.json").mkdir(parents=True)
    with pytest.raises(DamagedError, match="found a folder"):
        Lineage(Workspace(str(tmp_path)))
    with observed(Workspace(str(tmp_path)), silent):
        pass


def test_a_command_that_ends_because_of_its_store_does_not_wait_for_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = list[float]()

    def stale() -> None:
        tries.append(time.monotonic())
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setenv(DEADLINE, "600")
    monkeypatch.setattr("rewarm.pipeline.monitoring.workspace.CONTACT_S", 0.5)
    of = report(tmp_path, lambda: None)
    monkeypatch.setattr(of, "record", lambda: patiently(stale, "here"))
    of.lineage()
    assert len(tries) > 1 and tries[-1] - tries[0] < 60


def test_arrivals_by_what_became_of_them(tmp_path: Path) -> None:
    of = report(tmp_path, lambda: None)
    of.surroundings()
    assert arrivals(of) == dict.fromkeys(STATES, 0)
    assert gauges(of)["watch_running"] == gauges(of)["watch_paused"] == gauges(of)["watch_blocked"] == 0
    journal, early = Journal(Folder(tmp_path / "watch")), datetime.now(UTC) - timedelta(hours=2)
    for name in ("waits", "broken", "comes"):
        journal.append(Draft("seen", name, {"name": name, "fingerprint": "a", "files": 1, "bytes": 1}), early)
    for name in ("waits", "broken"):
        journal.append(Draft("complete", name, {"by": "_SUCCESS", "marker": "1"}), early)
    journal.append(Draft("held", "broken", {"why": "broken", "because": "no document"}), early)
    journal.append(Draft("trouble", details={"because": "the inbox is gone"}), early)
    journal.append(Draft("paused"), early)
    with only_watch(Folder(tmp_path / "watch")):
        of.surroundings()
    assert {state: count for state, count in arrivals(of).items() if count} == {"arriving": 1, "complete": 1, "held": 1}
    assert gauges(of)["watch_running"] == gauges(of)["watch_paused"] == gauges(of)["watch_blocked"] == 1
    assert gauges(of)["arrivals_longest_wait_seconds"] == pytest.approx(7200, abs=60)
    of.surroundings()
    assert gauges(of)["watch_running"] == 0
    assert time.time() - gauges(of)["watch_seen_timestamp_seconds"] < 60, "it outlives the watch"


def test_a_watch_for_one_tick_is_not_missed_when_it_has_ended(tmp_path: Path) -> None:
    of, folder = report(tmp_path, lambda: None), Folder(tmp_path / "watch")
    for once, running in ((True, 0), (False, 1)):
        folder.write_json(MODE, {"once": once})
        with only_watch(folder):
            of.surroundings()
        assert gauges(of)["watch_running"] == running


def arrivals(of: WorkspaceReport) -> dict[str, float]:
    """Arrivals by state."""
    return {tags[1]: value for (name, tags), value in of.metrics._gauges.items() if name == "rewarm_arrivals"}


def test_gauges_are_refreshed_until_their_reporter_is_gone(tmp_path: Path) -> None:
    def refreshers() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "rewarm-metrics"}

    others = refreshers()  # of reporters that earlier tests left: each may end at any time
    of = report(tmp_path, lambda: None)
    assert refreshers() <= others
    of.surroundings()
    (ours,) = refreshers() - others
    instrument, seen = of.metrics._instruments["rewarm_disk_free_bytes"], list[float]()
    of.metrics._instruments["rewarm_disk_free_bytes"] = Witness(seen)
    time.sleep(2.5 * REFRESH)
    assert 1 <= len(seen) <= 3 and instrument.info["tag_keys"] == METRICS["rewarm_disk_free_bytes"].labels
    del of
    gc.collect()
    ours.join(timeout=5)
    assert not ours.is_alive()


class Witness:
    """Stands where an instrument does, and keeps what is set."""

    def __init__(self, seen: list[float]) -> None:
        self.seen = seen

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert tags.keys() == {"workspace"}
        self.seen.append(value)
