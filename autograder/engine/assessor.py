"""One submission through the hidden tests, and what its verdict says."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from autograder.engine.ahead import Run
from autograder.engine.alike import GivenAnswer, Judged, KnownAnswers, given_answers
from autograder.engine.carry import earlier_to_replace
from autograder.engine.hidden_test import HiddenTest, run_protocol
from autograder.engine.judge import CellFailure, Judge
from autograder.engine.notebook import RunnableCell
from autograder.engine.recognition import recognise
from autograder.engine.rounded import take_from_devices
from autograder.engine.slips import ROUNDED
from autograder.engine.spawner import Zygote
from autograder.engine.standards import Standards
from autograder.engine.submission import Submission
from autograder.engine.suspicion import suspicions
from autograder.engine.trial import NUMERICS
from autograder.engine.turns import Turns, ran_out
from autograder.engine.verdict import (
    ERROR,
    PASSED,
    UNJUDGED,
    ExerciseResult,
    TestResult,
    Verdict,
)

MAX_CELL_ERRORS = 20


@dataclass(frozen=True)
class Job:
    """One submission to be graded.

    Attributes:
        key: the caller's name for it.
        cells: what of it runs.
        only: exercises to be judged; all where it is empty.
        patience: seconds that others wait for one cell or run of it before it is postponed.
    """

    key: str
    cells: tuple[RunnableCell, ...]
    only: frozenset[str] = frozenset()
    patience: float = math.inf


@dataclass
class Assessor:
    """Assesses submissions of one lesson.

    Args:
        tests: the lesson's hidden tests.
        zygote: running.
        standards: the trusted side.
        judging: what runs a submission's code.
        answers: what is known of the run's answers; None where each is judged for itself.

    Attributes:
        submission: that the test at hand judges.
    """

    tests: Sequence[HiddenTest]
    zygote: Zygote
    standards: Standards
    judging: type[Judge]
    answers: KnownAnswers | None
    submission: Submission | None = None
    _foreseen: dict[str, list[Run]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for test in self.tests:
            self._foreseen.setdefault(test.exercise.name, []).extend(test.foreseen)
        if self._on_gpu:  # where no two runs need agree to the last bit, nor have the same memory
            self.answers = None

    def assess(self, job: Job) -> Verdict:
        """Judge a submission.

        Raises:
            Postponed: it takes longer than its job has patience for.
            SandboxRefused: grading must stop.
        """
        if not self._on_gpu:
            return self._assess(job)
        turns = Turns()
        with turns.together():
            verdict = self._assess(job)
        if ran_out(verdict):
            with turns.alone():
                verdict = self._assess(job)
        return verdict

    @property
    def accelerator(self) -> str:
        """What answers are judged on beside the CPU."""
        return "cuda" if self.zygote.policy.device == "cuda" else "fake"

    @property
    def _on_gpu(self) -> bool:
        return self.accelerator == "cuda"

    def _assess(self, job: Job) -> Verdict:
        odd = suspicions([(cell.name, cell.source) for cell in job.cells])
        asked = [name for name in self._foreseen if not job.only or name in job.only]
        # What a person should look at counts for nobody else.
        answers = given_answers(asked, job.cells) if self.answers and not odd else {}
        shared = {name: self._shared(answer, job.patience) for name, answer in answers.items()}
        judged = {name: found for name, found in shared.items() if found}
        rest = {name for name in asked if name not in judged}
        with self._judge(job.cells, job.patience) as judge:
            results = self._run(judge, rest)
            if asked and not rest and any(map(_is_own, job.cells)):
                judge.run_cells(self.standards.lesson.exercises[asked[0]].megabytes)
            cell_errors = _cell_errors(judge.failures.values())
        results |= {name: found.result for name, found in judged.items()}
        self._carry(judge, results, rest, answers)
        results = {name: results[name] for name in asked}
        judged |= {name: Judged(results[name], _settings(judge, name)) for name in rest}
        if self.answers and not judge.troubled:
            for name in rest & answers.keys():
                self.answers.meet(answers[name], judged[name])
        for use in odd:
            result = results.get(use.cell) or next(iter(results.values()))
            told = f"look at {use.name} in cell {use.cell}, line {use.line}: {use.text}"
            result.flags.append(told)
        return self._verdict(list(results.values()), judged.values(), cell_errors)

    def _verdict(
        self,
        exercises: list[ExerciseResult],
        judged: Iterable[Judged],
        cell_errors: list[str],
    ) -> Verdict:
        dtypes: dict[str, list[str]] = {}
        for dtype, device in sorted({setting for found in judged for setting in found.settings}):
            dtypes.setdefault(device, []).append(dtype)
        return Verdict(
            lesson=self.standards.lesson.key,
            score=_rounded(sum(e.score for e in exercises)),
            max_score=_rounded(sum(e.max_score for e in exercises)),
            devices=["cpu", self.accelerator],
            dtypes=dtypes,
            not_run=[] if self._on_gpu else ["cuda"],
            numerics=dict(NUMERICS) if self._on_gpu else {},
            sandbox={"in force": self.zygote.layers, "missing": self.zygote.missing},
            exercises=exercises,
            cell_errors=cell_errors,
        )

    def _judge(
        self,
        cells: Sequence[RunnableCell],
        patience: float,
        stand_ins: frozenset[str] = frozenset(),
    ) -> Judge:
        return self.judging(self.zygote, self.standards, cells, stand_ins, self._foreseen, patience)

    def _shared(self, answer: GivenAnswer, patience: float) -> Judged | None:
        """What all have who gave this answer; None where it must be judged with the rest."""
        assert self.answers is not None
        found = self.answers.known(answer)
        if found is None and self.answers.was_met(answer):
            alone = self._alone(answer, patience)
            found = self.answers.share(answer, alone)
        return found

    def _alone(self, answer: GivenAnswer, patience: float) -> Judged | None:
        """Judge an answer by itself; None where it may end otherwise another time."""
        name = answer.exercise
        with self._judge(answer.cells, patience, answer.stand_ins) as judge:
            results = self._run(judge, {name})
            if results[name].score < results[name].max_score and not answer.stand_ins:
                others = {cell.exercise for cell in answer.cells if cell.exercise in self._foreseen}
                results |= self._run(judge, others - {name})
            failed = _cell_errors(judge.failures.values())
        if not answer.stand_ins:
            self._carry(judge, results, results.keys(), {name: answer})
        uncertain = any(test.outcome == ERROR for test in results[name].tests)
        if judge.troubled or failed or uncertain:
            return None
        return Judged(results[name], _settings(judge, name))

    def _carry(
        self,
        judge: Judge,
        results: dict[str, ExerciseResult],
        names: AbstractSet[str],
        answers: Mapping[str, GivenAnswer],
    ) -> None:
        """Judge exercises again with correct earlier ones in place of the student's."""
        lesson = self.standards.lesson
        for name in lesson.exercises:
            own = results.get(name)
            if name not in names or (own and own.score == own.max_score):
                continue
            replaced = earlier_to_replace(lesson, name, results, judge.cells)
            if own and not replaced:
                continue
            answer = answers.get(name)
            again = self._again(judge, name, answer and answer.with_stand_ins(replaced), replaced)
            if own and again.score <= own.score:
                continue
            results[name] = again
            if replaced:
                told = ", ".join(f"`{other}`" for other in sorted(replaced))
                again.note = (
                    f"Your {told} is not right yet, so this was judged with a correct one in its "
                    "place."
                )
                again.stood_in = sorted(replaced)

    def _again(
        self, judge: Judge, name: str, answer: GivenAnswer | None, replaced: frozenset[str]
    ) -> ExerciseResult:
        found = self._shared(answer, judge.patience) if answer else None
        if found:
            return found.result
        with judge.with_stand_ins(replaced) as second:
            again = self._run(second, {name})[name]
        judge.troubled |= second.troubled
        judge.records.setdefault(name, second.records.get(name, []))
        if answer and self.answers and not second.troubled:
            self.answers.meet(answer, Judged(again, _settings(second, name)))
        return again

    def _waits(self, judge: Judge, name: str, results: Mapping[str, ExerciseResult]) -> bool:
        """Whether an exercise leans on one that hangs, and is judged with a correct one only."""
        lesson, hung = self.standards.lesson, judge.hung
        return bool(hung and hung & earlier_to_replace(lesson, name, results, judge.cells))

    def _run(self, judge: Judge, wanted: AbstractSet[str | None]) -> dict[str, ExerciseResult]:
        """Run the hidden tests of these exercises, but for those that wait for a stand-in."""
        results: dict[str, ExerciseResult] = {}
        rounded: dict[str, list[TestResult]] = {}
        for test in self.tests:
            name = test.exercise.name
            if name not in wanted or (name not in results and self._waits(judge, name, results)):
                continue
            submission = Submission(test.exercise, judge, self.accelerator)
            self.submission = submission
            outcome = test.run(submission, lambda item: run_protocol(item, following=None))
            earned = test.points if outcome.status in (PASSED, UNJUDGED) else 0.0
            result = results.setdefault(name, ExerciseResult(name, 0.0, 0.0, []))
            told = TestResult(
                name=test.title,
                outcome=outcome.status,
                points=_rounded(earned),
                max_points=_rounded(test.points),
                message=outcome.message,
                device=submission.device,
            )
            result.tests.append(told)
            if submission.is_rounded:
                rounded.setdefault(name, []).append(told)
            result.score += earned
            result.max_score += test.points
            result.error = result.error or submission.error
        for result in results.values():
            self._conclude(result, judge, rounded.get(result.name, []))
        return results

    def _conclude(
        self, result: ExerciseResult, judge: Judge, rounded: Sequence[TestResult]
    ) -> None:
        exercise = self.standards.lesson.exercises[result.name]
        result.score = _rounded(result.score)
        result.max_score = _rounded(result.max_score)
        if any(t.outcome == UNJUDGED for t in result.tests) and result.score > 0:
            passed = any(t.outcome == PASSED for t in result.tests)
            if not passed:
                result.score = 0.0
        try:
            for use in judge.uses(exercise):
                told = f"uses {use.name} in cell {use.cell}, line {use.line}: {use.text}"
                result.flags.append(told)
            result.flags += judge.oddities.get(result.name, [])
            records = judge.records.get(result.name, [])
            found = recognise(exercise, records, self.standards)
        except Exception as error:
            # Without its name a mistake is still judged; the class goes on.
            print(f"{result.name}: recognition failed: {error!r}", file=sys.stderr)
            found = None
        if found and found.name == ROUNDED:
            take_from_devices(result, rounded)
        if found and result.score < result.max_score:
            result.mistake, result.hint = found.name, found.hint


def _is_own(cell: RunnableCell) -> bool:
    """Whether a cell is neither the lesson's nor an exercise's."""
    return not cell.is_setup and not cell.exercise


def _settings(judge: Judge, name: str) -> frozenset[tuple[str, str]]:
    """In which dtypes and where an exercise was judged."""
    settings = {record.setting for record in judge.records.get(name, [])}
    return frozenset((str(s.dtype).removeprefix("torch."), s.device) for s in settings)


def _cell_errors(failures: Iterable[CellFailure]) -> list[str]:
    """What the student's own cells met; the first of them where there are very many."""
    told = [f"cell {f.cell.name} {f.message}" for f in failures if f.cell.exercise is None]
    surplus = len(told) - MAX_CELL_ERRORS
    return [*told[:MAX_CELL_ERRORS], f"and {surplus} more cells"] if surplus > 0 else told


def _rounded(points: float) -> float:
    return round(points, 4)
