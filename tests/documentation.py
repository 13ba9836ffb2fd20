"""The pages that users read, and what they print: shell commands, inline code, links. Shared by their tests."""

import re
import shlex
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Page:
    """One page of Markdown."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path.relative_to(ROOT))
        self.text = path.read_text(encoding="utf-8")

    @cached_property
    def prose(self) -> str:
        """The page without its blocks of code."""
        return FENCE.sub("", self.text)

    @cached_property
    def inline(self) -> list[str]:
        """Its inline code."""
        return re.findall(r"`([^`\n]+)`", self.prose)

    @cached_property
    def anchors(self) -> set[str]:
        """Its headings as GitHub makes anchors of them."""
        titles = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}

    def blocks(self, language: str) -> list[str]:
        """Its blocks of code in a language."""
        return [block for found, block in FENCE.findall(self.text) if found == language]

    def commands(self) -> Iterator[list[str]]:
        """The words of every command in its shell blocks; what a job submits (behind ``--``) also by itself."""
        for block in self.blocks("bash"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                while words:
                    end = min(words.index(mark) if mark in words else len(words) for mark in ("&&", "|"))
                    command, words = words[:end], words[end + 1 :]
                    command = command[: command.index(">")] if ">" in command else command
                    submitted = command.index("--") if "--" in command else len(command)
                    yield from filter(None, (command, command[submitted + 1 :]))


PAGES = [Page(path) for path in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]]
README = next(page for page in PAGES if page.name == "README.md")
WRITTEN = [page for page in PAGES if page.name != "docs/settings.md"]  # by hand
"""The pages that no command generates."""


def calls() -> list[list[str]]:
    """The arguments of every call of ``rewarm`` on any page, each once."""
    found = [tuple(words[1:]) for page in PAGES for words in page.commands() if words[0] == "rewarm"]
    return [list(words) for words in dict.fromkeys(found)]
