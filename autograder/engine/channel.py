"""Messages over a stream socket: a length, then so many bytes, by a deadline."""

from __future__ import annotations

import select
import struct
import time
from collections.abc import Callable

from autograder.engine.steady import READ, WRITE, keep_builtins

keep_builtins(globals())

LENGTH = struct.Struct(">Q")
LOOK_SECONDS = 0.1


class ChannelClosed(EOFError):
    """The other end is gone."""


class DeadlineExceeded(TimeoutError):
    """Nothing came in time."""


class OversizedMessage(ValueError):
    """The other end announced more than may be sent."""


def send(descriptor: int, payload: bytes, deadline: float | None = None) -> None:
    """Write one message.

    Args:
        descriptor: a socket; plain writes, because a worker may not use socket calls.
        payload: the message.
        deadline: on time.monotonic()'s clock; None waits for ever.

    Raises:
        ChannelClosed: the other end is gone.
        DeadlineExceeded: the other end did not read in time.
    """
    view = memoryview(LENGTH.pack(len(payload)) + payload)
    while view:
        _wait(descriptor, select.POLLOUT, deadline)
        try:
            view = view[WRITE(descriptor, view[:65536]) :]
        except BlockingIOError:
            continue
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ChannelClosed from error


def receive(
    descriptor: int,
    limit: int,
    deadline: float | None = None,
    look: Callable[[], None] | None = None,
) -> bytearray:
    """Read one message of at most ``limit`` bytes.

    Args:
        descriptor: a socket.
        limit: more than this is not even begun.
        deadline: on time.monotonic()'s clock; None waits for ever.
        look: called now and then while nothing comes; what it raises is passed on.

    Raises:
        ChannelClosed: the other end is gone, perhaps in the middle of a message.
        DeadlineExceeded: the message was not complete in time.
        OversizedMessage: it announces more than the limit.
    """
    (size,) = LENGTH.unpack(_exactly(descriptor, LENGTH.size, deadline, look))
    if size > limit:
        raise OversizedMessage(f"{size} bytes announced; at most {limit} are read")
    return _exactly(descriptor, size, deadline, look)


def _exactly(
    descriptor: int, count: int, deadline: float | None, look: Callable[[], None] | None
) -> bytearray:
    read = bytearray()
    while len(read) < count:
        _wait(descriptor, select.POLLIN, deadline, look)
        try:
            chunk = READ(descriptor, min(count - len(read), 1 << 20))
        except BlockingIOError:
            continue
        except ConnectionResetError as error:
            raise ChannelClosed from error
        if not chunk:
            raise ChannelClosed
        read += chunk
    return read


def _wait(
    descriptor: int,
    event: int,
    deadline: float | None,
    look: Callable[[], None] | None = None,
) -> None:
    if deadline is None:
        return
    poller = select.poll()
    poller.register(descriptor, event)
    while (left := deadline - time.monotonic()) > 0:
        if poller.poll((min(left, LOOK_SECONDS) if look else left) * 1000):
            return
        if look:
            look()
    raise DeadlineExceeded
