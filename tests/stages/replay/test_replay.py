"""Replay: the mixture that an update trains on, and the account of it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from stages.errors import UsageError
from stages.mixture import Mixture
from stages.progress import Silent
from stages.replay import MIXTURE, Earlier, ReplayOutcome, ReplaySettings, run
from stages.storage import Folder
from stages.tokens import TokenFormat, write_shard


@pytest.fixture
def root(tmp_path: Path) -> Folder:
    """Datasets of 40, 30 and 10 sequences of 16 tokens, and one that holds none."""
    for name, tokens in (("new", 641), ("old", 481), ("older", 161), ("short", 5)):
        columns = {
            "doc_id": pa.array(["x"]),
            "tokens": pa.array([np.arange(tokens) % 50], pa.large_list(pa.uint16())),
            "num_bytes": pa.array([tokens], pa.int64()),
        }
        with (Folder(tmp_path) / name).writing("00000.arrow") as path:
            write_shard(path, TokenFormat("t", 0, "uint16"), [pa.record_batch(columns)])
    return Folder(tmp_path)


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def mix(
    root: Folder, share: float, budget: int | None = None, earlier: tuple[str, ...] = ("old", "older"), **replayed: int
) -> tuple[ReplayOutcome, Mixture, list[str]]:
    notes = Notes()
    sources = [Earlier(name, root / name, 1, replayed.get(name, 0)) for name in earlier]
    outcome = run({"new": root / "new"}, sources, root / "out", ReplaySettings(share=share), 16, 4, budget, 7, notes)
    return outcome, Mixture.from_json((root / "out").read_json(MIXTURE)), notes.said


def test_the_update_costs_the_same_tokens_whatever_the_share(root: Folder) -> None:
    for share in (0.0, 0.05, 0.25, 0.5):
        outcome, mixture, _ = mix(root, share)
        assert outcome.planned == 640 == outcome.new + outcome.replayed
        assert abs(outcome.replayed / 16 - share * 40) <= 1
        assert mixture.steps == 10


def test_replayed_datasets_share_by_tokens(root: Folder) -> None:
    outcome, _, _ = mix(root, 0.5)
    parts = outcome.by_dataset
    assert {name: part["sequences"] for name, part in parts.items()} == {"old": 15, "older": 5}
    assert sum(part["share"] for part in parts.values()) == pytest.approx(outcome.achieved)


def test_replay_begins_where_it_stopped(root: Folder) -> None:
    outcome, mixture, _ = mix(root, 0.5, old=12)
    assert mixture.replayed[0].start == 12
    assert (outcome.by_dataset["old"]["from"], outcome.by_dataset["old"]["to"]) == (12, 27)


def test_a_budget_is_cut_to_whole_batches(root: Folder) -> None:
    assert mix(root, 0.25, budget=300)[0].planned == 256


def test_a_budget_past_the_data_reads_it_again_and_says_so(root: Folder) -> None:
    outcome, _, notes = mix(root, 0, budget=1280)
    assert outcome.epochs == 2
    assert "2.00 passes" in notes[0]


def test_nothing_to_replay_is_said(root: Folder) -> None:
    for earlier in ((), ("short",)):
        outcome, mixture, notes = mix(root, 0.25, earlier=earlier)
        assert (outcome.requested, outcome.achieved, outcome.source, mixture.share) == (0.25, 0, "none", "0")
        assert "no earlier data" in notes[0]


@pytest.mark.parametrize("budget", [None, 30])
def test_less_than_one_batch_is_refused(root: Folder, budget: int | None) -> None:
    name = "short" if budget is None else "new"
    with pytest.raises(UsageError, match="one step takes 4"):
        run({name: root / name}, [], root / "out", ReplaySettings(share=0), 16, 4, budget, 7, Silent())
