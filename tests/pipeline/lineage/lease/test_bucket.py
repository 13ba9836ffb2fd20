"""The lease in buckets: a server that speaks S3, and one with Google's conditions on an object's generation."""

import http.server
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from ingest_stores import boto
from lease_processes import run_race

from rewarm.pipeline.lineage.lease import LeaseLostError, find_holder, hold
from rewarm.pipeline.lineage.lease.protocol import Record
from rewarm.pipeline.lineage.lease.stores import BucketStore
from rewarm.stages.core.errors import BusyError, UnreachableError, UsageError
from rewarm.stages.core.storage import Folder

QUERY = "?endpoint_override={}&scheme=http"
SHORT = 1.0


class Amazon:
    """An S3 server that can be stopped and started again with what it holds."""

    def __init__(self) -> None:
        self.server, self.port = None, 0
        self.start()

    def start(self) -> None:
        from moto.server import ThreadedMotoServer

        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.server.start()
        self.port = self.server.get_host_and_port()[1]

    def stop(self) -> None:
        self.server.stop()

    def folder(self, path: str) -> Folder:
        return Folder(f"s3://bucket/{path}" + QUERY.format(f"127.0.0.1:{self.port}"))


class Generations(http.server.BaseHTTPRequestHandler):
    """Objects by key, each with a generation, and puts on condition of it, as Google documents its XML interface.

    A stand-in, because gcp-storage-emulator has neither that interface for puts nor any conditions.
    """

    objects: dict[str, tuple[int, bytes]]
    lock: threading.Lock

    def log_message(self, *args: Any) -> None:
        pass

    def answer(self, status: int, generation: int = 0, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("x-goog-generation", str(generation))
        self.send_header("ETag", f'"{generation}"')
        self.send_header("Last-Modified", "Sat, 01 Jan 2000 00:00:00 GMT")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        found = self.objects.get(self.path)
        self.answer(200, *found) if found else self.answer(404)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.lock:
            generation = self.objects.get(self.path, (0, b""))[0]
            if self.headers["x-goog-if-generation-match"] != str(generation):
                self.answer(412)
                return
            self.objects[self.path] = (generation + 1, body)
        self.answer(200, generation + 1)


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)


@pytest.fixture(scope="module")
def amazon() -> Iterator[Amazon]:
    server = Amazon()
    boto("s3", f"127.0.0.1:{server.port}").create_bucket(Bucket="bucket")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def google() -> Iterator[str]:
    handler = type("Handler", (Generations,), {"objects": {}, "lock": threading.Lock()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(params=["amazon", "google"])
def folder(request: pytest.FixtureRequest, amazon: Amazon, google: str) -> Folder:
    """A folder of its own for each test."""
    path = request.node.name.replace("[", "-").replace("]", "")
    if request.param == "amazon":
        return amazon.folder(path)
    return Folder(f"gs://bucket/{path}" + QUERY.format(google) + "&anonymous=true")


def test_one_holds_it_and_the_next_has_the_next_epoch(folder: Folder) -> None:
    assert find_holder(folder) is None
    with hold(folder, "rewarm update first") as first:
        assert first.epoch == 1
        found = find_holder(folder)
        assert found is not None
        assert found["purpose"] == "rewarm update first"
        with pytest.raises(BusyError, match="`rewarm update first`"):
            hold(folder).__enter__()
    assert find_holder(folder) is None
    with hold(folder) as second:
        assert second.epoch == 2


def test_heartbeats_keep_it_past_its_ttl(folder: Folder) -> None:
    with hold(folder, ttl_s=SHORT) as lease:
        time.sleep(2 * SHORT)
        assert lease.tenure.trusted(lease.tenure.record.clock_s + SHORT / 2)
        assert lease.tenure.record.beats >= 2
        with lease.committing():
            pass


def test_a_late_holder_is_refused(folder: Folder) -> None:
    with pytest.raises(LeaseLostError, match=r"`other` .* took over"), hold(folder, "mine", ttl_s=60) as lease:
        store = BucketStore(folder)
        seen = store.read()
        assert seen.record is not None
        assert store.swap(seen.version, taken_over(seen.record)) is not None
        lease.check()  # within its ttl it need not look
        with lease.committing():
            pytest.fail("a commit after a take-over")


def taken_over(record: Record) -> Record:
    return replace(record, holder=replace(record.holder, token="another"), epoch=record.epoch + 1, purpose="other")


def test_a_swap_happens_once_from_each_state(folder: Folder) -> None:
    store = BucketStore(folder)
    with hold(folder) as lease:
        seen, mine = store.read(), lease.tenure.record
        assert store.swap(None, taken_over(mine)) is None, "created what was there"
        other = taken_over(mine)
        assert store.swap(seen.version, other) is not None
        assert store.swap(seen.version, mine.renewal(1, "later")) is None, "swapped what had changed"
        found = store.swap(seen.version, other)
        assert found is not None, "a put that is sent again because its answer was lost"
        assert found.record == other


def test_of_two_processes_that_race_one_wins_each_round(amazon: Amazon) -> None:
    assert len(run_race([amazon.folder(f"race/{number}").uri for number in range(20)], racers=2)) == 20


def test_a_hiccup_of_the_store_loses_nothing(amazon: Amazon) -> None:
    folder = amazon.folder("hiccup")
    with hold(folder, ttl_s=6) as lease:
        before = lease.tenure.record.beats
        amazon.stop()
        time.sleep(3)  # a heartbeat and its tries again fall into this
        lease.check()
        amazon.start()
        deadline = time.monotonic() + 6
        while lease.tenure.record.beats == before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert lease.tenure.record.beats > before
        with lease.committing():
            pass
    with hold(folder) as after:
        assert after.epoch == 2


def test_guarded_writes_reach_a_bucket_and_are_refused_after_a_take_over(amazon: Amazon) -> None:
    folder = amazon.folder("written")
    with pytest.raises(LeaseLostError), hold(folder) as lease:
        inner = folder.guarded(lease) / "updates"
        inner.write("update.json", b"1")
        store = BucketStore(folder)
        seen = store.read()
        assert seen.record is not None
        store.swap(seen.version, taken_over(seen.record))
        for late in (lambda: inner.write("update.json", b"2"), lambda: inner.delete("update.json"), inner.delete):
            with pytest.raises(LeaseLostError):
                late()
        assert inner.read("update.json") == b"1"
        inner.write("late.json", b"2")


def test_a_store_that_does_not_answer_is_named() -> None:
    with pytest.raises(UnreachableError, match=r"s3://bucket/x.*: \.lease: no response in "):
        find_holder(Folder("s3://bucket/x" + QUERY.format("127.0.0.1:9")))


def test_a_place_without_conditional_puts_is_refused() -> None:
    with pytest.raises(UsageError, match="a lease needs a disk, s3:// or gs://"):
        find_holder(Folder("hdfs://name/x"))
