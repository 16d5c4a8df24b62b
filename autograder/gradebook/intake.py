"""What nbgrader's Autograde is about to read, put in order before it reads any of it."""

from __future__ import annotations

import glob
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from nbgrader.converters import Autograde

from autograder.gradebook import preflight
from autograder.gradebook.journal import Journal
from autograder.gradebook.jsonfile import not_kept
from autograder.gradebook.submission import strangers_in

MAX_STRANGERS = 20


@dataclass(frozen=True)
class Intake:
    """The submissions of one run.

    Attributes:
        converter: nbgrader's, which knows which they are.
        journal: of the assignment.
        lessons: the names of the assignment's notebooks.
    """

    converter: Autograde
    journal: Journal
    lessons: Collection[str]

    def leave_out_strays(self) -> None:
        """Have nbgrader ask the gradebook for no notebook whose name it cannot even hold."""
        for folder, paths in self.converter.assignments.items():
            self.converter.assignments[folder] = self._known(paths) or paths

    def leave_out_strangers(self) -> None:
        """Have nbgrader copy no link, pipe or device of a submission to autograded/."""
        coursedir = self.converter.coursedir
        ignore = [pattern for pattern in coursedir.ignore if not Path(pattern).is_absolute()]
        for folder in self.converter.assignments:
            strangers = strangers_in(Path(folder), coursedir.max_dir_size)
            if len(strangers) > MAX_STRANGERS:  # nbgrader compares each with every file
                strangers = [(Path(folder), f"holds {len(strangers)} links, pipes and the like")]
            for path, why in strangers:
                self.converter.log.warning("Not copied, for it %s: %r", why, str(path))
                ignore.append(glob.escape(str(path)))  # absolute, so it means this file alone
        coursedir.ignore = ignore

    def discard_interrupted(self) -> None:
        """Have nbgrader do again what it was killed in, which it would skip as existing.

        Raises:
            NotKept: what there is cannot be removed.
        """
        coursedir = self.converter.coursedir
        for folder, paths in self.converter.assignments.items():
            student = preflight.student_of(coursedir, coursedir.submitted_directory, folder)
            written = Path(
                coursedir.format_path(
                    coursedir.autograded_directory, student, coursedir.assignment_id
                )
            )
            whole = all(Path(written, Path(path).name).is_file() for path in self._known(paths))
            if written.is_dir() and (not whole or self.journal.interrupted(student)):
                self.converter.log.warning(
                    "Grading was interrupted here and is done again: %s", written
                )
                try:
                    shutil.rmtree(written)
                except OSError as error:
                    raise not_kept(written, error) from None

    def _known(self, paths: list[str]) -> list[str]:
        return [path for path in paths if Path(path).stem in self.lessons]
