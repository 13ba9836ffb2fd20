"""The identity of settings: what a fingerprint holds of them."""

from pydantic import Field

from rewarm.stages.core.settings import ADDED, PLACEMENT, Settings
from rewarm.stages.train import TrainSettings


class Chosen(Settings):
    """Settings of a stage."""

    kept: int = 1
    """Part of the result."""
    workers: int = Field(default=1, json_schema_extra=PLACEMENT)
    """Where it is computed."""
    later: float = Field(default=0.5, json_schema_extra=ADDED)
    """Added after the stage had been used."""


def test_a_setting_that_was_added_later_counts_once_it_is_used() -> None:
    assert Chosen().identity() == {"kept": 1}
    assert Chosen(later=0.5, workers=3).identity() == {"kept": 1}
    assert Chosen(later=0.25).identity() == {"kept": 1, "later": 0.25}


def test_training_that_was_begun_before_muon_is_the_same_training() -> None:
    assert {"optimizer", "muon_momentum", "switch_optimizer", "decay_embeddings"}.isdisjoint(TrainSettings().identity())
    assert TrainSettings(optimizer="muon").identity()["optimizer"] == "muon"
