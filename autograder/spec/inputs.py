"""Inputs that a case asks for: random, from the run's secret seed, and never symmetric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Make:
    """Draws a case's inputs, always on the CPU and in float64.

    The engine casts floating-point tensors to the dtype being judged and moves
    them to the device being judged, so a case is written once.

    Args:
        seed: anything below 2**63; the same seed draws the same inputs.
    """

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, mean: float = 0.0, std: float = 1.0) -> Tensor:
        """Draw from a normal distribution; float64, of the given shape."""
        return mean + std * torch.randn(*shape, generator=self._generator, dtype=torch.float64)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Draw uniformly from [low, high); float64, of the given shape."""
        unit = torch.rand(*shape, generator=self._generator, dtype=torch.float64)
        return low + (high - low) * unit

    def away_from_zero(self, *shape: int, low: float = 0.2, high: float = 2.0) -> Tensor:
        """Draw magnitudes from [low, high) with random signs; float64.

        For kinks: a ReLU or an absolute value is never judged at its corner.
        """
        signs = self.boolean(*shape).to(torch.float64) * 2 - 1
        return signs * self.uniform(*shape, low=low, high=high)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Draw integers from [low, high); int64, of the given shape."""
        return torch.randint(low, high, shape, generator=self._generator)

    def boolean(self, *shape: int, p: float = 0.5) -> Tensor:
        """Draw True with probability p; bool, of the given shape."""
        return torch.rand(*shape, generator=self._generator) < p

    def permutation(self, n: int) -> Tensor:
        """A random order of 0 … n-1; int64, of shape (n,)."""
        return torch.randperm(n, generator=self._generator)

    def labels(self, n: int, classes: int) -> Tensor:
        """Class labels in which every class occurs where n >= classes; int64, of shape (n,)."""
        every = torch.arange(n) % classes
        return every[self.permutation(n)]

    def number(self, low: float, high: float) -> float:
        """One Python float from [low, high)."""
        return float(self.uniform(1, low=low, high=high).item())

    def choice(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self.integers(0, len(options), 1).item())]

    def seed(self) -> int:
        """Draw a seed for random code inside the scenario; a Python int."""
        return int(self.integers(0, 2**31, 1).item())
