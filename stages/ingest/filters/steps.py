"""The cleaning steps in their order: before the quality rules look at a text, and after.

The rules that the settings name, in their order.
"""

from collections.abc import Callable
from typing import Protocol

from rewarm.stages.ingest.filters.c4 import C4
from rewarm.stages.ingest.filters.fineweb import fineweb
from rewarm.stages.ingest.filters.gopher import gopher_quality, gopher_repetition
from rewarm.stages.ingest.filters.language import LanguageStep
from rewarm.stages.ingest.filters.measures import Latest
from rewarm.stages.ingest.filters.pii import MaskStep
from rewarm.stages.ingest.filters.rule import Rule
from rewarm.stages.ingest.filters.settings import RuleName, RulesSettings
from rewarm.stages.ingest.filters.unicode import RepairStep
from rewarm.stages.ingest.filters.urls import BlockListStep, read_block_lists
from rewarm.stages.ingest.records import Document, Refusal
from rewarm.stages.ingest.settings import CleanSettings


class Step(Protocol):
    """One pass over one document, without a state of its own."""

    @property
    def name(self) -> str:
        """Fixed, for reports."""

    @property
    def version(self) -> int:
        """Changes with what the step makes of the same document."""

    def __call__(self, document: Document) -> Document | Refusal:
        """The document, changed or not, or why it is refused; its place is for the caller to fill."""


def before_rules(settings: CleanSettings) -> list[Step]:
    """Block-lists first, as they cost least; languages of mended text. Raises ``UsageError`` of a broken block-list."""
    steps: list[Step] = []
    if settings.blocked_urls:
        steps.append(BlockListStep(read_block_lists(settings.blocked_urls)))
    if settings.repair_unicode:
        steps.append(RepairStep())
    if settings.detect_language or settings.languages:
        steps.append(
            LanguageStep(
                languages=tuple(settings.languages),
                detect=settings.detect_language,
                trust=settings.trust_language,
                min_letters=settings.min_language_letters,
                max_rank=settings.max_language_rank,
                min_script_letters=settings.min_script_letters,
                keep_code=settings.keep_code,
            )
        )
    return steps


def after_rules(settings: CleanSettings) -> list[Step]:
    """Masks come last: no work on what is refused, and placeholders take no part in a rule's counts."""
    return [MaskStep(tuple(settings.mask), settings.phone_region)] if settings.mask else []


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
