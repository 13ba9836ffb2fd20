"""Which model types keep packed documents apart, by trying them; and that a model's whole loss is trained."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from document_masks import small_fields
from model_folders import WORDS, write_folder

from rewarm.pipeline.api import updates
from rewarm.pipeline.recipe.recipe import Recipe
from rewarm.pipeline.terminal import Terminal
from rewarm.pipeline.update.inputs import check_model
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.train import ModelSettings, import_model, model_config
from rewarm.stages.train.document_mask import (
    LARGEST_CHANGE,
    check_kind,
    leak,
    own_loss,
    remarks_on,
    small_config,
    trained_loss,
    tried_model,
)

APART = ["llama", "gpt2", "gpt_neox", "gemma3_text", "mixtral", "qwen3"]
LEAKING = ["opt", "bloom", "mpt", "falcon", "xglm", "gpt_oss", "mamba", "jamba", "lfm2", "qwen3_next"]
LEAKING += ["recurrent_gemma", "rwkv"]


def config(kind: str, **fields: Any) -> Any:
    return model_config(ModelSettings(type=kind, config={**small_fields(kind), **fields}), WORDS, 0, 64)


@pytest.mark.parametrize("kind", APART)
def test_attention_that_reads_positions_keeps_documents_apart(kind: str) -> None:
    made = config(kind)
    assert leak(tried_model(made, 64)) < LARGEST_CHANGE / 10
    check_kind(made, 64, document_mask=True)


@pytest.mark.parametrize("kind", LEAKING)
def test_types_that_leak_are_refused_with_the_figure_unless_asked_for(kind: str) -> None:
    made = config(kind)
    assert leak(tried_model(made, 64)) > 0.1
    with pytest.raises(UsageError, match=rf"model type {kind}: .*by [\d.]+ nats .*train\.document_mask=false"):
        check_kind(made, 64, document_mask=True)
    check_kind(made, 64, document_mask=False)


def test_trying_a_model_leaves_the_random_numbers_as_they_were() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    tried_model(config("llama"), 64)
    assert torch.rand(3).equal(expected)


def test_a_large_model_is_tried_by_a_few_of_its_layers() -> None:
    large = model_config(ModelSettings(type="llama", config={"num_hidden_layers": 32}), WORDS, 0, 64)
    made = small_config(large, 64)
    assert (made.num_hidden_layers, made.hidden_size) == (2, large.hidden_size)
    kinds = {"layer_types": ["sliding_attention"] * 20 + ["full_attention"] * 4, "num_hidden_layers": 24}
    mixed = model_config(ModelSettings(type="gemma3_text", config=kinds), WORDS, 0, 1024)
    made = small_config(mixed, 8192)
    assert (made.num_hidden_layers, made.layer_types[-1], made.sliding_window) == (21, "full_attention", 8)


def test_a_lineage_is_refused_before_anything_is_written() -> None:
    model = {"type": "opt", "config": small_fields("opt")}
    recipe = {"model": model, "tokenizer": {"vocab_size": WORDS}, "train": {"seq_len": 64}}
    with pytest.raises(UsageError, match="affect each other"):
        check_model(Recipe.model_validate(recipe))
    recipe["train"]["document_mask"] = False
    assert check_model(Recipe.model_validate(recipe)) == []


def test_an_import_is_refused_by_its_kind_and_by_its_own_weights(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", "opt")
    recipe = {"model": {"path": str(source)}, "train": {"seq_len": 64}}
    with pytest.raises(UsageError, match="model type opt: documents packed"):
        check_model(Recipe.model_validate(recipe))
    with pytest.raises(UsageError, match="source: documents packed"):
        import_model(source, Folder(tmp_path / "out"), document_mask=True)
    assert not (tmp_path / "out").exists()
    import_model(source, Folder(tmp_path / "out"), document_mask=False)


MIXTURES = ["mixtral", "qwen3_moe", "olmoe", "jetmoe"]


@pytest.mark.parametrize("kind", MIXTURES)
def test_a_routers_load_balancing_loss_is_part_of_what_is_trained(kind: str) -> None:
    coefficient = {"aux_loss_coef": 0.5} if kind == "jetmoe" else {"router_aux_loss_coef": 0.5}
    balanced = tried_model(config(kind, output_router_logits=True, **coefficient), 64)
    plain = tried_model(config(kind, **coefficient), 64)
    assert trained_loss(balanced) == pytest.approx(own_loss(balanced), abs=1e-5)
    assert trained_loss(plain) == pytest.approx(own_loss(plain), abs=1e-5)
    assert trained_loss(balanced) - trained_loss(plain) > 0.5, "the router's loss is at least 1, and counts half"


def test_a_term_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    given = transformers.LlamaForCausalLM.forward

    def with_more(*args: Any, **kwargs: Any) -> Any:
        output = given(*args, **kwargs)
        if output.loss is not None:
            output.loss = output.loss + 0.25
        return output

    monkeypatch.setattr(transformers.LlamaForCausalLM, "forward", with_more)
    with pytest.raises(UsageError, match="a term that rewarm does not support"):
        check_kind(config("llama"), 64, document_mask=True)


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("llama", {}, None),
        ("mixtral", {"output_router_logits": True}, None),
        ("mixtral", {}, "model.config.output_router_logits=true adds the router's loss"),
        ("glm4_moe", {"n_group": 1, "topk_group": 1}, "glm4_moe has none in transformers"),
    ],
)
def test_experts_that_are_not_balanced_are_told(kind: str, fields: dict[str, Any], expected: str | None) -> None:
    found = remarks_on(config(kind, **fields), imported=False)
    assert (found == []) if expected is None else (expected in found[0])


def test_a_configuration_that_cannot_be_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a model of this configuration cannot be run"):
        check_kind(config("gptj", rotary_dim=40), 64, document_mask=True)
    source = write_folder(tmp_path / "source")
    values = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**values, "num_attention_heads": "many"}))
    with pytest.raises(UsageError, match="transformers cannot read it"):
        check_model(Recipe.model_validate({"model": {"path": str(source)}, "train": {"seq_len": 64}}))


def test_settings_of_a_model_that_is_not_drawn_are_refused(tmp_path: Path) -> None:
    recipe = Recipe.model_validate({"model": {"path": str(tmp_path)}})
    for given in ("model.type=llama", "model.config.hidden_size=64"):
        with pytest.raises(UsageError, match=f"--set {given}: has no effect on an imported model"):
            updates.check_model(recipe, [given], Terminal(quiet=True))
