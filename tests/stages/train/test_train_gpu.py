"""The same training on a GPU: nccl, bf16, and the same curve as on the CPU to bf16's precision."""

import pytest
import torch
from training_world import World

from rewarm.stages import train
from rewarm.stages.core.progress import Silent

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.usefixtures("ray_cluster"),
]


def test_a_gpu_learns_what_a_cpu_learns(world: World) -> None:
    on_gpu = world.job("gpu", num_workers=1, device="gpu", precision="bf16", zero_stage=2)
    on_cpu = world.job("cpu", num_workers=1, device="cpu", cpus_per_worker=1)
    outcomes = [train.run(job, train.Group(Silent())) for job in (on_gpu, on_cpu)]
    losses = [[row["loss"] for row in job.out.read_json(train.CURVE)["steps"]] for job in (on_gpu, on_cpu)]
    assert losses[0] == pytest.approx(losses[1], rel=0.03)
    assert all(outcome.steps == on_cpu.steps for outcome in outcomes)
