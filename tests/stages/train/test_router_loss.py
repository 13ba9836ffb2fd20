"""The engine trains a mixture of experts on its own loss: cross-entropy and the routers' load balancing."""

import dataclasses
from pathlib import Path

import pytest
import torch
from model_folders import write_folder
from process_group import in_group
from training_world import World

from rewarm.stages.core.storage import Folder
from rewarm.stages.train import Job
from rewarm.stages.train.weights import digest, load_model, model_weights

COEFFICIENT = 0.5


def run_step(rank: int, size: int, job: Job, results: Path) -> None:
    """One step; what its backward pass began with, and what the step says its cross-entropy was."""
    from rewarm.stages.train.data import Batches
    from rewarm.stages.train.engine import Engine, Place

    job.checkpoints.path.mkdir(parents=True, exist_ok=True)
    place = Place(rank, size, rank, torch.device("cpu"))
    expected = digest(model_weights(load_model(job.start.path)))
    engine = Engine(job.start.path, expected, job.settings, place, job.checkpoints.path)
    batch = Batches(job.mixture, job.tokens, True, place.device).part(0, rank, size, engine.rounds)
    begun: list[float] = []
    backward = engine.engine.backward

    def recorded(loss: torch.Tensor) -> object:
        begun.append(float(loss))
        return backward(loss)

    engine.engine.backward = recorded
    reported = float(engine.step(batch, 1e-3))
    torch.save((begun, reported, [(one.inputs, one.targets, one.positions) for one in batch]), results / "step.pt")


def test_the_objective_is_the_models_own_loss(world: World, tmp_path: Path) -> None:
    fields = {"output_router_logits": True, "router_aux_loss_coef": COEFFICIENT, "vocab_size": 400}
    start = write_folder(tmp_path / "mixtral", "mixtral", **fields)
    job = dataclasses.replace(world.job("router", num_workers=1), start=Folder(start))
    in_group(run_step, 1, job, tmp_path)
    begun, reported, batches = torch.load(tmp_path / "step.pt")
    model = load_model(start)
    for objective, (inputs, targets, positions) in zip(begun, batches, strict=True):
        with torch.no_grad():
            own = model(input_ids=inputs, position_ids=positions, labels=inputs, shift_labels=targets, use_cache=False)
        assert objective == pytest.approx(float(own.loss), abs=1e-4)
        assert objective - reported == pytest.approx(COEFFICIENT * float(own.aux_loss), abs=1e-4)
        assert float(own.aux_loss) >= 1
