"""Small pieces that scenarios share; they travel to the worker with the scenario."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def gradients(
    output: Tensor, wrt: Sequence[Tensor], cotangent: Tensor | None = None
) -> list[Tensor | None]:
    """Gradients of ``(output * cotangent).sum()`` with respect to each tensor of ``wrt``.

    Args:
        output: any shape.
        wrt: leaves that require gradients.
        cotangent: the shape of ``output``; ones where it is None. Pass a random one: a sum
            hides errors that cancel.

    Returns:
        One gradient a tensor, zeros where it was not reached; every one None where ``output``
        is not connected to any of them.
    """
    if not output.requires_grad:
        return [None for _ in wrt]
    weighted = output if cotangent is None else output * cotangent
    found = torch.autograd.grad(weighted.sum(), list(wrt), allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(wrt, found, strict=True)]


def raised(call: Callable[[], Any], *expected: type[BaseException]) -> str:
    """Name the exception that ``call`` raises: the first of ``expected`` that fits it.

    Returns:
        The fitting class's name; ``"another exception"``; or ``"no exception"``.
    """
    try:
        call()
    except expected as error:
        return next(kind.__name__ for kind in expected if isinstance(error, kind))
    except Exception:
        return "another exception"
    return "no exception"


def load_parameters(module: nn.Module, values: Mapping[str, Tensor]) -> nn.Module:
    """Put values into a module's parameters and buffers, in their dtype and on their device.

    Args:
        module: whose names must be among those of ``values``; it is changed and returned.
        values: a state dict.

    Raises:
        RuntimeError: a name or a shape does not fit.
    """
    sample = next(iter(values.values()))
    module.to(device=sample.device, dtype=sample.dtype)
    module.load_state_dict(dict(values))
    return module


def load_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Put weights into a module that may have more than the docstring names.

    Biases that nobody asked for become zero, and buffers of the answer's own stay as they are:
    having them is judged by `names_and_shapes`, and costs that test only.

    Raises:
        RuntimeError: a parameter of ``weights`` is missing, or has another shape.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    sample = next(iter(weights.values()))
    module.to(device=sample.device, dtype=sample.dtype)
    not_there = module.load_state_dict(dict(weights), strict=False).unexpected_keys
    if not_there:
        raise RuntimeError(f"the docstring's parameters are not all there: {not_there}")
    return module


def names_and_shapes(
    impl: Callable[..., nn.Module], sizes: Mapping[str, Any] | Sequence[Any]
) -> str:
    """A module's parameters as one text: of a dict, what the reference lacks would not count."""
    module = impl(**sizes) if isinstance(sizes, Mapping) else impl(*sizes)
    parameters = dict(module.named_parameters())
    return ", ".join(f"{name} {tuple(parameters[name].shape)}" for name in sorted(parameters))


def tensors_of(tree: Any) -> list[Tensor]:
    """Every tensor in nested dicts, lists and tuples, in order."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, Mapping):
        return [t for value in tree.values() for t in tensors_of(value)]
    if isinstance(tree, list | tuple):
        return [t for value in tree for t in tensors_of(value)]
    return []
