"""The demo, whole: `forwardpass demo` in a folder of its own. Takes a minute or two."""

from __future__ import annotations

import csv
import os
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from autograder.demo.roster import ABSENT, whole_class
from autograder.lesson import ROOT, find_lesson

LESSON = find_lesson("ch07_optimization/adam")
STUDENTS = [one.student for one in whole_class(LESSON, Path("/nowhere"))]


@dataclass
class Demo:
    """What a run left behind."""

    folder: Path
    status: int
    printed: str


def forwardpass(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "autograder.command", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("class")
    done = forwardpass("demo", "--folder", str(folder / "demo"), folder=folder)
    return Demo(folder / "demo", done.returncode, done.stdout)


def test_everything_comes_out_as_expected(demo: Demo) -> None:
    assert f"All {len(STUDENTS)} came out as expected" in demo.printed, demo.printed
    assert demo.status == 0


def test_the_table_names_everyone_and_what_was_recognised(demo: Demo) -> None:
    assert [student for student in STUDENTS if student not in demo.printed] == []
    assert "t counted from zero" in demo.printed
    for place in ("gradebook.db", "report.html", "grades.csv", "feedback"):
        assert str(demo.folder / place) in demo.printed


def test_the_gradebook_has_every_grade(demo: Demo) -> None:
    with sqlite3.connect(demo.folder / "gradebook.db") as gradebook:
        enrolled = {name for (name,) in gradebook.execute("select id from student")}
        handed_in = {
            name for (name,) in gradebook.execute("select student_id from submitted_assignment")
        }
        (ungraded,) = gradebook.execute(
            "select count(*) from grade where auto_score is null"
        ).fetchone()
    assert enrolled == {*STUDENTS, *ABSENT}
    assert handed_in == set(STUDENTS)
    assert ungraded == 0


def test_the_export_agrees(demo: Demo) -> None:
    with (demo.folder / "grades.csv").open(encoding="utf-8") as file:
        scores = {
            row["student_id"]: (row["score"], row["max_score"]) for row in csv.DictReader(file)
        }
    assert float(scores["ada-perfect"][0]) == float(scores["ada-perfect"][1]) > 0
    assert float(scores["stan-stripped"][0]) == float(scores["ada-perfect"][0])
    for nothing in ("uma-untouched", "kit-copies", "clara-claims", "tess-truncated"):
        assert float(scores[nothing][0]) == 0


def test_every_student_has_a_feedback_page(demo: Demo) -> None:
    pages = {path.parts[-3] for path in demo.folder.glob("feedback/*/*/*.html")}
    assert pages == set(STUDENTS)
    fetched = list((demo.folder / "students" / "ada-perfect").glob("*/feedback/**/*.html"))
    assert len(fetched) == 1


def test_feedback_shows_no_grader(demo: Demo) -> None:
    for page in demo.folder.glob("feedback/*/*/*.html"):
        text = page.read_text(encoding="utf-8")
        assert "BEGIN HIDDEN TESTS" not in text, page
        if "kit-copies" not in page.parts:  # whose own code names the files it reaches for
            assert "autograder/graders" not in text, page


def test_the_report_names_them_all(demo: Demo) -> None:
    text = (demo.folder / "report.html").read_text(encoding="utf-8")
    assert [student for student in (*STUDENTS, *ABSENT) if student not in text] == []


def test_an_earlier_demo_is_kept_where_asked(demo: Demo) -> None:
    again = forwardpass("demo", "--keep", "--folder", str(demo.folder), folder=demo.folder.parent)
    assert again.returncode == 1
    assert "holds an earlier demo, kept as you asked" in again.stdout
    assert (demo.folder / "report.html").exists()
