"""Main text of real pages, against texts that others marked: recall and precision, of two halves.

    python benchmarks/main_text_references.py --articles article-extraction-benchmark --readability readability \
        --segments trafilatura [--peer-python PEER/bin/python] [--body]

The folders are copies of github.com/scrapinghub/article-extraction-benchmark (181 pages, the article's body), of
github.com/mozilla/readability (130 pages, what Readability should give) and of github.com/adbar/trafilatura (990 pages,
a few marked pieces of each that are text or are not). Titles, leads, datelines and captions are no part of the
first's texts, so that the precision of an extractor that keeps them stays below 1: ``--body`` removes ``<h1>`` and
``<figcaption>`` from its pages first, for all extractors alike. Means over pages are printed; of the pieces, recall is
the share of text that is there, precision the share of pieces found that are text.

The rules were written with the first half at hand (by the digest of a page's name); the second was only counted.
"""

import argparse
import gzip
import hashlib
import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from lxml import html
from selectolax.lexbor import LexborHTMLParser

from rewarm.stages.ingest.html.charset import decode_page
from rewarm.stages.ingest.html.extract import read_page

WORDS = re.compile(r"\w+")
PEER = """
import json, sys, trafilatura
precise = sys.argv[1] == "precision"
for line in sys.stdin:
    page = json.loads(line)
    text = trafilatura.extract(page, favor_precision=precise, include_comments=False, deduplicate=precise)
    print(json.dumps(text or ""))
"""


class Page(NamedTuple):
    """A page and what others marked in it."""

    name: str
    source: str
    text: str
    pieces: dict[str, list[str]] = {}  # noqa: RUF012 - never changed


def main() -> None:
    """Print a row for each collection, half and extractor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--articles", type=Path)
    parser.add_argument("--readability", type=Path)
    parser.add_argument("--segments", type=Path)
    parser.add_argument("--peer-python", help="of an environment with trafilatura")
    parser.add_argument("--body", action="store_true", help="--articles without titles and captions")
    given = parser.parse_args()
    print("| pages | half | number | extractor | recall | precision | CPU, s |\n|---|---|--:|---|--:|--:|--:|")
    if given.articles:
        pages = list(articles(given.articles))
        report("articles", [bare(page) for page in pages] if given.body else pages, given.peer_python)
    if given.readability:
        report("readability", list(readable(given.readability)), given.peer_python)
    if given.segments:
        report("pieces", list(marked(given.segments)), given.peer_python)


def articles(folder: Path) -> Iterator[Page]:
    """Pages and the bodies of their articles."""
    for name, page in json.loads((folder / "ground-truth.json").read_bytes()).items():
        source = gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes())
        yield Page(name, decode_page(source, None) or "", page["articleBody"])


def readable(folder: Path) -> Iterator[Page]:
    """Pages and what Readability's tests expect."""
    for page in sorted((folder / "test" / "test-pages").iterdir()):
        tree = html.fromstring(f"<div>{(page / 'expected.html').read_text()}</div>")
        for script in tree.xpath("//script|//style"):
            script.drop_tree()
        yield Page(page.name, decode_page((page / "source.html").read_bytes(), None) or "", " ".join(tree.itertext()))


def marked(folder: Path) -> Iterator[Page]:
    """Pages of Trafilatura's evaluation with pieces that are text and pieces that are not."""
    for pieces in json.loads((folder / "tests" / "evaldata.json").read_bytes()).values():
        for place in ("cache", "eval"):
            path = folder / "tests" / place / pieces["file"]
            if path.exists():
                yield Page(pieces["file"], decode_page(path.read_bytes(), None) or "", "", pieces)
                break


def bare(page: Page) -> Page:
    """Return a page without titles and captions."""
    tree = LexborHTMLParser(page.source)
    for element in tree.css("h1, figcaption"):
        element.decompose()
    return page._replace(source=tree.html or "")


def report(name: str, pages: list[Page], peer: str | None) -> None:
    """Print a collection's rows."""
    extractors: dict[str, Callable[[list[str]], list[str]]] = {"rewarm": ours}
    if peer:
        extractors["trafilatura, for precision"] = lambda sources: theirs(peer, "precision", sources)
        extractors["trafilatura"] = lambda sources: theirs(peer, "default", sources)
    for extractor, extract in extractors.items():
        start = time.process_time()
        texts = extract([page.source for page in pages])
        seconds = f"{time.process_time() - start:.1f}" if extractor == "rewarm" else ""
        for half in ("first", "second"):
            both = [(page, text) for page, text in zip(pages, texts, strict=True) if half_of(page.name) == half]
            recall, precision = by_pieces(both) if pages[0].pieces else by_words(both)
            print(f"| {name} | {half} | {len(both)} | {extractor} | {recall:.3f} | {precision:.3f} | {seconds} |")


def half_of(name: str) -> str:
    """Return the half that a page belongs to."""
    return ("first", "second")[int(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(), 16) % 2]


def ours(sources: list[str]) -> list[str]:
    """Return rewarm's texts."""
    return [read_page(source).text for source in sources]


def theirs(python: str, mode: str, sources: list[str]) -> list[str]:
    """Return trafilatura's texts."""
    lines = "\n".join(map(json.dumps, sources))
    done = subprocess.run([python, "-c", PEER, mode], input=lines, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def by_words(pages: list[tuple[Page, str]]) -> tuple[float, float]:
    """Return the means over pages of recall and precision in words."""
    recall = precision = 0.0
    for page, text in pages:
        have, wanted = Counter(WORDS.findall(text)), Counter(WORDS.findall(page.text))
        both = (have & wanted).total()
        recall += both / max(1, wanted.total())
        precision += both / max(1, have.total())
    return recall / len(pages), precision / len(pages)


def by_pieces(pages: list[tuple[Page, str]]) -> tuple[float, float]:
    """Return the share of marked text that is there, and of pieces that are there and are text."""
    found = Counter[str]()
    for page, text in pages:
        flat = " ".join(text.split())
        for kind in ("with", "without"):
            found[kind] += sum(" ".join(piece.split()) in flat for piece in page.pieces[kind])
            found[f"all {kind}"] += len(page.pieces[kind])
    return found["with"] / found["all with"], found["with"] / (found["with"] + found["without"])


if __name__ == "__main__":
    main()
