"""Words, shingles and signatures: against their definitions, and the similarity that they estimate."""

import html
import random
import unicodedata
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewarm.stages.ingest.dedup import minhash as module
from rewarm.stages.ingest.dedup.minhash import WORD, hashed, in_batches, shingles, signatures, similar, word_hashes
from rewarm.stages.ingest.settings import DuplicateSettings

VIETNAMESE = (
    "Hội đồng thành phố đã họp vào tối thứ Ba để thảo luận về tòa nhà thư viện mới, dự kiến mở cửa vào mùa xuân tới "
    "sau hai năm xây dựng."
)
KOREAN = "시의회는 화요일 저녁에 모여 새 도서관 건물에 대해 논의했습니다."
GERMAN = "Für die Bücherei müssen größere Räume gefunden werden, wünschen die Bürger der südlichen Städte."
FRENCH = (
    "Le préfet a décidé hier à l'hôtel de ville que les élèves défavorisés recevront désormais un repas gratuit à midi."
)
HINDI = "नगर परिषद ने मंगलवार की शाम को बैठक की और नए पुस्तकालय भवन की ज़मीन के बारे में पढ़ाई की योजना पर बड़ी चर्चा की।"
KHMER = "ក្រុម|ប្រឹក្សា|ក្រុង|បាន|ប្រជុំ|នៅ|យប់|ថ្ងៃ|អង្គារ ដើម្បី|ពិភាក្សា|អំពី|អគារ|បណ្ណាល័យ|ថ្មី"
ARABIC = "اجتمع مجلس المدينة مساء الثلاثاء لمناقشة مبنى المكتبة الجديد الذي من المتوقع أن يفتح أبوابه في الربيع المقبل"
ROMANIAN = (
    "Consiliul s-a întrunit marţi şi a hotărât că şcoala şi biblioteca nouă vor fi deschise în oraş la primăvară."
)
HEBREW = "מוֹעֶצֶת הָעִיר הִתְכַּנְּסָה בְּיוֹם שְׁלִישִׁי בָּעֶרֶב כְּדֵי לָדוּן בְּבִנְיַן הַסִּפְרִיָּה הֶחָדָשׁ שֶׁיִּפָּתַח בָּאָבִיב הַבָּא"
ENGLISH = "The council of Smith & Sons said that prices < 10 and quality > 5 would do for every library in the country."
SETTINGS = DuplicateSettings()
TEXTS = st.text(st.sampled_from("aB_9 .\n-é漢字かÄ\u2003\x1c"), max_size=60)


def hashes_of(words: list[str]) -> list[int]:
    return [int(hashed(word)[0]) for word in words]


@given(TEXTS)
def test_words_are_those_of_the_expression(text: str) -> None:
    assert word_hashes(text).tolist() == hashes_of(WORD.findall(text.lower()))


@given(st.text(st.characters(max_codepoint=127)))
def test_the_table_cuts_ascii_as_the_expression_does(text: str) -> None:
    assert word_hashes(text).tolist() == hashes_of(WORD.findall(text.lower()))


def test_ideographs_are_words_and_spaces_do_not_matter() -> None:
    assert WORD.findall("漢字とkana 한국어") == ["漢", "字", "と", "kana", "한국어"]
    assert word_hashes("A b,\tc").tolist() == word_hashes("a B c").tolist() == word_hashes("a.b.c").tolist()


@given(TEXTS)
def test_a_long_text_in_pieces_has_the_same_words(text: str) -> None:
    whole = word_hashes(text).tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", 3)
        assert word_hashes(text).tolist() == whole


@pytest.mark.parametrize(("text", "count"), [("a", 1), ("a b c d", 1), ("a b c d e", 1), ("a b c d e f", 2)])
def test_shingles(text: str, count: int) -> None:
    assert len(shingles(text, 5)) == count


def test_shingles_are_known_by_their_words_in_order() -> None:
    both = shingles("a b c d e f a b c d e", 5)
    assert both[0] == both[-1] == shingles("A, B, C, D, E!", 5)[0]
    assert len(set(both.tolist())) == 6
    assert shingles("b a c d e", 5)[0] not in both
    assert shingles("a b", 5)[0] != shingles("b a", 5)[0]


def test_texts_without_words_are_similar_to_themselves_alone() -> None:
    made = signatures(["...", "!!!", "...", ""], SETTINGS)
    assert (made.keys[0] == made.keys[2]).all()
    assert not (made.keys[0] == made.keys[1]).any()
    assert not (made.keys[0] == made.keys[3]).any()


def test_a_signature_depends_on_its_text_and_the_settings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(1)
    texts = [" ".join(rng.choices("abcdefgh", k=rng.randrange(40))) for _ in range(50)]
    made = signatures(texts, SETTINGS)
    monkeypatch.setattr(module, "BATCH_SHINGLES", 30)
    assert len(list(in_batches(shingles(text, 5) for text in texts))) > 20
    again = signatures(texts[::-1], SETTINGS)
    assert (again.keys[::-1] == made.keys).all()
    assert (again.sketches[::-1] == made.sketches).all()
    assert made.keys.shape == (50, 20)
    assert made.keys.dtype == np.uint64
    assert made.sketches.shape == (50, 16)
    other = signatures(texts, SETTINGS.model_copy(update={"seed": 2}))
    assert not (other.keys == made.keys).all(axis=1).any()
    assert signatures([], SETTINGS).keys.shape == (0, 20)


def test_the_signature_stays_the_same_from_version_to_version() -> None:
    """An index written today must be readable later: where this changes, SIGNATURE_VERSION must."""
    made = signatures(["the quick brown fox jumps over the lazy dog"], SETTINGS)
    assert [int(made.keys[0, 0]), int(made.keys[0, 19]), made.sketches[0].tobytes().hex()] == GOLDEN


GOLDEN = [7442515136334971820, 14495549066924155776, "b479a0d9d5592a840e6115b8b4f75404"]


@pytest.mark.parametrize("text", [VIETNAMESE, KOREAN, GERMAN, FRENCH, HINDI])
@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_a_text_in_another_normal_form_is_the_same(text: str, form: Literal["NFC", "NFD", "NFKC", "NFKD"]) -> None:
    assert word_hashes(unicodedata.normalize(form, text)).tolist() == word_hashes(text).tolist()


@pytest.mark.parametrize(
    ("text", "other"),
    [
        (GERMAN, GERMAN.replace("chen", "\u00adchen").replace("en", "e\u00adn")),
        (GERMAN, GERMAN.replace("ü", "&uuml;").replace("ö", "&#246;").replace("ä", "&#xE4;")),
        (GERMAN, GERMAN.replace(" ", "\u00a0").replace("die", "\u200edi\u2060e")),
        (ENGLISH, html.escape(ENGLISH)),
        (ENGLISH, html.escape(html.escape(ENGLISH))),
        (ENGLISH, ENGLISH.replace(" ", "&nbsp;").replace("library", "li&shy;brary")),
        (VIETNAMESE, "\ufeff" + "".join(f"&#{ord(sign)};" for sign in unicodedata.normalize("NFD", VIETNAMESE))),
        (KHMER.replace("|", ""), KHMER.replace("|", "\u200b")),
        (ARABIC, ARABIC.replace("دين", "ديـــن").replace("ال", "الـ")),
        (ARABIC, "".join(letter + "\u064e" * letter.isalpha() for letter in ARABIC)),
        (ARABIC, ARABIC.replace("ي", "ی").replace("ك", "ک")),
        (ROMANIAN, ROMANIAN.replace("ş", "ș").replace("ţ", "ț")),
        (GERMAN + " Straße", GERMAN.upper() + " STRASSE"),
        ("всё ещё её ёлка и новые книги", "все еще ее елка и новые книги"),
        (HEBREW, unicodedata.normalize("NFD", HEBREW).translate(dict.fromkeys(range(0x591, 0x5C8)))),
        ("fine offices 10", "\ufb01ne o\ufb03ces \uff11\uff10"),
    ],
)
def test_what_nobody_sees_makes_no_other_text(text: str, other: str) -> None:
    assert text != other
    made = signatures([text, other], SETTINGS)
    assert (made.keys[0] == made.keys[1]).all()
    assert similar(*made.sketches.view(np.uint64)[:, None], 1.0).all()


def test_what_only_looks_like_an_entity_stays() -> None:
    assert word_hashes("?a=1&copy=2&lt=3 &unknown; R&D").tolist() == hashes_of(
        [*"a1", "copy", *"2", "lt", *"3", "unknown", *"rd"]
    )


@pytest.mark.parametrize("target", [0.3, 0.5, 0.7, 0.9])
def test_bands_and_sketches_find_what_the_formulas_say(target: float) -> None:
    """Pairs of sets of 400 words at a Jaccard similarity: share found in a band, and mean of the estimate."""
    same = round(2 * 400 * target / (1 + target))
    pairs = []
    for number in range(600):
        common, one, two = ([f"{part}{number}_{at}" for at in range(400)] for part in "abc")
        pairs += [" ".join(common[:same] + one[same:]), " ".join(common[:same] + two[same:])]
    settings = DuplicateSettings(shingle=1)
    made = signatures(pairs, settings)
    sketches = made.sketches.view(np.uint64)
    found = (made.keys[::2] == made.keys[1::2]).any(axis=1)
    assert found.mean() == pytest.approx(1 - (1 - target**6) ** 20, abs=0.06)
    apart = module.bits_apart(sketches[::2], sketches[1::2])
    assert np.mean(1 - apart / 64) == pytest.approx(target, abs=0.015)
    assert np.std(1 - apart / 64) < 0.09
    alike = similar(sketches[::2], sketches[1::2], settings.similarity)
    wanted = {0.3: (0, 0.002), 0.5: (0, 0.1), 0.7: (0.85, 1), 0.9: (0.999, 1)}[target]
    assert wanted[0] <= alike.mean() <= wanted[1]
