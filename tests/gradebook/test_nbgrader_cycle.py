"""nbgrader's own commands and ours over a class with every kind of broken notebook."""

from __future__ import annotations

import copy
import csv
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from coursefolder import CourseFolder

from autograder.engine.notebook import grade_id

MISTAKEN = "minimax_generator_loss"
UNREADABLE = {
    "tim-truncated": "cut short",
    "fay-format-3": "format 3",
    "emma-empty": "is empty",
    "lin-link": "is a link",
}
REFUSE = """
import autograder.gradebook.grader as grader
def refuse(*_):
    raise grader.GradingRefused("required sandbox layers are missing: landlock")
grader.Grader.prepare = refuse
from nbgrader.apps import NbGraderApp
NbGraderApp.launch_instance(["autograde", {assignment!r}, "--student=sue-sandbox"])
"""


def doubled(notebook: dict[str, Any]) -> None:
    notebook["cells"] = [cell for cell in notebook["cells"] for _ in range(2)]


def reordered(notebook: dict[str, Any]) -> None:
    notebook["cells"].reverse()


def tampered(notebook: dict[str, Any]) -> None:
    for cell in notebook["cells"]:
        if grade_id(cell):
            cell["metadata"]["nbgrader"] |= {"points": 99, "schema_version": 1, "locked": False}
        if cell["cell_type"] == "code":
            told = {"data": {"text/plain": "99"}, "metadata": {}, "execution_count": 1}
            cell["outputs"] = [{"output_type": "execute_result", **told}]


def without_tests(notebook: dict[str, Any]) -> None:
    notebook["cells"] = [c for c in notebook["cells"] if not (grade_id(c) or "").endswith("_tests")]


MANGLED = {
    "dee-doubled": doubled,
    "ray-reordered": reordered,
    "tam-tampered": tampered,
    "del-deleted": without_tests,
}


def half_right(course: CourseFolder) -> dict[str, Any]:
    """One exercise wrong in its sign, one untouched, the others right."""
    right = course.lesson.reference_source(MISTAKEN)
    mistake = next(
        m for m in course.lesson.exercises[MISTAKEN].mistakes if m.name == "a sum"
    ).apply(right)
    return course.answered(**{MISTAKEN: mistake, "generator_loss": None})


@pytest.fixture(scope="module")
def course(make_course: Callable[[], CourseFolder]) -> CourseFolder:
    """The cycle up to the feedback: ada through the exchange, the others put in their places."""
    course = make_course()
    chapter = course.assignment
    course.run("nbgrader", "generate_assignment", chapter)
    course.run("nbgrader", "release_assignment", chapter)
    desk = course.root / "home"
    settings = [f"--Exchange.root={course.root / 'exchange'}", "--course=forwardpass"]
    settings.append(f"--Exchange.cache={desk / 'cache'}")
    course.run("nbgrader", "fetch_assignment", chapter, *settings, folder=desk)
    fetched = desk / chapter / f"{course.lesson.name}.ipynb"
    assert "BEGIN SOLUTION" not in fetched.read_text(encoding="utf-8")
    fetched.write_text(json.dumps(half_right(course)), encoding="utf-8")
    course.run("nbgrader", "submit", chapter, "--student=ada", *settings, folder=desk)
    inbound = next((course.root / "exchange" / "forwardpass" / "inbound").iterdir())
    (inbound / "stolen.txt").symlink_to(course.root / "gradebook.db")
    course.run("nbgrader", "collect", chapter)

    perfect = course.answered()
    course.hand_in("pam-perfect", perfect)
    for student, mangle in MANGLED.items():
        notebook = copy.deepcopy(perfect)
        mangle(notebook)
        course.hand_in(student, notebook)
    text = json.dumps(perfect)
    course.hand_in("tim-truncated", text[: len(text) // 2])
    course.hand_in("fay-format-3", {"nbformat": 3, "nbformat_minor": 0, "worksheets": []})
    course.hand_in("emma-empty", "")
    course.hand_in("lin-link", "")
    course.submitted("lin-link").unlink()
    course.submitted("lin-link").symlink_to(course.submitted("pam-perfect"))
    (course.submitted("lin-link").parent / "notes.txt").symlink_to(course.root / "gradebook.db")

    course.run("nbgrader", "autograde", chapter)
    course.run("nbgrader", "generate_feedback", chapter)
    course.run("nbgrader", "release_feedback", chapter, "--student=ada")
    course.run("nbgrader", "fetch_feedback", chapter, "--student=ada", *settings, folder=desk)
    course.run("nbgrader", "export")
    return course


def test_collect_leaves_links_behind(course: CourseFolder) -> None:
    handed_in = {path.name for path in course.submitted("ada").parent.iterdir()}
    assert handed_in == {"losses.ipynb", "submission_secret.txt", "timestamp.txt"}


def test_half_right_work_earns_partial_credit(course: CourseFolder) -> None:
    grades = course.grades("ada")
    assert grades["discriminator_loss_tests"] == (3.5, False)
    assert grades["generator_loss_tests"] == (0.0, False)
    partial, by_hand = grades[f"{MISTAKEN}_tests"]
    assert partial is not None
    assert 0 < partial < 2
    assert not by_hand
    with (course.root / "grades.csv").open(newline="", encoding="utf-8") as file:
        exported = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    assert exported["ada"] == pytest.approx(course.score("ada"))
    assert len(exported) == 2 + len(MANGLED) + len(UNREADABLE)


def test_perfect_work_earns_all_points(course: CourseFolder) -> None:
    assert course.score("pam-perfect") == sum(e.points for e in course.lesson.exercises.values())


@pytest.mark.parametrize("student", MANGLED)
def test_mangled_notebooks_earn_what_their_answers_do(course: CourseFolder, student: str) -> None:
    assert course.grades(student) == course.grades("pam-perfect")
    ours = json.loads(course.lesson.source.read_text(encoding="utf-8"))
    shown = json.loads(course.autograded(student).read_text(encoding="utf-8"))
    ids = [cell["id"] for cell in shown["cells"]]
    assert [i for i in ids if i.startswith("losses-")] == [cell["id"] for cell in ours["cells"]]
    assert "99" not in str([c.get("outputs") for c in shown["cells"] if not grade_id(c)])


@pytest.mark.parametrize("student", UNREADABLE)
def test_unreadable_notebooks_are_told_of_and_wait_for_a_person(
    course: CourseFolder, student: str
) -> None:
    assert set(course.grades(student).values()) == {(0.0, True)}
    shown = json.loads(course.autograded(student).read_text(encoding="utf-8"))
    head = "".join(shown["cells"][0]["source"])
    assert "This notebook could not be graded" in head
    assert UNREADABLE[student] in head
    page = course.root / "feedback" / student / course.assignment / "losses.html"
    assert UNREADABLE[student] in page.read_text(encoding="utf-8")


def test_autograde_follows_no_link(course: CourseFolder) -> None:
    written = {path.name for path in course.autograded("lin-link").parent.iterdir()}
    assert written == {"losses.ipynb", "timestamp.txt"}


def test_feedback_reaches_the_student_with_the_hint(course: CourseFolder) -> None:
    pages = list((course.root / "home" / course.assignment).glob("feedback/*/losses.html"))
    assert len(pages) == 1
    page = pages[0].read_text(encoding="utf-8")
    assert "Look here first." in page
    assert "not written yet" in page
    assert "BEGIN HIDDEN TESTS" not in page
    assert "This cell is graded by Forward Pass" not in page


def test_forwardpass_grade_finds_everything_done(course: CourseFolder) -> None:
    done = course.run("forwardpass", "grade", course.assignment, status=1)
    assert "0 notebooks graded, 10 unchanged; grades of 0 students entered" in done.stdout
    for student, why in UNREADABLE.items():
        assert f"{student}: could not be read" in done.stdout
        assert why in done.stdout


def test_forwardpass_grade_grades_what_changed_and_nothing_else(
    course: CourseFolder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = course.autograded("ray-reordered").stat().st_mtime_ns
    course.hand_in("pam-perfect", course.answered(generator_loss=None))
    report = tmp_path_factory.mktemp("json") / "grade.json"
    call = ["grade", course.assignment, "--student", "pam-perfect", "ray-reordered"]
    done = course.run("forwardpass", *call, "--json", str(report))
    assert "1 notebooks graded, 1 unchanged; grades of 1 students entered" in done.stdout
    assert course.grades("pam-perfect")["generator_loss_tests"] == (0.0, False)
    assert course.autograded("ray-reordered").stat().st_mtime_ns == before
    entries = {e["student"]: e for e in json.loads(report.read_text())["submissions"]}
    assert entries["pam-perfect"]["score"] == course.score("pam-perfect")
    assert entries["ray-reordered"]["unchanged"]


def test_killed_while_grading_goes_on_where_it_was(course: CourseFolder) -> None:
    students = ["ada", "dee-doubled", "ray-reordered"]
    paths = [course.journal.path(student, course.lesson.name) for student in students]
    for path in paths:
        path.unlink()
    command = course.command(
        "forwardpass", "grade", course.assignment, "--jobs", "1", "--student", *students
    )
    process = subprocess.Popen(
        command,
        cwd=course.root,
        env=course.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 200
    while not any(path.exists() for path in paths):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = sum(path.exists() for path in paths)
    done = course.run("forwardpass", "grade", course.assignment, "--student", *students)
    graded = len(students) - kept
    assert f"{graded} notebooks graded, {kept} unchanged" in done.stdout


def test_killed_while_nbgrader_wrote_is_not_skipped(course: CourseFolder) -> None:
    course.journal.begin("dee-doubled")
    path = course.autograded("dee-doubled")
    path.unlink()  # the folder is there, the notebook is not: as after a kill
    done = course.run("nbgrader", "autograde", course.assignment)
    assert "interrupted" in done.stderr
    assert path.exists()
    assert course.score("dee-doubled") > 0


def test_a_missing_sandbox_stops_the_command_and_gives_no_score(course: CourseFolder) -> None:
    course.hand_in("sue-sandbox", course.answered())
    program = REFUSE.format(assignment=course.assignment)
    command = [*course.command("nbgrader")[:1], "-c", program]
    done = subprocess.run(
        command, cwd=course.root, env=course.environment, capture_output=True, text=True,
        timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Nothing was graded: required sandbox layers are missing: landlock" in done.stderr
    assert course.grades("sue-sandbox") == {}
    assert not course.autograded("sue-sandbox").exists()


def test_a_gradebook_of_another_source_stops_the_command(course: CourseFolder) -> None:
    source = course.root / "source" / course.assignment / "losses.ipynb"
    text = source.read_text(encoding="utf-8")
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        if grade_id(cell) == "generator_loss_tests":
            cell["metadata"]["nbgrader"]["points"] = 7
    source.write_text(json.dumps(notebook), encoding="utf-8")
    try:
        done = course.run("forwardpass", "grade", course.assignment, status=1)
    finally:
        source.write_text(text, encoding="utf-8")
    assert "differ in generator_loss_tests: run `nbgrader generate_assignment" in done.stderr


def test_wrong_usage_says_what_there_is(course: CourseFolder) -> None:
    done = course.run("forwardpass", "grade", course.assignment, "--student", "nobody", status=2)
    assert "no submission of ch15_gan by nobody; there are submissions by ada" in done.stderr
    done = course.run("forwardpass", "grade", "ch99_nothing", status=2)
    assert "ch99_nothing is no assignment's source; there is ch15_gan" in done.stderr
    done = course.run("forwardpass", "grade", "ch15_gan", "--course", "nowhere", status=2)
    assert "--course nowhere: No such file or directory" in done.stderr


def test_without_our_configuration_right_answers_earn_nothing(course: CourseFolder) -> None:
    """nbgrader's own autograding runs the tests cells, which raise: 0, never full marks."""
    notebook = course.answered()
    kept = ("setup", "exercise", "tests")
    notebook["cells"] = [
        c for c in notebook["cells"] if c["metadata"]["forwardpass"]["role"] in kept
    ]
    course.hand_in("sid-stock", notebook)
    config = course.root / "nbgrader_config.py"
    hidden = config.rename(course.root / "hidden.py")
    try:
        call = ["nbgrader", "autograde", course.assignment, "--student=sid-stock"]
        course.run(*call, "--Execute.timeout=120")
    finally:
        hidden.rename(config)
    assert {auto for auto, _ in course.grades("sid-stock").values()} == {0.0}
