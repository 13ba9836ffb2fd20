"""Settings of the anneal: the shape of its way down, what it reads, and how long it is."""

from typing import Literal

from pydantic import Field, model_validator

from rewarm.stages.core.settings import Settings


class AnnealSettings(Settings):
    """The branch that makes a release of a trunk that has not decayed."""

    shape: Literal["exponential", "linear", "1-sqrt", "average"] = "exponential"
    """The learning rate's way from the trunk's to the last one. ``exponential``: Ibrahim et al. 2024, section 7.2.
    ``linear``: as warmup-stable-decay ends. ``1-sqrt``: 1 − √x (Hägele et al. 2024, 2405.18392). ``average``: nothing
    is trained, the release is the mean of the trunk's weights along its tail (2507.17634, 2505.12082), which saves the
    branch but cannot fully replace it (2502.06761)."""
    share: float = Field(default=0.15, ge=0, le=1)
    """Length as a share of the update's tokens (about 15 % in the paper; with ``average``, the part of the trunk that
    is averaged); 0: the release is the trunk."""
    final_ratio: float | None = Field(default=None, ge=0, le=1)
    """The last learning rate as a part of the one where the branch begins; null: η_min. 0 with ``linear`` is linear to
    zero (2502.15938)."""
    average_last: int = Field(default=10, ge=2)
    """How many states of the trunk ``average`` takes the mean of, evenly spread over its last ``share`` (about 10 in
    2505.12082); each is kept from when the trunk passes it until the release is made, 4 bytes a weight."""
    data: Literal["tail", "best", "replay"] = "tail"
    """What the branch reads. ``tail``: the last part of the trunk's mixture once more. ``best``: the best part of the
    arrival in the place of the whole of it. ``replay``: the arrival's tail with more replay (``replay_share``)."""
    best_share: float = Field(default=0.1, gt=0, le=1)
    """What counts as the best part of the arrival for ``data: best``, as a share of its tokens (5 of 50 billion in Guo
    et al. 2024, 2406.14833); where the branch is longer, it goes over that part again, in another order."""
    replay_share: float = Field(default=0.5, gt=0, lt=1)
    """Part of every batch that is replayed with ``data: replay`` (one half, as TiC-LM replays, 2504.02107)."""

    @model_validator(mode="after")
    def _possible(self) -> "AnnealSettings":
        if self.shape == "exponential" and self.final_ratio == 0:
            raise ValueError("final_ratio 0 is never reached by shape exponential; linear and 1-sqrt can end at 0")
        if self.shape == "average":
            if self.data != "tail":
                raise ValueError(
                    f"shape average trains nothing, so it cannot read data {self.data}; leave data at tail"
                )
            if self.final_ratio is not None:
                raise ValueError(
                    f"shape average has no learning rate, so no final_ratio {self.final_ratio}; leave it null"
                )
            if not self.share:
                raise ValueError("shape average takes the mean over the trunk's last share of tokens, and share is 0")
        return self

    def steps(self, trunk: int) -> int:
        """Length in steps for a trunk of ``trunk`` steps."""
        return round(self.share * trunk)

    def final_rate(self, initial: float, minimum: float) -> float:
        """The rate that a branch from ``initial`` ends at: η_min (``minimum``) or the asked part of ``initial``."""
        return min(minimum, initial) if self.final_ratio is None else initial * self.final_ratio
