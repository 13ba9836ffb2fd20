"""Document masking: a document's loss does not depend on what is packed beside it."""

import numpy as np
import pytest
import torch
from training_world import World

from rewarm.stages.data.tokens import Window
from rewarm.stages.inference.causal import collate, token_losses
from rewarm.stages.train.weights import load_model


def packed(documents: list[list[int]]) -> Window:
    """Documents that begin with end-of-text (0), closed by one more."""
    tokens = np.array([token for document in documents for token in [0, *document]] + [0])
    starts = tokens[:-1] == 0
    return Window(tokens[:-1], tokens[1:], starts)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_documents_loss_does_not_depend_on_its_neighbours(world: World, attention: str) -> None:
    model = load_model(world.start.path).eval()
    model.set_attn_implementation(attention)
    document, device = [5, 9, 77, 30, 31], torch.device("cpu")
    neighbours = ([11, 12, 13], [200, 201, 202])
    losses, plain = [], []
    for neighbour in neighbours:
        window = packed([neighbour, document, [1, 2]])
        for mask, kept in ((True, losses), (False, plain)):
            with torch.no_grad():
                kept.append(token_losses(model, *collate([window], device, mask))[0, 4:10])
    alone = token_losses(model, *collate([packed([document])], device, True))[0]
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=1e-6)
    torch.testing.assert_close(losses[0], alone.detach(), rtol=0, atol=1e-6)
    assert (plain[0] - plain[1]).abs().max() > 1e-4, "plain packing sees the neighbour; else this test shows nothing"


def test_two_sequences_of_a_batch_do_not_see_each_other(world: World) -> None:
    model = load_model(world.start.path).eval()
    one, other = packed([[5, 6, 7], [8, 9]]), packed([[50, 60], [70, 80, 90]])
    device = torch.device("cpu")
    together = token_losses(model, *collate([one, other], device, True))
    alone = token_losses(model, *collate([other], device, True))
    torch.testing.assert_close(together[1:], alone, rtol=0, atol=1e-6)
