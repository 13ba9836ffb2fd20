"""What a study tries: every combination under every seed, and nothing that an update could not be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.study.grid import Trial, meaning, parse_grid, parse_row, trials
from rewarm.pipeline.study.settings import BASELINES
from rewarm.stages.core.errors import UsageError
from rewarm.stages.train import ScheduleSettings, schedule_for


def test_a_grid_is_every_combination_under_every_seed() -> None:
    grid = parse_grid(["replay.share=0,0.05", "schedule.peak=1e-3,2e-3,4e-3"])
    made = trials(grid, {}, [], range(2))
    assert len(made) == 2 * 3 * 2
    assert len({trial.id for trial in made}) == len(made)
    assert {trial.seed for trial in made[:6]} == {0}, "all rows of a seed before the next"
    assert made[1].settings == {"replay.share": 0, "schedule.peak": 0.002}
    assert made[1].label == "replay.share=0 schedule.peak=0.002"


def test_values_are_yaml_so_braces_hold_commas_of_their_own() -> None:
    grid = parse_grid(["anneal.share=0.1,0.2", "train.seq_len=32,64"])
    assert grid == {"anneal.share": [0.1, 0.2], "train.seq_len": [32, 64]}
    label, chosen = parse_row("I and II: train.clip=2 budget.update_tokens=null")
    assert (label, chosen) == ("I and II", {"train.clip": 2, "budget.update_tokens": None})
    _, chosen = parse_row("old: replay.by=shares 'replay.shares={a: 1, b: 0}'")
    assert chosen == {"replay.by": "shares", "replay.shares": {"a": 1, "b": 0}}
    with pytest.raises(UsageError, match="No closing quotation"):
        parse_row("old: 'replay.by")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("replay.share", "expected KEY=VALUE"),
        ("replay.share=", "expected KEY=VALUE"),
        ("replay.shar=1", "did you mean replay.share"),
        ("ingest.text=a,b", "its data and model are the same"),
        ("replay.share=0.1,0.1", "duplicate value"),
        ("replay.share=[", "YAML"),
    ],
)
def test_what_is_no_grid_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_grid([text])


def test_baselines_rows_and_grid_stand_side_by_side() -> None:
    made = trials({"replay.share": [0.1]}, {"mine": {"replay.share": 0.2}}, ["joint", "constant-min"], [7])
    assert [trial.kind for trial in made] == ["grid", "row", "joint", "constant-min"]
    assert [trial.scratch for trial in made] == [False, False, True, False]
    with pytest.raises(UsageError, match="there is no jiont"):
        trials({}, {}, ["jiont"], [0])
    with pytest.raises(UsageError, match="two rows"):
        trials({"replay.share": [0.1]}, {"replay.share=0.1": {}}, [], [0])


def test_without_anything_the_recipe_itself_is_tried() -> None:
    assert trials({}, {}, [], [3]) == [Trial("recipe", "row", {}, 3)]


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_is_a_recipe(name: str) -> None:
    made = trials({}, {}, [name], [5])[0].recipe(load_recipe("tiny"))
    assert made.seed == 5


@given(share=st.just(0.0) | st.floats(1e-6, 0.99), tokens=st.one_of(st.none(), st.integers(1, 10**15)))
def test_a_trial_gives_its_recipe_the_very_values(share: float, tokens: int | None) -> None:
    trial = Trial("x", "row", {"replay.share": share, "budget.update_tokens": tokens}, 1)
    recipe = trial.recipe(load_recipe("tiny"))
    assert (recipe.replay.share, recipe.budget.update_tokens) == (share, tokens)


def test_odd_labels_make_plain_folders() -> None:
    one, other = Trial("a/b: c" * 50, "row", {}, 0), Trial("a/b; c" * 50, "row", {"train.clip": 2.0}, 0)
    assert one.id != other.id
    assert all(set(trial.id) <= set("abcdefghijklmnopqrstuvwxyz0123456789-._") for trial in (one, other))


def test_further_seeds_draw_their_replay_too() -> None:
    first, second = trials({"replay.share": [0.1]}, {}, [], [5, 6])
    assert (first.draws, second.draws) == ({}, {"replay.order": "reshuffled"})
    recipe = load_recipe("tiny")
    assert (first.recipe(recipe).replay.order, second.recipe(recipe).replay.order) == ("original", "reshuffled")
    assert second.settings == {"replay.share": 0.1}, "what --apply writes"
    given = trials({"replay.order": ["original"]}, {}, [], [5, 6])[1]
    assert given.recipe(recipe).replay.order == "original", "what the grid says holds"


def test_baselines_say_what_they_are_on_a_trunk_that_is_not_decayed() -> None:
    recipe = load_recipe("tiny")
    infinite = schedule_for(recipe.schedule, 0, 1000, None)
    cosine = schedule_for(ScheduleSettings(kind="cosine"), 0, 1000, None)
    assert "the trunk is at 0.0011, so this drops to η_min = 0.0002" in meaning("constant-min", recipe, infinite, 1000)
    assert "this anneals over the whole update" in meaning("no-rewarm", recipe, infinite, 1000)
    assert meaning("constant-min", recipe, cosine, 1000) == ""
    assert meaning("no-rewarm", recipe, None, 0) == ""
    assert meaning("joint", recipe, infinite, 1000) == ""
