"""Random weights: every field of a configuration class is a setting, and what other settings decide is refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from document_masks import small_fields
from model_folders import WORDS, write_tokenizer

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.train import ModelSettings, initial_model, model_config
from rewarm.stages.train.model import TAKEN


def config(kind: str, seq_len: int = 64, **fields: Any) -> Any:
    return model_config(ModelSettings(type=kind, config=fields), WORDS, 0, seq_len)


@pytest.mark.parametrize("kind", ["llama", "gpt_neox", "gpt2", "qwen3_moe", "mixtral", "gemma3_text", "mpt", "mamba"])
def test_every_field_of_its_class_is_taken(kind: str) -> None:
    import transformers

    known = transformers.CONFIG_MAPPING[kind]
    made = known()
    for field in dataclasses.fields(known):
        if field.name not in TAKEN and hasattr(made, field.name):
            config(kind, seq_len=8, **{field.name: getattr(made, field.name)})


@pytest.mark.parametrize(
    ("kind", "fields", "name", "value"),
    [
        ("gpt2", {"hidden_size": 64}, "n_embd", 64),  # another name for a field
        ("qwen3_moe", {"num_experts": 4}, "num_experts", 4),
        ("llama", {"rope_theta": 5e5}, "rope_parameters", {"rope_theta": 5e5, "rope_type": "default"}),
        ("llama", {"pad_token_id": 3}, "pad_token_id", 3),
        ("gemma", {}, "pad_token_id", None),  # its class has 0, a row that would never be trained
    ],
)
def test_fields_act(kind: str, fields: dict[str, Any], name: str, value: Any) -> None:
    assert getattr(config(kind, **fields), name) == value


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("llama", {"hiden_size": 64}, r"llama has no hiden_size \(nearest: hidden_size\)"),
        ("llama", {"vocab_size": 64}, r"model\.config\.vocab_size 64: the vocabulary is the tokenizer's"),
        ("openai-gpt", {"vocab_size": 64}, "the vocabulary is the tokenizer's"),
        ("llama", {"eos_token_id": 2}, "special tokens come from the tokenizer"),
        ("llama", {"dtype": "bfloat16"}, "the trunk is float32"),
        ("llama", {"model_type": "gpt2"}, "model.type sets it"),
        ("llama", {"hidden_size": "wide"}, "not a llama model"),
        ("gpt2", {"n_positions": 32}, r"train\.seq_len 64 is longer than model\.config\.n_positions 32"),
        ("mpt", {"max_seq_len": 32}, r"model\.config\.max_seq_len 32"),
        ("lama", {}, r"no model type 'lama'; did you mean 'llama'\?"),
        ("clip", {}, "clip is not a causal language model"),
    ],
)
def test_what_cannot_be_is_refused(kind: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        config(kind, **fields)


def test_a_lineage_begins_with_a_folder_that_others_read(tmp_path: Path) -> None:
    words = Folder(tmp_path / "words")
    write_tokenizer(words.path)
    settings = ModelSettings(type="llama", config={**small_fields("llama"), "rope_theta": 5e5})
    initial_model(settings, words, 64, 0, Folder(tmp_path))
    model = tmp_path / "model"
    found = json.loads((model / "config.json").read_text())
    assert (found["rope_theta"], found["torch_dtype"], found["vocab_size"]) == (5e5, "float32", WORDS)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (model / name).read_bytes() == words.read(name)
