"""Masks of personal data (PII): replaces it with neutral placeholders, such as addresses reserved for documentation.

Keys, tokens and passwords are recognised by their issuers' formats: the 488 rules of Kingfisher with medium and high
confidence (MongoDB, Apache 2.0; derived from those of Betterleaks and Gitleaks, MIT), and some that it omits for lack
of certainty: an access key without its secret, a key block without its end, a password in a URL.
benchmarks/credentials.py compares them.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from kingfisher_sdk import Rules, Scanner
from publicsuffixlist import PublicSuffixList

from rewarm.stages.core.credentials import CREDENTIALS, mask_one
from rewarm.stages.ingest.filters.phones import mask_phones
from rewarm.stages.ingest.filters.unicode import as_ascii
from rewarm.stages.ingest.records import Document, Refusal

# Rules of Kingfisher that damage healthy text: the rule above recognises placeholders in manuals.
LEFT_OUT = frozenset({"betterleaks.generic-credential-uri"})
RULE_NAME = re.compile(r"^(?:betterleaks\.|veles\.secrets/)|\.\d+$")  # prefix and suffix of a rule's name in its id


def mask_credentials(text: str, counts: Counter[str]) -> str:
    """Replace every secret by its kind in brackets (``[github-token]``); update ``counts`` by kind."""
    for credential in CREDENTIALS:
        if any(marker in text for marker in credential.markers):
            text = mask_one(text, credential, counts)
    return mask_listed(text, counts)


@cache
def scanner() -> Scanner:
    """Return Kingfisher's compiled rules: 3 s of CPU the first time, 0.3 s from its cache later."""
    return Scanner(Rules(confidence="medium"), base64=False)


def mask_listed(text: str, counts: Counter[str]) -> str:
    """Replace the secrets found by Kingfisher's rules."""
    found = [finding for finding in scanner().scan(text) if finding.visible and finding.rule_id not in LEFT_OUT]
    if not found:
        return text
    data, parts, done = text.encode(), list[bytes](), 0
    for finding in sorted(found, key=lambda finding: finding.location["start_offset"]):
        start, end = finding.location["start_offset"], finding.location["end_offset"]
        if start < done:  # inside a masked secret
            continue
        kind = RULE_NAME.sub("", finding.rule_id)
        parts += [data[done:start], f"[{kind}]".encode()]
        done = end
        counts[kind] += 1
    return b"".join([*parts, data[done:]]).decode()


EMAIL = "email@example.com"  # RFC 2606
IPV4 = "192.0.2.1"  # RFC 5737
IPV6 = "2001:db8::1"  # RFC 3849

# Letters of scripts with spaces between words: Chinese and Japanese text has no blanks around addresses.
LATIN = "0-9A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f"
OTHER_LETTERS = "\u0370-\u03ff\u0400-\u0481\u048a-\u052f\u0531-\u0587\u05d0-\u05ea\u0620-\u064a\u0671-\u06d3"
EMAIL_PATTERN = re.compile(
    rf"(?:(?<![{LATIN}._%+-])[{LATIN}_][{LATIN}._%+-]{{0,63}}"
    rf"|(?<![0-9{OTHER_LETTERS}._%+-])[{OTHER_LETTERS}][0-9{OTHER_LETTERS}._%+-]{{0,63}})@"
    rf"((?:[{LATIN}{OTHER_LETTERS}-]{{1,63}}\.){{1,8}}"
    rf"(?:[Xx][Nn]--[A-Za-z0-9-]{{1,59}}|[A-Za-z]{{2,24}}|[{OTHER_LETTERS}]{{2,24}}))(?![A-Za-z0-9])"
)
# Two sentences without a blank between them: ``jane@corp.com.Then``.
NEXT_SENTENCE = re.compile(r"\.[A-Z][a-z]+$")
# Text that only looks like a domain: ``logo@2x.ai`` of an image, ``left-pad@1.2.3-beta.io`` of a package.
SCALE_OR_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)?x[.-]|[Vv]?[0-9]+\.[0-9]", re.IGNORECASE)
# Before these are no names of mailboxes: Kotlin's ``this@MainActivity.name``, R's ``object@project.name``.
MEMBER = re.compile(r"(?:this|super|return|break|continue|object)@")
# Top-level domains that are also attributes of arrays in Python: ``W@x.to(device)`` is a matrix product.
METHODS = frozenset(
    ("center", "data", "dot", "ge", "gt", "int", "lt", "map", "mm", "mv", "name", "ne", "new", "prod", "select", "to")
)
ATTRIBUTES = frozenset(("data", "mH", "mT"))
# Accounts of repositories, not names of people.
REPOSITORY_ACCOUNT = re.compile(r"(?:git|hg|svn|gitea|gitlab|forgejo|gogs|bzr|cvs)@", re.IGNORECASE)
# The path in ``user@host:path``, as used by scp, rsync and git.
REMOTE_PATH = re.compile(r":(?:~?/[\w.~]|[\w.~/-]+\.git\b)")
RESERVED = re.compile(r"(?:.*\.)?(?:example\.(?:com|net|org)|example|invalid|test|localhost)", re.IGNORECASE)
# Text before the last part of ``user:password@`` in a URL: an e-mail address does not begin there.
USERINFO = re.compile(r"://[^\s/@]*$")
USERINFO_LENGTH = 256
# These begin with a set of characters, which makes the search fast; the text before a match is checked afterwards.
# As with e-mail addresses, Chinese and Japanese letters may touch them.
LETTER = f"{LATIN}{OTHER_LETTERS}_"
IPV4_PATTERN = re.compile(rf"[0-9](?<![{LETTER}.].)[0-9]{{0,2}}(?:\.[0-9]{{1,3}}){{3}}(?![{LETTER}]|\.[0-9])")
# The word "version" in other languages, some with endings; and words for the parts of a document.
VERSIONS = (
    r"versi(?:ón|ones|one|oni|onen|onnummer)|vers(?:ão|ões)|wersj[aięy]|verz[ei]\w{0,3}|fassung|verziója?|sürümü?|έκδοση[ς]?"
    r"|верси[яиюей]\w{0,2}|версі[яїюєй]\w{0,2}|ред\.|الإصدار|إصدار|نسخه|نسخة|גרסה|संस्करण|phiên bản|versi|เวอร์ชัน|รุ่น"
    r"|版本号?|版本號?|版次|버전|バージョン|ヴァージョン"
)
PARTS = (
    r"abschnitt|kapitel|ziffer|absatz|anhang|abbildung|tabelle|secci[oó]n|cap[ií]tulo|apartado|art[ií]culo|se[cç][cç][aã]o|chapitre"
    r"|paragraphe|annexe|sezione|capitolo|hoofdstuk|rozdział|раздел[аеу]?|пункт[аеу]?|глав[аеыу]|стать[яиею]|п\.|ст\.|розділ[уі]?"
    r"|第|章节|条款|附录|图|圖|図|제|(?:升级|更新)[到至]"
)
INSIDE = "(?<![A-Za-z\u00c0-\u024f\u0400-\u04ff])"  # not the end of a longer word
# Text between a word such as "version" and the last of the numbers after it: ``is``, ``: "``, ``1.2.3.4 to ``.
TO_VERSION = (
    r"(?: (?:is|was|to|from|of|no\.?|number|the))?[\"'>]?\s{0,2}[=:：]{0,2}\s?[\"'(\[]{0,2}"
    r"(?:v?[0-9]+(?:\.[0-9]+){1,3}(?:,? (?:to|and|or|through) |, | ?[-\u2013] ?|/))*$"
)
# Text before four numbers that are not an IP address: "version" and the like, ``foo==``, ``^``.
BEFORE_VERSION = re.compile(
    rf"(?:(?:version|firmware|release|revision)s?|\b(?:ver|rev)\.?|\bv\.?|{INSIDE}(?:{VERSIONS})){TO_VERSION}"
    r"|^\s*(?:#{1,6}|=+)\s+\[?v?$|^\s*-\s+[a-z][\w.-]*=$|\btags?/$"
    r"|[~^]=?\s?[\"']?$|(?<![\w.])(?!\w*(?:ip|host|addr|src|dst)\b)[A-Za-z][\w-]*(?:\[[\w,-]*\])?(?:==|>=|<=|~=|!=)$"
    r"|(?:^|[\s,;(\"'])(?:==|>=|<=|~=|!=)\s?$|,v\s$|\bObjectIdentifier\([\"']$",
    re.IGNORECASE,
)
# The same before numbers of which at most one is above 99: also ``section``, ``upgrade from``, ``foo-``, ``Chrome/``.
BEFORE_LIKELY = re.compile(
    r"(?:(?:kernel|driver|build|section|chapter|clause|paragraph|article|figure|table|appendix|annex|upgraded?|"
    r"downgraded?|updated?|installed|bump(?:ed)?|lemma|theorem|since)s?|\b(?:sec|fig|oid|ec|tag|see|cl|eq)\.?|§§?"
    rf"|\b(?:changes|changed|changelog|new|added|fixed|introduced|deprecated|removed) (?:in|for)"
    rf"|\bbump(?:s|ed)? [\w@/.-]+ from|{INSIDE}(?:{PARTS})){TO_VERSION}"
    r"|(?<![\w./@])(?!(?:ip|ipv4|host|addr|address|server|client|node|from|to)\b)[A-Za-z][\w+-]*[-_/]$",
    re.IGNORECASE,
)
# A product name before a version (``OpenSSL 1.0.2.1``), whose numbers are small.
BEFORE_SMALL = re.compile(
    r"(?<![\w.])(?!(?i:ip|ipv4|ips|host|hosts|addr|address|addresses|server|servers|dns|client|node|peer|gateway|router|"
    r"remote|source|destination|user|ping|ssh|via|from|to|at|by|and|or|the|is|in|on|if|with|for|use|try|set|add)\b)"
    r"[A-Z][\w+.-]*[a-z][\w+.-]* $"
)
SMALL = 100
X500_ARCS = (4, 29)  # object identifiers of attributes (2.5.4.3) and of certificates' extensions (2.5.29.17)
BEFORE_LENGTH = 64
# Text after them: ``.tar.gz``, ``-beta``, or the words of a heading (``2.3.1.1 Scope``).
AFTER_VERSION = re.compile(
    r" ?\((?:19|20)[0-9]{2}[-./][0-9]{1,2}[-./][0-9]{1,2}\)"
    r"|\.(?:tar|t[gbx]z|zip|whl|deb|rpm|jar|war|exe|msi|dll|so|nupkg|gem|dmg|apk|pkg|egg|7z|iso)\b"
    r"|[-+](?:alpha|beta|rc|dev|snapshot|pre|post|final|release|git|el[0-9]|[0-9]+(?![0-9.]))",
    re.IGNORECASE,
)
# Coordinates of a drawing's path: numbers of at most two points on both sides (``2.12 3.51.98.32 2.03.5``).
BEFORE_PATH = re.compile(r"(?:^|[^0-9.])[0-9]*(?:\.[0-9]+){0,2}[ ,-]$")
AFTER_PATH = re.compile(r"[ ,-]-?[0-9]*(?:\.[0-9]+){1,2}(?![0-9.])")
HEADING = re.compile(r"\.? (?:[A-Z][a-z]|[^\W\d_\x00-\x7f])")
HEADING_PARTS = 30  # highest number of a section in a document
# All public addresses are in 2000::/3 (RFC 4291).
IPV6_PATTERN = re.compile(
    rf"[23](?<![{LETTER}:.].)[0-9A-Fa-f]{{3}}(?::[0-9A-Fa-f]{{0,4}}){{1,6}}:[0-9A-Fa-f]{{1,4}}(?![{LETTER}]|:[{LETTER}])"
)


def mask_text(text: str, kinds: Sequence[str], phone_region: str | None = None) -> tuple[str, Counter[str]]:
    """Return the text with personal data of ``kinds`` (email, ip, phone, credentials) replaced, and counts by kind.

    Credentials are counted by their own kinds. A text without personal data is returned as the same object. Matches
    that appear only after masking are masked, too, so masking twice makes no difference.
    """
    counts: Counter[str] = Counter()
    while True:
        masked = mask_once(text, kinds, phone_region, counts)
        if masked == text:
            return text, counts
        text = masked


def mask_once(text: str, kinds: Sequence[str], phone_region: str | None, counts: Counter[str]) -> str:
    """Apply every kind once, credentials first: a password before an @ is not an e-mail address."""
    if "credentials" in kinds:
        text = mask_credentials(text, counts)
    if "email" in kinds and ("@" in text or "\uff20" in text):
        text = mask_emails(text, counts)
    if "ip" in kinds:
        text = mask_addresses(text, counts)
    if "phone" in kinds:
        text = mask_phones(text, phone_region, counts)
    return text


def replace_matches(pattern: re.Pattern[str], text: str, replacement: Callable[[re.Match[str]], str | None]) -> str:
    """Replace the matches in a text's ASCII form; a replacement of None keeps the match."""
    parts, done = list[str](), 0
    for found in pattern.finditer(as_ascii(text)):
        if (new := replacement(found)) is not None:
            parts += [text[done : found.start()], new]
            done = found.end()
    return "".join([*parts, text[done:]]) if parts else text


def mask_emails(text: str, counts: Counter[str]) -> str:
    """Replace e-mail addresses, except those in domains reserved for documentation (RFC 2606) and ``user@`` in URLs.

    The domain must end with a public suffix (publicsuffix.org).
    """

    def masked(found: re.Match[str]) -> str | None:
        domain, rest = found[1], ""
        if not is_registered(domain) and (glued := NEXT_SENTENCE.search(domain)):
            domain, rest = domain[: glued.start()], glued[0]
        before = found.string[max(found.start() - USERINFO_LENGTH, 0) : found.start()]
        behind = rest or found.string[found.end() : found.end() + USERINFO_LENGTH]
        if (
            not is_registered(domain)
            or RESERVED.fullmatch(domain)
            or USERINFO.search(before)
            or is_code(found[0], domain, behind)
        ):
            return None
        counts["email"] += 1
        return EMAIL + rest

    return replace_matches(EMAIL_PATTERN, text, masked)


def is_registered(domain: str) -> bool:
    """Return whether a name is below a public suffix, as required for mail."""
    return suffixes().privatesuffix(domain.lower()) is not None


@cache
def suffixes() -> PublicSuffixList:
    """Return the public suffixes of the installed package, in ASCII and Unicode; unlisted ones do not count."""
    return PublicSuffixList(accept_unknown=False)


def is_code(address: str, domain: str, behind: str) -> bool:
    """Return whether ``name@domain`` belongs to a repository, an image, a package, an object or a matrix
    product."""
    last = domain.rpartition(".")[2]
    return bool(
        REPOSITORY_ACCOUNT.match(address)
        or MEMBER.match(address)
        or REMOTE_PATH.match(behind)
        or SCALE_OR_VERSION.match(domain)
        or last in ATTRIBUTES
        or (last in METHODS and behind[:1] in ("(", "["))
    )


def mask_addresses(text: str, counts: Counter[str]) -> str:
    """Replace public IP addresses; private and documentation addresses, networks (``x.y.z.0``) and versions are
    kept."""

    def masked(found: re.Match[str]) -> str | None:
        try:
            address = ipaddress.ip_address(found[0])
        except ValueError:
            return None
        if not address.is_global or address.is_multicast or (address.version == 4 and is_version(found)):
            return None
        counts["ip"] += 1
        return IPV4 if address.version == 4 else IPV6

    text = replace_matches(IPV4_PATTERN, text, masked)
    return replace_matches(IPV6_PATTERN, text, masked)


def is_version(found: re.Match[str]) -> bool:
    """Return whether four numbers are a version, a section, a network or an object identifier, not an IP address."""
    text = found.string
    parts = [int(part) for part in found[0].split(".")]
    line = text.rfind("\n", 0, found.start()) + 1
    before = text[max(found.start() - BEFORE_LENGTH, line) : found.start()]
    likely = sum(part >= SMALL for part in parts) <= 1
    heads = not before.strip(" \t#*•-") and max(parts) <= HEADING_PARTS and HEADING.match(text, found.end())
    return bool(
        parts[-1] == 0
        or heads
        or (parts[0] == 2 and parts[1] == 5 and parts[2] in X500_ARCS)
        or (max(parts) < SMALL and BEFORE_SMALL.search(before))
        or BEFORE_VERSION.search(before)
        or (before[-2:-1].isdecimal() and BEFORE_PATH.search(before) and AFTER_PATH.match(text, found.end()))
        or (likely and (BEFORE_LIKELY.search(before) or AFTER_VERSION.match(text, found.end())))
    )


@dataclass(frozen=True)
class MaskStep:
    """Step that replaces personal data in a document's text and title; it refuses nothing."""

    kinds: tuple[str, ...]
    phone_region: str | None = None
    name: str = "mask-pii"
    version: int = 6

    def __call__(self, document: Document) -> Document | Refusal:
        """Return the document with placeholders."""
        text, _ = mask_text(document.text, self.kinds, self.phone_region)
        title = mask_text(document.title, self.kinds, self.phone_region)[0] if document.title else document.title
        if text is document.text and title is document.title:
            return document
        return replace(document, text=text, title=title)
