"""Redaction of secrets in addresses, command lines and messages, before anything shows, stores or sends them.

The text is no longer what was typed: use it for people and records, never to open anything. What is masked: the part of
an address before ``@``, query parameters that sign or authorise (S3, Google and Azure signatures, tokens, keys), paths
of chat webhooks, the values of ``NAME=VALUE`` and ``"NAME": "VALUE"`` for names of secrets, options such as
``--webhook`` and ``--notify-command``, keys and tokens in the forms their issuers give them, and the values of this
process's own environment variables that hold secrets.
"""

import os
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from rewarm.stages.core.credentials import CREDENTIALS, mask_one

MASK = "***"
SHORTEST = 8  # characters of an environment variable's value that is searched for; shorter ones are words
ADDRESS_OPTIONS = ("--webhook",)  # the host stays
COMMAND_OPTIONS = ("--notify-command",)  # the program stays
# Parts of names, in a query: SAS tokens have `sig`, presigned S3 and Google addresses `X-Amz-…` and `X-Goog-…`.
PARTS = frozenset(
    (
        *("token", "secret", "password", "passwd", "passphrase", "pwd", "pass", "signature", "sig", "credential"),
        *("credentials", "auth", "authorization", "apikey", "accesskey", "secretkey", "key", "jwt", "hmac", "sas"),
        *("session", "code"),
    )
)
# Ends of names outside of a query, where `key` and `code` are ordinary words.
NAMES = re.compile(
    r"(?:token|secret|password|passwd|passphrase|pwd|signature|(?:^|[_.-])sig|credentials?|authorization|"
    r"(?:api|access|secret|private|account)[_.-]?key(?:[_.-]?id)?)$",
    re.IGNORECASE,
)
NOT_SECRET = ("PWD", "OLDPWD")  # a shell's folders
SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"
END = r"\s\"'<>`"  # characters that end an address in running text
USER = re.compile(rf"({SCHEME})(?!anonymous@)(?:[^{END}/?#]*@|[^{END}/?#:@]+:(?!\d{{1,5}}(?:[/?#{END}]|$))[^{END}@]*@)")
VALUE = rf"(?:(?!%26|%3F)[^{END}&#;])*(?!%26|%3F)[^{END}&#:,.;)\]}}]"
PARAMETER = re.compile(rf"([?&#;]|%3F|%26)([\w.-]+)(=|%3D)({VALUE})", re.IGNORECASE)
# Chat services whose addresses are the secret: the path after the host (or after `/api/webhooks`, `/bot`).
CHAT = re.compile(
    rf"({SCHEME}(?:hooks\.slack\.com|(?:[\w-]+\.)?discord(?:app)?\.com/api/webhooks|[\w.-]*webhook\.office\.com|"
    rf"outlook\.office\.com/webhook|[\w.-]+\.logic\.azure\.com(?::\d+)?|api\.telegram\.org|ntfy\.sh|hc-ping\.com|"
    rf"events\.pagerduty\.com)/)(?!\*\*\*)[^{END}?#]+",
    re.I,
)
BEARER = re.compile(r"\b((?:authorization\s*[:=]\s*)(?:bearer|basic|token|aws4-hmac-sha256)?\s*)[^\s\"',;]+", re.I)
QUOTED = re.compile(r"([\"'])([\w.-]+)\1(\s*[:=]\s*)([\"'])((?:(?!\4).)+)\4")
ASSIGNED = re.compile(r"(?<![\w?&#;.%-])([A-Za-z_][\w.-]*)=(\"[^\"]*\"|'[^']*'|[^\s\"'&]*[^\s\"'&:,.;)\]}])")
SPOKEN = re.compile(r"(?<![\w?&#;.%/-])([A-Za-z_][\w.-]*):[ \t]+((?=[^\s\"']*\d)[^\s\"',;)\]}]{6,})")
OPTION = re.compile(r"(?<!\S)(--[a-z][\w-]*)([= ]\s*)(\"[^\"]*\"|'[^']*'|[^\s\"']+)")


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """``text`` without secrets, each replaced by ``***``; ``environment`` is this process's by default.

    Applied again it changes nothing.
    """
    for value in held_secrets(os.environ if environment is None else environment):
        text = text.replace(value, MASK)
    text = OPTION.sub(option_redacted, text)
    text = USER.sub(rf"\1{MASK}@", text)
    text = PARAMETER.sub(lambda it: it[0] if not signs(it[2]) else f"{it[1]}{it[2]}{it[3]}{MASK}", text)
    text = CHAT.sub(rf"\1{MASK}", text)
    text = BEARER.sub(rf"\1{MASK}", text)
    text = QUOTED.sub(lambda it: f"{it[1]}{it[2]}{it[1]}{it[3]}{it[4]}{MASK}{it[4]}" if names(it[2]) else it[0], text)
    text = ASSIGNED.sub(lambda it: f"{it[1]}={MASK}" if names(it[1]) else it[0], text)
    text = SPOKEN.sub(lambda it: f"{it[1]}: {MASK}" if names(it[1]) else it[0], text)
    for credential in CREDENTIALS:  # not the hundreds of rules for documents, which take seconds to load
        if any(marker in text for marker in credential.markers):
            text = mask_one(text, credential, Counter())
    return text


def redact_words(words: Sequence[str], environment: Mapping[str, str] | None = None) -> list[str]:
    """A command line's words without secrets, among them what follows an option whose value is one."""
    found: list[str] = []
    option = ""
    environment = dict(os.environ) if environment is None else environment  # decoded once for all words
    for word in words:
        name, equals, value = word.partition("=")
        if option:
            found.append(redact(value_redacted(option, word), environment))
        elif equals and name.startswith("--"):
            found.append(f"{name}={redact(value_redacted(name, value), environment)}")
        else:
            found.append(redact(word, environment))
        option = word if not option and word.startswith("--") and not equals else ""
    return found


def value_redacted(option: str, value: str) -> str:
    """Return an option's value as it may be shown."""
    if option in ADDRESS_OPTIONS:
        return host_only(value)
    if option in COMMAND_OPTIONS:
        return program_only(value)
    return MASK if names(option.lstrip("-")) else value


def host_only(address: str) -> str:
    """A webhook's address without its path, which is often its secret."""
    scheme, mark, rest = address.partition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    return (
        f"{scheme}://{host}" + (f"/{MASK}" if len(rest.rpartition("@")[2]) > len(host) + 1 else "") if mark else address
    )


def program_only(command: str) -> str:
    """A command without its arguments; all of it is masked if its first word is no plain program."""
    try:
        first, *rest = shlex.split(command)
    except ValueError:
        return MASK
    if "=" in first or "://" in first:
        return MASK
    return f"{first} {MASK}" if rest else first


def signs(name: str) -> bool:
    """Whether a query parameter is a secret, by the words of its name (``X-Amz-Signature``, ``accessKey``, ``sig``)."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()
    return bool(PARTS & set(re.split(r"[^a-z0-9]+", words)))


@lru_cache(maxsize=1024)
def names(name: str) -> bool:
    """Whether a name outside of an address is one of a secret."""
    return NAMES.search(name) is not None


def held_secrets(environment: Mapping[str, str]) -> list[str]:
    """Values of variables that hold secrets, the longest first."""
    found = {
        value
        for name, value in environment.items()
        if names(name) and name not in NOT_SECRET and len(value) >= SHORTEST and MASK not in value
    }
    return sorted(found, key=len, reverse=True)


def option_redacted(found: re.Match[str]) -> str:
    """An option and its value in running text."""
    quote = found[3][0] if found[3][0] in "\"'" else ""
    value = found[3].strip(quote) if quote else found[3]
    return f"{found[1]}{found[2]}{quote}{value_redacted(found[1], value)}{quote}"


def host_of(address: str) -> str:
    """The host of an address, for lines that name it; empty if it has none."""
    return urlsplit(address).hostname or ""
