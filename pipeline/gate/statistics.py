"""Paired tests of two models on the same documents or questions, and the correction for many tests. Pure functions.

All paired tests are two-sided and symmetric: with the models swapped, the change has the other sign and p stays.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 9999  # flips drawn where there are more: p is known to within 0.005 at 0.05, and is 0.0001 at least
SEED = 20240313  # of the flips that are drawn
LEAST_FREEDOM = 1e-6  # degrees of freedom where one document holds nearly all tokens: p is about 1
ROWS = 128  # flips that are made at once

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Paired:
    """Two models on the same ``n`` documents or questions."""

    candidate: float
    current: float
    change: float  # candidate − current
    p: float | None  # of no difference; None where ``n`` is too small to say
    n: int


def compare_losses(candidate: Floats, current: Floats, tokens: npt.NDArray[np.int64]) -> Paired:
    """Nats per token of two models: arrays over documents, of each model's nats (sums) and the target tokens.

    The change is the ratio estimator ``D = Σ(candidate − current) / Σ tokens`` (Cochran 1977, section 6.2), so that it
    is the difference of the two losses as reported. Documents are the units, not tokens: those of one document are not
    independent. The variance is the jackknife's, ``(n − 1)/n · Σ(D₍ᵢ₎ − mean)²`` with ``D₍ᵢ₎`` without document i,
    which errs on the safe side (Efron and Stein 1981); D over its root is referred to Student's t with m − 1 degrees of
    freedom, where ``m = (Σ tokens)² / Σ tokens²`` is how many documents of equal length the n are worth (Kish 1965,
    section 11.7): n where they are equally long, few where a few hold most of the tokens. Documents without target
    tokens do not count. Raises ``ValueError`` where no document has any.
    """
    from scipy import stats  # takes a second to import, and every command imports this module

    counted = tokens > 0
    differences, sizes = (candidate - current)[counted], tokens[counted].astype(np.float64)
    total, n = float(sizes.sum()), int(counted.sum())
    if not n:
        raise ValueError("no document has target tokens")
    change = math.fsum(differences) / total
    means = [math.fsum(nats[counted]) / total for nats in (candidate, current)]
    if n < 2:
        return Paired(means[0], means[1], change, None, n)
    without = (change * total - differences) / (total - sizes)
    error = math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
    if not differences.any():
        return Paired(means[0], means[1], change, 1.0, n)
    freedom = max(total**2 / float((sizes**2).sum()) - 1, LEAST_FREEDOM)
    p = 2 * float(stats.t.sf(abs(change) / error, freedom)) if error else 0.0
    return Paired(means[0], means[1], change, p, n)


def compare_scores(candidate: Floats, current: Floats) -> Paired:
    """Mean scores of two models on the same questions: arrays over questions.

    Right or wrong (0 and 1): McNemar's exact test, a binomial test on the questions that only one model got right
    (McNemar 1947). Anything between: ``sign_flip``. Raises ``ValueError`` where there are no questions.
    """
    if not len(candidate):
        raise ValueError("no questions")
    differences = candidate - current
    means = float(candidate.mean()), float(current.mean())
    binary = bool(np.isin(candidate, (0.0, 1.0)).all() and np.isin(current, (0.0, 1.0)).all())
    return Paired(*means, means[0] - means[1], mcnemar(differences) if binary else sign_flip(differences), len(current))


def mcnemar(differences: Floats) -> float:
    """p of equal accuracy, from differences of −1, 0 and 1; 1 where the models never differ."""
    from scipy import stats

    gained, lost = int((differences > 0).sum()), int((differences < 0).sum())
    return float(stats.binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0


def above_chance(scores: Floats, chance: float) -> Paired:
    """One model's right (1) and wrong (0) answers against guessing, which is right with the probability ``chance``.

    The exact binomial test, one-sided. ``current`` is ``chance``. Raises ``ValueError`` where there are no questions.
    """
    from scipy import stats

    if not len(scores):
        raise ValueError("no questions")
    right, n = int(scores.sum()), len(scores)
    p = float(stats.binomtest(right, n, chance, alternative="greater").pvalue)
    return Paired(right / n, chance, right / n - chance, p, n)


def sign_flip(differences: Floats) -> float:
    """p of no difference: how often a sum as far from 0 comes about when every difference takes its sign by chance.

    The one-sample permutation test (Fisher 1935, section 21), exact where all flips can be made, else by ``RESAMPLES``
    drawn with a fixed seed, the observed one among them (Phipson and Smyth 2010), so that p is never 0.
    """
    from scipy import stats

    moved = differences[differences != 0]
    if not len(moved):
        return 1.0
    found = stats.permutation_test(
        (moved,),
        lambda sample, axis: np.sum(sample, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=ROWS,
        rng=np.random.default_rng(SEED),
    )
    return min(1.0, float(found.pvalue))


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
