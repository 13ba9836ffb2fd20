"""Anything at all in the small files of a workspace and a model, in words of the command line, and in whole files of
documents with some bytes changed: read, or refused in one line.

The short form draws few examples, the same each time; the long one (``faults``) draws new ones.
"""

import bz2
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_files import read as read_documents
from rich.console import Console

from rewarm.pipeline import failure
from rewarm.pipeline.cli.data_view import ACCOUNTS, account_view
from rewarm.pipeline.cli.options import duration
from rewarm.pipeline.cli.run_view import run_line
from rewarm.pipeline.lineage.commits import known_commits
from rewarm.pipeline.lineage.lease.stores import parse
from rewarm.pipeline.lineage.lineage import policy_of, read_plan
from rewarm.pipeline.lineage.samples import read_drawn
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.progress.log import read_standing
from rewarm.pipeline.recipe.recipe import apply_settings, load_recipe, refuse_twice
from rewarm.pipeline.record.attempts import counted, read_attempts
from rewarm.pipeline.schedule_preview import parse_tokens
from rewarm.pipeline.study.grid import parse_grid, parse_rows
from rewarm.pipeline.update.inputs import parse_data, recipe_of
from rewarm.pipeline.update.recipe_change import changes_of
from rewarm.pipeline.watch.cron import check_cron
from rewarm.pipeline.watch.journal import Journal, handled_tick
from rewarm.pipeline.watch.policy import choose
from rewarm.pipeline.watch.run import now
from rewarm.pipeline.watch.state import Book
from rewarm.pipeline.watch.view import as_json, table
from rewarm.stages.core.errors import RewarmError
from rewarm.stages.core.shapes import read_as, understood
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import Mixture
from rewarm.stages.data.tokenizer import load_definition
from rewarm.stages.ingest.records import Document, Refusal
from rewarm.stages.train.importing import check_config

Check = Callable[[Path, Any], object]
FEW = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(FEW, max_examples=1500, derandomize=False, print_blob=True)
TEXT = st.text(max_size=5) | st.sampled_from(["2026-01-01T00:00:00+00:00", "0001-a", "released", "x" * 300, "\x1b[2J"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def near(whole: dict[str, Any]) -> st.SearchStrategy[Any]:
    """A whole value in which some fields have anything else, or are gone; or anything at all."""
    changed = st.fixed_dictionaries({}, optional={name: st.just(value) | JSON for name, value in whole.items()})
    return st.builds(lambda other: {**whole, **other}, changed) | changed | JSON


LEASE = {
    "holder": {"host": "h", "pid": 1, "machine": "m", "started": 1, "token": "t"},
    "purpose": "update",
    "epoch": 1,
    "beats": 1,
    "acquired": "2026-01-01T00:00:00+00:00",
    "renewed": "2026-01-01T00:00:00+00:00",
    "clock_s": 1.0,
    "ttl_s": 60.0,
    "released": False,
}
FAILURE = {"error": "usage", "code": 2, "message": "m", "remedy": "change", "at": "", "address": ""}
SEEN = {"name": "a", "fingerprint": "f", "files": 1, "bytes": 2, "because": "b", "paths": ["/a"], "why": "cost"}
PLANNED = {"plan": {"cost": 1.0}, "began": "2026-01-01", "seconds": 1.0, "cost": 2.0, "retry_at": "2026-01-01T00:00"}
KINDS = ("seen", "called", "complete", "started", "failed", "held", "ran", "planned", "released", "retry", "trouble")
EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "seq": st.just(1) | JSON,
            "at": st.just("2026-01-01T00:00:00+00:00") | JSON,
            "kind": st.sampled_from(KINDS) | JSON,
            "path": st.just("/a") | JSON,
            "details": near(SEEN) | near({**SEEN, **PLANNED}),
        }
    ),
    max_size=4,
)
MIXTURE = {
    "version": 1,
    "new": [{"dataset": "a", "num_sequences": 4, "read": [[4, 1]]}],
    "replayed": [],
    "steps": 1,
    "global_batch": 4,
    "seq_len": 8,
    "seed": 1,
}
STANDING = {
    "update": "0001-a",
    "state": "running",
    "began": 1.0,
    "time": 2.0,
    "stage": "train",
    "number": 1,
    "stages": 2,
}
TOKENIZER = {
    "version": "1.0",
    "added_tokens": [{"id": 0, "content": "<e>", "special": True}],
    "model": {"type": "BPE", "vocab": {"<e>": 0}, "merges": []},
}
CONFIG = {"model_type": "llama", "vocab_size": 8, "text_config": {}, "quantization_config": None}
ACCOUNT = {"files": 1, "steps": [], "earlier": {}, "decontaminated": {}, "languages": {"en": 1}, "domains": {}}
ACCOUNT |= {"lengths": {"3": 1}, "qualities": {"3": 1}, "lost": []}
PIECES = st.sampled_from(
    ("replay", "share", ".", "=", "0.1", "[", "]", "{", "}", ",", ": ", "a", "null", "1e400", "*", "/", "-", " ", "1M")
)
WORDS = st.lists(PIECES | st.text(max_size=3), max_size=8).map("".join)


def write(folder: Path, name: str, value: Any) -> Folder:
    """A JSON file in a folder."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))
    return Folder(folder)


def check_journal(folder: Path, events: Any) -> None:
    (folder / "journal.jsonl").write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in events))
    book = Book()
    book.turn(Journal(Folder(folder)).read())
    as_json(book, False, None)
    Console(file=io.StringIO()).print(table("lm", book, False, None))
    choose(book, "0001-a", now())


def check_workspace(folder: Path, value: Any) -> None:
    workspace = Workspace(str(write(folder, "workspace.json", value)))
    workspace.check_format()
    recipe_of(workspace)
    policy_of(workspace)
    changes_of(workspace)


def check_mixture(folder: Path, value: Any) -> None:
    with understood("mixture.json"):
        Mixture.from_json(write(folder, "mixture.json", value).read_json("mixture.json"))


def check_progress(folder: Path, value: Any) -> None:
    write(folder, "logs/progress.json", value)
    run_line(read_standing(Folder(folder)), 3.0)


def check_tokenizer(folder: Path, value: Any) -> None:
    write(folder, "tokenizer_config.json", {"eos_token": "<e>"})
    definition = load_definition(write(folder, "tokenizer.json", value))
    assert definition.end_of_text == "<e>"


def check_account(folder: Path, value: Any) -> None:
    found = read_as(write(folder, "account.json", value), "account.json", ACCOUNTS)
    with understood("account.json"):
        Console(file=io.StringIO()).print(account_view(dict(found)))


def check_cron_text(_: Path, text: str) -> None:
    try:
        check_cron(text)
    except ValueError as error:
        assert len(str(error)) < 500, error


RECIPE = load_recipe("tiny")
CHECKS: dict[str, tuple[st.SearchStrategy[Any], Check]] = {
    "a lease": (near(LEASE), lambda _, value: parse(orjson.dumps(value), ".lease")),
    "a journal": (EVENTS, check_journal),
    "a clock": (near({"handled": "2026-01-01"}), lambda at, value: handled_tick(write(at, "clock.json", value))),
    "an error": (near(FAILURE), lambda at, value: failure.read((write(at, "e", value).path) / "e")),
    "a workspace": (
        near({"format": 3, "recipe": RECIPE.model_dump(mode="json"), "recipe_changes": []}),
        check_workspace,
    ),
    "a pointer": (near({"commits": 1}), lambda at, value: known_commits(write(at, "releases.json", value))),
    "a mixture": (near(MIXTURE), check_mixture),
    "a plan": (
        near({"arrival": "a", "data": {"a": "1"}, "recipe": {}, "plan": None, "started": "x"}),
        lambda at, value: read_plan(Workspace(str(write(at, "updates/0001-a/plan.json", value))), "0001-a"),
    ),
    "progress": (near(STANDING), check_progress),
    "attempts": (JSON, lambda at, value: counted(read_attempts(write(at, "attempts.json", value)))),
    "samples": (JSON, lambda at, value: read_drawn(write(at, "samples.json", value))),
    "an account": (near(ACCOUNT), check_account),
    "a tokenizer": (near(TOKENIZER), check_tokenizer),
    "a configuration": (near(CONFIG), lambda at, value: check_config(write(at, "config.json", value).path)),
    "--set": (WORDS, lambda _, text: apply_settings(RECIPE, [text])),
    "--set twice": (WORDS, lambda _, text: refuse_twice([text, "replay.share=0.1"])),
    "--data": (WORDS, lambda _, text: parse_data([text])),
    "--grid": (WORDS, lambda _, text: parse_grid([text])),
    "--row": (WORDS, lambda _, text: parse_rows([text, f"a: {text}"])),
    "--tokens": (WORDS, lambda _, text: parse_tokens(text)),
    "--wait": (WORDS, lambda _, text: duration(text)),
    "--cron": (WORDS, check_cron_text),
}


def settle(check: Check, folder: Path, value: Any) -> None:
    """Read or refused in one line."""
    try:
        check(folder, value)
    except (RewarmError, typer.BadParameter) as error:
        assert len(str(error)) < 2500, error


@pytest.mark.parametrize("name", CHECKS)
@FEW
@given(st.data())
def test_anything(tmp_path: Path, name: str, data: st.DataObject) -> None:
    strategy, check = CHECKS[name]
    settle(check, tmp_path, data.draw(strategy))


@pytest.mark.faults
@pytest.mark.parametrize("name", CHECKS)
@MANY
@given(st.data())
def test_anything_for_longer(tmp_path: Path, name: str, data: st.DataObject) -> None:
    strategy, check = CHECKS[name]
    settle(check, tmp_path, data.draw(strategy))


# -- documents -----------------------------------------------------------------------------------------------------

TEXTS = ["a document of some words", "ein Text mit Umlauten: äöü", "日本語の文章です", "", "x" * 500]
LINES = b"".join(orjson.dumps({"text": text, "url": "https://a.example/x"}) + b"\n" for text in TEXTS)
PAGE = b"<html><head><title>t</title></head><body><p>" + " ".join(TEXTS).encode() + b"</p></body></html>"
RECORD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + PAGE
WARC = (
    b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: https://a.example/\r\nContent-Length: %d\r\n\r\n"
    % len(RECORD)
    + RECORD
    + b"\r\n\r\n"
) * 2


def as_table(kind: str) -> bytes:
    """The texts as a Parquet or an Arrow file."""
    held, columns = io.BytesIO(), pa.table({"text": TEXTS, "url": ["https://a.example/x"] * len(TEXTS)})
    if kind == "parquet":
        pq.write_table(columns, held)
    else:
        with pa.ipc.new_file(held, columns.schema) as writer:
            writer.write_table(columns)
    return held.getvalue()


FILES = {
    "jsonl": LINES,
    "jsonl.gz": gzip.compress(LINES, mtime=0),
    "jsonl.bz2": bz2.compress(LINES),
    "csv": b"text,url\n" + b"".join(f'"{text}",u\n'.encode() for text in TEXTS),
    "html": PAGE,
    "warc": WARC,
    "warc.gz": gzip.compress(WARC, mtime=0),
    "parquet": as_table("parquet"),
    "arrow": as_table("arrow"),
}
EDITS = st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4), st.integers(0, 6)), min_size=1, max_size=4)


def edited(data: bytes, edits: list[tuple[float, bytes, int]]) -> bytes:
    """Bytes with other ones in some places."""
    for place, other, removed in edits:
        at = int(place * len(data))
        data = data[:at] + other + data[at + removed :]
    return data


def check_documents(folder: Path, suffix: str, edits: list[tuple[float, bytes, int]]) -> None:
    file = folder / f"a.{suffix}"
    file.write_bytes(edited(FILES[suffix], edits))
    settle(lambda *_: [assert_record(one) for one in read_documents(file)], folder, None)


def assert_record(one: object) -> None:
    assert isinstance(one, Document | Refusal), one
    if isinstance(one, Document):
        one.text.encode()  # no halves of surrogate pairs


@pytest.mark.parametrize("suffix", FILES)
@FEW
@given(EDITS)
def test_documents(tmp_path: Path, suffix: str, edits: list[tuple[float, bytes, int]]) -> None:
    check_documents(tmp_path, suffix, edits)


@pytest.mark.faults
@pytest.mark.parametrize("suffix", FILES)
@MANY
@given(EDITS)
def test_documents_for_longer(tmp_path: Path, suffix: str, edits: list[tuple[float, bytes, int]]) -> None:
    check_documents(tmp_path, suffix, edits)
