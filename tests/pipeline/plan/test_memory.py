"""The memory formula: published rows, what ZeRO's engines really hold, and the table of ``rewarm plan``."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from process_group import in_group
from rich.console import Console
from training_world import World, make, make_world, train

from rewarm.pipeline.cli.plan_view import memory_view
from rewarm.pipeline.plan.memory import (
    GIGABYTE,
    Memory,
    Shape,
    activations,
    choices,
    loss_bytes,
    memory_of,
    memory_table,
)
from rewarm.stages.train import Job, TrainSettings, count_parameters, read_model_config

NEOX_10B = Shape(9_642_249_216, 36, 4608, 50_688)
NEOX_405M = Shape(405_334_016, 24, 1024, 50_304)


def settings(**given: Any) -> TrainSettings:
    return TrainSettings.model_validate({"global_batch": 64, "micro_batch": 1, **given})


def states(memory: Memory) -> float:
    return memory.weights + memory.gradients + memory.optimizer


@pytest.mark.parametrize(
    ("shape", "stage", "workers", "gigabytes"),
    [
        (NEOX_10B, 1, 8, 53),
        (NEOX_10B, 1, 64, 40),
        (NEOX_10B, 2, 8, 36),
        (NEOX_10B, 2, 64, 21),
        (NEOX_10B, 3, 8, 19),
        (NEOX_10B, 3, 64, 2.4),
        (NEOX_405M, 1, 1, 6.5),
    ],
)
def test_states_are_those_of_zero(shape: Shape, stage: int, workers: int, gigabytes: float) -> None:
    """Rajbhandari et al. 2020, section 5: 16 P bytes with AdamW in mixed precision, divided by stage."""
    found = states(memory_of(shape, settings(zero_stage=stage, num_workers=workers)))
    assert found / GIGABYTE == pytest.approx(gigabytes, rel=0.02)


def test_choices_move_what_they_say() -> None:
    plain = memory_of(NEOX_10B, settings(zero_stage=2, num_workers=8))
    away = memory_of(NEOX_10B, settings(zero_stage=2, num_workers=8, offload_optimizer=True))
    assert (away.optimizer, away.host) == (0, 8 * NEOX_10B.parameters), "the whole model at the start is larger"
    parts = memory_of(NEOX_10B, settings(zero_stage=3, num_workers=8, offload_optimizer=True))
    assert parts.host == plain.optimizer + 4 * NEOX_10B.parameters / 8
    fp32 = memory_of(NEOX_10B, settings(zero_stage=2, num_workers=8, gradients="fp32"))
    assert fp32.gradients == 2 * plain.gradients
    kept = memory_of(NEOX_10B, settings(zero_stage=2, num_workers=8, kl_weight=0.1))
    assert kept.teacher == 2 * NEOX_10B.parameters
    assert activations(NEOX_10B, 2048, True) < activations(NEOX_10B, 2048, False) / 10
    assert loss_bytes(10**6, settings(loss="auto")) == 14e6
    assert loss_bytes(10**9, settings(loss="auto")) == 2.5e9
    assert plain.card == 80
    assert memory_of(NEOX_10B, settings(zero_stage=1)).card is None
    assert memory_of(NEOX_405M, settings(zero_stage=0)) == memory_of(NEOX_405M, settings(zero_stage=1))


def test_alternatives_are_those_that_train() -> None:
    assert len(choices(settings())) == 14
    muon = choices(settings(optimizer="muon"))
    assert {(each.zero_stage, each.offload_optimizer) for each in muon} == {(0, False), (1, False), (2, False)}


# -- against engines ----------------------------------------------------------------------------------------------

MODES = [(stage, precision) for stage in range(4) for precision in ("fp32", "bf16")]


def held(rank: int, size: int, job: Job, results: Path) -> None:
    """Bytes of the tensors that engines hold: weights, fp32 masters and moments."""
    job.checkpoints.path.mkdir(parents=True, exist_ok=True)
    found = {}
    for stage, precision in MODES:
        made = make(job, rank, size, stage, precision)
        train(made, job, 0, 1)  # some moments are made by the first step
        engine = made.engine
        inner = getattr(engine.optimizer, "optimizer", engine.optimizer)
        owned = [getattr(each, "ds_tensor", each) for each in engine.module.parameters()]
        owned += [each for group in inner.param_groups for each in group["params"]]
        owned += [value for state in inner.state.values() for value in state.values() if torch.is_tensor(value)]
        owned += list(getattr(engine.optimizer, "fp32_partitioned_groups_flat", []))
        owned += list(getattr(engine.optimizer, "single_partition_of_fp32_groups", []))
        storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in owned}
        found[f"{stage}-{precision}"] = sum(storages.values())
    if rank == 0:
        (results / "held.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("memory"))


def test_engines_hold_what_the_formula_says(world: World, tmp_path: Path) -> None:
    in_group(held, 2, world.job("held"), tmp_path)
    shape = Shape.of(read_model_config(world.start.path), count_parameters(world.start))
    for (stage, precision), (mode, found) in zip(
        MODES, json.loads((tmp_path / "held.json").read_text()).items(), strict=True
    ):
        given = settings(zero_stage=stage, precision=precision, num_workers=2)
        memory = memory_of(shape, given)
        assert found == pytest.approx(memory.weights + memory.optimizer, rel=0.05), mode


def test_the_table_is_shown() -> None:
    console = Console(width=80, no_color=True)
    with console.capture() as captured:
        console.print(memory_view(memory_table(NEOX_10B, settings(zero_stage=1, num_workers=8))))
    text = captured.get()
    assert "9.64 G parameters, 8 workers" in " ".join(text.split())
    assert "ZeRO 3" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    json.dumps(memory_table(NEOX_405M, settings()))
