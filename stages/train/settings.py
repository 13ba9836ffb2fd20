"""Settings of the training engine: what one optimizer step is, and where it runs."""

from typing import Literal

from pydantic import Field, model_validator

from rewarm.stages.core.settings import PLACEMENT, Settings


class TrainSettings(Settings):
    """DeepSpeed ZeRO on Ray Train workers."""

    seq_len: int = Field(default=2048, ge=8)
    """Tokens of a sequence."""
    global_batch: int = Field(default=1104, ge=1)
    """Sequences of one optimizer step, over all workers (1,104 × 2,048 tokens in Ibrahim et al. 2024)."""
    document_mask: bool = True
    """No attention across the documents packed into a sequence, and positions restart. False: plain packing, as in the
    papers' code."""
    zero_stage: Literal[0, 1, 2, 3] = 1
    """ZeRO stage: 0 nothing, 1 optimizer state, 2 and gradients, 3 and weights are divided among the workers."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """Arithmetic of forward and backward; the weights that the optimizer moves are fp32 either way."""
    weight_decay: float = Field(default=0.1, ge=0)
    """AdamW's weight decay, on matrices only: not on biases, nor on the weights of norms."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """AdamW's β1."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """AdamW's β2."""
    epsilon: float = Field(default=1e-8, gt=0)
    """AdamW's ε."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of a step's gradient."""
    keep_optimizer: bool = False
    """Begin an update with the optimizer state that the trunk ended with (moments and their step counts), instead of an
    empty one as in the papers. The learning rate is the schedule's either way: it is set again after every load."""
    kl_weight: float = Field(default=0.0, ge=0)
    """Weight λ of a term that ties the model to the one the update starts from, on replayed sequences only (Marek et
    al. 2026, arXiv 2605.26097): loss = cross-entropy of all tokens + λ · mean KL(p_start ‖ p_model) over the tokens of
    the step's replayed sequences. 0: none. It takes a second copy of the weights in memory, not divided by ZeRO, and a
    forward pass of the replayed sequences."""
    validate_every: int = Field(default=100, ge=0)
    """Steps between two looks at the validation loss of every dataset so far; 0: only at the start and at the end."""
    validate_first: bool = True
    """Look also after 1, 2, 4, 8, … steps, until ``validate_every`` is reached: the stability gap (Guo et al. 2024)
    lies in an update's first steps. Costs a few looks more; where ``validate_every`` is 0 there are none of these."""
    validation_sequences: int = Field(default=256, ge=1)
    """Sequences of each dataset's validation split in such a look; the evaluation after training reads all of them."""
    final_steps: int = Field(default=100, ge=0)
    """Steps at the end of a run over which the final loss is averaged (100 in Ibrahim et al. 2024), at most the run's
    last quarter; 0: no such average."""
    final_every: int = Field(default=10, ge=1)
    """Steps between two of the looks at the validation loss that are averaged (10 in Ibrahim et al. 2024). Each reads
    ``validation_sequences`` of every dataset."""
    num_workers: int = Field(default=1, ge=1, json_schema_extra=PLACEMENT)
    """Ray Train workers. Any number reads the same sequences at every step; it must divide the global batch."""
    device: Literal["auto", "cpu", "gpu"] = Field(default="auto", json_schema_extra=PLACEMENT)
    """``gpu``: one GPU a worker (nccl), and GPUs for evaluation, selection, plan and distillation too, also while no
    node with one is up; ``cpu``: gloo; ``auto``: GPUs if the cluster has one for each worker now."""
    cpus_per_worker: int | None = Field(default=None, ge=1, json_schema_extra=PLACEMENT)
    """CPUs and torch threads of a worker; null: on CPUs the most that all workers can have, beside a GPU its share of
    the CPUs of its node."""
    micro_batch: int | None = Field(default=None, ge=1, json_schema_extra=PLACEMENT)
    """Sequences that a worker runs at once; null: its whole part of the global batch. The rest is accumulated."""
    peak_flops: float | None = Field(default=None, gt=0, json_schema_extra=PLACEMENT)
    """FLOP/s that one worker's device does at its best, for the utilisation (MFU) among the metrics; null: the data
    sheet's of a known GPU in bf16, else those of a matrix product that is timed when training begins."""
    gradient_checkpointing: bool = Field(default=False, json_schema_extra=PLACEMENT)
    """Recompute activations in the backward pass: less memory, about a third more time."""
    checkpoint_every: int = Field(default=500, ge=1, json_schema_extra=PLACEMENT)
    """Steps between two checkpoints; a killed run repeats at most so many."""
    keep_checkpoints: int = Field(default=2, ge=1, json_schema_extra=PLACEMENT)
    """How many of a run's checkpoints are kept."""
    save_optimizer: bool = Field(default=True, json_schema_extra=PLACEMENT)
    """Leave the trunk's last optimizer state with it until the next update is finished, for ``keep_optimizer``: 12 to
    16 bytes a parameter, once in a workspace."""
    max_failures: int = Field(default=3, ge=-1, json_schema_extra=PLACEMENT)
    """How many failures with no new checkpoint between them are retried (a worker died, or found no room on the
    cluster); -1: any number. A new checkpoint starts the count anew."""

    @model_validator(mode="after")
    def _divisible(self) -> "TrainSettings":
        if self.global_batch % self.num_workers:
            raise ValueError(f"global_batch {self.global_batch} cannot be divided among num_workers {self.num_workers}")
        part = self.global_batch // self.num_workers
        if self.micro_batch and part % self.micro_batch:
            raise ValueError(f"a worker's part of the batch, {part}, cannot be cut into micro_batch {self.micro_batch}")
        return self
