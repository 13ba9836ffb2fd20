"""A Ray cluster of its own for tests of submitted jobs, and a "machine" elsewhere that submits them.

The cluster's nodes have rewarm installed, as those of cluster.yaml: here by PYTHONPATH. The machine has Ray's command
line and a token, an empty folder and a home of its own, and nothing else of this checkout.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from small_lineage import started_by, wait_gone

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Cluster:
    """One head with two CPUs, token authentication and a dashboard on the loopback address."""

    def __init__(self, root: Path, num_cpus: int = 2) -> None:
        self.token, self.num_cpus = secrets.token_hex(32), num_cpus
        self.home, self.temp = root / "head", Path(tempfile.mkdtemp(prefix="rwj"))  # sockets' paths must be short
        self.home.mkdir(parents=True)
        write_token(self.home, self.token)
        self.log = root / "head.log"
        dashboard, *others = free_ports(5)
        self.address = f"http://127.0.0.1:{dashboard}"
        self.metrics = f"http://127.0.0.1:{others[-1]}/metrics"
        names = ("ray-client-server", "dashboard-agent-listen", "dashboard-agent-grpc", "metrics-export")
        command = [
            *(BIN / "ray", "start", "--head", "--block", "--port=0", "--temp-dir", self.temp, "--disable-usage-stats"),
            *(f"--num-cpus={num_cpus}", "--object-store-memory=200000000", "--dashboard-host=127.0.0.1"),
            *(f"--dashboard-port={dashboard}", "--min-worker-port=0", "--max-worker-port=0"),
            *(f"--{name}-port={port}" for name, port in zip(names, others, strict=True)),
        ]
        env = {
            **base_environment(self.home),
            "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "1",
            "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
            "RAY_metrics_report_interval_ms": "1000",
            "RAY_JOB_STOP_WAIT_TIME_S": "30",
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [str(word) for word in command], env=env, cwd=self.home, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        """Take the whole cluster away at once, as when a head's machine is gone."""
        family = started_by(psutil.Process(self.process.pid))
        self.process.send_signal(signal.SIGKILL)
        for child in family:
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait()
        wait_gone(family)
        shutil.rmtree(self.temp, ignore_errors=True)


class Machine:
    """Where jobs are submitted from."""

    def __init__(self, root: Path) -> None:
        self.home, self.folder = root / "home", root / "empty"
        self.home.mkdir(parents=True)
        self.folder.mkdir()

    def ray(
        self, cluster: Cluster, *words: object, check: bool = True, folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A command of Ray's, to its end, in the empty folder or another; Ray's own options stand before ``--``."""
        write_token(self.home, cluster.token)
        given = [str(word) for word in words]
        at = given.index("--") if "--" in given else len(given)
        command = [str(BIN / "ray"), *given[:at], "--address", cluster.address, *given[at:]]
        done = subprocess.run(
            command,
            cwd=folder or self.folder,
            env=base_environment(self.home),
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done

    def submit(
        self,
        cluster: Cluster,
        name: str,
        *words: object,
        options: tuple[str, ...] = (),
        check: bool = True,
        folder: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """``ray job submit`` of a rewarm command, from the empty folder or another, which is sent along."""
        given = ("--working-dir", ".", "--submission-id", name, *options)
        return self.ray(cluster, "job", "submit", *given, "--", "rewarm", *words, check=check, folder=folder)

    def wait_ready(self, cluster: Cluster, seconds: float = 120) -> None:
        """Wait until the cluster answers."""
        deadline = time.monotonic() + seconds
        while self.ray(cluster, "job", "list", check=False).returncode != 0:
            assert cluster.process.poll() is None, cluster.log.read_text()[-3000:]
            assert time.monotonic() < deadline, "the cluster never answered"
            time.sleep(1)


def base_environment(home: Path) -> dict[str, str]:
    """As little as a machine can have: nothing of the environment that the tests run in."""
    path = os.pathsep.join([str(BIN), "/usr/local/bin", "/usr/bin", "/bin"])
    return {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", "RAY_AUTH_MODE": "token"}


def write_token(home: Path, token: str) -> None:
    """Put a token where Ray looks for it."""
    file = home / ".ray" / "auth_token"
    file.parent.mkdir(exist_ok=True)
    file.write_text(token)
    file.chmod(0o600)
