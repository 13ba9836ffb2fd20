"""What a verification has found so far: problems that a person can act on, and how much was looked at."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from rewarm.stages.core.errors import UnreachableError
from rewarm.stages.core.storage import Folder


@dataclass(frozen=True)
class Problem:
    """One thing that is not as the records say."""

    file: str  # relative to the workspace
    expected: str
    found: str
    remedy: str


@dataclass
class Findings:
    """Collects problems; ``checked`` counts what was looked at, by its kind."""

    root: Folder
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    unread: bool = False  # the records are damaged, so nothing else was looked at

    def name(self, folder: Folder, file: str = "") -> str:
        """A file's place in the workspace."""
        return f"{folder.relative_to(self.root)}/{file}".removeprefix("./").rstrip("/")

    def add(self, file: str, expected: str, found: str, remedy: str) -> None:
        """Enter a problem."""
        self.problems.append(Problem(file, expected, found, remedy))

    def compare(self, file: str, what: str, expected: object, found: object, remedy: str) -> bool:
        """Enter a problem where the two differ; whether they agree."""
        if expected != found:
            self.add(file, f"{what} {expected}", str(found), remedy)
        return expected == found

    @contextmanager
    def reading(self, file: str, expected: str, remedy: str) -> Iterator[None]:
        """Whatever a reader makes of damaged or missing bytes in the block becomes a problem of ``file``."""
        try:
            yield
        except UnreachableError:
            raise
        except Exception as error:  # each library raises its own kinds for damaged bytes
            self.add(file, expected, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", remedy)

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "ok": not self.problems,
            "checked": dict(self.checked),
            "problems": [asdict(problem) for problem in self.problems],
            "notes": self.notes,
        }
