"""The rules that the settings name, in their order."""

from collections.abc import Callable

from stages.ingest.rules.c4 import C4
from stages.ingest.rules.fineweb import fineweb
from stages.ingest.rules.gopher import gopher_quality, gopher_repetition
from stages.ingest.rules.measures import Latest
from stages.ingest.rules.rule import Rule
from stages.ingest.rules.settings import RuleName, RulesSettings


def rule_steps(settings: RulesSettings) -> list[Rule]:
    """The rules to apply, as steps; they share what they measure as long as each document goes through all in turn."""
    latest = Latest()
    make: dict[RuleName, Callable[[], Rule]] = {
        "gopher-quality": lambda: gopher_quality(settings.gopher_quality, latest),
        "gopher-repetition": lambda: gopher_repetition(settings.gopher_repetition, latest),
        "c4": lambda: C4(settings.c4),
        "fineweb": lambda: fineweb(settings.fineweb, latest),
    }
    return [make[name]() for name in settings.apply]
