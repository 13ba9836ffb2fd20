"""Settings of the anneal: the shape of its decay, its data and its length."""

from typing import Literal

from pydantic import Field, model_validator

from rewarm.stages.core.settings import Settings


class AnnealSettings(Settings):
    """The branch that turns a trunk that has not decayed into a release."""

    shape: Literal["exponential", "linear", "1-sqrt", "average"] = "exponential"
    """Shape of the decay from the trunk's learning rate. ``exponential``: Ibrahim et al. 2024, section 7.2.
    ``linear``: as at the end of warmup-stable-decay. ``1-sqrt``: 1 − √x (Hägele et al. 2024, 2405.18392). ``average``:
    nothing is trained, the release is the mean of the trunk's weights along its tail (2507.17634, 2505.12082), which
    saves the branch but cannot fully replace it (2502.06761)."""
    share: float = Field(default=0.15, ge=0, le=1)
    """Length as a share of the update's tokens (about 15 % in the paper; with ``average``, the length of the averaged
    tail); 0: the release is the trunk."""
    final_ratio: float | None = Field(default=None, ge=0, le=1)
    """Final learning rate as a fraction of the rate at which the branch starts; null: η_min. 0 with ``linear`` is a
    linear decay to zero (2502.15938)."""
    average_last: int = Field(default=10, ge=2)
    """Number of trunk states that ``average`` takes the mean of, evenly spaced over its last ``share`` (about 10 in
    2505.12082); each takes 4 bytes per weight from the step that saves it until the release is written."""
    data: Literal["tail", "best", "replay"] = "tail"
    """Data of the branch. ``tail``: the last part of the trunk's mixture again. ``best``: the best part of the arrival
    instead of all of it. ``replay``: the arrival's tail with more replay (``replay_share``)."""
    best_share: float = Field(default=0.1, gt=0, le=1)
    """Size of the best part of the arrival for ``data: best``, as a share of its tokens (5 of 50 billion in Guo et al.
    2024, 2406.14833); a longer branch reads that part again, in a different order."""
    replay_share: float = Field(default=0.5, gt=0, lt=1)
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
            if not self.share:
                raise ValueError("shape average takes the mean over the trunk's last share of tokens, but share is 0")
        return self

    def steps(self, trunk: int) -> int:
        """Return the length in steps for a trunk of ``trunk`` steps."""
        return round(self.share * trunk)

    def final_rate(self, initial: float, minimum: float) -> float:
        """Return the final rate of a branch from ``initial``: η_min (``minimum``) or ``final_ratio`` of ``initial``."""
        return min(minimum, initial) if self.final_ratio is None else initial * self.final_ratio
