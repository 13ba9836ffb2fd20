"""Muon for the weight matrices and AdamW for everything else, as one optimizer that DeepSpeed's ZeRO 0 to 2 can hold.

Muon (Jordan et al. 2024) makes each matrix's momentum orthogonal before it is applied. Its learning rate is matched to
AdamW's by the root mean square of an update (Liu et al. 2025, arXiv 2502.16982, section 2.2), so one schedule drives
both. It needs whole matrices: ZeRO 1 and 2 give an optimizer one flat slice of each group, and matrices cross the
slices' borders. The slices of the momentum are therefore gathered once a step, and each rank makes orthogonal what
its own slice holds. DeepSpeed's own Muon does this before it clips, so its clipping scales the step instead of the
gradient; here the gradient is clipped as for AdamW.
"""

from collections.abc import Callable, Iterator
from math import prod, sqrt
from typing import Any

import torch
import torch.distributed as dist

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration (Jordan et al. 2024)
ITERATIONS = 5
RMS = 0.2  # root mean square of AdamW's usual update (Liu et al. 2025, section 2.2)


def orthogonalize(matrix: torch.Tensor) -> torch.Tensor:
    """Return U·Vᵀ of ``matrix`` = U·S·Vᵀ, approximately: singular values between about 0.7 and 1.2; fp32.

    Five Newton-Schulz iterations ``X ← a·X + (b·A + c·A²)·X`` with ``A = X·Xᵀ`` (Jordan et al. 2024), over the last two
    dimensions; in bf16 on a GPU, as published, and in fp32 on CPUs. A zero matrix gives zeros.
    """
    a, b, c = COEFFICIENTS
    x = matrix.bfloat16() if matrix.is_cuda else matrix.float()
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    made: torch.Tensor = (x.mT if tall else x).float()
    return made


def update_of(momentum: torch.Tensor) -> torch.Tensor:
    """Return the update of a matrix (or a stack of matrices): orthogonal, with the root mean square of AdamW's; fp32.

    ``0.2 · √max(rows, columns) · orthogonalize(momentum)`` (Liu et al. 2025, section 2.2).
    """
    return orthogonalize(momentum) * (RMS * sqrt(max(momentum.shape[-2:])))


class MuonAdamW(torch.optim.AdamW):
    """AdamW whose groups with ``muon`` set are updated by Muon.

    Such a group has ``momentum``, ``shapes`` (of its matrices) and, once DeepSpeed has flattened it, ``offsets`` (of
    the matrices in the flat group). Decoupled weight decay is AdamW's in all groups.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Run one step on the gradients, whose partition is that of the parameters."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["muon"]]
        try:
            loss = super().step(closure) if self.param_groups else None
        finally:
            self.param_groups = groups
        for group in groups:
            if group["muon"]:
                self._step_matrices(group)
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            gradient, state = parameter.grad.float(), self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(gradient)
                state["step"] = torch.zeros(())  # Muon needs none; AdamW's loading expects a count in every state
            state["step"] += 1
            momentum: torch.Tensor = state["momentum_buffer"]
            momentum.lerp_(gradient, 1 - group["momentum"])
            ahead = gradient.lerp(momentum, group["momentum"])  # Nesterov's
            update = update_of(ahead) if parameter.dim() > 1 else slice_of_updates(ahead, group)
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(update.to(parameter.dtype), alpha=-group["lr"])


def slice_of_updates(ahead: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
    """Return this rank's slice of a flat group's updates, from its slice of the momenta (1-D, as long). A collective.

    Slices are equally long; padding between and after the matrices is not updated.
    """
    length = ahead.numel()
    world, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
    whole = ahead
    if world > 1:
        whole = ahead.new_empty(world * length)
        dist.all_gather_single(whole, ahead.contiguous())
    update = torch.zeros_like(ahead)
    for low, high, shape in placed(group, rank * length, (rank + 1) * length):
        begin, end = max(low, rank * length), min(high, (rank + 1) * length)
        made = update_of(whole[low:high].view(shape)).reshape(-1)
        update[begin - rank * length : end - rank * length] = made[begin - low : end - low]
    return update


def placed(group: dict[str, Any], start: int, end: int) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Yield start, end and shape of the matrices of a flat group that have an element between ``start`` and ``end``."""
    for offset, shape in zip(group["offsets"], group["shapes"], strict=True):
        if offset < end and offset + prod(shape) > start:
            yield offset, offset + prod(shape), tuple(shape)
