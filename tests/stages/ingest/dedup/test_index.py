"""Looking keys up in a dataset's index, and what a torn one says."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_duplicates import Home

from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.ingest.dedup.decide import Fate, check_indices
from rewarm.stages.ingest.dedup.index import NEAR_FILE, NearSegment, number_mask

KEYS = st.lists(st.integers(0, 9).map(lambda key: key << 60) | st.integers(0, 2**64 - 1), max_size=40)


@given(KEYS, KEYS)
def test_lookup_finds_the_first_and_the_last_document_of_a_key(indexed: list[int], wanted: list[int]) -> None:
    mask = number_mask(len(indexed))
    entries = np.sort(np.array(indexed, np.uint64) & ~mask | np.arange(len(indexed), dtype=np.uint64))
    segment = NearSegment(None, np.zeros((len(indexed), 2), np.uint64), Folder("/"))
    keys = np.sort(np.array(wanted, np.uint64))
    first, last, found = segment.lookup(entries, keys)
    expected = [
        [row for row, other in enumerate(indexed) if other | int(mask) == key | int(mask)] for key in sorted(wanted)
    ]
    assert found.tolist() == [bool(rows) for rows in expected]
    assert first.tolist() == [rows[0] for rows in expected if rows]
    assert last.tolist() == [rows[-1] for rows in expected if rows]


@pytest.mark.parametrize("documents", [1, 2, 3, 4, 5, 1024, 1025])
def test_the_low_bits_hold_every_number(documents: int) -> None:
    assert int(number_mask(documents)) >= documents - 1
    assert int(number_mask(documents)) < max(2, 2 * documents - 1)


def test_an_index_of_the_version_before_opens_with_a_note(home: Callable[..., Home]) -> None:
    """Versions 1 and 2 folded less; their other signatures are the same. A later one or other settings are refused."""
    place = home()
    place.decide("a", ["one two three four five six", "vier fünf sechs"])
    table = place.index("a").read(NEAR_FILE)

    def as_version(version: int) -> None:
        place.index("a").write(NEAR_FILE, table.replace(b'"version":3', b'"version":%d' % version))

    as_version(1)
    segment = NearSegment.open(place.index("a"), place.settings)
    assert segment is not None
    assert segment.version == 1
    notes = Notes()
    check_indices([place.index("a")], place.settings, notes)
    assert "1 datasets were indexed before texts were normalised as now (a)" in notes.said[0]
    assert "in NFD" in notes.said[0]
    fates, _ = place.decide("b", ["One, two. Three; four: five - six", "vier fu\u0308nf sechs", "seven eight"], ["a"])
    assert fates[:2] == [Fate.EARLIER_NEAR, Fate.EARLIER_EXACT]  # the second is its composed form, which is indexed
    assert fates[2] in (Fate.TRAIN, Fate.VALIDATE)
    with pytest.raises(UsageError, match=r"a: .* was made with seed 1, but the settings are seed 2"):
        NearSegment.open(place.index("a"), place.settings.model_copy(update={"seed": 2}))
    as_version(4)
    with pytest.raises(UsageError, match=r"a: .* is from a later release \(version 4; this release reads up to 3\)"):
        NearSegment.open(place.index("a"), place.settings)


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def test_a_torn_index_is_named(home: Callable[..., Home]) -> None:
    place = home()
    place.decide("a", ["one two three", "four five six"])
    whole = place.index("a").read(NEAR_FILE)
    for torn in (b"", whole[:-50], whole[:40], b"x" * 500):
        place.index("a").write(NEAR_FILE, torn)
        with pytest.raises(StageError, match=r"a: near.arrow cannot be read .*restore the file"):
            place.decide("b", ["seven eight"], ["a"])
    place.index("a").write(NEAR_FILE, whole)
    place.index("a").delete("doc_ids.arrow")
    with pytest.raises(StageError, match=r"doc_ids.arrow is missing"):
        Home(place.root).decide("c", ["seven eight"], ["a"])
