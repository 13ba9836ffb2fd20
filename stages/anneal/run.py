"""Anneal a release off the trunk (Ibrahim et al. 2024, section 7.2, phase 4).

The branch starts at the trunk's end, with its optimizer state, and reads the last part of the mixture once more while
the learning rate decays exponentially. The trunk stays as it is: the next update goes on from there, at η_const.
"""

import dataclasses
from dataclasses import dataclass

from pydantic import Field

from stages import train
from stages.progress import Progress
from stages.settings import Settings
from stages.storage import Folder


class AnnealSettings(Settings):
    """The branch that makes a release of an infinite schedule's trunk."""

    share: float = Field(default=0.15, ge=0, le=1)
    """Length of the branch as a share of the update's tokens (about 15 % in the paper); 0: the release is the trunk."""


@dataclass(frozen=True)
class AnnealOutcome:
    """What the branch trained; nothing where there was nothing to anneal."""

    branched: bool
    because: str
    steps: int
    tokens: int
    digest: str  # of the release's weights
    final_rate: float
    tokens_per_second: float
    resumed_from: list[int]


def run(
    trunk: train.Job,
    trained: train.TrainOutcome,
    out: Folder,
    settings: AnnealSettings,
    minimum: float,
    progress: Progress,
) -> AnnealOutcome:
    """Leave a release in ``out/model``: ``trunk``, the finished job, annealed down to the rate ``minimum`` (η_min).

    A no-op that copies the trunk and says so where its schedule has already decayed, or the share is 0.
    """
    steps = round(settings.share * trunk.steps)
    if trunk.schedule.decayed or not steps:
        decayed = f"the {trunk.schedule.kind} schedule has already decayed"
        because = decayed if trunk.schedule.decayed else "anneal.share is 0"
        progress.note(f"anneal: nothing to do, {because}; the release is the trunk")
        copy_model(trunk.out, out)
        return AnnealOutcome(False, because, 0, 0, trained.digest, trained.final_rate, 0.0, [])
    position = trunk.position + trained.tokens
    job = dataclasses.replace(
        trunk,
        name="anneal",
        first=trunk.first + trunk.steps - steps,
        steps=steps,
        position=position,
        schedule=train.anneal_from(trunk.schedule, position, steps * trunk.mixture.tokens_per_step, minimum),
        start=trunk.out / "model",
        start_checkpoint=trained.checkpoint,
        out=out,
        seed=trunk.seed + 1,
    )
    done = train.run(job, progress)
    return AnnealOutcome(
        branched=True,
        because=f"branched at {position:,} tokens, from {job.schedule.phases[0].initial:g} to {done.final_rate:g}",
        steps=done.steps,
        tokens=done.tokens,
        digest=done.digest,
        final_rate=done.final_rate,
        tokens_per_second=done.tokens_per_second,
        resumed_from=done.resumed_from,
    )


def copy_model(trunk: Folder, out: Folder) -> None:
    """Copy the trunk's model as the release."""
    import pyarrow.fs as pafs

    filesystem, source = trunk.filesystem()
    with out.writing("model") as folder:
        folder.mkdir(parents=True)
        pafs.copy_files(
            f"{source}/model", str(folder), source_filesystem=filesystem, destination_filesystem=pafs.LocalFileSystem()
        )
