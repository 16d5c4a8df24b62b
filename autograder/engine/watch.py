"""Forbidden calls as they run, seen in the worker; the syntax tree's half is in forbidden.py.

What runs here runs beside the student's code, which can undo it. So it proves after every run
that it still sees (`is_alive`), and what it takes to undo it shows in the tree, so that a person
is told (`suspicion.py`).
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode

from autograder.engine.callers import Callers
from autograder.engine.cells import STUDENT_FILE
from autograder.engine.doors import doors_as_called, match, operators_of, tails_of
from autograder.engine.hearing import GET_FRAME, listen
from autograder.engine.library import is_known
from autograder.engine.modes import FUNCTIONS, OPERATORS
from autograder.engine.reporting import (
    keep_modes_in_force,
    report_from_classes_and_autograd,
    report_from_switches,
    report_from_threads,
)
from autograder.engine.steady import keep_builtins

keep_builtins(globals())

# Texts in a cell that make it worth a look at every operator, which takes twice as long.
CLOSE_LOOK = (
    "getattr", "exec", "eval", "jit", "_C", "__", "import_module", "Disable", "vars(", "pickle",
    "sys.", "operator", "marshal",
)  # fmt: skip
# The same as any class has them, and so no reason.
USUAL = re.compile(r"\b__(init|call|len|iter|getitem|repr|name)__\b")
SPOKEN_OF_ANYWAY = frozenset({"aten", "prims"})
BY_FROM_NUMPY = "aten.lift_fresh"  # torch.from_numpy calls it by itself, and changes nothing by it
GRAD_FN = "torch.Tensor.grad_fn"
CANARY = "torch.alias_copy"
TENSOR: Any = torch.Tensor
DEFAULTS = (
    (TENSOR.__torch_function__.__func__, torch._C._disabled_torch_function_impl, None),
    (TENSOR.__torch_dispatch__, torch._C._disabled_torch_dispatch_impl, None),
)
# As a student would: a call that counts only where nothing has been undone.
PROBE: dict[str, Any] = {}
exec(compile("def probe(call, *given): return call(*given)", f"{STUDENT_FILE} >", "exec"), PROBE)


class CallWatch(TorchFunctionMode):
    """Records which forbidden functions the student's own lines call.

    A call counts where the innermost frame that says anything belongs to the student: what the
    scenario or a stand-in calls does not.

    Args:
        callers: tells whose a call is.
    """

    def __init__(self, callers: Callers) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self._callers = callers
        self.removed = False  # by somebody else, while it was to be in force
        self._closely = False
        self._looks_at_operators = False
        self._forbids = False  # anything, in any exercise
        self._forbidden: tuple[str, ...] = ()
        self._doors: dict[str, str] = {}
        self._matched: dict[Any, str | None] = {}  # of these doors, by function
        self._operators: dict[str, str] = {}
        self._tails: dict[str, frozenset[str]] = {}

    def begin(self, forbidden: Sequence[str]) -> None:
        """Get ready for one scenario of one exercise.

        What was seen stays while the exercise does: nothing is to be called in between either.
        """
        if tuple(forbidden) != self._forbidden:
            self.seen, self._matched = set(), {}
            self.removed = False
        self._forbidden = tuple(forbidden)
        self._doors = doors_as_called(self._forbidden)
        self._operators = operators_of(self._forbidden)
        self._tails = tails_of(self._forbidden)

    def read(self, source: str) -> None:
        """Tell, before a cell runs, whether it holds what makes a close look worth its time."""
        told = USUAL.sub("", source)
        self._closely = self._closely or any(text in told for text in CLOSE_LOOK)

    def watching(self, device: str, *, closely: bool = True) -> Look:
        """What to run a scenario within.

        Args:
            device: of the run; on the fake one operators are not PyTorch's own.
            closely: look at operators, too, as is done where a cell holds what deserves it.
        """
        modes: list[Any] = [self] if self._doors else []
        self._looks_at_operators = device != "fake" and (closely or self._closely)
        if modes and self._looks_at_operators:
            modes.append(OperatorWatch(self))
        return Look(self, modes)

    def is_alive(self) -> bool:
        """Whether calls are still seen: by function, and by operator where these were looked at."""
        if not self._forbidden:
            return True
        if self.removed:
            return False
        kept = self.seen, self._doors, self._operators, self._matched
        self.seen, self._matched = set(), {}
        self._doors, self._operators = {CANARY: "function"}, {"alias_copy": "operator"}
        sample = torch.zeros(1)
        probed: dict[str, Any] = {"function": self}
        if self._looks_at_operators:
            probed["operator"] = OperatorWatch(self)
        try:
            for watch in probed.values():
                with suppress(Exception), watch:
                    PROBE["probe"](torch.alias_copy, sample)
            return self.seen == probed.keys()
        finally:
            self.seen, self._doors, self._operators, self._matched = kept

    def note(self, name: str) -> None:
        """Record a call by its dotted name if it is forbidden and the student's."""
        self._note_match(match(name, self._doors))

    def _note_match(self, forbidden: str | None) -> None:
        if forbidden is None or forbidden in self.seen:
            return
        if self._callers.is_students(self._tails.get(forbidden, frozenset())):
            self.seen.add(forbidden)

    def note_undoing(self, name: str) -> bool:
        """Record that a student's line looks at or shuts off what looks on."""
        if self._forbidden:
            self.seen.add(name)
        # Of the worker's own objects the collector tells nothing; memory is beyond guarding.
        return bool(self._forbidden) if name.startswith(("gc.", "ctypes.")) else self._forbids

    def note_operator(self, name: str) -> None:
        """Record an operator that no function of PyTorch's that we saw has led to."""
        forbidden = self._operators.get(name)
        if forbidden and forbidden not in self.seen:
            tails = self._tails.get(forbidden, frozenset())
            if self._callers.is_students(tails, CallWatch.__torch_function__.__code__):
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
        # Copying and printing a tensor read its grad_fn, too.
        if forbidden and not (_name_of(func).startswith(GRAD_FN) and is_known(GET_FRAME(1).f_code)):
            self._note_match(forbidden)
        if _have_code(types, "__torch_function__", DEFAULTS[0]):
            return NotImplemented
        return func(*args, **(kwargs or {}))

    def report(self, names: Sequence[str]) -> None:
        """Make everything forbidden report its use, which PyTorch does not in every thread."""
        self._forbids = bool(names)
        listen(self)
        report_from_classes_and_autograd(names)
        report_from_threads()
        keep_modes_in_force()
        report_from_switches()
        gc.collect(0)
        gc.freeze()  # what is frozen is not told of by gc.get_objects
        gc.unfreeze = gc.freeze


class OperatorWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees operators that come from where functions are not seen, such as TorchScript."""

    def __init__(self, watch: CallWatch) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._watch = watch

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or every operator goes through a wrapper that nothing is compiled by

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self._watch.note_operator(func.overloadpacket.__name__)
        if _have_code(types, "__torch_dispatch__", DEFAULTS[1]):
            return NotImplemented
        return func(*args, **(kwargs or {}))


class Look:
    """Puts modes in force for a while, and tells whether they were when it was over."""

    def __init__(self, watch: CallWatch, modes: Sequence[Any]) -> None:
        self._watch = watch
        self._modes = modes

    def __enter__(self) -> None:
        for mode in self._modes:
            mode.__enter__()

    def __exit__(self, *_: object) -> None:
        for mode in reversed(self._modes):
            stack = FUNCTIONS if isinstance(mode, CallWatch) else OPERATORS
            if not stack.take_off(mode):
                self._watch.removed = True


def _have_code(types: Sequence[type], method: str, usual: tuple[Any, ...]) -> bool:
    """Whether a student's kind of tensor has a say: PyTorch then asks it, still under the watch."""
    for kind in types:
        found = getattr(kind, method, None)
        if getattr(found, "__func__", found) not in usual:
            return True
    return False


def _name_of(func: Any) -> str:
    """A function's dotted name, operators' as ``torch.ops.aten.…``, overloads left out."""
    name = str(resolve_name(func) or "")
    space, _, rest = name.partition(".")
    if name.startswith(BY_FROM_NUMPY):
        return "torch.from_numpy"
    if space in SPOKEN_OF_ANYWAY:
        return "torch._refs" if space == "prims" else f"torch.ops.aten.{rest.partition('.')[0]}"
    return name or f"{getattr(func, '__module__', '')}.{getattr(func, '__qualname__', '')}"
