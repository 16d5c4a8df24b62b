"""What a run's grader processes need compute only once: what our own code does, for one.

They hold one unnamed file open. Whoever needs an outcome that is not in it computes it, with a lock
on the outcome's name, and adds it; nothing is ever changed. A student's code can reach neither the
file, which has no name, nor the descriptor, which no zygote inherits.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b

HEAD = struct.Struct(">16sQ")  # a digest of the name, and how long the outcome is
KEY_BYTES = 16
ADDING = 1 << 62  # the byte that who adds something locks; names have those before it


class Outcomes:
    """Outcomes by name, as bytes.

    Args:
        descriptor: of the run's file, open for reading and writing; None where nobody shares.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = descriptor
        self._places: dict[bytes, tuple[int, int]] = {}
        self._end = 0  # of what has been read

    def of(self, name: str, compute: Callable[[], bytes]) -> bytes:
        """An outcome, computed if nobody has yet.

        Args:
            name: says everything that the outcome depends on.
            compute: gives it; it must not ask for another.
        """
        if self._descriptor is None:
            return compute()
        key = _key(name)
        if key not in self._places:
            # Two names with one lock wait for each other, and nothing else comes of it.
            with self._locked(int.from_bytes(key[:7], "big")):
                self._read_on()
                if key not in self._places:
                    found = compute()
                    self._add(key, found)
                    return found
        return self._at(key)

    def known(self, name: str) -> bytes | None:
        """An outcome if somebody has added it."""
        if self._descriptor is None:
            return None
        key = _key(name)
        if key not in self._places:
            self._read_on()
        return self._at(key) if key in self._places else None

    def add(self, name: str, found: bytes) -> None:
        """Let the others have an outcome; of two by one name, the first is kept."""
        key = _key(name)
        if self._descriptor is not None and key not in self._places:
            self._add(key, found)

    def _at(self, key: bytes) -> bytes:
        place, length = self._places[key]
        return _read(self._file, length, place)

    def _add(self, key: bytes, found: bytes) -> None:
        with suppress(OSError):  # on a full disk everybody computes it again
            self._write(key, found)

    def _write(self, key: bytes, found: bytes) -> None:
        descriptor = self._file
        with self._locked(ADDING):
            self._read_on()
            if os.fstat(descriptor).st_size > self._end:
                os.ftruncate(descriptor, self._end)  # half of something, by somebody who is gone
            left = memoryview(HEAD.pack(key, len(found)) + found)
            at = self._end
            while left:
                written = os.pwrite(descriptor, left, at)
                left, at = left[written:], at + written
            self._read_on()

    def _read_on(self) -> None:
        """Learn where everything is that was added since."""
        descriptor = self._file
        size = os.fstat(descriptor).st_size
        while self._end + HEAD.size <= size:
            key, length = HEAD.unpack(_read(descriptor, HEAD.size, self._end))
            place = self._end + HEAD.size
            if place + length > size:
                return  # it is still being added
            self._places.setdefault(key, (place, length))
            self._end = place + length

    @property
    def _file(self) -> int:
        assert self._descriptor is not None
        return self._descriptor

    @contextmanager
    def _locked(self, byte: int) -> Iterator[None]:
        # Locks of this kind are a process's own, and go with it.
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, byte)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)


def _key(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=KEY_BYTES).digest()


def _read(descriptor: int, length: int, at: int) -> bytes:
    parts: list[bytes] = []
    while length:
        part = os.pread(descriptor, length, at)
        if not part:
            raise EOFError("the run's outcomes have been cut short")
        parts.append(part)
        length, at = length - len(part), at + len(part)
    return b"".join(parts)


ALONE = Outcomes()  # shared with nobody, and so without a file
