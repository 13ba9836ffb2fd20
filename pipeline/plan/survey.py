"""Measurements of an arrival's contents and shift: the only planner code that reads text and runs the model."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rewarm.pipeline.gate.sites import documents_needed
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.recorded import recorded_copies, refuse_changed_model
from rewarm.pipeline.plan.amount import NORMAL_95, Amount, extrapolate, first_of_each, ratio
from rewarm.pipeline.plan.sample import Sample, take_sample
from rewarm.pipeline.recipe.recipe import Recipe, evaluation_places
from rewarm.pipeline.shift.judgement import (
    Measure,
    interval,
    judge,
    loss_ratio,
    measure,
    share_interval,
    spread_of,
    worth_of,
)
from rewarm.pipeline.shift.shift import (
    Reference,
    Shift,
    contained,
    divergence,
    divergence_beyond_chance,
    frequencies,
    languages,
    merged,
    new_share,
    sampling_bias,
    shingles,
)
from rewarm.stages import evaluate, ingest, tokenize
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.storage import Folder
from rewarm.stages.core.temporary import temporary
from rewarm.stages.data.documents import DOCUMENT_SCHEMA, shard_writer
from rewarm.stages.data.split import SplitSize, contains, read_index, threshold
from rewarm.stages.data.tokens import TokenStream
from rewarm.stages.evaluate.run import RELEASE, losses_file
from rewarm.stages.inference.actors import Pool, Reading
from rewarm.stages.ingest import InputFile
from rewarm.stages.ingest.account import StepAccount
from rewarm.stages.ingest.decontaminate.overlaps import Guarded, Kind, cut_sample
from rewarm.stages.ingest.dedup.decide import REASONS, Fate
from rewarm.stages.ingest.removals import Removal, find_removals
from rewarm.stages.ingest.settle import CONTAMINATED

EMPTY = ("url", "timestamp", "language", "source", "quality")  # columns that nothing here reads
OVERLAPS = "overlaps with held-out text"
LEAST_EARLIER = 300_000  # tokens of all earlier datasets: enough documents to see what a few diverge by, by chance
MEASURED = "arrival"  # the sample's name as an evaluation set
UNKNOWN_SPREAD = 0.2  # of the loss: between documents, if no losses by document are there to tell
DOCUMENT_TOKENS = 1 << 15  # of one earlier document that are looked at


@dataclass(frozen=True)
class Survey:
    """Measurements of an arrival."""

    amount: Amount
    shift: Shift
    removals: list[Removal] = field(default_factory=list)  # what steps of ingest take of the documents read, if much


def survey(
    lineage: Lineage, inputs: Mapping[str, Sequence[InputFile]], recipe: Recipe, scratch: Folder, progress: Progress
) -> Survey:
    """Sample the arrival into ``scratch`` and compare it with the lineage; Ray must be initialised.

    Raises ``UsageError`` if the arrival has no documents, ``StageError`` if the model cannot be run on them.
    """
    settings, workspace = recipe.plan, lineage.workspace
    files = [file for found in inputs.values() for file in found]
    with temporary("sample") as own:
        sample = take_sample(files, recipe.ingest, settings.read_bytes, settings.sample_bytes, own, progress)
    known = known_documents(sample, [workspace.dedup(name) for name in lineage.datasets()])
    sample = without(sample, known)
    stored = write_sample(sample, settings.loss_bytes, scratch / "dataset" / "documents")
    tokens = scratch / "tokens"
    tokenize.run(scratch / "dataset", workspace.tokenizer, tokens, recipe.tokenize, progress)
    stream = TokenStream(tokens / "train")
    later = {"exact duplicates": duplicates(sample, known)}
    held_out = 0.0
    if recipe.ingest.decontaminate.enabled:
        step = later[CONTAMINATED] = decontaminated(sample, lineage, recipe.ingest, scratch)
        held_out = 1 - step.bytes_out / step.bytes_in if step.bytes_in else 0.0
    file_bytes = sum(file.size for file in files)
    needed = documents_needed(recipe.gate, len(lineage.datasets()) + len(inputs))
    validation = SplitSize(recipe.ingest.validation_share, needed, recipe.ingest.validation_cap)
    amount = extrapolate(sample, known, stream, stored, validation, held_out, file_bytes)
    measured = run_trunk(lineage, recipe, tokens / "train", scratch, progress)
    shift = compare(lineage, recipe, sample, known, stream, measured, progress)
    return Survey(amount, shift, removals_of(sample, later))


# -- the sample --------------------------------------------------------------------------------------------------


def known_documents(sample: Sample, indices: Sequence[Folder]) -> npt.NDArray[np.bool_]:
    """Return a mask of the documents read that earlier datasets contain."""
    known = np.zeros(len(sample.hashes), bool)
    for folder in indices:
        known |= contains(read_index(folder), sample.hashes)
    return known


def without(sample: Sample, known: npt.NDArray[np.bool_]) -> Sample:
    """Return the sample without texts that an update would drop; raise ``UsageError`` if none remain."""
    raw = sample.hashes[known].tobytes()
    repeated = {raw[start : start + 16].hex() for start in range(0, len(raw), 16)}
    texts = {doc_id: text for doc_id, text in sample.texts.items() if doc_id not in repeated}
    if not texts:
        raise UsageError(
            f"all {len(sample.texts)} sampled documents are in earlier datasets: the arrival has no new text"
        )
    return replace(sample, texts=texts)


def decontaminated(sample: Sample, lineage: Lineage, settings: ingest.IngestSettings, scratch: Folder) -> StepAccount:
    """Count the training text of the sample removed by decontamination, for earlier and its own validation splits."""
    held_out = threshold(settings.validation_share)
    trained = {doc_id: text for doc_id, text in sample.texts.items() if bytes.fromhex(doc_id) >= held_out}
    own = [text for doc_id, text in sample.texts.items() if doc_id not in trained]
    ingest.write_guard(scratch / "guard", "own", own, settings.decontaminate)
    folders = [lineage.workspace.dedup(name) / ingest.GUARD for name in lineage.datasets()]
    guarded = [Guarded(folder.uri, folder, Kind.EARLIER) for folder in folders if folder.exists()]
    guarded.append(Guarded("own", scratch / "guard", Kind.OWN))
    step, texts = StepAccount(), list(trained.values())
    for text, kept in zip(texts, cut_sample(texts, guarded, settings.decontaminate), strict=True):
        step.count(len(text.encode()), len(kept.encode()) if kept else None, OVERLAPS)
    return step


def duplicates(sample: Sample, known: npt.NDArray[np.bool_]) -> StepAccount:
    """Count the exact duplicates among the documents read."""
    first, step = first_of_each(sample.hashes), StepAccount()
    for size, again, before in zip(sample.sizes.tolist(), (~first).tolist(), known.tolist(), strict=True):
        reason = REASONS[Fate.DUPLICATE if again else Fate.EARLIER_EXACT]
        step.count(size, None if again or before else size, reason)
    return step


def removals_of(sample: Sample, later: Mapping[str, StepAccount]) -> list[Removal]:
    """Return the steps that remove much of the sample, each with its first removed record."""
    removals = find_removals({**sample.steps, **later}, {})
    return [replace(removal, sample=sample.shown.get((removal.step, removal.reason), {})) for removal in removals]


def write_sample(sample: Sample, loss_bytes: int, out: Folder) -> float:
    """The sample as document shards, the first of them for the model to run on; bytes stored per byte of text."""
    first = sample.first(loss_bytes)
    rest = {doc_id: text for doc_id, text in sample.texts.items() if doc_id not in first}
    stored = size = 0
    for number, part in enumerate(part for part in (first, rest) if part):
        rows = [
            {"doc_id": doc_id, "text": text, "num_bytes": len(text.encode())} | dict.fromkeys(EMPTY)
            for doc_id, text in part.items()
        ]
        with out.writing(f"{number:05d}.parquet") as path:
            with shard_writer(path) as sink:
                sink.write_table(pa.Table.from_pylist(rows, schema=DOCUMENT_SCHEMA))
            stored += path.stat().st_size
        size += sum(len(text.encode()) for text in part.values())
    return stored / size


# -- comparisons -------------------------------------------------------------------------------------------------


def run_trunk(lineage: Lineage, recipe: Recipe, tokens: Folder, scratch: Folder, progress: Progress) -> "Measured":
    """The trunk's losses on the sample's first shard."""
    refuse_changed_model(lineage, lineage.trunk())
    shard = scratch / "measured"
    shard.write(f"{0:05d}.arrow", tokens.read(f"{0:05d}.arrow"))
    gpus, actors = evaluation_places(recipe)
    recorded = recorded_copies(lineage, [lineage.trunk()])
    out = scratch / "evaluation"
    settings = recipe.evaluate.model_copy(update={"tasks": (), "task_documents": 0, "samples": 0})
    with Pool(actors, gpus, evaluate.worker_environment(settings)) as pool:
        found = evaluate.run(
            {RELEASE: lineage.trunk()},
            [evaluate.EvaluationSet(MEASURED, shard, scratch / "dataset" / "documents")],
            out,
            settings,
            reading=Reading(recipe.train.seq_len, recipe.evaluate.batch_size, gpus, recorded),
            pool=pool,
            progress=progress,
        )
    table = pq.read_table(out.local("losses") / losses_file(RELEASE, MEASURED))
    return Measured.of(table, found.bits_per_byte[RELEASE][MEASURED])


def compare(
    lineage: Lineage,
    recipe: Recipe,
    sample: Sample,
    known: npt.NDArray[np.bool_],
    stream: TokenStream,
    measured: "Measured",
    progress: Progress,
) -> Shift:
    """The arrival's sample against samples of the earlier datasets' training tokens."""
    import transformers

    words = transformers.AutoTokenizer.from_pretrained(lineage.workspace.tokenizer.local(), trust_remote_code=False)
    documents = list(spread_documents(stream, stream.num_tokens))
    arrival_counts = frequencies(documents, len(words))
    progress.begin("comparing with earlier data", len(lineage.datasets()), "datasets")
    counts: dict[str, npt.NDArray[np.int64]] = {}
    held_documents: dict[str, list[npt.NDArray[np.int64]]] = {}
    weights: dict[str, int] = {}
    texts: list[str] = []
    seen: list[npt.NDArray[np.uint64]] = []
    for name in lineage.datasets():
        held = TokenStream(lineage.workspace.dataset(name) / "tokens" / "train")
        earlier = list(spread_documents(held, max(int(arrival_counts.sum()), LEAST_EARLIER // len(lineage.datasets()))))
        held_documents[name] = earlier
        counts[name], weights[name] = frequencies(earlier, len(words)), held.num_tokens
        texts += [str(words.decode(tokens[:-1][:1024])) for tokens in earlier]
        seen.append(shingles(earlier))
        progress.advance()
    found = references(lineage, arrival_counts, counts, weights)
    arriving, before = languages(sample.texts.values()), languages(texts)
    new = new_share(arriving, before) if texts else None
    nearest = min(found, key=lambda one: one.divergence, default=None)
    worth = worth_of(np.array([len(tokens) for tokens in documents], np.float64))
    measures: list[Measure] = []
    if nearest is not None:
        parts = {name: held_documents[name] for name in nearest.parts}
        measures.append(frequency_measure(documents, parts, weights, nearest.name, len(words), recipe))
        if nearest.bits_per_byte:
            earlier_losses = [trunk_losses(lineage, name) for name in nearest.parts]
            measures.append(loss_measure(measured, nearest, earlier_losses, recipe))
    if new is not None:
        limits = share_interval(min(new, 1.0), worth)
        measures.append(measure("text in new languages", new, *limits, recipe.plan.new_languages))
    strength, because = judge(measures, len(documents), worth)
    return Shift(
        strength=strength,
        because=because,
        arrival_loss=measured.loss,
        base_loss=nearest.loss if nearest else None,
        arrival_bits_per_byte=measured.bits,
        base_bits_per_byte=nearest.bits_per_byte if nearest else None,
        loss_margin=measured.margin,
        divergence=nearest.divergence if nearest else None,
        nearest=nearest.name if nearest else None,
        divergences={one.name: one.divergence for one in found},
        languages=arriving,
        earlier_languages=before,
        new_languages=new,
        overlap=float(known[first_of_each(sample.hashes)].mean()),
        shingle_overlap=contained(shingles(documents), np.unique(np.concatenate(seen))) if seen else None,
        measures=measures,
        documents=len(documents),
        worth=worth,
    )


@dataclass(frozen=True)
class Measured:
    """The trunk's losses on a part of the arrival's sample."""

    loss: float  # nats per token
    margin: float | None  # half the 95 % interval of ``loss``; None for a single document
    bits: float  # per byte
    bits_error: float  # standard error of ``bits``, from the documents measured; 0 for a single one
    worth: float  # documents of equal bytes that were measured

    @classmethod
    def of(cls, table: pa.Table, bits: float) -> "Measured":
        """From a table of losses by document."""
        nats, tokens, sizes = (
            table.column(name).to_numpy().astype(np.float64) for name in ("nats", "num_tokens", "num_bytes")
        )
        loss, error = ratio(nats, tokens)
        _, by_byte = ratio(nats, sizes)
        margin = None if error is None else NORMAL_95 * error * loss
        return cls(loss, margin, bits, (by_byte or 0.0) * bits, worth_of(sizes))


def trunk_losses(lineage: Lineage, dataset: str) -> pa.Table | None:
    """The trunk's losses by document of an earlier dataset's validation split; None if they are not there."""
    assert lineage.head is not None
    folder, name = lineage.workspace.update(lineage.head.id) / "evaluation" / "losses", losses_file("trunk", dataset)
    return pq.read_table(folder.local(name)) if folder.exists(name) else None


def loss_measure(measured: Measured, nearest: Reference, earlier: Sequence[pa.Table | None], recipe: Recipe) -> Measure:
    """The loss on the arrival beside that on the nearest earlier data.

    The error of a few documents cannot be estimated from themselves, so it is at least that of as many earlier ones.
    """
    assert nearest.bits_per_byte
    tables = [table for table in earlier if table is not None]
    nats, sizes = (
        np.concatenate([np.empty(0), *(table.column(name).to_numpy().astype(np.float64) for table in tables)])
        for name in ("nats", "num_bytes")
    )
    counted = sizes > 0
    spread, worth = UNKNOWN_SPREAD * nearest.bits_per_byte, 1.0
    if counted.sum() > 1:
        bits = nats[counted] / math.log(2) / sizes[counted]
        spread, worth = spread_of(bits, sizes[counted]), worth_of(sizes[counted])
    error = max(measured.bits_error, spread / math.sqrt(measured.worth))
    return loss_ratio(measured.bits, error, nearest.bits_per_byte, spread / math.sqrt(worth), nearest.name, recipe.plan)


def frequency_measure(
    documents: Sequence[npt.NDArray[np.int64]],
    earlier: Mapping[str, Sequence[npt.NDArray[np.int64]]],
    sizes: Mapping[str, int],
    name: str,
    words: int,
    recipe: Recipe,
) -> Measure:
    """The token frequencies of the arrival beside those of the nearest earlier data."""
    weights = np.concatenate(
        [
            np.array([len(one) for one in held], np.float64) / sum(map(len, held)) * sizes[part]
            for part, held in earlier.items()
        ]
    )
    value, error = divergence_beyond_chance(
        documents, [one for held in earlier.values() for one in held], weights / weights.sum(), words
    )
    return measure(
        f"token divergence from {name}", value, *interval(value, error), recipe.plan.strong_divergence, "nats"
    )


def references(
    lineage: Lineage,
    arrival: npt.NDArray[np.int64],
    counts: Mapping[str, npt.NDArray[np.int64]],
    weights: Mapping[str, int],
) -> list[Reference]:
    """Compare the arrival with each earlier dataset and, if there are several, with all of them weighted by tokens."""
    head = lineage.read(lineage.head.id) if lineage.head else None
    losses, bits = (head.losses.get("trunk", {}), head.bits_per_byte.get("trunk", {})) if head else ({}, {})
    mixtures = {name: {name: 1.0} for name in counts}
    if len(counts) > 1:
        mixtures["all earlier data"] = {name: float(weights[name]) for name in counts}
    found = []
    for name, parts in mixtures.items():
        total = sum(parts.values())
        mixed = np.sum([counts[part] / counts[part].sum() * weight for part, weight in parts.items()], axis=0)
        size = sum(int(counts[part].sum()) for part in parts)
        first, second = merged(mixed, arrival.astype(np.float64))
        bias = sampling_bias(int(((first + second) > 0).sum()), size, int(arrival.sum()))
        measured = [part for part in parts if part in losses and part in bits]
        known = len(measured) == len(parts)
        found.append(
            Reference(
                name,
                max(0.0, divergence(first, second) - bias),
                sum(losses[part] * weight for part, weight in parts.items()) / total if known else None,
                sum(bits[part] * weight for part, weight in parts.items()) / total if known else None,
                tuple(parts),
            )
        )
    return found


def spread_documents(stream: TokenStream, limit: int) -> Iterator[npt.NDArray[np.int64]]:
    """The tokens of documents at equal distances over a stream, about ``limit`` in all."""
    ends, _ = stream.document_spans()
    if not len(ends):
        return
    count = min(len(ends), math.ceil(limit * len(ends) / stream.num_tokens))
    starts = np.concatenate([[0], ends[:-1]])
    for row in np.unique(np.linspace(0, len(ends) - 1, max(1, count)).round().astype(int)):
        length = min(int(ends[row] - starts[row]), DOCUMENT_TOKENS)
        if length > 1:
            yield stream.read(int(starts[row]), length)
