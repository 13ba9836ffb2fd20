"""The one way a causal model is run over packed sequences here: training, validation and evaluation all call it.

The mask between packed documents is not built by hand: without an attention mask, transformers reads the packing off
position ids that restart (``masking_utils.find_packed_sequence_indices``), for every attention implementation.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from stages.tokens import Window


def collate(windows: "list[Window]", device: torch.device, document_mask: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens ``[batch, seq_len + 1]`` and position ids ``[batch, seq_len]`` (both int64) of a list of windows.

    Without ``document_mask`` positions run through and a sequence attends across its documents (plain packing, as in
    the papers' code).
    """
    tokens = torch.from_numpy(np.stack([window.tokens for window in windows]))
    if document_mask:
        positions = torch.from_numpy(np.stack([window.position_ids() for window in windows]))
    else:
        positions = torch.arange(tokens.shape[1] - 1).expand(len(windows), -1)
    return tokens.to(device, non_blocking=True), positions.to(device, non_blocking=True)


def token_logits(model: torch.nn.Module, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Logits of every target token, float32 ``[batch, seq_len, vocabulary]``."""
    logits: torch.Tensor = model(input_ids=tokens[:, :-1], position_ids=positions, use_cache=False).logits
    return logits.float()


def losses_of(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Loss of every target token in nats, float32 ``[batch, seq_len]``: ``-log p(tokens[:, i + 1] | its document)``."""
    targets = tokens[:, 1:]
    flat = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return flat.view(targets.shape)


def token_losses(model: torch.nn.Module, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """``losses_of`` the model's ``token_logits``."""
    return losses_of(token_logits(model, tokens, positions), tokens)


def divergences(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """KL(teacher ‖ student) at every place in nats, float32 ``[batch, seq_len]``, of ``[batch, seq_len, vocabulary]``.

    ``Σ_v p_t(v) · (log p_t(v) − log p_s(v))`` over the vocabulary: 0 where both predict the same.
    """
    given, found = teacher.log_softmax(dim=-1), student.log_softmax(dim=-1)
    return functional.kl_div(found, given, reduction="none", log_target=True).sum(dim=-1)
