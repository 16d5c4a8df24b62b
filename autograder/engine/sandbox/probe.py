"""Doors that must be shut: tried from inside a confined worker before any student's code runs."""

from __future__ import annotations

import ctypes
import fcntl
import functools
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence

from autograder.engine.sandbox import namespaces
from autograder.engine.sandbox.kernel import (
    LIBC,
    MACHINE,
    PR_SET_DUMPABLE,
    PR_SET_PDEATHSIG,
    checked,
    prctl,
)
from autograder.engine.sandbox.seccomp import DENIED

Door = tuple[str, Callable[[], object]]
PTRACE_ATTACH = 16
FAMILIES = ("AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG")
PRIVATE = ("/proc/1/environ", "/proc/self/mem", "/dev/mem", "/dev/kmsg", "/dev/shm", "/sys")


def open_doors(secrets: Sequence[str]) -> list[str]:
    """Try what a worker must not be able to do.

    Args:
        secrets: paths that exist and must not be readable.

    Returns:
        What succeeded although it should not have; empty in a sound sandbox.
    """
    doors = (*_files(secrets), *_network(), *_processes(), *_kernel())
    return [what for what, attempt in doors if _succeeds(attempt)]


def _succeeds(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


def _files(secrets: Sequence[str]) -> Iterator[Door]:
    for path in secrets:
        yield f"reading {os.path.basename(path)}", functools.partial(_read, path)  # noqa: PTH119
    for path in (*PRIVATE, f"/proc/{os.getppid()}/maps"):
        yield f"reading {path}", functools.partial(_read, path)
    yield "writing outside the scratch folder", _write_outside
    yield "changing a file's mode", lambda: os.chmod(".", 0o755)  # noqa: PTH101
    yield "memory outside the limits", lambda: os.close(os.memfd_create("it"))


def _network() -> Iterator[Door]:
    for name in FAMILIES:
        family = getattr(socket, name, None)
        if family is not None:
            yield f"opening a socket ({name})", functools.partial(_socket, family)
    yield "opening a pair of sockets", _pair


def _processes() -> Iterator[Door]:
    parent = os.getppid()
    yield "starting a process", _start_process
    yield "running a program", lambda: os.execv("/bin/true", ["true"])
    for name, process in (("the parent", parent), ("the first process", 1), ("its group", 0)):
        yield f"signalling {name}", functools.partial(os.kill, process, signal.SIGCONT)
    yield "signalling everything", lambda: os.kill(-1, signal.SIGCONT)
    yield "signalling by way of a pipe", functools.partial(_own_a_pipe, parent)
    yield "tracing the parent", lambda: checked(LIBC.ptrace(PTRACE_ATTACH, parent, 0, 0), "ptrace")
    yield "holding the parent", lambda: os.close(os.pidfd_open(parent))
    yield "changing priorities", lambda: os.setpriority(os.PRIO_PROCESS, 0, 1)
    yield "a session of its own", os.setsid
    yield "outliving the zygote", lambda: prctl(PR_SET_PDEATHSIG, 0)
    yield "dumping its memory", lambda: prctl(PR_SET_DUMPABLE, 1)


def _kernel() -> Iterator[Door]:
    new = namespaces.NEW_USER | namespaces.NEW_NS
    yield "new namespaces", lambda: checked(LIBC.unshare(new), "unshare")
    yield "mounting", lambda: checked(LIBC.mount(b"it", b".", b"tmpfs", 0, None), "mount")
    yield "changing the root", lambda: os.chroot(".")
    yield "becoming another user", lambda: os.setuid(os.getuid())
    yield "debugging the kernel", lambda: checked(_call("bpf", 0, 0, 0), "bpf")


def _call(name: str, *arguments: int) -> int:
    number = DENIED[name][0 if MACHINE == "x86_64" else 1]
    return int(LIBC.syscall(ctypes.c_long(number or -1), *arguments))


def _read(path: str) -> None:
    if os.path.isdir(path):  # noqa: PTH112
        os.listdir(path)  # noqa: PTH208
    else:
        os.close(os.open(path, os.O_RDONLY))


def _write_outside() -> None:
    path = f"/tmp/forwardpass-probe-{os.getpid()}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
    os.unlink(path)  # noqa: PTH108


def _socket(family: int) -> None:
    socket.socket(family, socket.SOCK_STREAM).close()


def _pair() -> None:
    for end in socket.socketpair():
        end.close()


def _start_process() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _own_a_pipe(process: int) -> None:
    ends = os.pipe()
    try:
        fcntl.fcntl(ends[0], fcntl.F_SETOWN, process)
    finally:
        for end in ends:
            os.close(end)
