"""The texts of named tasks: questions with their right answers, from definitions in a folder."""

import json
from pathlib import Path

import pytest
import yaml

from rewarm.stages.core.errors import UsageError
from rewarm.stages.evaluate import EvaluateSettings, task_texts


def define(folder: Path, name: str, rows: list[dict[str, object]], **definition: object) -> None:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}}}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, "test_split": "test", **files, **definition}))


def test_a_text_is_a_question_with_its_right_answer(tmp_path: Path) -> None:
    define(
        tmp_path,
        "capitals",
        [
            {"q": "The capital of France is", "choices": ["Rome", "Paris"], "label": 1},
            {"q": "The capital of Italy is", "choices": ["Rome", "Paris"], "label": 0},
        ],
        output_type="multiple_choice",
        doc_to_text="{{q}}",
        doc_to_choice="{{choices}}",
        doc_to_target="{{label}}",
    )
    define(
        tmp_path,
        "endings",
        [{"begin": "Rain falls", "end": "down."}],
        output_type="loglikelihood",
        doc_to_text="{{begin}}",
        doc_to_target="{{end}}",
    )
    settings = EvaluateSettings(include_path=str(tmp_path), limit=1)
    found = {name: list(texts) for name, texts in task_texts(settings, ["endings", "capitals"])}
    assert found == {
        "capitals": ["The capital of France is Paris", "The capital of Italy is Rome"],
        "endings": ["Rain falls down."],
    }


def test_a_task_without_data_is_refused(tmp_path: Path) -> None:
    define(tmp_path, "gone", [{"q": "x"}], output_type="loglikelihood", doc_to_text="q", doc_to_target="q")
    (tmp_path / "gone.jsonl").unlink()
    with pytest.raises(UsageError, match="gone"):
        list(task_texts(EvaluateSettings(include_path=str(tmp_path)), ["gone"]))
