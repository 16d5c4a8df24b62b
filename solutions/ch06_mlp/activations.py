"""Activation functions and their slopes, written out; units that saturate and units that die.

Nair & Hinton (2010); Glorot & Bengio (2010); Hendrycks & Gimpel (2016),
https://arxiv.org/abs/1606.08415; Elfwing et al. (2017), https://arxiv.org/abs/1702.03118
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def sigmoid(x: Tensor) -> Tensor:
    """Squash every entry into (0, 1): the logistic function.

    Right for entries of ±1000: no infinity and no NaN. Written from elementary functions such
    as the exponential; PyTorch's sigmoid and logsigmoid are not allowed.

    Args:
        x: any shape, floating point. Left unchanged.

    Returns:
        A new tensor of the shape, dtype and device of ``x``.
    """
    z = torch.exp(-x.abs())  # in [0, 1], whatever x is
    return torch.where(x >= 0, 1 / (1 + z), z / (1 + z))


def sigmoid_derivative(x: Tensor) -> Tensor:
    """Compute the slope of ``sigmoid`` at every entry of ``x``, by hand.

    Right for entries of ±1000. No automatic differentiation.

    Args:
        x: any shape, floating point: what the sigmoid is given, not what it returns. Left
            unchanged.

    Returns:
        A new tensor of the shape, dtype and device of ``x``.
    """
    s = sigmoid(x)
    return s * (1 - s)


def tanh(x: Tensor) -> Tensor:
    """Squash every entry into (−1, 1): the hyperbolic tangent.

    Right for entries of ±1000: no infinity and no NaN. Written from elementary functions;
    PyTorch's tanh is not allowed, your own ``sigmoid`` is.

    Args:
        x: any shape, floating point. Left unchanged.

    Returns:
        A new tensor of the shape, dtype and device of ``x``.
    """
    return 2 * sigmoid(2 * x) - 1


def tanh_derivative(x: Tensor) -> Tensor:
    """Compute the slope of ``tanh`` at every entry of ``x``, by hand.

    Right for entries of ±1000. No automatic differentiation.

    Args:
        x: any shape, floating point: what tanh is given, not what it returns. Left unchanged.

    Returns:
        A new tensor of the shape, dtype and device of ``x``.
    """
    return 1 - tanh(x).square()


def relu(x: Tensor) -> Tensor:
    """Keep what is positive and replace everything else by 0: max(x, 0), entry by entry.

    PyTorch's relu is not allowed, nor are relu6, hardtanh and threshold.

    Args:
        x: any shape, floating point. Left unchanged.

    Returns:
        A new tensor of the shape, dtype and device of ``x``.
    """
    return x.clamp(min=0)


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """Keep what is positive and multiply everything else by a slope. Maas et al. (2013).

    PyTorch's leaky_relu, prelu and rrelu are not allowed.

    Args:
        x: any shape, floating point. Left unchanged.
        negative_slope: any number; 0 gives ReLU, and values below 0 or above 1 are allowed.

    Returns:
        A new tensor of the shape, dtype and device of ``x``.
    """
    return torch.where(x > 0, x, negative_slope * x)


def leaky_relu_derivative(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """Compute the slope of ``leaky_relu`` at every entry of ``x``, by hand.

    At exactly 0, where there is a corner, take the slope of the negative side, as PyTorch does.
    No automatic differentiation.

    Args:
        x: any shape, floating point: what the function is given. Left unchanged.
        negative_slope: as in ``leaky_relu``, any number.

    Returns:
        A new tensor of the shape, dtype and device of ``x``.
    """
    return torch.where(x > 0, torch.ones_like(x), torch.full_like(x, negative_slope))


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """Weigh every entry by the probability that a standard normal number lies below it.

    Hendrycks & Gimpel (2016), https://arxiv.org/abs/1606.08415, section 2. ``torch.erf`` is
    allowed, PyTorch's gelu is not. Right for entries of ±1000, in either form: no infinity and no
    NaN.

    Args:
        x: any shape, floating point. Left unchanged.
        approximate: "none" for the exact function, "tanh" for the paper's approximation by a
            hyperbolic tangent.

    Returns:
        A new tensor of the shape, dtype and device of ``x``.

    Raises:
        ValueError: ``approximate`` is neither of the two.
    """
    if approximate == "none":
        return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
    if approximate == "tanh":
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        return 0.5 * x * (1 + tanh(inner))
    raise ValueError(f'approximate must be "none" or "tanh", but is {approximate!r}')


def gelu_derivative(x: Tensor) -> Tensor:
    """Compute the slope of the exact ``gelu`` at every entry of ``x``, by hand.

    No automatic differentiation; ``torch.erf`` is allowed.

    Args:
        x: any shape, floating point: what gelu is given. Left unchanged.

    Returns:
        A new tensor of the shape, dtype and device of ``x``.
    """
    cdf = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    density = torch.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)
    return cdf + x * density


def silu(x: Tensor) -> Tensor:
    """Weigh every entry by its own sigmoid. Elfwing et al. (2017), also known as swish.

    Right for entries of ±1000. PyTorch's silu is not allowed, your own ``sigmoid`` is.

    Args:
        x: any shape, floating point. Left unchanged.

    Returns:
        A new tensor of the shape, dtype and device of ``x``.
    """
    return x * sigmoid(x)


def silu_derivative(x: Tensor) -> Tensor:
    """Compute the slope of ``silu`` at every entry of ``x``, by hand.

    Right for entries of ±1000. No automatic differentiation.

    Args:
        x: any shape, floating point: what silu is given. Left unchanged.

    Returns:
        A new tensor of the shape, dtype and device of ``x``.
    """
    s = sigmoid(x)
    return s * (1 + x * (1 - s))


def saturated_share(
    x: Tensor, derivative: Callable[[Tensor], Tensor], threshold: float = 0.01
) -> Tensor:
    """Measure, for each unit, on what share of the examples its activation is all but flat.

    An activation is flat at an entry where the magnitude of its slope is smaller than
    ``threshold``; a slope of exactly that magnitude is not flat.

    Args:
        x: (batch, units), floating point: what the activation is given. Left unchanged.
        derivative: maps a tensor of the shape of ``x`` to the activation's slopes, of the same
            shape and of either sign.
        threshold: a positive number.

    Returns:
        (units,), between 0 and 1, in the dtype and on the device of ``x``.
    """
    flat = derivative(x).abs() < threshold  # (batch, units)
    return flat.to(x.dtype).mean(dim=0)


def dead_units(pre_activations: Tensor) -> Tensor:
    """Find the ReLU units that no example switches on.

    A unit is dead if what it is given is never positive: its output is 0 and its slope is 0 for
    every example there is.

    Args:
        pre_activations: (batch, units), or (…, units) with any number of leading dimensions,
            all of which count examples; at least one. Left unchanged.

    Returns:
        (units,), bool: True where the unit is dead.
    """
    return (pre_activations <= 0).flatten(0, -2).all(dim=0)
