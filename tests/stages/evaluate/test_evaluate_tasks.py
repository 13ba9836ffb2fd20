"""The generated tasks."""

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from rewarm.stages.core.storage import Folder
from rewarm.stages.evaluate import EvaluateSettings
from rewarm.stages.evaluate.own_tasks import CONTINUATION_CHARS, choose_documents, excerpt, make_tasks, task_name


def test_task_names_are_safe_and_stay_apart() -> None:
    assert task_name("sci-docs", "rolling") == "rewarm_sci-docs_rolling"
    odd = {task_name(name, "rolling") for name in ("a b", "a,b", "a/b", "a_b")}
    assert len(odd) == 4
    assert not any(set(name) & set(" ,/*") for name in odd)


@given(st.text(max_size=900))
def test_an_excerpt_is_two_neighbouring_parts_of_its_document(text: str) -> None:
    part = excerpt("id", text, 1000)
    if part is None:
        return
    assert text.startswith(part.context + part.continuation)
    assert part.context == part.context.rstrip()
    assert 0 < len(part.continuation) <= CONTINUATION_CHARS


def test_tasks_hold_the_documents_and_do_not_depend_on_shards(world: Any, tmp_path: Any) -> None:
    one, settings = world.sets[0], EvaluateSettings(task_documents=10, document_chars=300)
    record = {"dataset": one.name, "documents": str(one.documents), "word_order": True}
    names = [f"rewarm_sci-docs_{kind}" for kind in ("rolling", "continuation", "order")]
    assert make_tasks(record, Folder(tmp_path), settings, 256) == {"tasks": names, "notes": []}
    earlier = make_tasks({**record, "word_order": False}, Folder(tmp_path) / "earlier", settings, 256)
    assert earlier == {"tasks": names[:2], "notes": []}, "a model that has learned a dataset gets its order right"
    rolling, questions = (
        [orjson.loads(line) for line in (tmp_path / f"rewarm_sci-docs_{kind}.jsonl").read_bytes().splitlines()]
        for kind in ("rolling", "continuation")
    )
    chosen = choose_documents(one.documents, 10, settings.seed).documents
    assert [(row["doc_id"], row["text"]) for row in rolling] == [(doc_id, text[:300]) for doc_id, text in chosen]
    texts = dict(chosen)
    for row in questions:
        assert len(set(row["choices"])) == 4
        whole = [texts[row["doc_id"]].startswith(row["context"] + choice) for choice in row["choices"]]
        assert whole.index(True) == row["label"]
        assert all(any(choice in text for text in texts.values()) for choice in row["choices"])
    assert len({row["label"] for row in questions}) > 1
    other = {text for _, text in choose_documents(one.documents, 10, settings.seed + 1).documents}
    assert other != set(texts.values())


def test_a_document_with_a_special_tokens_text_is_passed_over_and_counted(world: Any, tmp_path: Any) -> None:
    one, special = world.sets[0], ("<|endoftext|>",)
    chosen = choose_documents(one.documents, 100, 0, special)
    assert {text for _, text in chosen.documents} == set(world.texts["sci-docs"][:-1])
    assert chosen.passed_over == 1
    record = {"dataset": one.name, "documents": str(one.documents), "word_order": True}
    notes = make_tasks(record, Folder(tmp_path), EvaluateSettings(), 256, special)["notes"]
    assert "sci-docs: 1 validation documents contain the text of a special token" in notes[0]


def test_too_few_documents_leave_the_continuation_out(world: Any, tmp_path: Any) -> None:
    settings = EvaluateSettings(task_documents=3)
    record = {"dataset": "few", "documents": str(world.sets[0].documents), "word_order": True}
    account = make_tasks(record, Folder(tmp_path), settings, 256)
    assert account["tasks"] == ["rewarm_few_rolling", "rewarm_few_order"]
    assert "rewarm_few_continuation is left out" in account["notes"][0]


def test_a_continuation_fits_into_a_short_model() -> None:
    text = "word " * 200
    part = excerpt("id", text, 32)
    assert part is not None
    assert len(part.continuation.encode()) <= 32
    chinese = excerpt("id", "模型" * 400, 64)
    assert chinese is not None
    assert len(chinese.continuation.encode()) <= 64
    assert chinese.continuation in "模型" * 400
