"""The benchmarks' crawler: real pages of a real server, fetched by a real client, and read back."""

from pathlib import Path

import pytest

from rewarm.stages.ingest.readers.warc import read_warc
from rewarm.stages.ingest.records import Document
from rewarm.stages.ingest.settings import IngestSettings

BENCHMARKS = Path(__file__).parents[4] / "benchmarks"


def test_pages_of_pydoc_come_back_as_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import pages

    monkeypatch.setattr(pages, "static_pages", list)
    monkeypatch.setattr(pages, "PREFERRED", ("json",))
    (path,) = pages.crawl(tmp_path / "crawl", 4).iterdir()
    with path.open("rb") as stream:
        found = list(read_warc(stream, "gzip", IngestSettings()))
    documents = [page for page in found if isinstance(page, Document)]
    assert [page.url for page in documents] == [
        f"http://pydoc.localhost/{name}.html" for name in ("index", "topics", "keywords", "json")
    ]
    assert documents[3].source == "pydoc.localhost"
    assert documents[3].title == "Pydoc: package json"
    assert "Serialize ``obj`` to a JSON formatted ``str``." in documents[3].text
    assert documents[3].timestamp is not None
    with pytest.raises(SystemExit, match="a folder without a crawl expected"):
        pages.crawl(tmp_path / "crawl", 1)
