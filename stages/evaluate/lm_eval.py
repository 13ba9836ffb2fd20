"""lm-eval on one model, giving plain metrics and compact samples; and the Ray actors that run losses and tasks."""

import logging
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from rewarm.stages.core.storage import Folder
from rewarm.stages.core.temporary import temporary
from rewarm.stages.evaluate.named_tasks import named_tasks
from rewarm.stages.evaluate.own_tasks import copy_task
from rewarm.stages.evaluate.samples import SamplePiece
from rewarm.stages.evaluate.samples import write_samples as write_texts
from rewarm.stages.evaluate.settings import EvaluateSettings
from rewarm.stages.inference.actors import OFFLINE, QUIET, LossPiece, LossWorker, Reading

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager
    from transformers import PreTrainedModel

# Bootstrap resamplings for the standard error of metrics without a formula (f1, perplexity); acc has one.
BOOTSTRAPS = 1000


@dataclass(frozen=True)
class Task:
    """One lm-eval task: generated from a dataset, or named by the recipe.

    With ``prefix``, for a tokenizer whose documents have no BOS, nothing is added before a text and the first token is
    predicted from that id. ``shots`` examples precede each question; None uses the task's definition.
    """

    name: str
    generated: bool = False
    prefix: int | None = None
    shots: int | None = None


def run_task(
    model: "PreTrainedModel",
    tokenizer: Path,
    task: Task,
    manager: "TaskManager",
    settings: EvaluateSettings,
    seq_len: int,
) -> dict[str, Any]:
    """Run one task with ``HFLM`` in windows of ``seq_len`` tokens, and return lm-eval's results.

    Text is read as by lm-eval's command line: with BOS if the tokenizer itself adds it. The limit of ``settings``
    applies to tasks that are not generated. The result has ``notes`` on deviations from the task's definition.

    ``simple_evaluate`` is not used because it also describes the machine in each result, which takes seconds
    (``pip list`` and similar).
    """
    import datasets
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    logging.getLogger("lm_eval").setLevel(logging.WARNING)
    datasets.disable_progress_bars()
    wrapped = HFLM(
        pretrained=model,
        tokenizer=AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False),
        backend="causal",
        max_length=seq_len,
        batch_size=settings.batch_size,
        softmax_dtype="float32",
        prefix_token_id=task.prefix,
        add_bos_token=None if task.prefix is None else False,
    )
    loaded = manager.load([task.name])
    notes = []
    for name, part in loaded["tasks"].items():
        part.set_config(key="num_fewshot", value=fewshot(part.get_config("num_fewshot"), task.shots))
        part.set_fewshot_seed(seed=settings.seed)
        if note := shorten_answers(part, seq_len, wrapped.max_gen_toks):
            notes.append(f"{name}: {note}")
    seed_everything(settings.seed)
    results: dict[str, Any] = evaluate(
        lm=wrapped,
        task_dict=loaded,
        limit=None if task.generated else settings.limit,
        log_samples=True,
        bootstrap_iters=BOOTSTRAPS,
    )
    return {**results, "notes": notes}


def shorten_answers(task: Any, seq_len: int, default: int) -> str | None:
    """Limit generated answers to half a window, so that the question fits; return a note if that changes the task."""
    if task.get_config("output_type") != "generate_until":
        return None
    asked = dict(task.get_config("generation_kwargs") or {}).get("max_gen_toks", default)
    if asked < seq_len:
        return None
    task.set_config(key="generation_kwargs", value={"max_gen_toks": seq_len // 2}, update=True)
    return f"answers are limited to {seq_len // 2} tokens, not {asked}, because train.seq_len is {seq_len}"


def fewshot(defined: int | None, asked: int | None) -> int:
    """Return the examples before each question: a definition's 0 takes precedence, as in lm-eval's command line."""
    return defined or 0 if asked is None or defined == 0 else asked


def seed_everything(seed: int) -> None:
    """Seed every random generator that a task may use."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def plain_metrics(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return ``{task: {metric: value}}`` of lm-eval's results, groups included.

    lm-eval names a metric ``<metric>,<filter>`` and its error ``<metric>_stderr,<filter>``. The filter is dropped
    unless a task reports one metric under several filters. Values that are not numbers (``N/A``) are omitted.
    """
    tables = {**results["results"], **results.get("groups", {})}
    return {task: _plain(table) for task, table in tables.items()}


def _plain(table: dict[str, Any]) -> dict[str, float]:
    values = {
        tuple(key.split(",", 1)): value for key, value in table.items() if "," in key and isinstance(value, int | float)
    }
    names = [metric for metric, _ in values]
    return {
        metric if names.count(metric) == 1 else f"{metric},{chosen}": float(value)
        for (metric, chosen), value in values.items()
    }


def write_samples(out: Folder, results: dict[str, Any]) -> None:
    """Write the data of a paired test, one file ``<task>.jsonl`` per task and one line per sample.

    A line holds ``doc_id`` (the document's content hash if the task has one, else lm-eval's number), ``filter``, the
    values of the metrics, and the log-likelihoods of the requests in order.
    """
    for task, samples in results["samples"].items():
        lines = [
            orjson.dumps(_compact(sample), option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)
            for sample in samples
        ]
        out.write(f"{task}.jsonl", b"".join(lines))


def _compact(sample: dict[str, Any]) -> dict[str, Any]:
    document = sample["doc"]
    own = document.get("doc_id") if isinstance(document, dict) else None
    line = {"doc_id": sample["doc_id"] if own is None else own, "filter": sample["filter"]}
    line |= {metric: sample[metric] for metric in sample["metrics"] if _is_numbers(sample[metric])}
    likelihoods = [_likelihood(response[0]) for response in sample["resps"]]
    return line | ({} if None in likelihoods else {"loglikelihoods": likelihoods})


def _is_numbers(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_numbers(part) for part in value)
    return isinstance(value, int | float)


def _likelihood(response: Any) -> float | None:
    """Return the log-likelihood in a response: the number itself, or paired with ``is_greedy``; None for text."""
    value = response[0] if isinstance(response, list | tuple) else response
    return float(value) if isinstance(value, int | float) else None


if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager


@dataclass(frozen=True)
class TaskPiece:
    """One lm-eval task on the release, with the folder for its results."""

    model: Folder
    task: Task
    out: Folder

    def __str__(self) -> str:
        return f"lm-eval's {self.task.name} on {self.model}"


@dataclass(frozen=True)
class Conditions:
    """Parameters shared by all pieces of one evaluation."""

    settings: EvaluateSettings
    reading: Reading


class Evaluator(LossWorker):
    """Actor that processes all types of pieces."""

    def __init__(self, conditions: Conditions) -> None:
        super().__init__(conditions.reading)
        self.settings = conditions.settings
        self._named: TaskManager | None = None

    def work(self, piece: LossPiece | TaskPiece | SamplePiece) -> None:
        """Process one piece and write its result."""
        if isinstance(piece, LossPiece):
            super().work(piece)
        elif isinstance(piece, SamplePiece):
            tokenizer = Folder(self.reading.recorded.model(piece.model))
            write_texts(self.model(piece.model), tokenizer, piece, self.settings, self.reading.seq_len)
        else:
            self._task(piece)

    def _task(self, piece: TaskPiece) -> None:
        model, tokenizer, settings = self.model(piece.model), self.reading.recorded.model(piece.model), self.settings
        with temporary("task") as scratch:
            if piece.task.generated:
                manager = generated_task(piece.out / "tasks", piece.task.name, scratch)
            else:
                self._named = manager = self._named or named_tasks(settings)
            results = run_task(model, tokenizer, piece.task, manager, settings, self.reading.seq_len)
        write_samples(piece.out / "samples", results)
        if results["notes"]:
            (piece.out / "notes").write_json(f"{piece.task.name}.json", results["notes"])
        (piece.out / "scores").write_json(f"{piece.task.name}.json", plain_metrics(results))


def generated_task(tasks: Folder, name: str, scratch: Path) -> "TaskManager":
    """Return an lm-eval index with one generated task, copied to ``scratch``."""
    from lm_eval.tasks import TaskManager

    copy_task(tasks, name, scratch)
    return TaskManager(include_path=str(scratch), include_defaults=False)


def worker_environment(settings: EvaluateSettings) -> dict[str, str]:
    """Return the actors' environment: offline, unless the recipe names tasks."""
    if not settings.tasks:
        return QUIET | OFFLINE
    passed = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HOME", "HF_DATASETS_CACHE")
    return QUIET | {name: os.environ[name] for name in passed if name in os.environ}
