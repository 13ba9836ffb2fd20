"""The token stream against the plain concatenation of its documents, across batches and shards."""

import tempfile
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokens import TokenFormat, TokenSet, TokenStream, Window, write_selection, write_shard

END = 0
FORMAT = TokenFormat("digest-of-a-tokenizer", END, "uint16")
Documents = list[list[int]]
# Tokens of a document before its end-of-text; the id of end-of-text may not open a document by merely occurring inside.
DOCUMENT = st.lists(st.integers(0, 65_535), max_size=12)
SHARDS = st.lists(st.lists(st.lists(DOCUMENT, max_size=4), max_size=3), max_size=4)  # shards of batches of documents


def batch_of(documents: Documents, first: int, token_format: TokenFormat = FORMAT) -> pa.RecordBatch:
    rows = [
        {"doc_id": f"{first + i:032x}", "tokens": [*document, END], "num_bytes": 10 * len(document)}
        for i, document in enumerate(documents)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=token_format.schema())


def write(folder: Folder, shards: Sequence[Sequence[Documents]], token_format: TokenFormat = FORMAT) -> None:
    first = 0
    for number, batches in enumerate(shards):
        made = []
        for documents in batches:
            made.append(batch_of(documents, first, token_format))
            first += len(documents)
        folder.path.mkdir(exist_ok=True)
        write_shard(folder.path / f"{number:05d}.arrow", token_format, made)


def tokens_of(window: Window) -> list[int]:
    """The stream's tokens behind a window of documents without BOS: each input is the target before it."""
    assert window.inputs[1:].tolist() == window.targets[:-1].tolist()
    return [int(window.inputs[0]), *window.targets.tolist()]


def flat(shards: Sequence[Sequence[Documents]]) -> tuple[np.ndarray, np.ndarray, Documents]:
    """The stream, which positions open a document as an input, and the documents."""
    documents = [document for batches in shards for batch in batches for document in batch]
    stream = np.array([token for document in documents for token in [*document, END]], dtype=np.int64)
    opens = np.zeros(len(stream), dtype=bool)
    opens[np.cumsum([len(document) + 1 for document in documents], dtype=np.int64) - 1] = True
    return stream, opens, documents


@given(shards=SHARDS, data=st.data())
@settings(deadline=None, max_examples=150)
def test_windows_are_slices_of_the_concatenation(shards: list[list[Documents]], data: st.DataObject) -> None:
    expected, opens, documents = flat(shards)
    with tempfile.TemporaryDirectory() as scratch:
        write(Folder(scratch), shards)
        stream = TokenStream(Folder(scratch))
        assert (stream.num_tokens, stream.num_documents) == (len(expected), len(documents))
        assert stream.num_bytes == sum(10 * len(document) for document in documents)
        for _ in range(5):
            if len(expected) < 2:
                break
            length = data.draw(st.integers(1, len(expected) - 1))
            start = data.draw(st.integers(0, len(expected) - length - 1))
            window = stream.window(start, length)
            assert window.inputs.dtype == window.targets.dtype == np.int64
            assert tokens_of(window) == expected[start : start + length + 1].tolist()
            wanted = opens[start : start + length].copy()
            wanted[0] = True
            assert window.starts.tolist() == wanted.tolist()


@given(shards=SHARDS, seq_len=st.integers(1, 9))
@settings(deadline=None, max_examples=100)
def test_sequences_cover_the_stream_once(shards: list[list[Documents]], seq_len: int) -> None:
    expected, _, _ = flat(shards)
    with tempfile.TemporaryDirectory() as scratch:
        write(Folder(scratch), shards)
        stream = TokenStream(Folder(scratch))
        windows = [stream.sequence(index, seq_len) for index in range(stream.num_sequences(seq_len))]
        targets = [token for window in windows for token in window.targets.tolist()]
        assert targets == expected[1 : 1 + len(targets)].tolist()
        assert len(expected) - 1 - len(targets) < seq_len
        with pytest.raises(IndexError):
            stream.sequence(len(windows), seq_len)


@given(shards=SHARDS)
@settings(deadline=None, max_examples=50)
def test_spans_and_ids_are_the_documents(shards: list[list[Documents]]) -> None:
    expected, opens, documents = flat(shards)
    with tempfile.TemporaryDirectory() as scratch:
        write(Folder(scratch), shards)
        stream = TokenStream(Folder(scratch))
        ends, sizes = stream.document_spans()
        assert ends.tolist() == (np.flatnonzero(opens) + 1).tolist()
        assert sizes.tolist() == [10 * len(document) for document in documents]
        assert stream.document_ids() == [f"{i:032x}" for i in range(len(documents))]
        assert len(expected) == (ends[-1] if len(ends) else 0)


@pytest.mark.parametrize(
    ("place", "tokens", "starts", "positions"),
    [
        ((0, 3), [1, 2, 0, 3], [1, 0, 1], [0, 1, 0]),  # the end-of-text of "1 2" opens "3"
        ((1, 4), [2, 0, 3, 0, 4], [1, 1, 0, 1], [0, 0, 1, 0]),  # over the end of a batch
        ((2, 2), [0, 3, 0], [1, 0], [0, 1]),  # begins at a boundary
        ((3, 5), [3, 0, 4, 5, 6, 0], [1, 1, 0, 0, 0], [0, 0, 1, 2, 3]),  # over the end of a shard
        ((6, 3), [5, 6, 0, 0], [1, 0, 1], [0, 1, 0]),  # an empty document follows: its only token is a target
        ((7, 3), [6, 0, 0, 7], [1, 1, 1], [0, 0, 0]),
        ((8, 3), [0, 0, 7, 0], [1, 1, 0], [0, 0, 1]),
    ],
)
def test_windows_by_hand(
    tmp_path: Path, place: tuple[int, int], tokens: list[int], starts: list[int], positions: list[int]
) -> None:
    write(Folder(tmp_path), [[[[1, 2]], [[3]]], [], [[], [[4, 5, 6], [], [7]]]])
    window = TokenStream(Folder(tmp_path)).window(*place)
    assert tokens_of(window) == tokens
    assert window.starts.astype(int).tolist() == starts
    assert window.position_ids().tolist() == positions


def test_end_of_text_inside_a_document_opens_nothing(tmp_path: Path) -> None:
    write(Folder(tmp_path), [[[[1, END, 2], [3]]]])
    assert TokenStream(Folder(tmp_path)).window(0, 5).starts.tolist() == [True, False, False, True, False]


@pytest.mark.parametrize("place", [(-1, 2), (0, 6), (5, 1), (6, 1)])
def test_windows_past_the_end_are_refused(tmp_path: Path, place: tuple[int, int]) -> None:
    write(Folder(tmp_path), [[[[1, 2, 3], [4]]]])
    with pytest.raises(IndexError, match="6 there"):
        TokenStream(Folder(tmp_path)).window(*place)


def test_sliced_batches_are_read_right(tmp_path: Path) -> None:
    """A batch cut out of a larger one carries offsets that do not begin at zero."""
    batch = batch_of([[1, 2], [3], [4, 5]], 0).slice(1)
    with Folder(tmp_path).writing("00000.arrow") as scratch:
        write_shard(scratch, FORMAT, [batch])
    stream = TokenStream(Folder(tmp_path))
    assert tokens_of(stream.window(0, 4)) == [3, 0, 4, 5, 0]
    assert stream.document_spans()[0].tolist() == [2, 5]


@pytest.mark.parametrize(("dtype", "token"), [("uint16", 65_535), ("uint32", 4_000_000_000)])
def test_both_widths(tmp_path: Path, dtype: str, token: int) -> None:
    wide = TokenFormat("wide", END, dtype)
    write(Folder(tmp_path), [[[[token, 1]]]], wide)
    stream = TokenStream(Folder(tmp_path))
    assert stream.format == wide
    assert tokens_of(stream.window(0, 2)) == [token, 1, END]


def test_nothing_there(tmp_path: Path) -> None:
    for folder in (Folder(tmp_path / "absent"), Folder(tmp_path)):
        stream = TokenStream(folder)
        assert (stream.num_tokens, stream.num_documents, stream.num_bytes) == (0, 0, 0)
        assert stream.num_sequences(4) == 0
        assert stream.format is None
        assert [part.tolist() for part in stream.document_spans()] == [[], []]


def test_formats_are_checked(tmp_path: Path) -> None:
    table = pa.table({"tokens": [[1]]})
    for metadata, found in ((None, "none"), ({"rewarm.format": "99"}, "99")):
        with pa.ipc.new_file(str(tmp_path / "00000.arrow"), table.schema.with_metadata(metadata)) as writer:
            writer.write_table(table.replace_schema_metadata(metadata))
        with pytest.raises(UsageError, match=rf"00000\.arrow: token shard of format 1 or 2 expected, found {found}"):
            TokenStream(Folder(tmp_path))


def test_two_tokenizers_in_one_folder_are_refused(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for name, token_format in (("00000.arrow", FORMAT), ("00001.arrow", TokenFormat("another", END, "uint16"))):
        with folder.writing(name) as scratch:
            write_shard(scratch, token_format, [batch_of([[1]], 0, token_format)])
    with pytest.raises(UsageError, match="different tokenizers"):
        TokenStream(folder)


@given(shards=SHARDS, data=st.data())
@settings(deadline=None, max_examples=100)
def test_a_selection_reads_as_if_there_were_no_other_documents(
    shards: list[list[Documents]], data: st.DataObject
) -> None:
    documents = flat(shards)[2]
    rows = sorted(data.draw(st.sets(st.integers(0, max(0, len(documents) - 1)), max_size=len(documents))))
    rows = [row for row in rows if row < len(documents)]
    expected, opens, _ = flat([[[documents[row] for row in rows]]])
    with tempfile.TemporaryDirectory() as scratch:
        write(Folder(scratch) / "all", shards)
        write_selection(Folder(scratch) / "chosen", np.array(rows, dtype=np.int64))
        stream = TokenSet(Folder(scratch) / "all", Folder(scratch) / "chosen").open()
        assert stream.num_tokens == len(expected)
        assert stream.document_ids() == [f"{row:032x}" for row in rows]
        assert stream.num_bytes == sum(10 * len(documents[row]) for row in rows)
        if len(expected) > 1:
            window = stream.window(0, len(expected) - 1)
            assert tokens_of(window) == expected.tolist()
            assert window.starts[1:].tolist() == opens[1:-1].tolist()


def test_bos_is_what_a_document_is_predicted_from_and_takes_no_position(tmp_path: Path) -> None:
    documents: list[list[Documents]] = [[[[3, 4], [5]], [[6, 7, 8]]]]
    plain, opened = Folder(tmp_path / "plain"), Folder(tmp_path / "opened")
    write(plain, documents)
    write(opened, documents, TokenFormat("digest-of-a-tokenizer", END, "uint16", (9,)))
    before, after = TokenStream(plain), TokenStream(opened)
    assert after.format is not None
    assert (after.format.prefix, after.format.opening) == ((9,), 9)
    assert (before.num_tokens, before.num_sequences(4)) == (after.num_tokens, after.num_sequences(4))
    window = after.window(0, 8)
    assert window.inputs.tolist() == [3, 4, 9, 5, 9, 6, 7, 8]
    assert window.targets.tolist() == [4, END, 5, END, 6, 7, 8, END] == before.window(0, 8).targets.tolist()
    assert window.position_ids().tolist() == [0, 1, 0, 1, 0, 1, 2, 3]
    cut = after.window(2, 2)  # its first input closes a document, so it opens the next
    assert (cut.inputs.tolist(), cut.targets.tolist()) == ([9, 5], [5, END])
    inside = after.window(1, 2)  # its first input is inside a document: only that is known of it
    assert (inside.inputs.tolist(), inside.starts.tolist()) == ([4, 9], [True, True])


def test_shards_without_bos_are_as_they_were(tmp_path: Path) -> None:
    metadata = {key.decode(): value.decode() for key, value in FORMAT.schema().metadata.items()}
    assert metadata == {"rewarm.format": "1", "rewarm.tokenizer": FORMAT.tokenizer, "rewarm.end_of_text": "0"}
    assert TokenFormat.of(FORMAT.schema(), "x") == FORMAT
    opened = TokenFormat("t", 0, "uint16", (9, 11))
    assert opened.schema().metadata[b"rewarm.format"] == b"2", "a reader of format 1 refuses it"
    assert TokenFormat.of(opened.schema(), "x") == opened


def test_an_open_stream_holds_no_memory_per_document(tmp_path: Path) -> None:
    documents, chosen = 100_000, 50_000
    batch = pa.RecordBatch.from_pydict(
        {"doc_id": ["0" * 32] * documents, "tokens": [[1, 2, 3, 0]] * documents, "num_bytes": [9] * documents},
        schema=FORMAT.schema(),
    )
    write_shard(tmp_path / "00000.arrow", FORMAT, [batch.slice(place, 2000) for place in range(0, documents, 2000)])
    write_selection(Folder(tmp_path / "half"), np.arange(chosen, dtype=np.int64))
    for selection, count in ((None, documents), (Folder(tmp_path / "half"), chosen)):
        tracemalloc.start()
        stream = TokenSet(Folder(tmp_path), selection).open()
        stream.window(1, 1000)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert stream.num_documents == count
        assert held < 2 * count, f"{held / count:.1f} bytes a document"
