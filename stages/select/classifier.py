"""A linear text classifier that scores a document's similarity to a reference set.

Its positive examples are drawn from the reference set and the negative ones from the arrival itself, so that it learns
what distinguishes the reference from the arrival. Counts of hashed words are fed to a logistic regression
(scikit-learn); a document's score is its log-odds, which is not calibrated and only used for ranking.
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
FEWEST_EXAMPLES = 10  # of either class
HELD_OUT = 5  # one example in this many is held out to measure the classifier
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
    """Score every document of ``documents``, whose ids are ``doc_ids``: log-odds (float64), and the separation.

    The examples, the classifier and each shard's scores are written to ``out`` and reused by a later call.
    """
    if not out.exists(CLASSIFIER):
        good, other = (
            draw_examples(folder, out / "examples" / side, settings, f"{seed}/{side}", progress)
            for side, folder in (("reference", reference), ("arrival", documents))
        )
        write_classifier(out, fit(good, other, settings, seed))
    separation = read_classifier(out).separation
    progress.note(f"classifier: separates reference and arrival with an area under the ROC curve of {separation:.3f}")
    shards = [{**shard, "target": (out / "shards").uri} for shard in shards_of(documents)]
    map_shards(partial(score_shard, out=out, settings=settings), shards, progress, "scoring", "documents")
    table = pa.concat_tables([pq.read_table((out / "shards").local(shard["name"])) for shard in shards])
    if not table.column("doc_id").equals(doc_ids):
        raise StageError(f"{documents}: its rows do not match the token shards; tokenize the dataset again")
    return table.column("score").to_numpy(), separation


# -- examples ----------------------------------------------------------------------------------------------------


def draw_examples(
    source: Folder, out: Folder, settings: SelectSettings, salt: str, progress: Progress
) -> Iterator[str]:
    """Draw about ``settings.examples`` texts from a folder of document shards, each by the hash of its id."""
    shards = shards_of(source)
    total = sum(shard["documents"] for shard in shards)
    if total < FEWEST_EXAMPLES:
        raise UsageError(
            f"{source}: {total} documents; a classifier needs {FEWEST_EXAMPLES} or more of either class. "
            "Add text to select.reference, or rank by another criterion (select.by)."
        )
    probability = min(1.0, settings.examples / total)
    work = partial(draw_shard, out=out, probability=probability, characters=settings.characters, salt=salt)
    map_shards(work, shards, progress, "drawing examples", "documents")
    return (text for shard in shards for text in pq.read_table(out.local(shard["name"])).column("text").to_pylist())


def draw_shard(shard: dict[str, Any], out: Folder, probability: float, characters: int, salt: str) -> dict[str, Any]:
    """Write the examples of one shard, unless they exist."""
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
    """Fit on four fifths of the examples and measure on the rest. Single-threaded, so every machine gives the same."""
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
    """Return hashed counts, each row normalised to length 1: ``[len(texts), NUM_FEATURES]``."""
    from sklearn.feature_extraction.text import HashingVectorizer

    analyzer, ngrams = ("word", (1, 2)) if settings.features == "words" else ("char", (2, 4))
    vectorizer = HashingVectorizer(n_features=NUM_FEATURES, analyzer=analyzer, ngram_range=ngrams, alternate_sign=False)
    counts: csr_matrix = vectorizer.transform([text[: settings.characters] for text in texts])
    return counts


def write_classifier(out: Folder, classifier: Classifier) -> None:
    """Write a classifier."""
    buffer = io.BytesIO()
    np.savez(buffer, weights=classifier.weights, intercept=classifier.intercept, separation=classifier.separation)
    out.write(CLASSIFIER, buffer.getvalue())


def read_classifier(out: Folder) -> Classifier:
    """Read what ``write_classifier`` wrote."""
    with np.load(io.BytesIO(out.read(CLASSIFIER))) as arrays:
        return Classifier(arrays["weights"], float(arrays["intercept"]), float(arrays["separation"]))


def score_shard(shard: dict[str, Any], out: Folder, settings: SelectSettings) -> dict[str, Any]:
    """Write the scores of one shard's documents, unless they exist."""
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
    """Return records of a folder's document shards, in order, for ``map_shards``."""
    return [
        {"folder": documents.uri, "name": name, "documents": pq.read_metadata(documents.local(name)).num_rows}
        for name in documents.files(".parquet")
    ]


def read_texts(shard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the id and text of a shard's documents."""
    for batch in read_batches(shard):
        yield from zip(batch.column("doc_id").to_pylist(), batch.column("text").to_pylist(), strict=True)


def read_batches(shard: dict[str, Any]) -> Iterator[pa.RecordBatch]:
    """Yield a shard's documents in batches."""
    with pq.ParquetFile(Folder(shard["folder"]).local(shard["name"])) as documents:
        yield from documents.iter_batches(batch_size=BATCH_DOCUMENTS, columns=["doc_id", "text"])
