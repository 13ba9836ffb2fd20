"""Checks of a model type by measurement: that it isolates packed documents, and that rewarm trains its whole loss.

``stages/inference/causal.py`` passes position ids that restart at every document. Models with softmax attention derive
the packing from them; state-space models, recurrent models and some older attention implementations do not, and a
document's loss then depends on its neighbours. A configuration does not show which case applies, so a small model of
the same type is tested.
"""

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from rewarm.stages.core.errors import UsageError
from rewarm.stages.data.model_folder import POSITIONS

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

LARGEST_CHANGE = 1e-4
"""Largest tolerated change in a document's losses due to its neighbours, in nats; models that mask show none."""
LARGEST_GAP = 1e-3
"""Largest tolerated relative difference between a model's own loss and the trained loss; rounding is below 1e-6."""
NEIGHBOURS, DOCUMENT, WINDOW = (9, 9, 14), 12, 48
"""Lengths in tokens of the documents packed before, of the measured document, and of the whole sequence."""
VOCABULARY = 256
SPAN = 8
"""Tokens covered by a sliding window or chunk of the tested model, if the real one is shorter than a sequence."""
SPANS = ("sliding_window", "attention_window_size", "attention_chunk_size", "window_size")
WIDTHS = ("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size", "ffn_dim", "n_inner")
NARROW = 256
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
LARGE = 100_000_000
"""Parameters above which the tested model has fewer layers and experts than the real one."""


def check_kind(config: Any, seq_len: int, document_mask: bool) -> None:
    """Test a small model of a configuration's type; ``UsageError`` if documents leak or its loss has other terms.

    It keeps the widths and types of layers, with a small vocabulary and weights of unit gain, which reveal a leak that
    freshly initialised weights are too small to show. Without ``document_mask`` leaks are intended.
    """
    what = f"model type {config.model_type}"
    try:
        model = tried_model(config, seq_len)
        own_loss(model)
    except Exception:  # the type cannot be made small: its fields depend on each other
        model = _whole_model(config, what)
    if document_mask:
        refuse_leak(model, what)
    refuse_other_loss(model, what)


def remarks_on(config: Any, imported: bool) -> list[str]:
    """Report if a configuration of a mixture of experts trains without a load-balancing loss."""
    text = config.get_text_config()
    experts = max((count for name in EXPERTS if isinstance(count := getattr(text, name, None), int)), default=0)
    if experts < 2 or getattr(text, "output_router_logits", False):
        return []
    where = "output_router_logits in its config.json" if imported else "model.config.output_router_logits=true"
    if hasattr(text, "router_aux_loss_coef") or hasattr(text, "aux_loss_coef"):
        return [
            f"a mixture of {experts} experts, trained without a load-balancing loss, as configured; {where} adds the "
            "router's loss to the objective"
        ]
    return [
        f"a mixture of {experts} experts, trained without a load-balancing loss: model type {config.model_type} has "
        "none in transformers"
    ]


def refuse_leak(model: "PreTrainedModel", what: str) -> None:
    """Raise ``UsageError`` with the figure if a document's losses depend on the document packed before it."""
    found = leak(model)
    if not found <= LARGEST_CHANGE:
        raise UsageError(
            f"{what}: documents packed into one sequence affect each other: a different neighbour changes a token's "
            f"loss by {found:.2g} nats (rounding is below {LARGEST_CHANGE:g}), although train.document_mask is true. "
            "This model type does not isolate packed documents; train it with plain packing "
            "(--set train.document_mask=false), or use another type"
        )


def leak(model: "PreTrainedModel") -> float:
    """Return the largest change of a token's loss in nats when the document before it differs, or is longer."""
    import torch

    from rewarm.stages.inference.causal import collate, token_losses

    device = next(model.parameters()).device
    draw = np.random.default_rng(0)
    rows = _rows(model)
    document = draw.integers(1, rows, DOCUMENT)
    found = []
    for length in NEIGHBOURS:
        rest = draw.integers(1, rows, WINDOW - length - DOCUMENT - 2)
        window = pack([draw.integers(1, rows, length), document, rest])
        with torch.no_grad():
            losses = token_losses(model, *collate([window], device, document_mask=True))[0]
        found.append(losses[length + 1 : length + 1 + DOCUMENT])
    return max(float((other - found[0]).abs().max()) for other in found[1:])


def pack(documents: list[np.ndarray]) -> Any:
    """Pack documents into a window, each opened by token 0, the last one cut at the window's end."""
    from rewarm.stages.data.tokens import Window

    tokens = np.concatenate([[0, *document] for document in documents] + [[0]])
    return Window(tokens[:-1], tokens[1:], tokens[:-1] == 0)


def refuse_other_loss(model: "PreTrainedModel", what: str) -> None:
    """Raise ``UsageError`` with both figures if the model's own loss has a term that training would omit."""
    own, trained = own_loss(model), trained_loss(model)
    if not abs(own - trained) <= LARGEST_GAP * max(abs(own), 1):
        raise UsageError(
            f"{what}: its own loss on a sample is {own:.4f} nats, but training would minimise {trained:.4f}: the loss "
            "has a term that rewarm does not support (only a router's load-balancing loss is supported), and omitting "
            "it would change the model's objective; disable the term in model.config (or config.json), or use another "
            "type"
        )


def _rows(model: "PreTrainedModel") -> int:
    embedding: Any = model.get_input_embeddings()
    return min(VOCABULARY, int(embedding.weight.shape[0]))


def _text(model: "PreTrainedModel") -> "torch.Tensor":
    import torch

    rows = _rows(model)
    ids = np.random.default_rng(1).integers(1, rows, (2, DOCUMENT))
    return torch.from_numpy(ids).to(next(model.parameters()).device)


def own_loss(model: "PreTrainedModel") -> float:
    """Return the model's own loss on a sample of two rows."""
    import torch

    ids = _text(model)
    with torch.no_grad():
        return float(model(input_ids=ids, labels=ids, use_cache=False).loss)


def trained_loss(model: "PreTrainedModel") -> float:
    """Return the loss that ``Engine.step`` minimises, on the same sample."""
    import torch

    from rewarm.stages.inference.causal import losses_of, predict

    ids = _text(model)
    positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    with torch.no_grad():
        logits, router_loss = predict(model, ids, positions)
        loss = losses_of(logits[:, :-1], ids[:, 1:]).mean()
        return float(loss if router_loss is None else loss + router_loss)


def _whole_model(config: Any, what: str) -> "PreTrainedModel":
    """Build a model of the full configuration; ``UsageError`` if it cannot be built or run."""
    try:
        model = unit_gain(config)
        own_loss(model)
    except Exception as error:  # whatever a model type makes of fields that do not fit each other
        raise UsageError(
            f"{what}: a model of this configuration cannot be run: {' '.join(str(error).split())}"
        ) from error
    return model


# -- the tested model ------------------------------------------------------------------------------------------


def tried_model(config: Any, seq_len: int) -> "PreTrainedModel":
    """Build a model of a configuration's type that is small enough to test in about a second."""
    return unit_gain(small_config(config, seq_len))


def unit_gain(config: Any) -> "PreTrainedModel":
    """Build a model whose matrices are normal with variance 1/width; the random state is preserved."""
    import torch

    state = torch.get_rng_state()
    torch.manual_seed(0)
    try:
        model = _built(config)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    finally:
        torch.set_rng_state(state)
    return model


def _built(config: Any, device: str = "cpu") -> "PreTrainedModel":
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device(device):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    model.train(False)
    return model


def small_config(config: Any, seq_len: int) -> Any:
    """Return the configuration with a small vocabulary and short spans; a large one also narrower, with few layers."""
    made = copy.deepcopy(config)
    for part in _parts(made):
        fit(part, seq_len)
    whole = _built(made, "meta")
    if whole.num_parameters() <= LARGE:
        return made
    layers = whole_kinds(whole, made)
    for part in _parts(made):
        cut_layers(part, layers)
        cut_experts(part)
        cut_widths(part)
    return made


def fit(config: Any, seq_len: int) -> None:
    """Fit a configuration to the test window: token ids, positions and attention spans."""
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if getattr(config, name, None) is not None:
            setattr(config, name, 0)
    if getattr(config, "vocab_size", None):
        config.vocab_size = VOCABULARY
    for name in POSITIONS:
        if isinstance(bound := getattr(config, name, None), int):
            setattr(config, name, max(bound, WINDOW))
    for name in SPANS:
        if isinstance(span := getattr(config, name, None), int) and span < seq_len:
            setattr(config, name, min(span, SPAN))


def _parts(config: Any) -> Iterator[Any]:
    yield config
    text = config.get_text_config()
    if text is not config:
        yield text


def whole_kinds(model: "PreTrainedModel", config: Any) -> int:
    """Return how many of a model's first layers include every type of layer that it has; at least two."""
    import torch

    text = config.get_text_config()
    count = int(text.num_hidden_layers)
    stacks = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList) and len(module) == count]
    named = getattr(text, "layer_types", None) or [""] * count
    kinds: dict[Any, int] = {}
    for stack in stacks:
        for number, layer in enumerate(stack):
            kinds.setdefault((named[number], *(type(module) for module in layer.modules())), number)
    return min(count, max([1, *kinds.values()]) + 1)


def cut_layers(config: Any, layers: int) -> None:
    """Keep the first layers, in every list with an entry per layer."""
    count = getattr(config, "num_hidden_layers", None)
    if count is None:
        return
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == count:
            setattr(config, name, value[:layers])
    config.num_hidden_layers = layers


def cut_widths(config: Any) -> None:
    """Narrow the feed-forward layers, which process each token separately."""
    for name in WIDTHS:
        if isinstance(width := getattr(config, name, None), int):
            setattr(config, name, min(width, NARROW))


def cut_experts(config: Any) -> None:
    """Keep as many experts as the router needs to choose among, in its groups."""
    chosen = getattr(config, "num_experts_per_tok", None) or getattr(config, "moe_k", None) or 1
    groups = getattr(config, "n_group", None) or 1
    for name in EXPERTS:
        if isinstance(count := getattr(config, name, None), int):
            setattr(config, name, min(count, 2 * max(chosen, groups) // groups * groups))
