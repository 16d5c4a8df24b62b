"""A JSON object in a file: written whole or not at all, read as nothing where it is damaged."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any

PART = ".part"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NotKept(RuntimeError):
    """A file cannot be written; the message says why, where, and what to do."""


def read_json(path: Path) -> dict[str, Any] | None:
    """The object; None where there is no file, or one that is damaged."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write the file; another process sees the old one or the new one.

    Raises:
        NotKept: the disk is full, or the folder may not be written.
    """
    # ASCII, so that a student's broken surrogates cannot stop the writing.
    text = json.dumps(data, indent=1) + "\n"
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=PART)
        temporary = Path(name)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise not_kept(path, error) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # some network file systems know no such thing
        _settle(path.parent)


def not_kept(path: Path, error: OSError) -> NotKept:
    """Why a file could not be written, for the one who has to see to it."""
    remedy = (
        "free some space there" if error.errno in FULL else "make it a place that you may write to"
    )
    return NotKept(f"{path} cannot be written ({error.strerror}): {remedy}, then grade again")


def _settle(folder: Path) -> None:
    """Have a folder's new entry survive a power cut, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
