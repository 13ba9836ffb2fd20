"""An input format is one record: its module defines it, the list names it, and everything else follows."""

from collections import Counter
from pathlib import Path

import pytest
from documentation import PAGES

from rewarm.pipeline.plan.sample import take_sample
from rewarm.pipeline.update.disk_space import text_bytes
from rewarm.pipeline.watch.inbox import dataset_name
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.ingest import IngestSettings, find_inputs
from rewarm.stages.ingest.format import Format, Piece, Records
from rewarm.stages.ingest.opening import open_raw
from rewarm.stages.ingest.readers import FORMATS, SUFFIXES, read_piece, supported
from rewarm.stages.ingest.records import Document
from rewarm.stages.ingest.shards import make_shards


def read(piece: Piece, settings: IngestSettings, passed: Counter[str] | None = None) -> Records:
    """Each paragraph of a file is a document."""
    with open_raw(piece.file) as stream:
        for number, text in enumerate(stream.read().decode().split("\n\n")):
            yield Document(text.strip(), f"paragraph {number}", None, None, None)


PARAGRAPHS = Format("paragraphs", "paragraphs", (".par",), read, compressible=False, text_ratio=0.9)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.par").write_text("one\n\ntwo\n\nthree")
    return tmp_path / "in"


def test_without_the_record_the_format_is_unknown(folder: Path) -> None:
    with pytest.raises(UsageError, match="contains no file that rewarm reads"):
        find_inputs([str(folder)], IngestSettings())
    with pytest.raises(ValueError, match="expected auto or one of jsonl, csv"):
        IngestSettings(format="paragraphs")


def test_a_format_is_one_record(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, PARAGRAPHS.name, PARAGRAPHS)
    monkeypatch.setitem(SUFFIXES, ".par", PARAGRAPHS)
    (file,) = find_inputs([str(folder)], IngestSettings())
    assert (file.name, file.format) == ("a.par", "paragraphs")
    assert "paragraphs (.par)" in supported()
    assert dataset_name("a.par", is_file=True) == "a"
    assert text_bytes(file) == 0.9 * file.size
    (folder / "b.txt").write_text("four\n\nfive")
    both = find_inputs([str(folder)], IngestSettings(format="paragraphs"))
    for settings in (IngestSettings(), IngestSettings(shard_bytes=1)):
        shards = make_shards(both, settings)
        read_back = [record for shard in shards for piece in shard.pieces for record in read_piece(piece, settings)]
        assert [record.text for record in read_back if isinstance(record, Document)] == [
            "one",
            "two",
            "three",
            "four",
            "five",
        ]
    sample = take_sample(both, IngestSettings(), 10, 100, tmp_path, Silent())
    assert (len(sample.hashes), sample.complete) == (3, False), "one place of the two files is read"


def test_the_page_names_every_format() -> None:
    [page] = [page for page in PAGES if page.name == "docs/data.md"]
    assert set(FORMATS) <= set(page.inline)
