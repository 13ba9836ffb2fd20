"""The main text of 60 pages that are marked by hand: rewarm against resiliparse's options and trafilatura.

    python benchmarks/main_text.py                 # with trafilatura where it is installed

Recall is the share of the marked words that an extractor gives, precision the share of its words that are marked, both
over all pages' words (a Chinese, Japanese or Thai character is a word). Speed is of all pages, one process.
"""

import importlib.util
import sys
import time
from collections import Counter
from collections.abc import Callable

from main_text_pages import WORDS, pages
from resiliparse.extract.html2text import extract_plain_text

from stages.ingest.clean.extract import read_page

GOALS = (0.97, 0.95)
ROUNDS = 5


def ours(page: str) -> str:
    """Rewarm's walk."""
    return read_page(page).text


def resiliparse(**options: bool) -> Callable[[str], str]:
    """Resiliparse with some of its options."""
    return lambda page: str(extract_plain_text(page, preserve_formatting=True, **options))


def trafilatura(**options: bool) -> Callable[[str], str]:
    """Trafilatura with some of its options."""
    from trafilatura import extract

    return lambda page: extract(page, **options) or ""


def extractors() -> dict[str, Callable[[str], str]]:
    """All that are compared."""
    found: dict[str, Callable[[str], str]] = {
        "rewarm": ours,
        "resiliparse, main content, no comments, no alt texts (before)": resiliparse(
            main_content=True, alt_texts=False, comments=False, post_meta=False
        ),
        "resiliparse, main content": resiliparse(main_content=True),
        "resiliparse, main content, form fields": resiliparse(main_content=True, form_fields=True),
        "resiliparse, all text": resiliparse(main_content=False),
    }
    if importlib.util.find_spec("trafilatura"):
        found["trafilatura"] = trafilatura()
        found["trafilatura, for precision (datatrove's)"] = trafilatura(favor_precision=True, include_comments=False)
        found["trafilatura, for recall"] = trafilatura(favor_recall=True)
    return found


def score(extract: Callable[[str], str]) -> tuple[float, float, dict[str, tuple[float, float]]]:
    """Recall and precision over all pages, and of each page."""
    kept = marked = given = 0
    each = {}
    for name, page, words in pages():
        found = Counter(WORDS.findall(extract(page)))
        both = (found & Counter(words)).total()
        kept, marked, given = kept + both, marked + len(words), given + found.total()
        each[name] = both / len(words), both / max(found.total(), 1)
    return kept / marked, kept / max(given, 1), each


def main() -> None:
    """Print the table, and the pages on which rewarm is not exact."""
    print("| extractor | recall | precision | pages a second |\n|---|--:|--:|--:|")
    for name, extract in extractors().items():
        recall, precision, each = score(extract)
        begin = time.process_time()
        for _ in range(ROUNDS):
            for _, page, _ in pages():
                extract(page)
        rate = ROUNDS * len(each) / (time.process_time() - begin)
        print(f"| {name} | {recall:.3f} | {precision:.3f} | {rate:.0f} |", flush=True)
    recall, precision, each = score(ours)
    reached = recall >= GOALS[0] and precision >= GOALS[1]
    print(f"\ngoals (recall {GOALS[0]}, precision {GOALS[1]}): {'reached' if reached else 'missed'}")
    for name, (part, clean) in each.items():
        if min(part, clean) < 1:
            print(f"{name}: recall {part:.2f}, precision {clean:.2f}")
    sys.exit(not reached)


if __name__ == "__main__":
    main()
