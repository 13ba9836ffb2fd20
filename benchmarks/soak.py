"""A soak: two dozen arrivals on a model of a few thousand parameters, with random kills; is the cost of an update flat?

    python benchmarks/soak.py FOLDER --arrivals 24 --minutes 30

Each arrival is another part of the standard library's source. Two of three updates are killed at random moments: the
command alone (its Ray ends with it), one training worker, or all of Ray and the command at once, as when a head's
machine is lost; the same command is then run again. FOLDER keeps what was measured, so that a run of some minutes is
continued by the next with the same arguments. At the end: the lineage is verified, replay is added up over all of it,
and the updates that nothing disturbed are compared: the last third with the first.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from statistics import mean
from typing import Any

import psutil
import yaml

RECIPE = {
    "description": "for the soak",
    "model": {
        "config": {
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "max_position_embeddings": 64,
        }
    },
    "tokenizer": {"vocab_size": 320},
    "budget": {"base_tokens": 30_000, "update_tokens": 15_000},
    "ingest": {"validation_share": 0.08},
    "replay": {"share": 0.25},
    "schedule": {"peak": 3e-3},
    "train": {
        "seq_len": 64,
        "global_batch": 8,
        "precision": "fp32",
        "num_workers": 2,
        "checkpoint_every": 10,
        "validate_every": 20,
        "validation_sequences": 8,
    },
    "evaluate": {"task_documents": 0, "earlier_datasets": 4, "all_datasets_every": 1000},
    "gate": {"undecided": "pass", "max_forgetting": None, "require_learning": False},
}
TEXTS, CHARACTERS = 40, 6000  # of an arrival: files, and of each at most
KINDS = ("command", "worker", "head")
TOO_LATE = "too late"  # the update had ended: what is measured is a command that finds nothing to do
LONGEST_S = 900.0  # of one attempt


@dataclass(frozen=True)
class Measured:
    """One arrival."""

    name: str
    kills: list[str]
    load: float  # of the machine over the last minute, at the end
    seconds: float  # of the last attempt, as all that follows
    cpu: float  # seconds of its processes, as looks of once a second see them
    driver_mb: float  # largest resident memory of the command
    all_mb: float  # and of all of its processes together, shared pages counted once each
    disk_mb: float  # by which the workspace grew
    temporary_mb: float  # left in the folder of temporary files
    left: list[str]  # of processes and of Ray's sessions, after that


def main() -> None:
    """Take in arrivals until the time is over or all are in; then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arrivals", type=int, default=24)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    began, done = time.monotonic(), read(given.folder)
    while len(done) <= given.arrivals and time.monotonic() - began < 60 * given.minutes:
        done.append(take_in(given.folder, len(done), given.seed))
        (given.folder / "soak.json").write_text(json.dumps([asdict(one) for one in done], indent=1))
        print(row(done[-1]), flush=True)
    report(given.folder, done)


def read(folder: Path) -> list[Measured]:
    """What earlier runs have measured."""
    file = folder / "soak.json"
    return [Measured(**one) for one in json.loads(file.read_text())] if file.exists() else []


def take_in(folder: Path, number: int, seed: int) -> Measured:
    """Ingest one arrival; the first makes the base."""
    workspace, name = folder / "lm", f"part-{number:02d}"
    dice = random.Random(f"{seed}/{number}")
    arguments = ["--data", f"{name}={text(folder, number)}"]
    if number == 0:
        recipe = folder / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(RECIPE))
        arguments = ["init", str(workspace), "--recipe", str(recipe), *arguments]
    else:
        arguments = ["update", str(workspace), *arguments]
    before, kills = size(workspace), list[str]()
    for _ in range(dice.randint(1, 3) if number % 3 else 0):
        kind = dice.choice(KINDS)
        if not Attempt(arguments, folder).killed(kind, dice.uniform(4, 25)):
            kills.append(TOO_LATE)
            break
        kills.append(kind)
    attempt = Attempt(arguments, folder)
    attempt.finish()
    left = attempt.left()
    return Measured(
        name,
        kills,
        os.getloadavg()[0],
        attempt.seconds,
        sum(attempt.cpu.values()),
        attempt.driver,
        attempt.all,
        (size(workspace) - before) / 1e6,
        size(folder / "tmp") / 1e6,
        left,
    )


def text(folder: Path, number: int) -> Path:
    """An arrival's files: another part of the standard library for each number."""
    root = Path(os.__file__).parent
    sources = sorted(path for path in root.rglob("*.py") if "site-packages" not in path.parts)
    sources = [path for path in sources if path.stat().st_size > 1000]
    random.Random(0).shuffle(sources)
    chosen = sources[number * TEXTS : (number + 1) * TEXTS]
    assert len(chosen) == TEXTS, f"the standard library has no {number + 1} parts of {TEXTS} files"
    out = folder / "text" / f"{number:02d}"
    out.mkdir(parents=True, exist_ok=True)
    for place, path in enumerate(chosen):
        (out / f"{place:02d}.txt").write_text(path.read_text(encoding="utf-8", errors="replace")[:CHARACTERS])
    return out


class Attempt:
    """One run of a command, watched by its memory."""

    def __init__(self, arguments: Sequence[str], folder: Path) -> None:
        (folder / "tmp").mkdir(exist_ok=True)
        environment = {**os.environ, "TMPDIR": str(folder / "tmp")}
        environment.pop("RAY_ADDRESS", None)
        command = [sys.executable, "-m", "rewarm.pipeline", *arguments]
        self.log = folder / "log.txt"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self.began, self.seconds, self.driver, self.all = time.monotonic(), 0.0, 0.0, 0.0
        self.cpu = dict[psutil.Process, float]()

    def family(self) -> list[psutil.Process]:
        """All processes that it has started, also those of a fork server, by the folder of temporary files."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.pid != self.process.pid and process.environ().get("TMPDIR") == str(self.log.parent / "tmp"):
                    found.append(process)
        return found

    def watch(self) -> None:
        """Note the largest memory, and the processors' time, so far."""
        total = 0
        for one in self.family():
            with suppress(psutil.Error):
                used = one.cpu_times()
                self.cpu[one] = used.user + used.system
                total += one.memory_full_info().pss
        with suppress(psutil.Error):
            command = psutil.Process(self.process.pid)
            self.cpu[command] = sum(command.cpu_times()[:2])
            self.driver = max(self.driver, command.memory_info().rss / 1e6)
            self.all = max(self.all, (total + command.memory_full_info().pss) / 1e6)

    def killed(self, kind: str, seconds: float) -> bool:
        """Kill something after some seconds; return whether the command was still running then.

        A killed worker is replaced by the same command, which is then killed itself a while later.
        """
        for what in ("worker", "command") if kind == "worker" else (kind,):
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
                return False
            family = self.family()
            if what == "worker":
                workers = [one for one in family if "RayTrainWorker" in " ".join(one.cmdline())]
                for one in workers[:1]:
                    one.kill()
            else:
                self.process.kill()
                for one in family if what == "head" else ():
                    with suppress(psutil.NoSuchProcess):
                        one.kill()
        self.process.wait()
        psutil.wait_procs([one for one in family if not is_agent(one)], timeout=70)
        return True

    def finish(self) -> None:
        """Wait for the end; raise if it is not a finished update."""
        while self.process.poll() is None:
            self.watch()
            assert time.monotonic() - self.began < LONGEST_S, f"{self.log}: hangs"
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(1)
        self.seconds = time.monotonic() - self.began
        if self.process.returncode not in (0, 3, 4):
            raise SystemExit(f"exit code {self.process.returncode}: {self.log.read_text()[-3000:]}")

    def left(self) -> list[str]:
        """Processes of this and earlier attempts that are there 20 s after its end, and sessions of Ray."""
        alive = psutil.wait_procs(self.family(), timeout=20)[1]
        sessions = [path.name for path in (self.log.parent / "tmp" / "ray").glob("session_2*")]
        names = list[str]()
        for one in alive:
            with suppress(psutil.Error):
                names.append(f"{one.pid}: {' '.join(one.cmdline())[:80]}")
        return names + sessions


def is_agent(process: psutil.Process) -> bool:
    """Return whether a process is one of Ray's agents: they notice the end of their Ray within a minute."""
    with suppress(psutil.Error):
        return "agent" in " ".join(process.cmdline()).lower()
    return True


def size(folder: Path) -> int:
    """Bytes of a folder's files."""
    total = 0
    for path in folder.rglob("*") if folder.exists() else ():
        with suppress(OSError):
            total += path.lstat().st_size
    return total


def row(one: Measured) -> str:
    """One arrival as a line of a table."""
    kills = ", ".join(one.kills) or "none"
    figures = (one.load, one.seconds, one.cpu, one.driver_mb, one.all_mb, one.disk_mb, one.temporary_mb)
    return f"| {one.name} | {kills} | " + " | ".join(f"{x:,.1f}" for x in figures) + f" | {len(one.left)} |"


def report(folder: Path, done: Sequence[Measured]) -> None:
    """Print the table and the checks of the whole lineage."""
    columns = (
        "arrival",
        "kills before",
        "load",
        "s",
        "CPU s",
        "command, MB",
        "all, MB",
        "disk, MB",
        "temporary, MB",
        "left",
    )
    print(f"\n| {' | '.join(columns)} |\n|---|---{'|--:' * 8}|")
    for one in done:
        print(row(one))
    calm = [one for one in done[1:] if not one.kills]
    for name in ("seconds", "cpu", "driver_mb", "all_mb", "disk_mb"):
        values = [getattr(one, name) for one in calm]
        third = max(1, len(values) // 3)
        if len(values) > 1:
            change = mean(values[-third:]) / mean(values[:third]) - 1
            print(f"{name}: {len(values)} undisturbed updates, last third against first: {100 * change:+.1f} %")
    records = [json.loads(path.read_bytes()) for path in sorted((folder / "lm/updates").glob("*/update.json"))]
    assert [one["arrival"] for one in records] == [one.name for one in done], "each arrival is one update"
    print(f"kills: {sum(kind != TOO_LATE for one in done for kind in one.kills)}; updates: {len(records)}")
    print(replay_of(folder, records))
    print(f"verify: {called('verify', folder / 'lm')}")


def replay_of(folder: Path, records: Sequence[dict[str, Any]]) -> str:
    """Compare replay with what was asked, over the whole lineage: by the records, and document by document."""
    asked = sum(0.25 * one["tokens"]["planned"] for one in records[1:])
    replayed = sum(one["tokens"]["replayed"] for one in records[1:])
    worst = max((abs(one["replay"]["achieved"] - 0.25) * one["tokens"]["planned"] for one in records[1:]), default=0)
    by_ledger = sum(
        part["tokens"] for update in called("trace", folder / "lm", "--json")["updates"] for part in update["replayed"]
    )
    owed = [abs(Fraction(one)) for one in records[-1]["replay"].get("carried", {}).get("owed", {}).values()]
    return (
        f"replay: asked {asked:,.0f} tokens, {replayed:,} replayed ({replayed - asked:+.0f} over all updates, at most "
        f"{worst:.0f} in one; a sequence is 64), {by_ledger:,} by the ledger of documents; "
        f"at most {float(max(owed, default=0)):.1f} owed to one of {len(owed)} datasets at the end"
    )


def called(*arguments: object) -> Any:
    """A command's JSON, or its last line."""
    line = [sys.executable, "-m", "rewarm.pipeline", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    with suppress(json.JSONDecodeError):
        return json.loads(done.stdout)
    return f"exit code {done.returncode}: {done.stdout.strip().splitlines()[-1:]}"


if __name__ == "__main__":
    main()
