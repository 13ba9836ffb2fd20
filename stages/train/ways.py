"""The ways of a forward pass: choices that change the last digits of the arithmetic, and memory and speed."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import orjson
import torch

from rewarm.stages.train.chunked_loss import WHOLE_BYTES, ChunkedHead, head_form, logits_bytes
from rewarm.stages.train.document_attention import unsupported, use
from rewarm.stages.train.document_mask import tried_model
from rewarm.stages.train.padded_vocabulary import vocabulary_rows
from rewarm.stages.train.settings import TrainSettings
from rewarm.stages.train.sharded_start import is_empty

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Ways:
    """Ways of a model's forward pass, as resolved on this worker."""

    head: ChunkedHead | None = None  # computes the loss in chunks; None: whole logits
    by_documents: bool = False  # attention by the documents' boundaries; False: by a mask from the positions
    compiled: bool = False  # the layers, by torch.compile
    more: str = ""  # train.deepspeed as JSON; "": none

    @property
    def arithmetic(self) -> dict[str, str]:
        """The choices by name, for the record."""
        return {
            "loss": "whole" if self.head is None else "chunks",
            "attention": "varlen" if self.by_documents else "sdpa",
            "compile": "on" if self.compiled else "off",
            "deepspeed": self.more or "{}",
        }


def chosen_ways(
    model: "PreTrainedModel", settings: TrainSettings, micro_batch: int, device: torch.device
) -> tuple[Ways, list[str]]:
    """Return the ways that the settings choose and the model permits, and notes on those that it does not.

    The model is switched to them.
    """
    notes: list[str] = []
    head = chosen_head(model, settings, micro_batch, notes)
    by_documents = settings.attention == "varlen" or (
        settings.attention == "auto"
        and device.type == "cuda"
        and settings.document_mask
        and settings.precision != "fp32"
    )
    if by_documents:
        problem = unsupported(model, settings.seq_len, device, settings.precision != "fp32")
        if problem is None:
            use(model)
        else:
            by_documents = False
            notes.append(f"train.attention {settings.attention}: a mask from the positions (sdpa) is used: {problem}")
    if settings.compile:
        compile_layers(model)
    more = orjson.dumps(settings.deepspeed, option=orjson.OPT_SORT_KEYS).decode() if settings.deepspeed else ""
    return Ways(head, by_documents, settings.compile, more), notes


def compile_layers(model: "PreTrainedModel") -> None:
    """Compile each of a model's layers in place, so that parameters keep their names.

    Equal layers share one compilation, and the output layer and the loss stay as they are.
    """
    count = int(model.config.get_text_config().num_hidden_layers)
    stacks = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList) and len(module) == count]
    for layer in stacks[0] if stacks else [model]:
        layer.compile()


def chosen_head(
    model: "PreTrainedModel", settings: TrainSettings, micro_batch: int, notes: list[str]
) -> ChunkedHead | None:
    """Return the head that computes losses in chunks, if the settings choose it and the model permits it."""
    size = logits_bytes(model, micro_batch * settings.seq_len)
    if settings.loss == "whole" or (settings.loss == "auto" and size <= WHOLE_BYTES):
        return None
    form = head_form(tried_model(model.config, settings.seq_len) if is_empty(model) else model)
    if isinstance(form, str):
        notes.append(
            f"train.loss {settings.loss}: the loss is computed from whole logits ({size / 1e9:.2f} GB in fp32 per "
            f"micro batch): {form}"
        )
        return None
    return ChunkedHead(model, replace(form, rows=vocabulary_rows(model)))
