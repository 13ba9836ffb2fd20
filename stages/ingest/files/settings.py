"""What a user may set about which files are read, and how their records become documents."""

from typing import Literal, Self

from pydantic import Field, model_validator

from stages.settings import PLACEMENT, Settings


class StorageSettings(Settings):
    """How object stores are reached, where a path's own query (``s3://bucket/x?endpoint_override=…``) says nothing."""

    endpoint: str | None = Field(default=None, pattern=r"^(https?://)?[^/?#\s]+/?$", json_schema_extra=PLACEMENT)
    """Host and port that stand in for Amazon's or Google's, such as ``http://localhost:9000``; https where no scheme
    is given."""

    anonymous: bool = Field(default=False, json_schema_extra=PLACEMENT)
    """Read public buckets without credentials; else those of the environment are used."""

    region: str | None = Field(default=None, min_length=1, json_schema_extra=PLACEMENT)
    """Region of the S3 buckets; by default it is asked of the bucket."""


class InputSettings(Settings):
    """Which files are read, and the names of the fields; fields of a record that are not named here are ignored."""

    text: str = Field(default="text", min_length=1)
    """Field (JSON) or column (CSV, TSV, Parquet, Arrow) that holds a document's text."""

    url: str = Field(default="url", min_length=1)
    """Field of the document's address; empty in the shard where a record has none. A text file's is its name."""

    title: str = Field(default="title", min_length=1)
    """Field of the document's title."""

    timestamp: str = Field(default="timestamp", min_length=1)
    """Field of the document's time: ISO 8601, or a Unix time in s, ms, µs or ns; empty where it is neither."""

    language: str = Field(default="language", min_length=1)
    """Field of the document's language code."""

    source: str = Field(default="source", min_length=1)
    """Field of the name of the collection that a document comes from."""

    format: Literal[
        "auto",
        "jsonl",
        "csv",
        "tsv",
        "parquet",
        "arrow",
        "text",
        "warc",
        "wet",
        "html",
        "megatron",
        "datatrove",
        "tokens",
    ] = "auto"
    """Format of all files, whatever their names end in; by default the suffixes decide. A compression is always told
    by the suffix. ``tokens`` are Arrow or Parquet files with a column of token ids in the place of text."""

    max_record_bytes: int = Field(default=64 * 2**20, ge=1)
    """Longest line, text file or page, in bytes (64 MiB); a longer one goes to quarantine and never into memory."""

    max_document_bytes: int | None = Field(default=None, ge=1024)
    """Longest document, in bytes of its text in UTF-8; by default any that ``max_record_bytes`` lets in."""

    oversized: Literal["refuse", "split"] = "refuse"
    """What becomes of a document above ``max_document_bytes``: quarantine, or several documents, cut between
    paragraphs where there are any."""

    max_expansion: float = Field(default=1000, gt=1)
    """Most bytes out for a byte in when decompressing, counted once a file has given 256 MiB; beyond it the rest of the
    file is refused as a decompression bomb. Text packs 3 to 10 times, and gzip can never pass 1032."""

    max_file_bytes: int | None = Field(default=None, ge=1)
    """Most bytes a compressed file may give; the rest is refused as a decompression bomb. By default the ratio alone
    decides, since real dumps have files of any size."""

    shard_bytes: int = Field(default=128 * 2**20, ge=1)
    """Bytes of input that make one shard of work (128 MiB): minutes at most to do again after a failure, and far more
    than starting a task costs. A file that can be cut is; small ones are put together."""

    within: str | None = Field(default=None, min_length=1, json_schema_extra=PLACEMENT)
    """Folder that no link, and no ``..`` of a manifest, may lead out of: what does is not read, and is named. Null:
    links are followed. ``rewarm watch`` sets it to the inbox."""

    manifest_prefix: str | None = Field(default=None, min_length=1, json_schema_extra=PLACEMENT)
    """What stands before a manifest's relative paths, such as ``https://data.commoncrawl.org``; by default the folder
    that the manifest lies in."""

    storage: StorageSettings = Field(default=StorageSettings(), json_schema_extra=PLACEMENT)
    """How object stores are reached."""

    @model_validator(mode="after")
    def check_document_limit(self) -> Self:
        """A document comes from one record."""
        limit = self.max_document_bytes
        if limit is not None and limit > self.max_record_bytes:
            raise ValueError(
                f"max_document_bytes ({limit}) is above max_record_bytes ({self.max_record_bytes}), "
                "so it would refuse nothing; lower it, or raise max_record_bytes"
            )
        return self

    def columns(self) -> set[str]:
        """The fields of a record that are read."""
        return {self.text, self.title, self.url, self.timestamp, self.language, self.source}
