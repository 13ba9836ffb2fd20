"""Weights as the optimizer sees them: whole, fp32, by name; and their digest, checked after every load."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import xxhash
from safetensors import safe_open

from stages.errors import StageError
from stages.storage import Folder

if TYPE_CHECKING:
    import transformers


def full_weights(engine: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and whole fp32 master weight (on the CPU) of every parameter, sorted by name.

    A collective: every rank must run through it to the end. Tied weights appear once. At ZeRO 0 in fp32 the
    parameters are their own masters.
    """
    from deepspeed.utils import safe_get_full_fp32_param  # who reads a model from disk does not wait for DeepSpeed

    for name, parameter in sorted(engine.module.named_parameters()):
        whole = safe_get_full_fp32_param(parameter)
        yield name, (parameter if whole is None else whole).detach().float().cpu().view(_shape(parameter))


def _shape(parameter: torch.nn.Parameter) -> torch.Size:
    return getattr(parameter, "ds_shape", parameter.shape)


def set_weights(engine: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Give the fp32 masters exact values. DeepSpeed makes them from the bf16 weights, which rounds what was loaded."""
    from deepspeed.utils import safe_set_full_fp32_param

    for name, parameter in sorted(engine.module.named_parameters()):
        safe_set_full_fp32_param(parameter, weights[name].to(parameter.device))


def digest(weights: Iterator[tuple[str, torch.Tensor]]) -> str:
    """32 hex digits over names, shapes and fp32 bytes; the same on any number of workers, at any ZeRO stage."""
    state = xxhash.xxh3_128()
    for name, weight in weights:
        state.update(f"{name} {tuple(weight.shape)}\n".encode())
        state.update(weight.contiguous().numpy().tobytes())
    return str(state.hexdigest())


def model_weights(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and fp32 weight of every parameter of a plain model, sorted by name."""
    for name, parameter in sorted(model.named_parameters()):
        yield name, parameter.detach().float().cpu()


def load_model(folder: Path) -> "transformers.PreTrainedModel":
    """A Hugging Face folder's causal model in fp32: safetensors only, and no code from the folder."""
    import transformers

    if not list(folder.glob("*.safetensors")):
        raise FileNotFoundError(f"{folder}: no *.safetensors; pickled weights are not loaded, convert them first")
    model: transformers.PreTrainedModel = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    return model


def save_model(model: "transformers.PreTrainedModel", weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Write a Hugging Face folder with the given fp32 weights (safetensors), whatever the model itself holds."""
    state = {name: weights[name] for name in weights}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name not in state:  # a tied weight: the same tensor under its other name
            twin = next(other for other, shared in model.named_parameters() if shared is parameter)
            state[name] = weights[twin]
    for name, buffer in model.named_buffers():
        if name in model.state_dict():
            state[name] = buffer.detach().cpu()
    model.save_pretrained(folder, state_dict=state, safe_serialization=True)


def write_model(start: Path, weights: Mapping[str, torch.Tensor], out: Folder) -> str:
    """Write ``out/model``, a Hugging Face folder of ``start``'s kind with these fp32 weights and ``start``'s tokenizer.

    Returns the weights' digest. Raises ``StageError`` where what was written does not load as what was given.
    """
    import transformers

    found = digest(iter(sorted(weights.items())))
    with out.writing("model") as folder:
        save_model(load_model(start), weights, folder)
        transformers.AutoTokenizer.from_pretrained(start, trust_remote_code=False).save_pretrained(folder)
        stored = digest(model_weights(load_model(folder)))
        if stored != found:
            raise StageError(f"{out}: the written model has weights digest {stored}, given were {found}")
    return found


def stored_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a folder's safetensors files as they are stored."""
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as stored:
            tensors.update({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118
    return tensors
