"""YAML of recipes, read strictly: equal keys, aliases that refer to themselves and numbers of another base are errors.

PyYAML takes the last of two equal keys without a word, a mapping that contains itself as it is, and, by YAML 1.1,
``010`` as 8 and ``1:30`` as 90.
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml

OCTAL = re.compile(r"[-+]?0[0-7_]+")
MOST = 10_000  # values: far more than there are settings, and few enough for aliases that multiply to be noticed
DEEPEST = 50  # mappings and lists inside each other: far more than settings have, and fewer than any reader allows


class Loader(yaml.SafeLoader):
    """Safe loader that refuses a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return the mapping of a node; raises ``ConstructorError`` at the second of two equal keys."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (name := (key.tag, key.value)) in seen:
                    message = f"the key {key.value!r} is given twice"
                    raise yaml.constructor.ConstructorError("in a mapping", node.start_mark, message, key.start_mark)
                seen.add(name)
        return super().construct_mapping(node, deep)

    def construct_decimal(self, node: yaml.ScalarNode) -> int | float:
        """Return the number of a node; raises ``ConstructorError`` if it is read in base 8 or 60."""
        whole = node.tag.endswith(":int")
        value: int | float = self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)
        if ":" in node.value or (whole and OCTAL.fullmatch(node.value)):
            message = f"YAML reads {node.value} as {value}; write a decimal number, or a text in quotes"
            raise yaml.constructor.ConstructorError(None, None, message, node.start_mark)
        return value


for kind in ("int", "float"):
    Loader.add_constructor(f"tag:yaml.org,2002:{kind}", Loader.construct_decimal)


def parse(text: str) -> Any:
    """Return the value of a YAML text; raises ``YAMLError`` in one line.

    Refused too: more than ``MOST`` values after all aliases, and more than ``DEEPEST`` of them inside each other.
    """
    try:
        value = yaml.load(text, Loader)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:  # "!!int x", "2026-99-99"
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from error
    except yaml.YAMLError as error:
        raise yaml.YAMLError(" ".join(str(error).split())) from error
    left: list[tuple[Any, int]] = [(value, 0)]
    count = 0
    while left:
        one, depth = left.pop()
        count += 1
        if count > MOST:
            raise yaml.YAMLError(f"more than {MOST:,} values, or aliases that refer to themselves")
        if depth > DEEPEST:
            raise yaml.YAMLError(f"more than {DEEPEST} mappings or lists inside each other")
        if isinstance(one, dict | list):
            left += [(part, depth + 1) for part in (one.values() if isinstance(one, dict) else one)]
    return value
