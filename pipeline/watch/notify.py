"""Tells people: every notice is posted to webhooks and given to a command, in order, at least once.

How far each of them has been told lies in ``WORKSPACE/watch/notices.json``, so a restart goes on there. A target that
is down is tried again, later and later; a notice that failed often is given up, with a line that says so. No failure
reaches the watch.
"""

import os
import shlex
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from urllib.parse import urlsplit

import orjson
import xxhash

from pipeline.watch.policy import pause
from stages.disk import keep_private
from stages.storage import Folder

STATE = "notices.json"
TIMEOUT = 10.0  # seconds for a target to answer
FIRST_WAIT, TRIES = 5.0, 12  # with doubling waits, a target may be down for more than four hours


class Target(Protocol):
    """Somebody who is told."""

    @property
    def key(self) -> str:
        """What the state calls it; an address may hold a secret, so it is a digest."""

    @property
    def shown(self) -> str:
        """What lines call it, without secrets."""

    def tell(self, notice: Mapping[str, Any]) -> None:
        """Deliver one notice; raises ``OSError`` or ``subprocess.SubprocessError``."""


@dataclass(frozen=True)
class Webhook:
    """An address that takes JSON by POST; any answer of 2xx is fine."""

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
        with urllib.request.urlopen(request, timeout=TIMEOUT):
            pass


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
        return f"command {shlex.split(self.line)[0]}"

    def tell(self, notice: Mapping[str, Any]) -> None:
        """Run it to its end."""
        text = orjson.dumps(notice)
        own = {"NOTICE": text.decode(), "EVENT": notice["event"], "ARRIVAL": notice["arrival"], "TEXT": notice["text"]}
        environment = {**os.environ, **{f"REWARM_{name}": value for name, value in own.items()}}
        subprocess.run(
            shlex.split(self.line), input=text, env=environment, timeout=TIMEOUT, check=True, stdout=subprocess.DEVNULL
        )


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

    def deliver(self, now: datetime) -> Iterator[str]:
        """Tell what can be told; lines about what could not."""
        for turn in self.turns:
            for notice in [one for one in self.queue if one["seq"] > turn.told]:
                if turn.at is not None and now < turn.at:
                    break
                if line := self._tell(turn, notice, now):
                    yield line
        told = min((turn.told for turn in self.turns), default=0)
        self.queue = [one for one in self.queue if one["seq"] > told and self.turns]

    def _tell(self, turn: Turn, notice: Mapping[str, Any], now: datetime) -> str:
        try:
            turn.target.tell(notice)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            turn.failures += 1
            if turn.failures < TRIES:
                turn.at = now + timedelta(seconds=pause(turn.target.key, turn.failures, FIRST_WAIT))
                return f"{turn.target.shown}: not told of {notice['event']} {notice['arrival']} ({error}); again later"
            line = f"{turn.target.shown}: given up telling of {notice['event']} {notice['arrival']} ({error})"
        else:
            line = ""
        turn.told, turn.failures, turn.at = notice["seq"], 0, None
        self._keep()
        return line

    def _keep(self) -> None:
        self.folder.write_json(STATE, {one.target.key: one.told for one in self.turns})
        if self.folder.is_local:
            keep_private(self.folder.path / STATE)

    @property
    def due(self) -> datetime | None:
        """When a target is to be tried again; None where nothing waits."""
        waiting = [turn.at for turn in self.turns if turn.at is not None]
        return min(waiting, default=None)
