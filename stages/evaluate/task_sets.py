"""Predefined sets of lm-eval tasks from the papers: tasks, shots, metrics and averages.

The name of a set in ``evaluate.tasks`` selects all of its tasks. Its own line in the scores is the mean over its rows.
MMLU is a separate row, because the average hides it (10B in Ibrahim et al. 2024: 28.8 against 37.8 for joint training,
at nearly the same average).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Scores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Row:
    """One line of a set: an lm-eval task or group, or the unweighted mean over several."""

    name: str
    metric: str = "acc"
    shots: int = 0
    members: tuple[str, ...] = ()
    """The lm-eval tasks of the row; empty: the task with the row's name."""
    apart: bool = False
    """Whether the row is reported but not part of the set's mean."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """The lm-eval tasks to run."""
        return self.members or (self.name,)


@dataclass(frozen=True)
class TaskSet:
    """A paper's list of tasks."""

    rows: tuple[Row, ...]
    remark: str = ""
    """Difference from the paper."""

    def shots(self) -> dict[str, int]:
        """Return every lm-eval task of the set with its number of few-shot examples."""
        return {task: row.shots for row in self.rows for task in row.tasks}


SETS = {
    # Ibrahim et al. 2024 (arXiv 2403.08763), evaluation: 0 shots, except 5 for MMLU, NaturalQuestions and TriviaQA.
    "paper-english": TaskSet(
        (
            Row("hellaswag", "acc_norm"),
            Row("winogrande"),
            Row("piqa"),
            Row("openbookqa"),
            Row("arc_easy"),
            Row("arc_challenge"),
            Row("boolq"),
            Row("mathqa"),
            Row("truthfulqa_mc1"),
            Row("truthfulqa_mc2"),
            Row("nq_open", "exact_match", 5),
            Row("triviaqa", "exact_match", 5),
            Row("mmlu", shots=5, apart=True),
        )
    ),
    # The same paper's German tasks, machine-translated: m_hellaswag, m_arc and m_mmlu (Lai et al. 2023, Okapi).
    "paper-german": TaskSet(
        (Row("hellaswag_de", "acc_norm"), Row("arc_de"), Row("m_mmlu_de", shots=5, apart=True)),
        "without the paper's German TriviaQA, which lm-eval does not have; shots as in the English tasks",
    ),
    # Guo et al. 2024 (arXiv 2406.14833): the mean of four tasks, of which MMLU's medical subjects are one.
    "paper-medical": TaskSet(
        (
            Row("medmcqa"),
            Row("medqa_4options"),
            Row("pubmedqa"),
            Row(
                "mmlu_medical",
                shots=5,
                members=(
                    "mmlu_anatomy",
                    "mmlu_clinical_knowledge",
                    "mmlu_college_biology",
                    "mmlu_college_medicine",
                    "mmlu_medical_genetics",
                    "mmlu_professional_medicine",
                ),
            ),
        ),
        "the shots of the paper are unknown: 0 here, and 5 for MMLU",
    ),
}


def expand(names: Sequence[str], num_fewshot: int | None) -> dict[str, int | None]:
    """Return the lm-eval tasks of ``names`` (tasks and sets), in order, with their shots.

    A set's shots take precedence over a task's own, and ``num_fewshot``, if given, over both. None: the task's own.
    """
    tasks: dict[str, int | None] = {}
    for name in names:
        own = SETS[name].shots() if name in SETS else {name: None}
        for task, shots in own.items():
            given = shots if num_fewshot is None else num_fewshot
            tasks[task] = tasks[task] if tasks.get(task) is not None else given
    return tasks


def chosen(names: Sequence[str], measured: Mapping[str, Scores]) -> Scores:
    """Return the scores to keep of lm-eval's results, by requested task.

    A named group includes its members; a group that only a set requested is kept as one line (MMLU without its 57
    subjects).
    """
    return {
        line: metrics
        for task, lines in measured.items()
        for line, metrics in lines.items()
        if task in names or task not in lines or line == task
    }


def averages(names: Sequence[str], scores: Mapping[str, Mapping[str, float]]) -> tuple[Scores, list[str]]:
    """Return, for each named set, its ``mean`` and ``mean_stderr`` (of independent tasks), and rows that are means.

    Also returns notes: the remark of a set, or the reason why it has no mean.
    """
    found: Scores = {}
    notes = []
    for name in names:
        if name not in SETS:
            continue
        rows = {
            row.name: (row, _mean([_value(scores, task, row.metric) for task in row.tasks])) for row in SETS[name].rows
        }
        missing = [f"{row.metric} of {row.name}" for row, value in rows.values() if value is None]
        if missing:
            notes.append(f"{name}: no mean, lm-eval gave no {', '.join(missing)}")
            continue
        found |= {row.name: _line(row.metric, value) for row, value in rows.values() if row.members}
        found[name] = _line("mean", _mean([value for row, value in rows.values() if not row.apart]))
        notes += [f"{name}: {SETS[name].remark}"] if SETS[name].remark else []
    return found, notes


_Value = tuple[float, float]  # and its standard error


def _value(scores: Mapping[str, Mapping[str, float]], task: str, metric: str) -> _Value | None:
    metrics = scores.get(task, {})
    return (metrics[metric], metrics.get(f"{metric}_stderr", math.nan)) if metric in metrics else None


def _mean(values: Sequence[_Value | None]) -> _Value | None:
    present = [value for value in values if value is not None]
    if len(present) < len(values):
        return None
    count = len(present)
    return sum(value for value, _ in present) / count, math.hypot(*(error for _, error in present)) / count


def _line(metric: str, value: _Value | None) -> dict[str, float]:
    assert value is not None
    return {metric: value[0]} | ({} if math.isnan(value[1]) else {f"{metric}_stderr": value[1]})
