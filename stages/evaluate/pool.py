"""The Ray actors that evaluate: each takes one piece of work at a time and holds one model at a time."""

import gc
import os
import tempfile
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.errors import StageError
from stages.evaluate.harness import plain_metrics, run_task, write_samples
from stages.evaluate.losses import sum_documents, target_losses, write_piece
from stages.evaluate.settings import EvaluateSettings
from stages.evaluate.tasks import copy_task, named_tasks
from stages.progress import Progress
from stages.storage import Folder
from stages.tokens import TokenStream

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager
    from transformers import PreTrainedModel

RESTARTS = 3  # of one actor, before its machine is given up


@dataclass(frozen=True)
class LossPiece:
    """The losses of one model over one span of one validation stream; the sums are written to ``pieces/name``."""

    model: Folder
    tokens: Folder
    span: tuple[int, int]
    pieces: Folder
    name: str

    def __str__(self) -> str:
        return f"the losses of {self.model} on {self.tokens}, tokens {self.span[0]} to {self.span[1]}"


@dataclass(frozen=True)
class TaskPiece:
    """One lm-eval task on the release; ``end_of_text`` is None for a task named by the recipe."""

    model: Folder
    task: str
    end_of_text: int | None
    out: Folder

    def __str__(self) -> str:
        return f"lm-eval's {self.task} on {self.model}"


@dataclass(frozen=True)
class Conditions:
    """What all pieces of one evaluation share."""

    settings: EvaluateSettings
    seq_len: int
    document_mask: bool
    gpus: bool  # each actor has one; without, a GPU that the machine has is left alone


class Evaluator:
    """One actor. A piece leaves its result in a file, so that nothing of value lives in the process."""

    def __init__(self, conditions: Conditions) -> None:
        self.conditions = conditions
        self._held: tuple[Folder, PreTrainedModel] | None = None
        self._named: TaskManager | None = None

    def ready(self) -> None:
        """Nothing: an answer says that the actor has its place on the cluster."""

    def work(self, piece: LossPiece | TaskPiece) -> None:
        """Do one piece and write its result."""
        if isinstance(piece, LossPiece):
            self._losses(piece)
        else:
            self._task(piece)

    def _losses(self, piece: LossPiece) -> None:
        stream, given = TokenStream(piece.tokens), self.conditions
        model = self._model(piece.model)
        losses = target_losses(
            model,
            stream,
            piece.span,
            seq_len=given.seq_len,
            document_mask=given.document_mask,
            batch_size=given.settings.batch_size,
        )
        write_piece(piece.pieces, piece.name, *sum_documents(losses, piece.span[0], stream.document_spans()[0]))

    def _task(self, piece: TaskPiece) -> None:
        model, tokenizer, settings = self._model(piece.model), piece.model.local(), self.conditions.settings
        with tempfile.TemporaryDirectory(prefix="rewarm-task-") as scratch:
            if piece.end_of_text is None:
                self._named = manager = self._named or named_tasks(settings)
            else:
                manager = generated_task(piece.out / "tasks", piece.task, Path(scratch))
            results = run_task(model, tokenizer, piece.task, manager, settings, end_of_text=piece.end_of_text)
        write_samples(piece.out / "samples", results)
        (piece.out / "scores").write_json(f"{piece.task}.json", plain_metrics(results))

    def _model(self, folder: Folder) -> "PreTrainedModel":
        if self._held is None or self._held[0] != folder:
            self._held = None
            gc.collect()
            self._held = folder, load_model(folder, self.conditions.gpus)
        return self._held[1]


def generated_task(tasks: Folder, name: str, scratch: Path) -> "TaskManager":
    """An lm-eval index that holds one generated task, copied to ``scratch``."""
    from lm_eval.tasks import TaskManager

    copy_task(tasks, name, scratch)
    return TaskManager(include_path=str(scratch), include_defaults=False)


def load_model(folder: Folder, gpu: bool) -> "PreTrainedModel":
    """A release for inference: float32 on a CPU; on this actor's GPU bfloat16, or as saved where it has no bfloat16."""
    import torch
    from transformers import AutoModelForCausalLM

    if gpu:
        dtype: torch.dtype | str = torch.bfloat16 if torch.cuda.is_bf16_supported() else "auto"
    else:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))  # Ray sets it to the actor's CPUs
        dtype = torch.float32
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder.local(), dtype=dtype, trust_remote_code=False, use_safetensors=True
    )
    model.to(torch.device("cuda" if gpu else "cpu"))  # type: ignore[arg-type]
    model.train(False)
    return model


def work_through(
    pieces: Sequence[LossPiece | TaskPiece], conditions: Conditions, num_actors: int, progress: Progress
) -> None:
    """Do all pieces on up to ``num_actors`` actors, in their order; an actor gets work once it has its place.

    Raises:
        StageError: a piece failed, or its actor died more than ``RESTARTS`` times.
    """
    import ray

    progress.begin("evaluate", len(pieces), "pieces")
    actor_class: Any = ray.remote(Evaluator).options(
        num_cpus=1,
        num_gpus=1 if conditions.gpus else 0,
        max_restarts=RESTARTS,
        max_task_retries=RESTARTS,
        runtime_env={"env_vars": worker_environment(conditions.settings)},
    )
    actors = [actor_class.remote(conditions) for _ in range(min(num_actors, len(pieces)))]
    queue, left = deque(pieces), len(pieces)
    running: dict[Any, tuple[Any, LossPiece | TaskPiece | None]] = {
        actor.ready.remote(): (actor, None) for actor in actors
    }
    try:
        while left:
            done = ray.wait(list(running), num_returns=1)[0][0]
            actor, piece = running.pop(done)
            _collect(done, piece)
            if piece is not None:
                left -= 1
                progress.advance(1)
            if queue:
                following = queue.popleft()
                running[actor.work.remote(following)] = actor, following
    finally:
        for actor in actors:
            with suppress(Exception):  # an actor that is gone already is what we want
                ray.kill(actor)


def _collect(done: Any, piece: LossPiece | TaskPiece | None) -> None:
    import ray

    try:
        ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise StageError(f"evaluate: {piece or 'an actor'} failed: {error.cause!r}") from error
    except ray.exceptions.RayActorError as error:
        raise StageError(f"evaluate: {piece or 'an actor'}: its process died again and again ({error})") from error


def worker_environment(settings: EvaluateSettings) -> dict[str, str]:
    """The actors' environment: nothing is fetched from the network unless the recipe names tasks that need it."""
    variables = {"TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
    if not settings.tasks:
        return variables | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    passed = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HOME", "HF_DATASETS_CACHE")
    return variables | {name: os.environ[name] for name in passed if name in os.environ}
