"""The rule: what is refused, what passes, and the reasons it gives."""

import pytest

from pipeline.config import apply_settings, differences, load_recipe
from pipeline.gate.settings import GateSettings
from pipeline.gate.statistics import Paired
from pipeline.gate.verdict import Comparison, Role, Verdict, decide
from pipeline.gate.view import verdict_lines
from stages.errors import UsageError


def loss(name: str, change: float, p: float | None, role: Role = "old", n: int = 200) -> Comparison:
    return Comparison("loss", name, "nats/token", role, Paired(3.0 + change, 3.0, change, p, n))


def task(name: str, change: float, p: float) -> Comparison:
    return Comparison("task", name, "acc", "old", Paired(0.6 + change, 0.6, change, p, 100))


def order(share: float, p: float, n: int = 48) -> Comparison:
    return Comparison("order", "news", "acc", "new", Paired(share, 0.25, share - 0.25, p, n))


LEARNED = loss("news", -0.8, 1e-9, "new")


def verdict(*comparisons: Comparison, **settings: object) -> Verdict:
    return decide(comparisons, GateSettings.model_validate(settings), "0000-docs", [])


@pytest.mark.parametrize(
    ("comparison", "settings", "passed", "because"),
    [
        (loss("docs", 0.3, 1e-9), {}, True, "within the limit of 0.5"),
        (loss("docs", 0.6, 1e-9), {}, False, "forgets 0.600, more than 0.5"),
        (loss("docs", 0.6, 0.2), {}, True, "may be chance"),
        (loss("docs", 0.6, None, n=1), {}, False, "forgets 0.600, more than 0.5"),
        (loss("docs", 0.001, 0.001), {"max_forgetting": 0}, False, "forgets 0.001, more than 0"),
        (loss("docs", 5.0, 1e-9), {"max_forgetting": None}, True, "no limit is set"),
        (loss("docs", 0.3, 1e-9), {"max_forgetting_by_dataset": {"docs": 0.1}}, False, "more than 0.1"),
        (loss("docs", 5.0, 1e-9), {"max_forgetting_by_dataset": {"docs": None}}, True, "no limit is set"),
        (loss("docs", -0.3, 1e-9), {}, True, "-0.300, within"),
        (loss("more", 0.1, 1e-9, "new"), {}, False, "was not learned: +0.100"),
        (loss("more", -0.1, 0.3, "new"), {}, False, "was not learned: -0.100, which may be chance"),
        (loss("more", -0.1, 0.3, "new", n=9), {}, True, "learned"),
        (loss("more", 0.1, 0.3, "new", n=9), {}, False, "was not learned"),
        (loss("more", 0.1, 1e-9, "new"), {"require_learning": False}, True, "no limit is set"),
        (task("piqa", -0.1, 1e-4), {}, False, "falls by 0.100, more than 0.05"),
        (task("piqa", -0.1, 0.2), {}, True, "may be chance"),
        (task("piqa", -0.04, 1e-4), {}, True, "within the limit of 0.05"),
        (task("piqa", 0.2, 1e-9), {}, True, "+0.200, within"),
        (task("piqa", -0.5, 1e-9), {"max_task_drop": None}, True, "no limit is set"),
        (order(0.94, 1e-9), {}, True, "preferred in 0.94 of 48 excerpts, 0.25 is chance"),
        (order(0.27, 0.4), {}, False, "the words may be shuffled"),
        (order(0.45, 1e-3), {}, False, "preferred in 0.45 of 48 excerpts, 0.25 is chance (p 0.001), 0.5 is asked for"),
        (order(0.45, 1e-3), {"min_order": 0.4}, True, "preferred in 0.45"),
        (order(0.6, 0.1, n=10), {}, False, "0.5 is asked for"),
        (order(2 / 3, 0.16, n=3), {}, True, "preferred in 0.67"),
        (order(0.25, 0.6), {"min_order": None}, True, "no limit is set"),
    ],
)
def test_the_rule(comparison: Comparison, settings: dict[str, object], passed: bool, because: str) -> None:
    found = verdict(LEARNED, comparison, **settings)
    check = found.checks[1]
    assert (check.passed, found.passed) == (passed, passed)
    assert because in check.because
    if not passed:
        assert found.because == [f"{comparison.name}: {check.because}"]


def test_the_correction_counts_the_tests_that_decide() -> None:
    comparisons = [loss("docs", 0.6, 0.02), loss("code", 0.1, 0.01), loss("old", 0.9, 1e-9), task("piqa", 0.0, 1.0)]
    free = {"max_forgetting_by_dataset": {"old": None}}
    found = verdict(LEARNED, *comparisons, **free)
    assert [check.p_adjusted for check in found.checks] == pytest.approx([4e-9, 0.04, 0.03, None, 1.0])
    assert [check.passed for check in found.checks] == [True, False, True, True, True]
    more = verdict(LEARNED, *comparisons, loss("web", 0.1, 0.03), **free)
    assert more.passed, "one more test, and 0.02 is no evidence any more"
    assert not verdict(LEARNED, *comparisons, loss("web", 0.1, 0.03), correction="none", **free).passed
    assert not verdict(LEARNED, *comparisons, loss("web", 0.1, 0.03), alpha=0.2, **free).passed


def test_a_verdict_says_why_and_what_it_did_not_see() -> None:
    settings = GateSettings()
    refused = decide(
        [LEARNED, loss("docs", 2, 1e-9), loss("code", 3, 1e-9)], settings, "0000-docs", ["wiki: not compared"]
    )
    assert [line.partition(":")[0] for line in refused.because] == ["docs", "code", "wiki"]
    passed = decide([LEARNED], settings, "0000-docs", ["wiki: not compared"])
    assert passed.because == ["1 of 1 checks passed", "wiki: not compared"]
    assert decide([], settings, "0000-docs", []).because == ["there was nothing to compare"]


def test_the_lines_of_a_verdict() -> None:
    from dataclasses import asdict

    refused = list(verdict_lines(asdict(verdict(LEARNED, loss("docs", 2, 1e-9)))))
    assert refused[0] == "gate: REFUSED, against 0000-docs"
    assert refused[1].startswith("  docs: forgets 2.000, more than 0.5")
    assert refused[2].startswith("  news (new): learned: -0.800")
    assert next(verdict_lines(asdict(verdict(LEARNED)))) == "gate: passed, against 0000-docs"
    assert list(verdict_lines({})) == []


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("gate.max_forgetting=-1", "gate.max_forgetting"),
        ("gate.max_forgetting=.inf", "gate.max_forgetting"),
        ("gate.max_forgetting_by_dataset={docs: -1}", "docs: expected nats"),
        ("gate.max_task_drop=2", "gate.max_task_drop"),
        ("gate.alpha=0", "gate.alpha"),
        ("gate.trunk=forget", "gate.trunk"),
        ("gate.correction=bonferroni", "gate.correction"),
    ],
)
def test_nonsense_is_refused(assignment: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        apply_settings(load_recipe("tiny"), [assignment])


def test_the_gate_is_part_of_the_recipe_and_of_no_stage() -> None:
    recipe = load_recipe("tiny")
    changed = apply_settings(recipe, ["gate.max_forgetting=0.1", "gate.max_forgetting_by_dataset={docs: null}"])
    assert changed.gate.forgetting_limit("docs") is None
    assert changed.gate.forgetting_limit("code") == 0.1
    before, after = recipe.identity(), changed.identity()
    assert all(line.startswith("gate.") for line in differences(before, after))
    assert differences(before, after), "an unfinished update keeps the gate that it began with"
