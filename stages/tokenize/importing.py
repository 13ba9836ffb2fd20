"""A tokenizer that was made elsewhere, taken over: its data files only, never code."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from stages.errors import UsageError
from stages.model_folder import PORTABLE_CLASS, TOKENIZER_FILES, portable_tokenizer
from stages.storage import Folder
from stages.tokenize.form import FoundForm, affixes, form_of
from stages.tokenizer_folder import (
    CONFIG,
    TOKENIZER,
    Definition,
    load_definition,
    named_end_of_text,
    read_object,
    write_form,
)

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
    from stages.tokenize.backends import special_cases

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
