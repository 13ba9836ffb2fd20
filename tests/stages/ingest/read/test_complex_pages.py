"""Pages that could hold a parser up, in a real ingest: they are quarantined with their reason, and hold up no shard."""

import gzip
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.ingest import IngestSettings, find_inputs, run
from rewarm.stages.ingest.settings import DuplicateSettings

PROSE = "The ferry leaves the island at seven in the morning and comes back after the market closes. "
HEALTHY = [f"<html><title>{name}</title><main><h1>{name}</h1><p>{PROSE * 3}{name}.</p></main>" for name in "abcdef"]
STUCK = {
    "lists": "<ul><li>x" * 100_000,
    "attributes": f"<p {' '.join(f'a{number}=1' for number in range(200_000))}>x",
}


def response(name: str, page: str) -> bytes:
    """A record of an archive."""
    body = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + page.encode()
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://site.example/{name}\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return gzip.compress(head.encode() + body + b"\r\n\r\n")


@pytest.mark.faults
@pytest.mark.usefixtures("ray_cluster")
def test_pages_that_stop_a_parser_are_quarantined_and_the_others_are_read(tmp_path: Path) -> None:
    crawl = tmp_path / "crawl"
    crawl.mkdir()
    records = [response(str(number), page) for number, page in enumerate(HEALTHY[:3])]
    records.append(response("lists", STUCK["lists"]))
    records += [response(str(number + 3), page) for number, page in enumerate(HEALTHY[3:5])]
    (crawl / "pages.warc.gz").write_bytes(b"".join(records))
    (crawl / "stuck.html").write_text("<html><body>" + STUCK["attributes"], "utf-8")
    (crawl / "well.html").write_text(HEALTHY[5], "utf-8")
    settings = IngestSettings(validation_share=0.0, duplicates=DuplicateSettings(near=False))
    run(
        find_inputs([str(crawl)], settings),
        Folder(tmp_path / "set"),
        settings,
        [],
        Folder(tmp_path / "index"),
        Silent(),
    )
    held_out, documents, refused = (
        [row for path in (tmp_path / "set" / name).glob("*.parquet") for row in pq.read_table(path).to_pylist()]
        for name in ("validation", "documents", "quarantine")
    )
    assert sorted(row["text"][0] for row in held_out + documents) == list("abcdef")
    assert {row["reason"] for row in refused} == {"page too complex"}
    assert sorted(row["file"] for row in refused) == ["pages.warc.gz", "stuck.html"]
    assert all("3 s of CPU time, found " in row["detail"] for row in refused)
    account = Folder(tmp_path / "set").read_json("account.json")
    assert account["steps"][0]["reasons"] == {"page too complex": 2}
