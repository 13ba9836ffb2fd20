"""What the README and the pages under docs/ print exists: commands, options, settings, paths, links, pictures."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
from documentation import PAGES, README, ROOT, WRITTEN, Page, calls
from ray.scripts.scripts import cli as ray_cli
from typer.main import get_command

from rewarm.pipeline.cli import app
from rewarm.pipeline.recipe.recipe import Recipe, load_recipe, presets, settings, settings_page
from rewarm.pipeline.report.tables import WORDS

GLOSSARY = (ROOT / "docs" / "glossary.md").read_text("utf-8")
FIRST_SCREEN = 45  # lines
FOREIGN_OPTIONS = {"--working-dir", "--entrypoint-num-cpus", "--runtime-env-json"}  # of Ray's command line, in prose
TUNING_OPTIONS = set(
    re.findall(r'add_argument\("(--\w+)"', (ROOT / "docs" / "instruction_tuning.py").read_text("utf-8"))
)
COMPANIONS = {  # settings that are refused by themselves
    "replay.by=shares": ["replay.shares={docs: 1}"],
    "schedule.rewarm=false": ["schedule.kind=cosine"],
    "select.by=classifier": ["select.reference=docs"],
}
FILE = re.compile(r"(pipeline|stages|tests|benchmarks|docs)/[\w/.-]+|[\w-]+\.(lock|toml)|cluster\.yaml")
FOREIGN_IDIOM = re.compile(
    r"\b(stands?|stood|lies|lie|goes on|go on|going on|tak(e|es|ing) in|taken in|takes? \w+ in|what became of)\b", re.I
)
by_name = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
written = pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)


def command_line() -> Any:
    return get_command(app)


def parse(group: Any, words: list[str]) -> dict[str, object]:
    """Parse as the command line does, without running: unknown commands, options and missing arguments raise."""
    options = [option for param in group.params for option in param.opts]
    if words[0] in options:
        return {}
    context = click.Context(group, info_name=group.name)
    name, command, rest = group.resolve_command(context, list(words))
    assert command is not None
    if isinstance(command, click.Group):
        return parse(command, rest)
    with command.make_context(name, list(rest), parent=context) as parsed:
        return dict(parsed.params)


@pytest.mark.parametrize("words", calls(), ids=" ".join)
def test_every_call_is_one_the_command_line_takes(words: list[str]) -> None:
    if "--help" in words:
        assert words[0] == "--help" or words[0] in command_line().commands
        return
    found = parse(command_line(), words)
    recipe = str(found.get("recipe") or "tiny")
    assert recipe in presets()
    grid = [f"{one.split('=')[0]}={value}" for one in words_of(found, "grid") for value in values_of(one)]
    rows = [part for row in words_of(found, "row") for part in row.partition(":")[2].split()]
    for assignments in (words_of(found, "sets"), *([one] for one in grid), rows):
        load_recipe(recipe, assignments)
    assert all("=" in value for value in words_of(found, "data"))


def words_of(found: dict[str, object], name: str) -> list[str]:
    values = found.get(name) or []
    assert isinstance(values, list)
    return [str(value) for value in values]


def values_of(grid: str) -> list[str]:
    return grid.partition("=")[2].split(",")


def test_calls_are_found_and_wrong_ones_would_be_noticed() -> None:
    assert {words[0] for words in calls()} >= set(command_line().commands) - {"recipes"}
    for wrong in (["udpate", "lm"], ["update", "lm", "--replay", "1"], ["export", "lm"], ["init", "lm"]):
        with pytest.raises((Exception, SystemExit), match=r"(?i)no such|missing"):
            parse(command_line(), wrong)


def check_ray(words: list[str]) -> None:
    parse(ray_cli, words)
    assert all((ROOT / word).exists() for word in words if word.endswith(".yaml"))


def check_make(words: list[str]) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {word for word in words if "=" not in word} <= targets


def check_paths(words: list[str]) -> None:
    named = [word for word in words if "/" in word and "." in word.rpartition("/")[2] and "example.org" not in word]
    assert all((ROOT / word).exists() for word in named), words


CHECKS = {
    "rewarm": lambda _: None,  # above
    "ray": check_ray,
    "make": check_make,
    **dict.fromkeys(("docker", "kubectl", "python"), check_paths),
    **dict.fromkeys(("export", "source", "mkdir", "mv", "cd", "pip", "prometheus", "curl"), lambda _: None),
}


@by_name
def test_every_other_command_is_known_and_names_what_exists(page: Page) -> None:
    for program, *words in page.commands():
        assert program in CHECKS, program
        CHECKS[program](words)


def test_the_words_of_the_report_are_those_of_the_glossary_and_in_the_readme() -> None:
    rows = {
        row.split("|")[1].strip(): row.split("|")[2].strip() for row in GLOSSARY.splitlines() if row.startswith("| ")
    }
    for word, meaning in WORDS.items():
        assert rows[word].replace("`", "") == meaning
        assert f"*{word}" in README.text


@by_name
def test_commands_and_options_in_the_prose_exist(page: Page) -> None:
    commands: dict[str, Any] = command_line().commands
    options = {name: {opt for param in command.params for opt in param.opts} for name, command in commands.items()}
    for text in page.inline:
        words = text.split()
        if words[0] == "rewarm" and len(words) > 1 and not words[1].startswith("-"):
            assert words[1] in commands, text
            assert {word for word in words if word.startswith("--")} <= options[words[1]], text
        if text.startswith("--") and text != "--":
            assert re.split(r"[ =]", text)[0] in set().union(*options.values(), FOREIGN_OPTIONS, TUNING_OPTIONS), text


@written
def test_settings_and_values_in_the_prose_exist(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hosts.txt").write_text("ads.example.org\n")
    names = {name for name, _, _ in settings()}
    sections = {name for name in Recipe.model_fields if any(other.startswith(f"{name}.") for other in names)}
    texts = [text.removeprefix("--set ") for text in page.inline]
    found = [re.fullmatch(r"((\w+)\.[\w.]+)([=:].*)?", text) for text in texts]
    suffixes = (".json", ".yaml", ".png", ".html", ".md", ".py", ".data")
    dotted = {match[1] for match in found if match and match[2] in sections and not match[1].endswith(suffixes)}
    assert dotted <= names
    assigned = [text for text in texts if re.match(r"\w+\.[\w.]+=", text) and text.partition("=")[0] in names]
    for one in assigned:
        if not one.endswith(("FOLDER", "TOKEN")):
            load_recipe("tiny", [one, *COMPANIONS.get(one, [])])


def test_every_recipe_and_many_settings_are_named() -> None:
    inline = {text for page in WRITTEN for text in page.inline}
    assert set(presets()) <= inline
    assert len({name for name, _, _ in settings()} & inline) >= 60


@by_name
def test_links_anchors_pictures_and_files_exist(page: Page) -> None:
    pages = {other.path: other for other in PAGES}
    for link in re.findall(r"\]\(([^)\s]+)\)", page.prose):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.path.parent / path).resolve() if path else page.path
        assert target.exists(), link
        assert not anchor or anchor in pages[target].anchors, link
    for text in page.inline:
        if FILE.fullmatch(text):
            assert (ROOT / text).exists(), text


def test_the_picture_is_small_and_as_wide_as_a_page() -> None:
    [picture] = (ROOT / "docs" / "images").glob("*.png")
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) < 150_000
    assert int.from_bytes(data[16:20]) == 1100


def test_the_readme_fits_and_its_first_screen_says_what_was_run() -> None:
    lines = README.text.splitlines()
    assert len(lines) <= 230
    first = "\n".join(lines[:FIRST_SCREEN])
    for part in (
        "arrival -> ingest",
        ".png)",
        "make install",
        "make demo",
        "rewarm update",
        "**Status",
        "docs/data.md",
    ):
        assert part in first, part
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)\)", README.text))
    assert linked == {page.name for page in PAGES if page.name.startswith("docs/")}, "every page is linked"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name.startswith("docs/")], ids=lambda page: page.name)
def test_each_page_opens_with_its_command(page: Page) -> None:
    assert re.match(r"# [A-Z][\w ]+\n\n(```bash\n(rewarm|make|pip)|```python\nfrom rewarm) ", page.text)


def test_the_page_of_settings_is_current() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == settings_page(), "run `make docs`"


def test_the_page_of_commands_has_every_command_and_environment_variable() -> None:
    [page] = [page for page in PAGES if page.name == "docs/commands.md"]
    commands: dict[str, Any] = command_line().commands
    assert {text.removeprefix("rewarm ") for text in page.inline if text.startswith("rewarm ")} == set(commands)
    sources = [
        path.read_text(encoding="utf-8") for name in ("pipeline", "stages") for path in (ROOT / name).rglob("*.py")
    ]
    used = {name for source in sources for name in re.findall(r'"(REWARM_[A-Z_]*[A-Z])"', source)}
    assert {name for name in used if name != "REWARM_NOTICE"} == {
        text for text in page.inline if re.fullmatch(r"REWARM_[A-Z_]+", text)
    }
    without = {name for name, one in commands.items() if not any("--json" in param.opts for param in one.params)}
    assert without == {"discard", "demo", "logs", "report", "monitoring", "export", "convert"}


def test_the_glossary_has_each_term_once_in_order() -> None:
    [page] = [page for page in PAGES if page.name == "docs/glossary.md"]
    terms = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", page.text, re.MULTILINE)[1:]
    keys = [re.sub("[- ]", "", term.replace("η", "eta")).lower() for term in terms]
    assert all(before < after for before, after in pairwise(keys)), terms
    assert {"trunk", "release", "anneal", "arrival", "lineage", "gate", "nats", "ingest", "promote"} <= set(terms)


@written
def test_the_language_is_plain(page: Page) -> None:
    assert not FOREIGN_IDIOM.findall(page.prose)
    titles = re.findall(r"^#+ (.+)$", page.prose, re.MULTILINE)
    assert not [title for title in titles if re.match(r"(What|How|Which|Where) ", title)]


def test_the_package_says_its_license_and_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    license_text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert project["license"] == "Apache-2.0"
    assert license_text.split()[:2] == ["Apache", "License"]
    assert "END OF TERMS AND CONDITIONS" in license_text
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert project["version"] in changes
    assert "## [Unreleased]" in changes
