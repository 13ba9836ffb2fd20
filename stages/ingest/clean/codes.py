"""Codes of languages: what records and pages write, as ISO 639-1."""

import re
from functools import cache

from resiliparse.parse.lang import supported_langs

UNDETERMINED = "und"  # ISO 639-2
# Names and codes of three letters (ISO 639-2, both variants) of languages that records are often labelled with.
NAMES = {
    "ar": "ara arabic",
    "bg": "bul bulgarian",
    "bn": "ben bengali",
    "ca": "cat catalan",
    "cs": "ces cze czech",
    "da": "dan danish",
    "de": "deu ger german",
    "el": "ell gre greek",
    "en": "eng english",
    "es": "spa spanish castilian",
    "et": "est estonian",
    "fa": "fas per persian farsi",
    "fi": "fin finnish",
    "fr": "fra fre french",
    "he": "heb hebrew iw",
    "hi": "hin hindi",
    "hr": "hrv croatian",
    "hu": "hun hungarian",
    "id": "ind indonesian in",
    "it": "ita italian",
    "ja": "jpn japanese jp",
    "ko": "kor korean",
    "lt": "lit lithuanian",
    "lv": "lav latvian",
    "nl": "nld dut dutch",
    "no": "nor norwegian nb nob nn nno",
    "pl": "pol polish",
    "pt": "por portuguese",
    "ro": "ron rum romanian",
    "ru": "rus russian",
    "sk": "slk slo slovak",
    "sl": "slv slovenian slovene",
    "sr": "srp serbian",
    "sv": "swe swedish",
    "sw": "swa swahili",
    "ta": "tam tamil",
    "th": "tha thai",
    "tr": "tur turkish",
    "uk": "ukr ukrainian",
    "ur": "urd urdu",
    "vi": "vie vietnamese",
    "zh": "zho chi cmn chinese mandarin",
}
CODES = {name: code for code, names in NAMES.items() for name in names.split()}


@cache
def known_languages() -> frozenset[str]:
    """The ISO 639-1 codes that detection can give."""
    return frozenset(supported_langs())


def normalise_language(label: str | None) -> str | None:
    """The ISO 639-1 code of a label ("en-US", "eng", "English", "zh_Hant"), or None where it is no known language."""
    name = re.split(r"[-_;,\s]", (label or "").strip().lower(), maxsplit=1)[0]
    code = CODES.get(name, name)
    return code if code in known_languages() else None
