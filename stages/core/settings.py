"""Base class of settings: frozen, typed, documented under each field, with an identity for fingerprints."""

import ast
import inspect
import sys
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

# Set in a field's metadata by ``Field(json_schema_extra=PLACEMENT)``: the setting affects where or how fast a result is
# computed, but not the result, so it is excluded from fingerprints and may change when a run is resumed.
PLACEMENT: dict[str, Any] = {"placement": True}

# The setting was added after its stage had been used: it is part of the identity only if it differs from its default,
# so that what was begun before it existed is still what it was.
ADDED: dict[str, Any] = {"added": True}


class Settings(BaseModel):
    """Frozen settings of one stage; the string under a field is its documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    def identity(self) -> dict[str, Any]:
        """Return the settings that determine the result, as JSON types, also in nested settings.

        Without placement, and without settings that were added later (``ADDED``) and have their default value.
        """
        values = self.model_dump(mode="json")
        kept = [
            name
            for name, field in type(self).model_fields.items()
            if not is_placement(field) and not (is_added(field) and getattr(self, name) == field.default)
        ]
        return {
            name: own.identity() if isinstance(own := getattr(self, name), Settings) else values[name] for name in kept
        }


def documentation(model: type[Settings]) -> dict[str, str]:
    """Return the string below each field, inherited fields included.

    Pydantic's ``use_attribute_docstrings`` would parse the source while each class is created, which was a quarter of
    the time to import all settings; only their listing and their completion need it.
    """
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if issubclass(each, Settings):
            found |= field_strings(each.__module__).get(each.__name__, {})
    return found


@cache
def field_strings(module: str) -> dict[str, dict[str, str]]:
    """Return the string below each annotated name of each class of a module's top level."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    found: dict[str, dict[str, str]] = {}
    for statement in tree.body:
        if not isinstance(statement, ast.ClassDef):
            continue
        strings = found.setdefault(statement.name, {})
        for field, below in pairwise(statement.body):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    strings[name] = inspect.cleandoc(text)
    return found


def is_placement(field: FieldInfo) -> bool:
    """Return whether a field is only placement (workers, threads, save intervals), excluded from fingerprints."""
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get("placement"))


def is_added(field: FieldInfo) -> bool:
    """Return whether a field was added later (``ADDED``)."""
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get("added"))
