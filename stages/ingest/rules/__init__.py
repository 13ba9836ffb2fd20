"""Quality rules: named, versioned, each threshold a setting with its paper."""

from stages.ingest.rules.settings import RulesSettings
from stages.ingest.rules.steps import rule_steps

__all__ = ["RulesSettings", "rule_steps"]
