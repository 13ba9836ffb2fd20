"""A lineage of a thousand updates: how long it takes to open and to show, and how many bytes its records are.

python benchmarks/long_lineage.py --updates 10 100 1000 --measured 32

Records and commits are written by the code that an update uses, replay is shared out as an update shares it; losses,
gaps and verdicts are made up. Each update brings one dataset and replays all before it; its release is measured on
``--measured`` of them (0: on all, as every update does today). Nothing is trained.
"""

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from rewarm.pipeline.gate.verdict import Check, Verdict
from rewarm.pipeline.lineage.lineage import PLAN, Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.record import (
    Annealing,
    Attempts,
    Cost,
    DatasetPart,
    Laid,
    Replay,
    StepTaken,
    Tokens,
    Training,
    UpdateRecord,
    Weights,
)
from rewarm.pipeline.record.gap import Gap
from rewarm.pipeline.update.inputs import create
from rewarm.stages.core.storage import Folder
from rewarm.stages.ingest import IngestOutcome
from rewarm.stages.replay import Earlier, ReplaySettings
from rewarm.stages.replay.run import share_out
from rewarm.stages.replay.shares import Part
from rewarm.stages.tokenize import TokenizeOutcome
from rewarm.stages.train import schedule_for

NOWHERE = Folder("/nowhere")
SEQ_LEN, PLACES, SHARE = 256, 2343, Fraction(1, 4)
TOKENS = SEQ_LEN * PLACES
STEPS = ("ingest", "tokenize", "replay", "train", "anneal", "evaluate", "gate")


def main() -> None:
    """Write the lineages, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--measured", type=int, default=32)
    given = parser.parse_args()
    columns = ("updates", "open, s", "next update's start, s", "status, CPU s", "status --json, MB")
    columns += ("report, CPU s", "again", "report, MB", "update --dry-run, CPU s", "records, bytes an update", "last")
    print("| " + " | ".join(columns) + " |")
    print(len(columns) * "|--:" + "|")
    for updates in given.updates:
        with tempfile.TemporaryDirectory() as scratch:
            workspace = Workspace(str(Path(scratch) / "lm"))
            create(workspace, load_recipe("tiny"))
            grow(workspace, updates, given.measured)
            print(row(workspace, updates), flush=True)


def grow(workspace: Workspace, updates: int, measured: int) -> None:
    """Record so many updates, one after the other."""
    rng, lineage = random.Random(0), Lineage(workspace)
    settings = load_recipe("tiny").schedule
    schedule = schedule_for(settings, 0, TOKENS, None)
    for number in range(updates):
        name = f"crawl-{number:04d}"
        earlier = [f"crawl-{before:04d}" for before in range(number)]
        carried = lineage.replayed()
        by_dataset = replayed(earlier, lineage)
        workspace.update(f"{number:04d}-{name}").write_json(PLAN, {"arrival": name, "data": {name: "0d"}})
        seen = earlier if not measured else sorted(rng.sample(earlier, min(measured, number)))
        losses = {one: 3 + rng.random() for one in [*seen, name]}
        new = TOKENS - sum(part["tokens"] for part in by_dataset.values())
        record = UpdateRecord(
            id=f"{number:04d}-{name}",
            arrival=name,
            datasets=[name],
            state="released",
            started="2026-11-30T10:00:00+00:00",
            finished="2026-11-30T11:00:00+00:00",
            position=(number + 1) * TOKENS,
            follows=lineage.head.id if lineage.head else None,
            tokens=Tokens(TOKENS, new, TOKENS - new, TOKENS // 10),
            replay=Replay(
                0.25,
                1 - new / TOKENS,
                "earlier datasets",
                by_dataset,
                {name: {"sequences": 9, "tokens": new, "trained": new, "untrained": 0, "passes": 1.0}},
                2,
                carried.after(by_dataset).to_json(),
            ),
            schedule=Laid(schedule.kind, list(schedule.phases), None, settings.identity()),
            train=Training(PLACES // 16, 2, 8431.0),
            anneal=Annealing(True, "branched at the trunk's end", 15),
            losses={"trunk": dict(losses), "release": dict(losses)},
            window_losses={"trunk": dict(losses), "release": dict(losses)},
            bits_per_byte={"trunk": dict(losses), "release": dict(losses)},
            forgetting={one: rng.gauss(0, 0.01) for one in seen},
            gap={one: Gap(rng.random(), 4096, 65_536, loss, loss) for one, loss in losses.items()},
            lm_eval={f"rewarm_{one}_continuation": {"acc": 0.31, "acc_stderr": 0.02} for one in [*seen, name]},
            gate=verdict(losses, name, rng) if number else None,
            steps={step: StepTaken(rng.random() * 60, 1) for step in STEPS},
            attempts=Attempts(1, 0, 200.0),
            cost=Cost(0.05, 0.1, "EUR"),
            weights=Weights(f"{number:032x}", f"{number:032x}"),
            files={f"updates/{number:04d}-{name}/{part}": f"{number:032x}" for part in STEPS},
            parameters=1_845_504,
            data={name: counts(number)},
            notes=["anneal: branched at the trunk's end"],
        )
        lineage.record(record)


def replayed(earlier: Sequence[str], lineage: Lineage) -> dict[str, dict[str, object]]:
    """What an update replays of equal datasets, as the replay step records it."""
    if not earlier:
        return {}
    settings = ReplaySettings(share=0.25)
    parts = [Part(Earlier(name, NOWHERE, NOWHERE, 0, 1), 3906, 10**6, Fraction(10**6)) for name in earlier]
    shares, _ = share_out(parts, lineage.replayed(), SHARE, PLACES, SEQ_LEN)
    return {one.part.key: one.to_json(SEQ_LEN, 0, settings, PLACES) for one in shares}


def verdict(losses: dict[str, float], arrival: str, rng: random.Random) -> Verdict:
    """A verdict with a check for each dataset."""
    checks = []
    for name, loss in losses.items():
        old, change = name != arrival, rng.gauss(0, 0.01)
        checks.append(
            Check(
                "loss",
                name,
                "nats/token",
                "old" if old else "new",
                loss,
                loss - change,
                change,
                0.1,
                rng.random(),
                rng.random(),
                96,
                40,
                38.5,
                0.02,
                "passed",
                True,
                f"change {change:+.3f}, below 0.1 (p {rng.random():.3f})",
            )
        )
    return Verdict(True, "0000-crawl-0000", 0.05, "holm", [f"{len(checks)} of {len(checks)} checks passed"], checks)


def counts(number: int) -> DatasetPart:
    """A dataset's counts."""
    digest = f"{number:032x}"
    ingested = IngestOutcome(4210, 8_420_000, 96, 192_000, 3, {"invalid JSON": 3}, 31, 7, digest)
    made = TokenizeOutcome(1_234_567, 4210, 8_420_000, 40_000, 96, 192_000, "tokenizers", "equal ids", digest, digest)
    return DatasetPart(ingested, made)


def row(workspace: Workspace, updates: int) -> str:
    """Seconds and bytes of one lineage."""
    opened = min(timed(lambda: Lineage(workspace)) for _ in range(3))
    begun = min(timed(lambda: start_of_next(workspace)) for _ in range(3))
    shown, _ = command("status", str(workspace.folder))
    pages, _ = command("report", str(workspace.folder))
    again, _ = command("report", str(workspace.folder))
    arrival = workspace.folder.path.parent / "new.jsonl"
    arrival.write_text('{"text": "A document of an arrival that only a dry run sees."}\n', encoding="utf-8")
    fixed = min(command("update", str(workspace.folder), "--data", f"new={arrival}", "--dry-run")[0] for _ in range(2))
    report = sum(path.stat().st_size for path in (workspace.folder.path / "report").iterdir())
    _, size = command("status", str(workspace.folder), "--json")
    records = [path.stat().st_size for path in workspace.folder.path.glob("updates/*/update.json")]
    commits = [path.stat().st_size for path in workspace.folder.path.glob("commits/*.json")]
    each = (sum(records) + sum(commits)) / updates
    return (
        f"| {updates:,} | {opened:.3f} | {begun:.3f} | {shown:.2f} | {size / 1e6:.2f} | {pages:.2f} | {again:.2f} "
        f"| {report / 1e6:.1f} | {fixed:.2f} | {each:,.0f} | {max(records) + commits[-1]:,} |"
    )


def start_of_next(workspace: Workspace) -> None:
    """What the next update reads of the records before it is planned: datasets, replay so far, schedule, release."""
    lineage = Lineage(workspace)
    lineage.datasets()
    lineage.replayed()
    lineage.followed()
    lineage.current()


def timed(work: object) -> float:
    """Seconds of a call."""
    assert callable(work)
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def command(*arguments: str) -> tuple[float, int]:
    """CPU seconds of a command, and the bytes that it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    line = [sys.executable, "-m", "rewarm.pipeline", *arguments]
    done = subprocess.run(line, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, len(done.stdout)


if __name__ == "__main__":
    main()
