"""The verification of an update's inputs against the records of earlier updates, before compute is spent on them.

Each step writes a table of its files (``stages.core.digests``), and the update's record has the digest of the table.
Training data is verified by the workers that read it (``stages.train.inputs``); this module verifies the other inputs
when an update starts.
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
    """Return the recorded table of a step's files; None if the step was recorded without one.

    For a step of the update in the context, whose record is not written yet, its manifest's is taken. Raises
    ``DamagedError`` if the table is missing or another one.
    """
    place = folder.relative_to(lineage.workspace.folder)
    made_by = maker(lineage, place)
    table = table_of(folder, None if made_by is None else lineage.read(made_by).files.get(place))
    return None if table is None else without_card(folder, table)


def without_card(step: Folder, table: Table) -> Table:
    """Remove a release's model card from a step's table: it is written after the step, and the record has its digest.

    Earlier versions listed the card of an imported model here, and then replaced it by the release's own card.
    """
    if step.name != "release":
        return table
    return {name: entry for name, entry in table.items() if name != f"model/{CARD}"}


def maker(lineage: Lineage, place: str) -> str | None:
    """Return the id of the finished update that wrote a step's folder; None if it is not finished."""
    first, name = [*place.split("/"), ""][:2]
    if first == "datasets":
        brought = lineage.ingested().get(name)
        return brought.id if brought else None
    if first == "updates":
        return name if any(entry.id == name for entry in lineage.entries) else None
    return lineage.entries[0].id if lineage.entries else None


def compare_with_record(lineage: Lineage, optimizer: Folder | None, progress: Progress) -> None:
    """Verify the inputs of the next update against the records; notes bytes, seconds and inputs without digests.

    The inputs are the tokenizer; the trunk (weights, configuration and tokenizer); the validation shards and the index
    of each learned dataset; the evaluation of the release to compare with; and ``optimizer``, the optimizer state to
    load, if any. Raises ``DamagedError`` that names the files.
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
        remedy = "restore the file, or begin with an empty optimizer (train.keep_optimizer=false)"
        refuse_damage(optimizer, damages(Folder(optimizer.local())), remedy)
        size += optimizer.size()
    seconds = time.perf_counter() - start
    progress.note(f"verified {size / 1e6:,.1f} MB of earlier results against the record in {seconds:.1f} s")
    if unknown:
        progress.note(f"recorded without file digests, so not verified: {', '.join(unknown)}")


def recorded_files(lineage: Lineage, folder: Folder) -> Table | None:
    """Return the recorded table of a folder inside a step's folder: a model, or the token shards of a split."""
    made = recorded_table(lineage, folder.at(".."))
    return None if made is None else below(made, folder.name)


def recorded_copies(lineage: Lineage, folders: Iterable[Folder]) -> Recorded:
    """Return the tables by which a stage's workers verify their copies of folders in a bucket; no local ones."""
    return Recorded.of((folder, recorded_files(lineage, folder)) for folder in folders if not folder.is_local)


def refuse_changed_model(lineage: Lineage, model: Folder) -> None:
    """Raise ``DamagedError`` if a file of a trunk's or a release's model differs from the record."""
    table = recorded_files(lineage, model)
    if table is not None:
        refuse_damage(model, differing(model, table))


def refuse_changed(lineage: Lineage, step: Folder, name: str) -> None:
    """Raise ``DamagedError`` if one file of a step differs from the record; does nothing if it was not recorded."""
    made = recorded_table(lineage, step)
    if made is not None and name in made:
        refuse_damage(step, compare_here(step, {name: made[name]}))


def differing(folder: Folder, table: Table) -> list[Damage]:
    """Return the files that differ from their table, as this machine reads them."""
    if folder.is_local or folder.name != "model":
        return compare_here(folder, table)
    return compare_whole(folder, table)  # a model is fetched and cached as a whole folder


def used(lineage: Lineage) -> Iterator[tuple[Folder, str, Table | None]]:
    """Yield each folder that the next update reads, its name for messages, and the table of the files it reads."""
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
    if (current := lineage.compared_with()) is not None and current.losses:
        evaluation = workspace.update(current.id) / "evaluation"
        yield evaluation, f"evaluation of {current.id}", recorded_table(lineage, evaluation)
