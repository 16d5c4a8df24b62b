"""An exercise as its grader sees it: the tests, the known mistakes, the accepted variants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from autograder.spec.case import Case
from autograder.spec.rewrite import Mistake, Variant

TestFunction = TypeVar("TestFunction", bound=Callable[..., Any])


@dataclass
class Exercise:
    """One graded function or class.

    Attributes:
        name: the exercise's name: the function or class in the reference and in the notebook,
            and the solution cell's ``grade_id``.
        mistakes: what students get wrong; each must lose points and be recognised.
        variants: right answers written differently; each must get full marks.
        oracle: an implementation independent of the reference, with the same signature (a
            PyTorch op, autograd, a closed form). The laws compare the reference with it, and
            it stands in for a student's wrong answer while a later exercise is judged, so it
            must not be the reference. None where no oracle exists.
        forbids: dotted names that an answer must not use, such as ``"torch.optim"``: the name
            itself and everything below it. Using one costs the exercise's points.
        seconds: wall clock that all of the exercise's tests together may take.
        megabytes: memory that the exercise may allocate.
        points: what its tests are worth, added up as they are declared.
        cases: of all its tests, in order.
    """

    name: str
    mistakes: Sequence[Mistake] = ()
    variants: Sequence[Variant] = ()
    oracle: Callable[..., Any] | None = None
    forbids: Sequence[str] = ()
    seconds: float = 60.0
    megabytes: int = 1024
    points: float = field(default=0.0, init=False)
    cases: list[Case] = field(default_factory=list, init=False)

    def test(
        self, *, points: float, cases: Sequence[Case]
    ) -> Callable[[TestFunction], TestFunction]:
        """Declare a pytest function ``test_…(submission, case)`` worth so many points.

        Its docstring is its title in the feedback. The points are shared equally among the
        cases, so that each case passed earns its part.
        """
        if not cases:
            raise ValueError(f"exercise {self.name!r}: a test needs at least one case")
        self.points += points
        self.cases.extend(case for case in cases if case not in self.cases)

        def mark(function: TestFunction) -> TestFunction:
            marked = pytest.mark.parametrize("case", cases, ids=str)(function)
            judged: TestFunction = pytest.mark.exercise(self, points=points / len(cases))(marked)
            return judged

        return mark

    def __str__(self) -> str:
        return self.name
