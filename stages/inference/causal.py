"""Forward pass of a causal model over packed sequences, shared by training, validation and evaluation.

The mask between packed documents is not built by hand: without an attention mask, transformers derives the packing from
position ids that restart (``masking_utils.find_packed_sequence_indices``), for every attention implementation.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from rewarm.stages.data.tokens import Window


class Packed(NamedTuple):
    """A batch of packed sequences, each tensor int64 ``[batch, seq_len]`` on the model's device."""

    inputs: torch.Tensor
    targets: torch.Tensor
    positions: torch.Tensor


def collate(windows: "list[Window]", device: torch.device, document_mask: bool) -> Packed:
    """Batch a list of windows into inputs, targets and position ids.

    Without ``document_mask`` positions do not restart, so a sequence attends across its documents (plain packing, as in
    the papers' code).
    """
    inputs = torch.from_numpy(np.stack([window.inputs for window in windows]))
    targets = torch.from_numpy(np.stack([window.targets for window in windows]))
    if document_mask:
        positions = torch.from_numpy(np.stack([window.position_ids() for window in windows]))
    else:
        positions = torch.arange(inputs.shape[1]).expand(len(windows), -1)
    return Packed(*(tensor.to(device, non_blocking=True) for tensor in (inputs, targets, positions)))


class Documents(NamedTuple):
    """Boundaries of the documents in a flattened batch of packed sequences."""

    boundaries: torch.Tensor  # ``cu_seqlens``: 0, and the end of each document, int32 [documents + 1]
    longest: int  # an upper bound of their lengths

    def arguments(self) -> dict[str, Any]:
        """Return them as the arguments that transformers passes on to attention."""
        return {
            "cu_seq_lens_q": self.boundaries,
            "cu_seq_lens_k": self.boundaries,
            "max_length_q": self.longest,
            "max_length_k": self.longest,
        }


def documents_of(positions: torch.Tensor) -> Documents:
    """Return the documents of packed sequences: one begins with each row and at each position that restarts.

    The bound of the lengths is the length of a row, so that a device needs not be waited for.
    """
    begins = torch.ones_like(positions, dtype=torch.bool)
    begins[:, 1:] = positions[:, 1:] != positions[:, :-1] + 1
    starts = begins.flatten().nonzero().flatten()
    ends = torch.cat([starts, starts.new_tensor([positions.numel()])])
    return Documents(ends.to(torch.int32), positions.shape[1])


def token_logits(model: torch.nn.Module, inputs: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Return the next-token logits for every input, float32 ``[batch, seq_len, vocabulary]``."""
    return predict(model, inputs, positions).logits


class Prediction(NamedTuple):
    """Result of a forward pass: float32 ``[batch, seq_len, vocabulary]``, and the routers' scalar loss term."""

    logits: torch.Tensor
    router_loss: torch.Tensor | None


def predict(
    model: torch.nn.Module, inputs: torch.Tensor, positions: torch.Tensor, documents: Documents | None = None
) -> Prediction:
    """Return the next-token logits for every input, and the load-balancing loss of a mixture of experts.

    The latter is the term that the model adds to its own loss when labels are passed: its coefficient times the
    routers' auxiliary loss (Shazeer et al. 2017; Fedus et al. 2021). It is None without routers, or if the
    configuration disables it (``output_router_logits``). ``documents`` are for models that attend by their boundaries
    (``train/document_attention.py``).
    """
    boundaries = {} if documents is None else documents.arguments()
    output = model(input_ids=inputs, position_ids=positions, use_cache=False, **boundaries)
    auxiliary = output.get("aux_loss")
    coefficient = router_coefficient(model) if isinstance(auxiliary, torch.Tensor) else 0.0
    return Prediction(output.logits.float(), coefficient * auxiliary.float() if coefficient else None)


def router_coefficient(model: torch.nn.Module) -> float:
    """Return the weight of the routers' auxiliary loss in a mixture of experts; 0 if the model sets none."""
    model = getattr(model, "module", model)  # unwrap an engine
    config = getattr(model, "config", None)
    places = (model, config, getattr(config, "text_config", None))
    found = [getattr(place, name, None) for place in places for name in ("router_aux_loss_coef", "aux_loss_coef")]
    return float(next((value for value in found if value is not None), 0.0))


def losses_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return each target's loss in nats, float32 ``[batch, seq_len]``: ``-log p(targets[:, i] | document so far)``."""
    flat = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return flat.view(targets.shape)


def token_losses(
    model: torch.nn.Module,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    positions: torch.Tensor,
    documents: Documents | None = None,
) -> torch.Tensor:
    """Return ``losses_of`` the model's logits for every input."""
    return losses_of(predict(model, inputs, positions, documents).logits, targets)


def divergences(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """Return KL(teacher ‖ student) at every position in nats, float32 ``[batch, seq_len]``.

    Both arguments are logits ``[batch, seq_len, vocabulary]``. ``Σ_v p_t(v) · (log p_t(v) − log p_s(v))`` over the
    vocabulary is 0 if both predict the same.
    """
    given, found = teacher.log_softmax(dim=-1), student.log_softmax(dim=-1)
    return functional.kl_div(found, given, reduction="none", log_target=True).sum(dim=-1)
