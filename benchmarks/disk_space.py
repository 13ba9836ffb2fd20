"""The estimate of an update's disk space, against the most that a real base and a real update had on the disk at once.

python benchmarks/disk_space.py --set budget.base_tokens=300000 --set budget.update_tokens=200000

The demo's text and recipe. The estimate is the one that the command compares with the free space before it starts. The
peak is that of the bytes of the workspace and of the temporary folder, read twice a second while the command runs, less
those of the workspace before.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from rewarm.pipeline.demo_text import write_corpora
from rewarm.stages.core.progress import Silent

INTERVAL = 0.5  # seconds


def main() -> None:
    """Run a base and an update, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="tiny")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        texts = write_corpora(root / "text", Silent())
        sets = [word for setting in given.sets for word in ("--set", setting)]
        workspace = root / "lm"
        print("| | estimate, MB | peak, MB | estimate / peak | of the estimate |\n|---|--:|--:|--:|---|", flush=True)
        row("base", root, ["init", workspace, "--recipe", given.recipe, "--data", f"docs={texts['sci-docs']}", *sets])
        row("update", root, ["update", workspace, "--data", f"code={texts['code']}", *sets])


def row(label: str, root: Path, words: Sequence[object]) -> None:
    """Print the estimate and the peak of one command."""
    estimates = json.loads(rewarm(root, *words, "--dry-run", "--json"))["disk"]
    needs = {what: amount for one in estimates for what, amount in one["needs"].items() if amount}
    before, peak, ended = on_disk(root / "lm"), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(INTERVAL):
            peak = max(peak, on_disk(root / "lm") + on_disk(root / "tmp") - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        rewarm(root, *words)
    finally:
        ended.set()
        thread.join()
    whole = sum(needs.values())
    parts = ", ".join(f"{what} {amount / 1e6:.1f}" for what, amount in needs.items())
    print(f"| {label} | {whole / 1e6:.1f} | {peak / 1e6:.1f} | {whole / peak:.2f} | {parts} |", flush=True)


def rewarm(root: Path, *words: object) -> str:
    """Run a command with a temporary folder of its own; return its stdout."""
    scratch = root / "tmp"
    scratch.mkdir(exist_ok=True)
    arguments = [sys.executable, "-m", "rewarm.pipeline", *map(str, words)]
    environment = {**os.environ, "TMPDIR": str(scratch)}
    return subprocess.run(arguments, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout


def on_disk(folder: Path) -> int:
    """Return the bytes of all files below a folder; one that disappears meanwhile counts 0."""
    whole = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                found = os.lstat(os.path.join(parent, name))  # noqa: PTH118 - as os.walk gives it
            except FileNotFoundError:
                continue
            whole += found.st_blocks * 512
    return whole


if __name__ == "__main__":
    main()
