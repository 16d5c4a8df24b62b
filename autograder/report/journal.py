"""Reads what is known of a class's work: the journal, the class list, the submissions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autograder.engine.verdict import Verdict
from autograder.report.classlist import class_list
from autograder.report.record import ClassRecord, Entry


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
        for path in sorted((course / "journal" / assignment).glob("*/*.json"))
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


def _entry(path: Path) -> Entry:
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        verdict = told.get("verdict")
        return Entry(
            student=str(told.get("student", path.parent.name)),
            lesson=str(told["lesson"]),
            verdict=None if verdict is None else Verdict.from_dict(verdict),
            failure=str(told.get("failure") or ""),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableJournal(
            f"{path} is not a journal entry of this version ({error}): delete it and run "
            "`forwardpass grade` again"
        ) from None
