"""Input batches of a rank: its part of the mixture's batch at each step, read from memory-mapped token shards."""

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
    """Sequences that a rank processes at once."""

    inputs: torch.Tensor  # int64 [sequences, seq_len]
    targets: torch.Tensor  # the next token of each input, int64 [sequences, seq_len]
    positions: torch.Tensor  # position ids, int64 [sequences, seq_len]
    replayed: list[int]  # indices of the replayed sequences
    replayed_share: float  # of all sequences of the step, over all ranks


class Batches:
    """Batches of a mixture, by step. Rank ``r`` of ``w`` reads the sequences ``r``, ``r + w``, … of the batch."""

    def __init__(
        self, mixture: Mixture, tokens: Mapping[str, TokenSet], document_mask: bool, device: torch.device
    ) -> None:
        self.mixture = mixture
        self.streams = [tokens[source.key].open() for source in mixture.sources]
        for source, stream in zip(mixture.sources, self.streams, strict=True):
            found = stream.num_sequences(mixture.seq_len)
            if found != source.num_sequences:
                raise StageError(
                    f"{stream.folder}: holds {found} sequences of {mixture.seq_len} tokens, but the mixture was made "
                    f"for {source.num_sequences}. The token shards have changed since; restore them."
                )
            if source.num_tokens not in (0, stream.num_tokens):  # 0: not recorded by mixtures of version 1
                raise StageError(
                    f"{stream.folder}: holds {stream.num_tokens:,} tokens, but the mixture was made for "
                    f"{source.num_tokens:,}. The token shards have changed since; restore them."
                )
        self.document_mask = document_mask
        self.device = device

    def windows(self, step: int, rank: int = 0, world_size: int = 1) -> list[Window]:
        """Return a rank's part of a step's batch; by default the whole batch."""
        numbers, starts = self.mixture.batch(step)
        return [
            self.streams[number].window(int(start), self.mixture.seq_len)
            for number, start in zip(numbers[rank::world_size], starts[rank::world_size], strict=True)
        ]

    def part(self, step: int, rank: int, world_size: int, micro_batch: int) -> list[MicroBatch]:
        """Return a rank's part of the batch, in micro batches."""
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
    """Sequences of a dataset's validation split, evenly spaced over it and divided among the ranks."""

    def __init__(self, name: str, tokens: Folder, seq_len: int, limit: int) -> None:
        self.name = name
        self.stream = TokenStream(tokens)
        self.seq_len = min(seq_len, max(1, self.stream.num_tokens - 1))
        count = self.stream.num_sequences(self.seq_len)
        kept = min(count, limit)
        self.indices = [place * count // kept for place in range(kept)]

    def part(self, rank: int, world_size: int) -> list[Window | None]:
        """Return a rank's sequences, padded with ``None``: ZeRO 3 needs as many forward passes on every rank."""
        rounds = -(-len(self.indices) // world_size)
        places = range(rank, rounds * world_size, world_size)
        return [
            self.stream.sequence(self.indices[place], self.seq_len) if place < len(self.indices) else None
            for place in places
        ]
