"""Prometheus metrics exported through Ray: names, units, labels and descriptions, and their reporter.

Ray exports each metric of its processes as ``ray_<name>`` on the node's metrics port, with labels of its own in
addition (``WorkerId``, ``NodeAddress``, ``SessionName``). A restarted worker reports under another ``WorkerId``, so a
query must aggregate over Ray's labels (``max by (workspace, update, …)``), as those in ``pipeline/monitoring`` do.
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
LABEL_LENGTH = 80  # characters; longer labels are truncated
REFRESH = 1.0  # seconds between refreshes of gauges: Ray's shortest report interval


@dataclass(frozen=True)
class Metric:
    """Definition of a metric; the name ends with its unit, a counter's with ``_total``."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    description: str
    labels: tuple[str, ...]
    boundaries: tuple[float, ...] = ()  # upper ends of a histogram's buckets


def gauge(name: str, labels: tuple[str, ...], description: str) -> Metric:
    """Define a gauge, a value that goes up and down."""
    return Metric(f"rewarm_{name}", "gauge", description, labels)


METRICS = {
    metric.name: metric
    for metric in (
        # An update and its stages, from the driver.
        gauge(
            "update_started_timestamp_seconds",
            UPDATE,
            "Time at which this command started or resumed the update, Unix time.",
        ),
        gauge("update_finished_timestamp_seconds", UPDATE, "Time at which the update finished, Unix time."),
        gauge("last_progress_timestamp_seconds", STAGE, "Time of the last observed progress, Unix time."),
        gauge("stage_active", STAGE, "1: the stage is running; 0: it has finished."),
        gauge("stage_seconds", STAGE, "Duration of a finished stage in seconds."),
        gauge("stage_progress_ratio", STAGE, "Progress of the running stage's current task, 0 to 1."),
        # Training, from rank 0 of the workers.
        Metric("rewarm_trained_tokens_total", "counter", "Tokens trained, including repeated steps.", STAGE),
        Metric("rewarm_step_seconds", "histogram", "Duration of an optimizer step in seconds.", STAGE, STEP_SECONDS),
        gauge("tokens_per_second", STAGE, "Tokens trained per second by all workers, counting only time in steps."),
        gauge("model_flops_utilization_ratio", STAGE, "MFU: model FLOPs per second over the devices' peak."),
        gauge("training_loss_nats", STAGE, "Loss of the last reported steps, nats per token."),
        gauge(
            "validation_loss_nats", (*STAGE, "dataset"), "Loss at the last validation during training, nats per token."
        ),
        gauge("learning_rate", STAGE, "Learning rate of the last step."),
        gauge("gradient_norm", STAGE, "Norm of the last step's gradient, before clipping."),
        gauge("training_step", STAGE, "Optimizer steps done."),
        gauge("training_steps", STAGE, "Total optimizer steps of the stage."),
        gauge("replay_share_ratio", STAGE, "Share of replayed sequences so far."),
        gauge("replay_share_requested_ratio", STAGE, "Planned share of replayed sequences."),
        # Documents of an arrival, from ingest's account.
        gauge("step_documents_in", (*UPDATE, "dataset", "step"), "Documents that entered a step of ingest."),
        gauge("step_documents_out", (*UPDATE, "dataset", "step"), "Documents that left a step of ingest."),
        gauge(
            "documents_refused", (*UPDATE, "dataset", "step", "reason"), "Documents dropped or quarantined by a step."
        ),
        # The lineage's record, from the driver.
        gauge(
            "release_loss_nats", (*UPDATE, "dataset"), "A release's loss on a whole validation split, nats per token."
        ),
        gauge("forgetting_nats", (*UPDATE, "dataset"), "A release's loss minus that of the previous release."),
        gauge("gate_accepted", UPDATE, "1: the update's release (or a base's) was accepted; 0: refused or held."),
        gauge("gate_failed_checks", UPDATE, "Number of the gate's checks that the release failed."),
        gauge("release_current", UPDATE, "1: the current release; 0: any other."),
        # State of a watch, from the holder of the workspace and from the watch.
        gauge("arrivals", ("workspace", "state"), "Arrivals that a watch has seen, by outcome."),
        gauge("arrivals_longest_wait_seconds", ("workspace",), "Waiting time of the first complete arrival."),
        gauge("watch_running", ("workspace",), "1: `rewarm watch` is running, without --once; 0: it is not."),
        gauge("watch_paused", ("workspace",), "1: the watch is paused and ingests nothing."),
        gauge("watch_blocked", ("workspace",), "1: the watch cannot ingest until a person intervenes."),
        gauge("watch_tick_timestamp_seconds", ("workspace",), "Time of the last completed tick, Unix time."),
        gauge("watch_seen_timestamp_seconds", ("workspace",), "Time of the watch's last heartbeat or end, Unix time."),
        # The workspace, from its holder.
        gauge("disk_free_bytes", ("workspace",), "Free bytes on the workspace's filesystem."),
        gauge("disk_used_bytes", ("workspace",), "Used bytes on the workspace's filesystem, by anything."),
        gauge("lease_age_seconds", ("workspace",), "Age of the workspace's lease."),
        gauge("lease_expires_in_seconds", ("workspace",), "Time until others may take the lease; below 0: it is lost."),
    )
}


class Reporter:
    """Reporter of metrics under fixed labels; does nothing without labels, or if Ray is not initialised.

    Instruments are created on first use in the reporting process. Reporting costs microseconds: Ray sends the metrics
    of its processes once per report interval (10 s by default). Ray drops a gauge two intervals after it was set, so a
    thread refreshes all gauges as long as the reporter and its Ray exist.
    """

    def __init__(self, labels: Mapping[str, str]) -> None:
        self.labels = dict(labels)
        self._instruments: dict[str, Any] = {}
        self._gauges: dict[tuple[str, tuple[str, ...]], float] = {}  # by name and label values
        self._keeper: threading.Thread | None = None

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        if (instrument := self._instrument(name)) is not None:
            tags = self._tags(name, labels)
            if self._keeper is None or not self._keeper.is_alive():
                self._keeper = keep_alive(self)
            self._gauges[name, tuple(tags.values())] = float(value)
            instrument.set(float(value), tags=tags)

    def drop(self, name: str) -> None:
        """Stop reporting a gauge, so that Ray drops it."""
        for key in [key for key in self._gauges if key[0] == name]:
            del self._gauges[key]

    def refresh(self) -> None:
        """Set all gauges to their current values again."""
        for (name, values), value in list(self._gauges.items()):
            self._instruments[name].set(value, tags=dict(zip(METRICS[name].labels, values, strict=True)))

    def count(self, name: str, by: float, **labels: str) -> None:
        """Increment a counter; an increment of 0 does nothing."""
        if by > 0 and (instrument := self._instrument(name)) is not None:
            instrument.inc(float(by), tags=self._tags(name, labels))

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add a value to a histogram."""
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
    """Start a thread that refreshes a reporter until the reporter, Ray or the process ends."""
    known, stop = weakref.ref(reporter), threading.Event()

    def work() -> None:
        while not stop.wait(REFRESH) and ray_is_initialized() and (found := known()) is not None:
            found.refresh()
            del found

    thread = threading.Thread(target=work, name="rewarm-metrics", daemon=True)
    weakref.finalize(reporter, stop.set)  # also when the process ends: nothing is reported during shutdown
    thread.start()
    return thread


def ray_is_initialized() -> bool:
    """Return whether this process belongs to a Ray cluster, without importing Ray."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def make(metric: Metric) -> Any:
    """Create Ray's instrument for a metric."""
    from ray.util.metrics import Counter, Gauge, Histogram

    if metric.kind == "histogram":
        return Histogram(metric.name, metric.description, list(metric.boundaries), metric.labels)
    return {"gauge": Gauge, "counter": Counter}[metric.kind](metric.name, metric.description, metric.labels)
