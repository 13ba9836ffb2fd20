"""Odder input than in ``test_bad_input.py``, refused alike: YAML's oddities, options that contradict each other, names
of other scripts, and what only this program would call a number."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import small_workspace
from refusal import refused

Command = Callable[..., tuple[int, str, str]]
LONG = "x" * 5000

RECIPES: list[tuple[str | bytes, str]] = [
    ("model: {config: " + "{a: " * 60 + "1" + "}" * 61, "inside each other"),
    ("[" * 400 + "]" * 400, "recipe.yaml"),
    ("seed: 99999999999999999999", "seed: expected a whole number of at most 64 bits"),
    ("budget: {update_tokens: 1e30}", "budget.update_tokens"),
    ("seed: 1e400", "seed"),
    ("seed: 2026-01-01", "seed"),
    ("seed: true", "seed: expected a number, found True (YAML reads yes, no, on and off"),
    ("train: {num_workers: yes}", "train.num_workers: expected a number, found True"),
    ("replay: {share: off}", "replay.share: expected a share"),
    ("train: {milestones: [on]}", "train.milestones.0: expected a number"),
    ("ingest: {languages: [no]}", "ingest"),
    ("evaluate: {seed: -1}", "evaluate.seed"),
    ("evaluate: {seed: 4294967296}", "evaluate.seed"),
    ("replay:", "replay"),
    ("extends:", "extends"),
    ("extends: ''", "neither a preset"),
    ('extends: "a\\0b"', "extends"),
    ("model: {config: {hf_token: abcdefgh}}", "model.config.hf_token: ***"),
    ("description: 'key AKIAQ2W3E4R5T6Y7U2I3'", "contains a password, key or token"),
    ("replay: {share: 0.1}\n---\nreplay: {share: 0.2}", "recipe.yaml"),
    ("%YAML 9.9\n---\nseed: 1", "recipe.yaml"),
    ("replay: {share: !!float x}", "recipe.yaml"),
    ("replay: {share: !other 1}", "recipe.yaml"),
    ("replay: {by: " + LONG + "}", "replay.by"),
    ("? " + LONG + "\n: 1", "(5,000 characters)"),
    ('"a\\nrewarm: done": 1', "no setting"),
    ('"\\e[2J": 1', "no setting"),
    ('replay: {by: "\\e[2J"}', "replay.by"),
    ("replay: {share: {a: 1}}", "replay.share"),
    ("train: {deepspeed: {optimizer: 1}}", "train.weight_decay"),
]

SETTINGS = [
    ("replay={share: 7}", "replay.share"),
    ("replay={shar: 0.1}", "did you mean replay.share"),
    ("replay={1: 2}", "no setting 'replay.1'"),
    ("replay={}", "names no setting of replay"),
    ("replay=", "replay"),
    ("replay={share: 0.3, share: 0.4}", "given twice"),
    ("tokenizer={vocab_size: 999}", "fixed when the workspace was created"),
    ("model={config: {hidden_size: 64}}", "fixed when the workspace was created"),
    ("anneal={average_last: 4}", "anneal.average_last=4 would have no effect"),
    ("budget={base_tokens: 4096}", "budget.base_tokens=4096 would have no effect"),
    ("seed=99999999999999999999999", "64 bits"),
    ("train.num_workers=yes", "expected a number, found True"),
    ("model.config=[1]", "model.config"),
    ("model.config.api_key=abcdefgh1", "model.config.api_key=***"),
    (f"replay.by={LONG}", "replay.by"),
    (f"{LONG}=1", "no setting"),
    (" =1", "key=value"),
    (".=1", "no setting"),
    ("replay..share=1", "no setting"),
    ("extends=tiny", "no setting"),
    ("replay.share=0.1\n0.2", "replay.share"),
    ("replay.share=!!float x", "replay.share"),
    ("replay.share=*a", "replay.share"),
    ("train.seq_len=" + "[" * 300, "train.seq_len"),
    ("evaluate.seed=-1", "evaluate.seed"),
]

DATA = ["--data", "x={t}/good.jsonl"]
WATCH = ["watch", "{lm}", "--inbox", "{t}/full"]
COMMANDS: list[tuple[list[str], str]] = [
    (["update", "{lm}", *DATA, "--set", "replay.share=0.1", "--set", "replay.share=0.2"], "given twice"),
    (["update", "{lm}", *DATA, "--set", "replay.share=0.1", "--set", "replay={{share: 0.2}}"], "given twice"),
    (["recipe", "{lm}", "--set", "replay={{share: 0.1, by: recency}}", "--set", "replay.share=0.2"], "given twice"),
    (["recipe", "{lm}", "--set", "seed=3"], "data order"),
    (["update", "{lm}", *DATA, "--wait", "-1"], "--wait"),
    (["update", "{lm}", *DATA, "--wait", "9" * 400], "--wait"),
    (["update", "{lm}", "--data", "ñ={t}/good.jsonl"], "dataset name"),
    (["update", "{lm}", "--data", "日本={t}/good.jsonl"], "dataset name"),
    (["update", "{lm}", "--data", "x\n={t}/good.jsonl"], "dataset name"),
    (["update", "{lm}", "--data", "-x={t}/good.jsonl"], "dataset name"),
    (["update", "{lm}", "--data", "x={t}/a\nrewarm: done.jsonl"], "no such file"),
    (["update", "{lm}", "--data", "x={t}/" + "y" * 300], "cannot be read"),
    (["update", "", *DATA], "WORKSPACE is empty"),
    (["init", "", "--recipe", "tiny", *DATA], "WORKSPACE is empty"),
    (["init", " ", "--recipe", "tiny", *DATA], "WORKSPACE is empty"),
    (["init", "{t}/new", "--recipe", "", *DATA], "neither a preset"),
    (["init", "{t}/new", "--recipe", "{t}/a\nrewarm: done.yaml", *DATA], "neither a preset"),
    (["init", "{t}/new", "--recipe", "{t}/" + "y" * 300, *DATA], "cannot read the recipe"),
    (["init", "{t}/new", "--recipe", "tiny", "--from", "{t}/nowhere", *DATA], "nowhere"),
    (["init", "{t}/new", "--recipe", "tiny", "--from", "", *DATA], "expected a Hugging Face folder"),
    (["status", "{t}/a\nrewarm: done"], "no rewarm workspace"),
    (["status", "{t}/\x1b[2J"], "no rewarm workspace"),
    (["status", "{lm}", "--metrics", "--json"], "--json"),
    (["report", "{lm}", "--all", "--to", "{t}/p.html"], "give only one"),
    (["report", "{lm}", "--to", "{t}/nowhere/p.html"], "there is no folder"),
    (["report", "{lm}", "--to", "{t}/folder.html"], "is a folder"),
    (["schedule", "tiny", "--plot", "--json"], "give only one"),
    (["schedule", "tiny", "--to", "{t}/folder.html"], "is a folder"),
    (["schedule", "tiny", "--arrivals", "1000000000"], "--arrivals"),
    (["schedule", "tiny", "--tokens", "1e400"], "1e400"),
    (["schedule", "tiny", "--tokens", "1,,2"], "--tokens"),
    (["schedule", "tiny", "--tokens", "nan"], "--tokens"),
    (["settings", "--markdown", "--json"], "give only one"),
    (["export", "{lm}", "--to", "{t}/good.jsonl/x"], "is a file"),
    (["export", "{lm}", "²", "--to", "{t}/new"], "no update '²'"),
    (["promote", "{lm}", ""], "no update ''"),
    (["promote", "{lm}", "²"], "no update '²'"),
    (["promote", "{lm}", "9" * 5000], "no update"),
    (["logs", "{lm}", "²"], "no log of '²'"),
    (["samples", "{lm}", "nothing"], "no update 'nothing'"),
    (["data", "{lm}", "../docs"], "no dataset"),
    (["data", "{lm}", ""], "no dataset"),
    (["quarantine", "{lm}", "nothing"], "no dataset"),
    (["trace", "{lm}", "--text", " "], "--text"),
    (["trace", "{lm}", "abcdef", "--text", "a"], "not by both"),
    (["trace", "{lm}", "--step", "0"], "--step 0"),
    (["trace", "{lm}", "--step", "1", "abcdef"], "--step"),
    (["trace", "{lm}", "--to", "{t}/good.jsonl"], "exists"),
    (["trace", "{lm}", "ab"], "ab"),
    (["study", "{lm}", *DATA, "--row", "I: replay.share=0.1", "--row", "I: replay.share=0.2"], "given twice"),
    (["study", "{lm}", *DATA, "--row", "I: replay.share=0.1 replay.share=0.2"], "given twice"),
    (["study", "{lm}", *DATA, "--seeds", "2000000000"], "--seeds"),
    (["study", "{lm}", *DATA, "--old-weight", "nan"], "--old-weight"),
    (["study", "{lm}", *DATA, "--forecast-tokens", "inf"], "finite"),
    (["study", "{lm}", *DATA, "--name", "../x"], "--name '../x'"),
    (["study", "{lm}", *DATA, "--early-stop", "soon"], "--early-stop"),
    (["study", "{lm}", *DATA, "--baselines", "joint,none"], "none"),
    ([*WATCH, "--webhook", "http://host:99999/"], "--webhook expected http"),
    ([*WATCH, "--webhook", "http://["], "--webhook expected http"),
    ([*WATCH, "--webhook", "http://me:sec/ret@host/"], "--webhook expected http"),
    ([*WATCH, "--notify-command", ""], "--notify-command"),
    ([*WATCH, "--notify-command", "'x"], "--notify-command"),
    ([*WATCH, "--every", "nan"], "--every"),
    ([*WATCH, "--max-cost", "nan"], "--max-cost"),
    ([*WATCH, "--max-cost", "9", "--max-total-cost", "4"], "exceeds"),
    ([*WATCH, "--after-failure", "perhaps"], "--after-failure"),
    (["watch", "{lm}", "--inbox", ""], "--inbox"),
    (["watch", "{lm}", "--inbox", "{t}/good.jsonl"], "good.jsonl"),
    (["watch", "{lm}", "--once", "--status"], "give only one"),
    (["doctor", "s3://bucket/lm"], "name a folder"),
    (["compare", "{lm}", "{lm}"], "are the same model"),
    (["compare", "{lm}", "{t}/nowhere"], "nowhere"),
    (["compare", "{lm}@nothing", "{lm}"], "no update 'nothing'"),
    (["push", "{lm}", "--to", ""], "--to is empty"),
    (["push", "{lm}", "--to", "hf://x"], "hf://ORG/NAME"),
    (["push", "{lm}", "--to", "{t}/full", "--private"], "--private"),
    (["push", "{lm}", "²", "--to", "{t}/new", "--dry-run"], "no update '²'"),
    (["adopt", "{lm}", "docs"], "--from"),
    (["adopt", "{lm}", "docs", "--from", "{t}/nowhere"], "nowhere"),
    (["anneal", "{lm}", "nothing"], "no update 'nothing'"),
    (["anneal", "{lm}", "--set", "replay={{share: 0.1}}"], "replay.share: would have no effect"),
    (["tokenize", "{lm}"], "--verify"),
    (["tokenize", "{lm}", "--export", "{t}/x"], "its name"),
    (["monitoring", "--to", "{t}/good.jsonl"], "is a file"),
    (["prune", "{lm}", "--keep", "1", "--wait", "soon"], "--wait"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of three updates, good documents, and folders with a file of somebody else and with none."""
    root = tmp_path_factory.mktemp("odd")
    small_workspace.make(root / "lm")
    (root / "good.jsonl").write_text("".join(f'{{"text": "a document, number {n}"}}\n' for n in range(200)))
    (root / "full").mkdir()
    (root / "full/other.txt").write_text("somebody's")
    (root / "folder.html").mkdir()
    return root


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty current folder, which an empty path must not mean."""
    monkeypatch.chdir(here := tmp_path_factory.mktemp("cwd"))
    yield
    assert not list(here.iterdir())


@pytest.mark.parametrize(("text", "said"), RECIPES, ids=[f"{number}" for number in range(len(RECIPES))])
def test_recipes(rewarm: Command, whole: Path, tmp_path: Path, text: str | bytes, said: str) -> None:
    (tmp_path / "recipe.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    line = ["--recipe", tmp_path / "recipe.yaml", "--data", f"x={whole / 'good.jsonl'}", "--dry-run"]
    refused(rewarm, tmp_path, said, "init", tmp_path / "lm", *line)


def test_a_recipe_that_extends_itself_by_another_path(rewarm: Command, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(f"extends: ../{tmp_path.name}/recipe.yaml")
    (tmp_path / "link.yaml").symlink_to("recipe.yaml")
    for name in ("recipe.yaml", "link.yaml"):
        line = ["--recipe", tmp_path / name, "--data", f"x={whole / 'good.jsonl'}", "--dry-run"]
        refused(rewarm, tmp_path, "which extends it", "init", tmp_path / "lm", *line)


@pytest.mark.parametrize(("given", "said"), SETTINGS, ids=[given[:40] for given, _ in SETTINGS])
def test_settings(rewarm: Command, whole: Path, given: str, said: str) -> None:
    data = f"x={whole / 'good.jsonl'}"
    refused(rewarm, whole, said, "update", whole / "lm", "--data", data, "--set", given, "--dry-run")


@pytest.mark.parametrize(("line", "said"), COMMANDS, ids=[" ".join(line)[:60] for line, _ in COMMANDS])
def test_command_lines(rewarm: Command, whole: Path, line: list[str], said: str) -> None:
    places = {"lm": whole / "lm", "t": whole}
    refused(rewarm, whole, said, *(word.format(**places) for word in line))


def test_a_group_of_settings_leaves_the_others_as_they_are(rewarm: Command, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "lm", tmp_path / "lm")
    rewarm("recipe", tmp_path / "lm", "--set", "train.seq_len=8")  # as many positions as its models have
    before = json.loads(rewarm("recipe", tmp_path / "lm", "--json")[1])["recipe"]
    code, out, _ = rewarm("recipe", tmp_path / "lm", "--set", "replay={share: 0.375}", "--json")
    found = json.loads(out)
    assert (code, list(found["changed"])) == (0, ["replay.share"])
    assert found["recipe"] == before | {"replay": before["replay"] | {"share": 0.375}}


def test_reasons_are_recorded_in_one_line_and_without_secrets(rewarm: Command, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "lm", tmp_path / "lm")
    why = "as asked\nrewarm: done \x1b[2J HF_TOKEN=abcdefgh"
    code, _, error = rewarm("recipe", tmp_path / "lm", "--set", "train.seq_len=8", "--because", why)
    assert code == 0, error
    record = json.loads((tmp_path / "lm/workspace.json").read_text())["recipe_changes"][-1]
    assert record["because"] == "as asked rewarm: done ␛[2J HF_TOKEN=***"
    shown = rewarm("recipe", tmp_path / "lm")[1]
    assert "rewarm: done" in shown and "\nrewarm: done" not in shown


def test_the_tables_are_long() -> None:
    assert sum(map(len, (RECIPES, SETTINGS, COMMANDS))) >= 130
