"""The rules of the lease over any order of events: machines whose clocks disagree, processes that sleep anywhere."""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rewarm.pipeline.lineage.lease.protocol import Contender, Holder, Record, Standing, Tenure, claim

TTL = 60.0
ACTORS = 3  # two on one machine, one on another: few, so that the same one often looks twice
OFFSETS = {"a": 0.0, "b": -7_200.0}  # the machines' clocks, against each other; seconds
actors = st.integers(0, ACTORS - 1)


def holder(number: int, machine: str = "a", token: str = "t") -> Holder:
    return Holder("host", number, machine, 1, token)


class Store:
    """A record with compare and swap: what a disk and a bucket both give."""

    def __init__(self) -> None:
        self.record: Record | None = None

    def swap(self, before: Record | None, record: Record) -> bool:
        if self.record != before:
            return False
        self.record = record
        return True


class Actor:
    """A process that wants to write; its steps can be any time apart."""

    def __init__(self, number: int, hold: int) -> None:
        self.machine = "aab"[number]
        self.holder = holder(number, self.machine, f"{number}-{hold}")
        self.contender: Contender | None = None
        self.claiming: tuple[Record | None, Record] | None = None
        self.renewing: Record | None = None
        self.tenure: Tenure | None = None


class Leases(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.time, self.store, self.holds = 0.0, Store(), 0
        self.dead: set[str] = set()
        self.actors = [Actor(number, 0) for number in range(ACTORS)]
        self.epochs: list[tuple[int, str]] = []
        self.committed: list[int] = []

    def clock(self, actor: Actor) -> float:
        return self.time + OFFSETS[actor.machine] + 10_000

    def gone(self, found: Holder) -> bool:
        return found.token in self.dead

    @rule(by=st.sampled_from([1.0, TTL / 3, TTL / 2, TTL - 1, TTL]))
    def pass_time(self, by: float) -> None:
        self.time += by

    @rule(number=actors, sleeps=st.booleans())
    def contend(self, number: int, sleeps: bool) -> None:
        """Look, and take what is free; or fall asleep in between."""
        actor = self.actors[number]
        if actor.tenure is not None or actor.claiming is not None:
            return
        actor.contender = actor.contender or Contender(actor.machine, self.gone)
        found, clock = self.store.record, self.clock(actor)
        if actor.contender.look(found, clock) is Standing.FREE:
            actor.claiming = (found, claim(found, actor.holder, "update", TTL, clock, "now"))
            if not sleeps:
                self.take(number)

    @rule(number=actors)
    def wake(self, number: int) -> None:
        if self.actors[number].claiming is not None:
            self.take(number)

    def take(self, number: int) -> None:
        actor = self.actors[number]
        assert actor.claiming is not None
        before, record = actor.claiming
        actor.claiming = None
        if self.store.swap(before, record):
            actor.tenure = Tenure(record)
            self.epochs.append((record.epoch, record.holder.token))

    @rule(number=actors)
    def begin_renewal(self, number: int) -> None:
        actor = self.actors[number]
        if actor.tenure is not None:
            actor.renewing = actor.tenure.record.renewal(self.clock(actor), "now")

    @rule(number=actors, answered=st.booleans())
    def end_renewal(self, number: int, answered: bool) -> None:
        """A heartbeat reaches the store; its answer may be lost on the way back."""
        actor = self.actors[number]
        if actor.renewing is None or actor.tenure is None:
            return
        renewing, actor.renewing = actor.renewing, None
        if not self.store.swap(actor.tenure.record, renewing):
            if actor.tenure.kept(self.store.record):
                assert self.store.record is not None
                actor.tenure.record = self.store.record
        elif answered:
            actor.tenure.record = renewing

    @rule(number=actors)
    def commit(self, number: int) -> None:
        """The look at the record and the rename are one step, under the lock."""
        actor = self.actors[number]
        if actor.tenure is None:
            return
        if actor.tenure.kept(self.store.record):
            self.committed.append(actor.tenure.record.epoch)
        else:
            assert self.store.record is not None
            assert self.store.record.epoch > actor.tenure.record.epoch, "refused, and nobody took over"

    @rule(number=actors)
    def give_back(self, number: int) -> None:
        actor = self.actors[number]
        if actor.tenure is not None:
            self.store.swap(actor.tenure.record, actor.tenure.record.end("now"))
            self.replace(number)

    @rule(number=actors)
    def die(self, number: int) -> None:
        if self.actors[number].tenure is not None or self.actors[number].claiming is not None:
            self.dead.add(self.actors[number].holder.token)
            self.replace(number)

    def replace(self, number: int) -> None:
        self.holds += 1
        self.actors[number] = Actor(number, self.holds)

    @invariant()
    def one_trusts(self) -> None:
        """Nobody needs to look at the store to know this of itself, and still only one at a time can believe it."""
        trusting = [a for a in self.actors if a.tenure is not None and a.tenure.trusted(self.clock(a))]
        assert len(trusting) <= 1

    @invariant()
    def epochs_grow(self) -> None:
        numbers = [epoch for epoch, _ in self.epochs]
        assert numbers == list(range(1, len(numbers) + 1))
        assert self.committed == sorted(self.committed), "a holder committed after its successor"


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)


def record(machine: str = "b", clock: float = 0.0, beats: int = 0) -> Record:
    made = claim(None, holder(1, machine), "update", TTL, clock, "now")
    return replace(made, beats=beats)


def never(_: Holder) -> bool:
    return False


def test_nothing_there_or_given_back_is_free() -> None:
    assert Contender("a", never).look(None, 0) is Standing.FREE
    assert Contender("a", never).look(record().end("now"), 0) is Standing.FREE


def test_another_machine_is_watched_on_ones_own_clock() -> None:
    contender = Contender("a", never)
    assert contender.look(record(clock=-1e9), 1000) is Standing.UNKNOWN
    assert contender.look(record(clock=-1e9), 1000 + TTL - 1) is Standing.UNKNOWN
    assert contender.look(record(clock=-1e9), 1000 + TTL) is Standing.FREE


def test_a_renewal_shows_that_the_holder_lives_and_starts_the_time_again() -> None:
    contender = Contender("a", never)
    contender.look(record(), 0)
    assert contender.look(record(beats=1), TTL - 1) is Standing.HELD
    assert contender.look(record(beats=1), TTL + 1) is Standing.HELD
    assert contender.look(record(beats=1), 2 * TTL - 1) is Standing.FREE


@pytest.mark.parametrize(
    ("age", "gone", "standing"),
    [(0, False, Standing.HELD), (TTL - 1, False, Standing.HELD), (TTL, False, Standing.FREE), (0, True, Standing.FREE)],
)
def test_on_the_same_machine_it_is_known_at_once(age: float, gone: bool, standing: Standing) -> None:
    assert Contender("b", lambda _: gone).look(record(clock=100), 100 + age) is standing


def test_a_pid_of_another_machine_says_nothing() -> None:
    assert Contender("a", lambda _: True).look(record("b"), 0) is Standing.UNKNOWN
    assert Contender("", lambda _: True).look(record(""), 0) is Standing.UNKNOWN


def test_epochs_go_on_after_a_lease_was_given_back() -> None:
    first = claim(None, holder(1), "update", TTL, 0, "now")
    second = claim(first.end("now"), holder(2), "update", TTL, 0, "now")
    assert (first.epoch, second.epoch) == (1, 2)
    assert not Tenure(first).kept(second)
    assert not Tenure(first).kept(first.end("now"))
    assert not Tenure(first).kept(None)
    assert Tenure(first).kept(first.renewal(5, "later"))


def test_a_record_survives_json() -> None:
    assert Record.from_json(record().to_json()) == record()
