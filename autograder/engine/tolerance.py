"""How far a right answer may be from the truth: computed from the reference's own error.

Truth is the reference in float64 on the CPU, on the inputs as rounded to the dtype judged. What
the reference itself loses in that dtype measures how the formula amplifies rounding; an answer
that orders its operations differently may lose a small multiple of it, plus a floor from the
dtype's precision.
"""

from __future__ import annotations

import torch
from torch import Tensor

MULTIPLE = 8.0
# Relative to each value; then relative to the largest value; then absolute. About 1e7 epsilons
# in float64, where there is room, because no misconception is that small; tens in the others.
FLOORS = {
    torch.float64: (1e-9, 1e-12, 1e-14),
    torch.float32: (2e-5, 4e-6, 1e-7),
    torch.float16: (1e-2, 4e-3, 1e-5),
    torch.bfloat16: (5e-2, 3e-2, 1e-4),
}

# What a constant that is float32 leaves of a result in float64: ten epsilons of float32.
ROUNDING = 1e-6


def rounding(truth: Tensor) -> Tensor:
    """How far from the truth a float32 constant on the way may lead, elementwise.

    Args:
        truth: float64, any shape.
    """
    magnitude = truth.abs().masked_fill(~truth.isfinite(), 0.0)
    largest = magnitude.max() if magnitude.numel() else torch.zeros((), dtype=torch.float64)
    return ROUNDING * (magnitude + largest)


def bound(truth: Tensor, own: Tensor, dtype: torch.dtype, loosen: float = 1.0) -> Tensor:
    """The tolerated distance from the truth, elementwise.

    Args:
        truth: float64, any shape.
        own: the reference's outcome in the dtype judged, the shape of ``truth``.
        dtype: the floating dtype judged.
        loosen: the case's own factor.

    Returns:
        float64, the shape of ``truth``; infinite where the reference itself overflows in the
        dtype although the truth is finite, since nothing can be judged there.
    """
    relative, scaled, absolute = FLOORS.get(dtype, FLOORS[torch.float32])
    own = own.to(torch.float64)
    finite = truth[truth.isfinite() & own.isfinite()].abs()
    largest = finite.max() if finite.numel() else torch.zeros((), dtype=torch.float64)
    error = (own - truth).abs()
    comparable = error.isfinite()
    worst = error[comparable].max() if comparable.any() else torch.zeros((), dtype=torch.float64)
    magnitude = truth.abs().masked_fill(~truth.isfinite(), 0.0)
    allowed = MULTIPLE * worst + relative * magnitude + scaled * largest + absolute
    overflowed = truth.isfinite() & ~own.isfinite()
    return (loosen * allowed).masked_fill(overflowed, torch.inf)
