"""Settings of the training engine: the optimizer step, and its placement."""

from typing import Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from rewarm.stages.core.settings import ADDED, PLACEMENT, Settings

OWNED = {
    "train_batch_size": "train.global_batch",
    "train_micro_batch_size_per_gpu": "train.micro_batch",
    "gradient_accumulation_steps": "train.micro_batch",
    "gradient_clipping": "train.clip",
    "optimizer": "train.weight_decay, train.beta1, …",
    "scheduler": "schedule",
    "bf16": "train.precision",
    "fp16": "train.precision",
    "amp": "train.precision",
    "torch_autocast": "train.precision",
    "data_types": "train.gradients",
    "checkpoint": "train.checkpoint_every",
    "steps_per_print": "rewarm's own log",
    "zero_allow_untested_optimizer": "rewarm's optimizer",
    "zero_optimization.stage": "train.zero_stage",
    "zero_optimization.offload_optimizer": "train.offload_optimizer",
}
"""Keys of DeepSpeed's configuration, by the setting that decides them."""
PASSED = (
    "activation_checkpointing",
    "aio",
    "comms_logger",
    "communication_data_type",
    "dump_state",
    "flops_profiler",
    "gradient_predivide_factor",
    "memory_breakdown",
    "prescale_gradients",
    "sparse_gradients",
    "wall_clock_breakdown",
    "zero_optimization",
)
"""Keys of DeepSpeed's configuration that ``train.deepspeed`` may set; it ignores unknown ones in silence."""


class ModelSettings(Settings):
    """The initial model of a lineage."""

    path: str | None = Field(default=None, json_schema_extra=PLACEMENT)
    """Hugging Face folder to import as the base, with its tokenizer (``init --from``); null: random weights."""
    type: str = "gpt_neox"
    """Model type, as in ``transformers.AutoConfig.for_model``."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Fields of that type's configuration class; vocabulary size and special tokens come from the tokenizer."""


class TrainSettings(Settings):
    """DeepSpeed ZeRO on Ray Train workers."""

    seq_len: int = Field(default=2048, ge=8)
    """Sequence length in tokens."""
    global_batch: int = Field(default=1104, ge=1)
    """Sequences per optimizer step, over all workers (1,104 × 2,048 tokens in Ibrahim et al. 2024)."""
    document_mask: bool = True
    """No attention across the documents packed into a sequence; positions restart at each document. False: plain
    packing, as in the papers' code."""
    zero_stage: Literal[0, 1, 2, 3] = 1
    """ZeRO stage: what is partitioned among the workers. 0: nothing, 1: optimizer state, 2: also gradients, 3: also
    weights."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """Precision of the forward and backward passes; the optimizer's weights are always fp32."""
    optimizer: Literal["adamw", "muon"] = Field(default="adamw", json_schema_extra=ADDED)
    """``muon``: weight matrices are updated by Muon (Jordan et al. 2024) with AdamW's learning rate and weight decay,
    matched by the root mean square of an update (Liu et al. 2025, arXiv 2502.16982); embeddings, the output layer,
    biases and norms by AdamW. ZeRO stages 0 (in fp32), 1 and 2; the number of workers is fixed while an optimizer state
    is resumed or kept. A lineage stays with its optimizer, see ``switch_optimizer``."""
    switch_optimizer: bool = Field(default=False, json_schema_extra=ADDED)
    """Allow an update to change the lineage's optimizer, or to train an imported model with ``muon``: a model forgets
    more if it is fine-tuned with another optimizer than it was pre-trained with (arXiv 2605.06654, 2605.10468)."""
    muon_momentum: float = Field(default=0.95, ge=0, lt=1, json_schema_extra=ADDED)
    """Muon's momentum μ (Nesterov), 0.95 in Jordan et al. 2024."""
    gradients: Literal["model", "fp32"] = Field(default="model", json_schema_extra=ADDED)
    """Precision in which micro batches' gradients are summed, and reduced over the workers: that of the backward pass
    (``precision``), or fp32, which needs 2 more bytes per parameter of a worker's gradients in bf16, and at least ZeRO
    stage 2, which is then used for stages 0 and 1."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled weight decay, applied to matrices only: not to biases or norm weights."""
    decay_embeddings: bool = Field(default=True, json_schema_extra=ADDED)
    """Apply ``weight_decay`` to embeddings too, as in the papers' code. An output layer that shares its weights with
    the embeddings is treated like them."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """AdamW's β1."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """AdamW's β2."""
    epsilon: float = Field(default=1e-8, gt=0)
    """AdamW's ε."""
    clip: float = Field(default=1.0, gt=0)
    """Maximum gradient norm of a step; larger gradients are scaled down to it."""
    keep_optimizer: bool = False
    """Start an update with the trunk's final optimizer state (moments and step counts), instead of an empty one as in
    the papers. The learning rate follows the schedule in both cases: it is set again after every load."""
    skip_sigma: float | None = Field(default=None, gt=0, json_schema_extra=ADDED)
    """Skip a step whose loss or gradient norm is more than this many standard deviations above the mean of the last
    ``skip_window`` applied steps (OLMo-core uses 6): neither weights nor optimizer state change, and its tokens count
    as passed. Null: every step is applied."""
    skip_window: int = Field(default=128, ge=4, json_schema_extra=ADDED)
    """Steps of the rolling test of ``skip_sigma``; it begins with half of them."""
    skip_limit: int = Field(default=8, ge=0, json_schema_extra=ADDED)
    """Bad steps among the last ``skip_window`` that are only skipped. With one more the run returns to the last
    checkpoint before the first of them, and leaves out the steps from there to the last one."""
    return_limit: int = Field(default=1, ge=0, json_schema_extra=ADDED)
    """Such returns of a run before it stops. ``rewarm trace --step N`` names the documents of a step, and
    says if it was skipped or left out; such steps do not count as read in ``rewarm trace`` and the record."""
    kl_weight: float = Field(default=0.0, ge=0)
    """Weight λ of a penalty that keeps the model close to the one the update starts from, on replayed sequences only
    (Marek et al. 2026, arXiv 2605.26097): loss = cross-entropy of all tokens + λ · mean KL(p_start ‖ p_model) over the
    tokens of the step's replayed sequences. 0: none. It needs a second copy of the weights in memory, which ZeRO does
    not partition, and a forward pass over the replayed sequences."""
    validate_every: int = Field(default=100, ge=0)
    """Steps between validations on every dataset so far; 0: only at the start and at the end."""
    validate_first: bool = True
    """Also validate after 1, 2, 4, 8, … steps, up to ``validate_every``: the stability gap (Guo et al. 2024) occurs in
    an update's first steps. Costs a few more validations; no effect if ``validate_every`` is 0."""
    validation_sequences: int = Field(default=256, ge=1)
    """Sequences of each dataset's validation split read by a validation; the evaluation after training reads all of
    them."""
    validation_compute: float | None = Field(default=0.3, gt=0, json_schema_extra=ADDED)
    """Largest compute of all validations of a run, as a fraction of that of its steps (a forward pass is a third of a
    step on as many tokens): where ``validation_sequences`` of every dataset exceed it, fewer are read, at least 4, and
    the command says how many; null: no limit."""
    final_steps: int = Field(default=100, ge=0)
    """Steps at the end of a run over which the final loss is averaged (100 in Ibrahim et al. 2024), at most the run's
    last quarter; 0: no average."""
    final_every: int = Field(default=10, ge=1)
    """Steps between the validations that are averaged (10 in Ibrahim et al. 2024). Each reads ``validation_sequences``
    of every dataset."""
    num_workers: int = Field(default=1, ge=1, json_schema_extra=PLACEMENT)
    """Number of Ray Train workers, at most the global batch. It does not change the sequences of a step: if it does not
    divide the global batch, the parts of the workers differ by one sequence and are weighted in the loss."""
    device: Literal["auto", "cpu", "gpu"] = Field(default="auto", json_schema_extra=PLACEMENT)
    """``gpu``: one GPU per worker (nccl), and GPUs for evaluation, selection, plan and distillation, even if no node
    with a GPU is up yet; ``cpu``: gloo; ``auto``: GPUs if the cluster currently has one for each worker."""
    cpus_per_worker: int | None = Field(default=None, ge=1, json_schema_extra=PLACEMENT)
    """CPUs and torch threads per worker; null: on CPUs the largest number available to all workers, with GPUs the
    worker's share of its node's CPUs."""
    micro_batch: int | None = Field(default=None, ge=1, json_schema_extra=PLACEMENT)
    """Most sequences that a worker processes at once, accumulating gradients; null: its whole part of the global
    batch. A part that it does not divide is divided as evenly as possible."""
    loss: Literal["auto", "whole", "chunks"] = Field(default="auto", json_schema_extra=PLACEMENT)
    """Computation of the output layer and the loss. ``whole``: all logits of a micro batch at once, in fp32 about 18
    bytes per token × vocabulary entry; ``chunks``: some tokens at a time, with their gradient, less than 4 bytes; whole
    logits, with a note, if the model's head is no linear layer. ``auto``: chunks if a micro batch's fp32 logits are
    larger than 256 MiB. The loss differs in the last digits; the choice is recorded, and a resumed run that changes it
    says so."""
    attention: Literal["auto", "varlen", "sdpa"] = Field(default="auto", json_schema_extra=PLACEMENT)
    """Attention within packed documents. ``varlen``: by the documents' boundaries, with PyTorch's flash kernel for
    sequences of variable length on CUDA in bf16, else document by document; ``sdpa``: by a dense mask. A model that
    does not permit ``varlen`` uses ``sdpa``, with a note. ``auto``: ``varlen`` on CUDA in bf16 with ``document_mask``,
    else ``sdpa``. The choice is recorded as that of ``loss`` is."""
    pad_vocabulary: int = Field(default=1, ge=1, json_schema_extra=ADDED)
    """Pad the rows of the embedding and the output layer to a multiple of this while training; GPUs multiply multiples
    of 128 faster. The added rows are masked, stay 0 and are not stored. Losses differ in the last digits. 1: none."""
    peak_flops: float | None = Field(default=None, gt=0, json_schema_extra=PLACEMENT)
    """Peak FLOP/s of one worker's device, for the utilisation metric (MFU); null: the data sheet's figure for a known
    GPU in bf16, else the speed of a matrix product that is timed when training starts."""
    gradient_checkpointing: bool = Field(default=False, json_schema_extra=PLACEMENT)
    """Recompute activations in the backward pass: less memory, about a third more compute time."""
    offload_optimizer: bool = Field(default=False, json_schema_extra=PLACEMENT)
    """Keep the optimizer's state and step on the CPU (ZeRO 1 to 3): 12 bytes per parameter less on the GPUs, slower."""
    compile: bool = Field(default=False, json_schema_extra=PLACEMENT)
    """Compile the model's layers with ``torch.compile`` (not at ZeRO 3): a minute at the start, then faster on a GPU.
    The choice is recorded as that of ``loss`` is."""
    deepspeed: dict[str, Any] = Field(default={}, json_schema_extra=PLACEMENT)
    """More of DeepSpeed's configuration, such as ``{zero_optimization: {overlap_comm: true}}``. Keys that other
    settings decide are refused, and so are unknown ones. Recorded as ``loss`` is."""
    checkpoint_every: int = Field(default=500, ge=1, json_schema_extra=PLACEMENT)
    """Steps between checkpoints; an interrupted run repeats at most this many."""
    checkpoint_minutes: float | None = Field(default=None, gt=0, json_schema_extra=PLACEMENT)
    """Minutes after which a checkpoint is saved even if fewer than ``checkpoint_every`` steps are done; null: by steps
    alone. A notice of preemption also saves one."""
    keep_checkpoints: int = Field(default=2, ge=1, json_schema_extra=PLACEMENT)
    """Number of checkpoints kept per run."""
    milestones: tuple[PositiveInt, ...] = Field(default=(), json_schema_extra=PLACEMENT)
    """Steps of a run whose checkpoints are also kept, in ``updates/<id>/milestones``, after the update too."""
    milestone_tokens: tuple[PositiveInt, ...] = Field(default=(), json_schema_extra=PLACEMENT)
    """Tokens of the lineage at which, or with the first step after which, a checkpoint is kept as by ``milestones``."""
    hang_seconds: float | None = Field(default=None, gt=0, json_schema_extra=PLACEMENT)
    """Seconds of a step after which a worker writes the stacks of its threads to the log and to
    ``updates/<id>/checkpoints/<run>-hangs``; null: 20 times the median step, at least 300 s."""
    save_optimizer: bool = Field(default=True, json_schema_extra=PLACEMENT)
    """Keep the trunk's final optimizer state until the next update is finished, for ``keep_optimizer``: 12 to 16 bytes
    per parameter, once per workspace."""
    trackers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = Field(
        default=("tensorboard",), json_schema_extra=PLACEMENT
    )
    """Experiment trackers that get losses, learning rate and gradient norm: files for TensorBoard in
    ``updates/<id>/tensorboard``; MLflow at ``MLFLOW_TRACKING_URI``, else in a file in ``updates/<id>/mlflow``; W&B, in
    ``updates/<id>/wandb`` without ``WANDB_API_KEY`` or with ``WANDB_MODE=offline``. The packages of the last two are
    not installed with rewarm. An empty list: none."""
    max_failures: int = Field(default=3, ge=-1, json_schema_extra=PLACEMENT)
    """Number of failures without a new checkpoint in between that are retried (a worker died, or found no room on the
    cluster); -1: unlimited. A new checkpoint resets the count."""

    @property
    def needs_same_workers(self) -> bool:
        """Whether an optimizer state can only be loaded by as many workers as saved it.

        ZeRO 1 and 2 divide it among them, and DeepSpeed's universal form knows Adam's moments only.
        """
        return self.optimizer == "muon" and self.zero_stage > 0

    @model_validator(mode="after")
    def _enough(self) -> "TrainSettings":
        if self.global_batch < self.num_workers:
            raise ValueError(f"global_batch {self.global_batch} is smaller than num_workers {self.num_workers}")
        return self

    @model_validator(mode="after")
    def _possible(self) -> "TrainSettings":
        if self.optimizer == "muon" and self.zero_stage == 3:
            raise ValueError(
                "optimizer muon needs whole matrices, and ZeRO 3 divides each among the workers; set zero_stage to 2, "
                "or optimizer to adamw"
            )
        if self.optimizer == "muon" and self.zero_stage == 0 and self.precision != "fp32":
            raise ValueError(
                f"optimizer muon at ZeRO 0 trains in fp32 only, and precision is {self.precision}; set zero_stage to 1"
            )
        if self.optimizer == "muon" and self.offload_optimizer:
            raise ValueError("optimizer muon runs on the workers' devices; set offload_optimizer to false")
        if self.offload_optimizer and self.zero_stage == 0:
            raise ValueError("offload_optimizer needs zero_stage 1, 2 or 3")
        if self.compile and self.zero_stage == 3:
            raise ValueError("compile does not support zero_stage 3, whose layers gather their weights when called")
        return self

    @field_validator("precision", mode="before")
    @classmethod
    def _no_half(cls, value: Any) -> Any:
        if value == "fp16":
            raise ValueError(
                "fp16 is not supported: its gradients underflow without loss scaling, which skips steps by its own "
                "rule, and a resumed run would depend on the scale; bf16 is as fast on GPUs since the A100"
            )
        return value

    @model_validator(mode="after")
    def _free(self) -> "TrainSettings":
        zero = self.deepspeed.get("zero_optimization", {})
        if not isinstance(zero, dict):
            raise ValueError("deepspeed: zero_optimization must be a mapping")  # noqa: TRY004  # pydantic's
        for key in (*self.deepspeed, *(f"zero_optimization.{name}" for name in zero)):
            if key in OWNED:
                raise ValueError(f"deepspeed: {key} is decided by {OWNED[key]}")
            if "." not in key and key not in PASSED:
                raise ValueError(f"deepspeed: unknown key {key!r}; expected one of {', '.join(PASSED)}")
        return self
