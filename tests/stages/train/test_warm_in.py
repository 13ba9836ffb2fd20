"""The warm-in of an update that continues a constant rate with an empty optimizer."""

import pytest

from rewarm.stages.train import Schedule, ScheduleSettings, schedule_for

KINDS = ("infinite", "warmup-stable-decay")


def after_base(kind: str, reset: bool = True, **changes: object) -> tuple[Schedule, Schedule]:
    given = ScheduleSettings.model_validate({"kind": kind, "peak": 1e-3, "warm_in_share": 0.1, **changes})
    base = schedule_for(given, 0, 10_000, None)
    return base, schedule_for(given, 10_000, 5000, base, reset=reset)


@pytest.mark.parametrize("kind", KINDS)
def test_the_rate_rises_to_the_trunks(kind: str) -> None:
    base, update = after_base(kind)
    full = base.rate(10_000)
    assert base.warm_in is None, "a base warms up by its schedule"
    assert update.warm_in == (10_000, 10_500)
    assert [update.rate(10_000 + tokens) for tokens in (0, 125, 250, 500, 5000)] == pytest.approx(
        [0, full / 4, full / 2, full, full]
    )
    assert Schedule.from_json(update.to_json()) == update
    later = schedule_for(ScheduleSettings(kind=kind, peak=1e-3), 15_000, 5000, update)
    assert later == base, "the next update continues the schedule, not the warm-in"


@pytest.mark.parametrize("kind", KINDS)
def test_kept_moments_are_not_warmed_in(kind: str) -> None:
    base, update = after_base(kind, reset=False)
    assert update == base
    assert "warm_in" not in update.to_json()


@pytest.mark.parametrize("changes", [{"kind": "cosine"}, {"kind": "constant"}, {"kind": "infinite", "restart": True}])
def test_an_update_that_warms_up_is_not_warmed_in_twice(changes: dict[str, object]) -> None:
    _, update = after_base(**changes)  # type: ignore[arg-type]
    assert update.warm_in is None
    assert update.phases[0].name == "warmup"
