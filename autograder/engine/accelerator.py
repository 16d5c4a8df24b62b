"""Where a scenario runs: the CPU, CUDA, or the fake device that needs no GPU.

The fake device is PyTorch's FakeTensorMode with tensors on "meta": shapes, dtypes and devices
are computed, values are not, and mixing in a CPU tensor raises as it would on a GPU. "meta"
instead of a fake "cuda", because autograd's engine asks a CUDA device for its streams.

FakeTensorMode takes a millisecond an operator in every new process. Code that never leaves its
inputs' device runs through the meta device alone in a quarter of that; at the first thing that
could be a question, PlainMeta gives up and FakeTensorMode decides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from torch.utils._python_dispatch import TorchDispatchMode

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
    with _modules_by_replacing(), FakeTensorMode(allow_non_fake_inputs=True):
        yield


@contextmanager
def plain_meta() -> Iterator[None]:
    """Run what is inside on meta tensors, modules included.

    Raises:
        InQuestion: code needs a value, a shape that depends on values, or more than one device.
    """
    with _modules_by_replacing(), _PlainMeta():  # type: ignore[no-untyped-call]
        yield


class InQuestion(RuntimeError):
    """The meta device alone cannot tell; FakeTensorMode can."""


class _PlainMeta(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lets an operator through where all that it takes and makes is on one device."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        devices = {tensor.device.type for tensor in _tensors((*args, *named.values()))}
        if "meta" in devices:
            target = named.get("device")
            elsewhere = target is not None and torch.device(target).type != "meta"
            if len(devices) > 1 or elsewhere or not _DEPENDS_ON_VALUES.isdisjoint(func.tags):
                raise InQuestion(str(func))
        return func(*args, **named)


_DEPENDS_ON_VALUES = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


@contextmanager
def _modules_by_replacing() -> Iterator[None]:
    original = nn.Module._apply
    nn.Module._apply = _apply_by_replacing  # type: ignore[method-assign]
    try:
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
