"""What an update learned and what it lost: the loss on every dataset so far, and lm-eval on the release."""

from stages.evaluate.named import check_tasks
from stages.evaluate.run import EvaluateOutcome, EvaluationSet, run
from stages.evaluate.settings import EvaluateSettings
from stages.evaluate.texts import task_texts

__all__ = ["EvaluateOutcome", "EvaluateSettings", "EvaluationSet", "check_tasks", "run", "task_texts"]
