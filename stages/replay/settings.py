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
WEB = ("CC", "C4")  # what counts as web in these tables


class ReplaySettings(Settings):
    """Compute-equivalent replay (Ibrahim et al. 2024, section 4.2)."""

    share: float | Literal["auto"] = 0.05
    """Part of every batch that is replayed from earlier datasets; the update costs the same tokens whatever it is.
    5 % for a weak shift, 25 % for a strong one (a new language, code); `auto`: as the plan says; 0: no replay."""
    floor: float = Field(default=0.01, ge=0, lt=1)
    """Least share of replay, unless `share` is 0, and least part of its weight that a dataset keeps under `recency`:
    1 % of earlier data already stops most forgetting (Bethune et al. 2025, arXiv 2502.06042). 0: no floor."""
    by: Literal["tokens", "recency", "shares"] = "tokens"
    """How earlier datasets share the replay: by their tokens, by tokens that count for less the older they are, or by
    given `shares`. What rounding to whole sequences leaves of a dataset's part is carried to the next update."""
    half_life: float = Field(default=4.0, gt=0)
    """Updates after which a dataset's tokens count half under `recency`: tokens × 2^(−age / half_life)."""
    shares: dict[str, Relative] = Field(default={})
    """Numbers by earlier dataset for `by=shares`, relative to each other; every one is named, 0 leaves it out."""
    mixture: Literal["datasets", "domains"] = "datasets"
    """What is drawn from: whole datasets, or their domains (the documents' `source`) in the shares of the pre-training
    mixture, where the arrival takes the place of the web (Guo et al. 2024, strategy III)."""
    domain_shares: dict[str, Relative] = Field(default={})
    """Numbers by domain for `mixture=domains`, relative to each other, or a table's name (`llama-1`); domains without
    one are not replayed. Empty: as many tokens as the earlier datasets hold of each."""
    web: tuple[str, ...] | None = None
    """Domains whose share the arrival takes: replay is the rest, and `share` only says whether there is any. Empty: all
    domains are replayed, as much as `share` says; null: CC and C4, where there are such domains."""
    order: Literal["original", "reshuffled"] = "original"
    """The dataset's own order, as it was read when it was new, or another one drawn for each update."""
    position: Literal["continue", "restart"] = "continue"
    """Where the own order is read from: where replay stopped before (in tokens, so `train.seq_len` may change), or its
    beginning."""

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
                f"a share is counted with to one in {MAX_DENOMINATOR:,}, and {value!r} would become "
                f"{exact_share(Fraction(str(value)))}; expected 0, or {1 / MAX_DENOMINATOR:.6f} to "
                f"{1 - 1 / MAX_DENOMINATOR:.6f}"
            )
        raise ValueError("a share from 0 on and less than 1, or auto, is expected")

    @field_validator("domain_shares", mode="before")
    @classmethod
    def _look_up_table(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value not in TABLES:
                raise ValueError(f"there is no table {value!r} of domain shares{nearest(value, TABLES)}")
            return TABLES[value]
        return value

    @model_validator(mode="after")
    def _check_together(self) -> "ReplaySettings":
        if (self.by == "shares") != bool(self.shares):
            raise ValueError(f"by is {self.by} and shares is {self.shares}: shares go with by=shares, and only with it")
        if self.mixture == "datasets" and (self.domain_shares or self.web):
            raise ValueError("domain_shares and web go with mixture=domains, which is datasets")
        for name, given in (("shares", self.shares), ("domain_shares", self.domain_shares)):
            if given and not any(given.values()):
                raise ValueError(f"{name} {given}: at least one number above 0 is expected; share=0 is no replay")
        if self.domain_shares:
            for domain in self.web or ():
                if domain not in self.domain_shares:
                    raise ValueError(
                        f"web names {domain!r}, domain_shares does not{nearest(domain, self.domain_shares)}"
                    )
        return self

    def web_of(self, table: Mapping[str, object]) -> list[str]:
        """Those domains of a table that stand for its web part."""
        names = WEB if self.web is None else dict.fromkeys(self.web)
        return [domain for domain in names if domain in table]


def exact_share(share: Fraction) -> Fraction:
    """A share as a mixture counts with it."""
    return share.limit_denominator(MAX_DENOMINATOR)


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error about a name that is not known: which one may be meant, or all there are."""
    names = list(known)
    near = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names) or 'none'}"
