"""Whose turn it is on a GPU that several grader processes share.

A submission that takes all of the GPU's memory leaves none for those judged beside it. So where
one has run out, it is judged again by itself: what then still runs out has itself to thank.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autograder.engine.verdict import FAILED, Verdict

RAN_OUT = ("OutOfMemoryError", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


class Turns:
    """Locks between the grader processes of one user on one machine.

    Args:
        folder: where the lock files are; by default, one of the user's own.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir(), f"forwardpass-gpu-{os.getuid()}")
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if self._folder.is_symlink() or self._folder.stat().st_uid != os.getuid():
            raise PermissionError(f"{self._folder} is not ours: remove it")

    @contextmanager
    def together(self) -> Iterator[None]:
        """Judge while others may, too; wait while somebody is alone, or waits to be."""
        with self._held("gate", fcntl.LOCK_EX):
            others = self._locked("room", fcntl.LOCK_SH)
        try:
            yield
        finally:
            os.close(others)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Judge while nobody else does; not to be asked for by who is still together."""
        with self._held("gate", fcntl.LOCK_EX), self._held("room", fcntl.LOCK_EX):
            yield

    @contextmanager
    def _held(self, name: str, how: int) -> Iterator[None]:
        descriptor = self._locked(name, how)
        try:
            yield
        finally:
            os.close(descriptor)

    def _locked(self, name: str, how: int) -> int:
        descriptor = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, how)
        return descriptor


def ran_out(verdict: Verdict) -> bool:
    """Whether something in a verdict failed for want of the GPU's memory."""
    return any(
        test.outcome == FAILED and any(told in test.message for told in RAN_OUT)
        for exercise in verdict.exercises
        for test in exercise.tests
    )
