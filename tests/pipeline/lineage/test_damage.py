"""Damaged workspaces: every command ends with one line and an exit code, and loses nothing."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import small_workspace
from release_world import files_of

from rewarm.pipeline.lineage.commits import read_log
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.stages.core.errors import StageError
from rewarm.stages.core.storage import Folder

Command = Callable[..., tuple[int, str, str]]
Damage = Callable[[Path], object]
LAST, BASE = "updates/0002-code", "updates/0000-docs"

SMALL = {  # the small files of a workspace, each with the commands that have to have it
    "workspace.json": "status report update plan discard verify promote rollback prune export data trace push",
    "commits/00000000.json": "status report update plan discard promote rollback prune export trace push verify",
    "commits/00000002.json": "status report update plan discard promote rollback prune export trace push verify",
    f"{BASE}/update.json": "status report update plan discard promote rollback prune export trace push verify",
    f"{LAST}/update.json": "status report update plan discard promote rollback prune export trace push verify",
    "releases.json": "verify prune",
    f"{LAST}/plan.json": "report verify",
    f"{LAST}/trunk/manifest.json": "report verify",
    f"{LAST}/mixture/mixture.json": "trace",
    f"{LAST}/trunk/curve.json": "report",
    f"{LAST}/pruned.json": "prune export push",
    "datasets/news/manifest.json": "report verify",
    "datasets/news/account.json": "data report verify",
    "logs/progress.json": "",
    "watch/journal.jsonl": "",
    "datasets/news/quarantine/00000.parquet": "quarantine verify",
    "datasets/news/documents/00000.parquet": "trace_document verify",
    "datasets/news/tokens/train/00000.arrow": "trace",
}
WAYS: dict[str, Damage] = {
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "zeros": lambda file: file.write_bytes(bytes(300)),
    "null": lambda file: file.write_bytes(b"null"),
    "list": lambda file: file.write_bytes(b"[]"),
    "text": lambda file: file.write_bytes(b'"\x1b[2J[/bold]"'),
    "no fields": lambda file: file.write_bytes(b"{}"),
    "other types": lambda file: file.write_text(json.dumps(other_types(file))),
    "a later format": lambda file: file.write_text(json.dumps({**as_object(file), "format": 99, "version": 99})),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "a link to itself": lambda file: (file.unlink(), file.symlink_to(file.name)),
    "latin-1": lambda file: file.write_bytes(b'{"\xe9": "\xff"}'),
}


EVERYTHING = {("workspace.json", "cut"), ("commits/00000000.json", "cut"), (f"{LAST}/update.json", "a folder")}
BINARY = ("empty", "cut", "text", "a folder")  # ways to damage a shard: readers of Arrow and Parquet tell no more apart
ROWS = [(file, way) for file in SMALL for way in WAYS if file.endswith(".json") or way in BINARY]


def as_object(file: Path) -> dict[str, Any]:
    """A file's value, if that is a JSON object."""
    try:
        value = json.loads(file.read_bytes())
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def other_types(file: Path) -> dict[str, Any]:
    """Every field with a value of another type."""
    return {name: 7 if isinstance(value, str | dict | list) else "seven" for name, value in as_object(file).items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = small_workspace.make(tmp_path_factory.mktemp("damage") / "lm").folder.path
    (made / LAST / "pruned.json").write_text("{}")
    return made


@pytest.fixture
def lm(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "lm"))


@pytest.fixture
def commands(lm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[object]]:
    """A command line of every kind. None of them begins training, so none gets a cluster."""

    @contextmanager
    def none(**_: object) -> Iterator[None]:
        raise StageError("no cluster in this test")
        yield

    for module in ("api.updates", "cli.data"):
        monkeypatch.setattr(f"rewarm.pipeline.{module}.connected", none)
    text = tmp_path / "late.txt"
    text.write_text("a late text")
    late = ["--data", f"late={text}"]
    return {
        "status": ["status", lm],
        "status_json": ["status", lm, "--json"],
        "report": ["report", lm],
        "update": ["update", lm, *late, "--dry-run"],
        "plan": ["plan", lm, *late],
        "study": ["study", lm, *late, "--dry-run"],
        "discard": ["discard", lm],
        "verify": ["verify", lm, "--quick"],
        "promote": ["promote", lm, "1", "--dry-run"],
        "rollback": ["rollback", lm, "--dry-run"],
        "prune": ["prune", lm, "--keep", "1"],
        "export": ["export", lm, "--to", tmp_path / "out"],
        "data": ["data", lm, "news"],
        "quarantine": ["quarantine", lm, "news"],
        "trace": ["trace", lm],
        "trace_document": ["trace", lm, "--text", "train text 3 of news"],
        "push": ["push", lm, "--to", tmp_path / "there", "--dry-run"],
        "logs": ["logs", lm],
        "watch": ["watch", lm, "--status"],
        "watch_dry": ["watch", lm, "--inbox", tmp_path, "--dry-run"],
        "tokenize": ["tokenize", lm, "news", "--verify"],
        "convert": ["convert", lm],
        "init": ["init", lm, "--recipe", "tiny", *late, "--dry-run"],
    }


def test_the_whole_workspace_is_readable_by_every_command(rewarm: Command, commands: dict[str, list[object]]) -> None:
    codes = {name: rewarm(*arguments)[0] for name, arguments in commands.items()}
    fails = {
        "export",
        "plan",
        "promote",
        "rollback",
        "verify",
        "tokenize",
        "init",
    }  # no cluster, made-up weights, a base is there
    assert {name for name, code in codes.items() if code} <= fails, codes


@pytest.mark.parametrize(("file", "way"), ROWS)
def test_every_command_ends_with_one_line(
    rewarm: Command, commands: dict[str, list[object]], lm: Path, file: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REWARM_TRACEBACK", raising=False)
    WAYS[way](lm / file)
    before = {} if way == "a link to itself" else files_of(Folder(lm))
    wanted = set(commands) if (file, way) in EVERYTHING else {"status", *SMALL[file].split()}
    for name, arguments in ((name, commands[name]) for name in commands if name in wanted):
        code, out, error = rewarm(*arguments)
        last = error.strip().splitlines()[-1:] or [""]
        assert code in (0, 1, 2, 3, 7), (name, error)
        assert "Traceback" not in error + out, name
        assert "is a bug in rewarm" not in error, (name, error)
        assert "\x1b" not in out + error, name
        if code and name != "verify":
            assert last[0].startswith("rewarm: "), (name, error)
        if name in SMALL[file].split() and way not in harmless(file):
            assert code, (name, out, error)
            assert file in out + error or elsewhere(error), (name, out, error)
    if before:
        after = files_of(Folder(lm))
        changed = {path for path in before if before[path] != after.get(path)}
        assert not {path for path in changed if not path.startswith("report/")}


def elsewhere(error: str) -> bool:
    """Whether the workspace was refused as one of another version, or by the pointer that knows of a lost commit."""
    return (
        "has format 99, this rewarm reads format 3" in error
        or "releases.json: expected the summary of the log" in error
        or ("but releases.json records commit 2" in error)
    )


def harmless(file: str) -> set[str]:
    """The ways that a reader cannot tell from a file that is whole, or from one that need not be there."""
    common = (
        {"a later format"} if not file.startswith(("workspace", "commits", "releases", LAST + "/up", BASE)) else set()
    )
    if file.endswith("pruned.json"):
        common |= {"no fields", "other types"}
    if file.startswith(("datasets", LAST + "/pruned", LAST + "/plan", LAST + "/mix", LAST + "/trunk")):
        common |= {"a folder", "a link to itself"}
    if file.endswith("mixture.json"):
        common |= {"other types"}  # named as an order of another version
    return common if not file.endswith(("parquet", "arrow")) else common - {"a later format"}


def cut_log(at: Path, number: int) -> None:
    """Lose a commit."""
    (at / f"commits/0000000{number}.json").unlink()


def older_pointer(at: Path) -> None:
    """A copy of ``releases.json`` from before the last two updates."""
    value = json.loads((at / "releases.json").read_text())
    (at / "releases.json").write_text(
        json.dumps({"current": "0000-docs", "commits": 1, "last": "", "history": value["history"][:1]})
    )


def small_change(file: Path, **fields: object) -> None:
    """Other values of some fields."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def tomorrow(at: Path) -> None:
    """A recipe with a setting that this version does not know."""
    value = json.loads((at / "workspace.json").read_text())
    value["recipe"]["train"]["quantum"] = True
    (at / "workspace.json").write_text(json.dumps(value))


LOST: dict[str, tuple[Damage, str | None]] = {
    "an older releases.json": (older_pointer, None),
    "no releases.json": (lambda at: (at / "releases.json").unlink(), None),
    "no commits": (lambda at: shutil.rmtree(at / "commits"), "verify --repair"),
    "the last commits lost": (lambda at: [cut_log(at, n) for n in (1, 2)], "verify --repair"),
    "a commit in the middle lost": (lambda at: (at / "commits/00000001.json").unlink(), "00000001.json: missing"),
    "no records": (lambda at: [one.unlink() for one in at.glob("updates/*/update.json")], "update.json"),
    "no updates": (lambda at: shutil.rmtree(at / "updates"), "update.json"),
    "no workspace.json": (lambda at: (at / "workspace.json").unlink(), "workspace.json: missing"),
    "no plans": (lambda at: [one.unlink() for one in at.glob("updates/*/plan.json")], None),
    "no datasets": (lambda at: shutil.rmtree(at / "datasets"), None),
    "no models": (lambda at: [shutil.rmtree(one) for one in at.glob("updates/*/*/model")], None),
    "a file for the updates": (lambda at: (shutil.rmtree(at / "updates"), (at / "updates").write_bytes(b"")), "update"),
    "a copied update": (lambda at: shutil.copytree(at / LAST, at / "updates/0002-code.bak"), None),
    "a stray update": (lambda at: shutil.copytree(at / LAST, at / "updates/0007-code"), "no commit of 0007-code"),
    "notes among the updates": (lambda at: (at / "updates" / "notes").mkdir(), None),
    "a format of tomorrow": (lambda at: small_change(at / "workspace.json", format=4), "has format 4"),
    "a recipe of tomorrow": (tomorrow, None),
    "a gate of tomorrow": (lambda at: small_change(at / "workspace.json", recipe={"gate": {"x": 1}}), "recipe.gate"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "says"), LOST.values(), ids=list(LOST))
def test_lost_parts_are_named_and_lose_nothing(
    rewarm: Command, commands: dict[str, list[object]], lm: Path, damage: Damage, says: str | None
) -> None:
    damage(lm)
    before = files_of(Folder(lm))
    for name, arguments in commands.items():
        code, out, error = rewarm(*arguments)
        assert code in (0, 1, 2, 3, 7), (name, error)
        assert "Traceback" not in error + out and "is a bug in rewarm" not in error, (name, error)
        if says is not None and name in ("status", "update", "discard", "rollback", "report", "export"):
            assert code, name
            assert says in error, (name, error)
    after = files_of(Folder(lm))
    assert {path for path in before if before[path] != after.get(path) and not path.startswith("report/")} == set()


def alone(at: Path) -> None:
    """Keep only ``workspace.json``."""
    for one in at.iterdir():
        if one.name != "workspace.json":
            shutil.rmtree(one) if one.is_dir() else one.unlink()


def begin(at: Path, update: str) -> None:
    """An update of which only the plan and a torn file of a stage were written."""
    (at / "updates" / update / "trunk/model").mkdir(parents=True)
    (at / "updates" / update / "trunk/model/model.safetensors").write_bytes(b"torn")
    plan = json.loads((at / f"{BASE}/plan.json").read_text()) if (at / BASE).exists() else {}
    recipe = json.loads((at / "workspace.json").read_text())["recipe"]
    begun = {**plan, "arrival": update[5:], "data": {update[5:]: "0d"}, "recipe": recipe, "plan": None, "started": "x"}
    (at / "updates" / update / "plan.json").write_text(json.dumps(begun))


HALF: dict[str, tuple[Damage, str]] = {
    "only workspace.json": (alone, ""),
    "an update that was just begun": (lambda at: begin(at, "0003-late"), "0003-late"),
    "a base that was just begun": (lambda at: (alone(at), begin(at, "0000-late")), "0000-late"),
}


@pytest.mark.parametrize(
    ("half", "begun"),
    [pytest.param(*HALF[name], marks=pytest.mark.faults if "only" in name else ()) for name in HALF],
    ids=HALF,
)
def test_half_made_workspaces_are_understood_and_lose_nothing(
    rewarm: Command, commands: dict[str, list[object]], lm: Path, half: Damage, begun: str
) -> None:
    half(lm)
    before = files_of(Folder(lm))
    for name, arguments in commands.items():
        if name == "discard":
            continue
        code, out, error = rewarm(*arguments)
        assert code in (0, 1, 2, 7), (name, error)  # 7: the weights are made up
        assert "Traceback" not in error + out and "is a bug in rewarm" not in error, (name, error)
        assert not code or name == "verify" or error.splitlines()[-1].startswith("rewarm: "), (name, error)
    assert unlike(before, files_of(Folder(lm))) == set()
    code, out, _ = rewarm(*commands["discard"])
    assert (code, out) == (0, f"discarded {begun}\n" if begun else "there is no unfinished update\n")
    left = {path for path in unlike(before, files_of(Folder(lm))) if not path.startswith(f"updates/{begun}/")}
    assert left <= ({"workspace.json"} if begun.startswith("0000") else set())


def unlike(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    """The files that were changed or removed, without pages of the report."""
    return {path for path in before if before[path] != after.get(path) and not path.startswith("report/")}


def test_a_damaged_log_is_rebuilt_by_verify(rewarm: Command, lm: Path) -> None:
    before = files_of(Folder(lm / "commits"))
    shutil.rmtree(lm / "commits")
    code, out, error = rewarm("verify", lm, "--quick", "--repair")
    assert error.count("repaired: commits/") == 3
    assert files_of(Folder(lm / "commits")) == before
    assert Lineage(Workspace(str(lm))).release == "0002-code"
    assert read_log(Folder(lm)).current == "0002-code"
    assert "commits" not in out.split("problem")[0] or code == 1


# -- what documents and settings bring -------------------------------------------------------------------------------


def test_markup_and_control_sequences_are_shown_as_text(rewarm: Command, lm: Path) -> None:
    for command in ("data", "quarantine"):
        code, out, error = rewarm(command, lm, "news")
        assert (code, error) == (0, "")
        assert "\x1b" not in out
    assert "[bold]en" in rewarm("data", lm, "news")[1]
    assert "[/x]␛[2J" in rewarm("data", lm, "news")[1]


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "1e999", "inf", "nan"])
@pytest.mark.parametrize("key", ["schedule.peak", "replay.share", "gate.max_forgetting", "cost.per_worker_hour"])
def test_settings_are_finite(rewarm: Command, lm: Path, tmp_path: Path, key: str, value: str) -> None:
    (tmp_path / "late.txt").write_text("a late text")
    data = ["--data", f"late={tmp_path / 'late.txt'}"]
    for command in (["update", lm, *data, "--dry-run"], ["init", tmp_path / "new", "--recipe", "tiny", *data]):
        code, _, error = rewarm(*command, "--set", f"{key}={value}")
        assert (code, key in error, "Traceback" in error) == (2, True, False), error


def test_infinity_inside_a_free_setting_is_refused_too(rewarm: Command, tmp_path: Path) -> None:
    (tmp_path / "late.txt").write_text("a late text")
    given = ["--data", f"late={tmp_path / 'late.txt'}", "--set", "model.config={rope_theta: .inf}"]
    code, _, error = rewarm("init", tmp_path / "new", "--recipe", "tiny", *given)
    assert (code, "model.config.rope_theta: expected a finite number, found inf" in error) == (2, True)


def test_long_names_are_refused_before_anything(rewarm: Command, lm: Path, tmp_path: Path) -> None:
    (tmp_path / "late.txt").write_text("a late text")
    names = [f"{letter * 60}" for letter in "abc"]
    data = [part for name in names for part in ("--data", f"{name}={tmp_path / 'late.txt'}")]
    code, _, error = rewarm("update", lm, *data)
    assert (code, "3 datasets: the update's name would have 182 characters" in error) == (2, True), error
    for place in (f"/tmp/{'x' * 300}", "/tmp/" + "x/" * 3000):
        for command in (["status", place], ["init", place, "--recipe", "tiny", *data[:2]], ["verify", place]):
            code, _, error = rewarm(*command)
            assert code in (1, 2, 7) and "Traceback" not in error and error.count("\n") == 1, error


def test_a_file_of_another_user_is_named(rewarm: Command, lm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_bytes

    def refuse(self: Path) -> bytes:
        if self.name == "update.json":
            raise PermissionError(13, "Permission denied", str(self))
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    code, _, error = rewarm("status", lm)
    assert code == 1 and error.startswith(f"rewarm: {lm}/updates/0000-docs/update.json: Permission denied; run the "), (
        error
    )
    assert error.count("\n") == 1


def test_an_error_that_nothing_foresaw_is_one_line(rewarm: Command, lm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug\nof ours")

    monkeypatch.setattr("rewarm.pipeline.lineage.status.status", fail)
    code, _, error = rewarm("status", lm)
    assert code == 1
    assert error.startswith("rewarm: RuntimeError at test_damage.py:") and error.count("\n") == 1
    monkeypatch.setenv("REWARM_TRACEBACK", "1")
    with pytest.raises(RuntimeError, match="a bug"):
        rewarm("status", lm)
