"""A model that was tuned from a release: taken as it is, or refused by the name of what is not the release's."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from model_folders import WORDS, edit_config, edit_weights, write_folder

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokenizer import load_definition
from rewarm.stages.train import Adopted, adopt_model
from rewarm.stages.train.weights import digest, load_model, model_weights

Tensors = dict[str, torch.Tensor]
Change = Callable[[Tensors], Tensors]
UP = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("release"), tie_word_embeddings=False)


@pytest.fixture
def tuned(release: Path, tmp_path: Path) -> Path:
    """The release, with one of its tensors changed."""
    folder = Path(shutil.copytree(release, tmp_path / "tuned"))
    edit_weights(folder, lambda tensors: {**tensors, UP: tensors[UP] * 1.01})
    return folder


def adopt(source: Path, release: Path, out: Path) -> Adopted:
    return adopt_model(source, release, Folder(out), Folder(release))


def test_a_tuned_model_is_taken_as_it_is(tuned: Path, release: Path, tmp_path: Path) -> None:
    (tuned / "chat_template.jinja").write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    edit_config(tuned, "tokenizer_config.json", pad_token="<|endoftext|>", auto_map={"AutoTokenizer": "evil.Words"})
    (tuned / "training_args.bin").write_bytes(b"pickle")
    (release / "LICENSE").write_text("terms")
    found = adopt(tuned, release, tmp_path / "out")
    model = tmp_path / "out" / "model"
    assert found.digest == digest(model_weights(load_model(tuned))) == digest(model_weights(load_model(model)))
    assert (found.changed, found.tensors) == (1, len(list(load_model(tuned).parameters())))
    assert 0 < found.distance < 0.01
    assert (found.chat_template, found.added_tokens) == (True, [])
    assert (model / "tokenizer.json").read_bytes() == (release / "tokenizer.json").read_bytes()
    assert (model / "chat_template.jinja").read_bytes() == (tuned / "chat_template.jinja").read_bytes()
    config = json.loads((model / "tokenizer_config.json").read_text())
    assert config["pad_token"] == "<|endoftext|>" and "auto_map" not in config
    assert not (model / "training_args.bin").exists()
    assert (model / "LICENSE").read_text() == "terms", "the terms of the release hold"


def test_added_special_tokens_grow_the_vocabulary(tuned: Path, release: Path, tmp_path: Path) -> None:
    value = json.loads((tuned / "tokenizer.json").read_text())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    value["added_tokens"].append({"id": WORDS, "content": "<|turn|>", **flags})
    (tuned / "tokenizer.json").write_text(json.dumps(value))
    with pytest.raises(UsageError, match="resize_token_embeddings"):
        adopt(tuned, release, tmp_path / "out")
    grown = {"model.embed_tokens.weight", "lm_head.weight"}
    rows = torch.zeros(4, 64)
    edit_weights(
        tuned, lambda given: {name: torch.cat([one, rows]) if name in grown else one for name, one in given.items()}
    )
    edit_config(tuned, vocab_size=WORDS + 4)
    found = adopt(tuned, release, tmp_path / "out")
    assert (found.added_tokens, found.changed) == (["<|turn|>"], 3)
    kept = load_definition(Folder(tmp_path / "out" / "model"))
    assert kept.digest == found.tokenizer != load_definition(Folder(release)).digest
    assert kept.form == load_definition(Folder(release)).form


def poisoned(given: Tensors) -> Tensors:
    given[UP][3, 2] = float("nan")
    return given


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda given: {name: one for name, one in given.items() if "lm_head" not in name}, r"missing .*lm_head"),
        (lambda given: {**given, "vision_tower.weight": torch.ones(3)}, r"not in the model: vision_tower"),
        (lambda given: {**given, "model.norm.weight": torch.ones(32)}, r"of another shape: model\.norm"),
        (poisoned, r"NaN or infinite values: model\.layers\.1\.mlp\.up_proj"),
        (lambda given: {**given, UP: given[UP] / 1.01}, "unchanged"),
    ],
)
def test_weights_that_are_not_a_tuned_release_are_refused(
    tuned: Path, release: Path, tmp_path: Path, change: Change, says: str
) -> None:
    if says == "unchanged":
        shutil.copyfile(release / "model.safetensors", tuned / "model.safetensors")
    else:
        edit_weights(tuned, change)
    with pytest.raises(UsageError, match=says):
        adopt(tuned, release, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_of_other_shapes_or_of_another_kind_is_refused(release: Path, tmp_path: Path) -> None:
    wider = write_folder(tmp_path / "wider", tie_word_embeddings=False, intermediate_size=96)
    with pytest.raises(UsageError, match=r"tensors are not those of the release.*mlp\.\w+\.weight has shape"):
        adopt(wider, release, tmp_path / "out")
    deeper = write_folder(tmp_path / "deeper", tie_word_embeddings=False, num_hidden_layers=3)
    with pytest.raises(UsageError, match=r"model\.layers\.2\.\S+ is new"):
        adopt(deeper, release, tmp_path / "out")
    with pytest.raises(UsageError, match="model_type 'gpt_neox', but the release that it was tuned from is 'llama'"):
        adopt(write_folder(tmp_path / "other", "gpt_neox"), release, tmp_path / "out")


def test_an_adapter_and_another_tokenizer_are_refused(tuned: Path, release: Path, tmp_path: Path) -> None:
    (tuned / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match="merge it first"):
        adopt(tuned, release, tmp_path / "out")
    (tuned / "adapter_config.json").unlink()
    value: dict[str, Any] = json.loads((tuned / "tokenizer.json").read_text())
    value["normalizer"] = {"type": "Lowercase"}
    (tuned / "tokenizer.json").write_text(json.dumps(value))
    with pytest.raises(UsageError, match="its tokenizer is not the lineage's: the normalizer differs"):
        adopt(tuned, release, tmp_path / "out")
