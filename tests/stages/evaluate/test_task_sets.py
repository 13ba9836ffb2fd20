"""The ready sets: what they stand for, and how their scores are put together."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewarm.stages.evaluate.task_sets import SETS, averages, chosen, expand


def test_the_papers_shots_and_the_precedence_of_what_is_given() -> None:
    shots = expand(("paper-english",), None)
    assert {task for task, count in shots.items() if count == 5} == {"mmlu", "nq_open", "triviaqa"}
    assert {task for task, count in shots.items() if count == 0} >= {"hellaswag", "truthfulqa_mc2", "mathqa"}
    assert set(expand(("paper-english",), 1).values()) == {1}
    assert expand(("sciq", "mmlu", "paper-german"), None) == {
        "sciq": None, "mmlu": None, "hellaswag_de": 0, "arc_de": 0, "m_mmlu_de": 5,
    }  # fmt: skip
    assert expand(("mmlu", "paper-english"), None)["mmlu"] == 5, "a set's shots go before the task's own"
    assert expand(("sciq",), 3) == {"sciq": 3}


def test_mmlu_stays_out_of_the_mean_and_the_metric_is_the_sets() -> None:
    scores = {
        "hellaswag_de": {"acc": 0.9, "acc_norm": 0.4, "acc_norm_stderr": 0.03},
        "arc_de": {"acc": 0.2, "acc_stderr": 0.04, "acc_norm": 0.7},
        "m_mmlu_de": {"acc": 1.0, "acc_stderr": 0.5},
    }
    found, notes = averages(("paper-german", "sciq"), scores)
    assert found == {"paper-german": {"mean": pytest.approx(0.3), "mean_stderr": pytest.approx(0.025)}}
    assert "TriviaQA" in notes[0]


def test_the_medical_subjects_count_as_one_task_of_four() -> None:
    scores = {task: {"acc": 0.2, "acc_stderr": 0.06} for task in expand(("paper-medical",), None)}
    scores["medmcqa"] = {"acc": 0.6}
    scores["mmlu_anatomy"] = {"acc": 0.8, "acc_stderr": 0.06}
    found, _ = averages(("paper-medical",), scores)
    assert found["mmlu_medical"] == {"acc": pytest.approx(0.3), "acc_stderr": pytest.approx(0.06 / math.sqrt(6))}
    assert found["paper-medical"] == {"mean": pytest.approx((0.6 + 0.2 + 0.2 + 0.3) / 4)}, "one error is not known"


def test_a_score_that_is_missing_leaves_no_mean_but_a_note() -> None:
    scores = {"hellaswag_de": {"acc": 0.9}, "arc_de": {"acc": 0.2}, "m_mmlu_de": {"acc": 0.1}}
    assert averages(("paper-german",), scores) == (
        {},
        ["paper-german: no mean, lm-eval gave no acc_norm of hellaswag_de"],
    )


def test_a_group_of_a_set_stands_with_its_own_line_and_one_that_was_named_with_its_members() -> None:
    mmlu = {"mmlu": {"acc": 0.3}, "mmlu_anatomy": {"acc": 0.2}}
    tag = {"arc_easy": {"acc": 0.5}, "arc_challenge": {"acc": 0.4}}
    measured = {"mmlu": mmlu, "ai2_arc": tag}
    assert chosen(("paper-english", "ai2_arc"), measured) == {"mmlu": {"acc": 0.3}, **tag}
    assert chosen(("mmlu", "ai2_arc"), measured) == {**mmlu, **tag}


@given(st.sampled_from(sorted(SETS)), st.floats(0, 1), st.floats(0, 0.1))
def test_equal_scores_have_themselves_as_their_mean(name: str, value: float, error: float) -> None:
    rows = [row for row in SETS[name].rows if not row.apart]
    scores = {task: {row.metric: value, f"{row.metric}_stderr": error} for row in SETS[name].rows for task in row.tasks}
    mean = averages((name,), scores)[0][name]
    assert mean["mean"] == pytest.approx(value)
    assert mean["mean_stderr"] <= error / math.sqrt(len(rows)) * (1 + 1e-9) + 1e-300
