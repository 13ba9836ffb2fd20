"""How often a healthy release is refused for skewed changes of loss, and what the test still sees.

    python benchmarks/gate_skewness.py
    python benchmarks/gate_skewness.py --workspace demo/workspace
    python benchmarks/gate_skewness.py --alternatives --draws 400      # against Johnson's t and bootstrap-t

Changes by document are drawn (for documents of equal and of very different lengths, for whole sites), or with a
workspace resampled from those that its updates made; their true mean is the limit. A guard refuses them by t alone, by
t with Hall's correction for skewness, bounded (the former rule), or as the gate does now. Skewed to the adverse side: a
few documents improve by far more than the others.
"""

import argparse
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from scipy import special

from rewarm.pipeline.gate.mean_change import MeanChange, compare_losses
from rewarm.pipeline.gate.pairs import read_losses
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace

ALPHA, POWER, DATASETS, SEED = 0.05, 0.8, 60, 20261130
MOST_SKEW = 0.25  # of the mean: the former rule's bound
Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], MeanChange]  # so many units, at the limit of 0
Test = Callable[[MeanChange], float]


def by_t(found: MeanChange) -> float:
    """p of Student's t alone."""
    return float(special.stdtr(found.freedom, -found.change / (found.error or 1)))


def by_hall(found: MeanChange) -> float:
    """p of the former rule: the safer of t and of t after Hall's transformation (1992)."""
    influence = found.rests / (found.sizes.sum() - found.sizes)
    influence = influence - influence.mean()
    skew = float((influence**3).mean() / (influence**2).mean() ** 1.5) / len(influence) ** 0.5
    skew = min(max(skew, -MOST_SKEW), MOST_SKEW)
    t = found.change / (found.error or 1)
    return float(special.stdtr(found.freedom, -min(t, t + skew / 3 * t**2 + skew**2 / 27 * t**3 + skew / 6)))


def by_gate(found: MeanChange) -> float:
    """p of the gate's guard."""
    return found.p_above(0.0, cautious=True) or 0.0


LENGTHS = (("equal lengths", 0.0), ("lengths lognormal σ 1", 1.0))
TESTS: dict[str, Test] = {"t": by_t, "former": by_hall, "now": by_gate}


def lognormal(rng: np.random.Generator, count: int, sigma: float) -> Floats:
    """Of mean 0 and standard deviation 1, skewed to the adverse side."""
    deviation = ((np.exp(sigma**2) - 1) * np.exp(sigma**2)) ** 0.5
    return (np.exp(sigma**2 / 2) - rng.lognormal(0, sigma, count)) / deviation


def rare(rng: np.random.Generator, count: int) -> Floats:
    """One document of ten improves by far more than the others."""
    return (rng.normal(0, 0.3, count) + np.where(rng.random(count) < 0.1, -2.5, 0) + 0.25) / (0.09 + 0.5625) ** 0.5


CHANGES: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "normal": lambda rng, count: rng.normal(0, 1, count),
    "exponential (skewness 2)": lambda rng, count: 1 - rng.exponential(1, count),
    "lognormal σ 0.5 (1.8)": lambda rng, count: lognormal(rng, count, 0.5),
    "lognormal σ 1 (6.2)": lambda rng, count: lognormal(rng, count, 1.0),
    "one in ten by far more": rare,
    "lognormal σ 1.5 (33)": lambda rng, count: lognormal(rng, count, 1.5),
}


def simulated(name: str, spread: float) -> Draw:
    """Documents whose lengths are lognormal with ``spread``; 0: all alike."""

    def draw(rng: np.random.Generator, count: int) -> MeanChange:
        tokens = np.maximum(8, rng.lognormal(5.5, spread, count)).astype(np.int64)
        return compare_losses(0.3 * tokens * CHANGES[name](rng, count), np.zeros(count), tokens)

    return draw


def sites(rng: np.random.Generator, count: int) -> MeanChange:
    """So many sites of 1 to some 50 documents each; both sites and documents are lognormal."""
    members = np.minimum(50, 1 + rng.geometric(0.2, count))
    groups = np.repeat(np.arange(count), members)
    tokens = np.maximum(8, rng.lognormal(5.5, 0.5, len(groups))).astype(np.int64)
    changes = 0.2 * lognormal(rng, count, 1.0)[groups] + 0.3 * lognormal(rng, len(groups), 1.0)
    return compare_losses(tokens * changes, np.zeros(len(groups)), tokens, groups)


def measured(uri: str) -> Iterator[tuple[str, Draw]]:
    """The changes that each update made on each earlier dataset, resampled by document; as they are and mirrored."""
    lineage = Lineage(Workspace(uri))
    for before, update in zip(lineage.updates, lineage.updates[1:], strict=False):
        for dataset in before.losses["release"]:
            tables = [read_losses(lineage.workspace.update(one.id) / "evaluation", dataset) for one in (update, before)]
            if tables[0] is None or tables[1] is None:
                continue
            tokens = tables[0]["num_tokens"].to_numpy()
            nats = tables[0]["nats"].to_numpy() - tables[1]["nats"].to_numpy()
            rests = nats - nats.sum() / tokens.sum() * tokens
            for side, name in ((1, ""), (-1, ", mirrored")):
                yield f"{dataset} of {update.id}{name}", resampled(side * rests, tokens)


def resampled(rests: Floats, tokens: npt.NDArray[np.int64]) -> Draw:
    """Documents drawn with replacement."""

    def draw(rng: np.random.Generator, count: int) -> MeanChange:
        rows = rng.integers(0, len(tokens), count)
        return compare_losses(rests[rows], np.zeros(count), tokens[rows])

    return draw


def alone(draw: Draw, count: int, draws: int) -> list[str]:
    """How often each test refuses one dataset."""
    rng = np.random.default_rng(SEED)
    found = [draw(rng, count) for _ in range(draws)]
    return [f"{np.mean([test(one) <= ALPHA for one in found]):.1%}" for test in TESTS.values()]


def together(draw: Draw, count: int, families: int) -> list[str]:
    """How often each test refuses a release for any of 60 datasets that are all at their limits, under Holm."""
    rng = np.random.default_rng(SEED)
    refused = np.zeros(len(TESTS))
    for _ in range(families):
        found = [draw(rng, count) for _ in range(DATASETS)]
        refused += [min(map(test, found)) <= ALPHA / DATASETS for test in TESTS.values()]
    return [f"{rate:.1%}" for rate in refused / families]


def effects(draw: Draw, count: int, level: float, draws: int) -> str:
    """The rise above the limit that is refused with the power asked for: by the former rule, and now."""
    rng = np.random.default_rng(SEED)
    found = [draw(rng, count) for _ in range(draws)]
    least = [least_seen(test, found, level) for test in (by_hall, by_gate)]
    return f"{least[0]:.3f} → {least[1]:.3f} ({least[1] / least[0]:.2f} ×)"


def least_seen(test: Test, found: list[MeanChange], level: float) -> float:
    """The rise above the limit that a test refuses with the power asked for."""
    low, high = 0.0, 8.0
    for _ in range(12):
        middle = (low + high) / 2
        moved = (MeanChange(**{**vars(one), "change": one.change + middle}) for one in found)
        if np.mean([test(one) <= level for one in moved]) < POWER:
            low = middle
        else:
            high = middle
    return high


def by_johnson(found: MeanChange) -> float:
    """p of Johnson's t (1978), for units of equal length."""
    values, n = (found.rests + found.change * found.sizes) / found.sizes.mean(), found.units
    mean, spread, third = values.mean(), values.std(ddof=1), ((values - values.mean()) ** 3).mean()
    corrected = mean + third / (6 * spread**2 * n) + third / (3 * spread**4) * mean**2
    return float(special.stdtr(n - 1, -corrected / spread * n**0.5))


def by_bootstrap(found: MeanChange) -> float:
    """p of the bootstrap-t (Efron 1981), 599 resamples, for units of equal length."""
    values, n = (found.rests + found.change * found.sizes) / found.sizes.mean(), found.units
    again = values[np.random.default_rng(SEED).integers(0, n, (599, n))]
    ts = (again.mean(1) - values.mean()) / np.maximum(again.std(1, ddof=1) / n**0.5, 1e-12)
    return float((1 + np.sum(ts >= values.mean() / values.std(ddof=1) * n**0.5)) / 600)


def alternatives(draws: int) -> None:
    """Print how often each test refuses at the limit, and the rise that it refuses in 80 % of draws."""
    tests = {"t": by_t, "Johnson": by_johnson, "bootstrap-t": by_bootstrap, "now": by_gate}
    print("| changes, equal lengths | units | " + " | ".join(tests) + " |\n|---|--:|" + "---|" * len(tests))
    for name in ("normal", "lognormal σ 1 (6.2)", "lognormal σ 1.5 (33)"):
        for count in (12, 46, 150, 500):
            rng, draw = np.random.default_rng(SEED), simulated(name, 0.0)
            found = [draw(rng, count) for _ in range(draws)]
            cells = []
            for test in tests.values():
                refused = np.mean([test(one) <= ALPHA for one in found])
                cells.append(f"{refused:.1%}, {least_seen(test, found[: draws // 4], ALPHA):.3f}")
            print(f"| {name} | {count} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--families", type=int, default=200)
    parser.add_argument("--workspace")
    parser.add_argument("--alternatives", action="store_true")
    given = parser.parse_args()
    if given.alternatives:
        alternatives(given.draws)
        return
    drawn = {f"{name}, {kind}": simulated(name, spread) for name in CHANGES for kind, spread in LENGTHS}
    drawn["sites and documents lognormal σ 1"] = sites
    if given.workspace:
        drawn |= dict(measured(given.workspace))
    print("| changes | rule | 12 units | 24 | 46 | 60 datasets of 46 | 60 of 100 |\n|---|---|--:|--:|--:|--:|--:|")
    for name, draw in drawn.items():
        cells = [alone(draw, count, given.draws) for count in (12, 24, 46)]
        cells += [together(draw, count, given.families) for count in (46, 100)]
        for rule, rates in zip(TESTS, zip(*cells, strict=True), strict=True):
            print(f"| {name} | {rule} | " + " | ".join(rates) + " |", flush=True)
    print("\n| changes | 12 units | 24 | 46 | 46, beside 60 datasets | 100, beside 60 |\n|---|---|---|---|---|---|")
    for name, draw in drawn.items():
        cases = [(12, ALPHA), (24, ALPHA), (46, ALPHA), (46, ALPHA / DATASETS), (100, ALPHA / DATASETS)]
        print(f"| {name} | " + " | ".join(effects(draw, *case, given.draws // 5) for case in cases) + " |", flush=True)


if __name__ == "__main__":
    main()
