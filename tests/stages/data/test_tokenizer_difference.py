"""A tokenizer against a lineage's: special tokens may be added, everything that gives text other ids is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from model_folders import WORDS, write_tokenizer

from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokenizer import Definition, load_definition
from rewarm.stages.data.tokenizer_difference import difference

Change = Callable[[dict[str, Any]], None]


def added(content: str, number: int, special: bool = True) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": number, "content": content, **flags, "special": special}


def lineage(folder: Path) -> Definition:
    write_tokenizer(folder)
    return load_definition(Folder(folder))


def edited(folder: Path, change: Change) -> Definition:
    write_tokenizer(folder)
    value = json.loads((folder / "tokenizer.json").read_text())
    change(value)
    (folder / "tokenizer.json").write_text(json.dumps(value))
    return load_definition(Folder(folder))


def test_marks_of_turns_may_be_added(tmp_path: Path) -> None:
    def chat(value: dict[str, Any]) -> None:
        value["added_tokens"] += [added("<|im_start|>", WORDS), added("<|im_end|>", WORDS + 1)]
        value["truncation"] = {"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
        value["post_processor"] = None

    mine, theirs = lineage(tmp_path / "mine"), edited(tmp_path / "theirs", chat)
    found = difference(mine, theirs)
    assert (found.added, found.others) == (("<|im_start|>", "<|im_end|>"), ())
    text = "ähnlich <|im_start|> 日本語"
    assert theirs.tokenizer.encode(text).ids == mine.tokenizer.encode(text).ids


def test_the_same_tokenizer_does_not_differ(tmp_path: Path) -> None:
    found = difference(lineage(tmp_path / "mine"), edited(tmp_path / "theirs", lambda value: None))
    assert (found.added, found.others) == ((), ())


def unused(value: dict[str, Any]) -> dict[str, int]:
    vocabulary: dict[str, int] = value["model"]["vocab"]
    return vocabulary


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda value: value["added_tokens"].append(added("word", WORDS, special=False)), "1 tokens are new, but not"),
        (lambda value: unused(value).pop("<unused 299>"), r"1 tokens are missing \('<unused 299>'\)"),
        (lambda value: unused(value).update({"a": unused(value)["b"], "b": unused(value)["a"]}), "2 tokens have other"),
        (lambda value: value["model"]["merges"].append(["a", "b"]) or unused(value).update(ab=WORDS), "1 tokens are n"),
        (lambda value: value.update(normalizer={"type": "Lowercase"}), "the normalizer differs"),
        (lambda value: value["pre_tokenizer"].update(add_prefix_space=True), "the pre_tokenizer differs"),
        (lambda value: value["model"].update(ignore_merges=True), "merges, scores or options differ"),
    ],
)
def test_whatever_gives_text_other_ids_is_named(tmp_path: Path, change: Change, says: str) -> None:
    found = difference(lineage(tmp_path / "mine"), edited(tmp_path / "theirs", change))
    assert found.others
    assert any(says.partition("(")[0].rstrip("\\ ") in phrase for phrase in found.others), found.others
