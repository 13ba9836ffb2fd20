"""Replay: the mixture that an update trains on, and the account of it."""

from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from replay_world import write_dataset

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import Mixture
from rewarm.stages.data.tokens import TokenSet, write_selection
from rewarm.stages.replay import (
    MIXTURE,
    Arrival,
    Budget,
    Carried,
    Draw,
    Earlier,
    ReplayOutcome,
    ReplaySettings,
    check,
    run,
    token_sets,
)
from rewarm.stages.replay.shares import weigh

SEQ_LEN, BATCH = 16, 4
SEQUENCES = {"new": 40, "old": 30, "older": 10, "short": 0}
Mix = Callable[..., tuple[ReplayOutcome, Mixture, list[str]]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Datasets of 40, 30 and 10 sequences of 16 tokens, and one that holds none."""
    folder = Folder(tmp_path_factory.mktemp("datasets"))
    for name, count in SEQUENCES.items():
        write_dataset(folder / name, [(None, count * SEQ_LEN + 1)] if count else [(None, 5)], shards=1)
    return folder


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def mix(root: Folder, tmp_path: Path) -> Mix:
    def made(
        share: float,
        budget: int | None = None,
        earlier: dict[str, int] | None = None,
        positions: dict[str, int] | None = None,
        update: str = "0002-new",
        arrivals: dict[str, TokenSet] | None = None,
        view: str = "",
        **other: Any,
    ) -> tuple[ReplayOutcome, Mixture, list[str]]:
        notes, out = Notes(), Folder(tmp_path) / "mixture"
        ages = {"old": 2, "older": 1} if earlier is None else earlier
        datasets = [datum(root, name, age) for name, age in ages.items()]
        arrivals = arrivals or {"new": TokenSet(root / "new" / "tokens" / "train")}
        chosen = ReplaySettings(share=share, **other)
        before = Carried(read={name: ((SEQ_LEN, count),) for name, count in (positions or {}).items()})
        size, draw = Budget(SEQ_LEN, BATCH, budget), Draw(7, update)
        outcome = run(Arrival(arrivals, view=view), datasets, before, size, draw, out, chosen, notes)
        return outcome, Mixture.from_json(out.read_json(MIXTURE)), notes.said

    return made


def datum(root: Folder, name: str, age: int) -> Earlier:
    return Earlier(name, root / name / "tokens" / "train", root / name / "documents", 1, age)


def replayed(mixture: Mixture, dataset: str) -> list[int]:
    """The sequences of a dataset in the order in which they are replayed."""
    found: list[int] = []
    for step in range(mixture.steps):
        numbers, starts = mixture.batch(step)
        names = np.array([source.dataset for source in mixture.sources])[numbers]
        found += (starts[names == dataset] // SEQ_LEN).tolist()
    return found


def test_the_update_costs_the_same_tokens_whatever_the_share(mix: Mix) -> None:
    for share in (0.0, 0.05, 0.25, 0.5):
        outcome, mixture, _ = mix(share)
        assert outcome.planned == 640 == outcome.new + outcome.replayed
        assert abs(outcome.replayed / 16 - share * 40) <= 1
        assert mixture.steps == 10


def test_replayed_datasets_share_by_tokens(mix: Mix) -> None:
    outcome, _, _ = mix(0.5)
    parts = outcome.by_dataset
    assert {name: part["sequences"] for name, part in parts.items()} == {"old": 15, "older": 5}
    assert sum(part["share"] for part in parts.values()) == pytest.approx(outcome.achieved)


def test_a_budget_is_cut_to_whole_batches(mix: Mix) -> None:
    assert mix(0.25, budget=300)[0].planned == 256


def test_a_budget_past_the_data_reads_it_again_and_says_so(mix: Mix) -> None:
    outcome, _, notes = mix(0, budget=1280)
    assert outcome.epochs == 2
    assert notes == ["replay: new is read 2.00 times, each time in a different order"]


def test_nothing_to_replay_is_said(mix: Mix) -> None:
    for earlier in ({}, {"short": 1}):
        outcome, mixture, notes = mix(0.25, earlier=earlier)
        assert (outcome.requested, outcome.achieved, outcome.source, mixture.share) == (0.25, 0, "none", "0")
        assert any("no earlier data to replay; the share of 25.00% (10.0 sequences)" in note for note in notes)
        assert bool(earlier) == any("do not fill a sequence of 16: short (5)" in note for note in notes)


@pytest.mark.parametrize("budget", [None, 30])
def test_less_than_one_batch_is_refused(mix: Mix, root: Folder, budget: int | None) -> None:
    name = "short" if budget is None else "new"
    with pytest.raises(UsageError, match="one step needs 4"):
        mix(0, budget=budget, earlier={}, arrivals={name: TokenSet(root / name / "tokens" / "train")})


# -- weights -----------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    tokens=st.integers(1, 10**13),
    age=st.integers(1, 200),
    half_life=st.floats(0.1, 50),
    floor=st.floats(0, 0.5),
)
def test_recency_halves_with_every_half_life_and_stops_at_the_floor(
    tokens: int, age: int, half_life: float, floor: float
) -> None:
    chosen = ReplaySettings(by="recency", half_life=half_life, floor=floor)
    found = float(weigh(Earlier("x", Folder("x"), Folder("x"), 0, age), tokens, chosen))
    assert found == pytest.approx(tokens * max(0.5 ** (age / half_life), floor))


def test_recent_datasets_are_replayed_more_and_what_faded_to_the_floor_is_said(mix: Mix) -> None:
    outcome, _, notes = mix(0.5, by="recency", half_life=1.0, earlier={"old": 3, "older": 1})
    counts = {name: part["sequences"] for name, part in outcome.by_dataset.items()}
    assert counts == {"old": 9, "older": 11}  # 481/8 to 161/2, of 20: 8.55 and 11.45
    assert not [note for note in notes if "floor" in note]
    outcome, _, notes = mix(0.5, by="recency", half_life=0.25, floor=0.25, earlier={"old": 3, "older": 1})
    assert {name: part["sequences"] for name, part in outcome.by_dataset.items()} == {"old": 15, "older": 5}
    assert any("old, older: discounted to the floor" in note for note in notes)


def test_given_shares_are_relative_and_zero_leaves_out(mix: Mix) -> None:
    outcome, _, _ = mix(0.5, by="shares", shares={"old": 1, "older": 3})
    assert {name: part["sequences"] for name, part in outcome.by_dataset.items()} == {"old": 5, "older": 15}
    outcome, _, notes = mix(0.5, by="shares", shares={"old": 0, "older": 3, "new": 1})
    assert {name: part["sequences"] for name, part in outcome.by_dataset.items()} == {"older": 20}
    assert any("older is read 2.00 times" in note for note in notes)


def test_shares_that_name_what_is_not_there_are_refused_before_anything_is_read() -> None:
    earlier = [Earlier(name, Folder("/nowhere"), Folder("/nowhere"), 0, 1) for name in ("old", "older")]
    with pytest.raises(UsageError, match="no dataset 'odler'; did you mean 'older'"):
        check(ReplaySettings(by="shares", shares={"old": 1, "odler": 1}), earlier, ["new"], SEQ_LEN)
    with pytest.raises(UsageError, match="no number for older"):
        check(ReplaySettings(by="shares", shares={"old": 1, "new": 1}), earlier, ["new"], SEQ_LEN)


@settings(deadline=None, max_examples=15)
@given(shares=st.tuples(st.floats(0.001, 1000), st.floats(0.001, 1000)), share=st.floats(0.01, 0.9))
def test_shares_are_achieved_to_within_a_sequence(
    root: Folder, tmp_path_factory: pytest.TempPathFactory, shares: tuple[float, float], share: float
) -> None:
    chosen = ReplaySettings(share=share, by="shares", shares=dict(zip(("old", "older"), shares, strict=True)))
    out = Folder(tmp_path_factory.mktemp("out"))
    datasets = [datum(root, name, 1) for name in ("old", "older")]
    arrivals = {"new": TokenSet(root / "new" / "tokens" / "train")}
    size, draw = Budget(SEQ_LEN, BATCH, 1600 * SEQ_LEN), Draw(7, "0001-new")
    outcome = run(Arrival(arrivals), datasets, Carried(), size, draw, out, chosen, Silent())
    count = outcome.replayed // SEQ_LEN
    assert abs(count - 1600 * share) < 1.01
    for name, part in zip(("old", "older"), shares, strict=True):
        assert abs(outcome.by_dataset[name]["sequences"] - count * part / sum(shares)) < 1.02


# -- the floor ---------------------------------------------------------------------------------------------------


def test_the_floor_lifts_a_small_share_and_says_so_but_leaves_none_alone(mix: Mix) -> None:
    outcome, mixture, notes = mix(0.002, budget=400 * SEQ_LEN)
    assert (outcome.requested, outcome.achieved, mixture.share) == (0.002, 0.01, "1/100")
    assert any("raised to the floor of 1.00%" in note for note in notes)
    assert mix(0.0)[1].share == "0"
    assert mix(0.002, floor=0.0, budget=500 * SEQ_LEN)[1].share == "1/500"
    assert mix(0.05)[1].share == "1/20"


# -- order and position ------------------------------------------------------------------------------------------


def test_replay_begins_where_it_stopped_or_starts_over(mix: Mix) -> None:
    outcome, mixture, _ = mix(0.5, positions={"old": 12})
    assert mixture.replayed[0].start == 12
    assert (outcome.by_dataset["old"]["from"], outcome.by_dataset["old"]["to"]) == (12 * 16, 27 * 16)
    whole = mix(0.9, earlier={"old": 1})[1]
    assert replayed(mixture, "old") == replayed(whole, "old")[12:27]
    again = mix(0.5, positions={"old": 12}, position="restart")[1]
    assert replayed(again, "old") == replayed(whole, "old")[:15]


def test_a_reshuffled_order_is_another_one_for_each_update(mix: Mix) -> None:
    own = replayed(mix(0.5)[1], "old")
    outcome, mixture, _ = mix(0.5, positions={"old": 12}, order="reshuffled")
    one = replayed(mixture, "old")
    assert one == replayed(mix(0.5, order="reshuffled")[1], "old")
    other = replayed(mix(0.5, order="reshuffled", update="0003-next")[1], "old")
    assert len({tuple(own), tuple(one), tuple(other)}) == 3
    assert outcome.by_dataset["old"]["order"] == "reshuffled"
    assert (outcome.by_dataset["old"]["from"], outcome.by_dataset["old"]["to"]) == (0, 15 * 16)


def test_every_epoch_of_the_arrival_has_fresh_replay(mix: Mix) -> None:
    outcome, mixture, _ = mix(0.25, budget=2 * 40 * SEQ_LEN * 4 // 3, earlier={"old": 1})
    assert outcome.epochs == pytest.approx(2, abs=0.1)
    drawn = replayed(mixture, "old")
    middle = len(drawn) // 2
    assert len(drawn) == 26
    assert set(drawn[:middle]).isdisjoint(drawn[middle:])


# -- selections --------------------------------------------------------------------------------------------------


def test_an_arrival_may_be_a_selection_and_is_found_again(mix: Mix, root: Folder, tmp_path: Path) -> None:
    shards = root / "new" / "tokens" / "train"
    write_selection(Folder(tmp_path) / "chosen", np.array([0]))
    arrivals = {"new": TokenSet(shards, Folder(tmp_path) / "chosen")}
    _, mixture, _ = mix(0.25, arrivals=arrivals, view="subset")
    assert [source.key for source in mixture.sources] == ["new@subset", "old", "older"]
    found = token_sets(Folder(tmp_path) / "mixture", mixture, lambda name: root / name / "tokens" / "train")
    assert found["new@subset"] == arrivals["new"]
    assert found["old"] == TokenSet(root / "old" / "tokens" / "train")


# -- what is left out, with its number (field cases of small arrivals) -------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Datasets of these many tokens."""
    folder = Folder(tmp_path_factory.mktemp("small"))
    for tokens in (30, 1021, 4097, 10_000):
        write_dataset(folder / f"t{tokens}", [(None, tokens)], shards=1)
    return folder


def mixed(
    small: Folder, out: Path, arrivals: list[int], share: float = 0, seq_len: int = 64, batch: int = 8, **other: Any
) -> tuple[ReplayOutcome, Mixture]:
    carried_on = other.pop("carried", Carried())
    budget = other.pop("budget", None)
    sets = {f"t{tokens}": TokenSet(small / f"t{tokens}" / "tokens" / "train") for tokens in arrivals}
    earlier = [datum(small, "t10000", 1)]
    size, draw = Budget(seq_len, batch, budget, branch=other.pop("branch", Fraction(0))), Draw(7, "0001-t")
    chosen = ReplaySettings(share=share, **other)
    made = run(Arrival(sets), earlier, carried_on, size, draw, Folder(out), chosen, Silent())
    return made, Mixture.from_json(Folder(out).read_json(MIXTURE))


def targets(mixture: Mixture, number: int) -> Counter[int]:
    """How often each token of a source is a target."""
    found: Counter[int] = Counter()
    for step in range(mixture.steps):
        for source, start in zip(*mixture.batch(step), strict=True):
            if source == number:
                found.update(range(start + 1, start + mixture.seq_len + 1))
    return found


def test_an_arrival_of_less_than_two_batches_is_trained_whole(small: Folder, tmp_path: Path) -> None:
    """1,021 tokens, 512 a step: 15 sequences, of which a whole batch takes 8; half of the arrival was left out."""
    outcome, mixture = mixed(small, tmp_path, [1021])
    assert (mixture.steps, outcome.new) == (2, 1024)
    trained = targets(mixture, 0)
    part = outcome.arrivals["t1021"]
    assert len(trained) == 1020 - (part["untrained"] and 60)
    assert part["untrained"] in (0, 60)
    assert "t1021 is read 1.07 times, each time in a different order" in outcome.notes
    assert bool(part["untrained"]) == any("60 of 1,021 tokens are not trained (5.9%)" in note for note in outcome.notes)


def test_a_budget_below_the_arrival_says_what_is_not_trained(small: Folder, tmp_path: Path) -> None:
    outcome, mixture = mixed(small, tmp_path, [1021], budget=1021)
    assert (mixture.steps, outcome.arrivals["t1021"]["untrained"]) == (1, 509)
    assert any("t1021: 509 of 1,021 tokens are not trained (49.9%); the budget is 1,021" in n for n in outcome.notes)
    assert any("509 tokens of the budget of 1,021 are less than one step of 512" in note for note in outcome.notes)


def test_what_the_anneal_trains_inside_of_the_budget_is_not_left_out(small: Folder, tmp_path: Path) -> None:
    """8 steps of 512 tokens: 5 of the trunk, 3 of the anneal; 20 tokens fill none."""
    outcome, mixture = mixed(small, tmp_path, [4097], budget=8 * 512 + 20, branch=Fraction(2, 5))
    assert mixture.steps == 5
    assert outcome.notes == [
        "t4097: 1,537 of 4,097 tokens are not trained by the trunk (37.5%); the budget is 4,116 tokens; the anneal "
        "trains 1,536 tokens inside of this amount",
        "20 tokens of the budget of 4,116 fill no further step of 512 tokens of trunk or anneal and are not trained",
    ]
    whole, _ = mixed(small, tmp_path / "whole", [4097], branch=Fraction(2, 5))
    assert "are not trained by the trunk" in whole.notes[0] and "the anneal trains 1,536 tokens" in whole.notes[0]


def test_a_dataset_below_one_sequence_is_named(small: Folder, tmp_path: Path) -> None:
    outcome, mixture = mixed(small, tmp_path, [4097, 30])
    assert [source.dataset for source in mixture.new] == ["t4097"]
    assert outcome.arrivals["t30"] == {"tokens": 30, "sequences": 0, "trained": 0, "untrained": 30, "passes": 0.0}
    assert any("t30: its 30 training tokens do not fill a sequence of 64: none of it" in n for n in outcome.notes)


@pytest.mark.parametrize(
    ("share", "floor", "due"), [(0.05, 0.0, "5.00% of 16 sequences is 0.80"), (0.002, 0.01, "1.00% of 16")]
)
def test_a_share_that_gives_no_sequence_is_named_and_made_up_for(
    small: Folder, tmp_path: Path, share: float, floor: float, due: str
) -> None:
    outcome, mixture = mixed(small, tmp_path / "one", [1021], share, floor=floor)
    assert (outcome.replayed, mixture.replayed) == (0, ())
    assert any(f"nothing is replayed in this update: the share of {due}" in note for note in outcome.notes)
    asked = max(share, floor)
    total, before = 0, Carried()
    for number in range(40):
        outcome, _ = mixed(small, tmp_path / str(number), [1021], share, floor=floor, carried=before)
        total, before = total + outcome.replayed // 64, before.after(outcome.by_dataset)
        assert abs(total - asked * 16 * (number + 1)) < 1.01


def test_datasets_whose_turn_it_is_not_are_counted_and_some_named(mix: Mix) -> None:
    outcome, _, notes = mix(0.05, by="shares", shares={"old": 1, "older": 1e-6})
    assert outcome.by_dataset["older"]["sequences"] == 0
    assert any("1 of 2 parts of replay round to no sequence in this update: older" in n for n in notes)


@pytest.mark.parametrize("share", [0.9999999, 1e-7])
def test_a_share_that_rounding_would_make_all_or_nothing_is_refused(share: float) -> None:
    with pytest.raises(ValidationError, match=r"would become [01]; expected 0, or 0\.000001 to 0\.999999"):
        ReplaySettings(share=share)


def test_the_largest_share_leaves_a_place_to_the_arrival(small: Folder, tmp_path: Path) -> None:
    outcome, _ = mixed(small, tmp_path, [1021], 0.999999)
    assert outcome.new == 64


def test_two_passes_leave_no_tail_out(small: Folder, tmp_path: Path) -> None:
    """1,021 tokens at 600: one sequence, and 420 of 1,020 targets would be left out of each of 20 passes."""
    outcome, mixture = mixed(small, tmp_path, [1021], seq_len=600, batch=1, budget=20 * 600)
    trained = targets(mixture, 0)
    assert (len(trained), outcome.arrivals["t1021"]["untrained"]) == (1020, 0)
    assert set(trained.values()) == {10, 20}


@pytest.mark.parametrize("then", [16, 32, 48, 128, 100])
def test_another_length_of_sequences_replays_nothing_twice(small: Folder, tmp_path: Path, then: int) -> None:
    """10,000 tokens: 40 sequences of 64, then others, by ``then`` tokens, until the dataset is through."""
    first, before = mixed(small, tmp_path / "one", [4097], 40 / 64)
    assert first.by_dataset["t10000"]["sequences"] == 40
    carried_on = Carried().after(first.by_dataset)
    second, after = mixed(small, tmp_path / "two", [4097], 0.5, seq_len=then, batch=4, carried=carried_on)
    part = second.by_dataset["t10000"]
    assert (part["from"], part["to"]) == (2560, 2560 + part["tokens"])
    assert any(
        f"it continues with the unread tokens of its order, from token 2,560, in sequences of {then}" in note
        for note in second.notes
    )
    reads = targets(before, 1) + targets(after, 1)
    assert max(reads.values()) == 1
    _, last = mixed(
        small, tmp_path / "three", [10_000], 0.95, seq_len=then, batch=4, carried=carried_on.after(second.by_dataset)
    )
    assert len(reads + targets(last, 1)) == 9999, "nothing is skipped"


# -- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"share": 1}, "less than 1"),
        ({"share": -0.1}, "less than 1"),
        ({"share": True}, "less than 1"),
        ({"share": "automatic"}, "or auto"),
        ({"by": "shares"}, "by=shares needs shares"),
        ({"shares": {"old": 1}}, "by=shares needs shares"),
        ({"web": ()}, "need mixture=domains"),
        ({"by": "shares", "shares": {"old": 0}}, "at least one number above 0"),
        ({"by": "shares", "shares": {"old": -1}}, "greater than or equal to 0"),
        ({"domain_shares": {"wiki": 1}}, "need mixture=domains"),
        ({"web": ["CC"]}, "need mixture=domains"),
        ({"mixture": "domains", "domain_shares": "llama1"}, "did you mean 'llama-1'"),
        ({"mixture": "domains", "domain_shares": {"wiki": 1}, "web": ["wikis"]}, "did you mean 'wiki'"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(given_settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ReplaySettings.model_validate(given_settings)


def test_auto_is_a_share_that_somebody_else_resolves(mix: Mix) -> None:
    assert ReplaySettings.model_validate({"share": "auto"}).share == "auto"
    with pytest.raises(AssertionError, match="plan"):
        mix("auto")  # type: ignore[arg-type]


def test_settings_survive_json() -> None:
    chosen = ReplaySettings.model_validate({"mixture": "domains", "domain_shares": "llama-1"})
    assert ReplaySettings.model_validate(chosen.model_dump(mode="json")) == chosen
    assert sum(chosen.domain_shares.values()) == 100
