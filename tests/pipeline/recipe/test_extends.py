"""Recipes that extend another, and the commands that print recipes and settings."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from rewarm.pipeline.recipe.recipe import load_recipe, preset_text, presets
from rewarm.stages.core.errors import UsageError

Command = Callable[..., tuple[int, str, str]]


def test_a_recipe_gives_what_differs_from_the_one_it_extends(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: tiny\nreplay: {share: 0.25}\n")
    (tmp_path / "yours.yaml").write_text("extends: mine.yaml\ntrain: {seq_len: 128}\n")
    expected = load_recipe("tiny", ["replay.share=0.25", "train.seq_len=128"])
    assert load_recipe(str(tmp_path / "yours.yaml")) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: tinny", r"tinny.*neither a preset .* nor a YAML file"),
        ("extends: [tiny]", "expected the name of a preset or a YAML file"),
        ("extends: mine.yaml", "which extends it"),
        ("extends: tiny\nreplay: {shar: 1}", "replay.shar"),
        ("extends: tiny\nreplay: 3", "replay"),
    ],
)
def test_a_recipe_that_cannot_be_extended_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UsageError, match=message):
        load_recipe(str(tmp_path / "mine.yaml"))


def test_two_recipes_that_extend_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml")
    (tmp_path / "b.yaml").write_text("extends: a.yaml")
    with pytest.raises(UsageError, match="which extends it"):
        load_recipe(str(tmp_path / "a.yaml"))


def test_a_printed_recipe_is_the_recipe(rewarm: Command, tmp_path: Path) -> None:
    for name in presets():
        code, out, _ = rewarm("recipes", name)
        assert (code, yaml.safe_load(out)) == (0, yaml.safe_load(preset_text(name)))
        (tmp_path / "mine.yaml").write_text(out)
        assert load_recipe(str(tmp_path / "mine.yaml")) == load_recipe(name)
    code, _, error = rewarm("recipes", "tinny")
    assert (code, "the recipes are neox-10b" in error) == (2, True)


def test_settings_of_a_group(rewarm: Command) -> None:
    code, out, _ = rewarm("settings", "replay")
    assert code == 0
    names = [line.split(" = ")[0] for line in out.splitlines() if not line.startswith(" ")]
    assert "replay.share" in names and {name.partition(".")[0] for name in names} == {"replay"}
    assert rewarm("settings", "replay.share")[1].count(" = ") == 1
    code, _, error = rewarm("settings", "reply")
    assert (code, "the groups are" in error) == (2, True)
    assert rewarm("settings", "replay", "--markdown")[0] == 2
