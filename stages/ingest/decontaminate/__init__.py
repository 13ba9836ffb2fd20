"""Training text that overlaps with what a model is judged by: found by runs of 13 words, and cut out."""

from rewarm.stages.ingest.decontaminate.guards import GuardAccount, Guards, Hit, write_guard, write_met
from rewarm.stages.ingest.settings import DecontaminateSettings

__all__ = ["DecontaminateSettings", "GuardAccount", "Guards", "Hit", "write_guard", "write_met"]
