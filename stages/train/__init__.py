"""Training: DeepSpeed ZeRO on Ray Train workers, with rewarm's data order and learning-rate schedules."""

from typing import TYPE_CHECKING

from rewarm.stages.core.lazy import import_lazily

if TYPE_CHECKING:
    from rewarm.stages.train.adopting import Adopted, adopt_model, check_adoptable
    from rewarm.stages.train.checkpoints import read_progress
    from rewarm.stages.train.decisions import Decision, decisions_so_far, steps_without_effect
    from rewarm.stages.train.document_mask import check_kind, remarks_on
    from rewarm.stages.train.group import Group
    from rewarm.stages.train.importing import (
        check_importable,
        check_length,
        digest_folder,
        import_model,
        read_model_config,
    )
    from rewarm.stages.train.job import CURVE, SNAPSHOTS, Job
    from rewarm.stages.train.model import count_parameters, initial_model, model_config, planned_parameters
    from rewarm.stages.train.not_finite import documents_read
    from rewarm.stages.train.placement import awaited, model_places, placed, refuse_without_models, refuse_without_room
    from rewarm.stages.train.run import TrainOutcome, run
    from rewarm.stages.train.schedule import (
        CARRIED_ON,
        DECAYING,
        Phase,
        Schedule,
        ScheduleSettings,
        carried_settings,
        schedule_for,
    )
    from rewarm.stages.train.settings import ModelSettings, TrainSettings
else:
    import_lazily(__name__)

__all__ = [
    "CARRIED_ON",
    "CURVE",
    "DECAYING",
    "SNAPSHOTS",
    "Adopted",
    "Decision",
    "Group",
    "Job",
    "ModelSettings",
    "Phase",
    "Schedule",
    "ScheduleSettings",
    "TrainOutcome",
    "TrainSettings",
    "adopt_model",
    "awaited",
    "carried_settings",
    "check_adoptable",
    "check_importable",
    "check_kind",
    "check_length",
    "count_parameters",
    "decisions_so_far",
    "digest_folder",
    "documents_read",
    "import_model",
    "initial_model",
    "model_config",
    "model_places",
    "placed",
    "planned_parameters",
    "read_model_config",
    "read_progress",
    "refuse_without_models",
    "refuse_without_room",
    "remarks_on",
    "run",
    "schedule_for",
    "steps_without_effect",
]
