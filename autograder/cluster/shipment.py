"""What a worker needs of the checkout, in one archive: code, lessons, graders and references.

Only the chapters at hand travel. The engine travels, too, so that a worker judges by the very
engine that home has, whatever is installed there.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from autograder.lesson import ROOT, find_lesson

CODE = ("autograder", "course", "solutions")
HELD_BACK = ("attacks", "commands", "demo", "laws", "report")  # of autograder/: grading needs none
SOURCES = {".py", ".md", ".ipynb"}


def pack(lessons: Iterable[str], root: Path = ROOT) -> bytes:
    """The checkout, cut down to what grades these lessons, as a zip archive.

    Args:
        lessons: as ``chapter/lesson``.
        root: of the checkout.
    """
    chapters = {find_lesson(lesson).chapter for lesson in lessons}
    buffer = io.BytesIO()
    # Unpacking zips never leaves the folder; tars can be told so from Python 3.11.4 on.
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(_files(root, chapters)):
            entry = zipfile.ZipInfo(str(path.relative_to(root)))
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _files(root: Path, chapters: set[str]) -> Iterator[Path]:
    for room in (*CODE, "source"):
        for path in (root / room).rglob("*"):
            parts = path.relative_to(root).parts
            other = {part for part in parts if part.startswith("ch") and part[2:4].isdigit()}
            if other - chapters or (parts[0] == "autograder" and parts[1] in HELD_BACK):
                continue
            # Data sets of course/ have endings of their own.
            if path.is_file() and (path.suffix in SOURCES or parts[:2] == ("course", "data")):
                yield path
