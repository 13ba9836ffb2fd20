"""How a stage tells a person where it stands. The terminal's side of it lives in ``pipeline.terminal``.

What a run tells of itself while it goes on.
"""

from typing import Protocol


class Progress(Protocol):
    """One line of work at a time: ``begin`` opens it, ``advance`` moves it, ``note`` says something beside it."""

    def begin(self, label: str, total: float, unit: str) -> None:
        """Open a line of work of ``total`` units (documents, tokens, shards); closes the one before."""

    def advance(self, by: float = 1, **figures: float) -> None:
        """Move the open line on, with the figures to show beside it (loss, lr …)."""

    def note(self, text: str) -> None:
        """Say one line that stays."""


class Silent:
    """Progress nobody watches."""

    def begin(self, label: str, total: float, unit: str) -> None:
        """Nothing."""

    def advance(self, by: float = 1, **figures: float) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


class Announcer(Progress, Protocol):
    """Progress that also knows of stages."""

    def stage(self, name: str, skipped: bool) -> None:
        """A stage begins, or is skipped because it was committed before."""
