"""The plan's verdict on arrivals of a few documents, beside the rule it had before: how often each is right.

    python benchmarks/shift_verdicts.py --workspace demo/workspace --text same=demo/text/sci-docs.jsonl.zst \
        --text other=demo/text/ml-docs.jsonl.zst --text code=demo/text/code.jsonl.zst

Of each text (JSON lines with ``text``, plain or zstd) documents are drawn; their token frequencies, their loss under
the base's trunk and their languages are measured by the planner's own functions, and judged by both rules. The base's
own text must not be called strong, whatever is drawn. The former rule called a shift strong if one measure reached its
threshold, and had no third answer.
"""

import argparse
import io
import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import transformers
import zstandard

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.plan import survey
from rewarm.pipeline.shift.judgement import judge, measure, share_interval, worth_of
from rewarm.pipeline.shift.shift import frequencies, languages, new_share
from rewarm.pipeline.update.inputs import recipe_of
from rewarm.stages.data.tokens import TokenStream

TRUNK_TOKENS = 256  # of a document that the trunk reads
MOST_READ = 40  # documents of a draw that the trunk reads
EARLIER_TOKENS = 100_000
SIZES, SEED = (1, 2, 3, 10, 100), 0


class Judge:
    """The base of a workspace, and what the planner needs to know of it."""

    def __init__(self, uri: str) -> None:
        self.workspace = Workspace(uri)
        self.lineage, self.recipe = Lineage(self.workspace), recipe_of(self.workspace)
        self.lineage.stand_on(self.lineage.updates[:1])  # the base alone
        (self.dataset,) = self.lineage.datasets()
        self.words = transformers.AutoTokenizer.from_pretrained(self.workspace.tokenizer.local())
        self.model = transformers.AutoModelForCausalLM.from_pretrained(self.lineage.trunk().local()).eval()
        self.held = TokenStream(self.workspace.dataset(self.dataset) / "tokens" / "train")
        self.earlier = list(survey.spread_documents(self.held, EARLIER_TOKENS))
        self.languages = languages(self.words.decode(one[:1024]) for one in self.earlier[:300])

    def verdicts(self, texts: Sequence[str]) -> tuple[str, str]:
        """The former rule's verdict, and the one there is."""
        ends, plan = self.words.eos_token_id, self.recipe.plan
        documents = [np.array([*self.words(text, add_special_tokens=False).input_ids, ends]) for text in texts]
        measured = self.run(documents[:MOST_READ], ends)
        earlier = {self.dataset: frequencies(self.earlier, len(self.words))}
        sizes = {self.dataset: self.held.num_tokens}
        (nearest,) = survey.references(self.lineage, frequencies(documents, len(self.words)), earlier, sizes)
        new = new_share(languages(texts), self.languages)
        worth = worth_of(np.array([len(one) for one in documents], np.float64))
        measures = [
            survey.frequency_measure(
                documents, {self.dataset: self.earlier}, sizes, nearest.name, len(self.words), self.recipe
            ),
            survey.loss_measure(measured, nearest, [survey.trunk_losses(self.lineage, self.dataset)], self.recipe),
            measure("text in new languages", new, *share_interval(min(new, 1.0), worth), plan.new_languages),
        ]
        over = (
            nearest.divergence >= plan.strong_divergence,
            measured.bits / (nearest.bits_per_byte or math.inf) >= plan.strong_loss,
            new >= plan.new_languages,
        )
        return "strong" if any(over) else "weak", judge(measures, len(documents), worth)[0]

    def run(self, documents: Sequence[np.ndarray], ends: int) -> survey.Measured:
        """The trunk's losses on the beginnings of documents."""
        rows: list[dict[str, Any]] = []
        for document in documents:
            part = document[:TRUNK_TOKENS]
            with torch.inference_mode():
                logits = self.model(torch.tensor([[ends, *part[:-1]]])).logits[0].log_softmax(-1)
            nats = -float(logits.gather(1, torch.tensor(part)[:, None]).sum())
            text = self.words.decode([token for token in part if token != ends])
            rows.append({"nats": nats, "num_tokens": len(part), "num_bytes": max(1, len(text.encode()))})
        nats, size = (sum(row[name] for row in rows) for name in ("nats", "num_bytes"))
        return survey.Measured.of(pa.Table.from_pylist(rows), nats / math.log(2) / size)


def read(path: str) -> list[str]:
    """The texts of a file of JSON lines."""
    raw = Path(path).read_bytes()
    data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(raw)).read() if path.endswith(".zst") else raw
    return [json.loads(line)["text"] for line in data.decode().splitlines() if line]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", required=True)
    parser.add_argument("--text", action="append", required=True, metavar="NAME=FILE")
    parser.add_argument("--draws", type=int, default=20)
    given = parser.parse_args()
    found, rng = Judge(given.workspace), random.Random(SEED)
    print(f"base: {found.dataset}; {given.draws} draws each\n")
    print("| text | documents | before: strong | now: strong | unclear | weak |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, path in (one.split("=", 1) for one in given.text):
        texts = read(path)
        for size in (size for size in SIZES if size <= len(texts)):
            both = [found.verdicts(rng.sample(texts, size)) for _ in range(given.draws)]
            before, now = (Counter(one[side] for one in both) for side in (0, 1))
            parts = [before["strong"], now["strong"], now["unclear"], now["weak"]]
            print(f"| {name} | {size} | {' | '.join(f'{part / given.draws:.0%}' for part in parts)} |", flush=True)


if __name__ == "__main__":
    main()
