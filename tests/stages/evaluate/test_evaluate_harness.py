"""lm-eval on a real model, and its agreement with our own losses."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import yaml

from stages.evaluate import EvaluateSettings
from stages.evaluate.harness import plain_metrics, run_task, write_samples
from stages.evaluate.pool import generated_task
from stages.evaluate.tasks import make_tasks
from stages.losses import target_losses
from stages.pool import load_model
from stages.storage import Folder
from stages.tokens import TokenStream


def test_rolling_likelihood_equals_our_own_losses(world: Any, tmp_path: Path) -> None:
    """The same tokens from the same first context: our packing is lm-eval's convention, document by document."""
    one, tasks, settings = world.sets[0], Folder(tmp_path / "tasks"), EvaluateSettings(task_documents=100)
    make_tasks({"dataset": one.name, "documents": str(one.documents)}, tasks, settings, 256)
    name, model = f"rewarm_{one.name}_rolling", load_model(world.trunk, gpu=False)
    manager = generated_task(tasks, name, tmp_path)
    tokenizer = world.trunk.local()
    results = run_task(model, tokenizer, name, manager, settings, end_of_text=world.end_of_text)
    write_samples(Folder(tmp_path / "samples"), results)
    samples = {line["doc_id"]: line for line in read_lines(tmp_path / "samples" / f"{name}.jsonl")}

    stream = TokenStream(one.tokens)
    ends, sizes = stream.document_spans()
    seq_len = stream.num_tokens - 1  # one window: no document loses its beginning
    model.config.max_position_embeddings = seq_len
    losses = target_losses(model, stream, (0, seq_len), seq_len=seq_len, document_mask=True, batch_size=1)
    expected = {}
    for number, doc_id in enumerate(stream.document_ids()[1:], 1):  # the first one's first token is no target
        expected[doc_id] = losses[ends[number - 1] - 1 : ends[number] - 2].sum()  # lm-eval does not ask for end-of-text
        assert samples[doc_id]["bits_per_byte"] == [samples[doc_id]["loglikelihoods"][0], sizes[number]]
        assert -samples[doc_id]["loglikelihoods"][0] == pytest.approx(expected[doc_id], rel=1e-4), doc_id
    assert len(samples) == len(expected) + 1 == len(world.texts[one.name])

    first = -samples[stream.document_ids()[0]]["loglikelihoods"][0]
    bits = (sum(expected.values()) + first) / np.log(2) / sizes.sum()
    metrics = plain_metrics(results)[name]
    assert metrics["bits_per_byte"] == pytest.approx(bits, rel=1e-4)
    assert metrics["byte_perplexity"] == pytest.approx(2**bits, rel=1e-4)
    assert metrics["word_perplexity"] > metrics["byte_perplexity"]


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
    results = run_task(model, world.release.local(), "sums", manager, settings, end_of_text=None, shots=1)
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
