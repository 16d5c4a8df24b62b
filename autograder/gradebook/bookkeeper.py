"""The one writer of nbgrader's gradebook: journaled verdicts through nbgrader's own autograding."""

from __future__ import annotations

import fcntl
import glob
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from nbgrader.converters import Autograde, NbGraderException

from autograder.gradebook.course import Course
from autograder.gradebook.journal import Record
from autograder.gradebook.scores import is_scored
from autograder.gradebook.submission import Submission


class NotWritten(RuntimeError):
    """nbgrader could not write a student's grades; the message is what it said."""


class Busy(RuntimeError):
    """Another run is grading the same assignment."""


class Bookkeeper:
    """Writes verdicts into the gradebook, with everything else that nbgrader does.

    Args:
        course: the assignment in its course folder.
        device: that the verdicts were judged on.
    """

    def __init__(self, course: Course, device: str) -> None:
        self._course = course
        config = course.app.config
        config.SubmissionExporter.journal_only = True
        config.SubmissionExporter.device = device

    def is_written(self, records: Mapping[Submission, Record]) -> bool:
        """Whether the gradebook and autograded/ hold exactly these verdicts of a student's."""
        first = next(iter(records))
        coursedir = self._course.coursedir
        keys = {submission.name: record.key for submission, record in records.items()}
        graded = [self._course.autograded(submission) for submission in records]
        return (
            self._course.journal.finished(first.student) == keys
            and all(path.is_file() for path in graded)
            and coursedir.get_existing_timestamp(str(first.path.parent))
            == coursedir.get_existing_timestamp(str(graded[0].parent))
            and is_scored(coursedir, first.student)
        )

    def write(self, student: str) -> None:
        """Run nbgrader's autograding for a student, reading the verdicts from the journal.

        Raises:
            NotWritten: nbgrader stopped.
        """
        self._course.coursedir.student_id = glob.escape(student)
        complaints = _Complaints()
        self._course.app.log.addHandler(complaints)
        try:
            converter = Autograde(coursedir=self._course.coursedir, parent=self._course.app)
            converter.force = True
            with warnings.catch_warnings():
                # SQLAlchemy's, on how nbgrader builds a submission; of no use to an instructor.
                warnings.filterwarnings("ignore", module=r"nbgrader\.")
                converter.start()
        except NbGraderException as error:
            told = [line for line in complaints.messages if line]
            raise NotWritten("\n".join(told[:2]) or str(error)) from None
        finally:
            self._course.app.log.removeHandler(complaints)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the assignment's journal, so that two runs do not write at once.

        Raises:
            Busy: another run holds it.
        """
        folder = self._course.journal.folder / self._course.assignment
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Busy(
                    f"another run is grading {self._course.assignment}: wait for it to end"
                ) from None
            yield


class _Complaints(logging.Handler):
    """Keeps what nbgrader logs as errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
