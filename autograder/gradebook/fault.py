"""Faults that are nobody's submission's: the gradebook is locked, the disk is full."""

from __future__ import annotations

import re
from pathlib import Path

from nbgrader.coursedir import CourseDirectory

GRADEBOOK = {
    r"database (?:table )?is locked": "another program holds {gradebook}: close what has it open "
    "(a formgrader that is saving, a database browser, another nbgrader command)",
    r"database or disk is full|disk I/O error": "{gradebook} cannot be written, for the disk is "
    "full or failing: free some space there",
    r"readonly database|read-only": "{gradebook} may not be written: give yourself that right, or "
    "copy the course folder to where you have it",
    r"unable to open database": "{gradebook} cannot be opened: see that its folder is there, and "
    "that you may write to both",
    r"not a database|malformed": "{gradebook} is damaged: put a backup of it in its place",
}  # fmt: skip
DISK = (
    "No space left on device", "Disk quota exceeded", "File too large", "Read-only file system",
    "Permission denied",
)  # fmt: skip


class Unwritable(RuntimeError):
    """Nothing more can be written; the message says what, where, and what to do."""


def fault_of(told: str, coursedir: CourseDirectory) -> str | None:
    """What is wrong with the gradebook or the disk, and what to do.

    Args:
        told: by the error, or by what nbgrader logged of it.
        coursedir: whose gradebook it is.

    Returns:
        None where the error is about one submission alone.
    """
    for pattern, meant in GRADEBOOK.items():
        if re.search(pattern, told):
            gradebook = coursedir.db_url.removeprefix("sqlite:///")
            return meant.format(gradebook=gradebook) + "; then grade again"
    kept = re.search(r"NotKept: (.+)", told)
    if kept:
        return kept[1]
    for reason in DISK:
        found = re.search(rf"{reason}(?:: '([^'\n]+)')?", told)
        where = found[1] or "the course folder" if found else ""
        # A file of a submission that may not be read is that submission's fault.
        if where and coursedir.submitted_directory not in Path(where).parts:
            return f"{where} cannot be written ({reason}): see to that, then grade again"
    return None
