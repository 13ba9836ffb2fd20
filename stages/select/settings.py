"""Settings and outcome of selection."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from rewarm.stages.core.settings import PLACEMENT, Settings

CHOOSING = ("share", "epochs", "trim")  # settings that use the scores; all others decide the scores


class SelectSettings(Settings):
    """Several epochs over part of the arrival instead of one pass over all of it, to reduce the stability gap (Guo et
    al. 2024, strategies I and II). Updates only: a base reads all of its data."""

    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the arrival's training tokens to train on; 1: all, without selection. The paper selects 5 of 50 billion
    tokens; with 1 billion the model overfits, with 10 billion the gap appears. Later updates replay the whole
    arrival."""
    epochs: int | None = Field(default=None, ge=1)
    """Passes over the selection (the paper: 4 to 5): the update's budget is this many times the selected tokens,
    replayed tokens included. ``budget.update_tokens`` takes precedence; with neither, one pass."""
    by: Literal["random", "classifier", "perplexity"] = "random"
    """Ranking of documents: ``random``, by hash (strategy I alone); ``classifier``, most similar to a reference set
    first; ``perplexity``, lowest mean loss under the base model first (the paper: under a KenLM model of a reference
    corpus). On generic web text the paper's perplexity filter did not help: use it for domain updates."""
    reference: str | None = Field(default=None, json_schema_extra=PLACEMENT)
    """Positive examples of the classifier: a dataset of the lineage by name, or a path to files in any format that
    ingest reads. Their digest is part of fingerprints, the path is not."""
    examples: int = Field(default=20_000, ge=100)
    """Approximate number of examples of each class: positive ones drawn by hash from the reference set, negative ones
    from the arrival itself."""
    characters: int = Field(default=5000, ge=100)
    """Number of characters that the classifier reads from the beginning of each document."""
    features: Literal["words", "characters"] = "words"
    """Features of the classifier: words and word pairs, or runs of 2 to 4 characters (slower; for languages without
    spaces between words)."""
    model: Literal["start", "base"] = "start"
    """Model that measures perplexity: the one that the update starts from, or the lineage's base."""
    trim: float = Field(default=0.0, ge=0, lt=1)
    """Share of the arrival's tokens with the lowest perplexity that is excluded before selection: text that a model
    predicts best may be boilerplate."""
    batch_size: int = Field(default=8, ge=1, json_schema_extra=PLACEMENT)
    """Sequences in one forward pass when perplexity is measured."""

    @property
    def chooses(self) -> bool:
        """Whether only part of the arrival is selected."""
        return self.share < 1

    def scoring(self) -> dict[str, Any]:
        """Return the part of the identity that decides the scores; selections of different shares can reuse them."""
        return {name: value for name, value in self.identity().items() if name not in CHOOSING}

    @model_validator(mode="after")
    def _fits(self) -> "SelectSettings":
        if self.by == "classifier" and self.reference is None:
            raise ValueError(
                "by classifier needs reference: a dataset of the lineage, or a path to texts of the wanted kind"
            )
        if self.trim and self.by != "perplexity":
            raise ValueError(f"trim {self.trim} excludes the lowest perplexities, but by {self.by} measures none")
        if self.trim + self.share > 1 and self.trim:
            raise ValueError(f"share {self.share} and trim {self.trim} add up to more than the arrival")
        return self


@dataclass(frozen=True)
class SelectOutcome:
    """Outcome of selection among an arrival's training documents."""

    by: str
    documents: int  # of the arrival
    tokens: int
    chosen_documents: int
    chosen_tokens: int
    best: float  # score of the first document selected
    threshold: float  # score of the last one
    digest: str  # of the selected rows
