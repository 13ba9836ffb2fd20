"""What rewarm tells Prometheus through Ray: every metric's name, unit, labels and meaning, and the way to report it.

Ray exports each metric of any of its processes as ``ray_<name>`` on the node's metrics port, with labels of its own
beside ours (``WorkerId``, ``NodeAddress``, ``SessionName``). A restarted worker reports under another ``WorkerId``: a
query aggregates over Ray's labels (``max by (workspace, update, …)``), as those in ``pipeline/monitoring`` do.
"""

import sys
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

EXPORTED = "ray_"  # Ray's prefix of every metric's name
UPDATE = ("workspace", "update")
STAGE = (*UPDATE, "stage")
STEP_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
LABEL_LENGTH = 80  # characters; what is longer is cut
REFRESH = 1.0  # seconds, the shortest of Ray's report intervals: so often gauges are set again


@dataclass(frozen=True)
class Metric:
    """One metric; the name ends in its unit, a counter's in ``_total``."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    description: str
    labels: tuple[str, ...]
    boundaries: tuple[float, ...] = ()  # upper ends of a histogram's buckets


def gauge(name: str, labels: tuple[str, ...], description: str) -> Metric:
    """A value that goes up and down."""
    return Metric(f"rewarm_{name}", "gauge", description, labels)


METRICS = {
    metric.name: metric
    for metric in (
        # An update and its stages, from the driver.
        gauge("update_started_timestamp_seconds", UPDATE, "When this command took the update up, Unix time."),
        gauge("update_finished_timestamp_seconds", UPDATE, "When the update was finished, Unix time."),
        gauge("last_progress_timestamp_seconds", STAGE, "When work was last seen to move on, Unix time."),
        gauge("stage_active", STAGE, "1: the stage that is running now; 0: one that has run."),
        gauge("stage_seconds", STAGE, "Seconds that a finished stage took."),
        gauge("stage_progress_ratio", STAGE, "Part of the running stage's present piece of work that is done, 0 to 1."),
        # Training, from rank 0 of the workers.
        Metric("rewarm_trained_tokens_total", "counter", "Tokens trained, repeated steps included.", STAGE),
        Metric("rewarm_step_seconds", "histogram", "Seconds of an optimizer step.", STAGE, STEP_SECONDS),
        gauge("tokens_per_second", STAGE, "Tokens trained a second, all workers, over the steps alone."),
        gauge("model_flops_utilization_ratio", STAGE, "MFU: model FLOPs per second over the devices' peak."),
        gauge("training_loss_nats", STAGE, "Loss of the last steps that were exchanged, nats per token."),
        gauge("validation_loss_nats", (*STAGE, "dataset"), "Loss at the last look during training, nats per token."),
        gauge("learning_rate", STAGE, "Learning rate of the last step."),
        gauge("gradient_norm", STAGE, "Norm of the last step's gradient, before clipping."),
        gauge("training_step", STAGE, "Optimizer steps done."),
        gauge("training_steps", STAGE, "Optimizer steps that the stage has."),
        gauge("replay_share_ratio", STAGE, "Part of the sequences so far that was replayed."),
        gauge("replay_share_requested_ratio", STAGE, "Part of the sequences that is to be replayed."),
        # Documents of an arrival, from the account that ingest leaves.
        gauge("step_documents_in", (*UPDATE, "dataset", "step"), "Documents that came into a step of ingest."),
        gauge("step_documents_out", (*UPDATE, "dataset", "step"), "Documents that left a step of ingest."),
        gauge(
            "documents_refused", (*UPDATE, "dataset", "step", "reason"), "Documents left out or quarantined by a step."
        ),
        # The lineage's record, from the driver.
        gauge("release_loss_nats", (*UPDATE, "dataset"), "A release's loss on a whole validation split, nats a token."),
        gauge("forgetting_nats", (*UPDATE, "dataset"), "A release's loss minus that of the release before it."),
        gauge("gate_accepted", UPDATE, "1: the update's release was let through, as a base's is; 0: refused or held."),
        gauge("gate_failed_checks", UPDATE, "How many of the gate's checks the release failed."),
        gauge("release_current", UPDATE, "1: the current release; 0: any other."),
        # What a watch has seen, from whoever holds the workspace, and from the watch.
        gauge("arrivals", ("workspace", "state"), "Arrivals that a watch has seen, by what became of them."),
        gauge("arrivals_longest_wait_seconds", ("workspace",), "How long the first complete arrival has waited."),
        gauge("watch_running", ("workspace",), "1: `rewarm watch` runs; 0: it does not."),
        gauge("watch_paused", ("workspace",), "1: the watch is paused, and takes nothing in."),
        gauge("watch_blocked", ("workspace",), "1: the watch can take nothing in until somebody looks at it."),
        gauge("watch_tick_timestamp_seconds", ("workspace",), "When a tick was last answered, Unix time."),
        # The workspace, from whoever holds it.
        gauge("disk_free_bytes", ("workspace",), "Free on the filesystem that the workspace lies on."),
        gauge("disk_used_bytes", ("workspace",), "Used on the filesystem that the workspace lies on, by anything."),
        gauge("lease_age_seconds", ("workspace",), "How long ago the workspace's lease was taken."),
        gauge("lease_expires_in_seconds", ("workspace",), "Until others may take the lease over; below 0: it is lost."),
    )
}


class Reporter:
    """Reports metrics under fixed labels; does nothing without labels, or where Ray is not initialised.

    Instruments are made in the process that reports, when it first does. Reporting costs microseconds: Ray sends what
    its processes have once in a report interval (10 s by default). It forgets a gauge two intervals after it was set,
    so a thread sets all of a reporter's gauges again, as long as there is the reporter and its Ray.
    """

    def __init__(self, labels: Mapping[str, str]) -> None:
        self.labels = dict(labels)
        self._instruments: dict[str, Any] = {}
        self._gauges: dict[tuple[str, tuple[str, ...]], float] = {}  # by name and values of the labels
        self._keeper: threading.Thread | None = None

    def set(self, name: str, value: float, **labels: str) -> None:
        """A gauge's value."""
        if (instrument := self._instrument(name)) is not None:
            tags = self._tags(name, labels)
            if self._keeper is None or not self._keeper.is_alive():
                self._keeper = keep_alive(self)
            self._gauges[name, tuple(tags.values())] = float(value)
            instrument.set(float(value), tags=tags)

    def drop(self, name: str) -> None:
        """Report a gauge no more: Ray forgets it."""
        for key in [key for key in self._gauges if key[0] == name]:
            del self._gauges[key]

    def refresh(self) -> None:
        """Set all gauges to what they are."""
        for (name, values), value in list(self._gauges.items()):
            self._instruments[name].set(value, tags=dict(zip(METRICS[name].labels, values, strict=True)))

    def count(self, name: str, by: float, **labels: str) -> None:
        """Count a counter up; by 0 does nothing."""
        if by > 0 and (instrument := self._instrument(name)) is not None:
            instrument.inc(float(by), tags=self._tags(name, labels))

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Enter a value into a histogram."""
        if (instrument := self._instrument(name)) is not None:
            instrument.observe(float(value), tags=self._tags(name, labels))

    def _tags(self, name: str, labels: Mapping[str, str]) -> dict[str, str]:
        given = {**self.labels, **labels}
        return {label: given[label][:LABEL_LENGTH] for label in METRICS[name].labels}

    def _instrument(self, name: str) -> Any:
        if not (self.labels and ray_is_initialized()):
            return None
        if name not in self._instruments:
            self._instruments[name] = make(METRICS[name])
        return self._instruments[name]


def keep_alive(reporter: Reporter) -> threading.Thread:
    """Refresh a reporter in a thread, until it is gone, or Ray is, or the process ends."""
    known, stop = weakref.ref(reporter), threading.Event()

    def work() -> None:
        while not stop.wait(REFRESH) and ray_is_initialized() and (found := known()) is not None:
            found.refresh()
            del found

    thread = threading.Thread(target=work, name="rewarm-metrics", daemon=True)
    weakref.finalize(reporter, stop.set)  # also when the process ends: nothing is reported while it is taken down
    thread.start()
    return thread


def ray_is_initialized() -> bool:
    """Whether this process belongs to a Ray cluster; does not import Ray."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def make(metric: Metric) -> Any:
    """Ray's instrument for a metric."""
    from ray.util.metrics import Counter, Gauge, Histogram

    if metric.kind == "histogram":
        return Histogram(metric.name, metric.description, list(metric.boundaries), metric.labels)
    return {"gauge": Gauge, "counter": Counter}[metric.kind](metric.name, metric.description, metric.labels)
