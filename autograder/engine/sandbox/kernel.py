"""The few calls into libc and the kernel that the layers share."""

from __future__ import annotations

import ctypes
import os
import platform

LIBC = ctypes.CDLL(None, use_errno=True)
MACHINE = platform.machine()

PR_SET_NO_NEW_PRIVS = 38
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_CAP_AMBIENT = 47


class LayerUnavailable(OSError):
    """A sandbox layer cannot be put in force on this machine."""


def checked(result: int, what: str) -> int:
    """Pass a libc result on, or raise LayerUnavailable with errno's message."""
    if result < 0:
        number = ctypes.get_errno()
        raise LayerUnavailable(number, f"{what}: {os.strerror(number)}")
    return result


def prctl(option: int, *arguments: int) -> int:
    """Change something about this process, by Linux's call of that name."""
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return checked(
        LIBC.prctl(option, *(ctypes.c_ulong(a) for a in padded)), f"prctl option {option}"
    )


def syscall(number: int, *arguments: object) -> int:
    """Call a numbered system call for which libc has no wrapper."""
    return checked(LIBC.syscall(ctypes.c_long(number), *arguments), f"system call {number}")
