"""DeepSpeed's configuration of a run: rewarm's settings, and the user's ``train.deepspeed`` beside them."""

from collections.abc import Iterator, Mapping
from typing import Any

from rewarm.stages.core.errors import UsageError
from rewarm.stages.train.settings import TrainSettings


def zero_stage(settings: TrainSettings) -> int:
    """Return the ZeRO stage that is used: 1 for stage 0 in bf16.

    At stage 0 in bf16 DeepSpeed keeps fp32 weights that cannot be read or set, so they would be rounded at the start
    and could not be verified. Stage 1 has the same arithmetic.
    """
    return 1 if settings.zero_stage == 0 and settings.precision != "fp32" else settings.zero_stage


def zero_config(settings: TrainSettings, micro_batch: int, rounds: int, universal: bool) -> dict[str, Any]:
    """Return the configuration; ``universal`` reads checkpoints in ZeRO's universal form."""
    zero: dict[str, Any] = {"stage": zero_stage(settings)}
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": rounds,
        "gradient_clipping": settings.clip,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": settings.precision != "fp32"},
        "steps_per_print": 1_000_000_000,
        "checkpoint": {"load_universal": universal},
    }
    if settings.gradients == "fp32" and settings.precision != "fp32":
        config |= {"data_types": {"grad_accum_dtype": "fp32"}, "communication_data_type": "fp32"}
        if zero["stage"] == 1:  # at stage 1 another optimizer would be used, whose state has another form
            zero["stage"] = 2
    if settings.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    return merged(config, settings.deepspeed)


def merged(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the union of two nested configurations; ``UsageError`` if both set a key to different values."""
    for path, value in leaves(theirs):
        here: Any = ours
        for name in path:
            here = here.get(name) if isinstance(here, Mapping) else None
        if here is not None and not isinstance(here, Mapping) and here != value:
            raise UsageError(f"train.deepspeed: {'.'.join(path)} {value!r} conflicts with {here!r}, which rewarm sets")
    result = {**ours}
    for name, value in theirs.items():
        inner = result.get(name)
        result[name] = merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return result


def leaves(value: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the paths and values of a nested mapping."""
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from leaves(inner, (*path, name))
        else:
            yield (*path, name), inner


def stage_note(settings: TrainSettings) -> str | None:
    """Return a line if another ZeRO stage is used than the settings ask for; None if not."""
    config = zero_config(settings, 1, 1, universal=False)
    stage = config["zero_optimization"]["stage"]
    if stage == settings.zero_stage:
        return None
    why = (
        "DeepSpeed's fp32 weights cannot be verified at stage 0 in bf16"
        if settings.zero_stage == 0
        else "DeepSpeed accumulates in fp32 at stages 2 and 3"
    )
    return f"train.zero_stage {settings.zero_stage}: stage {stage} is used, with the same arithmetic: {why}"
