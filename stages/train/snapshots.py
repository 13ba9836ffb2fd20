"""Snapshots: a run's whole fp32 weights after given steps, for what is made of its way and not of its end alone.

Unlike checkpoints they hold no optimizer state, and their steps are part of the job: how often checkpoints are kept is
a matter of placement, and must not decide a result.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow.fs as pafs
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from stages.errors import StageError
from stages.storage import Folder
from stages.train.job import SNAPSHOTS
from stages.train.weights import digest


def file_name(step: int) -> str:
    """Where the weights after ``step`` steps lie in a run's folder."""
    return f"{SNAPSHOTS}/step-{step:08d}.safetensors"


def write_snapshot(out: Folder, step: int, weights: Mapping[str, torch.Tensor]) -> None:
    """Write the weights after ``step`` steps; a restarted run that passes them again replaces the first."""
    found = digest(iter(sorted(weights.items())))
    with out.writing(file_name(step)) as file:
        save_file(dict(weights), file, metadata={"digest": found})


def read_snapshot(out: Folder, step: int) -> tuple[dict[str, torch.Tensor], str]:
    """The weights after ``step`` steps (fp32, memory-mapped) and their digest; ``StageError`` if missing or damaged."""
    name = file_name(step)
    if not out.exists(name):
        raise StageError(f"{out}/{name}: not there, though the run has passed that step; train it again")
    with tempfile.TemporaryDirectory(prefix="rewarm-snapshot-") as scratch:
        file = out.path / name if out.is_local else Path(scratch) / "weights"
        if not out.is_local:  # not ``out.local``: a snapshot can be written anew, and its copy need not stay
            filesystem, path = out.filesystem()
            pafs.copy_files(
                f"{path}/{name}",
                str(file),
                source_filesystem=filesystem,
                destination_filesystem=pafs.LocalFileSystem(),
            )
        try:
            with safe_open(file, framework="pt") as stored:
                expected = stored.metadata()["digest"]
                weights = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise StageError(f"{out}/{name}: damaged: {error}; train it again") from error
    found = digest(iter(sorted(weights.items())))
    if found != expected:
        raise StageError(f"{out}/{name}: holds weights of digest {found}, written were {expected}; train it again")
    return weights, found
