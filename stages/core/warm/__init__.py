"""Warm worker processes: Ray's workers forked from a process that has imported torch, transformers and DeepSpeed.

A Ray worker is a fresh interpreter. Importing the libraries for training and evaluation takes four to five seconds of
CPU, and an update starts about twenty workers. With ``runtime_env()`` Ray starts ``client.py`` instead of the
interpreter: it requests a fork from the job's fork server (``server.py``; one per job and node, started by the job's
first worker, see ``begin_servers``), and remains as the worker's stand-in until that ends. If there is no server yet,
or it fails, the client becomes an ordinary worker. Arguments, environment, working directory and standard streams are
the worker's own in both cases.

A local Ray takes seconds to start. Its server begins before it (``early_server``), imports what does not need Ray, and
waits for the first worker, which tells it the job that it serves.

Only on CPUs: a forked process cannot use CUDA if its parent has initialised it.
"""

import os
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rewarm.stages.core.operators import accelerator
from rewarm.stages.core.warm.client import EARLY, address, connect, folder_of, private

SWITCH = "REWARM_WARM_WORKERS"
"""Environment variable: ``0`` disables forking; ``1`` also forks workers on a joined cluster, whose nodes must then
have rewarm installed under the same path."""
LONGEST = 60.0  # seconds that training waits for a server
POLL = 0.05  # seconds between two looks at a server


def runtime_env(joined: bool) -> dict[str, Any]:
    """Return the part of Ray's ``runtime_env`` that makes workers fork; empty on GPUs and if ``SWITCH`` disables it.

    ``joined``: whether this is an existing cluster rather than a local Ray of this process.
    """
    chosen = os.environ.get(SWITCH, "0" if joined else "1")
    if chosen == "0" or sys.platform != "linux" or accelerator() != "cpu":
        return {}
    client = Path(__file__).with_name("client.py")
    return {"py_executable": shlex.join([sys.executable, "-ISE", str(client)])}


@contextmanager
def early_server(variables: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Start the fork server of a local Ray that is yet to start; gives the variable by which its workers find it.

    ``variables`` are those of the workers. At the end of the block a server that no worker has found ends; another one
    ends with its raylet.
    """
    folder = folder_of(dict(os.environ))
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
    if not private(folder):  # the first worker then starts an ordinary server, or none
        yield {}
        return
    place = folder / f"early-{uuid.uuid4().hex[:16]}"
    command = [sys.executable, "-P", "-m", "rewarm.stages.core.warm.server", "--early", str(place)]
    log = os.open(place.with_suffix(".log"), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    server = subprocess.Popen(
        command,
        env={**os.environ, **variables},
        stdin=subprocess.PIPE,  # its end tells the server that this process has ended
        stdout=log,
        stderr=log,
        start_new_session=True,  # Ctrl-C is this process's alone
    )
    os.close(log)
    try:
        yield {EARLY: str(place)}
    finally:
        assert server.stdin is not None
        server.stdin.close()
        server.poll()


def begin_servers() -> None:
    """Start this job's fork server on every node now, so that it imports while data is ingested.

    A worker starts its node's server, so each node runs a task that does nothing and needs no CPU. Nothing is waited
    for: workers that are needed before a server has imported everything are ordinary ones.
    """
    on_each_node(start_a_worker)


def await_servers() -> None:
    """Wait until every node's fork server has imported everything: less time than its workers' own imports take."""
    import ray

    if not ray.get_runtime_context().runtime_env.get("py_executable"):
        return  # workers are not forked
    waiting = on_each_node(await_server)
    ray.wait(waiting, num_returns=len(waiting), timeout=LONGEST)


def on_each_node(work: Any) -> list[Any]:
    """Run a task that needs no CPU on each node; return the references of their results."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote: Any = ray.remote  # its stubs lack node affinity
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    there = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
    return [remote(num_cpus=0, max_retries=0, scheduling_strategy=node)(work).remote() for node in there]


def start_a_worker() -> None:
    """Do nothing, in a worker whose start has started its node's fork server."""


def await_server() -> None:
    """Wait until this node's server accepts clients, if one is starting."""
    place = address(dict(os.environ))
    while is_starting(place):
        if (server := connect(place)) is not None:
            server.close()
            return
        time.sleep(POLL)


def is_starting(place: Path) -> bool:
    """Return whether a server has begun to start, not long ago: killed ones leave their marker."""
    try:
        return time.time() - place.with_suffix(".starting").stat().st_mtime < LONGEST
    except OSError:
        return False
