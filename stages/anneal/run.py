"""The anneal stage: a release from a branch off the trunk (Ibrahim et al. 2024, section 7.2, phase 4).

The branch starts from the end of the trunk, with its optimizer state, and reads its own mixture (``branch_data.py``)
while the learning rate decays. The trunk is left unchanged: the next update resumes from it, at η_const.

With ``average`` there is no branch: the release is the mean of the trunk's weights along its tail (2507.17634;
2505.12082). At a constant learning rate the trunk oscillates around the point that a decay would reach, and the mean of
its states comes close to that point. The settings alone decide which states are averaged: training keeps a snapshot at
those steps, independently of the checkpoint interval.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rewarm.stages import train
from rewarm.stages.anneal.branch_data import BEST, best_sources, reading
from rewarm.stages.anneal.settings import AnnealSettings
from rewarm.stages.core.digests import RESTORE, below, compare, compare_whole, refuse_damage, table_of
from rewarm.stages.core.errors import DamagedError, StageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokens import TokenSet
from rewarm.stages.train import Phase, Schedule


def anneal_from(trunk: Schedule, position: int, tokens: int, minimum: float, settings: AnnealSettings) -> Schedule:
    """Return the branch's schedule: from the trunk's rate η at ``position`` to η_end over ``tokens`` tokens.

    x runs from 0 to 1. η_end is ``minimum`` (η_min), or ``settings.final_ratio`` of η. The shapes: ``exponential``
    ``η · (η_end / η)^x`` (Ibrahim et al. 2024, section 7.2, phase 4); ``linear`` ``η_end + (η − η_end) · (1 − x)``;
    ``1-sqrt`` ``η_end + (η − η_end) · (1 − √x)`` (Hägele et al. 2024, section 3, with η_end = 0). Raises ``ValueError``
    for ``average``, which has no learning rate.
    """
    if settings.shape == "average":
        raise ValueError("anneal.shape average trains nothing, so it has no schedule")
    initial = trunk.rate(position)
    final = settings.final_rate(initial, minimum)
    return Schedule("anneal", (Phase("anneal", settings.shape, position, position + tokens, initial, final),))


if TYPE_CHECKING:
    import torch


def snapshot_steps(settings: AnnealSettings, schedule: train.Schedule, steps: int) -> tuple[int, ...]:
    """Return the steps after which a trunk of ``steps`` steps must save its weights; none unless they are averaged.

    There are ``average_last`` of them (or as many as the steps allow), evenly spaced over the last ``share``; the last
    one is the end of the trunk.
    """
    if settings.shape != "average" or schedule.decayed:
        return ()
    return last_steps(steps, settings.steps(steps), settings.average_last)


def last_steps(steps: int, length: int, most: int) -> tuple[int, ...]:
    """Return at most ``most`` of ``steps`` steps, the last one included, evenly spaced over the last ``length``."""
    count = min(most, length)
    return tuple(steps - back * length // count for back in reversed(range(count)))


def average(job: train.Job, end: str | None, out: Folder, dtype: str) -> str:
    """Write ``out/model``, the mean of a job's snapshots, summed in fp64 in order; return its digest.

    ``end`` is the digest of the weights that the job ended with, if it is known. Raises ``StageError`` if a snapshot is
    missing or damaged, or the last one is not the end of the job.
    """
    from rewarm.stages.train.weights import read_snapshot, write_model

    total: dict[str, torch.Tensor] = {}
    found = ""
    for step in job.snapshots:
        weights, found = read_snapshot(job.out, step)
        for name, weight in weights.items():
            total[name] = total[name].add_(weight) if name in total else weight.double()
    if end is not None and found != end:
        raise StageError(
            f"{job.out}: the weights of the last snapshot have digest {found}, those at the end of the run {end}; they "
            "are from different runs"
        )
    mean = {name: (summed / len(job.snapshots)).float() for name, summed in total.items()}
    return write_model(job.start.local(), mean, out, dtype, job.tokenizer)


@dataclass(frozen=True)
class AnnealOutcome:
    """Outcome of the anneal: steps and tokens are 0 if nothing was annealed, or the release is an average."""

    branched: bool
    because: str
    steps: int
    tokens: int
    digest: str  # of the release's weights
    final_rate: float
    tokens_per_second: float
    resumed_from: list[int]
    averaged: list[int] = field(default_factory=list)  # steps of the branch, else of the trunk, that were averaged
    decisions: list[train.Decision] = field(default_factory=list)  # about bad steps of the branch

    @property
    def left_out(self) -> int:
        """Tokens of the branch's steps that were skipped or left out."""
        return len(train.steps_without_effect(self.decisions)) * self.tokens // max(self.steps, 1)


def run(
    trunk: train.Job,
    trained: train.TrainOutcome,
    out: Folder,
    settings: AnnealSettings,
    minimum: float,
    group: train.Group,
    best: Mapping[str, TokenSet] | None = None,
    dtype: str = "float32",
) -> AnnealOutcome:
    """Anneal ``trunk``, a finished job, with ``group``; write the release to ``out/model``, stored in ``dtype``.

    ``minimum`` is η_min. ``best`` maps the name of each new dataset to its best documents; only ``settings.data``
    ``best`` reads them. ``average`` needs the trunk's snapshots: ``trunk.snapshots`` must be the result of
    ``snapshot_steps``. If the trunk's schedule has already decayed, or the share amounts to no step, the release is a
    copy of the trunk, which is reported.
    """
    steps, progress = settings.steps(trunk.steps), group.progress
    if trunk.schedule.decayed or not steps:
        decayed = f"the {trunk.schedule.kind} schedule has already decayed"
        because = (
            decayed if trunk.schedule.decayed else f"anneal.share {settings.share:g} of {trunk.steps} steps is none"
        )
        progress.note(f"anneal: nothing to do, {because}; the release is the trunk")
        digest = as_release(trunk, trained, out, dtype)
        return AnnealOutcome(False, because, 0, 0, digest, trained.final_rate, 0.0, [])
    if settings.shape == "average":
        return averaged(trunk, trained, out, progress, dtype)
    job, what = branch(trunk, trained, out, settings, minimum, best or {}, dtype)
    done = train.run(job, group)
    digest, merged = done.digest, ""
    if job.snapshots:
        digest = average(job, done.digest if dtype == "float32" else None, out, dtype)
        merged = f"; the mean of its weights after {len(job.snapshots)} of its steps from {job.snapshots[0]}"
    return AnnealOutcome(
        branched=True,
        because=f"branched at {job.position:,} tokens, {settings.shape} from {job.schedule.phases[0].initial:g} "
        f"to {done.final_rate:g} on {what}{merged}",
        steps=done.steps,
        tokens=done.tokens,
        digest=digest,
        final_rate=done.final_rate,
        tokens_per_second=done.tokens_per_second,
        resumed_from=done.resumed_from,
        averaged=list(job.snapshots),
        decisions=done.decisions,
    )


def branch(
    trunk: train.Job,
    trained: train.TrainOutcome,
    out: Folder,
    settings: AnnealSettings,
    minimum: float,
    best: Mapping[str, TokenSet],
    dtype: str,
) -> tuple[train.Job, str]:
    """Return the job of the branch, and a description of its data."""
    sources = best_sources(trunk.mixture, best) if settings.data == BEST else ()
    read = reading(trunk.mixture, settings, sources)
    left = sorted({source.dataset for source in trunk.mixture.new} - {source.dataset for source in sources})
    if sources and left:
        short = f"without {', '.join(left)}, whose best part fills no sequence of {trunk.mixture.seq_len} tokens"
        read = dataclasses.replace(read, what=f"{read.what}, {short}")
    states, none = averaged_states(settings, read.steps)
    views = {source.key: best[source.dataset] for source in sources}
    known = {source.dataset: trunk.shards.get(source.key) for source in trunk.mixture.new}
    shards = {source.key: table for source in sources if (table := known.get(source.dataset)) is not None}
    position = trunk.position + trained.tokens
    tokens = read.steps * read.mixture.tokens_per_step
    made = table_of(trunk.out)
    job = dataclasses.replace(
        trunk,
        name="anneal",
        mixture=read.mixture,
        first=read.first,
        steps=read.steps,
        position=position,
        schedule=anneal_from(trunk.schedule, position, tokens, minimum, settings),
        start=trunk.out / "model",
        start_digest=trained.digest,
        start_files=None if made is None else below(made, "model"),
        teacher_digest=trunk.teacher_digest or trunk.start_digest,
        start_checkpoint=trained.checkpoint or None,
        tokens={**trunk.tokens, **views},
        shards={**trunk.shards, **shards},
        out=out,
        settings=trunk.settings.model_copy(update={"validate_first": False}),  # the branch has no stability gap
        seed=trunk.seed + 1,
        snapshots=states,
        dtype=dtype,
    )
    return job, read.what + none


def averaged_states(settings: AnnealSettings, steps: int) -> tuple[tuple[int, ...], str]:
    """Return the steps of a branch whose states are averaged, and a remark if the share of it amounts to none."""
    length = round(settings.average_share * steps)
    if settings.average_share and not length:
        share = f"anneal.average_share {settings.average_share:g} of {steps} steps"
        return (), f", and {share} is none, so that no states are averaged"
    return last_steps(steps, length, settings.average_last), ""


def averaged(
    trunk: train.Job, trained: train.TrainOutcome, out: Folder, progress: Progress, dtype: str
) -> AnnealOutcome:
    """Write the release as the mean of the trunk's snapshots."""
    steps = list(trunk.snapshots)
    assert steps, "the trunk must keep its weights: Job.snapshots comes from snapshot_steps"
    because = (
        f"the mean of the trunk's weights after {len(steps)} of its steps, {steps[0]} to {steps[-1]}; nothing trained"
    )
    digest = average(trunk, trained.digest, out, dtype)
    progress.note(f"anneal: the release is {because}")
    return AnnealOutcome(False, because, 0, 0, digest, trained.final_rate, 0.0, [], steps)


def as_release(trunk: train.Job, trained: train.TrainOutcome, out: Folder, dtype: str) -> str:
    """Write the trunk's model as the release, in ``dtype``; return the digest of the stored weights.

    Raises ``DamagedError`` if the trunk differs from what its training left.
    """
    if dtype == "float32":
        copy_model(trunk.out, out)
        return trained.digest
    from rewarm.stages.train.weights import digest, load_model, model_weights, write_model

    model = trunk.out / "model"
    if (table := table_of(trunk.out)) is not None:
        refuse_damage(model, compare_whole(model, below(table, "model")))
    weights = dict(model_weights(load_model(model.local())))
    if (found := digest(weights.items())) != trained.digest:
        raise DamagedError(f"{model}: expected weights of digest {trained.digest}, found {found}; {RESTORE}")
    return write_model(model.local(), weights, out, dtype, trunk.tokenizer)


def copy_model(trunk: Folder, out: Folder) -> None:
    """Copy the trunk's model as the release. Raises ``DamagedError`` if the copy differs from the recorded files."""
    import pyarrow.fs as pafs

    filesystem, source = trunk.filesystem()
    with out.writing("model") as folder:
        folder.mkdir(parents=True)
        pafs.copy_files(
            f"{source}/model", str(folder), source_filesystem=filesystem, destination_filesystem=pafs.LocalFileSystem()
        )
        if (table := table_of(trunk)) is not None:
            refuse_damage(trunk / "model", compare(Folder(folder), below(table, "model")))
