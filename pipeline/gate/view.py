"""A verdict in a few lines, for the terminal."""

from collections.abc import Iterator

from pipeline.gate.verdict import Check, Verdict

OUTCOMES = {"passed": "passed", "refused": "REFUSED", "held": "HELD, undecided"}


def verdict_lines(gate: Verdict | None, update: str = "") -> Iterator[str]:
    """The lines of a record's verdict: the outcome with its reasons, then the losses that were compared."""
    if gate is None:
        return
    yield f"gate: {OUTCOMES[gate.outcome]}, against {gate.against}"
    for reason in gate.because:
        yield f"  {reason}"
    for check in gate.checks:
        if check.kind in ("loss", "best") and check.passed:
            yield f"  {check.name} ({check.role}): {check.because}, nats per token, {seen(check)}"
    if gate.outcome == "held":
        yield f"  promote it with `rewarm promote WORKSPACE {update or 'UPDATE'}`, or leave it: nothing changes then"


def seen(check: Check) -> str:
    """What a check rests on, and the least that it detects."""
    documents = f"{check.n} documents"
    if check.units != check.n:
        documents += f" of {check.units} sites"
    return documents if check.detectable is None else f"{documents}, detects {check.detectable:.2g}"
