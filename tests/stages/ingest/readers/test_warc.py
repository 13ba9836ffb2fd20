"""Archives made here, byte by byte: how they are packed, what their records say, and everything that breaks them."""

import bz2
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from rewarm.stages.ingest.account import READ, Account
from rewarm.stages.ingest.readers.warc import read_warc
from rewarm.stages.ingest.records import Document, Refusal
from rewarm.stages.ingest.settings import IngestSettings

SETTINGS = IngestSettings()
PROSE = "The river rose after three days of rain, and the mill stood in water to its windows."
PAGE = f"<html><head><title>A page</title></head><body><p>{PROSE}</p></body></html>"


def record(kind: str, block: bytes, *, length: int | str | None = -1, end: bytes = b"\r\n\r\n", **fields: str) -> bytes:
    head = {"WARC-Type": kind, "WARC-Date": "2026-03-01T12:00:00Z"}
    head |= {name.replace("_", "-"): value for name, value in fields.items()}
    if length is not None:
        head["Content-Length"] = str(len(block) if length == -1 else length)
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"WARC/1.0\r\n{lines}\r\n".encode() + block + end


def response(body: bytes | str, *, number: int = 0, status: str = "200 OK", head: str = "", **options: object) -> bytes:
    data = body.encode() if isinstance(body, str) else body
    head = head or "Content-Type: text/html; charset=utf-8"
    block = f"HTTP/1.1 {status}\r\n{head}\r\n\r\n".encode() + data
    return record("response", block, WARC_Target_URI=f"https://www.News.example/{number}", **options)  # type: ignore[arg-type]


def page(number: int) -> bytes:
    return response(PAGE.replace("three", f"{number}"), number=number)


def read(data: bytes, compression: str = "", settings: IngestSettings = SETTINGS) -> list[Document | Refusal]:
    return list(read_warc(io.BytesIO(data), compression, settings))


def short(found: list[Document | Refusal]) -> list[str]:
    """The pages' numbers, and the refusals' reasons."""
    return [
        x.url.rsplit("/", 1)[1] if isinstance(x, Document) and x.url else str(getattr(x, "reason", x)) for x in found
    ]


def long_zstd(data: bytes) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    stream = io.BytesIO()
    with zstandard.ZstdCompressor(compression_params=parameters).stream_writer(stream, closefd=False) as writer:
        writer.write(data)
    return stream.getvalue()


PACKED: list[tuple[str, Callable[[list[bytes]], bytes]]] = [
    ("", b"".join),
    ("gzip", lambda records: b"".join(map(gzip.compress, records))),
    ("gzip", lambda records: gzip.compress(b"".join(records))),
    ("zstd", lambda records: b"".join(map(zstandard.compress, records))),
    ("zstd", lambda records: zstandard.compress(b"".join(records))),
    ("zstd", lambda records: long_zstd(b"".join(records))),
    ("bzip2", lambda records: bz2.compress(b"".join(records))),
    ("bzip2", lambda records: b"".join(map(bz2.compress, records))),
]


@pytest.mark.parametrize(("compression", "pack"), PACKED)
def test_records_are_read_however_they_are_packed(compression: str, pack: Callable[[list[bytes]], bytes]) -> None:
    records = [record("warcinfo", b"software: x")]
    for number in range(30):
        records += [record("request", b"GET / HTTP/1.1\r\n\r\n"), page(number), record("metadata", b"fetchTimeMs: 3")]
    found = read(pack(records), compression)
    assert short(found) == [str(number) for number in range(30)]
    assert found[3] == Document(
        text=PROSE.replace("three", "3"),
        url="https://www.News.example/3",
        timestamp=datetime(2026, 3, 1, 12, tzinfo=UTC),
        language=None,
        source="news.example",
        title="A page",
    )


def test_conversion_records_are_plain_documents() -> None:
    wet = record("warcinfo", b"x") + record(
        "conversion", PROSE.encode(), WARC_Target_URI="http://a.example/x", WARC_Identified_Content_Language="eng,deu"
    )
    (found,) = read(gzip.compress(wet), "gzip")
    assert isinstance(found, Document)
    assert (found.text, found.url, found.source, found.language) == (PROSE, "http://a.example/x", "a.example", "eng")
    assert short(read(record("conversion", b"\xff\xfe broken"))) == ["invalid UTF-8"]
    assert short(read(record("conversion", PAGE.encode(), WARC_Target_URI="http://a.example/7"))) == ["7"]


# -- record types ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "block", "content_type", "expected"),
    [
        ("resource", PAGE.encode(), "text/html", PROSE),
        ("resource", PAGE.encode(), "application/xhtml+xml; charset=utf-8", PROSE),
        ("resource", PAGE.encode(), "", PROSE),
        ("resource", PROSE.encode(), "text/plain", PROSE),
        ("resource", PROSE.encode("utf-16"), "text/plain; charset=utf-16", PROSE),
        ("resource", b"\x89PNG\r\n\x1a\n", "image/png", "content type"),
        ("resource", b"\x89PNG\r\n\x1a\n\0\0", "", "content type"),
        ("resource", b'{"urls": {}}', "application/json", "content type"),
        ("resource", PAGE.encode(), "application/octet-stream", PROSE),
        ("Resource", PAGE.encode(), "text/html", PROSE),
        ("conversion", PROSE.encode("utf-8"), "text/plain; charset=UTF-8", PROSE),
        ("conversion", PAGE.encode(), "text/html", PROSE),
        ("conversion", b"<p> is the tag of a paragraph.", "text/plain", "<p> is the tag of a paragraph."),
        ("response", PAGE.encode(), "text/html", PROSE),  # fetched by another protocol than HTTP
        ("response", b"20260101 site.example 3600 A 192.0.2.1", "text/dns", "content type"),
        ("continuation", PAGE.encode(), "text/html", "record type"),
        ("", PAGE.encode(), "text/html", "record type"),
    ],
)
def test_documents_are_found_by_type_and_content(kind: str, block: bytes, content_type: str, expected: str) -> None:
    data = record(kind, block, Content_Type=content_type, WARC_Target_URI="http://www.a.example/x")
    (found,) = read(data)
    if isinstance(found, Document):
        assert (found.text, found.url, found.source) == (expected, "http://www.a.example/x", "a.example")
    else:
        assert found.reason == expected
        assert found.detail.endswith("(http://www.a.example/x)")
        assert found.reason != "record type" or f"found {kind or 'none'} (" in found.detail


def test_the_text_that_a_crawler_took_of_a_page_has_the_address_of_the_page() -> None:
    (found,) = read(
        record("resource", PROSE.encode(), WARC_Target_URI="urn:text:http://a.example/x", Content_Type="text/plain")
    )
    assert isinstance(found, Document)
    assert (found.url, found.source) == ("http://a.example/x", "a.example")


def test_an_archive_without_documents_says_what_it_holds() -> None:
    others = (
        record("warcinfo", b"x") + record("request", b"GET /") * 2 + record("revisit", b"") + record("metadata", b"")
    )
    (found,) = read(others)
    assert isinstance(found, Refusal)
    assert (found.reason, found.location) == ("no documents in archive", "file")
    assert found.detail.endswith("found 1 × metadata, 2 × request, 1 × revisit, 1 × warcinfo")
    assert short(read(others + page(3))) == ["3"]
    assert read(b"") == []


def test_a_byte_order_mark_before_the_first_record_is_passed_over() -> None:
    assert short(read(b"\xef\xbb\xbf" + page(0) + page(1))) == ["0", "1"]


# -- zstd with a dictionary --------------------------------------------------------------------------------------


def with_dictionary(records: list[bytes], pack_dictionary: bool) -> bytes:
    samples = [page(number) + str(number).encode() * 50 for number in range(200)]
    dictionary = zstandard.train_dictionary(4096, samples)
    content = dictionary.as_bytes()
    if pack_dictionary:
        content = zstandard.compress(content)
    packer = zstandard.ZstdCompressor(dict_data=dictionary)
    frame = b"\x5d\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content
    return frame + b"".join(map(packer.compress, records))


@pytest.mark.parametrize("pack_dictionary", [False, True])
def test_an_archive_with_its_zstd_dictionary_opens(pack_dictionary: bool) -> None:
    packed = with_dictionary([page(number) for number in range(5)], pack_dictionary)
    assert short(read(packed, "zstd")) == [str(number) for number in range(5)]
    assert short(read(packed[:-5], "zstd")) == ["0", "1", "2", "3", "truncated stream"]


def test_a_dictionary_that_is_elsewhere_is_asked_for() -> None:
    packed = with_dictionary([page(0)], pack_dictionary=False)
    size = int.from_bytes(packed[4:8], "little")
    (found,) = read(packed[8 + size :], "zstd")
    assert isinstance(found, Refusal)
    assert (found.reason, found.detail.split(": ")[-1]) == (
        "corrupt stream",
        "compressed with an external dictionary; decompress it with zstd -d -D DICTIONARY",
    )


@pytest.mark.parametrize("content", [b"", b"any bytes", zstandard.compress(b"x" * 100), b"\x28\xb5\x2f\xfd broken"])
def test_skippable_frames_of_another_use_are_skipped(content: bytes) -> None:
    frame = b"\x5d\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content
    expected = ["corrupt stream"] if content.endswith(b"broken") else ["0"]
    assert short(read(frame + zstandard.compress(page(0)), "zstd")) == expected


# -- responses ---------------------------------------------------------------------------------------------------

GERMAN = "Die Brücke über den Fluß wurde für größere Züge geöffnet, und die Bürger hörten früh davon. " * 3
JAPANESE = "市議会は火曜日の夜に集まり、来年の春に開館する予定の新しい図書館について話し合いました。" * 3
RUSSIAN = "Городской совет собрался во вторник вечером, чтобы обсудить новое здание библиотеки. " * 3
CHARSETS = [
    (GERMAN, "utf-8", "utf-8"),
    (GERMAN, "utf-8", None),
    (GERMAN, "utf-8", "iso-8859-1"),  # the server's default, over a page that is UTF-8
    (GERMAN, "windows-1252", "utf-8"),  # wrong: does not decode
    (GERMAN, "windows-1252", "windows-1252"),
    (GERMAN, "utf-16", "utf-16"),  # with a byte order mark
    (GERMAN, "utf-16", "utf-8"),
    (GERMAN, "utf-16-le", "utf-16le"),
    (GERMAN, "utf-16-be", None),
    (JAPANESE, "shift_jis", "shift_jis"),
    (JAPANESE, "shift_jis", None),
    (JAPANESE, "euc-jp", "utf-8"),
    (JAPANESE, "iso-2022-jp", "iso-2022-jp"),
    (RUSSIAN, "koi8-r", "koi8-r"),
    (RUSSIAN, "koi8-r", None),
    (RUSSIAN, "windows-1251", "no-such-charset"),
    (RUSSIAN, "utf-8", "windows-1251"),
]


@pytest.mark.parametrize(("text", "encoding", "declared"), CHARSETS)
@pytest.mark.parametrize("kind", ["text/html", "text/plain"])
def test_charsets_right_wrong_and_missing(text: str, encoding: str, declared: str | None, kind: str) -> None:
    head = f"Content-Type: {kind}" + (f"; charset={declared}" if declared else "")
    body = f"<html><body><p>{text}</p></body></html>" if kind == "text/html" else text
    (found,) = read(response(body.encode(encoding), head=head))
    assert isinstance(found, Document), found
    assert found.text.strip() == text.strip()


def test_bytes_that_no_encoding_reads_are_refused() -> None:
    noise = bytes(range(256)) * 20
    assert short(read(response(noise, head="Content-Type: text/html; charset=utf-8"))) == ["invalid charset"]


def chunked(data: bytes) -> bytes:
    parts = [data[start : start + 40] for start in range(0, len(data), 40)]
    return b"".join(b"%x;name=value\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\nTrailer: x\r\n\r\n"


def raw_deflate(data: bytes) -> bytes:
    coder = zlib.compressobj(wbits=-15)
    return coder.compress(data) + coder.flush()


BODY = PAGE.encode()
HTML = "Content-Type: text/html\r\n"
BODIES = [
    ("Content-Encoding: gzip", gzip.compress(BODY)),
    ("Content-Encoding: x-gzip", gzip.compress(BODY)),
    ('Content-Encoding: "gzip"', gzip.compress(BODY)),
    ("Content-Encoding: gzip;q=1.0", gzip.compress(BODY)),
    ("Content-Encoding: application/gzip", gzip.compress(BODY)),
    ("Content-Encoding: x-deflate", zlib.compress(BODY)),
    ("Content-Encoding: br", brotli.compress(BODY)),
    ("Content-Encoding: deflate", zlib.compress(BODY)),
    ("Content-Encoding: deflate", raw_deflate(BODY)),
    ("Content-Encoding: zstd", zstandard.compress(BODY)),
    ("Content-Encoding: identity", BODY),
    ("Transfer-Encoding: chunked", chunked(BODY)),
    ("Transfer-Encoding: chunked\r\nContent-Encoding: gzip", chunked(gzip.compress(BODY))),
    ("Content-Encoding: deflate, gzip", gzip.compress(zlib.compress(BODY))),
    ("Content-Encoding: deflate\r\ncontent-encoding: gzip", gzip.compress(zlib.compress(BODY))),
    ("Transfer-Encoding: gzip, chunked", chunked(gzip.compress(BODY))),
    ("Transfer-Encoding: chunked;q=1", chunked(BODY)),
    ("Transfer-Encoding: identity", chunked(BODY)),
    ("X-Label: none", chunked(BODY)),
    ("Content-Encoding: gzip", chunked(gzip.compress(BODY))),
    ("Transfer-Encoding: gzip", gzip.compress(BODY)),
    ("X-Label: none", gzip.compress(BODY)),
    ("Content-Encoding: gzip", gzip.compress(BODY[:40]) + gzip.compress(BODY[40:])),
    ("Content-Encoding: gzip", gzip.compress(BODY) + b"\0\0garbage"),
    ("Content-Encoding: zstd", zstandard.compress(BODY[:40]) + zstandard.compress(BODY[40:])),
    ("Content-Encoding: zstd", zstandard.compress(BODY) + b"\0\0garbage"),
    # Stored decoded under the server's head.
    ("Content-Encoding: gzip", BODY),
    ("Content-Encoding: gzip, gzip", gzip.compress(BODY)),
    ("Content-Encoding: deflate", gzip.compress(BODY)),
    ("Content-Encoding: UTF-8", BODY),
    ("Content-Encoding: ISO-8859-1", BODY),
    ("Content-Encoding: binary", BODY),
    ("Content-Encoding: aws-chunked", BODY),
    ("Content-Encoding: compress", BODY),
    ("Content-Encoding: utf-8, gzip", gzip.compress(BODY)),
    ("Content-Encoding: br", BODY),
    ("Content-Encoding: deflate", BODY),
    ("Transfer-Encoding: chunked", BODY),
    # Another encoding than the head says, or more of them.
    ("Content-Encoding: gzip", gzip.compress(gzip.compress(BODY))),
    ("Content-Encoding: br", gzip.compress(BODY)),
    ("Content-Encoding: zstd", gzip.compress(BODY)),
    ("Content-Encoding: gzip", zlib.compress(BODY)),
    ("X-Label: none", zstandard.compress(BODY)),
    ("Transfer-Encoding: chunked", chunked(chunked(BODY))),
]


@pytest.mark.parametrize(("head", "body"), BODIES)
def test_bodies_are_decoded(head: str, body: bytes) -> None:
    (found,) = read(response(body, head=HTML + head))
    assert isinstance(found, Document), found
    assert found.text == PROSE


@pytest.mark.parametrize("before", [b"HTTP/1.0 200 Connection established\r\n\r\n", b"\r\n", b"\xef\xbb\xbf"])
def test_what_comes_before_a_response_is_passed_over(before: bytes) -> None:
    page = f"HTTP/1.1 200 OK\r\n{HTML}\r\n".encode() + BODY
    (found,) = read(record("response", before + page, WARC_Target_URI="https://site.example/"))
    assert isinstance(found, Document) and found.text == PROSE


BOMB = b"<html><body><p>" + b"word " * 4_000_000
NO_PAGES = [
    ({"status": "404 Not Found"}, BODY, "HTTP status", 404.0),
    ({"status": "301 Moved"}, b"", "HTTP status", 301.0),
    ({"head": "Content-Type: application/pdf"}, b"%PDF-1.7", "content type", None),
    ({"head": "Content-Type: image/png"}, b"\x89PNG", "content type", None),
    ({"head": HTML + "X-File: pdf"}, b"%PDF-1.4\n<< /Type /Page >>", "content type", None),
    ({"head": HTML + "X-File: json"}, b'{\n  "html": "<p>x</p>"}', "content type", None),
    ({"head": HTML + "X-File: zip"}, b"PK\x03\x04<html>", "content type", None),
    ({"head": HTML + "X-File: pdf"}, b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj", "content type", None),
    (
        {"head": HTML + "Content-Encoding: gzip"},
        gzip.compress(BODY) + gzip.compress(BODY)[:-20],
        "content encoding",
        None,
    ),
    ({"head": HTML + "Content-Encoding: gzip"}, gzip.compress(BODY)[:-20], "content encoding", None),
    ({"head": HTML + "Content-Encoding: br"}, brotli.compress(BODY * 9)[:-5], "content encoding", None),
    ({"head": HTML + "Content-Encoding: compress"}, b"\x1f\x9d\x90\0" + bytes(range(99)), "content encoding", None),
    ({"head": HTML + "Content-Encoding: zstd"}, zstandard.compress(BODY * 9)[:-5], "content encoding", None),
    ({"head": HTML + "Transfer-Encoding: chunked"}, chunked(BODY)[:60], "broken response", None),
    ({"head": HTML + "Content-Encoding: gzip"}, gzip.compress(BOMB), "decompression bomb", None),
    ({"head": HTML + "Content-Encoding: br"}, brotli.compress(BOMB), "decompression bomb", None),
    ({"head": HTML + "Content-Encoding: zstd"}, zstandard.compress(BOMB), "decompression bomb", None),
    ({}, b"<html><body><script>x()</script></body></html>", "no main text", None),
    ({}, b"", "no main text", None),
    ({"head": "Content-Type: text/plain"}, b"  ", "empty text", None),
]


@pytest.mark.parametrize(("options", "body", "reason", "value"), NO_PAGES)
def test_responses_that_are_no_documents(
    options: dict[str, str], body: bytes, reason: str, value: float | None
) -> None:
    (found,) = read(response(body, number=7, **options))
    assert isinstance(found, Refusal)
    assert (found.reason, found.value, found.location) == (reason, value, "record 0, byte 0")
    assert found.detail.endswith("(https://www.News.example/7)")


def test_a_body_may_grow_to_the_limit_of_its_decoder() -> None:
    for encoding, pack in [("gzip", gzip.compress), ("br", brotli.compress), ("zstd", zstandard.compress)]:
        body = PAGE.replace("three", "many " * 100_000).encode()
        (found,) = read(response(pack(body), head=HTML + f"Content-Encoding: {encoding}"))
        assert isinstance(found, Document), found
        assert found.text.count("many") == 100_000


LONG = (
    f"<html><body><h1>Head</h1>{''.join(f'<p>{number}: {PROSE}</p>' for number in range(300))}</body></html>".encode()
)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("Content-Encoding: gzip", gzip.compress(LONG)),
        ("Content-Encoding: deflate", zlib.compress(LONG)),
        ("Content-Encoding: br", brotli.compress(LONG, quality=1)),
        ("Content-Encoding: zstd", b"".join(zstandard.compress(LONG) for _ in range(1))),
        ("Transfer-Encoding: chunked", chunked(LONG)),
        ("Transfer-Encoding: chunked\r\nContent-Encoding: gzip", chunked(gzip.compress(LONG))),
        ("Server: x", LONG),
    ],
)
def test_a_page_that_its_crawler_cut_is_a_document(head: str, body: bytes) -> None:
    cut = body[: len(body) * 2 // 3]
    (found,) = read(response(cut, head=HTML + head, WARC_Truncated="length"))
    if "zstd" in head:  # one block: nothing can be decoded
        assert isinstance(found, Refusal)
        return
    assert isinstance(found, Document), found
    assert found.text.startswith(f"Head\n\n0: {PROSE}\n\n1: {PROSE}")
    if "Encoding" in head:
        assert short(read(response(cut, head=HTML + head)))[0] in ("content encoding", "broken response")


@pytest.mark.parametrize("first", ["2024\r\n", "Added\n", "Dad\n", "1\n", "F\r\n"])
def test_a_body_stored_without_its_chunks_may_begin_like_one(first: str) -> None:
    head = "Content-Type: text/plain\r\nTransfer-Encoding: chunked"
    (found,) = read(response(first + PROSE, head=head))
    assert isinstance(found, Document), found
    assert found.text == first + PROSE


@pytest.mark.parametrize("interim", ["100 Continue\r\n\r\n", "103 Early Hints\r\nLink: </a.css>\r\n\r\n"])
def test_interim_responses_are_passed_over(interim: str) -> None:
    block = f"HTTP/1.1 {interim}" * 2 + f"HTTP/1.1 200 OK\r\n{HTML}\r\n{PAGE}"
    assert short(read(record("response", block.encode(), WARC_Target_URI="http://a.example/0"))) == ["0"]
    (found,) = read(record("response", f"HTTP/1.1 {interim}".encode()))
    assert isinstance(found, Refusal)
    assert found.reason == "HTTP status"


@pytest.mark.parametrize(
    "label",
    [
        "text/html, text/html; charset=utf-8",
        "text/html,charset=utf-8",
        "text/html charset=utf-8",
        "text/html;;",
        "TEXT/HTML",
        "application/octet-stream, text/html",
        "charset=utf-8",
        "html",
        "html; charset=utf-8",
        "text",
        "*/*",
        "unknown/unknown",
        "application/unknown",
        "application/octet-stream",
        "none",
        "text/plain",
        "text/htm",
        "text/html+xml",
        "application/xhtml",
        "text/x-server-parsed-html",
        "application/vnd.wap.xhtml+xml; charset=utf-8",
        "text/xml",
        "application/xml",
        "",
        None,
    ],
)
@pytest.mark.parametrize(
    "start", ["<html>", "<!DOCTYPE html>", "\n<!-- made by x -->\n<html>", "\ufeff<!doctype html><html>"]
)
def test_pages_with_a_missing_or_odd_type_are_pages(label: str | None, start: str) -> None:
    head = "Server: x" if label is None else f"Content-Type: {label}"
    (found,) = read(response(PAGE.replace("<html>", start), head=head))
    assert isinstance(found, Document), found
    assert (found.text, found.title) == (PROSE, "A page")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"<p>{PROSE}</p>", PROSE),
        (f'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "x" "y"><html><body><p>{PROSE}</p></body></html>', PROSE),
        (PROSE, PROSE),
        (PROSE.encode("utf-16"), PROSE),
        (PAGE.encode("utf-16"), PROSE),
        (RUSSIAN.encode("windows-1251"), RUSSIAN),
        (JAPANESE.encode("iso-2022-jp"), JAPANESE),
        ('<?xml version="1.0"?><rss><channel></channel></rss>', "content type"),
        ("3\r\nabc\r\n0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n"),  # numbers, not chunks: no page is within
        ("<feed><entry>x</entry></feed>", "content type"),
        (b"%PDF-1.7 \x00\x01", "content type"),
        (b"\x00\x01\x02 anything", "content type"),
    ],
)
def test_what_has_no_type_is_told_by_its_first_bytes(body: str | bytes, expected: str) -> None:
    (found,) = read(response(body, head="Server: x"))
    assert (found.text.strip() if isinstance(found, Document) else found.reason) == expected.strip()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("One line.\n\n  Another,   indented.\n", "One line.\n\n  Another,   indented.\n"),
        ("Fish &amp; chips\nand peas", "Fish & chips and peas"),
        ("1 &lt; 2", "1 < 2"),
    ],
)
def test_plain_text_that_is_served_as_a_page_keeps_its_lines(body: str, expected: str) -> None:
    (found,) = read(response(body))
    assert isinstance(found, Document) and found.text.strip() == expected.strip()


def test_a_page_without_a_head_is_a_page() -> None:
    assert [x.text for x in read(record("response", PAGE.encode())) if isinstance(x, Document)] == [PROSE]


def test_heads_with_bare_line_feeds_and_without_a_reason_are_read() -> None:
    block = f"HTTP/2 200\nContent-Type: TEXT/HTML\n\n{PAGE}".encode()
    assert [x.text for x in read(record("response", block)) if isinstance(x, Document)] == [PROSE]
    assert short(read(record("response", b"no head at all"))) == ["broken response"]


# -- broken archives ---------------------------------------------------------------------------------------------

WHOLE = [page(number) for number in range(4)]
HEADLESS = b"WARC/1.0\r\nWARC-Type: response\r\n"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\r\n\r\n\n", []),
        (b"garbage " * 40_000, ["broken record"]),
        (bytes(range(256)) * 40, ["broken record"]),
        (WHOLE[0] + b"garbage\r\n\r\n" + WHOLE[1], ["0", "broken record", "1"]),
        (WHOLE[0] + b"x" * 200_000 + b"\n" + WHOLE[1], ["0", "broken record", "1"]),
        (WHOLE[0] + response(PAGE, length=None) + WHOLE[2], ["0", "broken record", "2"]),
        (WHOLE[0] + response(PAGE, length="many") + WHOLE[2], ["0", "broken record", "2"]),
        (WHOLE[0] + response(PAGE, length=-5) + WHOLE[2], ["0", "broken record", "2"]),
        (WHOLE[0] + response(PAGE, length=100) + WHOLE[2], ["0", "broken record", "2"]),
        (WHOLE[0] + response(PAGE, length=400) + WHOLE[2] + WHOLE[3], ["0", "broken record", "2", "3"]),
        (WHOLE[0] + response(PAGE, length=2000) + WHOLE[2] + WHOLE[3], ["0", "broken record", "2", "3"]),
        (WHOLE[0] + response(PAGE, length=2000), ["0", "truncated stream"]),
        (WHOLE[0] + HEADLESS + b"X: y\r\n" * 20_000 + b"\r\n" + WHOLE[1], ["0", "broken record", "1"]),
        (WHOLE[0] + WHOLE[1][:-150], ["0", "truncated stream"]),
        (WHOLE[0] + WHOLE[1][:50], ["0", "truncated stream"]),
        (WHOLE[0] + WHOLE[1][:-4], ["0", "1"]),  # only the line ends are missing
        (WHOLE[0][:-4] + WHOLE[1], ["0", "1"]),
        (b"".join(x.replace(b"\r\n", b"\n", 4) for x in WHOLE), ["0", "1", "2", "3"]),
    ],
)
def test_what_is_broken_is_refused_and_the_rest_is_read(data: bytes, expected: list[str]) -> None:
    assert short(read(data)) == expected


def test_refusals_tell_the_place_and_show_the_bytes() -> None:
    data = WHOLE[0] + response(PAGE, length=None) + WHOLE[2] + b"junk"
    _, lost, _, junk = read(data)
    assert isinstance(lost, Refusal)
    assert isinstance(junk, Refusal)
    assert lost.location == f"record 1, byte {len(WHOLE[0]) - 4 + 4}"
    assert lost.excerpt.startswith(b"WARC/1.0\r\nWARC-Type: response")
    assert data[int(junk.location.rsplit(" ", 1)[1]) :] == b"junk" == junk.excerpt


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "bzip2": bz2.compress,
}


@pytest.mark.parametrize("compression", PACKERS)
@pytest.mark.parametrize("whole", [False, True])
def test_a_torn_stream_gives_what_it_has_and_one_refusal(compression: str, whole: bool) -> None:
    pack = PACKERS[compression]
    packed = [pack(b"".join(WHOLE))] if whole else [pack(data) for data in WHOLE]
    found = read(b"".join(packed)[:-40], compression)
    assert short(found)[-1] == "truncated stream"
    assert short(found)[:-1] == ["0", "1", "2", "3"][: len(found) - 1]
    assert len(found) == 4 or whole


@pytest.mark.parametrize("compression", PACKERS)
def test_a_corrupt_stream_gives_what_it_has_and_one_refusal(compression: str) -> None:
    first, *rest = [PACKERS[compression](data) for data in WHOLE]
    spoiled = bytearray(rest[0])
    spoiled[20:120] = bytes(100)
    assert short(read(first + bytes(spoiled) + b"".join(rest[1:]), compression)) == ["0", "corrupt stream"]
    assert short(read(first + b"no stream", compression)) == ["0", "corrupt stream"]


@pytest.mark.parametrize("compression", PACKERS)
def test_an_empty_compressed_file_is_refused(compression: str) -> None:
    assert short(read(b"", compression)) == ["truncated stream"]


def test_long_records_are_passed_over() -> None:
    settings = IngestSettings(max_record_bytes=2000)
    long = response(PAGE + "x" * 300_000, number=1)
    assert short(read(WHOLE[0] + long + WHOLE[2], settings=settings)) == ["0", "record too long", "2"]
    assert short(read(WHOLE[0] + long[:-1000], settings=settings)) == ["0", "truncated stream"]


@settings(deadline=None)
@given(st.integers(0, len(b"".join(WHOLE))))
def test_a_file_cut_anywhere_gives_the_records_before_the_cut(cut: int) -> None:
    data = b"".join(WHOLE)[:cut]
    ends = [len(b"".join(WHOLE[: number + 1])) - 4 for number in range(4)]
    pages = [name for name in short(read(data)) if name.isdigit()]
    assert pages == [str(number) for number in range(4) if cut >= ends[number]]


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(0, 3))
def test_no_bytes_between_records_cost_a_whole_record(noise: bytes, place: int) -> None:
    data = b"".join(WHOLE[:place]) + noise + b"\n" + b"".join(WHOLE[place:])
    assert [name for name in short(read(data)) if name.isdigit()] == ["0", "1", "2", "3"]


@settings(deadline=None)
@given(st.binary(max_size=2000))
def test_any_bytes_are_read_without_an_error(noise: bytes) -> None:
    read(noise)
    read(b"WARC/1.0\r\n" + noise)
    read(response(noise))
    read(response(noise, head="Content-Type: text/html\r\nTransfer-Encoding: chunked\r\nContent-Encoding: br"))


def test_records_that_only_describe_others_are_counted_beside_documents() -> None:
    """Neither documents nor losses, but said with a number, once for each shard."""
    around = record("warcinfo", b"x") + (record("request", b"GET /") + record("revisit", b"")) * 3
    passed: Counter[str] = Counter()
    assert short(list(read_warc(io.BytesIO(around + page(1) + page(2)), "", SETTINGS, passed))) == ["1", "2"]
    assert passed == {"record of type warcinfo": 1, "record of type request": 3, "record of type revisit": 3}
    account = Account.of([READ])
    account.steps[READ].passed_over.update(passed)
    account.add(account.from_json(account.to_json()))
    assert account.to_json()["steps"][0]["passed_over"]["record of type request"] == 6
    assert account.refused.total() == 0
