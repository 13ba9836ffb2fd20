"""What people read of an event: the notice that is sent, and the line on the terminal."""

from collections.abc import Mapping
from typing import Any

from pipeline.escaping import message, visible
from pipeline.watch.book import Arrival
from pipeline.watch.journal import Event

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
