"""What others need to read a model folder: older names beside the newer, and a tokenizer of a class they have."""

import json
from pathlib import Path
from typing import Any

import pytest
from document_masks import small_fields
from model_folders import write_folder, write_tokenizer

from rewarm.stages.data.model_folder import make_portable, portable_tokenizer, read_config, with_older_names

LLAMA3 = {
    "rope_type": "llama3",
    **{"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
}


def written(folder: Path, kind: str, **fields: Any) -> dict[str, Any]:
    write_folder(folder, kind, **fields)
    make_portable(folder)
    return read_config(folder)


def test_a_llama_3_configuration_holds_both_forms(tmp_path: Path) -> None:
    found = written(tmp_path, "llama", rope_parameters={"rope_theta": 500000.0, **LLAMA3})
    assert (found["rope_theta"], found["rope_scaling"]) == (500000.0, LLAMA3)
    assert found["rope_parameters"] == {"rope_theta": 500000.0, **LLAMA3}
    assert (found["dtype"], found["torch_dtype"]) == ("float32", "float32")


@pytest.mark.parametrize(
    ("kind", "fields", "older"),
    [
        ("llama", {"rope_theta": 77.0}, {"rope_theta": 77.0, "rope_scaling": None}),
        ("gpt_neox", {"rotary_pct": 0.5, "rotary_emb_base": 77}, {"rotary_pct": 0.5, "rotary_emb_base": 77}),
        ("phi", {"partial_rotary_factor": 0.25}, {"partial_rotary_factor": 0.25, "rope_theta": 10000.0}),
        ("stablelm", {}, {"partial_rotary_factor": 0.25}),
        ("gemma3_text", {}, {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": None}),
        (
            "gemma3_text",
            {"rope_scaling": {"rope_type": "linear", "factor": 8.0}},
            {"rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        ),
        ("qwen3_moe", {}, {"num_experts": 4}),
        ("gpt2", {}, {}),
    ],
)
def test_older_names_mean_the_same_and_change_nothing_for_newer_readers(
    tmp_path: Path, kind: str, fields: dict[str, Any], older: dict[str, Any]
) -> None:
    import transformers

    given = transformers.AutoConfig.for_model(kind, **{**small_fields(kind), **fields})
    given.save_pretrained(tmp_path / "plain")
    plain = transformers.AutoConfig.from_pretrained(tmp_path / "plain").to_dict()
    del plain["_name_or_path"]
    made = with_older_names(read_config(tmp_path / "plain"))
    assert {name: made.get(name, "absent") for name in older} == older
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "config.json").write_text(json.dumps(made))
    both = transformers.AutoConfig.from_pretrained(tmp_path / "both").to_dict()
    assert {name: value for name, value in both.items() if name in plain} == plain


def test_parts_of_a_larger_configuration_get_older_names_too() -> None:
    text = {"rope_parameters": {"rope_type": "default", "rope_theta": 5.0}, "dtype": "bfloat16"}
    made = with_older_names({"model_type": "some_vl", "text_config": text})
    assert made["text_config"]["rope_theta"] == 5.0
    assert made["text_config"]["torch_dtype"] == "bfloat16"


def test_a_tokenizer_is_of_a_class_that_others_have() -> None:
    newer = {
        "tokenizer_class": "TokenizersBackend",
        **{"backend": "tokenizers", "is_local": True, "local_files_only": False, "extra_special_tokens": ["<a>"]},
        "add_bos_token": True,
    }
    assert portable_tokenizer(newer) == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "additional_special_tokens": ["<a>"],
        "add_bos_token": True,
    }
    plain = {"tokenizer_class": "LlamaTokenizerFast", "extra_special_tokens": {"image_token": "<i>"}}
    assert portable_tokenizer(plain) == plain


def test_a_tokenizer_that_needs_no_change_keeps_its_bytes(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write_tokenizer(tmp_path, add_bos_token=True)
    before = (tmp_path / "tokenizer_config.json").read_bytes()
    make_portable(tmp_path)
    assert (tmp_path / "tokenizer_config.json").read_bytes() == before
