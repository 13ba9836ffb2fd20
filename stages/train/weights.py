"""Weights as the optimizer sees them: whole, fp32, by name; and their digest, checked after every load.

Snapshots: a run's whole fp32 weights after given steps, for what is made of its way and not of its end alone.

Unlike checkpoints they hold no optimizer state, and their steps are part of the job: how often checkpoints are kept is
a matter of placement, and must not decide a result.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.fs as pafs
import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rewarm.stages.core.errors import StageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.model_folder import carry_over, load_causal_model, make_portable
from rewarm.stages.train.job import SNAPSHOTS

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


def digest(weights: Iterable[tuple[str, torch.Tensor]]) -> str:
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
    """A Hugging Face folder's causal model in fp32 (see ``load_causal_model``)."""
    return load_causal_model(folder, torch.float32)


def save_model(model: "transformers.PreTrainedModel", weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Write a Hugging Face folder with the given weights (safetensors), whatever the model itself holds."""
    state = dict(weights)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name not in state:  # a tied weight: the same tensor under its other name
            twin = next(other for other, shared in model.named_parameters() if shared is parameter)
            state[name] = state[twin]
    for name, buffer in model.named_buffers():
        if name in model.state_dict():
            state[name] = buffer.detach().cpu()
    model.save_pretrained(folder, state_dict=state, safe_serialization=True)


def write_model(
    start: Path,
    weights: Mapping[str, torch.Tensor],
    out: Folder,
    dtype: str = "float32",
    tokenizer: Folder | None = None,
) -> str:
    """Write ``out/model``, a Hugging Face folder of ``start``'s kind with these fp32 weights, in ``dtype``.

    A trunk is float32, since the next update starts from it; a release is what its lineage began with. The licence is
    ``start``'s, and so is the tokenizer unless ``tokenizer``, a folder, is given. Returns the digest of what was
    stored, which in a narrower dtype is of the rounded weights. Raises ``StageError`` where what was written does not
    load as what was given, or a weight does not fit.
    """
    model = load_causal_model(start, getattr(torch, dtype))
    kinds = {name: parameter.dtype for name, parameter in model.named_parameters()}  # some types keep parts in fp32
    rounded = {name: weight.to(kinds[name]) for name, weight in weights.items()}
    overflown = [name for name, weight in rounded.items() if not torch.isfinite(weight).all()]
    if overflown:
        raise StageError(f"{out}: {len(overflown)} weights are not finite in {dtype}: {', '.join(overflown[:4])}")
    found = digest((name, weight.float()) for name, weight in sorted(rounded.items()))
    write_folder(out, start, lambda folder: save_model(model, rounded, folder), found, tokenizer)
    return found


def write_folder(
    out: Folder, source: Path, save: Callable[[Path], None], expected: str, tokenizer: Folder | None = None
) -> None:
    """Write ``out/model``: what ``save`` leaves of a model, with ``source``'s tokenizer and licence.

    ``tokenizer`` is a folder whose files replace those of ``source``'s tokenizer. Raises ``StageError`` where the
    weights do not load as those of digest ``expected``.
    """
    with out.writing("model") as folder:
        save(folder)
        carry_over(source, folder, None if tokenizer is None else tokenizer.local())
        make_portable(folder)
        stored = digest(model_weights(load_model(folder)))
        if stored != expected:
            raise StageError(f"{out}: the written model has weights digest {stored}, given were {expected}")


def file_name(step: int) -> str:
    """Where the weights after ``step`` steps lie in a run's folder."""
    return f"{SNAPSHOTS}/step-{step:08d}.safetensors"


def write_snapshot(out: Folder, step: int, weights: Mapping[str, torch.Tensor]) -> None:
    """Write the weights after ``step`` steps; a restarted run that passes them again replaces the first."""
    found = digest(iter(sorted(weights.items())))
    with out.writing(file_name(step)) as file:
        save_file(dict(weights), file, metadata={"digest": found})


def read_snapshot(out: Folder, step: int) -> tuple[dict[str, torch.Tensor], str]:
    """The weights after ``step`` steps (fp32, memory-mapped) and their digest; ``StageError`` if missing or damaged."""
    name = file_name(step)
    if not out.exists(name):
        raise StageError(f"{out}/{name}: not there, though the run has passed that step; train it again")
    with tempfile.TemporaryDirectory(prefix="rewarm-snapshot-") as scratch:
        file = out.path / name if out.is_local else Path(scratch) / "weights"
        if not out.is_local:  # not ``out.local``: a snapshot can be written anew, and its copy need not stay
            filesystem, path = out.filesystem()
            pafs.copy_files(
                f"{path}/{name}",
                str(file),
                source_filesystem=filesystem,
                destination_filesystem=pafs.LocalFileSystem(),
            )
        try:
            with safe_open(file, framework="pt") as stored:
                expected = stored.metadata()["digest"]
                weights = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise StageError(f"{out}/{name}: damaged: {error}; train it again") from error
    found = digest(iter(sorted(weights.items())))
    if found != expected:
        raise StageError(f"{out}/{name}: holds weights of digest {found}, written were {expected}; train it again")
    return weights, found
