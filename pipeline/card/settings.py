"""What a recipe says about the model cards of its releases."""

from pydantic import Field, model_validator

from stages.settings import PLACEMENT, Settings

UNKNOWN = "unknown"


class CardSettings(Settings):
    """What only people know about a release. Nothing here changes a model, and it may change at any time."""

    license: str = Field(default=UNKNOWN, min_length=1, json_schema_extra=PLACEMENT)
    """Licence of the releases, as an identifier of Hugging Face's list (``apache-2.0``, ``cc-by-4.0``, ``other`` …).
    It depends on the data and on the model that was imported, so nothing is assumed; ``unknown`` becomes the licence
    that an imported model's card names."""
    license_name: str | None = Field(default=None, json_schema_extra=PLACEMENT)
    """Name of the licence, where ``license`` is ``other``."""
    license_link: str | None = Field(default=None, json_schema_extra=PLACEMENT)
    """Address or file of the licence's text, where ``license`` is ``other``."""
    name: str | None = Field(default=None, min_length=1, json_schema_extra=PLACEMENT)
    """The model's name, in the card's title; null: the workspace's folder and the update."""
    base_model: str | None = Field(default=None, json_schema_extra=PLACEMENT)
    """Hub id (``ORG/NAME``) of the model that was imported with ``--from``; null: the one that its card
    or its place in the hub's cache names, if any."""
    language: tuple[str, ...] = Field(default=(), json_schema_extra=PLACEMENT)
    """Languages by their ISO 639 codes; empty: those detected in 5 % of the documents or more."""
    tags: tuple[str, ...] = Field(default=(), json_schema_extra=PLACEMENT)
    """Further tags for the hub."""
    intended_use: str = Field(default="", json_schema_extra=PLACEMENT)
    """What the model is meant for; a paragraph of Markdown before the standard one on limits."""

    @model_validator(mode="after")
    def _other(self) -> "CardSettings":
        if self.license == "other" and not (self.license_name and self.license_link):
            raise ValueError("license other needs license_name and license_link, as the hub does")
        return self
