"""Points in the plane, drawn by seeded generators."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def moons(n: int, *, noise: float = 0.1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw two interleaved half circles.

    Returns:
        Points, float32 of shape (n, 2), and labels 0 or 1, int64 of shape (n,).
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    angle = math.pi * torch.rand(n, generator=generator)
    upper = torch.stack([angle.cos(), angle.sin()], dim=1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], dim=1)
    points = torch.where(labels[:, None] == 0, upper, lower)
    return points + noise * torch.randn(n, 2, generator=generator), labels


def spirals(
    n: int, *, arms: int = 3, noise: float = 0.05, turns: float = 0.75, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Draw spiral arms that wind around each other.

    Returns:
        Points, float32 of shape (n, 2), and the arm of each, int64 of shape (n,).
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % arms
    radius = torch.rand(n, generator=generator).sqrt()
    angle = 2 * math.pi * (labels / arms + turns * radius)
    points = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    return points + noise * torch.randn(n, 2, generator=generator), labels


def gaussian_ring(
    n: int,
    *,
    modes: int = 8,
    radius: float = 2.0,
    std: float = 0.05,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw from Gaussians set evenly on a ring, float32 of shape (n, 2)."""
    mode = torch.randint(modes, (n,), generator=generator)
    angle = 2 * math.pi * mode / modes
    centres = radius * torch.stack([angle.cos(), angle.sin()], dim=1)
    return centres + std * torch.randn(n, 2, generator=generator)
