"""A command that is stopped in the middle of a step; every command and step is in ``end_to_end/test_signals.py``."""

import json
import signal
from pathlib import Path

from small_lineage import command, docstrings
from stopped_commands import began, stop_when


def test_it_ends_in_seconds_with_one_line_and_leaves_no_process(tmp_path: Path) -> None:
    texts, workspace = tmp_path / "docs.jsonl", tmp_path / "lm"
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in docstrings()))
    words = ("init", workspace, "--recipe", "tiny", "--data", f"docs={texts}")
    found = stop_when(command(*words), began(workspace / "datasets" / "docs"), signal.SIGTERM)
    assert found is not None
    assert found.code == 128 + signal.SIGTERM, found.said
    assert found.last_line.startswith("rewarm: stopped by SIGTERM; run the same command"), found.said
    assert (found.lingering, found.left) == ([], [])
    assert found.seconds <= found.limit
    assert not (workspace / "datasets" / "docs" / "manifest.json").exists()
