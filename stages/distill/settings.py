"""Settings of distilled replay."""

from pydantic import Field, model_validator

from rewarm.stages.core.settings import PLACEMENT, Settings


class DistillSettings(Settings):
    """Text that an imported model writes itself, to be replayed where its own data is not available.

    A model samples from the distribution that it was trained on, so replaying its own text prevents most forgetting
    (Marek et al. 2026, arXiv 2605.26097). Hence the defaults: no prompt, and no sharpening.
    """

    tokens: int | None = Field(default=None, ge=0)
    """Tokens of text to keep; 0: none. Null: none where data came with the model; else a quarter of
    ``budget.update_tokens``, which is what one update replays at the share for a strong shift, or 10 million where that
    budget is open."""
    prompts: str | None = Field(default=None, json_schema_extra=PLACEMENT)
    """Text to continue: files as for ``--data``, or the name of a dataset given with the model (what the files hold
    decides the result, not where they lie). Null: every document begins from nothing."""
    prompt_tokens: int = Field(default=32, ge=1)
    """Tokens taken from the beginning of each prompt; they are the beginning of the document too."""
    temperature: float = Field(default=1.0, gt=0)
    """Divides the logits; 1: the model's own distribution."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample among the likeliest tokens that make up this probability (nucleus sampling); 1: among all."""
    top_k: int = Field(default=0, ge=0)
    """Sample among so many of the likeliest tokens; 0: among all."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Tokens at which a document is cut, its prompt included; null: ``train.seq_len``."""
    min_tokens: int = Field(default=32, ge=1)
    """Shorter documents are refused: tokens that the model wrote, without prompt and end-of-text."""
    drop_unlikely: float = Field(default=0.1, ge=0, lt=1)
    """Share of the documents to refuse, those of highest perplexity under the model itself."""
    min_perplexity: float | None = Field(default=None, ge=1)
    """Refuse documents of less perplexity under the model itself: exp of the mean nats per token it wrote."""
    max_perplexity: float | None = Field(default=None, ge=1)
    """Refuse documents of more, whatever share of them that is."""
    repetition_ngram: int = Field(default=8, ge=1)
    """Tokens of the n-grams by which repetition is measured."""
    max_repetition: float = Field(default=0.5, ge=0, le=1)
    """Refuse documents of which more than this share of the tokens lies in n-grams that stood there before; models that
    fall into a loop have 0.8 and more, and 1 to 2 % of real documentation and source code of up to 2,048 tokens has
    more than 0.5. (Rae et al. 2021, arXiv 2112.11446, appendix A, measure prose by characters and words.)"""
    max_tries: float = Field(default=10.0, gt=1)
    """Give up when so many times the tokens wanted were written and too few were kept."""
    shard_documents: int = Field(default=256, ge=1)
    """Documents of a shard: what an actor writes in one go, and what a kill costs each actor at most."""
    batch_size: int = Field(default=64, ge=1)
    """Documents written side by side. It decides the result: sums in another order may tip the choice of a token."""
    num_actors: int | None = Field(default=None, ge=1, json_schema_extra=PLACEMENT)
    """Ray actors that write, each with a GPU, or a CPU where there are none; null: as many as the cluster has."""

    @model_validator(mode="after")
    def _limits(self) -> "DistillSettings":
        low, high = self.min_perplexity, self.max_perplexity
        if low is not None and high is not None and low >= high:
            raise ValueError(f"min_perplexity {low} is not below max_perplexity {high}")
        return self

    def length(self, seq_len: int) -> int:
        """Tokens at which a document is cut."""
        return self.max_tokens or seq_len
