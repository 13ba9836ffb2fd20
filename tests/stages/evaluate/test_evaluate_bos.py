"""A model whose tokenizer adds BOS: measured, trained on and asked as plain transformers and lm-eval read it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from foreign_tokenizers import TEXTS, byte_level

from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import DOCUMENT_SCHEMA, document_id, shard_writer
from rewarm.stages.data.tokenizer import load_definition
from rewarm.stages.data.tokens import TokenStream, write_shard
from rewarm.stages.evaluate import EvaluateSettings, EvaluationSet
from rewarm.stages.evaluate.lm_eval import Task, generated_task, plain_metrics, run_task
from rewarm.stages.evaluate.own_tasks import make_tasks
from rewarm.stages.evaluate.run import command_line
from rewarm.stages.inference.actors import load_model
from rewarm.stages.inference.causal import collate, token_losses
from rewarm.stages.inference.losses import document_losses
from rewarm.stages.tokenize import import_tokenizer
from rewarm.stages.tokenize.backends import Reference
from rewarm.stages.tokenize.files import format_of
from rewarm.stages.tokenize.run import tokenized

SEQ_LEN = 128
SETTINGS = EvaluateSettings(task_documents=100, document_chars=300)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, world: Any) -> Folder:
    """A Llama of random weights with a BOS tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    root = tmp_path_factory.mktemp("bos")
    folder = Folder(root / "release")
    import_tokenizer(byte_level(root / "source", texts=[*TEXTS, *world.texts["sci-docs"]]), folder)
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=load_definition(folder).num_ids, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=512, initializer_range=0.3, bos_token_id=0, eos_token_id=1,
        tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder.path)
    return folder


@pytest.fixture(scope="module")
def arrival(release: Folder, world: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[EvaluationSet, list[str]]:
    """Documents, some longer than a window, and their tokens."""
    root, definition = Folder(tmp_path_factory.mktemp("arrival")), load_definition(release)
    texts = [*TEXTS, *world.texts["sci-docs"]]
    rows = {"doc_id": list(map(document_id, texts)), "text": texts, "num_bytes": [len(text.encode()) for text in texts]}
    filled = {field.name: rows.get(field.name, [None] * len(texts)) for field in DOCUMENT_SCHEMA}
    table = pa.table(filled, schema=DOCUMENT_SCHEMA)
    with (root / "documents").writing("0.parquet") as path, shard_writer(path) as writer:
        writer.write_table(table)
    (batch,) = table.select(["doc_id", "text", "num_bytes"]).combine_chunks().to_batches()
    with (root / "tokens").writing("0.arrow") as path:
        write_shard(path, format_of(definition), [tokenized(batch, Reference(definition), format_of(definition))])
    return EvaluationSet("docs", root / "tokens", root / "documents"), texts


def own_nats(model: Any, words: Any, text: str, end_of_text: int) -> float:
    """``-log p`` of all that plain transformers predicts of a text, and of the end-of-text after it."""
    import torch

    ids = torch.tensor([[*words(text, split_special_tokens=True)["input_ids"], end_of_text]])
    with torch.inference_mode():
        scores = model(input_ids=ids, use_cache=False).logits.log_softmax(-1)
    return -float(scores[0, :-1].gather(1, ids[0, 1:, None]).double().sum())


def test_recorded_nats_are_those_of_the_tokenizers_own_input(
    release: Folder, arrival: tuple[EvaluationSet, list[str]]
) -> None:
    from transformers import AutoTokenizer

    one, texts = arrival
    model, words = load_model(release, gpu=False), AutoTokenizer.from_pretrained(str(release.path))
    stream = TokenStream(one.tokens)
    nats, counts = document_losses(model, stream, (0, len(texts)), seq_len=SEQ_LEN, batch_size=4)
    fitting = [number for number in range(len(texts)) if counts[number] <= SEQ_LEN]
    assert 8 <= len(fitting) < len(texts)
    for number in fitting:
        assert nats[number] == pytest.approx(own_nats(model, words, texts[number], 1), abs=1e-3)


def test_training_reads_documents_from_bos(release: Folder, arrival: tuple[EvaluationSet, list[str]]) -> None:
    import torch
    from transformers import AutoTokenizer

    one, texts = arrival
    model, words = load_model(release, gpu=False), AutoTokenizer.from_pretrained(str(release.path))
    stream = TokenStream(one.tokens)
    ends = stream.document_spans()[0]
    window = stream.sequence(0, 400)
    with torch.inference_mode():
        losses = token_losses(model, *collate([window], torch.device("cpu"), True))[0].double().numpy()
    assert (window.inputs[1:][window.starts[1:]] == 0).all(), "every document begins with BOS"
    for number in range(1, int(np.searchsorted(ends, 401))):
        found = losses[ends[number - 1] - 1 : ends[number] - 1].sum()
        assert found == pytest.approx(own_nats(model, words, texts[number], 1), abs=1e-3)


@pytest.fixture(scope="module")
def tasks(release: Folder, arrival: tuple[EvaluationSet, list[str]], tmp_path_factory: Any) -> tuple[Folder, list[str]]:
    """The generated tasks of the arrival."""
    folder, (one, _) = Folder(tmp_path_factory.mktemp("tasks")), arrival
    special = tuple(load_definition(release).special_tokens())
    record = {"dataset": "docs", "documents": str(one.documents), "word_order": True}
    made = make_tasks(record, folder, SETTINGS, SEQ_LEN, special)
    assert "1 validation documents contain the text of a special token" in made["notes"][0]
    return folder, made["tasks"]


def recorded(release: Folder, tasks: Folder, names: list[str], scratch: Path) -> dict[str, dict[str, float]]:
    model, found = load_model(release, gpu=False), {}
    for name in names:
        place = scratch / name
        place.mkdir()
        manager = generated_task(tasks, name, place)
        results = run_task(model, release.local(), Task(name, generated=True), manager, SETTINGS, SEQ_LEN)
        found |= plain_metrics(results)
    return found


@pytest.mark.faults
def test_lm_evals_command_line_gives_the_recorded_scores(
    release: Folder, tasks: tuple[Folder, list[str]], tmp_path: Path
) -> None:
    folder, names = tasks
    ours = recorded(release, folder, names, tmp_path)
    text = command_line(dict.fromkeys(names), SEQ_LEN, gpus=False)
    command = text[text.index("lm_eval") :].replace("\\\n", " ").replace("MODEL", str(release.path)).split()
    program = [sys.executable, "-m", *command, "--device", "cpu", "--output_path", str(tmp_path / "scores.json")]
    subprocess.run(program, cwd=folder.path, check=True, timeout=600)
    (file,) = tmp_path.glob("scores*.json")
    theirs = plain_metrics(orjson.loads(file.read_bytes()))
    for name in names:
        for metric, value in ours[name].items():
            assert theirs[name][metric] == pytest.approx(value, rel=1e-5), (name, metric)
