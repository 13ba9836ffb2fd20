"""Masks: each kind of personal data, what only looks like it, and that masking is stable."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewarm.stages.ingest.filters.pii import MaskStep, mask_text
from rewarm.stages.ingest.filters.steps import after_rules
from rewarm.stages.ingest.records import Document
from rewarm.stages.ingest.settings import CleanSettings

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
    ("jane@corp.com.Then we met", "email@example.com.Then we met", {"email": 1}),
    ("jane@corp.com:secret, (joe@corp.com)", "email@example.com:secret, (email@example.com)", {"email": 2}),
    ("иван@x jane@xn--e1afmkfd.xn--p1ai", "иван@x email@example.com", {"email": 1}),
    ("host=151.101.1.69, ip.addr==8.8.4.4", "host=192.0.2.1, ip.addr==192.0.2.1", {"ip": 2}),
    ("http://151.101.1.69/a ipinfo.io/8.8.8.8", "http://192.0.2.1/a ipinfo.io/192.0.2.1", {"ip": 2}),
    ("The server answers at 8.8.8.8. Client 8.8.4.4", "The server answers at 192.0.2.1. Client 192.0.2.1", {"ip": 2}),
    (
        "updated to 151.101.1.69, see 151.101.2.69; client-151.101.1.69",
        "updated to 192.0.2.1, see 192.0.2.1; client-192.0.2.1",
        {"ip": 3},
    ),
    ("151.101.1.69-80", "192.0.2.1-80", {"ip": 1}),
    ('8.8.8.8 - - "GET /"', '192.0.2.1 - - "GET /"', {"ip": 1}),
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
HEX = "0123456789abcdef3f"
ISSUED = [  # prefix, the rest, kind: forms that only the rule set knows
    ("glrt-", LETTERS[:20], "gitlab-runner-authentication-token"),
    ("npm_", (LETTERS * 2)[:36], "npmjsaccesstoken"),
    ("pypi-AgEIcHlwaS5vcmc", LETTERS * 3, "pypi-upload-token"),
    ("SG.", LETTERS[:22] + "." + (LETTERS * 2)[:43], "sendgrid"),
    ("dop_v1_", (HEX * 4)[:64], "digitaloceanapikey"),
    ("shpat_", (HEX * 2)[:32], "shopify-access-token"),
    ("PMAK-", (HEX * 2)[:24] + "-" + (HEX * 2)[:34], "postmanapikey"),
    ("hvs.", (LETTERS * 4)[:92], "vault-service-token"),
    ("lin_api_", (LETTERS * 2)[:40], "linear-api-key"),
]
KEPT = [
    "logo@2x.png icon@3x.jpg a@1.5x.ai b@2x.io, left-pad@1.2.3-beta.rc, tool@2.0.1-rc.io, getty@tty1.service",
    "git clone git@github.com:acme/tools.git; ssh -T git@github.com; hg@bitbucket.org:a/b",
    "jane@code.corp.com:team/tool.git scp a.txt jane@db.corp.com:/var/tmp jane@db.corp.com:~/x",
    "y = W@x.reshape(-1, 1) + A@B.to(device) - q@k.mT @ v, x@w.data, self.a@self.b.mean(0)",
    "See section 2.3.1.1. Version=2.0.0.0, Culture, pip install foo==1.2.3.4, foo[all]>=1.2.3.4; kernel is 2.6.32.5",
    "foo-1.2.3.4.tar.gz Chrome/120.0.6099.109 Firefox/121.0.1.2 1.2.3.4-beta § 4.1.2.3 EC 1.1.1.1 ^1.2.3.4 v. 1.2.3.4",
    "upgrade from 1.2.3.4 now; Driver Version: 31.0.15.46; 120.0.0.0",
    "2.4.1.3 Methods of work",
    "Linux 2.6.32.5, OpenSSL 1.0.2.1, upgrade from 1.2.3.4 to 1.2.3.5, see 4.1.2.3 and 5.1.1.1",
    '{"version": "5.1.2.3"} AssemblyVersion("5.1.2.3") Foo v5.1.2.3 prices 12.50 16.45 17.35',
    "user@example.com, x@mail.example.org, a@b.test, root@localhost, @property, a @ b, 3@4",
    "10.0.0.1 192.168.1.2 127.0.0.1 192.0.2.55 0.0.0.0 255.255.255.255 224.0.0.1 999.1.1.1 1.2.3.4.5 v1.2.3.4",
    "version 1.2.3.4 of 12.05.2024, 1.2.3",
    "std::vector a::b 12:30:45 fe80::1 ::1 2001:db8::7 dead::beef aa:bb:cc:dd:ee:ff",
    "030 901820, 12345678, +1, +++ 1 2 3 4 5 6 7, 2 + 34567890123456789012345, 1+49301234",
    "-----BEGIN PRIVATE KEY----- begins such a block.",
    "-----BEGIN PUBLIC KEY-----\n" + "A" * 64 + "\n-----END PUBLIC KEY-----",
    "AKIA is a prefix; ghp_short; glpat-x; xoxb-1; sk_live_1; AIzaShort; eyJhbGciOi.eyJ; hf_hub_download",
    "npm_config_registry SG.1 dop_v1_x shpat_123 hvs.short lin_api_key PMAK-1 pypi-timemachine client_id=1234567890",
    "sha256:"
    + HEX * 3
    + " commit "
    + (HEX * 3)[:40]
    + " 123e4567-e89b-42d3-a456-426614174000 integrity sha512-"
    + LETTERS * 3,
    "bearer of internationalisation and telecommunications",
    "https://user:password@host.de https://user:$TOKEN@host.de https://user:<pw>@host.de http://host:80/a@b",
]


@pytest.mark.parametrize(("text", "masked", "counts"), MASKED)
def test_personal_data_is_masked(text: str, masked: str, counts: dict[str, int]) -> None:
    assert mask_text(text, KINDS) == (masked, Counter(counts))


@pytest.mark.parametrize(("prefix", "rest", "kind"), ISSUED)
@pytest.mark.parametrize(
    "line", ["{}", "令牌 {} 。", "# ключ: {}\nTOKEN={}\n", "run --with '{}' https://api.example.com/v1"]
)
def test_tokens_of_many_issuers_are_masked(line: str, prefix: str, rest: str, kind: str) -> None:
    masked, counts = mask_text(line.replace("{}", prefix + rest), ["credentials"])
    number = line.count("{}")
    assert masked == line.replace("{}", f"[{kind}]") and counts == {kind: number}


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


def test_numbers_that_only_look_like_telephone_numbers_stay() -> None:
    """Time stamps, decimals and coordinates, under a region; the number beside them goes."""
    text = (
        "2024-11-30 10:20:30 INFO start\n2025-01-15 14:05:00 INFO stop\n"
        "e = 2.7182818284 is a number. Call (415) 555-2671 for help."
    )
    assert mask_text(text, ["phone"], "US")[0] == text.replace("(415) 555-2671", "+1-202-555-0100")
    kept = "1.4142135623 0.4155552671 at 41.87811360, -87.6297982; 10:20 2024-11-30 10.20, 30.11.2024 10:20"
    assert mask_text(kept, ["phone"], "US")[0] is kept
    beside = "2024-11-30 415-555-2671, 10:20 415-555-2671"
    assert mask_text(beside, ["phone"], "US")[0] == beside.replace("415-555-2671", "+1-202-555-0100")


@pytest.mark.parametrize("region", ["US", "DE", "FR", "IN", "IT", "SE"])
@pytest.mark.parametrize(
    "form",
    [
        *("%Y-%m-%d %H:%M", "%Y/%m/%d %H:%M:%S", "%d.%m.%Y", "%d-%m-%Y %H.%M", "%Y-%m-%d %H", "%d.%m.%y %H:%M"),
        *("%H.%M %d.%m.%Y", "%Y-%m-%d %H-%M-%S", "%d. %m. %Y", "%Y-%m-%d_%H-%M-%S", "%d/%m/%y, %H:%M"),
    ],
)
def test_no_day_of_the_year_is_a_telephone_number(region: str, form: str) -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    text = ", then\n".join(f"{start + timedelta(days=day, hours=day, minutes=7 * day):{form}}" for day in range(366))
    assert mask_text(text, ["phone"], region)[0] is text


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
