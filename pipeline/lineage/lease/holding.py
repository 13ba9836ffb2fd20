"""Taking a lease, keeping it by a heartbeat, and refusing the writes of a process that has lost it.

The heartbeat is a thread of the process that writes. A driver that waits in C (``ray.get`` for days of training, a
disk, a socket) has given up Python's lock, so the thread goes on renewing; and whatever stops the process (a signal, a
frozen machine) stops the thread with it, which a process of its own would not notice. A C call that keeps Python's lock
for longer than the ttl loses the lease at worst, and the write after it is refused.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from rewarm.pipeline.lineage.lease import protocol
from rewarm.pipeline.lineage.lease.protocol import Contender, Holder, Record, Standing, Tenure, claim
from rewarm.pipeline.lineage.lease.stores import Seen, Store
from rewarm.pipeline.redaction import redact
from rewarm.stages.core.errors import BusyError, StageError, UsageError
from rewarm.stages.core.patience import limited
from rewarm.stages.core.storage import Folder

TTL_S = 60.0  # two heartbeats may fail on a slow shared disk, and a dead node's workspace waits for one minute
LEAST_TTL_S = 0.5  # below, an ordinary pause of a busy machine would lose the lease
BEATS = 3  # heartbeats a ttl
TRIES = 12  # tries a ttl while the store does not answer
LOOK_S = 1.0  # longest pause between two looks at a lease that is waited for; seconds
GOODBYE_S = 10.0  # how long the end of a command waits for a heartbeat that hangs in the store
AGAIN_S = 10.0  # ending Ray takes some seconds, which are not to be interrupted
HICCUPS = (OSError, StageError, UsageError)  # what a store that does not answer right now raises
HEARTBEAT_S = 0.0  # a heartbeat is not waited for: the next one is the next try


class LeaseLostError(StageError):
    """Another process has taken over, so nothing more may be written here."""

    kind = "lease-lost"


class Lease:
    """A lease that this process holds; ``stages.core.storage.Guard`` of the folders under it."""

    def __init__(self, name: str, store: Store, seen: Seen[Any], record: Record) -> None:
        self.name = name
        self.store = store
        self.tenure = Tenure(record)
        self.lost: LeaseLostError | None = None
        self._version = seen.version
        self._began = record.clock_s
        self._interrupts = threading.current_thread() is threading.main_thread()
        self._stop = threading.Event()
        self._ending = threading.Lock()
        self._thread = threading.Thread(target=self._beat, name="rewarm-lease", daemon=True)
        self._thread.start()

    @property
    def holder(self) -> Holder:
        """This process."""
        return self.tenure.record.holder

    @property
    def epoch(self) -> int:
        """The fencing token: larger than that of every hold before."""
        return self.tenure.record.epoch

    @property
    def age(self) -> float:
        """Seconds since the lease was taken."""
        return protocol.clock() - self._began

    def check(self) -> None:
        """Raise ``LeaseLostError`` where another process may be writing; reads the record only when it is in doubt."""
        if self.lost is not None:
            raise LeaseLostError(str(self.lost))
        if not self.tenure.trusted(protocol.clock()):
            self._confirm(self.store.read().record)

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Look at the record itself, and on a disk keep it from changing until the block has ended."""
        with self.store.committing() as found:
            self._confirm(found)
            yield

    def release(self) -> None:
        """Give the lease back, if it is still held; a store that does not answer lets it expire."""
        with self._ending:
            self._stop.set()
        self._thread.join(GOODBYE_S)
        if self.lost is None:
            try:
                with limited(GOODBYE_S):
                    self.store.swap(self._version, self.tenure.record.end(now()))
            except HICCUPS:
                return  # what the command did is done; the next one waits until the lease expires

    def _confirm(self, found: Record | None) -> None:
        if not self.tenure.kept(found):
            self.lost = LeaseLostError(lost_message(self.name, self.tenure.record, found))
            raise self.lost

    def _beat(self) -> None:
        ttl = self.tenure.record.ttl_s
        pause = ttl / BEATS
        while not self._stop.wait(pause):
            try:
                with limited(HEARTBEAT_S):
                    self._renew()
            except LeaseLostError:
                self._end_main()
                return
            except HICCUPS:
                pause = ttl / TRIES
            else:
                pause = ttl / BEATS

    def _renew(self) -> None:
        record = self.tenure.record.renewal(protocol.clock(), now())
        if (seen := self.store.swap(self._version, record)) is None:
            seen = self.store.read()  # this hold's own, of a put that was thought to have failed; or another's
            self._confirm(seen.record)
        self._version = seen.version
        if seen.record is not None:
            self.tenure.record = seen.record

    def _end_main(self) -> None:
        """Stop a command that may be waiting for days of training that nobody will keep; ``hold`` says why it ended.

        Like Ctrl-C, and like it again where nothing has come of it: a signal that arrives just before a system call
        does not end that call.
        """
        while self._interrupts and callable(signal.getsignal(signal.SIGINT)):
            with self._ending:
                if self._stop.is_set():
                    return
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            self._stop.wait(AGAIN_S)


@contextmanager
def hold(
    folder: Folder,
    purpose: str | None = None,
    wait_s: float = 0.0,
    ttl_s: float | None = None,
    note: Callable[[str], None] | None = None,
) -> Iterator[Lease]:
    """Hold ``folder`` (on a disk, ``s3://`` or ``gs://``) while the block lasts.

    A lease that somebody holds is waited for ``wait_s`` seconds. One whose holder is on another machine is watched
    until it moves (then it is held) or has not moved for its ttl (then it is taken over), whatever ``wait_s``; ``note``
    is told of that. ``purpose`` is shown to others, by default the command line.

    Raises:
        BusyError: somebody else holds it.
        LeaseLostError: it was taken over while the block lasted. Whatever the block raised then is its cause.
    """
    lease = take(folder, purpose or protocol.command(), wait_s, ttl() if ttl_s is None else ttl_s, note)
    try:
        try:
            yield lease
        finally:
            lease.release()
    except BaseException as error:
        if lease.lost is None or isinstance(error, LeaseLostError):
            raise
        raise lease.lost from error


def take(folder: Folder, purpose: str, wait_s: float, ttl_s: float, note: Callable[[str], None] | None = None) -> Lease:
    """Take the lease, or raise ``BusyError`` with who has it."""
    store, me = store_of(folder), protocol.myself()
    contender = Contender(me.machine, protocol.gone)
    deadline = protocol.clock() + wait_s
    while True:
        seen = store.read()
        clock = protocol.clock()
        standing = contender.look(seen.record, clock)
        if standing is Standing.FREE:
            record = claim(seen.record, me, purpose, ttl_s, clock, now())
            if taken := store.swap(seen.version, record):
                return Lease(str(folder), store, taken, record)
            continue  # somebody was faster
        assert seen.record is not None
        if standing is Standing.HELD and clock >= deadline:
            raise BusyError(held_message(folder, seen.record))
        if standing is Standing.HELD and note is not None:
            holder = f"`{seen.record.purpose}` ({seen.record.holder})"
            note(f"{folder}: waiting for up to {deadline - clock:.0f} s for {holder}")
            note = None
        if standing is Standing.UNKNOWN and note is not None:
            note(f"{folder}: {seen.record.holder} has it; waiting up to {seen.record.ttl_s:g} s for a sign of life")
            note = None
        time.sleep(min(LOOK_S, seen.record.ttl_s / 10))


def look(folder: Folder) -> dict[str, Any] | None:
    """Who holds ``folder``, for people and metrics; None where nobody does.

    ``holder`` and ``purpose`` are text, ``epoch`` is the fencing token, ``age_s`` are seconds since the lease was
    taken, and ``expires_in_s`` those until it expires without another heartbeat (negative: it has). Of a holder on
    another machine both follow the two machines' clocks; nothing is decided by them.
    """
    record = store_of(folder).read().record
    if record is None or record.released:
        return None
    here = protocol.machine()
    same = bool(here) and record.holder.machine == here
    if same and protocol.gone(record.holder):
        return None
    silent = protocol.clock() - record.clock_s if same else seconds_since(record.renewed)
    return {
        "holder": str(record.holder),
        "purpose": redact(record.purpose),  # an earlier rewarm recorded all of it
        "epoch": record.epoch,
        "age_s": round(seconds_since(record.acquired), 3),
        "expires_in_s": round(record.ttl_s - silent, 3),
    }


def store_of(folder: Folder) -> Store:
    """Where a folder's record is kept."""
    if folder.is_local:
        from rewarm.pipeline.lineage.lease.stores import LocalStore

        return LocalStore(folder)
    from rewarm.pipeline.lineage.lease.stores import BucketStore

    return BucketStore(folder)


def ttl() -> float:
    """``REWARM_LEASE_TTL`` in seconds, else a minute."""
    text = os.environ.get("REWARM_LEASE_TTL", str(TTL_S))
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not LEAST_TTL_S <= value < float("inf"):
        raise UsageError(f"REWARM_LEASE_TTL={text}: expected a number of seconds, {LEAST_TTL_S:g} or more")
    return value


def held_message(folder: Folder, record: Record) -> str:
    """What a command is told that finds another at work."""
    return (
        f"{folder}: another rewarm command is writing to this workspace: `{record.purpose}` ({record.holder}, since "
        f"{record.acquired}, last heartbeat {record.renewed}); wait for it to end"
    )


def lost_message(name: str, mine: Record, found: Record | None) -> str:
    """What a command is told that may not write any more."""
    start = f"{name}: this command no longer holds the workspace"
    if found is None:
        return f"{start}: its record is gone from the folder, which was deleted or put there anew while the command ran"
    if found.holder == mine.holder:
        return f"{start}: it gave the lease back"
    return (
        f"{start}: `{found.purpose}` ({found.holder}) took over on {found.acquired} with epoch {found.epoch}, after no "
        f"heartbeat of this one (epoch {mine.epoch}) had come for {mine.ttl_s:g} s. Nothing of the other's was "
        "overwritten; run the command again when that one has ended"
    )


def now() -> str:
    """The time for people: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def seconds_since(moment: str) -> float:
    """Seconds by this machine's calendar."""
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
