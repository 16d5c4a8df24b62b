"""Forbidden calls as they run, seen in the worker; the syntax tree's half is in forbidden.py."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode, resolve_name

from autograder.engine.cells import STUDENT_FILE

TORCH_FOLDER = str(Path(torch.__file__).parent)
ENGINE_FOLDER = str(Path(__file__).parent)


class CallWatch(TorchFunctionMode):
    """Records which forbidden functions the student's own lines call.

    A call counts where the innermost frame outside PyTorch belongs to the student: what the
    scenario or a stand-in calls does not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.forbidden: tuple[str, ...] = ()
        self.seen: set[str] = set()

    def begin(self, forbidden: Sequence[str]) -> None:
        """Start a new record, for one scenario of one exercise."""
        self.forbidden = tuple(forbidden)
        self.seen = set()

    def note(self, name: str) -> None:
        """Record a call by its dotted name if it is forbidden and the student's."""
        for forbidden in self.forbidden:
            if (name == forbidden or name.startswith(forbidden + ".")) and _called_by_student():
                self.seen.add(forbidden)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if self.forbidden:
            self.note(resolve_name(func) or "")
        return func(*args, **(kwargs or {}))

    def wrap_classes_and_autograd(self, names: Sequence[str]) -> None:
        """Make forbidden classes and functions that PyTorch does not dispatch report their use."""
        for name in names:
            module_name, _, attribute = name.rpartition(".")
            owner = _find(module_name)
            target = getattr(owner, attribute, None)
            if isinstance(target, type):
                _wrap(self, target, "__init__", name)
            elif callable(target):
                _wrap(self, owner, attribute, name)
            elif target is not None and hasattr(target, "Optimizer"):
                _wrap(self, target.Optimizer, "__init__", name)


def _wrap(watch: CallWatch, owner: Any, attribute: str, name: str) -> None:
    original = getattr(owner, attribute)

    @functools.wraps(original)
    def reporting(*args: Any, **kwargs: Any) -> Any:
        watch.note(name)
        return original(*args, **kwargs)

    try:
        setattr(owner, attribute, reporting)
    except (AttributeError, TypeError):  # built-in types; dispatch or the syntax tree sees these
        return


def _find(dotted: str) -> Any:
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part, None)
        return found
    return None


def _called_by_student() -> bool:
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(STUDENT_FILE):
            return True
        if not file.startswith((TORCH_FOLDER, ENGINE_FOLDER)):
            return False
        frame = frame.f_back  # type: ignore[assignment]
    return False
