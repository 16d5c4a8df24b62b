"""A process that imports what notebooks need, once, and of which zygotes are forked.

Starting a zygote is mostly importing. Where several graders work at once, they have theirs forked
from one process that nobody has given anything to hide, each into namespaces of its own.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ZYGOTE, NURSERY = "be_zygote", "be_nursery"


class Nursery:
    """The nursery's starter. Zygotes that it has forked go on without it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._door: socket.socket | None = None
        self._starting = threading.Lock()

    def start(self) -> int:
        """Start it where it is not running.

        Returns:
            The descriptor of its door, for graders to have.
        """
        with self._starting:
            if self._process is None or self._door is None or self._process.poll() is not None:
                self.close()
                self._door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with theirs:
                    self._process = start_clean(NURSERY, theirs)
            return self._door.fileno()

    def close(self) -> None:
        """End it, whatever it is doing."""
        if self._door:
            self._door.close()
        if self._process:
            self._process.kill()
            self._process.wait()
        self._process = self._door = None


def ask_for_zygote(door: int, control: socket.socket) -> bool:
    """Have a zygote forked that serves on a socket.

    Args:
        door: of the nursery.
        control: the zygote's end.

    Returns:
        Whether there is anybody to do it.
    """
    with socket.socket(fileno=os.dup(door)) as asking:
        try:
            socket.send_fds(asking, [b"a zygote"], [control.fileno()])
        except OSError:
            return False
    return True


def start_clean(role: str, theirs: socket.socket) -> subprocess.Popen[bytes]:
    """Start ``autograder.engine.zygote`` in a process that has nothing of ours but this socket."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); "
        f"from autograder.engine.zygote import {role}; {role}(sys.argv[1], int(sys.argv[2]))"
    )
    return subprocess.Popen(
        [sys.executable, "-I", "-c", program, str(ROOT), str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env=_clean_environment(),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def _clean_environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {
        **kept,
        **one_thread,
        "HOME": str(Path.home()),
        "MPLBACKEND": "Agg",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        # Every fork copies the page table and every exit clears it: fewer, larger pages.
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    }
