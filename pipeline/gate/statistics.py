"""One-sided tests of two models on the same documents or questions, and their power. Pure functions.

An estimate answers three questions about a bound: is the true value above it, is it below it, and how far from it must
the true value be to be detected with a given power. The gate's rule (``verdict.py``) is built from these three. A
cautious answer allows for units that are worse than all observed ones; only cautious answers refuse a release.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rewarm.pipeline.gate.mean_change import compare_losses

Floats = npt.NDArray[np.float64]


class Estimate(Protocol):
    """A change between two models, or one model's score against chance."""

    @property
    def candidate(self) -> float:
        """The candidate's value."""

    @property
    def current(self) -> float:
        """The value that the candidate is compared with."""

    @property
    def change(self) -> float:
        """Candidate − current."""

    @property
    def n(self) -> int:
        """Documents or questions."""

    @property
    def units(self) -> int:
        """Independent units behind ``n``: sites, documents or questions."""

    @property
    def worth(self) -> float:
        """The effective sample size: the number of units of equal weight (Kish 1965, section 11.7)."""

    def p_above(self, bound: float, cautious: bool = False) -> float | None:
        """Return p of a true change of ``bound`` or less: small if the change is above; None: too few units."""

    def p_below(self, bound: float, cautious: bool = False) -> float | None:
        """Return p of a true change of ``bound`` or more: small if the change is below; None: too few units."""

    def detectable(self, alpha: float, power: float, bound: float = 0.0, cautious: bool = False) -> float | None:
        """Return the distance from ``bound`` that a test of level ``alpha`` detects with ``power``; None: infinite."""


@dataclass(frozen=True)
class AccuracyChange:
    """Right and wrong answers of two models to the same questions."""

    candidate: float
    current: float
    gained: int  # questions that only the candidate got right
    lost: int  # questions that only the current release got right
    n: int

    @property
    def change(self) -> float:
        """Candidate − current."""
        return self.candidate - self.current

    @property
    def units(self) -> int:
        """Questions."""
        return self.n

    @property
    def worth(self) -> float:
        """Questions have equal weight."""
        return float(self.n)

    def p_above(self, bound: float, cautious: bool = False) -> float | None:
        """Return p for a gain."""
        return paired_p(self.gained, self.lost, self.n, bound) if bound >= 0 else 1 - self._p_fell(-bound)

    def p_below(self, bound: float, cautious: bool = False) -> float | None:
        """Return p for a drop."""
        return self._p_fell(-bound) if bound <= 0 else 1 - paired_p(self.gained, self.lost, self.n, bound)

    def _p_fell(self, bound: float) -> float:
        return paired_p(self.lost, self.gained, self.n, bound)

    def detectable(self, alpha: float, power: float, bound: float = 0.0, cautious: bool = False) -> float | None:
        """Use the normal approximation, with the variance at a drop of ``-bound``, or of one question if that is 0."""
        from scipy import stats

        drop = max(-bound, 1 / self.n)
        error = math.sqrt(paired_variance(self.lost, self.gained, self.n, min(drop, 1.0))) / self.n
        return float(stats.norm.isf(alpha) + stats.norm.ppf(power)) * error


def paired_p(first: int, second: int, n: int, bound: float) -> float:
    """Return p of a true ``(first − second) / n`` of ``bound`` (0 to 1) or less, from discordant counts in n pairs.

    At 0 this is the exact binomial test on the discordant pairs (McNemar 1947), else the score test of Tango (1998).
    """
    from scipy import stats

    if bound == 0:
        discordant = first + second
        return float(stats.binom.sf(first - 1, discordant, 0.5)) if discordant else 1.0
    variance = paired_variance(first, second, n, bound)
    distance = first - second - n * bound
    return float(stats.norm.sf(distance / math.sqrt(variance))) if variance > 0 else float(distance <= 0)


def paired_variance(first: int, second: int, n: int, bound: float) -> float:
    """Return the variance of ``first − second`` if its expectation is ``n · bound``, by constrained maximum likelihood.

    ``n (2q + bound (1 − bound))`` with q, the probability of ``second``, the root of ``2n q² + B q + C`` (Tango 1998).
    """
    linear = -(first + second) + (2 * n - first + second) * bound
    constant = -second * bound * (1 - bound)
    q = (math.sqrt(linear**2 - 8 * n * constant) - linear) / (4 * n)
    return n * (2 * q + bound * (1 - bound))


def compare_scores(candidate: Floats, current: Floats) -> Estimate:
    """Compare the mean scores of two models on the same questions, from arrays over questions.

    Scores of 0 and 1 give an ``AccuracyChange``, other scores a mean change with its standard error over questions.
    Raises ``ValueError`` if there are no questions.
    """
    if not len(candidate):
        raise ValueError("no questions")
    if not all(np.isin(scores, (0.0, 1.0)).all() for scores in (candidate, current)):
        return compare_losses(candidate, current, np.ones(len(candidate), np.int64))
    differences = candidate - current
    gained, lost = int((differences > 0).sum()), int((differences < 0).sum())
    return AccuracyChange(float(candidate.mean()), float(current.mean()), gained, lost, len(candidate))


@dataclass(frozen=True)
class AboveChance:
    """One model's right answers among ``n``, against guessing. Bounds are distances from chance."""

    right: int
    n: int
    chance: float

    @property
    def candidate(self) -> float:
        """The share of right answers."""
        return self.right / self.n

    @property
    def current(self) -> float:
        """Chance."""
        return self.chance

    @property
    def change(self) -> float:
        """Distance above chance."""
        return self.candidate - self.chance

    @property
    def units(self) -> int:
        """Questions."""
        return self.n

    @property
    def worth(self) -> float:
        """Questions have equal weight."""
        return float(self.n)

    def p_above(self, bound: float, cautious: bool = False) -> float | None:
        """Return p of the exact binomial test."""
        from scipy import stats

        return float(stats.binom.sf(self.right - 1, self.n, self.chance + bound))

    def p_below(self, bound: float, cautious: bool = False) -> float | None:
        """Return p of the other tail."""
        from scipy import stats

        return float(stats.binom.cdf(self.right, self.n, self.chance + bound))

    def detectable(self, alpha: float, power: float, bound: float = 0.0, cautious: bool = False) -> float | None:
        """Return the distance above ``chance + bound`` that the exact test detects with ``power``."""
        from scipy import stats

        least = int(stats.binom.isf(alpha, self.n, self.chance + bound)) + 1  # right answers that are significant
        if least > self.n:
            return None
        needed = float(stats.beta.ppf(power, least, self.n - least + 1))  # P(X ≥ k; p) is Beta(k, n − k + 1)'s cdf at p
        return needed - self.chance - bound


def above_chance(scores: Floats, chance: float) -> AboveChance:
    """Compare right (1) and wrong (0) answers with guessing, which is right with probability ``chance``.

    Raises ``ValueError`` if there are no questions.
    """
    if not len(scores):
        raise ValueError("no questions")
    return AboveChance(int(scores.sum()), len(scores), chance)


def holm(values: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple tests (Holm 1979), keeping their order: adjusted ≤ α rejects at family-wise level α.

    The i-th smallest of m, counted from 0, becomes the largest of ``(m − j) · p`` over all j ≤ i, at most 1.
    """
    adjusted = [0.0] * len(values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda place: values[place])):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = largest
    return adjusted
