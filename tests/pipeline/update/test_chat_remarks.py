"""Whether ``init`` and ``plan`` warn about a model that was tuned to follow instructions."""

import json
from pathlib import Path

import pytest

from rewarm.pipeline.update.inputs import chat_remarks
from rewarm.stages.core.storage import Folder


@pytest.mark.parametrize(
    ("files", "warns"),
    [
        ({}, False),
        ({"tokenizer_config.json": json.dumps({"eos_token": "</s>"})}, False),
        ({"tokenizer_config.json": json.dumps({"chat_template": "{{ messages }}"})}, True),
        ({"chat_template.jinja": "{{ messages }}"}, True),
        ({"chat_template.json": "{}", "tokenizer_config.json": "{}"}, True),
    ],
)
def test_a_chat_template_is_what_tells(tmp_path: Path, files: dict[str, str], warns: bool) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    remarks = chat_remarks(Folder(tmp_path))
    assert bool(remarks) is warns
    assert all("weakens" in remark and "instruction-tuning.md" in remark for remark in remarks)
