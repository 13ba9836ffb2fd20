"""The ingest stage in three passes: read every shard, decide about every document, write what stays.

    files ──read──▶ staging, signatures, quarantine ──decide──▶ fates ──settle──▶ validation, documents, index

The files are cut and grouped into shards of about one size; the passes over shards are Ray Data jobs. The staging
folder records completed shards: an interrupted job resumes and writes the same bytes with any number of workers.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, NoReturn

import numpy as np
import orjson
import xxhash

from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.ray_data import map_shards
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import read_shards as read_documents
from rewarm.stages.data.split import SplitSize
from rewarm.stages.ingest.account import DOMAINS_SHOWN, READ, Account, StepAccount
from rewarm.stages.ingest.decontaminate import write_guard, write_met
from rewarm.stages.ingest.decontaminate.counts import RunCounts
from rewarm.stages.ingest.decontaminate.overlaps import Guarded, Kind, find_overlaps, make_rule
from rewarm.stages.ingest.decontaminate.rule import Rule
from rewarm.stages.ingest.dedup.decide import ORDER, REASONS, Decision, Fate, decide
from rewarm.stages.ingest.dedup.index import index_documents
from rewarm.stages.ingest.locations import InputFile
from rewarm.stages.ingest.outcome import IngestOutcome
from rewarm.stages.ingest.passes import read_shard, steps_of
from rewarm.stages.ingest.removals import Removal, describe, find_removals, find_sample
from rewarm.stages.ingest.settings import IngestSettings
from rewarm.stages.ingest.settle import (
    CONTAMINATED,
    Decontamination,
    renamed_ids,
    settle_training,
    settle_validation,
    settled_digest,
)
from rewarm.stages.ingest.shards import Shard, make_shards

VERSION = 8  # of the result for the same files and settings: part of a step's fingerprint
STAGING = ".staging"
PLAN = "plan.json"
ACCOUNT = "account.json"
HELD_OUT = "held out"
DECIDED = {  # steps of pass 2, and the fates that they assign
    "older addresses": (Fate.OLDER_URL,),
    "exact duplicates": (Fate.DUPLICATE, Fate.EARLIER_EXACT),
    "near-duplicates": (Fate.EARLIER_NEAR, Fate.NEAR),
    "validation": (Fate.VALIDATE,),
}
GUARD = "validation-grams"  # in a dataset's folder of the index: word sequences that training text may not contain


@dataclass(frozen=True)
class Decontaminated:
    """Outcome of decontamination: what was removed from training text because held-out text contains it."""

    guards: dict[str, int]  # documents that were cut or removed, by what they share a passage with
    documents: int  # documents that were cut
    cuts: int  # in them
    num_bytes: int
    reasons: Counter[str]  # documents that were cut, by reason
    rule: Rule | None  # the rule that was applied; None if nothing was compared


def run(
    inputs: list[InputFile],
    out: Folder,
    settings: IngestSettings,
    earlier: list[Folder],
    index: Folder,
    progress: Progress,
    tasks: Mapping[str, Folder] | None = None,
    validation_worth: int = 0,
) -> IngestOutcome:
    """Read ``inputs`` into ``out/{documents,validation,quarantine}/NNNNN.parquet``; Ray must be initialised.

    ``index`` receives this dataset's signatures and guards for later arrivals; ``earlier`` are the index folders of
    earlier datasets: exact and near-duplicates of their documents (validation included) are dropped. Training text that
    overlaps with the validation split of any of them, or with the texts of ``tasks`` (guards by task), is removed. The
    validation split grows until it is worth ``validation_worth`` documents of equal length, up to
    ``settings.validation_cap`` of the documents. The caller writes the manifest that completes ``out``.

    Raises:
        UsageError: no document remains.
        StageError: more shards cannot be read than ``lost_shards`` allows, or a file or an index has changed.
    """
    staging = out / STAGING
    guarded = [Guarded(task, folder, Kind.TASK) for task, folder in (tasks or {}).items()]
    shards = make_shards(inputs, settings)
    prepare(shards, out, settings, [*earlier, *(guard.folder for guard in guarded)])
    read, lost = read_shards(shards, out, settings, progress)
    names = [(f"{made['number']:05d}", made["documents"]) for made in read]
    held_out = SplitSize(settings.validation_share, validation_worth, settings.validation_cap)
    decision = decide(staging, names, earlier, settings.duplicates, held_out, progress)
    account = sum_up(read, settings)
    numbers = [{"number": made["number"], "documents": made["documents"]} for made in read]
    counted = map_shards(
        partial(settle_validation, out=out, staging=staging), numbers, progress, "writing validation", "documents"
    )
    validation = enter_decided(account, counted)
    rule, decontamination = None, None
    if settings.decontaminate.enabled:
        splits = [folder for folder in earlier if folder.exists(GUARD)]
        if unguarded := [folder.name for folder in earlier if not folder.exists(GUARD)]:
            listing = ", ".join(unguarded)
            progress.note(f"not kept out of training: validation text of {listing}, ingested without decontamination")
        guarded += [Guarded(f"validation of {folder.name}", folder / GUARD, Kind.EARLIER) for folder in splits]
        guarded.append(Guarded(f"validation of {index.name}", guard_validation(out, index, settings), Kind.OWN))
        counts, rule = compare(staging, numbers, guarded, settings, progress)
        write_met(index / GUARD, RunCounts.open(staging, counts))
        decontamination = Decontamination(guarded, counts, rule, settings.decontaminate)
    work = partial(settle_training, out=out, staging=staging, decontamination=decontamination)
    settled = map_shards(work, numbers, progress, "writing", "documents")
    taken = enter_settled(account, settled, rule)
    if not account.steps[CONTAMINATED].documents_out:
        refuse_empty(inputs, out, account)
    removed = [
        replace(removal, sample=find_sample(removal, out / "quarantine", staging, [name for name, _ in names]))
        for removal in find_removals(account.steps, {CONTAMINATED: taken.reasons})
    ]
    for one in removed:
        progress.note(describe(one))
    refuse_most(inputs, out, removed, settings)
    for name, _ in names:
        staging.write(f"{name}.fates", staging.read(f"{name}.settled"))
    renamed = np.concatenate([renamed_ids(staging, name)[1] for name, _ in names])
    index_documents(index, staging, names, settings.duplicates, progress, renamed)
    made = {
        **account.to_json(DOMAINS_SHOWN),
        "files": len(inputs),
        "earlier": {folder.name: asdict(one) for folder, one in zip(earlier, decision.overlaps, strict=True)},
        "decontaminated": taken.guards,
        "cut": {
            "documents": taken.documents,
            "cuts": taken.cuts,
            "bytes": taken.num_bytes,
            **(rule.to_json() if rule else {}),
        },
        "lost": lost,
        "removals": [one.to_json() for one in removed],
    }
    out.write_json(ACCOUNT, made)
    digest = settled_digest(staging, [name for name, _ in names])
    outcome = outcome_of(account, decision, validation, taken, len(lost), digest, removed)
    discard(staging)
    for part in ("documents", "validation", "quarantine"):
        (out / part).sweep()
    return outcome


def prepare(shards: list[Shard], out: Folder, settings: IngestSettings, others: list[Folder]) -> None:
    """Keep the results of an interrupted run with the same plan in ``out``; delete those of any other."""
    plan = [VERSION, settings.identity(), [shard.to_json() for shard in shards], [folder.uri for folder in others]]
    digest = xxhash.xxh3_128_hexdigest(orjson.dumps(plan))
    staging = out / STAGING
    if staging.exists(PLAN) and staging.read_json(PLAN) == digest:
        return
    discard(staging)
    for name in ("documents", "validation", "quarantine"):
        out.delete(name)
    staging.write_json(PLAN, digest)


def discard(staging: Folder) -> None:
    """Delete the staging folder, its plan first: staged files without a plan are not trusted."""
    staging.delete(PLAN)
    staging.delete()


def read_shards(
    shards: list[Shard], out: Folder, settings: IngestSettings, progress: Progress
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Run pass 1 over all shards: return the accounts of the readable shards, and the errors of the others."""
    work = partial(read_shard, out=out, staging=out / STAGING, settings=settings)
    records = [{**shard.to_json(), "bytes": shard.num_bytes} for shard in shards]
    made = map_shards(work, records, progress, "reading", "bytes")
    lost = [account for account in made if "error" in account]
    for account in lost:
        progress.note(f"cannot be read, set aside: {', '.join(account['files'][:3])}: {account['error']}")
    if len(lost) > settings.lost_shards:
        listing = "; ".join(f"{', '.join(one['files'][:3])} ({one['error']})" for one in lost[:5])
        raise StageError(
            f"{len(lost)} of {len(shards)} shards could not be read in three attempts: {listing}. Repair them and "
            f"run the same command again (the others are kept), or skip them: --set ingest.lost_shards={len(lost)}"
        )
    return [account for account in made if "error" not in account], lost


def sum_up(read: list[dict[str, Any]], settings: IngestSettings) -> Account:
    """Return the account of the whole arrival after pass 1."""
    total = Account.of([READ, *(step.name for step in steps_of(settings))])
    for made in read:
        total.add(Account.from_json(made["account"]))
    return total


def compare(
    staging: Folder,
    shards: list[dict[str, Any]],
    guarded: list[Guarded],
    settings: IngestSettings,
    progress: Progress,
) -> tuple[str, Rule]:
    """Search the arrival for all guarded text, and decide which shared runs are boilerplate; see ``make_rule``."""
    work = partial(find_overlaps, staging=staging, guarded=guarded)
    matched = map_shards(work, shards, progress, "comparing with held-out text", "documents")
    num_words = sum(one["words"] for one in matched)
    return make_rule(staging, shards, num_words, settings.decontaminate, progress)


def guard_validation(out: Folder, index: Folder, settings: IngestSettings) -> Folder:
    """Store the word sequences of the validation split, to guard this and all later arrivals' training text."""
    texts = (text for batch in read_documents(out / "validation", ["text"]) for text in batch["text"].to_pylist())
    write_guard(index / GUARD, f"validation of {index.name}", texts, settings.decontaminate)
    return index / GUARD


def enter_decided(account: Account, counted: list[dict[str, Any]]) -> tuple[int, int]:
    """Enter the fates of pass 2 into the account; return the documents and bytes held out for validation."""
    documents, sizes = (np.array([one[part] for one in counted]).sum(axis=0) for part in ("documents", "bytes"))
    left = np.array([documents.sum(), sizes.sum()])
    for name, fates in DECIDED.items():
        step = StepAccount(documents_in=int(left[0]), bytes_in=int(left[1]))
        for fate in fates:
            left -= (documents[fate], sizes[fate])
            if documents[fate]:
                step.reasons[REASONS.get(fate, HELD_OUT)] = int(documents[fate])
        step.documents_out, step.bytes_out = left.tolist()
        account.steps[name] = step
    return int(documents[Fate.VALIDATE]), int(sizes[Fate.VALIDATE])


def enter_settled(account: Account, settled: list[dict[str, Any]], rule: Rule | None) -> Decontaminated:
    """Enter pass 3 into the account; return what it removed."""
    clean, totals, guards, reasons = StepAccount(), Counter[str](), Counter[str](), Counter[str]()
    for made in settled:
        clean.add(StepAccount(made["entered"], made["documents"], made["entered_bytes"], made["bytes"]))
        clean.reasons.update(made["removed"])
        totals.update({name: made[name] for name in ("cut", "cuts", "cut_bytes")})
        guards.update(made["guards"])
        reasons.update(made["cut_for"])
        account.add(Account.from_json(made["account"]))
    account.steps[CONTAMINATED] = clean
    return Decontaminated(
        guards=dict(guards.most_common()),
        documents=totals["cut"],
        cuts=totals["cuts"],
        num_bytes=totals["cut_bytes"],
        reasons=reasons,
        rule=rule,
    )


def refuse_empty(inputs: list[InputFile], out: Folder, account: Account) -> NoReturn:
    """Refuse an arrival without training documents, and report the reasons."""
    listing = ", ".join(f"{count} × {reason}" for reason, count in account.refused.most_common()) or "no records"
    discard(out / STAGING)
    raise UsageError(
        f"no new document remains of {inputs[0].name} … ({listing}); see the refused records in {out / 'quarantine'}"
    )


def refuse_most(inputs: list[InputFile], out: Folder, removed: list[Removal], settings: IngestSettings) -> None:
    """Refuse an arrival if a step removed more than the limit: the data is broken, or a setting is wrong for it."""
    over = [one for one in removed if one.counts_against > settings.max_removed]
    if over:
        discard(out / STAGING)
        worst = max(one.counts_against for one in over)
        enough = min(1.0, (int(worst * 100) + 1) / 100)
        raise UsageError(
            f"{inputs[0].name} …: {'; '.join(describe(one) for one in over)}. No step may remove more than "
            f"ingest.max_removed = {settings.max_removed:g}, so nothing is trained. See the refused records in "
            f"{out / 'quarantine'}; to accept the arrival: --set ingest.max_removed={enough:g}"
        )


def outcome_of(
    account: Account,
    decision: Decision,
    validation: tuple[int, int],
    taken: Decontaminated,
    lost: int,
    digest: str,
    removed: list[Removal],
) -> IngestOutcome:
    """Return the outcome for the update's record."""
    settled = account.steps[CONTAMINATED]
    repeats = {fate: decision.drops[REASONS[fate]] for fate in ORDER}
    before = repeats[Fate.EARLIER_EXACT] + repeats[Fate.EARLIER_NEAR]
    reasons = sum((step.reasons for name, step in account.steps.items() if name not in DECIDED), Counter[str]())
    return IngestOutcome(
        documents=settled.documents_out,
        num_bytes=settled.bytes_out,
        validation_documents=validation[0],
        validation_bytes=validation[1],
        quarantined=sum(
            step.documents_in - step.documents_out for name, step in account.steps.items() if name not in DECIDED
        ),
        reasons=dict(sorted(reasons.items())),
        duplicates=sum(repeats.values()) - before,
        duplicates_earlier=before,
        digest=digest,
        lost_shards=lost,
        cut_documents=taken.documents,
        cut_bytes=taken.num_bytes,
        removals=[one.to_json() for one in removed],
    )
