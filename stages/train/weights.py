"""Full fp32 weights by name, as the optimizer sees them; their digest, verified after every load; and snapshots.

Snapshots are a run's full fp32 weights after given steps, from which an average is made. Unlike checkpoints they hold
no optimizer state, and their steps are part of the job: the checkpoint interval is a matter of placement and must not
decide a result.
"""

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
from rewarm.stages.core.temporary import temporary
from rewarm.stages.data.model_folder import carry_over, load_causal_model, make_portable
from rewarm.stages.train.job import SNAPSHOTS
from rewarm.stages.train.padded_vocabulary import real_rows

if TYPE_CHECKING:
    import transformers


def full_weights(engine: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the name and full fp32 master weight (on the CPU) of every parameter, sorted by name.

    A collective: every rank must exhaust it. Tied weights appear once. At ZeRO 0 in fp32 the parameters are their own
    masters.
    """
    from deepspeed.utils import safe_get_full_fp32_param  # reading a model from disk does not import DeepSpeed

    for name, parameter in sorted(engine.module.named_parameters()):
        whole = safe_get_full_fp32_param(parameter)
        weight = (parameter if whole is None else whole).detach().float().cpu().view(_shape(parameter))
        yield name, weight[: real_rows(parameter)] if real_rows(parameter) is not None else weight


def _shape(parameter: torch.nn.Parameter) -> torch.Size:
    return getattr(parameter, "ds_shape", parameter.shape)


def set_weights(engine: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Set the fp32 masters to exact values. DeepSpeed creates them from the bf16 weights, which rounds them."""
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_local_fp32_param

    for name, parameter in sorted(engine.module.named_parameters()):
        if hasattr(parameter, "ds_tensor"):  # ZeRO 3: setting it whole fails if its parts are padded
            first, last = own_part(parameter)
            flat = weights[name].flatten()[first:last]
            part = torch.nn.functional.pad(flat, (0, last - first - len(flat)))
            safe_set_local_fp32_param(parameter, part.to(parameter.ds_tensor.device))
        else:
            safe_set_full_fp32_param(parameter, weights[name].to(parameter.device))


def own_part(parameter: Any) -> tuple[int, int]:
    """Return the elements of a flattened parameter that ZeRO 3 gives this rank; they may be beyond its end."""
    size = int(parameter.ds_tensor.ds_numel)
    first = int(parameter.ds_zero_partition_rank) * size
    return first, first + size


def digest(weights: Iterable[tuple[str, torch.Tensor]]) -> str:
    """Return 32 hex digits over names, shapes and fp32 bytes; independent of workers and ZeRO stage."""
    state = xxhash.xxh3_128()
    for name, weight in weights:
        state.update(f"{name} {tuple(weight.shape)}\n".encode())
        state.update(weight.contiguous().numpy().data)  # in place: a copy would double the largest tensor
    return str(state.hexdigest())


def model_weights(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the name and fp32 weight of every parameter of a plain model, sorted by name."""
    for name, parameter in sorted(model.named_parameters()):
        yield name, parameter.detach().float().cpu()


def load_model(folder: Path) -> "transformers.PreTrainedModel":
    """Load a Hugging Face folder's causal model in fp32 (see ``load_causal_model``)."""
    return load_causal_model(folder, torch.float32)


def save_model(model: "transformers.PreTrainedModel", weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Write a Hugging Face folder with the given weights (safetensors) instead of the model's own."""
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
    """Write ``out/model``, a Hugging Face folder of ``start``'s type with these fp32 weights, in ``dtype``.

    A trunk is float32, since the next update starts from it; a release has the dtype with which its lineage began. The
    licence is copied from ``start``, and so is the tokenizer unless ``tokenizer``, a folder, is given. Returns the
    digest of the stored weights, which are rounded in a narrower dtype. Raises ``StageError`` if the written model does
    not load with these weights, or a weight overflows ``dtype``.
    """
    model = load_causal_model(start, getattr(torch, dtype))
    kinds = {name: parameter.dtype for name, parameter in model.named_parameters()}  # some types keep parts in fp32
    rounded = {name: weight.to(kinds[name]) for name, weight in weights.items()}
    overflown = [name for name, weight in rounded.items() if not torch.isfinite(weight).all()]
    if overflown:
        raise StageError(f"{out}: {len(overflown)} weights overflow {dtype}: {', '.join(overflown[:4])}")
    found = digest((name, weight.float()) for name, weight in sorted(rounded.items()))
    write_folder(out, start, lambda folder: save_model(model, rounded, folder), found, tokenizer)
    return found


def write_folder(
    out: Folder, source: Path, save: Callable[[Path], None], expected: str, tokenizer: Folder | None = None
) -> None:
    """Write ``out/model``: the files that ``save`` writes, with ``source``'s tokenizer and licence.

    ``tokenizer`` is a folder whose files replace ``source``'s tokenizer. Raises ``StageError`` if the written weights
    do not have the digest ``expected``.
    """
    with out.writing("model") as folder:
        save(folder)
        carry_over(source, folder, None if tokenizer is None else tokenizer.local())
        make_portable(folder)
        stored = digest(model_weights(load_model(folder)))
        if stored != expected:
            raise StageError(f"{out}: the written weights have digest {stored}, expected {expected}")


def file_name(step: int) -> str:
    """Return the path of the weights after ``step`` steps in a run's folder."""
    return f"{SNAPSHOTS}/step-{step:08d}.safetensors"


def write_snapshot(out: Folder, step: int, weights: Mapping[str, torch.Tensor]) -> None:
    """Write the weights after ``step`` steps; a restarted run that passes them again replaces the first."""
    found = digest(iter(sorted(weights.items())))
    with out.writing(file_name(step)) as file:
        save_file(dict(weights), file, metadata={"digest": found})


def read_snapshot(out: Folder, step: int) -> tuple[dict[str, torch.Tensor], str]:
    """Read the weights after ``step`` steps (fp32, memory-mapped) and their digest.

    Raises ``StageError`` if they are missing or damaged.
    """
    name = file_name(step)
    if not out.exists(name):
        raise StageError(f"{out}/{name}: missing, although the run has passed that step; train it again")
    with temporary("snapshot") as scratch:
        file = out.path / name if out.is_local else scratch / "weights"
        if not out.is_local:  # not ``out.local``: a snapshot can be rewritten, and its copy need not be kept
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
        raise StageError(f"{out}/{name}: the weights have digest {found}, expected {expected}; train it again")
    return weights, found
