"""Languages: detection on a paragraph each, codes as records write them, and the allow-list."""

import unicodedata
from dataclasses import replace

import pytest

from rewarm.stages.ingest.filters.language import LanguageStep, detect_language
from rewarm.stages.ingest.language_codes import normalise_language
from rewarm.stages.ingest.records import Document, Refusal

PARAGRAPHS = {
    "en": (
        "The council met on Tuesday evening to discuss the new library building, which is expected to open next "
        "spring after two years of work. Most of the people who came wanted to know how much of the money would "
        "be spent on books, and whether the reading room would stay open during the holidays, as the old one "
        "never did."
    ),
    "de": (
        "Der Stadtrat traf sich am Dienstagabend, um über das neue Bibliotheksgebäude zu beraten, das nach zwei "
        "Jahren Bauzeit im nächsten Frühjahr eröffnet werden soll. Die meisten Besucher wollten wissen, wie viel "
        "Geld für Bücher ausgegeben wird und ob der Lesesaal auch in den Ferien geöffnet bleibt."
    ),
    "fr": (
        "Le conseil municipal s'est réuni mardi soir pour discuter du nouveau bâtiment de la bibliothèque, qui "
        "devrait ouvrir au printemps prochain après deux ans de travaux. La plupart des habitants voulaient "
        "savoir combien d'argent serait consacré aux livres et si la salle de lecture resterait ouverte pendant "
        "les vacances."
    ),
    "es": (
        "El ayuntamiento se reunió el martes por la noche para hablar del nuevo edificio de la biblioteca, que "
        "abrirá la próxima primavera después de dos años de obras. La mayoría de los vecinos quería saber cuánto "
        "dinero se gastará en libros y si la sala de lectura seguirá abierta durante las vacaciones de verano."
    ),
    "it": (
        "Il consiglio comunale si è riunito martedì sera per discutere del nuovo edificio della biblioteca, che "
        "aprirà la prossima primavera dopo due anni di lavori. La maggior parte dei cittadini voleva sapere "
        "quanti soldi saranno spesi per i libri e se la sala di lettura resterà aperta durante le vacanze."
    ),
    "pt": (
        "A câmara municipal reuniu-se na terça-feira à noite para discutir o novo edifício da biblioteca, que "
        "deverá abrir na próxima primavera depois de dois anos de obras. A maioria das pessoas queria saber "
        "quanto dinheiro será gasto em livros e se a sala de leitura continuará aberta durante as férias. Não "
        "houve resposta."
    ),
    "nl": (
        "De gemeenteraad kwam dinsdagavond bijeen om te praten over het nieuwe bibliotheekgebouw, dat volgend "
        "voorjaar na twee jaar bouwen opengaat. De meeste mensen wilden weten hoeveel geld er aan boeken wordt "
        "uitgegeven en of de leeszaal ook tijdens de vakantie open blijft."
    ),
    "pl": (
        "Rada miasta spotkała się we wtorek wieczorem, aby omówić nowy budynek biblioteki, który po dwóch latach "
        "budowy ma zostać otwarty przyszłej wiosny. Większość mieszkańców chciała wiedzieć, ile pieniędzy "
        "zostanie wydanych na książki i czy czytelnia będzie otwarta także w czasie wakacji."
    ),
    "ru": (
        "Городской совет собрался во вторник вечером, чтобы обсудить новое здание библиотеки, которое после двух "
        "лет строительства должно открыться следующей весной. Большинство жителей хотели знать, сколько денег "
        "будет потрачено на книги и будет ли читальный зал открыт во время каникул."
    ),
    "tr": (
        "Belediye meclisi salı akşamı toplanarak iki yıllık çalışmanın ardından gelecek ilkbaharda açılması "
        "beklenen yeni kütüphane binasını görüştü. Gelenlerin çoğu kitaplara ne kadar para harcanacağını ve "
        "okuma salonunun tatilde açık kalıp kalmayacağını öğrenmek istiyordu."
    ),
    "ja": (
        "市議会は火曜日の夜に集まり、二年間の工事を経て来年の春に開館する予定の新しい図書館について話し合いました"
        "。参加した市民の多くは、本の購入にどれだけの予算が使われるのか、また休みの間も閲覧室が開いているのかを知"
        "りたがっていました。"
    )
    * 2,
    "zh": (
        "市议会星期二晚上开会，讨论新的图书馆大楼，该大楼经过两年的施工，预计将于明年春天开放。大多数到场的居民想"
        "知道有多少钱将用于购买图书，以及阅览室在假期是否会继续开放，因为旧的阅览室从来没有开放过。"
    )
    * 3,
    "ko": (
        "시의회는 화요일 저녁에 모여 이 년간의 공사 끝에 내년 봄에 문을 열 예정인 새 도서관 건물에 대해 "
        "논의했습니다. 참석한 주민들 대부분은 책을 사는 데 얼마나 많은 돈이 쓰일지, 그리고 방학 동안에도 "
        "열람실이 열려 있을지 알고 싶어 했습니다. "
    )
    * 3,
    "ar": (
        "اجتمع مجلس المدينة مساء الثلاثاء لمناقشة مبنى المكتبة الجديد الذي من المتوقع أن يفتح أبوابه في الربيع "
        "المقبل بعد عامين من العمل. وأراد معظم الحاضرين معرفة مقدار المال الذي سينفق على الكتب وما إذا كانت قاعة "
        "القراءة ستبقى مفتوحة. "
    )
    * 2,
}


def step(*languages: str, detect: bool = True, trust: bool = False) -> LanguageStep:
    return LanguageStep(languages, detect, trust, min_letters=200, max_rank=1200)


def document(text: str, language: str | None = None) -> Document:
    return Document(text, None, None, language, None)


@pytest.mark.parametrize("language", PARAGRAPHS)
def test_a_paragraph_tells_its_language(language: str) -> None:
    assert detect_language(PARAGRAPHS[language], 200, 1200)[0] == language
    found = step(language)(document(PARAGRAPHS[language]))
    assert isinstance(found, Document)
    assert found.language == language
    refused = step("fi")(document(PARAGRAPHS[language]))
    assert isinstance(refused, Refusal)
    assert (refused.reason, refused.step, refused.location) == ("language", "language", "")
    assert refused.detail == f"expected one of fi, found {language}"


@pytest.mark.parametrize("text", ["", "Yes.", "The river rose after three days.", "12.5 " * 500, "😀" * 900])
def test_short_texts_and_texts_without_words_are_undetermined(text: str) -> None:
    assert detect_language(text, 200, 1200) == ("und", None)


@pytest.mark.parametrize(
    ("label", "code"),
    [
        ("en", "en"),
        ("EN-us", "en"),
        ("zh_Hant", "zh"),
        ("eng", "en"),
        ("ger", "de"),
        ("deu", "de"),
        ("English", "en"),
        ("nb-NO", "no"),
        ("en, de", "en"),
        ("xx", None),
        ("", None),
        (None, None),
        ("und", None),
    ],
)
def test_labels_become_codes(label: str | None, code: str | None) -> None:
    assert normalise_language(label) == code


SHORT = "The river rose."


@pytest.mark.parametrize(
    ("rule", "text", "stated", "expected"),
    [
        (step(), PARAGRAPHS["de"], "en", "de"),  # what is detected goes over what is stated …
        (step(trust=True), PARAGRAPHS["de"], "en-GB", "en"),  # … unless the label is trusted
        (step(trust=True), PARAGRAPHS["de"], "klingon", "de"),
        (step(detect=False), PARAGRAPHS["de"], "English", "en"),
        (step(), SHORT, None, "und"),
        (step(), SHORT, "en", "en"),
        (step("en"), SHORT, None, Refusal),  # too short to tell, and nothing stated
        (step("en"), SHORT, "en", "en"),
        (step("en"), SHORT, "de", Refusal),
        (step("en", "und"), SHORT, None, "und"),
        (step("en"), PARAGRAPHS["de"], "en", Refusal),
        (step("en", trust=True), PARAGRAPHS["de"], "en", "en"),
    ],
)
def test_detected_stated_and_allowed(rule: LanguageStep, text: str, stated: str | None, expected: object) -> None:
    found = rule(document(text, stated))
    assert (found.language if isinstance(found, Document) else Refusal) == expected


def test_a_document_that_has_its_language_is_the_same_object() -> None:
    given = document(PARAGRAPHS["en"], "en")
    assert step("en")(given) is given


FEW_LETTERS = {
    "zh": "市议会星期二晚上开会，讨论新的图书馆大楼，预计明年开放。",
    "ja": "市議会は火曜日の夜に集まり、新しい図書館について話しました。",
    "ko": "시의회는 화요일 저녁에 모여 새 도서관에 대해 논의했습니다.",
    "th": "เทศบาลจัดประชุมเมื่อคืนวันอังคารเพื่อหารือเรื่องห้องสมุด",
    "lo": "ສະພາເມືອງໄດ້ຈັດກອງປະຊຸມໃນຄືນວັນອັງຄານ",
    "km": "ក្រុមប្រឹក្សាក្រុងបានប្រជុំនៅយប់ថ្ងៃអង្គារ",
    "my": "မြို့တော်ကောင်စီသည် အင်္ဂါနေ့ညတွင် အစည်းအဝေးကျင်းပခဲ့သည်။",
    "el": "Το δημοτικό συμβούλιο συνεδρίασε.",
    "he": "מועצת העיר התכנסה ביום שלישי בערב.",
    "yi": "די שטאָטראַט האָט זיך געטראָפֿן דינסטיק אין אָוונט.",
    "hy": "Քաղաքային խորհուրդը հավաքվեց երեքշաբթի։",
    "ka": "საქალაქო საბჭო სამშაბათს საღამოს შეიკრიბა.",
    "ta": "நகர சபை செவ்வாய்க்கிழமை மாலை கூடி விவாதித்தது.",
    "te": "నగర మండలి మంగళవారం సాయంత్రం సమావేశమైంది మరియు చర్చించింది.",
    "bn": "নগর পরিষদ মঙ্গলবার সন্ধ্যায় নতুন গ্রন্থাগার নিয়ে আলোচনা করেছে।",
    "as": "নগৰ পৰিষদে মঙলবাৰে সন্ধিয়া নতুন পুথিভঁৰালৰ বিষয়ে আলোচনা কৰিলে।",
    "hi": "नगर परिषद की बैठक मंगलवार की शाम को हुई जिसमें नए पुस्तकालय भवन पर चर्चा की गई।",
    "mr": "नगर परिषदेची बैठक मंगळवारी संध्याकाळी झाली, ज्यात नवीन ग्रंथालयाच्या इमारतीवर चर्चा करण्यात आली.",
    "ne": "नगर परिषद्को बैठक मंगलबार साँझ बस्यो, जसमा नयाँ पुस्तकालय भवनको बारेमा छलफल गरियो।",
}


@pytest.mark.parametrize("language", FEW_LETTERS)
def test_a_script_tells_its_language_from_few_letters(language: str) -> None:
    assert detect_language(FEW_LETTERS[language], 200, 1200)[0] == language
    assert isinstance(step(language)(document(FEW_LETTERS[language])), Document)
    assert isinstance(step("en")(document(FEW_LETTERS[language])), Refusal)


@pytest.mark.parametrize("text", ["市议会开会", "ใช่", "Ναι.", "The Greek word λόγος and the Hebrew word שלום."])
def test_fewer_letters_tell_nothing(text: str) -> None:
    assert detect_language(text, 200, 1200) == ("und", None)


def test_english_with_foreign_names_is_english() -> None:
    text = PARAGRAPHS["en"] + " The book is called 图书馆的故事和历史以及城市的未来发展计划研究."
    assert detect_language(text, 200, 1200)[0] == "en"


SOURCES = {
    "c": "#include <stdio.h>\n\nint main(void) {\n    for (i = 0; i < 9; i++) {\n        puts(name[i]);\n    }\n}\n",
    "javascript": "const total = (rows) => rows.reduce((sum, row) => sum + row, 0);\nmodule.exports = { total };\n",
    "sql": "SELECT id, name, SUM(amount) AS total FROM orders JOIN users ON orders.user_id = users.id\n"
    "WHERE created_at > '2020-01-01' GROUP BY id, name ORDER BY total DESC;\n",
    "python": "def area(radius):\n    return 3.14 * radius ** 2\n\n\nfor r in range(10):\n    print(r, area(r))\n",
    "rust": 'fn main() {\n    let v: Vec<u32> = (0..10).collect();\n    println!("{:?}", v.iter().sum::<u32>());\n}\n',
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("times", [1, 10])
def test_code_is_in_no_language(name: str, times: int) -> None:
    source = SOURCES[name] * times
    assert detect_language(source, 200, 1200) == ("code", None)
    kept = step("en")(document(source))
    assert isinstance(kept, Document) and kept.language == "code"
    strict = replace(step("en"), keep_code=False)
    assert isinstance(strict(document(source)), Refusal)
    assert isinstance(replace(strict, languages=("code", "en"))(document(source)), Document)


MARKDOWN = (
    "# Ferry\n\nIt (see [times](https://ferry.example/times)) leaves at 7:00.\n\n- It takes `40` minutes.\n"
    "- Dogs travel free; bicycles cost 2 EUR (one way).\n\nTickets are sold on board, or in the office at the pier.\n"
)


@pytest.mark.parametrize("text", [MARKDOWN * 2, *PARAGRAPHS.values()])
def test_prose_is_no_code(text: str) -> None:
    assert detect_language(text, 200, 1200)[0] != "code"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (
            "使用 Docker Compose 部署 PostgreSQL 和 Redis，然后运行 npm install 命令来构建前端项目，通过 Nginx 访问。",
            "zh",
        ),
        (
            "React の useEffect フックを使うと、コンポーネントの mount と unmount 時に side effect を実行できます。",
            "ja",
        ),
        (
            "오늘은 Kubernetes 클러스터에서 Helm chart를 사용해 Prometheus와 Grafana를 설치하는 방법을 알아보겠습니다.",
            "ko",
        ),
        ("ติดตั้ง Docker Desktop แล้วรันคำสั่ง docker compose up เพื่อเริ่ม PostgreSQL container จากนั้นเปิด browser", "th"),
        ("Python में list comprehension का उपयोग करके हम code को छोटा और readable बना सकते हैं, for loop की जगह।", "hi"),
        (
            "모든 人間은 태어날 때부터 自由로우며 그 尊嚴과 權利에 있어 同等하다. 人間은 理性과 良心을 賦與받았으며",
            "ko",
        ),
        ("בְּרֵאשִׁית בָּרָא אֱלֹהִים אֵת הַשָּׁמַיִם וְאֵת הָאָרֶץ׃ וְהָאָרֶץ הָיְתָה תֹהוּ וָבֹהוּ אַתָּה", "he"),
        ("אלע מענטשן ווערן געבוירן פריי און גלייך אין כבוד און רעכט מיט פארשטאנד און געוויסן", "yi"),
    ],
)
def test_names_in_another_script_and_points_do_not_hide_a_language(text: str, language: str) -> None:
    for times in (1, 4):
        assert detect_language(text * times, 200, 1200)[0] == language


def test_the_normal_form_does_not_decide() -> None:
    text = unicodedata.normalize(
        "NFD",
        "Všichni lidé se rodí svobodní a sobě rovní co do důstojnosti a práv. Jsou nadáni "
        "rozumem a svědomím a mají spolu jednat v duchu bratrství. Každý má všechna práva a všechny svobody. ",
    )
    assert detect_language(text * 2, 200, 1200)[0] == "cs"
