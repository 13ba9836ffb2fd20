"""Notices to people: each is posted to webhooks and passed to a command, in order, at least once.

The progress of every target is kept in ``WORKSPACE/watch/notices.json``, so that a restart resumes from there. A
target that is down is retried with growing waits, and a notice is discarded after too many failures. The journal of
the watch records deliveries and failed deliveries with their reasons. A failed delivery never stops the watch.

A notice is delivered if the webhook answers with 2xx. Redirects are not followed: clients turn a POST redirected with
301, 302 or 303 into a GET (RFC 9110, section 15.4), whose answer does not concern the notice, and another host may not
be meant to see it. A redirect counts as a failure whose message names the new address.

``make_notice`` and ``told`` write the notice and the terminal line of an event.
"""

import base64
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
from urllib.parse import unquote, urljoin, urlsplit

import orjson
import xxhash
from pydantic import TypeAdapter

from rewarm.pipeline.escaping import message, visible
from rewarm.pipeline.redaction import MASK, host_only, program_only
from rewarm.pipeline.watch.journal import Draft, Event
from rewarm.pipeline.watch.policy import pause
from rewarm.pipeline.watch.state import Arrival
from rewarm.stages.core.local_files import keep_private
from rewarm.stages.core.shapes import read_as
from rewarm.stages.core.storage import Folder

STATE = "notices.json"
TOLD = TypeAdapter(dict[str, int])
TIMEOUT = 10.0  # seconds for a target to answer
FIRST_WAIT, TRIES = 5.0, 12  # with doubling waits, a target may be down for more than four hours
DELIVERED, UNDELIVERED = "delivered", "undelivered"  # kinds of events
REDIRECTS = (301, 302, 303, 307, 308)


class Target(Protocol):
    """Receiver of notices."""

    @property
    def key(self) -> str:
        """Key in the state file: a digest, because an address may contain a secret."""

    @property
    def shown(self) -> str:
        """Name in messages, without secrets."""

    def tell(self, notice: Mapping[str, Any]) -> None:
        """Deliver one notice; raise ``OSError`` if it may not have arrived."""


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Handler that turns the redirect of a POST into an error."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        """Follow no redirect."""


@dataclass(frozen=True)
class Webhook:
    """An address that accepts JSON by POST and answers with 2xx; the user and password in it are sent as Basic."""

    url: str

    @property
    def key(self) -> str:
        """Digest of the address."""
        return f"webhook-{xxhash.xxh3_64_hexdigest(self.url.encode())}"

    @property
    def shown(self) -> str:
        """The host only: many webhooks have a secret in the path."""
        return f"webhook {urlsplit(self.url).hostname}"

    def tell(self, notice: Mapping[str, Any]) -> None:
        """POST the notice."""
        address, authorization = without_credentials(self.url)
        headers = {"Content-Type": "application/json", "User-Agent": "rewarm", **authorization}
        request = urllib.request.Request(address, orjson.dumps(notice), headers, method="POST")
        try:
            with urllib.request.build_opener(NoRedirects).open(request, timeout=TIMEOUT):
                pass
        except urllib.error.HTTPError as error:
            with error:
                raise OSError(self._answer(error)) from None
        except (http.client.HTTPException, ValueError) as error:  # not HTTP, or not an address
            raise OSError(f"no HTTP response ({type(error).__name__}: {error})") from error

    def _answer(self, error: urllib.error.HTTPError) -> str:
        """Describe an answer other than 2xx."""
        location = error.headers.get("Location")
        if error.code not in REDIRECTS or not location:
            return f"the server answered {error.code} {error.reason}"
        target = urljoin(self.url, location)
        new, old = urlsplit(target), urlsplit(self.url)
        if new._replace(scheme="", netloc="") == old._replace(scheme="", netloc=""):
            home = host_only(f"{new.scheme}://{new.netloc}")
            return f"the server answered {error.code}, a redirect to the same path of {home}: use that address"
        return f"the server answered {error.code}, a redirect to {host_only(target)}: use the final address"


def without_credentials(url: str) -> tuple[str, dict[str, str]]:
    """Return an address without user and password, and the header that gives them; urllib sends neither."""
    parts = urlsplit(url)
    user, mark, host = parts.netloc.rpartition("@")
    if not mark:
        return url, {}
    basic = base64.b64encode(unquote(user).encode()).decode()
    return parts._replace(netloc=host).geturl(), {"Authorization": f"Basic {basic}"}


@dataclass(frozen=True)
class Command:
    """A program that receives the notice on stdin and in its environment; it is run without a shell."""

    line: str

    @property
    def key(self) -> str:
        """Digest of the command."""
        return f"command-{xxhash.xxh3_64_hexdigest(self.line.encode())}"

    @property
    def shown(self) -> str:
        """The program only."""
        return f"command {program_only(self.line).removesuffix(f' {MASK}')}"

    def tell(self, notice: Mapping[str, Any]) -> None:
        """Run the command to its end."""
        text = orjson.dumps(notice)
        own = {"NOTICE": text.decode(), "EVENT": notice["event"], "ARRIVAL": notice["arrival"], "TEXT": notice["text"]}
        environment = {**os.environ, **{f"REWARM_{name}": value for name, value in own.items()}}
        words = shlex.split(self.line)
        try:
            done = subprocess.run(
                words, input=text, env=environment, timeout=TIMEOUT, check=False, stdout=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:  # its text contains the whole command
            raise TimeoutError(f"the command did not end within {TIMEOUT:g} s") from None
        if done.returncode:
            raise OSError(f"the command ended with exit code {done.returncode}")


@dataclass
class Turn:
    """Progress of one target."""

    target: Target
    told: int  # seq of the last event that was delivered or discarded
    failures: int = 0
    at: datetime | None = None  # earliest time of the next try


@dataclass
class Notifier:
    """All targets, each with its own progress in the queue."""

    folder: Folder
    turns: list[Turn]
    queue: list[Mapping[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Folder, targets: Iterable[Target], newest: int) -> "Notifier":
        """Load the progress of the targets; a new target starts after the event ``newest``."""
        known = read_as(folder, STATE, TOLD) if folder.exists(STATE) else {}
        made = cls(folder, [Turn(target, known.get(target.key, newest)) for target in targets])
        made._keep()  # fix the start of new targets before further events happen
        return made

    def wants(self, seq: int) -> bool:
        """Return whether a target has not been told of the event ``seq``."""
        return any(turn.told < seq for turn in self.turns)

    def add(self, notice: Mapping[str, Any]) -> None:
        """Queue a notice for every target."""
        self.queue.append(notice)

    def deliver(self, now: datetime) -> Iterator[Draft]:
        """Deliver what is due; yield drafts of deliveries, and of the first and the last failure of a notice."""
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
        self.folder.write_json(STATE, {turn.target.key: turn.told for turn in self.turns})
        if self.folder.is_local:
            keep_private(self.folder.path / STATE)

    @property
    def due(self) -> datetime | None:
        """Time of the next retry; None if no target is waiting."""
        waiting = [turn.at for turn in self.turns if turn.at is not None]
        return min(waiting, default=None)


# Events that cause a notice; all others only print a line.
TAKING = ("started", "failed", "released", "refused", "undecided")
ASKING = ("held", "lifted", "altered", "trouble", "recovered", "paused", "resumed")
NOTABLE = (*TAKING, *ASKING)
OWN = ("fingerprint", "begun", "sets", "planned")  # internal details, left out of notices


def make_notice(event: Event, arrival: Arrival | None, workspace: str, inbox: str) -> dict[str, Any]:
    """Return the notice of an event as JSON types; ``seq`` identifies repetitions, ``text`` is one line for people.

    Control characters in file names are replaced by visible symbols.
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
    """Describe an event in one line for people."""
    details = event.details
    name, update = (arrival.name, arrival.update) if arrival else ("watch", "")
    because, plan = details.get("because", ""), details.get("plan") or (arrival.plan if arrival else {})
    colon = f": {because}" if because else ""
    lines = {
        "seen": f"seen, {counted(details.get('files', 0), 'file')}, {counted(details.get('bytes', 0), 'byte')}",
        "complete": f"complete ({details.get('by')})",
        "called": f"tick: {len(details.get('paths', []))} to process",
        "planned": f"planned, {prediction(plan)}",
        "started": f"attempt {details.get('attempts')} begins ({prediction(plan)})",
        "failed": f"failed, retry at {details.get('retry_at')}{colon}",
        "held": f"HELD ({details.get('why')}){colon}",
        "lifted": f"no longer held (the reason was{colon})",
        "released": f"released as {details.get('update')}{colon}",
        "refused": f"REFUSED by the gate, {details.get('update')}{colon}",
        "undecided": f"HELD, UNDECIDED by the gate, {details.get('update')}{colon}; `rewarm promote` makes it current",
        "altered": f"changed after {update} ingested it; submit new data under a new name",
        "busy": "not started because another rewarm command is writing to the workspace; will be retried",
        "ran": f"the attempt took {details.get('seconds')} s" + price_of(details),
        "gone": "removed from the inbox",
        "dropped": "its unfinished update was discarded, or never began",
        "trouble": f"no arrival can be processed{colon}",
        "recovered": "arrivals can be processed again",
        "retry": "will be retried, as requested",
        "delivered": f"{details.get('target')} was notified ({details.get('of')})",
        "undelivered": f"{details.get('target')} was NOT notified ({details.get('of')}), {after_tries(details)}",
    }
    return f"{name}: {lines.get(event.kind, event.kind)}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}{'s' * (number != 1)}"


def price_of(details: Mapping[str, Any]) -> str:
    """Return the cost of an attempt, if known."""
    return "" if details.get("cost") is None else f" and cost {details['cost']:.2f}"


def after_tries(details: Mapping[str, Any]) -> str:
    """Describe the next step for an undelivered notice, with the error."""
    again = "will be retried" if details.get("again") else f"discarded after {details.get('tries')} tries"
    return f"{again}: {details.get('error')}"


def prediction(plan: Mapping[str, Any]) -> str:
    """Summarise a plan's figures in a few words."""
    tokens = plan.get("tokens") or {}
    parts = [f"{sum(tokens.values()):,} tokens"] if tokens else []
    parts += [f"{plan['hours']:.2g} h"] if plan.get("hours") is not None else []
    parts += [f"{plan['cost']:.2f} {plan.get('currency', '')}"] if plan.get("cost") is not None else []
    return ", ".join(parts) or "not planned"
