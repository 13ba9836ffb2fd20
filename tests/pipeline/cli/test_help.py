"""Help of the commands: every documented command exists, and its paragraphs fill an 80-column terminal."""

import inspect
import itertools
import re
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from rewarm.pipeline.cli import app

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
PAGE = Path(__file__).parents[3] / "docs" / "commands.md"


def test_every_command_is_documented_and_every_documented_command_exists() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `rewarm ")]
    assert set(re.findall(r"`rewarm ([a-z]+)`", "\n".join(rows))) == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_paragraphs_of_the_help_are_not_broken_within(name: str) -> None:
    text = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "80", "TERM": "dumb"}).output
    prose = [line.strip() for line in text[: text.index("╭")].splitlines()]
    callback = COMMANDS[name].callback
    for paragraph in inspect.cleandoc(callback.__doc__).split("\n\n"):
        words = paragraph.split()
        begin = next(n for n, line in enumerate(prose) if line and words[: len(line.split())] == line.split())
        lines = prose[begin : prose.index("", begin)]
        assert " ".join(lines).split() == words
        for line, after in itertools.pairwise(lines):
            assert len(f"{line} {after.split()[0]}") > 78, (name, line)


@pytest.mark.parametrize("name", ["", *sorted(COMMANDS)])
def test_flags_have_no_type_and_optional_arguments_one_pair_of_brackets(name: str) -> None:
    text = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "80", "TERM": "dumb"}).output
    assert "--help" in text
    assert "<bool>" not in text
    assert "[[" not in text


def test_the_help_begins_with_the_commands_that_come_first() -> None:
    text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80", "TERM": "dumb"}).output
    assert re.findall(r"╭─ (\w+) ─", text) == ["Options", "Updates", "Inspect", "Releases", "Data"]
    panels = re.split(r"╭─ \w+ ─", text)
    assert re.findall(r"^│ (\w+)", panels[2], re.M)[:2] == ["init", "update"]
    assert re.findall(r"^│ (\w+)", panels[3], re.M)[0] == "status"
    assert text.index("│ init ") < text.index("│ update ") < text.index("│ status ") < text.index("│ data ")
