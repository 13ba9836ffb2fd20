"""A pool of Ray actors that run models without training them.

Each actor processes one piece of work at a time and holds one model at a time. Every piece writes its result to a file,
so that nothing is lost when a process dies. Steps that follow each other share a pool: what an actor has imported is
imported once, and the next step only loads its model.
"""

import gc
import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from rewarm.stages.core.awaiting import Waiting, amount, first_done
from rewarm.stages.core.copies import Recorded
from rewarm.stages.core.errors import StageError, origin, plain
from rewarm.stages.core.patience import disk_fault
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokens import TokenStream
from rewarm.stages.inference.losses import document_losses, write_piece

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RESTARTS = 3  # of one actor, before its machine is abandoned
QUIET = {"TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


@dataclass(frozen=True)
class LossPiece:
    """Losses of one model on consecutive documents of one token stream, to be written to ``pieces/name``."""

    model: Folder
    tokens: Folder
    documents: tuple[int, int]  # first, and one past the last
    pieces: Folder
    name: str

    def __str__(self) -> str:
        return f"the losses of {self.model} on {self.tokens}, documents {self.documents[0]} to {self.documents[1]}"


@dataclass(frozen=True)
class Reading:
    """Settings by which a model reads a token stream."""

    seq_len: int
    batch_size: int  # rows of seq_len tokens in one forward pass, or as many tokens in shorter rows
    gpus: bool  # one for each actor; False: GPUs of the machine are not used
    recorded: Recorded = field(default_factory=Recorded)  # digests of the models and token shards to be read


class LossWorker:
    """Actor that processes ``LossPiece`` items."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self._held: tuple[Folder, PreTrainedModel] | None = None

    def work(self, piece: LossPiece) -> None:
        """Process one piece and write its result."""
        reading = self.reading
        stream, model = TokenStream(reading.recorded.shards(piece.tokens)), self.model(piece.model)
        found = document_losses(model, stream, piece.documents, seq_len=reading.seq_len, batch_size=reading.batch_size)
        write_piece(piece.pieces, piece.name, piece.documents[0], *found)

    def model(self, folder: Folder) -> "PreTrainedModel":
        """Return the model of a folder, releasing the previous one."""
        if self._held is None or self._held[0] != folder:
            self._held = None
            gc.collect()
            self._held = folder, load_model(folder, self.reading.gpus, self.reading.recorded)
        return self._held[1]


def load_model(folder: Folder, gpu: bool, recorded: Recorded | None = None) -> "PreTrainedModel":
    """Load a model for inference: float32 on a CPU; bfloat16 on a GPU, or the saved dtype if it lacks bfloat16.

    Raises ``DamagedError`` if this machine's copy of it differs from ``recorded`` and fetching it again does not help.
    """
    import torch

    from rewarm.stages.data.model_folder import load_causal_model

    if gpu:
        dtype: torch.dtype | str = torch.bfloat16 if torch.cuda.is_bf16_supported() else "auto"
    else:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))  # Ray sets it to the actor's CPUs
        dtype = torch.float32
    model = load_causal_model((recorded or Recorded()).model(folder), dtype)
    model.to(torch.device("cuda" if gpu else "cpu"))  # type: ignore[arg-type]
    model.train(False)
    return model


class ModelHost:
    """Actor that processes pieces for one step after another, by the kind of worker that each step names."""

    def __init__(self) -> None:
        self._worker: Any = None
        self._step = -1

    def ready(self) -> None:
        """Do nothing: an answer shows that the actor has been placed on the cluster."""

    def work(self, step: int, make: Callable[[], Any], piece: object) -> None:
        """Process a piece with the worker of ``step``; the previous step's worker is released with its model.

        Every call says how the worker is made, because a restarted actor has lost it.
        """
        if self._step != step:
            self._worker = None
            gc.collect()
            self._worker, self._step = make(), step
        self._worker.work(piece)


class Pool:
    """Up to ``num_actors`` actors, started when pieces need them and ended by ``close``.

    An actor occupies one CPU, and one GPU with ``gpus``; ``environment`` is added to its environment variables.
    """

    def __init__(self, num_actors: int, gpus: bool, environment: dict[str, str]) -> None:
        self.num_actors = num_actors
        self.gpus = gpus
        self.environment = environment
        self._actors: list[Any] = []
        self._steps = 0

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the actors and release what they occupy."""
        import ray

        for actor in self._actors:
            with suppress(Exception):  # the actor may be gone already
                ray.kill(actor)
        self._actors = []

    def work_through(
        self, worker: Callable[[Any], Any], conditions: object, pieces: Sequence[object], label: str, progress: Progress
    ) -> None:
        """Process all pieces in order; an actor receives work once it has been placed.

        ``worker(conditions)`` creates what processes pieces on an actor, with ``work(piece)`` as in ``LossWorker``. If
        a piece fails, the pool is closed.

        Raises:
            StageError: a piece failed, its actor died more than ``RESTARTS`` times, or more than ``RESTARTS`` actors
                could not be reached.
            NoRoomError: no actor found room.
        """
        try:
            self._work_through(partial(worker, conditions), pieces, label, progress)
        except BaseException:
            self.close()
            raise

    def _work_through(self, make: Callable[[], Any], pieces: Sequence[object], label: str, progress: Progress) -> None:
        import ray

        progress.begin(label, len(pieces), "pieces")
        self._start(min(self.num_actors, len(pieces)))
        self._steps += 1
        asked = amount(len(self._actors), {"CPU": 1, "GPU": int(self.gpus)})
        waiting, started = Waiting(label, asked, progress), False
        making = ray.put(make)  # once, not with every piece: it has the digests of all files
        queue, left = deque(pieces), len(pieces)
        running: dict[Any, tuple[Any, object]] = {actor.ready.remote(): (actor, None) for actor in self._actors}
        idle, lost = list[Any](), 0
        while left:
            done = first_done(running, started, waiting)
            actor, piece = running.pop(done)
            if _collect(done, f"{label}: {piece or 'an actor'}", lost):
                started = True
                idle.append(actor)
                left -= piece is not None
                progress.advance(int(piece is not None))
            else:
                lost += 1
                progress.note(
                    f"{label}: a process could not be reached, as when its node was lost, and is given up; "
                    f"{left} pieces remain for the others"
                )
                queue.extendleft([piece] if piece is not None else [])
                running |= self._replaced(actor, bool(idle or running))
            while queue and idle:
                following, actor = queue.popleft(), idle.pop()
                running[actor.work.remote(self._steps, making, following)] = actor, following

    def _replaced(self, actor: Any, others: bool) -> dict[Any, tuple[Any, None]]:
        """Give up an actor that cannot be reached; if there are no others, return a new one that is being placed.

        Others do its work: they may occupy all that the cluster has left, so that it would find no room elsewhere.
        """
        import ray

        with suppress(Exception):  # it may be gone already
            ray.kill(actor)
        self._actors.remove(actor)
        if others:
            return {}
        self._start(1)
        return {self._actors[-1].ready.remote(): (self._actors[-1], None)}

    def _start(self, wanted: int) -> None:
        """Start actors until there are ``wanted``."""
        import ray

        host: Any = ray.remote(ModelHost).options(
            num_cpus=1,
            num_gpus=1 if self.gpus else 0,
            max_restarts=RESTARTS,
            max_task_retries=RESTARTS,
            scheduling_strategy="DEFAULT",  # also from inside a trial, whose placement group holds nothing for it
            runtime_env={"env_vars": self.environment},
        )
        self._actors += [host.remote() for _ in range(wanted - len(self._actors))]


def _collect(done: Any, what: str, lost: int) -> bool:
    """Take an actor's answer; False if it cannot be reached, as when its node was just lost: Ray notices that later.

    ``lost`` others were in this step; of so many it is an error.
    """
    import ray

    try:
        ray.get(done)
    except ray.exceptions.ActorUnavailableError as error:
        if lost >= RESTARTS:
            raise StageError(f"{what}: {lost + 1} processes could not be reached ({plain(error)})") from error
        return False
    except ray.exceptions.RayTaskError as error:
        raise origin(error) or disk_fault(error) or StageError(f"{what} failed: {error.cause!r}") from error
    except ray.exceptions.RayActorError as error:
        raise StageError(f"{what}: its process died repeatedly ({plain(error)})") from error
    return True
