"""Training: DeepSpeed ZeRO on Ray Train workers, in our own data order, under our own schedule."""

from stages.train.document_mask import check_kind, remarks_on
from stages.train.importing import check_importable, check_length, digest_folder, import_model, read_model_config
from stages.train.initial import ModelSettings, count_parameters, initial_model, model_config, planned_parameters
from stages.train.job import CURVE, SNAPSHOTS, Job
from stages.train.placement import awaited, model_places, placed, refuse_without_models, refuse_without_room
from stages.train.run import TrainOutcome, run
from stages.train.schedule import Phase, Schedule
from stages.train.schedule_kinds import CARRIED_ON, DECAYING, ScheduleSettings, carried_settings, schedule_for
from stages.train.settings import TrainSettings

__all__ = [
    "CARRIED_ON",
    "CURVE",
    "DECAYING",
    "SNAPSHOTS",
    "Job",
    "ModelSettings",
    "Phase",
    "Schedule",
    "ScheduleSettings",
    "TrainOutcome",
    "TrainSettings",
    "awaited",
    "carried_settings",
    "check_importable",
    "check_kind",
    "check_length",
    "count_parameters",
    "digest_folder",
    "import_model",
    "initial_model",
    "model_config",
    "model_places",
    "placed",
    "planned_parameters",
    "read_model_config",
    "refuse_without_models",
    "refuse_without_room",
    "remarks_on",
    "run",
    "schedule_for",
]
