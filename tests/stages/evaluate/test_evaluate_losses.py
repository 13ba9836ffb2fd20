"""The losses of a real model on a validation split: the same however the stream is cut into batches and pieces."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from stages.evaluate.losses import read_totals, write_losses
from stages.losses import plan_pieces, sum_documents, target_losses, write_piece
from stages.pool import load_model
from stages.storage import Folder
from stages.tokens import TokenStream


def test_batch_size_and_pieces_change_nothing_but_rounding(world: Any, tmp_path: Any) -> None:
    one = world.sets[0]
    stream, model = TokenStream(one.tokens), load_model(world.trunk, gpu=False)
    ends, sizes = stream.document_spans()
    found = []
    for batch_size, piece_tokens in ((1, 64), (7, 1 << 18)):
        out = Folder(tmp_path / str(batch_size))
        spans = plan_pieces(stream.num_tokens, 32, piece_tokens)
        for number, span in enumerate(spans):
            losses = target_losses(model, stream, span, seq_len=32, document_mask=True, batch_size=batch_size)
            write_piece(out, f"{number}.npz", *sum_documents(losses, span[0], ends))
        write_losses(out, "all.parquet", stream, out, [f"{number}.npz" for number in range(len(spans))])
        found.append(read_totals(out, "all.parquet"))
    assert stream.num_tokens % 32 not in (0, 1)  # there is a tail
    assert found[0].num_tokens == found[1].num_tokens == stream.num_tokens - 1
    assert found[0].num_bytes == int(sizes.sum()) == sum(len(text.encode()) for text in world.texts["sci-docs"])
    assert found[0].nats == pytest.approx(found[1].nats, rel=1e-6)


def test_a_masked_document_has_the_loss_it_has_alone(world: Any) -> None:
    import torch

    stream, model = TokenStream(world.sets[1].tokens), load_model(world.trunk, gpu=False)
    ends, seq_len = stream.document_spans()[0], 500
    span = (0, stream.num_tokens - 1)
    masked, plain = (
        target_losses(model, stream, span, seq_len=seq_len, document_mask=mask, batch_size=2) for mask in (True, False)
    )
    compared = 0
    for begin, end in pairwise([0, *ends]):
        if begin == 0 or (begin - 1) // seq_len != (end - 2) // seq_len or (begin - 1) % seq_len == 0:
            continue  # not whole in one window behind another document
        text = torch.from_numpy(stream.window(begin - 1, end - begin).tokens)[None]
        with torch.inference_mode():
            scores = model(input_ids=text[:, :-1], use_cache=False).logits.log_softmax(-1)
        alone = -scores[0].gather(1, text[0, 1:, None])[:, 0].double().numpy()
        np.testing.assert_allclose(masked[begin - 1 : end - 1], alone, rtol=2e-4, atol=2e-4)
        assert np.abs(plain[begin - 1 : end - 1] - alone).max() > 0.01
        compared += 1
    assert compared >= 2
