"""The demo's class: every submission is what it says it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

from autograder.builder.solution import STUB
from autograder.command import CommandError
from autograder.demo.course import CONFIG, MARK, DemoCourse
from autograder.demo.roster import ABSENT, whole_class
from autograder.demo.submissions import FULL, NONE, PART, PLANTED, Submission
from autograder.engine.notebook import UnreadableNotebook, code_cells, grade_id, parse_notebook
from autograder.engine.notebook import source_of as text_of
from autograder.engine.verdict import ExerciseResult, Verdict
from autograder.lesson import ROOT, all_lessons, find_lesson

ADAM = find_lesson("ch07_optimization/adam")
COURSE = Path("/nowhere/demo")
CLASS = {one.student: one for one in whole_class(ADAM, COURSE)}


def notebook(student: str) -> dict[str, Any]:
    return parse_notebook(CLASS[student].file.decode(), student)


def answers(student: str) -> dict[str, str]:
    """What the notebook holds for each exercise."""
    return {
        name: text_of(cell)
        for cell in code_cells(notebook(student))
        if (name := grade_id(cell)) in ADAM.exercises
    }


def test_a_class_of_at_least_twenty_with_names_of_their_own() -> None:
    students = [one.student for one in whole_class(ADAM, COURSE)]
    assert len(students) >= 20
    assert len(set(students)) == len(students)
    assert not set(students) & set(ABSENT)
    assert all(name == name.lower() and len(name) <= 24 and "+" not in name for name in students)


@pytest.mark.parametrize("lesson", all_lessons(), ids=lambda lesson: lesson.key)
def test_every_lesson_has_a_class(lesson: Any) -> None:
    found = whole_class(lesson, COURSE)
    assert len({one.student for one in found}) == len(found) >= 20
    assert all(set(one.marks) == set(lesson.exercises) for one in found)


def test_perfect_holds_the_reference_and_untouched_the_release() -> None:
    for name, source in answers("ada-perfect").items():
        assert source == ADAM.reference_source(name).rstrip("\n")
    release = json.loads(ADAM.release.read_text(encoding="utf-8"))
    assert notebook("uma-untouched") == release
    assert {one.expected for one in (CLASS["ada-perfect"], CLASS["vera-variant"])} == {FULL}
    assert CLASS["uma-untouched"].expected == NONE


def test_half_done_has_stubs_left() -> None:
    left = [name for name, source in answers("hal-half-done").items() if STUB[-1] in source]
    assert left == [name for name, mark in CLASS["hal-half-done"].marks.items() if mark == NONE]
    assert 0 < len(left) < len(ADAM.exercises)


@pytest.mark.parametrize("student", PLANTED[ADAM.key])
def test_planted_mistakes_are_the_graders_own(student: str) -> None:
    submission = CLASS[student]
    assert submission.mistakes
    for name, source in answers(student).items():
        listed = {mistake.name: mistake for mistake in ADAM.exercises[name].mistakes}
        reference = ADAM.reference_source(name)
        wanted = submission.mistakes.get(name)
        right = reference if wanted is None else listed[wanted].apply(reference)
        assert source == right.rstrip("\n")
        assert submission.marks[name] == (PART if wanted else FULL)


def test_broken_files_cannot_be_read() -> None:
    unreadable = [one for one in CLASS.values() if one.unreadable]
    assert {one.student for one in unreadable} == {"tess-truncated", "fay-format-3"}
    for one in unreadable:
        with pytest.raises(UnreadableNotebook):
            parse_notebook(one.file.decode(), one.student)
    assert len(nbformat.reads(CLASS["fay-format-3"].file.decode(), 3).worksheets[0].cells) > 10


@pytest.mark.parametrize("student", [one.student for one in CLASS.values() if not one.unreadable])
def test_the_others_are_notebooks(student: str) -> None:
    assert notebook(student)["cells"]


def test_disorder() -> None:
    ids = {one: [grade_id(c) for c in notebook(one)["cells"] if grade_id(c)] for one in CLASS
           if not CLASS[one].unreadable}  # fmt: skip
    whole = ids["ada-perfect"]
    (gone,) = set(whole) - set(ids["dora-deleted"])
    assert CLASS["dora-deleted"].marks[gone] == NONE
    assert all(ids["tom-twice"].count(name) == 2 for name in ADAM.exercises)
    assert ids["rob-reversed"] == whole[::-1]
    assert ids["stan-stripped"] == []
    assert not any(cell["metadata"] for cell in notebook("stan-stripped")["cells"])


@pytest.mark.parametrize(
    ("student", "fragment"),
    [
        ("lou-loop", "while True:"),
        ("xena-exit", "os._exit(0)"),
        ("ines-import-error", "import optimizers_from_the_forum"),
    ],
)
def test_failing_code_spoils_one_exercise(student: str, fragment: str) -> None:
    (spoilt,) = (name for name, mark in CLASS[student].marks.items() if mark == NONE)
    holding = [name for name, source in answers(student).items() if fragment in source]
    assert holding == [spoilt]


def test_a_syntax_error_is_one() -> None:
    with pytest.raises(SyntaxError):
        compile(answers("sven-syntax-error")["adagrad_step"], "cell", "exec")


def test_attacks_reach_for_what_they_say() -> None:
    theft = text_of(notebook("kit-copies")["cells"][-1])
    assert str(ADAM.reference_file) in theft
    assert str(ADAM.grader_file) in theft
    assert str(COURSE / "gradebook.db") in theft
    compile(theft, "cell", "exec")
    assert any("torch.allclose" in text_of(c) or "owner.allclose" in text_of(c)
               for c in notebook("pat-patches")["cells"])  # fmt: skip
    claims = [cell for cell in notebook("clara-claims")["cells"]
              if str(grade_id(cell)).endswith("_tests")]  # fmt: skip
    assert {c["outputs"][0]["data"]["text/plain"] for c in claims} == {"100.0"}
    told = [c["metadata"]["nbgrader"] for c in notebook("mona-metadata")["cells"] if grade_id(c)]
    assert {cell["points"] for cell in told} == {1000}


class TestSurprises:
    submission = Submission("it", "", b"", {"one": FULL, "two": PART}, {"two": "slip"})

    def verdict(self, one: float, two: float, mistake: str | None) -> Verdict:
        results = [
            ExerciseResult("one", one, 2.0, []),
            ExerciseResult("two", two, 2.0, [], mistake=mistake),
        ]
        return Verdict("x", one + two, 4.0, [], {}, results)

    def test_none_where_all_is_as_expected(self) -> None:
        assert self.submission.surprises(self.verdict(2, 1, "slip")) == []

    def test_points_lost_or_given_and_mistakes_missed_are_told(self) -> None:
        assert self.submission.surprises(self.verdict(1, 2, None)) == [
            "one: 50% of the points, expected full",
            "two: 100% of the points, expected part",
            "two: recognised None, expected 'slip'",
        ]

    def test_an_unexpected_flag_is_told(self) -> None:
        verdict = self.verdict(2, 1, "slip")
        verdict.exercises[0].flags = ["uses torch.optim"]
        assert self.submission.surprises(verdict) == ["flagged ['one'], expected []"]


class TestFolder:
    pytestmark = pytest.mark.skipif(
        not (ROOT / CONFIG).exists(), reason="nbgrader_config.py is not there"
    )

    def test_is_made_and_replaced(self, tmp_path: Path) -> None:
        course = DemoCourse(tmp_path / "demo", ADAM)
        course.create(["ada"])
        (course.folder / "left over").touch()
        course.create(["ada"])
        assert not (course.folder / "left over").exists()
        assert (course.folder / MARK).exists()
        assert "ada" in course.class_list.read_text()

    def test_is_kept_where_asked(self, tmp_path: Path) -> None:
        course = DemoCourse(tmp_path / "demo", ADAM)
        course.create(["ada"])
        with pytest.raises(CommandError, match="holds an earlier demo, kept as you asked"):
            course.create(["ada"], keep=True)

    def test_of_somebody_elses_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(CommandError, match="holds files that the demo did not make"):
            DemoCourse(tmp_path, ADAM).create(["ada"])
        assert (tmp_path / "thesis.tex").read_text() == "years of work"

    def test_is_no_link(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "demo").symlink_to(tmp_path / "real")
        with pytest.raises(CommandError, match="is not a folder"):
            DemoCourse(tmp_path / "demo", ADAM).create(["ada"])
