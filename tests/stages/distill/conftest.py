"""A tiny model that has learned enough of real docstrings to write decodable text."""

from pathlib import Path

import pytest
import torch
from training_world import SEQ_LEN, World, make_world

from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokens import TokenStream
from rewarm.stages.inference.causal import collate, token_losses
from rewarm.stages.train.weights import load_model


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("distill"))


@pytest.fixture(scope="session")
def writer(world: World) -> Folder:
    """The world's model after some seconds of plain training."""
    import transformers

    torch.manual_seed(0)
    model, stream = load_model(world.start.path), TokenStream(world.train)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(120):
        picked = torch.randint(stream.num_sequences(SEQ_LEN), (16,)).tolist()
        batch = collate([stream.sequence(index, SEQ_LEN) for index in picked], torch.device("cpu"), False)
        ended = torch.rand(batch.targets.shape) < 1 / 60
        batch.targets[ended] = 0  # documents that end: real ones are longer than the tests'
        batch.inputs[:, 1:][ended[:, :-1]] = 0
        optimizer.zero_grad()
        token_losses(model, *batch).mean().backward()
        optimizer.step()
    folder = Path(world.root / "writer")
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(world.start.path).save_pretrained(folder)
    return Folder(folder)
