"""The one writer of nbgrader's gradebook: journaled verdicts through nbgrader's own autograding."""

from __future__ import annotations

import glob
import logging
import warnings
from collections.abc import Mapping
from functools import cached_property

import nbgrader.api
from nbgrader.converters import NbGraderException
from sqlalchemy.exc import SQLAlchemyError

from autograder.gradebook.course import Course
from autograder.gradebook.entry import Entry
from autograder.gradebook.exporter import JournalExporter
from autograder.gradebook.fault import Unwritable, fault_of
from autograder.gradebook.journal import Record
from autograder.gradebook.repetition import spare_repetition
from autograder.gradebook.scores import scored
from autograder.gradebook.sitting import Sitting
from autograder.gradebook.submission import Submission
from autograder.gradebook.timestamp import timestamp_in


class NotWritten(RuntimeError):
    """nbgrader could not write a student's grades; the message is what it said."""


class Bookkeeper:
    """Writes verdicts into the gradebook, with everything else that nbgrader does.

    Args:
        course: the assignment in its course folder.
        device: that the verdicts were judged on.
        memory: that the submissions were allowed, as its setting says it.
    """

    def __init__(self, course: Course, device: str, memory: str = "") -> None:
        self._course = course
        spare_repetition()
        self._exporter = JournalExporter.for_a_run()
        self._sitting = Sitting()
        config = course.app.config
        config.SubmissionExporter.journal_only = True
        config.SubmissionExporter.device = device
        config.SubmissionExporter.memory = memory

    def is_written(self, records: Mapping[Submission, Record]) -> bool:
        """Whether the gradebook and autograded/ hold exactly these verdicts of a student's.

        Raises:
            Unwritable: the gradebook cannot even be read.
        """
        student = next(iter(records)).student
        finished = self._course.journal.finished(student) or {}
        seals = {submission.name: record.seal for submission, record in records.items()}
        if finished.get("seals") != seals:
            return False
        if not all(self._course.autograded(submission).is_file() for submission in records):
            return False
        if finished.get("timestamp") != timestamp_in(next(iter(records)).path.parent)[0]:
            return False
        return self._scored.get(student) == finished.get("late", 0.0)

    @cached_property
    def _scored(self) -> dict[str, float]:
        """As the gradebook has it when the run first asks; of each student it does so once."""
        try:
            return scored(self._course.coursedir)
        except SQLAlchemyError as error:
            raise Unwritable(self._fault(str(error)) or str(error)) from None

    def write(self, student: str) -> None:
        """Run nbgrader's autograding for a student, reading the verdicts from the journal.

        Raises:
            NotWritten: nbgrader stopped at this student.
            Unwritable: it would at any other, too.
        """
        self._course.coursedir.student_id = glob.escape(student)
        complaints = _Complaints()
        self._course.app.log.addHandler(complaints)
        nbgrader.api.app_log.disabled = True  # what it logs there it raises, too
        try:
            converter = Entry(
                coursedir=self._course.coursedir, parent=self._course.app, sitting=self._sitting
            )
            converter.force = True
            converter.exporter_class = self._exporter
            with warnings.catch_warnings():
                # SQLAlchemy's, on how nbgrader builds a submission; of no use to an instructor.
                warnings.filterwarnings("ignore", module=r"nbgrader\.")
                converter.start()
        except (NbGraderException, SQLAlchemyError, OSError) as error:
            told = [*complaints.messages, str(error)]
            fault = self._fault("\n".join(told))
            if fault:
                raise Unwritable(fault) from None
            raise NotWritten(complaints.reason or str(error)) from None
        finally:
            self._course.app.log.removeHandler(complaints)
            nbgrader.api.app_log.disabled = False

    def _fault(self, told: str) -> str | None:
        return fault_of(told, self._course.coursedir)


class _Complaints(logging.Handler):
    """Keeps what nbgrader logs as errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    @property
    def reason(self) -> str:
        """The error itself, where nbgrader logged a traceback."""
        traces = [message for message in self.messages if message.startswith("Traceback")]
        return (traces[0].strip().split("\n")[-1] if traces else "".join(self.messages[:1])).strip()

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
