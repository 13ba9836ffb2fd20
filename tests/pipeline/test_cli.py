"""What the command line refuses before anything is spent, with its exit codes; no cluster is needed for any of it."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rewarm.pipeline import doctor
from rewarm.pipeline.cli import app
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.update.inputs import create

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "data.jsonl"
    file.write_text("\n".join(json.dumps({"text": f"a document, number {number}"}) for number in range(50)))
    return file


@pytest.fixture
def workspace(tmp_path: Path, data: Path, rewarm: Command) -> Path:
    """A workspace whose record is there and whose base was never made."""
    made = Workspace(str(tmp_path / "workspace"))
    create(made, load_recipe("tiny"))
    return made.folder.path


def files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def test_init_refuses_and_leaves_nothing(rewarm: Command, tmp_path: Path, data: Path) -> None:
    empty, broken, recipe = tmp_path / "empty.jsonl", tmp_path / "broken.jsonl", tmp_path / "recipe.yaml"
    empty.write_text("")
    broken.write_text("{not json\n{}\n")
    recipe.write_text("replay: {share: 7}")
    target = tmp_path / "made"
    cases = [
        (["--recipe", "tiny", "--data", f"x={tmp_path / 'missing.jsonl'}"], "missing.jsonl"),
        (["--recipe", "tiny", "--data", f"x={empty}"], "empty.jsonl"),
        (["--recipe", "tiny", "--data", f"x={broken}"], "broken.jsonl"),
        (["--recipe", "tiny", "--data", "nonsense"], "NAME=PATH"),
        (["--recipe", "tiny", "--data", f"a/b={data}"], "a/b"),
        (["--recipe", "tiny"], "--data"),
        (["--recipe", "tinny", "--data", f"x={data}"], "did you mean tiny"),
        (["--recipe", recipe, "--data", f"x={data}"], "replay.share"),
        (["--recipe", "tiny", "--data", f"x={data}", "--set", "replay.shar=1"], "replay.share"),
        (["--recipe", "tiny", "--from", tmp_path / "nowhere"], "nowhere"),
        (["--recipe", "tiny", "--data", f"x={data}", "--set", "model.config.hiden_size=3"], "hiden_size"),
    ]
    for arguments, message in cases:
        code, out, error = rewarm("init", target, *arguments)
        assert (code, out) == (2, ""), (arguments, error)
        assert message in error
        assert not target.exists(), arguments


def test_update_refuses_and_leaves_nothing(rewarm: Command, workspace: Path, data: Path, tmp_path: Path) -> None:
    before = files(workspace)
    cases = [
        (["--data", f"x={tmp_path / 'missing'}"], "missing"),
        (["--data", f"x={data}", "--set", "train.sequence=3"], "no setting"),
        (["--data", f"x={data}", "--set", "model.config.hidden_size=64"], "fixed when the workspace was created"),
        ([], "--data"),
    ]
    for arguments, message in cases:
        code, out, error = rewarm("update", workspace, *arguments)
        assert (code, out) == (2, ""), (arguments, error)
        assert message in error
        assert files(workspace) == before


def test_a_plan_needs_a_base(rewarm: Command, workspace: Path, data: Path) -> None:
    code, out, error = rewarm("plan", workspace, "--data", f"x={data}")
    assert (code, out) == (2, "")
    assert "no base yet" in error


def test_a_workspace_that_is_not_one(rewarm: Command, tmp_path: Path) -> None:
    for command in (
        ["status"],
        ["report"],
        ["discard"],
        ["export", "--to", tmp_path / "out"],
        ["update", "--data", "a=b"],
        ["plan", "--data", "a=b"],
    ):
        code, _, error = rewarm(command[0], tmp_path / "nowhere", *command[1:])
        assert code == 2
        assert "no rewarm workspace" in error


@pytest.mark.parametrize(
    ("address", "expected", "message"),
    [
        ("hdfs://node/lm", 2, "a workspace is a folder, s3://BUCKET/PATH or gs://BUCKET/PATH"),
        ("s3://", 2, "a workspace is a folder, s3://BUCKET/PATH"),
        ("s3:///lm", 2, "a workspace is a folder, s3://BUCKET/PATH"),
        ("s3://KEY:HIDDEN@bucket/lm", 2, "pass them in the environment"),
        ("s3://bucket/lm?region=x&access_key=KEY&secret_key=HIDDEN", 2, "pass them in the environment"),
        ("s3://bucket/lm?session_token=HIDDEN", 2, "pass them in the environment"),
        ("s3://bucket/lm?endpoint_override=127.0.0.1:9&scheme=http&region=x", 6, "Check the address, the network"),
    ],
)
def test_an_address_that_cannot_be_is_refused(
    rewarm: Command, data: Path, address: str, expected: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REWARM_STORE_DEADLINE", "0")
    for words in (["status", address], ["init", address, "--recipe", "tiny", "--data", f"x={data}"]):
        code, _, error = rewarm(*words)
        assert (code, "HIDDEN" in error) == (expected, False)
        assert message in error


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(rewarm: Command, tmp_path: Path, data: Path) -> None:
    words = ["init", tmp_path / "made", "--recipe", "tiny", "--data", f"news={data}", "--dry-run"]
    code, out, error = rewarm(*words)
    assert code == 0, error
    assert len(out.splitlines()) <= 16
    assert max(len(line) for line in out.splitlines() if str(tmp_path) not in line) <= 80  # a path is never broken
    for said in (
        "0000-news starts from random weights",
        "news: 1 jsonl file",
        "292 steps of 16 x 256",
        "rewarm plan",
    ):
        assert said in out
    code, out, error = rewarm(*words, "--json")
    found = json.loads(out)
    assert found["update"] == "0000-news"
    assert found["files"]["news"][0]["bytes"] == data.stat().st_size
    assert not (tmp_path / "made").exists()


def test_status_of_a_begun_workspace_is_json(rewarm: Command, workspace: Path) -> None:
    code, out, _ = rewarm("status", workspace, "--json")
    found = json.loads(out)
    assert (code, found["release"], found["updates"], found["datasets"]) == (0, None, [], [])


def test_wrong_usage_exits_with_2(rewarm: Command) -> None:
    assert rewarm("updaet")[0] == 2
    assert rewarm("update")[0] == 2
    assert rewarm("status", "x", "--nonsense")[0] == 2


def test_every_command_has_help(rewarm: Command) -> None:
    names = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    assert {"init", "update", "plan", "status", "report", "export", "doctor", "demo"} <= set(names)
    for name in names:
        code, out, _ = rewarm(name, "--help")
        assert code == 0
        assert "Usage" in out


def test_schedule_shows_a_table_a_chart_json_or_a_page(rewarm: Command, tmp_path: Path) -> None:
    command = ["schedule", "tiny", "--arrivals", "2", "--set", "schedule.kind=warmup-stable-decay"]
    code, out, _ = rewarm(*command)
    assert (code, "anneal" in out, "⡇" in out) == (0, True, False)
    code, out, _ = rewarm(*command, "--plot", "--to", tmp_path / "made" / "page.html")
    assert (code, "⡇" in out) == (0, True)
    assert "warmup-stable-decay schedule" in (tmp_path / "made" / "page.html").read_text(encoding="utf-8")
    code, out, _ = rewarm(*command, "--json")
    found = json.loads(out)
    assert code == 0
    assert [update["name"] for update in found["updates"]] == ["base", "update 1", "update 2"]
    assert {(phase["phase"], phase["branch"]) for phase in found["phases"]} == {
        ("warmup", False),
        ("constant", False),
        ("anneal", True),
    }
    assert {point["update"] for point in found["points"] if point["branch"]} == {"base", "update 1", "update 2"}


def test_schedule_refuses_what_it_cannot_show(rewarm: Command, tmp_path: Path) -> None:
    cases = [
        (["tinny"], "did you mean tiny"),
        (["tiny", "--set", "schedule.rewarm=false"], "schedule: rewarm false"),
        (["tiny", "--tokens", "much"], "not a number of tokens"),
        (["tiny", "--to", tmp_path / "plot.png"], ".html"),
    ]
    for arguments, message in cases:
        code, out, error = rewarm("schedule", *arguments)
        assert (code, out) == (2, ""), arguments
        assert message in error
    assert files(tmp_path) == set()


@pytest.mark.parametrize(("command", "key"), [("settings", "replay.share"), ("recipes", "tiny")])
def test_lists_are_json_too(rewarm: Command, command: str, key: str) -> None:
    code, shown, _ = rewarm(command, "--json")
    assert code == 0
    assert key in json.loads(shown)


NO_GPU = "needs 8 GPUs, but this machine has 0: --set train.device=cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without GPUs is meant")
@pytest.mark.parametrize("options", [["--dry-run"], []])
def test_a_gpu_recipe_on_a_machine_without_gpus_is_refused_at_once(
    rewarm: Command, tmp_path: Path, data: Path, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    began, target = time.monotonic(), tmp_path / "made"
    arguments = ["--recipe", "neox-405m", "--data", f"x={data}", *options]
    code, out, error = rewarm("init", target, *arguments)
    assert (code, out) == (2, "")
    assert NO_GPU in error
    assert {Path(file).name for file in files(target)} <= {".lease", ".lease.lock"}
    assert time.monotonic() - began < 30
    code, out, _ = rewarm("init", target, *arguments[:4], "--dry-run", "--json", "--set", "train.device=cpu")
    assert code == 0
    assert json.loads(out)["awaits"] is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without GPUs is meant")
def test_the_doctor_knows_what_a_workspace_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert doctor.room(tmp_path) == []
    for name, ok in (("tiny", True), ("neox-405m", False)):
        create(Workspace(str(tmp_path / name)), load_recipe(name))
        [check] = doctor.room(tmp_path / name)
        assert check.ok is ok
        assert (NO_GPU in check.found) is not ok
