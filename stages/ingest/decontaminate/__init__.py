"""Decontamination: cuts passages from training text that share runs of 13 words with held-out text."""

from rewarm.stages.ingest.decontaminate.guards import GuardAccount, Guards, Hit, write_guard, write_met
from rewarm.stages.ingest.settings import DecontaminateSettings

__all__ = ["DecontaminateSettings", "GuardAccount", "Guards", "Hit", "write_guard", "write_met"]
