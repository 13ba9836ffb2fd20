"""A small corpus as document shards, and a tokenizer trained on it."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import DOCUMENT_SCHEMA, document_id, shard_writer
from rewarm.stages.tokenize import TokenizerSettings, train_tokenizer

TEXT = (
    "the learning rate of a model returns gradient tensor shape axis array is None if not in values: for each default "
    "optional parameters naïve café größer 学習 моделей 👩‍👩‍👧 x = y[0] + 1e-5; def forward(self, x): return\n\n\tand"
)


def write_documents(folder: Folder, name: str, texts: Sequence[str]) -> None:
    """One document shard."""
    columns = {
        "doc_id": [document_id(text) for text in texts],
        "text": texts,
        "num_bytes": [len(text.encode()) for text in texts],
    }
    filled = {field.name: columns.get(field.name, [None] * len(texts)) for field in DOCUMENT_SCHEMA}
    with folder.writing(f"{name}.parquet") as scratch, shard_writer(scratch) as writer:
        writer.write_table(pa.table(filled, schema=DOCUMENT_SCHEMA))


@pytest.fixture(scope="session")
def document_shard() -> Callable[[Folder, str, Sequence[str]], None]:
    """Writes one document shard."""
    return write_documents


def corpus(seed: int, num_documents: int) -> list[str]:
    """Real-looking texts with all that a page may hold, a literal end-of-text among them."""
    chance = random.Random(seed)
    texts = [" ".join(chance.choices(TEXT.split(" "), k=chance.randint(1, 200))) for _ in range(num_documents)]
    texts[0] = "a page about <|endoftext|> and <|endoftext|><|endoftext|>"
    texts[1] = ""
    return texts


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Three document shards (one of them without rows) and one of validation."""
    folder = Folder(tmp_path_factory.mktemp("dataset"))
    write_documents(folder / "documents", "00000", corpus(1, 120))
    write_documents(folder / "documents", "00001", [])
    write_documents(folder / "documents", "00002", corpus(2, 75))
    write_documents(folder / "validation", "00000", corpus(3, 20))
    return folder


@pytest.fixture(scope="session")
def tokenizer(dataset: Folder, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A tokenizer of 400 ids trained on the corpus."""
    folder = Folder(Path(tmp_path_factory.mktemp("tokenizer")))
    train_tokenizer(dataset / "documents", folder, TokenizerSettings(vocab_size=400), Silent())
    return folder
