"""The earlier datasets that an update measures: all of them, or a stated sample, so that its cost has a bound.

The sample follows from the update's id: an update that is resumed measures the same datasets, and each is as likely to
be drawn as any other. Every so many updates all are measured, so that no dataset is forgotten unseen for longer.
"""

from collections.abc import Sequence

import xxhash

from rewarm.pipeline.record import number_of
from rewarm.stages.evaluate import EvaluateSettings


def measured_datasets(earlier: Sequence[str], settings: EvaluateSettings, update: str) -> list[str]:
    """Return the earlier datasets that training, the evaluation and the gate of an update measure, in their order."""
    wanted = settings.earlier_datasets
    if wanted is None or wanted >= len(earlier) or number_of(update) % settings.all_datasets_every == 0:
        return list(earlier)
    drawn = set(sorted(earlier, key=lambda name: xxhash.xxh3_64_intdigest(f"{update}\0{name}".encode()))[:wanted])
    return [name for name in earlier if name in drawn]


def measured_note(earlier: Sequence[str], settings: EvaluateSettings, update: str) -> str | None:
    """Return a sentence that says how many datasets are measured and which are not; None: all are measured."""
    number = len(measured_datasets(earlier, settings, update))
    if number == len(earlier):
        return None
    every = settings.all_datasets_every
    return (
        f"measured on {number} of {len(earlier)} earlier datasets, drawn by the update's id "
        f"(evaluate.earlier_datasets={settings.earlier_datasets}); forgetting on the others shows at update "
        f"{(number_of(update) // every + 1) * every:04d} at the latest, which measures all "
        f"(evaluate.all_datasets_every={every})"
    )
