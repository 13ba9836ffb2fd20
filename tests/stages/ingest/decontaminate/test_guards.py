"""Guards: every guarded run of 13 words is found again, whatever its case and marks; shorter overlaps are not."""

import os
import random
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rewarm.stages.core.errors import StageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.ingest.decontaminate import guards as guards_module
from rewarm.stages.ingest.decontaminate.counts import RunCounts
from rewarm.stages.ingest.decontaminate.grams import WordHashes, gram_hashes, run_hashes, word_hashes, words_of
from rewarm.stages.ingest.decontaminate.guards import Guards, Hit, Sieve, write_guard, write_met
from rewarm.stages.ingest.decontaminate.sorted_numbers import SortedSet, mapped
from rewarm.stages.ingest.settings import DecontaminateSettings
from rewarm.stages.ingest.words import is_spelled

SETTINGS = DecontaminateSettings()
SHARED = [f"guarded{number}" for number in range(40)]  # words of the guarded text
OWN = [f"training{number}" for number in range(40)]  # words of training text
ARABIC = "اجتمع مجلس المدينة مساء الثلاثاء لمناقشة مبنى المكتبة الجديد الذي من المتوقع أن يفتح أبوابه في الربيع المقبل"
ROMANIAN = "Consiliul s-a întrunit marţi şi a hotărât că şcoala şi biblioteca nouă vor fi deschise în oraş la primăvară"


def guards_of(folder: Path, **texts: list[str]) -> Guards:
    for name, of_name in texts.items():
        write_guard(Folder(folder / name), name, of_name, SETTINGS)
    return Guards.open([(name, Folder(folder / name)) for name in texts])


@pytest.fixture(scope="module")
def one_guard(tmp_path_factory: pytest.TempPathFactory) -> Guards:
    return guards_of(tmp_path_factory.mktemp("guard"), task=[" ".join(SHARED)])


def disguise(words: list[str], chance: random.Random) -> str:
    """The same words in other case, with other marks and blanks between them."""
    cased = [chance.choice([word, word.upper(), word.capitalize(), f"“{word}”"]) for word in words]
    return "".join(word + chance.choice([" ", "\n", ", ", " -- ", "-", ".\t", "_", "! "]) for word in cased)


OF_OWN = st.lists(st.sampled_from(OWN), max_size=20)


@settings(deadline=None)
@given(OF_OWN, st.integers(0, 27), OF_OWN, st.randoms(use_true_random=False))
def test_a_planted_run_is_found(
    one_guard: Guards, before: list[str], start: int, after: list[str], chance: random.Random
) -> None:
    planted = SHARED[start : start + 13]
    (hit,) = one_guard.hits([disguise([*before, *planted, *after], chance)])
    assert hit == Hit(("task",), 1, " ".join(planted))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 28), st.sampled_from(OWN)), max_size=6), st.randoms(use_true_random=False))
def test_twelve_common_words_are_none(one_guard: Guards, pieces: list[tuple[int, str]], chance: random.Random) -> None:
    words = [word for start, own in pieces for word in [*SHARED[start : start + 12], own]]
    assert one_guard.hits([disguise(words, chance)]) == [None]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["the", "sea", "Über", "我们", "don't", "3.14", "…", "\n"]), max_size=40),
    st.integers(1, 14),
)
def test_numbers_are_equal_where_the_words_are(parts: list[str], n: int) -> None:
    text = " ".join(parts)
    words = words_of(text)
    runs = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    numbers = gram_hashes(text, n).tolist()
    assert len(numbers) == len(runs)
    assert len(set(zip(runs, numbers, strict=True))) == len(set(runs)) == len(set(numbers))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Don't STOP", "don’t stop"),
        ("well-known", "well known"),
        ("ﬁne Ａ１", "fine a1"),
        ("STRASSE", "straße"),
        ("caf\u00e9", "cafe\u0301"),
        ("我们在", "我 们，在"),
    ],
)
def test_folding(one: str, other: str) -> None:
    assert words_of(one) == words_of(other)


@pytest.mark.parametrize(("one", "other"), [("a b", "b a"), ("ab c", "a bc"), ("résumé", "resume"), ("a a", "a")])
def test_what_stays_apart(one: str, other: str) -> None:
    assert gram_hashes(one, len(words_of(one))).tolist() != gram_hashes(other, len(words_of(other))).tolist()


def test_short_texts_are_compared_as_a_whole_or_counted(tmp_path: Path) -> None:
    eight, seven = " ".join(SHARED[:8]), " ".join(SHARED[8:15])
    account = write_guard(Folder(tmp_path), "task", [eight, seven, " ".join(SHARED[15:28]), ""], SETTINGS)
    assert (account.texts, account.too_short, account.whole, account.grams) == (4, 2, 1, 2)
    assert account.lengths == (8, 13)
    guards = Guards.open([("task", Folder(tmp_path))])
    hits = guards.hits([f"So {eight}, they say", f"So {seven}, they say", " ".join(SHARED[:7])])
    assert [hit is not None for hit in hits] == [True, False, False]
    assert hits[0] is not None and hits[0].text == eight


def test_every_guard_that_is_overlapped_is_named(tmp_path: Path) -> None:
    first, second = SHARED[:20], SHARED[10:40]
    guards = guards_of(tmp_path, arc=[" ".join(first)], empty=[], boolq=[" ".join(second)])
    texts = [" ".join(OWN), " ".join([*OWN, *SHARED]), "", " ".join(second[-13:])]
    none, both, blank, one = guards.hits(texts)
    assert none is None and blank is None
    assert both == Hit(("arc", "boolq"), 26, " ".join(SHARED[:13]))
    assert one == Hit(("boolq",), 1, texts[3])
    assert [guards.hits([text])[0] for text in texts] == guards.hits(texts)  # the batch decides nothing
    assert guards.hits([]) == []


def test_no_guards_hit_nothing() -> None:
    assert Guards.open([]).hits(["any text at all"]) == [None]


def test_a_guard_does_not_depend_on_order_repetition_or_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(SHARED[start:]) for start in range(25)]
    one = write_guard(Folder(tmp_path), "task", texts, SETTINGS)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(guards_module, "MOST_WORDS", 3)
    two = write_guard(Folder(tmp_path), "task", [*reversed(texts), *texts], SETTINGS)
    assert two == replace(one, texts=50)
    name = f"{one.digest}.grams"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "manifest.json"])
    assert (tmp_path / name).read_bytes() == before[name]


def test_a_guard_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    write_guard(Folder(tmp_path), "task", [" ".join(SHARED)], SETTINGS)
    account = write_guard(Folder(tmp_path), "task", [" ".join(OWN)], SETTINGS)
    assert Folder(tmp_path).files(".grams") == [f"{account.digest}.grams"]
    hits = Guards.open([("task", Folder(tmp_path))]).hits([" ".join(SHARED), " ".join(OWN)])
    assert [hit is not None for hit in hits] == [False, True]


def test_numbers_do_not_depend_on_the_process() -> None:
    code = "from rewarm.stages.ingest.decontaminate.grams import gram_hashes; print(gram_hashes('a quick brown fox', 2).tolist())"  # noqa: E501
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == str(gram_hashes("a quick brown fox", 2).tolist())


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.lists(st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**63, 2**64 - 1]), max_size=30), max_size=12),
    st.integers(1, 40),
)
def test_a_sorted_set_is_sorted_and_a_set(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[int]], in_memory: int
) -> None:
    path = tmp_path_factory.mktemp("set") / "numbers"
    numbers = SortedSet(path.parent, in_memory)
    for part in parts:
        numbers.add(np.array(part, np.uint64))
    count, digest = numbers.finish(path)
    expected = sorted({number for part in parts for number in part})
    assert (mapped(path).tolist(), count) == (expected, len(expected))
    assert digest == xxhash.xxh3_128_hexdigest(np.array(expected, "<u8").tobytes())


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=50), max_size=4),
    st.lists(st.integers(0, 2**64 - 1), max_size=50),
)
def test_a_sieve_lets_no_member_fall(sets: list[list[int]], others: list[int]) -> None:
    sieve = Sieve([np.array(sorted(numbers), np.uint64) for numbers in sets])
    assert sieve.may_hold(np.array([number for numbers in sets for number in numbers], np.uint64)).all()
    assert len(sieve.may_hold(np.array(others, np.uint64))) == len(others)


def test_a_sieve_holds_most_others_back() -> None:
    numbers = np.random.default_rng(0).integers(0, 2**64, 40_000, np.uint64)
    assert Sieve([np.sort(numbers[:20_000])]).may_hold(numbers[20_000:]).mean() < 1 / 16


def test_a_missing_or_torn_guard_is_told(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with pytest.raises(StageError, match="no guard found"):
        Guards.open([("task", folder)])
    account = write_guard(folder, "task", [" ".join(SHARED)], SETTINGS)
    with (tmp_path / f"{account.digest}.grams").open("ab") as file:
        file.truncate(16)
    with pytest.raises(StageError, match=r"expected 224 bytes \(28 runs of words\), found 16"):
        Guards.open([("task", folder)])
    folder.write_json("manifest.json", {**folder.manifest(), "version": 0})
    with pytest.raises(StageError, match="version 1 or 2, found 0"):
        Guards.open([("task", folder)])


def test_a_guard_of_a_newer_release_is_refused_and_so_is_a_torn_account(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    write_guard(folder, "task", [" ".join(SHARED)], SETTINGS)
    manifest = folder.manifest()
    folder.write_json("manifest.json", {**manifest, "version": 3, "novelty": 1})
    with pytest.raises(StageError, match="version 1 or 2, found 3; it is from a newer release of this software"):
        Guards.open([("task", folder)])
    folder.write_json("manifest.json", {**manifest, "novelty": 1})
    with pytest.raises(StageError, match=r"expected the account of a guard .*novelty.*write it again"):
        Guards.open([("task", folder)])


def test_runs_met_are_counted_for_guards_of_all_ages(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    account = write_guard(folder, "split", [" ".join(SHARED)], SETTINGS)
    grams = np.sort(gram_hashes(" ".join(SHARED), 13))
    other = np.array([5], np.uint64)
    assert Guards.open([("split", folder)]).earlier_holders(grams).sum() == 0
    met = np.sort(np.concatenate([grams[:3], other]))
    write_met(folder, RunCounts(met, np.where(met == 5, 300, 2).astype("<u4")))
    counted = Guards.open([("split", folder)]).earlier_holders(np.concatenate([grams, other]))
    assert counted.tolist() == [2, 2, 2, *[0] * (len(grams) - 3), 255]
    path = tmp_path / f"{folder.manifest()['met']}.met"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StageError, match=r"expected 36 bytes .*, found 35"):
        Guards.open([("split", folder)])
    content = bytes([1, 4, *[0] * (len(grams) - 2)])  # as counted before: with the held-out document itself
    name = xxhash.xxh3_128_hexdigest(content)
    (tmp_path / f"{name}.holders").write_bytes(content)
    old = {key: value for key, value in asdict(account).items() if key not in ("met", "num_met")}
    folder.write_json("manifest.json", {**old, "holders": name})
    assert Guards.open([("split", folder)]).earlier_holders(grams).tolist() == [0, 3, *[0] * (len(grams) - 2)]


def test_settings_that_contradict_are_refused() -> None:
    with pytest.raises(ValidationError, match="min_words is 8, ngram 5"):
        DecontaminateSettings(ngram=5)
    assert DecontaminateSettings(ngram=5, min_words=5).tasks == []


SPELLED = {  # two sentences that begin with the same words, and the letters (without marks) that they share
    "th": (
        "รัฐมนตรีว่าการกระทรวงการคลังเปิดการประชุมเรื่องงบประมาณปีหน้า และขอให้ทุกหน่วยงานส่งแผนงานภายในสิ้นเดือน",
        "รัฐมนตรีว่าการกระทรวงศึกษาธิการเยี่ยมโรงเรียนบนเกาะ และพูดคุยกับครูเรื่องหนังสือเรียนเล่มใหม่",
    ),
    "lo": (
        "ລັດຖະມົນຕີວ່າການກະຊວງການເງິນເປີດກອງປະຊຸມກ່ຽວກັບງົບປະມານປີໜ້າ ແລະຂໍໃຫ້ທຸກໜ່ວຍງານສົ່ງແຜນງານພາຍໃນທ້າຍເດືອນ",
        "ລັດຖະມົນຕີວ່າການກະຊວງສຶກສາຢ້ຽມຢາມໂຮງຮຽນຢູ່ເກາະ ແລະໂອ້ລົມກັບຄູກ່ຽວກັບປຶ້ມຮຽນໃໝ່",
    ),
    "km": (
        "រដ្ឋមន្ត្រីក្រសួងសេដ្ឋកិច្ចបានបើកកិច្ចប្រជុំអំពីថវិកាឆ្នាំក្រោយ ហើយស្នើឱ្យអង្គភាពទាំងអស់ផ្ញើផែនការមុនចុងខែ",
        "រដ្ឋមន្ត្រីក្រសួងអប់រំបានទៅទស្សនាសាលារៀននៅលើកោះ ហើយនិយាយជាមួយគ្រូអំពីសៀវភៅថ្មី",
    ),
    "my": (
        "ပညာရေးဝန်ကြီးဌာနပြည်ထောင်စုဝန်ကြီးသည် လာမည့်နှစ်ဘတ်ဂျက်အစည်းအဝေးကို ဖွင့်လှစ်ပြီး ဌာနအားလုံးကို စီမံကိန်းများ ပေးပို့ရန် တောင်းဆိုသည်",
        "ပညာရေးဝန်ကြီးဌာနပြည်ထောင်စုဝန်ကြီးသည် ကျွန်းပေါ်ရှိ ကျောင်းသို့သွားရောက်ပြီး ဆရာများနှင့် စာအုပ်သစ်အကြောင်း ပြောဆိုသည်",
    ),
}


def old_guard(folder: Folder, text: str) -> None:
    """A guard of version 1: runs of 13 letters."""
    numbers = np.unique(run_hashes(word_hashes(words_of(text), WordHashes()), [13])[0])
    path = Path(folder.uri) / "numbers"
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers.astype("<u8").tofile(path)
    digest = xxhash.xxh3_128_hexdigest(path.read_bytes())
    path.rename(path.with_name(f"{digest}.grams"))
    account = {"name": "old", "texts": 1, "too_short": 0, "whole": 0, "grams": len(numbers), "lengths": [13]}
    folder.write_json("manifest.json", {**account, "digest": digest, "version": 1})


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("language", SPELLED)
def test_letters_are_no_words(tmp_path: Path, language: str, version: int) -> None:
    first, second = SPELLED[language]
    if version == 1:
        old_guard(Folder(tmp_path), first)
    else:
        write_guard(Folder(tmp_path), "split", [first], SETTINGS)
    guards = Guards.open([("split", Folder(tmp_path))])
    assert guards.hits([second]) == [None]  # an office's name, of more than 13 letters
    words = words_of(first)
    for start in range(len(words) - 45):
        copied = "".join(words[start : start + 45])  # with their marks 60 characters
        (hit,) = guards.hits([f"{second} {copied} {second}"])
        assert hit is not None and hit.guards == ("split",), start
    assert guards.hits(["".join(words[5:35])]) == [None]  # ten words


def test_copies_are_found_whatever_is_beside_them(tmp_path: Path) -> None:
    first, second = SPELLED["th"]
    guards = guards_of(tmp_path, split=[f"The minister said: {first} (in Bangkok, on Monday)"])
    (hit,) = guards.hits([f"{second[:7]}{first[3:70]}{second[4:]}, said the paper"])
    assert hit is not None
    matches = guards.match([words_of(first)])
    assert set(matches.length.tolist()) == {39}
    assert matches.position.tolist() == list(range(len(words_of(first)) - 38))


def test_short_spelled_texts_are_compared_as_a_whole_or_counted(tmp_path: Path) -> None:
    words = words_of(SPELLED["th"][0])
    ten, seven = "".join(words[:31]), "".join(words[40:63])
    account = write_guard(Folder(tmp_path), "task", [ten, seven], SETTINGS)
    assert (account.texts, account.too_short, account.whole, account.lengths) == (2, 1, 1, (10,))
    hits = Guards.open([("task", Folder(tmp_path))]).hits([f"ข่าว {ten} วันนี้", seven])
    assert [hit is not None for hit in hits] == [True, False]


@settings(deadline=None)
@given(st.lists(st.sampled_from(["the", "sea", "我们", "ทะเล", "3.14", "เกาะ"]), max_size=40), st.integers(1, 14))
def test_runs_weigh_what_their_words_do(parts: list[str], n: int) -> None:
    words = words_of(" ".join(parts))
    weights = [1 if is_spelled(word) else 3 for word in words]
    expected = []
    for start in range(len(words)):
        stop = next((stop for stop in range(start, len(words) + 1) if sum(weights[start:stop]) >= 3 * n), None)
        if stop:
            expected.append(tuple(words[start:stop]))
    numbers = gram_hashes(" ".join(parts), n).tolist()
    assert len(numbers) == len(expected)
    assert len(set(zip(expected, numbers, strict=True))) == len(set(expected)) == len(set(numbers))


@pytest.mark.parametrize(
    ("guarded", "copied"),
    [
        (" ".join(SHARED), " ".join(f"{word[:3]}\u00ad{word[3:]}" for word in SHARED)),  # a soft hyphen in every word
        (ARABIC, ARABIC),
        (ROMANIAN, ROMANIAN),
    ],
)
def test_a_copy_in_another_spelling_is_found(tmp_path: Path, guarded: str, copied: str) -> None:
    guards = guards_of(tmp_path, task=[guarded])
    pointed = "".join(letter + "\u064e" * ("\u0620" < letter < "\u064b") for letter in copied)
    for text in (copied, pointed.translate(str.maketrans("şţيك", "șțیک"))):
        assert guards.hits([text]) != [None]
