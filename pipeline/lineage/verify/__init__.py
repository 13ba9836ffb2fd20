"""``rewarm verify``: the verification of a whole workspace against its records. Reads everything, writes nothing."""

from collections.abc import Sequence

from rewarm.pipeline.lineage.verify.chain import ChainCheck
from rewarm.pipeline.lineage.verify.data import RESTORE, DatasetCheck, check_apart, checked_manifest
from rewarm.pipeline.lineage.verify.files import check_files
from rewarm.pipeline.lineage.verify.findings import Findings, Problem
from rewarm.pipeline.lineage.verify.records import check_numbers, check_records, check_releases, recorded
from rewarm.pipeline.lineage.verify.weights import check_weights, refuse_damaged
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.record import UpdateRecord
from rewarm.stages.core.progress import Progress
from rewarm.stages.data.tokenizer import Definition, load_definition


def verify(workspace: Workspace, quick: bool, progress: Progress) -> Findings:
    """Verify records, chain, datasets and, unless ``quick``, the weights."""
    findings = Findings(workspace.folder)
    if (log := check_records(workspace, findings)) is None:
        findings.unread = True
        findings.notes.append("records are damaged: nothing else was verified")
        return findings
    updates = recorded(workspace)
    check_numbers(workspace, updates, findings)
    check_releases(workspace, updates, log, findings)
    definition = check_tokenizer(workspace, updates, findings)
    checks = {}
    for update in updates:
        for name in update.datasets:
            checks[name] = DatasetCheck(workspace, name, findings)
            checks[name].run(update, definition, progress)
    check_apart(checks, findings)
    chain = ChainCheck(workspace, updates, findings)
    progress.begin("verifying updates", len(updates), "updates")
    for update in updates:
        chain.run(update)
        progress.advance()
    damaged = check_files(workspace, updates, quick, findings, progress)
    if quick:
        findings.notes.append("quick: the weights were not verified")
    else:
        check_weights(workspace, updates, definition, damaged, findings, progress)
    return findings


def check_tokenizer(workspace: Workspace, updates: Sequence[UpdateRecord], findings: Findings) -> Definition | None:
    """Verify the lineage's tokenizer against its manifest; returns it unless it cannot be read."""
    folder = workspace.tokenizer
    if not updates:
        return None
    manifest, definition = checked_manifest(folder, findings), None
    with findings.reading(findings.name(folder), "a tokenizer", RESTORE):
        definition = load_definition(folder)
        if manifest is not None:
            expected = manifest["outcome"]["digest"]
            findings.compare(findings.name(folder), "a tokenizer of digest", expected, definition.digest, RESTORE)
    return definition


__all__ = ["Findings", "Problem", "refuse_damaged", "verify"]
