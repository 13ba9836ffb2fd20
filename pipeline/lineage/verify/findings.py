"""The findings of a verification: problems, each with a remedy, and counts of what was checked."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from rewarm.stages.core.errors import UnreachableError
from rewarm.stages.core.storage import Folder


@dataclass(frozen=True)
class Problem:
    """A difference between a workspace and its records."""

    file: str  # relative to the workspace
    expected: str
    found: str
    remedy: str


@dataclass
class Findings:
    """The problems found so far; ``checked`` counts what was verified, by kind."""

    root: Folder
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    unread: bool = False  # the records are damaged, so nothing else was verified

    def name(self, folder: Folder, file: str = "") -> str:
        """Return the path of a file in the workspace."""
        return f"{folder.relative_to(self.root)}/{file}".removeprefix("./").rstrip("/")

    def add(self, file: str, expected: str, found: str, remedy: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(file, expected, found, remedy))

    def compare(self, file: str, what: str, expected: object, found: object, remedy: str) -> bool:
        """Add a problem if the two values differ; returns whether they agree."""
        if expected != found:
            self.add(file, f"{what} {expected}", str(found), remedy)
        return expected == found

    @contextmanager
    def reading(self, file: str, expected: str, remedy: str) -> Iterator[None]:
        """Turn any error in the block, which reads possibly damaged bytes, into a problem of ``file``."""
        try:
            yield
        except UnreachableError:
            raise
        except Exception as error:  # each library raises its own exceptions for damaged bytes
            self.add(file, expected, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", remedy)

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON types."""
        return {
            "ok": not self.problems,
            "checked": dict(self.checked),
            "problems": [asdict(problem) for problem in self.problems],
            "notes": self.notes,
        }
