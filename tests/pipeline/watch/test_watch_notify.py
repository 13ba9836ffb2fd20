"""Notices to a real web server and a real command: in order, again after failures, on after a restart."""

import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from watch_webhook import webhook
from watch_world import START, after

from pipeline.watch.book import Arrival
from pipeline.watch.journal import Event
from pipeline.watch.notify import TRIES, Command, Notifier, Target, Webhook
from pipeline.watch.words import make_notice
from stages.storage import Folder


@pytest.fixture
def server() -> Iterator[Any]:
    with webhook() as made:
        yield made


def notice(seq: int) -> dict[str, Any]:
    details = {"why": "broken", "because": "no text", "begun": "f0", "sets": ["a=b"]}
    event = Event(seq, "2026-11-21T12:00:00+00:00", "held", "/in/news", details)
    return make_notice(event, Arrival("/in/news", "news", "f0", ""), "/lm", "/in")


def notifier(folder: Path, *targets: Target, newest: int = 0) -> Notifier:
    return Notifier.of(Folder(folder), targets, newest)


def test_a_notice_says_what_happened_and_nothing_internal() -> None:
    found = notice(7)
    assert {name: found[name] for name in ("event", "seq", "workspace", "inbox", "arrival", "path", "because")} == {
        "event": "held", "seq": 7, "workspace": "/lm", "inbox": "/in", "arrival": "news", "path": "/in/news",
        "because": "no text",
    }  # fmt: skip
    assert found["text"] == "news: HELD (broken): no text"
    assert "f0" not in json.dumps(found)


def test_a_webhook_gets_every_notice_once_and_in_order(server: Any, tmp_path: Path) -> None:
    made = notifier(tmp_path, Webhook(server.url))
    for seq in (3, 5):
        made.add(notice(seq))
    assert list(made.deliver(START)) == []
    assert list(made.deliver(START)) == []
    assert [one["seq"] for one in server.notices] == [3, 5]
    assert made.queue == []


def test_a_webhook_that_is_down_is_asked_again_later(server: Any, tmp_path: Path) -> None:
    server.refuses = True
    made = notifier(tmp_path, Webhook(server.url))
    made.add(notice(1))
    made.add(notice(2))
    (line,) = made.deliver(START)
    assert "503" in line
    assert "secret" not in line
    assert list(made.deliver(after(1))) == [], "not yet"
    assert server.asked == 1
    assert made.due is not None
    server.refuses = False
    assert list(made.deliver(made.due)) == []
    assert [one["seq"] for one in server.notices] == [1, 2]


def test_a_notice_that_fails_often_is_given_up_and_the_next_one_tried(server: Any, tmp_path: Path) -> None:
    server.refuses = True
    made, now, lines = notifier(tmp_path, Webhook(server.url)), START, []
    made.add(notice(1))
    for _ in range(TRIES):
        lines += list(made.deliver(now))
        now = (made.due or now) + timedelta(seconds=1)
    assert "given up" in lines[-1]
    assert len(lines) == TRIES
    server.refuses = False
    made.add(notice(2))
    assert list(made.deliver(now)) == []
    assert [one["seq"] for one in server.notices] == [2]


def test_a_restart_goes_on_where_the_last_was_told(server: Any, tmp_path: Path) -> None:
    first = notifier(tmp_path, Webhook(server.url))
    first.add(notice(1))
    list(first.deliver(START))
    again = notifier(tmp_path, Webhook(server.url), newest=9)
    for seq in (1, 2):
        again.add(notice(seq))
    list(again.deliver(START))
    assert [one["seq"] for one in server.notices] == [1, 2]


def test_a_new_target_is_not_told_of_the_past_and_one_that_was_down_is(server: Any, tmp_path: Path) -> None:
    server.refuses = True
    made = notifier(tmp_path, Webhook(server.url), newest=4)
    made.add(notice(4))
    made.add(notice(5))
    assert len(list(made.deliver(START))) == 1
    server.refuses = False
    again = notifier(tmp_path, Webhook(server.url), newest=5)
    again.add(notice(4))
    again.add(notice(5))
    list(again.deliver(START))
    assert [one["seq"] for one in server.notices] == [5]
    assert "secret" not in (tmp_path / "notices.json").read_text()


def test_a_command_gets_the_notice_on_its_input_and_in_its_environment(tmp_path: Path) -> None:
    script = tmp_path / "tell me.py"
    script.write_text(
        "import json, os, sys, pathlib\n"
        "seen = [json.load(sys.stdin), json.loads(os.environ['REWARM_NOTICE']), os.environ['REWARM_TEXT']]\n"
        "pathlib.Path(sys.argv[1]).write_text(json.dumps(seen))\n"
    )
    made = notifier(tmp_path, Command(f"{sys.executable} '{script}' '{tmp_path / 'out'}'"))
    made.add(notice(1))
    assert list(made.deliver(START)) == []
    given, again, text = json.loads((tmp_path / "out").read_text())
    assert given == again == notice(1)
    assert text == given["text"]


@pytest.mark.parametrize("line", ["false", "/nowhere/at/all"])
def test_a_command_that_fails_is_a_line_and_no_more(tmp_path: Path, line: str) -> None:
    made = notifier(tmp_path, Command(line))
    made.add(notice(1))
    (said,) = made.deliver(START)
    assert "again later" in said
