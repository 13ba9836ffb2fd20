"""fastokens against the reference: equal on fuzzed text, and found out where it is not."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokenizer import Definition, load_definition
from rewarm.stages.tokenize.backends import (
    Fast,
    Mismatch,
    Reference,
    choose_backend,
    encoder_of,
    first_mismatch,
    special_cases,
)

PIECES = st.sampled_from(
    ["<|endoftext|>", "<|endof", "text|>", " ", "  ", "\t", "\r\n", "\x00", "e\u0301", "👩‍👩‍👧", "'s", "12", "學"]
)
TEXT = st.lists(st.one_of(PIECES, st.text(st.characters(exclude_categories=["Cs"]), max_size=20)), max_size=12).map(
    "".join
)


@pytest.fixture(scope="module")
def definition(tokenizer: Folder) -> Definition:
    return load_definition(tokenizer)


@pytest.fixture(scope="module")
def fast(definition: Definition) -> Fast:
    return Fast(definition)


@given(texts=st.lists(TEXT, max_size=8))
@settings(deadline=None, max_examples=300)
def test_fastokens_equals_tokenizers(definition: Definition, fast: Fast, texts: list[str]) -> None:
    assert first_mismatch(Reference(definition), fast, texts) is None
    assert definition.end_of_text_id not in fast.encode(texts)[0]


def test_offsets_and_types(definition: Definition) -> None:
    texts = ["the rate", "", "é"]
    for encoder in (Reference(definition), Fast(definition)):
        ids, offsets = encoder.encode(texts)
        assert (ids.dtype, offsets.dtype) == (np.uint32, np.int64)
        pieces = [ids[a:b].tolist() for a, b in pairwise(offsets)]
        assert pieces == [definition.tokenizer.encode(text).ids for text in texts]
        assert encoder.encode([])[1].tolist() == [0]


def test_first_mismatch_names_document_and_position(definition: Definition) -> None:
    class Off:
        """The reference, but for one id of the second text."""

        def __init__(self, cut: bool) -> None:
            self.cut = cut

        def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
            ids, offsets = Reference(definition).encode(texts)
            if self.cut:
                return ids[:-1], np.array([*offsets[:-1], offsets[-1] - 1])
            ids[offsets[1] + 2] += 1
            return ids, offsets

    texts = ["x y", "a b c"]
    expected = definition.tokenizer.encode("a b c").ids
    found = first_mismatch(Reference(definition), Off(cut=False), texts)
    assert found == Mismatch(1, 2, expected[2], expected[2] + 1)
    found = first_mismatch(Reference(definition), Off(cut=True), texts)
    assert found == Mismatch(1, len(expected) - 1, expected[-1], None)


def test_special_cases_hold_the_special_tokens(definition: Definition) -> None:
    texts = special_cases(definition)
    assert "" in texts
    assert "<|endoftext|>" in texts
    assert any("\x00" in text for text in texts)


def test_fastokens_is_chosen_where_equal(definition: Definition) -> None:
    assert choose_backend(definition, "auto", ["the rate"]) == (
        "fastokens",
        "its ids equal tokenizers' on the special cases and on 1 documents of the data",
    )
    assert choose_backend(definition, "tokenizers", []) == ("tokenizers", "asked for")


def test_tokenizer_that_fastokens_rejects_falls_back(tmp_path: Path) -> None:
    raw = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.add_special_tokens(["</s>"])
    raw.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    words = load_definition(Folder(tmp_path))
    backend, reason = choose_backend(words, "auto", ["a"])
    assert backend == "tokenizers"
    assert "fastokens" in reason
    with pytest.raises(UsageError, match=r"tokenize\.backend=fastokens"):
        choose_backend(words, "fastokens", ["a"])


def test_mismatch_falls_back_and_says_where(definition: Definition, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder that normalizes where the reference does not: a real difference, on special cases or in the data."""
    other = replace(
        definition, json=orjson.dumps({**orjson.loads(definition.json), "normalizer": {"type": "Lowercase"}}).decode()
    )
    lowering = Fast(other)
    monkeypatch.setattr("rewarm.stages.tokenize.backends.Fast", lambda _: lowering)
    backend, reason = choose_backend(definition, "auto", ["plain"])
    assert backend == "tokenizers"
    assert "on the special cases (document" in reason
    monkeypatch.setattr("rewarm.stages.tokenize.backends.special_cases", lambda _: ["plain"])
    backend, reason = choose_backend(definition, "auto", ["plain", "NOT PLAIN"])
    assert backend == "tokenizers"
    assert "on a sample of the data (document 1, token 0" in reason


def test_changed_tokenizer_is_refused(tokenizer: Folder) -> None:
    with pytest.raises(UsageError, match="changed while in use"):
        encoder_of(tokenizer, "0" * 32, "tokenizers")
    digest = load_definition(tokenizer).digest
    assert encoder_of(tokenizer, digest, "fastokens") is encoder_of(tokenizer, digest, "fastokens")
