"""One session of the gradebook for a student gives what nbgrader's own sessions give."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from coursefolder import CourseFolder
from kill_storm import hand_in_class
from nbgrader.api import Gradebook, MissingEntry
from sqlalchemy.orm import scoped_session

from autograder.gradebook.bookkeeper import Bookkeeper, NotWritten
from autograder.gradebook.course import Course
from autograder.gradebook.fault import Unwritable
from autograder.gradebook.sitting import Sitting

# On how nbgrader builds a submission.
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")

WHERE = ("lesson", "chapter")
TABLES = {
    "grade": "auto_score, manual_score, extra_credit, needs_manual_grade",
    "comment": "auto_comment, manual_comment",
}
ENTERED = """
select submitted_assignment.student_id, timestamp, extension, late_submission_penalty,
notebook.name, base_cell.name, {columns} from {table}
join base_cell on base_cell.id = {table}.cell_id
join submitted_notebook on submitted_notebook.id = {table}.notebook_id
join notebook on notebook.id = submitted_notebook.notebook_id
join submitted_assignment on submitted_assignment.id = submitted_notebook.assignment_id
order by 1, 5, 6
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sitting") / "gradebook.db"
    with pytest.MonkeyPatch.context() as environment:
        # nbgrader runs alembic by its name when it makes a gradebook.
        environment.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
        fill(f"sqlite:///{file}")
    return file


@pytest.fixture
def database(made: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(made, tmp_path)}"


def fill(database: str) -> None:
    with Gradebook(database) as gradebook:
        gradebook.add_assignment("chapter")
        gradebook.add_notebook(*WHERE)
        for name, points in (("sgd", 2), ("adam", 3)):
            gradebook.add_solution_cell(name, *WHERE)
            gradebook.add_source_cell(name, *WHERE, cell_type="code", source=name)
            tests = f"{name}_tests"
            gradebook.add_grade_cell(tests, *WHERE, max_score=points, cell_type="code")
        gradebook.add_task_cell("essay", *WHERE, max_score=5, cell_type="markdown")
        gradebook.add_task_cell("adam_tests", *WHERE, max_score=7, cell_type="markdown")
        for student in ("ann", "bob"):
            gradebook.add_student(student)
            gradebook.add_submission("chapter", student)


def test_what_its_steps_do_stands_when_it_is_saved_and_not_before(database: str) -> None:
    sitting = Sitting()
    with sitting.of_a_student():
        with Gradebook(database) as gradebook:
            gradebook.add_student("cem")
        with Gradebook(database) as gradebook:
            assert gradebook.find_student("cem").id == "cem"
        assert students(database) == ["ann", "bob"]
        sitting.save()
        assert students(database) == ["ann", "bob", "cem"]


@pytest.mark.parametrize("error", [None, KeyError])
def test_what_is_not_saved_leaves_nothing(database: str, error: type[Exception] | None) -> None:
    sitting = Sitting()
    with contextlib.suppress(KeyError), sitting.of_a_student():
        with Gradebook(database) as gradebook:
            gradebook.add_student("cem")
        if error:
            raise error
    assert students(database) == ["ann", "bob"]
    with sitting.of_a_student():  # and the next student is entered
        with Gradebook(database) as gradebook, pytest.raises(MissingEntry):
            gradebook.find_student("cem")
        with Gradebook(database) as gradebook:
            gradebook.add_student("dee")
        sitting.save()
    assert students(database) == ["ann", "bob", "dee"]


def test_everything_is_found_as_nbgrader_finds_it(database: str) -> None:
    cells = ["sgd", "adam", "sgd_tests", "adam_tests", "essay", "neither"]

    def found() -> list[Any]:
        told = []
        for student in ("ann", "bob"):
            with Gradebook(database) as book:
                told += [book.find_student(student).id, book.find_assignment("chapter").id]
                told += [book.find_notebook(*WHERE).id]
                told += [book.find_submission("chapter", student).id]
                told += [book.find_submission_notebook(*WHERE, student).id]
                for cell in cells:
                    for find in (book.find_source_cell, book.find_graded_cell):
                        told.append(id_of(find, cell, *WHERE))
                    for find in (book.find_grade, book.find_comment):
                        told.append(id_of(find, cell, *WHERE, student))
        return told

    sitting, plain = Sitting(), found()
    assert len(set(plain)) > 20
    for _ in range(2):
        with sitting.of_a_student():
            assert found() == plain


def test_a_step_sees_the_sums_of_what_the_last_one_changed(database: str) -> None:
    where = (*WHERE, "ann")
    sitting = Sitting()
    with sitting.of_a_student():
        with Gradebook(database) as gradebook:
            held = gradebook.find_submission_notebook(*where)
            assert held.score == 0
            gradebook.find_grade("sgd_tests", *where).auto_score = 1.5
            gradebook.db.commit()
        with Gradebook(database) as gradebook:
            assert gradebook.find_submission_notebook(*where).score == 1.5 == held.score
            assert gradebook.find_grade("sgd_tests", *where).score == 1.5


def test_between_students_it_holds_neither_the_file_nor_a_student(database: str) -> None:
    sitting, file, held = Sitting(), database.removeprefix("sqlite:///"), []
    with sitting.of_a_student():
        for student in ("ann", "bob"):
            with Gradebook(database) as gradebook:
                held.append(gradebook.find_grade("sgd_tests", *WHERE, student))
                held[-1].auto_score = 2.0
                assert len(gradebook.find_assignment("chapter").submissions) == 2
        sitting.save()
    # What somebody changed meanwhile is what the next student's steps find.
    with contextlib.closing(sqlite3.connect(file, timeout=0)) as theirs:
        theirs.execute("update grade set manual_score = 1.0")
        theirs.execute("delete from submitted_assignment where student_id = 'bob'")
        theirs.commit()
    with sitting.of_a_student(), Gradebook(database) as gradebook:
        found = gradebook.find_grade("sgd_tests", *WHERE, "ann")
        assert found not in held
        assert (found.auto_score, found.manual_score) == (2.0, 1.0)
        assert [s.student_id for s in gradebook.find_assignment("chapter").submissions] == ["ann"]


def test_outside_of_one_nbgrader_has_its_own_sessions(database: str) -> None:
    with Sitting().of_a_student():
        pass
    with Gradebook(database) as gradebook:
        gradebook.add_student("cem")
        assert type(gradebook.db) is scoped_session
    assert students(database) == ["ann", "bob", "cem"]


def test_a_class_is_entered_as_nbgraders_own_command_enters_it(
    make_course: Callable[[], CourseFolder],
) -> None:
    course = make_course()
    hand_in_class(course)
    with (course.root / "nbgrader_config.py").open("a", encoding="utf-8") as config:
        config.write("c.LateSubmissionPlugin.penalty_method = 'zero'\n")
    late = course.submitted("bob-0").parent
    (late / "timestamp.txt").write_text("2031-01-01 12:00:00 UTC", encoding="utf-8")
    (late / "notes").mkdir()
    (late / "notes" / "plan.txt").write_text("read, think, write", encoding="utf-8")
    course.run("nbgrader", "generate_assignment", course.assignment, stand_in=True)
    with Gradebook(f"sqlite:///{course.root / 'gradebook.db'}") as gradebook:
        gradebook.update_or_create_assignment(course.assignment, duedate="2030-06-01 12:00:00 UTC")
    empty = (course.root / "gradebook.db").read_bytes()
    course.run("forwardpass", "grade", course.assignment, status=1, stand_in=True)
    ours = entered(course)
    shutil.rmtree(course.root / "autograded")
    (course.root / "gradebook.db").write_bytes(empty)
    course.run("nbgrader", "autograde", course.assignment, stand_in=True)
    theirs = entered(course)
    assert ours == theirs
    assert any(row[3] for row in theirs["grade"]), "nobody was late"
    assert any("plan.txt" in name for name in theirs["files"])


def test_nobody_counts_as_entered_before_the_gradebook_has_it(
    make_course: Callable[[], CourseFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    course = make_course()
    hand_in_class(course)
    course.run("nbgrader", "generate_assignment", course.assignment, stand_in=True)
    course.run("forwardpass", "grade", course.assignment, status=1, stand_in=True)
    monkeypatch.chdir(course.root)
    bookkeeper = Bookkeeper(Course(course.root, course.assignment), "cpu")

    def fail(_: Sitting) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as broken:
        broken.setattr(Sitting, "save", fail)
        with pytest.raises((NotWritten, Unwritable), match="the disk is gone"):
            bookkeeper.write("bob-0")
    assert course.journal.interrupted("bob-0")
    bookkeeper.write("bob-0")
    assert course.journal.finished("bob-0")
    assert course.disagreements() == []


def entered(course: CourseFolder) -> dict[str, Any]:
    """All that grading leaves in the gradebook and in autograded/."""
    folder = course.root / "autograded"
    with contextlib.closing(sqlite3.connect(course.root / "gradebook.db")) as gradebook:
        rows = {
            table: gradebook.execute(ENTERED.format(table=table, columns=columns)).fetchall()
            for table, columns in TABLES.items()
        }
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {**rows, "files": {str(p.relative_to(folder)): p.read_bytes() for p in files}}


def students(database: str) -> list[str]:
    with contextlib.closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as gradebook:
        return [row[0] for row in gradebook.execute("select id from student order by id")]


def id_of(find: Callable[..., Any], *asked: str) -> str:
    try:
        return str(find(*asked).id)
    except MissingEntry:
        return "missing"
