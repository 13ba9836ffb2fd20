"""Real web pages without a network: documentation that is installed here, served on loopback and crawled into WARC.

    python benchmarks/pages.py --pages 2000 --out bench-results/pages --workers 4

`python -m pydoc` serves the pages of every module that can be imported, and `python -m http.server` what HTML the
installed packages carry. A client crawls them breadth first over HTTP and stores each response, as it came, in a gzip
member of its own. pydoc imports what it documents, so each worker has a server of its own, in a process that is ended
when a page takes too long, and now and then for its memory. Addresses are stored without the ports, which differ from
run to run. Printed: pages, bytes, what was skipped.
"""

import argparse
import contextlib
import gzip
import http.client
import io
import os
import queue
import re
import select
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from fastwarc.warc import WarcRecord, WarcRecordType

LOOPBACK = "127.0.0.1"
PYDOC, DOCS = "pydoc.localhost", "docs.localhost"  # the hosts in the stored addresses (RFC 6761)
DOC_ROOTS = {"packages": sysconfig.get_path("purelib"), "share": "/usr/share/doc"}
START = ("index.html", "topics.html", "keywords.html")
# Whose pages come first among those equally far from the start: long prose with formulas, tables and code.
PREFERRED = ("scipy", "sympy", "numpy", "pandas", "sklearn", "networkx", "torch", "transformers")
# What does something when it is imported: opens a browser, a window, prints a poem, runs tests.
UNWANTED = re.compile(
    r"(antigravity|this|idlelib|turtle|turtledemo|tkinter|test|__main__|.*\b(tests?|conftest|__main__))\b"
)
LINK = re.compile(rb'href="([\w.]+\.html|(?:topic|get)\?key=[^"#]+)')
PAGE_SECONDS = 20.0
PAGES_PER_SERVER = 150
PAGES_PER_FILE = 250


@dataclass
class Server:
    """A process that serves pages on loopback, started when first asked and again after ``end``."""

    command: list[str]
    ready: str  # the pattern of the line that tells the port
    home: str  # an empty folder to run in, as the servers can import from where they stand
    process: subprocess.Popen[str] | None = None
    port: int = 0
    served: int = 0

    def get(self, path: str) -> tuple[int, bytes] | None:
        """The status of a page, and its response as sent; None where it is not there in time."""
        if self.process is None or self.served >= PAGES_PER_SERVER or self.process.poll() is not None:
            self.end()
            self.start()
        self.served += 1
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=PAGE_SECONDS)
        try:
            connection.request("GET", "/" + path)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            self.end()
            return None
        finally:
            connection.close()
        head = "".join(f"{name}: {value}\r\n" for name, value in answer.getheaders())
        return answer.status, f"HTTP/1.1 {answer.status} {answer.reason}\r\n{head}\r\n".encode("latin1") + body

    def start(self) -> None:
        """Run the server and wait until it tells its port."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-W", "ignore", *self.command],
            cwd=self.home,
            env=environment,
            stdin=subprocess.PIPE,  # pydoc's server ends when its input does
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.served = 0
        assert self.process.stdout is not None
        for _ in range(20):
            if not select.select([self.process.stdout], [], [], PAGE_SECONDS)[0]:
                break
            if found := re.search(self.ready, self.process.stdout.readline()):
                self.port = int(found[1])
                return
        self.end()
        raise RuntimeError(f"no server: {' '.join(self.command)}")

    def end(self) -> None:
        """Stop the process, if there is one."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@dataclass
class Archive:
    """WARC files of a folder: ``crawl-00000.warc.gz`` and so on, each record a gzip member."""

    folder: Path
    pages: int = 0
    num_bytes: int = 0  # of the stored responses
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, url: str, response: bytes) -> None:
        """Append one response."""
        record = WarcRecord()
        record.init_headers(WarcRecordType.response)
        record.record_date = datetime.now(UTC)
        record.headers["WARC-Target-URI"] = url
        record.headers["Content-Type"] = "application/http; msgtype=response"
        record.set_bytes_content(response)
        buffer = io.BytesIO()
        record.write(buffer)
        name = f"crawl-{self.pages // PAGES_PER_FILE:05d}.warc.gz"
        with (self.folder / name).open("ab") as stream:
            stream.write(gzip.compress(buffer.getvalue(), 6))
        self.pages += 1
        self.num_bytes += len(response)


def crawl(out: Path, pages: int, workers: int = 1, minutes: float = 30) -> Path:
    """At most ``pages`` pages as WARC files in ``out``, which must not hold any; the folder."""
    run(out, pages, workers, minutes)
    return out


def run(out: Path, pages: int, workers: int, minutes: float) -> Archive:
    """Crawl until there are enough pages, none is left, or the time is over."""
    out.mkdir(parents=True, exist_ok=True)
    if any(out.glob("crawl-*.warc.gz")):
        raise SystemExit(f"{out}: a folder without a crawl expected")
    archive, until = Archive(out), time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as home, serving(home, workers) as servers:
        front = [(PYDOC, path) for path in START] + [(DOCS, path) for path in static_pages()]
        seen = set(front)
        with ThreadPoolExecutor(workers) as pool:
            while front and archive.pages < pages and time.monotonic() < until:
                # A slice at a time, in order: the same pages whatever the number of workers.
                now, front = front[:64], front[64:]
                for (host, path), answer in zip(now, pool.map(lambda at: fetch(servers, *at), now), strict=True):
                    reason = why_not(host, answer)
                    if reason or answer is None:
                        archive.skipped[reason or "none"] += 1
                        continue
                    if archive.pages < pages:
                        archive.add(f"http://{host}/{path}", answer[1])
                    if host == PYDOC:
                        new = [(PYDOC, link) for link in links(answer[1]) if (PYDOC, link) not in seen]
                        front += new
                        seen.update(new)
    return archive


@contextlib.contextmanager
def serving(home: str, workers: int) -> Iterator[dict[str, "queue.Queue[Server]"]]:
    """Servers by host, one of each for every worker; all ended afterwards."""
    servers: dict[str, queue.Queue[Server]] = {PYDOC: queue.Queue(), DOCS: queue.Queue()}
    docs = Path(home, "docs")
    docs.mkdir()
    for name, root in DOC_ROOTS.items():
        (docs / name).symlink_to(root)
    web = ["-m", "http.server", "--bind", LOOPBACK, "--directory", str(docs), "0"]
    for _ in range(workers):
        servers[PYDOC].put(Server(["-m", "pydoc", "-n", LOOPBACK, "-p", "0"], r"ready at http://[^:]+:(\d+)", home))
        servers[DOCS].put(Server(web, r"port (\d+)", home))
    try:
        yield servers
    finally:
        for kind in servers.values():
            while not kind.empty():
                kind.get().end()


def fetch(servers: dict[str, "queue.Queue[Server]"], host: str, path: str) -> tuple[int, bytes] | None:
    """One page from the next free server of a host."""
    server = servers[host].get()
    try:
        return server.get(path)
    finally:
        servers[host].put(server)


def why_not(host: str, answer: tuple[int, bytes] | None) -> str | None:
    """Why an answer is not stored."""
    if answer is None:
        return "no answer in time"
    if answer[0] != http.client.OK:
        return f"status {answer[0]}"
    if host == PYDOC and b"<title>Pydoc: Error - " in answer[1]:
        return "not importable"
    return None


def links(response: bytes) -> list[str]:
    """The pages that a page of pydoc leads to, preferred ones first."""
    found = dict.fromkeys(link.decode() for link in LINK.findall(response))
    wanted = [link for link in found if not UNWANTED.match(link.removesuffix(".html"))]
    return sorted(wanted, key=lambda link: not link.startswith(PREFERRED))


def static_pages() -> list[str]:
    """HTML that installed packages carry, under the names of ``DOC_ROOTS``, of no more than 4 MiB each."""
    found = []
    for name, root in DOC_ROOTS.items():
        pages = sorted(path for path in Path(root).rglob("*.htm*") if path.suffix in (".html", ".htm"))
        found += [f"{name}/{quote(str(path.relative_to(root)))}" for path in pages if path.stat().st_size < 2**22]
    return found


def main() -> None:
    """Crawl and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("bench-results/pages"))
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=30, help="stop then, with what there is")
    given = parser.parse_args()
    start = time.monotonic()
    archive = run(given.out, given.pages, given.workers, given.minutes)
    skipped = ", ".join(f"{count} × {reason}" for reason, count in sorted(archive.skipped.items())) or "none"
    print(
        f"{archive.pages} pages, {archive.num_bytes / 1e6:.1f} MB, {time.monotonic() - start:.0f} s; skipped: {skipped}"
    )


if __name__ == "__main__":
    main()
