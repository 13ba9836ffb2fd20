"""Export of token shards to Megatron's ``.bin`` and ``.idx`` files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.token_files import megatron_files, write_megatron
from rewarm.stages.data.tokens import TokenFormat
from rewarm.stages.tokenize.files import SPLITS


@dataclass(frozen=True)
class ExportedSplit:
    """Pair of files of one split."""

    prefix: str  # value for Megatron's --data-path
    documents: int
    tokens: int


@dataclass(frozen=True)
class ExportOutcome:
    """Outcome of an export: the files of each split, and the type of the ids."""

    splits: dict[str, ExportedSplit]
    dtype: str
    tokenizer: str  # digest


def export_megatron(tokens: Folder, out: Path, progress: Progress, end_of_text: bool = True) -> ExportOutcome:
    """Write ``<out>_train.bin`` and ``.idx``, and the same for ``validation``, from a dataset's token shards.

    One sequence per document, in shard order, with BOS if the lineage's documents begin with it; with ``end_of_text``
    each ends with that token, as with Megatron's ``--append-eod``. Ids are uint16, or int32 if the tokenizer has more
    than 65,536. A split without shards gives no files. Raises ``UsageError`` if files of these names exist or there are
    no token shards.
    """
    shards = {split: tokens / split for split in SPLITS if (tokens / split).files(".arrow")}
    if not shards:
        raise UsageError(f"{tokens}: contains no token shards (train/*.arrow); tokenize the dataset first")
    prefixes = {split: out.with_name(f"{out.name}_{split}") for split in shards}
    for prefix in prefixes.values():
        for file in megatron_files(prefix):
            if file.exists():
                raise UsageError(f"{file}: exists already; choose a different path")
    found = _format(shards)
    dtype = np.dtype("<u2" if found.dtype == "uint16" else "<i4")
    written = {}
    for split, folder in shards.items():
        progress.begin(f"exporting {split}", len(folder.files(".arrow")), "shards")
        batches = _batches(folder, progress, end_of_text, found.prefix[:1])
        documents, count = write_megatron(prefixes[split], dtype, batches)
        written[split] = ExportedSplit(str(prefixes[split]), documents, count)
    return ExportOutcome(written, dtype.name, found.tokenizer)


def _format(shards: dict[str, Folder]) -> TokenFormat:
    formats = set()
    for folder in shards.values():
        for name in folder.files(".arrow"):
            with _opened(folder, name) as source, pa.ipc.open_file(source) as shard:
                formats.add(TokenFormat.of(shard.schema, f"{folder}/{name}"))
    if len(formats) > 1:
        raise UsageError(f"{next(iter(shards.values()))}: token shards of different tokenizers: {formats}")
    return next(iter(formats))


def _batches(
    folder: Folder, progress: Progress, end_of_text: bool, opening: tuple[int, ...]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield ids and lengths of the documents of each batch; ``opening`` is BOS, which shards do not hold, or empty."""
    for name in folder.files(".arrow"):
        with _opened(folder, name) as source, pa.ipc.open_file(source) as shard:
            for number in range(shard.num_record_batches):
                batch = shard.get_batch(number)
                if not batch.num_rows:
                    continue
                lists = batch.column("tokens")
                offsets = lists.offsets.to_numpy()
                values = lists.values.to_numpy()[offsets[0] : offsets[-1]]
                starts, closing = offsets[:-1] - offsets[0], offsets[1:] - offsets[0] - 1
                if opening:
                    values, closing = np.insert(values, starts, opening[0]), closing + np.arange(1, len(starts) + 1)
                if not end_of_text:
                    values = np.delete(values, closing)
                yield values, np.diff(offsets) - (not end_of_text) + len(opening)
        progress.advance(1)


def _opened(folder: Folder, name: str) -> pa.NativeFile:
    filesystem, path = folder.filesystem()
    return filesystem.open_input_file(f"{path}/{name}")
