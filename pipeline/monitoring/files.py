"""Configuration files for Grafana and Prometheus that ship with rewarm."""

from importlib.resources import files
from pathlib import Path

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder

NAMES = ("grafana.json", "alerts.yaml", "prometheus.yaml")


def content(name: str) -> bytes:
    """One of the files."""
    return (files("rewarm.pipeline.monitoring") / name).read_bytes()


def write_files(to: Path) -> list[Path]:
    """Write all of them to a folder; their paths.

    Raises ``UsageError`` and writes nothing if one of them exists with different content: users edit thresholds and
    addresses.
    """
    if to.exists() and not to.is_dir():
        raise UsageError(f"--to {to}: is a file, expected a folder")
    edited = [name for name in NAMES if (to / name).exists() and (to / name).read_bytes() != content(name)]
    if edited:
        raise UsageError(
            f"{to}: {' and '.join(edited)} differ from the files that come with rewarm; "
            "name another folder and compare, or delete them first"
        )
    for name in NAMES:
        Folder(to).write(name, content(name))
    return [to / name for name in NAMES]
