"""Main text of real news pages, against texts that others marked: recall and precision in words.

    python benchmarks/main_text_references.py --articles article-extraction-benchmark --readability readability

The folders are copies of github.com/scrapinghub/article-extraction-benchmark (181 pages, the article's body) and of
github.com/mozilla/readability (130 pages, what Readability should give). Titles, datelines and captions are no part of
the former's texts, so that the precision of an extractor that keeps them stays below 1. Means over pages are printed.
"""

import argparse
import gzip
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from lxml import html

from rewarm.stages.ingest.html.extract import extract_page
from rewarm.stages.ingest.records import Document
from rewarm.stages.ingest.settings import IngestSettings

WORDS = re.compile(r"\w+")


def main() -> None:
    """Print a row for each collection."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--articles", type=Path)
    parser.add_argument("--readability", type=Path)
    given = parser.parse_args()
    print("| pages | number | recall | precision | CPU, s |\n|---|--:|--:|--:|--:|")
    if given.articles:
        report("article-extraction-benchmark", list(articles(given.articles)))
    if given.readability:
        report("readability", list(readable(given.readability)))


def articles(folder: Path) -> Iterator[tuple[bytes, str]]:
    """Pages and the bodies of their articles."""
    for name, page in json.loads((folder / "ground-truth.json").read_bytes()).items():
        yield gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes()), page["articleBody"]


def readable(folder: Path) -> Iterator[tuple[bytes, str]]:
    """Pages and what Readability's tests expect."""
    for page in sorted((folder / "test" / "test-pages").iterdir()):
        tree = html.fromstring(f"<div>{(page / 'expected.html').read_text()}</div>")
        for script in tree.xpath("//script|//style"):
            script.drop_tree()
        yield (page / "source.html").read_bytes(), " ".join(tree.itertext())


def report(name: str, pages: list[tuple[bytes, str]]) -> None:
    """Print a collection's row."""
    settings, recall, precision = IngestSettings(), 0.0, 0.0
    start = time.process_time()
    found = [extract_page(page, None, None, None, settings) for page, _ in pages]
    seconds = time.process_time() - start
    for document, (_, expected) in zip(found, pages, strict=True):
        have = Counter(WORDS.findall(document.text if isinstance(document, Document) else ""))
        wanted = Counter(WORDS.findall(expected))
        both = (have & wanted).total()
        recall += both / max(1, wanted.total())
        precision += both / max(1, have.total())
    print(f"| {name} | {len(pages)} | {recall / len(pages):.3f} | {precision / len(pages):.3f} | {seconds:.1f} |")


if __name__ == "__main__":
    main()
