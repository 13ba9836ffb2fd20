"""Anything at all as a recipe, a record, a commit, a journal or a file of documents: read, or refused in one line."""

import gzip
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from records import record

from rewarm.pipeline.lineage import commits
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.record import decode, encode
from rewarm.pipeline.watch.journal import Journal
from rewarm.pipeline.watch.state import Book
from rewarm.stages.core.errors import DamagedError, UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.ingest import IngestSettings, find_inputs

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WORDS = (
    "replay",
    "share",
    "train",
    "seq_len",
    "schedule",
    "model",
    "config",
    "extends",
    "ingest",
    "0.1",
    "tiny",
    "null",
)
MARKS = (
    ": ",
    "\n",
    "\n  ",
    "{",
    "}",
    "[",
    "]",
    "- ",
    "&a ",
    "*a",
    "!!int ",
    "<<: ",
    "#",
    "'",
    '"',
    "|",
    "%",
    "\t",
    "? ",
)
YAML = st.lists(st.sampled_from(WORDS + MARKS) | st.text(max_size=3), max_size=20).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
WHOLE = encode(record())
FIELDS = sorted(orjson.loads(WHOLE))
LINE = b'{"text": "a document of a few words"}\n'
SUFFIXES = (
    "jsonl",
    "jsonl.gz",
    "jsonl.zst",
    "csv",
    "tsv",
    "txt",
    "md",
    "html",
    "warc",
    "warc.gz",
    "wet",
    "parquet",
    "arrow",
)


def one_line(error: Exception) -> None:
    assert len(str(error)) < 2500, error


@FEW
@given(YAML | st.binary(max_size=40).map(lambda data: data.decode("latin-1")))
@example("replay: &a {share: *a}")
@example("!!int replay")
@example("!!int ")
@example("seed: 2026-99-99")
@example("replay: {<<: [1]}")
@example("? {a: 1}\n: 2")
@example("1: 2")
@example("replay: {1: 2}")
@example("extends: recipe.yaml")
def test_recipes(tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        load_recipe(str(tmp_path / "recipe.yaml"))
    except UsageError as error:
        one_line(error)


@FEW
@given(st.sampled_from(FIELDS), JSON)
def test_records_with_another_field(field: str, value: object) -> None:
    data = orjson.dumps({**orjson.loads(WHOLE), field: value})
    try:
        decode(data, "update.json")
    except DamagedError as error:
        one_line(error)


@FEW
@given(st.integers(0, len(WHOLE)), st.binary(max_size=4), st.integers(0, 9))
def test_records_with_other_bytes(place: int, data: bytes, removed: int) -> None:
    try:
        decode(WHOLE[:place] + data + WHOLE[place + removed :], "update.json")
    except DamagedError as error:
        one_line(error)


@FEW
@given(
    JSON | st.fixed_dictionaries({"format": st.just(2), "commit": st.just(0), "previous": st.just(""), "kind": JSON})
)
def test_commits(value: object) -> None:
    try:
        commits.decode(orjson.dumps(value), 0)
    except ValueError as error:
        one_line(error)


@FEW
@given(
    st.lists(
        JSON | st.fixed_dictionaries({"seq": JSON, "at": JSON, "kind": JSON, "path": JSON, "details": JSON}), max_size=3
    )
)
def test_journals(tmp_path: Path, lines: list[object]) -> None:
    (tmp_path / "journal.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    try:
        Journal(Folder(tmp_path)).read()
    except DamagedError as error:
        one_line(error)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(FEW, max_examples=12)
@given(
    st.binary(max_size=60),
    st.sampled_from([bytes, gzip.compress, lambda data: LINE + data, lambda data: b"PAR1" + data]),
)
def test_documents(tmp_path: Path, suffix: str, data: bytes, make: Callable[[bytes], bytes]) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(make(data))
    try:
        find_inputs([str(tmp_path / f"a.{suffix}")], IngestSettings())
    except UsageError as error:
        one_line(error)


@pytest.mark.parametrize(
    ("suffix", "data"), [("arrow", b"\0\0\0\x80"), ("arrow", b"ARROW1\0\0"), ("parquet", b"PAR1PAR1")]
)
def test_files_that_once_ended_in_an_internal_error(tmp_path: Path, suffix: str, data: bytes) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(data)
    with pytest.raises(UsageError, match=f"a.{suffix}"):
        find_inputs([str(tmp_path / f"a.{suffix}")], IngestSettings())


def test_events_of_a_newer_version_do_not_stop_a_book(tmp_path: Path) -> None:
    line = {"seq": 1, "at": "2026-01-01T00:00:00.000+00:00", "kind": "unheard-of", "path": "/in/a", "details": {"x": 1}}
    (tmp_path / "journal.jsonl").write_bytes(orjson.dumps(line) + b"\n")
    book = Book()
    book.turn(Journal(Folder(tmp_path)).read())
    assert book.shown() == []
