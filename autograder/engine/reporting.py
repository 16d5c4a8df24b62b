"""What of PyTorch and Python is changed in a worker, so that forbidden calls report themselves."""

from __future__ import annotations

import _thread
import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch.jit import _builtins

from autograder.engine.callers import GET_FRAME
from autograder.engine.doors import ASKS_FOR_DERIVATIVES, doors_as_called

ENGINE = "torch.autograd.Variable._execution_engine"
Note = Callable[[str], None]
STARTS_THREADS = ("start_new_thread", "start_new", "_start_new_thread", "start_joinable_thread",
                  "_start_joinable_thread")  # fmt: skip


def report_from_classes_and_autograd(note: Note, names: Sequence[str]) -> None:
    """Wrap whatever is forbidden and can be, where PyTorch keeps it.

    Args:
        note: called with a dotted name whenever it is used.
        names: forbidden, as graders write them.
    """
    for name in doors_as_called(tuple(names)):
        module_name, _, attribute = name.rpartition(".")
        owner = None if module_name.startswith("torch.ops") else find(module_name)
        target = getattr(owner, attribute, None) if owner is not None else None
        if isinstance(target, type):
            _wrap(note, target, "__init__", name)
        elif callable(target):
            _wrap(note, owner, attribute, name)
        elif target is not None and hasattr(target, "Optimizer"):
            _wrap(note, target.Optimizer, "__init__", name)
    if not set(ASKS_FOR_DERIVATIVES).isdisjoint(names):
        variable: Any = torch.autograd.Variable
        variable._execution_engine = _reporting(note, variable._execution_engine)
        for owner, attribute in ((sys.modules["torch.autograd.variable"], "ImperativeEngine"),
                                 (torch._C, "_ImperativeEngine")):  # fmt: skip
            made = getattr(owner, attribute)
            setattr(owner, attribute, lambda made=made: _reporting(note, made()))


def keep_modes_in_force() -> None:
    """Keep for PyTorch itself what runs code outside the modes that are in force."""
    inner: Any = torch._C
    inner.DisableTorchFunction = inner.DisableTorchFunctionSubclass
    without_modes, folder = inner._DisableTorchDispatch, str(Path(torch.__file__).parent)

    def for_pytorch() -> Any:
        own = GET_FRAME(1).f_code.co_filename.startswith(folder)
        return without_modes() if own else contextlib.nullcontext()

    inner._DisableTorchDispatch = for_pytorch


def report_from_threads(watching: Callable[[], AbstractContextManager[Any]]) -> None:
    """Have every new thread watched: PyTorch's modes belong to the thread that enters them."""
    for module in (_thread, threading):
        for name in STARTS_THREADS:
            start = getattr(module, name, None)
            if start is not None:
                setattr(module, name, _starting(start, watching))


def _starting(start: Any, watching: Callable[[], AbstractContextManager[Any]]) -> Any:
    @functools.wraps(start)
    def starting(function: Any, *parts: Any, **named: Any) -> Any:
        def watched(*args: Any, **kwargs: Any) -> Any:
            with watching():
                return function(*args, **kwargs)

        return start(watched, *parts, **named)

    del starting.__wrapped__
    return starting


def _reporting(note: Note, engine: Any) -> Any:
    """Autograd's engine, reporting who asks it for derivatives; it is nowhere but in here."""

    class Engine:
        def __getattr__(self, name: str) -> Any:
            return getattr(engine, name)

        def run_backward(self, *args: Any, **kwargs: Any) -> Any:
            note(ENGINE)
            return engine.run_backward(*args, **kwargs)

    return Engine()


def _wrap(note: Note, owner: Any, attribute: str, name: str) -> None:
    original = getattr(owner, attribute)

    @functools.wraps(original)
    def reporting(*args: Any, **kwargs: Any) -> Any:
        note(name)
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
