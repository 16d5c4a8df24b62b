"""Answers given alike are judged once, and everybody's verdict is as if they had not been."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from autograder.engine.alike import given_answers
from autograder.engine.assessor import Assessor, Job
from autograder.engine.grading import Plan
from autograder.engine.judge import Judge
from autograder.engine.notebook import SETUP, RunnableCell
from autograder.engine.outcomes import ALONE, Outcomes
from autograder.engine.session import Session
from autograder.engine.spawner import Zygote
from autograder.engine.verdict import Verdict
from autograder.lesson import Lesson

Fill = Callable[..., dict[str, Any]]
Grade = Callable[..., list[Verdict]]

NAME, OTHER = "wasserstein_generator_loss", "hinge_generator_loss"
RIGHT = f"def {NAME}(fake_scores):\n    return -fake_scores.mean()\n"
AS_RIGHT = f"# the critic's mean\ndef {NAME}( fake_scores ):\n\n    return (-fake_scores.mean())\n"
WRONG = f"def {NAME}(fake_scores):\n    return fake_scores.mean()\n"
AS_WRONG = f"\n\ndef {NAME}(fake_scores):\n    return fake_scores.mean()  # turned\n"
RAISES = f"def {NAME}(fake_scores):\n    return fake_scores.men()\n"
ENDS = f"import os\n\ndef {NAME}(fake_scores):\n    os.abort()\n"
LEANS = f"def {NAME}(fake_scores):\n    return {OTHER}(fake_scores)\n"
HELPED = f"def {NAME}(fake_scores):\n    return turned(fake_scores.mean())\n"
# The class is everybody's in one worker: what comes after it in the notebook is wrong there.
SPOILS = f"""def {OTHER}(fake_logits):
    kind, mean = type(fake_logits), fake_logits.mean
    kind.mean = kind.sum
    return -mean()
"""


@pytest.fixture
def outcomes() -> Iterator[Outcomes]:
    with tempfile.TemporaryFile() as file:
        yield Outcomes(file.fileno())


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The exercises of which something was run, one for each that a judge ran."""
    told: list[str] = []
    run = Judge.run

    def noted(self: Judge, exercise: Any, *given: Any) -> Any:
        if exercise.name not in self.records:
            told.append(exercise.name)
        return run(self, exercise, *given)

    monkeypatch.setattr(Judge, "run", noted)
    return told


@pytest.fixture
def grade(losses: Lesson, zygote: Zygote) -> Grade:
    """Grade notebooks in one run, judging one or two of the exercises."""

    def graded(notebooks: list[Any], outcomes: Outcomes = ALONE, *only: str) -> list[Verdict]:
        chosen = frozenset(only or {NAME, OTHER})
        plan = Plan(losses)
        jobs = [Job("", plan.job("", book).cells, chosen) for book in notebooks]
        told: list[Verdict] = []
        session = Session(losses, zygote, 5, outcomes=outcomes, alike=outcomes is not ALONE)
        session.grade(jobs, lambda _, verdict: told.append(verdict))
        return told

    return graded


def beside(notebook: dict[str, Any], source: str) -> dict[str, Any]:
    """The notebook with a cell of the student's own before all others."""
    cell = {"cell_type": "code", "metadata": {}, "source": source, "id": "own", "outputs": []}
    return {**notebook, "cells": [cell, *notebook["cells"]]}


@pytest.mark.parametrize("answer", [RIGHT, WRONG, RAISES, None, f"def {NAME}(:\n"])
def test_the_third_who_gives_an_answer_has_what_the_others_had(
    answer: str | None, fill: Fill, grade: Grade, outcomes: Outcomes, ran: list[str]
) -> None:
    books = [fill(**{NAME: answer})] * 3
    own = grade(books)
    ran.clear()
    told = grade(books, outcomes)
    assert told == own
    assert (ran.count(NAME), ran.count(OTHER)) == (2, 2)


def test_one_who_has_nothing_of_his_own_needs_no_worker(
    fill: Fill, grade: Grade, outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    grade([fill()] * 2, outcomes)
    monkeypatch.setattr(Zygote, "fork", lambda *_args, **_kwargs: pytest.fail("it forked"))
    (verdict,) = grade([fill()], outcomes)
    assert verdict.score == verdict.max_score


def test_comments_and_layout_part_only_what_is_told_with_its_line(
    fill: Fill, grade: Grade, outcomes: Outcomes, ran: list[str]
) -> None:
    books = [fill(**{NAME: answer}) for answer in (RIGHT, AS_RIGHT, RIGHT)]
    told = grade(books, outcomes, NAME)
    assert ran == [NAME] * 2
    assert all(verdict.score == verdict.max_score for verdict in told)
    ran.clear()
    books = [fill(**{NAME: answer}) for answer in (WRONG, AS_WRONG)]
    grade(books * 2, outcomes, NAME)
    assert ran == [NAME] * 4


def test_a_later_session_of_the_run_has_it_too(
    fill: Fill, grade: Grade, outcomes: Outcomes, ran: list[str]
) -> None:
    grade([fill()] * 2, outcomes, NAME)
    grade([fill()], outcomes, NAME)
    assert ran == [NAME] * 2


def test_what_an_answer_leans_on_is_part_of_it(
    fill: Fill, grade: Grade, outcomes: Outcomes
) -> None:
    leaning = fill(**{NAME: LEANS})
    wrong = fill(**{NAME: LEANS, OTHER: f"def {OTHER}(fake_logits):\n    return 0.0\n"})
    helped = [
        beside(fill(**{NAME: HELPED}), "def turned(x):\n    return -x\n"),
        beside(fill(**{NAME: HELPED}), "def turned(x):\n    return +x\n"),
    ]
    books = [leaning, leaning, leaning, wrong, wrong, wrong, *helped, *helped, *helped]
    own = grade(books)
    told = grade(books, outcomes)
    assert told == own
    assert [v.exercises[-1].stood_in for v in told[3:6]] == [[OTHER]] * 3
    assert told[6].score > told[7].score


def test_what_leans_on_different_mistakes_is_judged_once_with_a_correct_one_in_their_place(
    fill: Fill, grade: Grade, outcomes: Outcomes, ran: list[str]
) -> None:
    wrong = [f"def {OTHER}(fake_logits):\n    return {value}\n" for value in "1234"]
    books = [fill(**{NAME: LEANS, OTHER: other}) for other in wrong]
    own = grade(books)
    assert ran.count(NAME) == 8
    ran.clear()
    assert grade(books, outcomes) == own
    assert ran.count(NAME) == 6  # as it is given four times, and twice with the stand-in


@pytest.mark.parametrize("first", [[SPOILS], [SPOILS, SPOILS], [None, SPOILS]])
def test_nobody_has_what_became_of_an_answer_in_bad_company(
    first: list[str | None], fill: Fill, grade: Grade, outcomes: Outcomes
) -> None:
    company = [fill() if other is None else fill(**{OTHER: other}) for other in first]
    books = [*company, *[fill()] * 3]
    assert grade([fill(**{OTHER: SPOILS})])[0].exercises[-1].score < 0.1
    told = grade(books, outcomes)
    for verdict in told[len(company) :]:
        assert verdict.score == verdict.max_score


def test_what_dies_is_judged_each_time_anew(
    fill: Fill, grade: Grade, outcomes: Outcomes, ran: list[str]
) -> None:
    told = grade([fill(**{NAME: ENDS})] * 4, outcomes, NAME)
    assert ran == [NAME] * 4
    messages = [verdict.exercises[0].tests[0].message for verdict in told]
    assert all("the Python process" in message for message in messages), messages


def test_what_came_out_otherwise_by_itself_is_never_shared(
    fill: Fill,
    grade: Grade,
    outcomes: Outcomes,
    ran: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = Assessor._alone

    def otherwise(self: Assessor, *given: Any) -> Any:
        judged = alone(self, *given)
        assert judged is not None
        judged.result.score = 0.0
        return judged

    monkeypatch.setattr(Assessor, "_alone", otherwise)
    told = grade([fill()] * 4, outcomes, NAME)
    assert all(verdict.score == verdict.max_score for verdict in told)
    assert ran == [NAME] * 5


def test_what_a_person_should_look_at_is_judged_each_time_anew(
    fill: Fill, grade: Grade, outcomes: Outcomes, ran: list[str]
) -> None:
    books = [beside(fill(), "import inspect\n")] * 3
    told = grade(books, outcomes, NAME)
    assert ran == [NAME] * 3
    assert all(verdict.exercises[0].flags for verdict in told)


def test_a_cell_of_their_own_that_fails_is_told_to_all(
    fill: Fill, grade: Grade, outcomes: Outcomes
) -> None:
    books = [beside(fill(), "import no_such_module\n")] * 3
    told = grade(books, outcomes)
    assert told == grade(books)
    assert all("no_such_module" in verdict.cell_errors[0] for verdict in told)


@pytest.mark.parametrize(
    ("source", "given"),
    [
        ("def f(x):\n    return x\n", True),
        ("'Words.'\nimport math\nRATE: float = 0.1\n\nclass A:\n    pass\n", True),
        ("from torch import *\n", False),
        ("print('hello')\n", False),
        ("f.helper = 3\n", False),
        ("a[0] = 3\n", False),
        ("x = torch.manual_seed(0)\n", False),
        ("x = (y := 3)\n", False),
        ("x += 1\n", False),
        ("if True:\n    x = 1\n", False),
        ("for x in range(3):\n    pass\n", False),
        ("with open('f') as f:\n    pass\n", False),
        ("del f\n", False),
        ("assert True\n", False),
        ("def :\n", True),
    ],
)
def test_only_cells_that_do_no_more_than_define_say_what_an_answer_is(
    source: str, given: bool
) -> None:
    cells = [RunnableCell("e", "def e():\n    return 1\n", "e"), RunnableCell("number 3", source)]
    assert bool(given_answers(["e"], cells)) == given


@pytest.mark.parametrize("many", [["x = 1\n"] * 4000, ["#" * 80 + "\n" + "x = 1\n" * 15_000]])
def test_what_takes_long_to_read_is_judged_each_time_anew(many: list[str]) -> None:
    own = [RunnableCell("e", "def e():\n    return x\n", "e")]
    assert given_answers(["e"], own)
    cells = [RunnableCell(f"number {i}", source) for i, source in enumerate(many)]
    assert given_answers(["e"], [*own, *cells]) == {}


def test_an_answer_is_made_of_whatever_its_names_lead_to() -> None:
    cells = [
        RunnableCell(SETUP, "print('ours')\n"),
        RunnableCell("number 1", "import math as mathematics\nK = mathematics.pi\n"),
        RunnableCell("number 2", "class Helper:\n    k = K\n"),
        RunnableCell("number 3", "def unused():\n    return e()\n"),
        RunnableCell("d", "def d():\n    return 0\n", "d"),
        RunnableCell("e", "def e():\n    return Helper().k\n", "e"),
        RunnableCell("number 6", "Helper: type\n"),
    ]
    answers = given_answers(["d", "e", "missing"], cells)
    assert answers.keys() == {"d", "e"}
    assert [cell.name for cell in answers["d"].cells] == [SETUP, "d"]
    of_e = [cell.name for cell in answers["e"].cells]
    assert of_e == [SETUP, "number 1", "number 2", "e", "number 6"]


def test_the_verdicts_survive_being_kept(fill: Fill, grade: Grade, outcomes: Outcomes) -> None:
    books = [fill(**{NAME: RAISES})] * 3
    first, _, third = grade(books, outcomes)
    assert json.dumps(first.to_dict()) == json.dumps(third.to_dict())
