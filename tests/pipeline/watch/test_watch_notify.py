"""Notices to a real web server and a real command: in order, again after failures, on after a restart."""

import base64
import json
import socket
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from watch_webhook import webhook
from watch_world import START, after

from rewarm.pipeline.watch.journal import Event
from rewarm.pipeline.watch.notify import TRIES, Command, Notifier, Target, Webhook, make_notice
from rewarm.pipeline.watch.state import Arrival
from rewarm.stages.core.storage import Folder


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
    drafts = list(made.deliver(START))
    assert [(one.kind, one.path, one.details["notice"], one.details["tries"]) for one in drafts] == [
        ("delivered", "/in/news", 3, 1), ("delivered", "/in/news", 5, 1)
    ]  # fmt: skip
    assert list(made.deliver(START)) == []
    assert [one["seq"] for one in server.notices] == [3, 5]
    assert made.queue == []


def test_the_user_and_password_of_an_address_are_sent_and_not_shown(server: Any, tmp_path: Path) -> None:
    address = server.url.replace("://", "://team:p%40ss:w@")
    made = notifier(tmp_path, Webhook(address))
    made.add(notice(3))
    (draft,) = made.deliver(START)
    assert (draft.kind, draft.details["target"]) == ("delivered", "webhook 127.0.0.1")
    assert server.authorizations == ["Basic " + base64.b64encode(b"team:p@ss:w").decode()]
    assert "p@ss" not in (tmp_path / "notices.json").read_text()


def test_a_webhook_that_is_down_is_asked_again_later(server: Any, tmp_path: Path) -> None:
    server.refuses = True
    made = notifier(tmp_path, Webhook(server.url))
    made.add(notice(1))
    made.add(notice(2))
    (draft,) = made.deliver(START)
    assert (draft.kind, draft.details["again"]) == ("undelivered", True)
    assert "503" in draft.details["error"]
    assert "secret" not in json.dumps(dict(draft.details))
    assert list(made.deliver(after(1))) == [], "not yet"
    assert server.asked == 1
    assert made.due is not None
    server.refuses = False
    assert [(one.kind, one.details["tries"]) for one in made.deliver(made.due)] == [("delivered", 2), ("delivered", 1)]
    assert [one["seq"] for one in server.notices] == [1, 2]


def test_a_notice_that_fails_often_is_given_up_and_the_next_one_tried(server: Any, tmp_path: Path) -> None:
    server.refuses = True
    made, now, drafts = notifier(tmp_path, Webhook(server.url)), START, []
    made.add(notice(1))
    for _ in range(TRIES):
        drafts += list(made.deliver(now))
        now = (made.due or now) + timedelta(seconds=1)
    assert [(one.details["tries"], one.details["again"]) for one in drafts] == [(1, True), (TRIES, False)]
    assert server.asked == TRIES
    server.refuses = False
    made.add(notice(2))
    assert [one.kind for one in made.deliver(now)] == ["delivered"]
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
    assert [one.kind for one in made.deliver(START)] == ["delivered"]
    given, again, text = json.loads((tmp_path / "out").read_text())
    assert given == again == notice(1)
    assert text == given["text"]


@pytest.mark.parametrize("line", ["false s3cr3t", "/nowhere/at/all s3cr3t", "sh -c 'exit 3 # s3cr3t'"])
def test_a_command_that_fails_is_a_line_and_no_more(tmp_path: Path, line: str) -> None:
    made = notifier(tmp_path, Command(line))
    made.add(notice(1))
    (said,) = made.deliver(START)
    assert (said.kind, said.details["again"]) == ("undelivered", True)
    assert "s3cr3t" not in json.dumps(dict(said.details))


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("leads", "said"),
    [
        ("{url}", "the same path of http://127.0.0.1:"),
        ("https://h.example/hook/secret", "the same path of https://h.example:"),
        ("/login?token=s3cr3t", "a redirect to http://127.0.0.1:"),
        ("https://u:s3cr3t@other.example/a/s3cr3t", "a redirect to https://other.example/***:"),
    ],
)
def test_a_redirect_is_not_followed_and_not_delivered(
    server: Any, tmp_path: Path, code: int, leads: str, said: str
) -> None:
    server.answer = (code, leads.format(url=server.url))
    made = notifier(tmp_path, Webhook(server.url))
    made.add(notice(1))
    (draft,) = made.deliver(START)
    assert draft.kind == "undelivered"
    assert f"the server answered {code}" in draft.details["error"] and said in draft.details["error"]
    assert "secret" not in json.dumps(dict(draft.details)) and "s3cr3t" not in json.dumps(dict(draft.details))
    assert (server.asked, server.got, server.notices) == (1, 0, [])
    server.answer, now = None, made.due
    assert now is not None
    assert [one.kind for one in made.deliver(now)] == ["delivered"], "once the server takes it"


@pytest.mark.parametrize(
    ("code", "delivered"),
    [(200, True), (202, True), (204, True), (301, False), (304, False), (400, False), (500, False)],
)
def test_only_an_answer_of_2xx_is_delivered(server: Any, tmp_path: Path, code: int, delivered: bool) -> None:
    server.answer = (code, "")
    made = notifier(tmp_path, Webhook(server.url))
    made.add(notice(1))
    assert [one.kind for one in made.deliver(START)] == ["delivered" if delivered else "undelivered"]


def test_something_that_speaks_no_http_is_not_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=lambda: listening.accept()[0].sendall(b"SSH-2.0-x\r\n"))
        thread.start()
        made = notifier(tmp_path, Webhook(f"http://127.0.0.1:{listening.getsockname()[1]}/"))
        made.add(notice(1))
        (draft,) = made.deliver(START)
        thread.join()
    assert draft.kind == "undelivered"
