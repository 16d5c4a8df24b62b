"""What is known of a class's work on one assignment, before anything is counted."""

from __future__ import annotations

from dataclasses import dataclass

from autograder.gradebook.journal import Record


@dataclass(frozen=True)
class Enrolled:
    """One student as the gradebook has them.

    Attributes:
        student: the id.
        name: first and last name; empty where the gradebook has none.
        handed_in: whether the gradebook has a submission.
        score: the gradebook's, with manual points and late penalties; None without one.
    """

    student: str
    name: str
    handed_in: bool
    score: float | None


@dataclass(frozen=True)
class ClassRecord:
    """Everything that a report is made of.

    Attributes:
        assignment: its name: the chapter.
        entries: one a notebook.
        enrolled: the class list, or None where there is no gradebook.
        waiting: students whose submission was collected and is not graded yet.
    """

    assignment: str
    entries: tuple[Record, ...]
    enrolled: tuple[Enrolled, ...] | None = None
    waiting: tuple[str, ...] = ()
