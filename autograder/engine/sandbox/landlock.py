"""Landlock: which files a worker can reach. See landlock(7)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from autograder.engine.sandbox.kernel import LIBC, LayerUnavailable, syscall

# The same numbers on every architecture.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
CREATE_RULESET_VERSION = 1
RULE_PATH_BENEATH = 1

WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE, IOCTL_DEV = 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
FILE_RIGHTS = 1 | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
NEWEST_RIGHT_BY_ABI = {1: 12, 2: 13, 3: 14, 4: 14}  # from ABI 5 on: bit 15
SCOPE_ABSTRACT_SOCKETS, SCOPE_SIGNALS = 1 << 0, 1 << 1
CONNECT_AND_BIND_TCP = 3


class _RulesetAttr(ctypes.Structure):
    _fields_ = [
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    ]


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


def abi() -> int:
    """The kernel's Landlock version; 0 where there is none."""
    version = LIBC.syscall(
        ctypes.c_long(CREATE_RULESET), None, ctypes.c_size_t(0), CREATE_RULESET_VERSION
    )
    return max(0, int(version))


def restrict(readable: Iterable[Path], writable: Iterable[Path]) -> str:
    """Deny this thread and its children every file outside the given paths, for good.

    Args:
        readable: folders and files that may be read.
        writable: folders in which everything may be done but executing; device files.

    Returns:
        The layer as it is recorded, such as ``"landlock (ABI 7)"``.

    Raises:
        LayerUnavailable: the kernel has no Landlock, or refuses.
    """
    version = abi()
    if version < 1:
        raise LayerUnavailable(0, "this kernel has no Landlock")
    every_right = (1 << (NEWEST_RIGHT_BY_ABI.get(version, 15) + 1)) - 1
    attr = _RulesetAttr(
        every_right,
        CONNECT_AND_BIND_TCP if version >= 4 else 0,
        SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS if version >= 6 else 0,
    )
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = syscall(CREATE_RULESET, ctypes.byref(attr), ctypes.c_size_t(size), 0)
    try:
        for path in readable:
            _allow(ruleset, path, (READ_FILE | READ_DIR) & every_right)
        for path in writable:
            _allow(ruleset, path, every_right & ~1)
        syscall(RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return f"landlock (ABI {version})"


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not path.is_dir():
            rights &= FILE_RIGHTS
        attr = _PathBeneathAttr(rights, handle)
        syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, ctypes.byref(attr), 0)
    finally:
        os.close(handle)
