"""Select: score every training document of an arrival once, then choose by the scores as often as that is needed."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from stages.errors import StageError
from stages.pool import Reading
from stages.progress import Progress
from stages.select.choose import SCORE_SCHEMA, choose, ranked
from stages.select.classifier import classify
from stages.select.perplexity import perplexities
from stages.select.settings import SelectSettings
from stages.storage import Folder
from stages.tokens import write_selection

SELECTED = "selected"  # the view (``stages.mixture.Source.view``) of a dataset whose documents were chosen
SCORES = "scores.parquet"
RANKING = "ranking.parquet"  # beside a selection: the scores, and which documents they chose


@dataclass(frozen=True)
class Judge:
    """The model whose perplexity ranks, how it reads, and on how many actors."""

    model: Folder  # Hugging Face folder
    reading: Reading
    num_actors: int


@dataclass(frozen=True)
class ScoreOutcome:
    """What was scored."""

    documents: int
    tokens: int
    lowest: float
    mean: float
    highest: float
    separation: float | None  # classifier: area under the ROC curve on examples it was not fitted on; ½ is chance
    digest: str  # of the scores, in the documents' order


def score(
    documents: Folder,
    tokens: Folder,
    out: Folder,
    settings: SelectSettings,
    seed: int,
    progress: Progress,
    *,
    reference: Folder | None = None,
    judge: Judge | None = None,
) -> ScoreOutcome:
    """Write ``out/scores.parquet`` (``doc_id``, ``score``, ``num_tokens``) for the training split of one dataset.

    ``documents`` and ``tokens`` are its document and token shards, row for row the same. ``classifier`` needs
    ``reference`` (document shards), ``perplexity`` a ``judge``. What an earlier call finished is not done again.

    Raises:
        UsageError: the reference set is too small to learn from.
        StageError: a score is not a number, or the shards do not belong together.
    """
    table, separation = token_counts(tokens), None
    if settings.by == "classifier":
        assert reference is not None
        values, separation = classify(documents, table.column("doc_id"), reference, out, settings, seed, progress)
    elif settings.by == "perplexity":
        assert judge is not None
        values = perplexities(tokens, judge.model, out, judge.reading, judge.num_actors, progress)
    else:
        values = np.array([draw(seed, doc_id.as_py()) for doc_id in table.column("doc_id")])
    broken = np.flatnonzero(~np.isfinite(values))
    if len(broken):
        worst = table.column("doc_id")[int(broken[0])].as_py()
        raise StageError(
            f"{out}: {len(broken)} scores by {settings.by} are not numbers, the first is that of document {worst}"
        )
    with out.writing(SCORES) as scratch:
        pq.write_table(table.add_column(1, "score", pa.array(values)).cast(SCORE_SCHEMA), scratch, compression="zstd")
    for part in ("pieces", "shards", "examples"):
        out.delete(part)
    return ScoreOutcome(
        documents=len(values),
        tokens=int(table.column("num_tokens").to_numpy().sum()),
        lowest=float(values.min()),
        mean=float(values.mean()),
        highest=float(values.max()),
        separation=separation,
        digest=str(xxhash.xxh3_128_hexdigest(values.astype("<f8").tobytes())),
    )


@dataclass(frozen=True)
class SelectOutcome:
    """What was chosen of an arrival's training documents."""

    by: str
    documents: int  # in all
    tokens: int
    chosen_documents: int
    chosen_tokens: int
    best: float  # score of the first document chosen
    threshold: float  # score of the last one
    digest: str  # of the chosen rows


def run(scores: Folder, out: Folder, settings: SelectSettings, share: float, progress: Progress) -> SelectOutcome:
    """Choose ``share`` of the tokens by the scores that ``score`` left in ``scores``.

    Leaves in ``out`` the selection (``stages.tokens``) and ``ranking.parquet``: ``doc_id``, ``score``, ``num_tokens``,
    ``chosen``, a row a document, in the order of the shards.

    Raises:
        StageError: after ``trim`` no document is left.
    """
    table = pq.read_table(scores.local(SCORES))
    order = ranked(table, settings.by)
    sizes = table.column("num_tokens").to_numpy()
    chosen = choose(sizes[order], share, settings.trim)
    if chosen.start == chosen.stop:
        raise StageError(f"{scores}: with select.trim {settings.trim} none of {len(order)} documents is left to choose")
    rows = np.sort(order[chosen])
    mask = np.zeros(len(order), dtype=bool)
    mask[rows] = True
    with out.writing(RANKING) as scratch:
        pq.write_table(table.append_column("chosen", pa.array(mask)), scratch, compression="zstd")
    write_selection(out, rows)
    values = table.column("score").to_numpy()
    outcome = SelectOutcome(
        by=settings.by,
        documents=len(order),
        tokens=int(sizes.sum()),
        chosen_documents=len(rows),
        chosen_tokens=int(sizes[rows].sum()),
        best=float(values[order[chosen.start]]),
        threshold=float(values[order[chosen.stop - 1]]),
        digest=str(xxhash.xxh3_128_hexdigest(rows.astype("<i8").tobytes())),
    )
    progress.note(
        f"selected by {settings.by}: {outcome.chosen_documents:,} of {outcome.documents:,} documents, "
        f"{outcome.chosen_tokens:,} of {outcome.tokens:,} tokens, scores {outcome.best:.4g} to {outcome.threshold:.4g}"
    )
    return outcome


def token_counts(tokens: Folder) -> pa.Table:
    """``doc_id`` (memory-mapped) and ``num_tokens`` of every document of a split, in the order of its shards."""
    tables = []
    for name in tokens.files(".arrow"):
        shard = pa.ipc.open_file(pa.memory_map(str(tokens.local(name)))).read_all()
        tables.append(
            pa.table({"doc_id": shard["doc_id"], "num_tokens": pc.list_value_length(shard["tokens"]).cast(pa.int64())})
        )
    return pa.concat_tables(tables)


def draw(seed: int, doc_id: str) -> float:
    """A number in [0, 1), evenly spread, from the document and the seed alone."""
    return float(xxhash.xxh3_64_intdigest(f"{seed}/select/{doc_id}".encode()) >> 11) * 2.0**-53
