"""What is told of an exercise, and in which order, whatever it is written in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from autograder.engine.verdict import ERROR, FAILED, PASSED, UNJUDGED, ExerciseResult, TestResult

DEVICES = {"cpu": "CPU", "cuda": "CUDA", "fake": "fake GPU"}
OUTCOMES = {
    PASSED: "passed",
    FAILED: "failed",
    UNJUDGED: "not judged, points given",
    ERROR: "grader error",
}


@dataclass
class Case:
    """One test on one case.

    Attributes:
        title: the case's, or empty where the test has only one.
        outcome: as in the verdict.
        points: earned.
        max_points: that it is worth.
        message: for the student; empty where it was told above already.
        device: for a reader.
    """

    title: str
    outcome: str
    points: float
    max_points: float
    message: str
    device: str


@dataclass
class Group:
    """The cases of one test.

    Attributes:
        title: the test's.
        cases: of it, failing ones first.
    """

    title: str
    cases: list[Case] = field(default_factory=list)

    @property
    def points(self) -> float:
        return sum(case.points for case in self.cases)

    @property
    def max_points(self) -> float:
        return sum(case.max_points for case in self.cases)

    @property
    def outcome(self) -> str:
        """The worst of the cases'."""
        found = {case.outcome for case in self.cases}
        return next(o for o in (ERROR, FAILED, UNJUDGED, PASSED) if o in found)

    @property
    def devices(self) -> list[str]:
        return sorted({case.device for case in self.cases})


@dataclass
class Outline:
    """An exercise's feedback.

    Attributes:
        result: that it tells of.
        common: what every failing test says, told once; empty where they differ.
        groups: the tests.
    """

    result: ExerciseResult
    common: str
    groups: list[Group]

    @property
    def complete(self) -> bool:
        return self.result.score >= self.result.max_score

    @property
    def error(self) -> str:
        """The student's own error, as a sentence would begin."""
        return self.result.error[:1].upper() + self.result.error[1:]


def outline_of(result: ExerciseResult) -> Outline:
    """Put an exercise's tests in the order in which they are told."""
    common = _common_message(result)
    above = [text for text in (result.error, common) if text]
    groups: dict[str, Group] = {}
    for test in result.tests:
        title, case = _split(test, result.tests)
        message = "" if any(text in test.message for text in above) else test.message
        group = groups.setdefault(title, Group(title))
        device = DEVICES.get(test.device, test.device)
        group.cases.append(Case(case, test.outcome, test.points, test.max_points, message, device))
    for group in groups.values():
        group.cases.sort(key=lambda case: case.outcome == PASSED)
    told_by_error = bool(result.error) and result.error in common
    return Outline(result, "" if told_by_error else common, list(groups.values()))


def number(points: float) -> str:
    """Points as people write them: at most two decimals."""
    return f"{points:.2f}".rstrip("0").rstrip(".")


def code_spans(text: str) -> Iterator[tuple[bool, str]]:
    """The parts of a text: whether each stood between backticks, and the part."""
    for i, part in enumerate(text.split("`")):
        if part:
            yield i % 2 == 1, part


def _common_message(result: ExerciseResult) -> str:
    """What every failing test says, but for the setting that some of them add; or nothing."""
    messages = sorted((t.message for t in result.tests if t.outcome == FAILED), key=len)
    same = len(messages) > 1 and all(m.startswith(messages[0]) for m in messages)
    return messages[0] if same else ""


def _split(test: TestResult, tests: list[TestResult]) -> tuple[str, str]:
    """The test's own title and the case's, where several cases share the title."""
    title, colon, case = test.name.partition(": ")
    alone = sum(other.name.startswith(title + colon) for other in tests) < 2
    return (test.name, "") if alone or not colon else (title, case)
