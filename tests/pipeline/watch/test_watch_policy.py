"""Which arrival is next, what an unfinished update allows, and retries."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from watch_world import START, after, began, happen, ready

from rewarm.pipeline.watch.journal import Draft, read_stamp
from rewarm.pipeline.watch.observe import lift, why_not
from rewarm.pipeline.watch.policy import JITTER, LONGEST, after_failure, choose, pause
from rewarm.pipeline.watch.settings import WatchSettings
from rewarm.pipeline.watch.state import Book

SETTINGS = WatchSettings(inbox="/in", retries=2, backoff=100)


@pytest.fixture
def book() -> Book:
    """Two arrivals, of which the later name was complete first."""
    book = Book()
    happen(book, after(0), *ready("z", after(0)))
    return happen(book, after(5), *ready("a", after(5)))


def seen(name: str, fingerprint: str) -> Draft:
    return Draft("seen", f"/in/{name}", {"name": name, "fingerprint": fingerprint, "files": 1, "bytes": 1})


def taken(book: Book, unfinished: str | None = None, seconds: float = 10) -> str | None:
    chosen = choose(book, unfinished, after(seconds)).take
    return chosen.name if chosen else None


def test_arrivals_come_in_the_order_of_their_completion_then_name(book: Book) -> None:
    happen(book, after(5), *ready("B", after(5)))
    order = []
    while (name := taken(book)) is not None:
        order.append(name)
        happen(book, after(9), Draft("released", f"/in/{name}", {"update": f"1-{name}"}))
    assert order == ["z", "B", "a"]


def test_what_no_tick_called_is_not_taken(book: Book) -> None:
    happen(book, after(6), *ready("x", after(6))[:2])
    names = {one.name for one in book.arrivals.values() if one.completed and not one.called}
    assert names == {"x"}
    happen(book, after(7), *(Draft("held", f"/in/{name}", {"why": "broken", "because": ""}) for name in ("z", "a")))
    assert taken(book) is None


def test_an_unfinished_update_comes_first_and_alone(book: Book) -> None:
    happen(book, after(6), began("a"))
    assert taken(book, "0003-a") == "a"
    happen(book, after(7), after_failure(book.arrivals["/in/a"], None, "boom", "broken", SETTINGS, after(7)))
    waiting = choose(book, "0003-a", after(8))
    assert (waiting.take, waiting.until) == (None, read_stamp(book.arrivals["/in/a"].retry_at))
    assert taken(book, "0003-a", 200) == "a"
    assert taken(book, None, 8) == "z", "where nothing is unfinished, others need not wait for the retry"


def test_a_retry_that_was_planned_before_the_clock_was_set_back_is_due(book: Book) -> None:
    happen(book, after(6), began("a"))
    happen(book, after(7), after_failure(book.arrivals["/in/a"], None, "boom", "broken", SETTINGS, after(7)))
    longest = LONGEST * (1 + JITTER)
    assert taken(book, "0003-a", 7 - longest / 2) is None, "set back by less than a pause can be: it waits that long"
    assert taken(book, "0003-a", 7 - 2 * longest) == "a"
    assert why_not(book.arrivals["/in/a"], SETTINGS, after(7 - 2 * longest)) == ""


def test_an_unfinished_update_of_others_blocks_and_is_named(book: Book) -> None:
    assert "0003-theirs is unfinished and was begun by another command" in choose(book, "0003-theirs", after(9)).blocked


def test_an_arrival_that_changed_after_its_update_began_is_held(book: Book) -> None:
    happen(book, after(6), began("a", "a"), seen("a", "other"))
    choice = choose(book, "0003-a", after(7))
    assert choice.take is None
    assert choice.hold is not None
    assert choice.hold.details["why"] == "changed"
    happen(book, after(8), choice.hold)
    assert "0003-a is unfinished" in choose(book, "0003-a", after(9)).blocked
    assert taken(book) == "z", "after a discard the others go on"
    happen(book, after(10), seen("a", "a"))
    happen(book, after(10), *lift(book, "0003-a", SETTINGS, after(10)))
    assert taken(book, "0003-a") == "a", "put back as it was, it goes on"


def test_after_a_discard_a_changed_arrival_begins_anew(book: Book) -> None:
    happen(book, after(6), began("a", "a"), seen("a", "other"))
    happen(book, after(7), Draft("held", "/in/a", {"why": "changed", "because": ""}))
    happen(book, after(8), *lift(book, None, SETTINGS, after(8)))
    arrival = book.arrivals["/in/a"]
    assert (arrival.state, arrival.begun, list(arrival.sets)) == ("arriving", "", [])


def test_a_person_can_let_a_changed_arrival_go_on(book: Book) -> None:
    happen(book, after(6), began("a", "a"), seen("a", "touched"))
    happen(book, after(7), Draft("held", "/in/a", {"why": "changed", "because": ""}), Draft("retry", "/in/a"))
    assert taken(book, "0003-a") == "a"


def test_an_arrival_that_went_away_after_its_update_began_is_held(book: Book) -> None:
    happen(book, after(6), began("a"), Draft("gone", "/in/a"))
    choice = choose(book, "0003-a", after(7))
    assert choice.hold is not None
    assert choice.hold.details["why"] == "vanished"


def test_one_that_was_called_and_then_changed_must_be_complete_and_called_again(book: Book) -> None:
    happen(book, after(6), seen("z", "other"))
    assert taken(book) == "a"


def test_a_started_arrival_whose_update_never_began_is_taken_again(book: Book) -> None:
    happen(book, after(6), began("z"))
    assert taken(book) == "z"


def test_retries_are_counted_and_the_last_failure_holds(book: Book) -> None:
    times = []
    for number in range(3):
        happen(book, after(number), began("z", attempts=number + 1))
        draft = after_failure(book.arrivals["/in/z"], None, "boom", "broken", SETTINGS, START)
        happen(book, after(number), draft)
        times.append(draft.details.get("retry_at"))
    waits = [read_stamp(time) - START for time in times if time]
    assert [round(wait.total_seconds() / 100) for wait in waits] == [1, 2]
    arrival = book.arrivals["/in/z"]
    assert (arrival.state, arrival.why) == ("held", "exhausted")
    assert arrival.because == "3 attempts failed without progress, the last one with: boom"
    happen(book, after(9), Draft("retry", "/in/z"))
    draft = after_failure(book.arrivals["/in/z"], None, "", "broken", SETTINGS, START)
    assert draft.kind == "failed", "a person's word starts anew"


def test_an_attempt_that_saved_something_starts_the_count_anew(book: Book) -> None:
    for number in range(9):
        advanced = number % SETTINGS.retries == 0
        draft = after_failure(book.arrivals["/in/z"], None, "boom", "broken", SETTINGS, START, advanced)
        assert draft.kind == "failed", number
        happen(book, after(number), began("z", attempts=number + 1), draft)
    for number in range(SETTINGS.retries):
        draft = after_failure(book.arrivals["/in/z"], None, "boom", "broken", SETTINGS, START)
        happen(book, after(10 + number), draft)
    assert book.arrivals["/in/z"].state == "held"


@given(st.text(), st.integers(1, 60), st.floats(1, 600))
def test_a_wait_doubles_within_its_jitter_and_has_an_end(name: str, failures: int, first: float) -> None:
    wait, whole = pause(name, failures, first), min(first * 2 ** (failures - 1), LONGEST)
    assert whole * (1 - JITTER) <= wait <= whole * (1 + JITTER)
    assert pause(name, failures, first) == wait
    assert timedelta(seconds=wait) > timedelta(0)
