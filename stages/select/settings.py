"""Settings of selection."""

from typing import Any, Literal

from pydantic import Field, model_validator

from rewarm.stages.core.settings import PLACEMENT, Settings

CHOOSING = ("share", "epochs", "trim")  # what is done with the scores; everything else decides the scores


class SelectSettings(Settings):
    """Several epochs over a part of the arrival instead of one pass over all, against the stability gap (Guo et al.
    2024, strategies I and II). Updates only: a base reads all of its data."""

    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the arrival's training tokens that is trained on; 1: all, without selection. The paper takes 5 of 50
    billion tokens; of 1 billion the model overfits, of 10 billion it shows the gap. Later updates replay all of it."""
    epochs: int | None = Field(default=None, ge=1)
    """Passes over what is selected (the paper: 4 to 5): the update's budget is so many times the selected tokens,
    replayed ones included. ``budget.update_tokens`` goes before it; with neither, one pass."""
    by: Literal["random", "classifier", "perplexity"] = "random"
    """How documents are ranked: ``random``, by hash (strategy I alone); ``classifier``, those most like a reference set
    first; ``perplexity``, those of lowest mean loss under the base model first (the paper: under a KenLM model of a
    reference corpus). On generic web text the paper's perplexity filter did not help: keep it for domain updates."""
    reference: str | None = Field(default=None, json_schema_extra=PLACEMENT)
    """The classifier's good examples: a dataset of the lineage by name, or a path to files in any format that ingest
    reads. Their digest enters fingerprints, the path does not."""
    examples: int = Field(default=20_000, ge=100)
    """Documents that the classifier sees of each side, about: drawn by hash from the reference set and, as those to
    tell it from, from the arrival itself."""
    characters: int = Field(default=5000, ge=100)
    """Of a document, how many characters from its beginning on the classifier reads."""
    features: Literal["words", "characters"] = "words"
    """What the classifier counts: words and pairs of words, or 2 to 4 characters in a row (slower; for languages that
    put no spaces between words)."""
    model: Literal["start", "base"] = "start"
    """Whose perplexity: the model that the update starts from, or the lineage's base."""
    trim: float = Field(default=0.0, ge=0, lt=1)
    """Share of the arrival's tokens, from the lowest perplexity on, that is left out before choosing: what a model
    predicts best may be boilerplate."""
    batch_size: int = Field(default=8, ge=1, json_schema_extra=PLACEMENT)
    """Sequences in one forward pass when perplexities are taken."""

    @property
    def chooses(self) -> bool:
        """Whether a part of the arrival is selected at all."""
        return self.share < 1

    def scoring(self) -> dict[str, Any]:
        """The part of the identity that decides the scores; choices of different shares can have one set of scores."""
        return {name: value for name, value in self.identity().items() if name not in CHOOSING}

    @model_validator(mode="after")
    def _fits(self) -> "SelectSettings":
        if self.by == "classifier" and self.reference is None:
            raise ValueError(
                "by classifier needs reference: a dataset of the lineage or a path to texts of the wanted kind"
            )
        if self.trim and self.by != "perplexity":
            raise ValueError(f"trim {self.trim} leaves out the lowest perplexities; with by {self.by} there are none")
        if self.trim + self.share > 1 and self.trim:
            raise ValueError(f"share {self.share} and trim {self.trim} are more than the arrival together")
        return self
