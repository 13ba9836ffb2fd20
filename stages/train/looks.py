"""When training looks at the validation losses, and the final loss that is read off the last looks."""

from collections.abc import Sequence
from typing import Any

from rewarm.stages.train.settings import TrainSettings

WINDOW_PART = 4  # the window of the final looks is at most a quarter of a run


def looks_at(step: int, steps: int, settings: TrainSettings) -> bool:
    """Whether the validation losses are looked at once ``step`` of a run's ``steps`` steps are done.

    At the start, at the end, every ``validate_every`` steps, at 1, 2, 4, 8 … before the first of these (with
    ``validate_first``: there the stability gap is), and in the window of the final looks.
    """
    every = settings.validate_every
    early = settings.validate_first and step < every and step & (step - 1) == 0
    return step in (0, steps) or early or bool(every and step % every == 0) or is_final(step, steps, settings)


def is_final(step: int, steps: int, settings: TrainSettings) -> bool:
    """Whether a look after ``step`` steps counts into the final loss: step ``steps - k · final_every`` of the window.

    The window is the last ``final_steps`` steps, or the last quarter of a run that is not four times as long: what
    belongs to the middle of a short run is no final loss.
    """
    window = min(settings.final_steps, max(1, steps // WINDOW_PART))
    left = steps - step
    return step > 0 and 0 <= left < window and left % settings.final_every == 0


def final_losses(rows: Sequence[dict[str, Any]], steps: int, settings: TrainSettings) -> dict[str, float]:
    """The final loss of each dataset: its mean over the looks of the window, in nats per token.

    ``rows`` are a curve's looks (``step``, ``losses`` by dataset); empty where ``final_steps`` is 0.

    Ibrahim et al. 2024 (arXiv 2403.08763), tables of final losses: "averaged over the last 100 iterations, sampled
    every 10". A single look has the noise of the last batches; the window evens it out.
    """
    looks = [row["losses"] for row in rows if is_final(row["step"], steps, settings)]
    names = dict.fromkeys(name for losses in looks for name in losses)
    return {name: _mean([losses[name] for losses in looks if name in losses]) for name in names}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
