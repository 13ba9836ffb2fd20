"""Random kills of a watch over stand-in updates: nothing is lost, nothing is repeated, whatever the moment."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from small_lineage import started_by, wait_gone, words
from watch_webhook import webhook
from watch_world import with_base

from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.update.inputs import create

NAMES = ("a", "b", "bad", "c")
LIMIT = 600  # seconds in all
TOO_EARLY = (-signal.SIGTERM, 128 + signal.SIGTERM)  # asked to end before it had begun
WATCH = "import rewarm.pipeline.watch.child as child; child.LAUNCHER = 'stand_in_update'; from rewarm.pipeline.cli import main; main()"  # noqa: E501


def start(workspace: Path, inbox: Path, url: str, log: Path, retries: int = 9) -> subprocess.Popen[bytes]:
    options = ["--inbox", str(inbox), "--every", "0.3", "--quiet", "3600", "--backoff", "0.2"]
    options += ["--retries", str(retries)]
    tests = str(Path(__file__).parent.parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, *sys.path])}
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-c", WATCH, "watch", str(workspace), *options, "--webhook", url],
            stdout=stream,
            stderr=stream,
            env=environment,
        )


def seconds_to_begin() -> float:
    """How long this machine now takes until a command has begun: about a second, and five where much else runs."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import rewarm.pipeline.lineage.lineage, rewarm.pipeline.cli"], check=True)
    return time.monotonic() - began


def end(watch: subprocess.Popen[bytes], how: str) -> None:
    """Kill a watch alone, its update alone, both, or ask it to end."""
    family = started_by(psutil.Process(watch.pid))
    if how in ("update", "both"):
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    if how != "update":
        watch.send_signal(signal.SIGTERM if how == "ask" else signal.SIGKILL)
        code = watch.wait(60)
        assert code in ((0, *TOO_EARLY) if how == "ask" else (-signal.SIGKILL,))
        wait_gone(family, 10)
        assert not [process for process in family if process.is_running() and process.status() != "zombie"]


@pytest.mark.faults
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_is_killed_each_arrival_is_taken_in_once(tmp_path: Path, seed: int) -> None:
    made = Workspace(str(tmp_path / "lm"))
    create(made, load_recipe("tiny"))
    with_base(made)
    workspace, inbox, log = made.folder.path, tmp_path / "inbox", tmp_path / "log"
    inbox.mkdir()
    longest = 3 + 3 * seconds_to_begin()  # between two kills: else a busy machine finishes no attempt
    dice, left, began = random.Random(seed), list(NAMES), time.monotonic()
    journal = workspace / "watch" / "journal.jsonl"

    def kinds(name: str) -> list[str]:
        lines = journal.read_text().splitlines() if journal.exists() else []
        events = [json.loads(line) for line in lines if line.endswith("}")]
        return [event["kind"] for event in events if event["path"].endswith(f"/{name}")]

    def settled() -> bool:
        return not left and all("held" in kinds(name) or "released" in kinds(name) for name in NAMES)

    with webhook() as server:
        watch = start(workspace, inbox, server.url, log)
        while not settled():
            assert time.monotonic() - began < LIMIT, log.read_text()[-3000:]
            time.sleep(dice.uniform(0.2, longest))
            if left:
                name = left.pop(0)
                (inbox / name).mkdir()
                for file in ("x.jsonl", "_SUCCESS"):
                    (inbox / name / file).write_text("{}\n")
            how = dice.choice(["watch", "update", "both", "ask", "none"])
            if how != "none":
                end(watch, how)
            if watch.poll() is not None:
                watch = start(workspace, inbox, server.url, log)
        time.sleep(3)
        end(watch, "ask")
        released = [one["arrival"] for one in server.notices if one["event"] == "released"]
        held = {one["arrival"] for one in server.notices if one["event"] == "held"}

    updates = sorted(file.parent.name for file in workspace.glob("updates/*/update.json"))
    assert updates == ["0000-docs", "0001-a", "0002-b", "0003-c"]
    ran = (workspace / "ran.txt").read_text().splitlines()
    assert [line for line in ran if line.startswith("end")] == ["end a", "end b", "end c"]
    assert [line for line, after in zip(ran, [*ran[1:], ""], strict=True) if line != after] == [
        f"{what} {name}" for name in "abc" for what in ("begin", "end")
    ], "one after another, however often each began again"
    for name in "abc":
        assert kinds(name).count("released") == 1
    assert kinds("bad").count("held") == 1
    assert list(dict.fromkeys(released)) == ["a", "b", "c"], "told at least once, in order"
    assert held == {"bad"}


@pytest.mark.faults
@pytest.mark.parametrize(("name", "kills", "ends"), [("moving", 3, "released"), ("stuck", 2, "held")])
def test_only_attempts_that_save_nothing_use_up_the_retries(tmp_path: Path, name: str, kills: int, ends: str) -> None:
    made = Workspace(str(tmp_path / "lm"))
    create(made, load_recipe("tiny"))
    with_base(made)
    inbox, log, update = tmp_path / "inbox", tmp_path / "log", made.folder.path / "updates" / f"0001-{name}"
    (inbox / name).mkdir(parents=True)
    for file in ("x.jsonl", "_SUCCESS"):
        (inbox / name / file).write_text("{}\n")
    began, killed, saved = time.monotonic(), set[int](), 0
    journal = made.folder.path / "watch" / "journal.jsonl"

    def events() -> list[dict[str, Any]]:
        lines = journal.read_text().splitlines() if journal.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    with webhook() as server:
        watch = start(made.folder.path, inbox, server.url, log, retries=1)
        while not any(event["kind"] in ("released", "held") for event in events()):
            assert time.monotonic() - began < LIMIT / 4, log.read_text()[-3000:]
            time.sleep(0.05)
            steps = len(list(update.glob("*/manifest.json")))
            running = [one for one in started_by(psutil.Process(watch.pid)) if "update" in words(one)]
            fresh = [one for one in running if one.pid not in killed and (update / "plan.json").exists()]
            if fresh and len(killed) < kills and (steps > saved or name == "stuck"):
                time.sleep(1 if name == "stuck" else 0)
                killed.update(one.pid for one in fresh)
                for one in fresh:
                    one.kill()
                wait_gone(fresh, 10)
                saved = len(list(update.glob("*/manifest.json")))
        end(watch, "ask")
    [last] = [event for event in events() if event["kind"] in ("released", "held")]
    assert last["kind"] == ends
    assert len(killed) == kills, "more than one retry allows"
    if ends == "held":
        assert last["details"]["because"].startswith("2 attempts failed without progress, the last one with: ")
