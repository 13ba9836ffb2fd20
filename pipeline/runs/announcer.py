"""What a run tells of itself while it goes on."""

from typing import Protocol

from stages.progress import Progress


class Announcer(Progress, Protocol):
    """Progress that also knows of stages."""

    def stage(self, name: str, skipped: bool) -> None:
        """A stage begins, or is skipped because it was committed before."""
