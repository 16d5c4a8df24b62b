"""Doors that must be shut: tried from inside a confined worker before any student's code runs."""

from __future__ import annotations

import functools
import os
import signal
import socket
from collections.abc import Callable, Sequence


def open_doors(secrets: Sequence[str]) -> list[str]:
    """Try what a worker must not be able to do.

    Args:
        secrets: paths that exist and must not be readable.

    Returns:
        What succeeded although it should not have; empty in a sound sandbox.
    """
    doors: list[tuple[str, Callable[[], object]]] = [
        (f"reading {os.path.basename(path)}", functools.partial(_read, path))  # noqa: PTH119
        for path in secrets
    ]
    doors += [
        ("opening a socket", lambda: socket.socket().close()),
        ("starting a process", _start_process),
        ("running a program", lambda: os.execv("/bin/true", ["true"])),
        ("signalling the parent", lambda: os.kill(os.getppid(), signal.SIGCONT)),
        ("writing outside the scratch folder", _write_outside),
        ("changing a file's mode", lambda: os.chmod(".", 0o755)),  # noqa: PTH101
    ]
    return [what for what, attempt in doors if _succeeds(attempt)]


def _succeeds(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


def _read(path: str) -> None:
    if os.path.isdir(path):  # noqa: PTH112
        os.listdir(path)  # noqa: PTH208
    else:
        os.close(os.open(path, os.O_RDONLY))


def _write_outside() -> None:
    path = f"/tmp/forwardpass-probe-{os.getpid()}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
    os.unlink(path)  # noqa: PTH108


def _start_process() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
