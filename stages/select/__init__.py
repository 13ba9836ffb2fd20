"""Select: the documents of an arrival to train on, chosen at random or by quality."""

from typing import TYPE_CHECKING

from rewarm.stages.core.lazy import import_lazily

if TYPE_CHECKING:
    from rewarm.stages.select.run import SELECTED, Judge, ScoreOutcome, run, score
    from rewarm.stages.select.settings import SelectOutcome, SelectSettings
else:
    import_lazily(__name__)

__all__ = ["SELECTED", "Judge", "ScoreOutcome", "SelectOutcome", "SelectSettings", "run", "score"]
