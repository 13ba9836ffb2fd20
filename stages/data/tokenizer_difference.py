"""The difference of a tokenizer from a lineage's: whether text has the same ids in both.

Tuning often adds special tokens (the marks of a chat's turns). They are never read from text, so documents keep their
ids. Everything else that differs would give the same document other ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from rewarm.stages.data.tokenizer import Definition

SHOWN = 4  # tokens that a message names
PARTS = ("normalizer", "pre_tokenizer")  # of tokenizer.json, beside the model and the added tokens


@dataclass(frozen=True)
class Difference:
    """How a tokenizer differs from a lineage's; both empty: not at all."""

    added: tuple[str, ...]
    """Special tokens that only it has, in the order of their ids."""
    others: tuple[str, ...]
    """Every difference that changes the ids of text, each as a phrase with a number."""


def difference(lineage: Definition, other: Definition) -> Difference:
    """Compare a tokenizer with a lineage's."""
    mine, theirs = (each.as_saved.get_vocab(with_added_tokens=True) for each in (lineage, other))
    before, after = (parsed(each) for each in (lineage, other))
    new = sorted(theirs.keys() - mine.keys(), key=theirs.__getitem__)
    used, special = set(mine.values()), set(other.special_tokens())
    added = [token for token in new if token in special and theirs[token] not in used]
    kinds = {
        "are missing": sorted(mine.keys() - theirs.keys(), key=mine.__getitem__),
        "have other ids": [token for token in mine if token in theirs and mine[token] != theirs[token]],
        "are new, but not as special tokens with ids of their own": [token for token in new if token not in added],
        "are added in another way": changed(before, after, set(added)),
    }
    others = [f"{len(tokens):,} tokens {how} ({named(tokens)})" for how, tokens in kinds.items() if tokens]
    others += [f"the {part} differs" for part in PARTS if before.get(part) != after.get(part)]
    if not others and rules(before) != rules(after):
        others.append("the model's merges, scores or options differ")
    return Difference(tuple(added), tuple(others))


def parsed(definition: Definition) -> dict[str, Any]:
    """Return the object of a definition's ``tokenizer.json``."""
    value: dict[str, Any] = orjson.loads(definition.json)
    return value


def changed(mine: dict[str, Any], theirs: dict[str, Any], added: set[str]) -> list[str]:
    """Return the added tokens of both files that are described differently in the two."""
    first, second = ({token["content"]: token for token in value.get("added_tokens") or []} for value in (mine, theirs))
    return [name for name in {**first, **second} if name not in added and first.get(name) != second.get(name)]


def rules(value: dict[str, Any]) -> dict[str, Any]:
    """Return the model of a ``tokenizer.json`` with merges in one form."""
    model = dict(value["model"])
    if "merges" in model:  # older files write "a b", newer ones ["a", "b"]
        model["merges"] = [pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"]]
    return model


def named(tokens: Sequence[str]) -> str:
    """Return the first tokens of a list, quoted."""
    return ", ".join(map(repr, tokens[:SHOWN])) + (", …" if len(tokens) > SHOWN else "")
