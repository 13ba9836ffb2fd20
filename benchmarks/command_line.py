"""CPU seconds of commands that compute nothing.

    python benchmarks/command_line.py
    python benchmarks/command_line.py --workspace demo/workspace --data sci-docs=demo/text/sci-docs.jsonl.zst

Without `--workspace`, `status` is asked of a folder that has none, which imports as much and reads nothing. `--data`
names an arrival that the workspace has: its update has nothing to do. The least of `--rounds` runs counts, since other
work on the machine only adds; Python's compiled files are kept in a temporary folder and written by an earlier run.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

GOALS = {"--help": 0.5, "settings": 0.5, "status": 0.5, "update": 2.0}  # CPU seconds


def main() -> None:
    """Measure every command and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--data", help="NAME=PATH of an arrival that the workspace has")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    commands = [["--help"], ["settings"], ["status", str(given.workspace or "none")]]
    if given.data:
        commands.append(["update", str(given.workspace), "--data", given.data])
    print("| command | CPU s, least | most | goal |")
    print("|---|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as compiled:
        for command in commands:
            seconds = sorted(cpu_seconds(command, Path(compiled)) for _ in range(given.rounds + 1))[: given.rounds]
            print(f"| `rewarm {command[0]}` | {seconds[0]:.2f} | {seconds[-1]:.2f} | {GOALS[command[0]]} |")


def cpu_seconds(arguments: list[str], compiled: Path) -> float:
    """Return the user and system seconds of one command, with those of its own children."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(compiled)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "rewarm.pipeline", *arguments], capture_output=True, check=False, env=environment
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
