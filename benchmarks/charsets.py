"""Character encodings of pages: what rewarm reads where the label is right, missing or wrong.

    python benchmarks/charsets.py

One paragraph in each of 25 languages is written in the encodings that pages of that language have (52 pairs), put into
a small page, and read under labels that are right, missing and wrong, in the transport's head and in the page itself.
Printed: a table of what was read correctly, refused or read wrongly, and every wrong one.
"""

import unicodedata
from collections import Counter

from rewarm.stages.ingest.html.charset import decode_page

TEXTS = {
    "de": (
        "Der Stadtrat traf sich am Dienstagabend, um über das neue Gebäude der Bücherei zu sprechen. Die meisten B"
        "ürger wollten wissen, wie viel Geld für Bücher ausgegeben würde und ob die Straße größer wird."
    ),
    "fr": (
        "Le conseil municipal s'est réuni mardi soir pour débattre de la nouvelle bibliothèque, qui devrait ouvrir"
        " l'été prochain après deux années de travaux. Où l'argent sera-t-il dépensé ? Les élèves l'ont demandé dè"
        "s le début."
    ),
    "pl": (
        "Rada miasta zebrała się we wtorek wieczorem, aby omówić nowy budynek biblioteki. Większość mieszkańców ch"
        "ciała wiedzieć, ile pieniędzy zostanie wydanych na książki i czy ścieżka będzie szersza."
    ),
    "cs": (
        "Městská rada se sešla v úterý večer, aby projednala novou budovu knihovny. Většina obyvatel chtěla vědět,"
        " kolik peněz bude utraceno za knihy a zda bude přístupová cesta širší než dříve."
    ),
    "hu": (
        "A városi tanács kedden este ült össze, hogy megvitassa az új könyvtár épületét. A legtöbb lakos azt szere"
        "tte volna tudni, mennyi pénzt költenek könyvekre, és hogy szélesebb lesz-e az út."
    ),
    "ro": (
        "Consiliul orașului s-a întrunit marți seara pentru a discuta despre noua clădire a bibliotecii. Cei mai m"
        "ulți locuitori au vrut să știe câți bani vor fi cheltuiți pentru cărți și dacă școala își păstrează sălil"
        "e."
    ),
    "tr": (
        "Belediye meclisi salı akşamı yeni kütüphane binasını görüşmek için toplandı. Halkın çoğu kitaplara ne kad"
        "ar para harcanacağını öğrenmek istiyordu, çünkü geçen yıl bütçe yetmemişti ve şehir küçülüyordu."
    ),
    "lt": (
        "Miesto taryba susirinko antradienio vakarą aptarti naujo bibliotekos pastato. Dauguma gyventojų norėjo su"
        "žinoti, kiek pinigų bus išleista knygoms ir ar bus platesnė gatvė prie mokyklos, kuri šiemet užsidarė."
    ),
    "lv": (
        "Pilsētas dome sanāca otrdienas vakarā, lai apspriestu jauno bibliotēkas ēku. Lielākā daļa iedzīvotāju vēl"
        "ējās zināt, cik daudz naudas tiks iztērēts grāmatām un vai ceļš kļūs platāks nekā pērn."
    ),
    "et": (
        "Linnavolikogu kogunes teisipäeva õhtul, et arutada uut raamatukogu hoonet. Enamik elanikke tahtis teada, "
        "kui palju raha kulub raamatutele ja kas tänav läheb laiemaks, sest möödunud aastal jäi töö pooleli."
    ),
    "vi": (
        "Hội đồng thành phố họp vào tối thứ ba để bàn về tòa nhà thư viện mới. Phần lớn người dân muốn biết sẽ chi"
        " bao nhiêu tiền cho sách và con đường có được mở rộng hay không."
    ),
    "ru": (
        "Городской совет собрался во вторник вечером, чтобы обсудить новое здание библиотеки. Большинство жителей "
        "хотели знать, сколько денег будет потрачено на книги."
    ),
    "bg": (
        "Общинският съвет се събра във вторник вечерта, за да обсъди новата сграда на библиотеката. Повечето жител"
        "и искаха да знаят колко пари ще бъдат похарчени за книги."
    ),
    "uk": (
        "Міська рада зібралася у вівторок увечері, щоб обговорити нову будівлю бібліотеки. Більшість мешканців хот"
        "іли знати, скільки грошей буде витрачено на книжки і чи є ще місце."
    ),
    "el": (
        "Το δημοτικό συμβούλιο συνεδρίασε το βράδυ της Τρίτης για να συζητήσει το νέο κτίριο της βιβλιοθήκης. Οι π"
        "ερισσότεροι κάτοικοι ήθελαν να μάθουν πόσα χρήματα θα δαπανηθούν για βιβλία."
    ),
    "he": (
        "מועצת העיר התכנסה ביום שלישי בערב כדי לדון בבניין החדש של הספרייה. רוב התושבים רצו לדעת כמה כסף יוצא על ס"
        "פרים ואם הרחוב יורחב."
    ),
    "ar": (
        "اجتمع مجلس المدينة مساء الثلاثاء لمناقشة مبنى المكتبة الجديد. أراد معظم السكان معرفة مقدار المال الذي سين"
        "فق على الكتب وهل سيتم توسيع الشارع."
    ),
    "th": ("สภาเมืองประชุมกันในเย็นวันอังคารเพื่อหารือเรื่องอาคารห้องสมุดแห่งใหม่ ชาวเมืองส่วนใหญ่อยากรู้ว่าจะใช้เงินเท่าไรในการซื้อหนังสือ"),
    "zh": (
        "市议会星期二晚上开会，讨论新的图书馆大楼，该大楼经过两年的施工，预计将于明年春天开放。大多数到场的居民想知道有多少钱将用"
        "于购买图书。"
    ),
    "zh-Hant": (
        "市議會星期二晚上開會，討論新的圖書館大樓，該大樓經過兩年的施工，預計將於明年春天開放。大多數到場的居民想知道有多少錢將用"
        "於購買圖書。"
    ),
    "ja": (
        "市議会は火曜日の夜に集まり、来年の春に開館する予定の新しい図書館について話し合いました。本の購入にどれだけの予算が使われ"
        "るのかを知りたがっていました。"
    ),
    "ko": (
        "시의회는 화요일 저녁에 모여 새 도서관 건물에 대해 논의했습니다. 주민들"
        "은 책을 사는 데 얼마나 많은 돈이 쓰일지 알고 싶어 했습니다."
    ),
    "eo": (
        "La urba konsilio kunvenis mardon vespere por diskuti pri la nova konstruaĵo de la biblioteko. La plimulto"
        " de la loĝantoj volis scii, kiom da mono estos elspezita por libroj kaj ĉu la ĝardeno estos pli larĝa ol "
        "ĝis nun, ĉar ŝtonoj malhelpas."
    ),
    "cy": (
        "Cyfarfu cyngor y dref nos Fawrth i drafod adeilad newydd y llyfrgell. Roedd y rhan fwyaf o'r trigolion am"
        " wybod faint o arian fyddai'n cael ei wario ar lyfrau, ac a fyddai'r tŷ a'r dŵr ar gael i'r plant ym mis "
        "Mai. Mae'r ŵyl yn dechrau."
    ),
    "is": (
        "Bæjarstjórnin kom saman á þriðjudagskvöld til að ræða nýja byggingu bókasafnsins. Flestir íbúar vildu vit"
        "a hversu miklu fé yrði varið í bækur og hvort gatan yrði breikkuð í ár."
    ),
}
PAIRS = [  # the label, Python's codec, the language
    ("utf-8", "utf-8", "fr"),
    ("utf-8", "utf-8-sig", "ru"),
    ("utf-16", "utf-16", "de"),
    ("utf-16le", "utf-16-le", "ru"),
    ("utf-16be", "utf-16-be", "fr"),
    ("windows-1252", "cp1252", "de"),
    ("windows-1252", "cp1252", "fr"),
    ("iso-8859-1", "latin1", "fr"),
    ("iso-8859-15", "iso8859-15", "fr"),
    ("macintosh", "mac_roman", "fr"),
    ("iso-8859-1", "latin1", "is"),
    ("windows-1250", "cp1250", "pl"),
    ("windows-1250", "cp1250", "cs"),
    ("iso-8859-2", "iso8859-2", "hu"),
    ("iso-8859-2", "iso8859-2", "pl"),
    ("iso-8859-3", "iso8859-3", "eo"),
    ("iso-8859-4", "iso8859-4", "lv"),
    ("iso-8859-14", "iso8859-14", "cy"),
    ("iso-8859-16", "iso8859-16", "ro"),
    ("iso-8859-10", "iso8859-10", "et"),
    ("windows-1251", "cp1251", "ru"),
    ("windows-1251", "cp1251", "bg"),
    ("koi8-r", "koi8-r", "ru"),
    ("koi8-u", "koi8-u", "uk"),
    ("iso-8859-5", "iso8859-5", "ru"),
    ("ibm866", "cp866", "ru"),
    ("x-mac-cyrillic", "mac_cyrillic", "ru"),
    ("windows-1253", "cp1253", "el"),
    ("iso-8859-7", "iso8859-7", "el"),
    ("windows-1254", "cp1254", "tr"),
    ("iso-8859-9", "iso8859-9", "tr"),
    ("windows-1255", "cp1255", "he"),
    ("iso-8859-8", "iso8859-8", "he"),
    ("windows-1256", "cp1256", "ar"),
    ("iso-8859-6", "iso8859-6", "ar"),
    ("windows-1257", "cp1257", "lt"),
    ("iso-8859-13", "iso8859-13", "lt"),
    ("windows-1258", "cp1258", "vi"),
    ("windows-874", "cp874", "th"),
    ("tis-620", "tis-620", "th"),
    ("gb2312", "gb2312", "zh"),
    ("gbk", "gbk", "zh"),
    ("gb18030", "gb18030", "zh"),
    ("hz-gb-2312", "hz", "zh"),
    ("big5", "big5", "zh-Hant"),
    ("big5-hkscs", "big5hkscs", "zh-Hant"),
    ("shift_jis", "shift_jis", "ja"),
    ("euc-jp", "euc-jp", "ja"),
    ("iso-2022-jp", "iso2022-jp", "ja"),
    ("euc-kr", "euc-kr", "ko"),
    ("cp949", "cp949", "ko"),
    ("iso-2022-kr", "iso2022-kr", "ko"),
]
RIGHT = "the right one"
LABELS: dict[str, tuple[str | None, str | None]] = {  # the transport's label and the page's own
    "right": (RIGHT, None),
    "right in the page": (None, RIGHT),
    "missing": (None, None),
    "utf-8": ("utf-8", None),
    "ISO-8859-1": ("ISO-8859-1", None),
    "ISO-8859-1, right in the page": ("ISO-8859-1", RIGHT),
    "ISO-8859-1 in the page": (None, "ISO-8859-1"),
    "windows-1251": ("windows-1251", None),
    "right, windows-1252 in the page": (RIGHT, "windows-1252"),
}
OLDER = {  # encodings that browsers do not know or hardly anybody labels, by system
    "MS-DOS": ("cp437", "cp737", "cp775", "cp850", "cp852", "cp855", "cp857", "cp858", "cp862", "cp865"),
    "Mac OS": ("mac_roman", "mac_latin2", "mac_greek", "mac_turkish", "mac_cyrillic"),
}
TONES = "\u0300\u0301\u0303\u0309\u0323"  # which windows-1258 writes behind the vowel


def text_for(codec: str, language: str) -> str:
    """The language's paragraph as the encoding can write it."""
    text = TEXTS[language]
    return "".join(map(with_tone_behind, text)) if codec == "cp1258" else text


def with_tone_behind(character: str) -> str:
    """A Vietnamese vowel with its tone as a character of its own, where windows-1258 has it only so."""
    try:
        character.encode("cp1258")
    except UnicodeEncodeError:
        parts = unicodedata.normalize("NFD", character)
        tones = "".join(part for part in parts if part in TONES)
        return unicodedata.normalize("NFC", "".join(part for part in parts if part not in TONES)) + tones
    return character


def read_under(label: str, codec: str, language: str, given: tuple[str | None, str | None]) -> str:
    """``right``, ``refused`` or ``wrong``: how the page is read under the given labels."""
    header, meta = (label if name == RIGHT else name for name in given)
    text = text_for(codec, language)
    head = f'<meta charset="{meta}">' if meta else ""
    page = f"<html><head>{head}<title>x</title></head><body><p>{text}</p></body></html>"
    found = decode_page(page.encode(codec), header)
    if found is None:
        return "refused"
    return "right" if unicodedata.normalize("NFC", text) in unicodedata.normalize("NFC", found) else "wrong"


def main() -> None:
    """Read all pairs under all labels and print what came of it."""
    print(f"| label of the transport | right of {len(PAIRS)} | refused | wrong |\n|---|--:|--:|--:|")
    wrong = []
    for name, given in LABELS.items():
        results = {pair: read_under(*pair, given) for pair in PAIRS}
        counts = Counter(results.values())
        print(f"| {name} | {counts['right']} | {counts['refused']} | {counts['wrong']} |")
        wrong += [
            f"{label} ({language}) under {name}" for (label, _, language), how in results.items() if how == "wrong"
        ]
    print("\nwrong: " + ("; ".join(wrong) or "none"))
    print_older()


def print_older() -> None:
    """Print how the older systems' encodings of all languages are read without a label or with a wrong one."""
    print("\n| system | pages | right | refused | wrong |\n|---|--:|--:|--:|--:|")
    for system, codecs in OLDER.items():
        pairs = [("", codec, language) for codec in codecs for language, text in TEXTS.items() if writes(codec, text)]
        labels = [LABELS[name] for name in ("missing", "utf-8", "ISO-8859-1")]
        counts = Counter(read_under(*pair, given) for pair in pairs for given in labels)
        print(f"| {system} | {counts.total()} | {counts['right']} | {counts['refused']} | {counts['wrong']} |")


def writes(codec: str, text: str) -> bool:
    """Return whether an encoding has all characters of a text."""
    return text.encode(codec, "ignore").decode(codec) == text


if __name__ == "__main__":
    main()
