"""Files that accompany data in a folder are skipped and reported; a file that the user names is read."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.ingest import IngestSettings, find_inputs
from rewarm.stages.ingest.beside import kind_of

SETTINGS = IngestSettings()
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"
LINE = '{"text": "some words"}\n'


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def listed(path: Path | str) -> tuple[list[str], list[str]]:
    notes = Notes()
    return [file.name for file in find_inputs([str(path)], SETTINGS, notes)], notes.said


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("README.md", "card"),
        ("readme_zh.md", "card"),
        ("README.txt", "card"),
        ("LICENSE.txt", "licence"),
        ("LICENCE-CC-BY-4.0.md", "licence"),
        ("COPYING.txt", "licence"),
        ("requirements-dev.txt", "requirements"),
        ("requirements_engineering.txt", None),
        ("requirements.cuda121.txt", "requirements"),
        ("robots.txt", "site file"),
        ("metadata.json", "state or schema"),
        ("metadata.jsonl", None),
        ("CHANGES.md", "project file"),
        ("history.txt", None),
        ("dev_requirements.txt", "requirements"),
        ("dataset_infos.json", "state or schema"),
        ("model.safetensors.index.json", "state or schema"),
        ("SHA256SUMS.txt", "checksums"),
        ("CHANGELOG.md", "project file"),
        ("vocab.txt", "state or schema"),
        ("merges.txt", "state or schema"),
        ("v3.metadata.json", "state or schema"),
        ("eval_results.json", "state or schema"),
        ("license-plates.txt", None),
        ("reading.md", None),
        ("state.jsonl", None),
        ("requirements.md", None),
        ("a.json", None),
    ],
)
def test_names(name: str, kind: str | None) -> None:
    assert kind_of(name) == kind


def test_a_clone_of_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"text": ["some words"]}), tmp_path / "data" / "train-00000-of-00001.parquet")
    for name in ("README.md", "LICENSE.txt", "requirements.txt", "dataset_infos.json"):
        (tmp_path / name).write_text("x")
    names, notes = listed(tmp_path)
    assert names == ["data/train-00000-of-00001.parquet"]
    assert notes == [
        "skipped 4 files that accompany the data (1 × licence, 1 × card, 1 × state or schema, 1 × requirements): "
        "LICENSE.txt, README.md, dataset_infos.json, requirements.txt; to read such a file, name it explicitly"
    ]
    assert listed(tmp_path / "README.md") == (["README.md"], [])


def test_a_folder_of_save_to_disk(tmp_path: Path) -> None:
    table = pa.table({"text": ["some words"]})
    with pa.ipc.new_stream(tmp_path / "data-00000-of-00001.arrow", table.schema) as sink:
        sink.write_table(table)
    for name in ("state.json", "dataset_info.json"):
        (tmp_path / name).write_text('{\n  "a": 1\n}')
    names, (note,) = listed(tmp_path)
    assert names == ["data-00000-of-00001.arrow"]
    assert "2 × state or schema" in note


def test_a_table_of_delta_lake_and_what_spark_left(tmp_path: Path) -> None:
    for folder in ("_delta_log", "_temporary/0"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "00000000000000000000.json").write_text('{"text": "half a"}')
    (tmp_path / "part-00000.json").write_text(LINE)
    names, (note,) = listed(tmp_path)
    assert names == ["part-00000.json"]
    assert "1 × log of a table, 1 × unfinished part" in note
    assert listed(tmp_path / "_temporary")[0] == ["0/00000000000000000000.json"]


def test_among_markdown_a_readme_is_a_document(tmp_path: Path) -> None:
    (tmp_path / "guide").mkdir()
    for name in ("README.md", "guide/intro.md", "guide/README.md", "LICENSE.txt"):
        (tmp_path / name).write_text("some words")
    names, (note,) = listed(tmp_path)
    assert names == ["README.md", "guide/README.md", "guide/intro.md"]
    assert "LICENSE.txt" in note


def test_a_folder_of_nothing_else_is_read(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("some words")
    assert listed(tmp_path) == (["README.md"], [])


def test_pointers_are_skipped_or_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(LINE)
    (tmp_path / "b.parquet").write_text(POINTER)
    (tmp_path / "c.txt").write_text(POINTER)
    names, (note,) = listed(tmp_path)
    assert names == ["a.jsonl"]
    assert note.startswith("skipped 2 × Git LFS pointer, ")
    assert "b.parquet" in note
    assert "git lfs pull" in note
    for path in (tmp_path / "b.parquet", tmp_path / "*.parquet"):
        with pytest.raises(UsageError, match=r"b.parquet: a Git LFS pointer.*run git lfs pull"):
            listed(path)
