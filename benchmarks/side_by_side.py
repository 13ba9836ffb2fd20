"""The figures of RESULTS.md that have a goal or a peer, measured again in one run, one script after the other.

    python benchmarks/side_by_side.py --peer-python PEER/bin/python      # `make bench-full PEER=PEER/bin/python`: hours
    python benchmarks/side_by_side.py --only command-line loss-memory
    python benchmarks/side_by_side.py --list

Never do two scripts run at once. What each prints is kept as ``NAME.txt`` in ``--out`` (its messages as ``NAME.log``);
what has finished on this commit, in a tree without changes, is not run again. The peer's interpreter needs datatrove,
trafilatura and spacy. Printed, and kept as ``table.md``: machine, versions, each figure with its goal, peer and
command, what bounds the goals that were missed, and the seconds of each script. Exits with 1 where a script failed or a
figure was not found; a missed goal is no failure. Studies of recipes and ``gpu.py`` are not part of it.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from figures import Finding, NotFoundError
from side_by_side_rows import ROWS
from side_by_side_runs import RUNS, Row, Run

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "transformers", "deepspeed", "ray", "pyarrow", "lm-eval")
ENDING = 30.0  # seconds that a stopped script has before it is killed


@dataclass(frozen=True)
class Result:
    """One script's run; ``failed`` is empty where it ended as it should."""

    commit: str
    command: list[str]
    failed: str
    seconds: float = 0.0
    loads: tuple[float, float] = (0.0, 0.0)  # before and after


@dataclass(frozen=True)
class Session:
    """All that a run needs to know beside its own command."""

    out: Path
    peer: str | None
    commit: str
    limit: float  # seconds of one script


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for and print the table; 1 where something failed or was not found."""
    options = parse(arguments)
    runs = with_needed(options.only or [run.name for run in RUNS])
    if options.list:
        for run in runs:
            print(f"{run.name}: {' '.join(run.command)}")
        return 0
    session = Session(options.out.resolve(), options.peer_python, commit_of(), 3600 * options.hours)
    session.out.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    results: dict[str, Result] = {}
    for run in runs:
        results[run.name] = kept(session, run) or execute(session, run, results)
        print(f"{run.name}: {results[run.name].failed or 'done'}, {results[run.name].seconds:.0f} s", file=sys.stderr)
    outputs = {name: output_of(session, name) for name in results}
    lines, failed = table([row for row in ROWS if row.run in results], results, outputs)
    page = "\n".join([*header(session, load), "", *lines, "", *seconds_table(results)])
    (session.out / "table.md").write_text(page + "\n", encoding="utf-8")
    print(page)
    return int(failed)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    names = [run.name for run in RUNS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help="these, and what they need before")
    parser.add_argument("--list", action="store_true", help="print the names and commands")
    parser.add_argument("--peer-python", help="an interpreter with datatrove, trafilatura and spacy")
    parser.add_argument("--out", type=Path, default=ROOT / "bench-results" / "side-by-side")
    parser.add_argument("--hours", type=float, default=3.0, help="after which a script is stopped and has failed")
    return parser.parse_args(arguments)


def with_needed(names: Sequence[str]) -> list[Run]:
    """The runs of these names and those that they need, in order."""
    by_name, chosen = {run.name: run for run in RUNS}, set(names)
    for run in reversed(RUNS):
        if run.name in chosen and run.after:
            chosen.add(by_name[run.after].name)
    return [run for run in RUNS if run.name in chosen]


def commit_of() -> str:
    """The commit of this tree, with a mark where files differ from it."""
    describe = ["git", "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty=, changed"]
    return subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def output_of(session: Session, name: str) -> str:
    """What a run printed; nothing where it has not begun."""
    path = session.out / f"{name}.txt"
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


# -- one script ------------------------------------------------------------------------------------------------------


def command_of(session: Session, run: Run) -> list[str]:
    """A run's command with the names filled in: an interpreter, a script of this folder or ``-m``, and arguments."""
    names = {"out": session.out, "own": session.out / run.name, "peer": session.peer or "PEER"}
    first, *rest = (part.format(**names) for part in run.command)
    program = ["-m", "rewarm.pipeline"] if first == "rewarm" else [str(ROOT / "benchmarks" / first)]
    return [sys.executable, *program, *rest]


def kept(session: Session, run: Run) -> Result | None:
    """The result of an earlier call, if the run finished on this commit by the same command."""
    path = session.out / f"{run.name}.json"
    if not path.exists() or session.commit.endswith("changed"):
        return None
    result = Result(**json.loads(path.read_text(encoding="utf-8")))
    same = (result.commit, result.command) == (session.commit, command_of(session, run))
    return result if same and not result.failed else None


def execute(session: Session, run: Run, before: Mapping[str, Result]) -> Result:
    """Run a script and keep what it prints."""
    command = command_of(session, run)
    for name in (".txt", ".log", ".json"):
        (session.out / f"{run.name}{name}").unlink(missing_ok=True)
    if session.peer is None and any("{peer}" in part for part in run.command):
        return Result(session.commit, command, "not run: it needs --peer-python")
    if run.after and before[run.after].failed:
        return Result(session.commit, command, f"not run: it needs {run.after}, which failed")
    shutil.rmtree(session.out / run.name, ignore_errors=True)
    load, began = os.getloadavg()[0], time.monotonic()
    with (session.out / f"{run.name}.txt").open("wb") as out, (session.out / f"{run.name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=log, start_new_session=True)
        failed = wait(process, run, session.limit)
    loads = (load, os.getloadavg()[0])
    result = Result(session.commit, command, failed, time.monotonic() - began, loads)
    (session.out / f"{run.name}.json").write_text(json.dumps(asdict(result)), encoding="utf-8")
    return result


def wait(process: subprocess.Popen[bytes], run: Run, limit: float) -> str:
    """Wait for a script; why it failed, or nothing. All its processes end after an error or Ctrl-C."""
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        return f"failed: stopped after {limit / 3600:g} h"
    finally:
        if process.poll() is None:
            stop(process)
    return "" if code in run.codes else f"failed: exit code {code}, see {run.name}.log"


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a script and what it started: by SIGTERM, and what remains by SIGKILL."""
    os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(ENDING)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


# -- the page --------------------------------------------------------------------------------------------------------


def header(session: Session, load: float) -> Iterator[str]:
    """Commit, machine and versions."""
    cpu = [line.partition(":")[2].strip() for line in lines_of("/proc/cpuinfo") if line.startswith("model name")]
    memory = next((int(line.split()[1]) for line in lines_of("/proc/meminfo") if line.startswith("MemTotal")), 0)
    yield f"Commit {session.commit}; {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC."
    yield (
        f"{os.cpu_count()} cores ({cpu[0] if cpu else platform.machine()}), {memory / 2**20:.0f} GiB; "
        f"load {load:.1f} at the start, {os.getloadavg()[0]:.1f} at the end."
    )
    versions = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)]
    yield ", ".join([*versions, f"datatrove {peer_version(session.peer)}"]) + "."


def lines_of(path: str) -> list[str]:
    """The lines of a file of the system; none if it does not exist."""
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []


def peer_version(python: str | None) -> str:
    """The version of datatrove in the peer's interpreter."""
    if python is None:
        return "not given"
    code = "from importlib.metadata import version; print(version('datatrove'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "not found"


def table(rows: Sequence[Row], results: Mapping[str, Result], outputs: Mapping[str, str]) -> tuple[list[str], bool]:
    """The lines of the figures and of what bounds the missed ones; and whether any figure is not there."""
    lines = ["| what | goal | figure | | peer | command |", "|---|---|---|---|---|---|"]
    missed: list[str] = []
    failed = False
    for row in rows:
        command = f"`{told(results[row.run].command)}`"
        finding = found(row, results[row.run], outputs[row.run])
        if isinstance(finding, str):
            failed = True
            lines.append(f"| {row.what} | | **{finding}** | | {row.peer} | {command} |")
            continue
        verdict = {None: "", True: "met", False: "**missed**"}[finding.met]
        lines.append(f"| {row.what} | {finding.goal} | {finding.figure} | {verdict} | {row.peer} | {command} |")
        if finding.met is False:
            missed.append(f"- {row.what}: {finding.figure}, goal {finding.goal}. {row.bound or 'Not explained yet.'}")
    return [*lines, "", "Missed, and what bounds it:" if missed else "No figure misses its goal.", "", *missed], failed


def found(row: Row, result: Result, output: str) -> Finding | str:
    """A row's figure, or why there is none."""
    if result.failed:
        return result.failed
    try:
        return row.reads.find(output)
    except NotFoundError as error:
        return f"not found: {error}"


def told(command: Sequence[str]) -> str:
    """A command as one would type it at the root of the repository."""
    words = [part.replace(f"{ROOT}/", "") for part in command[1:]]
    return " ".join(["rewarm", *words[2:]] if words[0] == "-m" else ["python", *words])


def seconds_table(results: Mapping[str, Result]) -> Iterator[str]:
    """The seconds of every script and the load around it."""
    yield "| script | seconds | load before, after |"
    yield "|---|--:|---|"
    for name, result in results.items():
        yield f"| {name} | {result.seconds:.0f} | {result.loads[0]:.1f}, {result.loads[1]:.1f} |"


if __name__ == "__main__":
    sys.exit(main())
