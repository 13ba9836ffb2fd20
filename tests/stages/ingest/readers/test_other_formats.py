"""Files that are not what their name says, and pages in forms that HTML's parser does not know: told, or read."""

import gzip
import json
from pathlib import Path

import pytest
from ingest_files import read

from rewarm.stages.core.errors import UsageError
from rewarm.stages.ingest.html.extract import read_page
from rewarm.stages.ingest.readers.payload import media_type
from rewarm.stages.ingest.records import Document, Refusal
from rewarm.stages.ingest.settings import IngestSettings
from rewarm.stages.ingest.sources import find_inputs

SENTENCE = "The ferry leaves the island at seven in the morning and comes back after the market closes. "
ARC = (
    b"filedesc://x.arc 0.0.0.0 20050101000000 text/plain 70\n1 0 Org\nURL IP-address Archive-date Content-type "
    b"Archive-length\n\nhttp://a.example/ 1.2.3 20050101000000 text/html 70\nHTTP/1.0 200 OK\r\n\r\n<p>The ferry</p>\n"
)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"{\\rtf1\\ansi " + SENTENCE.encode() + b"}", "found RTF"),
        (b"%!PS-Adobe-3.0\n" + SENTENCE.encode(), "found PostScript"),
        (SENTENCE.encode("utf-16-le"), "NUL bytes (binary data, or UTF-16 without a byte order mark)"),
        (b"a\0b\0" * 40, "80 NUL bytes"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><html><body><p>" + SENTENCE.encode(), "found an HTML page"),
        (b'<?xml version="1.0"?>\n<html lang="en"><p>' + SENTENCE.encode(), "found an HTML page"),
        (ARC, "found ARC (the archives before WARC: convert it"),
    ],
)
def test_a_text_file_that_is_no_text_is_refused(tmp_path: Path, data: bytes, found: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    (record,) = read(path)
    assert isinstance(record, Refusal)
    assert (record.reason, found in record.detail) == ("another format", True), record.detail


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.txt", SENTENCE.encode() + b"\0" + SENTENCE.encode()),
        ("a.txt", b"<html> is the first tag of a page, says the manual." + SENTENCE.encode()[:0]),
        ("a.txt", b"<b>bold</b> " + SENTENCE.encode()),
        ("a.md", b"<html><body>" + SENTENCE.encode()),
    ],
)
def test_text_that_is_no_other_format_is_read(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    (record,) = read(path)
    assert isinstance(record, Document) == (b"<html> is" not in data)


@pytest.mark.parametrize("name", ["old.arc", "old.arc.gz", "OLD.ARC"])
def test_an_arc_archive_is_named_as_such(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(ARC) if name.endswith("gz") else ARC)
    for path in (tmp_path / name, tmp_path):
        with pytest.raises(UsageError, match="archives before WARC: convert it, as with `warcio recompress"):
            find_inputs([str(path)], IngestSettings())
    renamed = tmp_path / "new.warc.gz"
    renamed.write_bytes(gzip.compress(ARC))
    (record,) = read(renamed)
    assert isinstance(record, Refusal) and "found ARC (the archives before WARC" in record.detail


def joined(*texts: str) -> bytes:
    return b"".join(b"\xef\xbb\xbf" + json.dumps({"text": text}).encode() + b"\n" for text in texts)


def test_files_that_were_joined_have_byte_order_marks_within(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(joined(SENTENCE, SENTENCE * 2, "\ufeff" + SENTENCE))
    assert [record.text for record in read(path)] == [SENTENCE, SENTENCE * 2, SENTENCE]


@pytest.mark.parametrize("text", ["\u200b\u200b\ufeff \u00a0\u3000", "\0\1\2", "\u00ad \u200d\n\u2060"])
def test_a_text_of_nothing_visible_is_empty(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(joined(text, f"{text}x{text}"))
    empty, kept = read(path)
    assert isinstance(empty, Refusal) and empty.reason == "empty text"
    assert isinstance(kept, Document) and kept.text == f"{text}x{text}".removeprefix("\ufeff")


@pytest.mark.parametrize(
    ("body", "declared", "mime"),
    [
        (b'{"html": "<p>The ferry</p>"}', "text/html", "application/json"),
        (b' [{"a": 1}, {"b": "<br>"}]', "text/html", "application/json"),
        (b'{"a": <p>', "text/html", "text/html"),
        (b"{\\rtf1 The ferry}", "text/plain", "application/rtf"),
        (b"%!PS-Adobe-3.0", "text/plain", "application/postscript"),
        (b"{curly} text", "text/plain", "text/plain"),
    ],
)
def test_the_bytes_decide_where_the_label_is_wrong(body: bytes, declared: str, mime: str) -> None:
    assert media_type(body, declared) == mime


def text_of(source: str) -> str:
    return read_page(source).text


@pytest.mark.parametrize("tag", ["noframes", "NOFRAMES"])
def test_the_text_of_a_page_of_frames_is_read_without_its_markup(tag: str) -> None:
    page = f"<html><head><title>T</title></head><frameset cols='20%,*'><frame src=a.html><{tag}><body>"
    text = text_of(f"{page}<h1>Times</h1><p>{SENTENCE * 3}</p></body></{tag}></frameset></html>")
    assert text == f"Times\n\n{(SENTENCE * 3).strip()}"


@pytest.mark.parametrize(
    "head", ['<?xml version="1.0"?>', '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "x">']
)
def test_elements_that_xhtml_closes_at_once_hold_nothing(head: str) -> None:
    page = (
        f'{head}<html xmlns="http://www.w3.org/1999/xhtml"><head><title/><script src="a/b.js"/></head><body>'
        f'<div class="nav"/><h1><a id="top"/>Times</h1><textarea rows="2"/><p>{SENTENCE * 2}<br/>{SENTENCE}</p>'
        '<iframe src="x" /><p>Last of all.</p>'
    )
    text = text_of(page)
    assert text.split("\n\n")[0] == "Times" and text.count(SENTENCE.strip()) == 3 and text.endswith("Last of all.")


def test_what_follows_the_target_of_a_link_is_no_link() -> None:
    parts = "".join(f"<h2><a name=s{n}/>Part {n}</h2><div>{SENTENCE * 2}</div>" for n in range(5))
    text = text_of(f"<html><body><div id=a><h1>Times</h1>{parts}</div><ul><li><a href=/>Home</a></ul></body></html>")
    assert text.count(SENTENCE.strip()) == 10 and "Part 4" in text


@pytest.mark.parametrize(
    "page",
    [
        "<main aria-hidden=true>{}</main><div role=dialog><p>We would like to ask you a question.</p></div>",
        "<div id=root aria-hidden=true><h1>Times</h1>{}</div><div role=dialog><p>Would you?</p></div>",
    ],
)
def test_the_page_behind_an_open_dialog_is_its_text(page: str) -> None:
    text = text_of(f"<html><body>{page.format(f'<p>{SENTENCE * 3}</p>')}</body></html>")
    assert text.endswith((SENTENCE * 3).strip())


def test_hidden_parts_stay_out() -> None:
    text = text_of(
        f"<body><main><p>{SENTENCE * 3}</p><div aria-hidden=true><p>An icon.</p></div></main><main hidden>No.</main>"
    )
    assert "icon" not in text and "No." not in text
