"""One worker's DeepSpeed engine: made, stepped, saved, and loaded without DeepSpeed's traps.

The start's weights must have the digest that the record has. What is checked after every load, and why:
``load_checkpoint`` can take another tag than the one asked for, or report success with random weights; so the digest of
the whole fp32 weights must equal the one that was saved. It also restores the optimizer groups' hyperparameters, which
are ours to set: they are applied again after every load.
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
from rewarm.stages.train.settings import TrainSettings
from rewarm.stages.train.weights import digest, full_weights, load_model, model_weights, set_weights

if TYPE_CHECKING:
    import transformers

TAG = "state"


@dataclass(frozen=True)
class Place:
    """Where a worker stands in the group."""

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
        """``expected`` is the digest of the start's weights in the record; ``teacher`` is a folder and its digest.

        Raises ``DamagedError``, on all ranks alike, if the weights of either are others.
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
        """A new engine with the start's weights and an empty optimizer."""
        import deepspeed

        model = self._loaded(self.start, self.expected)
        if self.settings.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[no-untyped-call]
        masters = {name: weight.clone() for name, weight in model_weights(model)} if self._low_precision else {}
        model.train()
        optimizer = torch.optim.AdamW(self._groups(model), lr=0.0, fused=self.place.device.type == "cuda")
        with contextlib.redirect_stdout(io.StringIO()):
            engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=self._config(universal))
        if masters:
            set_weights(engine, masters)
        self._check(engine, self.expected, f"starting from {self.start}")
        return engine

    def _loaded(self, folder: Path, expected: str) -> "transformers.PreTrainedModel":
        """The model of a folder, if its weights are those of the record."""
        model, problem = None, None
        try:
            model = load_model(folder)
            found = digest(model_weights(model))
            if found != expected:
                problem = f"weights of digest {expected} expected by the record, {found} found"
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever the library makes of damaged bytes
            problem = f"weights of digest {expected} expected by the record; {type(error).__name__}: {error}"
        refuse_together(problem and f"{folder}: {problem}. Nothing was trained on it; {RESTORE}")
        assert model is not None
        return model

    def _frozen(self, folder: Path, expected: str) -> torch.nn.Module:
        """A model to hold to: a plain module outside the engine, whole on every rank, in the forward's precision.

        As DeepSpeed does, it casts parameters and leaves buffers as they are: rotary frequencies need fp32.
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

    def _groups(self, model: torch.nn.Module) -> list[dict[str, Any]]:
        """Two groups: matrices with weight decay, biases and norms (anything of one dimension) without."""
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        common = {"betas": (self.settings.beta1, self.settings.beta2), "eps": self.settings.epsilon}
        matrices = [parameter for parameter in parameters if parameter.dim() > 1]
        vectors = [parameter for parameter in parameters if parameter.dim() <= 1]
        groups = [(matrices, self.settings.weight_decay), (vectors, 0.0)]
        return [{"params": members, "weight_decay": decay, **common} for members, decay in groups if members]

    def _apply_hyperparameters(self, engine: Any) -> None:
        decays = (
            [self.settings.weight_decay, 0.0]
            if len(engine.optimizer.param_groups) == 2
            else [self.settings.weight_decay]
        )
        for group, decay in zip(engine.optimizer.param_groups, decays, strict=True):
            group.update(
                betas=(self.settings.beta1, self.settings.beta2), eps=self.settings.epsilon, weight_decay=decay
            )

    def _check(self, engine: Any, expected: str, doing: str) -> None:
        found = digest(full_weights(engine))
        if found != expected:
            raise StageError(
                f"{doing}: the weights in the engine have digest {found}, expected {expected}. "
                "The engine did not load what it was given; nothing was trained on it."
            )

    # -- training --------------------------------------------------------------------------------------------

    def step(self, micro_batches: list[MicroBatch], rate: float) -> torch.Tensor:
        """One optimizer step over this worker's part of the batch; its mean cross-entropy in nats (fp32).

        What is minimised, over all ranks' B sequences of S tokens, R of them replayed, with λ = ``kl_weight``:
        ``1/(B·S) · Σ −log p(token) + λ/(R·S) · Σ_replayed KL(p_teacher ‖ p)``; where R is 0, or without a teacher, the
        first term alone. A mixture of experts whose own loss has one adds its routers' load-balancing loss, the mean
        over the micro batches.
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
        """A micro batch's part of the step's mean KL: the mean of all parts, over all ranks, is that of the step.

        Hence the division by the step's replayed share and not by the replayed sequences of this micro batch, of which
        there may be none.
        """
        from rewarm.stages.inference.causal import divergences, token_logits

        if not batch.replayed:
            return logits.new_zeros(())
        with torch.no_grad():
            given = token_logits(teacher, batch.inputs[batch.replayed], batch.positions[batch.replayed])
        return divergences(given, logits[batch.replayed]).sum() / batch.positions.numel() / batch.replayed_share

    def divergence(self) -> torch.Tensor | None:
        """This worker's part of the last step's mean KL in nats; the mean over the workers is the whole.

        None, on all of them alike, without a teacher or where the step replayed nothing.
        """
        return self._divergence

    def gradient_norm(self) -> float | None:
        """Norm of the last step's whole gradient, before clipping; None if DeepSpeed computes none (ZeRO 0 in fp32).

        Not finite: DeepSpeed has left the step out.
        """
        norm = self.engine.get_global_grad_norm()
        return None if norm is None else float(norm)

    def weights_digest(self) -> str:
        """Digest of the whole fp32 weights; a collective."""
        return digest(full_weights(self.engine))

    def gather(self) -> dict[str, torch.Tensor]:
        """The whole fp32 weights on rank 0, nothing on the others; a collective."""
        gathered = {}
        for name, weight in full_weights(self.engine):
            if self.place.rank == 0:
                gathered[name] = weight.clone()
        return gathered

    # -- checkpoints -----------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """This rank's part of a checkpoint; a collective. All ranks' folders laid together make it up."""
        (folder / TAG).mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(io.StringIO()):
            self.engine.save_checkpoint(str(folder), tag=TAG, save_latest=False)

    def load(self, folder: Path, world_size: int, expected: str) -> None:
        """Go on from a checkpoint of ``world_size`` ranks: natively at the same size, else by ZeRO's universal form."""
        if world_size == self.place.world_size or self.settings.zero_stage == 0:
            self._load_state(folder, TAG)
        else:
            with tempfile.TemporaryDirectory(dir=self.scratch) as universal:
                self._convert(folder / TAG, Path(universal) / TAG)
                self.engine = self._fresh(universal=True)
                self._load_state(Path(universal), TAG)
                dist.barrier()
        self._apply_hyperparameters(self.engine)
        self._separate_step_counts()
        self._check(self.engine, expected, f"resuming from {folder}")

    def _separate_step_counts(self) -> None:
        """One count of steps for each state: ZeRO 3's universal load gives all of them the same tensor to count up."""
        for state in self.engine.basic_optimizer.state.values():
            if torch.is_tensor(state.get("step")):
                state["step"] = state["step"].clone()

    def _load_state(self, folder: Path, tag: str) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            path, _ = self.engine.load_checkpoint(
                str(folder), tag=tag, load_optimizer_states=True, load_lr_scheduler_states=False
            )
        if path is None:
            raise StageError(f"{folder}/{tag}: DeepSpeed found no checkpoint there")

    def _convert(self, source: Path, target: Path) -> None:
        """ZeRO checkpoint → universal form, in this rank's own scratch folder: no shared disk is needed."""
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
