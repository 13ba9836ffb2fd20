"""The losses of a real model on a validation split, as they are kept: a row a document, and their sums."""

from typing import Any

import pytest

from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokens import TokenStream
from rewarm.stages.evaluate.losses import read_totals, write_losses
from rewarm.stages.inference.actors import load_model
from rewarm.stages.inference.losses import document_losses, plan_pieces, write_piece


def test_batch_size_and_pieces_change_nothing(world: Any, tmp_path: Any) -> None:
    one = world.sets[0]
    stream, model = TokenStream(one.tokens), load_model(world.trunk, gpu=False)
    ends, sizes = stream.document_spans()
    found = []
    for batch_size, piece_tokens in ((1, 64), (7, 1 << 18)):
        out = Folder(tmp_path / str(batch_size))
        pieces = plan_pieces(ends, piece_tokens)
        for number, documents in enumerate(pieces):
            losses = document_losses(model, stream, documents, seq_len=32, batch_size=batch_size)
            write_piece(out, f"{number}.npz", documents[0], *losses)
        write_losses(out, "all.parquet", stream, out, [f"{number}.npz" for number in range(len(pieces))])
        found.append(read_totals(out, "all.parquet"))
    assert found[0].num_tokens == found[1].num_tokens == stream.num_tokens
    assert found[0].num_bytes == int(sizes.sum()) == sum(len(text.encode()) for text in world.texts["sci-docs"])
    assert found[0].nats == pytest.approx(found[1].nats, rel=1e-9)
