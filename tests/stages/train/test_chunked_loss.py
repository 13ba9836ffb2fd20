"""The loss in chunks: equal to whole logits in value and gradient, for every form of head, at every ZeRO stage."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from process_group import in_group
from training_world import BATCH, SEQ_LEN, STEPS, World

from rewarm.stages.data.mixture import Mixture, Source
from rewarm.stages.data.tokens import TokenSet, TokenStream
from rewarm.stages.inference.causal import token_losses
from rewarm.stages.train import Job
from rewarm.stages.train.chunked_loss import ChunkedHead, HeadForm, chunks, head_form, logits_bytes
from rewarm.stages.train.data import MicroBatch
from rewarm.stages.train.objective import Objective
from rewarm.stages.train.ways import Ways

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "head_dim": 8,
    "vocab_size": 300,
}
HEADS: dict[str, tuple[str, dict[str, Any], HeadForm]] = {
    "untied": ("gpt_neox", {}, HeadForm()),
    "tied": (
        "gpt2",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
        HeadForm(),
    ),
    "bias": ("phi", {}, HeadForm()),
    "multiplied": ("cohere", {"logit_scale": 0.0625}, HeadForm(factor=0.0625)),
    "divided": ("granite", {"logits_scaling": 8.0}, HeadForm(factor=0.125)),
    "capped": ("gemma2", {"final_logit_softcapping": 0.5}, HeadForm(cap=0.5)),
    "routed": ("mixtral", {"output_router_logits": True, "num_local_experts": 4}, HeadForm()),
}


def make(kind: str, **fields: Any) -> Any:
    given = {
        name: value for name, value in {**SIZES, **fields}.items() if kind != "gpt2" or name in (*fields, "vocab_size")
    }
    config = transformers.AutoConfig.for_model(kind, **given, pad_token_id=None, bos_token_id=0, eos_token_id=0)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.train()


def batch(rows: int = 3, length: int = 100, replayed: tuple[int, ...] = ()) -> MicroBatch:
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 300, (rows, length + 1), generator=draw)
    positions = torch.arange(length).expand(rows, -1)
    return MicroBatch(tokens[:, :-1], tokens[:, 1:], positions, list(replayed), len(replayed) / rows)


def gradients(model: Any, objective: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    objective.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("replayed", [(), (0, 2)])
def test_loss_and_gradients_are_those_of_whole_logits(name: str, replayed: tuple[int, ...]) -> None:
    kind, fields, form = HEADS[name]
    model, teacher = make(kind, **fields), make(kind, **fields).train(False).requires_grad_(False)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.mul_(1.2)
    given = batch(replayed=replayed)
    whole = Objective(0.7, teacher if replayed else None, None).terms(model, given, Ways())
    expected = gradients(model, whole.objective)
    assert head_form(model) == form
    assert head_form(teacher) == form
    head = ChunkedHead(model, form)
    terms = Objective(0.7, teacher if replayed else None, ChunkedHead(teacher, form)).terms(model, given, Ways(head))
    found = gradients(model, terms.objective)
    assert len(list(chunks(given.targets.numel()))) > 3
    assert float(terms.objective) == pytest.approx(float(whole.objective), rel=1e-6)
    assert float(terms.cross_entropy) == pytest.approx(float(whole.cross_entropy), rel=1e-6)
    assert (terms.divergence is None) == (whole.divergence is None) == (not replayed)
    if replayed:
        assert float(whole.divergence) > 1e-3
        assert float(terms.divergence) == pytest.approx(float(whole.divergence), rel=1e-5)
    assert found.keys() == expected.keys()
    for parameter, gradient in expected.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(found[parameter], gradient, rtol=1e-4, atol=1e-5 * scale, msg=parameter)


def test_losses_of_tokens_are_those_of_whole_logits() -> None:
    model, given = make("gemma2", final_logit_softcapping=0.5).train(False), batch()
    expected = token_losses(model, given.inputs, given.targets, given.positions)
    head = ChunkedHead(model, HeadForm(cap=0.5))
    hidden, prediction = head.hidden(model, given.inputs, given.positions)
    assert prediction.logits.shape == (3, 1, 300)
    found = head.token_losses(hidden, given.targets)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(token_losses(model, given.inputs, given.targets, given.positions), expected)


def test_in_bf16_the_gradient_is_as_exact_as_that_of_whole_logits() -> None:
    exact = gradients(model := make("gpt_neox"), Objective(0, None, None).terms(model, batch(), Ways()).objective)
    errors = {}
    for name in ("whole", "chunks"):
        model = make("gpt_neox").to(torch.bfloat16)
        head = ChunkedHead(model, HeadForm()) if name == "chunks" else None
        found = gradients(model, Objective(0, None, None).terms(model, batch(), Ways(head)).objective)
        weight = "embed_out.weight" if "embed_out.weight" in found else "lm_head.weight"
        assert found[weight].dtype == torch.bfloat16
        errors[name] = float((found[weight].float() - exact[weight]).norm() / exact[weight].norm())
    assert errors["chunks"] <= 1.05 * errors["whole"], errors


class Doubled(torch.nn.Linear):
    """A layer that is not linear although it is called so."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input).square()


def test_a_head_that_is_not_linear_is_told() -> None:
    model = make("gpt_neox")
    layer = Doubled(32, 300, bias=False)
    model.set_output_embeddings(layer)
    assert head_form(model) == "its output layer is Doubled, not a linear layer"
    scaled = make("gpt_neox")
    scaled.get_output_embeddings().register_forward_hook(lambda *call: call[2].square())
    with torch.no_grad():
        assert isinstance(head_form(scaled), HeadForm), "a hook on the layer is part of it"
    other = make("cohere", logit_scale=0.0625)
    other.config.logit_scale = other.logit_scale = 0.0625
    plain, other.forward = other.forward, lambda **call: shifted(plain(**call))
    assert head_form(other) == "its logits are not a scaled or capped product with the output layer"


def shifted(output: Any) -> Any:
    output.logits = output.logits + torch.arange(300.0)
    return output


@pytest.mark.parametrize("tokens", [1, 64, 65, 1000, 20_000])
def test_chunks_cover_every_token_once(tokens: int) -> None:
    found = [place for chunk in chunks(tokens) for place in range(chunk.start, chunk.stop)]
    assert found == list(range(tokens))
    assert max(chunk.stop - chunk.start for chunk in chunks(tokens)) <= 1024


def test_the_size_of_the_logits() -> None:
    assert logits_bytes(make("gpt_neox"), 100) == 100 * 300 * 4


# -- the engine --------------------------------------------------------------------------------------------------

MODES = [(0, "fp32"), (1, "fp32"), (2, "fp32"), (3, "fp32"), (2, "bf16"), (3, "bf16")]


def replaying(world: World, name: str, **settings: object) -> Job:
    job = world.job(name, steps=STEPS, **settings)
    count = TokenStream(world.validation).num_sequences(SEQ_LEN)
    mixture = Mixture(job.mixture.new, (Source("earlier", count, 1),), "1/4", SEQ_LEN, BATCH, STEPS)
    tokens = {**job.tokens, "earlier": TokenSet(world.validation)}
    return dataclasses.replace(job, mixture=mixture, tokens=tokens)


def run_modes(rank: int, size: int, job: Job, modes: list[tuple[int, str]], results: Path) -> None:
    """Four steps with a teacher, in chunks and whole."""
    from rewarm.stages.inference.causal import collate
    from rewarm.stages.train.data import Batches
    from rewarm.stages.train.engine import Engine, Place

    job.checkpoints.path.mkdir(parents=True, exist_ok=True)
    batches = Batches(job.mixture, job.tokens, True, torch.device("cpu"))
    for stage, precision in modes:
        for loss in ("whole", "chunks"):
            update = {"zero_stage": stage, "precision": precision, "loss": loss, "kl_weight": 3.0, "micro_batch": 2}
            place = Place(rank, size, rank, torch.device("cpu"))
            start = (job.start.path, job.start_digest)
            engine = Engine(*start, job.settings.model_copy(update=update), place, job.checkpoints.path, start)
            assert engine.ways.arithmetic["loss"] == loss
            assert engine.notes == []
            rows = []
            for step in range(4):
                mean = engine.step(batches.part(step, rank, size, engine.rounds), job.rate(step))
                rows.append([float(mean), float(engine.divergence()), engine.gradient_norm() or 0.0])
            seen = collate(batches.windows(9, rank, size), torch.device("cpu"), True)
            engine.engine.eval()
            with torch.no_grad():
                rows.append([float(engine.token_losses(seen).mean()), 0.0, 0.0])
            engine.engine.train()
            if rank == 0:
                np.save(results / f"{stage}-{precision}-{loss}.npy", np.array(rows))


@pytest.mark.parametrize(
    "modes", [[(1, "fp32"), (3, "bf16")], pytest.param(MODES, marks=pytest.mark.faults)], ids=["few", "all"]
)
def test_every_stage_trains_as_with_whole_logits(world: World, tmp_path: Path, modes: list[tuple[int, str]]) -> None:
    in_group(run_modes, 2, replaying(world, "chunked"), modes, tmp_path)
    for stage, precision in modes:
        whole, found = (np.load(tmp_path / f"{stage}-{precision}-{loss}.npy") for loss in ("whole", "chunks"))
        assert whole[0, 0] > 1
        close = {"rtol": 1e-5, "atol": 1e-6} if precision == "fp32" else {"rtol": 5e-3, "atol": 1e-3}
        np.testing.assert_allclose(found, whole, **close, err_msg=f"{stage} {precision}")
