"""The run of all benchmarks: what it reads from their output, what it keeps, and what it says of failures."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
PRINTED = """\
2 cores, load 0.3
| vocabulary | contestant | MB/s | ratio | note |
|--:|---|--:|--:|---|
| 8,192 | `rewarm` | 1,014.9 | | a \\| b |
| 8,192 | datatrove | 2.2 | **6.70 ×** | |
| 131,072 | datatrove | 2.3 | 4.8 × | −3.5% |

| what | once | once |
|---|--:|--:|
| x | 1 | 2 |
rewarm/bare: median 0.975, min 0.948
kill to the next new step: 4.1, 5.0 s; goal ≤ 20 s: met
checkpoint stall, 100 M parameters: 0.9 s: 2.1 % of the time; goal ≤ 1 %: missed
"""


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def figures() -> ModuleType:
    return import_module("figures")


def test_cells_are_found_by_column_and_row(figures: ModuleType) -> None:
    cell = figures.Cell
    assert cell("MB/s", {"contestant": "rewarm"}).read(PRINTED) == 1014.9
    assert cell("ratio", {"contestant": "datatrove", "vocabulary": "8,192"}).read(PRINTED) == 6.7
    assert cell("ratio", {"contestant": "data.*"}, min).read(PRINTED) == 4.8
    assert cell("note", {"vocabulary": "131,072"}).read(PRINTED) == -3.5
    assert next(figures.tables(PRINTED)).rows[0][-1] == "a \\| b"


@pytest.mark.parametrize(
    ("column", "where", "says"),
    [
        ("GB/s", {}, "no cells of column “GB/s”, any row"),
        ("MB/s", {"contestant": "datasets"}, "no cells of column “MB/s”, contestant datasets"),
        ("MB/s", {"contestant": "data"}, "no cells"),  # a pattern matches whole cells
        ("MB/s", {"contestant": "datatrove"}, "2 cells"),
        ("ratio", {"contestant": "rewarm"}, "“” does not begin with a number"),
        ("once", {"what": "x"}, "column “once” is in a table twice"),
    ],
)
def test_a_cell_that_is_not_there_once_is_no_figure(
    figures: ModuleType, column: str, where: dict[str, str], says: str
) -> None:
    with pytest.raises(figures.NotFoundError) as raised:
        figures.Cell(column, where).read(PRINTED)
    assert says in str(raised.value)


def test_a_row_that_is_broken_off_is_no_row(figures: ModuleType) -> None:
    with pytest.raises(figures.NotFoundError, match="a row of 1 cells under 2 columns"):
        figures.Cell("b").read("| a | b |\n|---|--:|\n| 1 | 2 |\n| 3 |")


def test_numbers_follow_words_that_come_once(figures: ModuleType) -> None:
    assert figures.After("rewarm/bare: median").read(PRINTED) == 0.975
    assert figures.Ratio(figures.After("median"), figures.After("min")).read(PRINTED) == 0.975 / 0.948
    for words, says in (("rewarm/trainer: median", "no numbers"), ("goal ≤", "2 numbers")):
        with pytest.raises(figures.NotFoundError, match=says):
            figures.After(words).read(PRINTED)


def test_a_finding_is_met_or_missed_or_has_no_goal(figures: ModuleType) -> None:
    rate, ratio = figures.Cell("MB/s", {"contestant": "rewarm"}), figures.Cell("ratio", {"contestant": "d.*"}, min)
    assert figures.Measured(rate, "MB/s").find(PRINTED) == figures.Finding("1,015 MB/s", "–", None)
    assert figures.Measured(rate, "MB/s", figures.at_most(2000)).find(PRINTED).met
    assert figures.Measured(ratio, "×", figures.at_least(4.8)).find(PRINTED).met
    assert figures.Measured(ratio, "×", figures.at_least(10)).find(PRINTED) == figures.Finding("4.8 ×", "≥ 10 ×", False)
    assert figures.Judged("kill to").find(PRINTED) == figures.Finding("4.1, 5.0 s", "≤ 20 s", True)
    assert figures.Judged("checkpoint stall").find(PRINTED).figure == "0.9 s: 2.1 % of the time"
    assert figures.Judged("checkpoint stall").find(PRINTED).met is False
    with pytest.raises(figures.NotFoundError, match="no lines that begin with “goodput”"):
        figures.Judged("goodput").find(PRINTED)


# -- the driver ------------------------------------------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
with Path(sys.argv[1]).open("a") as calls:
    calls.write("called ")
print("| a | b |\\n|---|--:|\\n| x | 3 |")
"""


class Driver:
    """The driver on runs and rows of the test's own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.driver, self.folder, self.monkeypatch = import_module("side_by_side"), folder, monkeypatch
        self.figures, self.runs = import_module("figures"), import_module("side_by_side_runs")
        self.at_commit("1234")
        self.has("good", SCRIPT)

    def at_commit(self, name: str) -> None:
        self.monkeypatch.setattr(self.driver, "commit_of", lambda: name)

    def has(self, name: str, script: str, *rows: Any, **fields: Any) -> None:
        """Only this run, whose script writes its calls to a file."""
        path = self.folder / f"{name}.py"
        path.write_text(script, encoding="utf-8")
        run = self.runs.Run(name, (str(path), str(self.folder / "calls")), **fields)
        reads = self.figures.Measured(self.figures.Cell("b"), "s", self.figures.at_most(3))
        self.monkeypatch.setattr(self.driver, "RUNS", (run,))
        self.monkeypatch.setattr(self.driver, "ROWS", rows or (self.runs.Row("a figure", name, reads, "a peer"),))

    def main(self, *arguments: str) -> int:
        code: int = self.driver.main(["--out", str(self.folder / "out"), *arguments])
        return code

    @property
    def calls(self) -> int:
        return (self.folder / "calls").read_text().count("called")


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    return Driver(tmp_path, monkeypatch)


def test_a_finished_script_is_run_again_for_another_commit_only(
    driver: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    assert driver.main() == 0
    assert f"| a figure | ≤ 3 s | 3 s | met | a peer | `python {driver.folder}/good.py" in capsys.readouterr().out
    assert driver.main() == 0
    assert "3 s | met" in capsys.readouterr().out
    assert driver.calls == 1
    driver.at_commit("5678")
    assert (driver.main(), driver.calls) == (0, 2)
    driver.at_commit("5678, changed")
    assert (driver.main(), driver.main(), driver.calls) == (0, 0, 4)
    assert (driver.folder / "out" / "good.txt").read_text().startswith("| a | b |")
    assert "5678, changed" in (driver.folder / "out" / "table.md").read_text()


def test_a_missed_goal_is_no_failure_and_says_what_bounds_it(
    driver: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    reads = driver.figures.Measured(driver.figures.Cell("b"), "s", driver.figures.at_most(2))
    driver.has("good", SCRIPT, driver.runs.Row("a figure", "good", reads, bound="The start of Ray."))
    assert driver.main() == 0
    said = capsys.readouterr().out
    assert "| 3 s | **missed** |" in said
    assert "- a figure: 3 s, goal ≤ 2 s. The start of Ray." in said


@pytest.mark.parametrize(
    ("end", "says"),
    [
        ("sys.exit(3)", "failed: exit code 3, see bad.log"),
        ("import os; os.kill(os.getpid(), 9)", "failed: exit code -9, see bad.log"),
        ("import time; time.sleep(600)", "failed: stopped after 0.0003 h"),
    ],
)
def test_a_script_that_fails_is_a_row_and_is_run_again(
    driver: Driver, capsys: pytest.CaptureFixture[str], end: str, says: str
) -> None:
    driver.has("bad", SCRIPT + end)
    assert driver.main("--hours", "0.0003") == 1
    assert f"| a figure | | **{says}** |" in capsys.readouterr().out
    assert (driver.main("--hours", "0.0003"), driver.calls) == (1, 2)


def test_a_figure_that_is_not_printed_is_a_row(driver: Driver, capsys: pytest.CaptureFixture[str]) -> None:
    driver.has("good", SCRIPT.replace("| b |", "| c |"))
    assert driver.main() == 1
    assert "**not found: no cells of column “b”, any row**" in capsys.readouterr().out


def test_without_a_peer_its_scripts_are_not_run(driver: Driver, capsys: pytest.CaptureFixture[str]) -> None:
    run = driver.runs.Run("peers", ("nothing.py", "{peer}"))
    after = driver.runs.Run("after", ("nothing.py",), after="peers")
    driver.monkeypatch.setattr(driver.driver, "RUNS", (run, after))
    rows = [driver.runs.Row("a figure", name, driver.figures.Judged("x")) for name in ("peers", "after")]
    driver.monkeypatch.setattr(driver.driver, "ROWS", rows)
    assert driver.main("--only", "after") == 1
    said = capsys.readouterr().out
    assert "**not run: it needs --peer-python**" in said
    assert "**not run: it needs peers, which failed**" in said


# -- the real runs and rows ------------------------------------------------------------------------------------------


def test_every_row_reads_a_run_and_every_run_is_read_or_needed() -> None:
    runs, rows = import_module("side_by_side_runs").RUNS, import_module("side_by_side_rows").ROWS
    names = [run.name for run in runs]
    assert len(set(names)) == len(names)
    assert {row.run for row in rows} | {run.after for run in runs} - {""} == set(names)
    for run in runs:
        assert not run.after or names.index(run.after) < names.index(run.name)


def test_every_script_is_there_with_the_options_it_is_given() -> None:
    for run in import_module("side_by_side_runs").RUNS:
        script, *arguments = run.command
        if script != "rewarm":
            source = (BENCHMARKS / script).read_text(encoding="utf-8")
            assert [part for part in arguments if part.startswith("--") and f'"{part}"' not in source] == [], run.name


@pytest.mark.faults
def test_every_script_says_its_options() -> None:
    scripts = {run.command[0] for run in import_module("side_by_side_runs").RUNS} - {"rewarm"}
    for script in sorted(scripts | {"side_by_side.py"}):
        command = [sys.executable, str(BENCHMARKS / script), "--help"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout[:6]) == (0, "usage:"), done.stderr
