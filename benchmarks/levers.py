"""Levers of an update, each alone and together, on a strong shift, through the product's own updates and studies.

    python benchmarks/levers.py --text demo/text --out bench-results/levers --seeds 2

Claim: an undecayed trunk (WSD), a base trained with Muon, more replay and kept moments each lower the mean of the
losses on the old and on the new text, at equal tokens, below the papers' recipe (cosine, AdamW reset, 25 % replay).
Metric: the release's loss on the full validation splits of the base's text and of the arrival, nats per token, and
their mean; rows are paired by seed with the reference, and the difference has a 95 % interval (Student's t over seeds).
The smallest difference that could have been seen is half of that interval's width. "dear" marks rows whose arrival is
more than 0.05 nats above the same recipe without replay, where that was run.
Seeds: base, replay and order of the arrival are drawn by the seed (`rewarm study --from-base`).
Compute: a base and an update of ``--tokens`` each for every row and seed, of a model with 0.46 M parameters; anneals
are counted inside, except where a row says so. With the defaults 15 rows, 6 million tokens a seed and 1.6 million for
each seed's bases; ``--core`` has five rows and three bases.

Finished bases and trials are kept in ``--out``: the same command resumes, and a larger ``--seeds`` adds seeds.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

SMALL = (
    "model.config.hidden_size=64",
    "model.config.intermediate_size=256",
    "tokenizer.vocab_size=2048",
    "schedule.peak=3e-3",
    "evaluate.task_documents=0",
    "gate.enabled=false",
    "replay.share=0.25",
    "anneal.counted=inside",
    "anneal.data=next",
    "train.num_workers=1",
    "train.cpus_per_worker=1",
    "train.validate_every=0",
    "train.final_steps=0",
)
WSD = ("schedule.kind=warmup-stable-decay",)
LONG = "anneal.share=0.4 anneal.shape=linear anneal.final_ratio=0"
KEPT = "train.keep_optimizer=true"
FAMILIES: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "cosine": (
        ("schedule.kind=cosine", "anneal.counted=on-top", "anneal.data=tail"),
        {"cosine, AdamW reset (the papers')": "", "the same, 5 % replay": "replay.share=0.05"},
    ),
    "infinite": (("schedule.kind=infinite",), {"infinite, anneal 15 % (the papers')": ""}),
    "wsd": (
        WSD,
        {
            "WSD, anneal 15 % to zero": "anneal.shape=linear anneal.final_ratio=0",
            "WSD, anneal 40 %": LONG,
            "the same, moments kept": f"{LONG} {KEPT}",
            "the same, reset and warmed in over 5 %": f"{LONG} schedule.warm_in_share=0.05",
            "the same, reset, 50 % replay": f"{LONG} replay.share=0.5",
            "the same, reset, no replay": f"{LONG} replay.share=0",
            "WSD, average of the last 30 %, no anneal": (
                "anneal.shape=average anneal.share=0.3 anneal.counted=on-top anneal.data=tail"
            ),
        },
    ),
    "muon": (
        (*WSD, "train.optimizer=muon"),
        {
            "Muon, WSD, anneal 40 %": LONG,
            "Muon, moments kept": f"{LONG} {KEPT}",
            "Muon, moments kept, 50 % replay": f"{LONG} {KEPT} replay.share=0.5",
            "Muon, moments kept, no replay": f"{LONG} {KEPT} replay.share=0",
            "Muon base, AdamW update": f"{LONG} train.optimizer=adamw train.switch_optimizer=true",
        },
    ),
}
CORE = (
    "cosine, AdamW reset (the papers')",
    "WSD, anneal 40 %",
    "the same, moments kept",
    "Muon, WSD, anneal 40 %",
    "Muon, moments kept",
)
"""The rows of ``--core``: each large lever once."""
CORE_OF = {family: [label for label in rows if label in CORE] for family, (_, rows) in FAMILIES.items()}
REFERENCE = "cosine, AdamW reset (the papers')"
WITHOUT_REPLAY = {"wsd": "the same, reset, no replay", "muon": "Muon, moments kept, no replay"}
ARRIVAL_COST = 0.05  # nats
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}  # 97.5 % quantiles by degrees of freedom


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, default=Path("demo/text"), help="what `rewarm demo` wrote")
    parser.add_argument("--out", type=Path, default=Path("bench-results/levers"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=400_000, help="of the base, and of the update")
    parser.add_argument("--only", nargs="*", choices=FAMILIES, default=list(FAMILIES), help="families to run")
    parser.add_argument("--core", action="store_true", help="run only the rows with one large lever each")
    parser.add_argument("--show", action="store_true", help="print the table of what is finished, and run nothing")
    given = parser.parse_args()
    rows: dict[str, dict[int, dict[str, float]]] = {}
    for family in given.only:
        if not given.show and (not given.core or CORE_OF[family]):
            run_family(given, family)
        rows |= results(given.out / family)
    print_table(rows)


def run_family(given: argparse.Namespace, family: str) -> None:
    """Train the base, then every row from it, and from a base of its own for each further seed."""
    home = given.out / family
    budget = (f"budget.base_tokens={given.tokens}", f"budget.update_tokens={given.tokens}")
    base, rows = FAMILIES[family]
    sets = [part for one in (*SMALL, *budget, *base) for part in ("--set", one)]
    if not (home / "releases.json").exists():
        call("init", str(home), "--data", f"sci-docs={given.text / 'sci-docs.jsonl.zst'}", "--recipe", "tiny", *sets)
    wanted = {label: settings for label, settings in rows.items() if label in CORE or not given.core}
    chosen = [part for label, settings in wanted.items() for part in ("--row", f"{label}: {settings}")]
    call(
        *("study", str(home), "--data", f"code={given.text / 'code.jsonl.zst'}", "--name", "levers", *chosen),
        *("--seeds", str(given.seeds), "--from-base", "--concurrent", "1"),
    )


def call(*arguments: str) -> None:
    """Run a command of rewarm."""
    subprocess.run([sys.executable, "-m", "rewarm", *arguments], check=True)


def results(home: Path) -> dict[str, dict[int, dict[str, float]]]:
    """Return the losses of a family's finished trials: row → seed → dataset → nats."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for file in sorted((home / "studies" / "levers" / "trials").glob("*/trial.json")):
        value: dict[str, Any] = json.loads(file.read_text())
        trial, update = value["trial"], value["update"]
        if trial["kind"] != "base":
            found.setdefault(trial["label"], {})[trial["seed"]] = update["losses"]["release"]
    return found


def interval(differences: list[float]) -> str:
    """Return the mean of paired differences and half its 95 % interval; one pair has none."""
    mean = statistics.fmean(differences)
    if len(differences) < 2:
        return f"{mean:+.3f}"
    half = STUDENT[len(differences) - 1] * statistics.stdev(differences) / math.sqrt(len(differences))
    return f"{mean:+.3f} ± {half:.3f}"


def print_table(rows: dict[str, dict[int, dict[str, float]]]) -> None:
    """Print a row for each recipe, in the order of ``FAMILIES``."""
    means = {
        label: {seed: statistics.fmean(losses.values()) for seed, losses in seeds.items()}
        for label, seeds in rows.items()
    }
    print("| recipe | seeds | old | new | mean | against the reference |  |\n|---|--:|--:|--:|--:|--:|---|")
    for family, (_, labels) in FAMILIES.items():
        for label in labels:
            if label not in rows:
                continue
            seeds = sorted(rows[label])
            old, new = (statistics.fmean(rows[label][seed][name] for seed in seeds) for name in ("sci-docs", "code"))
            common = [seed for seed in seeds if seed in means.get(REFERENCE, {})]
            paired = interval([means[label][seed] - means[REFERENCE][seed] for seed in common]) if common else ""
            dear = "dear" if too_dear(rows, family, label) else ""
            mean = statistics.fmean(means[label].values())
            print(f"| {label} | {len(seeds)} | {old:.3f} | {new:.3f} | {mean:.3f} | {paired} | {dear} |")


def too_dear(rows: dict[str, dict[int, dict[str, float]]], family: str, label: str) -> bool:
    """Return whether a row's arrival is above that of its family's row without replay by more than allowed."""
    without = rows.get(WITHOUT_REPLAY.get(family, ""), {})
    costs = [losses["code"] - without[seed]["code"] for seed, losses in rows[label].items() if seed in without]
    return bool(costs) and statistics.fmean(costs) > ARRIVAL_COST


if __name__ == "__main__":
    main()
