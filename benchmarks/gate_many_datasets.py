"""The gate as datasets multiply: refusals of harmless updates, and power against one dataset that is forgotten.

python benchmarks/gate_many_datasets.py --verdicts 200

Every verdict goes through the gate's own ``decide`` (Holm over all checks). A dataset is 100 documents, of a pool of
400 simulated datasets for each true change; the limit is 0.5 nats. With a budget, an update measures 32 datasets that
its id draws, as ``evaluate.earlier_datasets=32`` has it, and every tenth update all: the last column is the number of
updates, all of which have forgotten the same dataset (by 0.7 nats), until one is refused.
"""

import argparse
from collections.abc import Callable

import numpy as np
from gate_error_rates import ALPHA, SEED, Simulated

from rewarm.pipeline.gate.mean_change import MeanChange
from rewarm.pipeline.gate.verdict import LOSS_METRIC, Comparison, decide
from rewarm.pipeline.recipe.settings import GateSettings
from rewarm.pipeline.update.measured import measured_datasets
from rewarm.stages.evaluate import EvaluateSettings

LIMIT, DOCUMENTS, POOL = 0.5, 100, 400
ORDINARY, FORGOTTEN = 0.1, (0.55, 0.6, 0.7)
BUDGET = EvaluateSettings(earlier_datasets=32, all_datasets_every=10)
SETTINGS = GateSettings(max_forgetting=LIMIT, alpha=ALPHA, max_forgetting_since_best=None)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verdicts", type=int, default=200, help="for each cell; a tenth of them with 1,000 datasets")
    parser.add_argument("--datasets", type=int, nargs="+", default=[10, 100, 1000])
    given = parser.parse_args()
    for name in ("detectable", "p_above", "p_below"):
        setattr(MeanChange, name, remembered(getattr(MeanChange, name)))
    rng = np.random.default_rng(SEED)
    changes = (ORDINARY, LIMIT, *FORGOTTEN)
    pools = {each: [Simulated().draw(rng, DOCUMENTS, each, None).by_site for _ in range(POOL)] for each in changes}
    forgotten = " | ".join(f"one at {each:g}: refused" for each in FORGOTTEN)
    print(f"| datasets | measured | verdicts | all at {ORDINARY:g}: refused | all at the limit | {forgotten} | until |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for number in given.datasets:
        verdicts = given.verdicts if number < 1000 else max(20, given.verdicts // 10)
        print(row(rng, pools, number, verdicts), flush=True)
        if number > 32:
            print(budgeted(rng, pools, number, verdicts), flush=True)


def remembered(work: Callable[..., float | None]) -> Callable[..., float | None]:
    """A method that keeps its results: the pool's datasets are judged many times."""
    known: dict[tuple[object, ...], float | None] = {}

    def call(change: MeanChange, *given: object, **named: object) -> float | None:
        key = (id(change), given, tuple(named.items()))
        if key not in known:
            known[key] = work(change, *given, **named)
        return known[key]

    return call


def refused(comparisons: list[MeanChange]) -> bool:
    """Whether an update with these changes is refused."""
    made = [Comparison("loss", f"d{place}", LOSS_METRIC, "old", one) for place, one in enumerate(comparisons)]
    return decide(made, SETTINGS, "0000", []).outcome == "refused"


def drawn(rng: np.random.Generator, pool: list[MeanChange], number: int) -> list[MeanChange]:
    """So many datasets of one true change."""
    return [pool[place] for place in rng.integers(0, POOL, number)]


def row(rng: np.random.Generator, pools: dict[float, list[MeanChange]], number: int, verdicts: int) -> str:
    """All datasets measured."""
    rates = [
        np.mean([refused(drawn(rng, pools[change], number)) for _ in range(verdicts)]) for change in (ORDINARY, LIMIT)
    ]
    for change in FORGOTTEN:
        others = [drawn(rng, pools[ORDINARY], number - 1) for _ in range(verdicts)]
        rates.append(np.mean([refused([*rest, *drawn(rng, pools[change], 1)]) for rest in others]))
    cells = " | ".join(f"{rate:.1%}" for rate in rates)
    return f"| {number:,} | all | {verdicts} | {cells} | 1 |"


def budgeted(rng: np.random.Generator, pools: dict[float, list[MeanChange]], number: int, verdicts: int) -> str:
    """A sample measured, and all at every tenth update: refusals of the first update, and updates until one."""
    names = [f"d{place}" for place in range(number)]
    few = BUDGET.earlier_datasets or number
    rates = [np.mean([refused(drawn(rng, pools[one], few)) for _ in range(verdicts)]) for one in (ORDINARY, LIMIT)]
    until: list[int] = []
    for change in FORGOTTEN:
        found = 0
        for start in range(1, verdicts + 1):
            waited = next(
                count
                for count, update in enumerate(range(start, start + 1000), 1)
                if "d0" in (measured := measured_datasets(names, BUDGET, f"{update:04d}-news"))
                and refused([*drawn(rng, pools[ORDINARY], len(measured) - 1), *drawn(rng, pools[change], 1)])
            )
            found += waited == 1
            until += [waited] if change == FORGOTTEN[-1] else []
        rates.append(np.float64(found / verdicts))
    cells = " | ".join(f"{rate:.1%}" for rate in rates)
    return f"| {number:,} | 32 | {verdicts} | {cells} | {np.mean(until):.1f} (at most {max(until)}) |"


if __name__ == "__main__":
    main()
