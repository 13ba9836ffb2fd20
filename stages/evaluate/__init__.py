"""Evaluate: the loss on every dataset so far, and lm-eval scores of the release."""

from typing import TYPE_CHECKING

from rewarm.stages.core.lazy import import_lazily

if TYPE_CHECKING:
    from rewarm.stages.evaluate.lm_eval import worker_environment
    from rewarm.stages.evaluate.named_tasks import check_tasks, task_texts
    from rewarm.stages.evaluate.run import EvaluateOutcome, EvaluationSet, run
    from rewarm.stages.evaluate.settings import APART, EvaluateSettings
else:
    import_lazily(__name__)

__all__ = [
    "APART",
    "EvaluateOutcome",
    "EvaluateSettings",
    "EvaluationSet",
    "check_tasks",
    "run",
    "task_texts",
    "worker_environment",
]
