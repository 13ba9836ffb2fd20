"""Start of training at ZeRO 3 in which no rank holds a whole model: each reads its part of every tensor.

The model is built without memory for its parameters. DeepSpeed partitions one parameter at a time, and each rank fills
its part from the safetensors files, so its peak is its share and the largest tensor. The digest of the weights is
compared with the record in the finished engine, where it covers reading and partitioning at once.

A model whose tensors are not stored under the names and shapes of its parameters (some mixtures of experts) is loaded
whole by every rank, as at the other stages, with a note.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open

from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.data.model_folder import MASKS, weight_files
from rewarm.stages.train.padded_vocabulary import marked, real_rows
from rewarm.stages.train.settings import TrainSettings
from rewarm.stages.train.weights import digest, own_part

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from rewarm.stages.train.engine import Place

WHOLE = ("offload_param", "zero_hpz_partition_size", "zero_quantized_weights", "zero_quantized_nontrainable_weights")
"""Options of ZeRO under which a rank keeps other copies of its part, which would have to be filled too."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a safetensors file."""

    file: Path
    key: str
    shape: tuple[int, ...]

    def part(self, first: int, last: int) -> torch.Tensor:
        """Read the elements ``[first, last)`` of the flattened tensor, in fp32; those beyond its end are 0."""
        part = torch.zeros(last - first, dtype=torch.float32)
        stop = min(last, math.prod(self.shape))
        if first >= stop:
            return part
        with safe_open(self.file, framework="pt") as stored:
            if not self.shape:
                part[:1] = stored.get_tensor(self.key)
                return part
            width = math.prod(self.shape[1:])
            low, high = first // width, -(-stop // width)
            rows = stored.get_slice(self.key)[low:high].reshape(-1)
            part[: stop - first] = rows[first - low * width : stop - low * width]
        return part

    def whole(self) -> torch.Tensor:
        """Read the tensor in fp32."""
        return self.part(0, math.prod(self.shape)).view(self.shape)


@dataclass(frozen=True)
class ShardedStart:
    """A model whose parameters have no memory, and the tensors from which ranks fill their parts, by parameter."""

    model: "PreTrainedModel"
    tensors: Mapping[str, StoredTensor]

    def partition(self, dtype: torch.dtype, device: torch.device, config: dict[str, Any]) -> None:
        """Give every parameter this rank's part, in the precision of the forward pass. A collective."""
        import deepspeed

        deepspeed.init_distributed()
        first: Any = None
        for name, parameter in self.model.named_parameters():
            space = torch.empty(parameter.shape, dtype=dtype, device=device)
            filled = torch.nn.Parameter(space, requires_grad=parameter.requires_grad)
            torch.utils.swap_tensors(parameter, marked(filled, real_rows(parameter)))  # type: ignore[no-untyped-call]
            del space, filled
            if first is None:
                first = parameter
                deepspeed.zero.Init(module=torch.nn.ParameterList([parameter]), config_dict_or_path=config)
            else:
                first.convert_to_zero_parameters(param_list=[parameter])
            part: Any = parameter
            part.ds_tensor.data.copy_(self._own(name, part))
        for module in self.model.modules():
            for name, buffer in list(module.named_buffers(recurse=False)):
                setattr(module, name, buffer.to(device))

    def set_masters(self) -> None:
        """Set this rank's fp32 masters to exact values. DeepSpeed creates them from the bf16 weights, rounded."""
        from deepspeed.utils import safe_set_local_fp32_param

        for name, parameter in self.model.named_parameters():
            part: Any = parameter
            safe_set_local_fp32_param(parameter, self._own(name, part).to(part.ds_tensor.device))

    def digest(self) -> str:
        """Return the digest of the stored weights, of which one tensor at a time is in memory."""
        return digest((name, tensor.whole()) for name, tensor in sorted(self.tensors.items()))

    def _own(self, name: str, parameter: Any) -> torch.Tensor:
        return self.tensors[name].part(*own_part(parameter))


def sharded_start(folder: Path, settings: TrainSettings, place: "Place") -> tuple[ShardedStart | None, str | None]:
    """Return the start of a model in parts; or None, with a note if this is for another reason than the ZeRO stage.

    A collective at ZeRO 3: all ranks start alike.
    """
    if settings.zero_stage != 3:
        return None, None
    start: ShardedStart | str
    try:
        start = found_in(folder, settings)
    except (StageError, UsageError, SafetensorError, OSError, ValueError) as error:
        start = " ".join(str(error).split())  # loading it whole reports what is wrong with it
    problems: list[str | None] = [None] * place.world_size
    dist.all_gather_object(problems, start if isinstance(start, str) else None)
    problem = next((text for text in problems if text), None)
    if problem is None and isinstance(start, ShardedStart):
        return start, None
    return None, f"train.zero_stage 3: every worker loads the whole model in fp32 before its part: {problem}"


def found_in(folder: Path, settings: TrainSettings) -> ShardedStart | str:
    """Return the start of a folder's model in parts, or why it is not possible."""
    zero = settings.deepspeed.get("zero_optimization", {})
    if given := [name for name in WHOLE if name in zero]:
        return f"train.deepspeed sets {', '.join(given)}"
    model = empty_model(folder)
    tensors = tensors_of(model, {tensor.key: tensor for tensor in stored_tensors(folder)})
    if isinstance(tensors, str):
        return tensors
    fp32 = [getattr(model, name, None) for name in ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict")]
    if settings.precision != "fp32" and any(fp32):
        return f"{type(model).__name__} keeps some parameters in fp32"
    return ShardedStart(model, tensors)


def empty_model(folder: Path) -> "PreTrainedModel":
    """Build the causal model of a folder with parameters on the meta device; buffers have their values."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    with init_empty_weights(include_buffers=False):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    model.tie_weights()  # each name got a parameter of its own
    return model


def is_empty(model: torch.nn.Module) -> bool:
    """Return whether a model's parameters have no memory."""
    return any(parameter.is_meta for parameter in model.parameters())


def stored_tensors(folder: Path) -> Iterator[StoredTensor]:
    """Yield the tensors in a folder's weight files."""
    for name in weight_files(folder):
        with safe_open(folder / name, framework="np") as stored:
            for key in stored.keys():  # noqa: SIM118
                yield StoredTensor(folder / name, key, tuple(stored.get_slice(key).get_shape()))


def names_in_model(model: "PreTrainedModel", keys: Iterable[str]) -> dict[str, str] | str:
    """Return stored names by the model's own; or which tensor is stored in another form than its parameter.

    transformers renames tensors when it loads a model (GPT-NeoX's ``embed_out``), and merges those of experts.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    transforms, state = get_model_conversion_mapping(model), model.state_dict()
    renamings = [each for each in transforms if isinstance(each, WeightRenaming)]
    converters = [each for each in transforms if isinstance(each, WeightConverter)]
    names: dict[str, str] = {}
    for key in sorted(keys):
        name, converted = rename_source_key(key, renamings, converters, model.base_model_prefix, state)
        if converted is not None or name in names:
            return f"{key} is stored in another form"
        names[name] = key
    return names


def tensors_of(model: "PreTrainedModel", stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor] | str:
    """Return the stored tensor of every parameter, by the parameter's name; or why they cannot be paired.

    Every parameter must be stored once, under one of its names (tied weights have several), and nothing else.
    """
    keys = names_in_model(model, stored)
    if isinstance(keys, str):
        return keys
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    tensors = {}
    for name, parameter in model.named_parameters():
        known = [keys[other] for other in names[id(parameter)] if other in keys]
        if len(known) != 1 or stored[known[0]].shape != tuple(parameter.shape):
            return f"{name} is not stored once, in its shape"
        tensors[name] = stored[known[0]]
    used = {tensor.key for tensor in tensors.values()}
    if others := sorted(key for key in stored.keys() - used if not MASKS.search(key)):
        return f"{others[0]} is stored, and is no parameter"
    state = model.state_dict()
    if buffers := [name for name, _ in model.named_buffers() if name in state]:
        return f"{buffers[0]} is a stored buffer"
    return tensors
