"""Cross-entropy and KL of a language model, computed with its output layer in chunks of tokens.

The fp32 logits of a micro batch and what their gradient needs take about 18 bytes per token × vocabulary entry, often
more than the rest of the model. Here the output layer and the loss of one chunk are computed at a time, and with them
the chunk's gradient, as in Hsu et al. 2024 ("Liger kernel", arXiv 2410.10989): no tensor of size tokens × vocabulary
outlives its chunk, and no product is computed twice.

The arithmetic of a token is that of the whole logits; only the order differs in which the gradient of the output layer
is summed (in fp32).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional

from rewarm.stages.inference.causal import Documents, Prediction, divergences, predict

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LARGEST_CHUNK = 1024
"""Tokens of a chunk: enough rows for a fast matrix product on a GPU."""
SMALLEST_CHUNK = 64
CHUNKS = 16
"""Chunks of a micro batch, unless they would be larger or smaller than that: 18 / 16 bytes per token × entry."""
WHOLE_BYTES = 1 << 28
"""Size of a micro batch's fp32 logits above which ``train.loss`` auto computes them in chunks."""
FACTORS = (("logit_scale", 1), ("lm_head_multiplier", 1), ("logits_scaling", -1))
"""Fields of configurations by whose power the logits are multiplied (Cohere, Falcon-H1, Granite)."""
CAPS = ("final_logit_softcapping", "output_logit_soft_cap")
"""Fields of configurations that cap the logits: ``cap · tanh(logits / cap)`` (Gemma 2, xLSTM)."""
TOLERANCE = 1e-5  # of the head's form, relative to the largest logit
SAMPLE = 8  # tokens on which the form is checked


@dataclass(frozen=True)
class HeadForm:
    """Function between the product with the output layer's weight and the logits."""

    factor: float = 1.0
    cap: float | None = None
    rows: int | None = None  # real ones of a padded vocabulary (``padded_vocabulary.py``)

    def apply(self, product: torch.Tensor) -> torch.Tensor:
        """Return the fp32 logits of a product ``[…, vocabulary]`` in the model's precision."""
        logits = product if self.rows is None else product[..., : self.rows]
        logits = logits if self.factor == 1.0 else logits * self.factor
        if self.cap is not None:
            logits = torch.tanh(logits / self.cap) * self.cap
        return logits.float()


class Losses(NamedTuple):
    """Result for a micro batch: the objective, with a gradient, and its terms without one; scalars in nats, fp32."""

    objective: torch.Tensor  # cross-entropy + weight · divergence
    cross_entropy: torch.Tensor  # mean over the tokens
    divergence: torch.Tensor  # sum over the replayed tokens, divided by ``Held.tokens``


@dataclass(frozen=True)
class Held:
    """Teacher of a micro batch's replayed sequences: its hidden states and output layer."""

    hidden: torch.Tensor  # [replayed · seq_len, width]
    head: "ChunkedHead"
    rows: list[int]  # the replayed sequences
    weight: float  # of the divergence in the objective
    tokens: float  # by which the sum of the divergences is divided

    def spans(self, first: int, last: int, seq_len: int) -> Iterator[tuple[slice, slice]]:
        """Yield the replayed parts of the tokens ``[first, last)``: within them, and within ``hidden``."""
        for number, row in enumerate(self.rows):
            begin, end = max(first, row * seq_len), min(last, (row + 1) * seq_len)
            if begin < end:
                shift = (number - row) * seq_len
                yield slice(begin - first, end - first), slice(begin + shift, end + shift)


class ChunkedHead:
    """Output layer of a model, which can compute losses instead of logits.

    It replaces the layer's ``forward``, so that ZeRO 3, which gathers a layer's weights for its call, sees one.
    """

    def __init__(self, model: torch.nn.Module, form: HeadForm) -> None:
        self.form = form
        self.layer: Any = model.get_output_embeddings()  # type: ignore[operator]
        self._plain: Callable[[torch.Tensor], torch.Tensor] = self.layer.forward
        self._capturing = False
        self._hidden: torch.Tensor | None = None
        self.layer.forward = self._forward

    def hidden(
        self,
        model: torch.nn.Module,
        inputs: torch.Tensor,
        positions: torch.Tensor,
        documents: Documents | None = None,
    ) -> tuple[torch.Tensor, Prediction]:
        """Run the model; return the input of its output layer ``[batch, seq_len, width]``, and its last logits."""
        self._capturing = True
        try:
            prediction = predict(model, inputs, positions, documents)
        finally:
            self._capturing = False
            hidden, self._hidden = self._hidden, None
        assert hidden is not None, "the model has not called its output layer"
        return hidden, prediction

    def losses(self, hidden: torch.Tensor, targets: torch.Tensor, held: Held | None = None) -> Losses:
        """Return the mean losses of a micro batch; ``hidden`` is ``[batch, seq_len, width]``, targets int64."""
        return Losses(*self.layer(hidden, (targets, held)))

    def token_losses(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of every target in nats, float32 ``[batch, seq_len]``, without a gradient."""
        found: torch.Tensor = self.layer(hidden, (targets,))
        return found

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return fp32 logits of hidden states."""
        return self.form.apply(self._plain(hidden))

    def _forward(self, hidden: torch.Tensor, arguments: tuple[Any, ...] | None = None) -> Any:
        if self._capturing:
            self._hidden = hidden
            with torch.no_grad():  # the model's own forward continues with one position
                return self._plain(hidden[..., -1:, :])
        if arguments is None:
            return self._plain(hidden)
        targets = arguments[0]
        if len(arguments) == 1:
            with torch.no_grad():
                return self._token_losses(hidden.flatten(0, -2), targets.flatten()).view(targets.shape)
        weight, bias = self.layer.weight, self.layer.bias
        return _ChunkedLoss.apply(hidden, weight, bias, targets, self.form, arguments[1])  # type: ignore[no-untyped-call]

    def _token_losses(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        parts = [
            functional.cross_entropy(self.logits(hidden[chunk]), targets[chunk], reduction="none")
            for chunk in chunks(len(targets))
        ]
        return torch.cat(parts)


def chunks(tokens: int) -> Iterator[slice]:
    """Yield the chunks of a number of tokens."""
    size = max(SMALLEST_CHUNK, min(LARGEST_CHUNK, -(-tokens // CHUNKS)))
    for first in range(0, tokens, size):
        yield slice(first, min(first + size, tokens))


class _ChunkedLoss(torch.autograd.Function):
    """Objective, cross-entropy and divergence of hidden states; the gradient is computed in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        form: HeadForm,
        held: Held | None,
    ) -> tuple[torch.Tensor, ...]:
        seq_len, flat, wanted = targets.shape[-1], hidden.detach().flatten(0, -2), targets.flatten()
        needed = ctx.needs_input_grad
        of_hidden = torch.empty_like(flat) if needed[0] else None
        of_weight = torch.zeros_like(weight, dtype=torch.float32) if needed[1] else None
        of_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and needed[2] else None
        sums = torch.zeros(2, dtype=torch.float32, device=hidden.device)
        for chunk in chunks(len(wanted)):
            part = flat[chunk]
            raw = functional.linear(part, weight.detach(), None if bias is None else bias.detach())
            with torch.enable_grad():
                raw.requires_grad_(any(needed[:3]))
                logits = form.apply(raw)
                nats = functional.cross_entropy(logits, wanted[chunk], reduction="sum")
                terms, objective = [nats.detach(), sums.new_zeros(())], nats / len(wanted)
                for here, there in held.spans(chunk.start, chunk.stop, seq_len) if held is not None else ():
                    assert held is not None
                    with torch.no_grad():
                        teacher = held.head.logits(held.hidden[there])
                    apart = divergences(teacher, logits[here]).sum()
                    terms[1] = terms[1] + apart.detach()
                    objective = objective + held.weight * apart / held.tokens
            sums += torch.stack(terms)
            if not raw.requires_grad:
                continue
            (slope,) = torch.autograd.grad(objective, raw)
            if of_hidden is not None:
                of_hidden[chunk] = slope @ weight.detach()
            if of_weight is not None:
                of_weight += slope.t() @ part
            if of_bias is not None:
                of_bias += slope.sum(dim=0)
        gradients = (
            None if of_hidden is None else of_hidden.view_as(hidden),
            None if of_weight is None else of_weight.to(weight.dtype),
            None if of_bias is None or bias is None else of_bias.to(bias.dtype),
        )
        ctx.kinds = [gradient is not None for gradient in gradients]
        ctx.save_for_backward(*(gradient for gradient in gradients if gradient is not None))
        cross_entropy = sums[0] / len(wanted)
        divergence = sums[1] / held.tokens if held is not None else sums[1]
        ctx.mark_non_differentiable(cross_entropy, divergence)
        return cross_entropy + (held.weight * divergence if held is not None else 0.0), cross_entropy, divergence

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[Any, ...]:
        saved = iter(ctx.saved_tensors)
        gradients = [next(saved).mul_(slopes[0]) if kind else None for kind in ctx.kinds]
        return (*gradients, None, None, None)


# -- the form of a model's head ----------------------------------------------------------------------------------


def head_form(model: "PreTrainedModel") -> HeadForm | str:
    """Return the form of a model's head, checked on a sample against the model's own logits; or why it has none.

    Chunks need logits that are a linear function of the last hidden state, then multiplied and capped at most.
    """
    layer: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if type(layer) is not torch.nn.Linear:
        return f"its output layer is {type(layer).__name__}, not a linear layer"
    inputs: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    training = model.training
    model.train(False)
    try:
        ids = torch.arange(SAMPLE, device=layer.weight.device)[None] % layer.out_features
        with torch.no_grad():
            given = predict(model, ids, torch.arange(SAMPLE, device=ids.device)[None]).logits
            if len(inputs) != 1 or inputs[0].shape[:-1] != ids.shape:
                return "its output layer is not called once on all hidden states"
            raw = layer(inputs.pop())
    finally:
        hook.remove()
        model.train(training)
    for form in forms(model):
        if raw.shape == given.shape and (form.apply(raw) - given).abs().max() <= TOLERANCE * given.abs().max():
            return form
    return "its logits are not a scaled or capped product with the output layer"


def forms(model: "PreTrainedModel") -> Iterator[HeadForm]:
    """Yield the forms that a model's configuration may mean, the plain one first."""
    places = (model, model.config, model.config.get_text_config())

    def fields(names: tuple[str, ...]) -> dict[str, float]:
        values = ((name, getattr(place, name, None)) for name in names for place in places)
        return {name: float(value) for name, value in values if isinstance(value, int | float) and value}

    powers = dict(FACTORS)
    factors = [value ** powers[name] for name, value in fields(tuple(powers)).items()]
    caps = list(fields(CAPS).values())
    for factor, cap in product([1.0, *factors], [None, *caps]):
        yield HeadForm(factor, cap)


def logits_bytes(model: "PreTrainedModel", tokens: int) -> int:
    """Return the size of the fp32 logits of a number of tokens; 0 if the model has no output layer."""
    layer: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    rows = getattr(layer, "out_features", None) or (0 if layer is None else len(layer.weight))
    return 4 * tokens * int(rows)
