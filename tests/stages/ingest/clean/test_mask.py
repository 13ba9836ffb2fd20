"""Masks: each kind of personal data, what only looks like it, and that masking is stable."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.ingest.clean.mask import MaskStep, mask_text
from stages.ingest.clean.settings import CleanSettings
from stages.ingest.clean.steps import after_rules
from stages.ingest.records import Document

KINDS = ("credentials", "email", "ip", "phone")
# Put together here, so that no scanner takes this file for a leak.
KEY = "-----BEGIN RSA " + "PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA7bq0+/" * 6 + "\n-----END RSA " + "PRIVATE KEY-----"
CUT_KEY = "-----BEGIN " + "PRIVATE KEY-----\n" + ("MIIEpAIBAAKCAQEA7bq0" * 3 + "\n") * 3
LETTERS = "aB3dE5gH7jK9mN1pQ2sT4vW6yZ8"
JWT = "eyJ" + "hbGciOiJIUzI1NiJ9" + "." + "eyJ" + "zdWIiOiIxMjM0NSJ9" + "." + "SflKxwRJSMeKKF2QT4fwpM"

MASKED = [
    ("Write to jane.doe+x@mail.corp.de.", "Write to email@example.com.", {"email": 1}),
    ("邮箱jane@corp.cn请联系", "邮箱email@example.com请联系", {"email": 1}),
    ("a@b.org,c@d.org", "email@example.com,email@example.com", {"email": 2}),
    ("from 8.8.8.8 and 151.101.1.69.", "from 192.0.2.1 and 192.0.2.1.", {"ip": 2}),
    ("at [2a00:1450:4001:81b::200e]:443", "at [2001:db8::1]:443", {"ip": 1}),
    ("2a00:1450:4001:81b::200e: unreachable", "2001:db8::1: unreachable", {"ip": 1}),
    ("Call +49 30 901820 now", "Call +1-202-555-0100 now", {"phone": 1}),
    ("Tel.: +44 (0)20 7946 0018", "Tel.: +1-202-555-0100", {"phone": 1}),
    (f"key:\n{KEY}\nend", "key:\n[private-key]\nend", {"private-key": 1}),
    (f"key:\n{CUT_KEY}", "key:\n[private-key]\n", {"private-key": 1}),
    ("id AKIA" + "Q3EGSBCDEFGH2345 x", "id [aws-access-key] x", {"aws-access-key": 1}),
    ("aws_secret_access_key = " + "aB3/" * 10, "aws_secret_access_key = [aws-secret-key]", {"aws-secret-key": 1}),
    ("ghp_" + LETTERS + "x" * 9 + " y", "[github-token] y", {"github-token": 1}),
    ("github_pat_" + "A" * 22 + "_" + "b" * 59, "[github-token]", {"github-token": 1}),
    ("glpat-" + LETTERS, "[gitlab-token]", {"gitlab-token": 1}),
    ("xoxb-" + "123456789012-" + LETTERS, "[slack-token]", {"slack-token": 1}),
    ("sk_live_" + LETTERS, "[stripe-key]", {"stripe-key": 1}),
    ("AIza" + "Sy" + LETTERS + "abcdef", "[google-api-key]", {"google-api-key": 1}),
    ("hf_" + "aB" * 17, "[huggingface-token]", {"huggingface-token": 1}),
    (f"token={JWT}", "token=[jwt]", {"jwt": 1}),
    ("Authorization: Bearer " + LETTERS, "Authorization: Bearer [bearer-token]", {"bearer-token": 1}),
    ("postgres://root:s3cr3t@db.corp.de/x", "postgres://root:[password]@db.corp.de/x", {"password": 1}),
    (
        "hooks.slack.com/services/" + "T12345678/B12345678/" + LETTERS,
        "hooks.slack.com/services/[slack-webhook]",
        {"slack-webhook": 1},
    ),
]
KEPT = [
    "user@example.com, x@mail.example.org, a@b.test, root@localhost, @property, a @ b, 3@4",
    "10.0.0.1 192.168.1.2 127.0.0.1 192.0.2.55 0.0.0.0 255.255.255.255 224.0.0.1 999.1.1.1 1.2.3.4.5 v1.2.3.4",
    "version 1.2.3.4 of 12.05.2024, 1.2.3",
    "std::vector a::b 12:30:45 fe80::1 ::1 2001:db8::7 dead::beef aa:bb:cc:dd:ee:ff",
    "030 901820, 12345678, +1, +++ 1 2 3 4 5 6 7, 2 + 34567890123456789012345, 1+49301234",
    "-----BEGIN PRIVATE KEY----- begins such a block.",
    "-----BEGIN PUBLIC KEY-----\n" + "A" * 64 + "\n-----END PUBLIC KEY-----",
    "AKIA is a prefix; ghp_short; glpat-x; xoxb-1; sk_live_1; AIzaShort; eyJhbGciOi.eyJ; hf_hub_download",
    "bearer of internationalisation and telecommunications",
    "https://user:password@host.de https://user:$TOKEN@host.de https://user:<pw>@host.de http://host:80/a@b",
]


@pytest.mark.parametrize(("text", "masked", "counts"), MASKED)
def test_personal_data_is_masked(text: str, masked: str, counts: dict[str, int]) -> None:
    assert mask_text(text, KINDS) == (masked, Counter(counts))


@pytest.mark.parametrize("text", KEPT)
def test_what_only_looks_like_it_stays_the_same_object(text: str) -> None:
    found, counts = mask_text(text, KINDS)
    assert found is text, found
    assert not counts


@pytest.mark.parametrize(("text", "masked", "counts"), MASKED)
def test_a_kind_that_is_off_masks_nothing(text: str, masked: str, counts: dict[str, int]) -> None:
    kind = next(iter(counts))
    others = [name for name in KINDS if name != (kind if kind in KINDS else "credentials")]
    assert not mask_text(text, others)[1][kind]


def test_national_numbers_need_a_region() -> None:
    text = "Rufen Sie 030 901820 an, Zimmer 12."
    assert mask_text(text, ["phone"])[0] is text
    assert mask_text(text, ["phone"], "DE")[0] == "Rufen Sie +1-202-555-0100 an, Zimmer 12."


PIECES = st.sampled_from([*(text for text, _, _ in MASKED), *KEPT, " ", ":", "@", "+", "//", "]", "1", ".", "x", "-"])


@given(st.lists(PIECES, max_size=8).map("".join))
def test_masking_twice_changes_nothing_more(text: str) -> None:
    masked, _ = mask_text(text, KINDS, "DE")
    again, counts = mask_text(masked, KINDS, "DE")
    assert again is masked
    assert not counts


@given(st.text("0123456789+-(). /:@abcdef", max_size=200))
def test_masking_any_numbers_ends(text: str) -> None:
    masked, _ = mask_text(text, KINDS, "US")
    assert mask_text(masked, KINDS, "US")[0] is masked


def test_the_step_masks_text_and_title() -> None:
    (step,) = after_rules(CleanSettings(mask=["phone", "email", "email"]))
    assert step == MaskStep(("email", "phone"))
    clean = Document("nothing here", None, None, None, None, "A title")
    assert step(clean) is clean
    found = step(Document("by me@corp.de", None, None, None, None, "me@corp.de"))
    assert isinstance(found, Document)
    assert (found.text, found.title) == ("by email@example.com", "email@example.com")
