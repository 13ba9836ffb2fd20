"""Losses by document: every target counts once, from its own document, whatever is measured beside it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_world import World, make_world, write_documents

from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokens import TokenStream
from rewarm.stages.inference import losses
from rewarm.stages.inference.losses import document_losses, join_pieces, plan_pieces, rows_of, write_piece

WINDOW = 48  # of the losses below: some documents fit, some take several windows, one is exactly as long


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(1, 100))
def test_pieces_are_runs_of_documents_that_cover_all(sizes: list[int], piece_tokens: int) -> None:
    ends = np.cumsum(np.array(sizes, dtype=np.int64))
    runs = plan_pieces(ends, piece_tokens)
    assert [number for first, last in runs for number in range(first, last)] == list(range(len(sizes)))
    assert all(sum(sizes[first : last - 1]) < piece_tokens for first, last in runs), "a piece of work is bounded"


@given(st.integers(1, 300), st.integers(1, 70))
def test_windows_of_a_document_count_every_target_once_with_all_context_that_fits(tokens: int, seq_len: int) -> None:
    rows = rows_of(0, tokens, seq_len)
    assert [target for row in rows for target in range(row.first, row.first + row.counted)] == list(range(tokens))
    for row in rows:
        begin = row.first + row.counted - row.length
        assert begin >= 0
        assert row.length <= row.padded(seq_len) <= seq_len
        assert begin == 0 or row.length == seq_len, "a window that is not full begins with its document"


def test_joined_pieces_are_the_documents_in_their_order(tmp_path: Path) -> None:
    folder, nats, counts = Folder(tmp_path), np.arange(5.0), np.arange(1, 6)
    for name, part in {"1.npz": slice(2, 5), "0.npz": slice(0, 2)}.items():
        write_piece(folder, name, part.start, nats[part], counts[part])
    found = join_pieces(folder, ["0.npz", "1.npz"], 5)
    assert (found[0] == nats).all()
    assert (found[1] == counts).all()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("losses"))


@pytest.fixture(autouse=True)
def short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of three lengths within a window."""
    monkeypatch.setattr(losses, "ROW_STEP", 16)


@pytest.fixture(scope="module")
def documents(world: World) -> list[list[int]]:
    """Real documents of 2 to 150 tokens, their end-of-text among them, one of exactly a window."""
    stream = TokenStream(world.train)
    ends = stream.document_spans()[0]
    starts = np.concatenate([[0], ends[:-1]])
    sizes = [2, 30, WINDOW - 1, WINDOW, WINDOW + 1, 65, 2 * WINDOW, 150]
    cut = [stream.read(int(start), size - 1).tolist() for start, size in zip(starts, sizes, strict=False)]
    return [[*tokens, 0] for tokens in cut]


def losses_of(world: World, documents: list[list[int]], folder: Path, prefix: tuple[int, ...] = (), **how: int) -> dict:
    from rewarm.stages.inference.actors import load_model

    write_documents(Folder(folder), documents, prefix)
    stream, model = TokenStream(Folder(folder)), load_model(world.start, gpu=False)
    given = {"seq_len": WINDOW, "batch_size": 2} | how
    nats, counts = document_losses(model, stream, (0, len(documents)), **given)
    assert counts.tolist() == [len(document) for document in documents]
    return {tuple(document): float(value) for document, value in zip(documents, nats, strict=True)}


@pytest.mark.parametrize("prefix", [(), (7,)])
def test_a_document_that_fits_has_the_loss_that_plain_transformers_gives_it(
    world: World, documents: list[list[int]], tmp_path: Path, prefix: tuple[int, ...]
) -> None:
    import torch

    from rewarm.stages.inference.actors import load_model

    found, model = losses_of(world, documents, tmp_path, prefix), load_model(world.start, gpu=False)
    fitting = [document for document in documents if len(document) <= WINDOW]
    assert len(fitting) == 4
    for document in fitting:
        ids = torch.tensor([[*(prefix or (0,)), *document]])
        with torch.inference_mode():
            scores = model(input_ids=ids[:, :-1], use_cache=False).logits.log_softmax(-1)
        alone = -float(scores[0].gather(1, ids[0, 1:, None]).double().sum())
        assert found[tuple(document)] == pytest.approx(alone, abs=1e-4)


def test_a_longer_document_is_read_as_rolling_likelihood_reads_it(
    world: World, documents: list[list[int]], tmp_path: Path
) -> None:
    import torch
    from lm_eval.utils import get_rolling_token_windows

    from rewarm.stages.inference.actors import load_model

    found, model = losses_of(world, documents, tmp_path), load_model(world.start, gpu=False)
    for document in documents:
        nats = 0.0
        for context, predicted in get_rolling_token_windows(document, 0, WINDOW, 1):
            with torch.inference_mode():
                scores = model(input_ids=torch.tensor([context]), use_cache=False).logits.log_softmax(-1)[0]
            nats -= float(scores[-len(predicted) :].gather(1, torch.tensor(predicted)[:, None]).double().sum())
        assert found[tuple(document)] == pytest.approx(nats, abs=1e-4)


def test_neither_order_nor_batches_change_a_documents_loss(
    world: World, documents: list[list[int]], tmp_path: Path
) -> None:
    forward = losses_of(world, documents, tmp_path / "forward")
    backward = losses_of(world, documents[::-1], tmp_path / "backward")
    assert backward == pytest.approx(forward, abs=1e-6)
    for batch_size in (1, 8, 32):
        found = losses_of(world, documents, tmp_path / str(batch_size), batch_size=batch_size)
        assert found == forward, "to the last bit"
