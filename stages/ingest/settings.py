"""What a user may set about reading an arrival."""

from pydantic import Field

from stages.settings import Settings


class IngestSettings(Settings):
    """Names of the fields to read, and the validation split. Fields of a record that are not named here are ignored."""

    text: str = Field(default="text", min_length=1)
    """Field (JSON) or column (Parquet) that holds a document's text."""

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

    validation_share: float = Field(default=0.02, ge=0, le=0.5)
    """Share of the documents held out, chosen by content hash: a document is validation or not wherever it turns up."""

    max_record_bytes: int = Field(default=64 * 2**20, ge=1)
    """Longest line, or text file, in bytes (64 MiB); a longer one goes to quarantine and never into memory."""

    def columns(self) -> set[str]:
        """The fields of a record that are read."""
        return {self.text, self.title, self.url, self.timestamp, self.language, self.source}
