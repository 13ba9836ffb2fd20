"""Settings of duplicates, and when two addresses are one."""

import pytest
from pydantic import ValidationError

from rewarm.stages.ingest.dedup.staged import normalised, url_hashes
from rewarm.stages.ingest.settings import DuplicateSettings


def test_what_decides_the_result_is_identity_and_memory_is_not() -> None:
    settings = DuplicateSettings(memory_mb=64)
    assert settings.identity() == DuplicateSettings().identity()
    assert "memory_mb" not in settings.identity()
    assert settings.signature() == {"version": 3, "bands": 20, "rows": 6, "shingle": 5, "seed": 1}
    assert DuplicateSettings(similarity=0.9).signature() == settings.signature(), "an index serves any threshold"


@pytest.mark.parametrize(
    "wrong",
    [
        {"bands": 22},
        {"rows": 7},
        {"bands": 0},
        {"similarity": 0},
        {"similarity": 1.1},
        {"shingle": 0},
        {"memory_mb": 1},
    ],
)
def test_nonsense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        DuplicateSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://Example.org", "https://example.org:443/", True),
        ("https://example.org/a/", "https://example.org/a#part", True),
        ("https://example.org/a?x=1", "https://example.org/a?x=2", False),
        ("https://example.org/a", "https://example.org/A", False),
        ("https://example.org:8080/", "https://example.org/", False),
        ("sub folder/f.txt", "sub folder/f.txt", True),
        ("sub folder/f.txt", "sub folder/F.txt", False),
        ("http://[broken", "http://[broken", True),
        ("http://a:b/", "http://a/", False),
    ],
)
def test_addresses(one: str, other: str, same: bool) -> None:
    assert (normalised(one) == normalised(other)) is same
    hashes = url_hashes([one, other, None, ""])
    assert bool(hashes[0] == hashes[1]) is same
    assert hashes[2:].tolist() == [0, 0]
    assert hashes[0] != 0
