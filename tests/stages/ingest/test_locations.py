"""Paths and URIs: what is a query, what is a name, and what may not be in either."""

import pytest

from rewarm.stages.core.errors import UsageError
from rewarm.stages.ingest.locations import Location, locate
from rewarm.stages.ingest.settings import StorageSettings


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("/a b/../c#%20?.jsonl", Location("", "/c#%20?.jsonl")),
        ("file:///a/b", Location("", "/a/b")),
        ("s3://bucket/a b/ö#1%20?.jsonl", Location("s3", "bucket/a b/ö#1%20?.jsonl")),
        ("s3://bucket/part-?.jsonl?x=1", Location("s3", "bucket/part-?.jsonl?x=1")),
        ("s3://bucket/folder/", Location("s3", "bucket/folder")),
        ("gcs://bucket", Location("gs", "bucket")),
        ("gs://anonymous@bucket/x", Location("gs", "bucket/x", (("anonymous", "true"),))),
        (
            "s3://bucket/x-?.gz?endpoint_override=localhost%3A9000&scheme=http",
            Location("s3", "bucket/x-?.gz", (("endpoint_override", "localhost:9000"), ("scheme", "http"))),
        ),
        ("https://host/a%20b.jsonl?token=1", Location("https", "host/a%20b.jsonl?token=1")),
    ],
)
def test_places(text: str, location: Location) -> None:
    assert locate(text) == location
    assert locate(str(location)) == location


def test_settings_fill_what_the_query_leaves_open() -> None:
    storage = StorageSettings(endpoint="http://localhost:9000/", anonymous=True, region="eu-1")
    found = locate("s3://bucket/x?region=us-1", storage)
    assert dict(found.options) == {
        "anonymous": "true",
        "endpoint_override": "localhost:9000",
        "region": "us-1",
        "scheme": "http",
    }
    assert locate(str(found)) == found, "a listed file can be opened without the settings"
    assert dict(locate("s3://b/x", StorageSettings(endpoint="store:9000")).options) == {
        "endpoint_override": "store:9000"
    }
    assert locate("/x", storage).options == locate("https://h/x", storage).options == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ftp://host/x", "unsupported scheme ftp://"),
        ("s3:///x", "expected a bucket"),
        ("s3://key:secret@bucket/x", "set them in the environment"),
        ("s3://bucket/x?access_key=key&secret_key=secret", "set them in the environment"),
        ("s3://bucket/x?region=us-east-1&session_token=secret", "set them in the environment"),
    ],
)
def test_refused_places(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        locate(text)
    assert "secret" not in str(refused.value)
