"""The DeepSpeed engine in real process groups: every ZeRO stage trains alike and resumes exactly."""

import sys
from pathlib import Path

import numpy as np
import pytest
from process_group import in_group
from training_world import World, make, train

from rewarm.stages.core.errors import StageError
from rewarm.stages.train import Job

MODES = [(0, "fp32"), (1, "fp32"), (2, "fp32"), (3, "fp32"), (2, "bf16"), (3, "bf16")]


def run_modes(rank: int, size: int, job: Job, results: Path) -> None:
    """Six steps; three steps, saved; three more in a new engine: equal to the six, at every stage and precision."""
    job.checkpoints.path.mkdir(parents=True, exist_ok=True)
    for stage, precision in MODES:
        whole = make(job, rank, size, stage, precision)
        losses = train(whole, job, 0, 6)
        digest = whole.weights_digest()
        half = make(job, rank, size, stage, precision)
        train(half, job, 0, 3)
        folder = results / f"{stage}-{precision}"
        half.save(folder)
        saved = half.weights_digest()
        resumed = make(job, rank, size, stage, precision)
        resumed.load(folder, size, saved)
        assert train(resumed, job, 3, 6) == losses[3:], (stage, precision)
        assert resumed.weights_digest() == digest, (stage, precision)
        decays = [group["weight_decay"] for group in resumed.engine.optimizer.param_groups]
        assert decays == [0.1, 0.0], (stage, precision)
        with pytest.raises(StageError, match="digest"):
            resumed.load(folder, size, "0" * 32)
        assert "torch._inductor.compile_fx" not in sys.modules, "it costs every worker a second"
        if rank == 0:
            np.save(results / f"{stage}-{precision}.npy", np.array(losses))
            (results / f"{stage}-{precision}.digest").write_text(saved)


def run_resized(rank: int, size: int, job: Job, results: Path) -> None:
    """Go on from what two ranks saved, on another number of ranks: the same losses to floating-point order."""
    job.checkpoints.path.mkdir(parents=True, exist_ok=True)
    for stage, precision in MODES:
        expected = np.load(results / f"{stage}-{precision}.npy")
        engine = make(job, rank, size, stage, precision)
        engine.load(results / f"{stage}-{precision}", 2, (results / f"{stage}-{precision}.digest").read_text())
        found = train(engine, job, 3, 6)
        np.testing.assert_allclose(
            found, expected[3:], rtol=2e-5 if precision == "fp32" else 5e-3, err_msg=f"{stage} {precision}"
        )


@pytest.fixture(scope="module")
def saved(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("modes")
    in_group(run_modes, 2, world.job("modes"), results)
    return results


def test_every_stage_resumes_bit_for_bit(saved: Path) -> None:
    losses = {mode: np.load(saved / f"{mode[0]}-{mode[1]}.npy") for mode in MODES}
    for mode, found in losses.items():
        assert found[-1] < found[0], mode
        np.testing.assert_allclose(
            found, losses[0, "fp32"], rtol=2e-5 if mode[1] == "fp32" else 2e-2, err_msg=str(mode)
        )


def test_every_stage_goes_on_with_one_rank(saved: Path, world: World) -> None:
    in_group(run_resized, 1, world.job("resized", num_workers=1), saved)
