"""What ``rewarm tokenize`` does with token shards that are there: prove them, and write them for other programs."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.cluster import connected
from pipeline.workspace import Workspace
from stages import tokenize
from stages.errors import UsageError
from stages.progress import Progress


def verify_tokens(uri: str, name: str | None, documents: int | None, progress: Progress) -> dict[str, Any]:
    """Compare a dataset's tokens (``None``: every dataset's) with Hugging Face's, of ``documents`` texts or of all.

    The result as JSON types; ``equal`` says whether all of them agree.
    """
    workspace = Workspace.open(uri)
    found = {}
    with connected(models=False):
        for dataset in datasets_of(workspace, name):
            folder = workspace.dataset(dataset)
            outcome = tokenize.verify(folder, workspace.tokenizer, folder / "tokens", documents, progress)
            found[dataset] = asdict(outcome)
    return {"workspace": uri, "equal": not any(each["mismatches"] for each in found.values()), "datasets": found}


def export_tokens(uri: str, name: str, to: Path, end_of_text: bool, progress: Progress) -> dict[str, Any]:
    """Write a dataset's tokens as Megatron's ``.bin`` and ``.idx``, a pair for each split, beside ``to``."""
    workspace = Workspace.open(uri)
    (dataset,) = datasets_of(workspace, name)
    return asdict(tokenize.export_megatron(workspace.dataset(dataset) / "tokens", to, progress, end_of_text))


def datasets_of(workspace: Workspace, name: str | None) -> Sequence[str]:
    """The datasets meant, of those whose tokens are there; ``UsageError`` where there is none of that name."""
    folders = (workspace.folder / "datasets").folders()
    there = [each for each in folders if (workspace.dataset(each) / "tokens").committed()]
    if name is None and there:
        return there
    if name not in there:
        known = ", ".join(there) or "none yet"
        raise UsageError(f"{workspace.folder}: no tokens of a dataset {name!r}; there are: {known}")
    return [name]
