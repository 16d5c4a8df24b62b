"""The references of the lesson under attack."""

import torch
from torch import Tensor


def centre(x: Tensor, gain: float) -> Tensor:
    """Subtract each row's mean and scale; x of shape (rows, columns)."""
    return gain * (x - x.mean(dim=1, keepdim=True))


def soft(x: Tensor) -> Tensor:
    """Softmax over the last dimension, by hand; x of any shape."""
    powers = torch.exp(x - x.amax(dim=-1, keepdim=True))
    return powers / powers.sum(dim=-1, keepdim=True)


def soft_backward(grad: Tensor, x: Tensor) -> Tensor:
    """The gradient of softmax with respect to x, by hand."""
    y = soft(x)
    return y * (grad - (grad * y).sum(dim=-1, keepdim=True))


def count(x: Tensor) -> int:
    """How many entries are above zero.

    Raises:
        ValueError: x is empty.
    """
    if x.numel() == 0:
        raise ValueError("x is empty")
    return int((x > 0).sum())


def jitter(x: Tensor, scale: float) -> Tensor:
    """Add noise drawn uniformly from [-scale, scale) to every entry."""
    return x + scale * (2 * torch.rand_like(x) - 1)
