"""The model a lineage begins with: random weights of an architecture, or someone's Hugging Face folder."""

import math
from pathlib import Path
from typing import Any

import orjson
import xxhash
from pydantic import Field

from stages.errors import UsageError
from stages.settings import PLACEMENT, Settings
from stages.storage import Folder


class ModelSettings(Settings):
    """The model that a lineage begins with."""

    path: str | None = Field(default=None, json_schema_extra=PLACEMENT)
    """A Hugging Face folder to take over as the base, with its tokenizer (``init --from``); null: random weights."""
    type: str = "gpt_neox"
    """Model type, as in transformers' ``AutoConfig.for_model``."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Fields of that type's configuration; the vocabulary and the special tokens come from the tokenizer."""


def initial_model(settings: ModelSettings, tokenizer: Folder, seq_len: int, seed: int, out: Folder) -> dict[str, Any]:
    """Write ``out/model`` with random weights drawn from ``seed``; returns its digest and number of parameters."""
    import torch
    import transformers

    from stages.train.weights import digest, model_weights

    words = transformers.AutoTokenizer.from_pretrained(tokenizer.local(), trust_remote_code=False)
    config = model_config(settings, len(words), words.eos_token_id, seq_len)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    with out.writing("model") as folder:
        model.save_pretrained(folder)
        words.save_pretrained(folder)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"digest": digest(model_weights(model)), "parameters": parameters}


def model_config(settings: ModelSettings, vocab_size: int, end_of_text: int, seq_len: int) -> Any:
    """The configuration of the model; ``UsageError`` names a type or a field that transformers does not know."""
    import transformers

    special = {"bos_token_id": end_of_text, "eos_token_id": end_of_text}
    try:
        known = transformers.AutoConfig.for_model(settings.type)
    except ValueError as error:
        raise UsageError(f"model.type: transformers knows no model type {settings.type!r}") from error
    unknown = sorted(set(settings.config) - set(known.to_dict()))
    if unknown:
        raise UsageError(
            f"model.config: {settings.type} has no {', '.join(unknown)}; see its configuration in transformers"
        )
    fields = {**settings.config, **special, "vocab_size": vocab_size}
    try:
        config = transformers.AutoConfig.for_model(settings.type, **fields)
    except (TypeError, ValueError) as error:
        raise UsageError(f"model.config: not a {settings.type} model: {error}") from error
    longest = getattr(config, "max_position_embeddings", None)
    if longest is not None and longest < seq_len:
        raise UsageError(f"train.seq_len {seq_len} is longer than model.config.max_position_embeddings {longest}")
    return config


def count_parameters(model: Folder) -> int:
    """Parameters of a Hugging Face folder's safetensors files, read off their headers; tied weights count once."""
    from safetensors import safe_open

    total = 0
    for name in model.files(".safetensors"):
        with safe_open(model.local(name), framework="np") as stored:
            total += sum(math.prod(stored.get_slice(key).get_shape()) for key in stored.keys())  # noqa: SIM118
    return total


def import_model(source: Path, out: Folder) -> dict[str, Any]:
    """Write ``out/model`` from a Hugging Face folder: safetensors and a fast tokenizer only, no code, no pickle."""
    import transformers

    from stages.train.weights import digest, load_model, model_weights

    check_importable(source)
    model = load_model(source)
    words = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    if words.eos_token_id is None or not words.is_fast:
        raise UsageError(f"{source}: the tokenizer needs an end-of-text token and a tokenizer.json (a fast tokenizer)")
    with out.writing("model") as folder:
        model.save_pretrained(folder)
        words.save_pretrained(folder)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"digest": digest(model_weights(model)), "parameters": parameters}


def digest_folder(source: Path) -> str:
    """32 hex digits over the names and bytes of the files that are taken over."""
    state = xxhash.xxh3_128()
    for file in sorted([*source.glob("*.safetensors"), source / "config.json", source / "tokenizer.json"]):
        state.update(file.name.encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 24):
                state.update(block)
    return str(state.hexdigest())


def check_length(model: Path, seq_len: int) -> None:
    """Refuse sequences longer than a Hugging Face folder's model has positions for."""
    config = model / "config.json"
    longest = orjson.loads(config.read_bytes()).get("max_position_embeddings") if config.is_file() else None
    if longest is not None and seq_len > longest:
        raise UsageError(f"train.seq_len {seq_len} is longer than the model's max_position_embeddings {longest}")


def check_importable(source: Path) -> None:
    """Refuse, before anything is spent, what cannot be imported."""
    needed = {"config.json": source / "config.json", "tokenizer.json": source / "tokenizer.json"}
    missing = [name for name, path in needed.items() if not path.is_file()]
    if not source.is_dir() or missing:
        raise UsageError(
            f"{source}: a Hugging Face folder is expected; missing {', '.join(missing) or 'the folder itself'}"
        )
    if not list(source.glob("*.safetensors")):
        raise UsageError(
            f"{source}: no *.safetensors; pickled weights are not loaded, convert them to safetensors first"
        )
