"""lm-eval on one model: a task in, plain metrics and compact samples out."""

import logging
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from stages.evaluate.settings import EvaluateSettings
from stages.storage import Folder

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager
    from transformers import PreTrainedModel

# Resamplings behind the standard error of a metric that has no formula for it (f1, perplexity); acc has one.
BOOTSTRAPS = 1000


def run_task(
    model: "PreTrainedModel",
    tokenizer: Path,
    name: str,
    manager: "TaskManager",
    settings: EvaluateSettings,
    *,
    end_of_text: int | None,
    shots: int | None = None,
) -> dict[str, Any]:
    """Run one task with ``HFLM`` and return lm-eval's results.

    ``end_of_text`` is given for the generated tasks: their text is then read as in training (no marker in it counts as
    special, none is put before it), and the first token is predicted from end-of-text. A named task (None) is read as
    the tokenizer's own settings say, with the limit from ``settings``. ``shots`` examples come before each question;
    None leaves that to the task's definition.

    ``simple_evaluate`` would also describe the machine in each result, by seconds of ``pip list`` and the like.
    """
    import datasets
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    logging.getLogger("lm_eval").setLevel(logging.WARNING)
    datasets.disable_progress_bars()
    generated = end_of_text is not None
    words = AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False, split_special_tokens=generated)
    wrapped = HFLM(
        pretrained=model,
        tokenizer=words,
        backend="causal",
        batch_size=settings.batch_size,
        softmax_dtype="float32",
        prefix_token_id=end_of_text,
        add_bos_token=False if generated else None,
    )
    loaded = manager.load([name])
    for task in loaded["tasks"].values():
        task.set_config(key="num_fewshot", value=fewshot(task.get_config("num_fewshot"), shots))
        task.set_fewshot_seed(seed=settings.seed)
    seed_everything(settings.seed)
    results: dict[str, Any] = evaluate(
        lm=wrapped,
        task_dict=loaded,
        limit=None if generated else settings.limit,
        log_samples=True,
        bootstrap_iters=BOOTSTRAPS,
    )
    return results


def fewshot(defined: int | None, asked: int | None) -> int:
    """Examples before each question: a definition's 0 stands, as with lm-eval's own command line."""
    return defined or 0 if asked is None or defined == 0 else asked


def seed_everything(seed: int) -> None:
    """The state of every generator that a task may draw from."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def plain_metrics(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """``{task: {metric: value}}`` of lm-eval's results, groups included.

    lm-eval names a metric ``<metric>,<filter>`` and its error ``<metric>_stderr,<filter>``. The filter is dropped,
    except where a task reports one metric under several filters. What is not a number (``N/A``) is left out.
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
    """Keep what a paired test needs, ``<task>.jsonl`` a task, one line a sample.

    A line holds ``doc_id`` (a document's content hash where the task has one, else lm-eval's number), ``filter``, the
    metrics' values, and the log-likelihoods of the requests in their order.
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
    """The log-likelihood in a response: the number itself, or beside ``is_greedy``; none of a generated text."""
    value = response[0] if isinstance(response, list | tuple) else response
    return float(value) if isinstance(value, int | float) else None
