"""A course folder as nbgrader's own configuration describes it."""

from __future__ import annotations

import glob
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from nbgrader.apps import NbGrader
from nbgrader.converters import NbGraderException
from nbgrader.coursedir import CourseDirectory

from autograder.engine.verdict import COUNT
from autograder.gradebook import preflight
from autograder.gradebook.configuration import grade_by_engine
from autograder.gradebook.journal import FOLDER, Journal
from autograder.gradebook.submission import Submission, strangers_in
from autograder.gradebook.timestamp import existing_timestamp, parsed_timestamp, timestamp_in

MOST_TOLD = 3


class UnfitCourse(RuntimeError):
    """The course folder is not ready for grading; the message says what to do.

    Attributes:
        unknown: whether it has no such assignment.
    """

    def __init__(self, message: str, *, unknown: bool = False) -> None:
        super().__init__(message)
        self.unknown = unknown


@dataclass(frozen=True)
class Handed:
    """What one student handed in.

    Attributes:
        student: the student's id.
        submissions: the lessons' notebooks among it.
        strays: notebooks that no lesson is called after.
        troubles: what a person should know of the folder.
        timestamp: when, in UTC without a zone as nbgrader stores it; None where it is not known.
    """

    student: str
    submissions: tuple[Submission, ...]
    strays: tuple[str, ...]
    troubles: tuple[str, ...] = ()
    timestamp: datetime | None = None


class Course:
    """One assignment in a course folder.

    Args:
        folder: the course's; becomes the working folder, as nbgrader expects.
        assignment: the assignment's name.

    Attributes:
        unnamed: submitted folders whose names nbgrader cannot take: they are not UTF-8, or hold
            what it reads as a pattern, and so as other students.

    Raises:
        UnfitCourse: the assignment's source is missing, or the gradebook does not fit it.
    """

    def __init__(self, folder: Path, assignment: str) -> None:
        os.chdir(folder)
        # nbgrader runs alembic by its name when it makes a gradebook.
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.app = NbGrader()
        self.app.log = logging.Logger("nbgrader")
        self.app.log.addHandler(logging.NullHandler())
        self.app.initialize([])
        grade_by_engine(self.app.config)
        self.coursedir: CourseDirectory = self.app.coursedir
        self.coursedir.assignment_id = assignment
        self.coursedir.get_existing_timestamp = existing_timestamp
        self.unnamed: list[str] = []
        try:
            self._sources = preflight.source_notebooks(self.coursedir)
            preflight.check_gradebook(self.coursedir, self._sources)
        except NbGraderException as error:
            unknown = isinstance(error, preflight.UnknownAssignment)
            raise UnfitCourse(str(error), unknown=unknown) from None

    @property
    def assignment(self) -> str:
        return str(self.coursedir.assignment_id)

    @property
    def device(self) -> str:
        """What the course's configuration says to judge on."""
        return str(self._setting("device", "cpu"))

    @property
    def memory(self) -> str:
        """What the course's configuration says that a submission may allocate."""
        return str(self._setting("memory", ""))

    @property
    def device_points(self) -> str:
        """What its configuration says of failures on devices: COUNT or TELL."""
        return str(self._setting("device_points", COUNT))

    @property
    def journal(self) -> Journal:
        folder = self._setting("journal_folder", FOLDER)
        return Journal(Path(self.coursedir.root, folder), self.assignment)

    def handed_in(self) -> list[Handed]:
        """What every student handed in for the assignment, by student."""
        pattern = self.coursedir.directory_structure.format(
            nbgrader_step=glob.escape(self.coursedir.submitted_directory),
            student_id="*",
            assignment_id=glob.escape(self.assignment),
        )
        folders = [path for path in Path(self.coursedir.root).glob(pattern) if path.is_dir()]
        named = [folder for folder in folders if self._is_name(folder)]
        self.unnamed = [repr(str(folder)) for folder in folders if folder not in named]
        return sorted((self._handed(folder) for folder in named), key=lambda h: h.student)

    def autograded(self, submission: Submission) -> Path:
        """Where nbgrader writes the graded notebook."""
        folder = self.coursedir.format_path(
            self.coursedir.autograded_directory, submission.student, self.assignment
        )
        return Path(folder, submission.path.name)

    def _is_name(self, folder: Path) -> bool:
        name = str(folder.relative_to(self.coursedir.root))
        try:
            name.encode()
        except UnicodeEncodeError:
            return False
        return glob.escape(name) == name

    def _handed(self, folder: Path) -> Handed:
        submitted = self.coursedir.submitted_directory
        student = preflight.student_of(self.coursedir, submitted, str(folder))
        names = sorted(path.stem for path in folder.glob("*.ipynb"))
        submissions = tuple(
            Submission(student, name, folder / f"{name}.ipynb", self._lesson(name))
            for name in names
            if name in self._sources
        )
        strays = tuple(name for name in names if name not in self._sources)
        when, wrong = timestamp_in(folder)
        troubles = tuple(self._troubles(folder, wrong))
        timestamp = parsed_timestamp(when) if when else None
        return Handed(student, submissions, strays, troubles, timestamp)

    def _troubles(self, folder: Path, wrong: str) -> Iterator[str]:
        if wrong:
            yield (
                f"{folder / 'timestamp.txt'} cannot be used, for {wrong}: the work counts as "
                "handed in on time until you write the time into that file"
            )
        left_out = strangers_in(folder, self.coursedir.max_dir_size)
        for path, why in left_out[:MOST_TOLD]:
            yield f"{path} {why}; it is left out"
        if len(left_out) > MOST_TOLD:
            yield f"{len(left_out) - MOST_TOLD} more such files in {folder} are left out"

    @property
    def lessons(self) -> list[str]:
        """The names of the assignment's notebooks."""
        return list(self._sources)

    def _lesson(self, name: str) -> str:
        return preflight.lesson_key(self._sources[name])

    def _setting(self, name: str, default: Any) -> Any:
        return self.app.config.SubmissionExporter.get(name, default)
