"""Forbidden calls as they run, seen in the worker; the syntax tree's half is in forbidden.py.

What runs here runs beside the student's code, which can undo it; but only by code that the tree
shows, so that a person is told (`suspicion.py`).
"""

from __future__ import annotations

import functools
import sys
import sysconfig
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.jit import _builtins
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode

from autograder.engine.cells import STUDENT_FILE
from autograder.engine.doors import ASKS_FOR_DERIVATIVES, doors_as_called, match, operators_of

TORCH_FOLDER = str(Path(torch.__file__).parent)
ENGINE_FOLDER = str(Path(__file__).parent)
OUR_FOLDER = str(Path(__file__).parents[2])
LIBRARIES = (TORCH_FOLDER, *{sysconfig.get_paths()[k] for k in ("stdlib", "purelib", "platlib")})
SPOKEN_OF_ANYWAY = frozenset({"aten", "prims"})
ENGINE = "torch.autograd.Variable._execution_engine"
# Texts in a cell that make it worth a look at every operator, which takes four times as long.
CLOSE_LOOK = (
    "getattr", "exec", "eval", "jit", "_C", "__", "import_module", "Disable", "vars(", "pickle",
    "sys.", "operator", "marshal",
)  # fmt: skip


class CallWatch(TorchFunctionMode):
    """Records which forbidden functions the student's own lines call.

    A call counts where the innermost frame that says anything belongs to the student: what the
    scenario or a stand-in calls does not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self._doors: dict[str, str] = {}
        self._matched: dict[Any, str | None] = {}  # of these doors, by function
        self._operators: dict[str, str] = {}
        self._inside = 0
        self._closely = False
        self._operator_watch = _OperatorWatch(self)

    def read(self, source: str) -> None:
        """Tell, before a cell runs, whether it holds what makes a close look worth its time."""
        self._closely = self._closely or any(text in source for text in CLOSE_LOOK)

    def begin(self, forbidden: Sequence[str]) -> None:
        """Start a new record, for one scenario of one exercise."""
        doors = doors_as_called(tuple(forbidden))
        if doors is not self._doors:
            self._doors, self._matched = doors, {}
        self._operators = operators_of(tuple(forbidden))
        self.seen = set()
        self._inside = 0

    def watching(self, device: str) -> Any:
        """What to run a scenario within."""
        if not self._doors:
            return _Nothing()
        return _Both(self, self._operator_watch) if self._closely and device != "fake" else self

    def note(self, name: str) -> None:
        """Record a call by its dotted name if it is forbidden and the student's."""
        self._note_forbidden(match(name, self._doors))

    def _note_forbidden(self, forbidden: str | None) -> None:
        if forbidden and forbidden not in self.seen and _called_by_student():
            self.seen.add(forbidden)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        try:
            forbidden = self._matched[func]
        except KeyError:
            forbidden = self._matched[func] = match(_name_of(func), self._doors)
        if forbidden:
            self._note_forbidden(forbidden)
        self._inside += 1
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self._inside -= 1

    def note_operator(self, name: str) -> None:
        """Record an operator that no function of PyTorch's that we saw has led to."""
        if not self._inside and name in self._operators and _called_by_student():
            self.seen.add(self._operators[name])

    def wrap_classes_and_autograd(self, names: Sequence[str]) -> None:
        """Make everything forbidden report its use, which PyTorch does not in every thread."""
        for name in doors_as_called(tuple(names)):
            module_name, _, attribute = name.rpartition(".")
            owner = None if module_name.startswith("torch.ops") else _find(module_name)
            target = getattr(owner, attribute, None) if owner is not None else None
            if isinstance(target, type):
                _wrap(self, target, "__init__", name)
            elif callable(target):
                _wrap(self, owner, attribute, name)
            elif target is not None and hasattr(target, "Optimizer"):
                _wrap(self, target.Optimizer, "__init__", name)
        if not set(ASKS_FOR_DERIVATIVES).isdisjoint(names):
            variable: Any = torch.autograd.Variable
            variable._execution_engine = _Engine(self, variable._execution_engine)


class _OperatorWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees operators that come from where functions are not seen, such as TorchScript."""

    def __init__(self, watch: CallWatch) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._watch = watch

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self._watch.note_operator(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


class _Nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


class _Both:
    def __init__(self, *watches: Any) -> None:
        self._watches = watches

    def __enter__(self) -> None:
        for watch in self._watches:
            watch.__enter__()

    def __exit__(self, *told: object) -> None:
        for watch in reversed(self._watches):
            watch.__exit__(*told)


class _Engine:
    """Autograd's engine, reporting who asks it for derivatives."""

    def __init__(self, watch: CallWatch, engine: Any) -> None:
        self._watch, self._engine = watch, engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run_backward(self, *args: Any, **kwargs: Any) -> Any:
        self._watch.note(ENGINE)
        return self._engine.run_backward(*args, **kwargs)


def _wrap(watch: CallWatch, owner: Any, attribute: str, name: str) -> None:
    original = getattr(owner, attribute)

    @functools.wraps(original)
    def reporting(*args: Any, **kwargs: Any) -> Any:
        watch.note(name)
        return original(*args, **kwargs)

    table = _builtins._builtin_table or {}
    if id(original) in table:  # TorchScript knows functions by their identity
        _builtins._register_builtin(reporting, table[id(original)])
    del reporting.__wrapped__  # or it would lead past the report
    try:
        setattr(owner, attribute, reporting)
    except (AttributeError, TypeError):  # built-in types; dispatch or the syntax tree sees these
        return


def _find(dotted: str) -> Any:
    """What a dotted name stands for among what has been imported; nothing is imported for it."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        found: Any = sys.modules.get(".".join(parts[:cut]))
        if found is not None:
            for part in parts[cut:]:
                found = getattr(found, part, None)
            return found
    return None


def _name_of(func: Any) -> str:
    """A function's dotted name, operators' as ``torch.ops.aten.…``, overloads left out."""
    name = str(resolve_name(func) or "")
    space, _, rest = name.partition(".")
    if space in SPOKEN_OF_ANYWAY:
        return "torch._refs" if space == "prims" else f"torch.ops.aten.{rest.partition('.')[0]}"
    return name or f"{getattr(func, '__module__', '')}.{getattr(func, '__qualname__', '')}"


def _called_by_student() -> bool:
    """Whether the student's code comes before the scenario's or a stand-in's, from inside out."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(STUDENT_FILE):
            return True
        if not file.startswith((*LIBRARIES, ENGINE_FOLDER, "<frozen")):
            # What is neither ours nor a library's is code that the student has made.
            return not file.startswith(OUR_FOLDER)
        frame = frame.f_back
    # Nobody's: the engine at work, or a thread, which only a student can have started.
    return threading.current_thread() is not threading.main_thread()
