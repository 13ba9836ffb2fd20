"""The rule: what is refused, what passes, what is undecided, and the reasons it gives."""

import numpy as np
import pytest
from scipy import stats

from rewarm.pipeline.cli.releases import verdict_lines
from rewarm.pipeline.gate.mean_change import compare_losses
from rewarm.pipeline.gate.statistics import AboveChance, AccuracyChange
from rewarm.pipeline.gate.verdict import Comparison, Role, Verdict, decide
from rewarm.pipeline.recipe.recipe import apply_settings, differences, load_recipe
from rewarm.pipeline.recipe.settings import GateSettings
from rewarm.stages.core.errors import UsageError


def loss(name: str, change: float, error: float | None, role: Role = "old", n: int = 200, best: str = "") -> Comparison:
    """A change of a loss with its standard error, of ``n`` documents of equal length whose changes are normal."""
    scores, tokens = stats.norm.ppf((np.arange(n) + 0.5) / n), np.full(n, 100)
    noise = scores / scores.std(ddof=1) * (error or 0.0) * n**0.5 if n > 1 else scores
    found = compare_losses(tokens * (3.0 + change + noise), tokens * 3.0, tokens)
    return Comparison("best" if best else "loss", name, "nats/token", role, found, best=best)


def task(name: str, lost: int, gained: int, n: int = 1000, generated: bool = False) -> Comparison:
    found = AccuracyChange(0.6 + (gained - lost) / n, 0.6, gained, lost, n)
    return Comparison("task", name, "acc", "old", found, generated=generated)


def order(right: int, n: int = 48) -> Comparison:
    return Comparison("order", "news", "acc", "new", AboveChance(right, n, 0.25))


LEARNED = loss("news", -0.8, 0.05, "new")


def verdict(*comparisons: Comparison, **settings: object) -> Verdict:
    return decide(comparisons, GateSettings.model_validate(settings), "0000-docs", [])


@pytest.mark.parametrize(
    ("comparison", "settings", "outcome", "because"),
    [
        (loss("docs", 0.3, 0.02), {}, "passed", "+0.300, within the limit of 0.5"),
        (loss("docs", 0.6, 0.02), {}, "refused", "forgets 0.600, more than 0.5 (p "),
        (loss("docs", 0.52, 0.05), {}, "passed", "more than 0.5, but not significantly"),
        (loss("docs", 0.1, 0.3), {}, "undecided", "the limit is 0.5: 200 of them can show 0.9"),
        (loss("docs", 0.9, 0.3), {}, "undecided", "forgets 0.900, the limit is 0.5"),
        (loss("docs", 2.9, 0.3), {}, "refused", "more than 0.5"),
        (loss("docs", 2.9, 0.1, n=12), {}, "refused", "12 independent units: by so few, up to 16 %"),
        (loss("docs", -0.9, 0.3), {}, "passed", "-0.900, within"),
        (loss("docs", 0.6, None, n=1), {}, "undecided", "can show nothing"),
        (loss("docs", 0.1, 0.03), {"max_forgetting": 0}, "refused", "forgets 0.100, more than 0"),
        (loss("docs", 0.001, 0.03), {"max_forgetting": 0}, "passed", "but not significantly"),
        (loss("docs", 5.0, 0.01), {"max_forgetting": None}, "passed", "no limit is set"),
        (loss("docs", 0.3, 0.01), {"max_forgetting_by_dataset": {"docs": 0.1}}, "refused", "more than 0.1"),
        (loss("docs", 5.0, 0.01), {"max_forgetting_by_dataset": {"docs": None}}, "passed", "no limit is set"),
        (loss("docs", 0.9, 0.01, best="0002-a"), {}, "passed", "since 0002-a, the best release so far, within the"),
        (loss("docs", 1.1, 0.01, best="0002-a"), {}, "refused", "forgets 1.100 since 0002-a, the best release so far"),
        (loss("docs", 0.4, 0.01, best="a"), {"max_forgetting_since_best": 1}, "passed", "limit of 0.5"),
        (loss("docs", 9.0, 0.01, best="a"), {"max_forgetting_since_best": None}, "passed", "no limit is set"),
        (loss("more", 0.1, 0.01, "new"), {}, "refused", "was not learned: +0.100"),
        (loss("more", -0.001, 0.002, "new"), {}, "refused", "was not learned: -0.001, not significant"),
        (loss("more", -0.004, 0.002, "new"), {}, "passed", "learned: -0.004"),
        (loss("more", -0.1, 0.1, "new"), {}, "undecided", "changed by -0.100, not significant: 200 of them"),
        (loss("more", 0.1, 0.1, "new", n=9), {}, "undecided", "changed by +0.100"),
        (loss("more", 0.9, 0.1, "new", n=9), {}, "refused", "was not learned: +0.900"),
        (loss("more", -0.9, 0.1, "new", n=9), {}, "passed", "learned"),
        (loss("more", 0.1, 0.01, "new"), {"require_learning": False}, "passed", "no limit is set"),
        (task("piqa", 120, 20), {}, "refused", "falls by 0.100, more than 0.05"),
        (task("piqa", 70, 12), {}, "passed", "falls by 0.058, more than 0.05, but not significantly"),
        (task("piqa", 60, 20), {}, "passed", "within the limit of 0.05"),
        (task("piqa", 20, 90), {}, "passed", "+0.070, within"),
        (task("copa", 8, 2, n=100), {}, "undecided", "falls by 0.060, the limit is 0.05: 100 of them can show 0."),
        (task("copa", 8, 2, n=100), {"max_task_drop_by_task": {"copa": 0.3}}, "passed", "within the limit of 0.3"),
        (task("piqa", 500, 0), {"max_task_drop": None}, "passed", "no limit is set"),
        (order(45), {}, "passed", "word order in 0.94 of 48 excerpts, chance is 0.25"),
        (order(13), {}, "refused", "the words may be shuffled"),
        (order(22), {}, "refused", "0.46 of 48 excerpts, chance is 0.25 (p 0.0014), required is 0.5"),
        (order(22), {"min_order": 0.4}, "passed", "word order in 0.46"),
        (order(6, n=10), {}, "passed", "word order in 0.60"),
        (order(4, n=10), {}, "undecided", "required is 0.5: 10 of them can show"),
        (order(2, n=3), {}, "undecided", "word order in 0.67"),
        (order(12), {"min_order": None}, "passed", "no limit is set"),
        (Comparison("loss", "solo", "nats/token", "new", None, "no split"), {}, "undecided", "no split"),
        (Comparison("loss", "solo", "nats/token", "old", None, "no split"), {}, "undecided", "no split"),
        (
            Comparison("loss", "solo", "nats/token", "new", None, "x"),
            {"require_learning": False},
            "passed",
            "x; no limit",
        ),
    ],
)
def test_the_rule(comparison: Comparison, settings: dict[str, object], outcome: str, because: str) -> None:
    found = verdict(LEARNED, comparison, **settings)
    check = found.checks[1]
    assert because in check.because
    assert (check.outcome, check.passed) == (outcome, outcome == "passed")
    ruling = {"undecided": "held"}.get(outcome, outcome)
    assert (found.outcome, found.passed) == (ruling, ruling == "passed")
    if outcome == "refused":
        assert found.because == [f"{comparison.name}: {check.because}"]
    elif outcome == "undecided":
        assert found.because == [f"{comparison.name}: {check.because}: undecided"]
        assert found.undecided == [f"{comparison.kind} {comparison.name}"]


def test_only_the_guards_are_corrected_and_more_of_them_refuse_no_healthy_arrival() -> None:
    guards = [loss(f"d{number}", 0.0, 0.05) for number in range(60)]
    arrival = loss("news", -0.12, 0.05, "new", n=12)
    alone, beside = verdict(arrival), verdict(arrival, *guards)
    assert (alone.outcome, beside.outcome) == ("passed", "passed")
    assert alone.checks[0].p == beside.checks[0].p
    assert beside.checks[0].p_adjusted is None
    assert beside.checks[1].p_adjusted == 1.0
    assert (beside.checks[1].detectable or 0) > (verdict(arrival, guards[0]).checks[1].detectable or 1)


def test_the_correction_is_over_the_guards() -> None:
    comparisons = [loss("docs", 0.565, 0.022), loss("code", 0.1, 0.02), loss("old", 0.9, 0.01), task("piqa", 0, 0)]
    free = {"max_forgetting_by_dataset": {"old": None}}
    found = verdict(LEARNED, *comparisons, **free)
    adjusted = [check.p_adjusted for check in found.checks]
    assert (adjusted[0], adjusted[3]) == (None, None)
    assert adjusted[1] == pytest.approx(3 * (found.checks[1].p or 0))
    assert [check.passed for check in found.checks] == [True, False, True, True, True]
    more = [loss(f"web{number}", 0.1, 0.02) for number in range(6)]
    assert verdict(LEARNED, *comparisons, *more, **free).passed, "more tests, and 0.012 is no evidence any more"
    assert not verdict(LEARNED, *comparisons, *more, correction="none", **free).passed


def test_a_generated_task_holds_nothing_up_as_the_loss_on_its_documents_sees_more() -> None:
    few = task("rewarm_docs_continuation", 4, 1, n=48, generated=True)
    found = verdict(LEARNED, loss("docs", 0.1, 0.01), few)
    assert (found.outcome, found.checks[2].outcome, found.checks[2].counts) == ("passed", "undecided", False)
    assert found.because == [
        "2 of 3 checks passed; 1 generated tasks were too small to decide, so the losses on their documents decide"
    ]
    assert found.checks[2].because.endswith("; the loss on the same documents decides")
    assert verdict(LEARNED, loss("docs", 0.1, 0.4), few).undecided == ["loss docs"]
    harmed = task("rewarm_docs_continuation", 40, 1, n=48, generated=True)
    assert verdict(LEARNED, loss("docs", 0.1, 0.01), harmed).outcome == "refused"


def test_what_is_undecided_passes_where_that_is_asked_and_the_estimates_are_within_the_limits() -> None:
    doubtful = loss("docs", 0.1, 0.3)
    found = verdict(LEARNED, doubtful, undecided="pass")
    assert (found.outcome, found.undecided) == ("passed", ["loss docs"])
    assert found.because[0] == "1 of 2 checks passed"
    assert found.because[1].endswith(": undecided"), "it is told all the same"
    assert verdict(LEARNED, loss("docs", 0.7, 0.3), undecided="pass").outcome == "held"
    assert verdict(loss("news", 0.1, 0.3, "new"), undecided="pass").outcome == "held"
    assert verdict(loss("news", -0.1, 0.3, "new"), undecided="pass").outcome == "passed"
    assert verdict(order(4, n=10), undecided="pass").outcome == "held"
    missing = Comparison("loss", "solo", "nats/token", "new", None, "no split")
    assert verdict(missing, undecided="pass").outcome == "held"


def test_a_verdict_says_why_and_what_it_did_not_see() -> None:
    settings = GateSettings()
    refused = decide(
        [LEARNED, loss("docs", 2, 0.1), loss("web", 0, 9.0), loss("code", 3, 0.1)], settings, "0000-docs", ["wiki: no"]
    )
    assert [line.partition(":")[0] for line in refused.because] == ["docs", "code", "web", "wiki"]
    passed = decide([LEARNED], settings, "0000-docs", ["wiki: not compared"])
    assert passed.because == ["1 of 1 checks passed", "wiki: not compared"]
    assert decide([], settings, "0000-docs", []).because == ["there was nothing to compare"]


def test_the_lines_of_a_verdict() -> None:
    refused = list(verdict_lines(verdict(LEARNED, loss("docs", 2, 0.1))))
    assert refused[0] == "gate: REFUSED, against 0000-docs"
    assert refused[1].startswith("  docs: forgets 2.000, more than 0.5")
    assert "independent units" not in refused[1], "200 are enough"
    assert refused[2].startswith("  news (new): learned: -0.800")
    assert refused[2].endswith("nats per token, 200 documents, detects 0.14")
    assert next(verdict_lines(verdict(LEARNED))) == "gate: passed, against 0000-docs"
    held = list(verdict_lines(verdict(loss("docs", 0, 9.0)), "0003-x"))
    assert held[0] == "gate: HELD, undecided, against 0000-docs"
    assert "`rewarm promote WORKSPACE 0003-x`" in held[-1]
    assert list(verdict_lines(None)) == []


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("gate.max_forgetting=-1", "gate.max_forgetting"),
        ("gate.max_forgetting=.inf", "gate.max_forgetting"),
        ("gate.max_forgetting_by_dataset={docs: -1}", "docs: expected nats"),
        ("gate.max_forgetting_since_best=0.5", "gate.max_forgetting_since_best"),
        ("gate.max_task_drop=2", "gate.max_task_drop"),
        ("gate.max_task_drop_by_task={piqa: 2}", "piqa: expected a difference"),
        ("gate.min_learning=0", "gate.min_learning"),
        ("gate.alpha=0", "gate.alpha"),
        ("gate.power=0.4", "gate.power"),
        ("gate.undecided=maybe", "gate.undecided"),
        ("gate.units=page", "gate.units"),
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
