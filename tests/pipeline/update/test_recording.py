"""Forgetting in an update's record: only between losses that were measured in the same way."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rewarm.pipeline.update.record import losses_before
from rewarm.stages.core.storage import MANIFEST, Folder


def making(root: Path, before: dict[str, Any] | None, after: dict[str, Any]) -> Any:
    """An update and the release before it, each with the conditions of its evaluation; None: it has none."""
    for name, settings in {"0001-old": before, "0002-new": after}.items():
        if settings is not None:
            manifest = {
                "step": "evaluate",
                "identity": {"version": 1, "settings": settings, "inputs": {}},
                "outcome": {},
                "seconds": 1.0,
            }
            (Folder(root) / name / "evaluation").write_json(MANIFEST, manifest)
    current = SimpleNamespace(id="0001-old", losses={"release": {"docs": 3.0}})
    return SimpleNamespace(
        compared_with=lambda: current,
        workspace=SimpleNamespace(update=lambda name: Folder(root) / name),
        folder=Folder(root) / "0002-new",
    )


@pytest.mark.parametrize("before", [{"seq_len": 64, "reading": 2, "tasks": ["mmlu"]}, None])
def test_losses_measured_in_the_same_way_are_compared(tmp_path: Path, before: dict[str, Any] | None) -> None:
    made = making(tmp_path, before, {"seq_len": 64, "reading": 2})
    assert losses_before(made) == ({"docs": 3.0}, [])


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ({"seq_len": 64, "document_mask": True}, "reading: None → 2"),  # before each document was read by itself
        ({"seq_len": 32, "reading": 2}, "seq_len: 32 → 64"),
    ],
)
def test_others_are_not_and_the_record_says_so(tmp_path: Path, before: dict[str, Any], said: str) -> None:
    losses, (note,) = losses_before(making(tmp_path, before, {"seq_len": 64, "reading": 2}))
    assert losses == {}
    assert "forgetting is omitted: 0001-old was measured under other settings" in note
    assert said in note


def test_a_base_has_nothing_before_it() -> None:
    nothing: Any = SimpleNamespace(compared_with=lambda: None)
    assert losses_before(nothing) == ({}, [])
