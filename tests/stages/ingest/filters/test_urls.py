"""Block-lists: what an entry blocks, and files that are none."""

import gzip
from pathlib import Path

import pytest

from rewarm.stages.core.errors import UsageError
from rewarm.stages.ingest.filters.steps import before_rules
from rewarm.stages.ingest.filters.urls import host_of, read_block_lists
from rewarm.stages.ingest.records import Document, Refusal
from rewarm.stages.ingest.settings import CleanSettings

LIST = """# hosts
spam.example
WWW.Upper.Example   # with a comment
https://scheme.example/
192.0.2.7

# below a path
news.example/ads
http://www.shop.example/cart?item=1
"""


@pytest.mark.parametrize(
    ("url", "entry"),
    [
        ("http://spam.example/", "spam.example"),
        ("https://www.spam.example:8080/x?y#z", "spam.example"),
        ("http://a.b.spam.example/x", "spam.example"),
        ("http://SPAM.example./", "spam.example"),
        ("http://upper.example/x", "upper.example"),
        ("http://scheme.example", "scheme.example"),
        ("http://192.0.2.7/x", "192.0.2.7"),
        ("http://news.example/ads", "news.example/ads"),
        ("http://news.example/ads/1", "news.example/ads"),
        ("http://www.news.example/ads?x=1", "news.example/ads"),
        ("http://shop.example/cart?item=1&n=2", "shop.example/cart?item=1"),
        ("http://notspam.example/", None),
        ("http://example/", None),
        ("http://spam.example.org/", None),
        ("http://news.example/adsorb", None),
        ("http://news.example/", None),
        ("http://m.news.example/ads", None),
        ("http://shop.example/cart?item=12", None),
        ("http://x.org/?u=http://spam.example/", None),
        ("a file.html", None),
        ("http://[broken/", None),
    ],
)
def test_what_entries_block(tmp_path: Path, url: str, entry: str | None) -> None:
    (tmp_path / "list.txt.gz").write_bytes(gzip.compress(LIST.encode()))
    settings = CleanSettings(blocked_urls=[str(tmp_path / "list.txt.gz")], detect_language=False)
    (step,) = before_rules(settings)
    given = Document("text", url, None, None, None)
    found = step(given)
    if entry is None:
        assert found is given
    else:
        assert isinstance(found, Refusal)
        assert (found.reason, found.step) == ("blocked URL", "url-block-list")
        assert found.detail.endswith(f"{url} is blocked by the entry {entry}")


def test_a_document_without_an_address_passes(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("spam.example")
    (step,) = before_rules(CleanSettings(blocked_urls=[str(tmp_path / "list")], detect_language=False))
    assert isinstance(step(Document("text", None, None, None, None)), Document)


@pytest.mark.parametrize(("name", "data"), [("x.gz", b"plain"), ("x", b"\xff\xfe\x00"), ("x", b"ok.example\n/path\n")])
def test_files_that_are_no_lists_are_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=str(tmp_path / name)):
        read_block_lists([str(tmp_path / name)])


def test_identity_is_what_the_lists_say_not_where_they_lie(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("spam.example")
    (tmp_path / "b").write_text("spam.example")
    (tmp_path / "c").write_text("other.example")
    first, same, other = (CleanSettings(blocked_urls=[str(tmp_path / name)]).identity() for name in "abc")
    assert first == same != other


@pytest.mark.parametrize(
    ("url", "host"),
    [("https://www.A.example:1/x", "a.example"), ("//b.example", "b.example"), ("x.html", None), (None, None)],
)
def test_hosts(url: str | None, host: str | None) -> None:
    assert host_of(url) == host
