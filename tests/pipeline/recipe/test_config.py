"""The recipe: presets, YAML, --set, and errors that name the key, what was given and what is near."""

from pathlib import Path

import pytest

from rewarm.pipeline.recipe.recipe import Recipe, apply_settings, differences, load_recipe, presets, settings
from rewarm.stages.core.errors import UsageError

SCRIPTED = [
    "replay.share",
    "schedule.kind",
    "schedule.peak",
    "budget.base_tokens",
    "budget.update_tokens",
    "train.num_workers",
    "train.zero_stage",
    "train.global_batch",
    "train.seq_len",
    "train.checkpoint_every",
    "train.document_mask",
    "anneal.share",
    "seed",
    "evaluate.tasks",
]


@pytest.mark.parametrize("name", presets())
def test_every_preset_loads(name: str) -> None:
    assert load_recipe(name).description


def test_presets_are_the_papers() -> None:
    recipe = load_recipe("neox-405m")
    assert (recipe.train.global_batch, recipe.train.seq_len, recipe.schedule.peak) == (1104, 2048, 3e-4)
    assert recipe.schedule.constant == pytest.approx(1.65e-4)
    assert load_recipe("neox-10b").schedule.peak == 1.2e-4


def test_every_setting_is_documented() -> None:
    undocumented = [name for name, field, _ in settings() if not field.description]
    assert undocumented == []


def test_what_others_script_against_is_there() -> None:
    assert set(SCRIPTED) <= {name for name, _, _ in settings()}


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("replay.share=0.25", ("replay", "share"), 0.25),
        ("schedule.peak=1e-3", ("schedule", "peak"), 1e-3),
        ("budget.update_tokens=null", ("budget", "update_tokens"), None),
        ("train.document_mask=false", ("train", "document_mask"), False),
        ("evaluate.tasks=[piqa, arc_easy]", ("evaluate", "tasks"), ("piqa", "arc_easy")),
        ("evaluate.tasks=piqa,arc_easy", ("evaluate", "tasks"), ("piqa", "arc_easy")),
        ("schedule.kind=cosine", ("schedule", "kind"), "cosine"),
        ("ingest.text=content", ("ingest", "text"), "content"),
    ],
)
def test_set(assignment: str, path: tuple[str, str], value: object) -> None:
    recipe = apply_settings(load_recipe("tiny"), [assignment])
    assert getattr(getattr(recipe, path[0]), path[1]) == value


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("replay.shar=0.1", "replay.share"),
        ("train.batch=3", "no setting 'train.batch'"),
        ("replay.share.more=1", "no setting"),
        ("replay.share", "key=value"),
        ("replay.share=1.5", "less than 1"),
        ("replay.share=much", "replay.share"),
        ("train.num_workers=17", "is smaller than num_workers 17"),
        ("schedule.kind=step", "schedule.kind"),
        ("train.seq_len=", "train.seq_len"),
        ("train.seq_len=[", "YAML"),
    ],
)
def test_wrong_settings_are_refused(assignment: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        apply_settings(load_recipe("tiny"), [assignment])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("replay: {shar: 0.1}", "replay.share"),
        ("- a\n- b", "mapping"),
        ("replay: {share: [", "YAML"),
        ("replay: 3", "replay"),
    ],
)
def test_an_unreadable_recipe_is_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_recipe(str(file))


def test_a_misspelt_preset_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean tiny"):
        load_recipe("tinny")


def test_identity_holds_what_decides_and_not_where_it_runs() -> None:
    recipe = load_recipe("tiny")
    placed = apply_settings(recipe, ["train.num_workers=1", "train.checkpoint_every=7", "train.micro_batch=2"])
    assert placed != recipe
    assert placed.identity() == recipe.identity()
    changed = apply_settings(recipe, ["replay.share=0.1"])
    assert differences(recipe.identity(), changed.identity()) == ["replay.share: 0.05 → 0.1"]


def test_a_models_own_settings_may_be_set() -> None:
    recipe = apply_settings(Recipe(), ["model.config.hidden_size=64", "model.type=llama"])
    assert recipe.model.config == {"hidden_size": 64}
