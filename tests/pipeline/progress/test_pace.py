"""Rates, time left, and the stages of an update with what they are expected to take."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewarm.pipeline.progress.pace import Itinerary, Work, duration, expected_seconds
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.update.expected import stage_names


def moved(*steps: tuple[float, float], total: float = 100.0) -> Work:
    work = Work("train", total, "tokens")
    for at, by in steps:
        work.advance(by, {}, at)
    return work


def test_what_a_resumed_run_had_done_before_is_no_speed() -> None:
    work = moved((10.0, 60.0), (20.0, 10.0), (30.0, 10.0))
    assert work.rate(30.0) == 1.0
    assert work.left(30.0) == 20.0
    assert work.part == 0.8


def test_a_rate_is_that_of_late_and_falls_while_nothing_moves() -> None:
    work = moved(*[(float(second), 10.0) for second in range(200)], *[(200.0 + second, 1.0) for second in range(200)])
    assert work.rate(399.0) == pytest.approx(1.0)
    assert work.rate(519.0) == pytest.approx(0.5, rel=0.02)


def test_restarted_workers_begin_the_rate_anew() -> None:
    work = moved((0.0, 10.0), (1.0, 10.0), (60.0, -5.0))
    assert (work.done, work.rate(60.0)) == (15.0, None)
    work.advance(2, {}, 61.0)
    assert work.rate(61.0) == 2.0


@given(st.lists(st.tuples(st.floats(0.1, 50), st.floats(-5, 50)), max_size=20), st.floats(0, 1e6))
def test_what_is_left_is_never_negative(steps: list[tuple[float, float]], total: float) -> None:
    work, at = Work("train", total, "tokens"), 0.0
    for by_time, by in steps:
        at += by_time
        work.advance(by, {}, at)
    left = work.left(at + 1)
    assert left is None or left >= 0


def test_time_left_adds_the_stages_to_come() -> None:
    plan = Itinerary(["ingest", "train", "anneal", "evaluate"], {"ingest": 5.0, "train": 100.0, "anneal": 10.0})
    assert (plan.current, plan.left(0.0, None)) == ("", None)
    plan.enter("ingest")
    assert plan.left(2.0, 1000.0) is None, "nobody knows how long evaluate takes"
    plan.expected["evaluate"] = 7.0
    assert plan.left(2.0, 1000.0) == 3 + 100 + 10 + 7, "an earlier update knows more of ingest than one of its lines"
    assert plan.left(60.0, None) == 117, "late, but not negative"
    plan.enter("train")
    assert plan.left(50.0, 20.0) == 20 + 10 + 7, "training's own rate knows best"
    assert plan.left(50.0, None) == 50 + 10 + 7
    plan.enter("evaluate")
    assert plan.left(3.0, None) == 4


def test_a_stage_that_was_not_foreseen_takes_its_place() -> None:
    plan = Itinerary(["ingest", "train"], {})
    plan.enter("guards")
    plan.enter("ingest")
    assert (plan.names, plan.place) == (["guards", "ingest", "train"], 1)
    plan.enter("gate")
    assert plan.names == ["guards", "ingest", "gate", "train"]


def test_expected_seconds_come_from_the_plan_else_from_the_update_before() -> None:
    earlier = {"ingest a": 4.0, "ingest b": 6.0, "tokenize": 2.0, "train": 50.0, "anneal": 8.0}
    names = ["ingest", "tokenize x", "tokenize y", "train", "anneal", "evaluate"]
    found = expected_seconds(names, earlier, 2.0, {"train": 70.0})
    assert found == {
        "ingest": 10.0,
        "tokenize x": 1.0,
        "tokenize y": 1.0,
        "train": 70.0,
        "anneal": 16.0,
        "evaluate": None,
    }
    assert expected_seconds(["ingest a"], earlier, 1.0, {}) == {"ingest a": 4.0}


def test_stages_are_those_that_the_recipe_asks_for() -> None:
    tiny = load_recipe("tiny", ["evaluate.tasks=[]"])
    assert stage_names(tiny, ["docs"], base=True) == [
        *("ingest", "tokenizer", "tokenize", "replay", "initial weights", "train", "anneal", "evaluate")
    ]
    assert stage_names(tiny, ["a", "b"], base=False) == [
        *("ingest a", "ingest b", "tokenize a", "tokenize b", "replay", "train", "anneal", "evaluate")
    ]
    chosen = load_recipe("tiny", ["select.share=0.5", "select.by=perplexity", "evaluate.tasks=[piqa]"])
    assert stage_names(chosen, ["a"], base=False)[:4] == ["guards", "ingest", "tokenize", "select"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (3599, "60 min"), (12_000, "3 h 20 min"), (180_000, "2 d 2 h")],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text
