"""What cleaning refuses to be set to, and which steps a setting makes."""

from typing import Any

import pytest
from pydantic import ValidationError

from rewarm.stages.ingest.filters.steps import after_rules, before_rules
from rewarm.stages.ingest.settings import CleanSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"languages": ["en", "klingon"]}, "unknown language 'klingon'"),
        ({"languages": ["en"], "detect_language": False}, "languages requires detect_language"),
        ({"blocked_urls": ["/no/such/list"]}, "/no/such/list: no such file"),
        ({"mask": ["address"]}, "'email', 'ip', 'phone' or 'credentials'"),
        ({"phone_region": "Germany"}, "unknown country 'Germany'"),
        ({"min_language_letters": 0}, "greater than or equal to 1"),
        ({"repair": True}, "Extra inputs"),
    ],
)
def test_nonsense_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CleanSettings(**values)


def test_languages_and_masks_have_one_form() -> None:
    settings = CleanSettings(languages=["English", "de-AT", "und", "eng"], mask=["phone", "email", "phone"])
    assert (settings.languages, settings.mask) == (["de", "en", "und"], ["email", "phone"])


def test_by_default_only_languages_are_detected() -> None:
    assert [step.name for step in before_rules(CleanSettings())] == ["language"]
    assert before_rules(CleanSettings(detect_language=False)) == []
    assert after_rules(CleanSettings()) == []


def test_steps_come_in_a_fixed_order(tmp_path: Any) -> None:
    (tmp_path / "list").write_text("spam.example")
    settings = CleanSettings(blocked_urls=[str(tmp_path / "list")], repair_unicode=True, mask=["ip"])
    assert [step.name for step in before_rules(settings)] == ["url-block-list", "repair-unicode", "language"]
    assert [step.name for step in after_rules(settings)] == ["mask-pii"]
    assert all(isinstance(step.version, int) for step in before_rules(settings) + after_rules(settings))
