"""What a run shows and keeps: plain lines, live bars on a real terminal, its log, and where it stands."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rewarm.pipeline import terminal as terminal_module
from rewarm.pipeline.progress.log import Journal, Standing, logged_updates, read_log, read_standing
from rewarm.pipeline.progress.pace import Itinerary, Work
from rewarm.pipeline.terminal import Terminal, amounts, fitted
from rewarm.pipeline.update.expected import Run
from rewarm.stages.core.errors import StageError
from rewarm.stages.core.storage import Folder

STAGES = ("ingest", "train")
SHOWN = """
import time
from rewarm.pipeline.progress.pace import Itinerary
from rewarm.pipeline.update.expected import Run
from rewarm.pipeline.terminal import Terminal
from rewarm.stages.core.storage import Folder
with Terminal() as terminal:
    terminal.update("lm: news", Run(Folder({home!r}), "0001-news", lambda: Itinerary({stages!r}, {{"train": 90.0}})))
    terminal.stage("ingest", skipped=True)
    terminal.stage("train", skipped=False)
    terminal.begin("train", 100, "tokens")
    for _ in range(30):
        terminal.advance(2, loss=3.25)
        time.sleep(0.1)
    terminal.note("a note that stays")
"""


def run(home: Path) -> Run:
    return Run(Folder(home), "0001-news", lambda: Itinerary(STAGES, {"ingest": 5.0, "train": 90.0}))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal_module, "PLAIN_INTERVAL", 0.2)
    monkeypatch.setattr(terminal_module, "STANDING_INTERVAL", 0.05)
    monkeypatch.setattr(terminal_module, "TICK", 0.02)


def wait_for(home: Path, stage: str, done: float) -> Standing:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = read_standing(Folder(home))
        if found and found.stage == stage and found.done == done and found.rate is not None:
            return found
        time.sleep(0.02)
    raise AssertionError(f"never stood at {done} of {stage}")


@pytest.mark.usefixtures("quick")
def test_lines_without_a_terminal_come_in_intervals_also_while_nothing_moves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    with Terminal() as shown:
        assert not shown.live
        shown.update("lm: news", run(tmp_path))
        shown.stage("ingest", skipped=True)
        shown.stage("train", skipped=False)
        shown.begin("train", 100, "tokens")
        for _ in range(60):
            shown.advance(1, loss=3.25)
            time.sleep(0.005)
        time.sleep(0.5)
        shown.note("step 60: [docs] 3.2")
    said = capsys.readouterr().err.splitlines()
    assert said[:3] == ["lm: news", "  ingest: done before", "  train"]
    assert said.count("    step 60: [docs] 3.2") == 1
    lines = [line for line in said[3:] if line != "    step 60: [docs] 3.2"]  # one may come while the display closes
    intervals = (time.monotonic() - began) / terminal_module.PLAIN_INTERVAL
    assert 2 <= len(lines) <= intervals + 1, "as many as intervals, whatever the number of steps"
    assert re.fullmatch(r"    train: 60%  60/100 tokens, [\d.]+/s  loss 3.25  \d+ s left", lines[-1]), lines[-1]


@pytest.mark.usefixtures("quick")
def test_a_stage_that_counts_nothing_gives_a_sign_of_life(capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal() as shown:
        shown.stage("initial weights", skipped=False)
        time.sleep(0.5)
        shown.stage("train", skipped=True)
        time.sleep(0.3)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "  initial weights"
    assert set(said[1:-1]) <= {"    initial weights: for 0 s", "    initial weights: for 1 s"}
    assert 1 <= len(said[1:-1]) <= 2
    assert said[-1] == "  train: done before"


@pytest.mark.usefixtures("quick")
def test_a_run_says_where_it_stands_and_keeps_a_log(tmp_path: Path) -> None:
    with Terminal(quiet=True) as shown:
        shown.update("lm: news", run(tmp_path))
        shown.stage("ingest", skipped=False)
        shown.stage("train", skipped=False)
        shown.begin("train", 100, "tokens")
        for _ in range(50):
            shown.advance(1, loss=3.25)
            time.sleep(0.002)
        found = wait_for(tmp_path, "train", 50.0)
        assert (found.update, found.state, found.number, found.stages) == ("0001-news", "running", 2, 2)
        assert (found.label, found.unit, found.total, found.figures) == ("train", "tokens", 100.0, {"loss": 3.25})
        assert found.left == found.run_left, "the last stage's own rate"
        assert found.alive(time.time())
        assert not found.alive(time.time() + 100)
        shown.note("a note")
    found = read_standing(Folder(tmp_path))
    assert found is not None
    assert (found.state, found.done, found.alive(time.time())) == ("done", 50.0, False)
    log = read_log(Folder(tmp_path), "0001-news")
    lines = [line.partition("  ")[2] for line in log.splitlines()]
    assert lines[0] == "begins (0001-news)"
    assert lines[1] == "stage 1 of 2: ingest"
    assert re.fullmatch(r"ingest took \d\.\d s", lines[2])
    assert "    a note" in lines
    assert lines[-1] == "done"
    assert all(re.match(r"\d{4}-\d\d-\d\dT[\d:]{8}\+00:00  ", line) for line in log.splitlines())


@pytest.mark.parametrize(
    ("error", "state", "line"),
    [
        (StageError("the disk is full"), "failed", "failed: the disk is full"),
        (KeyboardInterrupt(), "stopped", "stopped; the same command resumes it"),
    ],
)
def test_how_a_run_ended_is_told(tmp_path: Path, error: BaseException, state: str, line: str) -> None:
    with pytest.raises(type(error)), Terminal(quiet=True) as shown:
        shown.update("lm: news", run(tmp_path))
        shown.stage("train", skipped=False)
        raise error
    found = read_standing(Folder(tmp_path))
    assert found is not None
    assert (found.state, found.stage) == (state, "train")
    assert read_log(Folder(tmp_path), "0001-news").rstrip().endswith(line)


def test_a_second_run_adds_to_the_log_and_another_update_has_its_own(tmp_path: Path) -> None:
    with Terminal(quiet=True) as shown:
        shown.update("lm: news", run(tmp_path))
        shown.update("lm: news", run(tmp_path))
        shown.update("lm: code", Run(Folder(tmp_path), "0002-code", lambda: Itinerary(STAGES, {})))
    assert logged_updates(Folder(tmp_path)) == ["0001-news", "0002-code"]
    assert read_log(Folder(tmp_path), "0001-news").count("begins") == 2


def test_a_place_that_cannot_be_written_ends_no_run(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    journal = Journal(Folder(tmp_path), "0001-news")
    journal.line("lost")
    journal.stand(Standing("0001-news", "running", 0.0, 0.0))
    assert (tmp_path / "logs").is_file()


def on_a_terminal(command: list[str], interrupt_at: str | None = None, columns: int = 160) -> tuple[int, str]:
    """Run a command on a terminal of its own, with Ctrl-C's signal once a text is shown; exit code and drawing."""
    master, slave = pty.openpty()
    env = {**os.environ, "COLUMNS": str(columns), "LINES": "50", "TERM": "xterm"}
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env)
    os.close(slave)
    drawn, deadline = "", time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([master], [], [], 0.1)[0]:
            try:
                drawn += os.read(master, 65536).decode("utf-8", "replace")
            except OSError:  # the last process on the terminal has gone
                break
        elif process.poll() is not None:
            break
        if interrupt_at and interrupt_at in drawn:
            process.send_signal(signal.SIGINT)
            interrupt_at = None
    os.close(master)
    return process.wait(10), drawn


def test_live_bars_show_the_stage_the_rate_and_the_time_left(tmp_path: Path) -> None:
    code, drawn = on_a_terminal([sys.executable, "-c", SHOWN.format(home=str(tmp_path), stages=STAGES)])
    assert code == 0, drawn
    assert "stage 2 of 2, train" in drawn
    assert "loss 3.25" in drawn
    assert re.search(r"\d/100 tokens, \d", drawn)
    assert re.search(r"\d s left", drawn)
    assert "about" in drawn
    assert "a note that stays" in drawn


def test_bars_are_visible_at_80_columns(tmp_path: Path) -> None:
    shown = [sys.executable, "-c", SHOWN.format(home=str(tmp_path), stages=STAGES)]
    code, drawn = on_a_terminal(shown, columns=80)
    assert code == 0, drawn
    lines = [line.rstrip() for line in re.split(r"\r\n|\n|\r", re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", drawn))]
    bars = [line for line in lines if re.search(r"[━╸╺]", line)]
    assert bars and max(map(len, bars)) <= 80, bars
    assert all(len(re.findall(r"[━╸╺]", line)) >= 10 for line in bars), bars
    assert any("stage 2 of 2, train" in line for line in bars)
    assert any(re.search(r"\d/100 tokens", line) for line in bars)


def test_a_task_that_has_not_begun_says_what_it_waits_for() -> None:
    work = Work("train", 100, "tokens", began=10.0)
    assert amounts(work, 11.0) == ["0/100 tokens"]
    assert "".join(amounts(work, 50.0)) == "workers are starting, 40 s"
    assert "".join(amounts(Work("evaluate", 9, "pieces", began=10.0), 50.0)) == "no result yet, 40 s"
    work.advance(1, {"loss": 3.25}, 51.0)
    assert "".join(amounts(work, 52.0)) == "1/100 tokens  loss 3.25"


def test_figures_are_shown_whole_or_not_at_all() -> None:
    parts = ["50/100 tokens", ", 12 k/s", "  loss 3.25"]
    assert fitted(parts, None) == "50/100 tokens, 12 k/s  loss 3.25"
    assert fitted(parts, 22) == "50/100 tokens, 12 k/s"
    assert fitted(parts, 5) == "50/100 tokens"


def test_status_watches_a_run_until_ctrl_c(tmp_path: Path) -> None:
    from rewarm.pipeline.lineage.workspace import Workspace
    from rewarm.pipeline.recipe.recipe import load_recipe
    from rewarm.pipeline.update.inputs import create

    create(Workspace(str(tmp_path)), load_recipe("tiny"))
    standing = Standing(
        "0000-docs", "running", time.time(), time.time() - 90, "train", 6, 8, "train", "tokens", 5e5, 1e6
    )
    Journal(Folder(tmp_path), "0000-docs").stand(standing)
    watch = [sys.executable, "-m", "rewarm.pipeline", "status", str(tmp_path), "--watch"]
    code, drawn = on_a_terminal(watch, interrupt_at="running for")
    assert code == 0, drawn
    assert "0000-docs: stage 6 of 8, train" in drawn
    assert "50% 500 k/1 M tokens" in drawn
    piped = subprocess.Popen(watch, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert piped.stdout is not None
    assert "stage 6 of 8" in piped.stdout.readline()
    piped.send_signal(signal.SIGINT)
    assert piped.wait(20) == 0
    shown = subprocess.run([*watch[:-1], "--json"], capture_output=True, text=True, check=True)
    assert json.loads(shown.stdout)["run"]["stage"] == "train"
