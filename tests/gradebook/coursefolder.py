"""A course folder, nbgrader's and our commands run in it, and what its gradebook then says."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.engine.notebook import grade_id
from autograder.gradebook.journal import Journal
from autograder.lesson import Lesson

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

    def command(self, *arguments: str) -> list[str]:
        program, *rest = arguments
        if program == "forwardpass":
            return [str(Path(sys.executable).with_name(program)), *rest]
        return [sys.executable, "-m", program, *rest]

    def run(
        self, *arguments: str, status: int | None = 0, folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run ``nbgrader …`` or ``forwardpass …`` in the course folder."""
        done = subprocess.run(
            self.command(*arguments),
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
