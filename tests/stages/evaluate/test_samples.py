"""Samples: the same beginnings and random numbers for every release, text of any script, and nothing but text."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from rewarm.stages.core.copies import Recorded
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokenizer import load_definition
from rewarm.stages.evaluate import EvaluateSettings, EvaluationSet, run, worker_environment
from rewarm.stages.evaluate.samples import (
    GENERATED,
    Prompt,
    SamplePiece,
    choose_prompts,
    not_text,
    texts,
    write_samples,
)
from rewarm.stages.inference.actors import Pool, Reading, load_model
from rewarm.stages.inference.generate import continuations, seeded

SETTINGS = EvaluateSettings(samples=3, sample_tokens=12)


def written(world: Any, model: Folder, out: Path, settings: EvaluateSettings = SETTINGS) -> dict[str, Any]:
    one = world.sets[1]
    piece = SamplePiece(model, one.name, one.documents, Folder(out))
    write_samples(load_model(model, gpu=False), model, piece, settings, seq_len=64)
    found: dict[str, Any] = Folder(out / "generated").read_json(f"{one.name}.json")
    return found


def test_every_release_continues_the_same_beginnings(world: Any, tmp_path: Path) -> None:
    first, second = (written(world, model, tmp_path / model.name) for model in (world.trunk, world.release))
    again = written(world, world.release, tmp_path / "again")
    assert second == again, "a text depends on the seed alone"
    assert len(first["samples"]) == 3 and first["temperature"] == 0.7
    for mine, theirs in zip(first["samples"], second["samples"], strict=True):
        assert (mine["doc_id"], mine["prompt"], mine["own"]) == (theirs["doc_id"], theirs["prompt"], theirs["own"])
        assert mine["text"] != theirs["text"]
        source = next(text for text in world.texts["code"] if text.startswith(mine["prompt"]))
        assert source.startswith(mine["prompt"] + mine["own"]) and mine["own"]
    other = written(world, world.release, tmp_path / "other", SETTINGS.model_copy(update={"seed": 5}))
    assert [one["doc_id"] for one in other["samples"]] != [one["doc_id"] for one in second["samples"]]


def test_the_most_likely_tokens_are_those_that_transformers_generates(world: Any) -> None:
    model, words = load_model(world.release, gpu=False), load_definition(world.release)
    prompts = np.array(
        [[words.end_of_text_id, *words.tokenizer.encode(text).ids[:8]] for text in world.texts["code"][:2]]
    )
    found = continuations(
        model, prompts, np.zeros((2, 10)), temperature=0, end=words.end_of_text_id, forbidden=not_text(words, 512)
    )
    for prompt, row in zip(prompts, found, strict=True):
        config = transformers.GenerationConfig(
            max_new_tokens=10, do_sample=False, suppress_tokens=not_text(words, 512), eos_token_id=words.end_of_text_id
        )
        expected = model.generate(torch.tensor(prompt[None]), generation_config=config)[0, len(prompt) :].tolist()
        assert row == [token for token in expected if token != words.end_of_text_id]


def test_a_model_without_a_cache_writes_the_same(world: Any) -> None:
    model, words = load_model(world.release, gpu=False), load_definition(world.release)
    prompts, numbers = np.array([[words.end_of_text_id, 40, 41, 42]]), seeded("x", 12)[None]
    given = {"temperature": 0.7, "end": words.end_of_text_id, "forbidden": not_text(words, 512)}
    with_cache = continuations(model, prompts, numbers, **given)

    class Uncached(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
            return SimpleNamespace(logits=self.inner(input_ids=input_ids, use_cache=False).logits)

    assert continuations(Uncached(), prompts, numbers, **given) == with_cache  # type: ignore[arg-type]
    assert all(token < words.num_ids and token != words.end_of_text_id for token in with_cache[0])


def test_a_prompt_that_ends_within_a_character_is_cut_before_it(world: Any) -> None:
    words = load_definition(world.release)
    ids = words.tokenizer.encode("データの更新と言語モデル 🙂 the end of it").ids
    for cut in range(1, len(ids) - 1):
        found = texts(words, Prompt("id", ids[:cut], ids[cut:]), ids[cut:-1])
        assert found["prompt"] + found["own"] == "データの更新と言語モデル 🙂 the end of it"
        assert "\ufffd" not in found["prompt"] + found["text"]


def test_short_documents_and_windows_give_fewer_samples(world: Any, tmp_path: Path) -> None:
    words, documents = load_definition(world.release), world.sets[0].documents
    many = SETTINGS.model_copy(update={"samples": 100})
    found = choose_prompts(documents, words, many, longest=60)
    assert 0 < len(found) < len(world.texts["sci-docs"])
    assert {len(prompt.tokens) for prompt in found} == {24}
    assert not [
        text for text in world.texts["sci-docs"] if "<|endoftext|>" in text and text.startswith(found[0].doc_id)
    ]
    assert {len(prompt.tokens) for prompt in choose_prompts(documents, words, many, longest=5)} == {5}


@pytest.mark.usefixtures("ray_cluster")
def test_an_evaluation_leaves_them_in_one_file(world: Any, tmp_path: Path) -> None:
    def evaluate(out: Path, settings: EvaluateSettings) -> list[EvaluationSet]:
        with Pool(1, False, worker_environment(settings)) as pool:
            models, reading = {"trunk": world.trunk, "release": world.release}, Reading(64, 8, False, Recorded())
            run(models, world.sets, Folder(out), settings, reading=reading, pool=pool, progress=_silent())
        return list(world.sets)

    settings = EvaluateSettings(task_documents=0, samples=1, sample_tokens=8)
    sets = evaluate(tmp_path / "with", settings)
    found = Folder(tmp_path / "with").read_json(GENERATED)
    assert list(found) == [one.name for one in sets]
    assert not (tmp_path / "with" / "generated").exists()
    before = (tmp_path / "with" / GENERATED).read_bytes()
    evaluate(tmp_path / "with", settings)
    assert (tmp_path / "with" / GENERATED).read_bytes() == before
    evaluate(tmp_path / "without", settings.model_copy(update={"samples": 0}))
    assert not (tmp_path / "without" / GENERATED).exists()


def _silent() -> Any:
    from rewarm.stages.core.progress import Silent

    return Silent()
