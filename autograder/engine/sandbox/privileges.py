"""What a worker may not gain, and what it loses: privileges, capabilities, resources."""

from __future__ import annotations

import ctypes
import resource

from autograder.engine.sandbox.kernel import (
    LIBC,
    PR_CAP_AMBIENT,
    PR_CAPBSET_DROP,
    PR_SET_NO_NEW_PRIVS,
    LayerUnavailable,
    checked,
    prctl,
)

LAST_CAPABILITY = 63
CAPABILITY_VERSION_3 = 0x20080522
AMBIENT_CLEAR_ALL = 4
MEBIBYTE = 1 << 20
THREADS = 256
CUDA_MEGABYTES = 4096  # on the host, for the context that the driver makes in every process
SIGNALS = 1024  # waiting, and timers, which the kernel counts with them for all of a user's


def forbid_new_privileges() -> str:
    """Set no_new_privs, which Landlock and seccomp need."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    return "no_new_privs"


def drop_capabilities() -> str:
    """Give up every capability: root in a worker is an ordinary user.

    Raises:
        LayerUnavailable: the kernel refuses.
    """
    for capability in range(LAST_CAPABILITY + 1):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except LayerUnavailable:  # unknown to this kernel, or already without CAP_SETPCAP
            continue
    prctl(PR_CAP_AMBIENT, AMBIENT_CLEAR_ALL)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    checked(LIBC.capset(ctypes.byref(header), ctypes.byref(nothing)), "capset")
    return "no capabilities"


def limit_resources(
    megabytes: int, cpu_seconds: int, disk_megabytes: int = 64, *, cuda: bool = False
) -> str:
    """Limit memory, processor time, files and core dumps.

    Args:
        megabytes: that may be allocated beyond what the process already maps.
        cpu_seconds: of processor time, a backstop behind the grader's wall clock.
        disk_megabytes: that one file may hold.
        cuda: whether CUDA will run here. Its driver reserves more addresses than the GPU has
            memory, so that what is limited is what can be written to.
    """
    whole, data = _mapped_bytes()
    kind, mapped = (resource.RLIMIT_DATA, data) if cuda else (resource.RLIMIT_AS, whole)
    megabytes += CUDA_MEGABYTES if cuda else 0
    limits = {
        kind: mapped + megabytes * MEBIBYTE,
        resource.RLIMIT_CPU: resource.getrusage(resource.RUSAGE_SELF).ru_utime.__ceil__()
        + cpu_seconds,
        resource.RLIMIT_FSIZE: disk_megabytes * MEBIBYTE,
        resource.RLIMIT_NOFILE: 128,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_SIGPENDING: SIGNALS,
    }
    if _counts_for_us_alone():
        limits[resource.RLIMIT_NPROC] = THREADS
    for kind, limit in limits.items():
        _, hard = resource.getrlimit(kind)
        bound = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (bound, bound))
    return f"rlimits ({megabytes} MiB)"


def _counts_for_us_alone() -> bool:
    """Whether the kernel counts our processes apart from the user's others: in a namespace."""
    with open("/proc/self/uid_map", encoding="ascii") as file:  # noqa: PTH123 - no pathlib here
        return file.read().split()[-1:] == ["1"]


def _mapped_bytes() -> tuple[int, int]:
    """What this process maps, and what of it is private and can be written to."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no pathlib here
        pages = [int(number) for number in file.read().split()]
    return pages[0] * resource.getpagesize(), pages[5] * resource.getpagesize()
