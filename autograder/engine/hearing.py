"""What is told inside a worker by way of Python's audit hooks, which nobody can take off or find.

What is put into PyTorch to report its use so holds nothing by which its listener could be reached,
and Python itself tells who looks at frames and into memory, whatever name it is called by.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any, Protocol

from autograder.engine.library import ENGINE_FOLDER, is_known
from autograder.engine.steady import keep_builtins

keep_builtins(globals())

# Bound before a student's code could put something else in its place.
SAY, GET_FRAME = sys.audit, sys._getframe
CALLED, UNDONE, STARTED = "forwardpass.called", "forwardpass.undone", "forwardpass.started"
OURS = frozenset({CALLED, UNDONE, STARTED})
# What leads to the worker's frames and objects, by the event that Python tells of it.
LOOKED_AT = "object.__getattr__"
EVENTS = OURS | frozenset({
    "ctypes.addressof", "ctypes.call_function", "ctypes.cdata", "ctypes.cdata/buffer",
    "ctypes.create_string_buffer", "ctypes.create_unicode_buffer", "ctypes.dlopen", "ctypes.dlsym",
    "ctypes.dlsym/handle", "ctypes.string_at", "ctypes.wstring_at", "gc.get_objects",
    "gc.get_referents", "gc.get_referrers", "sys._current_frames", "sys._getframe",
    "sys.setprofile", "sys.settrace", LOOKED_AT,
})  # fmt: skip
ATTRIBUTES = frozenset({"ag_frame", "cr_frame", "gi_frame", "tb_frame"})
# Functions of the standard library's, and files, that do it for others.
ASKS_FOR_OTHERS = frozenset({
    "currentframe", "getinnerframes", "getouterframes", "stack", "trace", "walk_stack", "walk_tb",
})  # fmt: skip
GO_BETWEENS = ("/ctypes/__init__.py", "/ctypes/util.py", "/contextlib.py", "/torch/overrides.py",
               "/torch/utils/_python_dispatch.py")  # fmt: skip


class Listener(Protocol):
    """Who is told."""

    def note(self, name: str) -> None:
        """A function that may be forbidden is called."""

    def note_undoing(self, name: str) -> bool:
        """A student's line looks at or shuts off what looks on; whether it is to be refused."""

    def watching(self, device: str) -> AbstractContextManager[Any]:
        """What a new thread is to run within."""


def listen(to: Listener) -> None:
    """Tell a listener, for as long as this process lives, of all that is said and done in it."""
    busy: list[None] = []

    def told_by_us(event: str, given: tuple[Any, ...]) -> None:
        own = GET_FRAME(2)  # a student can say the same
        code = own.f_code
        if not (is_known(code) and code.co_filename.startswith(ENGINE_FOLDER)):
            return
        if event == CALLED:
            to.note(given[0])
        elif event == STARTED:
            given[0].append(to.watching("cpu"))
        elif own.f_back is not None and asks_itself(own.f_back):
            to.note_undoing(given[0])

    def told_by_python(name: str) -> None:
        if asks_itself(GET_FRAME(2)) and to.note_undoing(name):
            raise PermissionError(f"{name} is not to be had while this is graded")

    def heard(event: str, given: tuple[Any, ...]) -> None:
        if event not in EVENTS or busy:  # hundreds a run: this comes first
            return
        if event == LOOKED_AT and given[1] not in ATTRIBUTES:
            return
        busy.append(None)
        try:
            if event in OURS:
                told_by_us(event, given)
            else:
                told_by_python(given[1] if event == LOOKED_AT else event)
        finally:
            busy.clear()

    sys.addaudithook(heard)


def asks_itself(asking: FrameType) -> bool:
    """Whether a line of the student's asks, be it by way of what asks for others."""
    frame: FrameType | None = asking
    while frame is not None:
        code = frame.f_code  # Python tells of every look at it: once is enough
        if not is_known(code):
            return True
        if code.co_name not in ASKS_FOR_OTHERS and not code.co_filename.endswith(GO_BETWEENS):
            return False
        frame = frame.f_back
    return False
