"""Settings of replay."""

from pydantic import Field

from stages.settings import Settings


class ReplaySettings(Settings):
    """Compute-equivalent replay (Ibrahim et al. 2024, section 4.2)."""

    share: float = Field(default=0.05, ge=0, lt=1)
    """Part of every batch that is replayed from earlier datasets; the update costs the same tokens whatever it is.
    5 % for a weak shift, 25 % for a strong one (a new language, code)."""
