"""Seconds of a small update: by step, outside the optimizer, before the first step, and CPU by kind of process.

    python benchmarks/update_seconds.py --dir bench-results/update --rounds 2

A base of 400 files of Python's own library, then updates of 100 other files each, 50 steps of 4,096 tokens, all stages
of the recipe `tiny`. CPU seconds are read from the process table every 0.2 s, for the command and all processes that
have inherited a variable of its environment; what a process used after its last reading is missed. With `--workspace
demo/workspace` the updates of an existing workspace (such as the demo's) are listed instead, without CPU. Times are
those of the update's log, to the second.
"""

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import threading
import time
import uuid
from collections import defaultdict
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

INTERVAL = 0.2  # seconds between two readings of the process table
LONGEST = 8000  # characters of a document
BASE, EACH = 400, 100  # documents
SETS = ("budget.base_tokens=400000", "budget.update_tokens=204800")
MARK = "REWARM_MEASURED"  # environment variable of the measured command and what it starts
KINDS = {  # kind of process → parts of its command line; the first of the kinds that a process ever had is its own
    "Ray's system": (
        "/raylet/raylet",
        "/gcs/gcs_server",
        "log_monitor.py",
        "ray::DashboardAgent",
        "ray::RuntimeEnvAgent",
    ),
    "Ray's dashboard": ("dashboard/dashboard.py", "ray-dashboard-", "multiprocessing.forkserver"),
    "training workers": ("RayTrainWorker", "ray::execute."),
    "evaluation actors": ("ray::ModelHost",),
    "Ray Train's other actors": (
        *("ray::Launcher", "ray::TrainController", "ray::TrainStateActor", "ray::PlacementGroupCleaner"),
        *("ray::SynchronizationActor", "ray::Tracker"),
    ),
    "workers of tasks, idle ones": ("ray::", "default_worker.py", "setup_worker.py", "agent.py", "agent/main.py"),
    "fork servers": ("core.warm.server",),  # a fork looks like its server at first
}
OTHERS = "others"


def main() -> None:
    """Make the base if it is missing, run the updates and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, default=Path("bench-results/update"))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--workspace", type=Path, help="list the updates of this workspace instead")
    given = parser.parse_args()
    if given.workspace:
        show_updates(given.workspace)
        return
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    files = [path for path in files if "site-packages" not in path.parts and path.stat().st_size > 6000]
    workspace = given.dir / "workspace"
    if not (workspace / "workspace.json").exists():
        data = write(given.dir / "base.jsonl", files[:BASE])
        measured(
            "init", workspace, "--recipe", "tiny", "--data", f"base={data}", *(x for s in SETS for x in ("--set", s))
        )
    before = len(updates_of(workspace)) - 1
    for number in range(before, before + given.rounds):
        data = write(given.dir / f"arrival-{number}.jsonl", files[BASE + number * EACH :][:EACH])
        wall, cpu = measured("update", workspace, "--data", f"arrival-{number}={data}")
        print(f"update {number}: {wall:.1f} s, {sum(cpu.values()):.1f} CPU s")
        for kind, seconds in sorted(cpu.items(), key=lambda pair: -pair[1]):
            print(f"  {kind}: {seconds:.1f} CPU s")
    show_updates(workspace)


def write(path: Path, files: list[Path]) -> Path:
    """Write the beginnings of files as documents of one JSONL file."""
    if len(files) < EACH:
        raise SystemExit("not enough files in Python's library for another round: give a new --dir")
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = (file.read_text(encoding="utf-8", errors="replace")[:LONGEST] for file in files)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def measured(*arguments: object) -> tuple[float, dict[str, float]]:
    """Run one command; return its wall seconds and its CPU seconds by kind of process."""
    command = [sys.executable, "-m", "rewarm.pipeline", *map(str, arguments)]
    start = time.perf_counter()
    mark = {MARK: uuid.uuid4().hex}  # forked workers are no descendants of the command: a server of theirs forks them
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, **mark})
    readings: dict[int, tuple[str, float]] = {}
    ended = threading.Event()
    reader = threading.Thread(target=read_processes, args=(process.pid, mark[MARK], readings, ended))
    reader.start()
    code = process.wait()
    ended.set()
    reader.join()
    if code not in (0, 3, 4):  # the gate's verdict is no matter here
        raise SystemExit(f"{' '.join(command)}: exit code {code}")
    by_kind: dict[str, float] = defaultdict(float)
    for kind, seconds in readings.values():
        by_kind[kind] += seconds
    return time.perf_counter() - start, dict(by_kind)


def read_processes(root: int, mark: str, readings: dict[int, tuple[str, float]], ended: threading.Event) -> None:
    """Read the CPU seconds of all processes with the mark until the event; a process's last kind is kept."""
    import psutil

    known: dict[int, bool] = {}
    order = [*KINDS, OTHERS]
    while not ended.wait(INTERVAL):
        for process in psutil.process_iter(["pid", "cpu_times", "cmdline"]):
            pid, times = process.info["pid"], process.info["cpu_times"]
            if pid not in known:
                with suppress(psutil.Error, OSError):
                    known[pid] = process.environ().get(MARK) == mark
            if times is None or not known.get(pid):
                continue
            line = " ".join(process.info["cmdline"] or [])  # empty: it has just ended
            before = readings[pid][0] if pid in readings else OTHERS
            kind = "the command" if pid == root else min(before, kind_of(line), key=order.index)
            readings[pid] = (kind, times.user + times.system)


def kind_of(line: str) -> str:
    """Return the kind of a process by its command line."""
    return next((kind for kind, marks in KINDS.items() if any(mark in line for mark in marks)), OTHERS)


def updates_of(workspace: Path) -> list[dict[str, Any]]:
    """Return the records of a workspace's updates."""
    command = [sys.executable, "-m", "rewarm.pipeline", "status", str(workspace), "--all", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    updates: list[dict[str, Any]] = json.loads(done.stdout)["updates"]
    return updates


def show_updates(workspace: Path) -> None:
    """Print the seconds of every update: all, those of optimizer steps, and those from the tokens to the first step."""
    print(
        "| update | command, s | its steps, s | optimizer steps, s | outside, s | to the first step, s | by step, s |"
    )
    print("|---|--:|--:|--:|--:|--:|---|")
    for update in updates_of(workspace):
        folder, at = workspace / "updates" / update["id"], times_of(workspace, update["id"])
        steps = {name: step["seconds"] for name, step in update["steps"].items()}
        optimizer = sum(stepping(folder / part) for part in ("trunk", "release"))
        whole, parts = at["done"] - at["begins"], ", ".join(f"{name} {seconds:.1f}" for name, seconds in steps.items())
        print(
            f"| {update['id']} | {whole:.0f} | {sum(steps.values()):.1f} | {optimizer:.1f} | {whole - optimizer:.0f} "
            f"| {at['first step'] - at['train']:.0f} | {parts} |"
        )


def stepping(folder: Path) -> float:
    """Return the seconds of a training's optimizer steps: its tokens at its rate without start, looks and saving."""
    if not (folder / "manifest.json").exists():
        return 0.0
    outcome = json.loads((folder / "manifest.json").read_text())["outcome"]
    return float(outcome["tokens"] / outcome["tokens_per_second"]) if outcome.get("tokens_per_second") else 0.0


def times_of(workspace: Path, update: str) -> dict[str, float]:
    """Return when the lines of an update's log that say these words were written, seconds since the epoch."""
    words = {"begins": "  begins (", "train": ": train", "first step": "train: step 0 of", "done": "  done"}
    found: dict[str, float] = {}
    lines = (workspace / "logs" / f"{update}.txt").read_text(encoding="utf-8").splitlines()
    last = max(number for number, line in enumerate(lines) if words["begins"] in line)  # a stopped attempt begins again
    for line in lines[last:]:
        for name, part in words.items():
            if part in line and name not in found:
                found[name] = datetime.fromisoformat(line.split()[0]).timestamp()
    return found


if __name__ == "__main__":
    main()
