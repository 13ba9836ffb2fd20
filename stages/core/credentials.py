"""Formats of keys, tokens and passwords, and their masks: those that are found without loading a scanner."""

import re
from collections import Counter
from typing import NamedTuple


class Credential(NamedTuple):
    """Format of a secret. The pattern's group is the secret if there is one, otherwise the whole match."""

    kind: str
    markers: tuple[str, ...]  # every match contains one of them: a cheap pre-check
    pattern: re.Pattern[str]


KEY_BLOCK = r"PRIVATE KEY(?: BLOCK)?-----"
CREDENTIALS = (
    # With its end, or up to the last line of base64 if the end is missing.
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
    # At least one digit: "bearer of internationalisation" is not a token.
    Credential(
        "bearer-token",
        ("earer", "EARER"),
        re.compile(r"\bbearer\s+((?=[^\s]{0,200}[0-9])[A-Za-z0-9._~+/-]{20,}=*)", re.IGNORECASE),
    ),
    Credential("password", ("://",), re.compile(r"://[^\s/:@\"'<>]{1,128}:([^\s/@\"'<>]{1,128})@")),
)
# Placeholders for passwords in manuals.
STAND_IN = re.compile(r"[$%{\[*].*|x+|\.+|(?:your|my)?[_-]?(?:pass|passwd|password|pw|pwd|secret|token)", re.IGNORECASE)


def mask_one(text: str, credential: Credential, counts: Counter[str]) -> str:
    """Replace the secrets of one format."""

    def masked(found: re.Match[str]) -> str:
        start, end = found.span(credential.pattern.groups)
        if credential.kind == "password" and STAND_IN.fullmatch(found[1]):
            return found[0]
        counts[credential.kind] += 1
        whole = found.start()
        return f"{found[0][: start - whole]}[{credential.kind}]{found[0][end - whole :]}"

    return credential.pattern.sub(masked, text)
