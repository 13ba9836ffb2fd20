"""An update against training a joint model from scratch, at equal recipe, by tokens a parameter.

    python benchmarks/joint.py --text demo/text --out bench-results/joint --per-parameter 1 4 --seeds 3

Claim: an update at half the compute of a joint model of the same schedule and optimizer is within 0.05 nats of it on
the mean of old and new, at 16 tokens a parameter, and the distance falls with the tokens.
Metric: the release's mean loss on the full validation splits of the base's text and of the arrival, nats per token;
update minus joint, paired by seed, with a 95 % interval (Student's t over seeds); half of its width is the smallest
distance that could have been seen. Seeds: base, replay and order of the arrival are drawn by the seed.
Compute: for each length of L tokens a parameter and each seed, a base and an update of L·P tokens each and a joint
model of 2·L·P, P = 0.46 million parameters: 1.8 million tokens a seed at L = 1.

Finished bases and trials are kept in ``--out``: the same command resumes, and further lengths and seeds add to it.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from levers import FAMILIES, SMALL, call, interval

PARAMETERS = 460_000
FAMILY = "wsd"
SETTINGS = ("anneal.share=0.4", "anneal.shape=linear", "anneal.final_ratio=0", "replay.share=0.5")


def main() -> None:
    """Run what is missing, and print a row for each length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, default=Path("demo/text"), help="what `rewarm demo` wrote")
    parser.add_argument("--out", type=Path, default=Path("bench-results/joint"))
    parser.add_argument("--per-parameter", type=int, nargs="+", default=[1, 4], help="tokens of base and of update")
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    print("| tokens a parameter | seeds | update | joint | update − joint | compute |\n|--:|--:|--:|--:|--:|--:|")
    for length in given.per_parameter:
        run(given, length)
        print(row(given.out / f"{length}", length), flush=True)


def run(given: argparse.Namespace, length: int) -> None:
    """Train base, update and joint model of a length, for every seed."""
    home, tokens = given.out / f"{length}", length * PARAMETERS
    budget = (f"budget.base_tokens={tokens}", f"budget.update_tokens={tokens}")
    sets = [part for one in (*SMALL, *budget, *FAMILIES[FAMILY][0], *SETTINGS) for part in ("--set", one)]
    if not (home / "releases.json").exists():
        call("init", str(home), "--data", f"sci-docs={given.text / 'sci-docs.jsonl.zst'}", "--recipe", "tiny", *sets)
    call(
        *("study", str(home), "--data", f"code={given.text / 'code.jsonl.zst'}", "--name", "joint"),
        *("--row", "update: ", "--baselines", "joint", "--seeds", str(given.seeds), "--from-base", "--concurrent", "1"),
    )


def row(home: Path, length: int) -> str:
    """Return the row of a length."""
    found: dict[str, dict[int, tuple[float, int]]] = {"update": {}, "joint": {}}
    for file in (home / "studies" / "joint" / "trials").glob("*/trial.json"):
        value: dict[str, Any] = json.loads(file.read_text())
        label, update = value["trial"]["label"], value["update"]
        if label in found:
            tokens = update["tokens"]["planned"] + update["tokens"]["annealed"]
            found[label][value["trial"]["seed"]] = statistics.fmean(update["losses"]["release"].values()), tokens
    seeds = sorted(set(found["update"]) & set(found["joint"]))
    differences = [found["update"][seed][0] - found["joint"][seed][0] for seed in seeds]
    mean = {label: statistics.fmean(seeds_[seed][0] for seed in seeds) for label, seeds_ in found.items()}
    compute = found["update"][seeds[0]][1] / found["joint"][seeds[0]][1]
    cells = (length, len(seeds), f"{mean['update']:.3f}", f"{mean['joint']:.3f}", interval(differences))
    return f"| {' | '.join(map(str, cells))} | {compute:.0%} |"


if __name__ == "__main__":
    main()
