"""Healthy prose that each quality rule keeps, language by language: the rules' false alarms outside English.

    python benchmarks/rules_by_language.py ar=xquad.ar.json th=news/ ja=jaquad_dev_0000.json,jaquad_dev_0001.json …

Each argument is a language and its sources: question-answering sets in SQuAD's format (an article's paragraphs are one
document, as their readers saw it), JSON lines with ``text`` or ``context``, CoNLL-U with ``# newdoc``, or a folder of
``.txt`` files, one document each. A document shorter than ``--shortest`` bytes is left out: what has no fifty words or
five sentences is refused in every language. Printed are the share of documents that each rule keeps by itself with its
defaults, what it did not ask of the script, and why it refused the others.
"""

import argparse
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import get_args

from rewarm.stages.ingest.filters.language import detect_language
from rewarm.stages.ingest.filters.settings import RuleName, RulesSettings
from rewarm.stages.ingest.filters.steps import rule_steps
from rewarm.stages.ingest.records import Document, Refusal
from rewarm.stages.ingest.settings import CleanSettings

GOAL = 0.95
NEWS_HEAD = re.compile(r"\A.*?\n{2,}(?:[^\n]{1,60}\n)+", re.DOTALL)  # thaigov: headline, day, "print"; what follows
# begins with the headline again, one to three times.
HEADLINE = 20  # characters by which a line is the headline again
NEWS_SOURCE = re.compile(r"\n+ที่มา : http\S+\s*\Z")


def main() -> None:
    """Read the sources, print the table and the reasons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", metavar="LANGUAGE=PATH[,PATH]")
    parser.add_argument("--shortest", type=int, default=1000, help="bytes")
    parser.add_argument("--most", type=int, default=2000, help="documents of a language, evenly chosen")
    given = parser.parse_args()
    rules = get_args(RuleName)
    print(f"| | documents | bytes, median | {' | '.join(rules)} | language told |")
    print(f"|---|--:|--:|{'--:|' * len(rules)}--:|")
    reasons: dict[str, Counter[str]] = {}
    missed = []
    for argument in given.sources:
        language, _, paths = argument.partition("=")
        texts = [text for path in paths.split(",") for text in read(Path(path)) if len(text.encode()) >= given.shortest]
        texts = texts[:: max(len(texts) // given.most, 1)][: given.most]
        if not texts:
            sys.exit(f"{argument}: no document of {given.shortest} bytes")
        cells = []
        for rule in rules:
            kept, why = apply(rule, texts, language.partition("-")[0])
            reasons[f"{language}, {rule}"] = why
            spared = any(name.endswith("not defined for the script") for name in why)
            cells.append(f"{kept:.1%}{' *' if spared else ''}")
            if kept < GOAL:
                missed.append(f"{language} {rule}")
        sizes = sorted(len(text.encode()) for text in texts)
        print(
            f"| {language} | {len(texts):,} | {sizes[len(sizes) // 2]:,} | {' | '.join(cells)} "
            f"| {told(texts, language.partition('-')[0]):.1%} |",
            flush=True,
        )
    print(f"\nbelow {GOAL:.0%}: {', '.join(missed) or 'none'}\n\n* a part of the rule is not defined for the script\n")
    for name, why in reasons.items():
        if why:
            print(f"{name}: {dict(why.most_common(6))}")


def apply(rule: RuleName, texts: list[str], language: str) -> tuple[float, Counter[str]]:
    """The share that one rule keeps with its defaults, reasons and parts not applied with their counts."""
    step = rule_steps(RulesSettings(apply=[rule]))[0]
    kept, why = 0, Counter[str]()
    for text in texts:
        document = Document(text, None, None, language, None)
        result = step(document)
        why.update(step.not_applied(document))
        if isinstance(result, Refusal):
            why[result.reason] += 1
        else:
            kept += 1
    return kept / len(texts), why


def told(texts: list[str], language: str) -> float:
    """The share whose language is detected right."""
    clean = CleanSettings()
    bounds = clean.min_language_letters, clean.max_language_rank, clean.min_script_letters
    return sum(detect_language(text, *bounds)[0] == language for text in texts) / len(texts)


def read(path: Path) -> Iterator[str]:
    """The documents of a source."""
    if path.is_dir():
        for file in sorted(path.rglob("*.txt")):
            text = file.read_text(encoding="utf-8", errors="replace")
            lines = NEWS_SOURCE.sub("", NEWS_HEAD.sub("", text)).strip().splitlines()
            yield "\n".join(itertools.dropwhile(partial(is_headline, lines[0] if lines else ""), lines))
    elif path.suffix == ".json":
        for article in json.loads(path.read_bytes())["data"]:
            yield "\n\n".join(paragraph["context"].strip() for paragraph in article["paragraphs"])
    elif path.suffix == ".conllu":
        yield from conllu(path)
    else:
        with path.open(encoding="utf-8") as lines:
            records = map(json.loads, lines)
            texts = (record.get("text") or record["context"] for record in records)
            yield from (text for text, _ in itertools.groupby(texts))  # a context comes once a question


def is_headline(headline: str, line: str) -> bool:
    """Whether a line of a news item says the headline again."""
    return line[:HEADLINE] == headline[:HEADLINE]


def conllu(path: Path) -> Iterator[str]:
    """The documents of a treebank: sentences with a blank between, paragraphs with a blank line."""
    text = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# newdoc"):
            if text:
                yield text
            text = ""
        elif line.startswith("# newpar"):
            text = f"{text}\n\n" if text else ""
        elif line.startswith("# text = "):
            text += ("" if not text or text.endswith("\n") else " ") + line.removeprefix("# text = ").strip()
    if text:
        yield text


if __name__ == "__main__":
    main()
