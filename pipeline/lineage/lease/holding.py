"""The acquisition of a lease, its heartbeat, and the refusal of writes by a process that has lost it.

The heartbeat is a thread of the writing process. A driver that waits in C (``ray.get`` during days of training, a disk,
a socket) has released the GIL, so the thread keeps renewing; and whatever stops the process (a signal, a frozen
machine) stops the thread with it, which a separate process would not notice. A C call that holds the GIL for longer
than the TTL loses the lease at worst, and the next write is refused.
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

TTL_S = 60.0  # allows for two failed heartbeats on a slow shared disk; a dead node blocks its workspace for one minute
LEAST_TTL_S = 0.5  # with less, an ordinary pause of a busy machine would lose the lease
BEATS = 3  # heartbeats per TTL
TRIES = 12  # attempts per TTL while the store does not answer
LOOK_S = 1.0  # longest interval between two reads of a lease while waiting for it, seconds
GOODBYE_S = 10.0  # how long an ending command waits for a heartbeat that hangs in the store
AGAIN_S = 10.0  # Ray takes some seconds to shut down, and must not be interrupted during that time
HICCUPS = (OSError, StageError, UsageError)  # raised by a store that is temporarily unavailable
HEARTBEAT_S = 0.0  # a heartbeat is not retried: the next heartbeat is the retry


class LeaseLostError(StageError):
    """Another process has taken over the lease, so this process may not write to the workspace any more."""

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
        """Seconds since the lease was acquired."""
        return protocol.clock() - self._began

    def check(self) -> None:
        """Raise ``LeaseLostError`` if another process may be writing; reads the record only when in doubt."""
        if self.lost is not None:
            raise LeaseLostError(str(self.lost))
        if not self.tenure.trusted(protocol.clock()):
            self._confirm(self.store.read().record)

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Check the stored record; on a disk, also lock it against changes until the block ends."""
        with self.store.committing() as found:
            self._confirm(found)
            yield

    def release(self) -> None:
        """Release the lease if it is still held; if the store does not answer, the lease expires."""
        with self._ending:
            self._stop.set()
        self._thread.join(GOODBYE_S)
        if self.lost is None:
            try:
                with limited(GOODBYE_S):
                    self.store.swap(self._version, self.tenure.record.end(now()))
            except HICCUPS:
                return  # the command's results are complete; the next command waits until the lease expires

    def _confirm(self, record: Record | None) -> None:
        if not self.tenure.kept(record):
            self.lost = LeaseLostError(lost_message(self.name, self.tenure.record, record))
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
            seen = self.store.read()  # this hold's own record, if a put only seemed to fail; or another holder's
            self._confirm(seen.record)
        self._version = seen.version
        if seen.record is not None:
            self.tenure.record = seen.record

    def _end_main(self) -> None:
        """Interrupt a command whose training results could not be committed any more; ``hold`` raises the reason.

        Sends SIGINT, as Ctrl-C does, and repeats it until the command ends: a signal that arrives just before a system
        call does not end that call.
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
    """Hold the lease of ``folder`` (on a disk, ``s3://`` or ``gs://``) during the block.

    Waits up to ``wait_s`` seconds for a lease that another process holds. If the holder is on another machine, its
    record is watched until it is renewed (the lease is held) or has not changed for its TTL (the lease is taken over),
    regardless of ``wait_s``; ``note`` receives a message about the wait. ``purpose`` is shown to other processes, by
    default the command line.

    Raises:
        BusyError: another process holds the lease.
        LeaseLostError: another process took over the lease during the block. An exception of the block is its cause.
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
    """Acquire the lease, or raise ``BusyError`` with its holder."""
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
            continue  # another process was faster
        assert seen.record is not None
        if standing is Standing.HELD and clock >= deadline:
            raise BusyError(held_message(folder, seen.record))
        if standing is Standing.HELD and note is not None:
            holder = f"`{seen.record.purpose}` ({seen.record.holder})"
            note(f"{folder}: waiting for up to {deadline - clock:.0f} s for {holder}")
            note = None
        if standing is Standing.UNKNOWN and note is not None:
            note(f"{folder}: held by {seen.record.holder}; waiting up to {seen.record.ttl_s:g} s for a heartbeat")
            note = None
        time.sleep(min(LOOK_S, seen.record.ttl_s / 10))


def find_holder(folder: Folder) -> dict[str, Any] | None:
    """Return the holder of a folder's lease, for display and metrics; None if the lease is free.

    ``holder`` and ``purpose`` are text, ``epoch`` is the fencing token, ``age_s`` is the number of seconds since the
    lease was acquired, ``expires_in_s`` the number until it expires without another heartbeat (negative: expired). If
    the holder is on another machine, both compare the clocks of two machines; no decision depends on them.
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
        "purpose": redact(record.purpose),  # earlier versions recorded it without redaction
        "epoch": record.epoch,
        "age_s": round(seconds_since(record.acquired), 3),
        "expires_in_s": round(record.ttl_s - silent, 3),
    }


def last_seen(folder: Folder) -> str | None:
    """Return when a holder of the lease last renewed or released it (ISO 8601, UTC), by the holder's clock, for display
    and metrics; None if nobody has held it."""
    record = store_of(folder).read().record
    return None if record is None else record.renewed


def store_of(folder: Folder) -> Store:
    """Return the store of a folder's lease record."""
    if folder.is_local:
        from rewarm.pipeline.lineage.lease.stores import LocalStore

        return LocalStore(folder)
    from rewarm.pipeline.lineage.lease.stores import BucketStore

    return BucketStore(folder)


def ttl() -> float:
    """Return the TTL in seconds: ``REWARM_LEASE_TTL``, by default one minute."""
    text = os.environ.get("REWARM_LEASE_TTL", str(TTL_S))
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not LEAST_TTL_S <= value < float("inf"):
        raise UsageError(f"REWARM_LEASE_TTL={text}: expected a number of seconds, {LEAST_TTL_S:g} or more")
    return value


def held_message(folder: Folder, record: Record) -> str:
    """Return the error message for a command that finds the lease held."""
    return (
        f"{folder}: another rewarm command is writing to this workspace: `{record.purpose}` ({record.holder}, since "
        f"{record.acquired}, last heartbeat {record.renewed}); wait until it ends"
    )


def lost_message(name: str, mine: Record, record: Record | None) -> str:
    """Return the error message for a command that has lost the lease."""
    start = f"{name}: this command no longer holds the workspace"
    if record is None:
        return f"{start}: the lease record is missing; the folder was deleted or recreated while the command ran"
    if record.holder == mine.holder:
        return f"{start}: it released the lease"
    return (
        f"{start}: `{record.purpose}` ({record.holder}) took over on {record.acquired} with epoch {record.epoch}, "
        f"after {mine.ttl_s:g} s without a heartbeat from this command (epoch {mine.epoch}). Nothing that the other "
        "command wrote was overwritten; run this command again when the other has ended"
    )


def now() -> str:
    """Return the current time for display: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def seconds_since(moment: str) -> float:
    """Return the seconds since a time in ISO 8601, by this machine's wall clock."""
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
