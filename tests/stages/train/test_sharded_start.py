"""Start at ZeRO 3 in parts: what a rank reads, that bits are those of a start with the whole model, and damage."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from process_group import in_group
from safetensors.torch import save_file
from training_world import World, train

from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.storage import Folder
from rewarm.stages.train import Job, TrainSettings
from rewarm.stages.train.sharded_start import StoredTensor, empty_model, found_in, stored_tensors, tensors_of
from rewarm.stages.train.weights import digest, load_model, model_weights

WHOLE = {"zero_optimization": {"zero_quantized_weights": False}}
"""An option under which every rank loads the whole model."""
KINDS: dict[str, dict[str, Any]] = {
    "gpt_neox": {},
    "llama": {"num_key_value_heads": 1, "tie_word_embeddings": True},
    "gemma2": {"num_key_value_heads": 1, "head_dim": 16},
    "qwen2": {"num_key_value_heads": 1},
    "olmo2": {"num_key_value_heads": 2},
}


def model_of(kind: str, folder: Path) -> Path:
    """Write a small model of a type, in two files, with weights that bf16 rounds."""
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = transformers.AutoConfig.for_model(
        kind, **sizes, **KINDS[kind], vocab_size=401, max_position_embeddings=64, pad_token_id=None
    )
    torch.manual_seed(5)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder, max_shard_size="60KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    return folder


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (5, 2, 3), (0, 4)])
@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_the_parts_of_all_ranks_are_the_tensor(shape: tuple[int, ...], ranks: int, tmp_path: Path) -> None:
    whole = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    save_file({"other": torch.ones(3), "weight": whole}, tmp_path / "file")
    stored = StoredTensor(tmp_path / "file", "weight", shape)
    each = -(-math.prod(shape) // ranks)
    parts = torch.cat([stored.part(rank * each, (rank + 1) * each) for rank in range(ranks)])
    count = math.prod(shape)
    assert torch.equal(parts[:count], whole.float().reshape(-1))
    assert not parts[count:].any(), "beyond the end are zeros"
    assert torch.equal(stored.whole(), whole.float())


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_model_is_that_of_the_folder(kind: str, tmp_path: Path) -> None:
    folder = model_of(kind, tmp_path / kind)
    whole, empty = load_model(folder), empty_model(folder)
    assert all(parameter.is_meta for parameter in empty.parameters())
    shapes = [[(name, one.shape) for name, one in model.named_parameters()] for model in (whole, empty)]
    assert shapes[0] == shapes[1]
    buffers, found = dict(whole.named_buffers()), dict(empty.named_buffers())
    assert buffers.keys() == found.keys()
    assert all(torch.equal(buffers[name], found[name]) and not found[name].is_meta for name in buffers)
    start = found_in(folder, TrainSettings(zero_stage=3))
    assert not isinstance(start, str), start
    assert start.digest() == digest(model_weights(whole))


def test_tensors_that_are_not_the_parameters_are_told(tmp_path: Path) -> None:
    folder = model_of("llama", tmp_path / "llama")
    model, stored = empty_model(folder), {one.key: one for one in stored_tensors(folder)}
    assert not isinstance(tensors_of(model, stored), str)
    name = "model.layers.0.mlp.up_proj.weight"
    without = {key: one for key, one in stored.items() if key != name}
    assert tensors_of(model, without) == f"{name} is not stored once, in its shape"
    turned = {**stored, name: dataclasses.replace(stored[name], shape=stored[name].shape[::-1])}
    assert tensors_of(model, turned) == f"{name} is not stored once, in its shape"
    twice = {**stored, "lm_head.weight": stored["model.embed_tokens.weight"]}
    assert "is not stored once" in str(tensors_of(model, twice))
    assert tensors_of(model, {**stored, "extra": stored[name]}) == "extra is stored, and is no parameter"
    assert not isinstance(tensors_of(model, {**stored, "model.layers.0.rotary_emb.inv_freq": stored[name]}), str)
    model.register_buffer("scale", torch.ones(1))
    assert tensors_of(model, {**stored, "scale": stored[name]}) == "scale is stored, and is no parameter"
    assert tensors_of(model, stored) == "scale is a stored buffer"


# -- engines ------------------------------------------------------------------------------------------------------


def both_starts(rank: int, size: int, job: Job, folders: dict[str, Path], results: Path) -> None:
    """Three steps after either start, of models of several types, in both precisions."""
    from rewarm.stages.train.engine import Engine, Place

    job.checkpoints.path.mkdir(parents=True, exist_ok=True)
    place = Place(rank, size, rank, torch.device("cpu"))
    rows = {}
    for kind, folder in folders.items():
        expected = digest(model_weights(load_model(folder)))
        for precision in ("fp32", "bf16"):
            found = []
            for more in ({}, WHOLE):
                update = {"zero_stage": 3, "precision": precision, "loss": "chunks", "deepspeed": more}
                settings = job.settings.model_copy(update=update)
                engine = Engine(folder, expected, settings, place, job.checkpoints.path)
                assert bool(engine.notes) == bool(more), engine.notes
                assert engine.weights_digest() == expected
                found.append([train(engine, job, 0, 3), engine.weights_digest()])
                engine.close()
            rows[f"{kind}-{precision}"] = found
    if rank == 0:
        (results / "rows.json").write_text(json.dumps(rows))


@pytest.mark.parametrize("kinds", [["llama"], pytest.param(list(KINDS), marks=pytest.mark.faults)], ids=["one", "all"])
def test_both_starts_give_the_same_bits(world: World, tmp_path: Path, kinds: list[str]) -> None:
    folders = {kind: model_of(kind, tmp_path / kind) for kind in kinds}
    in_group(both_starts, 3, world.job("parts"), folders, tmp_path)
    for row, (parts, whole) in json.loads((tmp_path / "rows.json").read_text()).items():
        assert parts == whole, row
        assert parts[0][2] < parts[0][0], row


def start_damaged(rank: int, size: int, job: Job, results: Path) -> None:
    from rewarm.stages.train.engine import Engine, Place

    job.checkpoints.path.mkdir(parents=True, exist_ok=True)
    settings = job.settings.model_copy(update={"zero_stage": 3})
    with pytest.raises(DamagedError) as raised:
        Engine(job.start.path, job.start_digest, settings, Place(rank, size, rank, torch.device("cpu")), results)
    (results / f"{rank}.txt").write_text(str(raised.value))


@pytest.mark.parametrize("cut", [False, True], ids=["flipped", "truncated"])
def test_damaged_weights_are_refused_on_all_ranks(world: World, tmp_path: Path, cut: bool) -> None:
    copy = tmp_path / "model"
    copy.mkdir()
    for path in world.start.path.iterdir():
        data = bytearray(path.read_bytes())
        if path.suffix == ".safetensors":
            data = data[:-100] if cut else data
            data[-200] ^= 1
        (copy / path.name).write_bytes(data)
    job = dataclasses.replace(world.job(f"damaged-{cut}"), start=Folder(copy))
    in_group(start_damaged, 2, job, tmp_path)
    for rank in (0, 1):
        message = (tmp_path / f"{rank}.txt").read_text()
        assert f"{copy}: " in message
        assert job.start_digest in message
        assert "Nothing was trained on it" in message
