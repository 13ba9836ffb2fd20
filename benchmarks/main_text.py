"""The main text of 60 pages that are marked by hand: rewarm against resiliparse's options and trafilatura.

    python benchmarks/main_text.py                 # with trafilatura where it is installed
    python benchmarks/main_text.py --warc bench-results/pages --peer-python PEER/bin/python

Recall is the share of the marked words that an extractor gives, precision the share of its words that are marked, both
over all pages' words (a Chinese, Japanese or Thai character is a word). Speed is of all pages, one process. With
``--warc`` (as benchmarks/pages.py crawls) only the speed on those pages is compared, with datatrove's Trafilatura step
as its pipeline for CommonCrawl calls it: CPU time of one process each, decoding not counted, in alternating rounds.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from fastwarc.warc import ArchiveIterator, WarcRecordType
from main_text_pages import WORDS, pages
from resiliparse.extract.html2text import extract_plain_text

from rewarm.stages.ingest.html.charset import decode_page
from rewarm.stages.ingest.html.extract import read_page
from rewarm.stages.ingest.html.guarded import extract_guarded, why_complex

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


PEER = r"""
import json, sys, time
from datatrove.pipeline.extractors import Trafilatura
extractor = Trafilatura(favour_precision=True)
pages = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
extractor.extract(pages[0])
begin, empty = time.process_time(), 0
for page in pages:
    try:
        empty += not extractor.extract(page)
    except Exception:
        empty += 1
print(json.dumps([time.process_time() - begin, empty]))
"""


def crawled_pages(warc: Path) -> Iterator[str]:
    """The pages of a folder of web archives."""
    for file in sorted(warc.glob("*.warc.gz")):
        with file.open("rb") as stream:
            for record in ArchiveIterator(stream, record_types=WarcRecordType.response, parse_http=True):
                if page := decode_page(record.reader.read(), record.http_charset):
                    yield page


def compare_speed(warc: Path, peer: str) -> None:
    """Print the CPU seconds of both on crawled pages."""
    crawled = list(crawled_pages(warc))
    size = sum(map(len, crawled)) / 1e6
    print(f"{len(crawled):,} pages, {size:.0f} MB\n")
    print("| round | rewarm, CPU s | datatrove, CPU s | ratio |\n|--:|--:|--:|--:|")
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".jsonl") as lines:
        lines.writelines(json.dumps(page) + "\n" for page in crawled)
        lines.flush()
        for number in range(1, 3):
            begin = time.process_time()
            empty = sum(not extract_source(page) for page in crawled)
            ours = time.process_time() - begin
            done = subprocess.run([peer, "-c", PEER, lines.name], capture_output=True, text=True, check=True)
            theirs, none = json.loads(done.stdout.splitlines()[-1])
            print(f"| {number} | {ours:.2f} | {theirs:.2f} | {theirs / ours:.1f} |", flush=True)
    print(f"\nwithout any text: rewarm {empty}, datatrove {none}")


def extract_source(source: str) -> str:
    """The text that a page's document would have, complex pages included; empty where there is none."""
    return (read_page(source).text if why_complex(source) is None else (extract_guarded(source) or [""])[0]) or ""


def main() -> None:
    """Print the table, and the pages on which rewarm is not exact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--warc", type=Path, help="a folder of .warc.gz: compare the speed on its pages instead")
    parser.add_argument(
        "--peer-python", default=sys.executable, help="an interpreter that has datatrove and trafilatura"
    )
    given = parser.parse_args()
    if given.warc:
        compare_speed(given.warc, given.peer_python)
        return
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
