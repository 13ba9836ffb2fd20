"""Stand-in for a worker that the job's fork server has forked; without a server, the worker itself.

Ray runs this file as ``python -ISE client.py default_worker.py …``. It must start in milliseconds, so it imports only
small modules of the standard library, and no module of rewarm.
"""

import array
import hashlib
import json
import os
import signal
import socket
import stat
import sys
import time
from pathlib import Path

BOUND_TO = ("RAY_JOB_ID", "RAY_RAYLET_PID", "PYTHONPATH")
"""Variables that a server shares with its forks: Ray's library reads the first two before the fork."""


EARLY = "REWARM_EARLY_SERVER"
"""Variable with the socket of a server that was started before Ray and waits to be told which job it serves."""


def folder_of(environment: dict[str, str]) -> Path:
    """Return the private folder of this user for the sockets of servers."""
    return Path(environment.get("TMPDIR") or "/tmp") / f"rewarm-warm-{os.getuid()}"


def address(environment: dict[str, str]) -> Path:
    """Return the socket of a job's server on this node."""
    key = "\0".join(environment.get(name, "") for name in BOUND_TO) + sys.executable
    name = hashlib.sha256(key.encode()).hexdigest()[:20]
    return folder_of(environment) / name


def main() -> None:
    """Request a forked worker and wait for its end, or become a worker."""
    place = address(dict(os.environ))
    server = connect(place)
    if server is None:
        start_server(place)
        os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
    sys.exit(stand_in(server))


def connect(path: Path) -> socket.socket | None:
    """Connect to the server if it is listening; refuse a folder that another user may have created or can write to."""
    if not private(path.parent):
        return None
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(str(path))
    except OSError:
        server.close()
        return None
    return server


def private(folder: Path) -> bool:
    """Return whether a folder belongs to this user and is inaccessible to others."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def start_server(path: Path) -> None:
    """Start the job's server in the background, or tell a waiting one; do nothing if another worker has done so."""
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if not private(path.parent):
            return
        os.close(os.open(path.with_suffix(".starting"), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError:
        return
    if hand_over(path) or os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    log = os.open(path.with_suffix(".log"), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for given, standard in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(given, standard)
    os.closerange(3, 1024)
    os.execv(sys.executable, [sys.executable, "-P", "-m", "rewarm.stages.core.warm.server", str(path)])


def hand_over(path: Path) -> bool:
    """Tell a server that was started before Ray which job it serves, by an environment; return whether there is one."""
    early = os.environ.get(EARLY)
    server = connect(Path(early)) if early else None
    if server is None:
        return False
    with server:
        server.sendall(json.dumps({"place": str(path), "environment": dict(os.environ)}).encode())
    return True


def stand_in(server: socket.socket) -> int:
    """Pass on this process's arguments, environment and streams, wait, and return the worker's exit code."""
    request = {"arguments": sys.argv[1:], "environment": dict(os.environ), "folder": str(Path.cwd())}
    body = json.dumps(request).encode()
    streams = array.array("i", [0, 1, 2])
    server.sendmsg([len(body).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
    server.sendall(body)
    worker = int.from_bytes(server.recv(8), "big")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, frame: os.kill(worker, received))
    code = server.recv(8)
    if not code:  # the server has died; the worker may still be alive
        while alive(worker):
            time.sleep(0.5)
    return int.from_bytes(code, "big", signed=True) & 255


def alive(process: int) -> bool:
    """Return whether a process exists."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main()
