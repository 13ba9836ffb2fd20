"""The comparison of what an update uses with the records of those before it: nothing is spent on a changed file.

Each step leaves a table of its files (``stages.core.digests``), and the update's record has the table's digest. What
training reads is compared by its workers (``stages.train.inputs``); this module compares the rest as an update starts.
"""

import time
from collections.abc import Iterable, Iterator

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import CARD
from rewarm.stages.core.copies import Recorded
from rewarm.stages.core.digests import Damage, Table, below, compare_here, compare_whole, refuse_damage, table_of
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.storage import Folder
from rewarm.stages.train.checkpoints import damages


def recorded_table(lineage: Lineage, folder: Folder) -> Table | None:
    """The table of a step's files that the record vouches for; None if the step was made without one.

    For a step of the update in the context, whose record is not written yet, its manifest's is taken. Raises
    ``DamagedError`` if the table is missing or another one.
    """
    place = folder.relative_to(lineage.workspace.folder)
    made_by = maker(lineage, place)
    table = table_of(folder, None if made_by is None else lineage.read(made_by).files.get(place))
    return None if table is None else without_card(folder, table)


def without_card(step: Folder, table: Table) -> Table:
    """A step's table without a release's model card, which is written after the step: the record has its digest.

    Earlier versions listed the card that came with an imported model, and then wrote the release's in its place.
    """
    if step.name != "release":
        return table
    return {name: entry for name, entry in table.items() if name != f"model/{CARD}"}


def maker(lineage: Lineage, place: str) -> str | None:
    """The finished update that made a step's folder: its own, that of its dataset, or the base's tokenizer."""
    first, name = [*place.split("/"), ""][:2]
    if first == "datasets":
        brought = lineage.ingested().get(name)
        return brought.id if brought else None
    if first == "updates":
        return name if any(entry.id == name for entry in lineage.entries) else None
    return lineage.entries[0].id if lineage.entries else None


def compare_with_record(lineage: Lineage, optimizer: Folder | None, progress: Progress) -> None:
    """Compare what the next update uses with the records, and say how much, how long, and what has no digests.

    That is the tokenizer; the trunk (weights, configuration and tokenizer); the validation shards and the index of each
    dataset that was learned; the current release's measurements; and ``optimizer``, the state that is used again, if
    any. Raises ``DamagedError`` that names the files.
    """
    if not lineage.entries:
        return
    start, size, unknown = time.perf_counter(), 0, []
    for folder, what, table in used(lineage):
        if table is None:
            unknown.append(what)
            continue
        refuse_damage(folder, differing(folder, table))
        size += sum(one.bytes for one in table.values())
    if optimizer is not None:
        remedy = "restore it, or begin with an empty optimizer (train.keep_optimizer=false)"
        refuse_damage(optimizer, damages(Folder(optimizer.local())), remedy)
        size += optimizer.size()
    seconds = time.perf_counter() - start
    progress.note(f"compared {size / 1e6:,.1f} MB of earlier results with the record in {seconds:.1f} s")
    if unknown:
        progress.note(f"recorded without digests of files, so not compared: {', '.join(unknown)}")


def recorded_files(lineage: Lineage, folder: Folder) -> Table | None:
    """The part of a step's table for a folder directly in the step's: a model, or the token shards of a split."""
    made = recorded_table(lineage, folder.at(".."))
    return None if made is None else below(made, folder.name)


def recorded_copies(lineage: Lineage, folders: Iterable[Folder]) -> Recorded:
    """What the workers of a stage compare their machines' copies of such folders with; nothing on a disk."""
    return Recorded.of((folder, recorded_files(lineage, folder)) for folder in folders if not folder.is_local)


def refuse_changed_model(lineage: Lineage, model: Folder) -> None:
    """``DamagedError`` if a file of a trunk's or a release's model is not what the record says."""
    table = recorded_files(lineage, model)
    if table is not None:
        refuse_damage(model, differing(model, table))


def refuse_changed(lineage: Lineage, step: Folder, name: str) -> None:
    """``DamagedError`` if one file of a step, which may be missing in it, is not what the record says."""
    made = recorded_table(lineage, step)
    if made is not None and name in made:
        refuse_damage(step, compare_here(step, {name: made[name]}))


def differing(folder: Folder, table: Table) -> list[Damage]:
    """The files of a table that are not what it says, as this machine reads them."""
    if folder.is_local or folder.name != "model":
        return compare_here(folder, table)
    return compare_whole(folder, table)  # a model is read as a whole folder, and kept as one


def used(lineage: Lineage) -> Iterator[tuple[Folder, str, Table | None]]:
    """Folder, its name for a person, and the table of those of its files that the next update uses."""
    workspace = lineage.workspace
    yield workspace.tokenizer, "the tokenizer", recorded_table(lineage, workspace.tokenizer)
    if (head := lineage.head) is not None:
        made = recorded_table(lineage, workspace.update(head.id) / "trunk")
        yield lineage.trunk(), f"the trunk of {head.id}", None if made is None else below(made, "model")
    for name in lineage.datasets():
        tokens, dataset = workspace.dataset(name) / "tokens", workspace.dataset(name)
        made = recorded_table(lineage, tokens)
        yield tokens / "validation", f"tokens of {name}", None if made is None else below(made, "validation")
        yield dataset, f"index of {name}", recorded_table(lineage, dataset)
    if (current := lineage.current()) is not None and current.losses:
        evaluation = workspace.update(current.id) / "evaluation"
        yield evaluation, f"evaluation of {current.id}", recorded_table(lineage, evaluation)
