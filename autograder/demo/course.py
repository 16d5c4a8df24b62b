"""The demo's course folder: what nbgrader needs to find in it, and whose it is."""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass
from pathlib import Path

from autograder.command import CommandError
from autograder.lesson import ROOT, Lesson

COURSE_ID = "forwardpass-demo"
MARK = ".made-by-forwardpass-demo"
CONFIG = "nbgrader_config.py"
SETTINGS = """

# What only the demo sets. One person plays the whole class, so owners are not checked.
c = get_config()  # noqa: F821
c.CourseDirectory.course_id = {course_id!r}
c.CourseDirectory.root = {root!r}
c.Exchange.root = {exchange!r}
c.ExchangeCollect.check_owner = False
"""


@dataclass(frozen=True)
class DemoCourse:
    """A course folder for one assignment that has one lesson.

    Attributes:
        folder: everything that the demo writes is in it.
        lesson: the assignment's; the assignment is called after its chapter.
    """

    folder: Path
    lesson: Lesson

    @property
    def assignment(self) -> str:
        return self.lesson.chapter

    @property
    def exchange(self) -> Path:
        return self.folder / "exchange"

    @property
    def gradebook(self) -> Path:
        return self.folder / "gradebook.db"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def grades(self) -> Path:
        return self.folder / "grades.csv"

    @property
    def class_list(self) -> Path:
        return self.folder / "students.csv"

    def home(self, student: str) -> Path:
        """Where a student works."""
        return self.folder / "students" / student

    def cache(self, student: str) -> Path:
        """Where a student's nbgrader remembers what was handed in, and so whose feedback is."""
        return self.home(student) / ".nbgrader-cache"

    def feedback(self, student: str) -> Path:
        """A student's feedback page, on the instructor's side."""
        return self.folder / "feedback" / student / self.assignment / f"{self.lesson.name}.html"

    def log(self, step: str) -> Path:
        """Where a step's output is kept."""
        return self.folder / "log" / f"{step.replace(' ', '-')}.txt"

    def create(self, students: list[str], *, keep: bool = False) -> None:
        """Make the folder anew.

        Args:
            students: the class list.
            keep: refuse to replace an earlier demo's folder, too.

        Raises:
            CommandError: the folder is not the demo's to replace, or the project lacks a file.
        """
        config = ROOT / CONFIG
        for needed in (config, self.lesson.source):
            if not needed.exists():
                raise CommandError(f"{needed} does not exist: run `forwardpass build` first")
        self._clear(keep=keep)
        source = self.folder / "source" / self.assignment
        for folder in (source, self.exchange, self.folder / "students", self.folder / "log"):
            folder.mkdir(parents=True)
        self.exchange.chmod(0o777)  # nbgrader insists on an exchange that everyone may write to
        (self.folder / MARK).write_text("forwardpass demo made this folder and may replace it.\n")
        shutil.copy(self.lesson.source, source)
        settings = SETTINGS.format(
            course_id=COURSE_ID,
            root=str(self.folder),
            exchange=str(self.exchange),
        )
        text = config.read_text(encoding="utf-8") + settings
        (self.folder / CONFIG).write_text(text, encoding="utf-8")
        with self.class_list.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "first_name", "last_name"])
            for student in students:
                first, _, story = student.partition("-")
                writer.writerow([student, first.capitalize(), story.replace("-", " ").capitalize()])

    def _clear(self, *, keep: bool) -> None:
        if self.folder.is_symlink() or (self.folder.exists() and not self.folder.is_dir()):
            raise CommandError(f"{self.folder} is not a folder: name another with --folder")
        if not self.folder.exists() or not any(self.folder.iterdir()):
            return
        if not (self.folder / MARK).exists():
            raise CommandError(
                f"{self.folder} holds files that the demo did not make, and is left alone: "
                "name another folder with --folder"
            )
        if keep:
            raise CommandError(
                f"{self.folder} holds an earlier demo, kept as you asked: name another folder "
                "with --folder, or leave out --keep to replace it"
            )
        shutil.rmtree(self.folder)
