"""Whether an imported model writes its own text, how much of it, and what is refused before it does."""

import json
from pathlib import Path
from typing import Any

import pytest

from rewarm.pipeline.recipe.recipe import Recipe
from rewarm.pipeline.update.inputs import DISTILLED_TOKENS, check_distill, distilled_tokens, refuse_fixed, with_prompts
from rewarm.stages.core.errors import UsageError


def recipe(model: Path | None = None, budget: int | None = 8000, **distill: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "model": {"path": None if model is None else str(model)},
            "budget": {"update_tokens": budget},
            "train": {"seq_len": 128},
            "distill": distill,
        }
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 256}))
    return tmp_path


@pytest.mark.parametrize(
    ("imported", "datasets", "tokens", "budget", "expected"),
    [
        (True, [], None, 8000, 2000),
        (True, [], None, None, DISTILLED_TOKENS),
        (True, [], None, 1, 1),
        (True, [], 0, 8000, 0),
        (True, [], 70, 8000, 70),
        (True, ["old"], None, 8000, 0),
        (True, ["old"], 70, 8000, 70),
        (False, ["old"], None, 8000, 0),
    ],
)
def test_how_much_is_written(
    model: Path, imported: bool, datasets: list[str], tokens: int | None, budget: int | None, expected: int
) -> None:
    made = recipe(model if imported else None, budget, tokens=tokens)
    assert distilled_tokens(made, datasets) == expected
    check_distill(made, datasets)


@pytest.mark.parametrize(
    ("datasets", "distill", "message"),
    [
        (["distilled"], {"tokens": 10}, "choose another"),
        ([], {"max_tokens": 300}, "max_tokens 300 is greater than the model's max_position_embeddings 256"),
        ([], {"min_tokens": 129}, "min_tokens 129 is greater than a document's 128"),
        ([], {"prompts": "text", "prompt_tokens": 100}, "do not fit in a document of 128"),
    ],
)
def test_what_cannot_be_written_is_refused(model: Path, datasets: list[str], distill: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_distill(recipe(model, **distill), datasets)


def test_only_an_imported_model_writes() -> None:
    with pytest.raises(UsageError, match=r"only an imported model \(--from\)"):
        check_distill(recipe(tokens=10), ["data"])


def test_prompts_are_a_dataset_or_files_by_their_absolute_path(model: Path) -> None:
    made = recipe(model, prompts="old")
    assert with_prompts(made, ["old"]).distill.prompts == "old"
    assert with_prompts(made, []).distill.prompts == str(Path("old").absolute())
    assert with_prompts(recipe(model), []) == recipe(model)


def test_an_update_cannot_change_what_was_written(model: Path) -> None:
    with pytest.raises(UsageError, match="distill"):
        refuse_fixed(recipe(model), recipe(model, temperature=0.5))
