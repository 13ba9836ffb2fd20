"""What a word is: marks, joined words, scripts without spaces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewarm.stages.ingest.words import bare_words, is_unspaced, marks_sentences, num_unspaced, patterns, tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop, well-known!", ["Don't", "stop", ",", "well", "-", "known", "!"]),
        ("It’s 3.14 of 1,000 (red,green).", ["It’s", "3.14", "of", "1,000", "(", "red", ",", "green", ")."]),
        ("see example.com ... now", ["see", "example.com", "...", "now"]),
        ("snake_case --flag", ["snake_case", "--", "flag"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("我们在。", ["我们", "在", "。"]),
        ("カタカナ語のテスト", ["カタカナ", "語", "の", "テスト"]),
        ("ที่", ["ที่"]),
        ("ไทยแลนด์ ที่นี่", ["ไทย", "แลนด์", "ที่", "นี่"]),
        ("ພາສາລາວ", ["ພາສາ", "ລາວ"]),
        ("မြို့တော်ဝန်က ဘတ်ဂျက်ကို", ["မြို့တော်ဝန်", "က", "ဘတ်ဂျက်", "ကို"]),
        ("AI技術3.14を使う", ["AI", "技術", "3.14", "を", "使う"]),
        ("ខ្ញុំ\u200bជា\u200bសិស្ស", ["ខ្ញុំ", "ជា", "សិស្ស"]),  # zero-width spaces part words and are no marks
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("שלום\u200f עולם", ["שלום\u200f", "עולם"]),
        ("co\u00adoperate", ["co\u00adoperate"]),
        ("\u200b", []),
        ("𠀀𠀁 𝒳", ["𠀀", "𠀁", "𝒳"]),
        ("\0 a", ["\0", "a"]),
        (" \n\t ", []),
    ],
)
def test_tokens(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop, well-known_thing!", ["Don", "t", "stop", "well", "known", "thing"]),
        ("1,000.5", ["1", "000", "5"]),
        ("我们 在。", ["我", "们", "在"]),
        ("❤\ufe0f love", ["love"]),
        ("हिन्दी", ["हिन्दी"]),
    ],
)
def test_bare_words(text: str, expected: list[str]) -> None:
    assert bare_words(text) == expected


def test_scripts_without_spaces_are_told() -> None:
    assert num_unspaced("我们 and ไทย") == 5
    assert num_unspaced("한국어 Ünïcode हिन्दी") == 0
    assert is_unspaced("我") and not is_unspaced("한국어") and not is_unspaced("word")


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_is_cut_as_any_text(text: str) -> None:
    assert tokens(text) == patterns().token.findall(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rains.", True),
        ("我们去公园。", True),
        ("ខ្ញុំទៅផ្សារ។", True),
        ("ကျွန်တော် သွားသည်။", True),
        ("한국어 문장입니다.", True),
        ("วันนี้ฝนตก", False),
        ("ມື້ນີ້ຝົນຕົກ", False),
        ("བཀྲ་ཤིས་བདེ་ལེགས།", False),
        ("The Thai word for rain is ฝน.", True),
        ("ใช้ AI ช่วยทำงานบ้านทุกวัน", False),
    ],
)
def test_scripts_that_mark_sentences(text: str, expected: bool) -> None:
    assert marks_sentences(text) is expected
