"""Whose call it was, told by the frames from inside out: the student's, a library's or ours.

What the grader sent is known by its globals, a library's by its code; everything else is the
student's.
"""

from __future__ import annotations

import io
import pickle
import sys
import threading
from types import CodeType, FrameType
from typing import Any

import torch

from autograder.engine.library import ENGINE_FOLDER, is_known
from autograder.engine.steady import keep_builtins
from autograder.vendored import cloudpickle

keep_builtins(globals())

MODULE_CALL = torch.nn.Module.__call__.__code__
# Of the scenarios that it makes anew, too.
keep_builtins(vars(cloudpickle))
# Bound before a student's code could put something else in its place.
GET_FRAME, MAIN_THREAD, THREAD = sys._getframe, threading.main_thread(), threading.current_thread


class Callers:
    """Tells calls apart in the process in which a student's code runs.

    Args:
        outermost: the globals of the code that runs all the rest.
    """

    def __init__(self, outermost: dict[str, Any]) -> None:
        self._outermost = outermost
        self._standing: list[dict[str, Any]] = []
        self._current: list[dict[str, Any]] = []

    def stand_in(self, pickled: bytes) -> Any:
        """Unpickle something of the grader's that stays."""
        return _Unpickler(pickled, self._standing).load()

    def scenario(self, pickled: bytes) -> Any:
        """Unpickle a scenario; it is the only one until the next."""
        self._current.clear()
        return _Unpickler(pickled, self._current).load()

    def is_students(self, tails: frozenset[str], seen: CodeType | None = None) -> bool:
        """Whether the call at hand, two frames up, is the student's.

        Args:
            tails: names by which code of ours would call the function itself.
            seen: a frame of this code means that the call was looked at further out.
        """
        entry: FrameType | None = None
        frame: FrameType | None = GET_FRAME(2)
        while frame is not None:
            code = frame.f_code
            if frame.f_globals is self._outermost or code is seen:
                return False
            if self._is_ours(frame):
                return self._was_slipped_in(frame, entry, tails)
            if not is_known(code):
                return True
            if not code.co_filename.startswith(ENGINE_FOLDER):
                entry = frame
            frame = frame.f_back
        # Nobody's: the engine at work, or a thread, which only a student can have started.
        return THREAD() is not MAIN_THREAD

    def _is_ours(self, frame: FrameType) -> bool:
        own = frame.f_globals
        return any(own is known for known in (*self._current, *self._standing))

    def _was_slipped_in(
        self, frame: FrameType | None, entry: FrameType | None, tails: frozenset[str]
    ) -> bool:
        """Whether code of ours made a call that it does not name: the answer is that function.

        Args:
            frame: the innermost of ours.
            entry: what it called, where that is a library's; a module may be anybody's.
            tails: as above.
        """
        if entry is not None and entry.f_code is MODULE_CALL:
            return False
        known = tails | {entry.f_code.co_name} if entry is not None else tails
        while frame is not None:
            if self._is_ours(frame):
                code = frame.f_code
                texts = [c for c in code.co_consts if isinstance(c, str)]
                if not known.isdisjoint((*code.co_names, *texts)):
                    return False
            frame = frame.f_back
        return True


class _Unpickler(pickle.Unpickler):
    """Remembers the globals of the functions that cloudpickle makes anew."""

    def __init__(self, pickled: bytes, made: list[dict[str, Any]]) -> None:
        super().__init__(io.BytesIO(pickled))
        self._made = made

    def find_class(self, module: str, name: str) -> Any:
        # Ours is out of sys.modules by then.
        own = module == cloudpickle.__name__
        found = getattr(cloudpickle, name) if own else super().find_class(module, name)
        if not own or name != "_make_function":
            return found

        def make(*parts: Any) -> Any:
            function = found(*parts)
            if not any(function.__globals__ is known for known in self._made):
                self._made.append(function.__globals__)
            return function

        return make
