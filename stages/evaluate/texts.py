"""The texts of named tasks, as training text must not contain them: each question with its answer."""

from collections.abc import Iterator, Sequence
from typing import Any

from stages.errors import UsageError
from stages.evaluate.named import named_tasks
from stages.evaluate.settings import EvaluateSettings
from stages.evaluate.task_sets import expand


def task_texts(settings: EvaluateSettings, names: Sequence[str]) -> Iterator[tuple[str, Iterator[str]]]:
    """Every task behind the names (tasks, groups, tags, ready sets), with the texts of all that it asks.

    A text is a question as the task puts it (without examples before it), followed by the right answer. All documents
    that the task is scored on are read, whatever ``settings.limit`` says.

    Raises:
        UsageError: a task's data cannot be read.
    """
    if not names:
        return
    manager = named_tasks(settings)
    wanted = sorted(expand(tuple(names), None))
    try:
        loaded = manager.load(wanted)["tasks"]
    except Exception as error:  # of the hub, the file system, or a dataset's own reader
        raise UsageError(f"the texts of {', '.join(wanted)} cannot be read: {error}") from error
    for name in sorted(loaded):
        yield name, texts_of(loaded[name])


def texts_of(task: Any) -> Iterator[str]:
    """Question and answer of every document that a task is scored on."""
    for document in task.eval_docs:
        parts = [question_of(task, document), answer_of(task, document)]
        yield " ".join(part for part in parts if part)


def question_of(task: Any, document: Any) -> str:
    """What the model is shown; where a task completes one of several beginnings, all of them."""
    asked = task.doc_to_text(document)
    if isinstance(asked, str):
        return asked
    choices = task.doc_to_choice(document) if asked is not None else []
    return " ".join(choice for choice in choices if isinstance(choice, str))


def answer_of(task: Any, document: Any) -> str:
    """The right answer, or all where several are right."""
    target = task.doc_to_target(document)
    if isinstance(target, bool | int):
        choices = task.doc_to_choice(document) if task.config.doc_to_choice is not None else []
        return str(choices[target]) if 0 <= target < len(choices) else str(target)
    if isinstance(target, list | tuple):
        return " ".join(str(one) for one in target)
    return str(target)
