"""What arrives: named datasets and their files, looked at before anything is spent."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.lineage import Lineage, read_plan
from pipeline.record import REFUSED, UNDECIDED, Entry
from pipeline.workspace import check_name
from stages.errors import UsageError
from stages.ingest import IngestSettings, InputFile, digest_inputs, find_inputs
from stages.progress import Progress

LONGEST = 160  # characters of an arrival's name: files named after it have further parts, and 255 bytes in all


@dataclass(frozen=True)
class Arrival:
    """The files of each new dataset, and their content's digest."""

    inputs: dict[str, list[InputFile]]
    digests: dict[str, str]

    @property
    def name(self) -> str:
        """The datasets' names, joined; "imported" where a model came without data."""
        return "+".join(self.inputs) or "imported"


def parse_data(values: Sequence[str]) -> dict[str, list[str]]:
    """``NAME=PATH`` arguments as name → paths; a name given twice has both paths."""
    paths: dict[str, list[str]] = {}
    for value in values:
        name, separator, path = value.partition("=")
        if not separator or not path:
            raise UsageError(f"--data {value}: expected NAME=PATH, for example --data news=/data/news/*.jsonl.zst")
        paths.setdefault(check_name(name), []).append(path)
    return paths


def taken_in(
    paths: dict[str, list[str]], lineage: Lineage, settings: IngestSettings, progress: Progress
) -> Entry | None:
    """The finished update of these very files under these very names, if there is one."""
    for update in lineage.entries:
        if update.facts.datasets == list(paths):
            begun = read_plan(lineage.workspace, update.id)["data"]
            files = {name: find_inputs(given, settings, progress) for name, given in paths.items()}
            if {name: digest_inputs(found, progress) for name, found in files.items()} == begun:
                return update
    return None


def look(paths: dict[str, list[str]], lineage: Lineage, settings: IngestSettings, progress: Progress) -> Arrival:
    """Find and identify an arrival's files; refuses names that the lineage already has, and data that is not there."""
    inputs = find(paths, lineage, settings, progress)
    return Arrival(inputs, {name: digest_inputs(files, progress) for name, files in inputs.items()})


def find(
    paths: dict[str, list[str]], lineage: Lineage, settings: IngestSettings, progress: Progress
) -> dict[str, list[InputFile]]:
    """The files of each dataset, without reading them for their digests."""
    known = lineage.ingested()
    if len(joined := "+".join(paths)) > LONGEST:
        raise UsageError(
            f"{len(paths)} datasets, whose names make a name of {len(joined)} characters for the update; {LONGEST} at "
            "most fit into the names of files: choose shorter ones, or ingest the datasets one after the other"
        )
    for name in paths:
        if name in known:
            refused = {REFUSED: ", which the gate refused", UNDECIDED: ", whose release is held, undecided"}.get(
                known[name].state, ""
            )
            raise UsageError(
                f"dataset {name!r} was already ingested, by update {known[name].id}{refused}; "
                "every arrival needs a name of its own"
            )
    return {name: find_inputs(given, settings, progress) for name, given in paths.items()}
