"""Namespaces, where the host allows them: the zygote moves into its own, and workers with it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from autograder.engine.sandbox.kernel import (
    LIBC,
    PR_SET_PDEATHSIG,
    LayerUnavailable,
    checked,
    prctl,
)

NEW_USER, NEW_PID, NEW_NET, NEW_IPC, NEW_UTS, NEW_NS = (
    0x10000000,
    0x20000000,
    0x40000000,
    0x08000000,
    0x04000000,
    0x00020000,
)
NAMES = "user, pid, network, ipc, uts and mount namespaces"
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 1 << 14, 1 << 18
SCRATCH_FILES = 4096


def enter() -> str:
    """Move this process into namespaces of its own; the caller goes on as their first process.

    Must be called while the process has one thread. The process that called stays outside,
    waits, and ends as the one inside ends; only the one inside returns.

    Returns:
        The layer as it is recorded.

    Raises:
        LayerUnavailable: the host does not allow unprivileged user namespaces; the process is
            unchanged.
    """
    user, group = os.getuid(), os.getgid()
    checked(LIBC.unshare(NEW_USER | NEW_PID | NEW_NET | NEW_IPC | NEW_UTS | NEW_NS), "unshare")
    own = Path("/proc/self")
    try:
        (own / "setgroups").write_text("deny")
        (own / "uid_map").write_text(f"{user} {user} 1")
        (own / "gid_map").write_text(f"{group} {group} 1")
    except OSError as error:
        raise SystemExit(f"the zygote could not map its user: {error}") from error
    first = os.fork()
    if first:
        _, status = os.waitpid(first, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return NAMES


def enter_where_allowed() -> dict[str, str]:
    """`enter`, where the host allows it.

    Returns:
        The layer under "in force", or why not under "missing".
    """
    if not allowed():
        return {"missing": "this host does not allow unprivileged user namespaces"}
    try:
        return {"in force": enter()}
    except LayerUnavailable as error:
        return {"missing": str(error)}


def mount_scratch(folder: Path, megabytes: int) -> str:
    """Put a small file system of its own on a folder, for this process alone.

    It bounds what all files together may take, and whatever is in it is gone with the process.

    Returns:
        The layer as it is recorded.

    Raises:
        LayerUnavailable: this process may not mount; the folder is as it was.
    """
    checked(LIBC.unshare(NEW_NS), "a mount namespace")
    checked(LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "private mounts")
    options = f"size={megabytes}m,nr_inodes={SCRATCH_FILES},mode=0700".encode()
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    mounted = LIBC.mount(b"scratch", os.fsencode(folder), b"tmpfs", flags, options)
    checked(mounted, "a file system for the scratch folder")
    return f"private scratch ({megabytes} MiB)"


def allowed() -> bool:
    """Whether the host lets an unprivileged process make these namespaces; tried in a child."""
    user = os.getuid()
    child = os.fork()
    if child == 0:
        try:
            checked(LIBC.unshare(NEW_USER | NEW_PID | NEW_NET), "unshare")
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        except (LayerUnavailable, OSError):
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0
