"""What a rank reads at a step: its part of the mixture's batch, from memory-mapped token shards."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from rewarm.stages.core.errors import StageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import Mixture
from rewarm.stages.data.tokens import TokenSet, TokenStream, Window
from rewarm.stages.inference.causal import collate


@dataclass(frozen=True)
class MicroBatch:
    """Sequences that a rank runs at once."""

    inputs: torch.Tensor  # int64 [sequences, seq_len]
    targets: torch.Tensor  # what follows each of them, int64 [sequences, seq_len]
    positions: torch.Tensor  # position ids, int64 [sequences, seq_len]
    replayed: list[int]  # which of them are replayed
    replayed_share: float  # of all sequences of the step, over all ranks


class Batches:
    """Every batch of a mixture, by step. Rank ``r`` of ``w`` takes the batch's sequences ``r``, ``r + w``, …"""

    def __init__(
        self, mixture: Mixture, tokens: Mapping[str, TokenSet], document_mask: bool, device: torch.device
    ) -> None:
        self.mixture = mixture
        self.streams = [tokens[source.key].open() for source in mixture.sources]
        for source, stream in zip(mixture.sources, self.streams, strict=True):
            found = stream.num_sequences(mixture.seq_len)
            if found != source.num_sequences:
                raise StageError(
                    f"{stream.folder}: holds {found} sequences of {mixture.seq_len} tokens, the mixture was made for "
                    f"{source.num_sequences}. The token shards changed since; restore them."
                )
            if source.num_tokens not in (0, stream.num_tokens):  # 0: mixtures of version 1 do not say
                raise StageError(
                    f"{stream.folder}: holds {stream.num_tokens:,} tokens, the mixture was made for "
                    f"{source.num_tokens:,}. The token shards changed since; restore them."
                )
        self.document_mask = document_mask
        self.device = device

    def windows(self, step: int, rank: int = 0, world_size: int = 1) -> list[Window]:
        """A rank's part of a step's batch; by default the whole of it."""
        numbers, starts = self.mixture.batch(step)
        return [
            self.streams[number].window(int(start), self.mixture.seq_len)
            for number, start in zip(numbers[rank::world_size], starts[rank::world_size], strict=True)
        ]

    def part(self, step: int, rank: int, world_size: int, micro_batch: int) -> list[MicroBatch]:
        """A rank's part of the batch, in micro batches."""
        windows = self.windows(step, rank, world_size)
        replayed = self.mixture.batch(step)[0] >= len(self.mixture.new)
        mine, share = replayed[rank::world_size], float(replayed.mean())
        return [
            MicroBatch(
                *collate(windows[first : first + micro_batch], self.device, self.document_mask),
                replayed=np.flatnonzero(mine[first : first + micro_batch]).tolist(),
                replayed_share=share,
            )
            for first in range(0, len(windows), micro_batch)
        ]


class ValidationSet:
    """The first sequences of a dataset's validation split, evenly spread over it, divided among the ranks."""

    def __init__(self, name: str, tokens: Folder, seq_len: int, limit: int) -> None:
        self.name = name
        self.stream = TokenStream(tokens)
        self.seq_len = min(seq_len, max(1, self.stream.num_tokens - 1))
        count = self.stream.num_sequences(self.seq_len)
        kept = min(count, limit)
        self.indices = [place * count // kept for place in range(kept)]

    def part(self, rank: int, world_size: int) -> list[Window | None]:
        """A rank's sequences; ``None`` fills up, so that every rank runs as many forward passes (ZeRO 3 needs it)."""
        rounds = -(-len(self.indices) // world_size)
        places = range(rank, rounds * world_size, world_size)
        return [
            self.stream.sequence(self.indices[place], self.seq_len) if place < len(self.indices) else None
            for place in places
        ]
