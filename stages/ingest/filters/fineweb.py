"""FineWeb's rule (Penedo et al. 2024, arXiv 2406.17557, section 3.6): lists, menus and repeated lines."""

from functools import partial

from rewarm.stages.ingest.filters.measures import Latest, Measures
from rewarm.stages.ingest.filters.rule import Quantity, ThresholdRule
from rewarm.stages.ingest.filters.settings import FinewebSettings


def fineweb(settings: FinewebSettings, latest: Latest) -> ThresholdRule:
    """Return the rule ``fineweb``: ends, lengths and repetitions of lines."""
    quantities = [
        Quantity(
            "punctuated_lines",
            "lines that end a sentence",
            Measures.punctuated_lines,
            defined=lambda measures: measures.has_sentence_marks,
        ),
        Quantity("short_lines", "short lines", partial(Measures.short_lines, longest=settings.short_line)),
        Quantity("duplicate_line_characters", "characters in duplicate lines", Measures.duplicate_characters_of_lines),
        Quantity("line_breaks", "line breaks per word", Measures.line_breaks),
    ]
    return ThresholdRule("fineweb", 3, quantities, settings, latest)
