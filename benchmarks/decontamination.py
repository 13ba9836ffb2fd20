"""Decontamination on ordinary text: what it takes where nothing was copied, and what it finds where something was.

    python benchmarks/decontamination.py
    python benchmarks/decontamination.py --corpora technical
    python benchmarks/decontamination.py --corpora code --arrivals 30

Corpora of installed text: docstrings, HTML documentation (pages of pydoc), code under licence headers, a newsletter
(real paragraphs under one greeting, advertisement and footer), technical documents (.rst, .md and .txt files), and
translated messages in Japanese and Russian where the system has them. Each is ingested three times: without
decontamination, with it, and with it after passages of 30 to 60 words of held-out documents were planted in others.
Printed for each: what the former rule (a document with any shared run of 13 words goes) would take, what is cut and
removed now, and how many of the planted passages are gone. What the step does to the validation loss is in
``decontamination_loss.py``. The rule was chosen on the corpora above; ``--corpora unseen`` takes others: C headers,
JSON, YAML, manual pages, changelogs, Python's own tests, and messages in other languages.

``--arrivals`` cuts a corpus into arrivals of a lineage that are ingested one after the other, 2 % held out in each.
Printed are the bytes that they lose, and how many documents are removed as a whole.
"""

import argparse
import gzip
import importlib
import json
import math
import random
import re
import shutil
import struct
import sys
import sysconfig
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import document_id
from rewarm.stages.ingest import GUARD, Guards, IngestSettings, find_inputs, run
from rewarm.stages.ingest.decontaminate.grams import gram_hashes, word_spans, words_of
from rewarm.stages.ingest.decontaminate.guards import holds
from rewarm.stages.ingest.run import ACCOUNT
from rewarm.stages.ingest.words import LETTERS_A_WORD, num_spelled

PLANTED = 300
PLANTED_WORDS = (30, 60)
RUN = 13
TAKEN_GOAL, RECALL_GOAL = 0.02, 0.99
PACKAGES = Path(pq.__file__).parents[2]  # where this interpreter has its packages from
DOCS = Path("/usr/share/doc")
GREETING = (
    "Welcome to issue {number} of The Weekly Merge, which collects what is worth reading for people who build "
    "software. You receive this message because you signed up on our site; if it was forwarded to you, subscribe."
)
ADVERTISEMENT = (
    "This issue is brought to you by Harbour, the managed database that scales with your team. Start for free today "
    "and get two months of the team plan with the code MERGE."
)
FOOTER = (
    "That is all for this week. Reply to this message with links that you would like to see in the next issue. You can "
    "unsubscribe at any time with the link below, and your address will be deleted from our list within two days."
)


def main() -> None:
    """Make the corpora, ingest each three times, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", nargs="+", choices=[*CORPORA, "unseen"], default=list(CORPORA))
    parser.add_argument("--megabytes", type=float, default=6, help="of each corpus, at most")
    parser.add_argument("--arrivals", type=int, help="cut each corpus into so many arrivals, instead")
    parser.add_argument("--out", type=Path, default=Path("bench-results/decontamination"))
    given = parser.parse_args()
    shutil.rmtree(given.out, ignore_errors=True)
    start_ray()
    names = [name for one in given.corpora for name in (UNSEEN if one == "unseen" else [one])]
    if given.arrivals:
        print("| corpus | arrivals | bytes lost | first third | second | last | worst arrival | documents removed |")
        print("|---|--:|--:|--:|--:|--:|--:|--:|")
        for name in names:
            texts = collect(name, int(given.megabytes * 1e6))
            print(lineage(name, texts, given.arrivals, given.out / name), flush=True)
        return
    print("| corpus | documents (held out) | MB | former rule: documents, bytes | cut | removed | bytes | recall | s |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name in names:
        texts = collect(name, int(given.megabytes * 1e6))
        if texts:
            print(measure(name, texts, given.out / name), flush=True)


def start_ray() -> None:
    """A Ray of two processes."""
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)


# -- the corpora -------------------------------------------------------------------------------------------------


def collect(name: str, num_bytes: int) -> list[str]:
    """A corpus: different texts in random order, up to ``num_bytes``.

    Not in the order of their hashes: those with the smallest validate.
    """
    texts = sorted({text for text in {**CORPORA, **UNSEEN}[name]() if text.strip()}, key=document_id)
    random.Random(0).shuffle(texts)
    chosen, size = [], 0
    for text in texts:
        size += len(text.encode(errors="replace"))
        if size > num_bytes and len(chosen) > 1:
            break
        chosen.append(text)
    return chosen


def docstrings() -> Iterator[str]:
    """Those of scientific packages, as in the demo."""
    from rewarm.pipeline import demo_text

    corpus = next(one for one in demo_text.CORPORA if one.name == "sci-docs")
    found = demo_text.collect(corpus, demo_text.find_packages(demo_text.SCIENCE), Silent())
    yield from (document["text"] for document in found.values())


def pages() -> Iterator[str]:
    """The main text of pydoc's pages of the standard library, and of installed HTML."""
    import pydoc

    from selectolax.lexbor import LexborHTMLParser

    from rewarm.stages.ingest.html.main_text import main_text

    for name in sorted(sys.stdlib_module_names):
        if re.fullmatch(r"_.*|antigravity|this|idlelib|turtle.*|tkinter", name):
            continue
        try:
            with warnings.catch_warnings(action="ignore"):
                page = pydoc.HTMLDoc().document(importlib.import_module(name))
        except Exception:  # a module that this system cannot import
            continue
        yield main_text(LexborHTMLParser(page))
    for path in sorted(DOCS.rglob("*.html")):
        if path.is_file() and path.stat().st_size < 2_000_000:
            yield main_text(LexborHTMLParser(readable(path)))


def licensed_code() -> Iterator[str]:
    """Modules that begin with a licence."""
    for package in ("transformers", "ray", "torch"):
        for path in sorted((PACKAGES / package).rglob("*.py")):
            text = readable(path)
            if "licen" in text[:800].lower() and len(text) < 60_000:
                yield text


def technical() -> Iterator[str]:
    """Documentation in files of text."""
    for root in (PACKAGES, DOCS):
        for suffix in ("rst", "md", "txt"):
            for path in sorted(root.rglob(f"*.{suffix}")):
                if (
                    path.is_file()
                    and 500 < path.stat().st_size < 200_000
                    and not re.search("(?i)licen|copy", str(path))
                ):
                    yield readable(path)


def newsletter() -> Iterator[str]:
    """Issues of eight paragraphs each, in what a newsletter repeats."""
    found = {part.strip() for text in docstrings() for part in text.split("\n\n")}
    paragraphs = sorted((part for part in found if 200 < len(part) < 900 and part[0].isalpha()), key=document_id)
    for number in range(len(paragraphs) // 8):
        own = paragraphs[8 * number : 8 * number + 8]
        yield "\n\n".join([GREETING.format(number=number), *own[:4], ADVERTISEMENT, *own[4:], FOOTER])


def translations(language: str) -> Iterator[str]:
    """Messages of the system's programs, 25 to a document."""
    for path in sorted(Path("/usr/share").glob(f"**/{language}/LC_MESSAGES/*.mo")):
        data = path.read_bytes()
        magic, _, count, _, table = struct.unpack("<5I", data[:20])
        if magic != 0x950412DE:
            continue
        places = (struct.unpack_from("<2I", data, table + 8 * number) for number in range(1, count))
        messages = [data[start : start + length].decode(errors="replace") for length, start in places]
        long = [message for message in messages if len(message) > 10]
        yield from ("\n".join(long[start : start + 25]) for start in range(0, len(long), 25))


def files(root: Path, pattern: str, largest: int = 60_000) -> Iterator[str]:
    """Files below a folder, from 500 to ``largest`` bytes as they are stored, opened if they are packed."""
    for path in sorted(root.rglob(pattern)):
        if path.is_file() and 500 < path.stat().st_size < largest:
            yield gzip.decompress(path.read_bytes()).decode(errors="ignore") if path.suffix == ".gz" else readable(path)


def manuals() -> Iterator[str]:
    """Manual pages as text, without their markup."""
    for text in files(Path("/usr/share/man"), "*.gz"):
        yield re.sub(r'(?m)^\.\\".*\n|^\.\w+ ?|\\f.|\\', "", text)


def readable(path: Path) -> str:
    """A file's text."""
    return path.read_text(encoding="utf-8", errors="ignore")


CORPORA = {
    "docstrings": docstrings,
    "html": pages,
    "code": licensed_code,
    "newsletter": newsletter,
    "technical": technical,
    "japanese": lambda: translations("ja"),
    "russian": lambda: translations("ru"),
}
UNSEEN = {
    "headers": lambda: files(PACKAGES, "*.h"),
    "json": lambda: files(PACKAGES, "*.json"),
    "yaml": lambda: files(PACKAGES, "*.yaml"),
    "manuals": manuals,
    "changelogs": lambda: files(DOCS, "changelog*"),
    "tests": lambda: files(Path(sysconfig.get_path("stdlib")) / "test", "*.py", 200_000),
    "german": lambda: translations("de"),
    "greek": lambda: translations("el"),
    "korean": lambda: translations("ko"),
}


# -- what is taken and found -------------------------------------------------------------------------------------


def measure(name: str, texts: Sequence[str], out: Path) -> str:
    """A corpus' row."""
    without, _ = ingest(texts, out, "without", IngestSettings(decontaminate={"enabled": False}))
    before = time.perf_counter()
    _, account = ingest(texts, out, "with", IngestSettings())
    seconds = time.perf_counter() - before
    step = account["steps"][-1]
    guards = Guards.open([("held out", Folder(out / "index-with" / GUARD))])
    hits = [hit is not None for hit in guards.hits(without)]
    size = sum(len(text.encode()) for text in without)
    formerly = sum(len(text.encode()) for text, hit in zip(without, hits, strict=True) if hit)
    taken = 1 - step["bytes_out"] / step["bytes_in"]
    removed = 1 - step["documents_out"] / step["documents_in"]
    recall = found_again(without, texts_of(out / "with" / "validation"), out)
    return (
        f"| {name} | {len(without):,} ({len(texts_of(out / 'with' / 'validation'))}) | {size / 1e6:.1f} "
        f"| {sum(hits) / len(hits):.1%}, {formerly / size:.1%} | {account['cut']['documents'] / len(without):.1%} "
        f"| {removed:.1%} | {taken:.2%}{mark(taken <= TAKEN_GOAL)} | {recall:.3f}{mark(recall >= RECALL_GOAL)} "
        f"| {seconds:.1f} |"
    )


def mark(met: bool) -> str:
    """Whether a goal was met."""
    return "" if met else " (missed)"


def lineage(name: str, texts: Sequence[str], arrivals: int, out: Path) -> str:
    """A lineage's row: each arrival is compared with the validation splits of all before it."""
    settings = IngestSettings(validation_share=0.02, validation_cap=0.02)
    size, earlier, steps = len(texts) // arrivals, list[Folder](), []
    for number in range(arrivals):
        part = texts[number * size : (number + 1) * size]
        _, account = ingest(part, out, f"{number}", settings, earlier)
        earlier.append(Folder(out / f"index-{number}"))
        steps.append(account["steps"][-1])
    lost = [step["bytes_in"] - step["bytes_out"] for step in steps]
    read = [step["bytes_in"] for step in steps]
    third = arrivals // 3
    parts = [slice(None), slice(third), slice(third, 2 * third), slice(2 * third, None)]
    shares = " | ".join(f"{sum(lost[part]) / max(1, sum(read[part])):.2%}" for part in parts)
    worst = max(gone / max(1, all_) for gone, all_ in zip(lost, read, strict=True))
    removed = sum(step["documents_in"] - step["documents_out"] for step in steps)
    return f"| {name} | {arrivals} of {size} | {shares} | {worst:.1%} | {removed} |"


def ingest(
    texts: Sequence[str], out: Path, name: str, settings: IngestSettings, earlier: Sequence[Folder] = ()
) -> tuple[list[str], dict[str, Any]]:
    """Ingest texts; the training text, and the account."""
    source = out / f"{name}.jsonl"
    source.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"text": text}) for text in texts)
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    inputs = find_inputs([str(source)], settings)
    run(inputs, Folder(out / name), settings, list(earlier), Folder(out / f"index-{name}"), Silent())
    return texts_of(out / name / "documents"), json.loads((out / name / ACCOUNT).read_text())


def texts_of(folder: Path) -> list[str]:
    """The texts of document shards."""
    return [text for path in sorted(folder.glob("*.parquet")) for text in pq.read_table(path)["text"].to_pylist()]


def found_again(training: Sequence[str], held_out: Sequence[str], out: Path) -> float:
    """Plant passages of held-out documents in training documents, ingest it all; the share of them that is gone.

    No two passages overlap, none shares a run with a training document as it is (a greeting is in all of them, planted
    or not), and each goes into a document of its own. It is found if no document holds it any more.
    """
    rng = random.Random(0)
    there = np.unique(np.concatenate([gram_hashes(text, RUN) for text in training]))
    own = [passage for passage in passages(held_out, rng) if not holds(there, gram_hashes(passage, RUN)).any()]
    planted = own[: min(PLANTED, len(training) // 2)]
    texts, names = list(training), {}
    for host, passage in zip(rng.sample(range(len(training)), len(planted)), planted, strict=True):
        own = training[host].split(" ")
        place = rng.randrange(len(own) + 1)
        texts[host] = " ".join([*own[:place], passage, *own[place:]])
        names[document_id(texts[host])] = passage
    ingest([*texts, *held_out], out, "planted", IngestSettings())
    validation = {document_id(text) for text in texts_of(out / "planted" / "validation")}
    left = " | ".join(" ".join(words_of(text)) for text in texts_of(out / "planted" / "documents"))
    sought = [" ".join(words_of(passage)) for name, passage in names.items() if name not in validation]
    return sum(passage not in left for passage in sought) / len(sought) if sought else math.nan


def passages(texts: Sequence[str], rng: random.Random) -> list[str]:
    """Texts cut into passages of 30 to 60 words, in random order; what is too short at an end is left out.

    Three letters of Thai are a word.
    """
    found = []
    for text in texts:
        starts, ends = word_spans(text)
        each = LETTERS_A_WORD if num_spelled(text) > len(starts) / 2 else 1
        first = 0
        while (last := first + each * rng.randint(*PLANTED_WORDS)) <= len(starts):
            found.append(text[starts[first] : ends[last - 1]])
            first = last
    rng.shuffle(found)
    return found


if __name__ == "__main__":
    main()
