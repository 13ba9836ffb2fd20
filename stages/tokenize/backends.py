"""Encoder backends with one interface: ``tokenizers``, the reference, and ``fastokens``, used if its ids are equal.

Both return ``(ids, offsets)``: the ids of all texts in one uint32 array, text ``i`` at
``ids[offsets[i]:offsets[i + 1]]``. Special tokens are neither added nor recognised in the text.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokenizer import Definition, load_definition

CASES = (
    *("", " ", "  ", "\n", "\t", "\r\n", "\x00", "a", "a ", " a", "\ufeffBOM", "\u00a0\u2003\u3000x"),
    *(
        "a  b   c" + " " * 33 + "d",
        "x\n\n\n\ty  \n ",
        "one\r\ntwo\rthree\n\rfour\r\n\r\n",
        "def f(x):\n\t\treturn  x\n",
    ),
    *("0 1 12 123 1234 12345678901234567890", "3.14e-10, 1,000,000; ½ ² ٣ 四", "don't I'LL we've 'S ''t"),
    *("e\u0301 é a\u0308\u0323 \u0301\u0301\u0301", "\ufb01 \u212b K ſ İ ı ß ẞ", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢"),
    *(
        "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇩🇪🇫🇷",
        "日本語の文。中文，沒有空格。한국어 띄어쓰기",
        "שלום עולם مرحبا بالعالم \u202bRTL\u202c",
        "ไทยไม่มีช่องว่าง हिन्दी",
    ),
    *(
        "a\x00b\x00\x00c\x7f\x1b[0m",
        "\ufffd\ufffe\uffff\U0010ffff \ue000",
        "Ã¼ Ã© â€™ \x80\x9f\xad",
        "\u200b\u200c\u200d\u2060",
    ),
    *("a" * 5000, "ab" * 4000, "é" * 3000, "=" * 300 + "-" * 77, "https://example.org/a_b?c=d&e=%20#f", "𝕬𝖇𝖈 𐍈 𒀀"),
)

NO_IDS = np.empty(0, dtype=np.uint32)


class Encoder(Protocol):
    """Interface of an encoder from texts to ids."""

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return ids (uint32, flat) and offsets (int64, one more than the number of texts)."""


class Reference:
    """Encoder backed by the ``tokenizers`` library."""

    def __init__(self, definition: Definition) -> None:
        self._tokenizer = definition.tokenizer

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """See ``Encoder``."""
        # One text per call: uses the threads that the task requested from Ray, not all of the machine's.
        ids = [self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids for text in texts]
        offsets = np.cumsum([0, *map(len, ids)], dtype=np.int64)
        return np.concatenate([NO_IDS, *(np.array(values, dtype=np.uint32) for values in ids)]), offsets


class Fast:
    """Encoder backed by the ``fastokens`` library, whose exceptions for unsupported tokenizers are passed on."""

    def __init__(self, definition: Definition) -> None:
        # Read once per process by the library's thread pool. With one thread it runs in the calling thread, so a task
        # uses the CPUs that it requested; otherwise every task would use all CPUs of the machine.
        os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")
        import fastokens

        self._tokenizer = fastokens.Tokenizer.from_json_str(definition.encoding)

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """See ``Encoder``."""
        ids, offsets = self._tokenizer.encode_batch_flat(
            list(texts), add_special_tokens=False, split_special_tokens=True
        )
        return np.frombuffer(ids, dtype=np.uint32), np.frombuffer(offsets, dtype=np.uint64).astype(np.int64)


@cache
def encoder_of(tokenizer: Folder, digest: str, backend: str) -> Encoder:
    """Return the encoder of a tokenizer's folder, loaded once per process; ``digest`` detects changes of the folder."""
    definition = load_definition(tokenizer)
    if definition.digest != digest:
        raise UsageError(f"{tokenizer}: changed while in use: expected digest {digest}, found {definition.digest}")
    return Fast(definition) if backend == "fastokens" else Reference(definition)


@dataclass(frozen=True)
class Mismatch:
    """First difference of two encoders: id ``position`` of text ``document``; None if one of them has fewer ids."""

    document: int
    position: int
    expected: int | None
    found: int | None

    def __str__(self) -> str:
        return f"document {self.document}, token {self.position}: expected {self.expected}, found {self.found}"


def first_mismatch(expected: Encoder, found: Encoder, texts: Sequence[str]) -> Mismatch | None:
    """Return the first text and position at which ``found`` differs from ``expected``; None if all ids are equal."""
    ids, offsets = expected.encode(texts)
    other_ids, other_offsets = found.encode(texts)
    if np.array_equal(ids, other_ids) and np.array_equal(offsets, other_offsets):
        return None
    for document in range(len(texts)):
        left = ids[offsets[document] : offsets[document + 1]].tolist()
        right = other_ids[other_offsets[document] : other_offsets[document + 1]].tolist()
        if left != right:
            both = zip(left, right, strict=False)
            position = next((i for i, (a, b) in enumerate(both) if a != b), min(len(left), len(right)))
            pick = [values[position] if position < len(values) else None for values in (left, right)]
            return Mismatch(document, position, *pick)
    raise AssertionError("the ids of each text are equal, but not those of all texts")


def special_cases(definition: Definition) -> list[str]:
    """Return texts on which encoders tend to differ: whitespace, Unicode, controls, long words, special tokens."""
    tokens = [*definition.special_tokens()[:64], definition.end_of_text]
    embedded = [
        form for token in tokens for form in (token, f"a{token}b", f" {token} \n{token}{token}", token[:-1], token[1:])
    ]
    return [*CASES, *embedded, "\n".join(CASES[:-6]), *shared_prefixes()]


def shared_prefixes() -> list[str]:
    """Return texts with a long common prefix that differ within a run of one class of characters.

    An encoder that caches results of the previous text could reuse a word that ends elsewhere in the next one.
    """
    beginning = "the quick brown fox. " * 250
    runs = (" " * 300, "\n" * 40, "\t \n" * 20, "abc" * 100, "12345" * 40, "é" * 50)
    return [
        beginning + run[:-cut] + after for run in runs for cut, after in ((1, run[-1]), (3, "x tail"), (2, " tail"))
    ]


def choose_backend(definition: Definition, wanted: str, sample: Sequence[str]) -> tuple[str, str]:
    """Return the backend to use, "fastokens" or "tokenizers", and the reason.

    ``wanted`` is "auto" or one of the two. Raises ``UsageError`` if fastokens is requested but its ids differ.
    """
    if wanted == "tokenizers":
        return "tokenizers", "asked for"
    try:
        reason = _why_not_fast(definition, sample)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic in Rust arrives as a BaseException
        reason = f"fastokens cannot use this tokenizer: {type(error).__name__}: {error}"
    if reason is None:
        return "fastokens", f"its ids equal tokenizers' on the special cases and on {len(sample)} documents of the data"
    if wanted == "fastokens":
        raise UsageError(f"tokenize.backend=fastokens: {reason}; set tokenize.backend to auto or tokenizers")
    return "tokenizers", reason


def _why_not_fast(definition: Definition, sample: Sequence[str]) -> str | None:
    reference, fast = Reference(definition), Fast(definition)
    for what, texts in (("the special cases", special_cases(definition)), ("a sample of the data", sample)):
        mismatch = first_mismatch(reference, fast, texts)
        if mismatch is not None:
            excerpt = texts[mismatch.document][:60]
            return f"fastokens and tokenizers give different ids on {what} ({mismatch}, text {excerpt!r})"
    return None
