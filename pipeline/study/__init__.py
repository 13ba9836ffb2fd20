"""Studies: the same arrival taken in under many settings, side by side, to see which forgets least and learns most."""

from pipeline.study.grid import BASELINES, Trial, parse_grid, parse_row, trials
from pipeline.study.outlook import as_json, outlook, outlook_lines
from pipeline.study.places import StudyWorkspace
from pipeline.study.results import RESULTS, Study
from pipeline.study.run import EARLY_STOP, Options, apply_best, run
from pipeline.study.table import PAGE, page, table

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
