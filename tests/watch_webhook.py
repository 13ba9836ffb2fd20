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
        if self.server.answer is not None:
            code, location = self.server.answer
            self.send_response(code)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.server.notices.append(body)
        self.server.authorizations.append(self.headers["Authorization"])
        self.send_response(204)
        self.end_headers()

    def do_GET(self) -> None:
        self.server.got += 1
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def webhook() -> Iterator[Any]:
    """The server: ``url``, the ``notices`` that it took, how often it was ``asked``, and whether it ``refuses``.

    ``authorizations`` are the headers of that name that came with them.
    ``answer`` is a status and a ``Location`` to give in place of taking a notice; ``got`` counts its GETs.
    """
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{server.server_port}/hook/secret"
    server.authorizations = []
    server.notices, server.asked, server.refuses, server.answer, server.got = [], 0, False, None, 0
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
