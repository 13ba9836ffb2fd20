"""Settings of the tokenizer (fixed per lineage) and of the tokenize stage (per dataset); outcome of tokenization."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from rewarm.stages.core.settings import PLACEMENT, Settings

NUM_BYTES = 256  # the alphabet of a byte-level tokenizer


class TokenizerSettings(Settings):
    """Source of a lineage's tokenizer, which is fixed when the lineage begins."""

    path: str | None = Field(default=None, json_schema_extra=PLACEMENT)
    """Folder with a Hugging Face ``tokenizer.json`` to import; null: train one on the base's documents."""

    vocab_size: int = Field(default=4096, gt=NUM_BYTES)
    """Vocabulary size of a trained tokenizer, including the 256 bytes and end-of-text; more than 256.

    Text that is too short or too uniform gives fewer ids, which is reported.
    """

    end_of_text: str | None = Field(default=None, min_length=1)
    """Token that ends a document. Null, with an imported tokenizer: its ``eos_token``, or, if that ends a chat turn
    (``<|im_end|>``, ``<|eot_id|>``), the token of its vocabulary that ends a text; the choice is shown when the lineage
    begins. With a trained tokenizer: the name of its token; null: ``<|endoftext|>``."""

    sample_bytes: int = Field(default=500_000_000, gt=0)
    """Approximate bytes of text to train a tokenizer on; larger data is sampled by content hash."""


class TokenizeSettings(Settings):
    """Conversion of documents to tokens. These settings do not affect the ids, so they are not in fingerprints."""

    batch_documents: int = Field(default=1024, gt=0, json_schema_extra=PLACEMENT)
    """Maximum number of documents in a record batch."""

    batch_bytes: int = Field(default=4 << 20, gt=0, json_schema_extra=PLACEMENT)
    """Approximate bytes of text in a record batch, whatever the sizes of documents. A thread holds several times as
    much in memory; batches larger than the processor's caches are slower."""

    verify_documents: int = Field(default=2000, ge=0, json_schema_extra=PLACEMENT)
    """Number of documents of the data that both backends encode for comparison beforehand, limited to about a tenth of
    the run time and 8 million characters; 0: special cases only. ``rewarm tokenize --verify`` compares any number
    afterwards."""

    backend: Literal["auto", "fastokens", "tokenizers"] = Field(default="auto", json_schema_extra=PLACEMENT)
    """Encoder: ``tokenizers`` is the reference; ``fastokens`` is faster and is refused if its ids differ from the
    reference's; ``auto`` uses it if they are equal."""


@dataclass(frozen=True)
class TokenizeOutcome:
    """Outcome of tokenization. ``num_bytes`` counts UTF-8 bytes of text, ``num_tokens`` includes end-of-text tokens."""

    num_tokens: int
    num_documents: int
    num_bytes: int
    validation_tokens: int
    validation_documents: int
    validation_bytes: int
    backend: str
    backend_reason: str
    tokenizer: str  # digest of the tokenizer
    digest: str  # of the contents of all shards, in order; independent of workers, batches and backend
