"""A small lineage on real text, and the command line in processes of its own: what the end-to-end tests share."""

import ast
import io
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import psutil
import ray
import yaml

RECIPE = {
    "description": "for the end-to-end tests",
    "model": {
        "config": {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 128,
            "max_position_embeddings": 64,
        }
    },
    "tokenizer": {"vocab_size": 1024},
    "budget": {"base_tokens": 40_000, "update_tokens": 20_000},
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
        "validation_sequences": 16,
    },
    "evaluate": {"task_documents": 8},
    "gate": {"undecided": "pass"},  # few documents decide little: the estimates do
}


def stdlib() -> list[Path]:
    return sorted(Path(os.__file__).parent.glob("*.py"))


def docstrings() -> Iterator[str]:
    for path in stdlib():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module)
                and len(doc := ast.get_docstring(node) or "") > 100
            ):
                yield doc


def rewarm(*arguments: object) -> subprocess.CompletedProcess[str]:
    """One command to its end: in this process if it has a Ray, which the command then uses; else in one of its own."""
    if not ray.is_initialized():
        return subprocess.run(command(*arguments), capture_output=True, text=True, check=False, timeout=1000)
    from rewarm.pipeline.cli import main

    words, out, err, code = list(map(str, arguments)), io.StringIO(), io.StringIO(), 0
    before, sys.argv = sys.argv, ["rewarm", *words]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:  # as the interpreter would: the traceback on stderr, and 1
        traceback.print_exc(file=err)
        code = 1
    finally:
        sys.argv = before
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def joining() -> dict[str, str]:
    """Environment that makes a process join this one's Ray instead of starting its own."""
    return {"RAY_ADDRESS": ray.get_runtime_context().gcs_address} if ray.is_initialized() else {}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "rewarm.pipeline", *map(str, arguments)]


def wait_gone(processes: list[psutil.Process], seconds: float = 60) -> None:
    """Wait until processes have ended; one that nobody reaps (a zombie in a container) has.

    A dead Ray's agents notice it a minute later. They hold nothing that the next command needs.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(alive(process) and not is_agent(process) for process in processes):
        time.sleep(0.1)


def started_by(process: psutil.Process) -> list[psutil.Process]:
    """All processes that a command has started, the forks of a warm server of its Ray included."""
    found = process.children(recursive=True)
    started = {child.pid for child in found}
    for other in psutil.process_iter():
        if "rewarm.stages.core.warm.server" in words(other) and raylet_of(other) in started:
            with suppress(psutil.NoSuchProcess):
                found += [other, *other.children(recursive=True)]
    return found


def raylet_of(process: psutil.Process) -> int:
    """The raylet that a process belongs to; 0 if it has just ended."""
    try:
        return int(process.environ().get("RAY_RAYLET_PID", 0))
    except psutil.Error:
        return 0


def is_agent(process: psutil.Process) -> bool:
    return any("Agent" in word or "agent" in word for word in words(process))


def words(process: psutil.Process) -> list[str]:
    """A process's command line; empty where it has just ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_when(command: list[str], marker: Callable[[], bool]) -> bool:
    """Start a command and kill its process with signal 9 as soon as ``marker`` holds; whether it came to that."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    driver = psutil.Process(process.pid)
    deadline = time.monotonic() + 600
    while process.poll() is None and not marker():
        assert time.monotonic() < deadline, "the marker never came"
        time.sleep(0.02)
    if process.poll() is not None:
        return False
    children = started_by(driver)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_gone(children)
    return True


class Lineage:
    """A workspace with a base and one update, its data, and how they were made."""

    def __init__(self, root: Path) -> None:
        self.root, self.workspace = root, root / "work space"
        self.recipe, self.docs, self.code = root / "recipe.yaml", root / "docs.jsonl", root / "code"
        self.recipe.write_text(yaml.safe_dump(RECIPE))
        records = [json.dumps({"text": doc, "source": "stdlib"}) for doc in dict.fromkeys(docstrings())]
        self.docs.write_text("\n".join(records[:1500]) + '\nnot json\n{"text": 7}\n')
        self.code.mkdir()
        for path in stdlib()[:120]:
            (self.code / path.with_suffix(".txt").name).write_text(path.read_text(encoding="utf-8")[:8000])

    def init(self, workspace: Path) -> list[str]:
        return ["init", str(workspace), "--recipe", str(self.recipe), "--data", f"docs={self.docs}"]

    def update(self, workspace: Path, *more: str) -> list[str]:
        return ["update", str(workspace), "--data", f"code={self.code}", *more]
