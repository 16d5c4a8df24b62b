"""What a person entered in the gradebook outlives every regrading."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from coursefolder import CourseFolder
from kill_storm import hand_in_class
from nbgrader.api import Gradebook

from autograder.gradebook.scores import forget_unscored, scored

STUDENT = "ann-0"
DUE = "2029-12-31 12:00:00 UTC"  # a day before they hand in
LATE = "c.LateSubmissionPlugin.penalty_method = 'zero'\n"

# On how nbgrader builds a submission.
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")


@pytest.fixture(scope="module")
def graded(make_course: Callable[[], CourseFolder]) -> CourseFolder:
    course = make_course()
    hand_in_class(course)
    course.run("nbgrader", "generate_assignment", course.assignment, stand_in=True)
    course.run("forwardpass", "grade", course.assignment, status=1, stand_in=True)
    for name in ("journal", "autograded"):
        shutil.copytree(course.root / name, course.root / f"kept-{name}")
    shutil.copy(course.root / "gradebook.db", course.root / "kept.db")
    shutil.copy(course.root / "nbgrader_config.py", course.root / "kept.py")
    return course


@pytest.fixture
def course(graded: CourseFolder) -> CourseFolder:
    for name in ("journal", "autograded"):
        shutil.rmtree(graded.root / name)
        shutil.copytree(graded.root / f"kept-{name}", graded.root / name)
    shutil.copy(graded.root / "kept.db", graded.root / "gradebook.db")
    shutil.copy(graded.root / "kept.py", graded.root / "nbgrader_config.py")
    graded.hand_in(STUDENT, graded.answered())
    return graded


@contextlib.contextmanager
def gradebook_of(course: CourseFolder) -> Iterator[Gradebook]:
    with Gradebook(f"sqlite:///{course.root / 'gradebook.db'}") as gradebook:
        yield gradebook


def enter_by_hand(course: CourseFolder) -> None:
    name, assignment = course.lesson.name, course.assignment
    exercise = next(iter(course.lesson.exercises))
    with gradebook_of(course) as gradebook:
        grade = gradebook.find_grade(f"{exercise}_tests", name, assignment, STUDENT)
        grade.manual_score, grade.extra_credit, grade.needs_manual_grade = 1.25, 0.5, False
        comment = gradebook.find_comment(exercise, name, assignment, STUDENT)
        comment.manual_comment = "Seen in the oral exam. «Gut!»"
        gradebook.db.commit()
        gradebook.grant_extension(assignment, STUDENT, days=2)


def by_hand(course: CourseFolder) -> tuple[Any, ...]:
    name, assignment = course.lesson.name, course.assignment
    exercise = next(iter(course.lesson.exercises))
    with gradebook_of(course) as gradebook:
        grade = gradebook.find_grade(f"{exercise}_tests", name, assignment, STUDENT)
        comment = gradebook.find_comment(exercise, name, assignment, STUDENT)
        extension = gradebook.find_submission(assignment, STUDENT).extension
        return grade.manual_score, grade.extra_credit, comment.manual_comment, extension


@pytest.mark.parametrize(
    "again",
    [
        ("forwardpass", "grade", "ch15_gan"),
        ("forwardpass", "grade", "ch15_gan", "--force"),
        ("nbgrader", "autograde", "ch15_gan", "--force"),
    ],
)
def test_manual_points_comments_and_extensions_stay(
    course: CourseFolder, again: tuple[str, ...]
) -> None:
    enter_by_hand(course)
    before = by_hand(course)
    assert before == (1.25, 0.5, "Seen in the oral exam. «Gut!»", timedelta(days=2))
    course.hand_in(STUDENT, course.answered(**dict.fromkeys(course.lesson.exercises)))
    old = course.records()[STUDENT]
    done = course.run(*again, status=None, stand_in=True)
    assert course.records()[STUDENT] != old, done.stdout + done.stderr
    assert by_hand(course) == before
    exercise = next(iter(course.lesson.exercises))
    auto, looked_at = course.grades(STUDENT)[f"{exercise}_tests"]
    record = course.records()[STUDENT]
    assert record.verdict is not None
    assert auto == record.verdict.exercises[0].score
    assert looked_at  # the answer under the manual points is another one now


def test_what_is_entered_before_grading_fails_stays(course: CourseFolder) -> None:
    with gradebook_of(course) as gradebook:
        gradebook.remove_submission(course.assignment, STUDENT)
        gradebook.add_submission(course.assignment, STUDENT)
    forget_unscored(_coursedir(course), STUDENT)
    assert not course.grades(STUDENT)
    with gradebook_of(course) as gradebook:
        gradebook.add_submission(course.assignment, STUDENT)
        gradebook.grant_extension(course.assignment, STUDENT, days=2)
    forget_unscored(_coursedir(course), STUDENT)
    with gradebook_of(course) as gradebook:
        submission = gradebook.find_submission(course.assignment, STUDENT)
        assert submission.extension == timedelta(days=2)


def _coursedir(course: CourseFolder) -> Any:
    class Directory:
        db_url = f"sqlite:///{course.root / 'gradebook.db'}"
        course_id, assignment_id = "forwardpass", course.assignment

    return Directory()


def penalty(course: CourseFolder) -> float | None:
    query = """
    select submitted_notebook.late_submission_penalty from submitted_notebook
    join submitted_assignment on submitted_assignment.id = submitted_notebook.assignment_id
    where submitted_assignment.student_id = ?
    """
    with contextlib.closing(sqlite3.connect(course.root / "gradebook.db")) as gradebook:
        ((found,),) = gradebook.execute(query, [STUDENT]).fetchall()
    return found


def test_late_work_is_penalised_until_an_extension_is_given(course: CourseFolder) -> None:
    with (course.root / "nbgrader_config.py").open("a", encoding="utf-8") as config:
        config.write(LATE)
    with gradebook_of(course) as gradebook:
        gradebook.update_or_create_assignment(course.assignment, duedate=DUE)
    grade = ("forwardpass", "grade", course.assignment, "--student", STUDENT)
    done = course.run(*grade, stand_in=True)
    assert "0 notebooks graded, 1 unchanged; grades of 1 students entered" in done.stdout
    assert penalty(course) == course.score(STUDENT) > 0
    assert "grades of 0 students entered" in course.run(*grade, stand_in=True).stdout
    with gradebook_of(course) as gradebook:
        gradebook.grant_extension(course.assignment, STUDENT, days=2)
    assert "grades of 1 students entered" in course.run(*grade, stand_in=True).stdout
    assert not penalty(course)


def test_all_are_asked_for_at_once_whether_they_are_scored_and_how_late(
    course: CourseFolder,
) -> None:
    exercise = next(iter(course.lesson.exercises))
    with gradebook_of(course) as gradebook:
        gradebook.update_or_create_assignment(course.assignment, duedate=DUE)
        gradebook.grant_extension(course.assignment, STUDENT, hours=1)
        unscored = (f"{exercise}_tests", course.lesson.name, course.assignment, "bob-0")
        gradebook.find_grade(*unscored).auto_score = None
        gradebook.db.commit()
        gradebook.add_student("eve")
        gradebook.add_submission(course.assignment, "eve")
        submissions = gradebook.assignment_submissions(course.assignment)
        late = {one.student.id: one.total_seconds_late for one in submissions}
    found = scored(_coursedir(course))
    day = 24 * 3600.0
    assert found == {"ann-0": day - 3600, "cyd-0": day, "dan-0": day}
    assert found == {student: late[student] for student in found}
    assert {"bob-0", "eve"} <= late.keys()


def test_a_regrading_killed_half_way_is_entered_all_the_same(course: CourseFolder) -> None:
    """A --force that came to another verdict and was killed before it was entered."""
    journal = course.journal
    record = journal.read(STUDENT, course.lesson.name)
    assert record is not None
    assert record.verdict is not None
    record.verdict.exercises[0].score = 0.5
    journal.write(course.lesson.name, record)
    assert course.disagreements()
    course.run("forwardpass", "grade", course.assignment, status=1, stand_in=True)
    assert not course.disagreements()
