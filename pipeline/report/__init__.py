"""The HTML report: one self-contained file that shows what every update learned, forgot and cost."""

from pipeline.report.page import render
from pipeline.report.record import (
    CurvePoint,
    DatasetRecord,
    GapRecord,
    PlanRecord,
    ReplayPart,
    ReplayRecord,
    Taken,
    TextRecord,
    TokenRecord,
    TrainRecord,
    UpdateRecord,
    ValidationPoint,
    WorkspaceRecord,
)

__all__ = [
    "CurvePoint",
    "DatasetRecord",
    "GapRecord",
    "PlanRecord",
    "ReplayPart",
    "ReplayRecord",
    "Taken",
    "TextRecord",
    "TokenRecord",
    "TrainRecord",
    "UpdateRecord",
    "ValidationPoint",
    "WorkspaceRecord",
    "render",
]
