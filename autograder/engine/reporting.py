"""What of PyTorch and Python is changed in a worker, so that forbidden calls report themselves."""

from __future__ import annotations

import _thread
import contextlib
import functools
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
import torch.overrides
from torch.jit import _builtins
from torch.utils import _python_dispatch

from autograder.engine.callers import GET_FRAME
from autograder.engine.doors import ASKS_FOR_DERIVATIVES, SWITCHES, doors_as_called
from autograder.engine.hearing import CALLED, SAY, STARTED, UNDONE
from autograder.engine.steady import keep_builtins

keep_builtins(globals())

ENGINE = "torch.autograd.Variable._execution_engine"
LOOKS_ON = "autograder.engine.watch"
STARTS_THREADS = ("start_new_thread", "start_new", "_start_new_thread", "start_joinable_thread",
                  "_start_joinable_thread")  # fmt: skip


def report_from_classes_and_autograd(names: Sequence[str]) -> None:
    """Wrap whatever is forbidden and can be, where PyTorch keeps it.

    Args:
        names: forbidden, as graders write them.
    """
    for name in doors_as_called(tuple(names)):
        module_name, _, attribute = name.rpartition(".")
        owner = None if module_name.startswith("torch.ops") else find(module_name)
        target = getattr(owner, attribute, None) if owner is not None else None
        if isinstance(target, type):
            _wrap(target, "__init__", name)
        elif callable(target):
            _wrap(owner, attribute, name)
        elif target is not None and hasattr(target, "Optimizer"):
            _wrap(target.Optimizer, "__init__", name)
    if not set(ASKS_FOR_DERIVATIVES).isdisjoint(names):
        variable: Any = torch.autograd.Variable
        variable._execution_engine = _reporting(variable._execution_engine)
        for owner, attribute in ((sys.modules["torch.autograd.variable"], "ImperativeEngine"),
                                 (torch._C, "_ImperativeEngine")):  # fmt: skip
            made = getattr(owner, attribute)
            setattr(owner, attribute, lambda made=made: _reporting(made()))


def keep_modes_in_force() -> None:
    """Keep for PyTorch itself what runs code outside the modes that are in force."""
    inner: Any = torch._C
    inner.DisableTorchFunction = inner.DisableTorchFunctionSubclass
    without_modes, folder = inner._DisableTorchDispatch, str(Path(torch.__file__).parent)

    def for_pytorch() -> Any:
        own = GET_FRAME(1).f_code.co_filename.startswith(folder)
        return without_modes() if own else contextlib.nullcontext()

    inner._DisableTorchDispatch = for_pytorch


def report_from_switches() -> None:
    """Report who turns the modes off by hand, or has an operator run without them."""
    inner: Any = torch._C
    for name in SWITCHES:
        switch = getattr(inner, name, None)
        if switch is not None:
            setattr(inner, name, _saying(UNDONE, f"torch._C.{name}", switch))
        for owner in (torch.overrides, _python_dispatch):
            if name.startswith("_push_on") and hasattr(owner, name):
                setattr(owner, name, _putting_back(f"torch._C.{name}", switch))
    kind = inner._DispatchOperatorHandle
    past_modes = kind.redispatch_boxed

    def redispatch_boxed(handle: Any, *args: Any, **kwargs: Any) -> Any:
        SAY(CALLED, "torch.ops." + handle.schema().name.replace("::", "."))
        return past_modes(handle, *args, **kwargs)

    kind.redispatch_boxed = redispatch_boxed


def _putting_back(name: str, function: Any) -> Any:
    """Report who puts back what looks on: it has been taken off before."""

    def reporting(mode: Any) -> Any:
        if type(mode).__module__ == LOOKS_ON:
            SAY(UNDONE, name)
        return function(mode)

    return reporting


def _saying(event: str, name: str, function: Any) -> Any:
    def reporting(*args: Any, **kwargs: Any) -> Any:
        SAY(event, name)
        return function(*args, **kwargs)

    return reporting


def report_from_threads() -> None:
    """Have every new thread watched: PyTorch's modes belong to the thread that enters them."""
    for module in (_thread, threading):
        for name in STARTS_THREADS:
            start = getattr(module, name, None)
            if start is not None:
                setattr(module, name, _starting(start))


def _starting(start: Any) -> Any:
    @functools.wraps(start)
    def starting(function: Any, *parts: Any, **named: Any) -> Any:
        def watched(*args: Any, **kwargs: Any) -> Any:
            found: list[AbstractContextManager[Any]] = []
            SAY(STARTED, found)
            with found[0]:
                return function(*args, **kwargs)

        return start(watched, *parts, **named)

    del starting.__wrapped__
    return starting


def _reporting(engine: Any) -> Any:
    """Autograd's engine, reporting who asks it for derivatives; it is nowhere but in here."""

    class Engine:
        def __getattr__(self, name: str) -> Any:
            return getattr(engine, name)

        def run_backward(self, *args: Any, **kwargs: Any) -> Any:
            SAY(CALLED, ENGINE)
            return engine.run_backward(*args, **kwargs)

    return Engine()


def _wrap(owner: Any, attribute: str, name: str) -> None:
    original = getattr(owner, attribute)

    @functools.wraps(original)
    def reporting(*args: Any, **kwargs: Any) -> Any:
        SAY(CALLED, name)
        return original(*args, **kwargs)

    table = _builtins._builtin_table or {}
    if id(original) in table:  # TorchScript knows functions by their identity
        _builtins._register_builtin(reporting, table[id(original)])
    del reporting.__wrapped__  # or it would lead past the report
    try:
        setattr(owner, attribute, reporting)
    except (AttributeError, TypeError):  # built-in types; dispatch or the syntax tree sees these
        return


def find(dotted: str) -> Any:
    """What a dotted name stands for among what has been imported; nothing is imported for it."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        found: Any = sys.modules.get(".".join(parts[:cut]))
        if found is not None:
            for part in parts[cut:]:
                found = getattr(found, part, None)
            return found
    return None
