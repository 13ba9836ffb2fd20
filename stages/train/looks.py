"""Timing of validations during training, and the final loss averaged over the last of them."""

from collections.abc import Sequence
from typing import Any

from rewarm.stages.train.settings import TrainSettings

FORWARD_PARTS = 3  # a step costs as much as three forward passes: one forward, two backward (2001.08361, section 2.1)
FEWEST = 4  # sequences of each dataset that a validation reads, whatever it costs
WINDOW_PART = 4  # the window of the final validations is at most a quarter of a run


def looks_at(step: int, steps: int, settings: TrainSettings) -> bool:
    """Return whether to validate after ``step`` of a run's ``steps`` steps.

    True at the start, at the end, every ``validate_every`` steps, after 1, 2, 4, 8 … steps before the first of these
    (with ``validate_first``, to cover the stability gap), and in the window of the final loss.
    """
    every = settings.validate_every
    early = settings.validate_first and step < every and step & (step - 1) == 0
    return step in (0, steps) or early or bool(every and step % every == 0) or is_final(step, steps, settings)


def is_final(step: int, steps: int, settings: TrainSettings) -> bool:
    """Return whether a validation after ``step`` steps counts towards the final loss.

    These are the steps ``steps - k · final_every`` of the window: the last ``final_steps`` steps, but at most the last
    quarter of the run, since losses from the middle of a short run are not final.
    """
    window = min(settings.final_steps, max(1, steps // WINDOW_PART))
    left = steps - step
    return step > 0 and 0 <= left < window and left % settings.final_every == 0


def sequences_per_look(steps: int, datasets: int, settings: TrainSettings) -> int:
    """Return how many sequences of each dataset a validation reads so that all of a run stay inside their compute."""
    if settings.validation_compute is None or not datasets:
        return settings.validation_sequences
    looks = sum(looks_at(step, steps, settings) for step in range(steps + 1))
    affordable = settings.validation_compute * FORWARD_PARTS * steps * settings.global_batch / (looks * datasets)
    return min(settings.validation_sequences, max(FEWEST, int(affordable + 1e-9)))


def look_note(read: int, datasets: int, settings: TrainSettings) -> str:
    """Return a sentence that says how much of the validation splits is read during training, and why not more."""
    return (
        f"validations during training read {read} of {settings.validation_sequences} sequences of each of {datasets} "
        f"datasets (train.validation_compute={settings.validation_compute}); the evaluation reads every split whole"
    )


def final_losses(rows: Sequence[dict[str, Any]], steps: int, settings: TrainSettings) -> dict[str, float]:
    """Return the final loss of each dataset: its mean over the validations of the window, in nats per token.

    ``rows`` are a curve's validations (``step``, ``losses`` by dataset). Empty if ``final_steps`` is 0.

    Ibrahim et al. 2024 (arXiv 2403.08763), tables of final losses: "averaged over the last 100 iterations, sampled
    every 10". A single validation carries the noise of the last batches; the window averages it out.
    """
    looks = [row["losses"] for row in rows if is_final(row["step"], steps, settings)]
    names = dict.fromkeys(name for losses in looks for name in losses)
    return {name: _mean([losses[name] for losses in looks if name in losses]) for name in names}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
