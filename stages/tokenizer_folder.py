"""A tokenizer as a folder, shared by whoever turns text into ids or ids into text: what decides ids, and its digest.

Ids come from ``tokenizer.json`` alone, with special tokens switched off as input: a page that contains
``<|endoftext|>`` is text about a marker, not the end of a document.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson
import xxhash
from tokenizers import Tokenizer

from stages.errors import UsageError
from stages.storage import Folder

TOKENIZER = "tokenizer.json"
CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"


@dataclass(frozen=True)
class Definition:
    """What decides ids: the parts of ``tokenizer.json`` that act on plain text, and the end-of-text token."""

    origin: str  # for messages
    json: str  # tokenizer.json without truncation and padding, the end-of-text token marked special
    end_of_text: str

    @cached_property
    def _parsed(self) -> dict[str, Any]:
        value: dict[str, Any] = orjson.loads(self.json)
        return value

    @cached_property
    def digest(self) -> str:
        """32 hex digits over what decides ids, in one canonical form: not over paths, key order or file layout."""
        value = self._parsed
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
        return [token["content"] for token in self._parsed.get("added_tokens", []) if token["special"]]

    def _refuse_forged(self, tokenizer: Tokenizer) -> None:
        unknown = self._parsed["model"].get("unk_token")
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
    value = read_object(folder, TOKENIZER)
    if "model" not in value:
        raise UsageError(
            f"{folder}/{TOKENIZER}: no 'model' in it; expected a tokenizer as the tokenizers library saves it"
        )
    end_of_text = named_end_of_text(folder)
    if end_of_text is None:
        raise UsageError(f"{folder}: no eos_token in {CONFIG} or {SPECIAL_TOKENS}; name the token that ends a document")
    value["truncation"] = value["padding"] = None
    for token in value.get("added_tokens") or []:
        token["special"] = token.get("special", False) or token["content"] == end_of_text
    return Definition(str(folder), orjson.dumps(value).decode(), end_of_text)


def tokenizer_digest(folder: Folder) -> str:
    """32 hex digits over what decides ids (see ``Definition.digest``)."""
    return load_definition(folder).digest


def named_end_of_text(folder: Folder) -> str | None:
    """The end-of-text token that a tokenizer's folder names, as text; None where it names none."""
    for name in (CONFIG, SPECIAL_TOKENS):
        token = read_object(folder, name).get("eos_token") if folder.exists(name) else None
        if token is not None:
            return str(token["content"] if isinstance(token, dict) else token)
    return None


def read_object(folder: Folder, name: str) -> dict[str, Any]:
    """A file's JSON object; ``UsageError`` where it holds anything else."""
    try:
        value = folder.read_json(name)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{folder}/{name}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UsageError(f"{folder}/{name}: a JSON object expected, found {type(value).__name__}")
    return value
