"""Settings of replay."""

import difflib
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from rewarm.stages.core.settings import Settings
from rewarm.stages.data.mixture import MAX_DENOMINATOR

Relative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

# Domain shares of published pre-training mixtures, in percent.
TABLES: dict[str, dict[str, float]] = {
    "llama-1": {  # Touvron et al. 2023, table 1
        "CC": 67.0,
        "C4": 15.0,
        "GitHub": 4.5,
        "Wikipedia": 4.5,
        "Books": 4.5,
        "ArXiv": 2.5,
        "StackExchange": 2.0,
    }
}
WEB = ("CC", "C4")  # web domains in these tables


class ReplaySettings(Settings):
    """Compute-equivalent replay (Ibrahim et al. 2024, section 4.2)."""

    share: float | Literal["auto"] = 0.05
    """Fraction of every batch replayed from earlier datasets; it does not change the number of tokens of an update.
    5 % for a weak shift, 25 % for a strong one (a new language, code); `auto`: as `rewarm plan` advises; 0: none."""
    floor: float = Field(default=0.01, ge=0, lt=1)
    """Minimum share of replay, unless `share` is 0, and minimum fraction of its weight that a dataset keeps under
    `recency`: 1 % of earlier data already prevents most forgetting (Bethune et al. 2025, arXiv 2502.06042). 0: no
    floor."""
    by: Literal["tokens", "recency", "shares"] = "tokens"
    """How replay is divided among earlier datasets: by their tokens, by tokens discounted with age (`recency`), or by
    given `shares`. The remainder of rounding to whole sequences is carried to the next update."""
    half_life: float = Field(default=4.0, gt=0)
    """Number of updates after which a dataset's tokens count half under `recency`: tokens × 2^(−age / half_life)."""
    shares: dict[str, Relative] = Field(default={})
    """Relative weights of earlier datasets for `by=shares`; every earlier dataset must be named, 0 excludes it."""
    mixture: Literal["datasets", "domains"] = "datasets"
    """Unit of replay: whole datasets, or their domains (the documents' `source`) in the proportions of the
    pre-training mixture, with the arrival replacing the web data (Guo et al. 2024, strategy III)."""
    domain_shares: dict[str, Relative] = Field(default={})
    """Relative weights of domains for `mixture=domains`, or the name of a table (`llama-1`); domains that are not
    listed are not replayed. Empty: in proportion to the tokens that the earlier datasets hold of each."""
    web: tuple[str, ...] | None = None
    """Domains that the arrival replaces: replay is the rest, and `share` only switches it on or off. Empty: all domains
    are replayed, in total `share`; null: CC and C4, if they exist."""
    order: Literal["original", "reshuffled"] = "original"
    """The dataset's original order, as read when it was new, or a new one drawn for each update."""
    position: Literal["continue", "restart"] = "continue"
    """Where the original order is read from: where replay last stopped (in tokens, so `train.seq_len` may change), or
    the beginning."""

    @field_validator("share", mode="plain")
    @classmethod
    def _check_share(cls, value: Any) -> float | str:
        if value == "auto":
            return "auto"
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1:
            if value and exact_share(Fraction(str(value))) not in (0, 1):
                return float(value)
            if value == 0:
                return 0.0
            raise ValueError(
                f"shares are exact to one in {MAX_DENOMINATOR:,}, so {value!r} would become "
                f"{exact_share(Fraction(str(value)))}; expected 0, or {1 / MAX_DENOMINATOR:.6f} to "
                f"{1 - 1 / MAX_DENOMINATOR:.6f}"
            )
        raise ValueError("expected a share of at least 0 and less than 1, or auto")

    @field_validator("domain_shares", mode="before")
    @classmethod
    def _look_up_table(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value not in TABLES:
                raise ValueError(f"no table {value!r} of domain shares{nearest(value, TABLES)}")
            return TABLES[value]
        return value

    @model_validator(mode="after")
    def _check_together(self) -> "ReplaySettings":
        if (self.by == "shares") != bool(self.shares):
            raise ValueError(f"by is {self.by} and shares is {self.shares}: by=shares needs shares, other modes none")
        if self.mixture == "datasets" and (self.domain_shares or self.web is not None):
            raise ValueError("domain_shares and web need mixture=domains, but mixture is datasets")
        for name, given in (("shares", self.shares), ("domain_shares", self.domain_shares)):
            if given and not any(given.values()):
                raise ValueError(f"{name} {given}: expected at least one number above 0; share=0 disables replay")
        if self.domain_shares:
            for domain in self.web or ():
                if domain not in self.domain_shares:
                    raise ValueError(
                        f"web names {domain!r}, which is not in domain_shares{nearest(domain, self.domain_shares)}"
                    )
        return self

    def web_of(self, table: Mapping[str, object]) -> list[str]:
        """Return the domains of a table that make up its web part."""
        names = WEB if self.web is None else dict.fromkeys(self.web)
        return [domain for domain in names if domain in table]


def exact_share(share: Fraction) -> Fraction:
    """Return a share as a mixture uses it, limited to ``MAX_DENOMINATOR``."""
    return share.limit_denominator(MAX_DENOMINATOR)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error about an unknown name: the closest known name, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; known names: {', '.join(names) or 'none'}"
