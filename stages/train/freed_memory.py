"""Memory that tensors free on a CPU: returned to the system while an engine starts, kept during training.

A start gathers and frees whole tensors. With them kept, the heap of glibc grew around what stays by more than the
largest tensors' size. Other C libraries are left unchanged.
"""

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -2, -3, -4, -8  # malloc.h
RETURNED = {_MMAP_THRESHOLD: 1 << 20, _MMAP_MAX: 1 << 16, _TRIM_THRESHOLD: 1 << 20, _TOP_PAD: 1 << 17, _ARENA_MAX: 1}
KEPT = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 << 20, _ARENA_MAX: 1}


@contextmanager
def returned(device: torch.device) -> Iterator[None]:
    """Return what is freed inside the block to the system, and keep it afterwards, if training is on the CPU."""
    if device.type != "cpu":
        yield
        return
    adjust(RETURNED)
    try:
        yield
    finally:
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
        keep_freed_memory()


def keep_freed_memory() -> None:
    """Make the C library reuse memory that tensors free, as a GPU's caching allocator does.

    By default glibc maps every large tensor anew: on two cores, page faults took a sixth of a small model's step.
    """
    adjust(KEPT)


def adjust(values: Mapping[int, int]) -> None:
    """Set parameters of glibc's allocator."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for parameter, value in values.items():
        mallopt(parameter, value)
