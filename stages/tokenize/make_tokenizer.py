"""A tokenizer that was made elsewhere, taken over: its data files only, never code.

Training a byte-level BPE on the base's documents: once in a lineage, the same tokenizer from the same text.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow.compute as pc
import xxhash
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import read_shards
from rewarm.stages.data.model_folder import PORTABLE_CLASS, TOKENIZER_FILES, portable_tokenizer
from rewarm.stages.data.tokenizer import (
    CONFIG,
    TOKENIZER,
    Definition,
    load_definition,
    named_end_of_text,
    read_object,
    write_form,
)
from rewarm.stages.tokenize.form import FoundForm, affixes, form_of
from rewarm.stages.tokenize.settings import TokenizerSettings

FAST_CLASS = PORTABLE_CLASS
NOT_TAKEN = ("auto_map", "fast_tokenizer_files")
"""Fields that name the folder's own code, or another tokenizer than the ``tokenizer.json`` that is taken."""


def import_tokenizer(source: Path, out: Folder, end_of_text: str | None = None) -> FoundForm:
    """Take over an existing Hugging Face tokenizer: its data files byte for byte, never code.

    ``tokenizer_config.json`` is written anew only if it must change: it names code, no class or no end-of-text token,
    what only transformers 5 knows, or a class that gives other ids than ``tokenizer.json``. The copy loads with
    ``AutoTokenizer``, gives the ids of ``tokenizer.json``, and puts around a text what the source does, which is
    checked. ``document_form.json`` fixes that, and the token that ends a document: ``end_of_text``, or what ``form_of``
    finds. Raises ``UsageError`` if the tokenizer is not a fast one, needs its own code, or has no end-of-text token.
    """
    from rewarm.stages.tokenize.backends import special_cases

    if not (source / TOKENIZER).is_file():
        raise UsageError(
            f"{source}: no {TOKENIZER} in it; expected the folder of a fast Hugging Face tokenizer. A SentencePiece "
            "or Python tokenizer has to be converted first: AutoTokenizer.from_pretrained(…).save_pretrained(…)"
        )
    original = load_auto(source)
    found = form_of(source, original, end_of_text)
    with tempfile.TemporaryDirectory(prefix="rewarm-") as scratch:
        copy = Folder(scratch)
        for name in TOKENIZER_FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, copy.path / name)
        given: dict[str, Any] = read_object(copy, CONFIG) if copy.exists(CONFIG) else {}
        config = {name: value for name, value in portable_tokenizer(given).items() if name not in NOT_TAKEN}
        if named_end_of_text(copy) is None:
            config["eos_token"] = original.eos_token or found.form.end_of_text
        config.setdefault("tokenizer_class", FAST_CLASS)
        if config != given:
            copy.write_json(CONFIG, config)
        write_form(copy, found.form)
        definition = load_definition(copy)
        texts = special_cases(definition)
        if not same_ids(copy.path, definition, texts):  # a class that builds its own tokenizer over the file's
            copy.write_json(CONFIG, {**config, "tokenizer_class": FAST_CLASS})
            if not same_ids(copy.path, definition, texts):
                raise UsageError(
                    f"{source}: AutoTokenizer gives other ids than {TOKENIZER}; save it with a fast class first"
                )
        if affixes(load_auto(copy.path)) != affixes(original):
            raise UsageError(
                f"{source}: its own class puts other tokens around a text than {FAST_CLASS} does with the same files; "
                "save it with a fast class first"
            )
        definition.tokenizer  # noqa: B018  raises where text could become a special token
        for name in copy.files():
            out.write(name, copy.read(name))
    return found


def source_digest(source: Path, end_of_text: str | None) -> str:
    """The digest that ``import_tokenizer`` will give the lineage's tokenizer."""
    kept = load_definition(Folder(source), form_of(source, load_auto(source), end_of_text).form)
    return kept.digest


def load_auto(folder: Path) -> Any:
    """``AutoTokenizer``'s tokenizer of a folder, without its code; ``UsageError`` where that is not a fast one."""
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # transformers raises many kinds
        raise UsageError(f"{folder}: AutoTokenizer cannot load it without running its own code: {error}") from error
    if not loaded.is_fast:
        raise UsageError(
            f"{folder}: {type(loaded).__name__} is not a fast tokenizer; expected one backed by {TOKENIZER}"
        )
    return loaded


def same_ids(folder: Path, definition: Definition, texts: list[str]) -> bool:
    """Whether ``AutoTokenizer`` gives the ids of a ``tokenizer.json`` for the texts, special tokens read as text."""
    backend = load_auto(folder).backend_tokenizer
    backend.encode_special_tokens = True
    return all(
        backend.encode(text, add_special_tokens=False).ids
        == definition.as_saved.encode(text, add_special_tokens=False).ids
        for text in texts
    )


END_OF_TEXT = "<|endoftext|>"
HASH_RANGE = 1 << 64
SAMPLE_SEED = 0x70CE  # apart from the hash that chose the validation split


def train_tokenizer(documents: Folder, out: Folder, settings: TokenizerSettings, progress: Progress) -> None:
    """Train on the document shards (contract 1) directly in ``documents`` and write the tokenizer's files into ``out``.

    Like GPT-2 and GPT-NeoX: byte-level BPE, no prefix space, every byte in the alphabet, end-of-text as id 0 and
    the only special token; without GPT-NeoX's NFC, so that decoding gives the text back exactly. Merges follow from
    counts of words, with ties broken by id, so neither the order of documents nor threads change the result. Raises
    ``UsageError`` where there is no text.
    """
    total = _total_bytes(documents)
    if not total:
        raise UsageError(f"{documents}: no text to train a tokenizer on; expected document shards (*.parquet)")
    end_of_text = settings.end_of_text or END_OF_TEXT
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size,
        min_frequency=2,
        show_progress=False,
        special_tokens=[end_of_text],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    progress.begin("training the tokenizer", min(total, settings.sample_bytes), "bytes")
    tokenizer.train_from_iterator(_sample(documents, total, settings.sample_bytes, progress), trainer)
    if (found := tokenizer.get_vocab_size()) < settings.vocab_size:
        progress.note(
            f"the text gives a vocabulary of {found}, not {settings.vocab_size}: no pair is left that occurs twice"
        )
    out.write(TOKENIZER, tokenizer.to_str(pretty=True).encode())
    config = {
        "tokenizer_class": FAST_CLASS,
        "bos_token": end_of_text,
        "eos_token": end_of_text,
        "pad_token": end_of_text,  # generation in batches pads; the mask hides it
        "clean_up_tokenization_spaces": False,
    }
    out.write(CONFIG, orjson.dumps(config, option=orjson.OPT_INDENT_2))


def in_sample(doc_id: str, share: float) -> bool:
    """Whether a document belongs to the sample: by its content hash, hashed again, so whatever shard it lies in."""
    return int(xxhash.xxh3_64_intdigest(doc_id.encode(), seed=SAMPLE_SEED)) < share * HASH_RANGE


def _total_bytes(documents: Folder) -> int:
    return sum(
        pc.sum(batch.column("num_bytes")).as_py() or 0 for batch in read_shards(documents, columns=["num_bytes"])
    )


def _sample(documents: Folder, total: int, sample_bytes: int, progress: Progress) -> Iterator[list[str]]:
    """The texts to train on, a batch at a time: all, or an unbiased share of about ``sample_bytes``."""
    share = sample_bytes / total
    for batch in read_shards(documents, columns=["doc_id", "text", "num_bytes"]):
        rows = zip(
            batch.column("doc_id").to_pylist(), batch.column("text"), batch.column("num_bytes").to_pylist(), strict=True
        )
        chosen = [(text.as_py(), size) for doc_id, text, size in rows if in_sample(doc_id, share)]
        yield [text for text, _ in chosen]
        progress.advance(sum(size for _, size in chosen))
