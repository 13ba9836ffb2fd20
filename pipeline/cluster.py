"""The Ray cluster a command runs on: the one it was submitted to, or one of its own on this machine."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from stages.operators import environment
from stages.train.run import RAY_TRAIN_DEFAULTS

# What would otherwise print into the progress.
QUIET = {"TOKENIZERS_PARALLELISM": "true", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
SOURCE = Path(__file__).resolve().parent.parent


@contextmanager
def connected(num_cpus: int | None = None) -> Iterator[None]:
    """Join the cluster that ``RAY_ADDRESS`` names (``ray job submit`` sets it), else start a local Ray and end it.

    A local Ray dies with its driver, also by ``kill -9``. Its dashboard listens on the loopback address only.
    """
    for name, value in {**RAY_TRAIN_DEFAULTS, "RAY_DATA_DISABLE_PROGRESS_BARS": "1", **QUIET, **environment()}.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    with redirect_stdout(sys.stderr):  # what raylets have to say, to the last moment, is no part of a command's result
        start(num_cpus)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        logging.getLogger("ray.train").setLevel(logging.ERROR)
        try:
            yield
        finally:
            ray.shutdown()


def start(num_cpus: int | None) -> None:
    """``ray.init`` on the cluster that is named, or on this machine alone."""
    import ray

    address = os.environ.get("RAY_ADDRESS")
    alone = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}  # nobody takes a local Ray's one node back
    runtime_env = {"env_vars": {"PYTHONPATH": str(SOURCE), **QUIET, **RAY_TRAIN_DEFAULTS, **alone}}
    if address:
        variables = {"env_vars": {**QUIET, **RAY_TRAIN_DEFAULTS}}  # a trial of a study starts Ray Train by itself
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=variables)
        return
    os.environ.update(alone)
    ray.init(
        address="local",
        num_cpus=num_cpus,
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env=runtime_env,
    )
