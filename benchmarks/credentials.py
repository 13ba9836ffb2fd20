"""Credentials: what is found of made-up tokens of many issuers, what healthy code and prose lose, and the speed.

    python benchmarks/credentials.py --texts /usr/share/doc prose.jsonl     # with detect-secrets where it is installed

Code is that of the installed packages (a part, evenly chosen), prose the files of ``--texts``. Each token is made at
random in the form that its issuer documents and stands in a line as people paste it. A form may need a checksum that a
random token fails, so a miss is not always a fault.
"""

import argparse
import contextlib
import json
import random
import string
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rewarm.stages.core.credentials import CREDENTIALS, mask_one
from rewarm.stages.ingest.filters.pii import mask_credentials, mask_listed

ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
# Issuer, line; {aN}: N letters and digits, {hN}: N hexadecimal digits, {uN}: capitals and digits, {dN}: digits.
FORMS = {
    "AWS access key": "aws_access_key_id = AKIA{b16}",
    "AWS secret key": "aws_secret_access_key = {a40}",
    "GitHub personal": "git clone https://ghp_{a36}@github.com/a/b",
    "GitHub fine-grained": "token: github_pat_{a22}_{a59}",
    "GitLab personal": "PRIVATE-TOKEN: glpat-{a20}",
    "GitLab runner": "glrt-{a20}",
    "Slack bot": "SLACK_BOT_TOKEN=xoxb-{d12}-{d12}-{a24}",
    "Slack webhook": "https://hooks.slack.com/services/T{u9}/B{u9}/{a24}",
    "Stripe": "stripe.api_key = 'sk_live_{a24}'",
    "Google API": "key=AIza{a35}",
    "Hugging Face": "HF_TOKEN=hf_{l34}",
    "npm": "//registry.npmjs.org/:_authToken=npm_{a36}",
    "PyPI": "password = pypi-AgEIcHlwaS5vcmc{a70}",
    "OpenAI": "OPENAI_API_KEY=sk-proj-{a74}T3BlbkFJ{a74}",
    "Anthropic": "ANTHROPIC_API_KEY=sk-ant-api03-{a93}AA",
    "SendGrid": "SG.{a22}.{a43}",
    "Twilio": "TWILIO_API_KEY = SK{h32}",
    "Shopify": "shpat_{h32}",
    "DigitalOcean": "dop_v1_{h64}",
    "Databricks": "DATABRICKS_TOKEN=dapi{h32}",
    "Grafana": "glsa_{a32}_{h8}",
    "Doppler": "dp.pt.{a43}",
    "Linear": "lin_api_{a40}",
    "Notion": "ntn_{d11}{a35}",
    "Postman": "PMAK-{h24}-{h34}",
    "Square": "EAAA{a60}",
    "Telegram bot": "telegram_token = '{d10}:AA{a33}'",
    "Discord webhook": "https://discord.com/api/webhooks/{d18}/{a68}",
    "Mailchimp": "mailchimp_api_key = {h32}-us12",
    "Vault": "VAULT_TOKEN=hvs.{a92}",
    "Azure storage": "AccountName=a;AccountKey={a86}==;EndpointSuffix=core.windows.net",
    "Terraform Cloud": "{a14}.atlasv1.{a64}",
    "age": "AGE-SECRET-KEY-1{q58}",
    "JSON web token": "eyJhbGciOiJIUzI1NiJ9.eyJ{a40}.{a43}",
    "password in an address": "postgres://app:{a12}@db.internal/x",
    "private key": "-----BEGIN RSA PRIVATE KEY-----\n{a64}\n{a64}\n-----END RSA PRIVATE KEY-----",
}
LETTERS = {
    "a": ALNUM,
    "b": string.ascii_uppercase + "234567",
    "h": HEX,
    "u": string.ascii_uppercase + string.digits,
    "d": string.digits,
    "l": string.ascii_letters,
    "q": "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L",
}
Find = Callable[[str], Counter[str]]


def main() -> None:
    """Print the table and what was missed and found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, nargs="*", default=[], help="JSON lines with text, files and folders")
    parser.add_argument("--megabytes", type=int, default=20, help="of code and of prose")
    parser.add_argument("--each", type=int, default=20, help="tokens of each form")
    given = parser.parse_args()
    random.seed(1)
    packages = {Path(path) for path in sys.path if path.endswith("site-packages")}
    code = sample([path for folder in packages for path in folder.rglob("*.py")], given.megabytes)
    files = [file for path in given.texts for file in ([path] if path.is_file() else path.rglob("*"))]
    prose = sample(files, given.megabytes)
    planted = {issuer: [fill(form) for _ in range(given.each)] for issuer, form in FORMS.items()}
    print("| | found of planted | false alarms, code | false alarms, prose | MB/s |\n|---|--:|--:|--:|--:|")
    for name, find in finders().items():
        find("warm")
        share = {issuer: sum(bool(find(line)) for line in lines) / len(lines) for issuer, lines in planted.items()}
        alarms, seconds = [], 0.0
        for texts in (code, prose):
            begin = time.process_time()
            found: Counter[str] = Counter()
            for text in texts:
                found.update(find(text))
            seconds += time.process_time() - begin
            alarms.append(found)
        size = sum(len(text.encode()) for text in [*code, *prose])
        mean = sum(share.values()) / len(share)
        print(f"| {name} | {mean:.1%} | {alarms[0].total()} | {alarms[1].total()} | {size / seconds / 1e6:.0f} |")
        print(f"<!-- missed: {[f'{issuer} {part:.0%}' for issuer, part in share.items() if part < 1]}")
        print(f"code: {dict(alarms[0])}, prose: {dict(alarms[1])} -->", flush=True)
    for name, texts in (("code", code), ("prose", prose)):
        print(f"{name}: {len(texts):,} texts, {sum(len(text.encode()) for text in texts) / 1e6:.1f} MB")


def finders() -> dict[str, Find]:
    """Ways to find credentials, each counting by kind."""

    def counted(mask: Callable[[str, Counter[str]], str]) -> Find:
        def find(text: str) -> Counter[str]:
            counts: Counter[str] = Counter()
            mask(text, counts)
            return counts

        return find

    def own(text: str, counts: Counter[str]) -> str:
        for credential in CREDENTIALS:
            if any(marker in text for marker in credential.markers):
                text = mask_one(text, credential, counts)
        return text

    found = {"rewarm": counted(mask_credentials), "its own forms": counted(own), "Kingfisher's": counted(mask_listed)}
    with contextlib.suppress(ImportError):
        found["detect-secrets"] = detect_secrets()
    return found


def detect_secrets() -> Find:
    """The regular expressions of detect-secrets' plugins, without that for addresses."""
    import importlib
    import pkgutil

    from detect_secrets import plugins  # type: ignore[import-not-found, unused-ignore]
    from detect_secrets.plugins.base import RegexBasedDetector  # type: ignore[import-not-found, unused-ignore]

    names = [f"{plugins.__name__}.{module.name}" for module in pkgutil.iter_modules(plugins.__path__)]
    values = [value for name in names for value in vars(importlib.import_module(name)).values()]
    classes = list(dict.fromkeys(filter(lambda value: isinstance(value, type), values)))
    found = [one for one in classes if issubclass(one, RegexBasedDetector) and not one.__abstractmethods__]
    made = [one() for one in found if "IP" not in one.__name__]
    return lambda text: Counter(
        plugin.secret_type for plugin in made for pattern in plugin.denylist for _ in pattern.finditer(text)
    )


def fill(form: str) -> str:
    """A token of a form."""
    for kind, letters in LETTERS.items():
        while (start := form.find("{" + kind)) >= 0:
            end = form.index("}", start)
            form = form[:start] + "".join(random.choices(letters, k=int(form[start + 2 : end]))) + form[end + 1 :]
    return form


def sample(files: list[Path], megabytes: int) -> list[str]:
    """Texts of some files, evenly chosen."""
    random.shuffle(files)
    texts: list[str] = []
    size = 0
    for file in files:
        if not file.is_file() or (file.stat().st_size > 2**20 and file.suffix != ".jsonl"):
            continue
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        texts += [json.loads(line)["text"] for line in text.splitlines()] if file.suffix == ".jsonl" else [text]
        size += len(text.encode())
        if size > megabytes * 10**6:
            break
    return texts


if __name__ == "__main__":
    main()
