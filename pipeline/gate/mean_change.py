"""The change of a mean between two models on the same documents: its test and the test's power. Pure functions.

Changes of loss are skewed, documents differ in length, and the documents of a site count as one unit, so a split often
has a dozen units, of which a few have most of the weight. Student's t is then wrong on one side: a rare document that
improves a lot is usually not in the sample, so the sample has too high a mean and too small an error. With 12 documents
whose changes are lognormal (σ = 1), t refuses 20 % at the limit instead of 5 %, and resampling refuses 13 %, because no
method can account for values it has not seen (Bahadur and Savage 1956). The test therefore adds an imagined, unseen
document: see ``p_imagined``.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

LEAST_FREEDOM = 1e-6  # degrees of freedom if one unit holds nearly all tokens: p is about 0.5
FEWEST_FREEDOM = 0.2  # with fewer nothing useful is detectable: the quantiles are beyond 10,000 standard errors
BEYOND = 3.0  # standard deviations from the worst observed unit to the imagined one, in a cautious test
FARTHEST = 1e6  # standard errors: a test that needs more detects nothing
TOLERANCE = 1e-12  # relative
SADDLE = 1e-4  # nearer to the mean, the saddlepoint's correction is 0/0 and is omitted

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MeanChange:
    """A change of means with a standard error.

    Two tests are computed and the larger p is used: Student's t, which is valid for similar units, and the test with an
    imagined unit (``weigh``), which is valid for skewed ones.
    """

    candidate: float
    current: float
    change: float
    error: float | None  # standard error of ``change``; None for a single unit
    freedom: float
    n: int
    units: int
    worth: float
    rests: Floats = field(repr=False, compare=False)  # residuals by unit: nats minus ``change`` × tokens; sum 0
    sizes: Floats = field(repr=False, compare=False)  # tokens by unit

    def p_above(self, bound: float, cautious: bool = False) -> float | None:
        """Return p by ``t = (change − bound) / error``, or with an imagined unit whose loss fell a lot."""
        return self._tail(self.change - bound, self.rests, cautious)

    def p_below(self, bound: float, cautious: bool = False) -> float | None:
        """Return p of the other tail, with an imagined unit whose loss rose a lot."""
        return self._tail(bound - self.change, -self.rests, cautious)

    @property
    def same_change(self) -> bool:
        """Whether all units changed by the same amount (documents of one template): they show no spread.

        Then only their number counts, as in the sign test: two such documents decide nothing. Not so if nothing changed
        at all: the models are the same.
        """
        return self.error is not None and self.change != 0 and self.error <= TOLERANCE * abs(self.change)

    def _tail(self, distance: float, rests: Floats, cautious: bool) -> float | None:
        from scipy import special  # scipy is slow to import, and every command imports this module

        if self.error is None:
            return None
        if self.same_change:
            return 0.5**self.units if distance > 0 else 1.0
        if self.error == 0:
            return 0.0 if distance > 0 else 1.0
        by_t = float(special.stdtr(self.freedom, -distance / self.error))
        return max(by_t, p_imagined(distance, rests, self.sizes, cautious))

    def detectable(self, alpha: float, power: float, bound: float = 0.0, cautious: bool = False) -> float | None:
        """Return ``needed + t_power · error`` (Bloom 1995), where ``needed`` is the least significant distance.

        It does not depend on the bound, and is the larger one of both sides.
        """
        from scipy import special

        if self.error is None or self.freedom < FEWEST_FREEDOM or (self.same_change and 0.5**self.units > alpha):
            return None
        needed = -float(special.stdtrit(self.freedom, alpha)) * self.error
        for rests in (self.rests, -self.rests):
            farther = self._farther(needed, alpha, rests, cautious)
            if farther is None:
                return None
            needed = farther
        return needed + float(special.stdtrit(self.freedom, power)) * self.error

    def _farther(self, least: float, alpha: float, rests: Floats, cautious: bool) -> float | None:
        """Return the least distance from ``least`` up with ``p_imagined`` of at most ``alpha``; None: not finite."""
        from scipy import optimize

        def excess(distance: float) -> float:
            return p_imagined(distance, rests, self.sizes, cautious) - alpha

        if not self.error or excess(least) <= 0:
            return least
        most = 2 * least
        while excess(most) > 0:
            least, most = most, 2 * most
            if most > FARTHEST * self.error:
                return None
        return float(optimize.brentq(excess, least, most, rtol=1e-6, xtol=TOLERANCE))


def compare_losses(
    candidate: Floats, current: Floats, tokens: npt.NDArray[np.int64], groups: npt.NDArray[np.int64] | None = None
) -> MeanChange:
    """Compare the nats per token of two models, from arrays over documents: each model's total nats, target tokens.

    The change is the ratio estimator ``D = Σ(candidate − current) / Σ tokens`` (Cochran 1977, section 6.2), so that it
    is the difference of the two reported losses. Its units are the ``groups`` (numbers of the documents' sites, from
    0), else the documents: tokens of a document, and documents of a site, are not independent. The variance is the
    jackknife's, ``(m − 1)/m · Σ(D₍ᵢ₎ − mean)²`` with ``D₍ᵢ₎`` without unit i, which errs on the safe side (Efron and
    Stein 1981); D over its root is referred to Student's t with ``worth − 1`` degrees of freedom, where
    ``worth = (Σ tokens)² / Σ tokens²`` over units: their number if they are equally large, fewer if a few units have
    most of the tokens. Documents without target tokens are ignored. Raises ``ValueError`` if no document has any.
    """
    counted = tokens > 0
    n = int(counted.sum())
    if not n:
        raise ValueError("no document has target tokens")
    differences, sizes = (candidate - current)[counted], tokens[counted].astype(np.float64)
    total = float(sizes.sum())
    change = math.fsum(differences) / total
    means = [math.fsum(nats[counted]) / total for nats in (candidate, current)]
    if groups is not None:
        _, places = np.unique(groups[counted], return_inverse=True)
        differences, sizes = (np.bincount(places, part).astype(np.float64) for part in (differences, sizes))
    units, worth = len(sizes), total**2 / float((sizes**2).sum())
    rests = differences - change * sizes
    if units < 2:
        return MeanChange(means[0], means[1], change, None, LEAST_FREEDOM, n, units, worth, rests, sizes)
    influence = rests / (total - sizes)  # of leaving a unit out
    influence = influence - influence.mean()
    error = math.sqrt((units - 1) / units * float((influence**2).sum()))
    return MeanChange(means[0], means[1], change, error, max(worth - 1, LEAST_FREEDOM), n, units, worth, rests, sizes)


def p_imagined(distance: float, rests: Floats, sizes: Floats, cautious: bool) -> float:
    """Return p of a true change that is ``distance`` lower than the observed one; arrays over units, nats and tokens.

    Gaffke's test (2005) of the mean of a variable with a known least value: the mean is as uncertain as if the observed
    units *and one more at the least value* had random weights, uniform over all that sum to 1 (for the observed units
    alone this is the Bayesian bootstrap, Rubin 1981); p is the probability that the weighted mean is lower by
    ``distance``. No distribution above the least value is known for which the test exceeds its nominal error rate
    (Learned-Miller and Thomas 2019).

    A change of loss has no useful least value (a loss cannot fall below 0), so one is imagined, for a unit of mean
    size: the least observed residual or, for a ``cautious`` test, ``BEYOND`` standard deviations less.
    ``benchmarks/gate_error_rates.py`` measures the resulting error rates.
    """
    spread = math.sqrt(float((rests**2).sum()) / (len(rests) - 1))
    least = float(rests.min()) - (BEYOND * spread if cautious else 0.0)
    return weigh(np.append(rests, least) + distance * np.append(sizes, sizes.mean()))


def weigh(values: Floats) -> float:
    """Return the probability that a mean of ``values`` under uniformly random weights is 0 or less.

    Such weights are exponential variables over their sum, so this is ``P(Σ Eᵢ valueᵢ ≤ 0)``, by the saddlepoint
    approximation (Lugannani and Rice 1980, in the form of Barndorff-Nielsen 1986): with ``K(s) = −Σ log(1 − s valueᵢ)``
    and ``K'(s) = 0``, it is ``Φ(w + log(v/w)/w)`` of ``w = sign(s) √(−2 K(s))`` and ``v = s √K''(s)``.
    """
    from scipy import optimize, special

    least, most = float(values.min()), float(values.max())
    scale = max(most, -least)
    if min(most, -least) <= TOLERANCE * scale:
        return 1.0 if most <= -least else 0.0
    values, inside = values / scale, 1 - 0.5 / len(values)  # at the root 1 − s·value is 1/n or more (Owen 1988)
    low, high = inside * scale / least, inside * scale / most
    s = float(
        optimize.brentq(lambda s: float((values / (1 - s * values)).sum()), low, high, xtol=TOLERANCE, rtol=TOLERANCE)
    )
    tilted = values / (1 - s * values)
    w = math.copysign(math.sqrt(max(0.0, 2 * float(np.log1p(-s * values).sum()))), s)
    if abs(w) < SADDLE:
        return float(special.ndtr(w))
    v = s * math.sqrt(float((tilted**2).sum()))
    return float(special.ndtr(w + math.log(v / w) / w))
