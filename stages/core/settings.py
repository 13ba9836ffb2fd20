"""Base class of settings: frozen, typed, documented under each field, with an identity for fingerprints."""

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

# Set in a field's metadata by ``Field(json_schema_extra=PLACEMENT)``: the setting affects where or how fast a result is
# computed, but not the result, so it is excluded from fingerprints and may change when a run is resumed.
PLACEMENT: dict[str, Any] = {"placement": True}


class Settings(BaseModel):
    """Frozen settings of one stage; the string under a field is its documentation."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=(), allow_inf_nan=False
    )

    def identity(self) -> dict[str, Any]:
        """Return the settings that determine the result, as JSON types: all but placement, also in nested settings."""
        values = self.model_dump(mode="json")
        kept = [name for name, field in type(self).model_fields.items() if not is_placement(field)]
        return {
            name: own.identity() if isinstance(own := getattr(self, name), Settings) else values[name] for name in kept
        }


def is_placement(field: FieldInfo) -> bool:
    """Return whether a field is only placement (workers, threads, save intervals), excluded from fingerprints."""
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get("placement"))
