"""The Ray cluster a command runs on: the one it was submitted to, or one of its own on this machine."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import orjson

from rewarm.stages.core import warm
from rewarm.stages.core.awaiting import DEFAULT_TIMEOUT, TIMEOUT
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.operators import environment
from rewarm.stages.core.patience import DEADLINE
from rewarm.stages.core.resources import find_room

# Ray Train looks at its workers every 2 s by default, and a dead one waits for that look. On clusters that scale up
# from nothing, a group of workers takes minutes to start, not one.
RAY_TRAIN_DEFAULTS = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
    TIMEOUT: f"{DEFAULT_TIMEOUT:g}",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
}

# What would otherwise print into the progress.
QUIET = {"TOKENIZERS_PARALLELISM": "true", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
SOURCE = Path(__file__).absolute().parents[3]  # holds the package rewarm; the folder of stages would hide select


@contextmanager
def connected(num_cpus: int | None = None, models: bool = True) -> Iterator[None]:
    """A cluster to work on; ``models`` says whether models will run on it, whose workers are then forked warm.

    Raises ``UsageError`` if the entrypoints of submitted jobs hold every CPU it has.
    """
    with joined(num_cpus, models):
        refuse_full()
        yield


@contextmanager
def joined(num_cpus: int | None = None, models: bool = False) -> Iterator[None]:
    """Join the cluster that ``RAY_ADDRESS`` names (``ray job submit`` sets it), else start a local Ray and end it.

    A local Ray dies with its driver, also by ``kill -9``; on a cluster, all that the driver started does. A local
    Ray's dashboard listens on the loopback address only.
    """
    hush()
    for name, value in {**RAY_TRAIN_DEFAULTS, "RAY_DATA_DISABLE_PROGRESS_BARS": "1", **environment()}.items():
        os.environ.setdefault(name, value)
    import ray

    with redirect_stdout(sys.stderr):  # what raylets have to say, to the last moment, is no part of a command's result
        if ray.is_initialized():
            yield
            return
        with signals_kept():
            start(num_cpus, models)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        logging.getLogger("ray.train").setLevel(logging.ERROR)
        try:
            yield
        finally:
            ray.shutdown()


def hush() -> None:
    """Keep libraries from printing into the progress; they read this when they are imported."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


@contextmanager
def signals_kept() -> Iterator[None]:
    """``ray.init`` takes SIGTERM for itself; give it back to who had it."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def refuse_full() -> None:
    """``UsageError`` where the entrypoints of jobs leave less than one CPU to work on: it would wait for ever."""
    room = find_room()
    if room.held and max(room.cpus, default=0.0) < 1:
        raise UsageError(
            f"the entrypoints of jobs hold {room.held:g} CPUs of this cluster (--entrypoint-num-cpus) and leave none "
            "to work on: submit without, or add a node"
        )


def job_variables() -> dict[str, str]:
    """The environment variables that this job was submitted with (``--runtime-env-json``); none outside of a job."""
    config = orjson.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    found: dict[str, str] = (config.get("runtime_env") or {}).get("env_vars") or {}
    return found


def start(num_cpus: int | None, models: bool) -> None:
    """``ray.init`` on the cluster that is named, or on this machine alone."""
    import ray

    address = os.environ.get("RAY_ADDRESS")
    alone = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}  # nobody takes a local Ray's one node back
    workers = warm.runtime_env(joined=bool(address)) if models else {}
    runtime_env = {"env_vars": {"PYTHONPATH": str(SOURCE), **QUIET, **RAY_TRAIN_DEFAULTS, **alone}, **workers}
    if address:
        given = (
            job_variables()
        )  # Ray refuses a variable that is given twice; a trial of a study starts Ray Train itself
        patience = {DEADLINE: os.environ[DEADLINE]} if DEADLINE in os.environ else {}
        own = {**QUIET, **RAY_TRAIN_DEFAULTS, **patience}
        variables = {name: value for name, value in own.items() if name not in given}
        runtime_env = {"env_vars": variables, **workers}
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=runtime_env)
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
