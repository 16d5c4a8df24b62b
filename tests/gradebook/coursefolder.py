"""A course folder, nbgrader's and our commands run in it, and what its gradebook then says."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import standin

from autograder.engine.notebook import grade_id
from autograder.gradebook.journal import Journal, Record
from autograder.lesson import ROOT, Lesson

SCORES = """
select grade.auto_score, grade.manual_score, grade.needs_manual_grade, base_cell.name
from grade
join base_cell on base_cell.id = grade.cell_id
join submitted_notebook on submitted_notebook.id = grade.notebook_id
join submitted_assignment on submitted_assignment.id = submitted_notebook.assignment_id
where submitted_assignment.student_id = ?
"""

PAGE = """
select submitted_notebook.id from submitted_notebook
join submitted_assignment on submitted_assignment.id = submitted_notebook.assignment_id
where submitted_assignment.student_id = ?
"""

SETTINGS = """
c.Exchange.root = {exchange!r}
c.Exchange.cache = {cache!r}
c.ExchangeCollect.check_owner = False
"""


@dataclass
class CourseFolder:
    """A course folder of one lesson."""

    root: Path
    lesson: Lesson

    @property
    def assignment(self) -> str:
        return self.lesson.chapter

    @property
    def journal(self) -> Journal:
        return Journal(self.root / "journal", self.assignment)

    @property
    def environment(self) -> dict[str, str]:
        scripts = str(Path(sys.executable).parent)  # nbgrader runs alembic by its name
        home = str(self.root / "home")
        return {
            **os.environ,
            "PATH": scripts + os.pathsep + os.environ["PATH"],
            "HOME": home,
            "JUPYTER_CONFIG_DIR": home,
            "JUPYTER_DATA_DIR": home,
            "OMP_NUM_THREADS": "1",
        }

    def command(self, *arguments: str, stand_in: bool | None = None) -> list[str]:
        """A command line; with a stand-in for the grader process, which takes no time.

        Where it is said whether there is one, the command starts sooner, too.
        """
        if stand_in is not None:
            program = standin.__file__ if stand_in else ""
            return [sys.executable, "-c", standin.RUN, program, *arguments]
        program, *rest = arguments
        if program == "forwardpass":
            return [str(Path(sys.executable).with_name(program)), *rest]
        return [sys.executable, "-m", program, *rest]

    def run(
        self,
        *arguments: str,
        status: int | None = 0,
        folder: Path | None = None,
        stand_in: bool | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``nbgrader …`` or ``forwardpass …`` in the course folder."""
        done = subprocess.run(
            self.command(*arguments, stand_in=stand_in),
            cwd=folder or self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if status is not None:
            assert done.returncode == status, done.stdout + done.stderr
        return done

    def submitted(self, student: str) -> Path:
        return self.root / "submitted" / student / self.assignment / f"{self.lesson.name}.ipynb"

    def autograded(self, student: str) -> Path:
        return self.root / "autograded" / student / self.assignment / f"{self.lesson.name}.ipynb"

    def hand_in(self, student: str, content: str | dict[str, Any]) -> None:
        path = self.submitted(student)
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "timestamp.txt").write_text("2030-01-01 12:00:00 UTC", encoding="utf-8")
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")

    def grades(self, student: str) -> dict[str, tuple[float | None, bool]]:
        """Each tests cell's automatic score, and whether a person should look."""
        with contextlib.closing(sqlite3.connect(self.root / "gradebook.db")) as gradebook:
            rows = gradebook.execute(SCORES, [student]).fetchall()
        return {name: (auto, bool(manual)) for auto, _, manual, name in rows}

    def students(self) -> list[str]:
        """Who handed in."""
        return sorted(path.parent.name for path in self.root.glob(f"submitted/*/{self.assignment}"))

    def records(self) -> dict[str, Record]:
        """What the journal holds of the lesson, by student."""
        names = [path.name for path in self.journal.path("", "").parent.glob("*/")]
        found = {name: self.journal.read(name, self.lesson.name) for name in sorted(names)}
        return {name: record for name, record in found.items() if record}

    def disagreements(self) -> list[str]:
        """Where the gradebook, which must open and be whole, is not as the journal says."""
        with contextlib.closing(sqlite3.connect(self.root / "gradebook.db")) as gradebook:
            found = [row[0] for row in gradebook.execute("pragma integrity_check")]
        wrong = [] if found == ["ok"] else found
        for student, record in self.records().items():
            exercises = record.verdict.exercises if record.verdict else []
            meant = {f"{e.name}_tests": (e.score, False) for e in exercises}
            entered = self.grades(student)
            if record.verdict is None:
                meant = dict.fromkeys(entered, (0.0, True))
            if not entered or entered != meant:
                wrong.append(f"{student}: journal {meant}, gradebook {entered}")
        return wrong

    def page(self, student: str) -> str:
        """The formgrader's page of a student's notebook."""
        with contextlib.closing(sqlite3.connect(self.root / "gradebook.db")) as gradebook:
            ((found,),) = gradebook.execute(PAGE, [student]).fetchall()
        return f"formgrader/submissions/{found}"

    def score(self, student: str) -> float:
        return sum(auto or 0.0 for auto, _ in self.grades(student).values())

    def answered(self, **answers: str | None) -> dict[str, Any]:
        """The release with right answers, but for those given; None leaves one untouched."""
        notebook: dict[str, Any] = json.loads(self.lesson.release.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            name = grade_id(cell)
            if name in self.lesson.exercises:
                right = self.lesson.reference_source(name)
                chosen = answers.get(name, right)
                cell["source"] = cell["source"] if chosen is None else chosen
        return notebook


def made_course(root: Path, lesson: Lesson) -> CourseFolder:
    """Make a course folder as nbgrader_config.py says that one is made."""
    chapter = root / "source" / lesson.chapter
    for folder in (chapter, root / "home", root / "exchange"):
        folder.mkdir(parents=True)
    (root / "exchange").chmod(0o777)
    shutil.copy(lesson.source, chapter)
    settings = SETTINGS.format(exchange=str(root / "exchange"), cache=str(root / "home" / "cache"))
    config = (ROOT / "nbgrader_config.py").read_text(encoding="utf-8")
    (root / "nbgrader_config.py").write_text(config + settings, encoding="utf-8")
    return CourseFolder(root, lesson)
