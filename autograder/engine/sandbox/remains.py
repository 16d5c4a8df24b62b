"""What a worker leaves in its folder, removed however it has been nested or locked."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def remove(folder: Path) -> None:
    """Remove a folder and all that is in it, as far as its owner can; never raises.

    Without recursion, because folders may be nested deeper than Python can recurse and than a path
    can be long; and through folders that their maker has shut, because they are still ours.
    """
    with contextlib.suppress(OSError):
        parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _empty(folder.name, parent)
        finally:
            os.close(parent)


def _empty(name: str, parent: int) -> None:
    """Move what is nested up to the top, a level at a time, until there is nothing."""
    top = _enter(name, parent)
    try:
        for number in range(1 << 20):
            folders = _unlink_files(top)
            if not folders:
                break
            for inner in folders:
                _lift(inner, top, number)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _lift(inner: str, top: int, number: int) -> None:
    handle = _enter(inner, top)
    try:
        for position, name in enumerate(_unlink_files(handle)):
            with contextlib.suppress(OSError):
                os.chmod(
                    name, 0o700, dir_fd=handle
                )  # moving a folder writes its "..": it must be open
            lifted = f".{number}.{position}.{inner[-40:]}"
            os.rename(name, lifted, src_dir_fd=handle, dst_dir_fd=top)
    finally:
        os.close(handle)
    os.rmdir(inner, dir_fd=top)


def _unlink_files(handle: int) -> list[str]:
    """Remove what is not a folder; the folders' names."""
    folders = []
    with os.scandir(handle) as found:
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=handle)
    return folders


def _enter(name: str, parent: int) -> int:
    with contextlib.suppress(OSError):
        os.chmod(name, 0o700, dir_fd=parent)
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
