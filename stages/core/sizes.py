"""Sizes in bytes as text."""

UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0))


def size(amount: float) -> str:
    """Format bytes in powers of ten, to three digits: ``226 B``, ``1.65 MB``."""
    unit, scale = next((one for one in UNITS if amount >= one[1]), UNITS[-1])
    return f"{amount / scale:.3g} {unit}"
