"""Keys, tokens and passwords in running text, by the forms their issuers give them.

The forms are the 488 rules of Kingfisher of medium and high confidence (MongoDB, Apache 2.0; they carry on those of
Betterleaks and Gitleaks, MIT), and some that it leaves out for want of proof: an access key without its secret, a key
block without its end, a password in an address. Compared in benchmarks/credentials.py.
"""

import re
from collections import Counter
from functools import cache
from typing import NamedTuple

from kingfisher_sdk import Rules, Scanner


class Credential(NamedTuple):
    """One form of secret. Where the pattern has a group, that is the secret; else all of it is."""

    kind: str
    markers: tuple[str, ...]  # one of them is in every text that the pattern finds: a search for it costs little
    pattern: re.Pattern[str]


KEY_BLOCK = r"PRIVATE KEY(?: BLOCK)?-----"
CREDENTIALS = (
    # With its end, or as far as lines of base64 go where the end was cut off.
    Credential(
        "private-key",
        ("PRIVATE KEY",),
        re.compile(
            rf"-----BEGIN (?:[A-Z0-9]+ ){{0,3}}{KEY_BLOCK}"
            rf"(?:.{{40,20000}}?-----END (?:[A-Z0-9]+ ){{0,3}}{KEY_BLOCK}|(?:\s*[A-Za-z0-9+/=]{{40,}})+)",
            re.DOTALL,
        ),
    ),
    Credential("aws-access-key", ("AKIA", "ASIA"), re.compile(r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b")),
    Credential(
        "aws-secret-key",
        ("ecret", "ECRET"),
        re.compile(
            r"aws_?secret_?(?:access_?)?key[\"']?\s*[:=]\s*[\"']?([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])", re.IGNORECASE
        ),
    ),
    Credential("github-token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36,}")),
    Credential("github-token", ("github_pat_",), re.compile(r"\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}")),
    Credential("gitlab-token", ("glpat-",), re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}")),
    Credential("slack-token", ("xox",), re.compile(r"\bxox[abeoprs]-(?:[A-Za-z0-9]+-)*[A-Za-z0-9]{10,}")),
    Credential(
        "slack-webhook",
        ("hooks.slack.com",),
        re.compile(r"hooks\.slack\.com/services/(T[A-Za-z0-9]{8,}/B[A-Za-z0-9]{8,}/[A-Za-z0-9]{20,})"),
    ),
    Credential(
        "discord-webhook",
        ("/api/webhooks/",),
        re.compile(r"discord(?:app)?\.com/api/webhooks/([0-9]{17,20}/[A-Za-z0-9_-]{60,})"),
    ),
    Credential("azure-storage-key", ("AccountKey=",), re.compile(r"\bAccountKey=([A-Za-z0-9+/]{86}==)")),
    Credential("stripe-key", ("k_live_", "k_test_"), re.compile(r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}")),
    Credential("google-api-key", ("AIza",), re.compile(r"\bAIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])")),
    Credential("huggingface-token", ("hf_",), re.compile(r"\bhf_[A-Za-z0-9]{34}\b")),
    Credential(
        "jwt", ("eyJ",), re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}(?![\w-])")
    ),
    # At least one digit: "bearer of internationalisation" is no token.
    Credential(
        "bearer-token",
        ("earer", "EARER"),
        re.compile(r"\bbearer\s+((?=[^\s]{0,200}[0-9])[A-Za-z0-9._~+/-]{20,}=*)", re.IGNORECASE),
    ),
    Credential("password", ("://",), re.compile(r"://[^\s/:@\"'<>]{1,128}:([^\s/@\"'<>]{1,128})@")),
)
# What manuals write where a password goes.
STAND_IN = re.compile(r"[$%{\[*].*|x+|\.+|(?:your|my)?[_-]?(?:pass|passwd|password|pw|pwd|secret|token)", re.IGNORECASE)

# Kingfisher's rules without which healthy text is whole: ours knows the stand-ins of manuals.
LEFT_OUT = frozenset({"betterleaks.generic-credential-uri"})
RULE_NAME = re.compile(r"^(?:betterleaks\.|veles\.secrets/)|\.\d+$")  # what surrounds a rule's name in its id


def mask_credentials(text: str, counts: Counter[str]) -> str:
    """The text with every secret as its kind in brackets (``[github-token]``); ``counts`` grows by kind."""
    for credential in CREDENTIALS:
        if any(marker in text for marker in credential.markers):
            text = mask_one(text, credential, counts)
    return mask_listed(text, counts)


@cache
def scanner() -> Scanner:
    """Kingfisher's rules, compiled: 3 s of CPU the first time, 0.3 s from its cache later."""
    return Scanner(Rules(confidence="medium"), base64=False)


def mask_listed(text: str, counts: Counter[str]) -> str:
    """The text without the secrets that Kingfisher's rules find."""
    found = [finding for finding in scanner().scan(text) if finding.visible and finding.rule_id not in LEFT_OUT]
    if not found:
        return text
    data, parts, done = text.encode(), list[bytes](), 0
    for finding in sorted(found, key=lambda finding: finding.location["start_offset"]):
        start, end = finding.location["start_offset"], finding.location["end_offset"]
        if start < done:  # within one that is masked
            continue
        kind = RULE_NAME.sub("", finding.rule_id)
        parts += [data[done:start], f"[{kind}]".encode()]
        done = end
        counts[kind] += 1
    return b"".join([*parts, data[done:]]).decode()


def mask_one(text: str, credential: Credential, counts: Counter[str]) -> str:
    """The text without secrets of one form."""

    def masked(found: re.Match[str]) -> str:
        start, end = found.span(credential.pattern.groups)
        if credential.kind == "password" and STAND_IN.fullmatch(found[1]):
            return found[0]
        counts[credential.kind] += 1
        whole = found.start()
        return f"{found[0][: start - whole]}[{credential.kind}]{found[0][end - whole :]}"

    return credential.pattern.sub(masked, text)
