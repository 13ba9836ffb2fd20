"""Pages in all their encodings, under labels that are right, missing and wrong."""

import pytest
from charsets import LABELS, PAIRS, TEXTS, read_under
from hypothesis import given, settings
from hypothesis import strategies as st

from rewarm.stages.ingest.html.charset import decode_page, odd_share

# The detector takes Welsh letters for Icelandic ones; Mac Cyrillic differs from windows-1251 in its capitals only.
KNOWN = {
    *(("iso-8859-14", name) for name in LABELS if "right" not in name),
    ("x-mac-cyrillic", "windows-1251"),
}


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[1]}-{pair[2]}")
def test_encodings_are_read_whatever_the_label_says(pair: tuple[str, str, str], name: str) -> None:
    found = read_under(*pair, LABELS[name])
    assert found == ("wrong" if (pair[0], name) in KNOWN else "right")


def page(text: str, meta: str | None) -> str:
    return f"<html><head>{f'<meta charset={meta}>' if meta else ''}</head><body><p>{text}</p></body></html>"


WESTERN = [
    "El ayuntamiento se reunió el martes por la noche para hablar de la nueva biblioteca.",
    "Não há razão para a demora, disse o vereador; as obras começarão em março.",
    "Är det någon som vet hur mycket pengar som går åt till böcker?",
    "Schöne Grüße aus München! Die Straße ist für Fußgänger gesperrt.",
    "Più libri e più caffè: così la pensa la maggior parte degli abitanti.",
    "Où est passé l'été ? Ça ne marche pas très bien, même après la réunion.",
    "The café’s “new” menu isn’t bad – it’s great…",
]
SIGNS = [
    "Price: £20 or €25 • free delivery",
    "© 2024 Smith & Co. All rights reserved.",
    "25° C in the shade ± 2°, 1½ cups and ¾ of an hour",
]


@pytest.mark.parametrize("text", WESTERN)
@pytest.mark.parametrize(
    ("header", "meta"),
    [
        (None, None),
        ("iso-8859-1", None),
        ("windows-1252", "utf-8"),
        ("utf-8", None),
        ("iso-8859-1", "windows-1251"),
        ("iso-8859-1", "gb2312"),
        ("gb2312", None),
        ("shift_jis", None),
    ],
)
def test_western_text_under_a_western_label_stays(text: str, header: str | None, meta: str | None) -> None:
    found = decode_page(page(text, meta).encode("cp1252"), header)
    assert found is not None
    assert text in found


@pytest.mark.parametrize("text", SIGNS)
@pytest.mark.parametrize("header", [None, "iso-8859-1", "windows-1252", "utf-8", "us-ascii"])
def test_some_signs_do_not_make_a_text_foreign(text: str, header: str | None) -> None:
    found = decode_page(page(text, None).encode("cp1252"), header)
    assert found is not None
    assert text in found


SWEDISH = "Är det någon som vet hur mycket pengar som går åt till böcker på biblioteket i Göteborg? Frågan är öppen."
SPANISH = "El ayuntamiento se reunió el martes por la mañana para hablar del año próximo y de los niños de la región."


@pytest.mark.parametrize(
    ("text", "encodings"),
    [
        (TEXTS["de"], ["cp437", "cp850", "mac-roman"]),
        (TEXTS["fr"], ["cp437", "cp850", "mac-roman"]),
        (SWEDISH, ["cp437", "cp850", "mac-roman"]),
        (TEXTS["hu"], ["cp850", "cp852"]),
        (TEXTS["pl"], ["cp852", "mac-latin2"]),
        (TEXTS["tr"], ["cp857"]),
        (TEXTS["el"], ["cp737"]),
        (TEXTS["he"], ["cp862"]),
        (SPANISH, ["cp437", "cp850"]),  # in windows-1252 Mac's "ó" and "ñ" are dashes, which are plausible
    ],
)
@pytest.mark.parametrize("header", [None, "iso-8859-1", "utf-8"])
def test_texts_of_older_systems_are_read(text: str, encodings: list[str], header: str | None) -> None:
    for encoding in encodings:
        found = decode_page(page(text, None).encode(encoding), header)
        assert found is not None
        assert text in found, encoding


@pytest.mark.parametrize("language", ["ru", "zh", "ja", "fr", "el"])
def test_utf8_with_some_broken_bytes_is_utf8(language: str) -> None:
    text = TEXTS[language]
    data = page(text, None).encode()
    spoiled = data.replace(b"</p>", b"\x93</p>")
    for header in (None, "utf-8", "iso-8859-1", "windows-1251", "gbk"):
        found = decode_page(spoiled, header)
        assert found is not None
        assert text[:80] in found


@pytest.mark.parametrize("language", sorted(TEXTS))
def test_text_read_rightly_has_nothing_odd(language: str) -> None:
    assert odd_share(TEXTS[language]) <= 0.05


@pytest.mark.parametrize(
    "text",
    [
        "Bьcherei und Strasse grцвer",
        "зПТПДУЛПК УПЧЕФ УПВТБМУС",
        "chcia³a wiedzieæ, ile pieniêdzy",
        "Ãîðîäñêîé ñîâåò ñîáðàëñÿ",
        "Ã¤ und Ã¼ sind kaputt, schÃ¶n",
        "don\u00e2\u20ac\u2122t",
        "B點herei f\uff7cr M\uff8fnner",
        "¥«Ä³·|¬P´Á¤G±ß¤W¶}·|",
    ],
)
def test_what_wrong_encodings_leave_is_odd(text: str) -> None:
    assert odd_share(text) > 0.1


@settings(deadline=None)
@given(
    st.binary(max_size=400), st.sampled_from([None, "utf-8", "iso-8859-1", "gbk", "utf-16", "x-user-defined", "\x00"])
)
def test_any_bytes_are_read_or_refused(data: bytes, label: str | None) -> None:
    decode_page(data, label)


def test_labels_of_pages_are_found_in_their_head_only() -> None:
    found = decode_page(page("Größe", "utf-8").encode() + b"<meta charset=koi8-r>", None)
    assert found is not None
    assert "Größe" in found


@pytest.mark.parametrize(
    ("language", "encoding", "text"),
    [
        ("tr", "cp1254", "Belediye meclisi salı akşamı toplandı, şehir"),
        ("tr-TR", "cp1254", "İki yüz kişi geldi"),
        ("el", "iso8859-7", "Το δημ"),
        ("el", "cp1253", "Η πόλη"),
        ("cs", "cp1250", "Příliš"),
        ("cs", "iso8859-2", "Příliš žluťoučký"),
        ("pl", "iso8859-2", "Gdzieś wśród gór"),
        ("ja", "cp932", "市議会は火曜"),
        ("ja", "euc_jp", "市議会は火曜"),
        ("lt", "cp1257", "Ačiū už žinutę"),
        # The language is wrong, or the page is in the default's encoding all the same.
        ("ru", "cp1252", "Der Fährmann fährt früh über den Fluß"),
        ("el", "cp1252", "Café à la carte, déjà vu"),
        ("ja", "cp1252", "Crème brûlée für alle, naïve façade"),
        ("th", "cp1252", "Une journée d’été à Genève"),
        ("de", "cp1252", "Füße"),
    ],
)
@pytest.mark.parametrize("label", [None, "iso-8859-1", "utf-8"])
def test_the_declared_language_decides_between_readings_of_a_short_page(
    language: str, encoding: str, text: str, label: str | None
) -> None:
    page = f"<!doctype html><html class=x lang='{language}'><body><p>{text}</p></body></html>"
    assert decode_page(page.encode(encoding), label) == page


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Linnavolikogu kogunes teisipäeva õhtul, et arutada uut raamatukogu hoonet: žürii ja šokolaad. ", "cp1257"),
        ("A câmara reuniu-se à noite para discutir a nova biblioteca; não há informação sobre a construção. ", "cp860"),
        ("Bæjarstjórnin kom saman á þriðjudagskvöld til að ræða nýja bókasafnið, sem á að opna á næsta ári. ", "cp861"),
        ("Το δημοτικό συμβούλιο συνεδρίασε την Τρίτη το βράδυ για να συζητήσει το νέο κτίριο. ", "mac-greek"),
        ("Қалалық кеңес сейсенбі күні кешке жаңа кітапхана ғимаратын талқылау үшін жиналды. ", "kz1048"),
        ("시의회는 화요일 저녁에 모여 새 도서관 건물에 대해 논의했습니다. ", "johab"),
    ],
)
def test_a_right_label_is_used_where_browsers_do_not_know_it_or_a_default_reads_as_well(text: str, label: str) -> None:
    assert decode_page((text * 3).encode(label), label) == text * 3
