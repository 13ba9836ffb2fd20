"""Attention by the boundaries of documents: their construction, and equality with the mask from positions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from process_group import in_group
from torch.nn import functional
from training_world import World

from rewarm.stages.inference.causal import Documents, documents_of, token_losses
from rewarm.stages.train import Job, TrainSettings
from rewarm.stages.train.document_attention import NAME, attention, kernel_fault, unsupported, use
from rewarm.stages.train.ways import chosen_ways

CPU = torch.device("cpu")
SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 300,
}
ROWS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=4)


def positions_of(lengths: list[list[int]]) -> torch.Tensor:
    """Rows of equal length of documents of these lengths; the last one is cut or extended."""
    width = max(sum(row) for row in lengths)
    rows = []
    for row in lengths:
        whole = [*row[:-1], row[-1] + width - sum(row)]
        rows.append(torch.cat([torch.arange(length) for length in whole]))
    return torch.stack(rows)


@given(ROWS)
def test_boundaries_are_those_of_the_documents(lengths: list[list[int]]) -> None:
    positions = positions_of(lengths)
    found = documents_of(positions)
    width = positions.shape[1]
    expected = [0]
    for row in lengths:
        for length in [*row[:-1], row[-1] + width - sum(row)]:
            expected.append(expected[-1] + length)
    assert found.boundaries.dtype == torch.int32
    assert found.boundaries.tolist() == expected
    assert found.longest == width


def test_a_window_that_begins_within_a_document() -> None:
    positions = torch.tensor([[7, 8, 9, 0, 1], [0, 1, 2, 3, 4]])
    assert documents_of(positions).boundaries.tolist() == [0, 3, 5, 10]


@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("span", [None, 3])
def test_it_is_attention_of_each_document_alone(heads: tuple[int, int], span: int | None) -> None:
    lengths = [[5, 1, 9], [15]]
    positions = positions_of(lengths)
    documents, (rows, width) = documents_of(positions), positions.shape
    torch.manual_seed(0)
    query, key, value = (torch.randn(rows, number, width, 8, requires_grad=True) for number in (*heads, heads[1]))
    options = {**documents.arguments(), "sliding_window": span, "scaling": 0.3}
    found, _ = attention(torch.nn.Module(), query, key, value, None, **options)
    assert found.shape == (rows, width, heads[0], 8)
    same = (positions == 0).cumsum(1)
    place = torch.arange(width)
    mask = (same[:, :, None] == same[:, None, :]) & (place[:, None] >= place[None, :])
    if span is not None:
        mask &= place[:, None] - place[None, :] < span
    groups = heads[0] // heads[1]
    wanted = functional.scaled_dot_product_attention(
        query, key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1), attn_mask=mask[:, None], scale=0.3
    ).transpose(1, 2)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    slope = torch.randn_like(wanted)
    for one, two in zip(
        torch.autograd.grad(found, (query, key, value), slope),
        torch.autograd.grad(wanted, (query, key, value), slope),
        strict=True,
    ):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"softcap": 50.0}, "softcap"),
        ({"s_aux": torch.zeros(4)}, "s_aux"),
        ({"dropout": 0.1}, "dropout"),
        ({"is_causal": False}, "not causal"),
        ({"cu_seq_lens_q": None}, "do not pass the boundaries"),
    ],
)
def test_what_it_cannot_follow_is_refused(options: dict[str, Any], reason: str) -> None:
    query = torch.randn(1, 4, 6, 8)
    given_ = {**Documents(torch.tensor([0, 6], dtype=torch.int32), 6).arguments(), **options}
    with pytest.raises(NotImplementedError, match=reason):
        attention(torch.nn.Module(), query, query, query, None, **given_)


def make(kind: str, **fields: Any) -> Any:
    config = transformers.AutoConfig.for_model(kind, **{**SIZES, **fields}, pad_token_id=None)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.train(False)


SPANS = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("gpt_neox", {}),
        ("llama", {"num_key_value_heads": 2}),
        ("mistral", {"num_key_value_heads": 2, "sliding_window": 5}),
        ("gemma3_text", {"num_key_value_heads": 2, "head_dim": 16, **SPANS}),
        ("mixtral", {"num_key_value_heads": 2, "num_local_experts": 4}),
    ],
)
def test_a_model_has_the_losses_of_the_mask_from_positions(kind: str, fields: dict[str, Any]) -> None:
    model = make(kind, **fields)
    assert unsupported(model, 64, CPU, low_precision=False) is None
    positions = positions_of([[5, 9, 1, 3], [18], [2, 16]])
    ids = torch.randint(0, 300, (3, 19), generator=torch.Generator().manual_seed(1))
    batch = ids[:, :-1], ids[:, 1:], positions
    with torch.no_grad():
        expected = token_losses(model, *batch)
        use(model)
        found = token_losses(model, *batch, documents_of(positions))
        crossing = token_losses(model, *batch, Documents(torch.tensor([0, 18, 36, 54], dtype=torch.int32), 18))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert float((crossing - expected).abs().max()) > 1e-3, "the documents matter"


@pytest.mark.parametrize(
    ("kind", "fields", "reason"),
    [
        ("gemma2", {"num_key_value_heads": 2, "head_dim": 16}, "softcap"),
        ("mamba", {}, "do not depend on the documents' boundaries"),
        ("gpt_oss", {"num_key_value_heads": 2, "head_dim": 16, "num_local_experts": 2}, ""),
    ],
)
def test_a_model_that_attends_otherwise_says_why(kind: str, fields: dict[str, Any], reason: str) -> None:
    config = transformers.AutoConfig.for_model(kind, **{**SIZES, **fields})
    model = transformers.AutoModelForCausalLM.from_config(config)
    before = model.config._attn_implementation
    settings = TrainSettings(seq_len=64, global_batch=4, attention="varlen", precision="fp32")
    ways, notes = chosen_ways(model, settings, 4, CPU)
    assert not ways.by_documents
    assert len(notes) == 1
    assert reason in notes[0]
    assert notes[0].startswith("train.attention varlen: a mask from the positions (sdpa) is used: ")
    assert model.config._attn_implementation == before


def test_auto_is_the_mask_on_a_cpu() -> None:
    model = make("gpt_neox")
    ways, notes = chosen_ways(model, TrainSettings(seq_len=64, global_batch=4), 4, CPU)
    assert notes == []
    assert (ways.arithmetic["loss"], ways.arithmetic["attention"]) == ("whole", "sdpa")
    assert model.config._attn_implementation != NAME


def test_the_kernel_needs_bf16() -> None:
    assert "bf16" in str(unsupported(make("gpt_neox"), 64, torch.device("cuda"), low_precision=False))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_kernel_computes_attention_by_document() -> None:
    assert kernel_fault(torch.device("cuda")) is None


def run(rank: int, size: int, job: Job, results: Path) -> None:
    """Three steps of each way, with recomputed activations too; at ZeRO 1 and 3."""
    from rewarm.stages.train.data import Batches
    from rewarm.stages.train.engine import Engine, Place

    job.checkpoints.path.mkdir(parents=True, exist_ok=True)
    batches = Batches(job.mixture, job.tokens, True, CPU)
    for stage in (1, 3):
        for way, again in (("sdpa", False), ("varlen", False), ("varlen", True)):
            update = {"zero_stage": stage, "attention": way, "gradient_checkpointing": again, "loss": "chunks"}
            place = Place(rank, size, rank, CPU)
            settings = job.settings.model_copy(update=update)
            engine = Engine(job.start.path, job.start_digest, settings, place, job.checkpoints.path)
            assert engine.ways.arithmetic["attention"] == way
            losses = [
                float(engine.step(batches.part(step, rank, size, engine.rounds), job.rate(step))) for step in range(3)
            ]
            if rank == 0:
                np.save(results / f"{stage}-{way}-{again}.npy", np.array(losses))


def test_the_engine_trains_alike(world: World, tmp_path: Path) -> None:
    in_group(run, 2, world.job("attention"), tmp_path)
    for stage in (1, 3):
        expected = np.load(tmp_path / f"{stage}-sdpa-False.npy")
        for again in (False, True):
            np.testing.assert_allclose(np.load(tmp_path / f"{stage}-varlen-{again}.npy"), expected, rtol=1e-5)
