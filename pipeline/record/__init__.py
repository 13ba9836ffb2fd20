"""The record of an update: one typed value with everything that is known about it, written once and read everywhere.

``update.py`` has the record and its parts, ``entry.py`` the facts that the log of commits repeats so that a lineage
opens without reading every record, ``files.py`` the file ``update.json`` and its formats.

To record a new figure, add a field with a default to a part in ``update.py`` and let the step fill it: a part that is
built from a step's outcome copies the fields of the same name. Then show it in a template of ``pipeline/report``.
"""

from rewarm.pipeline.record.entry import (
    HELD_BACK,
    REFUSED,
    RELEASED,
    UNDECIDED,
    UNFINISHED,
    Entry,
    Facts,
    State,
    Weights,
    is_number_of,
    number_of,
)
from rewarm.pipeline.record.files import FORMAT, UPDATE, decode, encode, parse, to_json
from rewarm.pipeline.record.update import (
    Adoption,
    Annealing,
    Attempts,
    Cost,
    DatasetPart,
    Forecast,
    Laid,
    Plan,
    Replay,
    Replayed,
    ReplayedPart,
    StepTaken,
    Tokens,
    Training,
    UpdateRecord,
    part_of,
)

__all__ = [
    "FORMAT",
    "HELD_BACK",
    "REFUSED",
    "RELEASED",
    "UNDECIDED",
    "UNFINISHED",
    "UPDATE",
    "Adoption",
    "Annealing",
    "Attempts",
    "Cost",
    "DatasetPart",
    "Entry",
    "Facts",
    "Forecast",
    "Laid",
    "Plan",
    "Replay",
    "Replayed",
    "ReplayedPart",
    "State",
    "StepTaken",
    "Tokens",
    "Training",
    "UpdateRecord",
    "Weights",
    "decode",
    "encode",
    "is_number_of",
    "number_of",
    "parse",
    "part_of",
    "to_json",
]
