"""A tiny real model with its tokenizer, and real docstrings as validation splits."""

import inspect
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import DOCUMENT_SCHEMA, document_id, shard_writer
from rewarm.stages.data.tokens import TokenFormat, write_shard
from rewarm.stages.evaluate import EvaluationSet

END = "<|endoftext|>"


@dataclass(frozen=True)
class World:
    """Two models that share a tokenizer, and two validation splits."""

    trunk: Folder
    release: Folder
    sets: list[EvaluationSet]
    texts: dict[str, list[str]]
    end_of_text: int


def docstrings(module: object, count: int) -> list[str]:
    members = [member for _, member in inspect.getmembers(module) if callable(member)]
    texts = dict.fromkeys(doc[:600] for member in members if (doc := inspect.getdoc(member)) and len(doc) > 60)
    return list(texts)[:count]


def make_tokenizer(texts: list[str], folder: Path) -> "object":
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=500, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    )
    words = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=END, eos_token=END)
    words.save_pretrained(folder)
    return words


def make_set(name: str, texts: list[str], words: "object", root: Path) -> EvaluationSet:
    documents, tokens = Folder(root / name / "documents"), Folder(root / name / "tokens")
    end = words.convert_tokens_to_ids(END)
    ids, sizes = [document_id(text) for text in texts], [len(text.encode()) for text in texts]
    rows = {"doc_id": ids, "text": texts, "num_bytes": sizes}
    columns = [
        pa.array(rows[f.name], f.type) if f.name in rows else pa.nulls(len(texts), f.type) for f in DOCUMENT_SCHEMA
    ]
    with documents.writing("000.parquet") as scratch, shard_writer(scratch) as writer:
        writer.write_table(pa.table(columns, schema=DOCUMENT_SCHEMA))
    shape = TokenFormat("test", end, "uint16")
    lists = [np.array([*words.encode(text, split_special_tokens=True), end], np.uint16) for text in texts]
    half = len(texts) // 2  # two shards, so that a stream crosses a file
    for number, part in enumerate((slice(0, half), slice(half, None))):
        arrays = [
            pa.array(ids[part]),
            pa.array(lists[part], shape.schema().field("tokens").type),
            pa.array(sizes[part]),
        ]
        batch = pa.record_batch(arrays, schema=shape.schema())
        with tokens.writing(f"{number:03d}.arrow") as scratch:
            write_shard(scratch, shape, [batch])
    return EvaluationSet(name, tokens, documents, word_order=name == "code")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    root = tmp_path_factory.mktemp("evaluate")
    texts = {
        "sci-docs": [*docstrings(np, 24), f"The marker {END} is text here, and it stays text: {END} again."],
        "code": [line for line in inspect.getsource(inspect).split("\n\n\n") if len(line) > 60][:12],
    }
    config = GPTNeoXConfig(
        vocab_size=512, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=512, initializer_range=0.3,
    )  # fmt: skip
    for seed, name in enumerate(("trunk", "release")):
        torch.manual_seed(seed)
        GPTNeoXForCausalLM(config).save_pretrained(root / name)
        words = make_tokenizer(list(chain.from_iterable(texts.values())), root / name)
    sets = [make_set(name, part, words, root) for name, part in texts.items()]
    end = words.convert_tokens_to_ids(END)
    return World(Folder(root / "trunk"), Folder(root / "release"), sets, texts, end)
