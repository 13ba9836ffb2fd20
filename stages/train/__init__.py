"""Training: DeepSpeed ZeRO on Ray Train workers, in our own data order, under our own schedule."""

from stages.train.initial import (
    ModelSettings,
    check_importable,
    check_length,
    digest_folder,
    import_model,
    initial_model,
    model_config,
)
from stages.train.job import CURVE, Job
from stages.train.run import TrainOutcome, run
from stages.train.schedule import Schedule, ScheduleSettings, anneal_from, schedule_for
from stages.train.settings import TrainSettings

__all__ = [
    "CURVE",
    "Job",
    "ModelSettings",
    "Schedule",
    "ScheduleSettings",
    "TrainOutcome",
    "TrainSettings",
    "anneal_from",
    "check_importable",
    "check_length",
    "digest_folder",
    "import_model",
    "initial_model",
    "model_config",
    "run",
    "schedule_for",
]
