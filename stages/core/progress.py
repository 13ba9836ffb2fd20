"""Progress reports of stages and runs; ``pipeline.cli.terminal`` displays them."""

from typing import Protocol


class Progress(Protocol):
    """Progress of one task at a time: ``begin`` starts it, ``advance`` updates it, ``note`` adds a message."""

    def begin(self, label: str, total: float, unit: str) -> None:
        """Start a task of ``total`` units (documents, tokens, shards) and end the previous one."""

    def advance(self, by: float = 1, **figures: float) -> None:
        """Advance the current task, with figures to display (loss, lr …)."""

    def note(self, text: str) -> None:
        """Print one permanent line."""


class Silent:
    """Progress that displays nothing."""

    def begin(self, label: str, total: float, unit: str) -> None:
        """Nothing."""

    def advance(self, by: float = 1, **figures: float) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


class Announcer(Progress, Protocol):
    """Progress that also reports stages."""

    def stage(self, name: str, skipped: bool) -> None:
        """Report that a stage begins, or is skipped because it is already committed."""
