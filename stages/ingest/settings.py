"""What a user may set about reading an arrival."""

from pydantic import Field

from stages.ingest.files.settings import InputSettings


class IngestSettings(InputSettings):
    """Which files are read and how, and the validation split."""

    validation_share: float = Field(default=0.02, ge=0, le=0.5)
    """Share of the documents held out, chosen by content hash: a document is validation or not wherever it turns up."""
