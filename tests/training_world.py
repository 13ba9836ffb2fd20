"""A tiny model and real text as token shards: training tests are about the engine, so they need little of both."""

import inspect
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import document_id
from rewarm.stages.data.mixture import Mixture, Source
from rewarm.stages.data.tokens import TokenFormat, TokenSet, TokenStream, write_shard
from rewarm.stages.train import Job, ModelSettings, ScheduleSettings, TrainSettings, initial_model, schedule_for

if TYPE_CHECKING:
    from rewarm.stages.train.engine import Engine

SEQ_LEN, BATCH, STEPS = 32, 8, 12


@dataclass(frozen=True)
class World:
    """A start, and the token shards of a training and a validation split."""

    root: Path
    start: Folder
    digest: str  # of its weights
    train: Folder
    validation: Folder

    def job(self, out: str, steps: int = STEPS, **settings: object) -> Job:
        """A training run into ``out``, of its own."""
        given = {
            "seq_len": SEQ_LEN,
            "global_batch": BATCH,
            "precision": "fp32",
            "checkpoint_every": 4,
            "validate_every": 6,
            "final_steps": 0,
        }
        looks = {"validation_sequences": 7, "validation_compute": None}
        made = TrainSettings.model_validate({**given, **looks, "num_workers": 2, **settings})
        count = TokenStream(self.train).num_sequences(SEQ_LEN)
        mixture = Mixture((Source("text", count, 1),), (), "0", SEQ_LEN, BATCH, steps)
        tokens = steps * mixture.tokens_per_step
        folder = Folder(self.root / out)
        return Job(
            name="train",
            mixture=mixture,
            first=0,
            steps=steps,
            position=0,
            schedule=schedule_for(ScheduleSettings(kind="cosine", peak=2e-3), 0, tokens, None),
            start=self.start,
            start_digest=self.digest,
            start_checkpoint=None,
            tokens={"text": TokenSet(self.train)},
            validation={"text": self.validation},
            out=folder / "trunk",
            checkpoints=folder / "checkpoints",
            settings=made,
            seed=3,
        )


def make(job: Job, rank: int, size: int, stage: int, precision: str) -> "Engine":
    """An engine of one rank of ``size``, at a ZeRO stage and precision."""
    import torch

    from rewarm.stages.train.engine import Engine, Place

    settings = job.settings.model_copy(update={"zero_stage": stage, "precision": precision})
    place = Place(rank, size, rank, torch.device("cpu"))
    return Engine(job.start.path, job.start_digest, settings, place, job.checkpoints.path)


def train(engine: "Engine", job: Job, first: int, last: int) -> list[float]:
    """Mean losses over all ranks of some steps of a job."""
    import torch

    from rewarm.stages.train.data import Batches

    place = engine.place
    batches = Batches(job.mixture, job.tokens, True, torch.device("cpu"))
    losses = []
    for step in range(first, last):
        loss = engine.step(batches.part(step, place.rank, place.world_size, engine.rounds), job.rate(step)).double()
        torch.distributed.all_reduce(loss)
        losses.append(float(loss) / place.world_size)
    return losses


def write_documents(folder: Folder, documents: list[list[int]], prefix: tuple[int, ...] = ()) -> None:
    """A token shard of documents given by their ids, each closed by end-of-text (0) and opened by the prefix."""
    columns = {
        "doc_id": pa.array([f"{number:032x}" for number in range(len(documents))]),
        "tokens": pa.array(documents, pa.large_list(pa.uint16())),
        "num_bytes": pa.array([len(document) for document in documents], pa.int64()),
    }
    with folder.writing("00000.arrow") as path:
        write_shard(path, TokenFormat("words", 0, "uint16", prefix), [pa.record_batch(columns)])


def make_world(root: Path) -> World:
    """Train a tokenizer on real docstrings, write them as token shards, and draw a model's weights."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    members = [member for module in (inspect, textwrap, Path, pa) for _, member in inspect.getmembers(module)]
    texts = sorted({doc for member in members if (doc := inspect.getdoc(member)) and len(doc) > 80})
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    words = Folder(root / "words")
    PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<|endoftext|>", eos_token="<|endoftext|>").save_pretrained(
        words.path
    )
    for name, part in (("train", texts[:-8]), ("validation", texts[-8:])):
        tokens = [[*bpe.encode(text).ids, 0] for text in part]
        columns = {
            "doc_id": pa.array([document_id(text) for text in part]),
            "tokens": pa.array(tokens, pa.large_list(pa.uint16())),
            "num_bytes": pa.array([len(text.encode()) for text in part], pa.int64()),
        }
        with Folder(root / name).writing("00000.arrow") as path:
            write_shard(path, TokenFormat("words", 0, "uint16"), [pa.record_batch(columns)])
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    model = ModelSettings(config={**sizes, "max_position_embeddings": 64})
    made = initial_model(model, words, SEQ_LEN, 0, Folder(root / "initial"))
    return World(
        root, Folder(root / "initial") / "model", made["digest"], Folder(root / "train"), Folder(root / "validation")
    )
