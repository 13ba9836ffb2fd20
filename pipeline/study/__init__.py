"""Studies: training of one arrival under many settings, to find which forgets least and learns most."""

from rewarm.pipeline.study.forecast import as_json, outlook, outlook_lines
from rewarm.pipeline.study.grid import BASELINES, Trial, parse_grid, parse_row, trials
from rewarm.pipeline.study.results import RESULTS, Study
from rewarm.pipeline.study.run import EARLY_STOP, Options, apply_best, run
from rewarm.pipeline.study.table import PAGE, page, table
from rewarm.pipeline.study.trial import StudyWorkspace

__all__ = [
    "BASELINES",
    "EARLY_STOP",
    "PAGE",
    "RESULTS",
    "Options",
    "Study",
    "StudyWorkspace",
    "Trial",
    "apply_best",
    "as_json",
    "outlook",
    "outlook_lines",
    "page",
    "parse_grid",
    "parse_row",
    "run",
    "table",
    "trials",
]
