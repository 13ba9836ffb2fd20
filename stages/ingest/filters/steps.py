"""Sequence of filter steps: cleaning before the quality rules, the rules in the configured order, masks after them."""

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
    """Stateless step that is applied to one document."""

    @property
    def name(self) -> str:
        """Fixed name for reports."""

    @property
    def version(self) -> int:
        """Version that changes when the result for the same document changes."""

    def __call__(self, document: Document) -> Document | Refusal:
        """Return the document, changed or not, or a refusal, whose location the caller fills in."""


def before_rules(settings: CleanSettings) -> list[Step]:
    """Return the steps before the rules: block-lists first, because they are cheapest; language after repair.

    Raises ``UsageError`` if a block-list is invalid.
    """
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
    """Return the masks, applied last: refused documents cost nothing, and placeholders do not affect the rules."""
    return [MaskStep(tuple(settings.mask), settings.phone_region)] if settings.mask else []


def rule_steps(settings: RulesSettings) -> list[Rule]:
    """Return the rules as steps; they share measures as long as each document passes through all of them in turn."""
    latest = Latest()
    make: dict[RuleName, Callable[[], Rule]] = {
        "gopher-quality": lambda: gopher_quality(settings.gopher_quality, latest),
        "gopher-repetition": lambda: gopher_repetition(settings.gopher_repetition, latest),
        "c4": lambda: C4(settings.c4),
        "fineweb": lambda: fineweb(settings.fineweb, latest),
    }
    return [make[name]() for name in settings.apply]
