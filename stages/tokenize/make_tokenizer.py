"""Creation of a lineage's tokenizer: imported from elsewhere, or trained on the base's documents.

An import copies data files only, never code. Training gives a byte-level BPE, once per lineage and reproducibly: the
same text gives the same tokenizer.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import xxhash
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from rewarm.stages.core.errors import DamagedError, UsageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.storage import Folder
from rewarm.stages.core.temporary import temporary
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
"""Fields that refer to the folder's own code, or to another tokenizer than the imported ``tokenizer.json``."""


def import_tokenizer(source: Path, out: Folder, end_of_text: str | None = None) -> FoundForm:
    """Import an existing Hugging Face tokenizer: its data files byte for byte, never code.

    ``tokenizer_config.json`` is rewritten only if necessary: if it refers to code, has no class or end-of-text token,
    has fields that only transformers 5 knows, or a class whose ids differ from ``tokenizer.json``. The import verifies
    that the copy loads with ``AutoTokenizer``, gives the ids of ``tokenizer.json``, and adds the same tokens around a
    text as the source. ``document_form.json`` records these, and the token that ends a document: ``end_of_text``, or
    the result of ``form_of``. Raises ``UsageError`` if the tokenizer is not fast, needs its own code, or has no
    end-of-text token.
    """
    from rewarm.stages.tokenize.backends import special_cases

    if not (source / TOKENIZER).is_file():
        raise UsageError(
            f"{source}: contains no {TOKENIZER}; expected the folder of a fast Hugging Face tokenizer. Convert a "
            "SentencePiece or Python tokenizer first: AutoTokenizer.from_pretrained(…).save_pretrained(…)"
        )
    refuse_chance(source)
    original = load_auto(source)
    found = form_of(source, original, end_of_text)
    with temporary("tokenizer") as scratch:
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
        note = found.note
        if not same_ids(copy.path, definition, texts):  # a class that builds its own tokenizer over the file's
            copy.write_json(CONFIG, {**config, "tokenizer_class": FAST_CLASS})
            if not same_ids(copy.path, definition, texts):
                raise UsageError(
                    f"{source}: AutoTokenizer and {TOKENIZER} give different ids; save it with a fast class first"
                )
            note += (
                f"; the ids are those of {TOKENIZER}, which differ from those of its class {type(original).__name__}"
            )
        if affixes(load_auto(copy.path)) != affixes(original):
            raise UsageError(
                f"{source}: its own class and {FAST_CLASS} add different tokens around a text with the same files; "
                "save it with a fast class first"
            )
        definition.tokenizer  # noqa: B018  raises if text could become a special token
        for name in copy.files():
            out.write(name, copy.read(name))
    return replace(found, note=note)


def refuse_chance(source: Path) -> None:
    """Refuse a file that is not JSON, or BPE dropout, which encodes a text differently each time (``UsageError``)."""
    try:
        model = read_object(Folder(source), TOKENIZER).get("model")
    except DamagedError as error:
        raise UsageError(f"{source / TOKENIZER}: not JSON; download or copy the folder again") from error
    if isinstance(model, dict) and model.get("dropout"):
        raise UsageError(
            f"{source / TOKENIZER}: model.dropout is {model['dropout']}, so the same text has different ids each time "
            "it is encoded; set it to null"
        )


def source_digest(source: Path, end_of_text: str | None) -> str:
    """Return the digest that the lineage's tokenizer will have after ``import_tokenizer``."""
    kept = load_definition(Folder(source), form_of(source, load_auto(source), end_of_text).form)
    return kept.digest


def load_auto(folder: Path) -> Any:
    """Load a folder's tokenizer with ``AutoTokenizer``, without its code; ``UsageError`` if it is not fast."""
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
    """Return whether ``AutoTokenizer`` gives the ids of ``tokenizer.json`` for texts, special tokens read as text."""
    backend = load_auto(folder).backend_tokenizer
    backend.encode_special_tokens = True
    backend.no_truncation()
    backend.no_padding()
    return all(
        backend.encode(text, add_special_tokens=False).ids
        == definition.as_saved.encode(text, add_special_tokens=False).ids
        for text in texts
    )


END_OF_TEXT = "<|endoftext|>"
HASH_RANGE = 1 << 64
SAMPLE_SEED = 0x70CE  # makes the sample independent of the hash that chose the validation split


def train_tokenizer(documents: Folder, out: Folder, settings: TokenizerSettings, progress: Progress) -> None:
    """Train on the document shards (contract 1) directly in ``documents`` and write the tokenizer's files to ``out``.

    As in GPT-2 and GPT-NeoX: byte-level BPE, no prefix space, every byte in the alphabet, end-of-text as id 0 and the
    only special token; without GPT-NeoX's NFC, so that decoding restores the text exactly. Merges depend on word
    counts, with ties broken by id, so neither document order nor threads change the result. Raises ``UsageError`` if
    there is no text.
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
            f"the text gives a vocabulary of {found}, not {settings.vocab_size}: no remaining pair occurs twice"
        )
    out.write(TOKENIZER, tokenizer.to_str(pretty=True).encode())
    config = {
        "tokenizer_class": FAST_CLASS,
        "bos_token": end_of_text,
        "eos_token": end_of_text,
        "pad_token": end_of_text,  # batched generation pads; the attention mask hides it
        "clean_up_tokenization_spaces": False,
    }
    out.write(CONFIG, orjson.dumps(config, option=orjson.OPT_INDENT_2))


def in_sample(doc_id: str, share: float) -> bool:
    """Return whether a document belongs to the sample: by its content hash, hashed again, independently of shards."""
    return int(xxhash.xxh3_64_intdigest(doc_id.encode(), seed=SAMPLE_SEED)) < share * HASH_RANGE


def _total_bytes(documents: Folder) -> int:
    import pyarrow.compute as pc

    return sum(
        pc.sum(batch.column("num_bytes")).as_py() or 0 for batch in read_shards(documents, columns=["num_bytes"])
    )


def _sample(documents: Folder, total: int, sample_bytes: int, progress: Progress) -> Iterator[list[str]]:
    """Yield the texts to train on in batches: all, or an unbiased sample of about ``sample_bytes``."""
    share = sample_bytes / total
    for batch in read_shards(documents, columns=["doc_id", "text", "num_bytes"]):
        rows = zip(
            batch.column("doc_id").to_pylist(), batch.column("text"), batch.column("num_bytes").to_pylist(), strict=True
        )
        chosen = [(text.as_py(), size) for doc_id, text, size in rows if in_sample(doc_id, share)]
        yield [text for text, _ in chosen]
        progress.advance(sum(size for _, size in chosen))
