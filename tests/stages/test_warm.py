"""Forked workers: arguments, environment and exit codes pass through; kills on either side end both."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from small_lineage import alive, words

import rewarm.stages.core.warm
from rewarm.stages.core.warm import early_server
from rewarm.stages.core.warm.client import EARLY, address, connect, folder_of
from rewarm.stages.core.warm.server import MODULES

CLIENT = Path(rewarm.stages.core.warm.__file__).with_name("client.py")
SERVE = "import sys; from pathlib import Path; from rewarm.stages.core.warm.server import Server; Server(Path(sys.argv[1])).serve()"  # noqa: E501
SERVE_EARLY = "from rewarm.stages.core.warm import server; server.MODULES = ('json',); server.main()"


@dataclass(frozen=True)
class Node:
    """A stand-in for a raylet, the server of one of its jobs, and how a worker is started."""

    raylet: subprocess.Popen[bytes]
    server: subprocess.Popen[bytes]
    environment: dict[str, str]

    def worker(self, script: Path, *arguments: str, **more: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-ISE", str(CLIENT), str(script), *arguments]
        environment = {**self.environment, **more}
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def node() -> Iterator[Node]:
    raylet = subprocess.Popen(["sleep", "600"])
    short = tempfile.mkdtemp(prefix="rww")  # sockets' paths must be short
    environment = {
        **os.environ, "TMPDIR": short, "RAY_JOB_ID": "01000000", "RAY_RAYLET_PID": str(raylet.pid),
    }  # fmt: skip
    place = address(environment)
    place.parent.mkdir(mode=0o700)
    server = subprocess.Popen([sys.executable, "-c", SERVE, str(place)], env=environment)
    wait_for(place.exists)
    yield Node(raylet, server, environment)
    for process in (raylet, server):
        process.kill()
        process.wait()
    shutil.rmtree(short)


def test_a_fork_has_its_clients_arguments_environment_and_streams(node: Node, tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text("import os, sys; print(sys.argv, os.environ['MINE'], os.getcwd()); print('no', file=sys.stderr)")
    worker = node.worker(script, "--id", "a b", MINE="ü")
    out, err = worker.communicate(timeout=30)
    assert out == f"{[str(script), '--id', 'a b']} ü {Path.cwd()}\n"
    assert err == "no\n"
    assert worker.returncode == 0


@pytest.mark.parametrize(("end", "code"), [("sys.exit(7)", 7), ("1 / 0", 1), ("sys.exit('no')", 1)])
def test_a_worker_ends_with_its_own_exit_code(node: Node, tmp_path: Path, end: str, code: int) -> None:
    script = tmp_path / "worker.py"
    script.write_text(f"import sys\n{end}\n")
    worker = node.worker(script)
    worker.communicate(timeout=30)
    assert worker.returncode == code


def test_a_killed_client_takes_its_fork_along_and_the_server_serves_on(node: Node, tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text("import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    worker = node.worker(script)
    assert worker.stdout is not None
    fork = psutil.Process(int(worker.stdout.readline()))
    assert fork.ppid() == node.server.pid
    worker.send_signal(signal.SIGKILL)
    wait_for(lambda: not alive(fork))
    script.write_text("print('again')")
    assert node.worker(script).communicate(timeout=30)[0] == "again\n"


def test_a_signal_reaches_the_fork_and_a_killed_fork_ends_its_client(node: Node, tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text("import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    for give in (lambda client, fork: client.terminate(), lambda client, fork: os.kill(fork, signal.SIGKILL)):
        client = node.worker(script)
        assert client.stdout is not None
        fork = int(client.stdout.readline())
        give(client, fork)
        assert client.wait(timeout=30) != 0
        wait_for(lambda fork=fork: not psutil.pid_exists(fork))  # type: ignore[misc]


def test_the_server_ends_with_its_raylet(node: Node) -> None:
    node.raylet.kill()
    node.raylet.wait()
    assert node.server.wait(timeout=10) == 0


def test_a_folder_that_others_can_use_is_not_trusted(node: Node, tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text("import os; print(os.getppid())")
    folder = address(node.environment).parent
    folder.chmod(0o777)
    parent = node.worker(script).communicate(timeout=30)[0]
    assert int(parent) == os.getpid(), "an ordinary worker, started by who asked"
    folder.chmod(0o700)
    assert int(node.worker(script).communicate(timeout=30)[0]) == node.server.pid


@pytest.mark.usefixtures("ray_cluster")
def test_rays_workers_are_forked_once_the_server_runs_and_draw_ids_of_their_own() -> None:
    import ray
    from ray import _raylet

    @ray.remote(num_cpus=0)
    class Worker:
        def parent(self) -> int:
            return os.getppid()

        def ids(self) -> list[str]:
            """Ids of placement groups, as this thread and a new one draw them."""
            found: list[str] = []

            def draw() -> None:
                found.append(_raylet.PlacementGroupID.of(_raylet.JobID.from_int(1)).hex())

            thread = threading.Thread(target=draw)
            thread.start()
            thread.join()
            draw()
            return found

    def parent(worker: Any) -> list[str]:
        found: int = ray.get(worker.parent.remote())
        return words(psutil.Process(found))

    def forked() -> bool:
        worker = Worker.remote()
        found = "rewarm.stages.core.warm.server" in parent(worker)
        ray.kill(worker)
        return found

    wait_for(forked, 60)
    workers = [Worker.remote() for _ in range(3)]
    assert all("rewarm.stages.core.warm.server" in parent(worker) for worker in workers)
    drawn = [drawn for ids in ray.get([worker.ids.remote() for worker in workers]) for drawn in ids]
    assert len(set(drawn)) == 6
    for worker in workers:
        ray.kill(worker)


def test_a_server_that_begins_before_ray_serves_the_job_of_the_first_worker(tmp_path: Path) -> None:
    raylet = subprocess.Popen(["sleep", "600"])
    short = tempfile.mkdtemp(prefix="rww")
    environment = {**os.environ, "TMPDIR": short, "RAY_RAYLET_PID": str(raylet.pid), "RAY_JOB_ID": "02000000"}
    early = folder_of(environment) / "early"
    early.parent.mkdir(mode=0o700)
    command = [sys.executable, "-P", "-c", SERVE_EARLY, "--early", str(early)]
    server = subprocess.Popen(command, env={**os.environ, "TMPDIR": short}, stdin=subprocess.PIPE)
    early.with_suffix(".log").touch()
    wait_for(early.exists)
    script = tmp_path / "worker.py"
    script.write_text("import os; print(os.getppid(), os.environ['MINE'])")
    node = Node(raylet, server, {**environment, EARLY: str(early), "MINE": "first"})
    assert node.worker(script).communicate(timeout=30)[0] == f"{os.getpid()} first\n", "it waits for nothing"
    place = address(environment)
    wait_for(lambda: connect(place) is not None)
    assert not early.exists()
    assert node.worker(script, MINE="second").communicate(timeout=30)[0] == f"{server.pid} second\n"
    raylet.kill()
    raylet.wait()
    assert server.wait(timeout=10) == 0
    assert not place.exists()
    shutil.rmtree(short)


def test_a_server_without_a_job_ends_with_the_process_that_started_it() -> None:
    folder = folder_of(dict(os.environ))
    with early_server({}) as variables:
        early = Path(variables[EARLY])
        wait_for(early.exists)
    wait_for(lambda: not early.exists(), 60)
    assert not list(folder.glob(f"{early.name}*"))


def test_without_a_private_folder_no_server_begins_before_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (tmp_path / "missing", tmp_path / "open"):
        monkeypatch.setenv("TMPDIR", str(folder))
        if folder.name == "open":
            folder_of({"TMPDIR": str(folder)}).mkdir(parents=True, mode=0o777)
            folder_of({"TMPDIR": str(folder)}).chmod(0o777)
        with early_server({}) as variables:
            assert variables == {}


def test_what_a_server_imports_before_ray_does_not_import_it() -> None:
    names = [name for name in MODULES if not name.startswith("ray.")]
    code = f"import importlib, sys; [importlib.import_module(name) for name in {names}]; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_a_server_whose_raylet_has_ended_imports_nothing(tmp_path: Path) -> None:
    """A server that is importing when its command is stopped ends with the command."""
    raylet, place = subprocess.Popen(["true"]), tmp_path / "server"
    raylet.wait()
    place.with_suffix(".starting").touch()
    command = [sys.executable, "-X", "importtime", "-P", "-m", "rewarm.stages.core.warm.server", str(place)]
    environment = {**os.environ, "RAY_RAYLET_PID": str(raylet.pid)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "ray.actor" in done.stderr and "deepspeed" not in done.stderr
    assert list(tmp_path.iterdir()) == []
