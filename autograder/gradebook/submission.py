"""What a student handed in: read from its folder without following links."""

from __future__ import annotations

import math
import os
import stat
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from autograder.engine.notebook import MAX_FILE_BYTES, UnreadableNotebook

MAX_DEPTH = 32
MAX_ENTRIES = 5_000


@dataclass(frozen=True)
class Submission:
    """One notebook of one student's submission.

    Attributes:
        student: the student's id.
        name: the notebook's, without its extension.
        path: of the file in the submitted folder.
        lesson: that it answers, as ``chapter/lesson``.
    """

    student: str
    name: str
    path: Path
    lesson: str

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            UnreadableNotebook: it is not an ordinary file, or too large.
        """
        return read_file(self.path)


def read_file(path: Path) -> bytes:
    """Read an ordinary file of a submission.

    Raises:
        UnreadableNotebook: it is a link, a folder or a device, missing, or too large.
    """
    name = path.name
    try:
        if path.parent.is_symlink():
            raise UnreadableNotebook(
                f"the folder of {name} is a link to another one, and links are not followed: hand "
                "in the folder itself"
            )
        if stat.S_ISLNK(path.lstat().st_mode):
            raise UnreadableNotebook(
                f"{name} is a link to another file, and links are not followed: hand in the "
                "notebook itself"
            )
        # Before it is opened: opening alone makes some devices do things.
        _check_kind(path.lstat(), name)
        # Without O_NONBLOCK, opening a pipe put there since would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            found = os.fstat(descriptor)
            _check_kind(found, name)
            if found.st_size > MAX_FILE_BYTES:
                raise UnreadableNotebook(
                    f"{name} holds more than {MAX_FILE_BYTES >> 20} MiB: clear its outputs, save "
                    "it and hand it in again"
                )
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(MAX_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise UnreadableNotebook(f"{name} was not handed in") from None
    except OSError as error:
        raise UnreadableNotebook(f"{name} cannot be read: {error.strerror}") from None


def _check_kind(found: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise UnreadableNotebook(f"{name} is not a file: hand in the notebook itself")


def text_of(data: bytes, name: str) -> str:
    """A notebook file's text.

    Raises:
        UnreadableNotebook: it is not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableNotebook(f"{name} is not a notebook: it is not UTF-8 text") from None


def strangers_in(folder: Path, kilobytes: float = math.inf) -> list[tuple[Path, str]]:
    """What of a submission's folder is not copied, and why; nbgrader would follow or copy it all.

    A second name of a file (a hard link) may be one of a file outside. A notebook's is copied
    nonetheless: it is read, never written to, and some file systems share equal files.

    Args:
        folder: of the submission.
        kilobytes: that all of it may hold; of more, the largest files are left out.
    """
    if folder.is_symlink():
        return [(folder, "is a link")]
    found: list[tuple[Path, str]] = []
    files: list[tuple[int, Path]] = []
    folders = [(folder, 0)]
    count = 0
    while folders:
        directory, depth = folders.pop()
        try:
            with os.scandir(directory) as scanned:
                entries = list(islice(scanned, MAX_ENTRIES + 1))
        except OSError as error:
            found.append((directory, f"cannot be read ({error.strerror})"))
            continue
        count += len(entries)
        if count > MAX_ENTRIES:
            return [(folder, f"holds more than {MAX_ENTRIES} files")]
        for entry in entries:
            path = Path(entry.path)
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode) and depth < MAX_DEPTH:
                folders.append((path, depth + 1))
            elif stat.S_ISDIR(status.st_mode):
                found.append((path, "lies too deep"))
            elif not stat.S_ISREG(status.st_mode):
                found.append((path, "is not an ordinary file"))
            elif status.st_nlink > 1 and path.suffix != ".ipynb":
                found.append((path, "is a second name of a file that may lie elsewhere"))
            elif not os.access(path, os.R_OK):
                found.append((path, "may not be read"))
            else:
                files.append((status.st_size, path))
    left = 1000 * kilobytes
    for size, path in sorted(files):
        left -= size
        if left < 0:
            found.append((path, f"makes it more than {kilobytes / 1000:g} MB"))
    return sorted(found)
