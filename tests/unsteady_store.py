"""An S3 server in a process of its own that can be suspended, and proxies before it: a door that can be shut, so that
connections are refused, and one that fails at random.
"""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

SERVER = """
import sys, time
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=int(sys.argv[1]), verbose=False)
server.start()
time.sleep(3600)
"""
FATES = ("reset", "slow down", "lost answer")
ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>{}</Message></Error>"
ANSWERS = {
    "slow down": ("503 Slow Down", ERROR.format("SlowDown", "Please reduce your request rate.").encode()),
    "internal error": ("500 Internal Server Error", ERROR.format("InternalError", "Please try again.").encode()),
}
SLOW_S = 6.0  # longer than small requests wait, shorter than those for data
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}


class Store:
    """The server; it keeps what it holds while it is suspended."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.process = subprocess.Popen([sys.executable, "-c", SERVER, str(self.port)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/moto-api/").close()
                return
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def suspend(self) -> None:
        """It answers nothing from now on."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It answers again, first what was asked meanwhile."""
        self.process.send_signal(signal.SIGCONT)

    def suspend_for(self, seconds: float) -> threading.Timer:
        """Suspend it now, and resume it later."""
        self.suspend()
        timer = threading.Timer(seconds, self.resume)
        timer.start()
        return timer


@contextmanager
def store() -> Iterator[Store]:
    """A server with the bucket ``lake``."""
    from ingest_stores import boto

    made = Store()
    try:
        boto("s3", f"127.0.0.1:{made.port}").create_bucket(Bucket="lake")
        yield made
    finally:
        made.process.kill()
        made.process.wait()


def address(port: int, path: str) -> str:
    """A folder of the bucket, as a URI."""
    return f"s3://lake/{path}?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"


class Door:
    """A proxy that passes everything on; while it is shut, open connections are reset and new ones refused."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.StreamWriter] = set()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.port = 0
        self.open()

    def open(self) -> None:
        """Let connections through, from now on."""
        asyncio.run_coroutine_threadsafe(self._open(), self.loop).result(30)

    def shut(self) -> None:
        """Reset all connections, and refuse new ones."""
        asyncio.run_coroutine_threadsafe(self._shut(), self.loop).result(30)

    def shut_for(self, seconds: float) -> None:
        """Shut it for a while; returns when it is open again."""
        self.shut()
        time.sleep(seconds)
        self.open()

    async def _open(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._links):
            reset(writer)
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        self._links |= {writer, back}
        await asyncio.gather(self._copy(reader, back), self._copy(there, writer))
        self._links -= {writer, back}

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(2**18):
                writer.write(data)
                await writer.drain()
        with suppress(OSError):
            writer.close()


class Unsteady:
    """A proxy: a part of the requests meets one of ``fates``.

    They are reset; answered with 503 or 500; cut after the store has done what was asked; answered after some seconds;
    or answered by half.

    What is left of a connection that was let through is cut after some requests.
    """

    def __init__(self, target: int, seed: int, share: float, fates: tuple[str, ...] = FATES) -> None:
        self.target, self.dice, self.share, self.fates = target, random.Random(seed), share, fates
        self.met = dict.fromkeys((*fates, "passed"), 0)
        self.loop = asyncio.new_event_loop()
        self.port = 0
        ready = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self.thread.start()
        ready.wait()

    def _run(self, ready: threading.Event) -> None:
        async def serve() -> None:
            server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            await asyncio.Event().wait()

        with suppress(RuntimeError):
            self.loop.run_until_complete(serve())

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            for _ in range(self.dice.randint(1, 6)):
                request = await self._message(reader)
                if not request:
                    break
                fate = "passed"
                if self.dice.random() < self.share:
                    fate = self.dice.choice(self.fates)
                self.met[fate] += 1
                if fate in ANSWERS:
                    status, body = ANSWERS[fate]
                    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}"
                    writer.write(f"{head}\r\nConnection: close\r\n\r\n".encode() + body)
                    await writer.drain()
                if fate in ANSWERS or fate == "reset":
                    break
                answer = await self._ask(request)
                if fate == "lost answer":
                    break
                if fate == "slow":
                    await asyncio.sleep(SLOW_S)
                writer.write(answer[: len(answer) // 2] if fate == "torn" else answer)
                await writer.drain()
                if fate == "torn":
                    break
        if self.dice.random() < 0.5:
            reset(writer)
        writer.close()

    async def _message(self, reader: asyncio.StreamReader) -> bytes:
        """One request or answer: its head and its body."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = await reader.readline()
            if not line:
                return b""
            head += line
        fields = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
        }
        if b"chunked" in fields.get(b"transfer-encoding", b""):
            while True:
                size = await reader.readline()
                block = await reader.readexactly(int(size.split(b";")[0], 16) + 2)
                head += size + block
                if block == b"\r\n":
                    return head
        return head + await reader.readexactly(int(fields.get(b"content-length", b"0")))

    async def _ask(self, request: bytes) -> bytes:
        """What the store answers."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.target, limit=2**24)
        head, _, body = request.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"connection:", b"expect:"))]
        writer.write(b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body)
        await writer.drain()
        answer = await reader.read()
        writer.close()
        return answer

    def close(self) -> None:
        """End it."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)


def reset(writer: asyncio.StreamWriter) -> None:
    """Have a connection end with a reset and not in order, when it is closed."""
    link = writer.get_extra_info("socket")
    if link is not None:
        with suppress(OSError):
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


@contextmanager
def unsteady(target: int, seed: int, share: float = 0.2, fates: tuple[str, ...] = FATES) -> Iterator[Unsteady]:
    """Such a proxy before the server at a port."""
    made = Unsteady(target, seed, share, fates)
    try:
        yield made
    finally:
        made.close()


def with_credentials() -> dict[str, str]:
    """This process's environment with what it takes to open the bucket."""
    return {**os.environ, **CREDENTIALS}
