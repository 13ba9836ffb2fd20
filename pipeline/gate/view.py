"""A verdict in a few lines, for the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

OUTCOMES = {"passed": "passed", "refused": "REFUSED", "held": "HELD, undecided"}


def verdict_lines(gate: Mapping[str, Any], update: str = "") -> Iterator[str]:
    """The lines of ``update.json``'s ``gate``: the outcome with its reasons, then the losses that were compared."""
    if not gate:
        return
    outcome = gate.get("outcome", "passed" if gate["passed"] else "refused")
    yield f"gate: {OUTCOMES[outcome]}, against {gate['against']}"
    for reason in gate["because"]:
        yield f"  {reason}"
    for check in gate["checks"]:
        if check["kind"] in ("loss", "best") and check["passed"]:
            yield f"  {check['name']} ({check['role']}): {check['because']}, nats per token, {seen(check)}"
    if outcome == "held":
        yield f"  promote it with `rewarm promote WORKSPACE {update or 'UPDATE'}`, or leave it: nothing changes then"


def seen(check: Mapping[str, Any]) -> str:
    """What a check rests on, and the least that it detects."""
    documents = f"{check['n']} documents"
    if check.get("units", check["n"]) != check["n"]:
        documents += f" of {check['units']} sites"
    effect = check.get("detectable")
    return documents if effect is None else f"{documents}, detects {effect:.2g}"
