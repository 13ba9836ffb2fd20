"""``rewarm compare``: two releases, a release and a folder, models of different tokenizers; and a row's tests."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from model_folders import write_folder, write_tokenizer

from rewarm.pipeline.compare import judged
from rewarm.pipeline.gate.mean_change import compare_losses
from rewarm.pipeline.gate.statistics import AccuracyChange
from rewarm.pipeline.lineage.workspace import Workspace

Command = Callable[..., tuple[int, str, str]]


def rows_of(out: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(out)["rows"]}


def test_two_releases_are_compared_on_what_was_recorded_and_on_what_is_measured(lm: Workspace, rewarm: Command) -> None:
    code, out, error = rewarm("compare", f"{lm.folder}@1", f"{lm.folder}@0003-more", "--json")
    assert code == 0, error
    rows = rows_of(out)
    assert list(rows)[:4] == ["docs", "news", "code", "more"]
    assert rows["docs"]["change"] == rows["news"]["change"] == 0 == rows["docs"]["detectable"]
    assert rows["docs"]["better"] == "neither"
    assert rows["code"]["change"] and rows["code"]["metric"] == "nats/token"
    assert abs(rows["code"]["a"] - math.log(400)) < 0.5, "drawn weights know nothing of 400 tokens"
    code, out, error = rewarm("compare", f"{lm.folder}@1", lm.folder)
    assert code == 0 and max(map(len, out.partition("A: ")[0].splitlines())) <= 80, out
    assert "B against A" in out and "(0003-more)" in out and "…" not in out
    assert not (lm.folder / "compare").exists()


def test_a_release_and_its_export_are_the_same(lm: Workspace, rewarm: Command, tmp_path: Path) -> None:
    assert rewarm("export", lm.folder, "2", "--to", tmp_path / "exported")[0] == 0
    code, out, error = rewarm("compare", tmp_path / "exported", f"{lm.folder}@2", "--json")
    assert code == 0, error
    rows = rows_of(out)
    assert set(rows) == {"docs", "news", "code", "more"}
    assert all(row["change"] == 0 and row["better"] == "neither" and row["n"] > 1 for row in rows.values())
    assert "tasks: compared only between releases" in json.loads(out)["notes"][0]


def test_another_tokenizer_is_compared_in_bits_per_byte(lm: Workspace, rewarm: Command, tmp_path: Path) -> None:
    write_tokenizer(write_folder(tmp_path / "other"))
    code, out, error = rewarm("compare", lm.folder, tmp_path / "other", "--json")
    assert code == 0, error
    assert any("different tokenizers" in note for note in json.loads(out)["notes"])
    row = rows_of(out)["docs"]
    assert row["metric"] == "bits/byte"
    documents = pq.read_table(lm.dataset("docs").path / "validation").to_pylist()
    assert row["n"] == len(documents)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "other", dtype=torch.float32).eval()
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "other")
    nats = sum(bits_of(model, words, document["text"]) for document in documents)
    size = sum(len(document["text"].encode()) for document in documents)
    assert row["b"] == pytest.approx(nats / math.log(2) / size, rel=1e-4)


def bits_of(model: Any, words: Any, text: str, length: int = 32) -> float:
    """The nats of a text, window by window, with end-of-text before and after it."""
    ids, total = [*words(text, add_special_tokens=False)["input_ids"], words.eos_token_id], 0.0
    stream = [words.eos_token_id, *ids]
    for first in range(0, len(ids), length):
        last = min(first + length, len(ids))
        begin = max(0, last - length) if first else 0
        with torch.inference_mode():
            logits = model(torch.tensor([stream[begin:last]])).logits[0].log_softmax(-1)
        total -= sum(float(logits[at - begin, ids[at]]) for at in range(first, last))
    return total


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("{lm}", "{lm}@3"), "are the same model"),
        (("{lm}@9", "{lm}"), "no update '9'"),
        (("{lm}", "nowhere"), "expected a workspace"),
        (("{lm}", "hf://nowhere"), "expected hf://ORG/NAME"),
        (("{folder}", "{lm}"), "neither a workspace"),
        (("{model}", "{other}"), "--on WORKSPACE"),
    ],
)
def test_what_cannot_be_compared_says_so(
    lm: Workspace, rewarm: Command, tmp_path: Path, words: tuple[str, str], says: str
) -> None:
    for name in ("model", "other", "folder"):
        (tmp_path / name).mkdir()
        if name != "folder":
            (tmp_path / name / "config.json").write_text("{}")
    names = {name: tmp_path / name for name in ("model", "other", "folder")}
    code, _, error = rewarm("compare", *(word.format(lm=lm.folder, **names) for word in words))
    assert code == 2 and says in error, error


def test_a_difference_is_significant_after_the_correction() -> None:
    tokens, noise = np.full(200, 100), np.random.default_rng(0)
    current = noise.normal(300, 30, 200)
    worse = compare_losses(current + 10 + noise.normal(0, 5, 200), current, tokens)
    same = compare_losses(current + noise.normal(0, 5, 200), current, tokens)
    better = AccuracyChange(0.8, 0.5, 70, 10, 200)
    rows = judged(
        [("loss", "x", "nats/token", worse), ("loss", "y", "nats/token", same), ("task", "z", "acc", better)],
        0.05,
        0.8,
        corrected=True,
    )
    assert [row.better for row in rows] == ["a", "neither", "b"]
    assert rows[0].change == pytest.approx(0.1, abs=0.01) and rows[0].detectable < 0.02
    assert all(row.p <= row.p_adjusted <= 1 for row in rows)


def test_no_difference_is_found_where_there_is_none_more_often_than_alpha() -> None:
    noise, found = np.random.default_rng(1), 0
    for _ in range(300):
        current = noise.normal(300, 30, 60)
        pairs = [compare_losses(current + noise.normal(0, 5, 60), current, np.full(60, 100)) for _ in range(4)]
        rows = judged([("loss", str(at), "nats/token", pair) for at, pair in enumerate(pairs)], 0.05, 0.8, True)
        found += any(row.better != "neither" for row in rows)
    assert found / 300 < 0.08
