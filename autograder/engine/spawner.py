"""The grader's side of the zygote: start it, fork workers from it, talk to them, kill them."""

from __future__ import annotations

import contextlib
import json
import os
import site
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autograder.engine.hold import Worker
from autograder.engine.nursery import ROOT, ZYGOTE, ask_for_zygote, start_clean
from autograder.engine.sandbox import REQUIRED
from autograder.engine.sandbox.remains import remove
from autograder.engine.scratch import claim_scratch_root

START_SECONDS = 300.0
END_SECONDS = 5.0
CONFINE_SECONDS = 20.0
CUDA_DEVICES = (
    *sorted(str(path) for path in Path("/dev").glob("nvidia[0-9]*")),  # a job's may be any of them
    "/dev/nvidiactl",
    "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools",
)


class SandboxRefused(RuntimeError):
    """A required layer is missing, or a door is open: nothing is graded."""


class ZygoteEnded(SandboxRefused):
    """There is no zygote any more, whoever ended it: another one can grade."""

    def __init__(self) -> None:
        super().__init__("the zygote has ended")


@dataclass(frozen=True)
class Policy:
    """How workers are confined.

    Attributes:
        device: ``"cpu"`` or ``"cuda"``: opens the device files for CUDA.
        without: required layers that the instructor has agreed to do without.
        cpu_seconds: processor time of one worker, a backstop behind the wall clock.
        megabytes: that a submission's code may allocate; None where each exercise says.
    """

    device: str = "cpu"
    without: tuple[str, ...] = ()
    cpu_seconds: int = 600
    megabytes: int | None = None


@dataclass
class Zygote:
    """A running zygote; a context manager that ends it and all its workers.

    Attributes:
        policy: how workers are confined.
        nursery: the door of the one that forks it; it imports for itself where that is None or
            the nursery is gone.
        layers: in force.
        missing: what is not, and why.
    """

    policy: Policy = field(default_factory=Policy)
    nursery: int | None = None
    layers: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Zygote:
        self._scratch_root, self._lock = claim_scratch_root()
        try:
            ready = self._forked() or self._started()
            self._take_down(ready)
            self._probe()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _forked(self) -> bytes:
        """Have the zygote forked by the nursery; what it says then, or nothing without one."""
        if self.nursery is None:
            return b""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            asked = ask_for_zygote(self.nursery, theirs)
        ready = self._await_ready() if asked else b""
        if not ready:
            self._control.close()
        return ready

    def _started(self) -> bytes:
        """Start a zygote that imports for itself; what it says then."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = start_clean(ZYGOTE, theirs)
        ready = self._await_ready()
        if not ready:
            raise SandboxRefused("the zygote ended while starting; its error is printed above")
        return ready

    def _await_ready(self) -> bytes:
        self._control.settimeout(START_SECONDS)
        try:
            return self._control.recv(65536)
        except TimeoutError as error:
            raise SandboxRefused(
                f"the zygote did not start within {START_SECONDS:.0f} s"
            ) from error

    def _take_down(self, ready: bytes) -> None:
        namespaces = json.loads(ready)["namespaces"]
        if "in force" in namespaces:
            self.layers.append(namespaces["in force"])
        else:
            self.missing["namespaces"] = namespaces["missing"]

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # it has ended
            self._control.shutdown(socket.SHUT_WR)
            self._control.settimeout(END_SECONDS)
            while self._control.recv(65536):
                pass
        self._control.close()
        if self._process:
            try:
                self._process.wait(timeout=END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        remove(self._scratch_root)
        os.close(self._lock)

    def fork(self, *, megabytes: int, forbidden: Sequence[str] = ()) -> Worker:
        """Fork and confine a worker.

        Raises:
            SandboxRefused: a required layer cannot be put in force.
        """
        worker, confined = self._fork(megabytes, forbidden, secrets_to_try=())
        try:
            self._check(confined)
        except SandboxRefused:
            worker.end()
            raise
        return worker

    def _fork(
        self, megabytes: int, forbidden: Sequence[str], secrets_to_try: Sequence[str]
    ) -> tuple[Worker, dict[str, Any]]:
        own, theirs = socket.socketpair()
        try:
            socket.send_fds(self._control, [b'{"operation": "fork"}'], [theirs.fileno()])
            message, descriptors, _, _ = socket.recv_fds(self._control, 65536, 1)
        except OSError:
            message, descriptors = b"", []
        finally:
            theirs.close()
        if not message:
            own.close()
            raise ZygoteEnded
        scratch = Path(tempfile.mkdtemp(dir=self._scratch_root))
        worker = Worker(self, json.loads(message)["pid"], descriptors[0], own, scratch)
        confined = worker.ask(
            "confine",
            CONFINE_SECONDS,
            readable=[str(path) for path in readable_paths()],
            scratch=str(scratch),
            megabytes=self.policy.megabytes or megabytes,
            cpu_seconds=self.policy.cpu_seconds,
            devices=CUDA_DEVICES if self.policy.device == "cuda" else (),
            without=self.policy.without,
            secrets=list(secrets_to_try),
            forbidden=list(forbidden),
        )
        return worker, confined

    def _probe(self) -> None:
        """Confine a worker, try every door from inside, and record the layers."""
        doors = [str(ROOT / name) for name in ("solutions", "autograder/graders", "source")]
        doors += [str(Path.home()), "/etc/passwd", "/proc/self/environ"]
        existing = [path for path in doors if Path(path).exists()]
        worker, confined = self._fork(1024, (), existing)
        worker.end()
        self._check(confined)
        if confined["open doors"] and not self.policy.without:
            raise SandboxRefused(
                "a worker could get past the sandbox by " + ", ".join(confined["open doors"])
            )
        self.layers = [*confined["in force"], *self.layers]
        self.missing.update(confined["missing"])

    def _check(self, confined: dict[str, Any]) -> None:
        if confined.get("status") == "raised":
            raise SandboxRefused(f"confining a worker failed: {confined['error']}")
        lacking = {
            name: why
            for name, why in confined["missing"].items()
            if name in REQUIRED and name not in self.policy.without
        }
        if lacking:
            told = "; ".join(f"{name} ({why})" for name, why in lacking.items())
            raise SandboxRefused(
                f"required sandbox layers are missing: {told}. Grade on Linux 5.13 or newer with "
                "Landlock and seccomp; or, where you trust every submission, name the risk: "
                f"--without-layer {' --without-layer '.join(lacking)}"
            )

    def reap(self, pid: int) -> int:
        """Kill a worker and collect how it ended: an exit status, or minus a signal.

        Raises:
            ZygoteEnded: nobody can say.
        """
        try:
            self._control.send(json.dumps({"operation": "reap", "pid": pid}).encode())
            told = self._control.recv(65536)
        except OSError:
            told = b""
        if not told:
            raise ZygoteEnded
        return int(json.loads(told)["status"])


def readable_paths() -> list[Path]:
    """What every worker may read: Python, its packages, the system's libraries, `course/`."""
    python = sysconfig.get_paths()
    folders = {python[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders |= set(site.getsitepackages())
    folders.add(str(Path(sys.base_prefix) / "lib"))
    folders |= {"/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/fonts"}
    folders |= {"/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo", "/dev/urandom"}
    return [Path(folder) for folder in sorted(folders)] + [ROOT / "course"]
