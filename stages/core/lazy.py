"""Packages whose names are imported when they are first used.

Reading settings or a record needs a few classes of each stage. A package that imports all of the stage would make every
command import all stages, which takes a quarter of a second of CPU.
"""

import ast
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


class LazyPackage(ModuleType):
    """Package that imports its names when they are first used, from the modules in ``_sources``."""

    _sources: dict[str, str]

    def __getattr__(self, name: str) -> Any:
        """Import a name from its module; Python calls this for names that the package does not have yet."""
        if name.startswith("__") or name not in self._sources:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(self._sources[name]), name)
        super().__setattr__(name, value)
        return value

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute; a function with the name of its module (``run``) is not replaced by that module.

        Python sets a module as an attribute of its package when it has been imported.
        """
        if isinstance(value, ModuleType) and self._sources.get(name) == value.__name__:
            value = getattr(value, name)
        super().__setattr__(name, value)


def import_lazily(package: str) -> None:
    """Make a package import what its source imports under ``if TYPE_CHECKING`` when it is first used."""
    module = sys.modules[package]
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    imports = (node for branch in tree.body if isinstance(branch, ast.If) for node in branch.body)
    sources = {
        alias.name: str(node.module) for node in imports if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    vars(module)["_sources"] = sources
    module.__class__ = LazyPackage
