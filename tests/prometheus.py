"""A real Ray cluster that reports its metrics every second, and a real Prometheus that scrapes it."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from small_lineage import wait_gone

DISCOVERY = "prom_metrics_service_discovery.json"
CLUSTER = """
import sys, time, ray
context = ray.init(address="local", num_cpus=2, include_dashboard=True, dashboard_host="127.0.0.1",
                   _temp_dir=sys.argv[1], log_to_driver=False)
print("address", ray.get_runtime_context().gcs_address, context.dashboard_url, flush=True)
time.sleep(3600)
"""


def wait_for(what: str, seen: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait until something is truthy, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := seen()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.2)
    return found


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[str]]:
    """A process, killed with all its children at the end."""
    with log.open("w") as errors:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            yield process
        finally:
            children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
            wait_gone(children, 15)
            for child in children:
                if child.is_running():
                    child.kill()


@dataclass(frozen=True)
class Cluster:
    """A cluster with token authentication."""

    environment: dict[str, str]  # of commands that use it
    discovery: Path  # the file that lists its metrics ports
    dashboard: str

    def ask(self, path: str) -> Any:
        """What the dashboard shows, as JSON."""
        token = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        with urllib.request.urlopen(
            urllib.request.Request(f"{self.dashboard}{path}", headers=token), timeout=60
        ) as answer:
            return json.load(answer)


@contextmanager
def ray_with_metrics(root: Path) -> Iterator[Cluster]:
    """A cluster whose processes report every second."""
    folder = Path(tempfile.mkdtemp(prefix="rw-", dir="/tmp"))  # a socket's path must be short
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "a-token-for-this-test-alone",
        "RAY_metrics_report_interval_ms": "1000",
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }
    try:
        with running([sys.executable, "-c", CLUSTER, str(folder)], environment, root / "ray.log") as process:
            assert process.stdout is not None
            said = next((line.split()[1:] for line in process.stdout if line.startswith("address ")), None)
            assert said, (root / "ray.log").read_text()[-3000:]
            wait_for("the list of metrics ports", (folder / DISCOVERY).exists)
            yield Cluster({**environment, "RAY_ADDRESS": said[0]}, folder / DISCOVERY, f"http://{said[1]}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Prometheus:
    """A Prometheus over its HTTP interface."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.start = time.time()

    def get(self, path: str, **parameters: object) -> Any:
        """The data of an answer; an error of the query is an assertion."""
        url = f"{self.url}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def series(self, query: str) -> list[tuple[dict[str, str], list[float]]]:
        """What a query gave since this began, second by second: each series' labels and values."""
        found = self.get("/api/v1/query_range", query=query, start=self.start, end=time.time(), step=1)
        return [(one["metric"], [float(value) for _, value in one["values"]]) for one in found["result"]]

    def rules(self) -> dict[str, dict[str, Any]]:
        """The rules by the alert's name, with their state and health."""
        return {rule["name"]: rule for group in self.get("/api/v1/rules")["groups"] for rule in group["rules"]}


@contextmanager
def prometheus(root: Path, discovery: Path, rules: dict[str, Any]) -> Iterator[Prometheus]:
    """Prometheus with our settings, but every second, and these rules."""
    from rewarm.pipeline.monitoring.files import content

    settings = yaml.safe_load(content("prometheus.yaml"))
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    [discovered] = settings["scrape_configs"][0]["file_sd_configs"]
    assert re.search(rf"/{DISCOVERY}$", discovered["files"][0])
    discovered |= {"files": [str(discovery)], "refresh_interval": "1s"}
    (root / "alerts.yaml").write_text(yaml.safe_dump(rules))
    (root / "prometheus.yaml").write_text(yaml.safe_dump(settings))
    port = free_port()
    command = ["prometheus", f"--config.file={root / 'prometheus.yaml'}", f"--storage.tsdb.path={root / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    with running(command, dict(os.environ), root / "prometheus.log") as process:
        found = Prometheus(port)
        wait_for("Prometheus", lambda: found.ready() or process.poll() is not None)
        assert process.poll() is None, (root / "prometheus.log").read_text()[-3000:]
        yield found
