"""What a run of ``forwardpass grade`` came to, student by student, and what needs a person."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from autograder.feedback.outline import number
from autograder.gradebook.bookkeeper import Bookkeeper, NotWritten
from autograder.gradebook.classwork import Graded
from autograder.gradebook.course import Course, Handed
from autograder.gradebook.move import now


@dataclass
class Tally:
    """What becomes of each student's work while a class is graded.

    Attributes:
        course: the assignment in its course folder.
        handed: what is graded.
        graded: what became of each notebook, by student.
        troubles: (student, what needs a person).
        entered: how many students' grades were written.
    """

    course: Course
    handed: list[Handed]
    graded: dict[str, list[Graded]] = field(default_factory=lambda: defaultdict(list))
    troubles: list[tuple[str, str]] = field(default_factory=list)
    entered: int = 0
    _written: set[str] = field(default_factory=set)
    _ungraded: int = 0
    _slowest: Graded | None = None

    def __post_init__(self) -> None:
        self._began = now()
        self._handed = {one.student: len(one.submissions) for one in self.handed}
        remedy = "rename this folder, in UTF-8 text without any of *?["
        self.troubles += [(name, remedy) for name in self.course.unnamed]
        for one in self.handed:
            self.troubles += [(one.student, trouble) for trouble in one.troubles]
            found = {submission.name for submission in one.submissions}
            missing = [name for name in self.course.lessons if name not in found]
            if missing and one.strays:
                told = ", ".join(f"{name}.ipynb" for name in one.strays)
                wanted = " and ".join(f"{name}.ipynb" for name in missing)
                self.troubles.append(
                    (one.student, f"{told} is none of the lessons; is it {wanted}? Rename it.")
                )
            elif not one.submissions:
                self.troubles.append((one.student, "the submission holds no notebook"))

    def add(self, graded: Graded, console: Console) -> None:
        """Count a notebook, and print its score where it was graded now."""
        submission, record = graded.submission, graded.record
        self.graded[submission.student].append(graded)
        self._ungraded += record is None or record.verdict is None
        if self._slowest is None or graded.seconds > self._slowest.seconds:
            self._slowest = graded
        where = f"{submission.student} {submission.name}"
        if record is None:
            self.troubles.append((submission.student, f"{submission.name}: {graded.failure}"))
        elif record.verdict is None:
            self.troubles.append((submission.student, f"could not be read: {record.failure}"))
        elif record.verdict.has_errors:
            self.troubles.append(
                (submission.student, f"{submission.name}: a hidden test itself failed; look at it")
            )
        if record is not None and record.verdict is not None and not graded.reused:
            verdict = record.verdict
            console.print(
                shown(f"{where}: {number(verdict.score)} of {number(verdict.max_score)}"),
                markup=False,
                highlight=False,
            )

    def is_ready(self, student: str) -> bool:
        """Whether all of a student's notebooks have a verdict, and are still to be written."""
        mine = self.graded[student]
        whole = len(mine) == self._handed[student] and all(g.record for g in mine)
        return whole and student not in self._written

    def standing(self) -> str:
        """How it goes, in a few words: what failed, and what took longest so far."""
        slowest = self._slowest
        told = [f"{self._ungraded} not graded"] if self._ungraded else []
        if slowest is not None and slowest.seconds:
            told.append(f"slowest {slowest.submission.student}, {slowest.seconds:.1f} s")
        return shown(", ".join(told))

    def write(self, student: str, bookkeeper: Bookkeeper) -> None:
        """Have a student's grades written where the gradebook does not have them.

        Raises:
            Unwritable: nobody's can be.
        """
        self._written.add(student)
        mine = self.graded[student]
        records = {g.submission: g.record for g in mine if g.record is not None}
        if all(g.reused for g in mine) and bookkeeper.is_written(records):
            return
        try:
            bookkeeper.write(student)
            self.entered += 1
        except NotWritten as error:
            self.troubles.append((student, f"nbgrader could not enter the grades: {error}"))

    def print(self, console: Console) -> None:
        """Say what was graded, and what needs a person."""
        reused = sum(g.reused for g in self._all())
        lines = [
            f"{self.course.assignment}: {len(self._all()) - reused} notebooks graded, {reused} "
            f"unchanged; grades of {self.entered} students entered in the gradebook."
        ]
        moved = sum(self._moved(graded) for graded in self._all())
        if moved:
            lines[0] += f" {moved} grades moved: `forwardpass report` says whose and why."
        lines += [f"{student}: {trouble}" for student, trouble in self.troubles]
        for i, line in enumerate(lines):
            style = "yellow" if i else None
            console.print(shown(line), style=style, markup=False, highlight=False, soft_wrap=True)

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "assignment": self.course.assignment,
            "submissions": [_entry(graded) for graded in self._all()],
            "troubles": [
                {"student": shown(student), "message": shown(message)}
                for student, message in self.troubles
            ],
        }

    def _moved(self, graded: Graded) -> bool:
        """Whether this run gave a notebook another score than it had."""
        move = graded.record.moved if graded.record and not graded.reused else None
        return move is not None and move.when >= self._began

    def _all(self) -> list[Graded]:
        return [graded for student in sorted(self.graded) for graded in self.graded[student]]


def shown(text: str) -> str:
    """A text of which a part is a student's, without what would steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def _entry(graded: Graded) -> dict[str, Any]:
    record = graded.record
    verdict = record.verdict if record else None
    return {
        "student": graded.submission.student,
        "lesson": graded.submission.lesson,
        "score": verdict.score if verdict else None,
        "max_score": verdict.max_score if verdict else None,
        "unchanged": graded.reused,
        "moved": record.moved.to_dict() if record and record.moved else None,
        "failure": graded.failure or (record.failure if record else ""),
        "verdict": verdict.to_dict() if verdict else None,
    }
