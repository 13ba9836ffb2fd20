"""Texts that a release writes after the beginnings of validation documents, as the papers show them (Table 8).

The prompts of a dataset are drawn once by hashing, so every release continues the same ones, with the same random
numbers. They are short: what a release has learned of a subject shows in a sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokenizer import Definition, load_definition
from rewarm.stages.evaluate.own_tasks import choose_documents
from rewarm.stages.evaluate.settings import EvaluateSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PIECES = "generated"  # folder in an evaluation, while it runs
GENERATED = "generated.json"  # by dataset, once all are written
PROMPT_TOKENS = 24
DRAWN_FROM = 8  # documents looked at for each prompt: one that is shorter than its prompt is no prompt
HALF = "\ufffd"  # in place of a character of which not all bytes are there


@dataclass(frozen=True)
class SamplePiece:
    """The samples of one model on one dataset, to be written to a file in ``out/generated``."""

    model: Folder
    dataset: str
    documents: Folder
    out: Folder

    def __str__(self) -> str:
        return f"the samples of {self.model} on {self.dataset}"


@dataclass(frozen=True)
class Prompt:
    """The beginning of a document."""

    doc_id: str
    tokens: list[int]
    following: list[int]
    """Tokens of the document after the prompt."""


def file_of(dataset: str) -> str:
    """Return the name of the file with a dataset's samples."""
    return f"{dataset}.json"


def missing(datasets: Sequence[str], out: Folder) -> list[str]:
    """Return the datasets whose samples no earlier call has written."""
    if out.exists(GENERATED):
        return []
    finished = set((out / PIECES).files(".json"))
    return [name for name in datasets if file_of(name) not in finished]


def join_samples(datasets: Sequence[str], out: Folder) -> None:
    """Write the samples of all datasets to one file, which is read at once, and delete the pieces."""
    if not out.exists(GENERATED):
        out.write_json(GENERATED, {name: (out / PIECES).read_json(file_of(name)) for name in datasets})
    out.delete(PIECES)


def choose_prompts(documents: Folder, definition: Definition, settings: EvaluateSettings, longest: int) -> list[Prompt]:
    """Choose the prompts of a dataset: beginnings of equal length, of documents that are at least twice as long."""
    special = tuple(definition.special_tokens())
    choice = choose_documents(documents, DRAWN_FROM * settings.samples, settings.seed, special)
    length = min(PROMPT_TOKENS, longest)
    read = 2 * length + settings.sample_tokens
    found = [(doc_id, definition.tokenizer.encode(text[: 16 * read]).ids[:read]) for doc_id, text in choice.documents]
    fitting = [(doc_id, ids) for doc_id, ids in found if len(ids) >= 2 * length]
    return [
        Prompt(doc_id, ids[:length], ids[length : length + settings.sample_tokens])
        for doc_id, ids in fitting[: settings.samples]
    ]


def write_samples(
    model: "PreTrainedModel", tokenizer: Folder, piece: SamplePiece, settings: EvaluateSettings, seq_len: int
) -> None:
    """Write the samples of a piece; a dataset of short documents has none, or fewer than were asked for."""
    from rewarm.stages.inference.generate import continuations, seeded

    definition = load_definition(tokenizer)
    opening = [*(definition.form.prefix or (definition.end_of_text_id,))]
    tokens = min(settings.sample_tokens, (seq_len - len(opening)) // 2)
    prompts = choose_prompts(piece.documents, definition, settings, seq_len - len(opening) - tokens)
    rows: list[list[int]] = []
    if prompts:
        rows = continuations(
            model,
            np.array([[*opening, *prompt.tokens] for prompt in prompts], dtype=np.int64),
            np.stack([seeded(f"samples/{settings.seed}/{prompt.doc_id}", tokens) for prompt in prompts]),
            temperature=settings.sample_temperature,
            end=next(iter(definition.form.suffix), definition.end_of_text_id),
            forbidden=not_text(definition, model.config.get_text_config().vocab_size),
        )
    samples = [
        {"doc_id": prompt.doc_id, **texts(definition, prompt, row), "ended": len(row) < tokens}
        for prompt, row in zip(prompts, rows, strict=True)
    ]
    value = {"temperature": settings.sample_temperature, "tokens": tokens, "samples": samples}
    (piece.out / PIECES).write_json(file_of(piece.dataset), value)


def not_text(definition: Definition, vocab_size: int) -> list[int]:
    """Return the ids that a sample does not hold: special tokens except those that end it, and unused rows."""
    ends = {definition.end_of_text_id, *definition.form.suffix}
    special = {definition.as_saved.token_to_id(token) for token in definition.special_tokens()}
    return sorted(
        {number for number in special if number is not None} - ends | {*range(definition.num_ids, vocab_size)}
    )


def texts(definition: Definition, prompt: Prompt, written: list[int]) -> dict[str, str]:
    """Return the prompt, the document's own continuation and the sample as text.

    All are decoded with the prompt before them: a tokenizer may write a word's space with the word after it, and a
    prompt may end within a character.
    """
    before = decode(definition, prompt.tokens).rstrip(HALF)
    return {
        "prompt": before,
        "own": decode(definition, [*prompt.tokens, *prompt.following])[len(before) :],
        "text": decode(definition, [*prompt.tokens, *written])[len(before) :],
    }


def decode(definition: Definition, tokens: list[int]) -> str:
    """Return tokens as text, without half characters at the end."""
    return str(definition.as_saved.decode(tokens, skip_special_tokens=True)).rstrip(HALF)
