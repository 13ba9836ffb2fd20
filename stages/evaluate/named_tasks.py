"""lm-eval tasks named by a recipe: checks of their names and data before any work, and their texts.

The texts, each question with its answer, are used to decontaminate training data.
"""

import difflib
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewarm.stages.core.errors import UsageError
from rewarm.stages.evaluate.settings import EvaluateSettings
from rewarm.stages.evaluate.task_sets import SETS, expand

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

REACH_SECONDS = 10.0  # time limit for the hub to answer


@dataclass(frozen=True)
class TaskData:
    """Source of a task's questions: lm-eval's arguments to ``datasets.load_dataset``."""

    asked: str
    """The task or group named by the recipe."""
    path: str
    name: str | None
    options: dict[str, Any]


def named_tasks(settings: EvaluateSettings) -> "TaskManager":
    """Build lm-eval's index of its own tasks and those in ``include_path``; takes seconds."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=settings.include_path, include_defaults=True)


def check_tasks(settings: EvaluateSettings) -> None:
    """Refuse tasks that cannot be run, before any work; returns immediately if none are named.

    Raises:
        UsageError: a name is unknown (the message lists the nearest ones), ``include_path`` is not a folder, or a
            task's data cannot be read from this machine's disk nor, unless ``HF_HUB_OFFLINE`` is set, from the hub.
    """
    if settings.include_path is not None and not Path(settings.include_path).is_dir():
        raise UsageError(f"evaluate.include_path: {settings.include_path} is not a folder on this machine")
    if not settings.tasks:
        return
    manager = named_tasks(settings)
    known = [*SETS, *manager.all_tasks]
    unknown = [name for name in settings.tasks if name not in set(known)]
    if unknown:
        hints = []
        for name in unknown:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
            hints.append(f"{name!r}" + (f" (nearest: {', '.join(near)})" if near else " (no similar name)"))
        raise UsageError(
            f"evaluate.tasks: lm-eval has no task, group or tag {', '.join(hints)}; `lm_eval ls tasks` lists them,"
            f" evaluate.include_path adds your own folder, and the predefined sets are {', '.join(SETS)}"
        )
    check_data(task_data(manager, list(expand(settings.tasks, None))))


def task_data(manager: "TaskManager", names: Sequence[str]) -> list[TaskData]:
    """Return the sources of tasks, groups and tags, each once; tasks that create data in Python are omitted."""
    found: dict[tuple[str, str | None, str], TaskData] = {}
    for asked in names:
        for settings in _leaves(manager, [asked], {}):
            path = settings.get("dataset_path")
            if not path or "class" in settings or "custom_dataset" in settings:
                continue
            options = dict(settings.get("dataset_kwargs") or {})
            options.pop("trust_remote_code", None)  # lm-eval drops it too
            data = TaskData(asked, str(path), settings.get("dataset_name"), options)
            found.setdefault((data.path, data.name, str(options)), data)
    return list(found.values())


def _leaves(manager: "TaskManager", names: Sequence[str], overrides: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the definitions of tasks by name; a group's entries may override those of its tasks."""
    for name in names:
        entry = manager.task_index[name]
        if entry.kind.name == "TAG":
            yield from _leaves(manager, sorted(entry.tags & set(manager.task_index)), overrides)
        elif entry.kind.name == "GROUP":
            yield from _members(manager, name, (entry.cfg or {})["task"], overrides)
        else:
            yield {**(entry.cfg or {}), **overrides}


def _members(
    manager: "TaskManager", group: str, members: Sequence[str | dict[str, Any]], overrides: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    for member in members:
        own: dict[str, Any] = {"task": member} if isinstance(member, str) else member
        changed = {**overrides, **{key: value for key, value in own.items() if key.startswith("dataset_")}}
        name = own.get("group") or own.get("task")
        if name is None:
            raise UsageError(f"evaluate.tasks: lm-eval cannot run {group}: one of its entries does not name a task")
        if name in manager.task_index:
            yield from _leaves(manager, [name], changed)
        elif isinstance(own.get("task"), list):  # a group defined inline
            yield from _members(manager, name, own["task"], changed)
        else:
            yield {**own, **changed}


def check_data(sources: Sequence[TaskData]) -> None:
    """Refuse sources that cannot be opened: offline, every source is tried on this disk; else one per dataset."""
    distant = [source for source in sources if not _is_local(source)]
    offline = is_offline()
    if distant and not offline and not hub_answers():
        raise UsageError(
            f"evaluate.tasks: the Hugging Face hub does not answer, and {_list([(one, '') for one in distant])} must"
            f" be downloaded from it; if the data is in this machine's cache, set HF_HUB_OFFLINE=1."
            f" {_how_to_fetch(distant)}"
        )
    tried = {(source.path, source.name if offline else None, str(source.options)): source for source in sources}
    failed = [(source, reason) for source in tried.values() if (reason := open_failure(source))]
    if failed:
        where = " (HF_HUB_OFFLINE is set)" if offline else ""
        missing = [source for source, _ in failed]
        raise UsageError(f"evaluate.tasks: cannot read data{where}: {_list(failed)}. {_how_to_fetch(missing)}")


def is_offline() -> bool:
    """Return whether the Hugging Face libraries are set to offline mode."""
    from datasets import config

    return bool(config.HF_HUB_OFFLINE)


def hub_answers() -> bool:
    """Return whether the Hugging Face hub can be reached; any answer counts."""
    from datasets import config

    try:
        with urllib.request.urlopen(config.HF_ENDPOINT, timeout=REACH_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def open_failure(source: TaskData) -> str | None:
    """Return the reason why a source cannot be opened, in one line, or None. Only its description is read."""
    import datasets

    before = datasets.logging.get_verbosity()
    datasets.logging.set_verbosity_error()  # it warns about every dataset from the cache
    try:
        datasets.load_dataset_builder(source.path, source.name, **source.options)
    except Exception as error:  # of the hub, the file system, or the dataset's own reader
        if is_offline() and not _is_local(source):
            return "not in the cache"
        return next(iter(str(error).splitlines()), type(error).__name__)
    finally:
        datasets.logging.set_verbosity(before)
    return None


def _is_local(source: TaskData) -> bool:
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    return source.path in _PACKAGED_DATASETS_MODULES or Path(source.path).exists()


def _list(failed: Sequence[tuple[TaskData, str]]) -> str:
    """List datasets in one line, each with its number of parts, the task, and the first reason."""
    parts: dict[str, list[tuple[TaskData, str]]] = {}
    for source, reason in failed:
        parts.setdefault(source.path, []).append((source, reason))
    lines = []
    for path, group in parts.items():
        source, reason = group[0]
        several = f", {len(group)} parts" if len(group) > 1 else f" ({source.name})" if source.name else ""
        lines.append(f"{path}{several} for {source.asked}" + (f": {reason}" if reason else ""))
    return "; ".join(lines)


def _how_to_fetch(sources: Sequence[TaskData]) -> str:
    from datasets import config

    tasks = ", ".join(repr(task) for task in dict.fromkeys(source.asked for source in sources))
    return (
        "Download it on a machine with network access, with the same versions of datasets and lm-eval: "
        f'python -c "from lm_eval.tasks import TaskManager; TaskManager().load([{tasks}])", and copy its cache'
        f" ({os.fspath(config.HF_DATASETS_CACHE)}, or HF_DATASETS_CACHE) to every machine that evaluates; or define a"
        " task of the same name that reads your own copy in evaluate.include_path"
    )


def task_texts(settings: EvaluateSettings, names: Sequence[str]) -> Iterator[tuple[str, Iterator[str]]]:
    """Yield every task of the names (tasks, groups, tags, predefined sets), with the texts of its questions.

    A text is a question as the task formats it (without preceding examples), followed by the right answer. All
    documents that the task is scored on are read, regardless of ``settings.limit``.

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
    """Yield question and answer of every document that a task is scored on."""
    for document in task.eval_docs:
        parts = [question_of(task, document), answer_of(task, document)]
        yield " ".join(part for part in parts if part)


def question_of(task: Any, document: Any) -> str:
    """Return the model's input; if a task completes one of several beginnings, all of them."""
    asked = task.doc_to_text(document)
    if isinstance(asked, str):
        return asked
    choices = task.doc_to_choice(document) if asked is not None else []
    return " ".join(choice for choice in choices if isinstance(choice, str))


def answer_of(task: Any, document: Any) -> str:
    """Return the right answer, or all of them if several are right."""
    target = task.doc_to_target(document)
    if isinstance(target, bool | int):
        choices = task.doc_to_choice(document) if task.config.doc_to_choice is not None else []
        return str(choices[target]) if 0 <= target < len(choices) else str(target)
    if isinstance(target, list | tuple):
        return " ".join(str(one) for one in target)
    return str(target)
