"""Memory of a training worker by formula: what fits where. Pure functions; the page docs/memory.md explains them.

Bytes per parameter follow from ZeRO's stages (Rajbhandari et al. 2020, arXiv 1910.02054) and DeepSpeed's buffers, the
activations from Korthikanti et al. 2022 (arXiv 2205.05198, without attention's scores), the loss from measurements
(benchmarks/RESULTS.md). The libraries' own memory and fragmentation are in ``SPARE``.
"""

from dataclasses import asdict, dataclass
from typing import Any

from rewarm.stages.core.storage import Folder
from rewarm.stages.train import TrainSettings, count_parameters, read_model_config

GIGABYTE = 1e9
CARDS = (16, 24, 40, 48, 80, 141, 180)  # GB of common GPUs
SPARE = (1.1, 1e9)  # factor and bytes for what the formula does not count
BUCKET = 500_000_000  # elements of DeepSpeed's reduce_bucket_size
ADAM, MASTERS = 8, 4  # bytes per parameter: two moments, and fp32 weights beside those of the forward pass
ACTIVATIONS, KEPT = 34, 2  # bytes per token × width × layer in 16 bits: all of a layer's, and its input alone
WHOLE, CHUNKS = {"fp32": 16.0, "bf16": 14.0}, {"fp32": 3.1, "bf16": 2.5}  # bytes of the loss per token × entry
LARGEST_LOGITS = 1 << 28  # bytes above which ``train.loss`` auto uses chunks


@dataclass(frozen=True)
class Shape:
    """Dimensions of a model."""

    parameters: int
    layers: int
    width: int  # hidden size
    vocabulary: int

    @classmethod
    def of(cls, config: Any, parameters: int) -> "Shape":
        """Read them from a transformers configuration."""
        text = config.get_text_config()
        return cls(parameters, int(text.num_hidden_layers), int(text.hidden_size), int(text.vocab_size))


@dataclass(frozen=True)
class Memory:
    """Bytes of one worker: on its device, and in the machine's memory beside it."""

    weights: float
    gradients: float
    optimizer: float  # moments and fp32 weights
    buffers: float  # of reductions, and the layers that ZeRO 3 has gathered
    teacher: float
    activations: float
    loss: float
    host: float  # an offloaded optimizer; the whole model at the start, below ZeRO 3

    @property
    def device(self) -> float:
        """Bytes on the device."""
        states = self.weights + self.gradients + self.optimizer + self.buffers + self.teacher
        return states + self.activations + self.loss

    @property
    def card(self) -> int | None:
        """The smallest of ``CARDS``, in GB, on which it fits; None if on none."""
        factor, more = SPARE
        return next((size for size in CARDS if factor * self.device + more <= size * GIGABYTE), None)


def memory_of(shape: Shape, settings: TrainSettings) -> Memory:
    """Return the memory of a worker under these settings; Muon's state is counted as AdamW's, which is larger."""
    count, workers, low = shape.parameters, settings.num_workers, settings.precision != "fp32"
    stage, width = used_stage(settings), 2 if low else 4
    summed = 4 if settings.gradients == "fp32" else width
    state = ADAM + MASTERS if stage else ADAM
    optimizer = state * count / (workers if stage else 1)
    buffers = float(summed * min(count, BUCKET)) if stage else 0.0
    if stage == 3:
        buffers += 2 * width * max(count / shape.layers, shape.vocabulary * shape.width)
    at_start = 4 * shape.vocabulary * shape.width if stage == 3 else (8 if low else 4) * count
    away = optimizer + 4 * count / workers if settings.offload_optimizer else 0
    tokens = micro_batch(settings) * settings.seq_len
    return Memory(
        weights=width * count / (workers if stage == 3 else 1),
        gradients=summed * count / (workers if stage >= 2 else 1),
        optimizer=0 if settings.offload_optimizer else optimizer,
        buffers=buffers,
        teacher=width * count if settings.kl_weight > 0 else 0,
        activations=activations(shape, tokens, settings.gradient_checkpointing) * width / 2,
        loss=loss_bytes(tokens * shape.vocabulary, settings),
        host=max(away, at_start),
    )


def used_stage(settings: TrainSettings) -> int:
    """Return the ZeRO stage that a run uses (see ``stages/train/zero_config.py``)."""
    low = settings.precision != "fp32"
    if low and settings.gradients == "fp32" and settings.zero_stage < 2:
        return 2
    return 1 if low and settings.zero_stage == 0 else settings.zero_stage


def micro_batch(settings: TrainSettings) -> int:
    """Return the most sequences that a worker processes at once."""
    part = -(-settings.global_batch // settings.num_workers)
    return min(settings.micro_batch or part, part)


def activations(shape: Shape, tokens: int, checkpointing: bool) -> float:
    """Return the bytes that the backward pass needs, in 16 bits."""
    layer = ACTIVATIONS * tokens * shape.width
    return KEPT * tokens * shape.width * shape.layers + layer if checkpointing else float(layer * shape.layers)


def loss_bytes(entries: int, settings: TrainSettings) -> float:
    """Return the bytes of the loss of a micro batch of tokens × vocabulary ``entries``."""
    chunks = settings.loss == "chunks" or (settings.loss == "auto" and 4 * entries > LARGEST_LOGITS)
    return (CHUNKS if chunks else WHOLE)["fp32" if settings.precision == "fp32" else "bf16"] * entries


def choices(settings: TrainSettings) -> list[TrainSettings]:
    """Return the settings with every ZeRO stage, with and without offload and activation checkpointing."""
    return [
        settings.model_copy(
            update={"zero_stage": stage, "offload_optimizer": away, "gradient_checkpointing": recomputed}
        )
        for stage in range(4)
        for away in (False, True)
        for recomputed in (False, True)
        if not (away and (stage == 0 or settings.optimizer == "muon"))
        and not (stage == 3 and (settings.optimizer == "muon" or settings.compile))
    ]


def model_memory(model: Folder, settings: TrainSettings) -> dict[str, Any]:
    """Return ``memory_table`` for the model of a folder."""
    return memory_table(Shape.of(read_model_config(model.local()), count_parameters(model)), settings)


def memory_table(shape: Shape, settings: TrainSettings) -> dict[str, Any]:
    """Return what fits where as JSON types: the memory under the settings, and under their alternatives."""
    chosen = memory_of(shape, settings)
    rows = [
        {
            "zero_stage": each.zero_stage,
            "offload_optimizer": each.offload_optimizer,
            "gradient_checkpointing": each.gradient_checkpointing,
            "device": found.device,
            "host": found.host,
            "card": found.card,
        }
        for each in choices(settings)
        for found in (memory_of(shape, each),)
    ]
    return {
        "parameters": shape.parameters,
        "workers": settings.num_workers,
        "micro_batch": micro_batch(settings),
        "seq_len": settings.seq_len,
        "precision": settings.precision,
        "zero_stage": settings.zero_stage,
        "parts": asdict(chosen),
        "device": chosen.device,
        "card": chosen.card,
        "alternatives": rows,
    }
