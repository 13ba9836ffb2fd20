"""What README.md prints exists: commands, options, settings, recipes, make targets, files and pictures."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from pipeline.cli import app
from pipeline.config import Recipe, load_recipe, presets, settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PROSE = FENCE.sub("", README)
INLINE = re.findall(r"`([^`\n]+)`", PROSE)


def shell_lines() -> Iterator[str]:
    """Commands of the shell blocks, continued lines joined."""
    for language, block in FENCE.findall(README):
        if language == "bash":
            yield from filter(None, (line.strip() for line in block.replace("\\\n", " ").splitlines()))


def words_after(name: str, text: str) -> list[str] | None:
    """The arguments of a program called in a line, also behind ``ray job submit … --``; None where it is not."""
    words = shlex.split(text, comments=True)
    if "--" in words:
        words = words[words.index("--") + 1 :]
    return words[1:] if words and words[0] == name else None


def calls() -> list[list[str]]:
    found = [words_after("rewarm", line) for line in shell_lines()]
    return [words for words in found if words is not None]


def parse(words: list[str]) -> dict[str, object]:
    """Parse as the command line does, without running: unknown options and missing arguments raise."""
    group = get_command(app)
    context = typer.Context(group, info_name="rewarm")
    name, command, rest = group.resolve_command(context, words)  # type: ignore[attr-defined]
    assert command is not None
    with command.make_context(name, list(rest), parent=context) as parsed:
        return dict(parsed.params)


@pytest.mark.parametrize("words", calls(), ids=" ".join)
def test_every_call_is_one_the_command_line_takes(words: list[str]) -> None:
    found = parse(words)
    recipe = str(found.get("recipe") or "tiny")
    assert recipe in presets()
    load_recipe(recipe, found.get("sets") or [])  # type: ignore[arg-type]
    assert all("=" in str(value) for value in found.get("data") or [])  # type: ignore[attr-defined]


def test_calls_are_found_and_wrong_ones_would_be_noticed() -> None:
    commands = {words[0] for words in calls()}
    assert {"init", "update", "status", "report", "export", "discard", "doctor", "demo"} <= commands
    for wrong in (["udpate", "lm"], ["update", "lm", "--replay", "1"], ["export", "lm"], ["init", "lm"]):
        with pytest.raises((Exception, SystemExit), match=r"(?i)no such|missing"):
            parse(wrong)


def test_commands_and_options_in_the_prose_exist() -> None:
    group = get_command(app)
    commands: dict[str, object] = group.commands  # type: ignore[attr-defined]
    options = {opt for command in commands.values() for param in command.params for opt in param.opts}  # type: ignore[attr-defined]
    named = [text.split()[1] for text in INLINE if text.startswith("rewarm ")]
    assert {"recipes", "settings"} <= set(named) <= set(commands)
    assert {text.split()[0] for text in INLINE if text.startswith("--")} <= options | {"--working-dir"}


def test_settings_and_values_in_the_prose_exist() -> None:
    names = {name for name, _, _ in settings()}
    sections = {name for name in Recipe.model_fields if any(other.startswith(f"{name}.") for other in names)}
    texts = [text.removeprefix("--set ") for text in INLINE]
    found = [re.fullmatch(r"((\w+)\.\w+)(=.*)?", text) for text in texts]
    dotted = {match[1] for match in found if match and match[2] in sections and not match[1].endswith(".json")}
    assert len(dotted) >= 15
    assert dotted <= names
    assigned = [text for text in texts if re.match(r"\w+\.\w+=", text)]
    load_recipe("tiny", assigned)
    assert set(presets()) <= set(INLINE), "every recipe is named"


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = [*shell_lines(), *INLINE]
    named = {match[1] for line in lines if (match := re.match(r"(?:\w+=\S+ )*make ([\w-]+)", line))}
    assert {"demo", "test", "lint", "bench"} <= named <= targets


def test_links_pictures_and_anchors_are_there() -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", PROSE)
    titles = re.findall(r"^#+ (.+)$", PROSE, re.MULTILINE)
    headings = {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}
    local = [link for link in links if "://" not in link]
    assert any(link.endswith(".png") for link in local)
    for link in local:
        path, _, anchor = link.partition("#")
        assert (ROOT / path).exists(), link
        assert not anchor or anchor in headings, link
    for text in INLINE:
        if re.fullmatch(r"(pipeline|stages|tests|benchmarks)/[\w/.-]+|[\w-]+\.(lock|toml)|cluster\.yaml", text):
            assert (ROOT / text).exists(), text


def test_the_picture_is_small_and_of_the_size_that_a_page_shows() -> None:
    data = (ROOT / "pipeline" / "report" / "example.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) < 300_000
    assert int.from_bytes(data[16:20]) == 1100
