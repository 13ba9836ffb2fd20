"""How often the gate errs, beside the rule it had before: type I error and power of whole verdicts.

    python benchmarks/gate_error_rates.py
    python benchmarks/gate_error_rates.py --workspace demo/workspace --update 0001-ml-docs --dataset sci-docs

Draws are simulated (documents of very different lengths, noise of documents and of sites), or with a workspace
resampled from the losses by document that an update and its release before left: documents, or whole sites, with
replacement, their mean change moved to the one that a scenario asks for. Every draw goes through the gate's own
``decide``.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rewarm.pipeline.gate.mean_change import MeanChange, compare_losses
from rewarm.pipeline.gate.pairs import read_losses
from rewarm.pipeline.gate.statistics import holm
from rewarm.pipeline.gate.verdict import LOSS_METRIC, Comparison, decide
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.settings import GateSettings
from rewarm.stages.data.documents import read_shards

ALPHA, SEED = 0.05, 20261130
FEWEST = 10  # documents from which on the former rule tested whether an arrival was learned
SITES = 10
BESIDE = 60  # tests beside the one that is looked at
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """Two models on the same documents, with and without their sites."""

    by_site: MeanChange
    by_document: MeanChange


class Source(Protocol):
    """Where draws come from."""

    name: str

    def draw(self, rng: np.random.Generator, documents: int, change: float, sites: int | None) -> Drawn:
        """``documents`` of so many sites (None: each by itself) whose loss changed by ``change`` nats per token."""


@dataclass(frozen=True)
class Simulated:
    """Lognormal lengths (46 documents are worth some 18), noise of documents and of sites in nats per token."""

    name: str = "simulated"
    noise: float = 0.1
    of_site: float = 0.08
    spread: float = 1.0  # of the logarithm of a length

    def draw(self, rng: np.random.Generator, documents: int, change: float, sites: int | None) -> Drawn:
        """As ``Source``."""
        tokens = np.maximum(8, rng.lognormal(5.5, self.spread, documents)).astype(np.int64)
        groups = np.arange(documents) if sites is None else rng.integers(0, sites, documents)
        noise = rng.normal(0, self.noise, documents) + rng.normal(0, 0.5, documents) / np.sqrt(tokens)
        if sites is not None:
            noise += rng.normal(0, self.of_site, sites)[groups]
        return both(tokens * (change + noise), tokens, groups)


class Resampled:
    """The changes by document that a real update made, and the sites of its documents."""

    def __init__(self, workspace: str, update: str, dataset: str) -> None:
        self.name = f"{dataset} of {update}"
        lineage = Lineage(Workspace(workspace))
        found = lineage.find(update)
        earlier = [one for one in lineage.entries if one.number < found.number]
        tables = [read_losses(lineage.workspace.update(one.id) / "evaluation", dataset) for one in (found, earlier[-1])]
        candidate, current = (table for table in tables if table is not None)
        self.tokens = candidate["num_tokens"].to_numpy()
        differences = candidate["nats"].to_numpy() - current["nats"].to_numpy()
        self.measured = float(differences.sum() / self.tokens.sum())
        self.noise = differences - self.measured * self.tokens  # of mean 0
        names = dict(modules(lineage.workspace, dataset))
        keys = [names[doc_id] for doc_id in candidate["doc_id"].to_pylist()]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        self.sites = np.array([numbers[key] for key in keys])
        self.members = [np.flatnonzero(self.sites == number) for number in range(len(numbers))]

    def draw(self, rng: np.random.Generator, documents: int, change: float, sites: int | None) -> Drawn:
        """As ``Source``; of sites whole ones, with all of their documents."""
        if sites is None:
            rows = rng.integers(0, len(self.tokens), documents)
            groups = np.arange(documents)
        else:
            chosen = rng.integers(0, len(self.members), sites)
            rows = np.concatenate([self.members[number] for number in chosen])
            groups = np.repeat(np.arange(sites), [len(self.members[number]) for number in chosen])
        tokens = self.tokens[rows]
        return both(self.noise[rows] + change * tokens, tokens, groups)


def modules(workspace: Workspace, dataset: str) -> Iterator[tuple[str, str]]:
    """By document the site that the benchmark takes: the first two parts of a dotted name (``numpy.linalg``)."""
    for batch in read_shards(workspace.dataset(dataset) / "validation", ["doc_id", "url"]):
        for row in batch.to_pylist():
            yield row["doc_id"], ".".join((row["url"] or row["doc_id"]).split(".")[:2])


def both(differences: Floats, tokens: npt.NDArray[np.int64], groups: npt.NDArray[np.int64]) -> Drawn:
    """The change by sites and by documents."""
    current = 3.0 * tokens
    arguments = (current + differences, current, tokens)
    return Drawn(compare_losses(*arguments, groups), compare_losses(*arguments))


@dataclass(frozen=True)
class Part:
    """One comparison of a scenario."""

    documents: int
    change: float
    sites: int | None = None
    kind: str = "old"  # "new": of the arrival; "best": against the best release so far


def judge(parts: Sequence[Part], drawn: Sequence[Drawn], settings: GateSettings) -> str:
    """The verdict of the rule as it is."""
    comparisons = [
        Comparison(
            "best" if part.kind == "best" else "loss",
            f"d{number}",
            LOSS_METRIC,
            "new" if part.kind == "new" else "old",
            one.by_site,
        )
        for number, (part, one) in enumerate(zip(parts, drawn, strict=True))
    ]
    return decide(comparisons, settings, "0000", []).outcome


def judge_before(parts: Sequence[Part], drawn: Sequence[Drawn], settings: GateSettings) -> str:
    """The verdict of the former rule: documents as units, any rise, all tests corrected together."""
    kept = [(part, one.by_document) for part, one in zip(parts, drawn, strict=True) if part.kind != "best"]
    adjusted = holm([2 * min(one.p_above(0.0) or 0.0, one.p_below(0.0) or 0.0) for _, one in kept])
    for (part, one), p in zip(kept, adjusted, strict=True):
        if part.kind == "new":
            if one.change >= 0 or (one.n >= FEWEST and p > ALPHA):
                return "refused"
        elif one.change > (settings.max_forgetting or 0.0) and p <= ALPHA:
            return "refused"
    return "passed"


@dataclass(frozen=True)
class Scenario:
    """What is drawn, and what a right verdict on it is."""

    name: str
    right: str
    parts: list[Part]
    limit: float


def scenarios() -> list[Scenario]:
    """Independent documents, ten sites, and 60 tests beside one."""
    limit, learned = 0.2, Part(200, -0.5, kind="new")
    few = [Part(12, -0.10, kind="new")]
    beside = [Part(100, 0.0) for _ in range(BESIDE)]
    at_limit = [Part(100, limit) for _ in range(BESIDE)]
    return [
        Scenario("200 documents, true rise 0", "passes", [learned, Part(200, 0.0)], limit),
        Scenario("200 documents, at the limit of 0.2", "≤ 5 % refused", [learned, Part(200, limit)], limit),
        Scenario("200 documents, twice the limit", "refused", [learned, Part(200, 2 * limit)], limit),
        Scenario("46 documents, true rise 0.02, limit 0.02", "≤ 5 % refused", [learned, Part(46, 0.02)], 0.02),
        Scenario("46 documents, true rise 0.04, limit 0.02", "not passed", [learned, Part(46, 0.04)], 0.02),
        Scenario("ten sites, true rise 0", "passes", [learned, Part(200, 0.0, SITES)], limit),
        Scenario("ten sites, at the limit", "≤ 5 % refused", [learned, Part(200, limit, SITES)], limit),
        Scenario("ten sites, any rise (limit 0), true 0", "≤ 5 % refused", [learned, Part(200, 0.0, SITES)], 0.0),
        Scenario("ten sites, twice the limit", "not passed", [learned, Part(200, 2 * limit, SITES)], limit),
        Scenario("12 documents, 0.10 learned, alone", "not refused", few, limit),
        Scenario("12 documents, 0.10 learned, 60 tests beside", "not refused", [*few, *beside], limit),
        Scenario("60 datasets, none changed", "passes", [learned, *beside], limit),
        Scenario("60 datasets, all at their limit", "≤ 5 % refused", [learned, *at_limit], limit),
        Scenario("60 datasets, one at twice its limit", "refused", [learned, *beside[1:], Part(100, 2 * limit)], limit),
    ]


def rates(
    rule: Callable[[Sequence[Part], Sequence[Drawn], GateSettings], str],
    scenario: Scenario,
    draws: Sequence[Sequence[Drawn]],
) -> Counter[str]:
    """How often a rule gives each verdict."""
    settings = GateSettings(max_forgetting=scenario.limit, alpha=ALPHA)
    return Counter(rule(scenario.parts, drawn, settings) for drawn in draws)


def row(source: Source, scenario: Scenario, number: int) -> str:
    """One line of the table."""
    rng = np.random.default_rng(SEED)
    draws = [[source.draw(rng, one.documents, one.change, one.sites) for one in scenario.parts] for _ in range(number)]
    before, now = rates(judge_before, scenario, draws), rates(judge, scenario, draws)
    percent = [count[outcome] / number for count, outcome in ((before, "refused"), (now, "refused"), (now, "held"))]
    cells = " | ".join(f"{part:.1%}" for part in [*percent, now["passed"] / number])
    return f"| {scenario.name} | {scenario.right} | {cells} |"


def twelve(source: Source, number: int, limit: float = 0.5, each: float = 0.45) -> str:
    """Twelve updates, each just inside the limit: how many are promoted, and what is lost by then."""
    rng, settings = np.random.default_rng(SEED), GateSettings(max_forgetting=limit, alpha=ALPHA)
    passed: dict[str, list[int]] = {"before": [], "now": []}
    for _ in range(number):
        for name, rule in (("before", judge_before), ("now", judge)):
            promoted = 0
            for _ in range(12):
                lost = (promoted + 1) * each
                parts = [Part(200, -0.5, kind="new"), Part(200, each)]
                parts += [Part(200, lost, kind="best")] if promoted else []
                drawn = [source.draw(rng, part.documents, part.change, None) for part in parts]
                promoted += rule(parts, drawn, settings) == "passed"
            passed[name].append(promoted)
    return "; ".join(
        f"{name}: {np.mean(counts):.1f} of 12 promoted (at most {max(counts)}), {each * np.mean(counts):.2f} nats lost"
        for name, counts in passed.items()
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--workspace")
    parser.add_argument("--update", default="0001-ml-docs")
    parser.add_argument("--dataset", default="sci-docs")
    given = parser.parse_args()
    sources: list[Source] = [Simulated()]
    if given.workspace:
        real = Resampled(given.workspace, given.update, given.dataset)
        worth = real.tokens.sum() ** 2 / (real.tokens.astype(float) ** 2).sum()
        print(
            f"{real.name}: {len(real.tokens)} documents of {len(real.members)} sites, worth {worth:.1f} of equal "
            f"length; measured change {real.measured:+.3f}"
        )
        sources.append(real)
    for source in sources:
        print(f"\n{source.name}, {given.draws} draws, α {ALPHA}, power 0.8\n")
        print("| what is true | right | before: refused | now: refused | held, undecided | passed |")
        print("|---|---|--:|--:|--:|--:|")
        for scenario in scenarios():
            print(row(source, scenario, given.draws), flush=True)
        print(f"\nTwelve updates of +0.45 each, limit 0.5: {twelve(source, max(1, given.draws // 10))}")


if __name__ == "__main__":
    main()
