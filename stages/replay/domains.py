"""The domains of a dataset: which of its documents come from where, by the ``source`` that ingest kept."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from stages.documents import read_shards
from stages.errors import StageError
from stages.storage import Folder
from stages.tokens import TokenStream

UNNAMED = "unnamed"  # the domain of documents without a source
BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Domains:
    """The domain of every document of a training split."""

    names: list[str]  # in the order in which they are met
    codes: np.ndarray  # int32 [documents]: the place of each one's domain in ``names``
    tokens: np.ndarray  # int64 [names]

    def rows(self, name: str) -> np.ndarray:
        """The rows of a domain's documents (int64, ascending)."""
        return np.flatnonzero(self.codes == self.names.index(name))


def read_domains(documents: Folder, stream: TokenStream) -> Domains:
    """The domains of the document shards that ``stream`` was made of; only their ``source`` is read.

    Memory: four bytes a document. Raises ``StageError`` where the two do not have the same rows.
    """
    numbers: dict[str, int] = {}
    try:
        batches = read_shards(documents, ["source"], BATCH_ROWS)
        codes = np.concatenate([np.empty(0, np.int32), *(code(batch.column("source"), numbers) for batch in batches)])
    except (pa.ArrowException, OSError) as error:
        raise StageError(
            f"{documents}: the documents' sources cannot be read: {error}; replay them with replay.mixture=datasets"
        ) from error
    if len(codes) != stream.num_documents:
        raise StageError(
            f"{documents}: holds {len(codes)} documents, {stream.folder} the tokens of {stream.num_documents}; they "
            "must be of the same ones, in the same order. Restore what was changed since they were tokenized."
        )
    lengths = np.diff(stream.document_spans()[0], prepend=0)
    tokens = np.bincount(codes, weights=lengths, minlength=len(numbers)).astype(np.int64)
    return Domains(list(numbers), codes, tokens)


def code(sources: pa.Array, numbers: dict[str, int]) -> np.ndarray:
    """The numbers (int32) of a batch's domains; names that are met for the first time are added to ``numbers``."""
    encoded = sources.dictionary_encode(null_encoding="encode")
    found = [numbers.setdefault(name or UNNAMED, len(numbers)) for name in encoded.dictionary.to_pylist()]
    codes: np.ndarray = np.array(found, dtype=np.int32)[encoded.indices.to_numpy()]
    return codes
