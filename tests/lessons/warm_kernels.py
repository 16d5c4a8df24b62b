"""Jupyter kernels that start in a moment: forks of a process that has imported what they need."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

PROGRAM = Path(__file__).with_name("warm_process.py")
START_SECONDS = 300.0  # a loaded machine; the imports take about five

# `course` is not among them, so that every notebook finds it by itself; nor is matplotlib's inline
# backend, which sets itself up in the shell that imports it.
NEEDED = (
    "ipykernel.kernelapp",
    "debugpy",
    "numpy",
    "torch",
    "torch._dynamo",  # imported by the first optimizer
    "matplotlib.pyplot",
    "matplotlib.backends.backend_agg",
    "sklearn.datasets",
)
# Read by libraries while they are imported: threads started then would be missing in a fork.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class WarmProcess:
    """A running warm process; a context manager that ends it and all its kernels."""

    def __init__(self, modules: Sequence[str] = NEEDED) -> None:
        self._modules = modules

    def __enter__(self) -> WarmProcess:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(START_SECONDS)
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(theirs.fileno()), *self._modules],
            pass_fds=[theirs.fileno()],
            env=os.environ | ONE_THREAD,
            stdin=subprocess.PIPE,  # a pipe to which nobody writes, as jupyter_client gives kernels
            start_new_session=True,
        )
        theirs.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._control.close()
        try:
            self._process.communicate(timeout=5)
        except subprocess.TimeoutExpired:  # still importing
            self._process.kill()
            self._process.communicate()

    def kernel_manager(self) -> type[WarmKernelManager]:
        """Make what nbclient takes as `kernel_manager_class`."""
        return type("Manager", (WarmKernelManager,), {"warm": self})

    def fork(
        self, arguments: Sequence[str], folder: str, environment: Mapping[str, str]
    ) -> ForkedKernel:
        """Start a kernel with these arguments of `python -m ipykernel_launcher`."""
        request = dict(arguments=[*arguments], folder=folder, environment={**environment})
        self._control.send(json.dumps(request).encode())
        message, handles, _, _ = socket.recv_fds(self._control, 64, 1)
        if not message:
            raise RuntimeError("the warm process has ended; its error is printed above")
        return ForkedKernel(int(message), handles[0])


class ForkedKernel:
    """What jupyter_client asks of a Popen, for a process that is another one's child."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int, handle: int) -> None:
        self.pid = pid
        self._handle = handle
        self._ended = False

    def poll(self) -> int | None:
        """Tell whether it has ended: None or 0, for its own status is its parent's to know."""
        return self._look(seconds=0.0)

    def wait(self) -> int | None:
        return self._look(seconds=None)

    def _look(self, seconds: float | None) -> int | None:
        if not self._ended and select.select([self._handle], [], [], seconds)[0]:
            self._ended = True
            os.close(self._handle)
        return 0 if self._ended else None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class ForkingProvisioner(LocalProvisioner):
    """Forks the warm process where jupyter_client's own would start a program."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        if cmd[:3] != [sys.executable, "-m", "ipykernel_launcher"]:
            return await super().launch_kernel(cmd, **kwargs)  # a kernelspec of somebody's own
        manager: Any = self.parent
        self.cwd = kwargs["cwd"]
        self.process = manager.warm.fork(cmd[3:], self.cwd, kwargs["env"])
        self.pid = self.pgid = self.process.pid
        return self.connection_info


class WarmKernelManager(AsyncKernelManager):
    """nbclient's own manager, but for where kernels come from: a subclass has the process."""

    warm: WarmProcess

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernel_id = str(uuid.uuid4())
        self.provisioner = ForkingProvisioner(
            kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self
        )
