"""Documents above the limit: refused, or cut without losing a character."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_files import read

from rewarm.stages.ingest.readers import split_document
from rewarm.stages.ingest.records import Document, Reason
from rewarm.stages.ingest.settings import IngestSettings


def split(text: str, limit: int) -> list[str]:
    return [part.text for part in split_document(Document(text, "u", None, "de", "s", "t"), limit)]


@given(st.text(st.sampled_from("ab \n\r\tä€😀　"), min_size=1, max_size=200), st.integers(4, 60))
def test_parts_make_up_the_whole_and_fit(text: str, limit: int) -> None:
    parts = split(text, limit)
    assert "".join(parts) == text
    assert all(0 < len(part.encode()) <= limit for part in parts)
    assert len(parts) <= 1 + 4 * len(text.encode()) // limit


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("one two\nthree\n\nfour five\nsix", ["one two\nthree\n\n", "four five\nsix"]),
        ("one two\nthree four five", ["one two\n", "three four five"]),
        ("one\ntwo three four five", ["one\ntwo three ", "four five"]),
        ("a\n\nb c d e f g h i k l m n", ["a\n\nb c d e f g ", "h i k l m n"]),
        ("ääääääääää", ["äääääää", "äää"]),
        ("short", ["short"]),
    ],
)
def test_where_texts_are_cut(text: str, parts: list[str]) -> None:
    assert split(text, 15) == parts


def test_parts_keep_what_the_document_says_of_itself() -> None:
    document = Document("words " * 100, "u", None, "de", "s", "t", "line 7")
    for part in split_document(document, 100):
        assert (part.url, part.language, part.source, part.title, part.location) == ("u", "de", "s", "t", "line 7")


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "txt"])
def test_every_format_obeys_the_limit(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    text = "some words\n" * 500
    if kind == "jsonl":
        path.write_text(json.dumps({"text": text}) + "\n")
    elif kind == "parquet":
        pq.write_table(pa.table({"text": [text]}), path)
    else:
        path.write_text(text)
    (refusal,) = read(path, max_document_bytes=2000)
    place = {"jsonl": "line 1, byte 0", "parquet": "row 0", "txt": "file"}[kind]
    assert (refusal.reason, refusal.location, refusal.value) == (Reason.TOO_LONG_DOCUMENT, place, 5500)
    parts = read(path, max_document_bytes=2000, oversized="split")
    assert [part.text for part in parts] == [text[:1991], text[1991:3982], text[3982:]]
    assert len(read(path, max_document_bytes=5500)) == 1


def test_a_limit_that_refuses_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="max_document_bytes"):
        IngestSettings(max_document_bytes=2000, max_record_bytes=1000)
