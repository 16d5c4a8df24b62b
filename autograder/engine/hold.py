"""The grader's hold on one worker: to ask it, by a deadline, and to kill it."""

from __future__ import annotations

import contextlib
import os
import pickle
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autograder.engine import channel, codec
from autograder.engine.sandbox.layers import SCRATCH_MEGABYTES
from autograder.engine.sandbox.namespaces import SCRATCH_FILES
from autograder.engine.sandbox.quota import QuotaExceeded, check_quota
from autograder.engine.sandbox.remains import remove

if TYPE_CHECKING:
    from autograder.engine.spawner import Zygote

SEND_SECONDS = 20.0
TOKEN_BYTES = 8
ANY_REPLY = codec.MAX_BYTES + codec.MAX_HEADER


class WorkerDied(RuntimeError):
    """A worker ended, was ended, or broke the protocol, while a request was open.

    Attributes:
        timed_out: whether it was killed for taking too long.
        killed: whether it may have been killed by somebody else, such as a host short of memory.
    """

    def __init__(self, message: str, *, timed_out: bool = False, killed: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out
        self.killed = killed


class Worker:
    """One confined process, asked one thing at a time, each by a deadline."""

    def __init__(
        self, zygote: Zygote, pid: int, handle: int, own_end: socket.socket, scratch: Path
    ) -> None:
        self._zygote = zygote
        self._pid = pid
        self._handle = handle
        self._socket = own_end
        self._socket.setblocking(False)
        self._scratch = scratch
        self.alive = True

    def ask(
        self, operation: str, seconds: float, *, reply_bytes: int = ANY_REPLY, **arguments: Any
    ) -> dict[str, Any]:
        """Send a request and decode the reply.

        Args:
            operation: one of the worker's.
            seconds: until when the reply must be here, whole.
            reply_bytes: how long it may be.
            arguments: of the operation.

        Raises:
            WorkerDied: no valid reply within the time; the worker is dead by then.
        """
        started = time.monotonic()
        token = self.send(operation, seconds, **arguments)
        return self.receive(token, seconds, reply_bytes, started)

    def send(self, operation: str, seconds: float, **arguments: Any) -> bytes:
        """Send a request to a worker that has answered all the others.

        Returns:
            The token that ``receive`` needs.

        Raises:
            WorkerDied: as ``ask`` does, whose arguments these are.
        """
        token, request = _request(operation, arguments)
        with self._ending_at_fault(seconds):
            channel.send(self._socket.fileno(), request, time.monotonic() + seconds)
        return token

    def send_ahead(self, room: int, operation: str, **arguments: Any) -> tuple[bytes, int] | None:
        """Send a request that the worker reads when it has answered those before it.

        Args:
            room: for how many bytes there is room among what it has not read yet; no more than
                ``room_ahead`` in all, so that sending waits for nobody: the worker may be waiting
                for its replies to be read.
            operation: as in ``ask``.
            arguments: as in ``ask``.

        Returns:
            The token and how many bytes were sent; None where it was not sent: it is too long, or
            the worker is gone, which the replies before it will show.
        """
        token, request = _request(operation, arguments)
        if len(request) > room:
            return None
        try:
            channel.send(self._socket.fileno(), request, time.monotonic() + SEND_SECONDS)
        except (channel.ChannelClosed, channel.DeadlineExceeded, OSError):
            return None
        return token, len(request)

    @property
    def room_ahead(self) -> int:
        """How much a worker need not have read for a request to be sent without waiting."""
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 4

    def receive(
        self, token: bytes, seconds: float, reply_bytes: int, started: float | None = None
    ) -> dict[str, Any]:
        """Decode the reply to the oldest request without one.

        Args:
            token: of that request.
            seconds: until when the reply must be here, whole.
            reply_bytes: how long it may be.
            started: from when on these count, on time.monotonic()'s clock; now where it is None.

        Raises:
            WorkerDied: as ``ask`` does.
        """
        deadline = seconds + (time.monotonic() if started is None else started)
        with self._ending_at_fault(seconds):
            reply = channel.receive(self._socket.fileno(), reply_bytes, deadline, self._look())
        if reply[:TOKEN_BYTES] != token:
            self.end()
            raise WorkerDied("answered something else than what it was asked")
        try:
            decoded = codec.decode(reply[TOKEN_BYTES:])
        except codec.ProtocolError as error:
            self.end()
            raise WorkerDied(f"returned something malformed: {error}") from None
        if not isinstance(decoded, dict):
            self.end()
            raise WorkerDied("returned something malformed")
        return decoded

    @contextlib.contextmanager
    def _ending_at_fault(self, seconds: float) -> Iterator[None]:
        """End the worker where the channel does not hold what it should, and say why."""
        try:
            yield
        except channel.DeadlineExceeded:
            self.end()
            raise WorkerDied(f"took longer than {seconds:g} s", timed_out=True) from None
        except QuotaExceeded as excess:
            self.end()
            raise WorkerDied(str(excess)) from None
        except channel.OversizedMessage:
            self.end()
            raise WorkerDied("returned more than may be sent") from None
        except (channel.ChannelClosed, OSError):
            status = self.end()
            raise WorkerDied(_how_it_ended(status), killed=status == -signal.SIGKILL) from None

    def _look(self) -> Callable[[], None] | None:
        """What to look at while waiting: the folder, where no file system of its own bounds it."""
        if any(layer.startswith("private scratch") for layer in self._zygote.layers):
            return None
        return lambda: check_quota(self._scratch, SCRATCH_MEGABYTES, SCRATCH_FILES)

    def end(self) -> int:
        """Kill the process, whatever it is doing, and remove its folder.

        Returns:
            How it ended: an exit status, or minus a signal.
        """
        if not self.alive:
            return 0
        self.alive = False
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        try:
            return self._zygote.reap(self._pid)
        finally:
            os.close(self._handle)
            self._socket.close()
            remove(self._scratch)


def _request(operation: str, arguments: dict[str, Any]) -> tuple[bytes, bytes]:
    """The token that its reply must begin with, and a request."""
    token = secrets.token_bytes(TOKEN_BYTES)
    return token, pickle.dumps({"operation": operation, "token": token, **arguments})


def _how_it_ended(status: int) -> str:
    if status == 0 or status == -signal.SIGKILL:
        return "ended the Python process"
    if status < 0:
        return f"crashed the Python process ({signal.Signals(-status).name})"
    return f"ended the Python process with status {status}"
