"""The verification of every file of every step against the tables of digests in the updates' records."""

from collections.abc import Iterator, Sequence

from rewarm.pipeline.lineage.optimizer import OPTIMIZER
from rewarm.pipeline.lineage.recorded import without_card
from rewarm.pipeline.lineage.verify.findings import Findings
from rewarm.pipeline.lineage.weights import WEIGHTS, is_pruned
from rewarm.pipeline.lineage.workspace import CARD, Workspace
from rewarm.pipeline.record import UpdateRecord
from rewarm.stages.core.digests import FILES, RESTORE, Table, compare, digest_file, read_table
from rewarm.stages.core.patience import CONTACT_S, limited
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.storage import Folder
from rewarm.stages.train.checkpoints import damages, read_progress

INITIAL = "initial"  # an update's folder of random weights, which prune deletes


def check_files(
    workspace: Workspace, updates: Sequence[UpdateRecord], quick: bool, findings: Findings, progress: Progress
) -> set[Folder]:
    """Verify all files of all steps, and the kept optimizer states; returns the folders with damaged files.

    ``quick`` skips the weights. Pruned files are skipped; updates that were recorded without digests are named in a
    note.
    """
    steps = list(recorded_steps(workspace, updates, findings))
    chosen = {folder: to_compare(folder, table, quick) for folder, table in steps}
    total = sum(one.bytes for table in chosen.values() for one in table.values())
    progress.begin("verifying files", total, "bytes")
    damaged = set()
    for folder, table in chosen.items():
        with limited(CONTACT_S if folder.is_local else None):  # a bad sector does not end
            damages_here = compare(folder, table)
        for damage in damages_here:
            findings.add(findings.name(folder.at(damage.file)), damage.expected, damage.found, RESTORE)
            damaged.add(folder)
        findings.checked["files"] += len(table)
        progress.advance(sum(one.bytes for one in table.values()))
    check_cards(workspace, updates, findings)
    if not quick:
        check_optimizers(workspace, updates, findings)
    without = [update.id for update in updates if not update.files]
    if without:
        findings.notes.append(
            f"{', '.join(without)}: recorded without file digests, so configurations, samples, scores, curves and the "
            "index were only verified as far as other records cover them"
        )
    return damaged


def recorded_steps(
    workspace: Workspace, updates: Sequence[UpdateRecord], findings: Findings
) -> Iterator[tuple[Folder, Table]]:
    """Yield the folder of each step with its table, if the table has the digest in the update's record."""
    for update in updates:
        for place, digest in update.files.items():
            folder = workspace.folder / place
            name = findings.name(folder, FILES)
            if folder.committed():
                with findings.reading(findings.name(folder, "manifest.json"), "a step's manifest", RESTORE):
                    what = "a table of files of digest"
                    found = folder.manifest().get(FILES)
                    findings.compare(findings.name(folder, "manifest.json"), what, digest, found, RESTORE)
            with findings.reading(name, "the digests of the step's files", RESTORE):
                yield folder, without_card(folder, read_table(folder, digest))


def to_compare(folder: Folder, table: Table, quick: bool) -> Table:
    """Return the files of a step to verify: without weights if ``quick``, else without pruned ones."""
    weights = {name for name in table if name.endswith(WEIGHTS)}
    if quick:
        left_out = weights
    elif folder.name == INITIAL or is_pruned(folder.at(".."), folder.name):
        left_out = {name for name in weights if not folder.exists(name)}
    else:
        left_out = set()
    return {name: one for name, one in table.items() if name not in left_out}


def check_cards(workspace: Workspace, updates: Sequence[UpdateRecord], findings: Findings) -> None:
    """Verify the model cards of releases: a card is written last, so only the update's record has its digest."""
    for update in updates:
        if update.card:
            model = workspace.update(update.id) / "release" / "model"
            name = findings.name(model, CARD)
            with findings.reading(name, f"a model card of digest {update.card}", RESTORE):
                findings.compare(name, "a model card of digest", update.card, digest_file(model, CARD).digest, RESTORE)
                findings.checked["files"] += 1


def check_optimizers(workspace: Workspace, updates: Sequence[UpdateRecord], findings: Findings) -> None:
    """Verify the optimizer states that trunks keep for the next update."""
    for update in updates:
        kept = workspace.update(update.id) / "trunk" / OPTIMIZER
        if not kept.exists():
            continue
        remedy = f"{RESTORE}, or begin the next update with train.keep_optimizer=false"
        with kept.fetched() as path:
            here = Folder(path)
            found = damages(here)
            for damage in found:
                findings.add(findings.name(kept, damage.file), damage.expected, damage.found, remedy)
            if not found and not read_progress(here).files:
                findings.notes.append(f"{findings.name(kept)}: saved without digests, so it was not verified")
        findings.checked["optimizers"] += 1
