"""The zygote: imports what notebooks need once, then forks a worker whenever it is asked.

It never loads solutions, graders or secrets, never touches CUDA and keeps one thread. It is
asked over a sequenced-packet socket, one JSON object a message; "fork" comes with the worker's
end of a channel and is answered with the worker's pid and a pidfd, "reap" with how it ended.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAX_MESSAGE = 65536


def be_zygote(root: str, descriptor: int) -> None:
    """Serve until the control socket closes.

    Args:
        root: the checkout's folder; off the import path again before the first worker.
        descriptor: the zygote's end of the control socket.
    """
    from autograder.engine.sandbox.namespaces import enter_where_allowed

    _end_with_the_starter()
    # Before it imports: what two processes share is copied page by page, and lies in small pages.
    namespaces = enter_where_allowed()
    _serve(descriptor, _grown_up(root), namespaces)


def be_nursery(root: str, descriptor: int) -> None:
    """Fork a zygote for each control socket that comes through the door, until that closes.

    Args:
        root: as in `be_zygote`.
        descriptor: the nursery's end of its door.
    """
    _end_with_the_starter()
    door = socket.socket(fileno=descriptor)
    grown_up = _grown_up(root)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # how a zygote ended is not asked for here
    while True:
        message, descriptors, _, _ = socket.recv_fds(door, MAX_MESSAGE, 1)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            door.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _serve(descriptors[0], grown_up, grown_up.namespaces())
        os.close(descriptors[0])


@dataclass(frozen=True)
class _GrownUp:
    """What a zygote does; it has forgotten where from."""

    namespaces: Callable[[], dict[str, str]]
    worker: Callable[[int], None]


def _grown_up(root: str) -> _GrownUp:
    """Import all that is needed; our own modules are not found by anybody afterwards."""
    _import_once()
    _take_stock()
    grown_up = _forget_own_modules()
    sys.path[:] = [entry for entry in sys.path if entry not in ("", root)]
    sys.path_importer_cache.clear()
    gc.collect()
    gc.freeze()
    return grown_up


def _serve(descriptor: int, grown_up: _GrownUp, namespaces: dict[str, str]) -> None:
    control = socket.socket(fileno=descriptor)
    control.send(json.dumps({"ready": True, "namespaces": namespaces}).encode())
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, MAX_MESSAGE, 1)
        if not message:
            os._exit(0)
        request = json.loads(message)
        if request["operation"] == "fork":
            _fork(control, descriptors[0], grown_up.worker)
        else:
            control.send(json.dumps(_reap(request["pid"])).encode())


def _end_with_the_starter() -> None:
    """Not to go on importing for a grader that was killed: the socket says so only later."""
    from autograder.engine.sandbox.kernel import PR_SET_PDEATHSIG, prctl

    starter = os.getppid()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != starter:
        os._exit(1)


NEEDED = (
    "numpy",
    "course",
    "course.data",
    "autograder.engine.worker",
    "autograder.vendored.cloudpickle",
)
# Where it only grades, a machine may lack these; a student's own cell that needs one then says so.
WELCOME = (
    "matplotlib.backends.backend_agg",
    "matplotlib.pyplot",
    "course.plots",
    "sklearn.datasets",
)


def _import_once() -> None:
    """Import what notebooks need, and use once what loads more at its first use."""
    import torch
    import torch.overrides

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    torch.overrides.resolve_name(torch.add)  # fills a table that takes long to build
    for module in NEEDED:
        importlib.import_module(module)
    for module in WELCOME:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(module)

    from autograder.engine.trial import run_trial

    inputs = {"x": torch.ones(2, dtype=torch.float64)}
    for device in ("cpu", "fake"):
        run_trial(_warm_up, torch.relu, inputs, device=device, seed=0)


def _take_stock() -> None:
    from autograder.engine.library import take_stock

    take_stock()


def _warm_up(implementation: Any, x: Any) -> Any:
    import torch

    x.requires_grad_()
    return torch.autograd.grad(implementation(x).sum(), [x])


def _forget_own_modules() -> _GrownUp:
    """Take our own modules from where anybody finds them: what has no name is not easily changed.

    Here, once: in a worker, looking through all modules copies every page that a name is on.

    Returns:
        What is still needed of them.
    """
    from autograder.engine.sandbox.namespaces import enter_where_allowed
    from autograder.engine.worker import serve

    for name in [name for name in sys.modules if name.partition(".")[0] == "autograder"]:
        del sys.modules[name]
    return _GrownUp(enter_where_allowed, serve)


def _fork(control: socket.socket, channel: int, serve: Callable[[int], None]) -> None:
    child = os.fork()
    if child == 0:
        control.close()
        status = 1
        try:
            serve(channel)
        except EOFError:
            status = 0
        finally:
            os._exit(status)
    os.close(channel)
    handle = os.pidfd_open(child)
    socket.send_fds(control, [json.dumps({"pid": child}).encode()], [handle])
    os.close(handle)


def _reap(pid: int) -> dict[str, int]:
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return {"status": os.waitstatus_to_exitcode(status)}
