"""Reads what is known of a class's work: the journal, the class list, the submissions."""

from __future__ import annotations

import json
from pathlib import Path

from autograder.gradebook.journal import FOLDER, Record
from autograder.report.classlist import class_list
from autograder.report.record import ClassRecord


class UnreadableJournal(ValueError):
    """A journal entry is not one; the message says which and what to do."""


def read_class(course: Path, assignment: str) -> ClassRecord:
    """Everything that a course folder holds about an assignment.

    Args:
        course: the folder in which nbgrader and ``forwardpass grade`` were run.
        assignment: its name.

    Raises:
        UnreadableJournal: an entry is damaged, or of another version.
    """
    entries = tuple(
        _entry(path)
        for path in sorted((course / FOLDER / assignment).glob("*/*.json"))
        if not path.name.startswith(".")
    )
    here = {entry.student for entry in entries}
    collected = sorted(
        folder.parent.name
        for folder in (course / "submitted").glob(f"*/{assignment}")
        if folder.is_dir()
    )
    return ClassRecord(
        assignment,
        entries,
        class_list(course / "gradebook.db", assignment),
        tuple(student for student in collected if student not in here),
    )


def _entry(path: Path) -> Record:
    try:
        return Record.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableJournal(
            f"{path} is not a journal entry of this version ({error!r}): delete it and run "
            "`forwardpass grade` again"
        ) from None
