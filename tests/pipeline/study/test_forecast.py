"""The forecast: the best share, and the error that stands beside it; on planted laws and on the papers' tables."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from rewarm.pipeline.study import forecast as forecasts
from rewarm.pipeline.study.forecast import expected_error, forecast, steps_beyond
from rewarm.pipeline.study.mixture_law import Form, Law, Observation, fit
from rewarm.stages.core.errors import UsageError

# Ibrahim et al. 2024, 405M, final validation losses by replay share: on D0 (the Pile), and on D1.
GERMAN = {0.0: (3.56, 1.11), 0.01: (2.83, 1.12), 0.05: (2.57, 1.12), 0.1: (2.46, 1.13), 0.25: (2.33, 1.16),
          0.5: (2.24, 1.22)}  # fmt: skip
SLIM = {0.0: (2.44, 2.50), 0.005: (2.27, 2.50), 0.01: (2.26, 2.50), 0.05: (2.23, 2.51), 0.1: (2.21, 2.51),
        0.5: (2.16, 2.54)}  # fmt: skip
OLD = Law(False, 1e6, 2.0, -0.3, 1.2, 0.3, 0.2, 0.3, 0.01)
NEW = Law(True, 1e6, 1.0, 0.3, 1.0, 0.4, 1.0, 0.6, 0.2)


@pytest.fixture(scope="module", autouse=True)
def each_fit_once() -> Iterator[None]:
    """Forecasts of the same runs for other weights and lengths need the same fits: each is made once in this file."""
    made: dict[tuple[object, ...], Law] = {}

    def known(observations: Sequence[Observation], dataset: str, arrives: bool, form: Form) -> Law:
        points = tuple((one.run, one.share, one.tokens, one.losses.get(dataset)) for one in observations)
        key = (points, arrives, form)
        if key not in made:
            made[key] = fit(observations, dataset, arrives, form)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecasts, "fit", known)
        yield


def table(rows: dict[float, tuple[float, float]]) -> list[Observation]:
    return [Observation(f"{share:g}", share, 2e11, {"D0": old, "D1": new}) for share, (old, new) in rows.items()]


def planted(shares: tuple[float, ...], lengths: tuple[float, ...], seeds: int = 1) -> list[Observation]:
    return [
        Observation(
            f"{share}/{tokens}/{seed}",
            share,
            tokens,
            {"D0": OLD.predict(share, tokens) + 0.002 * (-1) ** seed, "D1": NEW.predict(share, tokens)},
        )
        for share in shares
        for tokens in lengths
        for seed in range(seeds)
    ]


@pytest.mark.parametrize(("rows", "inner", "mean"), [(GERMAN, 0.04, 0.01), (SLIM, 0.03, 0.01)], ids=["German", "Slim"])
def test_the_papers_tables_are_predicted_from_all_shares_but_one(
    rows: dict[float, tuple[float, float]], inner: float, mean: float
) -> None:
    """Between the shares of the table; what no replay does can only be measured."""
    observations, errors = table(rows), []
    for share in list(rows)[1:-1]:
        rest = [one for one in observations if one.share != share]
        found = forecast(rest, ["D1"], {"D0": 0.5, "D1": 0.5}, 2e11)
        losses = {name: law.predict(share, 2e11) for name, law in found.laws.items()}
        errors += [abs(losses["D0"] - rows[share][0]), abs(losses["D1"] - rows[share][1])]
    assert max(errors) < inner
    assert sum(errors) / len(errors) < mean


def test_the_german_table_names_a_share_and_says_how_sure_it_is() -> None:
    weights = {"D0": 1, "D1": 4}
    found = forecast(table(GERMAN), ["D1"], weights, 2e11)
    assert found.weights == {"D0": 0.2, "D1": 0.8}
    assert 0.1 < found.best.share < 0.3  # of the table's own means, 0.25 is the least: 1.394, against 1.396 at 0.1
    assert found.best.mean == pytest.approx(0.2 * 2.35 + 0.8 * 1.155, abs=0.02)
    assert all(found.best.mean <= point.mean + 1e-9 for point in found.curve)
    assert found.alike[0] <= found.best.share <= found.alike[1]
    errors = found.errors
    assert errors.longest is None
    assert errors.runs == errors.shares, "each run has a share of its own"
    assert errors.shares is not None
    assert errors.fitted.mean < 0.005 < errors.shares.mean
    assert errors.shares.max > 0.2, "the loss without replay cannot be told from the others"
    assert errors.shares.points == 12
    assert json.loads(json.dumps(found.to_json()))["best"]["share"] == found.best.share


def test_equal_weights_on_the_german_table_ask_for_more_replay_than_was_tried() -> None:
    found = forecast(table(GERMAN), ["D1"], {"D0": 1, "D1": 1}, 2e11)
    assert found.best.share > 0.4
    among = forecast(table(GERMAN), ["D1"], {"D0": 1, "D1": 1}, 2e11, shares=[0.25, 0.1])
    assert (among.best.share, [point.share for point in among.curve]) == (0.25, [0.1, 0.25])
    only_new = forecast(table(GERMAN), ["D1"], {"D0": 0, "D1": 1}, 2e11)
    assert only_new.best.share == 0
    assert any("smallest that was tried" in note for note in only_new.notes)


def test_the_planted_best_share_is_found_at_a_length_that_nobody_ran() -> None:
    weights, tokens = {"D0": 1.0, "D1": 3.0}, 8e6
    found = forecast(planted((0.0, 0.02, 0.1, 0.25, 0.5), (5e5, 1e6, 2e6, 4e6)), ["D1"], weights, tokens)
    means = {
        share: (OLD.predict(share, tokens) + 3 * NEW.predict(share, tokens)) / 4
        for share in [step / 1000 for step in range(501)]
    }
    assert means[round(found.best.share, 3)] == pytest.approx(min(means.values()), abs=0.003)
    errors = found.errors
    assert errors.longest is not None
    assert errors.longest.points == 10
    assert errors.longest.max < 0.05
    assert errors.runs is not None
    assert errors.runs.mean < 0.01
    assert any("2.0 times" in note for note in forecast_notes(tokens * 1.01))


def forecast_notes(tokens: float) -> list[str]:
    observations = planted((0.0, 0.05, 0.25, 0.5), (2e6, 4e6))
    return forecast(observations, ["D1"], {"D0": 1}, tokens).notes


def test_seeds_of_one_share_are_left_out_together() -> None:
    observations = planted((0.0, 0.05, 0.25, 0.5), (1e6,), seeds=3)
    errors = forecast(observations, ["D1"], {"D0": 1}, 1e6).errors
    assert errors.runs is not None
    assert errors.shares is not None
    assert errors.shares.mean > 3 * errors.runs.mean, "a seed's siblings tell the fit what it is asked for"


def test_two_lengths_leave_nothing_to_test_the_longest_with() -> None:
    observations = planted((0.0, 0.05, 0.25, 0.5), (1e6, 2e6))
    assert forecast(observations, ["D1"], {"D0": 1}, 2e6).errors.longest is None


def test_a_run_that_diverged_is_left_out_and_said() -> None:
    observations = planted((0.0, 0.01, 0.05, 0.25, 0.5), (1e6,), seeds=2)
    observations[0] = replace(observations[0], losses={"D0": math.nan, "D1": 2.0})
    found = forecast(observations, ["D1"], {"D0": 1, "D1": 1}, 3e6)
    assert math.isfinite(found.best.mean)
    assert any(note.startswith("1 points are left out") for note in found.notes)
    assert any("not of the 3,000,000 asked for" in note for note in found.notes)


@pytest.mark.parametrize(
    ("weights", "shares", "message"),
    [
        ({"D0": 1, "D2": 1}, None, "weights for D2, but losses of D0, D1"),
        ({"D0": -1, "D1": 3}, None, "none below 0"),
        ({"D0": 0, "D1": 0}, None, "one or more above"),
        ({"D0": 1}, [0.1, 1.0], r"expected one or more in \[0, 1\)"),
        ({"D0": 1}, [], "expected one or more"),
    ],
)
def test_what_cannot_be_forecast_is_refused(
    weights: dict[str, float], shares: list[float] | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        forecast(table(GERMAN), ["D1"], weights, 2e11, shares)
    with pytest.raises(UsageError, match="3 replay shares"):
        forecast(table(GERMAN)[:3], ["D1"], {"D0": 1}, 2e11)


def test_the_error_grows_with_the_distance_from_what_was_observed() -> None:
    shares, lengths = (0.0, 0.02, 0.1, 0.25, 0.5), (5e5, 1e6, 2e6, 4e6)
    made = [forecast(planted(shares, lengths), ["D1"], {"D0": 1, "D1": 3}, tokens) for tokens in (4e6, 8e6, 32e6)]
    errors = [one.error or math.nan for one in made]
    assert errors[0] < errors[1] < errors[2]
    assert [one.distance for one in made] == pytest.approx([0, 1, 3])
    assert errors[2] - errors[1] == pytest.approx(2 * (errors[1] - errors[0]))
    widths = [one.alike[1] - one.alike[0] for one in made]
    assert widths[0] <= widths[1] <= widths[2], "fewer shares can be told apart"


def test_a_length_of_which_the_runs_say_nothing_has_no_error() -> None:
    observations = planted((0.0, 0.05, 0.25, 0.5, 0.6), (1e6,))
    found = forecast(observations, ["D1"], {"D0": 1, "D1": 1}, 5e6)
    assert (found.error, found.alike) == (None, (0.0, 0.6))
    assert json.loads(json.dumps(found.to_json()))["distance"] is None
    assert forecast(observations, ["D1"], {"D0": 1, "D1": 1}, 1e6).error is not None


def test_steps_are_counted_from_either_end() -> None:
    assert steps_beyond(4e6, [1e6, 2e6]) == pytest.approx(1)
    assert steps_beyond(25e4, [1e6, 2e6]) == pytest.approx(2)
    assert steps_beyond(1.5e6, [1e6, 2e6]) == 0
    assert steps_beyond(2e6, [1e6]) == math.inf
    observations = planted((0.0, 0.05, 0.25, 0.5), (1e6, 2e6))
    errors = forecast(observations, ["D1"], {"D0": 1}, 2e6).errors
    assert expected_error(errors, 1.0) == pytest.approx(2 * (expected_error(errors, 0.0) or 0))


def test_the_share_is_held_where_the_arrival_would_cost_more() -> None:
    """On German half replay has the lowest mean and costs the arrival 0.11 nats, so the limit decides."""
    observations = table(GERMAN)
    weights = {"D0": 0.5, "D1": 0.5}
    free = forecast(observations, ["D1"], weights, 2e11)
    held = forecast(observations, ["D1"], weights, 2e11, arrival_cost=0.05)
    without = held.laws["D1"].predict(0.0, 2e11)
    assert held.best.share < free.best.share - 0.1
    assert held.best.losses["D1"] - without <= 0.05
    assert held.best.losses["D1"] - without == pytest.approx(0.05, abs=0.003), "as much replay as the limit leaves"
    assert held.notes[-1].startswith("without plan.arrival_cost = 0.05 nats the share would be")
    assert forecast(observations, ["D1"], weights, 2e11, arrival_cost=0.5).best == free.best
