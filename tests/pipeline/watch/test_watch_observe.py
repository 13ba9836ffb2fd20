"""What a look means: seen, complete, changed, held and lifted. Tables over pure functions."""

from collections.abc import Callable
from typing import Any

import pytest
from records import verdict
from watch_world import after, began, ended, found, happen, listing, ready, update

from rewarm.pipeline.watch import observe
from rewarm.pipeline.watch.inbox import Found
from rewarm.pipeline.watch.journal import Draft
from rewarm.pipeline.watch.settings import WatchSettings
from rewarm.pipeline.watch.state import Arrival, Book

SETTINGS = WatchSettings(inbox="/in", quiet=60)
Look = Callable[..., list[str]]


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def look(book: Book) -> Look:
    """Look at an inbox at a time; the events that this makes."""

    def at(seconds: float, *arrivals: Found, settings: WatchSettings = SETTINGS) -> list[str]:
        inbox = listing(*arrivals)
        kinds = []
        for made in (observe.observe(book, inbox), observe.complete(book, inbox, settings, after(seconds))):
            drafts = list(made)
            happen(book, after(seconds), *drafts)
            kinds += [f"{draft.kind} {draft.path.rpartition('/')[2]}" for draft in drafts]
        return kinds

    return at


def state(book: Book, name: str) -> tuple[str, str]:
    one = book.arrivals[f"/in/{name}"]
    return one.state, one.why


def test_a_marker_completes_at_once_and_a_quiet_period_in_its_time(look: Look) -> None:
    assert look(0, found("a", marker="1"), found("b")) == ["seen a", "seen b", "complete a"]
    assert look(59, found("a", marker="1"), found("b")) == []
    assert look(60, found("a", marker="1"), found("b")) == ["complete b"]


def test_every_change_begins_the_quiet_period_anew(look: Look) -> None:
    assert look(0, found("a", "x")) == ["seen a"]
    assert look(50, found("a", "y")) == ["seen a"]
    assert look(109, found("a", "y")) == []
    assert look(110, found("a", "y")) == ["complete a"]


def test_a_quiet_period_survives_a_restart(book: Book, look: Look) -> None:
    look(0, found("a"))
    again = Book()
    again.arrivals.update(book.arrivals)  # as the journal gives it back
    inbox = listing(found("a"))
    assert list(observe.observe(again, inbox)) == []
    assert [draft.kind for draft in observe.complete(again, inbox, SETTINGS, after(60))] == ["complete"]


def test_without_a_quiet_period_or_files_only_a_marker_completes(look: Look) -> None:
    strict = WatchSettings(inbox="/in", quiet=0)
    assert look(0, found("a"), settings=strict) == ["seen a"]
    assert look(1e6, found("a"), settings=strict) == []
    assert look(1e6, found("a", marker="1"), settings=strict) == ["complete a"]
    assert look(2e6, found("a", marker="1"), found("b", files=0)) == ["seen b"]
    assert look(3e6, found("a", marker="1"), found("b", files=0)) == []


def test_a_changed_arrival_needs_a_new_marker_or_quiet(look: Look) -> None:
    look(0, found("a", "x", marker="1"))
    assert look(1, found("a", "y", marker="1")) == ["seen a"], "the old marker was there before the new files"
    assert look(2, found("a", "y", marker="2")) == ["complete a"]
    assert look(3, found("a", "z", marker="2")) == ["seen a"]
    assert look(63, found("a", "z", marker="2")) == ["complete a"]


def test_what_is_held_as_broken_is_looked_at_again_when_it_changes(book: Book, look: Look) -> None:
    look(0, found("a", "x", marker="1"))
    happen(book, after(1), Draft("held", "/in/a", {"why": "broken", "because": "no text"}))
    assert look(1000, found("a", "x", marker="1")) == []
    assert state(book, "a") == ("held", "broken")
    assert look(1001, found("a", "y", marker="1")) == ["seen a"]
    assert state(book, "a") == ("arriving", "")


def test_two_of_one_name_are_not_mixed_up(book: Book, look: Look) -> None:
    one, other = found("news", path="/in/news.jsonl"), found("news", path="/in/news.txt")
    assert look(0, one, other) == ["seen news.jsonl", "seen news.txt", "held news.txt"]
    assert "/in/news.jsonl" in book.arrivals["/in/news.txt"].because
    assert list(observe.lift(book, None, SETTINGS, after(1))) == []
    assert look(1, other) == ["gone news.jsonl"]
    assert [draft.kind for draft in observe.lift(book, None, SETTINGS, after(1))] == ["lifted"]


def test_a_name_that_was_taken_in_stays_with_its_file(book: Book, look: Look) -> None:
    look(0, found("news", path="/in/news.jsonl", marker="1"))
    happen(book, after(1), Draft("released", "/in/news.jsonl", {"update": "0001-news"}))
    assert look(2, found("news", path="/in/news.txt")) == ["seen news.txt", "held news.txt"]
    assert list(observe.settle(book, *ended(update(1, "news")))) == [], (
        "it was not taken in, and does not count as such"
    )


def test_changes_after_it_was_taken_in_are_told_once(book: Book, look: Look) -> None:
    look(0, found("a", "x", marker="1"))
    happen(book, after(1), Draft("released", "/in/a", {"update": "0001-a"}))
    assert look(2, found("a", "y", marker="1")) == ["altered a"]
    assert look(3, found("a", "y", marker="1")) == []
    assert look(4) == [], "and that it is cleared away is no news"
    assert state(book, "a") == ("released", "")


def test_the_lineage_says_what_is_done(book: Book) -> None:
    for name in ("a", "b", "c"):
        happen(book, after(0), *ready(name, after(0)))
    happen(book, after(1), began("a"), began("b"))
    gate = verdict(False, "code forgot too much")
    refused = update(2, "b", "refused")
    if hasattr(refused, "gate"):
        refused = update(2, "b", "refused", gate=gate)
    drafts = list(observe.settle(book, *ended(update(0, "c"), update(1, "a"), refused)))
    assert [(draft.kind, draft.details["update"]) for draft in drafts] == [
        ("released", "0001-a"),
        ("refused", "0002-b"),
        ("released", "0000-c"),
    ]
    assert drafts[0].details["because"] == ""
    assert "nothing was done" in drafts[2].details["because"]
    happen(book, after(2), *drafts)
    assert list(observe.settle(book, *ended(update(1, "a")))) == []


def test_what_changed_while_it_was_taken_in_is_said(book: Book) -> None:
    happen(book, after(0), *ready("a", after(0), "x"), began("a", "x"))
    happen(book, after(1), Draft("seen", "/in/a", {"name": "a", "fingerprint": "y", "files": 1, "bytes": 1}))
    (draft,) = observe.settle(book, *ended(update(1, "a")))
    assert "late changes are not included" in draft.details["because"]


@pytest.mark.parametrize(
    ("cost", "limits", "spent", "message"),
    [
        (5.0, {}, 100.0, None),
        (5.0, {"max_cost": 5}, 0.0, None),
        (5.01, {"max_cost": 5}, 0.0, "5.01 EUR, more than the 5.00"),
        (None, {"max_cost": 5}, 0.0, "cannot be predicted"),
        (None, {"max_total_cost": 5}, 0.0, "cannot be predicted"),
        (5.0, {"max_total_cost": 9}, 4.0, None),
        (5.0, {"max_total_cost": 9}, 4.5, "with 4.50 already spent on attempts this month"),
    ],
)
def test_limits_on_cost(book: Book, cost: float | None, limits: dict[str, Any], spent: float, message: str) -> None:
    settings = WatchSettings(inbox="/in", **limits)
    for name, price in (("before", spent), ("now", cost)):
        happen(book, after(0), *ready(name, after(0)))
        plan = {"cost": price, "currency": "EUR"}
        happen(book, after(0), Draft("planned", f"/in/{name}", {"plan": plan, "planned": "a"}))
    happen(book, after(0), began("before"))
    arrival = book.arrivals["/in/now"]
    said = observe.over(book, arrival, settings, after(1))
    assert said is None if message is None else message in str(said)
    happen(book, after(1), Draft("held", "/in/now", {"why": "cost", "because": str(said)}))
    lifted = [draft.path for draft in observe.lift(book, None, settings, after(2)) if draft.kind == "lifted"]
    assert lifted == ([] if message else ["/in/now"]), "a raised limit lets it go on by itself"
    happen(book, after(3), Draft("retry", "/in/now"))
    approved: Arrival = book.arrivals["/in/now"]
    assert observe.over(book, approved, settings, after(4)) is None


def test_a_new_month_has_its_own_money(book: Book) -> None:
    settings = WatchSettings(inbox="/in", max_total_cost=9)
    for name in ("before", "now"):
        happen(book, after(0), *ready(name, after(0)))
        happen(book, after(0), Draft("planned", f"/in/{name}", {"plan": {"cost": 6, "currency": ""}, "planned": "a"}))
    happen(book, after(0), began("before"))
    arrival = book.arrivals["/in/now"]
    assert observe.over(book, arrival, settings, after(9 * 86400)) is not None, "30 November"
    assert observe.over(book, arrival, settings, after(10 * 86400)) is None, "1 December"


def test_a_limit_below_another_is_refused() -> None:
    with pytest.raises(ValueError, match="max_cost 5 exceeds max_total_cost 4"):
        WatchSettings(inbox="/in", max_cost=5, max_total_cost=4)


def test_an_undecided_release_is_told_and_is_released_when_a_person_promotes_it(book: Book) -> None:
    happen(book, after(0), *ready("a", after(0)), began("a"))
    because = "docs: 3 documents can show nothing: undecided"
    held = update(1, "a", "undecided", gate=verdict(False, because, outcome="held"))
    (draft,) = observe.settle(book, *ended(held))
    assert (draft.kind, draft.details["because"]) == ("undecided", because)
    happen(book, after(1), draft)
    assert (state(book, "a"), book.arrivals["/in/a"].done) == (("undecided", ""), True)
    assert list(observe.settle(book, *ended(held))) == []
    (draft,) = observe.settle(book, *ended(held), {"0001-a"})
    assert (draft.kind, draft.details["because"]) == ("released", "promoted manually; the gate could not decide")
    happen(book, after(2), draft)
    assert list(observe.settle(book, *ended(held), {"0001-a"})) == []
