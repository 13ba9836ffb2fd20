"""Settings of input that comes as tokens."""

from pydantic import Field

from stages.settings import PLACEMENT, Settings


class TokenInputSettings(Settings):
    """How token files made elsewhere are taken in."""

    columns: tuple[str, ...] = Field(default=("tokens", "input_ids"), min_length=1)
    """Names of the column of ids in Arrow and Parquet files; the first one that a file has is read."""

    tokenizer: str | None = Field(default=None, json_schema_extra=PLACEMENT)
    """Folder of the tokenizer that made them; by default the lineage's."""

    canonical: bool = True
    """Refuse a document whose text the tokenizer would encode to other ids: what is trained is then exactly what came.
    False takes such documents by their text, with the ids that the tokenizer gives."""
