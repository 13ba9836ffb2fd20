"""A command that refuses its input: one line, exit code 2, nothing on stdout, nothing changed."""

import re
from collections.abc import Callable
from pathlib import Path

from release_world import files_of

from rewarm.stages.core.storage import Folder

Command = Callable[..., tuple[int, str, str]]


def unchanged(root: Path) -> dict[str, bytes]:
    """Every file but the record of a lease, which a command that refuses has held."""
    return {name: data for name, data in files_of(Folder(root)).items() if "/.lease" not in name}


def refused(rewarm: Command, root: Path, said: str, *arguments: object) -> None:
    """The line, the exit code and the unchanged folder."""
    before = unchanged(root)
    code, out, error = rewarm(*arguments)
    plain = re.sub(r"\s+", " ", re.sub(r"[│╭╮╰╯─]", " ", error))
    assert (code, out) == (2, ""), (code, out, error)
    assert said in plain, error
    assert "Traceback" not in error and "\x1b" not in error and len(plain) < 1500, error
    if error.startswith("rewarm: "):  # not Typer's own box
        assert all(line.startswith(" ") for line in error.splitlines()[1:]), error
    assert unchanged(root) == before
