"""Mixture law: a dataset's loss as a function of replay share and tokens of an update, fitted to short runs.

The D-CPT law (Que et al. 2024, arXiv 2406.01375) is L(N, D, r) = E + A/N^α + B·r^η/D^β + C/(r + ε)^γ for N parameters,
D tokens and r, the share of the mixture that is the corpus whose loss it is. Within one lineage N does not change, so
A/N^α is part of E. ε keeps the law finite at r = 0, which is an update without replay. At one length it is the power
law in the ratio of CMR (Gu et al. 2024, arXiv 2407.17467), L = α·R^s + β, shifted by ε.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from math import isfinite
from typing import Any, Literal

import numpy as np

from rewarm.stages.core.errors import UsageError

FIXED_GAMMA = 0.2  # so it predicts the inner shares of both tables of Ibrahim et al. 2024 from the others within 0.07
FIXED_BETA = 0.28  # of Hoffmann et al. 2022 (arXiv 2203.15556)
FEWEST_SHARES = 4
FREE_SHARES = 5  # from so many on, γ is fitted
FREE_LENGTHS = 4  # from so many on, β is fitted

OUTLIER = 0.02  # nats: errors beyond it count linearly, not squared (Huber), so that one odd run does not bend the law
EVALUATIONS = 100  # of the law, on the way to a minimum
REFINED = 2  # of the starting points, how many are followed to their minimum

Lengths = Literal["one", "few", "many"]


@dataclass(frozen=True)
class Observation:
    """Losses of one run in nats per token by dataset, after ``tokens`` at a replay share."""

    run: str
    share: float
    tokens: float
    losses: dict[str, float]

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1 or not self.tokens > 0:
            raise UsageError(f"{self.run}: share {self.share} must be in [0, 1) and tokens {self.tokens} above 0")


@dataclass(frozen=True)
class Form:
    """Selection of fitted parameters: as many as the shares and lengths determine with one of them left out."""

    free_gamma: bool
    lengths: Lengths  # one: no term in D; few: β is fixed; many: β is fitted

    @property
    def parameters(self) -> int:
        """E, C and ε; γ; B and η; β."""
        return 3 + self.free_gamma + {"one": 0, "few": 2, "many": 3}[self.lengths]

    def notes(self) -> list[str]:
        """Caveats of a law of this form."""
        found = [] if self.free_gamma else [f"γ is fixed at {FIXED_GAMMA}: {FREE_SHARES} shares or more would fit it"]
        if self.lengths == "one":
            found.append(
                "all runs have the same length: the law has no term in tokens and cannot predict other lengths"
            )
        elif self.lengths == "few":
            found.append(f"β is fixed at {FIXED_BETA}: {FREE_LENGTHS} lengths or more would fit it")
        return found


def form_for(points: Iterable[tuple[str, float, float]]) -> Form:
    """The form that points (run, share, tokens) can hold, with one run, share or length left out to test it.

    Raises:
        UsageError: too few of them, with what is missing; known before anything is trained.
    """
    known = list(points)
    shares, lengths = {share for _, share, _ in known}, {tokens for _, _, tokens in known}
    if len(shares) < FEWEST_SHARES:
        raise UsageError(
            f"forecast: {len(shares)} replay shares ({', '.join(f'{share:g}' for share in sorted(shares)) or 'none'}); "
            f"the law needs {FEWEST_SHARES} or more, for example 0, 0.05, 0.25 and 0.5"
        )
    kind: Lengths = "one" if len(lengths) == 1 else "many" if len(lengths) >= FREE_LENGTHS else "few"
    form = Form(len(shares) >= FREE_SHARES, kind)
    if kind != "one":
        crossed = [length for length in lengths if len({share for _, share, tokens in known if tokens == length}) > 1]
        if len(crossed) < 2:
            raise UsageError(
                "forecast: runs of several lengths, but only "
                f"{len(crossed)} of these with more than one share: shares and lengths cannot be told apart; "
                "give two lengths or more with the same shares"
            )
    runs = [run for run, _, _ in known]
    left = len(known) - max(runs.count(run) for run in set(runs))
    if left < form.parameters:
        raise UsageError(
            f"forecast: {left} points are left without the largest run, for {form.parameters} parameters; "
            "add runs of other shares or lengths"
        )
    return form


@dataclass(frozen=True)
class Law:
    """A fitted law of one dataset: L(share, D) = E + B·r^η·(D₀/D)^β + C·((1 + ε)/(r + ε))^γ.

    B and C are in nats: what the terms are at r = 1 and D = D₀ (the papers' are B·D₀^β and C·(1 + ε)^γ). ``tokens`` is
    D₀, and ``arrives`` says what r is: 1 − share for the arrival, the share for what is replayed.
    """

    arrives: bool
    tokens: float
    floor: float  # E
    length: float  # B
    eta: float
    beta: float
    ratio: float  # C
    gamma: float
    epsilon: float

    def predict(self, share: float, tokens: float) -> float:
        """The loss in nats per token."""
        return float(self.predict_all(np.array([share]), np.array([tokens]))[0])

    def predict_all(self, shares: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The losses at many points; float64, as the inputs."""
        values = np.array([self.floor, self.length, self.ratio, self.eta, self.beta, self.gamma, self.epsilon])
        return _losses(values, _own_part(shares, self.arrives), self.tokens / tokens)

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


def _own_part(shares: np.ndarray, arrives: bool) -> np.ndarray:
    """r: how much of the mixture is the dataset's kind."""
    return 1 - shares if arrives else shares


# The order of the parameters, and how far each may go.
_BOUNDS = {
    "floor": (0.0, np.inf),
    "length": (-np.inf, np.inf),  # negative where more tokens mean more forgetting
    "ratio": (0.0, np.inf),
    "eta": (0.05, 5.0),
    "beta": (0.02, 2.0),
    "gamma": (0.02, 5.0),
    "epsilon": (1e-4, 1.0),
}
_NAMES = list(_BOUNDS)
LINEAR = 3  # the first ones, in which the law is linear
_STARTS = {"eta": (0.5, 1.5), "beta": (0.15, 0.5), "gamma": (0.08, 0.3, 1.0, 2.5), "epsilon": (5e-4, 5e-3, 0.05, 0.3)}


def _losses(values: np.ndarray, r: np.ndarray, shorter: np.ndarray) -> np.ndarray:
    """The law at r and D₀/D."""
    floor, length, ratio, eta, beta, gamma, epsilon = values
    result: np.ndarray = floor + length * r**eta * shorter**beta + ratio * ((1 + epsilon) / (r + epsilon)) ** gamma
    return result


def fit(observations: Sequence[Observation], dataset: str, arrives: bool, form: Form) -> Law:
    """Fit a dataset's law by robust least squares, from several starting points; the same input gives the same law.

    The papers fit by Huber's loss, too. The law is held to this: at every observed length more of the dataset's kind
    does not make its loss worse. Points where the loss is not finite (a run that diverged) are left out.
    """
    used = [observation for observation in observations if isfinite(observation.losses.get(dataset, np.nan))]
    lengths = np.array([one.tokens for one in used])
    scale = float(np.exp(np.log(lengths).mean()))
    r = _own_part(np.array([one.share for one in used]), arrives)
    target = np.array([one.losses[dataset] for one in used])
    values = _Problem(r, scale / lengths, target, form).solve()
    return Law(arrives, scale, **{name: float(value) for name, value in zip(_NAMES, values, strict=True)})


class _Problem:
    """One fit: the data, which parameters are free, and the minimum."""

    def __init__(self, r: np.ndarray, shorter: np.ndarray, target: np.ndarray, form: Form) -> None:
        self.r, self.shorter, self.target = r, shorter, target
        fixed = {} if form.lengths == "many" else {"beta": FIXED_BETA}
        fixed |= {"length": 0.0, "eta": 1.0} if form.lengths == "one" else {}
        fixed |= {} if form.free_gamma else {"gamma": FIXED_GAMMA}
        self.fixed = fixed
        self.free = np.array([name not in fixed for name in _NAMES])
        self.steps = np.linspace(r.min(), r.max(), 16)

    def solve(self) -> np.ndarray:
        """The best of the minima that are reached from the most promising starting points."""
        from scipy.optimize import least_squares

        lower, upper = (self._searched(np.array([bounds[side] for bounds in _BOUNDS.values()])) for side in (0, 1))
        starts = sorted(self._starts(), key=lambda pair: pair[0])[:REFINED]
        found = [
            least_squares(
                lambda values: self._errors(self._whole(values)),
                np.clip(self._searched(start), lower + 1e-9, upper - 1e-9),
                bounds=(lower, upper),
                loss="huber",
                f_scale=OUTLIER,
                ftol=1e-6,
                max_nfev=EVALUATIONS,
            )
            for _, start in starts
        ]
        return self._whole(min(found, key=lambda result: float(result.cost)).x)

    def _searched(self, whole: np.ndarray) -> np.ndarray:
        """The free parameters as they are searched: the exponents and ε by their logarithms."""
        searched: np.ndarray = np.concatenate([whole[:LINEAR], np.log(whole[LINEAR:])])[self.free]
        return searched

    def _whole(self, searched: np.ndarray) -> np.ndarray:
        whole = np.array([self.fixed.get(name, 0.0) for name in _NAMES])
        whole[self.free] = searched
        logarithms = self.free & (np.arange(len(_NAMES)) >= LINEAR)
        whole[logarithms] = np.exp(whole[logarithms])
        whole[1] = min(whole[1], self._most_length(whole))
        return whole

    def _most_length(self, whole: np.ndarray) -> float:
        """The B up to which its term, which grows with r, never outruns the fall of C's term between two steps of r."""
        _, _, ratio, eta, beta, gamma, epsilon = whole
        falls = -np.diff(((1 + epsilon) / (self.steps + epsilon)) ** gamma)
        grows = np.diff(self.steps**eta) * (self.shorter**beta).max()
        return float(ratio * (falls / np.maximum(grows, 1e-300)).min())

    def _errors(self, values: np.ndarray) -> np.ndarray:
        errors: np.ndarray = _losses(values, self.r, self.shorter) - self.target
        return errors

    def _starts(self) -> list[tuple[float, np.ndarray]]:
        """Starting points with their errors: given the exponents, the law is linear in E, B and C."""
        from scipy.optimize import nnls

        grid = {name: (self.fixed[name],) if name in self.fixed else values for name, values in _STARTS.items()}
        starts = []
        for eta, beta, gamma, epsilon in product(*grid.values()):
            by_length = self.r**eta * self.shorter**beta
            by_ratio = ((1 + epsilon) / (self.r + epsilon)) ** gamma
            columns = [np.ones_like(self.r), by_ratio]
            columns += [by_length, -by_length] if "length" not in self.fixed else []
            solved, error = nnls(np.stack(columns, axis=1), self.target)
            length = solved[2] - solved[3] if len(solved) > 2 else 0.0
            starts.append((float(error), np.array([solved[0], length, solved[1], eta, beta, gamma, epsilon])))
        return starts
