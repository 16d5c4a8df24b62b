"""A class of made-up students: what each hands in, and what grading it should find."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from autograder.demo.draft import Draft
from autograder.engine.verdict import Verdict
from autograder.lesson import Lesson

FULL, PART, NONE = "full", "part", "none"

# Students with planted mistakes: (exercise, the mistake's name in the lesson's grader).
PLANTED: dict[str, dict[str, tuple[tuple[str, str], ...]]] = {
    "ch07_optimization/adam": {
        "zoe-counts-from-zero": (("adam_step", "t counted from zero"),),
        "rosa-root-first": (("adam_step", "v corrected after the root"),),
        "lena-l2-penalty": (
            ("adamw_step", "L2 in the gradient"),
            ("rmsprop_step", "bias corrected in the step"),
        ),
        "dan-decay-without-lr": (
            ("adamw_step", "decay without lr"),
            ("adagrad_step", "a running average"),
        ),
        "gita-generator": (("Adam", "generator used up"),),
        "carl-cpu-only": (
            ("Adam", "moments made on the CPU"),
            ("adagrad_step", "memory changed in place"),
        ),
        "sam-live-snapshot": (
            ("Adam", "snapshot still alive"),
            ("rmsprop_step", "weight squared with the gradient"),
        ),
    }
}
# Students who let a forbidden call do the work: (exercise, their answer).
SHORTCUTS = {
    "ch07_optimization/adam": {
        "otto-torch-optim": ("Adam", "class Adam(torch.optim.Adam):\n    pass\n"),
    }
}
NAMES = ("amal", "boris", "chloe", "dmitri", "elif", "farid", "greta", "hugo")


@dataclass(frozen=True)
class Submission:
    """One student's file, and what grading it should find.

    Attributes:
        student: the student's id, which tells the story.
        story: the story in a few words.
        file: the notebook's bytes, as handed in.
        marks: each exercise's expected share of its points: FULL, PART (some lost) or NONE.
        mistakes: exercise to the mistake that should be recognised in it.
        flagged: exercises that should be flagged for a person.
        unreadable: whether the file cannot be read as a notebook at all.
        suspicious: whether lines of it may be flagged that prove nothing.
    """

    student: str
    story: str
    file: bytes
    marks: Mapping[str, str]
    mistakes: Mapping[str, str] = field(default_factory=dict)
    flagged: frozenset[str] = frozenset()
    unreadable: bool = False
    suspicious: bool = False

    @property
    def expected(self) -> str:
        """The whole notebook's expected mark: FULL, PART or NONE."""
        found = set(self.marks.values())
        return found.pop() if len(found) == 1 else PART

    def surprises(self, verdict: Verdict) -> list[str]:
        """Where a verdict differs from what was expected; empty where it does not."""
        told = []
        results = {result.name: result for result in verdict.exercises}
        for exercise, mark in self.marks.items():
            result = results.get(exercise)
            share = result.score / result.max_score if result else 0.0
            fits = {FULL: share == 1.0, PART: share < 1.0, NONE: share == 0.0}[mark]
            if not fits:
                told.append(f"{exercise}: {share:.0%} of the points, expected {mark}")
            seen = result.mistake if result else None
            wanted = self.mistakes.get(exercise)
            if seen != wanted:
                told.append(f"{exercise}: recognised {seen!r}, expected {wanted!r}")
        flagged = {result.name for result in verdict.exercises if result.flags}
        surplus = set() if self.suspicious else flagged - self.flagged
        if surplus or not self.flagged <= flagged:
            told.append(f"flagged {sorted(flagged)}, expected {sorted(self.flagged)}")
        if verdict.has_errors:
            told.append("the grader itself failed")
        return told


def honest_submissions(lesson: Lesson) -> Iterable[Submission]:
    """Readable, unspoilt notebooks: right, unfinished, and wrong in known ways.

    Raises:
        RewriteError: a mistake or a variant no longer fits the reference.
        LookupError: a planted mistake is no longer in the grader's list.
    """
    right = reference_answers(lesson)
    names = list(right)
    yield Submission(
        "ada-perfect", "everything right", Draft.of(lesson).fill(right).to_bytes(), all_of(right)
    )
    yield Submission(
        "uma-untouched", "handed in as released", Draft.of(lesson).to_bytes(), all_of(right, NONE)
    )
    half = names[: max(1, len(names) // 2)]
    draft = Draft.of(lesson).fill({name: right[name] for name in half})
    draft.add_cell(draft.first, "%matplotlib inline\n!pip list\nnotes = 'continue here'")
    yield Submission(
        "hal-half-done",
        "the first half, with magics of his own",
        draft.to_bytes(),
        {name: FULL if name in half else NONE for name in names},
    )
    variants = {
        name: exercise.variants[0].apply(right[name]) if exercise.variants else right[name]
        for name, exercise in lesson.exercises.items()
    }
    file = Draft.of(lesson).fill(variants).to_bytes()
    yield Submission("vera-variant", "right, written differently", file, all_of(right))
    for student, (exercise, answer) in SHORTCUTS.get(lesson.key, {}).items():
        yield Submission(
            student,
            f"a forbidden call, in {exercise}",
            Draft.of(lesson).fill({**right, exercise: answer}).to_bytes(),
            {**all_of(right), exercise: NONE},
            flagged=frozenset({exercise}),
        )
    for student, planted in planted_mistakes(lesson).items():
        answers = dict(right)
        for exercise, mistake in planted:
            answers[exercise] = _mistaken(lesson, exercise, mistake)
        yield Submission(
            student,
            "one known mistake" if len(planted) == 1 else f"{len(planted)} known mistakes",
            Draft.of(lesson).fill(answers).to_bytes(),
            {**all_of(right), **{exercise: PART for exercise, _ in planted}},
            dict(planted),
        )


def planted_mistakes(lesson: Lesson) -> dict[str, tuple[tuple[str, str], ...]]:
    """Which students make which mistakes: chosen ones, or else some of every exercise."""
    if lesson.key in PLANTED:
        return PLANTED[lesson.key]
    pool = [(e.name, m.name) for e in lesson.exercises.values() for m in e.mistakes]
    stride = max(1, len(pool) // len(NAMES))
    chosen = pool[stride // 2 :: stride]
    return {
        f"{name}-{exercise.lower().replace('_', '-')}": ((exercise, mistake),)
        for name, (exercise, mistake) in zip(NAMES, chosen, strict=False)
    }


def reference_answers(lesson: Lesson) -> dict[str, str]:
    """The reference's source of every exercise."""
    return {name: lesson.reference_source(name) for name in lesson.exercises}


def all_of(answers: Iterable[str], mark: str = FULL) -> dict[str, str]:
    """The same mark for every exercise."""
    return dict.fromkeys(answers, mark)


def _mistaken(lesson: Lesson, exercise: str, name: str) -> str:
    for mistake in lesson.exercises[exercise].mistakes:
        if mistake.name == name:
            return mistake.apply(lesson.reference_source(exercise))
    raise LookupError(f"{lesson.grader_file}: {exercise} has no mistake called {name!r}")
