"""The learning rate of the branch, on the trunk's axis of tokens."""

from stages.anneal.settings import AnnealSettings
from stages.train import Phase, Schedule


def anneal_from(trunk: Schedule, position: int, tokens: int, minimum: float, settings: AnnealSettings) -> Schedule:
    """From the trunk's rate η at ``position`` down to η_end over ``tokens`` tokens, with x going from 0 to 1.

    η_end is ``minimum`` (η_min), or what ``settings.final_ratio`` makes of η. The shapes: ``exponential``
    ``η · (η_end / η)^x`` (Ibrahim et al. 2024, section 7.2, phase 4); ``linear`` ``η_end + (η − η_end) · (1 − x)``;
    ``1-sqrt`` ``η_end + (η − η_end) · (1 − √x)`` (Hägele et al. 2024, section 3, there down to 0). Raises
    ``ValueError`` for ``average``, which has no learning rate.
    """
    if settings.shape == "average":
        raise ValueError("anneal.shape average trains nothing, so there is no schedule of it")
    initial = trunk.rate(position)
    final = settings.final_rate(initial, minimum)
    return Schedule("anneal", (Phase("anneal", settings.shape, position, position + tokens, initial, final),))
