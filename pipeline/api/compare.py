"""The function behind ``rewarm compare``."""

import tempfile
from pathlib import Path

from rewarm.pipeline.compare import Comparison, compare, find_home, find_model
from rewarm.pipeline.terminal import Terminal
from rewarm.stages.core.cluster import connected
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder


def comparison(a: str, b: str, on: str | None, scratch: Path | None, terminal: Terminal) -> Comparison:
    """Compare two releases or models; writes only to ``scratch``, or to a temporary folder that is then removed."""
    models = find_model(a, terminal), find_model(b, terminal)
    if models[0].folder.uri == models[1].folder.uri:
        raise UsageError(f"{a} and {b} are the same model ({models[0].folder})")
    home = find_home(models, on)
    if scratch is not None and scratch.exists() and any(scratch.iterdir()):
        raise UsageError(f"--scratch {scratch}: expected an empty or a new folder")
    with tempfile.TemporaryDirectory(prefix="rewarm-compare-") as temporary:
        place = Folder(scratch.absolute() if scratch is not None else temporary)
        terminal.update(f"{models[1].title} against {models[0].title}")
        with connected():
            return compare(*models, home, place, terminal)
