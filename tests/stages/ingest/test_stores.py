"""Object stores and web servers, through real ones: listing, reading at any place, credentials, and what goes wrong."""

import gzip
import io
import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_stores import amazon, boto, google, put_google, web

from rewarm.stages.core.errors import StageError, UnreachableError, UsageError
from rewarm.stages.ingest import IngestSettings, digest_inputs, find_inputs, look, opening
from rewarm.stages.ingest.locations import InputFile
from rewarm.stages.ingest.readers import read_piece
from rewarm.stages.ingest.records import Document, Reason
from rewarm.stages.ingest.settings import StorageSettings
from rewarm.stages.ingest.shards import Piece, make_shards

TEXTS = [f"text {number}" for number in range(400)]
LINES = b"".join(json.dumps({"text": text}).encode() + b"\n" for text in TEXTS)


def columns(kind: str) -> bytes:
    table = pa.table({"text": TEXTS})
    sink = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, sink, row_group_size=100, use_dictionary=False)
    else:
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=100)
    return sink.getvalue()


OBJECTS = {
    "crawl/a b/ö #1%20.jsonl": LINES,
    "crawl/a b/x.jsonl.gz": gzip.compress(LINES),
    "crawl/c/x.parquet": columns("parquet"),
    "crawl/c/y.arrow": columns("arrow"),
    "crawl/c/_SUCCESS": b"done",
    "crawl/c/.hidden.jsonl": LINES,
    "crawl/paths.gz": gzip.compress(b"a b/x.jsonl.gz\nc/x.parquet\n"),
    "other/z.jsonl": b'{"text": "z"}\n',
}
NAMES = ["a b/x.jsonl.gz", "a b/ö #1%20.jsonl", "c/x.parquet", "c/y.arrow"]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with amazon() as endpoint:
        client = boto("s3", endpoint)
        client.create_bucket(Bucket="bucket", ACL="public-read")
        client.create_bucket(Bucket="closed")
        for key, data in OBJECTS.items():
            client.put_object(Bucket="bucket", Key=key, Body=data, ACL="public-read")
        client.put_object(Bucket="bucket", Key="crawl/folder-mark/", Body=b"", ACL="public-read")
        client.put_object(Bucket="closed", Key="x.jsonl", Body=LINES)
        yield endpoint


@pytest.fixture(scope="module")
def gs() -> Iterator[str]:
    with google() as endpoint:
        for key, data in OBJECTS.items():
            put_google(endpoint, key, data)
        yield endpoint


@pytest.fixture(params=["s3", "gs"])
def store(request: pytest.FixtureRequest) -> tuple[str, IngestSettings]:
    endpoint = request.getfixturevalue(request.param)
    return f"{request.param}://bucket", settings(endpoint)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def settings(endpoint: str, anonymous: bool = True, **more: Any) -> IngestSettings:
    return IngestSettings(storage=StorageSettings(endpoint=f"http://{endpoint}", anonymous=anonymous), **more)


def names(paths: list[str], settings: IngestSettings) -> list[str]:
    return [file.name for file in find_inputs(paths, settings)]


def texts(file: InputFile, settings: IngestSettings) -> list[Any]:
    return [
        record.text
        for shard in make_shards([file], settings)
        for p in shard.pieces
        for record in read_piece(p, settings)
    ]


def test_folders_files_and_patterns(store: tuple[str, IngestSettings]) -> None:
    bucket, settings = store
    assert names([f"{bucket}/crawl"], settings) == names([f"{bucket}/crawl/"], settings) == NAMES
    assert names([f"{bucket}/crawl/c/x.parquet"], settings) == ["x.parquet"]
    assert names([bucket], settings) == [f"crawl/{name}" for name in NAMES] + ["other/z.jsonl"]
    assert names([f"{bucket}/crawl/*/x.*"], settings) == ["a b/x.jsonl.gz", "c/x.parquet"]
    assert names([f"{bucket}/**/*.jsonl"], settings) == ["crawl/a b/ö #1%20.jsonl", "other/z.jsonl"]
    assert names([f"{bucket}/cra?l/[c]"], settings) == ["crawl/c/x.parquet", "crawl/c/y.arrow"]
    assert names([f"{bucket}/*/z.jsonl", f"{bucket}/other"], settings) == ["other/z.jsonl"]


def test_everything_is_read_whole_and_in_pieces(store: tuple[str, IngestSettings]) -> None:
    bucket, settings = store
    for file in find_inputs([f"{bucket}/crawl"], settings):
        for size in (2**20, 1500):
            assert texts(file, settings.model_copy(update={"shard_bytes": size})) == TEXTS, (file.name, size)


def test_a_listed_file_needs_no_settings_and_its_digest_no_place(s3: str) -> None:
    files = find_inputs(["s3://bucket/crawl"], settings(s3))
    assert all(f"endpoint_override=127.0.0.1%3A{s3.partition(':')[2]}" in file.path for file in files)
    assert [len(list(read_piece(Piece(file), IngestSettings()))) for file in files] == [400] * 4
    query = find_inputs([f"s3://anonymous@bucket/crawl?endpoint_override={s3}&scheme=http"], IngestSettings())
    assert query == files
    elsewhere = [InputFile("s3://mirror/" + f.name, f.name, f.size, f.format, f.compression, f.version) for f in files]
    assert digest_inputs(elsewhere) == digest_inputs(files)
    elsewhere[0] = find_inputs(["s3://bucket/other/z.jsonl"], settings(s3))[0]
    assert digest_inputs(elsewhere) != digest_inputs(files)


def test_manifests(store: tuple[str, IngestSettings], tmp_path: Path) -> None:
    bucket, settings = store
    assert names([f"@{bucket}/crawl/paths.gz"], settings) == ["a b/x.jsonl.gz", "c/x.parquet"]
    (tmp_path / "list.txt").write_text("crawl/c/x.parquet\ncrawl/a b\n")
    prefixed = settings.model_copy(update={"manifest_prefix": bucket})
    assert names([f"@{tmp_path}/list.txt"], prefixed) == ["c/x.parquet", "a b/x.jsonl.gz", "a b/ö #1%20.jsonl"]


def test_several_places_at_once(s3: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(LINES)
    found = names([str(tmp_path), "s3://bucket/other", "s3://bucket/crawl/c"], settings(s3))
    assert found == ["x.jsonl", "bucket/other/z.jsonl", "bucket/crawl/c/x.parquet", "bucket/crawl/c/y.arrow"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nothing", "no such file or folder"),
        ("nothing/*.jsonl", "nothing matches this pattern"),
        ("crawl/c/_SUCCESS", "unknown suffix"),
        ("crawl/c/_S*", "matches no file that rewarm reads"),
    ],
)
def test_refused_keys(store: tuple[str, IngestSettings], path: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_inputs([f"{store[0]}/{path}"], store[1])


def test_a_bucket_that_is_closed_to_strangers(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"closed/x.jsonl.*cannot be read .*ACCESS_DENIED.*check .* the credentials"):
        find_inputs(["s3://closed/x.jsonl"], settings(s3))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    (file,) = find_inputs(["s3://closed/x.jsonl?region=us-east-1"], settings(s3, anonymous=False))
    assert texts(file, IngestSettings()) == TEXTS


def test_credentials_are_checked_by_the_store(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    iam = boto("iam", s3)
    iam.create_user(UserName="reader")
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    rule = {"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}], "Version": "2012-10-17"}
    iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=json.dumps(rule))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    with checked_keys(s3):  # two regions are two connections, each with the credentials of its time
        (file,) = find_inputs(["s3://closed/x.jsonl?region=eu-west-1"], settings(s3, anonymous=False))
        assert texts(file, IngestSettings()) == TEXTS
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(UsageError, match="cannot be read"):
            find_inputs(["s3://closed/x.jsonl?region=eu-west-2"], settings(s3, anonymous=False))


@contextmanager
def checked_keys(endpoint: str) -> Iterator[None]:
    """The store looks at keys meanwhile."""
    answer_unseen(endpoint, b"0")
    try:
        yield
    finally:
        answer_unseen(endpoint, b"inf")


def answer_unseen(endpoint: str, questions: bytes) -> None:
    url = f"http://{endpoint}/moto-api/reset-auth"
    urllib.request.urlopen(urllib.request.Request(url, questions, {"Content-Type": "text/plain"})).close()


def test_a_store_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARM_STORE_DEADLINE", "1")
    with pytest.raises(UnreachableError, match=r"s3://bucket: no response .*Check the address, the network"):
        find_inputs(["s3://bucket/x.jsonl"], settings("127.0.0.1:1"))
    file = InputFile("s3://anonymous@bucket/x.parquet?endpoint_override=127.0.0.1:1&scheme=http", "x", 9, "parquet", "")
    with pytest.raises(UnreachableError):  # a failed network is no broken file
        list(read_piece(Piece(file), IngestSettings()))


def test_an_object_written_again(s3: str) -> None:
    client = boto("s3", s3)
    client.put_object(Bucket="bucket", Key="fresh/x.jsonl", Body=LINES, ACL="public-read")
    (file,) = find_inputs(["s3://bucket/fresh"], settings(s3))
    client.put_object(Bucket="bucket", Key="fresh/x.jsonl", Body=LINES + LINES, ACL="public-read")
    with pytest.raises(StageError, match="changed after the data was listed"):
        list(read_piece(Piece(file), IngestSettings()))
    client.delete_object(Bucket="bucket", Key="fresh/x.jsonl")
    with pytest.raises(FileNotFoundError):
        list(read_piece(Piece(file), IngestSettings()))


def test_of_large_remote_files_only_the_beginning_is_looked_at(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "REMOTE_BYTES", 2000)
    client = boto("s3", s3)
    for key, data in (("late", b"{}\n" * 2000 + LINES), ("none", b"{}\n" * 100), ("early", LINES * 10)):
        client.put_object(Bucket="bucket", Key=f"look/{key}.jsonl.gz", Body=gzip.compress(data), ACL="public-read")
        client.put_object(Bucket="bucket", Key=f"look/{key}.jsonl", Body=data, ACL="public-read")
    assert names(["s3://bucket/look/late.jsonl"], settings(s3)) == ["late.jsonl"], "it may hold one further on"
    assert names(["s3://bucket/look/early.jsonl.gz"], settings(s3)) == ["early.jsonl.gz"]
    with pytest.raises(UsageError, match=r"no documents found \(200 × text field missing"):
        find_inputs(["s3://bucket/look/none*"], settings(s3))


# -- web servers -------------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for key, data in OBJECTS.items():
        path = tmp_path / "site" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "site"


@pytest.mark.parametrize("ranges", [False, True])
def test_files_of_a_web_server(site: Path, ranges: bool) -> None:
    with web(site, ranges) as server:
        (site / "list.txt").write_text(
            f"{server.url}/crawl/a%20b/%C3%B6%20%231%2520.jsonl?token=1\ncrawl/c/x.parquet\ncrawl/c/y.arrow\n"
            "crawl/a%20b/x.jsonl.gz\n"
        )
        files = find_inputs([f"@{server.url}/list.txt"], IngestSettings())
        assert [file.name for file in files] == ["a b/ö #1%20.jsonl", "c/x.parquet", "c/y.arrow", "a b/x.jsonl.gz"]
        assert [file.size for file in files] == [
            len(OBJECTS[f"crawl/{name}"]) for name in (NAMES[1], NAMES[2], NAMES[3], NAMES[0])
        ]
        for file in files:
            for size in (2**20, 1500):
                assert texts(file, IngestSettings(shard_bytes=size)) == TEXTS, file.name


def test_a_web_server_that_refuses(site: Path) -> None:
    with web(site) as server:
        with pytest.raises(UsageError, match=r"x.jsonl: no such file or folder"):
            find_inputs([f"{server.url}/x.jsonl"], IngestSettings())
        with pytest.raises(UsageError, match="unknown suffix"):
            find_inputs([f"{server.url}/crawl/"], IngestSettings())
    with pytest.raises(UnreachableError, match=r"cannot be read .*check the address"):
        find_inputs([f"{server.url}/other/z.jsonl"], IngestSettings())


def test_a_connection_that_breaks_is_no_broken_file(site: Path) -> None:
    with web(site) as server:
        file = find_inputs([f"{server.url}/crawl/a%20b/x.jsonl.gz"], IngestSettings())[0]
        for _ in range(2):
            server.cut = 500
            with pytest.raises(OSError) as failed:
                list(read_piece(Piece(file), IngestSettings()))
            assert failed.value.errno
        server.cut = None
        records = list(read_piece(Piece(file), IngestSettings()))
    assert len(records) == 400
    assert all(isinstance(record, Document) for record in records)


def test_a_page_that_changes(site: Path) -> None:
    with web(site) as server:
        (file,) = find_inputs([f"{server.url}/other/z.jsonl"], IngestSettings())
        (site / "other" / "z.jsonl").write_bytes(LINES)
        with pytest.raises(StageError, match="changed after the data was listed"):
            list(read_piece(Piece(file), IngestSettings()))


def test_a_broken_remote_file_is_a_refusal(s3: str) -> None:
    client = boto("s3", s3)
    client.put_object(Bucket="bucket", Key="torn/x.parquet", Body=OBJECTS["crawl/c/x.parquet"][:-9], ACL="public-read")
    client.put_object(Bucket="bucket", Key="torn/z.jsonl", Body=LINES, ACL="public-read")
    file = find_inputs(["s3://bucket/torn"], settings(s3))[0]
    (record,) = read_piece(Piece(file), IngestSettings())
    assert not isinstance(record, Document)
    assert record.reason == Reason.UNREADABLE_PARQUET


def test_one_connection_serves_many_files() -> None:
    assert opening.web() is opening.web()
