"""The base of every settings object: frozen, typed, documented under each field, and honest about identity."""

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

# Put into a field's metadata by ``Field(json_schema_extra=PLACEMENT)``: the setting says where or how fast a
# result is made, not what it is, so it stays out of fingerprints and may change when a run is resumed.
PLACEMENT: dict[str, Any] = {"placement": True}


class Settings(BaseModel):
    """Frozen settings of one stage; the string under a field is its documentation."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=(), allow_inf_nan=False
    )

    def identity(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON types: everything but placement, in nested settings too."""
        values = self.model_dump(mode="json")
        kept = [name for name, field in type(self).model_fields.items() if not is_placement(field)]
        return {
            name: own.identity() if isinstance(own := getattr(self, name), Settings) else values[name] for name in kept
        }


def is_placement(field: FieldInfo) -> bool:
    """Whether a field only places work (workers, threads, intervals of saving) and stays out of fingerprints."""
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get("placement"))
