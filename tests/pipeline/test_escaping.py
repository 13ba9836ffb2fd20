"""Control sequences of documents, names and addresses: none reaches a terminal, a log or a notice."""

import ast
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rewarm.pipeline.escaping import entry, message, visible
from rewarm.pipeline.progress.log import Journal
from rewarm.pipeline.terminal import SafeConsole
from rewarm.stages.core.storage import Folder

Command = Callable[..., tuple[int, str, str]]
SOURCE = Path(__file__).parents[2]
EVIL = "a\x1b]0;owned\x07\x1b[2J\x9b31mb\u202ec\u2066d\r\x00\u2028e\ue000"
# No terminal acts on these: all controls but line ends and tabs, what turns text round, tags, halves of pairs.
RAW = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
TABLE = [
    ("plain, 日本語, עברית, العربية, हिन्दी", "plain, 日本語, עברית, العربية, हिन्दी"),
    ("two\nlines\tand a tab", "two\nlines\tand a tab"),
    ("می\u200cخواهم 👩\u200d🚀", "می\u200cخواهم 👩\u200d🚀"),
    ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
    ("\x1b]8;;https://evil\x07link\x1b]8;;\x07", "␛]8;;https://evil␇link␛]8;;␇"),
    ("over\rwritten", "over␍written"),
    ("bell\a, backspace\b, null\0, delete\x7f", "bell␇, backspace␈, null␀, delete␡"),
    ("\x9b31m\x9d0;title\x9c", "�31m�0;title�"),
    ("\x85next line", "�next line"),
    ("exe\u202efdp.txt", "exe�fdp.txt"),
    ("\u202a\u202b\u202c\u202d", "����"),
    ("\u2066a\u2067b\u2068c\u2069", "�a�b�c�"),
    ("\u200e\u200f\u061c", "���"),
    ("line\u2028para\u2029", "line�para�"),
    ("\ufeffbom \ufff9note\ufffb", "�bom �note�"),
    ("tag\U000e0041\U000e007f", "tag��"),
    ("name\udcff\udc80", "name��"),
    ("[red]markup[/red] :smile: [link=https://x]y[/link]", "[red]markup[/red] :smile: [link=https://x]y[/link]"),
    ("\x0b\x0c\x1c\x1d\x1e\x1f", "␋␌␜␝␞␟"),
    ("", ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "shown"), TABLE)
def test_controls_become_visible_and_the_rest_stays(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown
    assert not RAW.search(shown)
    assert visible({text: [text, (text, 1, None)]}) == {shown: [shown, (shown, 1, None)]}


@pytest.mark.parametrize(("text", "shown"), TABLE)
@pytest.mark.parametrize("form", ["string", "cell", "title", "text", "group"])
def test_the_console_shows_the_same_in_whatever_it_is_put(text: str, shown: str, form: str) -> None:
    table = Table("name", title=text if form == "title" else None)
    table.add_row(text if form == "cell" else Text(text))
    what = {"string": text, "text": Text(text), "group": Group(Panel(Text(text), title="t"), text)}.get(form, table)
    for forced in (True, False):  # a terminal in colour, and a file
        file = io.StringIO()
        SafeConsole(file=file, width=120, force_terminal=forced, color_system=None).print(what)
        printed = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue()) if forced else file.getvalue()
        assert not RAW.search(printed), ascii(printed)
        file.getvalue().encode()
        if shown.isascii() and shown.isprintable():
            assert shown in printed


def test_a_message_has_no_secrets_and_an_entry_of_a_log_no_lines_of_its_own(tmp_path: Path) -> None:
    assert message(f"https://u:p@h/{EVIL}").startswith("https://***@h/a␛]0;owned␇␛[2J")
    assert entry("failed:\n2026-01-01 00:00:00 released\n") == "failed:\n    2026-01-01 00:00:00 released"
    Journal(Folder(tmp_path), "0001-news").line(f"see https://u:p@h/x {EVIL}\n2026-01-01T00:00:00+00:00  done")
    lines = (tmp_path / "logs" / "0001-news.txt").read_text().split("\n")
    assert len(lines) == 3 and not any(map(RAW.search, lines))
    assert "https://***@h/x" in lines[0] and lines[1].startswith("    2026")


def test_nothing_else_writes_to_the_terminal() -> None:
    """One place makes text visible: whatever prints goes through it, or says here why it need not."""
    allowed = {
        ("pipeline/terminal.py", "typer.echo"),  # the place
        ("pipeline/watch/actions.py", "sys.stdout.write"),  # `say`, with `entry`
        ("pipeline/watch/child.py", "sys.stdout.write"),  # a child's output, with `visible`
        ("stages/ingest/html/guarded.py", "sys.stdout.write"),  # a pipe to its parent
        ("stages/core/operators.py", "print"),  # a compiler's error, of a command of its own
    }
    found = set()
    for file in [*(SOURCE / "pipeline").rglob("*.py"), *(SOURCE / "stages").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in ("print", "typer.echo", "typer.secho", "click.echo", "Console") or re.fullmatch(
                    r"sys\.(stdout|stderr)\.(buffer\.)?write", name
                ):
                    found.add((file.relative_to(SOURCE).as_posix(), name))
    assert found == allowed


@pytest.mark.parametrize(
    "words",
    [
        ["status", EVIL],
        ["update", "{lm}", "--data", f"news={EVIL}"],
        ["update", "{lm}", "--data", EVIL],
        ["update", "{lm}", "--data", "news={hostile}"],
        ["plan", "{lm}", "--data", "news=https://u:secret9@127.0.0.1:9/x?sig=secret9\u202e.jsonl"],
        ["watch", "{lm}", "--inbox", EVIL],
        ["trace", "{lm}", EVIL],
        ["data", "{lm}", EVIL],
        ["export", "{lm}", EVIL, "--to", EVIL],
        ["schedule", EVIL],
        ["promote", "{lm}", EVIL],
        ["init", EVIL, "--recipe", EVIL],
        ["update", "{lm}", "--data", "news=x", "--set", EVIL],
        ["logs", "{lm}", EVIL],
    ],
)
def test_errors_show_no_controls_and_no_secrets(rewarm: Command, tmp_path: Path, words: list[str]) -> None:
    from watch_world import with_base

    from rewarm.pipeline.lineage.workspace import Workspace
    from rewarm.pipeline.recipe.recipe import load_recipe
    from rewarm.pipeline.update.inputs import create

    made = Workspace(str(tmp_path / "lm"))
    create(made, load_recipe("tiny"))
    with_base(made)
    hostile = tmp_path / EVIL.replace("\x00", "")
    hostile.mkdir()
    (hostile / "x\x1b[2J.jsonl").write_text("{not json\n")
    given = [word.replace("{lm}", str(tmp_path / "lm")).replace("{hostile}", str(hostile)) for word in words]
    code, out, error = rewarm(*(word.replace("\x00", "") for word in given))
    assert code != 0
    assert error.startswith("rewarm: ")
    assert not RAW.search(out + error), ascii(out + error)
    assert "secret9" not in out + error


def test_a_process_s_command_line_shows_no_secrets(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from rewarm.pipeline.cli.concealed import conceal\n"
        "conceal()\n"
        "import psutil, json\n"
        "print(json.dumps([sys.argv[1:], psutil.Process().cmdline(), pathlib.Path('/proc/self/environ').read_text()]))"
    )
    words = ["watch", "lm", "--webhook", "https://h/s3cr3t", "--notify-command=tell s3cr3t", "--set", "a=1"]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=SOURCE, capture_output=True, text=True, check=True,
        env={"PATH": "/usr/bin", "MARK": "kept"},
    )  # fmt: skip
    argv, shown, environ = json.loads(done.stdout)
    assert argv == words
    assert "s3cr3t" not in " ".join(shown)
    assert [word.rstrip() for word in shown[3:]] == [
        *("watch", "lm", "--webhook", "https://h/***", "--notify-command=tell ***", "--set", "a=1")
    ]
    assert "MARK=kept" in environ
