"""Training a byte-level BPE on the base's documents: once in a lineage, the same tokenizer from the same text."""

from collections.abc import Iterator

import orjson
import pyarrow.compute as pc
import xxhash
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from stages.documents import read_shards
from stages.errors import UsageError
from stages.progress import Progress
from stages.storage import Folder
from stages.tokenize.importing import FAST_CLASS
from stages.tokenize.settings import TokenizerSettings
from stages.tokenizer_folder import CONFIG, TOKENIZER

END_OF_TEXT = "<|endoftext|>"
HASH_RANGE = 1 << 64
SAMPLE_SEED = 0x70CE  # apart from the hash that chose the validation split


def train_tokenizer(documents: Folder, out: Folder, settings: TokenizerSettings, progress: Progress) -> None:
    """Train on the document shards (contract 1) directly in ``documents`` and write the tokenizer's files into ``out``.

    Like GPT-2 and GPT-NeoX: byte-level BPE, no prefix space, every byte in the alphabet, end-of-text as id 0 and
    the only special token; without GPT-NeoX's NFC, so that decoding gives the text back exactly. Merges follow from
    counts of words, with ties broken by id, so neither the order of documents nor threads change the result. Raises
    ``UsageError`` where there is no text.
    """
    total = _total_bytes(documents)
    if not total:
        raise UsageError(f"{documents}: no text to train a tokenizer on; expected document shards (*.parquet)")
    end_of_text = settings.end_of_text or END_OF_TEXT
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size,
        min_frequency=2,
        show_progress=False,
        special_tokens=[end_of_text],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    progress.begin("training the tokenizer", min(total, settings.sample_bytes), "bytes")
    tokenizer.train_from_iterator(_sample(documents, total, settings.sample_bytes, progress), trainer)
    if (found := tokenizer.get_vocab_size()) < settings.vocab_size:
        progress.note(
            f"the text gives a vocabulary of {found}, not {settings.vocab_size}: no pair is left that occurs twice"
        )
    out.write(TOKENIZER, tokenizer.to_str(pretty=True).encode())
    config = {
        "tokenizer_class": FAST_CLASS,
        "bos_token": end_of_text,
        "eos_token": end_of_text,
        "pad_token": end_of_text,  # generation in batches pads; the mask hides it
        "clean_up_tokenization_spaces": False,
    }
    out.write(CONFIG, orjson.dumps(config, option=orjson.OPT_INDENT_2))


def in_sample(doc_id: str, share: float) -> bool:
    """Whether a document belongs to the sample: by its content hash, hashed again, so whatever shard it lies in."""
    return int(xxhash.xxh3_64_intdigest(doc_id.encode(), seed=SAMPLE_SEED)) < share * HASH_RANGE


def _total_bytes(documents: Folder) -> int:
    return sum(
        pc.sum(batch.column("num_bytes")).as_py() or 0 for batch in read_shards(documents, columns=["num_bytes"])
    )


def _sample(documents: Folder, total: int, sample_bytes: int, progress: Progress) -> Iterator[list[str]]:
    """The texts to train on, a batch at a time: all, or an unbiased share of about ``sample_bytes``."""
    share = sample_bytes / total
    for batch in read_shards(documents, columns=["doc_id", "text", "num_bytes"]):
        rows = zip(
            batch.column("doc_id").to_pylist(), batch.column("text"), batch.column("num_bytes").to_pylist(), strict=True
        )
        chosen = [(text.as_py(), size) for doc_id, text, size in rows if in_sample(doc_id, share)]
        yield [text for text, _ in chosen]
        progress.advance(sum(size for _, size in chosen))
