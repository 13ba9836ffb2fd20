"""A base that someone else trained: taken over as it is, with the text that it writes itself where D0 is not there."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

from pipeline.card.write import CARD
from pipeline.config import Recipe
from pipeline.gathering import PROVED, run_tokenize, run_tokenizer
from pipeline.learning import run_evaluate
from pipeline.making import Data, Making, Start, Tokenizer
from pipeline.record import UpdateRecord
from pipeline.recording import account
from pipeline.steps import ALL, Keeps, seal
from stages import anneal, distill, evaluate, ingest, replay, train
from stages.digests import FILES
from stages.storage import Folder


@dataclass(frozen=True)
class Imported:
    """A base that was trained elsewhere, as the lineage's tokenizer and first trunk."""

    tokenizer: Tokenizer
    start: Start


def import_base(making: Making) -> Imported:
    """Tokenizer and weights, before any document: ``UsageError`` where they are no whole model."""
    return Imported(run_tokenizer(making), run_import(making))


def take_over(making: Making, data: Data, start: Start) -> UpdateRecord:
    """Trunk and release as the model is. Datasets that come with it are D0's, or stand for them, or it writes one."""
    documents, tokens = data.documents, data.tokens
    trained = train.TrainOutcome(0, 0, 0.0, start.digest, "", 0, 0.0, [])
    release = anneal.AnnealOutcome(False, "the model was imported as it is", 0, 0, start.digest, 0.0, 0.0, [])
    copied = making.folder / "release"
    copied.delete(FILES)  # of an attempt that was killed
    anneal.copy_model(making.folder / "trunk", copied)
    (copied / "model").delete(CARD)  # the imported model's, which the trunk keeps: the release gets one of its own
    making.runner.files[copied] = seal(copied, ALL)
    written = run_distill(making, start, documents) if making.distilled_tokens else None
    if written is not None:
        documents = {**documents, distill.NAME: as_ingested(written)}
        tokens = {**tokens, distill.NAME: run_tokenize(making, distill.NAME, documents[distill.NAME], data.tokenizer)}
    scores = run_evaluate(making, trained, release, tokens) if tokens else evaluate.EvaluateOutcome()
    nothing = replay.ReplayOutcome(0, 0, 0, 0.0, 0.0, "none", 0.0, {})
    made = account(making, documents, tokens, {}, nothing, trained, release, scores, written)
    return replace(made, notes=[*made.notes, f"tokenizer: {data.tokenizer.form}"])


def run_import(making: Making) -> Start:
    """Someone's Hugging Face folder → the trunk."""
    source, trunk = Path(str(making.recipe.model.path)), making.folder / "trunk"
    return making.runner.run(
        "import",
        lambda: Start(
            **train.import_model(source, trunk, making.workspace.tokenizer, making.recipe.train.document_mask)
        ),
        Start,
        trunk,
        {},
        {"model": train.digest_folder(source)},
    )


def run_distill(making: Making, start: Start, documents: dict[str, ingest.IngestOutcome]) -> distill.DistillOutcome:
    """The imported model → document shards that it writes itself."""
    recipe, wanted, earlier = making.recipe, making.distilled_tokens, list(making.arrival.inputs)
    folder, index = making.workspace.dataset(distill.NAME), making.workspace.dedup(distill.NAME)
    prompts, digest = find_prompts(making, documents)
    gpus, actors = distill_places(recipe)
    done = making.runner.run(
        "distill",
        lambda: distill.run(
            making.folder / "trunk" / "model",
            start.digest,
            making.workspace.tokenizer,
            prompts,
            folder,
            recipe.distill,
            [making.workspace.dedup(name) for name in earlier],
            index,
            tokens=wanted,
            seq_len=recipe.train.seq_len,
            validation_share=recipe.ingest.validation_share,
            seed=recipe.seed,
            num_actors=actors,
            gpus=gpus,
            progress=making.runner.progress,
        ),
        distill.DistillOutcome,
        folder,
        {
            **recipe.distill.identity(),
            "tokens": wanted,
            "max_tokens": recipe.distill.length(recipe.train.seq_len),
            "validation_share": recipe.ingest.validation_share,
            "seed": recipe.seed,
        },
        {"model": start.digest, "prompts": digest, "earlier": earlier},
        version=distill.VERSION,
        keeps=Keeps(PROVED, (index,)),
    )
    distill.discard_drafts(folder)
    return done


def find_prompts(making: Making, documents: dict[str, ingest.IngestOutcome]) -> tuple[Folder | None, str | None]:
    """Document shards to take prompts from, and their digest: of a dataset that came along, or of files."""
    given, settings, progress = making.recipe.distill.prompts, making.recipe.ingest, making.runner.progress
    if given is None:
        return None, None
    if given in documents:
        return making.workspace.dataset(given) / "documents", documents[given].digest
    inputs, folder = ingest.find_inputs([given], settings, progress), making.folder / "prompts"
    taken = making.runner.run(
        "ingest prompts",
        lambda: ingest.run(inputs, folder, settings, [], folder / "dedup", progress),
        ingest.IngestOutcome,
        folder,
        settings.identity(),
        {"data": ingest.digest_inputs(inputs, progress)},
        version=ingest.VERSION,
    )
    return folder / "documents", taken.digest


def distill_places(recipe: Recipe) -> tuple[bool, int]:
    """Whether the model writes on GPUs, and on how many actors."""
    gpus, most = train.model_places(recipe.train)
    return gpus, min(recipe.distill.num_actors or most, most)


def as_ingested(written: distill.DistillOutcome) -> ingest.IngestOutcome:
    """The counts of a distilled dataset, as those of any other are kept."""
    counted = [field.name for field in fields(ingest.IngestOutcome) if hasattr(written, field.name)]
    return ingest.IngestOutcome(**{name: getattr(written, name) for name in counted})
