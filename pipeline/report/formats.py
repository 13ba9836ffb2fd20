"""Numbers for people: 1.23 M tokens, 3.412 nats, +0.021, 3 min 12 s."""

import math

from rewarm.pipeline.gate.verdict import Check

NARROW_SPACE = "\u202f"
MINUS = "\u2212"
MISSING = "–"
SAME = 0.0005
"""Changes smaller than this print as zero, and count as neither better nor worse."""


def number(value: float | None, digits: int = 3) -> str:
    """``value`` with ``digits`` decimals and a true minus sign; a dash for None."""
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("∞" if value > 0 else MINUS + "∞")
    return f"{value:,.{digits}f}".replace("-", MINUS)


def score(value: float | None) -> str:
    """A task's metric: three decimals for shares and losses, fewer for large perplexities."""
    return number(value, 3 if value is None or abs(value) < 100 else 1)


def change(value: float | None) -> str:
    """A signed difference: ``+0.021``, ``−0.310``, ``±0.000``."""
    if value is None or not math.isfinite(value):
        return number(value)
    if abs(value) < SAME:
        return "±0.000"
    return ("+" if value > 0 else "") + number(value)


def direction(value: float | None) -> str:
    """The kind of a difference in loss: ``worse``, ``better``, ``same``, or empty for None."""
    if value is None:
        return ""
    if math.isnan(value) or value >= SAME:
        return "worse"
    return "better" if value <= -SAME else "same"


def count(value: float | None) -> str:
    """A count for people, from ten thousand on in three significant digits.

    ``940``, ``8,431``, ``12.3 k``, ``1.23 M``, ``300 B`` (10⁹), ``2.00 T``.
    """
    if value is None:
        return MISSING
    if not math.isfinite(value) or abs(value) < 10_000:
        return number(value, 0)
    exponent = 3
    rounded = float(f"{value:.3g}")
    while abs(rounded) >= 10 ** (exponent + 3) and exponent < 12:
        exponent += 3
    scaled = rounded / 10**exponent
    digits = 2 if abs(scaled) < 10 else 1 if abs(scaled) < 100 else 0
    return number(scaled, digits) + NARROW_SPACE + {3: "k", 6: "M", 9: "B", 12: "T"}[exponent]


def exact(value: float | None) -> str:
    """A count to the last digit: ``1,234,567``."""
    return number(value, 0)


def share(value: float | None) -> str:
    """A share of 0 to 1 as per cent: ``5.00 %``."""
    return MISSING if value is None else number(100 * value, 2) + NARROW_SPACE + "%"


def probability(value: float | None) -> str:
    """A p-value: ``0.034``, ``< 0.001``."""
    return f"<{NARROW_SPACE}0.001" if value is not None and value < 0.001 else number(value)


def duration(seconds: float | None) -> str:
    """Wall time: ``0.42 s``, ``12.3 s``, ``3 min 12 s``, ``5 h 07 min``, ``3 d 4 h``."""
    if seconds is None or not math.isfinite(seconds):
        return number(seconds)
    if seconds < 59.95:
        return number(seconds, 2 if seconds < 1 else 1) + NARROW_SPACE + "s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}{NARROW_SPACE}min {rest:02d}{NARROW_SPACE}s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours < 48:
        return f"{hours}{NARROW_SPACE}h {minutes:02d}{NARROW_SPACE}min"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days}{NARROW_SPACE}d {hours}{NARROW_SPACE}h"


def setting(value: object) -> str:
    """A setting's value as one would write it in the recipe."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}".replace("-", MINUS)
    if isinstance(value, int) and abs(value) >= 10_000:
        return exact(value)
    return str(value)


def result(check: Check) -> str:
    """How a check of the gate ended: ``passed``, ``failed`` or ``undecided``."""
    return "undecided" if check.outcome == "undecided" else "passed" if check.passed else "failed"


def size(value: float) -> str:
    """Bytes in binary units: ``256 B``, ``16 KiB``, ``1.5 MiB``."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = 0
    while value >= 1024 and power + 1 < len(units):
        value, power = value / 1024, power + 1
    return (
        f"{value:.0f}{NARROW_SPACE}{units[power]}"
        if value == int(value)
        else f"{value:.1f}{NARROW_SPACE}{units[power]}"
    )
