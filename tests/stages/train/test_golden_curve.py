"""The losses of a tiny model, stored: an upgrade of a library or a change of ours that moves the curve is seen.

Weights and text are made of the raw integers of a generator, which no version of a library changes. In fp32 the losses
may differ by rounding from one processor to another (``TOLERANCE``, relative); in bf16 by its coarser rounding.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from process_group import in_group
from training_world import World, train, write_documents

from rewarm.stages.core.storage import Folder
from rewarm.stages.train import Job
from rewarm.stages.train.weights import digest, model_weights

STORED = Path(__file__).with_name("golden_curve.json")
STEPS = 30
TOLERANCE = {"fp32": 1e-5, "bf16": 4e-3}
MODES: dict[str, dict[str, Any]] = {
    "fp32": {"zero_stage": 1, "micro_batch": 2},
    "bf16": {"zero_stage": 3, "micro_batch": 2},
}


def raw(seed: int, count: int) -> np.ndarray:
    """Integers of 24 bits."""
    return (np.random.PCG64(seed).random_raw(count) >> 40).astype(np.int64)


def golden_world(root: Path) -> World:
    """A model and documents in which the next token is a function of the last one, with some noise."""
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.AutoConfig.for_model(
        "gpt_neox", **sizes, vocab_size=400, max_position_embeddings=64, pad_token_id=None
    )
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for number, (name, parameter) in enumerate(sorted(model.named_parameters())):
            uniform = torch.from_numpy(raw(number, parameter.numel()) / 2**24 - 0.5).float().view(parameter.shape)
            plain = float("norm" in name and name.endswith("weight"))
            parameter.copy_(0.07 * uniform if parameter.dim() > 1 else torch.full_like(parameter, plain))
    model.save_pretrained(root / "model")
    draws, documents = raw(1000, 20_000).tolist(), []
    for first in range(0, len(draws) - 64, 48):
        length, tokens = 5 + draws[first] % 40, [1 + draws[first + 1] % 399]
        for draw in draws[first + 2 : first + length]:
            tokens.append(1 + (tokens[-1] * 7 + draw % 3) % 399)
        documents.append([*tokens, 0])
    write_documents(Folder(root / "train"), documents)
    write_documents(Folder(root / "validation"), documents[:8])
    folders = [Folder(root / name) for name in ("model", "train", "validation")]
    return World(root, folders[0], digest(model_weights(model)), folders[1], folders[2])


def run(rank: int, size: int, job: Job, results: Path) -> None:
    from rewarm.stages.train.engine import Engine, Place

    job.checkpoints.path.mkdir(parents=True, exist_ok=True)
    curves = {}
    for precision, more in MODES.items():
        settings = job.settings.model_copy(update={"precision": precision, **more})
        place = Place(rank, size, rank, torch.device("cpu"))
        engine = Engine(job.start.path, job.start_digest, settings, place, job.checkpoints.path)
        curves[precision] = train(engine, job, 0, STEPS)
        engine.close()
    if rank == 0:
        (results / "curves.json").write_text(json.dumps(curves))


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    root = tmp_path_factory.mktemp("golden")
    in_group(run, 2, golden_world(root).job("golden", steps=STEPS), root)
    found: dict[str, list[float]] = json.loads((root / "curves.json").read_text())
    return found


@pytest.mark.parametrize("precision", MODES)
def test_the_curve_is_the_stored_one(curves: dict[str, list[float]], precision: str) -> None:
    stored = json.loads(STORED.read_text())[precision]
    assert stored[-1] < stored[0] - 0.5, "the model learns"
    found = [round(loss, 7) for loss in curves[precision]]
    np.testing.assert_allclose(found, stored, rtol=TOLERANCE[precision], err_msg=f"found: {found}")
