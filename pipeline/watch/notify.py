"""Tells people: every notice is posted to webhooks and given to a command, in order, at least once.

How far each of them has been told lies in ``WORKSPACE/watch/notices.json``, so a restart goes on there. A target that
is down is tried again, later and later; a notice that failed often is given up. The watch's journal says what was
delivered, and what was not and why. No failure reaches the watch.

Delivered is what a webhook answers with 2xx. Redirects are not followed: clients turn a POST that is redirected with
301, 302 or 303 into a GET (RFC 9110, section 15.4), whose answer says nothing about the notice, and another host is not
who the address was given for. They count as failures that name the address they lead to.

What people read of an event: the notice that is sent, and the line on the terminal.
"""

import http.client
import os
import shlex
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.message import Message
from typing import IO, Any, Protocol
from urllib.parse import urljoin, urlsplit

import orjson
import xxhash

from rewarm.pipeline.escaping import message, visible
from rewarm.pipeline.redaction import MASK, host_only, program_only
from rewarm.pipeline.watch.journal import Draft, Event
from rewarm.pipeline.watch.policy import pause
from rewarm.pipeline.watch.state import Arrival
from rewarm.stages.core.local_files import keep_private
from rewarm.stages.core.storage import Folder

STATE = "notices.json"
TIMEOUT = 10.0  # seconds for a target to answer
FIRST_WAIT, TRIES = 5.0, 12  # with doubling waits, a target may be down for more than four hours
DELIVERED, UNDELIVERED = "delivered", "undelivered"  # kinds of events
REDIRECTS = (301, 302, 303, 307, 308)


class Target(Protocol):
    """Somebody who is told."""

    @property
    def key(self) -> str:
        """What the state calls it; an address may hold a secret, so it is a digest."""

    @property
    def shown(self) -> str:
        """What lines call it, without secrets."""

    def tell(self, notice: Mapping[str, Any]) -> None:
        """Deliver one notice; raises ``OSError`` if it may not have arrived."""


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves a redirect as the error that it is for a POST."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        """Follow nothing."""


@dataclass(frozen=True)
class Webhook:
    """An address that takes JSON by POST, and answers with 2xx."""

    url: str

    @property
    def key(self) -> str:
        """A digest of the address."""
        return f"webhook-{xxhash.xxh3_64_hexdigest(self.url.encode())}"

    @property
    def shown(self) -> str:
        """The host alone: many webhooks have their secret in the path."""
        return f"webhook {urlsplit(self.url).hostname}"

    def tell(self, notice: Mapping[str, Any]) -> None:
        """POST it."""
        headers = {"Content-Type": "application/json", "User-Agent": "rewarm"}
        request = urllib.request.Request(self.url, orjson.dumps(notice), headers, method="POST")
        try:
            with urllib.request.build_opener(NoRedirects).open(request, timeout=TIMEOUT):
                pass
        except urllib.error.HTTPError as error:
            with error:
                raise OSError(self._answer(error)) from None
        except (http.client.HTTPException, ValueError) as error:  # no HTTP, or no address
            raise OSError(f"no answer of HTTP ({type(error).__name__}: {error})") from error

    def _answer(self, error: urllib.error.HTTPError) -> str:
        """What the server said in place of 2xx."""
        leads = error.headers.get("Location")
        if error.code not in REDIRECTS or not leads:
            return f"it answers {error.code} {error.reason}"
        target = urljoin(self.url, leads)
        new, old = urlsplit(target), urlsplit(self.url)
        if new._replace(scheme="", netloc="") == old._replace(scheme="", netloc=""):
            home = host_only(f"{new.scheme}://{new.netloc}")
            return f"it answers {error.code}, which leads to the same path of {home}: give that address"
        return f"it answers {error.code}, which leads to {host_only(target)}: give the address that takes notices"


@dataclass(frozen=True)
class Command:
    """A program that gets the notice on its standard input and in its environment; no shell is between."""

    line: str

    @property
    def key(self) -> str:
        """A digest of the command."""
        return f"command-{xxhash.xxh3_64_hexdigest(self.line.encode())}"

    @property
    def shown(self) -> str:
        """The program alone."""
        return f"command {program_only(self.line).removesuffix(f' {MASK}')}"

    def tell(self, notice: Mapping[str, Any]) -> None:
        """Run it to its end."""
        text = orjson.dumps(notice)
        own = {"NOTICE": text.decode(), "EVENT": notice["event"], "ARRIVAL": notice["arrival"], "TEXT": notice["text"]}
        environment = {**os.environ, **{f"REWARM_{name}": value for name, value in own.items()}}
        words = shlex.split(self.line)
        try:
            done = subprocess.run(
                words, input=text, env=environment, timeout=TIMEOUT, check=False, stdout=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:  # whose own text is the whole command
            raise TimeoutError(f"it did not end within {TIMEOUT:g} s") from None
        if done.returncode:
            raise OSError(f"it ended with exit code {done.returncode}")


@dataclass
class Turn:
    """Where one target stands."""

    target: Target
    told: int  # seq of the last event that it was told, or that was given up
    failures: int = 0
    at: datetime | None = None  # not before


@dataclass
class Notifier:
    """All targets, each with its own queue."""

    folder: Folder
    turns: list[Turn]
    queue: list[Mapping[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Folder, targets: Iterable[Target], newest: int) -> "Notifier":
        """The targets where they stand; one that was never told anything begins after the event ``newest``."""
        known = folder.read_json(STATE) if folder.exists(STATE) else {}
        made = cls(folder, [Turn(target, known.get(target.key, newest)) for target in targets])
        made._keep()  # a target's beginning is fixed before anything happens that it is to be told
        return made

    def add(self, notice: Mapping[str, Any]) -> None:
        """Have every target told."""
        self.queue.append(notice)

    def deliver(self, now: datetime) -> Iterator[Draft]:
        """Tell what can be told; drafts of what was delivered, and of what was not (its first failure and its last)."""
        for turn in self.turns:
            for notice in [one for one in self.queue if one["seq"] > turn.told]:
                if turn.at is not None and now < turn.at:
                    break
                draft = self._tell(turn, notice, now)
                if draft is not None:
                    yield draft
        told = min((turn.told for turn in self.turns), default=0)
        self.queue = [one for one in self.queue if one["seq"] > told and self.turns]

    def _tell(self, turn: Turn, notice: Mapping[str, Any], now: datetime) -> Draft | None:
        tries = turn.failures + 1
        details = {"target": turn.target.shown, "notice": notice["seq"], "of": notice["event"], "tries": tries}
        kind = DELIVERED
        try:
            turn.target.tell(notice)
        except (OSError, ValueError) as error:
            turn.failures, kind = tries, UNDELIVERED
            details |= {"error": message(str(error)), "again": tries < TRIES}
            if tries < TRIES:
                turn.at = now + timedelta(seconds=pause(turn.target.key, turn.failures, FIRST_WAIT))
                return Draft(UNDELIVERED, notice["path"], details) if tries == 1 else None
        turn.told, turn.failures, turn.at = notice["seq"], 0, None
        self._keep()
        return Draft(kind, notice["path"], details)

    def _keep(self) -> None:
        self.folder.write_json(STATE, {one.target.key: one.told for one in self.turns})
        if self.folder.is_local:
            keep_private(self.folder.path / STATE)

    @property
    def due(self) -> datetime | None:
        """When a target is to be tried again; None where nothing waits."""
        waiting = [turn.at for turn in self.turns if turn.at is not None]
        return min(waiting, default=None)


# The events that people are told of; of all others there is only a line.
TAKING = ("started", "failed", "released", "refused", "undecided")
ASKING = ("held", "lifted", "altered", "trouble", "recovered", "paused", "resumed")
NOTABLE = (*TAKING, *ASKING)
OWN = ("fingerprint", "begun", "sets", "planned")  # of the journal, and no news to anybody


def make_notice(event: Event, arrival: Arrival | None, workspace: str, inbox: str) -> dict[str, Any]:
    """What is told of an event: JSON types; ``seq`` tells a repetition, ``text`` is one line for people.

    Names of files that hold control characters are given with visible signs in their place.
    """
    notice = {
        "event": event.kind,
        "seq": event.seq,
        "at": event.at,
        "workspace": workspace,
        "inbox": inbox,
        "arrival": arrival.name if arrival else "",
        "path": event.path,
        "plan": dict(arrival.plan) if arrival else {},
        **{name: value for name, value in event.details.items() if name not in OWN},
        "text": message(told(event, arrival)),
    }
    return dict(visible(notice))


def told(event: Event, arrival: Arrival | None) -> str:
    """An event in one line for people."""
    details = event.details
    name, update = (arrival.name, arrival.update) if arrival else ("watch", "")
    because, plan = details.get("because", ""), details.get("plan") or (arrival.plan if arrival else {})
    colon = f": {because}" if because else ""
    lines = {
        "seen": f"seen, {details.get('files')} files, {details.get('bytes')} bytes",
        "complete": f"complete ({details.get('by')})",
        "called": f"tick: {len(details.get('paths', []))} to take in",
        "planned": f"planned, {prediction(plan)}",
        "started": f"attempt {details.get('attempts')} begins ({prediction(plan)})",
        "failed": f"failed, to be tried again at {details.get('retry_at')}{colon}",
        "held": f"HELD ({details.get('why')}){colon}",
        "lifted": f"not held any more (it was{colon})",
        "released": f"released as {details.get('update')}{colon}",
        "refused": f"REFUSED by the gate, {details.get('update')}{colon}",
        "undecided": f"HELD, UNDECIDED by the gate, {details.get('update')}{colon}; `rewarm promote` ends it",
        "altered": f"changed after {update} took it in; new data needs a name of its own",
        "busy": "not begun, as another rewarm command is writing to the workspace; again later",
        "ran": f"the attempt took {details.get('seconds')} s" + price_of(details),
        "gone": "gone from the inbox",
        "dropped": "its unfinished update was dropped, or never began",
        "trouble": f"nothing can be taken in{colon}",
        "recovered": "arrivals can be taken in again",
        "retry": "to be tried again, as asked",
        "delivered": f"{details.get('target')} was told ({details.get('of')})",
        "undelivered": f"{details.get('target')} was NOT told ({details.get('of')}), {after_tries(details)}",
    }
    return f"{name}: {lines.get(event.kind, event.kind)}"


def price_of(details: Mapping[str, Any]) -> str:
    """What an attempt cost, where that is known."""
    return "" if details.get("cost") is None else f" and cost {details['cost']:.2f}"


def after_tries(details: Mapping[str, Any]) -> str:
    """What becomes of a notice that was not delivered, and why it was not."""
    again = "again later" if details.get("again") else f"given up after {details.get('tries')} tries"
    return f"{again}: {details.get('error')}"


def prediction(plan: Mapping[str, Any]) -> str:
    """A plan's figures in a few words."""
    tokens = plan.get("tokens") or {}
    parts = [f"{sum(tokens.values()):,} tokens"] if tokens else []
    parts += [f"{plan['hours']:.2g} h"] if plan.get("hours") is not None else []
    parts += [f"{plan['cost']:.2f} {plan.get('currency', '')}"] if plan.get("cost") is not None else []
    return ", ".join(parts) or "not planned"
