"""All layers in order, and the record of which are in force."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from autograder.engine.sandbox import landlock, namespaces, privileges, seccomp
from autograder.engine.sandbox.kernel import PR_SET_DUMPABLE, PR_SET_PDEATHSIG, prctl

REQUIRED = ("no_new_privs", "rlimits", "landlock", "seccomp")
SCRATCH_MEGABYTES = 64


@dataclass(frozen=True)
class Confinement:
    """What a worker may reach.

    Attributes:
        readable: files and folders that may be read.
        scratch: the worker's own folder, its only place to write.
        megabytes: memory beyond what the zygote maps.
        cpu_seconds: processor time of the whole worker.
        devices: device files for CUDA; empty on the CPU.
        without: names of required layers that the instructor has agreed to do without.
    """

    readable: tuple[Path, ...]
    scratch: Path
    megabytes: int
    cpu_seconds: int
    devices: tuple[Path, ...] = ()
    without: tuple[str, ...] = ()


@dataclass
class Record:
    """Which layers are in force, and why the others are not."""

    in_force: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


def enter(confinement: Confinement, keep: int) -> Record:
    """Confine this process for good, and say how.

    Args:
        confinement: what stays reachable.
        keep: the one file descriptor that stays open beside 0, 1 and 2, which are silenced.

    Returns:
        The record; the caller decides whether a missing layer is acceptable.
    """
    record = Record()
    _close_descriptors(keep)
    try:
        record.in_force.append(namespaces.mount_scratch(confinement.scratch, SCRATCH_MEGABYTES))
    except OSError as error:
        record.missing["private scratch"] = _reason(error)
    os.chdir(confinement.scratch)
    os.environ.clear()
    os.environ.update(HOME=str(confinement.scratch), TMPDIR=str(confinement.scratch))
    tempfile.tempdir = None  # chosen anew, in the scratch folder
    prctl(PR_SET_DUMPABLE, 0)
    sandbox: list[tuple[str, Callable[[], str]]] = [
        ("no_new_privs", privileges.forbid_new_privileges),
        ("capabilities", privileges.drop_capabilities),
        (
            "rlimits",
            lambda: privileges.limit_resources(
                confinement.megabytes, confinement.cpu_seconds, cuda=bool(confinement.devices)
            ),
        ),
        (
            "landlock",
            lambda: landlock.restrict(
                confinement.readable,
                (confinement.scratch, Path("/dev/null"), *confinement.devices),
            ),
        ),
        ("seccomp", lambda: seccomp.restrict(cuda=bool(confinement.devices))),
    ]
    # Without a process namespace, nothing else would end a worker whose zygote is gone.
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for name, put_in_force in sandbox:
        if name in confinement.without:
            record.missing[name] = "left out by the instructor"
            continue
        try:
            record.in_force.append(put_in_force())
        except (OSError, ValueError) as error:
            record.missing[name] = _reason(error)
    return record


def _reason(error: OSError | ValueError) -> str:
    told = error.strerror if isinstance(error, OSError) else None
    return told or str(error)


def _close_descriptors(keep: int) -> None:
    silence = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(silence, standard)
    os.closerange(3, keep)
    os.closerange(keep + 1, 65536)
