"""Attention within documents by their boundaries, without a dense mask.

With restarting position ids alone, transformers builds a boolean mask ``[batch, 1, seq_len, seq_len]`` between packed
documents. It excludes PyTorch's flash kernel, and expands the keys and values of grouped queries. Here packed documents
are passed as cumulative lengths (``cu_seqlens``) to a kernel for sequences of variable length, which computes nothing
between documents: ``torch.nn.attention.varlen`` on CUDA, one call of scaled dot-product attention per document
elsewhere.
"""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from rewarm.stages.inference.causal import Documents, collate, documents_of, token_losses
from rewarm.stages.train.document_mask import DOCUMENT, LARGEST_CHANGE, NEIGHBOURS, WINDOW, pack, tried_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "rewarm_documents"  # of the implementation, as registered with transformers
UNSUPPORTED = ("softcap", "s_aux", "position_bias", "head_mask")
"""Arguments of attention layers that change the scores in ways that the kernels here do not compute."""
KERNEL_TOLERANCE = 0.03  # of the kernel in bf16, relative to the largest value
HEADS, GROUPS, WIDTH = 4, 2, 64  # of the kernel's check


def register() -> None:
    """Register the implementation with transformers, under ``NAME``; repeating it changes nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, no_mask)


def no_mask(*arguments: Any, **options: Any) -> None:
    """Return no mask: the boundaries of the documents replace it."""


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Return causal attention within documents, in the form that transformers asks of an implementation.

    ``query`` is ``[batch, heads, seq_len, width]``, ``key`` and ``value`` have as many heads or a divisor; the result
    is ``[batch, seq_len, heads, width]``. ``options`` hold ``cu_seq_lens_q`` (int32, over the flattened batch) and
    ``max_length_q``. Raises ``NotImplementedError`` for arguments that it cannot follow.
    """
    unknown = [name for name in UNSUPPORTED if options.get(name) is not None]
    boundaries, longest = options.get("cu_seq_lens_q"), options.get("max_length_q")
    if unknown or attention_mask is not None:
        raise NotImplementedError(f"its attention uses {', '.join(unknown) or 'a mask of its own'}")
    if boundaries is None or longest is None:
        raise NotImplementedError("its layers do not pass the boundaries of documents on to attention")
    if options.get("dropout"):
        raise NotImplementedError("its attention has dropout")
    if options.get("is_causal") is False or not getattr(module, "is_causal", True):
        raise NotImplementedError("its attention is not causal")
    if value.shape[-1] != query.shape[-1]:
        raise NotImplementedError("its values have another width than its queries")
    flat_query, flat_key, flat_value = (tensor.transpose(1, 2).flatten(0, 1) for tensor in (query, key, value))
    kernel, documents = by_kernel if query.is_cuda else by_document, Documents(boundaries, longest)
    result = kernel(flat_query, flat_key, flat_value, documents, options.get("scaling"), options.get("sliding_window"))
    return result.view(query.shape[0], query.shape[2], *result.shape[1:]), None


def by_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    documents: Documents,
    scale: float | None,
    span: int | None,
) -> torch.Tensor:
    """Return attention of ``[tokens, heads, width]`` by PyTorch's kernel for variable lengths (CUDA, bf16 or fp16)."""
    from torch.nn.attention.varlen import varlen_attn

    boundaries, longest = documents
    result: torch.Tensor = varlen_attn(  # type: ignore[assignment]  # one tensor unless auxiliary results are asked for
        query,
        key,
        value,
        boundaries,
        boundaries,
        longest,
        longest,
        scale=scale,
        window_size=(-1 if span is None else span - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return result


def by_document(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    documents: Documents,
    scale: float | None,
    span: int | None,
) -> torch.Tensor:
    """Return attention of ``[tokens, heads, width]`` by one call for each document, on any device."""
    ends = documents.boundaries.tolist()
    parts = []
    for first, last in pairwise(ends):
        mask = None if span is None else band(last - first, span, query.device)
        result = functional.scaled_dot_product_attention(
            query[first:last].transpose(0, 1)[None],
            key[first:last].transpose(0, 1)[None],
            value[first:last].transpose(0, 1)[None],
            attn_mask=mask,
            is_causal=mask is None,
            scale=scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        parts.append(result[0].transpose(0, 1))
    return torch.cat(parts)


def band(length: int, span: int, device: torch.device) -> torch.Tensor:
    """Return the mask of causal attention to the last ``span`` tokens, the own one included: bool, true is seen."""
    seen = torch.ones(length, length, dtype=torch.bool, device=device)
    return seen.tril().triu(1 - span)


# -- whether a model and a device support it ----------------------------------------------------------------------


def unsupported(model: "PreTrainedModel", seq_len: int, device: torch.device, low_precision: bool) -> str | None:
    """Return why a model cannot attend by documents on a device; None if it can.

    A small model of the same type is run both ways, with short sliding windows if it has any; on CUDA the kernel is
    compared with attention by document.
    """
    if device.type == "cuda" and not low_precision:
        return "the kernel for variable lengths needs train.precision bf16"
    try:
        small = tried_model(model.config, seq_len)
        expected = sample_losses(small)
        use(small)
        change = float((sample_losses(small) - expected).abs().max())
        crossing = float((sample_losses(small, apart=False) - expected).abs().max())
    except Exception as error:  # whatever a model type makes of another implementation
        return " ".join(str(error).split())[:200] or type(error).__name__
    if not change <= LARGEST_CHANGE:
        return f"its losses change by {change:.2g} nats (rounding is below {LARGEST_CHANGE:g})"
    if not crossing > LARGEST_CHANGE:
        return "its losses do not depend on the documents' boundaries"
    return kernel_fault(device) if device.type == "cuda" else None


def use(model: "PreTrainedModel") -> None:
    """Switch a model to attention by documents."""
    register()
    model.set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME:
        raise NotImplementedError("it accepts no other implementation of attention")


def sample_losses(model: "PreTrainedModel", apart: bool = True) -> torch.Tensor:
    """Return the losses of two packed windows, by the model's present implementation.

    With ``apart`` false, attention by documents is given each window as one document.
    """
    draw = np.random.default_rng(0)
    windows = [
        pack(
            [
                draw.integers(1, 200, length),
                draw.integers(1, 200, DOCUMENT),
                draw.integers(1, 200, WINDOW - length - 14),
            ]
        )
        for length in NEIGHBOURS[1:]
    ]
    batch = collate(windows, torch.device("cpu"), document_mask=True)
    places = batch.positions if apart else torch.arange(batch.positions.shape[1]).expand(len(windows), -1)
    documents = documents_of(places) if model.config._attn_implementation == NAME else None
    with torch.no_grad():
        return token_losses(model, *batch, documents)


def kernel_fault(device: torch.device) -> str | None:
    """Return how the kernel on a device differs from attention by document in bf16; None if it does not."""
    documents = Documents(torch.tensor([0, 5, 6, 70, 128], dtype=torch.int32, device=device), 64)
    generator = torch.Generator(device=device).manual_seed(0)
    given = [
        torch.randn(128, heads, WIDTH, generator=generator, device=device, dtype=torch.bfloat16)
        for heads in (HEADS, GROUPS, GROUPS, HEADS)
    ]
    results = []
    try:
        for kernel in (by_document, by_kernel):
            leaves = [tensor.clone().requires_grad_() for tensor in given[:3]]
            output = kernel(leaves[0], leaves[1], leaves[2], documents, None, None)
            output.backward(given[3])  # type: ignore[no-untyped-call]
            results.append([output.detach(), *(leaf.grad for leaf in leaves)])
    except (RuntimeError, ValueError, ImportError, NotImplementedError) as error:
        return f"the kernel for variable lengths does not run here: {' '.join(str(error).split())[:160]}"
    for expected, found in zip(*results, strict=True):
        assert expected is not None, "every input has a gradient"
        assert found is not None, "every input has a gradient"
        apart = float((found.float() - expected.float()).abs().max() / expected.float().abs().max())
        if not apart <= KERNEL_TOLERANCE:
            return f"the kernel for variable lengths differs by {apart:.2g} of the largest value here"
    return None
