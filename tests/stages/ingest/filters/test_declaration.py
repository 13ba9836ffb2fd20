"""Quality rules on the declaration of human rights in scripts with their own signs for words and sentences."""

import tomllib
from pathlib import Path

import pytest

from rewarm.stages.ingest.filters.measures import Measures
from rewarm.stages.ingest.filters.settings import GopherRepetitionSettings, RuleName, RulesSettings
from rewarm.stages.ingest.filters.steps import rule_steps
from rewarm.stages.ingest.records import Document, Refusal
from rewarm.stages.ingest.words import tokens

DECLARATION: dict[str, str] = tomllib.loads(Path(__file__).with_name("declaration.toml").read_text("utf-8"))
RULES: list[RuleName] = ["gopher-repetition", "gopher-quality", "c4", "fineweb"]


def judge(rule: RuleName, text: str, **settings: object) -> Document | Refusal:
    fields = {rule.replace("-", "_"): settings} if settings else {}
    (step,) = rule_steps(RulesSettings.model_validate({"apply": [rule], **fields}))
    return step(Document(text, None, None, "und", None))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", DECLARATION)
def test_every_rule_keeps_it(name: str, rule: RuleName) -> None:
    kept = judge(rule, DECLARATION[name])
    assert isinstance(kept, Document), kept
    lines = kept.text.splitlines()
    assert len(kept.text) > 0.75 * len(DECLARATION[name])  # C4 removes lines without a final mark
    assert lines == [line for line in DECLARATION[name].splitlines() if line in lines]


@pytest.mark.parametrize("name", DECLARATION)
def test_its_second_article_ten_times_over_is_refused(name: str) -> None:
    article = DECLARATION[name].splitlines()[1]
    refused = judge("gopher-repetition", " ".join([article] * 10))
    assert isinstance(refused, Refusal)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("བོད་ཡིག་གི་", ["བོད", "ཡིག", "གི"]),
        ("བོད།", ["བོད", "།"]),
        ("ሰላም፡ለዓለም።", ["ሰላም", "ለዓለም", "።"]),
        ("ꦱꦧꦼꦤ꧀", ["ꦱ", "ꦧꦼ", "ꦤ꧀"]),
        ("ꊿꂷ", ["ꊿ", "ꂷ"]),
        ("ߒߞߏ ߞߊ߲", ["ߒߞߏ", "ߞߊ߲"]),
        ("ދިވެހި ބަސް", ["ދިވެހި", "ބަސް"]),
        ("മലയാളം", ["മലയാളം"]),
    ],
)
def test_words_of_more_scripts(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


@pytest.mark.parametrize(("name", "tokens_a_word"), [("bo", 1.5), ("ii", 2.5), ("ja", 1.4), ("lo", 1.5), ("ml", 1)])
def test_runs_are_as_long_as_english_ones(name: str, tokens_a_word: float) -> None:
    assert Measures(Document(DECLARATION[name], None, None, None, None)).words_a_word == tokens_a_word


def test_thresholds_of_runs_are_higher_in_thai_and_a_setting() -> None:
    sentence = "ชาวบ้านส่วนใหญ่ที่มาร่วมงานอยากรู้ว่าจะใช้เงินซื้อหนังสือเท่าไร"
    other = "เทศบาลจัดประชุมเมื่อคืนวันอังคารเพื่อหารือเรื่องอาคารห้องสมุดแห่งใหม่ซึ่งคาดว่าจะเปิดให้บริการในปีหน้าหลังก่อสร้างมาสองปี"
    more = "นายกเทศมนตรีตอบว่างบประมาณยังไม่ได้ข้อสรุปแต่จะแจ้งให้ทราบก่อนสิ้นเดือนและห้องอ่านหนังสือจะเปิดจนถึงค่ำหรือไม่นั้น"
    text = f"{sentence} {other} {sentence} {more}"
    share = Measures(Document(text, None, None, None, None)).duplicate_gram(5)
    limit = GopherRepetitionSettings().max_duplicate_5_gram
    assert limit is not None and limit < share < 1.4 * limit
    off = dict.fromkeys(f"max_duplicate_{n}_gram" for n in range(6, 11))
    assert isinstance(judge("gopher-repetition", text, **off), Document)
    refused = judge("gopher-repetition", text, **off, southeast_asian_factor=1)
    assert isinstance(refused, Refusal) and "at most 0.15," in refused.detail
    told = judge("gopher-repetition", text, **off, southeast_asian_factor=1.01)
    assert isinstance(told, Refusal) and "at most 0.1515," in told.detail


def test_invisible_characters_at_a_lines_end_hide_no_final_mark() -> None:
    text = "The council met on Tuesday.\u200b\nIt spoke of the new library.\ufeff\n\u200eMany people came.\u200f\n" * 2
    assert isinstance(
        judge("fineweb", text + "Nobody left early.", max_duplicate_line_characters=None, short_line=1), Document
    )
    kept = judge("c4", text)
    assert isinstance(kept, Document) and kept.text == text.strip()


def test_two_wordspaces_end_a_typewritten_sentence() -> None:
    text = DECLARATION["am, wordspaces"].replace("።", "፡፡")
    assert isinstance(judge("c4", text), Document) and isinstance(judge("fineweb", text), Document)
