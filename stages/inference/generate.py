"""Seeded generation from a causal model: a few continuations of prompts of equal length.

The random numbers of a text depend on the seed and its name alone, so two releases draw with the same numbers, and what
differs between their texts is the models' doing.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import xxhash

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RESOLUTION = 2.0**40  # units per probability of 1 when sampling


def draw(scores: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Sample a token for each row of scores ``[batch, vocabulary]``, by inverting its distribution at ``numbers``.

    The distribution is accumulated in integer units of 2⁻⁴⁰, so sums are the same in any order, also on a GPU. Tokens
    less likely than half a unit are never sampled.
    """
    units = (scores.softmax(dim=-1).double() * RESOLUTION).round().long()
    ends = units.cumsum(dim=-1)
    places = (numbers.double().unsqueeze(1) * ends[:, -1:]).floor().long()
    found = torch.searchsorted(ends, places, right=True).squeeze(1)
    return found.clamp(max=scores.shape[1] - 1)  # out of range only if the scores are not numbers


def seeded(name: str, count: int) -> npt.NDArray[np.float64]:
    """Return ``count`` numbers in [0, 1) that follow from ``name``."""
    return np.random.Generator(np.random.Philox(key=xxhash.xxh3_64_intdigest(name.encode()))).random(count)


@torch.inference_mode()
def continuations(
    model: "PreTrainedModel",
    prompts: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.float64],
    *,
    temperature: float,
    end: int,
    forbidden: list[int],
) -> list[list[int]]:
    """Return what the model writes after each prompt, up to its end-of-text ``end``, which is left out.

    ``prompts`` is ``[batch, length]``, with the opening token; ``numbers`` ``[batch, tokens]`` in [0, 1) decide every
    token. Temperature 0 takes the most likely one. Tokens in ``forbidden`` are never written. A model without a
    key-value cache reads the whole text again for every token.
    """
    device = next(model.parameters()).device
    chances = torch.from_numpy(numbers).to(device)
    whole = torch.from_numpy(prompts).to(device)
    never = torch.tensor(forbidden, dtype=torch.long, device=device)
    read, cache, written = whole, None, list[torch.Tensor]()
    for step in range(numbers.shape[1]):
        output: Any = model(input_ids=read, use_cache=True, **({} if cache is None else {"past_key_values": cache}))
        cache = getattr(output, "past_key_values", None)
        scores = output.logits[:, -1].float().index_fill(1, never, float("-inf"))
        current = scores.argmax(dim=-1) if temperature == 0 else draw(scores / temperature, chances[:, step])
        written.append(current)
        whole = torch.cat([whole, current.unsqueeze(1)], dim=1)
        read = whole if cache is None else current.unsqueeze(1)
        if bool((torch.stack(written) == end).any(dim=0).all()):
            break
    rows = torch.stack(written, dim=1).tolist() if written else [[] for _ in prompts]
    return [row[: row.index(end)] if end in row else row for row in rows]
