"""The warm process: imports modules once, then forks a child for every Jupyter kernel asked for.

A program, asked over a sequenced-packet socket for one kernel a message: the arguments of
`python -m ipykernel_launcher`, the folder and the environment. It answers with the kernel's pid
and a pidfd. Once the socket closes, it ends all kernels and itself.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MAX_MESSAGE = 1 << 20


def main(descriptor: int, modules: Sequence[str]) -> None:
    """Serve until the socket closes; in a fork, run a kernel.

    Args:
        descriptor: this process's end of the socket.
        modules: to import before the first fork, where they are installed.
    """
    # Runs after all other exit functions, in place of taking the interpreter down, which takes half a
    # second in a kernel and has native modules complain of what is frozen.
    atexit.register(os._exit, 0)
    control = socket.socket(fileno=descriptor)
    set_by_modules = import_once(modules)
    request = serve(control)
    become_kernel(request["arguments"], request["folder"], set_by_modules | request["environment"])


def import_once(modules: Sequence[str]) -> dict[str, str]:
    """Import as a kernel would, and keep one thread: a fork has no other.

    Returns:
        Environment variables that modules have set.
    """
    if not sys.flags.safe_path:
        del sys.path[0]  # the folder of this file, where a kernel does not look for modules
    # Read while importing; a kernel's own start-up sets the latter before a cell imports pyplot.
    os.environ["JPY_PARENT_PID"] = str(os.getpid())
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    given = {*os.environ}
    for module in modules:
        with contextlib.suppress(ModuleNotFoundError):  # left for a notebook to find missing
            importlib.import_module(module)
    threads = len([*Path("/proc/self/task").iterdir()])
    if threads > 1:
        sys.exit(f"importing {', '.join(modules)} has started {threads - 1} threads")
    gc.collect()
    gc.freeze()  # or each kernel's collector would copy every page that holds an object
    return {name: value for name, value in os.environ.items() if name not in given}


def serve(control: socket.socket) -> dict[str, Any]:
    """Fork for every message.

    Returns:
        The message, in the fork; it never returns in the warm process.
    """
    kernels: set[int] = set()
    while message := control.recv(MAX_MESSAGE):
        while kernels and (ended := os.waitpid(-1, os.WNOHANG)[0]):
            kernels.remove(ended)
        kernel = os.fork()
        if kernel == 0:
            control.close()
            request: dict[str, Any] = json.loads(message)
            return request
        kernels.add(kernel)
        handle = os.pidfd_open(kernel)
        socket.send_fds(control, [str(kernel).encode()], [handle])
        os.close(handle)
    for kernel in kernels:
        os.kill(kernel, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):  # it had no group of its own yet
            os.killpg(kernel, signal.SIGKILL)
    os._exit(0)


def become_kernel(arguments: Sequence[str], folder: str, environment: dict[str, str]) -> None:
    """Do what `python -m ipykernel_launcher` does."""
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment, JPY_PARENT_PID=str(os.getppid()))
    draw_new_seeds()
    sys.argv[1:] = arguments
    runpy.run_module("ipykernel_launcher", run_name="__main__", alter_sys=True)


def draw_new_seeds() -> None:
    """Leave global generators as a new process has them: no two alike. Python's own is already."""
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:
        sys.modules["torch"].default_generator.seed()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
