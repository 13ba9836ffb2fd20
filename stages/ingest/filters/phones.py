"""Masks of telephone numbers, found and validated by phonenumbers, Google's library."""

import re
from collections import Counter

import phonenumbers

from rewarm.stages.ingest.filters.unicode import as_ascii

PHONE = "+1-202-555-0100"  # 555-0100 to 555-0199 are reserved for fiction in the North American plan
# Digits that are not a telephone number: dates (years from 1900), and numbers with a decimal point.
DAY = r"(?:0?[1-9]|[12][0-9]|3[01])"
MONTH = r"(?:0?[1-9]|1[0-2])"
YEAR = r"(?:19|20)[0-9]{2}"
NO_PHONE = re.compile(
    rf"(?<![0-9])[0-2]?[0-9][.:][0-5][0-9](?:[.:][0-5][0-9])?[ ,]{{1,2}}{DAY}([-/. ]){MONTH}\1{YEAR}(?![0-9])"
    rf"|(?<![0-9]){DAY}([-/.]){MONTH}\2[0-9]{{2}}(?=,? [0-2]?[0-9][.:][0-5][0-9](?![0-9]))"
    rf"|(?<![0-9])(?<![0-9)+][ .\-/]){DAY}\. ?{MONTH}\. {YEAR}(?![0-9])"
    r"|(?<=[0-9]{4}-[0-9]{2}-[0-9]{2}[ T_])[0-2][0-9]-[0-5][0-9]-[0-5][0-9](?![0-9])"
    rf"|(?<![0-9])(?<![0-9)+][ .\-/])(?:{YEAR}([-/.]){MONTH}\3{DAY}(?![0-9])"
    rf"|{DAY}([-/.]){DAY}\4{YEAR}(?![0-9]|[-/.][0-9]))"
    r"|(?<![0-9.+(])(?<![0-9)][\-/])(?<!\) )(?<!\+[0-9] )(?<!\+[0-9]{2} )(?<!\+[0-9]{3} )"
    r"(?:0|[1-9][0-9]?)\.[0-9]{6,}(?![0-9]|[.\-/][0-9])"
)
# Text before other numbers of such length: identifiers of books, parts, orders, sequences and persons.
IDENTIFIER = re.compile(
    r"(?:\b(?:isbn|issn|objectidentifier|ismn|ean|gtin|upc|doi|oid|cas|pmid|orcid|isni|iban|bic|vat|sku|imei|uuid|p/n|s/n|pn|part|serial|"
    r"model|patent|clause|section|rule|dfars?|invoice|order|ticket|case|article|item|batch|lot|commit|rev|revision|id)"
    r"(?:[ -]?(?:1[03]|no|nr|number|num|id)\b\.?)?[\s:#={\"'(]{0,16}|[A-Za-z0-9]_|[0-9]\.|\b10\.[0-9]{4,9}/)\+?$",
    re.IGNORECASE,
)
IDENTIFIER_LENGTH = 40
POSTAL_CODE = re.compile(r"[0-9]{5}-[0-9]{4}")  # of the United States, behind the letters of a state
STATE = re.compile(r"\b[A-Z]{2},?[\s#*/;.-]{1,12}$")
# Numbers of arXiv's articles (0909.4061), decimals and columns of them, quotients, integers of nearly 2^31.
NO_NUMBER = re.compile(
    r"[0-9]{2}(?:0[1-9]|1[0-2])\.[0-9]{4,5}|[0-9]{1,2}\.[0-9]+|[0-9]+\.[0-9]+(?:\s+[0-9]+\.[0-9]+)+|.*(?: / |//).*"
    r"|[0-9]{1,2}-[0-9]{1,2}(?:,? [0-9]{1,2}-[0-9]{1,2})+"  # results of a game's sets
    r"|2147483[0-9]{3}|[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
)
# Directly before a national number: the rest of a name, a path or a fragment (``issuecomment-2317032347``).
INSIDE_NAME = re.compile(r"[A-Za-z0-9_]-$|[/#&?]$")
BEHIND_IDENTIFIER = re.compile(r"\.[0-9]|-[0-9A-Za-z]")
GROUPS = re.compile("[0-9]+")
MANY_GROUPS = 5
TIME_END = re.compile(r"(?<=[0-9]:)[0-5][0-9](?![0-9])")
MIN_DIGITS = 6  # some countries have numbers of four digits, but so do prices and times
BEHIND_PHONE = 8  # characters that phonenumbers' own rules need to recognise a time (``10:20``) or a word
# Runs of digits that may be a telephone number: international, or also national numbers.
SEPARATORS = r"0-9 ().\-/\u00a0\u2010-\u2015"
INTERNATIONAL = re.compile(rf"(?<![0-9A-Za-z])\+ ?\(?[0-9][{SEPARATORS}]{{5,30}}[0-9]")
ANY_PHONE = re.compile(rf"(?<![0-9])[+(]?[0-9][{SEPARATORS}]{{5,30}}[0-9]")


def mask_phones(text: str, region: str | None, counts: Counter[str]) -> str:
    """Replace telephone numbers that are valid in their country's plan; without a region, only international ones."""
    plain = as_ascii(text)
    if region is None and "+" not in plain:
        return text
    pattern = ANY_PHONE if region else INTERNATIONAL
    parts, done = [], 0
    for run in pattern.finditer(plain):
        minutes = TIME_END.match(plain, run.start())
        # Including the character before: a number inside a word does not count.
        begin = minutes.end() if minutes else max(run.start() - 1, 0)
        window = NO_PHONE.sub(lambda other: "|" * len(other[0]), plain[begin : run.end() + BEHIND_PHONE])
        for match in phonenumbers.PhoneNumberMatcher(window, region):
            start = begin + match.start
            within = done <= start < run.end()
            if within and match.raw_string != PHONE and not is_identifier(plain, start, match, region):
                parts += [text[done:start], PHONE]
                done = begin + match.end
                counts["phone"] += 1
    return "".join([*parts, text[done:]]) if parts else text


def is_identifier(text: str, start: int, match: phonenumbers.PhoneNumberMatch, region: str | None) -> bool:
    """Return whether a valid number at ``start`` is too short, part of a list or calculation, or an identifier."""
    number = match.raw_string
    groups = GROUPS.findall(number)
    before = text[max(start - IDENTIFIER_LENGTH, 0) : start]
    single = sum(len(group) == 1 for group in groups)
    return bool(
        sum(map(len, groups)) < MIN_DIGITS
        or (len(groups) >= MANY_GROUPS and 2 * single > len(groups))
        or IDENTIFIER.search(before)
        or NO_NUMBER.fullmatch(number.strip("()"))
        or (POSTAL_CODE.fullmatch(number) and STATE.search(before))
        or BEHIND_IDENTIFIER.match(text, start + len(number))
        or (number[0] == "(" and before[-1:].isalnum())
        or (number[0] != "+" and INSIDE_NAME.search(before))
        or (region and number.isdecimal() and number[0] != "0" and lacks_prefix(match, region))
    )


def lacks_prefix(match: phonenumbers.PhoneNumberMatch, region: str) -> bool:
    """Return whether a number lacks the first 0 that national numbers have in its country, except those of mobiles."""
    kinds = phonenumbers.PhoneNumberType
    mobile = phonenumbers.number_type(match.number) in (kinds.MOBILE, kinds.FIXED_LINE_OR_MOBILE)
    return not mobile and phonenumbers.ndd_prefix_for_region(region, True) == "0"
