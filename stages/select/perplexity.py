"""The mean loss of every document under a model: its perplexity is the exponential of it, and ranks the same."""

import numpy as np

from stages.losses import PIECE_TOKENS, join_pieces, plan_pieces
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

    Runs of documents go to a pool of Ray actors; each leaves its sums in ``out/pieces``, and what is there already is
    not done again.
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
    nats, counts = join_pieces(pieces, names, stream.num_documents)
    means: np.ndarray = nats / counts
    return means
