"""DeepSpeed engine of one worker: creation, steps, saving, and loading that verifies DeepSpeed's result.

The weights of the start must have the recorded digest. Every load is verified: ``load_checkpoint`` can pick a different
tag than the requested one, or report success with random weights, so the digest of the full fp32 weights must equal the
saved one. It also restores the hyperparameters of the optimizer groups, which come from rewarm's settings: they are
applied again after every load.
"""

import contextlib
import gc
import io
import os
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from rewarm.stages.core.digests import RESTORE
from rewarm.stages.core.errors import DamagedError, StageError
from rewarm.stages.inference.causal import Packed, documents_of, token_losses
from rewarm.stages.train.bad_steps import Guard, guarded, mean_over_ranks
from rewarm.stages.train.chunked_loss import ChunkedHead, HeadForm, head_form
from rewarm.stages.train.data import MicroBatch, micro_batches, weighted
from rewarm.stages.train.inputs import refuse_together
from rewarm.stages.train.objective import Objective
from rewarm.stages.train.optimizer import apply_hyperparameters, hyperparameters, make_optimizer, parameter_groups
from rewarm.stages.train.padded_vocabulary import pad
from rewarm.stages.train.settings import TrainSettings
from rewarm.stages.train.sharded_start import ShardedStart, sharded_start
from rewarm.stages.train.ways import Ways, chosen_ways
from rewarm.stages.train.weights import digest, full_weights, load_model, model_weights, set_weights
from rewarm.stages.train.zero_config import stage_note, zero_config

if TYPE_CHECKING:
    import transformers

TAG = "state"


@dataclass(frozen=True)
class Place:
    """Ranks and device of a worker in its group."""

    rank: int
    world_size: int
    local_rank: int
    device: torch.device


@contextlib.contextmanager
def compiler_left_out() -> Iterator[None]:
    """Keep DeepSpeed from importing torch's compiler: 600 modules, and a second of every worker's start.

    Its check of the optimizer imports its own Muon, which compiles functions that are never called here. The layers of
    the model are compiled outside of this, if at all (``train.compile``).
    """
    name = "TORCHDYNAMO_DISABLE"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


class Engine:
    """A DeepSpeed engine that starts from a Hugging Face folder and can be saved and resumed exactly."""

    def __init__(
        self,
        start: Path,
        expected: str,
        settings: TrainSettings,
        place: Place,
        scratch: Path,
        teacher: tuple[Path, str] | None = None,
    ) -> None:
        """Create the engine; ``expected`` is the recorded digest of the start's weights, ``teacher`` folder and digest.

        Raises ``DamagedError``, on all ranks, if the weights of either do not match their digest.
        """
        self.settings = settings
        self.place = place
        self.start = start
        self.expected = expected
        self.scratch = scratch
        self.micro_batch, self.rounds = micro_batches(settings, place.world_size)
        self.notes: list[str] = []  # on ways of the forward pass that were not possible
        self.guard = None if settings.skip_sigma is None else Guard(settings)
        self.engine, self.ways = self._fresh(universal=False)
        self.objective = self._objective(teacher)
        self._divergence: torch.Tensor | None = None

    def _fresh(self, universal: bool) -> tuple[Any, Ways]:
        """Return a new engine with the start's weights and an empty optimizer, and the ways of its forward pass."""
        import deepspeed

        sharded, whole = sharded_start(self.start, self.settings, self.place)
        model = self._loaded(self.start, self.expected) if sharded is None else sharded.model
        unpadded = pad(model, self.settings.pad_vocabulary)
        ways, self.notes = chosen_ways(model, self.settings, self.micro_batch, self.place.device)
        unpadded = unpadded and f"train.pad_vocabulary {self.settings.pad_vocabulary} has no effect: {unpadded}"
        self.notes += [note for note in (stage_note(self.settings), whole, unpadded) if note is not None]
        if self.settings.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[no-untyped-call]
        model.train()
        groups = parameter_groups(model, self.settings)
        self._hyperparameters = hyperparameters(groups)
        config = zero_config(self.settings, self.micro_batch, self.rounds, universal)
        masters: dict[str, torch.Tensor] = {}
        if sharded is not None:
            sharded.partition(self._dtype, self.place.device, config)
        elif self._low_precision:
            masters = {name: weight.clone() for name, weight in model_weights(model)}
        optimizer = make_optimizer(groups, self.settings, fused=self.place.device.type == "cuda")
        with contextlib.redirect_stdout(io.StringIO()), compiler_left_out():
            engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
        apply_hyperparameters(engine, self._hyperparameters)
        if self.guard is not None:
            guarded(optimizer, self.guard, partial(norm_before_clipping, engine))
        if masters:
            set_weights(engine, masters)
        elif sharded is not None and self._low_precision:
            sharded.set_masters()
        self._check_start(engine, sharded)
        return engine, ways

    def _loaded(self, folder: Path, expected: str) -> "transformers.PreTrainedModel":
        """Load the model of a folder, if its weights match the record."""
        model, problem = None, None
        try:
            model = load_model(folder)
            found = digest(model_weights(model))
            if found != expected:
                problem = f"weights have digest {found}, expected {expected} from the record"
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # damaged bytes raise many kinds
            problem = f"expected weights with digest {expected} from the record; {type(error).__name__}: {error}"
        refuse_together(problem and f"{folder}: {problem}. Nothing was trained on it; {RESTORE}")
        assert model is not None
        return model

    def _objective(self, teacher: tuple[Path, str] | None) -> Objective:
        """Return the objective; the teacher is a plain module, complete on every rank, in the forward precision.

        As in DeepSpeed, its parameters are cast and its buffers are not: rotary frequencies need fp32.
        """
        if teacher is None:
            return Objective(self.settings.kl_weight, None, None)
        model = self._loaded(*teacher)
        form = None if self.ways.head is None else head_form(model)
        if isinstance(form, str):  # the teacher has another head than the student
            self.ways = replace(self.ways, head=None)
            self.notes.append(f"train.loss: the loss is computed from whole logits, because of the teacher: {form}")
        head = ChunkedHead(model, form) if isinstance(form, HeadForm) else None
        for parameter in model.parameters():
            parameter.data = parameter.data.to(self._dtype)
        frozen: Any = model
        return Objective(self.settings.kl_weight, frozen.eval().requires_grad_(False).to(self.place.device), head)

    @property
    def stage(self) -> int:
        """The ZeRO stage in use."""
        return int(self.engine.zero_optimization_stage())

    @property
    def _low_precision(self) -> bool:
        return self.settings.precision != "fp32"

    @property
    def _dtype(self) -> torch.dtype:
        """The precision of the forward pass."""
        return torch.bfloat16 if self._low_precision else torch.float32

    def _check_start(self, engine: Any, sharded: ShardedStart | None) -> None:
        """Compare a new engine's weights with the record, and those of a start in parts also in the files."""
        try:
            self._check(engine, self.expected, f"starting from {self.start}")
        except StageError as error:
            if sharded is not None and (stored := sharded.digest()) != self.expected:
                raise DamagedError(
                    f"{self.start}: weights have digest {stored}, expected {self.expected} from the record. Nothing "
                    f"was trained on it; {RESTORE}"
                ) from error
            raise

    def _check(self, engine: Any, expected: str, doing: str) -> None:
        found = digest(full_weights(engine))
        if found != expected:
            raise StageError(
                f"{doing}: the engine's weights have digest {found}, expected {expected}. "
                "DeepSpeed did not load the given weights; nothing was trained on them."
            )

    # -- training --------------------------------------------------------------------------------------------

    def step(self, micro_batches: list[MicroBatch], rate: float) -> torch.Tensor:
        """Run one optimizer step on this worker's part of the batch; return its mean cross-entropy in nats (fp32).

        The objective is that of ``Objective``. With parts of unequal size, the mean of the workers' returned values is
        the mean over the batch.
        """
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        losses, divergences = [], []
        for number, batch in enumerate(micro_batches, 1):
            terms = self.objective.terms(self.engine, batch, self.ways)
            losses.append(weighted(terms.cross_entropy, batch.weight))
            if terms.divergence is not None:
                divergences.append(weighted(terms.divergence, batch.weight))
            self.engine.backward(weighted(terms.objective, batch.weight))
            if self.guard is not None and number == len(micro_batches):
                self.guard.begin(mean_over_ranks(torch.stack(losses).mean(), self.place.world_size))
            self.engine.step()
        self._divergence = torch.stack(divergences).mean() if divergences else None
        return torch.stack(losses).mean()

    def token_losses(self, batch: Packed) -> torch.Tensor:
        """Return the loss of every target of a batch in nats, float32 ``[batch, seq_len]``, without a gradient."""
        documents = documents_of(batch.positions) if self.ways.by_documents else None
        if self.ways.head is None:
            return token_losses(self.engine, *batch, documents)
        hidden, _ = self.ways.head.hidden(self.engine, batch.inputs, batch.positions, documents)
        return self.ways.head.token_losses(hidden, batch.targets)

    def divergence(self) -> torch.Tensor | None:
        """Return this worker's contribution to the last step's mean KL in nats; the mean over workers is the total.

        None, on all workers, without a teacher or if the step replayed nothing.
        """
        return self._divergence

    def gradient_norm(self) -> float | None:
        """Return the norm of the last step's full gradient before clipping; None if not computed (ZeRO 0 in fp32).

        If it is not finite, DeepSpeed has skipped the step.
        """
        norm = self.engine.get_global_grad_norm()
        return None if norm is None else float(norm)

    def weights_digest(self) -> str:
        """Return the digest of the full fp32 weights. A collective."""
        return digest(full_weights(self.engine))

    def gather(self) -> dict[str, torch.Tensor]:
        """Return the full fp32 weights on rank 0, nothing on the others. A collective."""
        gathered = {}
        for name, weight in full_weights(self.engine):
            if self.place.rank == 0:
                gathered[name] = weight.clone()
        return gathered

    def close(self) -> None:
        """Release DeepSpeed's hooks and tables, which outlive an engine: this process may create another one."""
        self.engine.destroy()

    def _free(self) -> None:
        """Release the memory of the engine, before another one is created in its place."""
        self.close()
        self.engine, self.ways = None, Ways()
        gc.collect()

    # -- checkpoints -----------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write this rank's part of a checkpoint, which is the union of all ranks' folders. A collective."""
        (folder / TAG).mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(io.StringIO()):
            self.engine.save_checkpoint(str(folder), tag=TAG, save_latest=False)

    def load(self, folder: Path, world_size: int, expected: str) -> None:
        """Resume from a checkpoint of ``world_size`` ranks: natively at the same size, else in ZeRO's universal form.

        A collective.
        """
        if world_size == self.place.world_size or self.stage == 0:
            self._load_state(folder, TAG)
        else:
            with tempfile.TemporaryDirectory(dir=self.scratch) as universal:
                self._convert(folder / TAG, Path(universal) / TAG)
                self._free()
                self.engine, self.ways = self._fresh(universal=True)
                self._load_state(Path(universal), TAG)
                dist.barrier()
        apply_hyperparameters(self.engine, self._hyperparameters)
        self._separate_step_counts()
        self._check(self.engine, expected, f"resuming from {folder}")

    def _separate_step_counts(self) -> None:
        """Give each state its own step count: ZeRO 3's universal load shares one tensor among all of them."""
        for state in self.engine.basic_optimizer.state.values():
            if torch.is_tensor(state.get("step")):
                state["step"] = state["step"].clone()

    def _load_state(self, folder: Path, tag: str) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            path, _ = self.engine.load_checkpoint(
                str(folder), tag=tag, load_optimizer_states=True, load_lr_scheduler_states=False
            )
        if path is None:
            raise StageError(f"{folder}/{tag}: DeepSpeed found no checkpoint in this folder")

    def _convert(self, source: Path, target: Path) -> None:
        """Convert a ZeRO checkpoint to the universal form in this rank's scratch folder; needs no shared disk."""
        from deepspeed.checkpoint import ds_to_universal

        arguments = Namespace(
            input_folder=str(source),
            output_folder=str(target),
            num_extract_workers=1,
            num_merge_workers=1,
            keep_temp_folder=False,
            strict=True,
            inject_missing_state=self.stage < 3,
        )
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            ds_to_universal.main(arguments)


def norm_before_clipping(engine: Any) -> float | None:
    """Return the norm of the gradient that the optimizer is about to apply; None at ZeRO 0 in fp32."""
    norm = getattr(engine.optimizer, "_global_grad_norm", None)
    return None if norm is None else float(norm)
