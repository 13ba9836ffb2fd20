"""Quality rules as thresholds on measures: the first bound that is not met refuses the document."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from rewarm.stages.ingest.filters.measures import Latest, Measures
from rewarm.stages.ingest.filters.settings import RuleName, Thresholds
from rewarm.stages.ingest.records import EXCERPT, Document, Refusal


class Rule(Protocol):
    """Step of ingest that judges a document's quality."""

    name: str
    version: int  # incremented when the same settings may give another result

    def __call__(self, document: Document) -> Document | Refusal:
        """Return the document, possibly changed, or a refusal."""

    def not_applied(self, document: Document) -> list[str]:
        """Return the names of the parts of the rule that are not defined for the document's script."""


@dataclass(frozen=True)
class Quantity:
    """Measure and the settings that bound it: ``min_SETTING`` and ``max_SETTING``, if they exist."""

    setting: str
    label: str
    measure: Callable[[Measures], float | None]  # None: not measurable, so the document passes
    defined: Callable[[Measures], bool] | None = None  # whether it applies to the document's script; None: always
    measure_of_maximum: Callable[[Measures], float | None] | None = None  # if the maximum is on another measure
    maximum_factor: Callable[[Measures], float] | None = None  # of the maximum for the document's script; None: 1


@dataclass(frozen=True)
class Bound:
    """Quantity and its permitted range, ends included."""

    quantity: Quantity
    low: float | None
    high: float | None


class ThresholdRule:
    """Rule that checks bounds in order."""

    def __init__(
        self, name: RuleName, version: int, quantities: Sequence[Quantity], settings: Thresholds, latest: Latest
    ) -> None:
        self.name: str = name
        self.version = version
        self._latest = latest
        bounds = [
            Bound(
                quantity,
                getattr(settings, f"min_{quantity.setting}", None),
                getattr(settings, f"max_{quantity.setting}", None),
            )
            for quantity in quantities
        ]
        self._bounds = [bound for bound in bounds if bound.low is not None or bound.high is not None]

    def __call__(self, document: Document) -> Document | Refusal:
        """Return the document, or a refusal for the first bound that it violates."""
        measures = self._latest.of(document)
        for bound in self._bounds:
            value = bound.quantity.measure(measures)
            if value is None:
                continue
            if bound.low is not None and value < bound.low:
                return self._refusal(document, bound, value, "min")
            if bound.quantity.measure_of_maximum:
                value = bound.quantity.measure_of_maximum(measures) or 0.0
            if bound.high is not None and value > (high := bound.high * factor(bound.quantity, measures)):
                return self._refusal(document, replace(bound, high=high), value, "max")
        return document

    def not_applied(self, document: Document) -> list[str]:
        """Return the quantities that are not defined for the document's script."""
        measures = self._latest.of(document)
        return [
            f"{bound.quantity.label}: not defined for the script"
            for bound in self._bounds
            if bound.quantity.defined and not bound.quantity.defined(measures)
        ]

    def _refusal(self, document: Document, bound: Bound, value: float, side: str) -> Refusal:
        setting = f"{side}_{bound.quantity.setting}"
        detail = f"expected {expected(bound)}, found {figure(value)} ({setting_path(self.name, setting)})"
        return refusal(self.name, bound.quantity.label, detail, document, value)


def factor(quantity: Quantity, measures: Measures) -> float:
    """Return the factor of a quantity's maximum for the document's script."""
    return quantity.maximum_factor(measures) if quantity.maximum_factor else 1.0


def refusal(rule: str, label: str, detail: str, document: Document, value: float | None = None) -> Refusal:
    """Return a rule's refusal of a document; the caller fills in the location."""
    excerpt = document.text[:EXCERPT].encode()[:EXCERPT]
    return Refusal("", f"{rule}: {label}", detail, excerpt, step=rule, value=value)


def setting_path(rule: str, setting: str) -> str:
    """Return the path of a rule's setting in a recipe."""
    return f"ingest.rules.{rule.replace('-', '_')}.{setting}"


def expected(bound: Bound) -> str:
    """Return a bound's range in words."""
    if bound.low is None:
        return f"at most {figure(bound.high or 0)}"
    if bound.high is None:
        return f"at least {figure(bound.low)}"
    return f"{figure(bound.low)} to {figure(bound.high)}"


def figure(value: float) -> str:
    """Format an integer unchanged, any other number with four digits."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"
