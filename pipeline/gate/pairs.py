"""The paired measurements of two models: losses by document and scores by question, matched by their ids."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from rewarm.pipeline.gate.mean_change import MeanChange, compare_losses
from rewarm.pipeline.gate.sites import group
from rewarm.pipeline.gate.statistics import Estimate, compare_scores
from rewarm.stages.core.storage import Folder
from rewarm.stages.evaluate.run import RELEASE, losses_file

SCORES = ("acc_norm", "acc", "exact_match", "em", "f1")  # higher is better; the first that a task has is used


@dataclass(frozen=True)
class Sampled:
    """A task's scores by question id, under one of its filters."""

    metric: str
    values: dict[str, float]


def read_losses(evaluation: Folder, dataset: str) -> pa.Table | None:
    """Read the release's losses on a dataset, one row per document (``evaluate.losses.LOSS_SCHEMA``), if any."""
    folder, name = evaluation / "losses", losses_file(RELEASE, dataset)
    return pq.read_table(folder.local(name)) if folder.exists(name) else None


def alike(candidate: pa.Table, current: pa.Table | None) -> bool:
    """Return whether both models were measured on the same documents, with the same tokens."""
    return current is not None and all(candidate[name].equals(current[name]) for name in ("doc_id", "num_tokens"))


def pair_losses(candidate: pa.Table, current: pa.Table, sites: dict[str, str]) -> MeanChange:
    """Compare two models' losses on the same documents; ``sites`` by document, empty: each document is a unit."""
    columns = [table["nats"].to_numpy() for table in (candidate, current)]
    groups = group(candidate["doc_id"].to_pylist(), sites) if sites else None
    return compare_losses(columns[0], columns[1], candidate["num_tokens"].to_numpy(), groups)


def read_samples(evaluation: Folder, task: str) -> Sampled | None:
    """Read a task's scores by question; None if the task was not run or has no metric of ``SCORES``."""
    folder, name = evaluation / "samples", f"{task}.jsonl"
    if not folder.exists(name):
        return None
    lines = [orjson.loads(line) for line in folder.read(name).splitlines()]
    lines = [line for line in lines if line["filter"] == lines[0]["filter"]]
    metric = next((metric for metric in SCORES if lines and all(is_number(line.get(metric)) for line in lines)), None)
    return None if metric is None else Sampled(metric, {str(line["doc_id"]): float(line[metric]) for line in lines})


def is_number(value: object) -> bool:
    """Return whether a sample's metric is a single number, as those of ``SCORES`` are."""
    return isinstance(value, int | float)


def pair_samples(candidate: Sampled, current: Sampled) -> Estimate | None:
    """Compare two models' scores on the same questions; None if the questions differ."""
    if candidate.metric != current.metric or candidate.values.keys() != current.values.keys():
        return None
    return compare_scores(in_order(candidate.values, candidate.values), in_order(current.values, candidate.values))


def in_order(values: Mapping[str, float], keys: Mapping[str, float]) -> npt.NDArray[np.float64]:
    """Return values in the order of ``keys``."""
    return np.array([values[key] for key in keys], dtype=np.float64)
