"""What ``forwardpass grade`` is told to choose and to allow: ``--since`` and ``--memory``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from coursefolder import CourseFolder
from kill_storm import FORWARDPASS

from autograder.command import USAGE, main
from autograder.engine.grading import grade_notebooks
from autograder.engine.spawner import Policy, Zygote
from autograder.engine.verdict import Verdict
from autograder.gradebook.course import Handed
from autograder.gradebook.memory import UnfitMemory, mebibytes
from autograder.gradebook.since import UnfitMoment, handed_since, moment
from autograder.lesson import Lesson

Fill = Callable[..., dict[str, Any]]
Grade = Callable[[dict[str, Any]], Verdict]

NOON = datetime(2026, 3, 1, 12)
HUNGRY = """
right = generator_loss

def generator_loss(fake_logits):
    torch.zeros(40_000_000, dtype=torch.float64)
    return right(fake_logits)
"""


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-03-01 12:00", NOON),
        ("2026-03-01T12:00:00Z", NOON),
        ("2026-03-01 12:00:00.000000 UTC", NOON),  # as timestamp.txt has it
        ("2026-03-01 13:00 +0100", NOON),
        ("2026-03-01T13:00:00+01:00", NOON),
        ("2026-03-01 13:00 Europe/Berlin", NOON),
        ("2026-03-01", datetime(2026, 3, 1)),
    ],
)
def test_a_moment_is_read_as_it_is_written(text: str, meant: datetime) -> None:
    assert moment(text) == meant


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2026-02-30", "01.03.2026", "2026-03-01 25:00", "2026-03-01 12:00 Nowhere",
     "2026-03-01 12:00 /etc/passwd", "2026-03-01 12:00 +01:00 CET"],
)  # fmt: skip
def test_what_is_no_moment_is_told_with_what_would_be(text: str) -> None:
    with pytest.raises(UnfitMoment, match=r"is no date: write it as 2026-03-01, .*UTC where no"):
        moment(text)


def test_a_moment_to_come_is_a_slip() -> None:
    with pytest.raises(UnfitMoment, match=r"is still to come: it is 9026-03-01 00:00 UTC"):
        moment("9026-03-01")


def test_what_does_not_say_when_it_is_of_is_never_left_out() -> None:
    handed = [
        Handed("early", (), (), (), datetime(2026, 3, 1, 11, 59, 59)),
        Handed("just", (), (), (), NOON),
        Handed("unknown", (), ()),
    ]
    assert [one.student for one in handed_since(handed, NOON)] == ["just", "unknown"]


@pytest.mark.parametrize(
    ("text", "meant"),
    [("512MiB", 512), ("2GiB", 2048), ("2 gib", 2048), ("1.5GiB", 1536), ("1GB", 953), ("", None)],
)
def test_an_amount_of_memory(text: str, meant: int | None) -> None:
    assert mebibytes(text) == meant


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("2", "'2' is no amount of memory: write it as 512MiB or 2GiB"),
        ("lots", "is no amount of memory"),
        ("-1GiB", "is no amount of memory"),
        ("63MiB", "63MiB is too little to grade with: at least 64MiB are needed"),
        ("0GiB", "too little"),
    ],
)
def test_what_is_no_amount_of_memory(text: str, told: str) -> None:
    with pytest.raises(UnfitMemory, match=told):
        mebibytes(text)


@pytest.fixture(scope="module")
def course(make_course: Callable[[], CourseFolder]) -> CourseFolder:
    made = make_course()
    made.run("nbgrader", "generate_assignment", made.assignment, stand_in=True)
    for student, day in (("ann", "01"), ("bob", "02"), ("cyd", "")):
        made.hand_in(student, made.answered())
        written = made.submitted(student).parent / "timestamp.txt"
        written.write_text(f"2026-03-{day} 12:00:00.000000 UTC" if day else "")
    return made


def graded(course: CourseFolder, *options: str, status: int = 1) -> str:
    """1, as cyd's empty timestamp is for a person to see."""
    return course.run(
        *FORWARDPASS, course.assignment, *options, status=status, stand_in=True
    ).stdout


def test_only_what_was_handed_in_since_then_is_graded(course: CourseFolder) -> None:
    told = graded(course, "--since", "2026-03-02 13:00 +0100")
    assert "2 notebooks graded" in told
    assert sorted(course.records()) == ["bob", "cyd"]
    told = graded(course, "--since", "2026-03-03", "--student", "ann", status=0)
    assert "nothing was handed in since 2026-03-03 00:00:00 UTC" in told
    assert sorted(course.records()) == ["bob", "cyd"]


def test_a_verdict_belongs_to_the_memory_it_was_judged_in(course: CourseFolder) -> None:
    assert "3 notebooks graded, 0 unchanged" in graded(course, "--force")
    assert "3 notebooks graded, 0 unchanged" in graded(course, "--memory", "256MiB")
    assert "0 notebooks graded, 3 unchanged" in graded(course, "--memory", "0.25GiB")
    assert not course.disagreements()
    settings = course.root / "nbgrader_config.py"
    settings.write_text(settings.read_text() + "\nc.SubmissionExporter.memory = '256MiB'\n")
    assert "0 notebooks graded, 3 unchanged" in graded(course)


def test_a_slip_is_wrong_usage(course: CourseFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grade", "any", "--since", "soon"]) == USAGE
    assert "forwardpass grade: --since 'soon' is no date" in capsys.readouterr().err
    done = course.run(*FORWARDPASS, course.assignment, "--memory=2", status=USAGE, stand_in=True)
    assert "forwardpass grade: --memory '2' is no amount of memory" in done.stderr


def test_code_that_takes_more_than_is_allowed_fails(
    losses: Lesson, fill: Fill, grade: Grade
) -> None:
    hungry = fill(generator_loss=losses.reference_source("generator_loss") + HUNGRY)
    enough = grade(hungry)
    with Zygote(Policy(megabytes=128)) as zygote:
        too_little: list[Verdict] = []
        grade_notebooks(losses, [("it", hungry)], zygote, lambda _, v: too_little.append(v), seed=7)
    assert enough.score == enough.max_score
    scores = {exercise.name: exercise.score for exercise in too_little[0].exercises}
    assert scores.pop("generator_loss") == 0
    assert all(scores.values())
    assert "rlimits (128 MiB)" in too_little[0].sandbox["in force"]
