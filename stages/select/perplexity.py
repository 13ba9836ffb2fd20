"""The mean loss of every document under a model: its perplexity is the exponential of it, and ranks the same."""

import numpy as np

from stages.losses import PIECE_TOKENS, add_pieces, plan_pieces
from stages.pool import OFFLINE, QUIET, LossPiece, LossWorker, Reading, work_through
from stages.progress import Progress
from stages.storage import Folder
from stages.tokens import TokenStream


def perplexities(
    tokens: Folder,
    model: Folder,
    out: Folder,
    reading: Reading,
    num_actors: int,
    progress: Progress,
    piece_tokens: int = PIECE_TOKENS,
) -> np.ndarray:
    """Mean nats per token (float64) of each document of a token folder, end-of-text included.

    Spans of the stream go to a pool of Ray actors; each leaves its sums in ``out/pieces``, and what lies there is not
    done again. A document that is nothing but the stream's very first token has no target; it gets the highest mean of
    all, so that it ranks last.
    """
    stream, pieces = TokenStream(tokens), out / "pieces"
    spans = plan_pieces(stream.num_tokens, reading.seq_len, piece_tokens)
    names = [f"{number:06d}.npz" for number in range(len(spans))]
    finished = set(pieces.files(".npz"))
    left = [
        LossPiece(model, tokens, span, pieces, name)
        for span, name in zip(spans, names, strict=True)
        if name not in finished
    ]
    if left:
        work_through(
            LossWorker,
            reading,
            left,
            label="perplexity",
            num_actors=num_actors,
            gpus=reading.gpus,
            progress=progress,
            environment=QUIET | OFFLINE,
        )
    nats, counts = add_pieces(pieces, names, stream.num_documents)
    means: np.ndarray = nats / np.maximum(counts, 1)
    means[counts == 0] = means.max(initial=0.0)
    return means
