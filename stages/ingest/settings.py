"""What a user may set about taking in an arrival; each room of the stage has its own part."""

from typing import Self

from pydantic import Field, model_validator

from stages.ingest.clean.settings import CleanSettings
from stages.ingest.decontaminate.settings import DecontaminateSettings
from stages.ingest.dedup.settings import DuplicateSettings
from stages.ingest.files.settings import InputSettings
from stages.ingest.read.token_settings import TokenInputSettings
from stages.ingest.rules.settings import RulesSettings
from stages.settings import PLACEMENT


class IngestSettings(InputSettings):
    """Which files are read and how, what a document must be, and the validation split."""

    tokens: TokenInputSettings = TokenInputSettings()
    """Files of tokens."""

    clean: CleanSettings = CleanSettings()
    """Languages, block-lists, repair and masks."""

    rules: RulesSettings = RulesSettings()
    """Quality rules; none by default."""

    duplicates: DuplicateSettings = DuplicateSettings()
    """Duplicates, exact and near, in the arrival and against everything before."""

    decontaminate: DecontaminateSettings = DecontaminateSettings()
    """What may not come up in training text."""

    validation_share: float = Field(default=0.02, ge=0, le=0.5)
    """Share of the documents held out, chosen by content hash: a document is validation or not wherever it turns up."""

    validation_cap: float = Field(default=0.1, ge=0, le=0.5)
    """Share of the documents up to which the validation split is grown if ``validation_share`` of them are too few for
    the gate to see its limits; not above ``validation_share``: it is not grown."""

    max_removed: float = Field(default=0.5, ge=0, le=1, json_schema_extra=PLACEMENT)
    """Share of the documents, or of their bytes, that one step may remove of what comes into it; an arrival that loses
    more is refused before it is trained. Duplicates may go without limit, and so may the images and redirects of a web
    archive. It accepts or refuses and changes nothing of the result."""

    lost_shards: int = Field(default=0, ge=0)
    """Shards that may be missing, as their files could not be read in three attempts; an arrival with more is refused
    as a whole."""

    @model_validator(mode="after")
    def _addresses_are_whole(self) -> Self:
        if self.duplicates.latest_url and self.oversized == "split":
            raise ValueError(
                "duplicates.latest_url keeps one document of an address, oversized=split makes several of it: "
                "choose one of the two"
            )
        return self
