"""A linear classifier of text: how much is a document like those of a reference set?

Its good examples are drawn from the reference set, the others from the arrival itself, so that it learns what sets the
reference apart from what came. Counts of hashed words go into a logistic regression (scikit-learn); a document's score
is its log-odds, not calibrated: it only ranks.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.ray_data import map_shards
from rewarm.stages.core.storage import Folder
from rewarm.stages.select.settings import SelectSettings

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

CLASSIFIER = "classifier.npz"
NUM_FEATURES = 2**18
FEWEST_EXAMPLES = 10  # of either side
HELD_OUT = 5  # one example of so many measures the classifier instead of fitting it
BATCH_DOCUMENTS = 256
EXAMPLE_SCHEMA = pa.schema([pa.field("text", pa.large_string(), nullable=False)])
SHARD_SCHEMA = pa.schema([pa.field("doc_id", pa.string()), pa.field("score", pa.float64())])


@dataclass(frozen=True)
class Classifier:
    """A fitted classifier."""

    weights: np.ndarray  # float64 [NUM_FEATURES]
    intercept: float
    separation: float  # area under the ROC curve on held-out examples


def classify(
    documents: Folder,
    doc_ids: pa.ChunkedArray,
    reference: Folder,
    out: Folder,
    settings: SelectSettings,
    seed: int,
    progress: Progress,
) -> tuple[np.ndarray, float]:
    """Log-odds (float64) of every document of ``documents``, whose ids are ``doc_ids``; the classifier's separation.

    The examples, the classifier and each shard's scores are left in ``out`` and not made again.
    """
    if not out.exists(CLASSIFIER):
        good, other = (
            draw_examples(folder, out / "examples" / side, settings, f"{seed}/{side}", progress)
            for side, folder in (("reference", reference), ("arrival", documents))
        )
        write_classifier(out, fit(good, other, settings, seed))
    separation = read_classifier(out).separation
    progress.note(f"classifier: tells the reference from the arrival with an area under the curve of {separation:.3f}")
    shards = [{**shard, "target": (out / "shards").uri} for shard in shards_of(documents)]
    map_shards(partial(score_shard, out=out, settings=settings), shards, progress, "scoring", "documents")
    table = pa.concat_tables([pq.read_table((out / "shards").local(shard["name"])) for shard in shards])
    if not table.column("doc_id").equals(doc_ids):
        raise StageError(f"{documents}: its rows are not those of the token shards; tokenize the dataset again")
    return table.column("score").to_numpy(), separation


# -- examples ----------------------------------------------------------------------------------------------------


def draw_examples(
    source: Folder, out: Folder, settings: SelectSettings, salt: str, progress: Progress
) -> Iterator[str]:
    """About ``settings.examples`` texts of a folder of document shards, each drawn by the hash of its id."""
    shards = shards_of(source)
    total = sum(shard["documents"] for shard in shards)
    if total < FEWEST_EXAMPLES:
        raise UsageError(
            f"{source}: {total} documents; a classifier needs {FEWEST_EXAMPLES} or more on either side. "
            "Give select.reference more text, or rank by something else (select.by)."
        )
    probability = min(1.0, settings.examples / total)
    work = partial(draw_shard, out=out, probability=probability, characters=settings.characters, salt=salt)
    map_shards(work, shards, progress, "drawing examples", "documents")
    return (text for shard in shards for text in pq.read_table(out.local(shard["name"])).column("text").to_pylist())


def draw_shard(shard: dict[str, Any], out: Folder, probability: float, characters: int, salt: str) -> dict[str, Any]:
    """Write the examples of one shard, unless they are there."""
    if not out.exists(shard["name"]):
        chosen = (
            text[:characters]
            for doc_id, text in read_texts(shard)
            if xxhash.xxh3_64_intdigest(f"{salt}/{doc_id}".encode()) < probability * 2**64
        )
        table = pa.table([pa.array(chosen, pa.large_string())], schema=EXAMPLE_SCHEMA)
        with out.writing(shard["name"]) as scratch:
            pq.write_table(table, scratch, compression="zstd")
    return {}


# -- the classifier ----------------------------------------------------------------------------------------------


def fit(good: Iterator[str], other: Iterator[str], settings: SelectSettings, seed: int) -> Classifier:
    """Fit on four fifths of the examples and measure on the rest. Single-threaded, so the same on every machine."""
    from scipy.sparse import vstack
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    sides = [features(list(texts), settings) for texts in (good, other)]
    counts = vstack(sides, format="csr")
    labels = np.repeat([1, 0], [side.shape[0] for side in sides])
    held_out = np.concatenate([np.arange(side.shape[0]) % HELD_OUT == 0 for side in sides])
    model = LogisticRegression(solver="liblinear", class_weight="balanced", random_state=seed)
    model.fit(counts[~held_out], labels[~held_out])
    weights, intercept = model.coef_[0], float(model.intercept_[0])
    separation = roc_auc_score(labels[held_out], counts[held_out] @ weights + intercept)
    return Classifier(weights, intercept, float(separation))


def features(texts: list[str], settings: SelectSettings) -> "csr_matrix":
    """Hashed counts, each row of length 1: ``[len(texts), NUM_FEATURES]``."""
    from sklearn.feature_extraction.text import HashingVectorizer

    analyzer, ngrams = ("word", (1, 2)) if settings.features == "words" else ("char", (2, 4))
    vectorizer = HashingVectorizer(n_features=NUM_FEATURES, analyzer=analyzer, ngram_range=ngrams, alternate_sign=False)
    counts: csr_matrix = vectorizer.transform([text[: settings.characters] for text in texts])
    return counts


def write_classifier(out: Folder, classifier: Classifier) -> None:
    """Keep a classifier."""
    buffer = io.BytesIO()
    np.savez(buffer, weights=classifier.weights, intercept=classifier.intercept, separation=classifier.separation)
    out.write(CLASSIFIER, buffer.getvalue())


def read_classifier(out: Folder) -> Classifier:
    """What ``write_classifier`` kept."""
    with np.load(io.BytesIO(out.read(CLASSIFIER))) as arrays:
        return Classifier(arrays["weights"], float(arrays["intercept"]), float(arrays["separation"]))


def score_shard(shard: dict[str, Any], out: Folder, settings: SelectSettings) -> dict[str, Any]:
    """Write the scores of one shard's documents, unless they are there."""
    target = Folder(shard["target"])
    if not target.exists(shard["name"]):
        classifier = read_classifier(out)
        with target.writing(shard["name"]) as scratch, pq.ParquetWriter(scratch, SHARD_SCHEMA) as writer:
            for batch in read_batches(shard):
                texts = batch.column("text").to_pylist()
                scores = features(texts, settings) @ classifier.weights + classifier.intercept
                writer.write_table(pa.table([batch.column("doc_id"), scores], schema=SHARD_SCHEMA))
    return {}


# -- document shards ---------------------------------------------------------------------------------------------


def shards_of(documents: Folder) -> list[dict[str, Any]]:
    """Records of a folder's document shards, in order, for ``map_shards``."""
    return [
        {"folder": documents.uri, "name": name, "documents": pq.read_metadata(documents.local(name)).num_rows}
        for name in documents.files(".parquet")
    ]


def read_texts(shard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Id and text of a shard's documents."""
    for batch in read_batches(shard):
        yield from zip(batch.column("doc_id").to_pylist(), batch.column("text").to_pylist(), strict=True)


def read_batches(shard: dict[str, Any]) -> Iterator[pa.RecordBatch]:
    """A shard's documents, some at a time."""
    with pq.ParquetFile(Folder(shard["folder"]).local(shard["name"])) as documents:
        yield from documents.iter_batches(batch_size=BATCH_DOCUMENTS, columns=["doc_id", "text"])
