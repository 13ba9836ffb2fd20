"""Settings of the anneal: the shape of its decay, its data and its length."""

from fractions import Fraction
from typing import Literal

from pydantic import Field, model_validator

from rewarm.stages.core.settings import ADDED, Settings
from rewarm.stages.data.mixture import branch_steps, trunk_steps


class AnnealSettings(Settings):
    """The branch that turns a trunk that has not decayed into a release."""

    shape: Literal["exponential", "linear", "1-sqrt", "average"] = "exponential"
    """Shape of the decay from the trunk's learning rate. ``exponential``: Ibrahim et al. 2024, section 7.2.
    ``linear``: as at the end of warmup-stable-decay. ``1-sqrt``: 1 − √x (Hägele et al. 2024, 2405.18392). ``average``:
    nothing is trained, the release is the mean of the trunk's weights along its tail (2507.17634, 2505.12082), which
    saves the branch but cannot fully replace it (2502.06761)."""
    counted: Literal["on-top", "inside"] = Field(default="on-top", json_schema_extra=ADDED)
    """``on-top``: the branch is trained in addition to the update's tokens, all of which the trunk reads. ``inside``:
    the branch is part of them, as in the papers, and the trunk is shorter by as much; whole steps may leave one unused.
    Comparisons of different ``share`` need ``inside``, or they compare different amounts of training."""
    share: float = Field(default=0.15, ge=0, le=1)
    """Length as a share of the update's tokens (about 15 % in the paper; with ``average``, the length of the averaged
    tail); 0: the release is the trunk."""
    final_ratio: float | None = Field(default=None, ge=0, le=1)
    """Final learning rate as a fraction of the rate at which the branch starts; null: η_min. 0 with ``linear`` is a
    linear decay to zero (2502.15938)."""
    average_last: int = Field(default=10, ge=2)
    """Number of trunk states that ``average`` takes the mean of, evenly spaced over its last ``share`` (about 10 in
    2505.12082), or of branch states with ``average_share``; each takes 4 bytes per weight from the step that saves it
    until the release is written."""
    average_share: float = Field(default=0.0, ge=0, le=1, json_schema_extra=ADDED)
    """Share of the branch, at its end, whose states are averaged into the release (``average_last`` of them, evenly
    spaced); 0: the release is the branch's last state. It costs no tokens."""
    data: Literal["tail", "next", "best", "replay"] = "tail"
    """Data of the branch. ``tail``: the last part of the trunk's mixture again. ``next``: what the mixture reads next,
    which is text of the arrival that was not read yet if there is any left (as with ``counted: inside``, or a budget
    below the arrival's tokens), else its next pass. ``best``: the best part of the arrival instead of all of it.
    ``replay``: the arrival's tail with more replay (``replay_share``)."""
    best_share: float = Field(default=0.1, gt=0, le=1)
    """Size of the best part of the arrival for ``data: best``, as a share of its tokens (5 of 50 billion in Guo et al.
    2024, 2406.14833); a longer branch reads that part again, in a different order."""
    replay_share: float = Field(default=0.5, ge=1e-6, le=1 - 1e-6)  # exact to one in a million, as ``replay.share``
    """Fraction of every batch that is replayed with ``data: replay`` (one half, as in TiC-LM, 2504.02107)."""

    @model_validator(mode="after")
    def _possible(self) -> "AnnealSettings":
        if self.shape == "exponential" and self.final_ratio == 0:
            raise ValueError("shape exponential never reaches final_ratio 0; linear and 1-sqrt can end at 0")
        if self.shape == "average":
            if self.data != "tail":
                raise ValueError(f"shape average trains nothing, so it cannot use data {self.data}; leave data at tail")
            if self.final_ratio is not None:
                raise ValueError(
                    f"shape average has no learning rate for final_ratio {self.final_ratio}; leave it null"
                )
            if self.average_share:
                raise ValueError("shape average trains no branch for average_share; leave it at 0")
            if not self.share:
                raise ValueError("shape average takes the mean over the trunk's last share of tokens, but share is 0")
            if self.counted == "inside":
                raise ValueError("shape average trains no branch that could count inside; leave counted at on-top")
        if self.counted == "inside" and self.share > 0.5 and self.data == "tail":
            raise ValueError(
                f"counted inside with share {self.share:g} is longer than the trunk, whose tail it would read; set "
                "data to next, or lower share"
            )
        if self.counted == "inside" and self.share == 1:
            raise ValueError("counted inside with share 1 leaves the trunk no step; lower share")
        return self

    def steps(self, trunk: int) -> int:
        """Return the length in steps for a trunk of ``trunk`` steps."""
        if self.counted == "inside":
            return branch_steps(trunk, self.inside)
        return round(self.share * trunk)

    @property
    def inside(self) -> Fraction:
        """The branch's share of the update's tokens that the trunk leaves to it; 0 if it is trained on top of them."""
        return Fraction(str(self.share)) if self.counted == "inside" else Fraction(0)

    def trunk_steps(self, total: int) -> int:
        """Return the trunk's part of an update of ``total`` steps."""
        return trunk_steps(total, self.inside)

    def final_rate(self, initial: float, minimum: float) -> float:
        """Return the final rate of a branch from ``initial``: η_min (``minimum``) or ``final_ratio`` of ``initial``."""
        return min(minimum, initial) if self.final_ratio is None else initial * self.final_ratio
