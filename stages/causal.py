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


def token_losses(model: torch.nn.Module, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Loss of every target token in nats, float32 ``[batch, seq_len]``: ``-log p(tokens[:, i + 1] | its document)``."""
    logits = model(input_ids=tokens[:, :-1], position_ids=positions, use_cache=False).logits
    flat = functional.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    return flat.view(positions.shape)
