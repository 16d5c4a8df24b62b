"""The class report: figures checked by hand, student text kept harmless, the page well-formed."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from autograder.command import main
from autograder.engine import verdict as verdicts
from autograder.engine.verdict import ERROR, FAILED, PASSED, ExerciseResult, Verdict
from autograder.gradebook.journal import Record
from autograder.gradebook.key import SUBMISSION
from autograder.gradebook.move import CHANCE, CHANGED, Move
from autograder.report import figures
from autograder.report.concerns import concerns_of
from autograder.report.page import render
from autograder.report.record import ClassRecord, Enrolled

LESSON = "ch99_testing/report"
HOSTILE = "<script>alert('mine')</script><img src=x onerror=alert(1)>"
POINTS = {"first": 2.0, "second": 4.0}
#          first, second
EARNED = {"ann": (2.0, 4.0), "bob": (1.0, 4.0), "cyd": (0.0, 2.0), "dot": (2.0, 0.0)}


def verdict(scores: tuple[float, float], **changes: object) -> Verdict:
    """Two exercises; the second's tests are an easy half and a hard half."""
    first, second = scores
    easy, hard = min(second, 2.0), max(second - 2.0, 0.0)
    results = [
        ExerciseResult("first", first, 2.0, [graded_test("whole", first, 2.0)]),
        ExerciseResult(
            "second",
            second,
            4.0,
            [graded_test("easy half", easy, 2.0), graded_test("hard half", hard, 2.0)],
        ),
    ]
    for name, value in changes.items():
        setattr(results[0], name, value)
    sandbox = {"in force": ["landlock", "seccomp"], "missing": {"namespaces": "not allowed here"}}
    return Verdict(LESSON, first + second, 6.0, ["cpu", "fake"], sandbox, results)


def graded_test(name: str, points: float, worth: float) -> verdicts.TestResult:
    outcome = PASSED if points == worth else FAILED
    return verdicts.TestResult(
        name, outcome, points, worth, "" if outcome == PASSED else "differs", "cpu"
    )


def graded(student: str, lesson: str, found: Verdict | None, failure: str = "") -> Record:
    return Record("key", student, lesson, found, failure)


def moved(student: str, because: tuple[str, ...]) -> Record:
    """A student whose grade for the first exercise moved from 1.25 to 2."""
    now = verdict((2.0, 4.0))
    move = Move(5.25, 6.0, {"first": (1.25, 2.0)}, because, "2026-02-03T04:05:06+00:00")
    return replace(graded(student, LESSON, now), moved=move)


def record(*extra: Record, **others: object) -> ClassRecord:
    entries = [graded(student, LESSON, verdict(scores)) for student, scores in EARNED.items()]
    return ClassRecord("ch99_testing", (*entries, *extra), **others)  # type: ignore[arg-type]


def page_of(made: ClassRecord) -> str:
    return render(made, datetime(2026, 3, 1, 12, 0, tzinfo=UTC))


class Page(HTMLParser):
    """What of a page the tests look at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.tags.append(tag)
        self.attributes.append((tag, told))
        self.ids += [str(told["id"])] if "id" in told else []
        self.links += [str(told["href"])] if "href" in told else []


class TestFigures:
    students = figures.students_of(record())

    def test_difficulty_is_the_mean_share_of_the_points(self) -> None:
        first, second = figures.exercises_of(self.students)
        assert first.difficulty == pytest.approx((1 + 0.5 + 0 + 1) / 4)
        assert second.difficulty == pytest.approx((1 + 1 + 0.5 + 0) / 4)

    def test_discrimination_is_the_correlation_with_the_rest_of_the_score(self) -> None:
        # shares 1, ½, 0, 1 against 4, 4, 2, 0 points: −¼ / √(0.6875 · 11) = −1/11, by hand
        first, _ = figures.exercises_of(self.students)
        assert first.discrimination == pytest.approx(-1 / 11)

    def test_no_discrimination_where_all_are_alike_or_too_few(self) -> None:
        assert figures.correlation([1, 1, 1], [0, 1, 2]) is None
        assert figures.correlation([0, 1], [0, 1]) is None

    def test_full_some_and_none_name_the_students(self) -> None:
        first, _ = figures.exercises_of(self.students)
        assert [s.id for s in first.full] == ["ann", "dot"]
        assert [s.id for s in first.partial] == ["bob"]
        assert [s.id for s in first.none] == ["cyd"]

    def test_distribution_counts_full_marks_in_the_last_tenth(self) -> None:
        bins = figures.bins_of(self.students)
        assert {b.low: [s.id for s in b.students] for b in bins if b.students} == {
            30: ["cyd", "dot"],
            80: ["bob"],
            90: ["ann"],
        }

    def test_a_score_on_a_border_counts_in_the_upper_tenth(self) -> None:
        student = figures.Student(1, "ann", "", 2.1, 7.0, {}, [], [])
        assert [b.low for b in figures.bins_of([student]) if b.students] == [30]

    def test_mistakes_are_counted_the_most_frequent_first(self) -> None:
        entries = [
            graded("a", LESSON, verdict((0, 0), mistake="rare", hint="r")),
            graded("b", LESSON, verdict((0, 0), mistake="common", hint="c")),
            graded("c", LESSON, verdict((0, 0), mistake="common", hint="c")),
        ]
        found = figures.mistakes_of(figures.students_of(ClassRecord("x", tuple(entries))))
        assert [(m.name, len(m.students)) for m in found] == [("common", 2), ("rare", 1)]

    def test_an_unreadable_notebook_says_nothing_about_the_exercises(self) -> None:
        students = figures.students_of(record(graded("eve", LESSON, None, "is cut short")))
        assert figures.exercises_of(students)[0].difficulty == pytest.approx(0.625)
        assert [s.graded for s in students] == [True] * 4 + [False]

    def test_a_lesson_not_handed_in_counts_as_nothing(self) -> None:
        other = verdict((2, 4))
        other.lesson = "ch99_testing/other"
        (ann, bob, *_) = figures.students_of(record(graded("ann", other.lesson, other)))
        assert (ann.score, ann.max_score) == (12, 12)
        assert (bob.score, bob.max_score) == (5, 12)
        assert list(ann.results) == [
            "report: first", "report: second", "other: first", "other: second",
        ]  # fmt: skip


class TestConcerns:
    def concerns(self, made: ClassRecord) -> list[str]:
        students = figures.students_of(made)
        exercises, tests = figures.exercises_of(students), figures.tests_of(students)
        return [c.title for c in concerns_of(students, exercises, tests, made.waiting)]

    def test_a_test_that_nobody_passes_is_suspected(self) -> None:
        entries = [graded(s, LESSON, verdict((2, points))) for s, points in (("a", 2), ("b", 0))]
        assert "1 hidden test that nobody passes" in self.concerns(ClassRecord("x", tuple(entries)))

    def test_one_student_alone_does_not_make_a_test_suspect(self) -> None:
        assert self.concerns(ClassRecord("x", (graded("a", LESSON, verdict((0, 0))),))) == []

    def test_a_graders_own_error_comes_first(self) -> None:
        broken = verdict((2, 4))
        broken.exercises[0].tests[0].outcome = ERROR
        titles = self.concerns(
            record(graded("eve", LESSON, broken), graded("fay", LESSON, None, "?"))
        )
        assert titles[0] == "1 hidden test failed by an error of the grader's own"
        assert titles[-1] == "1 student with a notebook that could not be graded"

    def test_an_exercise_that_better_students_fail_is_named(self) -> None:
        assert "first, second: better students do worse" in self.concerns(record())

    def test_submissions_not_graded_yet_are_counted(self) -> None:
        assert "2 submissions not graded yet" in self.concerns(record(waiting=("x", "y")))

    def test_a_grade_that_moved_by_chance_is_worse_than_one_that_a_mended_test_moved(self) -> None:
        moves = {"eve": (CHANCE,), "fay": (CHANGED["hidden tests"],), "gil": (CHANGED[SUBMISSION],)}
        entries = [moved(student, because) for student, because in moves.items()]
        assert self.concerns(ClassRecord("x", tuple(entries))) == [
            "1 grade moved though nothing had changed",
            "1 grade moved when graded again",
        ]


class TestPage:
    full = record(
        moved("hal", (HOSTILE,)),
        graded(HOSTILE, LESSON, verdict((0, 0), mistake=HOSTILE, hint=HOSTILE, note=HOSTILE,
              error=HOSTILE, flags=[HOSTILE])),
        graded("eve", LESSON, None, HOSTILE),
        enrolled=(Enrolled("ann", HOSTILE, True, 5.5), Enrolled("gil", "Gil G.", False, None)),
        waiting=(HOSTILE,),
    )  # fmt: skip

    def test_student_text_is_shown_and_never_run(self) -> None:
        for one in self.full.entries:
            if one.verdict:
                one.verdict.cell_errors = [HOSTILE]
                one.verdict.exercises[0].tests[0].message = HOSTILE
                one.verdict.exercises[0].tests[0].outcome = FAILED
        text = page_of(self.full)
        page = Page(text)
        assert text.count("&lt;script&gt;alert(") >= 10
        assert page.tags.count("script") == 1
        assert "img" not in page.tags
        assert not any(name.startswith("on") for _, told in page.attributes for name in told)

    def test_only_its_own_script_may_run_and_nothing_is_loaded(self) -> None:
        text = page_of(self.full)
        page = Page(text)
        assert "default-src 'none'" in text
        assert "script-src 'sha256-" in text
        assert all(link.startswith("#") for link in page.links)
        assert not any({"src", "srcset", "data"} & told.keys() for _, told in page.attributes)

    def test_every_link_has_a_target_and_every_id_is_used_once(self) -> None:
        page = Page(page_of(self.full))
        assert len(page.ids) == len(set(page.ids))
        assert {link.removeprefix("#") for link in page.links} <= set(page.ids)

    def test_every_table_can_be_read_by_a_screen_reader(self) -> None:
        page = Page(page_of(self.full))
        assert page.tags.count("table") == page.tags.count("caption") >= 6
        assert all("scope" in told for tag, told in page.attributes if tag == "th")
        assert ("html", {"lang": "en"}) in page.attributes

    def test_shows_whose_grade_moved_from_what_to_what_and_why(self) -> None:
        text = page_of(record(moved("eve", (CHANGED["engine"], "torch: 2.12, now 2.13"))))
        _, _, told = text.partition('id="moved"')
        row = " ".join(told.partition("</section>")[0].split())
        for part in (">eve<", "+0.75", ">5.25<", ">6<", "</code> 1.25 → 2<",
                     "the engine changed; torch: 2.12, now 2.13", "2026-02-03 04:05"):  # fmt: skip
            assert part in row
        assert "None: no notebook" in page_of(record())

    def test_says_who_has_not_handed_in(self) -> None:
        assert "gil (Gil G.)" in page_of(self.full)
        assert "nobody can say who has not handed in" in page_of(record())

    def test_shows_the_gradebooks_score_where_it_differs(self) -> None:
        assert "gradebook: 5.5" in page_of(self.full)

    def test_an_empty_class_makes_a_page(self) -> None:
        assert "No notebook has been graded yet." in page_of(ClassRecord("x", ()))

    def test_says_under_what_the_notebooks_were_judged(self) -> None:
        text = page_of(self.full)
        assert "namespaces (not allowed here)" in text
        assert "landlock" in text


class TestCommand:
    @pytest.fixture
    def course(self, tmp_path: Path) -> Path:
        folder = tmp_path / "journal" / "ch99_testing"
        for student, scores in EARNED.items():
            (folder / student).mkdir(parents=True)
            told = graded(student, LESSON, verdict(scores)).to_dict()
            (folder / student / "report.json").write_text(json.dumps(told))
        (tmp_path / "submitted" / "late" / "ch99_testing").mkdir(parents=True)
        return tmp_path

    def run(self, course: Path, *arguments: str) -> int:
        output = str(course / "page.html")
        return main(
            ["report", "ch99_testing", "--course", str(course), "--output", output, *arguments]
        )

    def test_writes_the_page(self, course: Path) -> None:
        assert self.run(course) == 0
        text = (course / "page.html").read_text(encoding="utf-8")
        assert "ann" in text
        assert "late" in text

    def test_without_verdicts_it_says_what_to_do(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(tmp_path) == 2
        assert "run `forwardpass grade ch99_testing`" in capsys.readouterr().err
        assert not (tmp_path / "page.html").exists()

    def test_a_damaged_journal_entry_is_named(
        self, course: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        damaged = course / "journal" / "ch99_testing" / "bob" / "report.json"
        damaged.write_text('{"verdict": ')
        assert self.run(course) == 1
        assert str(damaged) in capsys.readouterr().err

    @pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")  # of nbgrader's own making
    def test_a_gradebook_is_read_and_not_written(
        self, course: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # nbgrader starts `alembic` by its name: it is beside this Python, activated or not.
        beside = str(Path(sys.executable).parent)
        monkeypatch.setenv("PATH", beside, prepend=os.pathsep)
        from nbgrader.api import Gradebook

        path = course / "gradebook.db"
        with Gradebook(f"sqlite:///{path}") as gradebook:
            gradebook.add_assignment("ch99_testing")
            gradebook.add_student("ann")
            gradebook.add_student("gil", first_name="Gil", last_name="Absent")
            gradebook.add_submission("ch99_testing", "ann")
        before = path.read_bytes()
        assert self.run(course) == 0
        assert "gil (Gil Absent)" in (course / "page.html").read_text(encoding="utf-8")
        assert path.read_bytes() == before
        with sqlite3.connect(path) as connection:
            assert connection.execute("select count(*) from course").fetchone() == (1,)
