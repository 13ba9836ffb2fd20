"""Choosing by scores: best first, ties by id, until the share of tokens is filled."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewarm.stages.core.errors import StageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokens import read_selection
from rewarm.stages.select import SelectSettings, run
from rewarm.stages.select.run import SCORE_SCHEMA, SCORES, choose

SIZES = st.lists(st.integers(1, 50), min_size=1, max_size=40).map(np.array)
SHARES = st.floats(0.01, 1.0)


@given(SIZES, SHARES)
def test_documents_are_taken_until_the_share_is_filled_and_no_further(sizes: np.ndarray, share: float) -> None:
    taken = sizes[choose(sizes, share, 0.0)]
    wanted = max(1, round(share * sizes.sum()))
    assert taken.sum() >= wanted
    assert taken[:-1].sum() < wanted


@given(SIZES, SHARES, SHARES)
def test_a_larger_share_holds_the_smaller_one(sizes: np.ndarray, one: float, other: float) -> None:
    small, large = (choose(sizes, share, 0.0) for share in sorted((one, other)))
    assert small.start == large.start == 0
    assert small.stop <= large.stop


@given(SIZES, st.floats(0.0, 0.9), SHARES)
def test_what_is_trimmed_fills_its_share_and_is_not_chosen(sizes: np.ndarray, trim: float, share: float) -> None:
    chosen = choose(sizes, share, trim)
    trimmed, wanted = sizes[: chosen.start], round(trim * sizes.sum())
    assert trimmed.sum() >= wanted
    assert trimmed[:-1].sum() < wanted or not len(trimmed)
    assert chosen.stop > chosen.start or trimmed.sum() == sizes.sum()


def scores(folder: Folder, rows: list[tuple[str, float, int]]) -> Folder:
    with folder.writing(SCORES) as scratch:
        pq.write_table(pa.table([list(column) for column in zip(*rows, strict=True)], schema=SCORE_SCHEMA), scratch)
    return folder


ROWS = [("d", 2.0, 10), ("b", 1.0, 10), ("a", 3.0, 10), ("c", 1.0, 10), ("e", 0.5, 10)]


@pytest.mark.parametrize(
    ("by", "share", "trim", "rows"),
    [
        ("perplexity", 0.2, 0.0, [4]),
        ("perplexity", 0.4, 0.0, [1, 4]),  # b and c are equal: b, the lower id
        ("perplexity", 0.6, 0.0, [1, 3, 4]),
        ("perplexity", 0.4, 0.2, [1, 3]),
        ("perplexity", 0.43, 0.0, [1, 3, 4]),  # the document that fills the share is taken
        ("classifier", 0.4, 0.0, [0, 2]),
        ("random", 0.001, 0.0, [4]),
        ("random", 1.0, 0.0, [0, 1, 2, 3, 4]),
    ],
)
def test_the_best_are_chosen(tmp_path: Path, by: str, share: float, trim: float, rows: list[int]) -> None:
    settings = SelectSettings.model_validate({"by": by, "share": 0.1, "trim": trim, "reference": "wiki"})
    outcome = run(scores(Folder(tmp_path / "scores"), ROWS), Folder(tmp_path / "out"), settings, share, Silent())
    assert read_selection(Folder(tmp_path / "out")).tolist() == rows
    ranking = pq.read_table(tmp_path / "out" / "ranking.parquet").to_pydict()
    assert ranking["doc_id"] == [row[0] for row in ROWS]
    assert [row for row, chosen in enumerate(ranking["chosen"]) if chosen] == rows
    assert (outcome.documents, outcome.tokens, outcome.chosen_documents) == (5, 50, len(rows))
    assert outcome.chosen_tokens == 10 * len(rows)
    chosen = [ROWS[row][1] for row in rows]
    assert {outcome.best, outcome.threshold} == {min(chosen), max(chosen)}


def test_trimming_everything_away_is_an_error(tmp_path: Path) -> None:
    settings = SelectSettings(by="perplexity", share=0.1, trim=0.9)
    folder = scores(Folder(tmp_path / "scores"), [("a", 1.0, 1), ("b", 2.0, 99)])
    with pytest.raises(StageError, match=r"trim 0\.9 leaves none of 2 documents"):
        run(folder, Folder(tmp_path / "out"), settings, 0.1, Silent())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"by": "classifier"}, "needs reference"),
        ({"by": "random", "trim": 0.1}, "but by random"),
        ({"by": "perplexity", "trim": 0.1}, "share 1.0 and trim 0.1"),
        ({"share": 0}, "greater than 0"),
        ({"epochs": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SelectSettings.model_validate(settings)


def test_scores_do_not_depend_on_what_is_done_with_them() -> None:
    one, other = SelectSettings(by="perplexity", share=0.1, epochs=4, trim=0.05), SelectSettings(by="perplexity")
    assert one.scoring() == other.scoring() != SelectSettings().scoring()
    assert "reference" not in one.identity()
