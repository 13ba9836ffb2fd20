"""The quality rules against datatrove's filters: time, and whether they refuse the same documents.

    python benchmarks/rules_against_peer.py pages.jsonl --peer-python peer/bin/python
    python benchmarks/rules_against_peer.py bench-results/pages --peer-python peer/bin/python

``pages.jsonl`` holds one document a line under ``text``; of a folder of web archives (as benchmarks/pages.py crawls)
the main texts are taken. The peer is an environment with datatrove (its filters' code is not touched) and, for its
English words, spaCy. Without spaCy its words are those between blanks; then only the times say something. Each rule
sees every document unchanged, with the thresholds of its paper, which are the defaults on both sides; "all" is what
a pipeline does: a document passes to the next rule until one refuses it. Both run on one core, and CPU seconds are
compared, so that other work on the machine weighs on neither; rounds alternate.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rewarm.stages.ingest.filters.rule import Rule
from rewarm.stages.ingest.filters.settings import RulesSettings
from rewarm.stages.ingest.filters.steps import rule_steps
from rewarm.stages.ingest.records import Document, Refusal
from rewarm.stages.ingest.words import tokens

RULES = ("gopher-repetition", "gopher-quality", "c4", "fineweb")

PEER = r"""
import importlib.util, json, sys, time

from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
from datatrove.utils.word_tokenizers import WhitespaceTokenizer

spacy = importlib.util.find_spec("spacy") is not None
words = "eng" if spacy else WhitespaceTokenizer()
make = {
    "gopher-repetition": GopherRepetitionFilter,
    "gopher-quality": GopherQualityFilter,
    "c4": C4QualityFilter,
    "fineweb": FineWebQualityFilter,
}
texts = [json.loads(line)["text"] for line in open(sys.argv[1], encoding="utf-8")][: int(sys.argv[2])]


def run(filters):
    reasons, kept = [], []
    begin = time.process_time()
    for text in texts:
        document = Document(text=text, id="")
        reason = ""
        for one in filters:
            verdict = one.filter(document)
            if verdict is not True:
                reason = verdict[1]
                break
        reasons.append(reason)
        kept.append("" if reason else document.text)
    return {"seconds": time.process_time() - begin, "reasons": reasons, "kept": kept}


make["gopher-quality"](language=words).filter(Document(text="It loads what it needs.", id=""))
results = {name: run([made(language=words)]) for name, made in make.items()}
results["all"] = run([made(language=words) for made in make.values()])
json.dump({"words": "spaCy" if spacy else "blanks", "results": results}, sys.stdout)
"""


def ours(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Every rule by itself, then all in turn: CPU seconds, a reason for each document or "", and its text."""
    tokens("It makes its patterns.")
    runs = {name: rule_steps(RulesSettings(apply=[name])) for name in RULES}
    runs["all"] = rule_steps(RulesSettings(apply=list(RULES)))
    return {name: timed(steps, texts) for name, steps in runs.items()}


def timed(steps: Sequence[Rule], texts: Sequence[str]) -> dict[str, Any]:
    reasons, kept = [], []
    begin = time.process_time()
    for text in texts:
        result: Document | Refusal = Document(text, None, None, "en", None)
        for step in steps:
            result = step(result)
            if isinstance(result, Refusal):
                break
        reasons.append(result.reason if isinstance(result, Refusal) else "")
        kept.append(result.text if isinstance(result, Document) else "")
    return {"seconds": time.process_time() - begin, "reasons": reasons, "kept": kept}


def theirs(python: str, path: Path, most: int) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(
        [python, "-c", PEER, str(path), str(most)], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


def compare(name: str, our: dict[str, Any], their: dict[str, Any], num_words: int) -> dict[str, Any]:
    """One line of the table, and what the documents are on which the two differ."""
    pairs = list(zip(our["reasons"], their["reasons"], strict=True))
    differ = [pair for pair in pairs if bool(pair[0]) != bool(pair[1])]
    both_kept = [place for place, pair in enumerate(pairs) if pair == ("", "")]
    return {
        "rule": name,
        "ours_ms_per_1000_words": our["seconds"] / num_words * 1e6,
        "theirs_ms_per_1000_words": their["seconds"] / num_words * 1e6,
        "ratio": their["seconds"] / our["seconds"],
        "agreement": 1 - len(differ) / len(pairs),
        "refused_by_both": sum(bool(one and other) for one, other in pairs),
        "only_ours": sum(bool(one) for one, _ in differ),
        "only_theirs": sum(bool(other) for _, other in differ),
        "kept_texts_equal": sum(our["kept"][place] == their["kept"][place] for place in both_kept) / len(both_kept)
        if both_kept
        else None,
        "differences": Counter(f"{one or 'kept'} | {other or 'kept'}" for one, other in differ).most_common(6),
    }


def main_texts(archives: Path, scratch: Path) -> Path:
    """Write the main texts of crawled pages as JSON lines; pages without any are left out."""
    from main_text import crawled_pages, extract_source

    with (scratch / "pages.jsonl").open("w", encoding="utf-8") as lines:
        for page in crawled_pages(archives):
            if text := extract_source(page):
                lines.write(json.dumps({"text": text}) + "\n")
    return scratch / "pages.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", type=Path)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most", type=int, default=10**9, help="documents to take")
    parser.add_argument("--json", type=Path, help="where the figures go too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.documents.is_dir():
            arguments.documents = main_texts(arguments.documents, Path(scratch))
        against_peer(arguments)


def against_peer(arguments: argparse.Namespace) -> None:
    """Run both sides and print the table."""
    with arguments.documents.open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines][: arguments.most]
    num_words = sum(len(tokens(text)) for text in texts)
    our, their = ours(texts), theirs(arguments.peer_python, arguments.documents, arguments.most)
    words = their["words"]
    their = their["results"]
    for _ in range(arguments.rounds - 1):  # the same decisions again: only the times count, the best of each side
        for best, again in (
            (our, ours(texts)),
            (their, theirs(arguments.peer_python, arguments.documents, arguments.most)["results"]),
        ):
            for name in best:
                best[name]["seconds"] = min(best[name]["seconds"], again[name]["seconds"])
    rows = [compare(name, our[name], their[name], num_words) for name in our]
    print(
        f"{len(texts):,} documents, {num_words:,} words and marks; the peer's words: {words}; {arguments.rounds} rounds"
    )
    print("\n| rule | rewarm, ms | datatrove, ms | ratio | same decision | both refuse | only ours | only theirs |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for row in rows:
        print(
            f"| {row['rule']} | {row['ours_ms_per_1000_words']:.3f} | {row['theirs_ms_per_1000_words']:.3f} "
            f"| {row['ratio']:.1f} | {row['agreement']:.1%} | {row['refused_by_both']} | {row['only_ours']} "
            f"| {row['only_theirs']} |"
        )
    print("\nms of CPU for 1,000 words. Where they differ (ours | theirs):")
    for row in rows:
        for pair, count in row["differences"]:
            print(f"{row['rule']}: {count} {pair}")
    kept = next(row for row in rows if row["rule"] == "c4")["kept_texts_equal"]
    print(f"c4 leaves the same text in {kept:.1%} of the documents that both keep" if kept is not None else "")
    if arguments.json:
        arguments.json.write_text(json.dumps({"documents": len(texts), "words": words, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
