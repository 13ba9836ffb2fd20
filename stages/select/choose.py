"""Choose documents by their scores: best first, until the wanted share of tokens is filled."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SCORE_SCHEMA = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("num_tokens", pa.int64(), nullable=False),  # end-of-text included
    ]
)

# Which end of the scores is the good one: mean nats a token, log-odds of the reference's kind, a hash in [0, 1).
BEST_FIRST = {"perplexity": "ascending", "classifier": "descending", "random": "ascending"}


def ranked(table: pa.Table, by: str) -> np.ndarray:
    """Rows (int64) of a table of ``SCORE_SCHEMA``, best first; of equal scores the lower ``doc_id`` first."""
    order = pc.sort_indices(table, sort_keys=[("score", BEST_FIRST[by]), ("doc_id", "ascending")])
    return np.asarray(order.to_numpy(), dtype=np.int64)


def choose(sizes: np.ndarray, share: float, trim: float) -> slice:
    """Which of the ranked documents, of so many tokens each (int64, best first), are taken.

    The first ones that fill ``trim`` of the tokens are passed over; then documents are taken until they fill ``share``
    of the tokens, the one that fills it included, and at least one. Fewer where they run out.
    """
    total = int(sizes.sum())
    before = np.cumsum(sizes) - sizes  # tokens of those ranked better
    first = int(np.searchsorted(before, round(trim * total)))
    if first == len(sizes):
        return slice(first, first)
    wanted = max(1, round(share * total))
    return slice(first, int(np.searchsorted(before, before[first] + wanted)))
