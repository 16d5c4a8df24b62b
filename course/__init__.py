"""Forward Pass for students: data sets, plots, and the checks you run on your own answers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from course.checks import checking
    from course.greeting import welcome
    from course.sibling import earlier

__version__ = "0.1.0"
__all__ = ["__version__", "checking", "earlier", "welcome"]

_HOMES = {"checking": "course.checks", "earlier": "course.sibling", "welcome": "course.greeting"}


def __getattr__(name: str) -> Any:
    # At first use: the grader's own processes need a part of this package, and no torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
