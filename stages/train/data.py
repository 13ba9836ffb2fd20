"""Input batches of a rank: its part of the mixture's batch at each step, read from memory-mapped token shards."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
import torch

from rewarm.stages.core.errors import StageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import Mixture
from rewarm.stages.data.tokens import TokenSet, TokenStream, Window
from rewarm.stages.inference.causal import Documents, collate, documents_of
from rewarm.stages.train.settings import TrainSettings


@dataclass(frozen=True)
class MicroBatch:
    """Sequences that a rank processes at once."""

    inputs: torch.Tensor  # int64 [sequences, seq_len]
    targets: torch.Tensor  # the next token of each input, int64 [sequences, seq_len]
    positions: torch.Tensor  # position ids, int64 [sequences, seq_len]
    replayed: list[int]  # indices of the replayed sequences
    replayed_share: float  # of all sequences of the step, over all ranks
    documents: Documents | None = None  # their boundaries
    weight: float = 1.0  # of its mean loss, in the mean over the micro batches of all ranks; 1 if all have equal sizes


def weighted(value: torch.Tensor, weight: float) -> torch.Tensor:
    """Return a micro batch's figure times its weight; unchanged, to the last bit, at weight 1."""
    return value if weight == 1.0 else value * weight


def micro_batches(settings: TrainSettings, world_size: int) -> tuple[int, int]:
    """Return the largest number of sequences in a micro batch, and the micro batches of each rank in a step.

    Both are the same on all ranks, although their parts may differ by one sequence: ZeRO 3 gathers weights and ZeRO 2
    reduces gradients in every micro batch.
    """
    part = -(-settings.global_batch // world_size)
    size = min(settings.micro_batch or part, part)
    return size, -(-part // size)


def divided(count: int, rounds: int) -> list[tuple[int, int]]:
    """Return ``rounds`` ranges that divide ``count`` sequences as evenly as possible, the larger ones first."""
    small, more = divmod(count, rounds)
    ends = [number * small + min(number, more) for number in range(rounds + 1)]
    return list(pairwise(ends))


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

    def part(self, step: int, rank: int, world_size: int, rounds: int) -> list[MicroBatch]:
        """Return a rank's part of the batch in ``rounds`` micro batches, the same number on every rank.

        Micro batches of unequal sizes are weighted: with ``m`` sequences of a batch of ``B`` on ``w`` ranks, the weight
        is ``m · rounds · w / B``. A rank with fewer sequences than rounds repeats its first one, with weight 0.
        """
        windows = self.windows(step, rank, world_size)
        replayed = self.mixture.batch(step)[0] >= len(self.mixture.new)
        mine, share = replayed[rank::world_size], float(replayed.mean())
        whole = Fraction(rounds * world_size, self.mixture.global_batch)
        micro_batches = []
        for first, last in divided(len(windows), rounds):
            packed = collate(windows[first:last] or windows[:1], torch.device("cpu"), self.document_mask)
            documents = documents_of(packed.positions)  # on the CPU: its size depends on the values
            micro_batches.append(
                MicroBatch(
                    inputs=packed.inputs.to(self.device, non_blocking=True),
                    targets=packed.targets.to(self.device, non_blocking=True),
                    positions=packed.positions.to(self.device, non_blocking=True),
                    replayed=np.flatnonzero(mine[first:last]).tolist(),
                    replayed_share=share,
                    documents=Documents(documents.boundaries.to(self.device, non_blocking=True), documents.longest),
                    weight=float((last - first) * whole),
                )
            )
        return micro_batches


class ValidationSet:
    """Sequences of a dataset's validation split, evenly spaced over it and divided among the ranks."""

    def __init__(self, name: str, tokens: Folder, seq_len: int, limit: int) -> None:
        self.name = name
        self.stream = TokenStream(tokens)
        self.seq_len = min(seq_len, max(1, self.stream.num_tokens - 1))
        self.count = self.stream.num_sequences(self.seq_len)
        kept = min(self.count, limit)
        self.indices = [place * self.count // kept for place in range(kept)]

    def part(self, rank: int, world_size: int) -> list[Window | None]:
        """Return a rank's sequences, padded with ``None``: ZeRO 3 needs as many forward passes on every rank."""
        rounds = -(-len(self.indices) // world_size)
        places = range(rank, rounds * world_size, world_size)
        return [
            self.stream.sequence(self.indices[place], self.seq_len) if place < len(self.indices) else None
            for place in places
        ]
