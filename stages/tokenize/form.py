"""Document form of an imported tokenizer: the tokens around a text, and the token that ends a document.

Continued training works best in the form that a model was trained on. Most checkpoints saw BOS before every document,
added by their tokenizer's post-processor. Many chat-tuned checkpoints name the end of a turn as ``eos_token``, although
the documents of their pre-training ended with another token, which is still in the vocabulary.
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
    r"<\|(return|call)\|>|assistant_end|user_end|\[/INST\]|"
    r"end_of_utterance|message_end|end_of_message|<eoa>|<\|(user|observation|separator)\|>",
    re.IGNORECASE,
)
"""Names of tokens that end a chat turn: ChatML, Llama 3, Gemma, Phi, Command R and similar."""
TEXT_ENDS = (
    *("<|endoftext|>", "<|end_of_text|>", "<|endofdocument|>", "<|end_of_document|>", "<|eod|>", "<eod>", "<EOD>"),
    *("<｜end▁of▁sentence｜>", "<|END_OF_TEXT|>", "<EOS_TOKEN>", "<|eos|>", "<eos>", "<EOS>", "[EOS]", "</s>"),
)
"""Names of tokens that end a text, most specific first."""
PROBE = "a"


@dataclass(frozen=True)
class FoundForm:
    """Form of a document, and a sentence that tells the user how it was determined."""

    form: DocumentForm
    note: str


def find_form(words: Any, asked: str | None) -> FoundForm:
    """Determine the document form of a fast Hugging Face tokenizer; ``asked`` is ``tokenizer.end_of_text``.

    Raises ``UsageError`` if no token ends a document, text could become the requested token, or the tokenizer changes a
    text instead of adding tokens around it.
    """
    prefix, suffix = affixes(words)
    end, why = choose_end(words, suffix, asked)
    end_id = words.convert_tokens_to_ids(end)
    form = DocumentForm(end, prefix, suffix[:-1] if suffix[-1:] == (end_id,) else suffix)
    begins = " ".join(words.convert_ids_to_tokens(list(prefix)))
    begin = f"begin with {begins}, as the tokenizer encodes a text" if prefix else f"are predicted from {end}"
    return FoundForm(form, f"documents end with {end}{why}, and {begin}")


def form_of(source: Path, words: Any, asked: str | None) -> FoundForm:
    """Return the form that a folder's model was trained with: recorded by its lineage, else from ``find_form``."""
    if asked is None and (source / DOCUMENT_FORM).is_file():
        kept = read_form(Folder(source))
        return FoundForm(kept, f"documents have the form of the source lineage ({DOCUMENT_FORM}): {kept}")
    return find_form(words, asked)


def affixes(words: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids that a tokenizer adds before and after a text."""
    plain, whole = words(PROBE, add_special_tokens=False)["input_ids"], words(PROBE)["input_ids"]
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return tuple(whole[:start]), tuple(whole[start + len(plain) :])
    raise UsageError(
        f"{words.name_or_path}: the tokenizer encodes {PROBE!r} as {whole}, and without special tokens as {plain}; "
        "expected the same ids with special tokens around them"
    )


def choose_end(words: Any, suffix: tuple[int, ...], asked: str | None) -> tuple[str, str]:
    """Return the token that ends a document, and the reason, as words that follow it in a sentence."""
    added = words.added_tokens_encoder
    if asked is not None:
        if asked not in added:
            near = difflib.get_close_matches(asked, list(added), n=3, cutoff=0.3) or list(added)[:8]
            raise UsageError(
                f"tokenizer.end_of_text: {asked!r} is not an added token of {words.name_or_path}, so text could become "
                f"it; nearest: {', '.join(near) or 'none'}"
            )
        return asked, " (tokenizer.end_of_text)"
    named = words.eos_token
    if named is None:
        if len(suffix) != 1:
            raise UsageError(
                f"{words.name_or_path}: the tokenizer has no eos_token; set tokenizer.end_of_text to the token that "
                f"ends a document, one of {', '.join(list(added)[:8]) or 'its added tokens'}"
            )
        return words.convert_ids_to_tokens(suffix[0]), ", which the tokenizer adds after a text"
    if not TURN_ENDS.search(named):
        return str(named), ""
    ends = [token for token in TEXT_ENDS if token in added]
    if not ends:
        return str(named), " (eos_token, which by its name ends a chat turn; set tokenizer.end_of_text to change it)"
    return ends[0], f", not with the tokenizer's eos_token {named}, which ends a chat turn (tokenizer.end_of_text)"
