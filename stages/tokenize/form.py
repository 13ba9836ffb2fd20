"""The form of a document as an imported tokenizer makes it: what it puts around a text, and which token ends it.

A model continues best what it was trained on. Most checkpoints saw BOS before every document, which their tokenizer's
post-processor adds; and many that were tuned for chat name the end of a turn as ``eos_token``, where the documents that
they were pre-trained on ended with another token, which is still in the vocabulary.
"""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokenizer import DOCUMENT_FORM, DocumentForm, read_form

TURN_ENDS = re.compile(
    r"im_end|end_of_turn|endofturn|turn_end|end_turn|eot_id|eom_id|<\|eo[tm]\|>|<\|end\|>|<turn\|>|role_end|"
    r"<\|(return|call)\|>|assistant_end|user_end|\[/INST\]",
    re.IGNORECASE,
)
"""Names of tokens that end a turn of a chat: ChatML's, Llama 3's, Gemma's, Phi's, Command R's and their kin."""
TEXT_ENDS = (
    *("<|endoftext|>", "<|end_of_text|>", "<|endofdocument|>", "<|end_of_document|>", "<|eod|>", "<eod>", "<EOD>"),
    *("<｜end▁of▁sentence｜>", "<|END_OF_TEXT|>", "<EOS_TOKEN>", "<|eos|>", "<eos>", "<EOS>", "[EOS]", "</s>"),
)
"""Names of tokens that end a text, the more telling ones first."""
PROBE = "a"


@dataclass(frozen=True)
class FoundForm:
    """A document's form, and how it was found, in a sentence for whoever begins the lineage."""

    form: DocumentForm
    note: str


def find_form(words: Any, asked: str | None) -> FoundForm:
    """The form of documents for a Hugging Face tokenizer (fast); ``asked`` is ``tokenizer.end_of_text``.

    Raises ``UsageError`` if no token ends a document, the one asked for is not a token that text cannot become, or the
    tokenizer changes a text instead of putting tokens around it.
    """
    prefix, suffix = affixes(words)
    end, why = choose_end(words, suffix, asked)
    end_id = words.convert_tokens_to_ids(end)
    form = DocumentForm(end, prefix, suffix[:-1] if suffix[-1:] == (end_id,) else suffix)
    begins = " ".join(words.convert_ids_to_tokens(list(prefix)))
    begin = f"begin with {begins}, as the tokenizer encodes a text" if prefix else f"are predicted from {end}"
    return FoundForm(form, f"documents end with {end}{why}, and {begin}")


def form_of(source: Path, words: Any, asked: str | None) -> FoundForm:
    """The form that a folder's model was trained with: kept by the lineage it comes from, else ``find_form``'s."""
    if asked is None and (source / DOCUMENT_FORM).is_file():
        kept = read_form(Folder(source))
        return FoundForm(kept, f"documents are as in the lineage it comes from ({DOCUMENT_FORM}): {kept}")
    return find_form(words, asked)


def affixes(words: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids that a tokenizer puts before and after a text."""
    plain, whole = words(PROBE, add_special_tokens=False)["input_ids"], words(PROBE)["input_ids"]
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return tuple(whole[:start]), tuple(whole[start + len(plain) :])
    raise UsageError(
        f"{words.name_or_path}: the tokenizer encodes {PROBE!r} as {whole}, and without special tokens as {plain}; "
        "expected the same ids with others around them"
    )


def choose_end(words: Any, suffix: tuple[int, ...], asked: str | None) -> tuple[str, str]:
    """The token that ends a document, and why it is that one: words to follow it in a sentence."""
    added = words.added_tokens_encoder
    if asked is not None:
        if asked not in added:
            near = difflib.get_close_matches(asked, list(added), n=3, cutoff=0.3) or list(added)[:8]
            raise UsageError(
                f"tokenizer.end_of_text: {asked!r} is none of the added tokens of {words.name_or_path}, so text could "
                f"become it; nearest: {', '.join(near) or 'there are none'}"
            )
        return asked, " (tokenizer.end_of_text)"
    named = words.eos_token
    if named is None:
        if len(suffix) != 1:
            raise UsageError(
                f"{words.name_or_path}: the tokenizer names no eos_token; name the token that ends a document: "
                f"tokenizer.end_of_text, one of {', '.join(list(added)[:8]) or 'its added tokens'}"
            )
        return words.convert_ids_to_tokens(suffix[0]), ", which the tokenizer puts after a text"
    if not TURN_ENDS.search(named):
        return str(named), ""
    ends = [token for token in TEXT_ENDS if token in added]
    if not ends:
        return str(named), " (eos_token, which by its name ends a turn of a chat; tokenizer.end_of_text names another)"
    return ends[0], f", not with the tokenizer's eos_token {named}, which ends a turn of a chat (tokenizer.end_of_text)"
