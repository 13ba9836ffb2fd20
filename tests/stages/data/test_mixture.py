"""The data order: a pure function of the step, exact in its share, the same on any number of workers."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rewarm.stages.data.mixture
from rewarm.stages.core.errors import StageError
from rewarm.stages.data.mixture import PERIOD, Cycle, Mixture, Source, apportion, turns
from rewarm.stages.data.order import order_key, permute

SHARES = st.sampled_from(["0", "1/100", "1/20", "1/10", "1/4", "1/3", "1/2", "123457/1000000", "999999/1000000"])


def mixture(share: str = "1/4", steps: int = 40, new: int = 500, **other: int) -> Mixture:
    replayed = (Source("old", 300, 3, other.get("start", 0), 3), Source("older", 70, 5, 0, 1))
    return Mixture((Source("new", new, 7),), replayed if share != "0" else (), share, 16, 16, steps)


def sequences(made: Mixture, first: int, last: int) -> list[tuple[str, int]]:
    """Dataset and sequence at every place of the steps."""
    places = []
    for step in range(first, last):
        numbers, starts = made.batch(step)
        indices = starts // made.seq_len
        places += [(made.sources[number].dataset, int(index)) for number, index in zip(numbers, indices, strict=True)]
    return places


@settings(deadline=None)
@given(size=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
def test_permutation_takes_every_sequence_once(size: int, key: int) -> None:
    assert sorted(permute(np.arange(size), size, key).tolist()) == list(range(size))


def test_permutation_does_not_depend_on_what_else_is_asked() -> None:
    whole = permute(np.arange(1000), 1000, 11)
    assert permute(np.array([17, 3, 999]), 1000, 11).tolist() == whole[[17, 3, 999]].tolist()


def test_permutation_mixes_and_keys_differ() -> None:
    one, other = permute(np.arange(10_000), 10_000, 1), permute(np.arange(10_000), 10_000, 2)
    assert (one == other).mean() < 0.01
    assert abs(np.corrcoef(np.arange(10_000), one)[0, 1]) < 0.05


@settings(deadline=None)
@given(share=SHARES, places=st.integers(1, 5000))
def test_share_is_within_one_sequence_at_every_place(share: str, places: int) -> None:
    made = mixture(share)
    numbers, _ = made.assign(np.arange(places))
    replayed = np.cumsum(numbers > 0)
    wanted = np.array([float(Fraction(share) * (place + 1)) for place in range(places)])
    assert np.abs(replayed - wanted).max() <= 1


@settings(deadline=None)
@given(share=SHARES, first=st.integers(0, 50), steps=st.integers(0, 50))
def test_count_is_what_the_batches_hold(share: str, first: int, steps: int) -> None:
    made = mixture(share)
    numbers = np.concatenate([made.batch(step)[0] for step in range(first, first + steps)] or [np.array([], int)])
    assert made.count(first, steps) == [int((numbers == source).sum()) for source in range(len(made.sources))]


def test_new_data_comes_in_the_same_order_whatever_the_share() -> None:
    orders = {}
    for share in ("0", "1/20", "1/4", "1/2"):
        orders[share] = [index for name, index in sequences(mixture(share), 0, 20) if name == "new"]
    for share, order in orders.items():
        assert order == orders["0"][: len(order)], share


def test_replay_keeps_the_order_in_which_the_dataset_was_new() -> None:
    was_new = Mixture((Source("old", 300, 3),), (), "0", 16, 16, 18)
    then = [index for _, index in sequences(was_new, 0, 18)]
    replayed = [index for name, index in sequences(mixture("1/2"), 0, 40) if name == "old"]
    assert replayed[:200] == then[:200]


def test_replay_goes_on_where_the_last_update_stopped() -> None:
    whole = [index for name, index in sequences(mixture("1/4", steps=40), 0, 40) if name == "old"]
    later = [index for name, index in sequences(mixture("1/4", start=50), 0, 20) if name == "old"]
    assert later[:40] == whole[50:90]


def test_replayed_datasets_share_by_their_weights() -> None:
    counts = mixture("1/2", steps=100).count(0, 100)
    assert sum(counts) == 1600
    assert counts[0] == 800
    assert counts[1] == pytest.approx(600, abs=1)


@settings(deadline=None, max_examples=60)
@given(weights=st.lists(st.integers(1, 400), min_size=1, max_size=12))
def test_every_source_is_within_one_sequence_of_its_weight_at_every_place(weights: list[int]) -> None:
    counts, order, ranks = turns(tuple(weights))
    slots = np.arange(1, len(order) + 1)
    for number, weight in enumerate(weights):
        mine = order == number
        exact = slots * weight
        had = np.cumsum(mine)
        assert (had >= exact // sum(weights)).all()
        assert (had <= -(-exact // sum(weights))).all()
        assert ranks[mine].tolist() == list(range(counts[number]))


@settings(deadline=None, max_examples=40)
@given(
    weights=st.lists(st.integers(1, 60), min_size=1, max_size=9),
    share=st.sampled_from(["1/20", "1/3", "123457/1000000"]),
    steps=st.integers(1, 60),
)
def test_sources_of_a_mixture_stay_within_one_sequence_and_read_on_without_gaps(
    weights: list[int], share: str, steps: int
) -> None:
    replayed = tuple(Source(f"d{number}", 1000, 1, 0, weight) for number, weight in enumerate(weights))
    made = Mixture((Source("new", 1000, 7),), replayed, share, 16, 16, steps)
    numbers, positions = made.assign(np.arange(steps * 16))
    so_far = np.cumsum(numbers > 0)
    for number, weight in enumerate(weights, start=1):
        had = np.cumsum(numbers == number)
        assert (np.abs(had - so_far * weight / sum(weights)) < 1).all()
        assert positions[numbers == number].tolist() == list(range(had[-1]))
    assert made.count(0, steps) == np.bincount(numbers, minlength=len(weights) + 1).tolist()


@settings(deadline=None)
@given(
    weights=st.lists(st.one_of(st.integers(1, 10), st.integers(10**6, 10**15)), min_size=1, max_size=20).map(
        lambda values: [Fraction(value) for value in values]
    )
)
def test_weights_become_small_whole_numbers_in_proportion(weights: list[Fraction]) -> None:
    counts = apportion(weights)
    assert min(counts) >= 1
    assert sum(counts) <= PERIOD
    assert apportion([Fraction(count) for count in counts]) == counts
    for weight, count in zip(weights, counts, strict=True):
        exact = weight / sum(weights)
        assert abs(Fraction(count, sum(counts)) - exact) <= Fraction(len(weights), PERIOD)


def test_simple_proportions_are_kept_exactly() -> None:
    assert apportion([Fraction("4.5"), Fraction("2.5"), Fraction(2)]) == (9, 5, 4)
    assert apportion([Fraction(3 * 10**14), Fraction(10**14)]) == (3, 1)


def test_two_new_datasets_are_read_by_their_weights() -> None:
    made = Mixture((Source("a", 100, 1, 0, 2), Source("b", 100, 1, 0, 1)), (), "0", 8, 12, 10)
    assert made.count(0, 10) == [80, 40]
    assert made.count(3, 4) == [32, 16]


def test_a_second_epoch_reads_everything_again_in_another_order() -> None:
    made = Mixture((Source("new", 32, 7),), (), "0", 8, 16, 4)
    first, second = sequences(made, 0, 2), sequences(made, 2, 4)
    assert sorted(first) == sorted(second)
    assert first != second


def test_no_sequence_repeats_before_the_dataset_is_through() -> None:
    made = mixture("1/4", steps=41)
    new = [index for name, index in sequences(made, 0, 41) if name == "new"]
    assert len(set(new)) == len(new) == 492


def test_json_round_trip() -> None:
    made = mixture()
    assert Mixture.from_json(made.to_json()) == made


def test_billions_of_sequences_neither_overflow_nor_need_a_table() -> None:
    huge = Mixture(
        (Source("new", 10**11, 1, 0, 2 * 10**14),),
        (Source("old", 10**10, 2, 0, 2 * 10**13),),
        "1/20",
        2048,
        1104,
        10**8,
    )
    numbers, starts = huge.batch(9 * 10**7)
    assert ((starts >= 0) & (starts < 10**11 * 2048)).all()
    assert 50 <= (numbers == 1).sum() <= 60
    counts = huge.count(0, 10**8)
    assert sum(counts) == 1104 * 10**8
    assert counts[1] == 1104 * 10**8 // 20


def test_orders_of_datasets_differ() -> None:
    assert order_key(0, "a", 0) != order_key(0, "b", 0) != order_key(1, "a", 0)


# -- versions ----------------------------------------------------------------------------------------------------

STORED = {  # as version 1 wrote it
    "new": [
        {"dataset": "news", "num_sequences": 37, "order_seed": 7, "start": 0, "weight": 3, "view": ""},
        {"dataset": "blogs", "num_sequences": 20, "order_seed": 8, "start": 0, "weight": 1, "view": ""},
    ],
    "replayed": [
        {"dataset": "old", "num_sequences": 300, "order_seed": 3, "start": 290, "weight": 7, "view": ""},
        {"dataset": "books", "num_sequences": 70, "order_seed": 5, "start": 11, "weight": 2, "view": "wiki"},
    ],
    "share": "1/3",
    "seq_len": 16,
    "global_batch": 6,
    "steps": 12,
}
GOLDEN = {  # step → numbers of the sources, first tokens of the sequences
    0: ([0, 0, 2, 0, 1, 2], [320, 528, 3664, 256, 288, 1872]),
    5: ([0, 0, 2, 0, 1, 2], [272, 16, 2240, 512, 48, 64]),
    11: ([0, 0, 2, 0, 1, 2], [240, 160, 928, 96, 256, 3248]),
}


def test_a_mixture_of_version_1_is_read_as_it_was() -> None:
    made = Mixture.from_json(STORED)
    assert made.version == 1
    for step, expected in GOLDEN.items():
        assert tuple(part.tolist() for part in made.batch(step)) == expected


SECOND = Mixture(
    new=(Source("news", 37, 7, 0, 37, num_tokens=600), Source("blogs", 20, 8, 0, 20, num_tokens=333)),
    replayed=(
        Source("old", 300, 3, 290, 15, num_tokens=4812),
        Source("books", 70, 5, 2, 9, "wiki", num_tokens=1125, passes=1, read=((40, 3), (8, 11))),
    ),
    share="1/3",
    seq_len=16,
    global_batch=6,
    steps=12,
    carried=2,
)
SECOND_GOLDEN = {
    0: ([2, 0, 1, 3, 0, 0], [3664, 320, 288, 700, 528, 256]),
    5: ([2, 0, 1, 2, 0, 0], [3328, 480, 272, 2704, 224, 272]),
    11: ([2, 1, 0, 3, 0, 1], [2715, 112, 304, 216, 112, 80]),
}


def test_version_2_reads_what_it_always_read() -> None:
    """A refactoring must not change what a resumed run reads: these values change with ``ORDER_VERSION`` alone."""
    made = Mixture.from_json(json.loads(json.dumps(SECOND.to_json())))
    assert made == SECOND
    for step, expected in SECOND_GOLDEN.items():
        assert tuple(part.tolist() for part in made.batch(step)) == expected


def test_a_later_version_is_refused() -> None:
    with pytest.raises(StageError, match="version 3, this program supports up to 2"):
        Mixture.from_json({**SECOND.to_json(), "version": 3})


# -- cycles ------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(weights=st.lists(st.integers(1, 3000), min_size=2, max_size=8), first=st.floats(0, 1))
def test_a_cycle_of_many_rounds_is_exact_at_its_end_and_near_it_everywhere(weights: list[int], first: float) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rewarm.stages.data.mixture, "PERIOD", 1000)
        cycle = Cycle(tuple(weights))
        assert cycle.taken(cycle.length) == weights
        begin = int(first * cycle.length)
        before = np.array(cycle.taken(begin))
        numbers, ranks = cycle.assign(np.arange(begin, begin + 500))
        for number, weight in enumerate(weights):
            mine = numbers == number
            had = before[number] + np.cumsum(mine)
            ahead = had - np.arange(begin + 1, begin + 501) * weight / cycle.length
            assert (ahead > -2).all()
            assert (ahead < len(weights) + 1).all()
            assert ranks[mine].tolist() == list(range(before[number], had[-1]))
        assert cycle.taken(begin + 500) == (before + np.bincount(numbers, minlength=len(weights))).tolist()


def test_a_cycle_of_hundreds_of_thousands_of_turns_is_exact() -> None:
    weights = [1, 7, 99_995, 120_001]
    assert Cycle(tuple(weights)).taken(sum(weights)) == weights


@settings(deadline=None)
@given(share=SHARES, carried=st.integers(0, 10**6), places=st.integers(0, 3000))
def test_what_is_carried_moves_replay_forward_by_less_than_a_sequence(share: str, carried: int, places: int) -> None:
    exact = Fraction(share)
    units = carried % exact.denominator
    made = replace(mixture(share, steps=200), carried=units)
    numbers, _ = made.assign(np.arange(places))
    assert (numbers > 0).sum() == (places * exact.numerator + units) // exact.denominator
