"""Batched sampling from a causal model, with the log-probability of every sampled token.

The random numbers of a document depend on the seed and its number alone, so every process samples the same document.
Prompts are forced token by token while other rows are already being sampled: rows with prompts of different lengths
stay in step, without padding or masks.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import xxhash

from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.distill.settings import DistillSettings
from rewarm.stages.inference.generate import draw

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from rewarm.stages.data.tokenizer import Definition


@dataclass(frozen=True)
class Draft:
    """Document as it was sampled."""

    tokens: list[int]  # prompt and generated tokens, without end-of-text
    prompt_tokens: int
    nats: float  # -log p of the generated tokens, end-of-text included, at temperature 1
    ended: bool  # by end-of-text; False: cut at the maximum length

    @property
    def written(self) -> int:
        """Number of generated tokens."""
        return len(self.tokens) - self.prompt_tokens

    @property
    def mean_nats(self) -> float:
        """Nats per sampled token: the logarithm of the perplexity."""
        return self.nats / max(1, self.written + self.ended)


def uniforms(seed: int, document: int, count: int) -> npt.NDArray[np.float64]:
    """Return the numbers in [0, 1) that decide a document, one per token."""
    key = xxhash.xxh3_64_intdigest(f"distill/{seed}/{document}".encode())
    return np.random.Generator(np.random.Philox(key=key)).random(count)


class Sampler:
    """Sampler of batches of documents from a model with a key-value cache."""

    def __init__(
        self,
        model: "PreTrainedModel",
        words: "PreTrainedTokenizerBase",
        definition: "Definition",
        settings: DistillSettings,
        max_tokens: int,
    ) -> None:
        """Create a sampler; ``words`` and ``definition`` are the lineage's tokenizer, for the form of documents."""
        self.model = model
        self.max_tokens = max_tokens
        self.device = next(model.parameters()).device
        self.end = next(iter(definition.form.suffix), definition.end_of_text_id)
        self.opening = definition.form.prefix or (definition.end_of_text_id,)
        rows = model.config.get_text_config().vocab_size
        self.forbidden = forbidden_tokens(words, definition, rows, self.end).to(self.device)
        self.warpers = warpers(settings)

    @torch.inference_mode()
    def sample(self, prompts: list[list[int]], numbers: npt.NDArray[np.float64]) -> list[Draft]:
        """Sample a document for each prompt; ``numbers`` (``[batch, max_tokens]``, in [0, 1)) decide every token.

        Finished rows are removed from the batch once they are half of it.
        """
        forced = torch.full((len(prompts), self.max_tokens), -1)
        for row, prompt in enumerate(prompts):
            forced[row, : len(prompt)] = torch.tensor(prompt, dtype=torch.long)
        forced, chances = forced.to(self.device), torch.from_numpy(numbers).to(self.device)
        tokens = torch.full_like(forced, self.end)
        nats = torch.zeros(len(prompts), dtype=torch.float64, device=self.device)
        lengths = torch.full((len(prompts),), self.max_tokens, device=self.device)
        rows = torch.arange(len(prompts), device=self.device)  # rows in the batch
        going = torch.ones_like(rows, dtype=torch.bool)  # rows that have not ended
        read, cache = torch.tensor(self.opening, device=self.device).repeat(len(prompts), 1), None
        for step in range(self.max_tokens):
            logits, cache = self._next(read, cache)
            free = going & (forced[rows, step] < 0)
            current = torch.where(free, self._choose(logits, chances[rows, step]), forced[rows, step].clamp(min=0))
            surprise = -logits.log_softmax(dim=-1).gather(1, current.unsqueeze(1)).squeeze(1)
            nats[rows] += torch.where(free, surprise, 0.0)
            tokens[rows[going], step] = current[going]
            ended = free & (current == self.end)
            lengths[rows[ended]] = step
            going &= ~ended
            if not going.any():
                break
            if 2 * int(going.sum()) <= len(rows):
                kept = going.nonzero().squeeze(1)
                cache.batch_select_indices(kept)
                rows, current, going = rows[kept], current[kept], going[kept]
            read = current.unsqueeze(1)
        return drafts(prompts, tokens, lengths, nats)

    def _next(self, read: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        """Return the logits (float32 ``[batch, vocabulary]``) after more tokens, and the cache that holds them.

        Tokens are ``[batch, 1]``, except for the first ones, which open a document.
        """
        output = self.model(input_ids=read, past_key_values=cache, use_cache=True)
        found = getattr(output, "past_key_values", None)
        if found is None:
            raise UsageError(
                f"a {self.model.config.model_type} model cannot be distilled: it has no key-value cache. Provide data "
                "that is representative of its training data (--data NAME=PATH), or set distill.tokens=0."
            )
        return output.logits[:, -1].float(), found

    def _choose(self, logits: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        scores = logits.index_fill(1, self.forbidden, float("-inf"))
        for warper in self.warpers:
            scores = warper(None, scores)
        return draw(scores, numbers)


def drafts(prompts: list[list[int]], tokens: torch.Tensor, lengths: torch.Tensor, nats: torch.Tensor) -> list[Draft]:
    """Return the sampled documents, row by row."""
    if not bool(nats.isfinite().all()):
        raise StageError("distill: the model's probabilities are not numbers; its weights have diverged")
    rows = zip(prompts, tokens.tolist(), lengths.tolist(), nats.tolist(), strict=True)
    return [
        Draft(row[:length], len(prompt), total, ended=length < tokens.shape[1]) for prompt, row, length, total in rows
    ]


def forbidden_tokens(
    words: "PreTrainedTokenizerBase", definition: "Definition", vocab_size: int, end: int
) -> torch.Tensor:
    """Return the ids that are not text: special tokens except ``end``, and padding rows of the embedding."""
    marked = [definition.as_saved.token_to_id(token) for token in definition.special_tokens()]
    special = {*map(int, words.all_special_ids), *marked, definition.end_of_text_id} - {end, None}
    return torch.tensor(sorted(special | set(range(definition.num_ids, vocab_size))), dtype=torch.long)


def warpers(settings: DistillSettings) -> list[Any]:
    """Return the logits warpers of ``transformers`` for the settings."""
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    made: list[Any] = []
    if settings.temperature != 1:
        made.append(TemperatureLogitsWarper(float(settings.temperature)))
    if settings.top_k:
        made.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1:
        made.append(TopPLogitsWarper(settings.top_p))
    return made
