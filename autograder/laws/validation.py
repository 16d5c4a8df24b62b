"""The laws, checked for one lesson and one seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from autograder.engine.assessor import Job
from autograder.engine.codec import arrays_of
from autograder.engine.comparison import compare
from autograder.engine.judge import Judge
from autograder.engine.observation import Setting
from autograder.engine.outcomes import ALONE, Outcomes
from autograder.engine.session import Session
from autograder.engine.spawner import Zygote
from autograder.engine.verdict import ERROR, FAILED, UNJUDGED, ExerciseResult, Verdict
from autograder.laws.answers import (
    MISTAKE,
    REFERENCE,
    STUB,
    VARIANT,
    Answer,
    answers_of,
    job_of,
)
from autograder.laws.rehearsal import Rehearsal
from autograder.lesson import Lesson
from autograder.spec import Exercise


@dataclass
class Finding:
    """How one answer fared.

    Attributes:
        broken: the law that it breaks, in words; empty where it holds.
    """

    lesson: str
    exercise: str
    kind: str
    name: str
    seed: int
    score: float
    max_score: float
    recognised: str | None = None
    broken: str = ""


@dataclass
class Findings:
    """Everything that one lesson and one seed gave."""

    lesson: str
    seed: int
    devices: list[str] = field(default_factory=list)
    found: list[Finding] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def validate_lesson(
    lesson: Lesson,
    zygote: Zygote,
    seed: int,
    *,
    only: str | None = None,
    rehearse: bool = False,
    every: int = 1,
    outcomes: Outcomes = ALONE,
    progress: Callable[[str], None] = lambda _: None,
) -> Findings:
    """Check every law on one lesson with one seed.

    Args:
        lesson: with a reference and a grader.
        zygote: running; its device is the one judged beside the CPU. Rehearsing needs no more than
            its policy.
        seed: of the hidden inputs.
        only: one exercise's name, or None for all.
        rehearse: run the answers in this process, with neither worker nor sandbox: much faster,
            and enough to tell answers apart.
        every: of each exercise's mistakes, only every so-manieth: with 5 one in five.
        outcomes: of our own code, shared with who else wants them.
        progress: told each answer's key as its verdict falls.
    """
    answers = {answer.key: answer for answer in answers_of(lesson, only, every)}
    judging = Rehearsal if rehearse else Judge
    session = Session(lesson, zygote, seed, judging, outcomes)
    findings = Findings(lesson.key, seed)

    def deliver(job: Job, verdict: Verdict) -> None:
        answer = answers[job.key]
        result = verdict.exercises[0]
        findings.devices = verdict.devices
        findings.found.append(
            Finding(
                lesson.key,
                answer.exercise,
                answer.kind,
                answer.name,
                seed,
                result.score,
                result.max_score,
                result.mistake,
                _broken(answer, result) or _unplaced(answer, result, session),
            )
        )
        progress(job.key)

    session.grade((job_of(lesson, answer) for answer in answers.values()), deliver)
    for name, exercise in lesson.exercises.items():
        if only in (None, name) and exercise.oracle is not None:
            findings.found.append(_oracle_finding(session, exercise))
            progress(f"{name}: oracle")
    return findings


def _broken(answer: Answer, result: ExerciseResult) -> str:
    """The law that an answer breaks, and how."""
    failed = "; ".join(
        f"{t.name} [{t.device}]: {t.message}" for t in result.tests if t.outcome in (FAILED, ERROR)
    )
    if any(t.outcome == ERROR for t in result.tests):
        return f"the grader itself fails: {failed}"
    if answer.kind == REFERENCE:
        unjudged = [t.name for t in result.tests if t.outcome == UNJUDGED]
        if result.score < result.max_score:
            return f"law 1: the reference loses points: {failed}"
        if unjudged:
            return f"law 1: the reference cannot be judged on the fake device: {unjudged}"
    if answer.kind == STUB and result.score > 0:
        return f"law 2: the untouched stub earns {result.score:g} points"
    if answer.kind == MISTAKE:
        if result.score >= result.max_score:
            return "law 3: the mistake loses no points"
        if result.mistake != answer.name:
            return f"law 3: the mistake is taken for {result.mistake!r}"
    if answer.kind == VARIANT and result.score < result.max_score:
        return f"law 4: the variant loses points: {failed}"
    return ""


def _unplaced(answer: Answer, result: ExerciseResult, session: Session) -> str:
    """Law 1 holds on every device: what gives tensors must be judged elsewhere too."""
    if answer.kind != REFERENCE or any(t.device != "cpu" for t in result.tests):
        return ""
    exercise, standards = session.lesson.exercises[answer.exercise], session.standards
    outcomes = [
        standards.reference(exercise, case, Setting(case.dtypes[0])).raw for case in exercise.cases
    ]
    if not any(arrays_of(outcome) for outcome in outcomes):
        return ""
    return "law 1: no test judges it where its inputs are not on the CPU"


def _oracle_finding(session: Session, exercise: Exercise) -> Finding:
    """Law 5: the reference agrees with its independent oracle on every case."""
    standards = session.standards
    complaints = []
    for case in exercise.cases:
        setting = Setting(case.dtypes[0])
        seen = standards.observe_trusted(exercise, case, setting, exercise.oracle)
        if seen.status != "returned":
            complaints.append(f"{case.title}: the oracle {seen.status}: {seen.error}")
            continue
        mismatch = compare(seen.outcome, standards.standard(exercise, case, setting))
        if mismatch:
            complaints.append(f"{case.title}: {mismatch.message}")
    broken = f"law 5: the oracle disagrees: {'; '.join(complaints)}" if complaints else ""
    right = exercise.points if not complaints else 0.0
    return Finding(
        session.lesson.key,
        exercise.name,
        "oracle",
        "",
        session.standards.run_seed,
        right,
        exercise.points,
        None,
        broken,
    )
