"""Muon: its update against torch's, its groups, and the same training at every ZeRO stage and number of ranks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from process_group import in_group
from pydantic import ValidationError
from training_world import World, make, train

from rewarm.stages.train import Job, TrainSettings
from rewarm.stages.train.muon import MuonAdamW, orthogonalize, update_of
from rewarm.stages.train.optimizer import hyperparameters, make_optimizer, parameter_groups
from rewarm.stages.train.weights import load_model

MUON = TrainSettings(optimizer="muon", zero_stage=0, precision="fp32", global_batch=8)
MODES = [(0, "fp32"), (1, "fp32"), (2, "fp32"), (1, "bf16"), (2, "bf16")]


@pytest.mark.parametrize("shape", [(48, 48), (96, 32), (32, 96), (3, 40, 24)])
def test_an_update_is_orthogonal_and_as_large_as_adamws(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape) * 1e-4
    values = torch.linalg.svdvals(orthogonalize(matrix))
    assert values.min() > 0.3, "a singular value that was almost 0 is still small after five iterations"
    assert values.max() < 1.3
    size = update_of(matrix).square().mean().sqrt()
    assert size == pytest.approx(0.2 * float(values.square().mean().sqrt()), rel=1e-4), "0.2 for singular values of 1"
    assert not orthogonalize(torch.zeros(shape)).any()


def test_a_step_is_torchs() -> None:
    """torch.optim.Muon iterates in bf16, so the two are compared to its precision; AdamW is compared exactly."""
    torch.manual_seed(0)
    start = {"matrix": torch.randn(24, 40), "vector": torch.randn(40)}
    ours, theirs = ({name: torch.nn.Parameter(value.clone()) for name, value in start.items()} for _ in range(2))
    common = {"weight_decay": 0.1, "betas": (0.9, 0.95), "eps": 1e-8}
    groups = [
        {"params": [ours["matrix"]], "muon": True, "momentum": 0.95, "shapes": [(24, 40)], "offsets": [0], **common},
        {"params": [ours["vector"]], "muon": False, **common},
    ]
    mine = MuonAdamW(groups, lr=0.01)
    muon = torch.optim.Muon([theirs["matrix"]], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.AdamW([theirs["vector"]], lr=0.01, **common)
    for _ in range(5):
        for name, value in start.items():
            gradient = torch.randn_like(value)
            ours[name].grad, theirs[name].grad = gradient.clone(), gradient.clone()
        mine.step()
        muon.step()
        adam.step()
    assert torch.equal(ours["vector"], theirs["vector"])
    moved = (theirs["matrix"] - start["matrix"]).norm()
    assert (ours["matrix"] - theirs["matrix"]).norm() < 0.03 * moved


def test_groups(world: World) -> None:
    model = load_model(world.start.path)
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    def grouped(settings: TrainSettings) -> list[tuple[set[str], float, bool]]:
        return [
            ({names[id(one)] for one in group["params"]}, group["weight_decay"], group.get("muon", False))
            for group in parameter_groups(model, settings)
        ]

    embeddings, head = {"gpt_neox.embed_in.weight"}, {"lm_head.weight"}
    matrices = {name for name, one in model.named_parameters() if one.dim() > 1} - embeddings - head
    vectors = {name for name, one in model.named_parameters() if one.dim() == 1}
    assert grouped(MUON) == [(matrices, 0.1, True), (embeddings | head, 0.1, False), (vectors, 0.0, False)]
    spared = MUON.model_copy(update={"decay_embeddings": False})
    assert grouped(spared) == [(matrices, 0.1, True), (head, 0.1, False), (vectors | embeddings, 0.0, False)]
    adamw = TrainSettings(global_batch=8)
    assert grouped(adamw) == [(matrices | embeddings | head, 0.1, False), (vectors, 0.0, False)]
    spared = adamw.model_copy(update={"decay_embeddings": False})
    assert grouped(spared) == [(matrices | head, 0.1, False), (vectors | embeddings, 0.0, False)]
    groups = parameter_groups(model, MUON)
    assert make_optimizer(groups, MUON, fused=False).param_groups[0]["muon"]
    assert "params" not in hyperparameters(groups)[0]


@pytest.mark.parametrize(
    ("stage", "precision", "why"), [(3, "fp32", "ZeRO 3 divides each"), (0, "bf16", "ZeRO 0 trains in fp32")]
)
def test_what_does_not_work_is_refused(stage: int, precision: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        TrainSettings.model_validate({"optimizer": "muon", "zero_stage": stage, "precision": precision})


def run_modes(rank: int, size: int, job: Job, modes: list[tuple[int, str]], results: Path) -> None:
    """Six steps; three steps, saved; three more in a new engine: equal to the six."""
    job.checkpoints.path.mkdir(parents=True, exist_ok=True)
    for stage, precision in modes:
        whole = make(job, rank, size, stage, precision)
        losses = train(whole, job, 0, 6)
        half = make(job, rank, size, stage, precision)
        train(half, job, 0, 3)
        half.save(results / f"{stage}-{precision}-{size}")
        resumed = make(job, rank, size, stage, precision)
        resumed.load(results / f"{stage}-{precision}-{size}", size, half.weights_digest())
        assert train(resumed, job, 3, 6) == losses[3:], (stage, precision)
        assert resumed.weights_digest() == whole.weights_digest(), (stage, precision)
        if rank == 0:
            np.save(results / f"{stage}-{precision}-{size}.npy", np.array(losses))


@pytest.mark.parametrize(
    "modes", [[(0, "fp32"), (2, "bf16")], pytest.param(MODES, marks=pytest.mark.faults)], ids=["few", "all"]
)
def test_every_stage_trains_alike_on_one_rank_and_on_two(
    world: World, tmp_path: Path, modes: list[tuple[int, str]]
) -> None:
    in_group(run_modes, 2, world.job("muon2", optimizer="muon"), modes, tmp_path)
    in_group(run_modes, 1, world.job("muon1", optimizer="muon", num_workers=1), modes, tmp_path)
    expected = np.load(tmp_path / "0-fp32-1.npy")
    assert expected[-1] < expected[0]
    for stage, precision in modes:
        for size in (1, 2):
            found = np.load(tmp_path / f"{stage}-{precision}-{size}.npy")
            np.testing.assert_allclose(
                found, expected, rtol=2e-5 if precision == "fp32" else 2e-2, err_msg=f"{stage} {precision} {size}"
            )
