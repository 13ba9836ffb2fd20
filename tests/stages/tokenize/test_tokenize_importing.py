"""Taking over a Hugging Face tokenizer: same ids, no code, clear refusals; and the digest."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokenizer import load_definition
from rewarm.stages.tokenize import import_tokenizer, tokenizer_digest


def edit(folder: Path, name: str, **changes: Any) -> None:
    value = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**value, **changes}))


@pytest.fixture
def source(tokenizer: Folder, tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    shutil.copytree(tokenizer.path, folder)
    return folder


def test_copy_loads_and_has_the_same_digest(source: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    (source / "tokenization_own.py").write_text("raise SystemExit")
    (source / "model.safetensors").write_bytes(b"weights")
    out = Folder(tmp_path / "out")
    import_tokenizer(source, out)
    assert out.files() == ["document_form.json", "tokenizer.json", "tokenizer_config.json"]
    assert tokenizer_digest(out) == tokenizer_digest(Folder(source))
    assert AutoTokenizer.from_pretrained(str(out.path)).eos_token == "<|endoftext|>"


def test_class_that_rebuilds_the_tokenizer_is_replaced(source: Path, tmp_path: Path) -> None:
    """GPTNeoXTokenizer brings its own normalizer: a release must give the ids that it was trained on."""
    from transformers import AutoTokenizer

    edit(source, "tokenizer.json", normalizer={"type": "Lowercase"})
    edit(source, "tokenizer_config.json", tokenizer_class="GPTNeoXTokenizer")
    out = Folder(tmp_path / "out")
    import_tokenizer(source, out)
    text = "The RATE é e\u0301"
    loaded = AutoTokenizer.from_pretrained(str(out.path))
    assert loaded(text)["input_ids"] == load_definition(out).tokenizer.encode(text).ids


def test_digest_is_over_what_decides_ids(source: Path) -> None:
    before = tokenizer_digest(Folder(source))
    value = json.loads((source / "tokenizer.json").read_text())
    shuffled = dict(reversed(list(value.items())))
    shuffled["model"] = {**shuffled["model"], "merges": [" ".join(pair) for pair in value["model"]["merges"]]}
    shuffled["truncation"] = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    (source / "tokenizer.json").write_text(json.dumps(shuffled, indent=4))
    assert tokenizer_digest(Folder(source)) == before
    edit(source, "tokenizer.json", normalizer={"type": "NFC"})
    assert tokenizer_digest(Folder(source)) != before


def test_truncation_in_the_file_does_not_cut_documents(source: Path) -> None:
    truncation = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    edit(source, "tokenizer.json", truncation=truncation)
    assert len(load_definition(Folder(source)).tokenizer.encode("a b c d e f g h").ids) >= 8


def test_end_of_text_that_is_not_marked_special_stays_out_of_text(source: Path) -> None:
    value = json.loads((source / "tokenizer.json").read_text())
    value["added_tokens"][0]["special"] = False
    edit(source, "tokenizer.json", added_tokens=value["added_tokens"])
    definition = load_definition(Folder(source))
    assert definition.end_of_text_id not in definition.tokenizer.encode("a<|endoftext|>b").ids


def test_wide_ids_take_uint32(source: Path) -> None:
    raw = Tokenizer.from_file(str(source / "tokenizer.json"))
    raw.add_tokens([AddedToken(f"<extra {number}>") for number in range(65_536 - 400)])
    raw.save(str(source / "tokenizer.json"))
    assert load_definition(Folder(source)).dtype == "uint16"  # the greatest id is 65,535
    raw.add_tokens(["<one more>"])
    raw.save(str(source / "tokenizer.json"))
    assert load_definition(Folder(source)).dtype == "uint32"


def test_refusals(source: Path, tmp_path: Path) -> None:
    out = Folder(tmp_path / "out")
    with pytest.raises(UsageError, match=r"no tokenizer\.json"):
        import_tokenizer(tmp_path / "absent", out)
    edit(source, "tokenizer_config.json", eos_token=None)
    with pytest.raises(UsageError, match="no eos_token"):
        import_tokenizer(source, out)
    edit(source, "tokenizer_config.json", eos_token="<absent>")
    with pytest.raises(UsageError, match="has no id"):
        load_definition(Folder(source)).tokenizer  # noqa: B018
    edit(source, "tokenizer_config.json", eos_token="<|endoftext|>")
    (source / "tokenizer.json").write_text("{")
    with pytest.raises(UsageError):
        import_tokenizer(source, out)
    assert out.files() == []


def test_a_special_token_that_is_a_word_of_the_model_stays_out_of_text(tmp_path: Path) -> None:
    """A word-level model holds ``</s>`` as a word: switching special tokens off does not keep it from a page."""
    raw = Tokenizer(models.WordLevel({"[UNK]": 0, "</s>": 1, "a": 2}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.add_special_tokens(["</s>", "[UNK]"])
    raw.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}'
    )
    out = Folder(tmp_path / "out")
    import_tokenizer(tmp_path, out)
    definition = load_definition(out)
    assert definition.as_saved.encode("a </s> a", add_special_tokens=False).ids == [2, 1, 2]
    assert definition.tokenizer.encode("a </s> a", add_special_tokens=False).ids == [2, 0, 2]
    assert (definition.end_of_text_id, definition.num_ids) == (1, 3)


def test_llama_like_tokenizer(tmp_path: Path) -> None:
    """Byte fallback, a normalizer that prepends, special tokens that are in the model's own vocabulary."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"<0x{byte:02X}>": byte + 3 for byte in range(256)}}
    for piece in ("▁", "a", "b", "s", "<", ">", "/", "▁a", "ab"):
        vocab[piece] = len(vocab)
    model = models.BPE(vocab, [("▁", "a"), ("a", "b")], unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    raw = Tokenizer(model)
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    raw.add_special_tokens(["<unk>", "<s>", "</s>"])
    raw.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": {"content": "</s>"}}')
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    out = Folder(tmp_path / "out")
    import_tokenizer(tmp_path, out)
    definition = load_definition(out)
    assert definition.end_of_text_id == 2
    assert 2 not in definition.tokenizer.encode("a </s> b", add_special_tokens=False).ids
