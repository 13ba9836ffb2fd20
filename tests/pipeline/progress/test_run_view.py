"""A run seen from elsewhere: its line, its log by command, the shell's completions, and how signals end a command."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import typer

from rewarm.pipeline.cli.app import stoppable
from rewarm.pipeline.cli.options import dataset_names, log_names, recipe_names, setting_keys, update_names
from rewarm.pipeline.cli.run_view import run_line
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.progress.log import Journal, Standing
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.update.inputs import create
from rewarm.stages.core.storage import Folder

Command = Callable[..., tuple[int, str, str]]
NOW = 1_000_000.0


def standing(state: str = "running", **more: object) -> Standing:
    shown = {"stage": "train", "number": 4, "stages": 6, "host": "head", **more}
    return Standing("0001-news", state, NOW - 2, NOW - 600, **shown)  # type: ignore[arg-type]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    create(Workspace(str(tmp_path / "lm")), load_recipe("tiny"))
    return tmp_path / "lm"


def test_a_runs_line_says_what_one_wants_to_know() -> None:
    work = {"label": "train", "unit": "tokens", "done": 1.2e6, "total": 2.4e6, "rate": 9500.0, "left": 126.0}
    assert run_line(standing(**work, figures={"loss": 3.25}, run_left=200.0), NOW) == (
        "0001-news: stage 4 of 6, train  ·  50% 1.2 M/2.4 M tokens, 9.5 k/s, 2 min left  loss 3.25  ·  "
        "about 3 min to the end  ·  running for 10 min on head"
    )
    assert "beginning" in run_line(standing(stage="", number=0), NOW)
    assert "no sign of life for 2 min, last in stage 4 of 6" in run_line(standing(), NOW + 100)
    assert run_line(standing("done"), NOW) == "0001-news: done 2 s ago"
    assert run_line(standing("stopped"), NOW).endswith("run the same command to resume")
    assert run_line(None, NOW) == "no run is recorded for this workspace"


def test_logs_are_shown_by_update(rewarm: Command, workspace: Path) -> None:
    code, _, error = rewarm("logs", workspace)
    assert (code, "no run has written a log" in error) == (2, True)
    for update in ("0001-news", "0002-code"):
        Journal(Folder(workspace), update).line(f"about {update}")
    Journal(Folder(workspace), "0001-news").stand(standing("done"))
    assert "about 0001-news" in rewarm("logs", workspace)[1], "the last run's"
    assert "about 0002-code" in rewarm("logs", workspace, "2")[1]
    assert "about 0002-code" in rewarm("logs", workspace, "0002-code")[1]
    code, _, error = rewarm("logs", workspace, "3")
    assert (code, "0001-news, 0002-code" in error) == (2, True)


def test_a_log_is_followed_to_the_end_of_its_run(rewarm: Command, workspace: Path) -> None:
    journal = Journal(Folder(workspace), "0001-news")
    journal.line("first")
    journal.stand(standing())

    def end() -> None:
        time.sleep(1)
        journal.line("last")
        journal.stand(standing("done"))

    writer = threading.Thread(target=end)
    writer.start()
    code, out, _ = rewarm("logs", workspace, "--follow")
    writer.join()
    assert code == 0
    assert [line.partition("  ")[2] for line in out.splitlines()] == ["first", "last"]


def test_watch_and_json_exclude_each_other(rewarm: Command, workspace: Path) -> None:
    assert rewarm("status", workspace, "--watch", "--json")[0] == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_in_order(
    number: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before, tidied = signal.getsignal(number), []
    with pytest.raises(SystemExit) as ended, stoppable():
        try:
            os.kill(os.getpid(), number)
            time.sleep(10)
        finally:
            tidied.append(True)
    assert (ended.value.code, tidied) == (code, [True])
    assert f"stopped by {number.name}" in capsys.readouterr().err
    assert signal.getsignal(number) == before


def test_an_interruption_that_was_swallowed_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a bare ``except`` of a library that was being imported when the signal came."""
    monkeypatch.setattr(sys.modules[stoppable.__module__], "AGAIN_S", 0.1)
    with pytest.raises(SystemExit) as ended, stoppable():
        with suppress(BaseException):
            signal.raise_signal(signal.SIGTERM)
        time.sleep(20)
    assert ended.value.code == 143


def test_what_an_interruption_tidies_is_not_interrupted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[stoppable.__module__], "AGAIN_S", 0.05)
    tidied = []
    with pytest.raises(SystemExit) as ended, stoppable():
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            time.sleep(0.3)
            try:
                Path("/nowhere").stat()
            except OSError:
                time.sleep(0.3)
            tidied.append(True)
    assert (ended.value.code, tidied) == (130, [True])


def test_an_error_that_an_interruption_led_to_keeps_its_code() -> None:
    with pytest.raises(SystemExit) as ended, stoppable():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            sys.exit(1)
    assert ended.value.code == 1


def test_an_exit_without_a_signal_stays_what_it_is() -> None:
    for code in (0, 1, 2):
        with pytest.raises(SystemExit) as ended, stoppable():
            sys.exit(code)
        assert ended.value.code == code


def test_completions(workspace: Path) -> None:
    Journal(Folder(workspace), "0001-news").line("x")
    context = typer.Context(typer.main.get_command(typer.Typer(callback=lambda: None)))
    context.params = {"workspace": str(workspace)}
    assert log_names(context, "0") == ["0001-news"]
    assert log_names(context, "x") == update_names(context, "") == dataset_names(context, "") == []
    context.params = {"workspace": "/nowhere"}
    assert log_names(context, "") == []
    assert "tiny" in recipe_names("t")
    keys = dict(setting_keys("replay.s"))
    assert "replay.share=" in keys
    assert keys["replay.share="]
    assert set(keys) == {key for key in keys if key.startswith("replay.s")}


def test_the_shell_gets_its_completions() -> None:
    words = {"COMP_WORDS": "rewarm update lm --set replay.sha", "COMP_CWORD": "4", "_REWARM_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'rewarm'; from rewarm.pipeline.cli import main; main()"],
        env={**os.environ, **words},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "replay.share=" in done.stdout.split()
