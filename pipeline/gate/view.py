"""A verdict in a few lines, for the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any


def verdict_lines(gate: Mapping[str, Any]) -> Iterator[str]:
    """The lines of ``update.json``'s ``gate``: the outcome with its reasons, then the losses that were compared."""
    if not gate:
        return
    outcome = "passed" if gate["passed"] else "REFUSED"
    yield f"gate: {outcome}, against {gate['against']}"
    for reason in gate["because"]:
        yield f"  {reason}"
    for check in gate["checks"]:
        if check["kind"] == "loss" and check["passed"]:
            yield f"  {check['name']} ({check['role']}): {check['because']}, nats per token, {check['n']} documents"
