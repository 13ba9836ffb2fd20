"""The trained tokenizer: reversible, deterministic, loadable, and deaf to special tokens in text."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokenizer import load_definition
from rewarm.stages.tokenize import TokenizerSettings, tokenizer_digest, train_tokenizer
from rewarm.stages.tokenize.make_tokenizer import END_OF_TEXT, in_sample

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
TRAIN = """
import sys
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.tokenize import TokenizerSettings, train_tokenizer
train_tokenizer(Folder(sys.argv[1]), Folder(sys.argv[2]), TokenizerSettings(vocab_size=400), Silent())
"""


@given(text=TEXT)
@settings(deadline=None, max_examples=300)
def test_decoding_gives_the_text_back(tokenizer: Folder, text: str) -> None:
    reference = load_definition(tokenizer).tokenizer
    ids = reference.encode(text, add_special_tokens=False).ids
    assert reference.decode(ids, skip_special_tokens=False) == text


@given(before=TEXT, after=TEXT)
@settings(deadline=None)
def test_text_never_becomes_end_of_text(tokenizer: Folder, before: str, after: str) -> None:
    definition = load_definition(tokenizer)
    plain = definition.tokenizer
    text = f"{before}{END_OF_TEXT}{after}"
    assert definition.end_of_text_id not in plain.encode(text, add_special_tokens=False).ids
    naive = Tokenizer.from_file(str(tokenizer.path / "tokenizer.json"))  # without our switch it does: the test can fail
    assert definition.end_of_text_id in naive.encode(text, add_special_tokens=False).ids


def test_has_every_byte_and_end_of_text_first(tokenizer: Folder) -> None:
    definition = load_definition(tokenizer)
    assert (definition.end_of_text, definition.end_of_text_id) == (END_OF_TEXT, 0)
    assert definition.num_ids == 400
    assert definition.dtype == "uint16"
    assert definition.special_tokens() == [END_OF_TEXT]
    singles = [token for token in definition.tokenizer.get_vocab() if len(token) == 1]
    assert len(singles) == 256


def test_no_prefix_space(tokenizer: Folder) -> None:
    reference = load_definition(tokenizer).tokenizer
    assert reference.encode("the").tokens == ["the"]
    assert reference.encode(" the").tokens == ["Ġthe"]


def test_auto_tokenizer_loads_it(tokenizer: Folder) -> None:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(str(tokenizer.path))
    assert loaded.is_fast
    assert (loaded.eos_token_id, loaded.bos_token_id, loaded.pad_token_id) == (0, 0, 0)
    text = "The learning  rate , isn't it ?\r\n é"
    assert loaded(text)["input_ids"] == load_definition(tokenizer).tokenizer.encode(text).ids
    assert loaded.decode(loaded(text)["input_ids"]) == text


@pytest.mark.parametrize("threads", ["1", "4"])
def test_threads_do_not_change_it(dataset: Folder, tokenizer: Folder, tmp_path: Path, threads: str) -> None:
    env = {**os.environ, "RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "true"}
    command = [sys.executable, "-c", TRAIN, str(dataset / "documents"), str(tmp_path)]
    subprocess.run(command, env=env, check=True, cwd=Path(__file__).parents[3])
    assert (tmp_path / "tokenizer.json").read_bytes() == tokenizer.read("tokenizer.json")


def test_order_of_shards_does_not_change_it(dataset: Folder, tokenizer: Folder, tmp_path: Path) -> None:
    for name, other in (("00000", "00002"), ("00002", "00000")):
        target = tmp_path / "documents" / f"{other}.parquet"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes((dataset / "documents").read(f"{name}.parquet"))
    train_tokenizer(Folder(target.parent), Folder(tmp_path), TokenizerSettings(vocab_size=400), Silent())
    assert tokenizer_digest(Folder(tmp_path)) == tokenizer_digest(tokenizer)


def test_sample_is_a_share_by_content(dataset: Folder, tokenizer: Folder, tmp_path: Path) -> None:
    ids = [f"{number:032x}" for number in range(4000)]
    chosen = {doc_id for doc_id in ids if in_sample(doc_id, 0.25)}
    assert 900 < len(chosen) < 1100
    assert chosen < {doc_id for doc_id in ids if in_sample(doc_id, 0.5)}
    assert all(in_sample(doc_id, 1.0) for doc_id in ids)
    train_tokenizer(
        dataset / "documents", Folder(tmp_path), TokenizerSettings(vocab_size=400, sample_bytes=20_000), Silent()
    )
    assert tokenizer_digest(Folder(tmp_path)) != tokenizer_digest(tokenizer)


def test_vocabulary_too_large_for_the_text_is_said(dataset: Folder, tmp_path: Path) -> None:
    notes: list[str] = []

    class Noting(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    train_tokenizer(dataset / "validation", Folder(tmp_path), TokenizerSettings(vocab_size=60_000), Noting())
    assert "vocabulary of" in notes[0]
    assert load_definition(Folder(tmp_path)).num_ids < 60_000


def test_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no text to train a tokenizer on"):
        train_tokenizer(Folder(tmp_path / "none"), Folder(tmp_path / "out"), TokenizerSettings(), Silent())
