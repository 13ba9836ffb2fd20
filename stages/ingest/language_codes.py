"""Language codes: ISO 639-1 for the labels that records and pages use."""

import re
from functools import cache

UNDETERMINED = "und"  # ISO 639-2
CODE = "code"  # source code, under the name that model cards on the hub give it
DEVANAGARI = "Devanagari"
# Scripts used by one language, or predominantly by one, as the inside of character classes; and Devanagari.
SCRIPTS = {
    "am": r"\u1200-\u135a\u1380-\u139f\u2d80-\u2dde\uab01-\uab2e",
    "bn": r"\u0980-\u09fe",
    "bo": r"\u0f40-\u0fbc",
    "dv": r"\u0780-\u07b1",
    "el": r"\u0370-\u03ff\u1f00-\u1fff",
    "gu": r"\u0a80-\u0aff",
    "he": r"\u0591-\u05f4\ufb1d-\ufb4f",
    "hy": r"\u0531-\u0587",
    "ka": r"\u10a0-\u10ff",
    "km": r"\u1780-\u17d3",
    "kn": r"\u0c80-\u0cff",
    "ko": r"\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3",
    "lo": r"\u0e80-\u0eff",
    "ml": r"\u0d00-\u0d7f",
    "my": r"\u1000-\u103f\u1050-\u109f\uaa60-\uaa7f",
    "or": r"\u0b00-\u0b77",
    "pa": r"\u0a00-\u0a76",
    "si": r"\u0d80-\u0df3",
    "ta": r"\u0b80-\u0bfa",
    "te": r"\u0c00-\u0c7f",
    "th": r"\u0e01-\u0e5b",
    "zh": r"\u3005-\u3007\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",  # kana identify Japanese
    DEVANAGARI: r"\u0900-\u0963\u0970-\u097f",
}
# By language, another language of the same script and letters (or words) that only the other has: Tigrinya, Assamese,
# Yiddish.
SIBLINGS = {
    "am": ("ti", "[\u1250-\u125d\u12a3\u12b8-\u12be\u12c0-\u12c5]"),
    "bn": ("as", "[\u09f0\u09f1]"),
    "he": (
        "yi",
        "[\u05f0-\u05f2\ufb1d\ufb1f]|\u05d0[\u05b7\u05b8]"
        "|(?<![\u05d0-\u05ea])(?:און|דער|פון|איז|מיט|אויף|דאס|ניט|נישט)(?![\u05d0-\u05ea])",
    ),
}
# Scripts of many languages, distinguished by profiles: Latin, Cyrillic, Arabic.
SHARED_SCRIPTS = r"A-Za-z\u00aa-\u02af\u0300-\u036f\u1e00-\u1eff\u0400-\u052f\u0610-\u06ff\u0750-\u077f\u08a0-\u08ff"
# Names and three-letter codes (ISO 639-2, both variants) of languages that often occur as labels.
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
    "km": "khm khmer",
    "ko": "kor korean",
    "lo": "lao",
    "lt": "lit lithuanian",
    "lv": "lav latvian",
    "my": "mya bur burmese myanmar",
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
    "te": "tel telugu",
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
    """Return the ISO 639-1 codes that detection can return."""
    from resiliparse.parse.lang import supported_langs

    return frozenset(supported_langs()) | (SCRIPTS.keys() - {DEVANAGARI})


def normalise_language(label: str | None) -> str | None:
    """Return the ISO 639-1 code of a label ("en-US", "eng", "English", "zh_Hant"), or None if it is unknown."""
    name = re.split(r"[-_;,\s]", (label or "").strip().lower(), maxsplit=1)[0]
    code = CODES.get(name, name)
    return code if code in known_languages() else None
