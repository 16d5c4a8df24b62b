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

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.utils._python_dispatch import TorchDispatchMode

# Every refused mixing of devices would be logged with a traceback; it is an outcome here.
logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)


class OnlyValuesTell(RuntimeError):
    """Code stopped at something that a GPU would not have met."""


UNJUDGED = (
    OnlyValuesTell,
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
    """Run what is inside on fake tensors, modules included.

    Raises:
        One of UNJUDGED: only values, or a GPU, could tell.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with _modules_by_replacing(), _numpy_of_fakes() as left, mode, _AsOnCuda():  # type: ignore[no-untyped-call]
        try:
            yield
        except UNJUDGED:
            raise
        except Exception as error:
            # NumPy's zeros in place of values may well be what it stopped at; and there is no
            # generator for the fake device, although a GPU has one.
            if left or "META device type not an accelerator" in str(error):
                raise OnlyValuesTell(str(error)) from error
            raise


@contextmanager
def plain_meta() -> Iterator[None]:
    """Run what is inside on meta tensors, modules included.

    Raises:
        InQuestion: code needs a value, a shape that depends on values, or more than one device.
    """
    with _modules_by_replacing(), _PlainMeta():  # type: ignore[no-untyped-call]
        yield


class _AsOnCuda(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses what CUDA refuses and fakes let through: a generator, some operators' mixing."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        _refuse_foreign_generator(args, named)
        _refuse_mixing(func, args)
        return func(*args, **named)


def _refuse_mixing(func: Any, args: Sequence[Any]) -> None:
    """Raise where operators that FakeTensorMode waves through would meet two devices."""
    name = func.overloadpacket.__name__
    devices = [tensor.device.type for tensor in _tensors(args)]
    if len(set(devices)) < 2:
        return
    if name.endswith("_") and name not in _COPIES and devices[0] == "cpu":
        mixed = True  # nothing is written from elsewhere, be it a single number
    elif name in ("add_", "_foreach_add_"):
        mixed = any(t.dim() and t.device.type == "cpu" for t in _tensors(args))
    else:
        mixed = name == "embedding" or (name == "index" and devices[0] == "cpu")
    if mixed:
        raise RuntimeError(f"{func}: Expected all tensors to be on the same device")


_COPIES = {"copy_", "fill_", "set_"}


def _refuse_foreign_generator(args: Sequence[Any], named: Mapping[str, Any]) -> None:
    values = [*args, *named.values()]
    if not any(isinstance(value, torch.Generator) for value in values):
        return
    target = named.get("device")
    filled = {torch.device(target).type} if target is not None else set()
    if "meta" in filled | {tensor.device.type for tensor in _tensors(values)}:
        raise RuntimeError("Expected a generator on the device of the tensor, but found 'cpu'")


@contextmanager
def _numpy_of_fakes() -> Iterator[list[bool]]:
    """Let NumPy have zeros for a fake tensor on the CPU, and nothing for one on the fake device.

    Gives a list that is no longer empty once values were made up so.
    """
    made_up: list[bool] = []
    original = Tensor.numpy

    def numpy(self: Tensor, *, force: bool = False) -> Any:
        if not isinstance(self, FakeTensor):
            return original(self, force=force)
        if self.fake_device.type != "cpu" and not force:
            raise TypeError(
                "can't convert a tensor on a GPU to NumPy: Tensor.cpu() copies it to the CPU first"
            )
        made_up.append(True)
        return np.zeros(tuple(self.shape), dtype=str(self.dtype).removeprefix("torch."))

    Tensor.numpy = numpy  # type: ignore[method-assign,assignment]
    try:
        yield made_up
    finally:
        Tensor.numpy = original  # type: ignore[method-assign]


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
        _refuse_foreign_generator(args, named)
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
