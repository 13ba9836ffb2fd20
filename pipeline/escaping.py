"""Sanitising of foreign text for terminals, logs and notices: no control sequences, and no secrets.

Documents, file names, addresses and servers' answers can contain any character. They must not move the cursor, colour
a line, reverse text, or start a new line that looks like output of this program.
"""

from typing import Any

from rewarm.pipeline.redaction import redact

C1 = range(0x80, 0xA0)
BIDI = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))  # marks, embeddings, isolates
BREAKS = (0x2028, 0x2029)
INVISIBLE = (0xFEFF, *range(0xFFF9, 0xFFFC), *range(0xE0000, 0xE0080))  # anchors, and tags, which spell unseen text
HALVES = range(0xD800, 0xE000)  # of surrogate pairs: bytes of a file's name that are no UTF-8; a terminal refuses them
SIGNS = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
SIGNS |= dict.fromkeys((*C1, *BIDI, *BREAKS, *INVISIBLE, *HALVES), 0xFFFD)
INDENT = "\n    "


def visible(value: Any) -> Any:
    """A text, or a JSON value's texts, with control characters as their visible signs (U+2400 and on, else U+FFFD).

    Line ends and tabs stay; joiners (U+200C, U+200D) too, which Persian, Indic scripts and emoji are written with.
    """
    if isinstance(value, str):
        return value.translate(SIGNS)
    if isinstance(value, dict):
        return {visible(key): visible(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(visible(part) for part in value)
    return value


def message(text: str) -> str:
    """A message as it is shown and kept: without secrets, controls visible."""
    return str(visible(redact(text)))


def entry(text: str) -> str:
    """The same as an entry of a log: further lines are indented, so that none begins like an entry of its own."""
    return message(text).rstrip("\n").replace("\n", INDENT)


def in_one_line(text: str) -> str:
    """The same in one line, as it is recorded of a person's words."""
    return " ".join(message(text).split())


SHOWN = 200  # characters of a value that a message shows


def cut(text: str) -> str:
    """A value for a message, cut if it is long."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text):,} characters)"
