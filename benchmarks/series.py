"""Annealed releases of infinite schedules against repeated cosine, over a series of arrivals.

    python benchmarks/series.py --text demo/text --out bench-results/series

The demo's text in two series: four arrivals without a shift (parts of one corpus) and two with one (another subject,
then code). Each schedule makes its own base and takes in the same arrivals. All of them cost the same tokens: where a
release is annealed on a branch, the trunk is shorter by the branch. Printed: each release's loss on every dataset, the
difference to cosine's, and how far the first dataset's loss rises at the boundary (the depth of the stability gap).
"""

import argparse
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import zstandard

SMALL = (
    "model.config.hidden_size=64",
    "model.config.intermediate_size=256",
    "tokenizer.vocab_size=2048",
    "schedule.peak=3e-3",
    "evaluate.task_documents=0",
    "train.num_workers=1",
    "train.cpus_per_worker=1",
)
SCHEDULES = {
    "cosine": ("schedule.kind=cosine",),
    "infinite, cosine cooldown": ("schedule.kind=infinite", "schedule.cooldown=cosine"),
    "infinite, inverse-sqrt cooldown": ("schedule.kind=infinite", "schedule.cooldown=inverse-sqrt"),
}
ANNEAL = 0.15
PARTS = 6  # of the first corpus: two for the base, one for each arrival without a shift


def main() -> None:
    """Run every schedule over both series and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, default=Path("demo/text"), help="what `rewarm demo` wrote")
    parser.add_argument("--out", type=Path, default=Path("bench-results/series"))
    parser.add_argument("--base-tokens", type=int, default=600_000)
    parser.add_argument("--tokens", type=int, default=300_000, help="of each update, its anneal included")
    parser.add_argument("--side-by-side", type=int, default=2)
    given = parser.parse_args()
    parts = split(given.text / "sci-docs.jsonl.zst", given.out / "text")
    series = {
        "no shift": [("part-0", parts[0]), *((f"part-{n}", parts[n]) for n in range(1, PARTS - 1))],
        "shift": [("part-0", parts[0]), *((name, given.text / f"{name}.jsonl.zst") for name in ("ml-docs", "code"))],
    }
    jobs = [(kind, name) for kind in series for name in SCHEDULES]
    with ThreadPoolExecutor(given.side_by_side) as pool:
        list(pool.map(lambda name: lineage(given, name, "no shift", series["no shift"][:1]), SCHEDULES))
        for name in SCHEDULES:  # both series begin with the same base
            if not place(given, "shift", name).exists():
                shutil.copytree(place(given, "no shift", name), place(given, "shift", name))
        done = dict(zip(jobs, pool.map(lambda job: lineage(given, job[1], job[0], series[job[0]]), jobs), strict=True))
    for kind in series:
        print(f"\n## {kind}\n")
        show({name: done[kind, name] for name in SCHEDULES})


def split(corpus: Path, out: Path) -> list[Path]:
    """The corpus in ``PARTS - 1`` files, the first twice as large; documents are spread over them in turn."""
    out.mkdir(parents=True, exist_ok=True)
    with corpus.open("rb") as packed:
        lines = zstandard.ZstdDecompressor().stream_reader(packed).read().splitlines(keepends=True)
    paths = [out / f"part-{number}.jsonl" for number in range(PARTS - 1)]
    for number, path in enumerate(paths):
        mine = [line for place, line in enumerate(lines) if max(0, place % PARTS - 1) == number]
        path.write_bytes(b"".join(mine))
    return paths


def lineage(given: argparse.Namespace, name: str, kind: str, arrivals: list[tuple[str, Path]]) -> list[dict[str, Any]]:
    """One lineage from its base to its last arrival; the records of its updates."""
    workspace = place(given, kind, name)
    trunk = 1.0 if name == "cosine" else 1 / (1 + ANNEAL)
    settings = (*SMALL, *SCHEDULES[name], f"anneal.share={ANNEAL}", "gate.enabled=false")  # every end is measured
    budgets = (
        f"budget.base_tokens={round(given.base_tokens * trunk)}",
        f"budget.update_tokens={round(given.tokens * trunk)}",
    )
    known = status(workspace)
    for number, (dataset, path) in enumerate(arrivals):
        if dataset in known:
            continue
        share = "replay.share=0.25" if dataset == "code" else "replay.share=0.05"
        command = ["init", workspace, "--recipe", "tiny"] if number == 0 else ["update", workspace]
        sets = (*settings, *budgets) if number == 0 else (share,)
        rewarm(*command, "--data", f"{dataset}={path}", *(part for one in sets for part in ("--set", one)))
    return list(status(workspace).values())


def place(given: argparse.Namespace, kind: str, name: str) -> Path:
    """The workspace of one schedule in one series."""
    return Path(given.out) / f"{kind}-{name}".replace(" ", "-").replace(",", "")


def status(workspace: Path) -> dict[str, dict[str, Any]]:
    """The finished updates of a workspace by their arrival."""
    if not (workspace / "workspace.json").exists():
        return {}
    updates = json.loads(rewarm("status", workspace, "--all", "--json"))["updates"]
    return {update["arrival"]: update for update in updates if update["state"] == "released"}


def rewarm(*arguments: object) -> str:
    """One command to its end; its output."""
    command = [sys.executable, "-m", "rewarm.pipeline", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    return done.stdout


def show(lineages: dict[str, list[dict[str, Any]]]) -> None:
    """Each release's mean loss over all datasets so far, against cosine's, and the rise at each boundary."""
    print("| schedule | after | mean loss | minus cosine's | rise of part-0 at the boundary | tokens |")
    print("|---|---|--:|--:|--:|--:|")
    reference = [mean(update) for update in lineages["cosine"]]
    for name, updates in lineages.items():
        for place, update in enumerate(updates):
            rise = update["gap"].get("part-0", {}).get("depth") if place else None
            tokens = update["tokens"]["planned"] + update["tokens"]["annealed"]
            print(
                f"| {name} | {update['arrival']} | {mean(update):.3f} | {mean(update) - reference[place]:+.3f} "
                f"| {'' if rise is None else f'{rise:.3f}'} | {tokens:,} |"
            )
    print(
        orjson.dumps(
            {name: [update["losses"]["release"] for update in updates] for name, updates in lineages.items()}
        ).decode()
    )


def mean(update: dict[str, Any]) -> float:
    """Mean over the datasets so far, nats per token of the release."""
    losses = update["losses"]["release"].values()
    return float(sum(losses) / len(losses))


if __name__ == "__main__":
    main()
