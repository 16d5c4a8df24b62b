"""How much a worker keeps in its scratch folder, where no file system of its own bounds it."""

from __future__ import annotations

import os
import stat
from pathlib import Path


class QuotaExceeded(RuntimeError):
    """A worker has written more than it may; it is to be ended."""


def check_quota(folder: Path, megabytes: int, files: int) -> None:
    """Count what is in a folder; stop at the first thing too many.

    Raises:
        QuotaExceeded: more than so many files or folders, or more than so many megabytes in them.
    """
    left, entries = megabytes << 20, 0
    waiting = [os.fspath(folder)]
    while waiting:
        try:
            found = os.scandir(waiting.pop())
        except OSError:  # gone meanwhile, or shut to us by its owner
            continue
        with found:
            for entry in found:
                entries += 1
                try:
                    state = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                left -= state.st_blocks * 512
                if stat.S_ISDIR(state.st_mode):
                    waiting.append(entry.path)
                if left < 0 or entries > files:
                    raise QuotaExceeded("wrote more files than it may")
