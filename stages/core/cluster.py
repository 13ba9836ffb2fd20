"""Connection to the Ray cluster of a command: the one that it was submitted to, or a local one."""

import logging
import os
import signal
import site
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from rewarm.stages.core import warm
from rewarm.stages.core.awaiting import DEFAULT_TIMEOUT, TIMEOUT
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.leftovers import own_session
from rewarm.stages.core.operators import environment
from rewarm.stages.core.patience import DEADLINE
from rewarm.stages.core.resources import find_room

if TYPE_CHECKING:
    from ray.job_config import JobConfig

# Ray Train polls its workers every 2 s by default, which delays the detection of dead workers. On clusters that scale
# up from zero, a group of workers needs several minutes to start.
RAY_TRAIN_DEFAULTS = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
    TIMEOUT: f"{DEFAULT_TIMEOUT:g}",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
}

# Processes that Ray starts with "python -c" do not find modules in the directory of the command: a user's numpy.py or
# datasets.py there would hide the library.
SAFE_PATH = {"PYTHONSAFEPATH": "1"}

# Loggers and libraries that would otherwise print into the progress.
QUIET = {"TOKENIZERS_PARALLELISM": "true", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
SOURCE = Path(__file__).absolute().parents[3]  # holds the package rewarm; the folder of stages would hide select


@contextmanager
def connected(num_cpus: int | None = None, models: bool = True) -> Iterator[None]:
    """Provide a cluster to work on. ``models``: whether models will run on it; their workers are then forked warm.

    Raises ``UsageError`` if the entrypoints of submitted jobs occupy all of its CPUs.
    """
    with joined(num_cpus, models):
        refuse_full()
        yield


@contextmanager
def joined(num_cpus: int | None = None, models: bool = False) -> Iterator[None]:
    """Join the cluster at ``RAY_ADDRESS`` (set by ``ray job submit``), else start a local Ray and shut it down.

    A local Ray ends with its driver, even after ``kill -9``; on a cluster, everything that the driver started ends. The
    dashboard of a local Ray listens only on the loopback address. Its session folder is removed unless the block fails.
    """
    hush()
    for name, value in {**RAY_TRAIN_DEFAULTS, "RAY_DATA_DISABLE_PROGRESS_BARS": "1", **environment()}.items():
        os.environ.setdefault(name, value)
    with local_variables(models) as variables, redirect_stdout(sys.stderr):  # raylets' output is no part of a result
        import ray

        if ray.is_initialized():
            yield
            return
        with signals_kept():
            session = start(num_cpus, models, variables)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        logging.getLogger("ray.train").setLevel(logging.ERROR)
        with own_session(session) if session else nullcontext():
            try:
                yield
            finally:
                ray.shutdown()


@contextmanager
def local_variables(models: bool) -> Iterator[dict[str, str]]:
    """Provide the environment variables of a local Ray's workers; if these are forked, their server starts now."""
    alone = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}  # the node of a local Ray cannot be preempted
    variables = {"PYTHONPATH": worker_path(), **QUIET, **RAY_TRAIN_DEFAULTS, **alone}
    if os.environ.get("RAY_ADDRESS") or ray_runs():
        yield variables
        return
    os.environ.update({**alone, **SAFE_PATH})
    if not models or not warm.runtime_env(joined=False):
        yield variables
        return
    with warm.early_server(variables) as early:
        yield {**variables, **early}


def ray_runs() -> bool:
    """Return whether this process is connected to a cluster; Ray is not imported for it."""
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


def hush() -> None:
    """Prevent libraries from printing into the progress; they read these variables when they are imported."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


@contextmanager
def signals_kept() -> Iterator[None]:
    """Restore the SIGTERM handler that ``ray.init`` replaces, and pass on a SIGTERM that arrives meanwhile.

    Ray's own handler would end the command without a message, with exit code 15.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as ended:
        if ended.code == signal.SIGTERM and callable(before):
            before(signal.SIGTERM, None)
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def refuse_full() -> None:
    """Raise ``UsageError`` if the entrypoints of jobs leave less than one CPU: work would wait forever."""
    room = find_room()
    if room.held and max(room.cpus, default=0.0) < 1:
        raise UsageError(
            f"the entrypoints of jobs occupy {room.held:g} CPUs of this cluster (--entrypoint-num-cpus) and leave none "
            "for work: submit without this option, or add a node"
        )


def job_variables() -> dict[str, str]:
    """Return the environment variables that this job was submitted with (``--runtime-env-json``); empty without a
    job."""
    config = orjson.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    found: dict[str, str] = (config.get("runtime_env") or {}).get("env_vars") or {}
    return found


def worker_path() -> str:
    """Return ``PYTHONPATH`` for the workers of a local Ray: this process's own, then the folder that holds rewarm.

    Site packages are left out, because workers have them anyway, and here they would hide Python's own modules.
    """
    given = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    installed = str(SOURCE) in map(os.path.realpath, site.getsitepackages())
    return os.pathsep.join([*given, *([] if installed or str(SOURCE) in given else [str(SOURCE)])])


def own_modules() -> "JobConfig":
    """Return a job configuration whose workers do not search the directory of the command for modules.

    Ray would insert it before all installed packages, unless the job is one of Ray Client.
    """
    from ray.job_config import JobConfig

    config = JobConfig()
    config._client_job = True
    return config


def start(num_cpus: int | None, models: bool, variables: dict[str, str]) -> Path | None:
    """Call ``ray.init`` for the named cluster, or for this machine alone, with ``variables`` for its workers.

    Returns the session folder of a local Ray.
    """
    import ray

    address = os.environ.get("RAY_ADDRESS")
    workers = warm.runtime_env(joined=bool(address)) if models else {}
    if address:
        given = job_variables()  # Ray refuses a variable that is set twice; a trial of a study starts Ray Train itself
        patience = {DEADLINE: os.environ[DEADLINE]} if DEADLINE in os.environ else {}
        own = {**QUIET, **RAY_TRAIN_DEFAULTS, **patience}
        missing = {name: value for name, value in own.items() if name not in given}
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": missing, **workers},
        )
        session: Path | None = None
    else:
        begun: Any = ray.init(
            address="local",
            job_config=own_modules(),
            num_cpus=num_cpus,
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": variables, **workers},
        )
        session = Path(begun.address_info["session_dir"])
    if workers:
        warm.begin_servers()
    return session
