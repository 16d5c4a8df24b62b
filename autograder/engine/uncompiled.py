"""PyTorch without its compiler, which it loads for much that is never compiled.

Optimizers and the arithmetic of tensors without data ask torch._dynamo to leave them alone should
somebody compile them. That alone would load it: nine hundred modules, more than a second and a
hundred megabytes for every process. Whoever asks for more of it has the real one.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

NAME = "torch._dynamo"


class _LeftOut(ModuleType):
    """What stands in for the compiler until it is needed."""

    @staticmethod
    def disable(fn: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Any:
        """The function as it is; as a decorator with arguments, what leaves one as it is."""
        return fn if fn is not None else lambda function: function

    @staticmethod
    def graph_break(*_: Any, **__: Any) -> None:
        """No graph is being made."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # asked of every module that there is
            raise AttributeError(name)
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
        return getattr(importlib.import_module(NAME), name)


def leave_out_compiler() -> None:
    """Put the stand-in where PyTorch looks for its compiler, unless that is loaded already."""
    if NAME not in sys.modules:
        sys.modules[NAME] = _LeftOut(NAME)
