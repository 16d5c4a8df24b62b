"""What a student handed in: read from its folder without following links."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from autograder.engine.notebook import MAX_FILE_BYTES, UnreadableNotebook


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
        # Without O_NONBLOCK, opening a named pipe would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise UnreadableNotebook(f"{name} was not handed in") from None
    except OSError as error:
        if path.is_symlink():
            raise UnreadableNotebook(
                f"{name} is a link to another file, and links are not followed: hand in the "
                "notebook itself"
            ) from None
        raise UnreadableNotebook(f"{name} cannot be read: {error.strerror}") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise UnreadableNotebook(f"{name} is not a file: hand in the notebook itself")
        if found.st_size > MAX_FILE_BYTES:
            raise UnreadableNotebook(
                f"{name} holds more than {MAX_FILE_BYTES >> 20} MiB: clear its outputs, save it "
                "and hand it in again"
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)


def text_of(data: bytes, name: str) -> str:
    """A notebook file's text.

    Raises:
        UnreadableNotebook: it is not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableNotebook(f"{name} is not a notebook: it is not UTF-8 text") from None


def strangers_in(folder: Path) -> list[Path]:
    """Links, pipes and devices anywhere in a submission's folder, which nbgrader would follow."""
    found = []
    for directory, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(directory, name)
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                found.append(path)
    return found
