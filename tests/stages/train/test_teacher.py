"""The KL term: what it is, that it ties replayed sequences alone, and the same on any number of ranks."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from process_group import in_group
from training_world import BATCH, SEQ_LEN, World

from rewarm.stages.data.mixture import Mixture, Source
from rewarm.stages.data.tokens import TokenSet, TokenStream
from rewarm.stages.inference.causal import divergences
from rewarm.stages.train import Job

STEPS = 6
WORDS = {"fp32": "float32", "bf16": "bfloat16"}
FIGURES = st.lists(st.floats(-5, 5), min_size=4, max_size=4)


@given(FIGURES, FIGURES)
def test_the_divergence_is_the_sum_over_the_vocabulary(teacher: list[float], student: list[float]) -> None:
    given_, found = (torch.tensor(values).view(1, 1, 4) for values in (teacher, student))
    p, q = (values.double().softmax(-1) for values in (given_, found))
    assert float(divergences(given_, found)) == pytest.approx(float((p * (p / q).log()).sum()), abs=1e-5)
    assert float(divergences(given_, found)) >= -1e-6
    assert float(divergences(given_, given_)) == 0


def replaying(world: World, name: str, **settings: object) -> Job:
    """A quarter of each batch replayed, from the validation shards."""
    job = world.job(name, steps=STEPS, **settings)
    count = TokenStream(world.validation).num_sequences(SEQ_LEN)
    mixture = Mixture(job.mixture.new, (Source("earlier", count, 1),), "1/4", SEQ_LEN, BATCH, STEPS)
    tokens = {**job.tokens, "earlier": TokenSet(world.validation)}
    return dataclasses.replace(job, mixture=mixture, tokens=tokens)


def train(job: Job, rank: int, size: int, weight: float, stage: int = 1, precision: str = "fp32") -> dict[str, list]:
    """Losses, divergences and gradient norms of a run from the teacher's own weights."""
    from rewarm.stages.train.data import Batches
    from rewarm.stages.train.engine import Engine, Place

    job.checkpoints.path.mkdir(parents=True, exist_ok=True)
    settings = job.settings.model_copy(
        update={"kl_weight": weight, "zero_stage": stage, "precision": precision, "micro_batch": 2}
    )
    place = Place(rank, size, rank, torch.device("cpu"))
    start = (job.start.path, job.start_digest)
    engine = Engine(*start, settings, place, job.checkpoints.path, start)
    assert {one.dtype for one in engine.objective.teacher.parameters()} == {getattr(torch, WORDS[precision])}
    assert {one.dtype for one in engine.objective.teacher.buffers() if one.is_floating_point()} == {torch.float32}, (
        "rotary"
    )
    batches = Batches(job.mixture, job.tokens, True, torch.device("cpu"))
    found: dict[str, list] = {"loss": [], "kl": [], "norm": []}
    for step in range(job.steps):
        loss = engine.step(batches.part(step, rank, size, engine.rounds), job.rate(step))
        figures = torch.stack([loss, engine.divergence()]).double()
        torch.distributed.all_reduce(figures)
        for name, value in zip(
            ("loss", "kl", "norm"), (*(figures / size).tolist(), engine.gradient_norm()), strict=True
        ):
            found[name].append(value)
    return found


def run(rank: int, size: int, job: Job, results: Path) -> None:
    runs = {
        "free": train(job, rank, size, 0.0),
        "held": train(job, rank, size, 30.0),
        "divided": train(job, rank, size, 30.0, stage=3),
        "bf16": train(job, rank, size, 30.0, stage=2, precision="bf16"),
    }
    if rank == 0:
        (results / f"{size}.json").write_text(json.dumps(runs))


@pytest.fixture(scope="module")
def runs(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, dict[str, list[float]]]]:
    results = tmp_path_factory.mktemp("teacher")
    for size in (1, 2):
        in_group(run, size, replaying(world, f"held-{size}", num_workers=size), results)
    return {size: json.loads((results / f"{size}.json").read_text()) for size in (1, 2)}


def test_at_the_teachers_own_weights_the_term_pulls_nowhere(runs: dict) -> None:
    free, held = runs[1]["free"], runs[1]["held"]
    assert held["kl"][0] == pytest.approx(0, abs=1e-5)
    assert held["norm"][0] == pytest.approx(free["norm"][0], rel=1e-4)
    assert held["loss"][0] == free["loss"][0], "the loss that is logged is the cross-entropy"


def test_it_holds_the_model_to_the_teacher(runs: dict) -> None:
    free, held = runs[1]["free"], runs[1]["held"]
    assert free["kl"][-1] > 1e-4
    assert held["kl"][-1] < free["kl"][-1] / 2
    assert held["loss"][-1] < held["loss"][0], "and it still learns"


@pytest.mark.parametrize(
    ("name", "of_losses", "of_others"),
    [("free", 1e-4, 1e-2), ("held", 1e-4, 1e-2), ("divided", 1e-4, 1e-2), ("bf16", 0.02, 0.3)],
)
def test_any_number_of_ranks_sees_the_same(runs: dict, name: str, of_losses: float, of_others: float) -> None:
    one, two = runs[1][name], runs[2][name]
    np.testing.assert_allclose(one["loss"], two["loss"], rtol=of_losses)
    np.testing.assert_allclose(one["norm"], two["norm"], rtol=of_others)
    np.testing.assert_allclose(one["kl"], two["kl"], rtol=of_others, atol=2e-5 if of_others < 0.1 else 1e-3)


def test_divided_weights_learn_the_same(runs: dict) -> None:
    np.testing.assert_allclose(runs[2]["divided"]["loss"], runs[2]["held"]["loss"], rtol=1e-4)


def unreplayed(rank: int, size: int, job: Job, results: Path) -> None:
    """One step each: no sequence counted as replayed, and others counted as replayed than the mixture says."""
    from rewarm.stages.train.data import Batches
    from rewarm.stages.train.engine import Engine, Place

    job.checkpoints.path.mkdir(parents=True, exist_ok=True)
    batches = Batches(job.mixture, job.tokens, True, torch.device("cpu"))
    place = Place(rank, size, rank, torch.device("cpu"))
    other = job.checkpoints.path / "other"
    teacher = (other, (other / "digest").read_text())
    digests = {}
    for name, weight, replayed in (("free", 0.0, None), ("none", 9.0, []), ("some", 9.0, [0]), ("all", 9.0, [0, 1])):
        settings = job.settings.model_copy(update={"kl_weight": weight, "micro_batch": 2})
        start = (job.start.path, job.start_digest)
        engine = Engine(*start, settings, place, job.checkpoints.path, teacher if weight else None)
        parts = batches.part(0, rank, size, engine.rounds)
        if replayed is not None:
            share = len(replayed) / 2
            parts = [dataclasses.replace(part, replayed=replayed, replayed_share=share) for part in parts]
        engine.step(parts, 1e-3)
        digests[name] = engine.weights_digest()
        assert (engine.divergence() is None) == (name in ("free", "none"))
    (results / "digests.json").write_text(json.dumps(digests))


def test_only_replayed_sequences_are_held(world: World, tmp_path: Path) -> None:
    from rewarm.stages.core.storage import Folder
    from rewarm.stages.train import ModelSettings, initial_model

    job = replaying(world, "unreplayed", num_workers=1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    model = ModelSettings(config={**sizes, "max_position_embeddings": 64})
    made = Folder(tmp_path)
    digest = initial_model(model, Folder(world.root / "words"), SEQ_LEN, 9, made)["digest"]
    job.checkpoints.path.mkdir(parents=True, exist_ok=True)
    (made.path / "model").rename(job.checkpoints.path / "other")
    (job.checkpoints.path / "other" / "digest").write_text(digest)
    in_group(unreplayed, 1, job, tmp_path)
    digests = json.loads((tmp_path / "digests.json").read_text())
    assert digests["none"] == digests["free"]
    assert len({digests["free"], digests["some"], digests["all"]}) == 3


def test_a_batch_says_what_is_replayed(world: World) -> None:
    from rewarm.stages.train.data import Batches

    job = replaying(world, "said", num_workers=1)
    batches = Batches(job.mixture, job.tokens, True, torch.device("cpu"))
    for step in range(job.steps):
        numbers, _ = job.mixture.batch(step)
        for size in (1, 2, 4):
            found = np.zeros(BATCH, bool)
            for rank in range(size):
                parts = batches.part(step, rank, size, BATCH // size // 2)
                places = np.arange(rank, BATCH, size)
                for first, part in enumerate(parts):
                    found[places[2 * first : 2 * first + 2][part.replayed]] = True
                    assert part.replayed_share == 0.25
            assert found.tolist() == (numbers == 1).tolist()


def test_a_teacher_is_needed_only_where_something_is_replayed(world: World) -> None:
    job = world.job("needed", kl_weight=1.0)
    assert not job.holds_to_teacher
    assert replaying(world, "needed", kl_weight=1.0).holds_to_teacher
    assert not replaying(world, "needed").holds_to_teacher
