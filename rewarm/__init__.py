"""Updates of large language models: continual pre-training with replay, gated and repeatable.

>>> from rewarm import Workspace
>>> lm = Workspace("lm")
>>> lm.losses()
>>> model, tokenizer = lm.load()
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rewarm.pipeline.api.workspace import Workspace, init, plan, study, update

__all__ = ["Workspace", "init", "plan", "study", "update"]


def __getattr__(name: str) -> Any:
    """Import the API when it is first used: the stages' workers import this package, too."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rewarm.pipeline.api import workspace

    return getattr(workspace, name)
