"""lm-eval on a real model, and its agreement with our own losses."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
import yaml

from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import document_id
from rewarm.stages.data.tokens import TokenStream, write_shard
from rewarm.stages.evaluate import EvaluateSettings
from rewarm.stages.evaluate.lm_eval import Task, generated_task, plain_metrics, run_task, write_samples
from rewarm.stages.evaluate.own_tasks import make_tasks
from rewarm.stages.inference.actors import load_model
from rewarm.stages.inference.losses import document_losses


def test_rolling_likelihood_equals_our_own_losses(world: Any, tmp_path: Path) -> None:
    """The same windows from the same first token, document by document, but for the end-of-text that closes it."""
    one, tasks, settings = world.sets[0], Folder(tmp_path / "tasks"), EvaluateSettings(task_documents=100)
    record = {"dataset": one.name, "documents": str(one.documents), "word_order": False}
    make_tasks(record, tasks, settings, 64, ("<|endoftext|>",))
    name, model = f"rewarm_{one.name}_rolling", load_model(world.trunk, gpu=False)
    manager = generated_task(tasks, name, tmp_path)
    tokenizer = world.trunk.local()
    results = run_task(model, tokenizer, Task(name, True, world.end_of_text), manager, settings, 64)
    write_samples(Folder(tmp_path / "samples"), results)
    samples = {line["doc_id"]: line for line in read_lines(tmp_path / "samples" / f"{name}.jsonl")}

    ours = losses_without_end_of_text(model, one.tokens, tmp_path / "texts", 64)
    sizes = {document_id(text): len(text.encode()) for text in world.texts[one.name]}
    assert len(samples) == len(ours) - 1, "one document holds the text of a special token"
    assert max(len(text) for text in world.texts[one.name]) > 500, "some documents take several windows"
    for doc_id, sample in samples.items():
        assert sample["bits_per_byte"] == [sample["loglikelihoods"][0], sizes[doc_id]]
        assert -sample["loglikelihoods"][0] == pytest.approx(ours[doc_id], rel=1e-5), doc_id
    bits = sum(ours[doc_id] for doc_id in samples) / np.log(2) / sum(sizes[doc_id] for doc_id in samples)
    metrics = plain_metrics(results)[name]
    assert metrics["bits_per_byte"] == pytest.approx(bits, rel=1e-4)
    assert metrics["byte_perplexity"] == pytest.approx(2**bits, rel=1e-4)
    assert metrics["word_perplexity"] > metrics["byte_perplexity"]


def losses_without_end_of_text(model: Any, tokens: Folder, scratch: Path, seq_len: int) -> dict[str, float]:
    """Our losses of documents that no end-of-text closes, which is what lm-eval asks for."""
    stream = TokenStream(tokens)
    ends, ids = stream.document_spans()[0], stream.document_ids()
    rows = [stream.read(int(start), int(end - start) - 1).tolist() for start, end in pairwise([0, *ends])]
    assert stream.format is not None
    columns = {"doc_id": pa.array(ids), "tokens": pa.array(rows), "num_bytes": pa.array([0] * len(ids))}
    with Folder(scratch).writing("0.arrow") as path:
        write_shard(path, stream.format, [pa.record_batch(columns).cast(stream.format.schema())])
    nats, _ = document_losses(model, TokenStream(Folder(scratch)), (0, len(ids)), seq_len=seq_len, batch_size=3)
    return dict(zip(ids, nats.tolist(), strict=True))


def test_a_named_task_follows_the_settings(world: Any, tmp_path: Path) -> None:
    from lm_eval.tasks import TaskManager

    rows = [{"q": f"{n} and one make", "choices": [str(n + 1), str(n + 2)], "label": 0} for n in range(5)]
    (tmp_path / "sums.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    files = {"test": str(tmp_path / "sums.jsonl")}
    task = {
        "task": "sums", "dataset_path": "json", "test_split": "test", "fewshot_split": "test",
        "dataset_kwargs": {"data_files": files, "cache_dir": str(tmp_path / "cache")},
        "output_type": "multiple_choice", "doc_to_text": "q", "doc_to_choice": "choices", "doc_to_target": "label",
    }  # fmt: skip
    (tmp_path / "sums.yaml").write_text(yaml.safe_dump(task))
    settings = EvaluateSettings(limit=3)
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    model = load_model(world.release, gpu=False)
    results = run_task(model, world.release.local(), Task("sums", shots=1), manager, settings, 64)
    write_samples(Folder(tmp_path / "samples"), results)
    samples = read_lines(tmp_path / "samples" / "sums.jsonl")
    assert [sample["doc_id"] for sample in samples] == [0, 1, 2]
    assert all(len(sample["loglikelihoods"]) == 2 for sample in samples)
    assert plain_metrics(results)["sums"]["acc"] == pytest.approx(np.mean([sample["acc"] for sample in samples]))
    assert results["n-shot"]["sums"] == 1


def test_plain_metrics_keep_filters_only_where_they_tell_two_apart() -> None:
    table = {"alias": "t", "acc,none": 0.5, "acc_stderr,none": 0.1, "ppl,none": 3.0, "ppl_stderr,none": "N/A"}
    two = {"exact_match,strict": 0.1, "exact_match,flexible": 0.2}
    assert plain_metrics({"results": {"a": table, "b": two}}) == {
        "a": {"acc": 0.5, "acc_stderr": 0.1, "ppl": 3.0},
        "b": two,
    }


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]
