"""The folder under which every worker of one zygote gets its own, and what killed runs left."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

from autograder.engine.sandbox.remains import remove

PREFIX = "forwardpass-"
LOCK = ".alive"


def claim_scratch_root() -> tuple[Path, int]:
    """Make a folder that is ours as long as a lock is held, and remove those that nobody holds.

    A run that is killed cannot clean up after itself; the next one does.

    Returns:
        The folder, and the descriptor of its lock, to be closed when the folder is gone.
    """
    sweep(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    descriptor = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return folder, descriptor


def sweep(parent: Path) -> None:
    """Remove what killed runs left in a folder: what is called ours, and nobody holds."""
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            # No lock yet: somebody is just making it. Not ours: not opened.
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # in use
        else:
            if folder.stat().st_uid == os.getuid():
                remove(folder)
        finally:
            os.close(descriptor)
