"""A table of personal data and of what only looks like it: other scripts' digits, identifiers, versions, code."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from rewarm.stages.ingest.filters.pii import mask_text
from rewarm.stages.ingest.filters.unicode import as_ascii

FORMS: dict[str, Any] = tomllib.loads(Path(__file__).with_name("masks.toml").read_text("utf-8"))
KINDS = ("credentials", "email", "ip", "phone")
PLACEHOLDERS = re.compile(r"email@example\.com|192\.0\.2\.1|2001:db8::1|\+1-202-555-0100")


def check(row: str, region: str | None) -> None:
    masked, counts = mask_text(re.sub("[{}]", "", row), KINDS, region)
    assert PLACEHOLDERS.sub("{}", masked) == re.sub("{.*?}", "{}", row)
    assert counts.total() == row.count("{")


@pytest.mark.parametrize("row", FORMS["masked"])
@pytest.mark.parametrize("region", [None, "US", "DE"])
def test_personal_data_is_masked_in_any_region(row: str, region: str | None) -> None:
    check(row, region)


@pytest.mark.parametrize(
    ("region", "row"), [(region, row) for region, rows in FORMS["masked_in"].items() for row in rows]
)
def test_national_numbers_are_masked_in_their_region(region: str, row: str) -> None:
    check(row, region)


@pytest.mark.parametrize("row", FORMS["kept"])
@pytest.mark.parametrize("region", [None, "US", "DE"])
def test_what_only_looks_like_it_is_kept(row: str, region: str | None) -> None:
    masked, counts = mask_text(row, KINDS, region)
    assert masked is row, masked
    assert not counts


def test_the_ascii_form_keeps_every_position() -> None:
    text = "邮箱ｔ＠ｃ．ｊｐ，٠٥٠ ९८ ۱𝟗 é"
    assert as_ascii(text) == "邮箱t@c.jp,050 98 19 é"
    assert as_ascii("中文，没有") == "中文，没有"
