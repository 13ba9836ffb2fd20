"""The actors that evaluate: losses, and lm-eval's tasks."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.evaluate.harness import plain_metrics, run_task, write_samples
from stages.evaluate.named import named_tasks
from stages.evaluate.settings import EvaluateSettings
from stages.evaluate.tasks import copy_task
from stages.pool import OFFLINE, QUIET, LossPiece, LossWorker, Reading
from stages.storage import Folder

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager


@dataclass(frozen=True)
class TaskPiece:
    """One lm-eval task on the release: one of those made from a dataset, or one named by the recipe.

    ``prefix`` and ``shots`` are as for ``run_task``.
    """

    model: Folder
    task: str
    out: Folder
    generated: bool
    prefix: int | None = None
    shots: int | None = None

    def __str__(self) -> str:
        return f"lm-eval's {self.task} on {self.model}"


@dataclass(frozen=True)
class Conditions:
    """What all pieces of one evaluation share."""

    settings: EvaluateSettings
    reading: Reading


class Evaluator(LossWorker):
    """One actor; both kinds of pieces."""

    def __init__(self, conditions: Conditions) -> None:
        super().__init__(conditions.reading)
        self.settings = conditions.settings
        self._named: TaskManager | None = None

    def work(self, piece: LossPiece | TaskPiece) -> None:
        """Do one piece and write its result."""
        if isinstance(piece, LossPiece):
            super().work(piece)
        else:
            self._task(piece)

    def _task(self, piece: TaskPiece) -> None:
        model, tokenizer, settings = self.model(piece.model), piece.model.local(), self.settings
        with tempfile.TemporaryDirectory(prefix="rewarm-task-") as scratch:
            if piece.generated:
                manager = generated_task(piece.out / "tasks", piece.task, Path(scratch))
            else:
                self._named = manager = self._named or named_tasks(settings)
            results = run_task(
                model,
                tokenizer,
                piece.task,
                manager,
                settings,
                seq_len=self.reading.seq_len,
                generated=piece.generated,
                prefix=piece.prefix,
                shots=piece.shots,
            )
        write_samples(piece.out / "samples", results)
        if results["notes"]:
            (piece.out / "notes").write_json(f"{piece.task}.json", results["notes"])
        (piece.out / "scores").write_json(f"{piece.task}.json", plain_metrics(results))


def generated_task(tasks: Folder, name: str, scratch: Path) -> "TaskManager":
    """An lm-eval index that holds one generated task, copied to ``scratch``."""
    from lm_eval.tasks import TaskManager

    copy_task(tasks, name, scratch)
    return TaskManager(include_path=str(scratch), include_defaults=False)


def worker_environment(settings: EvaluateSettings) -> dict[str, str]:
    """The actors' environment: nothing is fetched from the network unless the recipe names tasks that need it."""
    if not settings.tasks:
        return QUIET | OFFLINE
    passed = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HOME", "HF_DATASETS_CACHE")
    return QUIET | {name: os.environ[name] for name in passed if name in os.environ}
