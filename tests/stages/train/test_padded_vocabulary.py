"""A padded vocabulary: the same losses and real rows, added rows of 0, and nothing of it in what is stored."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from process_group import in_group
from training_world import World, train

from rewarm.stages.train import Job, TrainSettings
from rewarm.stages.train.padded_vocabulary import pad, real_rows, vocabulary_rows
from rewarm.stages.train.weights import digest, load_model, model_weights

MODES: list[dict[str, Any]] = [
    {"zero_stage": 1, "precision": "fp32", "loss": "whole"},
    {"zero_stage": 2, "precision": "bf16", "loss": "chunks"},
    {"zero_stage": 3, "precision": "fp32", "loss": "chunks"},
    {"zero_stage": 3, "precision": "bf16", "loss": "whole"},
]


def model_of(kind: str, folder: Path, **more: Any) -> Any:
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    config = transformers.AutoConfig.for_model(
        kind, **sizes, **more, vocab_size=401, max_position_embeddings=64, pad_token_id=None
    )
    torch.manual_seed(5)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    return model


def padded(
    rank: int, size: int, job: Job, folders: dict[str, Path], modes: list[dict[str, Any]], results: Path
) -> None:
    """Three steps with and without padding; and with it, the last two again from what was saved after the first."""
    from rewarm.stages.train.engine import Engine, Place

    job.checkpoints.path.mkdir(parents=True, exist_ok=True)
    place, rows = Place(rank, size, rank, torch.device("cpu")), []
    for kind, folder in folders.items():
        expected = digest(model_weights(load_model(folder)))
        for mode in modes:
            found, weights = [], []
            for multiple in (1, 128):
                settings = job.settings.model_copy(update={**mode, "pad_vocabulary": multiple})
                engine = Engine(folder, expected, settings, place, job.checkpoints.path)
                assert engine.weights_digest() == expected
                losses = train(engine, job, 0, 1)
                saved, at = results / f"{kind}-{MODES.index(mode)}-{multiple}", engine.weights_digest()
                engine.save(saved)
                losses += train(engine, job, 1, 3)
                end, gathered = engine.weights_digest(), engine.gather()
                layer = engine.engine.module.get_output_embeddings()
                assert layer.out_features == (401 if multiple == 1 else 512)
                engine.close()
                again = Engine(folder, expected, settings, place, job.checkpoints.path)
                again.load(saved, size, at)
                assert train(again, job, 1, 3) == losses[1:], (kind, mode)
                assert again.weights_digest() == end
                again.close()
                found.append(losses)
                weights.append(gathered)
            if rank == 0:
                assert all(len(weight) != 512 for weight in weights[1].values())
                apart = max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0])
                rows.append([kind, mode["precision"], found, apart])
    if rank == 0:
        (results / "rows.json").write_text(json.dumps(rows))


@pytest.mark.parametrize(
    ("kinds", "modes"),
    [(["llama"], [MODES[0], MODES[-1]]), pytest.param(["llama", "gpt_neox"], MODES, marks=pytest.mark.faults)],
    ids=["few", "all"],
)
def test_padding_changes_last_digits_at_most(
    world: World, tmp_path: Path, kinds: list[str], modes: list[dict[str, Any]]
) -> None:
    more = {"llama": {"tie_word_embeddings": True, "num_key_value_heads": 1}, "gpt_neox": {}}
    for kind in kinds:
        model_of(kind, tmp_path / kind, **more[kind])
    in_group(padded, 2, world.job("padded"), {kind: tmp_path / kind for kind in kinds}, modes, tmp_path)
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert len(rows) == len(modes) * len(kinds)
    for kind, precision, (plain, wide), apart in rows:
        exact = precision == "fp32"
        np.testing.assert_allclose(wide, plain, rtol=1e-6 if exact else 1e-3, err_msg=f"{kind} {precision}")
        assert apart < (1e-5 if exact else 5e-3), (kind, precision)


def test_added_rows_have_no_gradient_and_no_logits(tmp_path: Path) -> None:
    model = model_of("gpt_neox", tmp_path)
    ids = torch.arange(1, 20)[None]
    plain = model(input_ids=ids).logits
    assert pad(model, 128) is None
    assert vocabulary_rows(model) == 401
    logits = model(input_ids=ids).logits
    assert logits.shape == plain.shape
    torch.testing.assert_close(logits, plain)
    logits.logsumexp(-1).sum().backward()
    for weight in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        assert (len(weight), real_rows(weight)) == (512, 401)
        assert not weight[401:].any()
        assert not weight.grad[401:].any()


def test_what_is_not_padded_is_said(tmp_path: Path) -> None:
    model = model_of("gpt_neox", tmp_path)
    assert pad(model, 401) is None
    assert vocabulary_rows(model) is None
    model.set_output_embeddings(torch.nn.Sequential(torch.nn.Linear(32, 401)))
    assert "are not a plain embedding and a linear layer of 401 rows each" in str(pad(model, 128))
    identity = TrainSettings().identity()
    assert "pad_vocabulary" not in identity
    assert TrainSettings(pad_vocabulary=128).identity()["pad_vocabulary"] == 128
