"""Personal data replaced by placeholders that stand for no one: addresses and numbers set aside for documentation."""

import ipaddress
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import phonenumbers

from stages.ingest.clean.credentials import mask_credentials
from stages.ingest.records import Document, Refusal

EMAIL = "email@example.com"  # RFC 2606
IPV4 = "192.0.2.1"  # RFC 5737
IPV6 = "2001:db8::1"  # RFC 3849
PHONE = "+1-202-555-0100"  # 555-0100 to 555-0199 are kept for fiction in the North American plan

# ASCII only: a text in Chinese or Japanese writes addresses without blanks around, and all its letters are \w.
EMAIL_PATTERN = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9_][A-Za-z0-9._%+-]{0,63}@((?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24})(?![A-Za-z0-9])"
)
RESERVED = re.compile(r"(?:.*\.)?(?:example\.(?:com|net|org)|example|invalid|test|localhost)", re.IGNORECASE)
# What stands before the last part of ``user:password@`` in an address: no e-mail address begins there.
USERINFO = re.compile(r"://[^\s/@]*$")
USERINFO_LENGTH = 256
# These begin with a set of characters, to which a search skips; what must not stand before is looked up after it.
# Four numbers after "version" are none of a machine's.
IPV4_PATTERN = re.compile(r"[0-9](?<![\w.].)(?<![Vv]ersion .)[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?!\w|\.[0-9])")
# All that is assigned to machines is in 2000::/3 (RFC 4291).
IPV6_PATTERN = re.compile(r"[23](?<![\w:.].)[0-9A-Fa-f]{3}(?::[0-9A-Fa-f]{0,4}){1,6}:[0-9A-Fa-f]{1,4}(?!\w|:\w)")
# Runs of digits that may be a telephone number: international, or also national ones.
SEPARATORS = r"0-9 ().\-/\u00a0\u2010-\u2015"
INTERNATIONAL = re.compile(rf"(?<![0-9A-Za-z])\+ ?\(?[0-9][{SEPARATORS}]{{5,30}}[0-9]")
ANY_PHONE = re.compile(rf"(?<![0-9])[+(]?[0-9][{SEPARATORS}]{{5,30}}[0-9]")


def mask_text(text: str, kinds: Sequence[str], phone_region: str | None = None) -> tuple[str, Counter[str]]:
    """The text with personal data of ``kinds`` (email, ip, phone, credentials) replaced, and how often by kind.

    Credentials count by their own kinds. A text without any is given back as the same object. What a mask uncovers is
    masked too, so masking twice changes nothing more.
    """
    counts: Counter[str] = Counter()
    while True:
        masked = mask_once(text, kinds, phone_region, counts)
        if masked == text:
            return text, counts
        text = masked


def mask_once(text: str, kinds: Sequence[str], phone_region: str | None, counts: Counter[str]) -> str:
    """One pass of every kind, credentials first: a password before an @ is no e-mail address."""
    if "credentials" in kinds:
        text = mask_credentials(text, counts)
    if "email" in kinds and "@" in text:
        text = mask_emails(text, counts)
    if "ip" in kinds:
        text = mask_addresses(text, counts)
    if "phone" in kinds:
        text = mask_phones(text, phone_region, counts)
    return text


def mask_emails(text: str, counts: Counter[str]) -> str:
    """E-mail addresses, but those at names set aside for documentation (RFC 2606) and ``user@`` within a URL."""

    def masked(found: re.Match[str]) -> str:
        before = text[max(found.start() - USERINFO_LENGTH, 0) : found.start()]
        if RESERVED.fullmatch(found[1]) or USERINFO.search(before):
            return found[0]
        counts["email"] += 1
        return EMAIL

    return EMAIL_PATTERN.sub(masked, text)


def mask_addresses(text: str, counts: Counter[str]) -> str:
    """Public IP addresses; private ones and those for documentation stay."""

    def masked(found: re.Match[str]) -> str:
        try:
            address = ipaddress.ip_address(found[0])
        except ValueError:
            return found[0]
        if not address.is_global or address.is_multicast:
            return found[0]
        counts["ip"] += 1
        return IPV4 if address.version == 4 else IPV6

    text = IPV4_PATTERN.sub(masked, text)
    return IPV6_PATTERN.sub(masked, text) if ":" in text else text


def mask_phones(text: str, region: str | None, counts: Counter[str]) -> str:
    """Telephone numbers that are valid in their country's plan; without a region only international ones."""
    if region is None and "+" not in text:
        return text
    pattern = ANY_PHONE if region else INTERNATIONAL
    parts, done = [], 0
    for run in pattern.finditer(text):
        # One character around, as a number within a word is none.
        begin = max(run.start() - 1, 0)
        for match in phonenumbers.PhoneNumberMatcher(text[begin : run.end() + 1], region):
            if match.raw_string != PHONE:
                parts += [text[done : begin + match.start], PHONE]
                done = begin + match.end
                counts["phone"] += 1
    return "".join([*parts, text[done:]]) if parts else text


@dataclass(frozen=True)
class MaskStep:
    """Replaces personal data in a document's text and title; refuses nothing."""

    kinds: tuple[str, ...]
    phone_region: str | None = None
    name: str = "mask-pii"
    version: int = 1

    def __call__(self, document: Document) -> Document | Refusal:
        """The document with placeholders."""
        text, _ = mask_text(document.text, self.kinds, self.phone_region)
        title = mask_text(document.title, self.kinds, self.phone_region)[0] if document.title else document.title
        if text is document.text and title is document.title:
            return document
        return replace(document, text=text, title=title)
