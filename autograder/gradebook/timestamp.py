"""When a submission was handed in, as its timestamp.txt says."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from nbgrader.utils import parse_utc

from autograder.engine.notebook import UnreadableNotebook
from autograder.gradebook.submission import read_file

NAME = "timestamp.txt"
LONGEST = 100


def timestamp_in(folder: Path) -> tuple[str | None, str]:
    """The timestamp of a submission.

    nbgrader's own reading follows links, waits at pipes for ever and fails at what is no time.

    Args:
        folder: of the submission.

    Returns:
        What the file says, or None; and what is wrong with it, where it is not as nbgrader
        wrote it. Without a timestamp nbgrader counts a submission as handed in on time.
    """
    path = folder / NAME
    if folder.is_symlink() or not (path.is_symlink() or path.exists()):
        return None, ""
    try:
        data = read_file(path)
    except UnreadableNotebook:
        return None, "it is not an ordinary file"
    text = data[: LONGEST + 1].decode("ascii", "replace").strip()
    if not text:
        return None, "it is empty"
    return (text, "") if parsed_timestamp(text) else (None, "it holds no time")


def existing_timestamp(folder: str) -> datetime | None:
    """In place of nbgrader's ``get_existing_timestamp``."""
    text, _ = timestamp_in(Path(folder))
    return parsed_timestamp(text) if text else None


def parsed_timestamp(text: str) -> datetime | None:
    """A time as nbgrader reads it, in UTC without a zone; None where it is none."""
    # dateutil would open a file that is named in place of a time zone.
    if len(text) > LONGEST or not re.fullmatch(r"[\w :.,+-]+", text):
        return None
    try:
        found: datetime = parse_utc(text)
    except (ValueError, OverflowError, TypeError):
        return None
    return found
