"""Web archives to filtered documents: rewarm's whole ingest against datatrove's reader, Trafilatura and Gopher filters.

    python benchmarks/pages.py --pages 2000 --out bench-results/pages        # crawls pages that are installed
    python benchmarks/ingest_pages.py --warc bench-results/pages --peer-python PEER/bin/python

Both read the same WARC files with the same number of processes and write the documents that stay. The peer runs
WarcReader, Trafilatura, GopherRepetitionFilter, GopherQualityFilter and a JSON-lines writer; rewarm does the same and,
beyond that, languages, duplicates, the validation split and decontamination. Times are from the first byte read to the
last written, without starting interpreters and Ray. The peer's interpreter needs datatrove, trafilatura and spacy.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

GOAL = 5.0
RULES = ("gopher-repetition", "gopher-quality")

PEER = r"""
import gzip, json, sys, time
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.readers import WarcReader
from datatrove.pipeline.writers import JsonlWriter

warc, out, processes = sys.argv[1], sys.argv[2], int(sys.argv[3])
steps = [
    WarcReader(warc, glob_pattern="*.warc.gz"),
    Trafilatura(favour_precision=True, timeout=10),
    GopherRepetitionFilter(),
    GopherQualityFilter(),
    JsonlWriter(out + "/documents"),
]
tasks = len(list(Path(warc).glob("*.warc.gz")))
begin = time.perf_counter()
LocalPipelineExecutor(steps, tasks=tasks, workers=processes, logging_dir=out + "/logs", skip_completed=False).run()
seconds = time.perf_counter() - begin
kept = 0
for file in Path(out, "documents").glob("*.jsonl.gz"):
    with gzip.open(file) as lines:
        kept += sum(1 for _ in lines)
print(json.dumps({"seconds": seconds, "kept": kept}))
"""


def main() -> None:
    """Run both, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--warc", type=Path, required=True, help="a folder of .warc.gz")
    parser.add_argument("--out", type=Path, default=Path("bench-results/ingest-pages"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--peer-python", default=sys.executable)
    given = parser.parse_args()
    shutil.rmtree(given.out, ignore_errors=True)
    ours = run_ours(given.warc, given.out / "ours", given.processes)
    peer = run_peer(given)
    steps = {step["name"]: step for step in ours["steps"]}
    pages, kept = steps["read"]["documents_in"], steps[RULES[-1]]["documents_out"]
    size = sum(file.stat().st_size for file in given.warc.glob("*.warc.gz")) / 2**20
    print(f"\n{pages} responses in {size:.0f} MiB\n")
    print("| | seconds | pages a second | kept after the rules |\n|---|--:|--:|--:|")
    print(f"| rewarm | {ours['seconds']:.1f} | {pages / ours['seconds']:.0f} | {kept} |")
    print(f"| datatrove | {peer['seconds']:.1f} | {pages / peer['seconds']:.0f} | {peer['kept']} |")
    ratio = peer["seconds"] / ours["seconds"]
    print(f"\n**ratio {ratio:.1f} (goal {GOAL:g}): {'reached' if ratio >= GOAL else 'missed'}**\n")
    for name, step in steps.items():
        print(f"{name}: {step['documents_in']} in, {step['documents_out']} out, {step['reasons']}")


def run_ours(warc: Path, out: Path, processes: int) -> dict[str, Any]:
    """The whole ingest stage; its account and seconds."""
    import ray

    from rewarm.stages.core.progress import Silent
    from rewarm.stages.core.storage import Folder
    from rewarm.stages.ingest import ACCOUNT, IngestSettings, find_inputs, run

    ray.init(address="local", num_cpus=processes, include_dashboard=False, log_to_driver=False)
    ray.data.from_items([0] * 16).map(lambda row: row, num_cpus=1).materialize()  # workers are there, as the peer's are
    size = sum(file.stat().st_size for file in warc.glob("*.warc.gz"))
    settings = IngestSettings(
        rules={"apply": list(RULES)}, shard_bytes=max(2**20, size // (4 * processes)), max_removed=1.0
    )
    begin = time.perf_counter()
    inputs = find_inputs([str(warc / "*.warc.gz")], settings)
    run(inputs, Folder(out), settings, [], Folder(out / "index"), Silent())
    seconds = time.perf_counter() - begin
    ray.shutdown()
    return {"seconds": seconds, **Folder(out).read_json(ACCOUNT)}


def run_peer(given: argparse.Namespace) -> dict[str, Any]:
    """Datatrove's pipeline in its own interpreter."""
    command = [given.peer_python, "-c", PEER, str(given.warc), str(given.out / "peer"), str(given.processes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the peer failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
