"""Which code is a library's or the engine's own: told by the code itself, never by its file's name.

Anybody can compile code under any name. What had been imported before the first student's code
ran is known for good; of what is imported later, the file itself is read, which no student can
write.
"""

from __future__ import annotations

import gc
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType

import torch

from autograder.engine.steady import keep_builtins

keep_builtins(globals())

ENGINE_FOLDER = str(Path(__file__).parent)
LIBRARIES = (
    str(Path(torch.__file__).parent),
    str(Path(__file__).parents[2] / "course"),
    *{sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib")},
    "<frozen",
)
_known: dict[str, list[CodeType]] = {}
_identities: set[int] = set()


def take_stock() -> None:
    """Remember all code of libraries and of the engine that is loaded by now."""
    for found in gc.get_objects():
        if type(found) is FunctionType:
            code = found.__code__
            if code.co_filename.startswith((*LIBRARIES, ENGINE_FOLDER)):
                for part in _parts(code):
                    _identities.add(id(part))
                    _known.setdefault(part.co_filename, []).append(part)


def is_known(code: CodeType) -> bool:
    """Whether code is a library's or the engine's."""
    if id(code) in _identities:
        return True
    file = code.co_filename
    if not file.startswith((*LIBRARIES, ENGINE_FOLDER)):
        return False
    return code in _known[file] if file in _known else code in _read(file)


@lru_cache(maxsize=256)
def _read(file: str) -> frozenset[CodeType]:
    try:
        whole = SourceFileLoader("", file).get_code("")
    except (OSError, ImportError, SyntaxError):
        return frozenset()
    return frozenset(_parts(whole)) if whole else frozenset()


def _parts(code: CodeType) -> Iterator[CodeType]:
    if id(code) not in _identities:
        yield code
        for constant in code.co_consts:
            if type(constant) is CodeType:
                yield from _parts(constant)
