"""Small Hugging Face folders of many architectures, with a byte-level tokenizer: what imports are tried on."""

import json
from pathlib import Path
from typing import Any

import torch
from document_masks import small_fields

WORDS = 300


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
