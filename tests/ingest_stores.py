"""Real servers that stand for Amazon's and Google's object stores, and a web server."""

import http.server
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

GOOGLE = """
import sys, time
from gcp_storage_emulator.server import create_server
create_server("127.0.0.1", int(sys.argv[1]), in_memory=True, default_bucket="bucket").start()
time.sleep(600)
"""


@contextmanager
def amazon() -> Iterator[str]:
    """Host and port of an empty S3 server; ``boto`` makes a client of it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    reset = urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()  # buckets belong to the process, not to a server
    try:
        yield f"{host}:{port}"
    finally:
        server.stop()


def boto(service: str, endpoint: str, key: str = "key", secret: str = "secret") -> Any:
    """A client of Amazon's own library."""
    import boto3

    return boto3.client(
        service,
        endpoint_url=f"http://{endpoint}",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        region_name="us-east-1",
    )


@contextmanager
def google() -> Iterator[str]:
    """Host and port of a Google storage server with one bucket, as a process: Arrow's client holds Python's lock."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", GOOGLE, str(port)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def put_google(endpoint: str, key: str, data: bytes) -> None:
    """Store one object."""
    name = urllib.parse.quote(key, safe="")
    url = f"http://{endpoint}/upload/storage/v1/b/bucket/o?uploadType=media&name={name}"
    headers = {"Content-Type": "application/octet-stream"}
    urllib.request.urlopen(urllib.request.Request(url, data, headers)).close()


class Handler(http.server.SimpleHTTPRequestHandler):
    """Python's file server; its server's ``ranges`` and ``cut`` make it answer ranges, or break off after so many."""

    server: Any

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        path = Path(self.translate_path(self.path))
        if not path.is_file() or not ((asked and self.server.ranges) or self.server.cut is not None):
            super().do_GET()
            return
        data = path.read_bytes()
        start, stop = 0, len(data)
        if asked and self.server.ranges:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(len(data), int(last) + 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        self.wfile.write(data[start:stop][: self.server.cut])
        self.close_connection = True


@contextmanager
def web(folder: Path, ranges: bool = False) -> Iterator[Any]:
    """A web server of a folder; ``url`` is its address."""
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    server.ranges, server.cut, server.url = ranges, None, f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
