"""The HTML report: a page for the workspace and one for each update, with losses learned and forgotten, and cost."""

from rewarm.pipeline.report.page import (
    INDEX,
    assets,
    compared_with,
    edition,
    file_name,
    is_asset,
    is_page,
    neighbours,
    pages,
)
from rewarm.pipeline.report.record import (
    CurvePoint,
    DatasetShown,
    EarlierUpdate,
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
    "EarlierUpdate",
    "PromotionRecord",
    "StageRecord",
    "TextRecord",
    "UpdateShown",
    "ValidationPoint",
    "WorkspaceRecord",
    "assets",
    "compared_with",
    "edition",
    "file_name",
    "is_asset",
    "is_page",
    "neighbours",
    "pages",
]
