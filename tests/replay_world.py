"""Datasets as document and token shards with sources, made of counted tokens: what tests of replay read."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import DOCUMENT_SCHEMA, document_id, shard_writer
from rewarm.stages.data.tokens import TokenFormat, write_shard

Document = tuple[str | None, int]  # its source, and its tokens with end-of-text


def write_dataset(folder: Folder, documents: Sequence[Document], split: str = "train", shards: int = 2) -> list[str]:
    """Write ``documents/`` and ``tokens/train/`` (or the validation's) row by row alike; the documents' ids."""
    name, texts, token_format = (
        folder.name,
        "documents" if split == "train" else "validation",
        TokenFormat("t", 0, "uint16"),
    )
    ids: list[str] = []
    for shard, numbers in enumerate(np.array_split(np.arange(len(documents)), shards)):
        rows, tokens = [], []
        for number in numbers.tolist():
            source, length = documents[number]
            text = f"{split} text {number} of {name}"
            ids.append(document_id(text))
            url = f"https://{name}/{number}"
            rows.append({"doc_id": ids[-1], "text": text, "source": source, "url": url, "num_bytes": len(text)})
            tokens.append({"doc_id": ids[-1], "tokens": [*[1 + number % 50] * (length - 1), 0], "num_bytes": len(text)})
        file = f"{shard:05d}"
        with (folder / texts).writing(f"{file}.parquet") as path, shard_writer(path) as writer:
            writer.write_table(pa.Table.from_pylist(rows, schema=DOCUMENT_SCHEMA))
        with (folder / "tokens" / split).writing(f"{file}.arrow") as path:
            half = -(-len(tokens) // 2)
            parts = [part for part in (tokens[:half], tokens[half:]) if part]
            schema = token_format.schema()
            write_shard(path, token_format, [pa.RecordBatch.from_pylist(part, schema=schema) for part in parts])
    return ids
