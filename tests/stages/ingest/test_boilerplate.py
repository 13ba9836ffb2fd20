"""Boilerplate stays, copies of held-out text go with their surroundings: whole arrivals on a real Ray."""

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Progress, Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import document_id
from rewarm.stages.data.split import contains, read_index
from rewarm.stages.ingest import IngestOutcome, IngestSettings, find_inputs, run, write_guard
from rewarm.stages.ingest.decontaminate import DecontaminateSettings
from rewarm.stages.ingest.decontaminate.guards import read_account
from rewarm.stages.ingest.run import ACCOUNT, GUARD

pytestmark = pytest.mark.usefixtures("ray_cluster")
SETTINGS = IngestSettings(validation_share=0.05)
LICENCE = """\
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
"""
GREETING = "这里记录每周值得分享的内容，每个周五发布。"


def module(number: int) -> str:
    """A source file of its own under a licence that all have."""
    chance = random.Random(number)
    names = [f"{one}{two}" for one in ("va", "ke", "mi", "lo", "sta") for two in ("rin", "dok", "tum", "bas")]
    pick = chance.choice
    lines = [
        f"    {pick(names)}_{pick(names)} = {pick(names)}({pick(names)}, {chance.randrange(999)})" for _ in range(25)
    ]
    return LICENCE + f"def {pick(names)}_{number}({pick(names)}):\n" + "\n".join(lines) + "\n"


def issue(number: int) -> str:
    """A newsletter's issue in a script without spaces, under the greeting of all issues."""
    chance = random.Random(number)
    body = "".join(chance.choice("花风雪云牛棋金马面船果足星酒雨米茶月琴手") for _ in range(120))
    return f"第{number}期。{GREETING}\n\n{body}。\n"


def ingest(
    home: Path,
    name: str,
    texts: list[str],
    earlier: tuple[str, ...] = (),
    tasks: dict[str, Folder] | None = None,
    settings: IngestSettings = SETTINGS,
    progress: Progress | None = None,
) -> IngestOutcome:
    home.mkdir(parents=True, exist_ok=True)
    source = home / f"{name}.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    indexes = [Folder(home / "dedup" / one) for one in earlier]
    inputs = find_inputs([str(source)], settings)
    return run(
        inputs, Folder(home / name), settings, indexes, Folder(home / "dedup" / name), progress or Silent(), tasks
    )


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def held_out(home: Path, name: str) -> list[str]:
    return [row["text"] for row in rows(home / name / "validation")]


def own_words(text: str, count: int) -> str:
    """So many words from the middle of a module's own lines."""
    lines = text.removeprefix(LICENCE).splitlines()[10:]
    words = " ".join(lines).replace("_", " ").replace("(", " ").replace(",", " ").replace(")", " ").replace("=", " ")
    return " ".join(words.split()[:count])


@pytest.mark.parametrize("make", [module, issue])
def test_what_many_documents_begin_with_stays(tmp_path: Path, make: Any) -> None:
    outcome = ingest(tmp_path, "set", [make(number) for number in range(200)])
    assert outcome.documents + outcome.validation_documents == 200
    assert outcome.validation_documents >= 3
    assert (outcome.cut_documents, outcome.cut_bytes, outcome.quarantined) == (0, 0, 0)
    assert not rows(tmp_path / "set" / "quarantine")
    account = json.loads((tmp_path / "set" / ACCOUNT).read_text())
    assert account["steps"][-1]["bytes_in"] == account["steps"][-1]["bytes_out"] == outcome.num_bytes
    rule = {"holders": 10, "copies": None, "passage": 13, "surroundings": 34}
    assert account["cut"] == {"documents": 0, "cuts": 0, "bytes": 0, **rule}


@pytest.mark.parametrize("count", [13, 40])
def test_a_copied_run_under_the_same_licence_is_cut_and_the_rest_stays(tmp_path: Path, count: int) -> None:
    texts = [module(number) for number in range(200)]
    ingest(tmp_path, "before", texts)
    copied = own_words(held_out(tmp_path, "before")[0], count)
    before, after = module(900).splitlines(), module(901).removeprefix(LICENCE).splitlines()
    guilty = "\n".join([*before, copied, *after])
    outcome = ingest(tmp_path, "set", [*texts, guilty])
    assert outcome.documents + outcome.validation_documents == 201
    assert outcome.cut_documents == 1
    documents = rows(tmp_path / "set" / "documents")
    assert not any(copied in row["text"] for row in documents)
    (left,) = [row for row in documents if row["text"].startswith("\n".join(before[:20]))]
    assert "\n".join(after[-8:]) in left["text"]
    assert left["doc_id"] == document_id(left["text"])
    assert left["num_bytes"] == len(left["text"].encode()) == len(guilty.encode()) - outcome.cut_bytes
    (note,) = rows(tmp_path / "set" / "quarantine")
    assert (note["step"], note["value"]) == ("decontaminate", outcome.cut_bytes)
    assert note["reason"] == "passage cut for validation of set"
    assert copied[:40] in note["excerpt"].decode(errors="ignore")
    steps = {step["name"]: step for step in json.loads((tmp_path / "set" / ACCOUNT).read_text())["steps"]}
    step = steps["decontaminate"]
    assert step["documents_in"] == step["documents_out"] == outcome.documents
    assert step["bytes_in"] - step["bytes_out"] == outcome.cut_bytes
    assert outcome.quarantined == 0 and outcome.reasons == {}

    index = read_index(Folder(tmp_path / "dedup" / "set"))
    ids = [bytes.fromhex(document_id(text)) for text in (guilty, left["text"])]
    assert contains(index, np.array(ids, "S16")).all()
    again = ingest(tmp_path, "again", [guilty, module(950), module(951)], ("set",))
    assert again.duplicates_earlier == 1, "the document as it arrived is known"


def test_an_earlier_datasets_boilerplate_is_known_in_a_small_arrival(tmp_path: Path) -> None:
    ingest(tmp_path, "base", [module(number) for number in range(200)])
    account = read_account(Folder(tmp_path / "dedup" / "base" / GUARD))
    assert account.met and account.num_met > 30
    outcome = ingest(tmp_path, "next", [module(number) for number in range(300, 304)], ("base",))
    assert (outcome.documents + outcome.validation_documents, outcome.cut_documents) == (4, 0)
    copied = own_words(held_out(tmp_path, "base")[0], 30)
    texts = [module(400 + number) for number in range(20)]
    guilty = ingest(tmp_path, "last", [*texts, module(500) + copied + "\n"], ("base", "next"))
    assert (guilty.documents + guilty.validation_documents, guilty.cut_documents) == (21, 1)
    assert not any(copied in row["text"] for row in rows(tmp_path / "last" / "documents"))


def test_a_monthly_newsletter_of_four_issues_keeps_its_greeting(tmp_path: Path) -> None:
    names = [f"month{month}" for month in range(4)]
    for month, name in enumerate(names):
        issues = [issue(4 * month + number) for number in range(4 if month < 3 else 2)]
        outcome = ingest(tmp_path, name, issues, tuple(names[:month]))
        assert (outcome.documents + outcome.validation_documents, outcome.cut_documents) == (len(issues), 0)


def test_a_guard_from_before_the_counts_still_guards(tmp_path: Path) -> None:
    ingest(tmp_path, "base", [module(number) for number in range(100)])
    guard = Folder(tmp_path / "dedup" / "base" / GUARD)
    manifest = guard.manifest()
    guard.delete(f"{manifest['met']}.met")
    guard.write_json("manifest.json", {name: manifest[name] for name in manifest if "met" not in name})
    copied = own_words(held_out(tmp_path, "base")[0], 30)
    texts = [module(300 + number) for number in range(40)]
    outcome = ingest(tmp_path, "next", [*texts, module(500) + copied + "\n"], ("base",))
    assert (outcome.cut_documents, outcome.documents + outcome.validation_documents) == (1, 41)


def test_a_tasks_question_is_cut_unless_many_documents_have_it(tmp_path: Path) -> None:
    question = "Which of the two ships that left the harbour in the morning came back before the market had closed"
    write_guard(Folder(tmp_path / "guard"), "ships", [question, f"{GREETING}花风雪"], SETTINGS.decontaminate)
    tasks = {"ships": Folder(tmp_path / "guard")}
    texts = [issue(number) for number in range(100)]
    leaked = [f"{issue(200 + number)}{question}? {issue(300 + number)}" for number in range(10)]
    outcome = ingest(tmp_path, "ten", [*texts, *leaked], tasks=tasks)
    assert outcome.cut_documents + outcome.quarantined >= 9, "one of them may be held out"
    assert not any(question in row["text"] for row in rows(tmp_path / "ten" / "documents"))
    more = [f"{issue(400 + number)}{question}? {issue(500 + number)}" for number in range(10)]
    assert ingest(tmp_path, "twenty", [*texts, *leaked, *more], tasks=tasks).cut_documents == 0


LETTERS = {  # of each script, to make words that no other text has
    "english": "bcdfghklmnprstvw",
    "japanese": "あいうえおかきくけこさしすせそたちつてとなにぬねの山川海空花鳥風月",
    "chinese": "花风雪云牛棋金马面船果足星酒雨米茶月琴手",
    "thai": "กขคงจฉชซญดตถทธนบปผพฟมยรลวสหอ",
    "korean": "가나다라마바사아자차카타파하거너더러머버",
}


def prose(language: str, number: int, words: int) -> str:
    """Random words of a script; in Thai three letters for each."""
    chance = random.Random(f"{language}{number}")
    glue = "" if language in ("japanese", "chinese", "thai") else " "
    length = {"english": 7, "korean": 3, "thai": 3}.get(language, 1)
    return glue.join("".join(chance.choices(LETTERS[language], k=length)) for _ in range(words))


@pytest.mark.parametrize("language", LETTERS)
def test_copies_of_earlier_text_go_though_many_documents_have_them(tmp_path: Path, language: str) -> None:
    """A passage of one earlier held-out document in 12 of 300 documents is no boilerplate; what all have is."""
    footer = prose(language, 9999, 40)
    ingest(tmp_path, "base", [f"{prose(language, number, 300)}.\n\n{footer}" for number in range(60)])
    body = held_out(tmp_path, "base")[0].split(".\n\n")[0]
    copied = body[len(body) // 3 : len(body) // 3 + len(prose(language, 0, 32))]
    copied = copied[copied.index(" ") + 1 : copied.rindex(" ")] if " " in copied else copied
    texts = [f"{prose(language, 1000 + number, 300)}.\n\n{footer}" for number in range(300)]
    for number in range(12):
        half = len(texts[number]) // 2
        texts[number] = f"{texts[number][:half]}\n{copied}\n{texts[number][half:]}"
    outcome = ingest(tmp_path, "next", texts, ("base",))
    documents = rows(tmp_path / "next" / "documents")
    assert outcome.cut_documents == 12 - sum(copied in text for text in held_out(tmp_path, "next"))
    assert not any(copied in row["text"] for row in documents)
    assert all(footer in row["text"] for row in documents)


def test_a_text_rich_in_repetitions_loses_little_and_no_long_copy(tmp_path: Path) -> None:
    """Source files that share functions of 20 words in pairs and more; half of them are held out."""
    functions = [prose("english", number, 20) for number in range(150)]
    chance = random.Random(0)

    def file(number: int) -> str:
        parts = [prose("english", 1000 + 10 * number + k, 60) for k in range(4)]
        return "\n\n".join(part for pair in zip(parts, chance.sample(functions, 4), strict=True) for part in pair)

    texts = [file(number) for number in range(150)]
    settings = SETTINGS.model_copy(update={"validation_share": 0.4})
    plain = ingest(tmp_path, "plain", texts, settings=settings)
    (step,) = json.loads((tmp_path / "plain" / ACCOUNT).read_text())["steps"][-1:]
    assert step["bytes_out"] > 0.98 * step["bytes_in"], plain
    copied = " ".join(held_out(tmp_path, "plain")[0].split()[5:40])
    guilty = prose("english", 9000, 150) + "\n" + copied + "\n" + prose("english", 9001, 150)
    ingest(tmp_path, "set", [*texts, guilty], settings=settings)
    texts_left = [row["text"] for row in rows(tmp_path / "set" / "documents")]
    assert not any(copied in text for text in texts_left)


def test_what_every_arrival_has_once_is_boilerplate_in_the_end(tmp_path: Path) -> None:
    """A disclaimer in a document of each arrival, and a held-out one of the first: cut three times, then it stays."""
    disclaimer = prose("english", 7777, 45)
    quoting = (f"{prose('english', 8000 + number, 200)}\n{disclaimer}" for number in range(1000))
    validates = next(text for text in quoting if int(document_id(text), 16) < SETTINGS.validation_share * 2**128)
    ingest(tmp_path, "a00", [validates, *(prose("english", number, 200) for number in range(20))])
    names, stays = ["a00"], []
    few = SETTINGS.model_copy(update={"decontaminate": DecontaminateSettings(max_holders=3)})
    for month in range(1, 8):
        name = f"a{month:02}"
        arrival = [prose("english", 100 * month + number, 500) for number in range(30)]
        ingest(
            tmp_path, name, [*arrival, f"{prose('english', 9000 + month, 200)}\n{disclaimer}"], tuple(names), None, few
        )
        names.append(name)
        held = any(disclaimer in text for text in held_out(tmp_path, name))
        stays.append(held or any(disclaimer in row["text"] for row in rows(tmp_path / name / "documents")))
    assert not any(stays[:2]) and all(stays[5:]), stays


class Dying(Silent):
    """Progress that ends the process's work at its n-th word."""

    def __init__(self, words: int) -> None:
        self.words = words

    def begin(self, label: str, total: float, unit: str) -> None:
        self.advance()

    def advance(self, by: float = 1, **figures: float) -> None:
        self.words -= 1
        if self.words == 0:
            raise InterruptedError


@pytest.mark.parametrize("every", [11, pytest.param(3, marks=pytest.mark.faults)])
def test_a_crash_at_any_point_changes_no_cut(tmp_path: Path, every: int) -> None:
    texts = [module(number) for number in range(60)]
    ingest(tmp_path, "before", texts)
    texts += [module(900 + k) + own_words(text, 30 + k) for k, text in enumerate(held_out(tmp_path, "before"))]
    settings = SETTINGS.model_copy(update={"shard_bytes": 20_000})
    expected = ingest(tmp_path / "whole", "set", texts, settings=settings)
    assert expected.cut_documents >= 1
    for words in range(1, 400, every):
        with suppress(InterruptedError):
            torn = ingest(tmp_path / "torn", "set", texts, settings=settings, progress=Dying(words))
            assert torn == expected
            break
    assert words > 12, "it was interrupted all the way through"
    for folder in ("set", "dedup"):
        assert content(tmp_path / "torn" / folder) == content(tmp_path / "whole" / folder)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_steps_that_take_much_are_named_with_a_sample(tmp_path: Path) -> None:
    texts = [module(number) for number in range(100)]
    notes = Noting()
    outcome = ingest(tmp_path, "set", [*texts, *texts[:40]], progress=notes)
    (removal,) = outcome.removals
    assert (removal["step"], removal["documents"], removal["documents_in"]) == ("exact duplicates", 40, 140)
    assert removal["sample"]["file"] == "set.jsonl"
    assert removal["sample"]["excerpt"].startswith("# Licensed under")
    assert removal["sentence"] in notes.notes
    assert json.loads((tmp_path / "set" / ACCOUNT).read_text())["removals"] == [removal]


def test_an_arrival_that_one_step_empties_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "half.jsonl"
    lines = [json.dumps({"text": module(number)}) for number in range(40)]
    source.write_text("\n".join([*lines, *["not json"] * 60]), encoding="utf-8")

    def take(settings: IngestSettings) -> IngestOutcome:
        inputs = find_inputs([str(source)], settings)
        return run(inputs, Folder(tmp_path / "half"), settings, [], Folder(tmp_path / "dedup" / "half"), Silent())

    said = r"read removed 60% of the documents \(60 of 100\); most often: invalid JSON .*--set ingest.max_removed=0.61"
    with pytest.raises(UsageError, match=said):
        take(SETTINGS)
    assert len(rows(tmp_path / "half" / "quarantine")) == 60, "what was refused can be looked at"
    outcome = take(SETTINGS.model_copy(update={"max_removed": 0.61}))
    assert outcome.documents + outcome.validation_documents == 40
    assert [one["step"] for one in outcome.removals] == ["read"]


class Noting(Silent):
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_shards_change_nothing(tmp_path: Path) -> None:
    texts = [module(number) for number in range(120)]
    ingest(tmp_path, "before", texts)
    texts += [module(900 + k) + own_words(text, 30 + k) for k, text in enumerate(held_out(tmp_path, "before"))]
    small = SETTINGS.model_copy(update={"shard_bytes": 9000})
    one = ingest(tmp_path / "one", "set", texts)
    many = ingest(tmp_path / "many", "set", texts, settings=small)
    assert one == many
    assert one.cut_documents == len(held_out(tmp_path, "before"))
    assert len(list((tmp_path / "many" / "set" / "documents").iterdir())) > 3
    guards = [read_account(Folder(tmp_path / home / "dedup" / "set" / GUARD)) for home in ("one", "many")]
    assert guards[0] == guards[1]
