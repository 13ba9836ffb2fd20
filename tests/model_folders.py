"""Small Hugging Face folders of many architectures, with a byte-level tokenizer: what imports are tried on."""

import json
from pathlib import Path
from typing import Any

import torch

SIZES = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads"), 4),
    **dict.fromkeys(("intermediate_size", "ffn_dim"), 128),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len"), 128),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **{"num_key_value_heads": 2, "head_dim": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 64},
    **{"shared_expert_intermediate_size": 64, "word_embed_proj_dim": 64, "rotary_dim": 8, "sliding_window": 16},
}
"""Small values for the fields that model types name their sizes by."""
OWN: dict[str, dict[str, Any]] = {
    "bamba": {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_n_groups": 1, "attn_layer_indices": [1]},
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_dt_rank": 4},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 8, "head_dim": 16, "n_groups": 1},
    "qwen3_next": {
        "layer_types": ["linear_attention", "full_attention"],
        **{"linear_num_value_heads": 4, "linear_num_key_heads": 2},
        **{"linear_key_head_dim": 16, "linear_value_head_dim": 16},
    },
    "recurrent_gemma": {"lru_width": 64, "num_hidden_layers": 3, "attention_window_size": 16},
    "rwkv": {"attention_hidden_size": 64, "context_length": 128},
}
"""What else some of them need to be small."""
WORDS = 300


def small_fields(kind: str) -> dict[str, Any]:
    """``model.config`` of a small model of a type."""
    import transformers

    known = transformers.CONFIG_MAPPING[kind]().to_dict()
    return {name: size for name, size in SIZES.items() if name in known} | OWN.get(kind, {})


def write_tokenizer(folder: Path, **config: Any) -> None:
    """A byte-level tokenizer of ``WORDS`` ids, ``<|endoftext|>`` the first."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<|endoftext|>", *alphabet])}
    vocabulary |= {f"<unused {number}>": number for number in range(len(vocabulary), WORDS)}
    raw = Tokenizer(models.BPE(vocabulary, []))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    raw.add_special_tokens(["<|endoftext|>"])
    folder.mkdir(parents=True, exist_ok=True)
    raw.save(str(folder / "tokenizer.json"))
    given = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(given, indent=1))


def write_folder(folder: Path, kind: str = "llama", dtype: torch.dtype = torch.float32, **fields: Any) -> Path:
    """A whole small model with random weights, as ``save_pretrained`` writes it."""
    import transformers

    write_tokenizer(folder)
    special = {"vocab_size": WORDS, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    config = transformers.AutoConfig.for_model(kind, **{**small_fields(kind), **special, **fields})
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).save_pretrained(folder)
    return folder


def edit_config(folder: Path, name: str = "config.json", **changes: Any) -> None:
    """Change fields of a folder's JSON file; None takes one away."""
    value = {**json.loads((folder / name).read_text()), **changes}
    (folder / name).write_text(json.dumps({key: given for key, given in value.items() if given is not None}))


def edit_weights(folder: Path, change: Any) -> None:
    """Rewrite ``model.safetensors`` with what ``change`` makes of its tensors."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
