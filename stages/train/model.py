"""The initial model of a lineage with random weights; ``importing.py`` handles models trained elsewhere."""

import dataclasses
import difflib
import math
from typing import Any

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.model_folder import bound_of
from rewarm.stages.data.tokenizer import load_definition
from rewarm.stages.train.settings import ModelSettings

OLDER_ROPE = {"rope_theta", "rope_scaling", "partial_rotary_factor", "rotary_pct", "rotary_emb_base"}
"""Names in transformers 4 for parts of ``rope_parameters``, still accepted."""
TAKEN = {
    "vocab_size": "the vocabulary is the tokenizer's (tokenizer.vocab_size sets its size)",
    "bos_token_id": "special tokens come from the tokenizer",
    "eos_token_id": "special tokens come from the tokenizer",
    "dtype": "the trunk is float32 (train.precision sets the arithmetic)",
    "model_type": "model.type sets it",
}
"""Configuration fields that other settings decide."""


def initial_model(settings: ModelSettings, tokenizer: Folder, seq_len: int, seed: int, out: Folder) -> dict[str, Any]:
    """Write ``out/model`` with random weights drawn from ``seed``; return its digest and number of parameters."""
    import torch
    import transformers

    from rewarm.stages.train.weights import digest, model_weights, write_folder

    words = transformers.AutoTokenizer.from_pretrained(tokenizer.local(), trust_remote_code=False)
    definition = load_definition(tokenizer)
    config = model_config(settings, max(len(words), definition.num_ids), definition.end_of_text_id, seq_len)
    if definition.form.prefix:
        config.bos_token_id = definition.form.prefix[0]
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    found = digest(model_weights(model))
    write_folder(out, tokenizer.local(), model.save_pretrained, found)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"digest": found, "parameters": parameters}


def model_config(settings: ModelSettings, vocab_size: int, end_of_text: int, seq_len: int) -> Any:
    """Return the configuration of the model; ``UsageError`` names an unknown type or field."""
    import transformers
    from huggingface_hub.errors import StrictDataclassError
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    special = {"bos_token_id": end_of_text, "eos_token_id": end_of_text}
    if settings.type not in transformers.CONFIG_MAPPING:
        close = difflib.get_close_matches(settings.type, list(transformers.CONFIG_MAPPING), n=1)
        raise UsageError(
            f"model.type: transformers has no model type {settings.type!r}"
            + (f"; did you mean {close[0]!r}?" if close else "")
        )
    kind = transformers.CONFIG_MAPPING[settings.type]
    refuse_unknown(kind, settings)
    refuse_taken(kind, settings)
    fields = {**no_padding(kind), **settings.config, **special, "vocab_size": vocab_size}
    try:
        config = transformers.AutoConfig.for_model(settings.type, **fields)
    except (TypeError, ValueError, StrictDataclassError) as error:
        raise UsageError(f"model.config: not a {settings.type} model: {' '.join(str(error).split())}") from error
    if settings.type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise UsageError(f"model.type: {settings.type} is not a causal language model in transformers")
    bound = bound_of(config.to_dict())
    if bound is not None and bound[0] < seq_len:
        raise UsageError(f"train.seq_len {seq_len} is longer than model.config.{bound[1]} {bound[0]}")
    return config


def no_padding(kind: Any) -> dict[str, None]:
    """Return the field that unsets the padding token, if the class allows it: training pads nothing.

    The default of a class is an id of its original vocabulary, which is an ordinary token in the lineage's.
    """
    types = {field.name: str(field.type) for field in dataclasses.fields(kind)}
    return {"pad_token_id": None} if "None" in types.get("pad_token_id", "") else {}


def known_fields(kind: Any) -> set[str]:
    """Return the fields that a configuration class accepts: its own, inherited ones, and their aliases."""
    names = {field.name for field in dataclasses.fields(kind)} | set(kind.attribute_map) | set(kind().to_dict())
    return names | (OLDER_ROPE if "rope_parameters" in names else set())


def refuse_unknown(kind: Any, settings: ModelSettings) -> None:
    """Refuse unknown fields: ``UsageError`` names each with the nearest known one."""
    known = known_fields(kind)
    unknown = sorted(set(settings.config) - known)
    if unknown:
        nearest = {name: difflib.get_close_matches(name, sorted(known), n=1) for name in unknown}
        listed = ", ".join(f"{name} (nearest: {close[0]})" if close else name for name, close in nearest.items())
        raise UsageError(
            f"model.config: {settings.type} has no {listed}; see {kind.__name__} in transformers for its fields"
        )


def refuse_taken(kind: Any, settings: ModelSettings) -> None:
    """Refuse fields that other settings decide, since their values would have no effect (``UsageError``)."""
    aliases = kind.attribute_map
    for name, value in settings.config.items():
        for field, decided in TAKEN.items():
            if field in (name, aliases.get(name)) or aliases.get(field) == name:
                raise UsageError(f"model.config.{name} {value!r}: {decided}; leave it out")


def planned_parameters(settings: ModelSettings, vocab_size: int, seq_len: int) -> int:
    """Return the number of parameters that ``initial_model`` would create; tied weights count once."""
    import torch
    import transformers

    config = model_config(settings, vocab_size, 0, seq_len)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    return sum(parameter.numel() for parameter in model.parameters())


def count_parameters(model: Folder) -> int:
    """Return the number of parameters in a folder's safetensors files, from their headers; tied weights count once.

    Raises ``UsageError`` for a file that is truncated or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    total = 0
    for name in model.files(".safetensors"):
        try:
            with safe_open(model.local(name), framework="np") as stored:
                total += sum(math.prod(stored.get_slice(key).get_shape()) for key in stored.keys())  # noqa: SIM118
        except SafetensorError as error:
            raise UsageError(
                f"{model}/{name}: not a whole safetensors file ({error}); download it again or restore it"
            ) from error
    return total
