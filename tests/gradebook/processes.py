"""A process and all that came of it, wherever their sessions and namespaces are."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """One process, told from a later one with its number by the time it started."""

    pid: int
    parent: int
    started: str
    command: str

    @property
    def runs(self) -> bool:
        found = _read(self.pid)
        return found is not None and found.started == self.started

    def kill(self) -> None:
        if self.runs:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def tree_of(pid: int) -> list[Process]:
    """The process and its descendants, parents first."""
    every = [found for entry in Path("/proc").glob("[0-9]*") if (found := _read(int(entry.name)))]
    tree = [process for process in every if process.pid == pid]
    for process in tree:  # grows meanwhile
        tree += [child for child in every if child.parent == process.pid]
    return tree


def survivors(tree: list[Process], seconds: float) -> list[Process]:
    """Those that still run after so many seconds; asked again and again until none does."""
    deadline = time.monotonic() + seconds
    while True:
        left = [process for process in tree if process.runs]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def _read(pid: int) -> Process | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    except OSError:
        return None
    state, parent, *rest = text.rpartition(")")[2].split()
    if state in "ZX":
        return None
    return Process(pid, int(parent), rest[17], command.decode(errors="replace")[:80])
