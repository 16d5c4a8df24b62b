"""The answers that a grader is proven on: reference, stub, mistakes and variants."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass

from autograder.builder.solution import stub_of
from autograder.engine.assessor import Job
from autograder.engine.notebook import SETUP, RunnableCell
from autograder.lesson import Lesson

REFERENCE, STUB, MISTAKE, VARIANT = "reference", "stub", "mistake", "variant"


@dataclass(frozen=True)
class Answer:
    """One answer to one exercise, all others being answered by the reference."""

    exercise: str
    kind: str
    name: str
    source: str

    @property
    def key(self) -> str:
        return f"{self.exercise}: {self.kind} {self.name}".rstrip()


def answers_of(lesson: Lesson, only: str | None = None, every: int = 1) -> Iterator[Answer]:
    """Every answer that the lesson's grader is proven on.

    Args:
        lesson: with a reference and a grader.
        only: one exercise's name, or None for all.
        every: of each exercise's mistakes, only every so-manieth.

    Raises:
        RewriteError: a mistake or a variant no longer fits the reference.
    """
    for name, exercise in lesson.exercises.items():
        if only not in (None, name):
            continue
        reference = lesson.reference_source(name)
        yield Answer(name, REFERENCE, "", reference)
        yield Answer(name, STUB, "", stub_of(reference))
        for mistake in exercise.mistakes[::every]:
            yield Answer(name, MISTAKE, mistake.name, mistake.apply(reference))
        for variant in exercise.variants:
            yield Answer(name, VARIANT, variant.name, variant.apply(reference))


def job_of(lesson: Lesson, answer: Answer) -> Job:
    """A submission that gives this answer, and the reference's to everything else."""
    cells = [RunnableCell(SETUP, preamble(lesson))]
    for name in lesson.exercises:
        source = answer.source if name == answer.exercise else lesson.reference_source(name)
        cells.append(RunnableCell(name, source, name))
    return Job(answer.key, tuple(cells), frozenset({answer.exercise}))


def preamble(lesson: Lesson) -> str:
    """The imports and constants of the reference's file."""
    source = inspect.getsource(lesson.reference)
    kept = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
    statements = [s for s in ast.parse(source).body if isinstance(s, kept)]
    left_out = ("from __future__", "from solutions.")  # of the latter the engine puts oracles in
    told = [ast.unparse(statement) for statement in statements]
    return "\n".join(line for line in told if not line.startswith(left_out))
