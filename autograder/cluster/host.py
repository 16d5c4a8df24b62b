"""What runs inside a Dask worker: it keeps warm desks, and hands them notebooks.

A desk is a process of the code that home shipped; Dask's own process loads none of it. Dask
pickles this module by value, so it imports nothing but what every worker has.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from distributed import get_worker


@dataclass(frozen=True, repr=False)  # Dask logs what fails: no grader, no student
class Order:
    """What every batch of a run needs.

    Attributes:
        run: which run of home's it is.
        program: that unpacks the archive and grades in it.
        options: of that program.
        archive: code, lessons, graders and references.
        versions: that home judges by.
    """

    run: str
    program: str
    options: tuple[str, ...]
    archive: bytes
    versions: dict[str, str]


@dataclass(repr=False)
class Batch:
    """Notebooks of one lesson, each as the line that asks a desk for its verdict."""

    requests: list[dict[str, Any]]


@dataclass(repr=False)
class Report:
    """What became of a batch.

    Attributes:
        host: the worker's machine.
        replies: the desk's, one a notebook; None where the desk ended over it.
        differing: versions that are not home's, and what they are here; then nothing was graded.
    """

    host: str
    replies: list[dict[str, Any] | None] = field(default_factory=list)
    differing: dict[str, str] = field(default_factory=dict)


class Desk:
    """A process that unpacks what was shipped, grades by it, and ends when its pipe closes."""

    def __init__(self, order: Order) -> None:
        with os.fdopen(os.memfd_create("forwardpass"), "wb") as program:
            program.write(order.program.encode())
            program.flush()
            path = f"/proc/self/fd/{program.fileno()}"
            self.process = subprocess.Popen(
                [sys.executable, "-P", path, str(len(order.archive)), *order.options],
                pass_fds=[program.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd="/",
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # so that an interrupt of the worker leaves it be
            )
        assert self.process.stdin
        with contextlib.suppress(OSError):  # it has ended: that is told when it is asked
            self.process.stdin.write(order.archive)
            self.process.stdin.flush()

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """The reply; None where the process has ended."""
        assert self.process.stdin
        assert self.process.stdout
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except (OSError, ValueError):  # closed, maybe by another thread
            line = b""
        return json.loads(line) if line else None

    def end(self) -> None:
        """End it, whatever it is doing; all that came of it ends with it."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()


class Desks:
    """One run's desks on this worker: as many as it grades notebooks at once."""

    def __init__(self) -> None:
        self._desks: list[Desk] = []
        self._free: list[Desk] = []
        self._lock = threading.Lock()
        self._ended = False

    def take(self, order: Order) -> Desk | None:
        """A desk that is free, or a new one; None where the run is over."""
        with self._lock:
            if self._ended:
                return None
            while self._free:
                desk = self._free.pop()
                if desk.runs:
                    return desk
            self._desks = [*(desk for desk in self._desks if desk.runs), Desk(order)]
            return self._desks[-1]

    def give_back(self, desk: Desk) -> None:
        with self._lock:
            self._free.append(desk)

    def end(self) -> None:
        with self._lock:
            self._ended = True
            for desk in self._desks:
                desk.end()


def grade(order: Order, batch: Batch) -> Report:
    """Grade a batch at a desk of this worker's that is free, or at a new one."""
    report = Report(socket.gethostname(), differing=differing(order.versions))
    if report.differing:
        return report
    desks = _runs(get_worker()).setdefault(order.run, Desks())
    for request in batch.requests:
        desk = desks.take(order)
        report.replies.append(desk.ask(request) if desk else None)
        if desk:
            desks.give_back(desk)
    return report


def end(run: str, dask_worker: Any) -> None:
    """End a run's desks, so that nothing of what was shipped is left."""
    # Also where there are none yet: a batch may have come that has not begun.
    _runs(dask_worker).setdefault(run, Desks()).end()


def differing(versions: dict[str, str]) -> dict[str, str]:
    """What is of another version here than at home, and of which; empty where it is missing."""
    here = {name: version_of(name) for name in versions}
    return {name: found for name, found in here.items() if found != versions[name]}


def version_of(name: str) -> str:
    """The version that judges: of Python without its patch, of a package without its build."""
    if name == "Python":
        return ".".join(platform.python_version_tuple()[:2])
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return ""


def _runs(worker: Any) -> dict[str, Desks]:
    # Every batch brings this module anew: what lasts is the worker's.
    runs: dict[str, Desks] = worker.__dict__.setdefault("forwardpass_runs", {})
    return runs
