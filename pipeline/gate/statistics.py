"""One-sided tests of two models on the same documents or questions, and what they can see. Pure functions.

An estimate answers three questions about a bound: is the true value above it, is it below it, and how far from it would
the truth have to be to be found with a given power. The gate's rule (``verdict.py``) is made of these three. A cautious
answer allows for units that are worse than all that were seen: a release is refused by those only.
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
        """What it is compared with."""

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
        """How many units of equal weight the ``units`` are worth (Kish 1965, section 11.7)."""

    def p_above(self, bound: float, cautious: bool = False) -> float | None:
        """p of a true change of ``bound`` or less: small if it is above; None: too few units to say."""

    def p_below(self, bound: float, cautious: bool = False) -> float | None:
        """p of a true change of ``bound`` or more: small if it is below; None: too few units to say."""

    def detectable(self, alpha: float, power: float, bound: float = 0.0, cautious: bool = False) -> float | None:
        """The distance from ``bound`` that a test of level ``alpha`` finds with ``power``; None: no finite one."""


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
        """Questions count alike."""
        return float(self.n)

    def p_above(self, bound: float, cautious: bool = False) -> float | None:
        """Of a gain."""
        return paired_p(self.gained, self.lost, self.n, bound) if bound >= 0 else 1 - self._p_fell(-bound)

    def p_below(self, bound: float, cautious: bool = False) -> float | None:
        """Of a drop."""
        return self._p_fell(-bound) if bound <= 0 else 1 - paired_p(self.gained, self.lost, self.n, bound)

    def _p_fell(self, bound: float) -> float:
        return paired_p(self.lost, self.gained, self.n, bound)

    def detectable(self, alpha: float, power: float, bound: float = 0.0, cautious: bool = False) -> float | None:
        """By the normal approximation, with the variance at a drop of ``-bound``; one question more if none differ."""
        from scipy import stats

        drop = max(-bound, 1 / self.n)
        error = math.sqrt(paired_variance(self.lost, self.gained, self.n, min(drop, 1.0))) / self.n
        return float(stats.norm.isf(alpha) + stats.norm.ppf(power)) * error


def paired_p(first: int, second: int, n: int, bound: float) -> float:
    """p of ``(first − second) / n`` being ``bound`` (0 to 1) or less in truth; of n pairs, discordant counts.

    At 0 the exact binomial test on the discordant pairs (McNemar 1947); else the score test of Tango (1998).
    """
    from scipy import stats

    if bound == 0:
        discordant = first + second
        return float(stats.binom.sf(first - 1, discordant, 0.5)) if discordant else 1.0
    variance = paired_variance(first, second, n, bound)
    distance = first - second - n * bound
    return float(stats.norm.sf(distance / math.sqrt(variance))) if variance > 0 else float(distance <= 0)


def paired_variance(first: int, second: int, n: int, bound: float) -> float:
    """Variance of ``first − second`` where its expectation is ``n · bound``, by the constrained maximum likelihood.

    ``n (2q + bound (1 − bound))`` with q, the probability of ``second``, the root of ``2n q² + B q + C`` (Tango 1998).
    """
    linear = -(first + second) + (2 * n - first + second) * bound
    constant = -second * bound * (1 - bound)
    q = (math.sqrt(linear**2 - 8 * n * constant) - linear) / (4 * n)
    return n * (2 * q + bound * (1 - bound))


def compare_scores(candidate: Floats, current: Floats) -> Estimate:
    """Mean scores of two models on the same questions: arrays over questions.

    Right or wrong (0 and 1): ``AccuracyChange``. Anything between: a mean change with its standard error over
    questions. Raises ``ValueError`` if there are no questions.
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
        """Above chance."""
        return self.candidate - self.chance

    @property
    def units(self) -> int:
        """Questions."""
        return self.n

    @property
    def worth(self) -> float:
        """Questions count alike."""
        return float(self.n)

    def p_above(self, bound: float, cautious: bool = False) -> float | None:
        """The exact binomial test."""
        from scipy import stats

        return float(stats.binom.sf(self.right - 1, self.n, self.chance + bound))

    def p_below(self, bound: float, cautious: bool = False) -> float | None:
        """The other tail."""
        from scipy import stats

        return float(stats.binom.cdf(self.right, self.n, self.chance + bound))

    def detectable(self, alpha: float, power: float, bound: float = 0.0, cautious: bool = False) -> float | None:
        """The distance above ``chance + bound`` that the exact test finds with ``power``."""
        from scipy import stats

        least = int(stats.binom.isf(alpha, self.n, self.chance + bound)) + 1  # right answers that are significant
        if least > self.n:
            return None
        needed = float(stats.beta.ppf(power, least, self.n - least + 1))  # P(X ≥ k; p) is Beta(k, n − k + 1)'s cdf at p
        return needed - self.chance - bound


def above_chance(scores: Floats, chance: float) -> AboveChance:
    """Right (1) and wrong (0) answers against guessing, which is right with the probability ``chance``.

    Raises ``ValueError`` if there are no questions.
    """
    if not len(scores):
        raise ValueError("no questions")
    return AboveChance(int(scores.sum()), len(scores), chance)


def holm(values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in their order (Holm 1979): adjusted ≤ α rejects at family-wise level α.

    The i-th smallest of m, counted from 0, becomes the largest of ``(m − j) · p`` over all j ≤ i, at most 1.
    """
    adjusted = [0.0] * len(values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda place: values[place])):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = largest
    return adjusted
