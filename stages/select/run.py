"""The select stage: scores every training document of an arrival once, then selects by score as often as needed.

Documents are selected best first until they fill the requested share of tokens. Scores by perplexity are mean losses
under a model: the perplexity is their exponential and gives the same ranking.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from rewarm.stages.core.errors import StageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokens import TokenStream, write_selection
from rewarm.stages.inference.actors import OFFLINE, QUIET, LossPiece, LossWorker, Pool, Reading
from rewarm.stages.inference.losses import PIECE_TOKENS, join_pieces, plan_pieces
from rewarm.stages.select.classifier import classify
from rewarm.stages.select.settings import SelectOutcome, SelectSettings


def perplexities(
    tokens: Folder,
    model: Folder,
    out: Folder,
    reading: Reading,
    num_actors: int,
    progress: Progress,
    piece_tokens: int = PIECE_TOKENS,
) -> np.ndarray:
    """Return the mean nats per token (float64) of each document of a token folder, end-of-text included.

    Runs of documents are sent to a pool of Ray actors; each writes its sums to ``out/pieces``, and existing pieces are
    not computed again.
    """
    stream, pieces = TokenStream(tokens), out / "pieces"
    runs = plan_pieces(stream.document_spans()[0], piece_tokens)
    names = [f"{number:06d}.npz" for number in range(len(runs))]
    finished = set(pieces.files(".npz"))
    left = [
        LossPiece(model, tokens, documents, pieces, name)
        for documents, name in zip(runs, names, strict=True)
        if name not in finished
    ]
    if left:
        with Pool(num_actors, reading.gpus, QUIET | OFFLINE) as pool:  # ended before training, which needs its room
            pool.work_through(LossWorker, reading, left, "perplexity", progress)
    nats, counts = join_pieces(pieces, names, stream.num_documents)
    means: np.ndarray = nats / counts
    return means


SCORE_SCHEMA = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("num_tokens", pa.int64(), nullable=False),  # end-of-text included
    ]
)

# Sort order that puts the best first: mean nats per token, log-odds of being like the reference, a hash in [0, 1).
BEST_FIRST = {"perplexity": "ascending", "classifier": "descending", "random": "ascending"}


def ranked(table: pa.Table, by: str) -> np.ndarray:
    """Return the rows (int64) of a table of ``SCORE_SCHEMA``, best first; ties go to the lower ``doc_id``."""
    import pyarrow.compute as pc

    order = pc.sort_indices(table, sort_keys=[("score", BEST_FIRST[by]), ("doc_id", "ascending")])
    return np.asarray(order.to_numpy(), dtype=np.int64)


def choose(sizes: np.ndarray, share: float, trim: float) -> slice:
    """Return the slice of ranked documents to select, given their sizes in tokens (int64, best first).

    The first documents that fill ``trim`` of the tokens are skipped; then documents are selected until they fill
    ``share`` of the tokens, including the one that fills it, and at least one. Fewer if they run out.
    """
    total = int(sizes.sum())
    before = np.cumsum(sizes) - sizes  # tokens of the documents ranked better
    first = int(np.searchsorted(before, round(trim * total)))
    if first == len(sizes):
        return slice(first, first)
    wanted = max(1, round(share * total))
    return slice(first, int(np.searchsorted(before, before[first] + wanted)))


SELECTED = "selected"  # view (``stages.data.mixture.Source.view``) of a dataset with its selected documents
SCORES = "scores.parquet"
RANKING = "ranking.parquet"  # next to a selection: the scores, and whether each document was selected


@dataclass(frozen=True)
class Judge:
    """The model whose perplexity ranks documents, its reading settings, and the number of actors."""

    model: Folder  # Hugging Face folder
    reading: Reading
    num_actors: int


@dataclass(frozen=True)
class ScoreOutcome:
    """Outcome of scoring."""

    documents: int
    tokens: int
    lowest: float
    mean: float
    highest: float
    separation: float | None  # classifier: area under the ROC curve on held-out examples; ½ is chance
    digest: str  # of the scores, in document order


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

    ``documents`` and ``tokens`` are its document and token shards, with the same rows. ``classifier`` needs
    ``reference`` (document shards), ``perplexity`` a ``judge``. Work finished by an earlier call is not repeated.

    Raises:
        UsageError: the reference set is too small for a classifier.
        StageError: a score is not a number, or the shards do not match.
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
            f"{out}: {len(broken)} scores by {settings.by} are not numbers; the first is that of document {worst}"
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


def run(scores: Folder, out: Folder, settings: SelectSettings, share: float, progress: Progress) -> SelectOutcome:
    """Select ``share`` of the tokens by the scores that ``score`` wrote to ``scores``.

    Writes to ``out`` the selection (``stages.data.tokens``) and ``ranking.parquet``: ``doc_id``, ``score``,
    ``num_tokens``, ``chosen``, one row per document, in the order of the shards.

    Raises:
        StageError: no document is left after ``trim``.
    """
    table = pq.read_table(scores.local(SCORES))
    order = ranked(table, settings.by)
    sizes = table.column("num_tokens").to_numpy()
    chosen = choose(sizes[order], share, settings.trim)
    if chosen.start == chosen.stop:
        raise StageError(f"{scores}: select.trim {settings.trim} leaves none of {len(order)} documents to select")
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
    """Return ``doc_id`` (memory-mapped) and ``num_tokens`` of every document of a split, in shard order."""
    import pyarrow.compute as pc

    tables = []
    for name in tokens.files(".arrow"):
        shard = pa.ipc.open_file(pa.memory_map(str(tokens.local(name)))).read_all()
        tables.append(
            pa.table({"doc_id": shard["doc_id"], "num_tokens": pc.list_value_length(shard["tokens"]).cast(pa.int64())})
        )
    return pa.concat_tables(tables)


def draw(seed: int, doc_id: str) -> float:
    """Return a uniform number in [0, 1) that depends on the document and the seed alone."""
    return float(xxhash.xxh3_64_intdigest(f"{seed}/select/{doc_id}".encode()) >> 11) * 2.0**-53
