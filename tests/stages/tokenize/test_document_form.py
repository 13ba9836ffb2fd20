"""Imported tokenizers: documents are what the tokenizer itself makes of their text, closed by the right token."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from foreign_tokenizers import TEXTS, byte_level, sentencepiece

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import document_id
from rewarm.stages.data.token_files import read_megatron
from rewarm.stages.data.tokenizer import DOCUMENT_FORM, DocumentForm, load_definition
from rewarm.stages.data.tokens import TokenStream, write_shard
from rewarm.stages.ingest.readers.tokens import Decoder
from rewarm.stages.ingest.settings import IngestSettings, TokenInputSettings
from rewarm.stages.tokenize import export_megatron, import_tokenizer, tokenizer_digest
from rewarm.stages.tokenize.backends import Reference, choose_backend
from rewarm.stages.tokenize.files import format_of
from rewarm.stages.tokenize.make_tokenizer import source_digest
from rewarm.stages.tokenize.run import tokenized


def tokenize(lineage: Folder, out: Folder, texts: tuple[str, ...] = TEXTS) -> TokenStream:
    """Texts as the token shard of a lineage."""
    definition = load_definition(lineage)
    columns = {
        "doc_id": pa.array([document_id(text) for text in texts]),
        "text": pa.array(texts, pa.large_string()),
        "num_bytes": pa.array([len(text.encode()) for text in texts]),
    }
    batch = tokenized(pa.record_batch(columns), Reference(definition), format_of(definition))
    with out.writing("00000.arrow") as path:
        write_shard(path, format_of(definition), [batch])
    return TokenStream(out)


def documents(stream: TokenStream) -> list[list[int]]:
    """Each document with the id that its first token is predicted from."""
    assert stream.format is not None
    ends = [0, *stream.document_spans()[0].tolist()]
    return [[stream.format.opening, *stream.read(low, high - low).tolist()] for low, high in pairwise(ends)]


def auto(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder))


BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"


@pytest.mark.parametrize(
    ("special", "template", "opened_by"),
    [
        ((BOS, EOS), f"{BOS} $A", BOS),  # Llama 3
        ((BOS, EOS), "$A", EOS),  # Qwen, GPT-NeoX: nothing is put before a text
        ((BOS, EOS), f"{EOS} $A", EOS),  # OPT, XGLM: the token that ends documents begins them too
        ((BOS, EOS), f"{BOS} $A {EOS}", BOS),  # end-of-text is not there twice
        ((BOS, "[gMASK]", "<sop>", EOS), "[gMASK] <sop> $A", "[gMASK]"),  # GLM: two tokens
        ((BOS, "[SEP]", EOS), f"{BOS} $A [SEP]", BOS),  # a token after the text that does not end the document
    ],
)
def test_documents_are_the_tokenizers_own_input_closed_by_end_of_text(
    tmp_path: Path, special: tuple[str, ...], template: str, opened_by: str
) -> None:
    lineage = Folder(tmp_path / "lineage")
    import_tokenizer(byte_level(tmp_path / "source", special, template), lineage)
    words, plain = auto(lineage.path), tuple(text for text in TEXTS if not any(token in text for token in special))
    end, opening = words.convert_tokens_to_ids([EOS, opened_by])
    found = documents(tokenize(lineage, Folder(tmp_path / "tokens"), plain))
    for text, ids in zip(plain, found, strict=True):
        own = words(text)["input_ids"]
        expected = own if own[0] == opening else [opening, *own]
        assert ids == (expected if expected[-1] == end else [*expected, end])
        assert ids.count(opening) == (1 if opening != end else 2)


def test_text_of_special_tokens_is_text_within_bos(tmp_path: Path) -> None:
    lineage = Folder(tmp_path / "lineage")
    import_tokenizer(byte_level(tmp_path / "source"), lineage)
    for ids in documents(tokenize(lineage, Folder(tmp_path / "tokens"))):
        assert (ids.count(0), ids.count(1)) == (1, 1)
        assert (ids[0], ids[-1]) == (0, 1)


def test_what_is_around_a_text_is_part_of_the_digest_and_what_is_not_leaves_it_alone(tmp_path: Path) -> None:
    lineages = {name: Folder(tmp_path / name) for name in ("bos", "plain")}
    for name, template in (("bos", f"{BOS} $A"), ("plain", "$A")):
        source = byte_level(tmp_path / f"{name}-source", template=template)
        import_tokenizer(source, lineages[name])
        assert source_digest(source, None) == tokenizer_digest(lineages[name])
    assert tokenizer_digest(lineages["bos"]) != tokenizer_digest(lineages["plain"])
    # A lineage from before there was a form put nothing before a text, whatever its tokenizer would: it stays so.
    (lineages["bos"].path / DOCUMENT_FORM).unlink()
    before = load_definition(lineages["bos"])
    assert before.form == DocumentForm(EOS)
    assert before.digest == tokenizer_digest(lineages["plain"])
    assert format_of(before).schema().metadata[b"rewarm.format"] == b"1"


@pytest.mark.parametrize(
    ("special", "eos", "asked", "chosen", "said"),
    [
        ((BOS, "<|endoftext|>", "<|im_end|>"), "<|im_end|>", None, "<|endoftext|>", "eos_token <|im_end|>"),  # Qwen
        ((BOS, EOS, "<|eot_id|>"), "<|eot_id|>", None, EOS, "eos_token <|eot_id|>"),  # Llama 3 Instruct
        ((BOS, "</s>", "<|im_end|>"), "<|im_end|>", None, "</s>", "ends a chat turn"),  # ChatML on Llama 2
        ((BOS, "<|im_end|>"), "<|im_end|>", None, "<|im_end|>", "by its name ends a chat turn"),  # there is no other
        ((BOS, "<|endoftext|>", "<|im_end|>"), "<|im_end|>", "<|im_end|>", "<|im_end|>", "(tokenizer.end_of_text)"),
        ((BOS, "<|endoftext|>", "<|user|>"), "<|user|>", None, "<|endoftext|>", "eos_token <|user|>"),  # GLM 4
        ((BOS, EOS, "<end_of_utterance>"), "<end_of_utterance>", None, EOS, "eos_token <end_of_utterance>"),  # SmolVLM
        ((BOS, EOS, "<|im_end|>"), EOS, None, EOS, f"documents end with {EOS}, and begin with {BOS}"),
    ],
)
def test_the_token_that_ends_a_document_is_not_the_end_of_a_turn(
    tmp_path: Path, special: tuple[str, ...], eos: str, asked: str | None, chosen: str, said: str
) -> None:
    lineage = Folder(tmp_path / "lineage")
    found = import_tokenizer(byte_level(tmp_path / "source", special, eos_token=eos), lineage, asked)
    assert found.form.end_of_text == load_definition(lineage).end_of_text == chosen
    assert said in found.note
    end = auto(lineage.path).convert_tokens_to_ids(chosen)
    assert all(ids[-1] == end for ids in documents(tokenize(lineage, Folder(tmp_path / "tokens"))))


def edited(folder: Path, **changes: Any) -> Path:
    """A folder with other fields in its ``tokenizer.json``; a dict changes fields within."""
    value = json.loads((folder / "tokenizer.json").read_text())
    for name, change in changes.items():
        value[name] = {**value[name], **change} if isinstance(value[name], dict) else change
    (folder / "tokenizer.json").write_text(json.dumps(value))
    return folder


@pytest.mark.parametrize("kind", ["RobertaProcessing", "Sequence"])
def test_other_post_processors_are_read_by_what_they_do(tmp_path: Path, kind: str) -> None:
    source, lineage = byte_level(tmp_path / "source"), Folder(tmp_path / "lineage")
    own = json.loads((source / "tokenizer.json").read_text())["post_processor"]
    byte = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    roberta = {"type": kind, "cls": [BOS, 0], "sep": [EOS, 1], "trim_offsets": True, "add_prefix_space": False}
    made = roberta if kind == "RobertaProcessing" else {"type": kind, "processors": [byte, own]}
    value = json.loads((source / "tokenizer.json").read_text())
    (source / "tokenizer.json").write_text(json.dumps({**value, "post_processor": made}))
    assert import_tokenizer(source, lineage).form == DocumentForm(EOS, (0,))


def test_a_tokenizer_saved_with_truncation_encodes_whole_texts(tmp_path: Path) -> None:
    cut = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    source, lineage = edited(byte_level(tmp_path / "source"), truncation=cut), Folder(tmp_path / "lineage")
    import_tokenizer(source, lineage)
    text = TEXTS[0] * 3
    found = documents(tokenize(lineage, Folder(tmp_path / "tokens"), (text,)))
    assert auto(lineage.path).decode(found[0], skip_special_tokens=True) == text


def test_a_tokenizer_whose_ids_are_drawn_at_random_is_refused(tmp_path: Path) -> None:
    source = edited(byte_level(tmp_path / "source"), model={"dropout": 0.1})
    with pytest.raises(UsageError, match=r"model\.dropout is 0\.1.*set it to null"):
        import_tokenizer(source, Folder(tmp_path / "out"))


def test_a_class_with_ids_of_its_own_is_told(tmp_path: Path) -> None:
    source = sentencepiece(tmp_path / "source")
    assert "differ" not in import_tokenizer(source, Folder(tmp_path / "plain")).note
    config = json.loads((source / "tokenizer_config.json").read_text())
    (source / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "GemmaTokenizerFast"}))
    assert (
        "the ids are those of tokenizer.json, which differ" in import_tokenizer(source, Folder(tmp_path / "own")).note
    )


def test_a_token_that_text_becomes_ends_no_document(tmp_path: Path) -> None:
    source = byte_level(tmp_path / "source", eos_token=None)
    with pytest.raises(UsageError, match=r"has no eos_token; set tokenizer\.end_of_text"):
        import_tokenizer(source, Folder(tmp_path / "out"))
    with pytest.raises(UsageError, match=r"'\.' is not an added token"):
        import_tokenizer(source, Folder(tmp_path / "out"), ".")
    assert import_tokenizer(source, Folder(tmp_path / "out"), EOS).form.end_of_text == EOS


def test_a_lineage_from_a_release_keeps_its_form(tmp_path: Path) -> None:
    first, second = Folder(tmp_path / "first"), Folder(tmp_path / "second")
    source = byte_level(tmp_path / "source", (BOS, "<|endoftext|>", "<|im_end|>"), eos_token="<|im_end|>")
    import_tokenizer(source, first, "<|im_end|>")
    import_tokenizer(first.path, second)
    assert load_definition(second).form == load_definition(first).form


def test_sentencepieces_vocabulary_spells_no_special_token(tmp_path: Path) -> None:
    lineage = Folder(tmp_path / "lineage")
    import_tokenizer(sentencepiece(tmp_path / "source"), lineage)
    definition, words = load_definition(lineage), auto(lineage.path)
    assert (definition.form, definition.end_of_text_id, definition.num_ids) == (
        DocumentForm("</s>", (1,)),
        2,
        len(words),
    )
    for text in (*TEXTS, "</s>", " </s> ", "a</s>b", "<s></s><s>", "<unk></s>\n</s>"):
        ids = definition.tokenizer.encode(text, add_special_tokens=False).ids
        assert not {1, 2} & set(ids), text
        if "s>" not in text:
            assert ids == words(text, add_special_tokens=False)["input_ids"], "every other text keeps its ids"
    kept = definition.tokenizer.encode("the </s> page", add_special_tokens=False).ids
    assert words.decode(kept).strip() == "the </s> page"
    assert choose_backend(definition, "auto", list(TEXTS))[0] in ("tokenizers", "fastokens"), "whichever, ids are equal"
    for ids in documents(tokenize(lineage, Folder(tmp_path / "tokens"))):
        assert (ids[0], ids[-1], ids.count(1), ids.count(2)) == (1, 2, 1, 1)


def test_bpe_merges_that_make_a_special_token_are_left_out(tmp_path: Path) -> None:
    """A vocabulary that was trained on text with markers in it has merges that end in one."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    pieces = ["<", "/", "s", ">", "a", "</", "</s", "</s>", "s>"]
    merges = [("<", "/"), ("</", "s"), ("</s", ">"), ("s", ">")]
    raw = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, merges))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.add_special_tokens(["</s>"])
    (tmp_path / "source").mkdir()
    raw.save(str(tmp_path / "source" / "tokenizer.json"))
    (tmp_path / "source" / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}'
    )
    import_tokenizer(tmp_path / "source", Folder(tmp_path / "out"))
    definition = load_definition(Folder(tmp_path / "out"))
    assert definition.as_saved.encode("a</s>", add_special_tokens=False).ids == [4, 7]
    assert definition.tokenizer.encode("a</s>", add_special_tokens=False).ids == [4, 6, 3]
    assert definition.end_of_text_id == 7


@pytest.mark.parametrize("special", [(BOS, EOS), (BOS, "[gMASK]", "<sop>", EOS)])
def test_files_for_megatron_begin_with_bos_and_come_back_as_the_same_text(
    tmp_path: Path, special: tuple[str, ...]
) -> None:
    lineage, tokens = Folder(tmp_path / "lineage"), Folder(tmp_path / "tokens")
    template = " ".join(special[1:-1] or special[:1]) + " $A"
    import_tokenizer(byte_level(tmp_path / "source", special, template), lineage)
    stored = documents(tokenize(lineage, tokens / "train"))
    for end_of_text in (True, False):
        out = tmp_path / str(end_of_text)
        export_megatron(tokens, out, Silent(), end_of_text)
        files = list(read_megatron(out.with_name(f"{out.name}_train")))
        assert [ids.tolist() for ids in files] == [ids if end_of_text else ids[:-1] for ids in stored]
        decoder = Decoder(load_definition(lineage), IngestSettings(), TokenInputSettings())
        found = [made for ids in files for made in decoder.documents("x", ids.astype(np.int64), {})]
        assert [getattr(made, "text", made) for made in found] == list(TEXTS)
