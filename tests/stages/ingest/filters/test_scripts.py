"""Quality rules in many scripts: healthy prose passes them, and what a script has no sign for is not asked of it."""

import pytest

from rewarm.stages.ingest.account import READ, Account, StepAccount
from rewarm.stages.ingest.filters.measures import Measures
from rewarm.stages.ingest.filters.rule import Rule
from rewarm.stages.ingest.filters.settings import RuleName, RulesSettings
from rewarm.stages.ingest.filters.steps import rule_steps
from rewarm.stages.ingest.records import Document, Refusal

RULES: list[RuleName] = ["gopher-repetition", "gopher-quality", "c4", "fineweb"]
THAI = (
    "เทศบาลจัดประชุมเมื่อคืนวันอังคารเพื่อหารือเรื่องอาคารห้องสมุดแห่งใหม่ "
    "ซึ่งคาดว่าจะเปิดให้บริการในปีหน้าหลังก่อสร้างมาสองปี\n"
    "ชาวบ้านส่วนใหญ่ที่มาร่วมงานอยากรู้ว่าจะใช้เงินซื้อหนังสือเท่าไร "
    "และห้องอ่านหนังสือจะเปิดจนถึงค่ำหรือไม่ "
    "นายกเทศมนตรีตอบว่างบประมาณยังไม่ได้ข้อสรุป แต่จะแจ้งให้ทราบก่อนสิ้นเดือน"
)
LAO = (
    "ສະພາເມືອງໄດ້ຈັດກອງປະຊຸມໃນຄືນວັນອັງຄານ ເພື່ອປຶກສາຫາລືກ່ຽວກັບອາຄານຫໍສະໝຸດແຫ່ງໃໝ່ "
    "ເຊິ່ງຄາດວ່າຈະເປີດໃຫ້ບໍລິການໃນປີໜ້າ ຫຼັງຈາກການກໍ່ສ້າງມາເປັນເວລາສອງປີ\n"
    "ປະຊາຊົນສ່ວນໃຫຍ່ຢາກຮູ້ວ່າຈະໃຊ້ເງິນຊື້ປຶ້ມເທົ່າໃດ ແລະ ຫ້ອງອ່ານຈະເປີດຮອດຕອນແລງຫຼືບໍ່"
)
KHMER = (
    "ក្រុមប្រឹក្សាក្រុងបានប្រជុំនៅយប់ថ្ងៃអង្គារ ដើម្បីពិភាក្សាអំពីអគារបណ្ណាល័យថ្មី "
    "ដែលនឹងបើកដំណើរការនៅឆ្នាំក្រោយ។ "
    "អ្នកស្រុកភាគច្រើនចង់ដឹងថា តើប្រាក់ប៉ុន្មាននឹងត្រូវចំណាយលើសៀវភៅ។\n"
    "អភិបាលក្រុងឆ្លើយថា ថវិកាមិនទាន់កំណត់នៅឡើយទេ។ គាត់នឹងប្រកាសនៅចុងខែនេះ។ អ្នកស្រុកសប្បាយចិត្តណាស់។ "
    "កុមារកំពុងរង់ចាំបន្ទប់អានសៀវភៅថ្មី។"
)
KHMER_SPACED = KHMER.replace("ក្រុង", "\u200bក្រុង\u200b").replace("អ្នក", "\u200bអ្នក\u200b").replace("នឹង", "\u200bនឹង\u200b")
BURMESE = (
    "မြို့တော်ကောင်စီသည် အင်္ဂါနေ့ညတွင် စာကြည့်တိုက်အဆောက်အအုံသစ်အကြောင်း ဆွေးနွေးရန် "
    "အစည်းအဝေးကျင်းပခဲ့သည်။ "
    "ဒေသခံအများစုက စာအုပ်များအတွက် ငွေမည်မျှသုံးမည်ကို သိလိုကြသည်။\n"
    "မြို့တော်ဝန်က ဘတ်ဂျက်ကို မဆုံးဖြတ်ရသေးဟု ဖြေကြားသည်။ လကုန်တွင် ကြေညာမည်။ လူတိုင်း ဝမ်းသာကြသည်။ "
    "ကလေးများသည် စာဖတ်ခန်းအသစ်ကို စောင့်မျှော်နေကြသည်။ စာကြည့်တိုက်ဘေးတွင် ပန်းခြံငယ်တစ်ခုလည်း "
    "ဆောက်လုပ်မည်။"
)
CHINESE_NEWS = (
    "2024年11月30日，市政府召开新闻发布会，介绍今年1至10月的经济运行情况。会议指出，全市工业增加值同比增"
    "长6.1%，比上年提高1.5个百分点。"
    "新能源汽车产量达到3.2万辆，增长43%。来自12个区的代表参加了会议，并就明年的工作提出了20多条建议。"
    "专家认为，全年经济增长目标有望顺利实现。明年还将新建5座公园，改造18所学校。"
)
CHINESE_TERMS = (
    "人工智能（AI）正在改变我们的生活。许多公司用AI来分析数据，用5G网络来连接设备。专家说，未来十年AI和VR"
    "会进入每一个家庭，IT行业也会需要更多的人才。"
    "学校已经开设了新的课程。老师认为，最重要的不是技术本身，而是如何用好技术。家长们也很关心孩子的学习情"
    "况。"
)
JAPANESE = (
    "市議会は火曜日の夜に集まり、2025年4月に開館する予定の新しい図書館について話し合いました。本の購入に1"
    "20万円の予算が使われるそうです。"
    "住民はAIやITの本も読みたいと話しています。市長は答えませんでした。来月また会議が開かれます。子どもた"
    "ちも楽しみにしています。"
)
KOREAN = (
    "시의회는 화요일 저녁에 모여 내년 봄에 문을 열 예정인 새 도서관 건물에 대해 오랫동안 논의했습니다. "
    "주민들은 책을 사는 데 얼마나 많은 "
    "돈이 쓰일지 알고 싶어 했습니다. 시장은 아직 예산이 정해지지 않았다고 대답했습니다. 다음 달에 다시 "
    "회의가 열립니다. "
    "아이들은 새로운 열람실을 기다리고 있습니다. 도서관 앞에는 작은 공원도 만들어집니다. 공사는 두 해 "
    "동안 이어졌고 비용은 "
    "처음 계획보다 조금 더 들었습니다. 많은 사람들이 책을 기증하겠다고 약속했습니다."
)
HEBREW = (
    "מועצת העיר התכנסה ביום שלישי בערב כדי לדון בבניין הספרייה החדש, שצפוי להיפתח באביב הבא לאחר שנתיים "
    "של עבודה. "
    "רוב התושבים רצו לדעת כמה כסף יוצא על ספרים והאם אולם הקריאה יישאר פתוח. ראש העיר לא השיב על השאלה. "
    "בחודש הבא תתקיים ישיבה נוספת. הילדים מחכים לאולם החדש. ליד הספרייה יוקם גם פארק קטן, והרבה אנשים "
    "הבטיחו לתרום ספרים."
)
GREEK = (
    "Το δημοτικό συμβούλιο συνεδρίασε το βράδυ της Τρίτης για το νέο κτίριο της βιβλιοθήκης, που θα "
    "ανοίξει την άνοιξη. "
    "Οι κάτοικοι ήθελαν να μάθουν πόσα χρήματα θα δοθούν για βιβλία και αν το αναγνωστήριο θα μείνει "
    "ανοιχτό. "
    "Ο δήμαρχος δεν απάντησε. Τον επόμενο μήνα θα γίνει νέα συνεδρίαση. Τα παιδιά περιμένουν. Δίπλα θα "
    "γίνει ένα μικρό πάρκο."
)
PROSE = {
    "th": THAI,
    "lo": LAO,
    "km": KHMER,
    "km, zero-width spaces": KHMER_SPACED,
    "my": BURMESE,
    "zh, figures": CHINESE_NEWS,
    "zh, terms": CHINESE_TERMS,
    "ja": JAPANESE,
    "ko": KOREAN,
    "he": HEBREW,
    "el": GREEK,
}


def document(text: str, language: str | None) -> Document:
    return Document(text, None, None, language, None)


def step(rule: RuleName) -> Rule:
    (made,) = rule_steps(RulesSettings(apply=[rule]))
    return made


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", PROSE)
def test_prose_passes_as_it_stands(name: str, rule: RuleName) -> None:
    given = document(PROSE[name], name[:2])
    assert step(rule)(given) is given


@pytest.mark.parametrize("name", ["th", "lo", "km", "my", "zh, terms", "ja"])
def test_stop_words_of_other_scripts_are_not_asked_for(name: str) -> None:
    given = document(PROSE[name], None)
    assert step("gopher-quality")(given) is given


@pytest.mark.parametrize("name", ["th", "lo", "km", "my"])
@pytest.mark.parametrize("between", [" ", "", "\n"])
def test_a_sentence_ten_times_over_is_refused(name: str, between: str) -> None:
    sentence = PROSE[name].split(" ")[0]
    assert isinstance(step("gopher-repetition")(document(between.join([sentence] * 10), name)), Refusal)


@pytest.mark.parametrize("between", [" ", "", "\n"])
def test_so_is_a_thai_sentence_of_seven_words(between: str) -> None:
    text = between.join(["ชาวบ้านส่วนใหญ่อยากรู้เรื่องหนังสือ"] * 10)
    assert isinstance(step("gopher-repetition")(document(text, "th")), Refusal)


def test_short_words_are_refused_where_words_have_spaces() -> None:
    rules = RulesSettings.model_validate({"apply": ["gopher-quality"], "gopher_quality": {"min_words": None}})
    refused = rule_steps(rules)[0](document("a b cd", "en"))
    assert isinstance(refused, Refusal)
    assert refused.detail.startswith("expected 3 to 10, found 1.333")


@pytest.mark.parametrize(
    ("rule", "name", "expected"),
    [
        ("gopher-quality", "th", ["mean word length: not defined for the script"]),
        ("gopher-quality", "zh, figures", ["mean word length: not defined for the script"]),
        ("gopher-quality", "ko", []),
        ("gopher-repetition", "th", []),
        ("c4", "th", ["sentence ends: not defined for the script"]),
        ("c4", "lo", ["sentence ends: not defined for the script"]),
        ("c4", "km", []),
        ("c4", "zh, figures", []),
        ("fineweb", "lo", ["lines that end a sentence: not defined for the script"]),
        ("fineweb", "my", []),
        ("fineweb", "he", []),
    ],
)
def test_rules_declare_where_they_are_not_defined(rule: RuleName, name: str, expected: list[str]) -> None:
    assert step(rule).not_applied(document(PROSE[name], name[:2])) == expected


def test_what_did_not_apply_is_counted() -> None:
    rules = rule_steps(RulesSettings(apply=["c4", "fineweb"]))
    account = Account.of([READ, "c4", "fineweb"])
    for text in (THAI, LAO, KHMER):
        assert isinstance(account.follow(document(text, None), rules), Document)
    told = {one["name"]: one.get("not_applied") for one in account.to_json()["steps"]}
    assert told == {
        READ: None,
        "c4": {"sentence ends: not defined for the script": 2},
        "fineweb": {"lines that end a sentence: not defined for the script": 2},
    }
    read = Account.from_json(account.to_json())
    read.add(account)
    assert read.steps["c4"].not_applied.total() == 4


def test_accounts_from_before_the_count_are_read() -> None:
    old = {"documents_in": 1, "documents_out": 1, "bytes_in": 3, "bytes_out": 3, "reasons": {}}
    assert StepAccount.from_json(old).not_applied.total() == 0


NEWS_QUOTES = (
    "Der Stadtrat trat am Dienstag zusammen und beriet über den Neubau. „Wir bauen für alle.“\n"
    "Die meisten Bürger wollten wissen, was die Bücher kosten. (Das steht noch nicht fest.)\n"
    "„Im Herbst wissen wir mehr“, sagte die Bürgermeisterin.“\n"
    "»Das dauert zu lange.«\n"
    "Die Kinder warten auf den Lesesaal [Bild unten.]\n"
)


def test_lines_that_end_in_quotes_or_brackets_end_their_sentence() -> None:
    given = document(NEWS_QUOTES, "de")
    kept = step("c4")(given)
    assert isinstance(kept, Document) and kept.text.splitlines() == NEWS_QUOTES.splitlines()
    unfinished = step("c4")(document(NEWS_QUOTES + "Lesen Sie mehr in der ...\nStartseite (Menü)\n", "de"))
    assert isinstance(unfinished, Document) and unfinished.text.splitlines() == NEWS_QUOTES.splitlines()


def test_marks_are_words_only_by_themselves() -> None:
    prose = "“Yes,” he said (1990), “it’s 5%—no, 6%—of us.” " * 15
    rules = RulesSettings.model_validate(
        {"apply": ["gopher-quality"], "gopher_quality": {"min_stop_words": None, "min_mean_word_length": None}}
    )
    (quality,) = rule_steps(rules)
    assert isinstance(quality(document(prose, "en")), Document)
    table = "| Sum | 3 | 4 | = | 7 |\n" * 20
    refused = quality(document(table, "en"))
    assert isinstance(refused, Refusal) and "words with a letter" in refused.reason


@pytest.mark.parametrize(
    ("name", "words"), [("th", 1.5), ("lo", 1.5), ("km", 1.5), ("my", 1.5), ("zh, terms", 1), ("ja", 1.4), ("ko", 1)]
)
def test_runs_are_longer_where_words_are_short(name: str, words: float) -> None:
    assert Measures(document(PROSE[name], None)).words_a_word == words
