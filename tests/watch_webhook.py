"""A real web server that takes notices, and can be told to refuse them."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Handler(http.server.BaseHTTPRequestHandler):
    server: Any

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked += 1
        if self.server.refuses:
            self.send_error(503)
            return
        self.server.notices.append(body)
        self.send_response(204)
        self.end_headers()


@contextmanager
def webhook() -> Iterator[Any]:
    """The server: ``url``, the ``notices`` that it took, how often it was ``asked``, and whether it ``refuses``."""
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{server.server_port}/hook/secret"
    server.notices, server.asked, server.refuses = [], 0, False
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
