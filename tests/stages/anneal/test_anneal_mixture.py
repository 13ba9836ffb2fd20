"""What the branch reads, against what the trunk has read."""

from fractions import Fraction
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_world import World

from rewarm.stages.anneal import AnnealSettings, Reading, best_sources, reading
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import Mixture, Source
from rewarm.stages.data.tokens import TokenSet, write_selection

BATCH, STEPS = 16, 50
BIG = 100_000  # sequences of a dataset that no run here reads to its end


def settings(**changes: object) -> AnnealSettings:
    return AnnealSettings.model_validate(changes)


def trunk(share: str = "1/4", batch: int = BATCH, steps: int = STEPS) -> Mixture:
    new = (Source("news", BIG, 5, weight=3), Source("blogs", BIG, 6))
    old = (Source("web", BIG, 1, 70, weight=2), Source("books", BIG, 2, 7, view="domain"))
    return Mixture(new, old if Fraction(share) else (), share, 32, batch, steps)


def read(mixture: Mixture, first: int, steps: int) -> dict[str, list[int]]:
    """Sequences by the key of their source, in the order of their reading."""
    found: dict[str, list[int]] = {source.key: [] for source in mixture.sources}
    for step in range(first, first + steps):
        for number, start in zip(*mixture.batch(step), strict=True):
            found[mixture.sources[number].key].append(int(start) // mixture.seq_len)
    return found


def read_by(branch: Reading) -> dict[str, list[int]]:
    return read(branch.mixture, branch.first, branch.steps)


def test_the_tail_is_the_trunks_last_part_as_it_was() -> None:
    branch = reading(trunk(), settings(share=0.3))
    assert (branch.mixture, branch.first, branch.steps) == (trunk(), 35, 15)


@hypothesis.settings(deadline=None)
@given(
    share=st.sampled_from(["0", "1/100", "1/4", "1/2"]),
    replayed=st.floats(0.01, 0.95),
    length=st.floats(0.02, 1),
    batch=st.integers(1, 16),
    steps=st.integers(1, 30),
)
def test_a_replay_mixture_has_its_share_and_repeats_nothing_replayed(
    share: str, replayed: float, length: float, batch: int, steps: int
) -> None:
    before = trunk(share, batch, steps)
    branch = reading(before, settings(data="replay", replay_share=replayed, share=length))
    if share == "0":
        assert branch.mixture is before
        assert "replayed nothing" in branch.what
        return
    seen, found = read(before, 0, steps), read_by(branch)
    total = branch.steps * batch
    old = len(found["web"]) + len(found["books@domain"])
    assert abs(old - replayed * total) <= 1 + 1e-6 * total
    for key in ("web", "books@domain"):
        assert not set(seen[key]) & set(found[key])
    for key in ("news", "blogs"):
        again = len(found[key])
        if again <= len(seen[key]):
            assert sorted(found[key]) == sorted(seen[key][len(seen[key]) - again :]), "the arrival's tail"
        else:
            assert found[key][: len(seen[key])] == seen[key], "all of it, and what comes after"
            assert len(set(found[key])) == again


def test_replay_goes_on_in_the_order_in_which_the_trunk_left_it() -> None:
    before = trunk()
    branch = reading(before, settings(data="replay", share=0.2))
    longer = read(trunk(steps=2 * STEPS), STEPS, STEPS)
    found = read_by(branch)
    for key in ("web", "books@domain"):
        assert found[key] == longer[key][: len(found[key])]


def test_the_best_part_takes_the_arrivals_place_at_the_trunks_share() -> None:
    best = (Source("news", 20, 5, weight=2, view="best"), Source("blogs", 30, 6, view="best"))
    before = trunk()
    branch = reading(before, settings(data="best", share=0.2), best)
    seen, found = read(before, 0, STEPS), read_by(branch)
    counts = {key: len(sequences) for key, sequences in found.items()}
    assert counts["web"] + counts["books@domain"] == 10 * BATCH // 4
    assert counts["news@best"] == 80
    assert sorted(found["news@best"]) == sorted([*range(20)] * 4), "whole passes over the best part"
    assert found["news@best"][:20] != found["news@best"][20:40], "in another order each time"
    assert not set(seen["web"]) & set(found["web"])
    assert "10%" in branch.what


def test_best_sources_count_what_was_selected(world: World, tmp_path: Path) -> None:
    mixture = world.job("unused").mixture
    write_selection(Folder(tmp_path / "best"), np.arange(0, 40, 2))
    chosen = TokenSet(world.train, Folder(tmp_path / "best"))
    (source,) = best_sources(mixture, {"text": chosen})
    assert (source.key, source.order_seed, source.start) == ("text@best", mixture.new[0].order_seed, 0)
    assert source.num_sequences == chosen.open().num_sequences(mixture.seq_len) < mixture.new[0].num_sequences
    assert (source.weight, source.num_tokens) == (source.num_sequences, chosen.open().num_tokens)


def test_a_best_part_that_is_missing_or_too_small_is_refused(world: World, tmp_path: Path) -> None:
    mixture = world.job("unused").mixture
    with pytest.raises(UsageError, match="no best part was selected of text"):
        best_sources(mixture, {})
    write_selection(Folder(tmp_path / "none"), np.arange(0))
    with pytest.raises(UsageError, match=r"raise anneal\.best_share"):
        best_sources(mixture, {"text": TokenSet(world.train, Folder(tmp_path / "none"))})
