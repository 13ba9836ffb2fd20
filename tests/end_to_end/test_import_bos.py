"""A model whose tokenizer puts BOS before a text, imported and updated: measured as plain transformers reads it."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from foreign_tokenizers import byte_level
from small_lineage import Lineage, docstrings, rewarm

pytestmark = pytest.mark.faults

STEPS, WINDOW = 120, 64


def pretrained(folder: Path) -> Path:
    """A small Llama after some steps on BOS, a real document, end-of-text, as Llama's own pre-training."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    texts = list(dict.fromkeys(docstrings()))[:600]
    byte_level(folder, ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"), texts=texts, eos_token="<|eot_id|>")
    words = AutoTokenizer.from_pretrained(str(folder))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128,
        max_position_embeddings=WINDOW, bos_token_id=0, eos_token_id=1, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    rows = [[*words(text)["input_ids"], 1][:WINDOW] for text in texts]
    batch = torch.tensor([row + [1] * (WINDOW - len(row)) for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(STEPS):
        part = batch[step * 16 % len(batch) :][:16]
        optimizer.zero_grad()
        model(input_ids=part, labels=part).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def updated(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bos")
    base = Lineage(root)
    source, workspace = pretrained(root / "model"), root / "workspace"
    given = ["--from", source, "--data", f"docs={base.docs}", "--set", "distill.tokens=0"]
    made = rewarm("init", workspace, "--recipe", base.recipe, *given)
    assert made.returncode == 0, made.stderr[-3000:]
    said = " ".join(made.stderr.split())
    assert "documents end with <|end_of_text|>, not with the tokenizer's eos_token <|eot_id|>" in said
    assert "begin with <|begin_of_text|>" in said
    done = rewarm(*base.update(workspace), "--set", "gate.enabled=false")
    assert done.returncode == 0, done.stderr[-3000:]
    return workspace


def own_nats(model: Any, words: Any, text: str) -> float:
    """``-log p`` of what plain transformers predicts of a text, and of the end-of-text (1) that closes it."""
    import torch

    ids = torch.tensor([[*words(text, split_special_tokens=True)["input_ids"], 1]])
    with torch.inference_mode():
        scores = model(input_ids=ids).logits.log_softmax(-1)
    return -float(scores[0, :-1].gather(1, ids[0, 1:, None]).double().sum())


@pytest.mark.parametrize(("update", "dataset"), [("0000-docs", "docs"), ("0001-code", "docs"), ("0001-code", "code")])
def test_recorded_losses_are_those_of_the_tokenizers_own_input(updated: Path, update: str, dataset: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = updated / "updates" / update
    model = AutoModelForCausalLM.from_pretrained(str(folder / "release" / "model"), dtype="float32")
    words = AutoTokenizer.from_pretrained(str(folder / "release" / "model"))
    texts = {
        row["doc_id"]: row["text"] for row in pq.read_table(updated / "datasets" / dataset / "validation").to_pylist()
    }
    rows = pq.read_table(folder / "evaluation" / "losses" / f"release-{dataset}.parquet").to_pylist()
    assert len(rows) == len(texts)
    fitting = [row for row in rows if row["num_tokens"] <= WINDOW]
    assert fitting or dataset == "code"
    for row in fitting:
        assert row["nats"] == pytest.approx(own_nats(model, words, texts[row["doc_id"]]), abs=1e-3)


def test_the_releases_tokenizer_is_the_lineages_byte_for_byte(updated: Path) -> None:
    lineage = {path.name: path.read_bytes() for path in (updated / "tokenizer").iterdir()}
    for name in ("tokenizer.json", "tokenizer_config.json", "document_form.json"):
        for update in ("0000-docs", "0001-code"):
            found = (updated / "updates" / update / "release" / "model" / name).read_bytes()
            assert found == lineage[name], (update, name)
    assert json.loads(lineage["document_form.json"])["prefix"] == [0]


def test_the_workspace_verifies_and_its_record_names_the_tokens(updated: Path) -> None:
    found = rewarm("verify", updated)
    assert found.returncode == 0, found.stdout + found.stderr
    record = json.loads((updated / "updates" / "0000-docs" / "update.json").read_bytes())
    assert any("documents end with <|end_of_text|>" in note for note in record["notes"])
