"""A tokenizer as a folder: what decides its ids, its digest, and how one made elsewhere is taken over.

Ids come from ``tokenizer.json`` alone, with special tokens switched off as input: a page that contains
``<|endoftext|>`` is text about a marker, not the end of a document.
"""

import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
import xxhash
from tokenizers import Tokenizer

from stages.errors import UsageError
from stages.storage import Folder

TOKENIZER = "tokenizer.json"
CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
SAFE_FILES = (TOKENIZER, CONFIG, SPECIAL_TOKENS, "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt")
FAST_CLASS = "PreTrainedTokenizerFast"  # takes tokenizer.json as it is


@dataclass(frozen=True)
class Definition:
    """What decides ids: the parts of ``tokenizer.json`` that act on plain text, and the end-of-text token."""

    origin: str  # for messages
    json: str  # tokenizer.json without truncation and padding, the end-of-text token marked special
    end_of_text: str

    @cached_property
    def digest(self) -> str:
        """32 hex digits over what decides ids, in one canonical form: not over paths, key order or file layout."""
        value = orjson.loads(self.json)
        model = dict(value["model"])
        if "merges" in model:  # older files write "a b", newer ones ["a", "b"]
            model["merges"] = [pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"]]
        parts = {name: value.get(name) for name in ("added_tokens", "normalizer", "pre_tokenizer")}
        canonical = orjson.dumps([parts, model, self.end_of_text], option=orjson.OPT_SORT_KEYS)
        return str(xxhash.xxh3_128_hexdigest(canonical))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The reference tokenizer, special tokens read as text; ``UsageError`` where text could still forge one."""
        try:
            tokenizer = Tokenizer.from_str(self.json)
        except Exception as error:  # the library raises a bare Exception
            raise UsageError(f"{self.origin}/{TOKENIZER}: not a tokenizer that tokenizers can load: {error}") from error
        tokenizer.encode_special_tokens = True
        if tokenizer.token_to_id(self.end_of_text) is None:
            raise UsageError(
                f"{self.origin}: end-of-text token {self.end_of_text!r} has no id in {TOKENIZER}; name one that has"
            )
        self._refuse_forged(tokenizer)
        return tokenizer

    @property
    def end_of_text_id(self) -> int:
        """Id of the token that closes a document."""
        return int(self.tokenizer.get_vocab(with_added_tokens=True)[self.end_of_text])

    @property
    def num_ids(self) -> int:
        """One more than the greatest id."""
        return max(self.tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def dtype(self) -> str:
        """The smallest unsigned type that holds every id: "uint16" or "uint32"."""
        return "uint16" if self.num_ids <= 1 << 16 else "uint32"

    def special_tokens(self) -> list[str]:
        """The special tokens as text."""
        return [token["content"] for token in orjson.loads(self.json).get("added_tokens", []) if token["special"]]

    def _refuse_forged(self, tokenizer: Tokenizer) -> None:
        unknown = orjson.loads(self.json)["model"].get("unk_token")
        for token in {*self.special_tokens(), self.end_of_text} - {unknown}:
            if tokenizer.token_to_id(token) in tokenizer.encode(token, add_special_tokens=False).ids:
                raise UsageError(
                    f"{self.origin}/{TOKENIZER}: the text {token!r} in a page would become the special token of "
                    "that name, even with special tokens switched off; take one whose model cannot spell them"
                )


def load_definition(folder: Folder) -> Definition:
    """Read a tokenizer's folder; ``UsageError`` where there is no ``tokenizer.json`` or no end-of-text token."""
    if not folder.exists(TOKENIZER):
        raise UsageError(f"{folder}: no {TOKENIZER} in it; expected the folder of a fast Hugging Face tokenizer")
    value = _json(folder, TOKENIZER)
    if "model" not in value:
        raise UsageError(
            f"{folder}/{TOKENIZER}: no 'model' in it; expected a tokenizer as the tokenizers library saves it"
        )
    end_of_text = _named_end_of_text(folder)
    if end_of_text is None:
        raise UsageError(f"{folder}: no eos_token in {CONFIG} or {SPECIAL_TOKENS}; name the token that ends a document")
    value["truncation"] = value["padding"] = None
    for token in value.get("added_tokens") or []:
        token["special"] = token.get("special", False) or token["content"] == end_of_text
    return Definition(str(folder), orjson.dumps(value).decode(), end_of_text)


def tokenizer_digest(folder: Folder) -> str:
    """32 hex digits over what decides ids (see ``Definition.digest``)."""
    return load_definition(folder).digest


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
        config: dict[str, Any] = _json(copy, CONFIG) if copy.exists(CONFIG) else {}
        config.pop("auto_map", None)
        if _named_end_of_text(copy) is None:
            config["eos_token"] = original.eos_token
        config.setdefault("tokenizer_class", FAST_CLASS)
        copy.write_json(CONFIG, config)
        definition = load_definition(copy)
        texts = special_cases(definition)
        if not _same_ids(copy.path, definition, texts):  # a class that builds its own tokenizer over the file's
            copy.write_json(CONFIG, {**config, "tokenizer_class": FAST_CLASS})
            if not _same_ids(copy.path, definition, texts):
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


def _same_ids(folder: Path, definition: Definition, texts: list[str]) -> bool:
    backend = _load_auto(folder).backend_tokenizer
    backend.encode_special_tokens = True
    return all(
        backend.encode(text, add_special_tokens=False).ids
        == definition.tokenizer.encode(text, add_special_tokens=False).ids
        for text in texts
    )


def _named_end_of_text(folder: Folder) -> str | None:
    for name in (CONFIG, SPECIAL_TOKENS):
        token = _json(folder, name).get("eos_token") if folder.exists(name) else None
        if token is not None:
            return str(token["content"] if isinstance(token, dict) else token)
    return None


def _json(folder: Folder, name: str) -> dict[str, Any]:
    try:
        value = folder.read_json(name)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{folder}/{name}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UsageError(f"{folder}/{name}: a JSON object expected, found {type(value).__name__}")
    return value
