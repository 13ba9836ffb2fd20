"""Probe of a device: whether the same micro batch gives the same loss and gradient twice, to the last bit.

A resumed run repeats its steps exactly only if it does. Settings that ask for deterministic operators do not cover all
of them (on CUDA they only warn about attention's backward pass), so it is measured where the run takes place. Compared
are the objective and its gradient with respect to the embedded inputs, which has passed through the backward pass of
every layer; gradients of weights are products of it that the same operators compute.
"""

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from rewarm.stages.train.data import MicroBatch

if TYPE_CHECKING:
    from rewarm.stages.train.engine import Engine

BITWISE, NOT_BITWISE = "bitwise", "not bitwise"
WARNING = (
    "one micro batch gave two different gradients on this device (not bitwise): a resumed run may differ from an "
    "undisturbed one in the last digits"
)


def repeats(engine: "Engine", batch: MicroBatch, seed: int) -> bool:
    """Return whether two passes over a micro batch agree to the last bit on every rank; weights are not changed.

    ``seed`` is for dropout. A collective.
    """
    passes = []
    for _ in range(2):
        torch.manual_seed(seed)
        passes.append(objective_and_gradient(engine, batch))
    (loss, gradient), (again, second) = passes
    same = torch.tensor(int(torch.equal(loss, again) and torch.equal(gradient, second)), device=loss.device)
    dist.all_reduce(same, op=dist.ReduceOp.MIN)
    return bool(same)


def objective_and_gradient(engine: "Engine", batch: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the objective of a micro batch, and its gradient with respect to the embedded inputs."""
    module: Any = engine.engine.module
    embedded: list[torch.Tensor] = []

    def begin(*arguments: Any) -> torch.Tensor:
        embedded.append(arguments[-1].detach().requires_grad_())
        return embedded[-1].clone()  # a model may change its inputs in place

    handle = module.get_input_embeddings().register_forward_hook(begin)
    try:
        objective = engine.objective.terms(module, batch, engine.ways).objective
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(objective, embedded[0])
    return objective.detach(), gradient
