"""A student's cells, run in the worker, and their errors told in the student's own lines."""

from __future__ import annotations

import linecache
import sys
import traceback
import types
from typing import Any

from autograder.engine.steady import keep_builtins

keep_builtins(globals())

STUDENT_FILE = "<your cell"
MAX_MESSAGE = 600
MAX_FRAMES = 8


class Notebook:
    """The namespace in which one submission's cells run."""

    def __init__(self) -> None:
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        self.namespace: dict[str, Any] = module.__dict__
        self.namespace["display"] = lambda *_args, **_kwargs: None
        self.namespace["get_ipython"] = lambda: None

    def run(self, name: str, source: str) -> None:
        """Run one cell; whatever it raises is the caller's."""
        file = f"{STUDENT_FILE} {name}>"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        exec(compile(source, file, "exec", dont_inherit=True), self.namespace)


def describe(error: BaseException) -> dict[str, Any]:
    """An exception as the student may see it: its type, its message, the student's own frames."""
    frames: list[str] = []
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(STUDENT_FILE):
            where = frame.filename.removeprefix(STUDENT_FILE).strip(" >")
            line = linecache.getline(frame.filename, frame.lineno or 0).strip()
            frames.append(f"{where}, line {frame.lineno}, in {frame.name}: {line}"[:300])
    if isinstance(error, SyntaxError) and (error.filename or "").startswith(STUDENT_FILE):
        frames.append(f"line {error.lineno}: {(error.text or '').strip()}"[:300])
    try:
        message = str(error)[:MAX_MESSAGE]
    except Exception:
        message = "(its message could not be read)"
    return {"type": type(error).__name__[:100], "message": message, "frames": frames[-MAX_FRAMES:]}
