"""The probe of a device: that it sees a difference in the last bit, and changes nothing."""

import json
from pathlib import Path
from typing import Any

import torch
from process_group import in_group
from training_world import World, train

from rewarm.stages.train import Job

MODES: list[dict[str, Any]] = [
    {"zero_stage": 1, "precision": "fp32"},
    {"zero_stage": 2, "precision": "bf16", "gradient_checkpointing": True},
    {"zero_stage": 3, "precision": "fp32", "loss": "chunks"},
    {"zero_stage": 3, "precision": "bf16", "micro_batch": 2},
]


def probe(rank: int, size: int, job: Job, results: Path) -> None:
    """Steps after a probe and without one; and a probe of a model whose last layer is not exact on one rank."""
    from rewarm.stages.train.data import Batches
    from rewarm.stages.train.determinism import repeats
    from rewarm.stages.train.engine import Engine, Place

    job.checkpoints.path.mkdir(parents=True, exist_ok=True)
    place = Place(rank, size, rank, torch.device("cpu"))
    batches = Batches(job.mixture, job.tokens, True, torch.device("cpu"))
    rows = []
    for mode in MODES:
        found = []
        for probed in (True, False):
            settings = job.settings.model_copy(update=mode)
            engine = Engine(job.start.path, job.start_digest, settings, place, job.checkpoints.path)
            batch = batches.part(0, rank, size, engine.rounds)[0]
            if probed:
                assert repeats(engine, batch, 1), mode
                assert engine.weights_digest() == job.start_digest
            found.append([train(engine, job, 0, 3), engine.weights_digest()])
            if probed and rank == 1:
                calls: list[int] = []

                def nudge(_: Any, __: Any, output: torch.Tensor, calls: list[int] = calls) -> torch.Tensor:
                    calls.append(1)
                    return output * (1 + len(calls) * 2.0**-6)

                engine.engine.module.gpt_neox.final_layer_norm.register_forward_hook(nudge)
            if probed:
                assert not repeats(engine, batch, 1), mode
            engine.close()
        rows.append(found)
    if rank == 0:
        (results / "rows.json").write_text(json.dumps(rows))


def test_the_probe_sees_a_difference_on_any_rank_and_changes_nothing(world: World, tmp_path: Path) -> None:
    in_group(probe, 2, world.job("probe"), tmp_path)
    for mode, (probed, plain) in zip(MODES, json.loads((tmp_path / "rows.json").read_text()), strict=True):
        assert probed == plain, mode
