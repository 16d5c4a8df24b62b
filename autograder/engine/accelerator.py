"""Where a scenario runs: the CPU, CUDA, or the fake device that needs no GPU.

The fake device is PyTorch's FakeTensorMode with tensors on "meta": shapes, dtypes and devices
are computed, values are not, and mixing in a CPU tensor raises as it would on a GPU. "meta"
instead of a fake "cuda", because autograd's engine asks a CUDA device for its streams.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)

# Every refused mixing of devices would be logged with a traceback; it is an outcome here.
logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)

UNJUDGED = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)


def place(tree: Any, device: str) -> Any:
    """Copy every tensor of a tree to a device; on ``"fake"``, within ``fake_mode``."""
    if isinstance(tree, Tensor):
        if device == "fake":
            return torch.empty(tree.shape, dtype=tree.dtype, device="meta")
        return tree.clone() if device == "cpu" else tree.to(device)
    if isinstance(tree, dict):
        return {key: place(value, device) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(place(value, device) for value in tree)
    return tree


@contextmanager
def fake_mode() -> Iterator[None]:
    """Run what is inside on fake tensors, modules included."""
    original = nn.Module._apply
    nn.Module._apply = _apply_by_replacing  # type: ignore[method-assign]
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        nn.Module._apply = original  # type: ignore[method-assign]


def _apply_by_replacing(
    self: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True
) -> nn.Module:
    """``Module.to`` for fake tensors, whose storage PyTorch's own cannot swap."""
    if recurse:
        for child in self.children():
            child._apply(fn)  # type: ignore[no-untyped-call]
    for name, parameter in self._parameters.items():
        if parameter is not None:
            with torch.no_grad():
                moved = fn(parameter)
            self._parameters[name] = nn.Parameter(moved, parameter.requires_grad)
    for name, buffer in self._buffers.items():
        if buffer is not None:
            self._buffers[name] = fn(buffer)
    return self
