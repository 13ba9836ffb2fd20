"""The verification of a workspace's records: the log of commits, the updates' records and plans, ``releases.json``."""

from collections.abc import Sequence

from rewarm.pipeline.lineage.commits import RELEASES, Commit, Log, digest, pointer, read_log
from rewarm.pipeline.lineage.lineage import ID, PLAN, UPDATE, read_plan
from rewarm.pipeline.lineage.verify.data import RESTORE
from rewarm.pipeline.lineage.verify.findings import Findings
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.record import UpdateRecord, decode

REPAIR = "rewarm verify --repair WORKSPACE rebuilds it"


def check_records(workspace: Workspace, findings: Findings) -> Log | None:
    """Return the log if it, every update's record and every plan can be read and agree; None otherwise."""
    before = len(findings.problems)
    log = None
    with findings.reading("commits", "the log of commits, whole and in order", REPAIR):
        log = read_log(workspace.folder)
        findings.checked["commits"] += len(log.commits)
    finished = log.finished if log else {}
    for name in (workspace.folder / "updates").folders():
        folder = workspace.update(name)
        if folder.exists(UPDATE):
            check_record(workspace, name, finished.get(name), findings)
        if folder.exists(PLAN) or folder.exists(UPDATE):
            with findings.reading(findings.name(folder, PLAN), "the plan of the update", RESTORE):
                read_plan(workspace, name)
    for name in finished:
        if not workspace.update(name).exists(UPDATE):
            findings.add(f"updates/{name}/{UPDATE}", "the record of a finished update", "no such file", RESTORE)
    return log if len(findings.problems) == before else None


def check_record(workspace: Workspace, name: str, commit: Commit | None, findings: Findings) -> None:
    """Check that an update's record can be read, is in the folder of its name, and is the one of its ``commit``."""
    folder = workspace.update(name)
    file = findings.name(folder, UPDATE)
    with findings.reading(file, "an update's record", RESTORE):
        data = folder.read(UPDATE)
        update = decode(data, file)
        findings.compare(file, "the record of", name, update.id, RESTORE)
        findings.compare(file, "an id that ends in", update.arrival, update.id.partition("-")[2], RESTORE)
        findings.checked["updates"] += 1
        if commit is not None:
            findings.compare(file, "the committed record with digest", commit.record, digest(data), RESTORE)
            facts = commit.facts and update.facts(len(data))
            findings.compare("commits", f"facts of {name} as in its record", facts, commit.facts, REPAIR)


def recorded(workspace: Workspace) -> list[UpdateRecord]:
    """Return every update with a record, in order, including one that was stopped just before its commit."""
    return [update for update, _ in read_records(workspace)]


def read_records(workspace: Workspace) -> list[tuple[UpdateRecord, bytes]]:
    """Return the updates with a record, in order, each with the bytes of its file."""
    records = []
    for name in (workspace.folder / "updates").folders():
        if ID.fullmatch(name) and workspace.update(name).exists(UPDATE):
            data = workspace.update(name).read(UPDATE)
            records.append((decode(data, f"{workspace.update(name)}/{UPDATE}"), data))
    return sorted(records, key=lambda record: record[0].number)


def check_numbers(workspace: Workspace, updates: Sequence[UpdateRecord], findings: Findings) -> None:
    """Check that updates are numbered without gaps, and that at most the next one is unfinished."""
    found = [update.number for update in updates]
    wanted = list(range(len(found)))
    findings.compare("updates", "the numbers", wanted, found, f"a folder is missing or was added by hand; {RESTORE}")
    folders, known = (workspace.folder / "updates").folders(), {update.id for update in updates}
    begun = [name for name in folders if name not in known and workspace.update(name).exists(PLAN)]
    if len(begun) > 1:
        findings.add("updates", "one unfinished update", ", ".join(begun), "rewarm discard WORKSPACE")
    for name in begun[:1]:
        number = name.partition("-")[0]
        findings.compare(
            f"updates/{name}", "an unfinished update of number", f"{len(found):04d}", number, "rewarm discard WORKSPACE"
        )


def check_releases(workspace: Workspace, updates: Sequence[UpdateRecord], log: Log, findings: Findings) -> None:
    """Check that every record has its commit, and that ``releases.json`` agrees with the log."""
    finished = log.finished
    missed = [update.id for update in updates if update.id not in finished]
    for name in missed:
        if missed == [updates[-1].id]:
            findings.notes.append(f"{name}: stopped just before its commit; run the same command again to commit it")
        else:
            findings.add("commits", f"a commit of {name}, which has a record", "none", REPAIR)
    if log.commits:
        with findings.reading(RELEASES, "the current release and the promotions", REPAIR):
            found = workspace.folder.read_json(RELEASES)
            if found != pointer(log):
                expected = {"current": log.current, "promotions": len(log.history)}
                findings.add(RELEASES, f"the summary of the log: {expected}", difference(found), REPAIR)


def difference(found: object) -> str:
    """Summarize the contents of a ``releases.json`` that differs from the log."""
    if not isinstance(found, dict):
        return f"{type(found).__name__}"
    history = found.get("history")
    return str({"current": found.get("current"), "promotions": len(history) if isinstance(history, list) else None})
