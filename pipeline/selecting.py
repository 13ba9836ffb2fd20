"""Selection in an update: scores, choices by them, the classifier's reference set, the model whose perplexity ranks."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.lineage import Lineage
from pipeline.recorded import refuse_changed_model
from stages import ingest, select, tokenize
from stages.errors import UsageError
from stages.losses import VERSION as READING
from stages.pool import Reading
from stages.storage import Folder

if TYPE_CHECKING:
    from pipeline.making import Making


@dataclass(frozen=True)
class Reference:
    """The classifier's good examples: a dataset of the lineage, or files that are still to be read."""

    dataset: str | None
    files: list[ingest.InputFile]


def find_reference(
    lineage: Lineage, settings: select.SelectSettings, reading: ingest.IngestSettings
) -> Reference | None:
    """What ``select.reference`` means here; none where nothing is ranked by a classifier.

    Raises ``UsageError`` where it is neither a dataset of the lineage nor a path to files that can be read.
    """
    if settings.by != "classifier" or settings.reference is None:
        return None
    known = list(lineage.datasets())
    if settings.reference in known:
        return Reference(settings.reference, [])
    if not Path(settings.reference).exists() and not any(sign in settings.reference for sign in "*?["):
        raise UsageError(
            f"select.reference: {settings.reference!r} is neither a dataset of this lineage "
            f"({', '.join(known) or 'there are none'}) nor a path to files"
        )
    return Reference(None, ingest.find_inputs([settings.reference], reading))


def run_choose(
    making: "Making", step: str, name: str, tokens: tokenize.TokenizeOutcome, share: float, out: Folder
) -> select.SelectOutcome:
    """The best ``share`` of an arrival, as a selection in ``out``; its scores are taken once, for every share."""
    settings, scores = making.recipe.select, making.folder / "scores" / name
    scored = run_score(making, name, tokens, scores)
    return making.runner.run(
        step,
        lambda: select.run(scores, out, settings, share, making.runner.progress),
        select.SelectOutcome,
        out,
        {"by": settings.by, "share": share, "trim": settings.trim},
        {"scores": scored.digest},
    )


def run_score(making: "Making", name: str, tokens: tokenize.TokenizeOutcome, out: Folder) -> select.ScoreOutcome:
    """The quality of each of an arrival's documents."""
    recipe, settings = making.recipe, making.recipe.select
    decides, inputs = settings.scoring(), {"tokens": tokens.digest}
    reference, judge = run_reference(making), None
    if reference is not None:
        inputs["reference"] = reference[1]
    if settings.by == "perplexity":
        model, inputs["model"] = judging_model(making.lineage, settings)
        refuse_changed_model(making.lineage, model)
        gpus, actors = making.places()
        reading = Reading(recipe.train.seq_len, settings.batch_size, gpus)
        judge = select.Judge(model, reading, actors)
        decides |= {"seq_len": reading.seq_len, "reading": READING}
    return making.runner.run(
        f"score {name}" if len(making.arrival.inputs) > 1 else "score",
        lambda: select.score(
            making.workspace.dataset(name) / "documents",
            making.train_tokens(name),
            out,
            settings,
            recipe.seed,
            making.runner.progress,
            reference=None if reference is None else reference[0],
            judge=judge,
        ),
        select.ScoreOutcome,
        out,
        {**decides, "seed": recipe.seed},
        inputs,
    )


def run_reference(making: "Making") -> tuple[Folder, str] | None:
    """The documents that the classifier's good examples are drawn from, and their digest."""
    reading, lineage = making.recipe.ingest, making.lineage
    found = find_reference(lineage, making.recipe.select, reading)
    if found is None:
        return None
    if found.dataset is not None:
        update = lineage.datasets()[found.dataset]
        return making.workspace.dataset(found.dataset) / "documents", lineage.read(update.id).data[
            found.dataset
        ].ingest.digest
    folder = making.folder / "reference"
    read = making.runner.run(
        "reference",
        lambda: ingest.run(found.files, folder, reading, [], folder / "dedup", making.runner.progress),
        ingest.IngestOutcome,
        folder,
        reading.identity(),
        {"data": ingest.digest_inputs(found.files, making.runner.progress)},
        version=ingest.VERSION,
    )
    return folder / "documents", read.digest


def judging_model(lineage: Lineage, settings: select.SelectSettings) -> tuple[Folder, str]:
    """The model whose perplexity ranks, and the digest of its weights: the start of the update, or the base's trunk."""
    update = lineage.learned[0 if settings.model == "base" else -1]
    return lineage.workspace.update(update.id) / "trunk" / "model", update.facts.weights.trunk
