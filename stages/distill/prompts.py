"""Prompts: beginnings of given documents for a model to continue, selected by seed and document number."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.order import order_key, permute

RUN = 16  # neighbouring documents are read together, since every random access reads a whole row group
CHARACTERS_PER_TOKEN = 32  # more than the average of any tokenizer


@dataclass(frozen=True)
class Prompts:
    """Documents of a folder of document shards (contract 1), by row over all shards in order."""

    folder: Folder
    names: tuple[str, ...]
    ends: tuple[int, ...]  # one past the last row of each shard

    @classmethod
    def of(cls, folder: Folder) -> "Prompts":
        """Count the documents of a folder; ``UsageError`` if there are none."""
        names = folder.files(".parquet")
        ends = np.cumsum([pq.read_metadata(folder.local(name)).num_rows for name in names], dtype=np.int64)
        if not names or not ends[-1]:
            raise UsageError(f"{folder}: no documents to take prompts from (distill.prompts)")
        return cls(folder, tuple(names), tuple(ends.tolist()))

    def rows(self, first: int, count: int, seed: int) -> npt.NDArray[np.int64]:
        """Return the rows (int64) of the prompts of documents ``first`` to ``first + count - 1``.

        Runs of neighbours in random order; every document is used once before any is reused, except that the last run
        is completed from the beginning.
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
        """Return the beginnings of the documents at ``rows``, long enough for ``prompt_tokens`` tokens."""
        wanted = np.unique(rows)
        found = dict(zip(wanted.tolist(), self._read(wanted, prompt_tokens * CHARACTERS_PER_TOKEN), strict=True))
        return [found[row] for row in rows.tolist()]

    def _read(self, rows: npt.NDArray[np.int64], characters: int) -> Iterator[str]:
        """Yield texts at sorted rows; only the row groups that hold them are read."""
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
