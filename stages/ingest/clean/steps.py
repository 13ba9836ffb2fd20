"""The cleaning steps in their order: before the quality rules look at a text, and after."""

from typing import Protocol

from stages.ingest.clean.language import LanguageStep
from stages.ingest.clean.mask import MaskStep
from stages.ingest.clean.repair import RepairStep
from stages.ingest.clean.settings import CleanSettings
from stages.ingest.clean.urls import BlockListStep, read_block_lists
from stages.ingest.records import Document, Refusal


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
