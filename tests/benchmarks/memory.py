"""What a command and all that it starts hold in memory, while it runs."""

from __future__ import annotations

import threading
from pathlib import Path


class Watch:
    """Samples the proportional set size of a process and its descendants; shared pages count once.

    Args:
        pid: of the process at the top.
        seconds: between samples.

    Attributes:
        samples: MiB, in order.
    """

    def __init__(self, pid: int, seconds: float = 1.0) -> None:
        self._pid, self._seconds = pid, seconds
        self.samples: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def peak(self) -> float:
        return max(self.samples, default=0.0)

    def _run(self) -> None:
        while not self._over.wait(self._seconds):
            self.samples.append(sum(map(_held_by, _family(self._pid))) / 1024)


def _family(top: int) -> list[int]:
    found, waiting = [], [top]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                waiting += [int(child) for child in task.read_text().split()]
            except OSError:  # it ended meanwhile
                continue
    return found


def _held_by(pid: int) -> int:
    """KiB."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
