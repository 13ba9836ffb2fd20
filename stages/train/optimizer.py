"""The optimizer of a model: its groups of parameters, and their hyperparameters."""

from itertools import accumulate
from math import prod
from typing import Any

import torch

from rewarm.stages.train.muon import MuonAdamW
from rewarm.stages.train.settings import TrainSettings


def parameter_groups(model: torch.nn.Module, settings: TrainSettings) -> list[dict[str, Any]]:
    """Return the groups: those with weight decay, then one without.

    With ``adamw`` all matrices are one group; with ``muon`` embeddings, the output layer and matrices that Muon does
    not fit are a group of their own. Without weight decay are biases and norms (all one-dimensional tensors), and the
    embeddings unless ``decay_embeddings``.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    plain = set() if settings.decay_embeddings else embeddings
    decayed = [parameter for parameter in parameters if parameter.dim() > 1 and id(parameter) not in plain]
    rest = [parameter for parameter in parameters if parameter.dim() <= 1 or id(parameter) in plain]
    adam = {"betas": (settings.beta1, settings.beta2), "eps": settings.epsilon}
    if settings.optimizer == "adamw":
        groups = [(decayed, settings.weight_decay), (rest, 0.0)]
        return [{"params": members, "weight_decay": decay, **adam} for members, decay in groups if members]
    outside = embeddings | {id(parameter) for parameter in output_weights(model)}
    matrices = [parameter for parameter in decayed if id(parameter) not in outside]
    others = [parameter for parameter in decayed if id(parameter) in outside]
    shapes = [tuple(parameter.shape) for parameter in matrices]
    offsets = list(accumulate((prod(shape) for shape in shapes), initial=0))[:-1]
    muon = {"muon": True, "momentum": settings.muon_momentum, "shapes": shapes, "offsets": offsets}
    made = [
        {"params": matrices, "weight_decay": settings.weight_decay, **adam, **muon},
        {"params": others, "weight_decay": settings.weight_decay, **adam, "muon": False},
        {"params": rest, "weight_decay": 0.0, **adam, "muon": False},
    ]
    return [group for group in made if group["params"]]


def output_weights(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Return the parameters of the output layer; none if the model does not name one."""
    find = getattr(model, "get_output_embeddings", None)
    layer = find() if find else None
    return [] if layer is None else list(layer.parameters())


def make_optimizer(groups: list[dict[str, Any]], settings: TrainSettings, fused: bool) -> torch.optim.Optimizer:
    """Return the optimizer of ``parameter_groups``, at learning rate 0; DeepSpeed's AdamW if it runs on the CPU."""
    if settings.offload_optimizer:
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        adam: torch.optim.Optimizer = DeepSpeedCPUAdam(groups, lr=0.0, adamw_mode=True)
        return adam
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else MuonAdamW
    return kind(groups, lr=0.0, fused=fused)


def hyperparameters(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the groups without their parameters: what every load of a checkpoint must not change."""
    return [{name: value for name, value in group.items() if name != "params"} for group in groups]


def apply_hyperparameters(engine: Any, kept: list[dict[str, Any]]) -> None:
    """Set the hyperparameters of an engine's groups, with the places of matrices where DeepSpeed flattened a group."""
    flat = getattr(engine.optimizer, "round_robin_bit16_offsets", None)
    for number, (group, values) in enumerate(zip(engine.optimizer.param_groups, kept, strict=True)):
        group.update(values)
        if group.get("muon") and flat is not None:
            group["offsets"] = list(flat[number])
