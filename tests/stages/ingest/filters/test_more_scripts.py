"""Healthy prose in more scripts, in both normal forms, through languages, rules and masks: nothing changes it."""

import tomllib
import unicodedata
from pathlib import Path
from typing import Literal

import pytest

from rewarm.stages.ingest.filters.c4 import ends_sentence
from rewarm.stages.ingest.filters.language import detect_language
from rewarm.stages.ingest.filters.pii import mask_text
from rewarm.stages.ingest.filters.settings import RulesSettings
from rewarm.stages.ingest.filters.steps import rule_steps
from rewarm.stages.ingest.records import Document
from rewarm.stages.ingest.words import has_final_mark, marks_sentences

PROSE: dict[str, str] = tomllib.loads(Path(__file__).with_name("prose.toml").read_text("utf-8"))
FORMS: list[Literal["NFC", "NFD"]] = ["NFC", "NFD"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("language", PROSE)
def test_prose_in_many_scripts_stays_as_it_is(language: str, form: Literal["NFC", "NFD"]) -> None:
    text = unicodedata.normalize(form, PROSE[language])
    assert detect_language(text, 200, 1200, 20)[0] == language
    for known in (language, None):
        document = Document(text, None, None, known, None)
        for step in rule_steps(RulesSettings(apply=["gopher-repetition", "gopher-quality", "c4", "fineweb"])):
            assert step(document) is document, step.name
    assert mask_text(text, ("credentials", "email", "ip", "phone"), "US")[0] is text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ናይ ከተማ ቤት ምኽሪ ሰሉስ ምሸት ተኣኪቡ ብዛዕባ ሓድሽ ህንጻ ቤተ መጻሕፍቲ ዘትዩ።", "ti"),
        ("Mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền.", "vi"),  # shorter than 200 letters
        (unicodedata.normalize("NFD", "Mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm."), "vi"),
        (
            "ብመንጽር ክብርን መሰልን ኩሎም ሰባት እንትውለዱ ነፃን ማዕርን እዮም። ምስትውዓልን ሕልናን ዝተዓደሎም ብምዃኖም ንሕድሕዶም ብሕውነታዊ መንፈስ ክተሓላለዩ ኦለዎም።",
            "ti",
        ),
        ("ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ ᎠᎴ ᎠᏂᏴᏫᏯ " * 30, "und"),  # no profile of this script: no language is guessed
        ("ⵜⴰⵎⴰⵣⵉⵖⵜ ⵏ ⵓⵎⵔⵔⵓⴽ " * 30, "und"),
        (
            "Ｔｈｅ　ｃｏｕｎｃｉｌ　ｍｅｔ　ｔｏ　ｔａｌｋ　ａｂｏｕｔ　ｔｈｅ　ｌｉｂｒａｒｙ．　" * 8,
            "en",
        ),
    ],
)
def test_languages_of_rare_scripts_and_wide_letters(text: str, expected: str) -> None:
    assert detect_language(text, 200, 1200, 20)[0] == expected


@pytest.mark.parametrize("end", [" 🎉", "🎉🎉", " 👩‍👩‍👧 ", " ❤️", " 👍🏽\u200d", " ★"])
@pytest.mark.parametrize(
    "sentence", ["The council met on Tuesday evening.", "市议会星期二晚上开会，讨论新的图书馆大楼。"]
)
def test_emoji_behind_a_sentence_hide_no_mark(sentence: str, end: str) -> None:
    assert has_final_mark(sentence + end) and ends_sentence(sentence + end)
    assert not has_final_mark(sentence[:-1] + end) and not ends_sentence(sentence[:-1] + end)


def test_thai_with_many_names_in_latin_letters_has_no_sentence_marks() -> None:
    assert not marks_sentences("ติดตั้ง Docker Desktop แล้วรันคำสั่ง docker compose up เพื่อเริ่ม PostgreSQL จากนั้นเปิด browser")
    assert marks_sentences("The word สวัสดี is a greeting in Thai, and most people say it with a bow.")
