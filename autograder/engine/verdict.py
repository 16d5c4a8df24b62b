"""What grading a notebook found, as it is journaled, shown and written as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

# What a failure that shows only where inputs are not on the CPU does: it costs its test's points,
# or is told and costs nothing. The instructor's choice.
COUNT, TELL = "count", "tell"
PASSED, FAILED, UNJUDGED, ERROR = "passed", "failed", "not judged", "error"


class Postponed(RuntimeError):
    """A submission takes longer than others should wait for: it is to be graded after them."""


@dataclass
class TestResult:
    """One hidden test on one case.

    Attributes:
        name: the test's title and the case's.
        outcome: "passed", "failed", "not judged" (earns its points) or "error" (the grader's own).
        points: earned.
        max_points: that it is worth.
        message: for the student; empty where it passed.
        device: judged on: "cpu", "cuda" or "fake".
    """

    name: str
    outcome: str
    points: float
    max_points: float
    message: str
    device: str


@dataclass
class ExerciseResult:
    """One exercise: its tests, and what was recognised in it.

    Attributes:
        mistake: the recognised mistake's name, or None.
        hint: what the student is told of it.
        note: what else the student should know, such as a stand-in for an earlier exercise.
        error: the student's own error, cut to the student's own lines.
        flags: for a person: forbidden uses with their lines.
        stood_in: earlier exercises that were replaced by correct ones to judge this one.
    """

    name: str
    score: float
    max_score: float
    tests: list[TestResult]
    mistake: str | None = None
    hint: str = ""
    note: str = ""
    error: str = ""
    flags: list[str] = field(default_factory=list)
    stood_in: list[str] = field(default_factory=list)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ExerciseResult:
        """Rebuild a result from its fields, as `dataclasses.asdict` gives them.

        Raises:
            KeyError, TypeError: the data are of another version.
        """
        return cls(**{**data, "tests": [TestResult(**test) for test in data["tests"]]})


@dataclass
class Verdict:
    """One graded notebook.

    Attributes:
        devices: that answers were judged on: "cpu", "cuda", "fake".
        dtypes: by device, the floating dtypes that they were judged in.
        not_run: devices that nothing was judged on; never to be read as passed.
        numerics: how floating-point arithmetic was held still while judging.
        sandbox: the layers in force, and why others are missing.
        cell_errors: what the student's own cells met.
    """

    lesson: str
    score: float
    max_score: float
    devices: list[str]
    sandbox: dict[str, Any]
    exercises: list[ExerciseResult]
    cell_errors: list[str] = field(default_factory=list)
    dtypes: dict[str, list[str]] = field(default_factory=dict)
    not_run: list[str] = field(default_factory=list)
    numerics: dict[str, bool] = field(default_factory=dict)

    @property
    def has_errors(self) -> bool:
        """Whether the grader itself failed somewhere, so that a person must look."""
        return any(t.outcome == ERROR for e in self.exercises for t in e.tests)

    def told_of_devices(self) -> Verdict:
        """The same verdict where failures on devices are told and cost no points."""
        exercises = [_told_of_devices(e) if e.score else e for e in self.exercises]
        score = round(sum(exercise.score for exercise in exercises), 4)
        return replace(self, exercises=exercises, score=score)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Verdict:
        """Rebuild a verdict that ``to_dict`` wrote.

        Raises:
            KeyError, TypeError: the data are of another version.
        """
        exercises = [ExerciseResult.from_dict(exercise) for exercise in data["exercises"]]
        return cls(**{**data, "exercises": exercises})


def _told_of_devices(exercise: ExerciseResult) -> ExerciseResult:
    tests, score = [], exercise.score
    for test in exercise.tests:
        # A test names a device only once the same answer has passed on the CPU.
        if test.outcome == FAILED and test.device != "cpu":
            score += test.max_points
            message = f"{test.message} (Told for your information: it costs no points here.)"
            tests.append(replace(test, points=test.max_points, message=message))
        else:
            tests.append(test)
    return replace(exercise, tests=tests, score=min(round(score, 4), exercise.max_score))
