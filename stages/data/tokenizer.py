"""Tokenizer folders: the definition that decides ids and its digest, shared by every stage that uses a tokenizer.

Ids come from ``tokenizer.json`` alone, with special tokens switched off as input: a page that contains
``<|endoftext|>`` is text about a marker, not the end of a document. The tokens around a text in a document (BOS before
it, end-of-text after it) are fixed when a lineage begins, in ``document_form.json``; folders without that file add
nothing before a text, as in lineages that predate the file.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson
import xxhash
from tokenizers import Tokenizer

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder

TOKENIZER = "tokenizer.json"
CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
DOCUMENT_FORM = "document_form.json"


@dataclass(frozen=True)
class DocumentForm:
    """The ids around a document's text: ``prefix``, the text, ``suffix``, end-of-text."""

    end_of_text: str
    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()  # without end-of-text


@dataclass(frozen=True)
class Definition:
    """Definition of ids: the parts of ``tokenizer.json`` that affect plain text, and the end-of-text token."""

    origin: str  # for messages
    json: str  # tokenizer.json without truncation and padding, the end-of-text token marked special
    form: DocumentForm

    @property
    def end_of_text(self) -> str:
        """The token that ends a document, as text."""
        return self.form.end_of_text

    @cached_property
    def _parsed(self) -> dict[str, Any]:
        value: dict[str, Any] = orjson.loads(self.json)
        return value

    @cached_property
    def digest(self) -> str:
        """32 hex digits over the canonical definition of ids, independent of paths, key order and file layout."""
        value = self._parsed
        model = dict(value["model"])
        if "merges" in model:  # older files write "a b", newer ones ["a", "b"]
            model["merges"] = [pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"]]
        parts = {name: value.get(name) for name in ("added_tokens", "normalizer", "pre_tokenizer")}
        around = [[*self.form.prefix], [*self.form.suffix]] if self.form.prefix or self.form.suffix else []
        canonical = orjson.dumps([parts, model, self.end_of_text, *around], option=orjson.OPT_SORT_KEYS)
        return str(xxhash.xxh3_128_hexdigest(canonical))

    @cached_property
    def as_saved(self) -> Tokenizer:
        """The tokenizer of the file, with special tokens read as text; some models can still produce them."""
        try:
            tokenizer = Tokenizer.from_str(self.json)
        except Exception as error:  # the library raises a bare Exception
            raise UsageError(f"{self.origin}/{TOKENIZER}: the tokenizers library cannot load it: {error}") from error
        tokenizer.encode_special_tokens = True
        if tokenizer.token_to_id(self.end_of_text) is None:
            raise UsageError(
                f"{self.origin}: end-of-text token {self.end_of_text!r} has no id in {TOKENIZER}; name one that has "
                "(tokenizer.end_of_text)"
            )
        return tokenizer

    @cached_property
    def encoding(self) -> str:
        """``tokenizer.json`` as used for encoding: no text becomes a special token.

        SentencePiece vocabularies hold ``</s>`` as a normal piece. Such pieces are made unreachable from text, which is
        then encoded with smaller ones. All other text keeps its ids.
        """
        forged = self._forged(self.as_saved)
        return out_of_reach(self.json, forged) if forged else self.json

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The reference tokenizer, special tokens read as text; ``UsageError`` if text could still produce one."""
        if self.encoding == self.json:
            return self.as_saved
        tokenizer = Tokenizer.from_str(self.encoding)
        tokenizer.encode_special_tokens = True
        if forged := self._forged(tokenizer):
            raise UsageError(
                f"{self.origin}/{TOKENIZER}: the text {forged[0]!r} in a page would become the special token of "
                "that name, even with special tokens switched off; use a tokenizer whose model cannot produce them"
            )
        return tokenizer

    @property
    def affixes(self) -> tuple[list[int], list[int]]:
        """The ids that the post-processor of ``tokenizer.json`` adds before and after a text, except end-of-text."""
        plain, whole = (self.as_saved.encode("a", add_special_tokens=around).ids for around in (False, True))
        start = next((at for at in range(len(whole)) if whole[at : at + len(plain)] == plain), 0)
        return whole[:start], [token for token in whole[start + len(plain) :] if token != self.end_of_text_id]

    @property
    def end_of_text_id(self) -> int:
        """Id of the token that ends a document."""
        return int(self.as_saved.get_vocab(with_added_tokens=True)[self.end_of_text])

    @property
    def num_ids(self) -> int:
        """One more than the highest id."""
        return max(self.as_saved.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def unknown_id(self) -> int | None:
        """Id of the token for text that the model has no token for; None if it has tokens for all."""
        token = self._unknown
        return None if token is None else self.as_saved.get_vocab(with_added_tokens=True).get(token)

    @property
    def dtype(self) -> str:
        """The smallest unsigned type that holds every id: "uint16" or "uint32"."""
        return "uint16" if self.num_ids <= 1 << 16 else "uint32"

    def special_tokens(self) -> list[str]:
        """Return the special tokens as text."""
        return [token["content"] for token in self._parsed.get("added_tokens", []) if token["special"]]

    def _forged(self, tokenizer: Tokenizer) -> list[str]:
        """Return the special tokens that a tokenizer can produce from text."""
        vocabulary = self.as_saved.get_vocab(with_added_tokens=True)
        named = {token for token, number in vocabulary.items() if number in (*self.form.prefix, *self.form.suffix)}
        candidates = sorted({*self.special_tokens(), self.end_of_text, *named} - {self._unknown})
        texts = {token: (token, f"a{token}b", f" {token} ") for token in candidates}
        return [
            token
            for token, forms in texts.items()
            if any(vocabulary.get(token) in tokenizer.encode(text, add_special_tokens=False).ids for text in forms)
        ]

    @property
    def _unknown(self) -> str | None:
        """The unknown token; SentencePiece identifies it by index."""
        model = self._parsed["model"]
        if (place := model.get("unk_id")) is not None and isinstance(model.get("vocab"), list):
            return str(model["vocab"][place][0])
        named: str | None = model.get("unk_token")
        return named


def out_of_reach(definition: str, tokens: list[str]) -> str:
    """Return a ``tokenizer.json`` whose model cannot produce some special tokens; ids and other pieces are unchanged.

    Their pieces are renamed so that no text matches, and merges that would produce them (BPE) are removed. They are
    also removed from the added tokens, which refer to the model by name and are never matched in text anyway.
    """
    value: dict[str, Any] = orjson.loads(definition)
    model, names = value["model"], {token: f"\0 {token} \0" for token in tokens}
    if isinstance(model.get("vocab"), list):  # Unigram: [piece, score]
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
    else:
        model["vocab"] = {names.get(piece, piece): number for piece, number in model["vocab"].items()}
    if "merges" in model:
        pairs = [pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"]]
        model["merges"] = [pair for pair in pairs if not {*pair, "".join(pair)} & set(tokens)]
    value["added_tokens"] = [token for token in value.get("added_tokens") or [] if token["content"] not in names]
    value["post_processor"] = None  # it names them
    return orjson.dumps(value).decode()


def load_definition(folder: Folder, form: DocumentForm | None = None) -> Definition:
    """Read a tokenizer's folder; ``UsageError`` if it has no ``tokenizer.json`` or no end-of-text token.

    ``form`` is the document form; None: the result of ``read_form``.
    """
    if not folder.exists(TOKENIZER):
        raise UsageError(f"{folder}: no {TOKENIZER} in it; expected the folder of a fast Hugging Face tokenizer")
    value = read_object(folder, TOKENIZER)
    if "model" not in value:
        raise UsageError(
            f"{folder}/{TOKENIZER}: no 'model' in it; expected a tokenizer as the tokenizers library saves it"
        )
    form = form or read_form(folder)
    end_of_text = form.end_of_text
    value["truncation"] = value["padding"] = None
    try:
        for token in value.get("added_tokens") or []:
            token["special"] = token.get("special", False) or token["content"] == end_of_text
    except (TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{folder}/{TOKENIZER}: added_tokens: objects with a content expected: {error!r}") from error
    return Definition(str(folder), orjson.dumps(value).decode(), form)


def read_form(folder: Folder) -> DocumentForm:
    """Read the document form that ``write_form`` wrote; without one, only the tokenizer's own end-of-text."""
    if folder.exists(DOCUMENT_FORM):
        kept = read_object(folder, DOCUMENT_FORM)
        try:
            return DocumentForm(str(kept["end_of_text"]), tuple(kept["prefix"]), tuple(kept["suffix"]))
        except (KeyError, TypeError) as error:
            raise UsageError(f"{folder}/{DOCUMENT_FORM}: end_of_text, prefix and suffix expected: {error!r}") from error
    end_of_text = named_end_of_text(folder)
    if end_of_text is None:
        raise UsageError(
            f"{folder}: no eos_token in {CONFIG} or {SPECIAL_TOKENS}; name the token that ends a document "
            "(tokenizer.end_of_text)"
        )
    return DocumentForm(end_of_text)


def write_form(folder: Folder, form: DocumentForm) -> None:
    """Write the document form of a lineage."""
    kept = {"end_of_text": form.end_of_text, "prefix": form.prefix, "suffix": form.suffix}
    folder.write_json(DOCUMENT_FORM, kept)


def tokenizer_digest(folder: Folder) -> str:
    """Return 32 hex digits over the definition of ids (see ``Definition.digest``)."""
    return load_definition(folder).digest


def named_end_of_text(folder: Folder) -> str | None:
    """Return the end-of-text token of a tokenizer's folder, as text; None if it has none."""
    for name in (CONFIG, SPECIAL_TOKENS):
        token = read_object(folder, name).get("eos_token") if folder.exists(name) else None
        if token is not None:
            return str(token["content"] if isinstance(token, dict) else token)
    return None


def read_object(folder: Folder, name: str) -> dict[str, Any]:
    """Read a file's JSON object; ``UsageError`` if it holds anything else, ``DamagedError`` if it is not JSON."""
    value = folder.read_json(name)
    if not isinstance(value, dict):
        raise UsageError(f"{folder}/{name}: a JSON object expected, found {type(value).__name__}")
    return value
