"""Offline lm-eval tasks generated from a dataset's validation documents.

- ``rewarm_<dataset>_rolling``: log-likelihood of whole documents (word and byte perplexity, bits per byte);
- ``rewarm_<dataset>_continuation``: choose a document's own continuation among four, given its beginning;
- ``rewarm_<dataset>_order``, of new datasets: choose the text with its words in the original order among four
  (``order_task.py``).

Every choice is made by hashing: the same documents and seed give the same task, independently of shards and workers.
"""

import heapq
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import xxhash
import yaml

from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import read_shards
from rewarm.stages.evaluate.order_task import ENOUGH_QUESTIONS, FEWEST_WORDS, order_questions, rank
from rewarm.stages.evaluate.settings import EvaluateSettings

CONTEXT_CHARS = 400  # a continuation starts at the first space after this, or after the middle of a shorter document
CONTINUATION_CHARS = 100
FEWEST_CHARS = 20  # of context and of continuation
NUM_CHOICES = 4

ROLLING = {
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "text",
    "metric_list": [{"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
}
CONTINUATION = {
    "output_type": "multiple_choice",
    "doc_to_text": "context",
    "doc_to_choice": "choices",
    "doc_to_target": "label",
    "target_delimiter": "",
    "metric_list": [{"metric": name} for name in ("acc", "acc_norm")],
}
ORDER = {**CONTINUATION, "metric_list": [{"metric": "acc"}]}
NEEDS = {
    "rolling": "a document",
    "continuation": f"{NUM_CHOICES} documents of {2 * FEWEST_CHARS} characters or more",
    "order": f"a document with an excerpt of {FEWEST_WORDS} words or more, with more than one order",
}


@dataclass(frozen=True)
class Excerpt:
    """Document split for the continuation task: its beginning, and its continuation (first space included)."""

    doc_id: str
    context: str
    continuation: str


def task_name(dataset: str, kind: str) -> str:
    """Return ``rewarm_<dataset>_<kind>``; special characters in a dataset's name are replaced and a hash is added."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", dataset)
    if plain != dataset:
        plain = f"{plain}_{xxhash.xxh3_64_hexdigest(dataset.encode())[:8]}"
    return f"rewarm_{plain}_{kind}"


@dataclass(frozen=True)
class Choice:
    """Documents (id, text) for the tasks, and the number skipped because they contain the text of a special token."""

    documents: list[tuple[str, str]]
    passed_over: int


def choose_documents(documents: Folder, count: int, seed: int, special: tuple[str, ...] = ()) -> Choice:
    """Choose ``count`` documents that are not blank: those of lowest rank, in that order.

    ``special`` are the tokenizer's special tokens. lm-eval reads their text as tokens, while training reads it as text,
    so documents with such text are skipped.
    """
    found: list[tuple[str, str, str]] = []
    passed_over = 0
    for batch in read_shards(documents, ["doc_id", "text"]):
        ids, texts = batch.column("doc_id").to_pylist(), batch.column("text").to_pylist()
        written = [(rank(seed, doc_id), doc_id, text) for doc_id, text in zip(ids, texts, strict=True) if text.strip()]
        plain = [row for row in written if not any(token in row[2] for token in special)]
        passed_over += len(written) - len(plain)
        found = heapq.nsmallest(count, [*found, *plain])
    return Choice([(doc_id, text) for _, doc_id, text in found], passed_over)


def excerpt(doc_id: str, text: str, longest: int) -> Excerpt | None:
    """Split a document for the continuation task; None if it is too short.

    ``longest`` bounds the continuation in UTF-8 bytes, and thus its tokens with a byte-level tokenizer, so that it fits
    in the model's window (lm-eval truncates the context, never the continuation).

    The split is before white space if there is any within ``CONTINUATION_CHARS``, so that no tokenizer merges the two
    sides; text without spaces is split at that position.
    """
    at = min(CONTEXT_CHARS, len(text) // 2)
    space = re.compile(r"\s").search(text, at, at + CONTINUATION_CHARS)
    context = text[: space.start() if space else at].rstrip()
    following = text[len(context) : len(context) + CONTINUATION_CHARS].encode()
    continuation = following[:longest].decode(errors="ignore").rstrip()
    if min(len(context.strip()), len(continuation.strip())) < FEWEST_CHARS:
        return None
    return Excerpt(doc_id, context, continuation)


def question(own: Excerpt, others: list[Excerpt], seed: int) -> dict[str, Any] | None:
    """Build a question: the true continuation among three others, all different; None if there are too few."""
    foreign = sorted(
        {other.continuation for other in others} - {own.continuation}, key=lambda text: rank(seed, own.doc_id, text)
    )
    choices = sorted(
        [own.continuation, *foreign[: NUM_CHOICES - 1]], key=lambda text: rank("order", seed, own.doc_id, text)
    )
    if len(choices) < NUM_CHOICES:
        return None
    return {"doc_id": own.doc_id, "context": own.context, "choices": choices, "label": choices.index(own.continuation)}


def make_tasks(
    record: dict[str, Any], out: Folder, settings: EvaluateSettings, seq_len: int, special: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Write the tasks of one dataset unless they exist.

    ``record`` has its name, the folder of its documents, and whether the order of its words is asked for.
    ``special`` is as for ``choose_documents``. Returns the names of the tasks, and notes on what was left out.
    """
    dataset, done = record["dataset"], account_file(record["dataset"])
    if out.exists(done):
        return dict(out.read_json(done))
    count = settings.task_documents
    choice = choose_documents(Folder(record["documents"]), max(count, ENOUGH_QUESTIONS), settings.seed, special)
    ranked, chosen = choice.documents, choice.documents[:count]
    rolling = [{"doc_id": doc_id, "text": text[: settings.document_chars]} for doc_id, text in chosen]
    excerpts = [part for doc_id, text in chosen if (part := excerpt(doc_id, text, seq_len // 2))]
    questions = [row for own in excerpts if (row := question(own, excerpts, settings.seed))]
    names, notes = [], []
    if choice.passed_over:
        notes.append(
            f"{dataset}: {choice.passed_over} validation documents contain the text of a special token, which lm-eval "
            "reads as the token; they are not used in its generated tasks"
        )
    made = [("rolling", rolling, ROLLING), ("continuation", questions, CONTINUATION)]
    if record["word_order"]:
        made.append(("order", order_questions(ranked, seq_len - 1, settings.seed), ORDER))
    for kind, rows, body in made:
        name = task_name(dataset, kind)
        if rows:
            write_task(out, name, rows, body)
            names.append(name)
        else:
            lacking = f"which {dataset}'s {len(chosen)} validation documents do not provide"
            notes.append(f"{name} is left out: it needs {NEEDS[kind]}, {lacking}")
    out.write_json(done, {"tasks": names, "notes": notes})
    return {"tasks": names, "notes": notes}


class TaskMaker:
    """Worker that makes the tasks of one dataset after another, with ``make_tasks`` of an evaluation."""

    def __init__(self, make: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.make = make

    def work(self, record: dict[str, Any]) -> None:
        """Make the tasks of one dataset; its account is in the file next to them."""
        self.make(record)


def account_file(dataset: str) -> str:
    """Return the name of the file with the names of a dataset's tasks, and what was left out."""
    return f"{task_name(dataset, 'tasks')}.json"


def write_task(out: Folder, name: str, rows: list[dict[str, Any]], body: dict[str, Any]) -> None:
    """Write a task's data and definition, to be run in their folder."""
    out.write(f"{name}.jsonl", b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}}, "test_split": "test"}
    definition = {"task": name, **data, **body, "num_fewshot": 0, "metadata": {"version": 1}}
    out.write(f"{name}.yaml", yaml.safe_dump(definition, sort_keys=False).encode())


def copy_task(tasks: Folder, name: str, target: Path) -> None:
    """Copy a generated task to this machine's disk, with the absolute path that lm-eval needs and a separate cache."""
    definition = yaml.safe_load(tasks.read(f"{name}.yaml"))
    (target / f"{name}.jsonl").write_bytes(tasks.read(f"{name}.jsonl"))
    definition["dataset_kwargs"] = {
        "data_files": {"test": str(target / f"{name}.jsonl")},
        "cache_dir": str(target / "cache"),
    }
    (target / f"{name}.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
