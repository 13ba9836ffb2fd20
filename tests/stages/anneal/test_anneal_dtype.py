"""A release is stored in the dtype that its lineage's base came in; the trunk, which is trained on, stays whole."""

import pytest
from training_world import World

from rewarm.stages import anneal, train
from rewarm.stages.core.digests import FILES, digest_files, files_in, write_table
from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import MANIFEST, Folder
from rewarm.stages.data.model_folder import dtype_of, stored_dtypes
from rewarm.stages.train import TrainOutcome
from rewarm.stages.train.weights import digest, load_model, model_weights


def stored_digest(out: Folder) -> str:
    return digest(model_weights(load_model((out / "model").path)))


@pytest.mark.parametrize(("dtype", "stored"), [("float32", "F32"), ("bfloat16", "BF16"), ("float16", "F16")])
def test_a_decayed_trunk_is_released_in_the_lineages_dtype(world: World, dtype: str, stored: str) -> None:
    trunk, out = world.job(f"decayed-{dtype}"), Folder(world.root / f"release-{dtype}")
    anneal.copy_model(Folder(world.start.path.parent), trunk.out)
    whole = stored_digest(trunk.out)
    trained = TrainOutcome(1, 1, 0.0, whole, "", 1, 0.0, [])
    found = anneal.run(trunk, trained, out, anneal.AnnealSettings(), 0.0, train.Group(Silent()), dtype=dtype)
    assert set(stored_dtypes((out / "model").path).values()) == {stored}
    assert dtype_of(out / "model") == dtype
    assert found.digest == stored_digest(out), "the record's digest is of what is stored"
    assert (found.digest == whole) == (dtype == "float32")
    assert set(stored_dtypes((trunk.out / "model").path).values()) == {"F32"}


@pytest.mark.parametrize(("dtype", "sealed"), [("float32", True), ("bfloat16", True), ("bfloat16", False)])
def test_a_damaged_trunk_is_not_released(world: World, dtype: str, sealed: bool) -> None:
    """By the digests of its files, and without these by that of its weights."""
    trunk = world.job(f"damaged-{dtype}-{sealed}")
    out = Folder(world.root / f"release-damaged-{dtype}-{sealed}")
    anneal.copy_model(Folder(world.start.path.parent), trunk.out)
    trained = TrainOutcome(1, 1, 0.0, stored_digest(trunk.out), "", 1, 0.0, [])
    if sealed:
        table = digest_files(trunk.out, files_in(trunk.out))
        trunk.out.write_json(MANIFEST, {FILES: write_table(trunk.out, table)})
    file = trunk.out.path / "model" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-2] ^= 1
    file.write_bytes(data)
    with pytest.raises(DamagedError, match=r"expected .*, found"):
        anneal.run(trunk, trained, out, anneal.AnnealSettings(), 0.0, train.Group(Silent()), dtype=dtype)
    assert not out.exists("model")
