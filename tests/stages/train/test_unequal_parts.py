"""A batch on any number of workers: the same sequences at every step, and the same losses and weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from process_group import in_group
from training_world import BATCH, SEQ_LEN, World

from rewarm.stages.train import Job, TrainSettings
from rewarm.stages.train.data import Batches, divided, micro_batches

STEPS = 2  # of each of the groups that follow each other
FEW = ((1, 3), (2,))  # sizes of the groups, ZeRO stages
ALL = ((1, 2, 4, 3, 5), (1, 2, 3))


@pytest.mark.parametrize(
    ("batch", "workers", "micro", "expected"),
    [
        (1104, 48, 1, (1, 23)),
        (1104, 32, 4, (4, 9)),
        (1104, 40, 4, (4, 7)),
        (1104, 5, None, (221, 1)),
        (1104, 7, 8, (8, 20)),
        (8, 3, 2, (2, 2)),
        (5, 4, 1, (1, 2)),
        (4, 4, 9, (1, 1)),
    ],
)
def test_every_rank_has_as_many_micro_batches(batch: int, workers: int, micro: int | None, expected: tuple) -> None:
    settings = TrainSettings(global_batch=batch, num_workers=workers, micro_batch=micro)
    size, rounds = micro_batches(settings, workers)
    assert (size, rounds) == expected
    weights = 0
    for rank in range(workers):
        ranges = divided(len(range(rank, batch, workers)), rounds)
        assert len(ranges) == rounds
        assert [place for first, last in ranges for place in range(first, last)] == list(
            range(len(range(rank, batch, workers)))
        )
        assert all(last - first <= size for first, last in ranges)
        weights += sum(last - first for first, last in ranges)
    assert weights == batch


@pytest.mark.parametrize("workers", [1, 2, 3, 5, 7, 8])
@pytest.mark.parametrize("rounds", [None, 3])
def test_the_sequences_of_a_step_are_the_same(world: World, workers: int, rounds: int | None) -> None:
    job = world.job("parts")
    batches = Batches(job.mixture, job.tokens, True, torch.device("cpu"))
    _, expected = micro_batches(job.settings.model_copy(update={"micro_batch": 2}), workers)
    for step in range(2):
        whole = sorted(tuple(window.inputs.tolist()) for window in batches.windows(step))
        seen, weights = [], []
        for rank in range(workers):
            parts = batches.part(step, rank, workers, rounds or expected)
            assert len(parts) == (rounds or expected)
            seen += [tuple(row) for part in parts if part.weight for row in part.inputs.tolist()]
            weights += [part.weight for part in parts]
            assert all(len(part.inputs) for part in parts), "ZeRO 3 needs a forward pass"
        assert sorted(seen) == whole
        assert float(np.mean(weights)) == pytest.approx(1, abs=1e-12)


def go(rank: int, size: int, job: Job, results: Path, number: int, before: int, stages: tuple[int, ...]) -> None:
    """Two steps of each stage from what the group before, of ``before`` workers, has saved."""
    from rewarm.stages.train.engine import Engine, Place

    job.checkpoints.path.mkdir(parents=True, exist_ok=True)
    place = Place(rank, size, rank, torch.device("cpu"))
    batches = Batches(job.mixture, job.tokens, True, torch.device("cpu"))
    for stage in stages:
        settings = job.settings.model_copy(update={"zero_stage": stage, "num_workers": size, "micro_batch": 2})
        engine = Engine(job.start.path, job.start_digest, settings, place, job.checkpoints.path)
        if number:
            saved = results / f"{stage}-{number - 1}"
            engine.load(saved, before, (saved / "digest").read_text())
        rows = []
        for step in range(number * STEPS, (number + 1) * STEPS):
            loss = engine.step(batches.part(step, rank, size, engine.rounds), job.rate(step)).double()
            torch.distributed.all_reduce(loss)
            rows.append([float(loss) / size, engine.gradient_norm()])
        here = results / f"{stage}-{number}"
        engine.save(here)
        digest = engine.weights_digest()
        if rank == 0:
            (here / "digest").write_text(digest)
            np.save(here / "rows.npy", np.array(rows))


def alone(rank: int, size: int, job: Job, results: Path, steps: int) -> None:
    """All steps in one plain loop, without DeepSpeed."""
    from torch.nn import functional

    from rewarm.stages.train.weights import load_model

    model = load_model(job.start.path).train()
    decays = {True: 0.1, False: 0.0}
    groups = [
        {"params": [one for one in model.parameters() if (one.dim() > 1) is kind], "weight_decay": decays[kind]}
        for kind in decays
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)
    batches = Batches(job.mixture, job.tokens, True, torch.device("cpu"))
    rows = []
    for step in range(steps):
        (batch,) = batches.part(step, 0, 1, 1)
        logits = model(input_ids=batch.inputs, position_ids=batch.positions, use_cache=False).logits
        loss = functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = job.rate(step)
        optimizer.step()
        rows.append([float(loss.detach()), float(norm)])
    np.save(results / "alone.npy", np.array(rows))


@pytest.mark.parametrize(("sizes", "stages"), [FEW, pytest.param(*ALL, marks=pytest.mark.faults)], ids=["few", "all"])
def test_any_number_of_workers_after_any_other(
    world: World, tmp_path: Path, sizes: tuple[int, ...], stages: tuple[int, ...]
) -> None:
    job = world.job("sizes", num_workers=1)
    assert (BATCH, SEQ_LEN) == (8, 32)
    in_group(alone, 1, job, tmp_path, len(sizes) * STEPS)
    expected = np.load(tmp_path / "alone.npy")
    for number, size in enumerate(sizes):
        in_group(go, size, job, tmp_path, number, sizes[number - 1], stages)
        for stage in stages:
            found = np.load(tmp_path / f"{stage}-{number}" / "rows.npy")
            wanted = expected[number * STEPS : (number + 1) * STEPS]
            np.testing.assert_allclose(found[:, 0], wanted[:, 0], rtol=2e-5, err_msg=f"{stage}, {size} workers")
            np.testing.assert_allclose(found[:, 1], wanted[:, 1], rtol=1e-3, err_msg=f"{stage}, {size} workers")
