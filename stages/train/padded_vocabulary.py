"""Rows of the embedding and the output layer padded to a multiple while a model trains: GPUs multiply those faster.

The added rows are 0 and stay 0: their logits are cut off before the loss, so they have no gradient. Digests, exports
and the record are of the real rows alone.
"""

from typing import Any

import torch

ROWS = "real_rows"  # attribute of a padded parameter: the number of its rows that are the model's


def pad(model: torch.nn.Module, multiple: int) -> str | None:
    """Pad the vocabulary of a model, also one without memory for its parameters; return why it is not possible."""
    if multiple == 1:
        return None
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    layer: Any = model.get_output_embeddings()  # type: ignore[operator]
    rows = len(embedding.weight)
    padded = -(-rows // multiple) * multiple
    if padded == rows:
        return None
    plain = type(layer) is torch.nn.Linear and type(embedding) is torch.nn.Embedding
    if not plain or len(layer.weight) != rows:
        return f"its embedding and output layer are not a plain embedding and a linear layer of {rows:,} rows each"
    tied = layer.weight is embedding.weight
    embedding.weight = longer(embedding.weight, padded)
    layer.weight = embedding.weight if tied else longer(layer.weight, padded)
    if layer.bias is not None:
        layer.bias = longer(layer.bias, padded)
    embedding.num_embeddings = layer.out_features = padded
    whole = layer.forward
    layer.forward = lambda hidden: whole(hidden)[..., :rows]
    return None


def longer(parameter: torch.nn.Parameter, rows: int) -> torch.nn.Parameter:
    """Return a parameter with rows of 0 appended."""
    missing = parameter.new_zeros((rows - len(parameter), *parameter.shape[1:]))
    made = torch.nn.Parameter(torch.cat([parameter.detach(), missing]), requires_grad=parameter.requires_grad)
    return marked(made, len(parameter))


def marked(parameter: torch.nn.Parameter, rows: int | None) -> torch.nn.Parameter:
    """Return a parameter that is known to have so many real rows; None: it is not padded."""
    if rows is not None:
        setattr(parameter, ROWS, rows)
    return parameter


def real_rows(parameter: torch.nn.Parameter) -> int | None:
    """Return the number of a padded parameter's rows that are the model's; None if it is not padded."""
    rows: int | None = getattr(parameter, ROWS, None)
    return rows


def vocabulary_rows(model: torch.nn.Module) -> int | None:
    """Return the number of real rows of a padded model's output layer; None if it is not padded."""
    layer: Any = model.get_output_embeddings()  # type: ignore[operator]
    return None if layer is None else real_rows(layer.weight)
