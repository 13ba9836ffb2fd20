"""Secrets in addresses, command lines and messages: what is masked, and what is left as it is."""

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewarm.pipeline.escaping import in_one_line
from rewarm.pipeline.recipe.recipe import load_recipe, settings
from rewarm.pipeline.redaction import MASK, redact, redact_words
from rewarm.stages.core.errors import UsageError

HF = "hf_" + "Ab1" * 11 + "x"
AWS = "AKIA" + "Q2W3E4R5T6Y7U2I3"
GITHUB = "ghp_" + "a1B2" * 9
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"
SLACK = "https://hooks.slack.com/services/T0AAAAAAA/B0BBBBBBB/cccccccccccccccccccccccc"

# What is given, the secrets in it, and a part that stays.
SECRETS = [
    ("https://user:pass@host/x.jsonl", ["user", "pass"], "https://***@host/x.jsonl"),
    ("https://tok3n@host/x", ["tok3n"], "https://***@host/x"),
    ("http://a:b@c@host:8080/x", ["a:b", "c@"], "http://***@host:8080/x"),
    (f"s3://{AWS}:wJalr/XUtn+FEMI/K7MDENG@bucket/lm", [AWS, "wJalr", "XUtn", "K7MDENG"], "s3://***@bucket/lm"),
    ("postgresql://mlflow:hunter2@db:5432/runs", ["mlflow", "hunter2"], "postgresql://***@db:5432/runs"),
    ("https://[2001:db8::1]:443/x?token=abc", ["abc"], "https://[2001:db8::1]:443/x?token=***"),
    ("https://b.s3.amazonaws.com/k?X-Amz-Date=2026&X-Amz-Signature=0123abcd", ["0123abcd"], "X-Amz-Date=2026"),
    ("https://b/k?X-Amz-Credential=AK%2F20261130&X-Amz-Expires=60", ["AK%2F2026"], "X-Amz-Expires=60"),
    ("https://b/k?X-Amz-Security-Token=FwoG%2Babc&x=1", ["FwoG"], "&x=1"),
    ("https://storage.googleapis.com/b/k?X-Goog-Signature=77aa&X-Goog-Expires=9", ["77aa"], "X-Goog-Expires=9"),
    ("https://acc.blob.core.windows.net/c/b?sv=2024-11-04&sr=b&sig=Zm9v%3D&se=2027", ["Zm9v"], "sv=2024-11-04&sr=b"),
    ("https://h/x?Signature=ab%2Bcd&Key-Pair-Id=K1ABC&Expires=5", ["ab%2Bcd", "K1ABC"], "Expires=5"),
    ("https://h/x?AWSAccessKeyId=QQQQ&Signature=SSSS", ["QQQQ", "SSSS"], "https://h/x?"),
    ("s3://bucket/path?access_key=AAAA&secret_key=BBBB&region=eu-west-1", ["AAAA", "BBBB"], "region=eu-west-1"),
    ("https://h/x?api_key=K123&page=2", ["K123"], "page=2"),
    ("https://h/x?apiKey=K123", ["K123"], "https://h/x?apiKey="),
    ("https://h/x#access_token=K123", ["K123"], "https://h/x#access_token="),
    ("https://fn.azurewebsites.net/api/f?code=Qw3rty==", ["Qw3rty"], "fn.azurewebsites.net/api/f"),
    ("https://h/go?to=https%3A%2F%2Fh2%2Fx%3Ftoken%3Ds3cr3t%26a%3D1", ["s3cr3t"], "%26a%3D1"),
    (f"{SLACK}: refused", ["T0AAAAAAA", "B0BBBBBBB", "cccccccc"], "https://hooks.slack.com/"),
    ("https://discord.com/api/webhooks/1234/abcDEF_x", ["1234", "abcDEF"], "https://discord.com/api/webhooks/"),
    ("https://corp.webhook.office.com/webhookb2/aa@bb/IncomingWebhook/cc", ["aa@bb", "/cc"], "corp.webhook.office.com"),
    ("https://api.telegram.org/bot99:AAxx/sendMessage", ["bot99", "AAxx"], "https://api.telegram.org/"),
    (
        "rewarm watch lm --webhook https://h.example/T1/secret9 --once",
        ["T1", "secret9"],
        "--webhook https://h.example/*** ",
    ),
    ("--webhook=https://h.example/hook9", ["hook9"], "--webhook=https://h.example/***"),
    ("--notify-command 'curl -H X:99 https://h' --once", ["X:99", "https://h"], "--notify-command 'curl ***' --once"),
    ("rewarm push lm --token abcdef --to hf://o/n", ["abcdef"], "--to hf://o/n"),
    (f"401 for {HF}", [HF], "401 for "),
    (f"key {AWS} is not active", [AWS], "is not active"),
    (f"remote: {GITHUB} expired", [GITHUB], "expired"),
    (f"jwt {JWT}", [JWT], "jwt "),
    ("Authorization: Bearer abc.def", ["abc.def"], "Authorization: Bearer ***"),
    ("authorization: Basic dXNlcjpwYXNz", ["dXNlcjpwYXNz"], "authorization: Basic ***"),
    ('{"access_token": "xyz", "expires_in": 3600}', ["xyz"], '"expires_in": 3600'),
    ("{'password': 'p w', 'user': 'me'}", ["p w"], "'user': 'me'"),
    ("AWS_SECRET_ACCESS_KEY=wJalr/K7 AWS_REGION=eu", ["wJalr"], "AWS_REGION=eu"),
    ("HF_TOKEN='a b' rewarm push", ["a b"], " rewarm push"),
    ("DefaultEndpointsProtocol=https;AccountName=me;AccountKey=Zm9v==;X=1", ["Zm9v"], "AccountName=me"),
    ("db_password: hunter22, host: h", ["hunter22"], "host: h"),
    ("-----BEGIN PRIVATE KEY-----\n" + "A" * 64 + "\n-----END PRIVATE KEY-----", ["AAAA"], ""),
    ("given xoxb-12345-abcdefghijkl", ["abcdefghijkl"], "given "),
    ("cannot reach: the key is s3cretvalue!", ["s3cretvalue!"], "cannot reach: the key is ***"),  # the environment's
]
PLAIN = [
    "s3://bucket/lm?endpoint_override=127.0.0.1:9000&scheme=http&region=us-east-1&anonymous=true",
    "s3://anonymous@commoncrawl/crawl-data/*.warc.gz",
    "http://127.0.0.1:8265/path/@scope/x",
    "https://host:8080/a@b/c",
    "gs://bucket/part-?.jsonl",
    "rewarm update lm --data news=/data/news/*.jsonl.zst --set replay.share=0.1",
    "ingest.tokens.columns=['tokens', 'input_ids'] tokenizer.vocab_size=4096 budget.update_tokens=1_000",
    "dataset name 'a b': expected at most 64 letters, digits, '.', '_' and '-'",
    "token 17 of shard-00001.arrow: expected 5, found 6",
    "1,000 tokens: 12 new, 3 replayed",
    "the signature: checked; password: asked for",
    "mail me@example.org, or git@github.com:org/repo.git",
    "hf://org/name", "0001-news: REFUSED by the gate: forgetting 0.31 > 0.1", "日本語=値 пароль",
]  # fmt: skip


@pytest.mark.parametrize(("text", "secrets", "stays"), SECRETS)
def test_secrets_are_masked_and_the_rest_stays(text: str, secrets: list[str], stays: str) -> None:
    found = redact(text, {"APP_TOKEN": "s3cretvalue!", "PWD": "/work", "SHORT_TOKEN": "abc"})
    assert not [one for one in secrets if one in found], found
    assert stays in found, found
    assert redact(found, {}) == found, "again: nothing more"


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text, {}) == text


@given(st.text(alphabet=st.sampled_from("aB1/:@?&=#-_. '\"%;tokensig"), max_size=60))
def test_twice_is_once(text: str) -> None:
    once = redact(text, {})
    assert redact(once, {}) == once


@given(st.text(alphabet="abcdefXYZ0123456789", min_size=9, max_size=20).filter(lambda one: not one.isdigit()))
def test_no_secret_survives_wherever_it_is_put(secret: str) -> None:
    for form in ("https://u:{}@h/x", "https://{}@h", "s3://b?token={}", "A_TOKEN={}", "--token {}", '"secret": "{}"'):
        assert secret not in redact(f"before {form.format(secret)} after", {})


@given(
    st.text(alphabet="abcdefXYZ0123456789", min_size=9, max_size=20).filter(lambda one: not one.isdigit()),
    st.text(max_size=20),
)
def test_a_persons_words_are_recorded_in_one_line_without_secrets(secret: str, words: str) -> None:
    found = in_one_line(f"{words}\n--token {secret} A_TOKEN={secret} https://u:{secret}@h\r\n{words}")
    assert secret not in found.replace(words, "") or secret in words
    assert found == " ".join(found.split()) and found.splitlines() in ([found], [])


def test_a_command_line_is_redacted_by_its_words() -> None:
    words = [
        "rewarm",
        "watch",
        "lm",
        "--webhook",
        SLACK,
        "--notify-command",
        "/bin/tell --to me@x",
        "--inbox",
        "in box",
    ]
    found = redact_words([*words, "--webhook=http://h:80/p?q", "--webhook", "http://h"], {})
    assert found == [
        *("rewarm", "watch", "lm", "--webhook", f"https://hooks.slack.com/{MASK}"),
        *("--notify-command", f"/bin/tell {MASK}", "--inbox", "in box"),
        *(f"--webhook=http://h:80/{MASK}", "--webhook", "http://h"),
    ]
    assert redact_words(["env", "--notify-command", "A=secret run"], {})[-1] == MASK
    assert "secret9" not in shlex.join(redact_words(["x", "--data", "news=https://u:secret9@h/x"], {}))


@pytest.mark.parametrize(
    "setting",
    [
        "ingest.manifest_prefix=https://me:s3cr3t@h/x",
        "ingest.manifest_prefix=https://h/x?X-Amz-Signature=s3cr3t9",
        "evaluate.include_path=s3://b/x?access_key=s3cr3t",
    ],
)
def test_a_recipe_takes_no_secrets(setting: str) -> None:
    with pytest.raises(UsageError, match="pass it in the environment") as refused:
        load_recipe("tiny", [setting])
    assert "s3cr3t" not in str(refused.value)


def test_nor_does_the_file_of_one(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("ingest: {clean: {blocked_urls: [plain.txt, 'https://me:s3cr3t@h/list?X-Amz-Signature=s3cr3t9']}}")
    with pytest.raises(UsageError, match=r"recipe.yaml: ingest\.clean\.blocked_urls\.1: .* the environment") as refused:
        load_recipe(str(file))
    assert "s3cr3t" not in str(refused.value)


def test_no_setting_has_the_name_of_a_secret() -> None:
    for name, _, _ in settings():
        assert redact(f"{name}=value", {}) == f"{name}=value"
