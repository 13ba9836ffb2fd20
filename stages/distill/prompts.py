"""Beginnings of given documents for a model to continue: which ones, is a function of the seed and the number."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.order import order_key, permute

RUN = 16  # neighbouring documents are taken together: a random one each would read a whole row group each
CHARACTERS_PER_TOKEN = 32  # more than any token holds on average


@dataclass(frozen=True)
class Prompts:
    """The documents of a folder of document shards (contract 1), by row over all shards in their order."""

    folder: Folder
    names: tuple[str, ...]
    ends: tuple[int, ...]  # row after the last, of each shard

    @classmethod
    def of(cls, folder: Folder) -> "Prompts":
        """Count the documents; ``UsageError`` where there are none."""
        names = folder.files(".parquet")
        ends = np.cumsum([pq.read_metadata(folder.local(name)).num_rows for name in names], dtype=np.int64)
        if not names or not ends[-1]:
            raise UsageError(f"{folder}: no documents to take prompts from (distill.prompts)")
        return cls(folder, tuple(names), tuple(ends.tolist()))

    def rows(self, first: int, count: int, seed: int) -> npt.NDArray[np.int64]:
        """The rows (int64) that documents ``first`` to ``first + count - 1`` begin with.

        Runs of neighbours in random order; every document once before any a second time, but for the last run, which
        is filled up from the beginning.
        """
        numbers = np.arange(first, first + count, dtype=np.int64)
        runs = -(-self.ends[-1] // RUN)
        epochs, places = np.divmod(numbers // RUN, runs)
        chosen = np.empty_like(places)
        for epoch in np.unique(epochs):
            inside = epochs == epoch
            chosen[inside] = permute(places[inside], runs, order_key(seed, "distill/prompts", int(epoch)))
        found: npt.NDArray[np.int64] = (chosen * RUN + numbers % RUN) % self.ends[-1]
        return found

    def texts(self, rows: npt.NDArray[np.int64], prompt_tokens: int) -> list[str]:
        """The beginnings of the documents at ``rows``, long enough for ``prompt_tokens`` tokens."""
        wanted = np.unique(rows)
        found = dict(zip(wanted.tolist(), self._read(wanted, prompt_tokens * CHARACTERS_PER_TOKEN), strict=True))
        return [found[row] for row in rows.tolist()]

    def _read(self, rows: npt.NDArray[np.int64], characters: int) -> Iterator[str]:
        """Texts at sorted rows; only the row groups that hold them are read."""
        shards = np.searchsorted(self.ends, rows, side="right")
        for shard in np.unique(shards):
            start = self.ends[shard - 1] if shard else 0
            with pq.ParquetFile(self.folder.local(self.names[shard])) as file:
                sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
                ends = np.cumsum(sizes)
                inside = rows[shards == shard] - start
                groups = np.searchsorted(ends, inside, side="right")
                for group in np.unique(groups):
                    texts = file.read_row_group(group, columns=["text"]).column(0)
                    first = ends[group] - sizes[group]
                    for row in inside[groups == group]:
                        yield texts[int(row - first)].as_py()[:characters]
