"""The HTML report: a page for the workspace and one for each update, with losses learnt and forgotten, and cost."""

from rewarm.pipeline.report.page import INDEX, file_name, is_page, pages
from rewarm.pipeline.report.record import (
    CurvePoint,
    DatasetShown,
    PromotionRecord,
    StageRecord,
    TextRecord,
    UpdateShown,
    ValidationPoint,
    WorkspaceRecord,
)

__all__ = [
    "INDEX",
    "CurvePoint",
    "DatasetShown",
    "PromotionRecord",
    "StageRecord",
    "TextRecord",
    "UpdateShown",
    "ValidationPoint",
    "WorkspaceRecord",
    "file_name",
    "is_page",
    "pages",
]
