"""How a tokenizer that was made elsewhere is taken over: its data files only, never code."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from stages.errors import UsageError
from stages.storage import Folder
from stages.tokenizer_folder import (
    CONFIG,
    SPECIAL_TOKENS,
    TOKENIZER,
    Definition,
    load_definition,
    named_end_of_text,
    read_object,
)

SAFE_FILES = (TOKENIZER, CONFIG, SPECIAL_TOKENS, "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt")
FAST_CLASS = "PreTrainedTokenizerFast"  # takes tokenizer.json as it is


def import_tokenizer(source: Path, out: Folder) -> None:
    """Take over an existing Hugging Face tokenizer: its data files only, never code.

    The copy loads with ``AutoTokenizer`` and gives the ids of ``tokenizer.json``, which is checked. Raises
    ``UsageError`` where the tokenizer is not a fast one, needs its own code, or has no end-of-text token.
    """
    from stages.tokenize.backends import special_cases

    if not (source / TOKENIZER).is_file():
        raise UsageError(
            f"{source}: no {TOKENIZER} in it; expected the folder of a fast Hugging Face tokenizer. A SentencePiece "
            "or Python tokenizer has to be converted first: AutoTokenizer.from_pretrained(…).save_pretrained(…)"
        )
    original = _load_auto(source)
    with tempfile.TemporaryDirectory(prefix="rewarm-") as scratch:
        copy = Folder(scratch)
        for name in SAFE_FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, copy.path / name)
        config: dict[str, Any] = read_object(copy, CONFIG) if copy.exists(CONFIG) else {}
        config.pop("auto_map", None)
        if named_end_of_text(copy) is None:
            config["eos_token"] = original.eos_token
        config.setdefault("tokenizer_class", FAST_CLASS)
        copy.write_json(CONFIG, config)
        definition = load_definition(copy)
        texts = special_cases(definition)
        if not same_ids(copy.path, definition, texts):  # a class that builds its own tokenizer over the file's
            copy.write_json(CONFIG, {**config, "tokenizer_class": FAST_CLASS})
            if not same_ids(copy.path, definition, texts):
                raise UsageError(
                    f"{source}: AutoTokenizer gives other ids than {TOKENIZER}; save it with a fast class first"
                )
        for name in copy.files():
            out.write(name, copy.read(name))


def _load_auto(folder: Path) -> Any:
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
    """Whether ``AutoTokenizer`` gives a definition's ids for the texts, special tokens read as text."""
    backend = _load_auto(folder).backend_tokenizer
    backend.encode_special_tokens = True
    return all(
        backend.encode(text, add_special_tokens=False).ids
        == definition.tokenizer.encode(text, add_special_tokens=False).ids
        for text in texts
    )
