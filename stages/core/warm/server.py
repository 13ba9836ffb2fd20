"""Fork server of one job on one node: imports the workers' libraries once, then forks a worker per client request.

Started before Ray (``--early``), it imports what does not need Ray, and then waits for a worker that names its job.
"""

import array
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from rewarm.stages.core.operators import environment

MODULES = (
    "ray.train",
    "ray.train.torch",
    "ray.train.v2._internal.execution.controller.controller",
    "ray.data",
    "rewarm.stages.train.loop",
    "rewarm.stages.train.engine",
    "rewarm.stages.train.weights",
    "deepspeed",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.gpt_neox.modeling_gpt_neox",
    "transformers.models.llama.modeling_llama",
    "lm_eval.evaluator",
    "lm_eval.models.huggingface",
    "rewarm.stages.evaluate.lm_eval",
)
CHECK_SECONDS = 0.5  # between two checks that the node's raylet is running


@dataclass
class Server:
    """Server with its socket, and the workers that were forked for its clients."""

    place: Path
    selector: selectors.DefaultSelector = field(default_factory=selectors.DefaultSelector)
    clients: dict[int, socket.socket] = field(default_factory=dict)  # by the worker's process

    def serve(self) -> None:
        """Listen until the raylet of this job's workers has ended."""
        raylet = int(os.environ["RAY_RAYLET_PID"])
        listening = socket.socket(socket.AF_UNIX)
        self.place.unlink(missing_ok=True)
        listening.bind(str(self.place))
        self.place.chmod(0o600)
        listening.listen(128)
        self.selector.register(listening, selectors.EVENT_READ)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while runs(raylet):
            for key, _ in self.selector.select(CHECK_SECONDS if not self.clients else 0.1):
                if key.fileobj is listening:
                    self.fork(listening.accept()[0], listening)
                else:
                    self.lost(key.data)
            self.reap()

    def fork(self, client: socket.socket, listening: socket.socket) -> None:
        """Fork the worker that a client requests; the fork itself never returns."""
        try:
            streams, request = receive(client)
        except (OSError, ValueError):
            client.close()
            return
        worker = os.fork()
        if worker == 0:
            listening.close()
            client.close()
            for other in self.clients.values():
                other.close()
            self.selector.close()
            become(streams, request)
        for stream in streams:
            os.close(stream)
        self.clients[worker] = client
        self.selector.register(client, selectors.EVENT_READ, worker)
        client.sendall(worker.to_bytes(8, "big"))

    def lost(self, worker: int) -> None:
        """End the worker of a client that was killed."""
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
        self.selector.unregister(self.clients[worker])

    def reap(self) -> None:
        """Send the exit codes of ended workers to their clients."""
        while self.clients:
            worker, status = os.waitpid(-1, os.WNOHANG)
            if worker == 0:
                return
            client = self.clients.pop(worker)
            with suppress(KeyError, ValueError):
                self.selector.unregister(client)
            with suppress(OSError):
                client.sendall(os.waitstatus_to_exitcode(status).to_bytes(8, "big", signed=True))
            client.close()


def receive(client: socket.socket) -> tuple[list[int], dict[str, Any]]:
    """Return a client's standard streams and its request. Raises ``ValueError`` if it is incomplete."""
    streams = array.array("i")
    head, sent, _, _ = client.recvmsg(8, socket.CMSG_LEN(3 * streams.itemsize))
    for level, kind, data in sent:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            streams.frombytes(data)
    body, size = bytearray(), int.from_bytes(head, "big")
    while len(body) < size:
        part = client.recv(size - len(body))
        if not part:
            raise ValueError("the client ended in the middle of its request")
        body += part
    request: dict[str, Any] = json.loads(body)
    return list(streams), request


def become(streams: list[int], request: dict[str, Any]) -> NoReturn:
    """Run the worker's program in this fork, with the client's streams, environment, folder and arguments."""
    os.setsid()  # Ray ends a worker with its process group, which must not be the server's
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 1
    try:
        for standard, stream in enumerate(streams):
            os.dup2(stream, standard)
            os.close(stream)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        sys.argv = request["arguments"]
        sys.path[0] = str(Path(sys.argv[0]).parent)
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def runs(process: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1][1] != "Z"
    except OSError:
        return False


@contextlib.contextmanager
def ids_from_the_system() -> Iterator[None]:
    """Let Ray name actor classes with the system's random numbers, as long as modules are imported.

    Ray's own generator of ids is seeded by its first use. Used before a fork, it would give all forks the same ids for
    actors, tasks and placement groups: two drivers of training that run at the same time would then share an actor.
    """
    import ray.actor

    module: Any = ray.actor
    own = module.ActorClassID
    module.ActorClassID = SimpleNamespace(from_random=lambda: own(os.urandom(own.size())))
    try:
        yield
    finally:
        module.ActorClassID = own


def drawn_in_a_fork() -> bytes:
    """Return an id of Ray's, drawn by a fork of this process."""
    from ray import _raylet

    ray_ids: Any = _raylet
    reading, writing = os.pipe()
    fork = os.fork()
    if fork == 0:
        os.write(writing, ray_ids.PlacementGroupID.of(ray_ids.JobID.from_int(1)).binary())
        os._exit(0)
    os.waitpid(fork, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        return stream.read()


def adopted(early: Path) -> Path | None:
    """Import what does not need Ray and take on the job and the environment of the first worker that asks.

    Returns the socket for that job's workers; None if the process that started this one ended before.
    """
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(early))
    early.chmod(0o600)
    listening.listen(1)
    try:
        os.environ.update(environment())
        for name in MODULES:
            if not name.startswith("ray."):
                importlib.import_module(name)
        if "ray" in sys.modules:
            raise RuntimeError("a module has imported Ray, which reads the variables of a job that is not known yet")
        ready, _, _ = select.select([listening.fileno(), 0], [], [])
        if listening.fileno() not in ready:
            early.with_suffix(".log").unlink(missing_ok=True)
            return None
        with listening.accept()[0].makefile("rb") as stream:
            request: dict[str, Any] = json.load(stream)
    finally:
        listening.close()
        early.unlink(missing_ok=True)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(request["environment"])
    path = Path(request["place"])
    early.with_suffix(".log").replace(path.with_suffix(".log"))
    return path


def main() -> None:
    """Import, then serve; remove the socket and the marker of a start in progress at the end."""
    path = adopted(Path(sys.argv[2])) if sys.argv[1] == "--early" else Path(sys.argv[1])
    if path is None:
        return
    try:
        os.environ.update(environment())
        with ids_from_the_system():
            for name in MODULES:
                if not runs(int(os.environ["RAY_RAYLET_PID"])):
                    return
                importlib.import_module(name)
        if drawn_in_a_fork() == drawn_in_a_fork():
            raise RuntimeError("a module has drawn an id of Ray's, so that all forks would draw the same ones")
        if threading.active_count() > 1:
            raise RuntimeError(f"a module has started threads, which a fork would lose: {threading.enumerate()}")
        gc.collect()
        gc.freeze()  # imported objects stay shared between the forks
        Server(path).serve()
    finally:
        for left in (path, path.with_suffix(".starting")):
            left.unlink(missing_ok=True)
        if sys.exc_info()[0] is None:
            path.with_suffix(".log").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
