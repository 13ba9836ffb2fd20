"""Ray actors that generate documents, one shard at a time, into the staging folder."""

from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rewarm.stages.core.awaiting import Waiting, amount, first_done
from rewarm.stages.core.copies import Recorded
from rewarm.stages.core.errors import StageError, origin, plain
from rewarm.stages.core.patience import disk_fault
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import document_id, shard_writer
from rewarm.stages.data.normal_forms import fold_exact
from rewarm.stages.data.split import Hashes
from rewarm.stages.data.tokenizer import load_definition
from rewarm.stages.distill.filters import Drafts, judge, readable
from rewarm.stages.distill.prompts import Prompts
from rewarm.stages.distill.settings import DistillSettings

RESTARTS = 3  # of one actor, before its machine is abandoned
AHEAD = 2  # shards per actor that may be written ahead of the next one in order
# Make glibc reuse memory that tensors free: the cache grows with every token, and on a CPU page faults took 40 % of the
# time.
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_TOP_PAD_": str(64 << 20)}
ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", **MALLOC}

DRAFT_SCHEMA = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("folded_id", pa.string(), nullable=False),  # of the text in one normal form
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("num_bytes", pa.int64(), nullable=False),
        pa.field("tokens", pa.int64(), nullable=False),  # generated
        pa.field("nats", pa.float64(), nullable=False),  # mean per sampled token
        pa.field("ended", pa.bool_(), nullable=False),  # by end-of-text
        pa.field("reason", pa.string()),  # why it is refused individually
        pa.field("detail", pa.string()),
    ]
)
DECIDING = ["doc_id", "folded_id", "tokens", "nats", "ended", "num_bytes", "reason"]  # all columns except the text


@dataclass(frozen=True)
class Writing:
    """Parameters shared by all shards of one distillation."""

    model: Folder
    tokenizer: Folder  # the lineage's
    prompts: Prompts | None
    staging: Folder
    settings: DistillSettings
    max_tokens: int
    seed: int
    gpus: bool  # one for each actor; False: GPUs of the machine are not used
    recorded: Recorded  # what the model and the tokenizer must be


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"{number:05d}.parquet"


class Writer:
    """Actor with the model in memory."""

    def __init__(self, work: Writing) -> None:
        import torch
        from transformers import AutoTokenizer

        from rewarm.stages.distill.sampling import Sampler
        from rewarm.stages.inference.actors import load_model

        if work.gpus:
            torch.use_deterministic_algorithms(True, warn_only=True)
        self.work = work
        self.words = AutoTokenizer.from_pretrained(work.recorded.model(work.tokenizer), trust_remote_code=False)
        self.definition = load_definition(work.tokenizer)
        model = load_model(work.model, work.gpus, work.recorded)
        self.sampler = Sampler(model, self.words, self.definition, work.settings, work.max_tokens)

    def ready(self) -> None:
        """Do nothing: an answer shows that the actor has been placed and has loaded the model."""

    def write(self, number: int) -> None:
        """Write one shard, unless it exists."""
        if self.work.staging.exists(shard_name(number)):
            return
        settings = self.work.settings
        start, size = number * settings.shard_documents, settings.batch_size
        documents = range(start, start + settings.shard_documents)
        rows = [row for first in documents[::size] for row in self._batch(documents[first - start :][:size])]
        with self.work.staging.writing(shard_name(number)) as scratch, shard_writer(scratch, DRAFT_SCHEMA) as writer:
            writer.write_table(pa.Table.from_pylist(rows, schema=DRAFT_SCHEMA))

    def _batch(self, documents: range) -> list[dict[str, Any]]:
        from rewarm.stages.distill.sampling import uniforms

        settings = self.work.settings
        numbers = np.stack([uniforms(self.work.seed, document, self.work.max_tokens) for document in documents])
        rows = []
        for draft in self.sampler.sample(self._prompts(documents), numbers):
            decoded = self.words.decode(draft.tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            text = readable(str(decoded), draft.ended)
            reason, detail = judge(text, draft.tokens, draft.written, draft.mean_nats, settings) or (None, None)
            rows.append(
                {
                    "doc_id": document_id(text),
                    "folded_id": document_id(fold_exact(text)),
                    "text": text,
                    "num_bytes": len(text.encode()),
                    "tokens": draft.written,
                    "nats": draft.mean_nats,
                    "ended": draft.ended,
                    "reason": reason,
                    "detail": detail,
                }
            )
        return rows

    def _prompts(self, documents: range) -> list[list[int]]:
        prompts, length = self.work.prompts, self.work.settings.prompt_tokens
        if prompts is None:
            return [[] for _ in documents]
        texts = prompts.texts(prompts.rows(documents[0], len(documents), self.work.seed), length)
        encode = self.definition.tokenizer.encode
        return [encode(text, add_special_tokens=False).ids[:length] for text in texts]


def read_drafts(staging: Folder, number: int) -> Drafts:
    """Read the figures of a shard's drafts."""
    table = pq.read_table(staging.local(shard_name(number)), columns=DECIDING)
    return Drafts(
        hashes=hashes_of(table["doc_id"]),
        folded=hashes_of(table["folded_id"]),
        tokens=table["tokens"].to_numpy(),
        nats=table["nats"].to_numpy(),
        ended=table["ended"].to_numpy(),
        num_bytes=table["num_bytes"].to_numpy(),
        refused=table["reason"].is_valid().to_numpy(),
    )


def hashes_of(ids: pa.ChunkedArray) -> Hashes:
    """Return ids in hexadecimal as hashes."""
    return np.frombuffer(bytes.fromhex("".join(ids.to_pylist())), "S16")


def written_in_order(work: Writing, num_actors: int, progress: Progress) -> Generator[int, None, None]:
    """Yield the shard numbers 0, 1, 2 … as the shards become available.

    Shards of an earlier run are reused, and no actor starts before they are exhausted. Closing the generator ends the
    actors; shards in progress are lost. Raises ``StageError`` if a shard cannot be written, or an actor died more than
    ``RESTARTS`` times.
    """
    number = 0
    while work.staging.exists(shard_name(number)):
        yield number
        number += 1
    yield from _written(work, number, num_actors, progress)


def _written(work: Writing, following: int, num_actors: int, progress: Progress) -> Generator[int, None, None]:
    import ray

    asked = amount(num_actors, {"CPU": 1, "GPU": int(work.gpus)})
    waiting, started = Waiting("distill", asked, progress), False
    actor_class: Any = ray.remote(Writer).options(
        num_cpus=1,
        num_gpus=1 if work.gpus else 0,
        max_restarts=RESTARTS,
        max_task_retries=RESTARTS,
        scheduling_strategy="DEFAULT",  # also from inside a trial, whose placement group holds nothing for it
        runtime_env={"env_vars": ENVIRONMENT},
    )
    actors = [actor_class.remote(work) for _ in range(num_actors)]
    running: dict[Any, tuple[Any, int | None]] = {actor.ready.remote(): (actor, None) for actor in actors}
    idle: list[Any] = []
    there: set[int] = set()
    begun = following
    try:
        while True:
            while idle and begun < following + AHEAD * num_actors:
                actor = idle.pop()
                running[actor.write.remote(begun)] = actor, begun
                begun += 1
            done = first_done(running, started, waiting)
            actor, number = running.pop(done)
            _collect(done, number)
            started = True
            idle.append(actor)
            there |= set() if number is None else {number}
            while following in there:
                there.remove(following)
                yield following
                following += 1
    finally:
        for actor in actors:
            with suppress(Exception):  # the actor may be gone already
                ray.kill(actor)


def _collect(done: Any, number: int | None) -> None:
    import ray

    doing = "loading the model" if number is None else f"writing shard {number}"
    try:
        ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise origin(error) or disk_fault(error) or StageError(f"distill: {doing} failed: {error.cause!r}") from error
    except ray.exceptions.RayActorError as error:
        raise StageError(f"distill: {doing}: the process died repeatedly ({plain(error)})") from error
