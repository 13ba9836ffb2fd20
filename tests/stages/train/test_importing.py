"""Imports: what is no whole model is refused with its name and nothing written; what is whole comes in as it was."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from model_folders import edit_config, edit_weights, write_folder, write_tokenizer
from safetensors.torch import load_file, save_file

from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.model_folder import stored_dtypes
from rewarm.stages.train import check_importable, check_length, digest_folder, import_model
from rewarm.stages.train.weights import load_model, model_weights, write_model

Tensors = dict[str, torch.Tensor]
Change = Callable[[Tensors], Tensors]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("whole"), tie_word_embeddings=False)


@pytest.fixture
def source(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "source"))


def without(part: str) -> Change:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part not in name}


def poisoned(value: float) -> Change:
    def change(tensors: Tensors) -> Tensors:
        tensors["model.layers.1.mlp.up_proj.weight"][3, 2] = value
        return tensors

    return change


DAMAGED: dict[str, tuple[Change, str]] = {
    "lm_head": (without("lm_head"), r"1 tensors missing in the files: lm_head\.weight"),
    "layer": (without("layers.1."), r"9 tensors missing in the files: model\.layers\.1\.input_layernorm"),
    "prefix": (lambda given: {f"module.{name}": one for name, one in given.items()}, r"missing .*in the files but not"),
    "shape": (
        lambda given: {**given, "model.norm.weight": torch.ones(32)},
        r"of another shape: model\.norm\.weight \(stored \[32\], needed \[64\]\)",
    ),
    "extra": (
        lambda given: {**given, "vision_tower.weight": torch.ones(3)},
        r"1 tensors in the files but not in the model: vision_tower\.weight",
    ),
    "nan": (poisoned(float("nan")), r"NaN or infinite values: model\.layers\.1\.mlp\.up_proj\.weight \(1 values\)"),
    "inf": (poisoned(float("inf")), r"NaN or infinite values"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_weights_that_are_not_a_whole_model_are_refused_by_name(source: Path, tmp_path: Path, damage: str) -> None:
    change, message = DAMAGED[damage]
    edit_weights(source, change)
    with pytest.raises(UsageError, match=message):
        import_model(source, Folder(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["lm_head", "layer", "prefix", "shape", "extra"])
def test_a_trunk_that_lacks_tensors_is_not_loaded(source: Path, damage: str) -> None:
    edit_weights(source, DAMAGED[damage][0])
    with pytest.raises(StageError, match="Tensors are not initialised at random"):
        load_model(source)


def test_truncated_weights_are_refused_in_one_line(source: Path, tmp_path: Path) -> None:
    file = source / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UsageError, match="cannot load the model"):
        import_model(source, Folder(tmp_path / "out"))


def test_tied_weights_and_stored_masks_are_no_faults(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", "gpt2")

    def older(tensors: Tensors) -> Tensors:
        mask = torch.ones(128, 128, dtype=torch.bool)
        return {**tensors, "transformer.h.0.attn.bias": mask, "transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}

    edit_weights(source, older)
    assert import_model(source, Folder(tmp_path / "out"))["parameters"] > 0


def test_an_index_that_leads_outside_or_to_nothing_is_refused(source: Path, tmp_path: Path) -> None:
    shutil.move(source / "model.safetensors", tmp_path / "other.safetensors")
    names = load_names(tmp_path / "other.safetensors")
    for target, message in (
        ("../other.safetensors", "outside the folder"),
        (str(tmp_path / "other.safetensors"), "outside the folder"),
        ("model-00001-of-00001.safetensors", "1 of 1 files are missing"),
    ):
        index = {"metadata": {}, "weight_map": dict.fromkeys(names, target)}
        (source / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(UsageError, match=message):
            check_importable(source)
        with pytest.raises(StageError, match=message):
            load_model(source)
    (source / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(UsageError, match="expected a JSON object"):
        check_importable(source)


def test_two_sets_of_weights_in_a_folder_are_refused(source: Path) -> None:
    names = load_names(source / "model.safetensors")
    index = source / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}))
    shutil.copyfile(source / "model.safetensors", source / "model-00001-of-00001.safetensors")
    with pytest.raises(UsageError, match=r"both model\.safetensors and model\.safetensors\.index\.json.*remove one"):
        check_importable(source)
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "model.safetensors")}))
    check_importable(source)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_what_git_lfs_left_out_is_named_with_the_way_to_get_it(source: Path, name: str) -> None:
    (source / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(UsageError, match=rf"{name}: a Git LFS pointer.*git lfs pull"):
        check_importable(source)


def test_a_tied_weight_that_the_files_hold_twice_must_be_the_same(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", tie_word_embeddings=True)

    def second(change: float) -> Change:
        return lambda given: {**given, "lm_head.weight": given["model.embed_tokens.weight"] + change}

    edit_weights(source, second(0.0))
    assert import_model(source, Folder(tmp_path / "same"))["parameters"] > 0
    edit_weights(source, second(0.5))
    with pytest.raises(UsageError, match=r"ties lm_head\.weight to model\.embed_tokens\.weight.*tie_word_embeddings"):
        import_model(source, Folder(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def load_names(file: Path) -> list[str]:
    from safetensors.torch import load_file

    return list(load_file(file))


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_in_the_folder_is_refused(source: Path, name: str) -> None:
    (source / name).write_text("{}")
    with pytest.raises(UsageError, match=f"holds an adapter .{name}.*merge it first"):
        check_importable(source)


def test_a_tokenizer_with_ids_beyond_the_embedding_is_refused(source: Path) -> None:
    check_importable(source)
    edit_config(source, vocab_size=280)
    with pytest.raises(UsageError, match=r"ids up to 299, but the model's embedding has 280 rows"):
        check_importable(source)


def test_masks_of_older_libraries_are_no_quantized_weights(source: Path) -> None:
    mask = torch.ones(1, 1, 8, 8, dtype=torch.uint8)
    edit_weights(source, lambda given: {**given, "model.layers.0.self_attn.bias": mask})
    check_importable(source)


def test_a_tensor_that_two_files_hold_is_refused_if_they_differ(source: Path) -> None:
    weights = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    name = "model.norm.weight"
    save_file({key: value for key, value in weights.items() if key != name}, source / "a.safetensors")
    index = {
        "metadata": {},
        "weight_map": {key: "b.safetensors" if key == name else "a.safetensors" for key in weights},
    }
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    repeated = {name: weights[name], "model.embed_tokens.weight": weights["model.embed_tokens.weight"]}
    save_file(repeated, source / "b.safetensors")
    check_importable(source)
    save_file(
        {**repeated, "model.embed_tokens.weight": repeated["model.embed_tokens.weight"] + 1}, source / "b.safetensors"
    )
    with pytest.raises(UsageError, match=r"model\.embed_tokens\.weight is in a\.safetensors and b\.safetensors"):
        check_importable(source)


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(torch.int8, "I8"), (torch.float8_e4m3fn, "F8_E4M3"), (torch.int32, "I32"), (torch.bool, "BOOL")],
)
def test_quantized_values_without_their_scales_are_refused(source: Path, dtype: torch.dtype, name: str) -> None:
    def quantized(given: Tensors) -> Tensors:
        return {**given, "model.layers.0.mlp.up_proj.weight": given["model.layers.0.mlp.up_proj.weight"].to(dtype)}

    edit_weights(source, quantized)
    with pytest.raises(UsageError, match=rf"1 tensors hold quantized values: model\.layers\.0\.mlp.* \({name}\)"):
        check_importable(source)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, None),
        ({"model_type": "own_model"}, "model_type 'own_model' is not a causal language model"),
        ({"model_type": "clip"}, "is not a causal language model"),
        ({"transformers_weights": "../x.safetensors"}, "transformers_weights redirects to other files"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, r"the weights are quantized \(gptq\)"),
        ({"text_config": {"quantization_config": {"quant_method": "fp8"}}}, r"the weights are quantized \(fp8\)"),
        ({"configuration_files": ["config.4.0.0.json"]}, "configuration_files redirects to other files"),
    ],
)
def test_configurations_that_lead_elsewhere_are_refused(source: Path, changes: Any, message: str | None) -> None:
    edit_config(source, **changes)
    if message is None:
        check_importable(source)  # a causal model in transformers; that it is another one shows when it is loaded
        return
    with pytest.raises(UsageError, match=message):
        check_importable(source)


@pytest.mark.parametrize(
    ("config", "bound"),
    [
        ({"model_type": "gpt2", "n_positions": 64}, "n_positions 64"),
        ({"model_type": "gptj", "n_positions": 64}, "n_positions 64"),
        ({"model_type": "mpt", "max_seq_len": 64}, "max_seq_len 64"),
        ({"model_type": "kimi_linear", "model_max_length": 64}, "model_max_length 64"),
        ({"model_type": "gemma3", "text_config": {"max_position_embeddings": 64}}, "text_config.max_position"),
        ({"model_type": "llama", "max_position_embeddings": 64}, "max_position_embeddings 64"),
        ({"max_position_embeddings": 64}, "max_position_embeddings 64"),
        ({"model_type": "gpt2", "n_positions": 1024, "n_ctx": 64}, None),
        ({"model_type": "mamba"}, None),
        ({}, None),
    ],
)
def test_positions_bound_a_sequence_by_whatever_name(tmp_path: Path, config: Any, bound: str | None) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    if bound is None:
        check_length(tmp_path, 128)
        return
    check_length(tmp_path, 64)
    with pytest.raises(UsageError, match=f"train.seq_len 128 is longer than the model's {bound}"):
        check_length(tmp_path, 128)


def test_a_model_types_own_default_bounds_a_sequence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    check_length(tmp_path, 1024)
    with pytest.raises(UsageError, match=r"n_positions \(gpt2's default\) 1024"):
        check_length(tmp_path, 1025)


def test_the_input_digest_covers_every_file_that_is_read(source: Path) -> None:
    for name in ("README.md", "LICENSE", "tokenizer.model", "special_tokens_map.json", "chat_template.jinja"):
        (source / name).write_text("{}")
    read = sorted(path.name for path in source.iterdir())
    digests = {digest_folder(source)}
    for name in read:
        before = (source / name).read_bytes()
        (source / name).write_bytes(before[:-1] + b"!" if name.endswith(".safetensors") else before + b" ")
        digests.add(digest_folder(source))
        (source / name).write_bytes(before)
    assert len(digests) == len(read) + 1
    (source / "pytorch_model.bin").write_bytes(b"not read")
    assert digest_folder(source) in digests


def test_a_bfloat16_model_comes_in_and_goes_out_as_bfloat16(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", dtype=torch.bfloat16, tie_word_embeddings=True)
    found = import_model(source, Folder(tmp_path / "trunk"))
    model = tmp_path / "trunk" / "model"
    assert set(stored_dtypes(model).values()) == {"BF16"}
    config = json.loads((model / "config.json").read_text())
    assert (config["dtype"], config["torch_dtype"]) == ("bfloat16", "bfloat16")
    moved = {name: weight + 1e-5 for name, weight in model_weights(load_model(model))}
    assert write_model(model, moved, Folder(tmp_path / "next")) != found["digest"]
    assert set(stored_dtypes(tmp_path / "next" / "model").values()) == {"F32"}, "a trunk loses no bits"
    for name, weight in model_weights(load_model(tmp_path / "next" / "model")):
        assert weight.equal(moved[name])
    write_model(tmp_path / "next" / "model", moved, Folder(tmp_path / "release"), "bfloat16")
    assert set(stored_dtypes(tmp_path / "release" / "model").values()) == {"BF16"}
    for name, weight in model_weights(load_model(tmp_path / "release" / "model")):
        assert weight.equal(moved[name].bfloat16().float())


def test_tensors_that_are_wider_than_the_rest_keep_their_width(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", dtype=torch.bfloat16)
    edit_weights(source, lambda given: {**given, "model.norm.weight": torch.full((64,), 1 + 2**-20)})
    import_model(source, Folder(tmp_path / "trunk"))
    stored = stored_dtypes(tmp_path / "trunk" / "model")
    assert stored.pop("model.norm.weight") == "F32"
    assert set(stored.values()) == {"BF16"}


def test_what_goes_with_the_weights_comes_along_byte_for_byte(source: Path, tmp_path: Path) -> None:
    write_tokenizer(source, add_bos_token=True, add_eos_token=False, model_max_length=77)
    kept = ["tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json"]
    kept += ["chat_template.jinja", "LICENSE", "LICENSE.txt", "NOTICE", "README.md", "tekken.json", "TERMS_OF_USE.md"]
    for name in kept[2:]:
        (source / name).write_text(json.dumps({"eos_token": "<|endoftext|>"}) if name.endswith("json") else name)
    (source / "modeling_own.py").write_text("raise SystemExit")
    umask = os.umask(0o022)
    try:
        import_model(source, Folder(tmp_path / "out"))
    finally:
        os.umask(umask)
    model = tmp_path / "out" / "model"
    for name in kept:
        assert (model / name).read_bytes() == (source / name).read_bytes(), name
    assert not (model / "modeling_own.py").exists()
    for path in model.iterdir():
        assert path.stat().st_mode & 0o777 == 0o644, path
    out = Folder(tmp_path / "next")
    write_model(model, dict(model_weights(load_model(model))), out)
    assert {path.name for path in (out / "model").path.iterdir()} == {path.name for path in model.iterdir()} - {
        "README.md"
    }
