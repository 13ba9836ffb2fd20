"""A workspace's metrics as text for Prometheus, read from its records: they outlive the cluster that made them.

For node_exporter's textfile collector or a Pushgateway, from a machine that stays. Names are those that Ray exports, so
the alerts and the dashboard need no other ones.
"""

from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.monitoring.workspace import WorkspaceReport
from rewarm.stages.core.metrics import EXPORTED, METRICS, Reporter

# What only a running command knows: a watch with --once has ended well, and a lease that ran out may be a dead one's.
OF_A_PROCESS = ("rewarm_watch_running", "rewarm_lease_age_seconds", "rewarm_lease_expires_in_seconds")


class Exposition(Reporter):
    """Keeps gauges for a text instead of reporting them to Ray."""

    def set(self, name: str, value: float, **labels: str) -> None:
        """A gauge's value."""
        if name not in OF_A_PROCESS:
            self._gauges[name, tuple(self._tags(name, labels).values())] = float(value)

    def text(self) -> str:
        """All gauges in Prometheus' text format."""
        lines = []
        for name in dict.fromkeys(name for name, _ in self._gauges):
            metric = METRICS[name]
            lines += [f"# HELP {EXPORTED}{name} {metric.description}", f"# TYPE {EXPORTED}{name} gauge"]
            for (other, values), value in self._gauges.items():
                if other == name:
                    labels = ",".join(
                        f'{label}="{escaped(given)}"' for label, given in zip(metric.labels, values, strict=True)
                    )
                    lines.append(f"{EXPORTED}{name}{{{labels}}} {value!r}")
        return "\n".join([*lines, ""])


def escaped(value: str) -> str:
    """A label's value as the format writes it."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def exposition(workspace: Workspace) -> str:
    """The metrics of a workspace. Raises ``StageError`` or ``UsageError`` if its records cannot be read."""
    metrics = Exposition({"workspace": workspace.folder.name})
    report = WorkspaceReport(workspace, lambda: None, metrics)
    report.record()
    report.disk()
    report.arrivals.report()
    return metrics.text()
