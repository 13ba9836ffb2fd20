"""Every kind of schedule over a lineage of arrivals: against numbers worked out by hand, and properties of them all."""

import itertools
import math
from collections.abc import Sequence
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rewarm.stages.anneal import AnnealSettings, anneal_from
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import Mixture, Source
from rewarm.stages.train import Job, TrainSettings
from rewarm.stages.train.schedule import CARRIED_ON, Schedule, ScheduleSettings, schedule_for

PEAK, MINIMUM = 3e-4, 3e-5
TOKENS = 1_000_000
KINDS = tuple(
    kind for kind in get_args(ScheduleSettings.model_fields["kind"].annotation) if kind != "auto"
)  # the plan resolves it


def settings(**changes: object) -> ScheduleSettings:
    return ScheduleSettings.model_validate({"peak": PEAK, **changes})


def lineage(updates: Sequence[ScheduleSettings], tokens: Sequence[int], imported: bool = False) -> list[Schedule]:
    """The schedules of a base (unless it is imported) and of the updates after it."""
    made: list[Schedule] = []
    for number, (one, position) in enumerate(zip(updates, itertools.accumulate(tokens, initial=0), strict=False)):
        before = made[-1] if made else None
        made.append(schedule_for(one, position, tokens[number], before, imported))
    return made


def series(count: int, imported: bool = False, **changes: object) -> list[Schedule]:
    """A lineage of equal updates under one recipe."""
    return lineage([settings(**changes)] * count, [TOKENS] * count, imported)


# Worked out by hand from the papers' formulas, for datasets of 1 M tokens: the learning rate at these tokens of the
# lineage. Warmup 1 % (10,000 tokens); the middle of a decay lies 495,000 tokens after it, its quarter 247,500.
BASE, SECOND, THIRD = 0, TOKENS, 2 * TOKENS
WARM, MIDDLE, QUARTER, END = 10_000, 505_000, 257_500, 1_000_000
RATES: list[tuple[dict[str, object], dict[int, float]]] = [
    (
        {"kind": "cosine", "peak_multiplier": 2.0},
        {WARM: 3e-4, MIDDLE: 1.65e-4, END: 3e-5, SECOND + 5_000: 3e-4, SECOND + WARM: 6e-4, SECOND + MIDDLE: 3.3e-4}
        | {SECOND + END: 6e-5},  # 0.1 of the multiplied peak
    ),
    ({"kind": "cosine", "peak_multiplier": 0.5}, {WARM: 3e-4, SECOND + WARM: 1.5e-4, SECOND + END: 1.5e-5}),
    ({"kind": "cosine", "final_ratio": 0.0}, {MIDDLE: 1.5e-4, END: 0.0, SECOND + WARM: 3e-4}),
    ({"kind": "linear"}, {WARM: 3e-4, QUARTER: 2.25e-4, MIDDLE: 1.5e-4, END: 0.0, SECOND + WARM: 3e-4}),
    ({"kind": "linear", "final_ratio": 0.1}, {QUARTER: 2.325e-4, MIDDLE: 1.65e-4, END: 3e-5}),
    ({"kind": "constant"}, {WARM: 3e-4, END: 3e-4, SECOND + 5_000: 1.5e-4, SECOND + WARM: 3e-4, SECOND + END: 3e-4}),
    ({"kind": "constant", "level": "min"}, {WARM: 3e-5, END: 3e-5, SECOND + 1: 3e-5, SECOND + END: 3e-5}),
    (
        {"kind": "warmup-stable-decay"},
        {5_000: 1.5e-4, WARM: 3e-4, END: 3e-4, SECOND + 1: 3e-4, SECOND + END: 3e-4, THIRD + 1: 3e-4},
    ),
    ({"kind": "infinite"}, {WARM: 3e-4, 305_000: 2.325e-4, 600_000: 1.65e-4, SECOND + 1: 1.65e-4, THIRD: 1.65e-4}),
    (
        # x = 1/4, α = 8: h(x) = 1/√3 − 1, h(1) = 1/3 − 1
        {"kind": "infinite", "cooldown": "inverse-sqrt", "alpha": 8.0},
        {157_500: 3e-4 - 1.35e-4 * (1 - 1 / math.sqrt(3)) * 1.5, 600_000: 1.65e-4},
    ),
    ({"kind": "infinite", "peak_multiplier": 2.0}, {WARM: 3e-4, END: 1.65e-4, SECOND + END: 1.65e-4}),
    (
        {"kind": "infinite", "peak_multiplier": 2.0, "restart": True},
        {WARM: 3e-4, END: 1.65e-4, SECOND: 1.65e-4, SECOND + WARM: 6e-4, SECOND + 600_000: 3.3e-4},
    ),
    (
        # not re-warmed: a decay of the base, then on from where it ended, each time to a tenth
        {"kind": "cosine", "rewarm": False},
        {WARM: 3e-4, END: 3e-5, SECOND + 500_000: 1.65e-5, SECOND + END: 3e-6, THIRD + END: 3e-7},
    ),
    (
        {"kind": "cosine", "rewarm": False, "restart": True, "final_ratio": 0.01},
        {END: 3e-6, SECOND + 1e-3: 3e-5, SECOND + END: 3e-7, THIRD + 1e-3: 3e-5, THIRD + END: 3e-7},
    ),
    ({"kind": "linear", "rewarm": False}, {END: 0.0, SECOND + 1e-3: 3e-5, SECOND + 500_000: 1.5e-5, SECOND + END: 0.0}),
]


@pytest.mark.parametrize(("changes", "rates"), RATES, ids=lambda value: str(value)[:70])
def test_rates_worked_out_by_hand(changes: dict[str, object], rates: dict[int, float]) -> None:
    made = series(3, **changes)
    for tokens, rate in rates.items():
        update = made[min(2, max(0, math.ceil(tokens / TOKENS) - 1))]
        assert update.rate(tokens) == pytest.approx(rate, rel=1e-6, abs=1e-15), tokens


def test_autoregressive_peaks_follow_the_rule_of_tic_lm() -> None:
    """Their ``cosine_plus_ar_max_lr``: the cosine of all rounds so far, where the round's warmup ends, none counted.

    The base is trained before the series: the first update has the series' own peak, and round i stands at i/(i + 1).
    """
    made = series(5, kind="autoregressive", peak_multiplier=0.1)
    peaks = [schedule.phases[0].final for schedule in made]
    high, low = 0.1 * PEAK, 0.01 * PEAK
    angles = [0, math.pi / 2, 2 * math.pi / 3, 3 * math.pi / 4]
    assert peaks == pytest.approx([PEAK, *(low + (high - low) / 2 * (1 + math.cos(angle)) for angle in angles)])
    assert peaks[1:4] == pytest.approx([3e-5, 1.65e-5, 9.75e-6])
    assert [schedule.rate((number + 1) * TOKENS) for number, schedule in enumerate(made)] == pytest.approx(
        [MINIMUM, low, low, low, low]
    )


def test_autoregressive_weighs_rounds_by_their_tokens() -> None:
    one = settings(kind="autoregressive")
    made = lineage([one] * 3, [5 * TOKENS, 3 * TOKENS, TOKENS])
    assert made[2].phases[0].final == pytest.approx(MINIMUM + (PEAK - MINIMUM) / 2 * (1 + math.cos(math.pi * 3 / 4)))


def test_an_autoregressive_series_begins_with_its_first_update_and_on_request() -> None:
    cosine, one = settings(kind="cosine"), settings(kind="autoregressive")
    again = settings(kind="autoregressive", restart=True)
    made = lineage([cosine, cosine, one, one, again, one], [TOKENS] * 6)
    middle = (PEAK + MINIMUM) / 2
    assert [schedule.phases[0].final for schedule in made[2:]] == pytest.approx([PEAK, middle, PEAK, middle])
    assert series(1, imported=True, kind="autoregressive")[0].phases[0].final == pytest.approx(PEAK)


def test_an_imported_model_re_warms_or_starts_at_the_minimum() -> None:
    assert series(1, imported=True, kind="cosine", peak_multiplier=0.5)[0].rate(WARM) == pytest.approx(PEAK / 2)
    reuse = series(1, imported=True, kind="cosine", rewarm=False, final_ratio=0.01)[0]
    assert [phase.name for phase in reuse.phases] == ["decay"]
    assert (reuse.rate(0), reuse.rate(TOKENS)) == pytest.approx((MINIMUM, MINIMUM / 100))
    lowest = series(1, imported=True, kind="constant", level="min")[0]
    assert lowest.rate(0) == lowest.rate(TOKENS) == pytest.approx(MINIMUM)


@pytest.mark.parametrize(
    "changes", [{"kind": kind} for kind in KINDS] + [{"kind": "constant", "level": "min"}], ids=str
)
def test_random_weights_are_warmed_up_whatever_updates_do(changes: dict[str, object]) -> None:
    base = series(1, peak_multiplier=2.0, **changes)[0]
    assert base.rate(0) == 0
    assert base.rate(WARM) <= PEAK
    if changes["kind"] in ("cosine", "linear"):
        assert series(1, rewarm=False, **changes) == series(1, **changes)


@pytest.mark.parametrize("steps", [1, 2, 50])
@pytest.mark.parametrize("changes", [{"kind": "linear"}, {"kind": "cosine", "final_ratio": 0.0}], ids=str)
def test_every_step_of_a_decay_to_zero_trains(changes: dict[str, object], steps: int) -> None:
    """A step has the rate at its end, which for the last one (or the only one) is 0: it takes that of its middle."""
    mixture = Mixture((Source("new", 1000, 1),), (), "0", 64, 8, steps)
    nowhere, tokens = Folder("/nowhere"), steps * mixture.tokens_per_step
    job = Job(
        "train", mixture, 0, steps, 0, schedule_for(settings(**changes), 0, tokens, None), nowhere, "", None, {}, {},
        nowhere, nowhere, TrainSettings(), 0,
    )  # fmt: skip
    rates = [job.rate(step) for step in range(steps)]
    assert min(rates) > 0
    assert job.schedule.rate(tokens) == 0
    assert rates[-1] == job.schedule.rate(tokens - mixture.tokens_per_step / 2)


def test_no_re_warming_goes_on_where_the_trunk_ended() -> None:
    kinds: list[dict[str, object]] = [{"kind": kind} for kind in ("infinite", "warmup-stable-decay", "cosine")]
    for changes in kinds:
        before, after = lineage([settings(**changes), settings(kind="cosine", rewarm=False)], [TOKENS, TOKENS])
        assert after.rate(TOKENS) == pytest.approx(before.rate(TOKENS), rel=1e-12)
        assert after.rate(2 * TOKENS) == pytest.approx(0.1 * before.rate(TOKENS))


def test_only_what_has_decayed_or_stays_at_the_minimum_leaves_nothing_to_anneal() -> None:
    decayed = {kind: [schedule.decayed for schedule in series(2, kind=kind)] for kind in KINDS}
    yes, no = [True, True], [False, False]
    assert decayed == {
        "cosine": yes,
        "linear": yes,
        "autoregressive": yes,
        "infinite": no,
        "warmup-stable-decay": no,
        "constant": no,
    }
    assert [schedule.decayed for schedule in series(2, kind="constant", level="min")] == yes
    assert series(2, kind="cosine", rewarm=False)[1].decayed


@st.composite
def recipes(draw: st.DrawFn) -> ScheduleSettings:
    kind = draw(st.sampled_from(KINDS))
    return settings(
        kind=kind,
        peak_multiplier=draw(st.sampled_from([0.1, 0.5, 1.0, 2.0])),
        rewarm=draw(st.booleans()) if kind in ("cosine", "linear") else True,
        level=draw(st.sampled_from(["max", "min"])),
        final_ratio=draw(st.sampled_from([None, 0.0, 0.01, 1.0])),
        warmup_share=draw(st.sampled_from([0.0, 0.01, 0.3])),
        cooldown=draw(st.sampled_from(["cosine", "inverse-sqrt"])),
        cooldown_share=draw(st.floats(0.31, 1.0)),
        alpha=draw(st.floats(0.1, 100)),
        restart=draw(st.booleans()),
    )


lineages = st.lists(st.tuples(recipes(), st.integers(10_000, 10**12)), min_size=1, max_size=5)


@given(lineages, st.booleans())
def test_continuous_in_every_update_and_never_above_the_peak(
    updates: list[tuple[ScheduleSettings, int]], imported: bool
) -> None:
    tokens = [count for _, count in updates]
    made = lineage([one for one, _ in updates], tokens, imported)
    for schedule, (one, count), position in zip(made, updates, itertools.accumulate(tokens, initial=0), strict=False):
        for before, after in itertools.pairwise(schedule.phases):
            assert before.end == after.start
            assert before.final == after.initial
        highest = max(phase.rate(phase.start) for phase in schedule.phases) * (1 + 1e-12)
        rates = [schedule.rate(position + count * part / 50) for part in range(51)]
        assert all(0 <= rate <= highest for rate in rates)
        assert highest <= PEAK * 2 * (1 + 1e-9)
        assert schedule.phases[0].start <= position
        if not (schedule.decayed or schedule.kind in CARRIED_ON):
            assert schedule.phases[-1].end == position + count
        assert Schedule.from_json(schedule.to_json()) == schedule
        if not schedule.decayed:
            branch = anneal_from(schedule, position + count, count, one.minimum, AnnealSettings())
            assert branch.rate(position + count) == pytest.approx(schedule.rate(position + count), rel=1e-9)


@given(
    st.sampled_from(CARRIED_ON),
    st.lists(st.integers(10_000, 10**10), min_size=2, max_size=8),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.booleans(),
)
def test_warmup_and_cooldown_happen_once_in_the_lineage(
    kind: str, tokens: list[int], multiplier: float, imported: bool
) -> None:
    made = lineage([settings(kind=kind, peak_multiplier=multiplier)] * len(tokens), tokens, imported)
    assert all(schedule == made[0] for schedule in made)
    rate = made[0].phases[-1].final
    for number, position in enumerate(itertools.accumulate(tokens[:-1]), start=1):
        assert {made[number].rate(position + tokens[number] * part / 7) for part in range(8)} == {rate}


@given(recipes(), st.integers(1, 50), st.integers(1, 8))
def test_the_batch_does_not_change_the_rate_at_a_token(one: ScheduleSettings, steps: int, finer: int) -> None:
    tokens_per_step = 4096
    tokens = steps * finer * tokens_per_step
    schedule = schedule_for(one, 3 * TOKENS, tokens, None)
    coarse = [schedule.rate(3 * TOKENS + step * finer * tokens_per_step) for step in range(steps + 1)]
    fine = [schedule.rate(3 * TOKENS + step * tokens_per_step) for step in range(steps * finer + 1)]
    assert fine[::finer] == coarse


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "infinite", "rewarm": False},
        {"kind": "autoregressive", "rewarm": False},
        {"kind": "constant", "level": "middle"},
        {"peak_multiplier": 0},
        {"final_ratio": 1.5},
        {"kind": "wsd"},
    ],
    ids=str,
)
def test_settings_that_contradict_each_other_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings(**wrong)


def test_a_long_warmup_needs_no_cooldown_where_there_is_none() -> None:
    assert settings(kind="cosine", warmup_share=0.7).warmup_share == 0.7
