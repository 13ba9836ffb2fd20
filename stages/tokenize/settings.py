"""Settings of the tokenizer (once in a lineage) and of the tokenize stage (every dataset)."""

from typing import Literal

from pydantic import Field

from rewarm.stages.core.settings import PLACEMENT, Settings

NUM_BYTES = 256  # the alphabet of a byte-level tokenizer


class TokenizerSettings(Settings):
    """Where a lineage's tokenizer comes from. It is fixed when the lineage begins and never changes after."""

    path: str | None = Field(default=None, json_schema_extra=PLACEMENT)
    """A folder with a Hugging Face ``tokenizer.json`` to take over; null trains one on the base's documents."""

    vocab_size: int = Field(default=4096, gt=NUM_BYTES)
    """Number of ids of a trained tokenizer, with the 256 bytes and end-of-text among them; more than 256.

    Text too small or too uniform to give that many gives fewer.
    """

    end_of_text: str | None = Field(default=None, min_length=1)
    """The token that ends a document. Null: of an imported tokenizer its ``eos_token``, or, if that ends a turn of a
    chat (``<|im_end|>``, ``<|eot_id|>``), the token of its vocabulary that ends a text; which one it is, is said when
    the lineage begins. A trained tokenizer names its token so; null: ``<|endoftext|>``."""

    sample_bytes: int = Field(default=500_000_000, gt=0)
    """About how many bytes of text a tokenizer is trained on; of more, a sample chosen by content hash is taken."""


class TokenizeSettings(Settings):
    """How documents become tokens. None of it decides the ids, so none of it enters a fingerprint."""

    batch_documents: int = Field(default=1024, gt=0, json_schema_extra=PLACEMENT)
    """Most documents in a record batch."""

    batch_bytes: int = Field(default=4 << 20, gt=0, json_schema_extra=PLACEMENT)
    """About how many bytes of text a record batch holds, whatever the documents' sizes: what a thread of a task has
    in memory at once, several times over. Larger ones leave the processor's caches and are slower."""

    verify_documents: int = Field(default=2000, ge=0, json_schema_extra=PLACEMENT)
    """How many documents of the very data are encoded by both backends and compared beforehand, as far as that adds
    about a tenth to the work and up to 8 million characters; 0 compares special cases only. Afterwards,
    ``rewarm tokenize --verify`` compares as many as you like."""

    backend: Literal["auto", "fastokens", "tokenizers"] = Field(default="auto", json_schema_extra=PLACEMENT)
    """The encoder: ``tokenizers`` is the reference; ``fastokens`` is used only where its ids equal the reference's, and
    refused where they do not; ``auto`` takes it where it can."""
