"""DeepSpeed engine of one worker: creation, steps, saving, and loading that verifies DeepSpeed's result.

The weights of the start must have the recorded digest. Every load is verified: ``load_checkpoint`` can pick a different
tag than the requested one, or report success with random weights, so the digest of the full fp32 weights must equal the
saved one. It also restores the hyperparameters of the optimizer groups, which come from rewarm's settings: they are
applied again after every load.
"""

import contextlib
import io
import tempfile
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from rewarm.stages.core.digests import RESTORE
from rewarm.stages.core.errors import StageError
from rewarm.stages.train.data import MicroBatch
from rewarm.stages.train.inputs import refuse_together
from rewarm.stages.train.optimizer import apply_hyperparameters, hyperparameters, make_optimizer, parameter_groups
from rewarm.stages.train.settings import TrainSettings
from rewarm.stages.train.weights import digest, full_weights, load_model, model_weights, set_weights

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
        self.part = settings.global_batch // place.world_size
        self.micro_batch = settings.micro_batch or self.part
        self.engine = self._fresh(universal=False)
        self.teacher = self._frozen(*teacher) if teacher else None
        self._divergence: torch.Tensor | None = None

    def _fresh(self, universal: bool) -> Any:
        """Return a new engine with the start's weights and an empty optimizer."""
        import deepspeed

        model = self._loaded(self.start, self.expected)
        if self.settings.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[no-untyped-call]
        masters = {name: weight.clone() for name, weight in model_weights(model)} if self._low_precision else {}
        model.train()
        groups = parameter_groups(model, self.settings)
        self._hyperparameters = hyperparameters(groups)
        optimizer = make_optimizer(groups, self.settings, fused=self.place.device.type == "cuda")
        with contextlib.redirect_stdout(io.StringIO()):
            engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=self._config(universal))
        apply_hyperparameters(engine, self._hyperparameters)
        if masters:
            set_weights(engine, masters)
        self._check(engine, self.expected, f"starting from {self.start}")
        return engine

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

    def _frozen(self, folder: Path, expected: str) -> torch.nn.Module:
        """Load the teacher: a plain module outside the engine, complete on every rank, in the forward precision.

        As in DeepSpeed, parameters are cast and buffers are not: rotary frequencies need fp32.
        """
        model: torch.nn.Module = self._loaded(folder, expected)
        for parameter in model.parameters():
            parameter.data = parameter.data.to(torch.bfloat16 if self._low_precision else torch.float32)
        return model.train(False).requires_grad_(False).to(self.place.device)

    @property
    def _low_precision(self) -> bool:
        return self.settings.precision != "fp32"

    def _config(self, universal: bool) -> dict[str, Any]:
        return {
            "train_micro_batch_size_per_gpu": self.micro_batch,
            "gradient_accumulation_steps": self.part // self.micro_batch,
            "gradient_clipping": self.settings.clip,
            "zero_optimization": {"stage": self.settings.zero_stage},
            "zero_allow_untested_optimizer": True,
            "bf16": {"enabled": self._low_precision},
            "steps_per_print": 1_000_000_000,
            "checkpoint": {"load_universal": universal},
        }

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

        The objective, over all ranks' B sequences of S tokens, R of them replayed, with λ = ``kl_weight``: ``1/(B·S) ·
        Σ −log p(token) + λ/(R·S) · Σ_replayed KL(p_teacher ‖ p)``; only the first term if R is 0 or there is no
        teacher. A mixture of experts whose own loss includes it adds its routers' load-balancing loss, as the mean over
        the micro batches.
        """
        from rewarm.stages.inference.causal import losses_of, predict

        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        losses, divergences = [], []
        for batch in micro_batches:
            logits, router_loss = predict(self.engine, batch.inputs, batch.positions)
            loss = losses_of(logits, batch.targets).mean()
            losses.append(loss.detach())
            if router_loss is not None:
                loss = loss + router_loss
            if self.teacher is not None and batch.replayed_share:
                divergence = self._divergence_of(self.teacher, batch, logits)
                loss = loss + self.settings.kl_weight * divergence
                divergences.append(divergence.detach())
            self.engine.backward(loss)
            self.engine.step()
        self._divergence = torch.stack(divergences).mean() if divergences else None
        return torch.stack(losses).mean()

    def _divergence_of(self, teacher: torch.nn.Module, batch: MicroBatch, logits: torch.Tensor) -> torch.Tensor:
        """Return a micro batch's contribution to the step's mean KL, which is the mean of all contributions and ranks.

        It is therefore divided by the step's replayed share, not by the number of replayed sequences in this micro
        batch, which may be 0.
        """
        from rewarm.stages.inference.causal import divergences, token_logits

        if not batch.replayed:
            return logits.new_zeros(())
        with torch.no_grad():
            given = token_logits(teacher, batch.inputs[batch.replayed], batch.positions[batch.replayed])
        return divergences(given, logits[batch.replayed]).sum() / batch.positions.numel() / batch.replayed_share

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
        if world_size == self.place.world_size or self.settings.zero_stage == 0:
            self._load_state(folder, TAG)
        else:
            with tempfile.TemporaryDirectory(dir=self.scratch) as universal:
                self._convert(folder / TAG, Path(universal) / TAG)
                self.engine = self._fresh(universal=True)
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
            inject_missing_state=self.settings.zero_stage < 3,
        )
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            ds_to_universal.main(arguments)
