"""Minibatches of tensors that belong together."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def batches(
    *tensors: Tensor, size: int, generator: torch.Generator | None = None, shuffle: bool = True
) -> Iterator[tuple[Tensor, ...]]:
    """Go once through the examples, in minibatches.

    Args:
        tensors: each of shape (n, …), with the same n.
        size: examples a batch; the last batch may be smaller.
        generator: of the shuffle; PyTorch's own where it is None.
        shuffle: take the examples in a random order.

    Yields:
        One tensor for each of ``tensors``, of shape (at most size, …).

    Raises:
        ValueError: the tensors differ in length, or ``size`` is not positive.
    """
    n = len(tensors[0])
    if any(len(t) != n for t in tensors):
        raise ValueError(f"tensors differ in length: {[len(t) for t in tensors]}")
    if size < 1:
        raise ValueError(f"size must be at least 1, but is {size}")
    order = torch.randperm(n, generator=generator) if shuffle else torch.arange(n)
    for start in range(0, n, size):
        chosen = order[start : start + size]
        yield tuple(t[chosen] for t in tensors)
