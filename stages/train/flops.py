"""How much arithmetic training takes, and how much the devices could do: what the utilisation (MFU) is made of."""

import time
from typing import Any

import torch

# Dense bf16 of the tensor cores, FLOP/s, as NVIDIA's and AMD's data sheets give it without sparsity. The first name
# that occurs in the device's counts, so a variant stands before what it is a variant of.
PEAKS = {
    "B200": 2.25e15,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "MI300X": 1307e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10G": 70e12,
    "A10": 125e12,
}
MATRIX = {"cuda": 4096, "cpu": 768}  # rows of the matrices whose product is timed where no data sheet is known
TRIES = 4  # the first of them warms up


def flops_per_token(parameters: int, layers: int, attention_width: int, seq_len: int) -> float:
    """Model FLOPs of one trained token, forward and backward: ``6 N + 12 L (H Q) T``.

    Chowdhery et al. 2022 (PaLM), appendix B: N parameters, L layers, H heads of Q dimensions (``attention_width`` is
    H Q), T the sequence's length. What is computed again (gradient checkpointing) does not count, and attention counts
    over the whole sequence, also where documents are masked from each other.
    """
    return 6.0 * parameters + 12.0 * layers * attention_width * seq_len


def attention_shape(config: Any) -> tuple[int, int]:
    """Layers, and heads times their dimensions, of a transformers configuration; 0 where it has no attention heads."""
    layers, heads = int(getattr(config, "num_hidden_layers", 0)), int(getattr(config, "num_attention_heads", 0))
    if not heads:
        return layers, 0
    width = getattr(config, "head_dim", None) or int(config.hidden_size) // heads
    return layers, heads * int(width)


def peak_flops(device: torch.device, low_precision: bool) -> float:
    """FLOP/s of one device at its best: the data sheet's of a known GPU in bf16, else those of a matrix product, timed.

    The product is of ones: no random numbers are drawn.
    """
    if device.type == "cuda" and low_precision:
        name = torch.cuda.get_device_name(device)
        known = next((peak for part, peak in PEAKS.items() if part in name), None)
        if known is not None:
            return known
    return measured_flops(device, torch.bfloat16 if low_precision else torch.float32)


def measured_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the fastest of a few square matrix products, on as many threads as torch has in this process."""
    size = MATRIX.get(device.type, MATRIX["cpu"])
    left = torch.ones((size, size), dtype=dtype, device=device)
    best = float("inf")
    with torch.no_grad():
        for _ in range(TRIES):
            start = time.perf_counter()
            float((left @ left)[0, 0])  # waits for the device
            best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best
