"""What a worker's own code goes by, out of reach of what a student puts in its place.

Functions look builtins up in their module's ``__builtins__``, as they were when they were defined.
"""

from __future__ import annotations

import builtins
import os
import pickle
import struct
from json.encoder import c_make_encoder, encode_basestring_ascii  # type: ignore[attr-defined]
from typing import Any

BUILTINS: dict[str, Any] = dict(vars(builtins))
LOADS, PACK, READ, WRITE = pickle.loads, struct.pack, os.read, os.write


def keep_builtins(module: dict[str, Any]) -> None:
    """Give the functions that a module is about to define builtins of their own.

    Args:
        module: its globals.
    """
    module["__builtins__"] = BUILTINS


def _refuse(value: Any) -> Any:
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


# In C from here on, and what json.dumps comes to; a header holds no floating-point numbers.
_encode: Any = c_make_encoder(
    None, _refuse, encode_basestring_ascii, None, ": ", ", ", False, False, False
)


def json_of(tree: Any) -> bytes:
    """A tree of lists, texts, whole numbers, booleans and None as JSON."""
    return "".join(_encode(tree, 0)).encode()
