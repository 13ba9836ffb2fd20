"""The small files of a workspace that an earlier version made: a base, two updates, and one that was killed.

``data/workspace-format-2.tar.xz`` was made by rewarm at 54d196a, when records had no format yet: ``init``, an update
with ``replay.share=auto`` and a price, one of shuffled words that the gate refused, ``promote``, ``rollback``, and an
update killed during training. ``expected-status.json`` is what its ``status --json`` printed. Models, texts and tokens
are left out.
"""

import json
import tarfile
from pathlib import Path
from typing import Any

from rewarm.pipeline.lineage.workspace import Workspace

ARCHIVE = Path(__file__).parent / "data" / "workspace-format-2.tar.xz"


def unpack(root: Path) -> tuple[Workspace, dict[str, Any]]:
    """The workspace in ``root``, and what the old version said of it."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(root, filter="data")
    said = root / "expected-status.json"
    expected: dict[str, Any] = json.loads(said.read_text())
    said.unlink()
    return Workspace(str(root)), expected
