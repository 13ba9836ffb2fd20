"""Tokens made elsewhere, from real files: the same text comes out, or a refusal that says why."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.token_files import write_megatron
from rewarm.stages.data.tokenizer import load_definition
from rewarm.stages.data.tokens import TokenFormat, write_shard
from rewarm.stages.ingest.readers.tokens import check_tokens, read_tokens, token_kind
from rewarm.stages.ingest.records import Document, Refusal
from rewarm.stages.ingest.settings import IngestSettings, TokenInputSettings

TEXTS = ["the learning rate", "naïve café 学習 👩‍👩‍👧", "a page about <|endoftext|> itself", "x = y[0]\n\n\treturn"]
END = 0
CHOICES = TokenInputSettings()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A byte-level tokenizer whose end-of-text is 0."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, show_progress=False, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet
    )
    raw.train_from_iterator(TEXTS * 3, trainer)
    out = tmp_path_factory.mktemp("tokenizer")
    raw.save(str(out / "tokenizer.json"))
    (out / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')
    return Folder(out)


@pytest.fixture(scope="module")
def encode(folder: Folder) -> Callable[[str], list[int]]:
    tokenizer = load_definition(folder).tokenizer
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def megatron(tmp_path: Path, documents: list[list[int]]) -> str:
    ids = np.array([i for document in documents for i in document], dtype=np.int64)
    write_megatron(tmp_path / "x", np.dtype("<i4"), [(ids, np.array([len(document) for document in documents]))])
    return str(tmp_path / "x.bin")


def datatrove(tmp_path: Path, documents: list[list[int]]) -> str:
    np.array([i for document in documents for i in document], "<u2").tofile(tmp_path / "x.ds")
    np.cumsum([len(document) for document in documents]).astype("<u8").tofile(tmp_path / "x.ds.index")
    return str(tmp_path / "x.ds")


def parquet(tmp_path: Path, documents: list[list[int]]) -> str:
    pq.write_table(pa.table({"input_ids": pa.array(documents, pa.list_(pa.int32()))}), tmp_path / "x.parquet")
    return str(tmp_path / "x.parquet")


def arrow_stream(tmp_path: Path, documents: list[list[int]]) -> str:
    table = pa.table({"input_ids": pa.array(documents, pa.list_(pa.int32())), "attention_mask": [[1]] * len(documents)})
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return str(tmp_path / "x.arrow")


def shard(tmp_path: Path, documents: list[list[int]], digest: str = "") -> str:
    token_format = TokenFormat(digest, END, "uint16")
    rows = [{"doc_id": f"{i:032x}", "tokens": ids, "num_bytes": 1} for i, ids in enumerate(documents)]
    write_shard(tmp_path / "x.arrow", token_format, [pa.RecordBatch.from_pylist(rows, schema=token_format.schema())])
    return str(tmp_path / "x.arrow")


def read(path: str, folder: Folder, choices: TokenInputSettings = CHOICES, **rows: int) -> list[Document | Refusal]:
    kind = token_kind(path, IngestSettings(), choices)
    assert kind is not None
    return list(read_tokens(path, kind, folder, IngestSettings(), choices, **rows))


@pytest.mark.parametrize("write", [megatron, datatrove, parquet, arrow_stream, shard])
@pytest.mark.parametrize("closed", [True, False])
def test_every_format_gives_the_texts(
    tmp_path: Path, folder: Folder, encode: Callable[[str], list[int]], write: Callable[..., str], closed: bool
) -> None:
    path = write(tmp_path, [[*encode(text), *([END] if closed else [])] for text in TEXTS])
    assert [found.text for found in read(path, folder) if isinstance(found, Document)] == TEXTS
    assert [found.text for found in read(path, folder, start=1, stop=3) if isinstance(found, Document)] == TEXTS[1:3]
    assert read(path, folder, start=3, stop=9) == read(path, folder)[3:]
    assert check_tokens(path, token_kind(path, IngestSettings(), CHOICES) or "", folder, CHOICES) == len(TEXTS)


def test_end_of_text_inside_a_row_closes_a_document(
    tmp_path: Path, folder: Folder, encode: Callable[[str], list[int]]
) -> None:
    rows = [[END, *encode("one"), END, END, *encode("two"), END, *encode("three")], [END], []]
    found = read(megatron(tmp_path, [*rows, [5000]]), folder)
    assert [each.text for each in found[:3] if isinstance(each, Document)] == ["one", "two", "three"]
    assert [each.location for each in found[3:] if isinstance(each, Refusal)] == ["document 3"]


def test_ids_that_the_text_does_not_give_back_are_refused(
    tmp_path: Path, folder: Folder, encode: Callable[[str], list[int]]
) -> None:
    letters = [*encode("t"), *encode("h"), *encode("e")]
    assert letters != encode("the")
    path = parquet(tmp_path, [letters, encode("学")[:1], encode("the")])
    split, cut, good = read(path, folder)
    assert isinstance(split, Refusal)
    assert (split.reason, split.location, split.value, split.excerpt) == (
        "tokens not canonical",
        "document 0",
        0,
        b"the",
    )
    assert isinstance(cut, Refusal)
    assert cut.reason == "tokens not canonical"
    assert isinstance(good, Document)
    allowed = read(path, folder, TokenInputSettings(canonical=False))
    assert [each.text for each in allowed if isinstance(each, Document)] == ["the", "\ufffd", "the"]


@pytest.mark.parametrize("wrong", [300, 2**31 - 1, -1])
def test_ids_the_tokenizer_does_not_have_are_refused(tmp_path: Path, folder: Folder, wrong: int) -> None:
    assert load_definition(folder).num_ids == 300
    first, second = read(megatron(tmp_path, [[5, wrong, END], [5, END]]), folder)
    assert isinstance(first, Refusal)
    assert (first.reason, first.value) == ("token id out of range", wrong)
    assert f"from 0 to 299, found {wrong} at token 1" in first.detail
    assert isinstance(second, Document)


def test_null_rows_and_blank_texts_are_refused(
    tmp_path: Path, folder: Folder, encode: Callable[[str], list[int]]
) -> None:
    found = read(parquet(tmp_path, [None, [5, None], encode(" \n")]), folder)  # type: ignore[list-item]
    reasons = [each.reason for each in found if isinstance(each, Refusal)]
    assert reasons == ["tokens not whole numbers", "tokens not whole numbers", "empty text"]


def test_descriptive_fields_come_along(tmp_path: Path, folder: Folder, encode: Callable[[str], list[int]]) -> None:
    table = pa.table({"tokens": [encode("the rate")], "url": ["https://example.org"], "language": ["en"]})
    pq.write_table(table, tmp_path / "x.parquet")
    (found,) = read(str(tmp_path / "x.parquet"), folder)
    assert isinstance(found, Document)
    assert (found.url, found.language) == ("https://example.org", "en")


def test_shards_of_another_tokenizer_are_refused_before_anything_is_read(
    tmp_path: Path, folder: Folder, encode: Callable[[str], list[int]]
) -> None:
    rows = [encode("the rate")]
    path = shard(tmp_path, rows, load_definition(folder).digest)
    assert check_tokens(path, "columns", folder, CHOICES) == 1
    with pytest.raises(UsageError, match="tokens of the tokenizer ffff"):
        check_tokens(shard(tmp_path, rows, "f" * 32), "columns", folder, CHOICES)


def test_what_is_no_token_file(tmp_path: Path, folder: Folder) -> None:
    def kind(name: str) -> str | None:
        return token_kind(str(tmp_path / name), IngestSettings(), CHOICES)

    pq.write_table(pa.table({"text": ["a"], "tokens": [[1]]}), tmp_path / "text.parquet")
    pq.write_table(pa.table({"tokens": ["a b"]}), tmp_path / "words.parquet")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    (tmp_path / "alone.bin").write_bytes(b"\0")
    assert [kind(name) for name in ("text.parquet", "words.parquet", "torn.parquet", "alone.bin", "a.jsonl")] == [
        None
    ] * 5
    (tmp_path / "x.arrow").write_bytes(b"nothing of Arrow's")
    with pytest.raises(UsageError, match="not a token file"):
        check_tokens(str(tmp_path / "x.arrow"), "columns", folder, CHOICES)


def test_torn_files_end_in_one_refusal(tmp_path: Path, folder: Folder, encode: Callable[[str], list[int]]) -> None:
    path = Path(megatron(tmp_path, [encode("the rate"), encode("x")]))
    path.write_bytes(path.read_bytes()[:4])
    (found,) = read(str(path), folder)
    assert isinstance(found, Refusal)
    assert (found.reason, found.location) == ("unreadable token file", "file")
    with pytest.raises(UsageError, match="it names ids up to byte"):
        check_tokens(str(path), "megatron", folder, CHOICES)
    stream = Path(arrow_stream(tmp_path, [encode(text) for text in TEXTS]))
    stream.write_bytes(stream.read_bytes()[:-200])
    *documents, last = read(str(stream), folder)
    assert [each.text for each in documents if isinstance(each, Document)] == TEXTS[:2]
    assert isinstance(last, Refusal)
    assert last.location == "document 2 and after"


def test_index_written_by_hand(tmp_path: Path, folder: Folder, encode: Callable[[str], list[int]]) -> None:
    ids = [*encode("the rate"), END]
    (tmp_path / "x.bin").write_bytes(struct.pack(f"<{len(ids)}H", *ids))
    header = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, 8, 1, 2)
    (tmp_path / "x.idx").write_bytes(header + struct.pack("<iqqq", len(ids), 0, 0, 1))
    (found,) = read(str(tmp_path / "x.bin"), folder)
    assert isinstance(found, Document)
    assert found.text == "the rate"


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip), max_size=6))
@settings(deadline=None, max_examples=50)
def test_any_text_comes_back(
    tmp_path_factory: pytest.TempPathFactory, folder: Folder, encode: Callable[[str], list[int]], texts: list[str]
) -> None:
    path = megatron(tmp_path_factory.mktemp("any"), [[*encode(text), END] for text in texts])
    assert [found.text for found in read(path, folder) if isinstance(found, Document)] == texts
