"""Every ZeRO stage × precision × accumulation × offload against a plain loop, and DeepSpeed's configuration."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from process_group import in_group
from pydantic import ValidationError
from training_world import World

from rewarm.stages.core import operators
from rewarm.stages.core.errors import UsageError
from rewarm.stages.train import Job, TrainSettings
from rewarm.stages.train.zero_config import merged, stage_note, zero_config

STEPS = 4
ROWS: list[dict[str, Any]] = [
    *({"zero_stage": stage, "precision": "fp32", "micro_batch": micro} for stage in range(4) for micro in (4, 1)),
    *({"zero_stage": stage, "precision": "bf16", "micro_batch": micro} for stage in range(4) for micro in (4, 1)),
    *({"zero_stage": stage, "precision": "bf16", "micro_batch": 1, "gradients": "fp32"} for stage in range(4)),
    *(
        {"zero_stage": stage, "precision": precision, "micro_batch": 2, "offload_optimizer": True}
        for stage in (1, 2, 3)
        for precision in ("fp32", "bf16")
    ),
    {"zero_stage": 2, "precision": "fp32", "micro_batch": 2, "gradient_checkpointing": True, "loss": "chunks"},
    {"zero_stage": 3, "precision": "fp32", "micro_batch": 2, "gradient_checkpointing": True, "loss": "chunks"},
    {
        "zero_stage": 2,
        "precision": "fp32",
        "micro_batch": 2,
        "deepspeed": {"zero_optimization": {"overlap_comm": True}},
    },
]

FEW = [
    {"zero_stage": 0, "precision": "bf16", "micro_batch": 4},
    {"zero_stage": 1, "precision": "fp32", "micro_batch": 1},
    {"zero_stage": 2, "precision": "bf16", "micro_batch": 1, "gradients": "fp32"},
    {"zero_stage": 3, "precision": "fp32", "micro_batch": 2, "gradient_checkpointing": True, "loss": "chunks"},
]


def name_of(row: dict[str, Any]) -> str:
    return re.sub(r"\W+", "-", "-".join(f"{key}-{value}" for key, value in row.items()))


def offloads(rows: list[dict[str, Any]]) -> bool:
    """Whether a row needs Adam on the CPU, which is built once, for about a minute."""
    return any(row.get("offload_optimizer") for row in rows)


def train(engine: Any, batches: Any, job: Job, first: int, saved: Path | None = None) -> tuple[list[float], str]:
    """Losses of the steps from ``first`` on, and the digest after the second one, which is saved."""
    rank, size, digest, losses = engine.place.rank, engine.place.world_size, "", []
    for step in range(first, STEPS):
        loss = engine.step(batches.part(step, rank, size, engine.rounds), job.rate(step)).double()
        torch.distributed.all_reduce(loss)
        losses.append(float(loss) / size)
        if step == 1 and saved is not None:
            engine.save(saved)
            digest = engine.weights_digest()
    return losses, digest


def run(rank: int, size: int, job: Job, results: Path, rows: list[dict[str, Any]]) -> None:
    """Steps of the rows; and the last two again, from what was saved after the first two."""
    from rewarm.stages.train.data import Batches
    from rewarm.stages.train.engine import Engine, Place

    job.checkpoints.path.mkdir(parents=True, exist_ok=True)
    operators.load(offload=offloads(rows), say=lambda line: None)
    batches = Batches(job.mixture, job.tokens, True, torch.device("cpu"))
    place = Place(rank, size, rank, torch.device("cpu"))
    for row in rows:
        settings = TrainSettings.model_validate({**job.settings.model_dump(), **row})
        whole = Engine(job.start.path, job.start_digest, settings, place, job.checkpoints.path)
        losses, digest = train(whole, batches, job, 0, results / name_of(row))
        resumed = Engine(job.start.path, job.start_digest, settings, place, job.checkpoints.path)
        resumed.load(results / name_of(row), size, digest)
        assert train(resumed, batches, job, 2)[0] == losses[2:], row
        assert whole.weights_digest() == resumed.weights_digest(), row
        gathered = whole.gather()
        if rank == 0:
            weights = torch.cat([weight.flatten() for _, weight in sorted(gathered.items())])
            np.save(results / f"{name_of(row)}.npy", np.concatenate([losses, weights.numpy().astype(np.float64)]))


def alone(rank: int, size: int, job: Job, results: Path) -> None:
    """The same steps in a plain loop in fp32."""
    from torch.nn import functional

    from rewarm.stages.train.data import Batches
    from rewarm.stages.train.weights import load_model, model_weights

    model = load_model(job.start.path).train()
    start = torch.cat([weight.flatten() for _, weight in model_weights(model)]).clone()
    groups = [
        {"params": [one for one in model.parameters() if (one.dim() > 1) is kind], "weight_decay": 0.1 * kind}
        for kind in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)
    batches = Batches(job.mixture, job.tokens, True, torch.device("cpu"))
    losses = []
    for step in range(STEPS):
        (batch,) = batches.part(step, 0, 1, 1)
        logits = model(input_ids=batch.inputs, position_ids=batch.positions, use_cache=False).logits
        loss = functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = job.rate(step)
        optimizer.step()
        losses.append(float(loss.detach()))
    weights = torch.cat([weight.flatten() for _, weight in model_weights(model)])
    np.save(results / "start.npy", start.numpy().astype(np.float64))
    np.save(results / "alone.npy", np.concatenate([losses, weights.numpy().astype(np.float64)]))


@pytest.mark.parametrize("rows", [FEW, pytest.param(ROWS, marks=pytest.mark.faults)], ids=["few", "all"])
def test_every_row_trains_as_a_plain_loop_and_resumes_exactly(
    world: World, tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    operators.build(offload=offloads(rows), say=lambda line: None)
    job = world.job("table")
    in_group(alone, 1, job, tmp_path)
    in_group(run, 2, job, tmp_path, rows)
    expected = np.load(tmp_path / "alone.npy")
    moved = np.linalg.norm(expected[STEPS:] - np.load(tmp_path / "start.npy"))
    for row in rows:
        found = np.load(tmp_path / f"{name_of(row)}.npy")
        exact = row["precision"] == "fp32"
        np.testing.assert_allclose(found[:STEPS], expected[:STEPS], rtol=2e-5 if exact else 1e-2, err_msg=str(row))
        apart = np.linalg.norm(found[STEPS:] - expected[STEPS:]) / moved
        assert apart < (1e-4 if exact else 0.1), (row, apart)


# -- the configuration --------------------------------------------------------------------------------------------


def test_stage_0_in_bf16_and_fp32_gradients_use_another_stage_and_say_so() -> None:
    settings = TrainSettings(zero_stage=0, precision="bf16")
    assert zero_config(settings, 1, 1, False)["zero_optimization"]["stage"] == 1
    assert "train.zero_stage 0: stage 1 is used" in str(stage_note(settings))
    assert stage_note(TrainSettings(zero_stage=0, precision="fp32")) is None
    settings = TrainSettings(zero_stage=1, precision="bf16", gradients="fp32")
    assert "train.zero_stage 1: stage 2 is used" in str(stage_note(settings))
    assert stage_note(TrainSettings(zero_stage=3, precision="bf16", gradients="fp32")) is None


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"optimizer": {"type": "Adam"}}, "optimizer is decided by train.weight_decay"),
        ({"train_batch_size": 8}, "train_batch_size is decided by train.global_batch"),
        ({"zero_optimization": {"stage": 3}}, "zero_optimization.stage is decided by train.zero_stage"),
        ({"zero_optimization": {"offload_optimizer": {}}}, "decided by train.offload_optimizer"),
        ({"zero_optimization": 3}, "must be a mapping"),
        ({"gradient_cliping": 1.0}, "unknown key 'gradient_cliping'"),
    ],
)
def test_what_other_settings_decide_is_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(reason)):
        TrainSettings.model_validate({"deepspeed": given})


def test_the_rest_is_passed_on() -> None:
    given = {"zero_optimization": {"overlap_comm": True, "reduce_bucket_size": 1000}, "wall_clock_breakdown": True}
    config = zero_config(TrainSettings(deepspeed=given, zero_stage=2), 1, 1, False)
    assert config["zero_optimization"] == {"stage": 2, "overlap_comm": True, "reduce_bucket_size": 1000}
    assert config["wall_clock_breakdown"] is True
    with pytest.raises(UsageError, match="communication_data_type 'bf16' conflicts with 'fp32'"):
        merged({"communication_data_type": "fp32"}, {"communication_data_type": "bf16"})


@pytest.mark.parametrize("given", [{"zero_stage": 0, "offload_optimizer": True}, {"zero_stage": 3, "compile": True}])
def test_what_cannot_be_combined_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"zero_stage"):
        TrainSettings.model_validate(given)
