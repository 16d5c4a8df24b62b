"""A made-up class for the benchmarks: who hands in what, in shares as a real class has them."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autograder.demo.draft import Draft
from autograder.lesson import ROOT, Lesson

RIGHT, WRONG, UNFINISHED, BROKEN, HANGING = "right", "wrong", "unfinished", "broken", "hanging"
# Of a first course's submissions: most are right or have a few mistakes; one in 250 never ends.
SHARES = {RIGHT: 0.45, WRONG: 0.38, UNFINISHED: 0.12, BROKEN: 0.046, HANGING: 0.004}
TIMESTAMP = "2030-01-01 12:00:00 UTC"


@dataclass(frozen=True)
class Pupil:
    """One student's work.

    Attributes:
        student: the id.
        kind: RIGHT, WRONG, UNFINISHED, BROKEN or HANGING.
        answers: exercise to the cell's source; what is not in it was left as released.
        file: the notebook's bytes.
    """

    student: str
    kind: str
    answers: Mapping[str, str]
    file: bytes


def pupils(
    lesson: Lesson,
    size: int,
    seed: int = 0,
    shares: Mapping[str, float] = SHARES,
    *,
    apart: bool = False,
) -> list[Pupil]:
    """A class of a size, the same for the same seed; with at least one of every kind in it.

    Args:
        lesson: that is answered.
        size: of the class.
        seed: of what everybody gives.
        shares: of each kind.
        apart: whether no two give one answer, untouched stubs aside: each has a line of its own.
    """
    chance = random.Random(f"{lesson.key}/{seed}")
    kinds = [kind for kind, share in shares.items() for _ in range(max(1, round(share * size)))]
    kinds = sorted(kinds, key=lambda kind: kind == RIGHT)[:size]  # the rarer kinds stay in
    kinds += [RIGHT] * (size - len(kinds))
    chance.shuffle(kinds)
    found = []
    for i, kind in enumerate(kinds):
        answers = _answers(lesson, kind, chance)
        if apart:
            answers = {e: f"{source}\n\nBY_{e} = {i}\n" for e, source in answers.items()}
        file = Draft.of(lesson).fill(answers).to_bytes()
        found.append(Pupil(f"s{i:05d}", kind, answers, file))
    return found


def course_folder(folder: Path, lesson: Lesson, members: list[Pupil]) -> Path:
    """A course folder with the class's work in ``submitted/``, as nbgrader collects it."""
    chapter = folder / "source" / lesson.chapter
    chapter.mkdir(parents=True)
    shutil.copy(lesson.source, chapter)
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    hand_in(folder, lesson, {pupil.student: pupil.file for pupil in members})
    return folder


def hand_in(folder: Path, lesson: Lesson, files: Mapping[str, bytes]) -> None:
    """Put files where ``nbgrader collect`` would."""
    for student, file in files.items():
        home = folder / "submitted" / student / lesson.chapter
        home.mkdir(parents=True)
        (home / "timestamp.txt").write_text(TIMESTAMP, encoding="utf-8")
        (home / f"{lesson.name}.ipynb").write_bytes(file)


def share_alike(members: list[Pupil]) -> float:
    """The share of answers that somebody before in the class gave to the letter."""
    met: set[tuple[str, str]] = set()
    given = [answer for pupil in members for answer in pupil.answers.items()]
    again = 0
    for answer in given:
        again += answer in met
        met.add(answer)
    return again / len(given)


def scores_in(report: Path) -> dict[str, float | None]:
    """Each student's score, from what ``forwardpass grade --json`` wrote."""
    told = json.loads(report.read_text(encoding="utf-8"))
    return {entry["student"]: entry["score"] for entry in told["submissions"]}


def _answers(lesson: Lesson, kind: str, chance: random.Random) -> dict[str, str]:
    answers = {name: _right(lesson, name, chance) for name in lesson.exercises}
    names = list(answers)
    spoilt = chance.sample(names, k=min(len(names), chance.choice((1, 1, 2, 3))))
    if kind == WRONG:
        for name in spoilt:
            mistake = chance.choice(list(lesson.exercises[name].mistakes))
            answers[name] = mistake.apply(lesson.reference_source(name))
    elif kind == UNFINISHED:
        for name in names[chance.randrange(len(names)) :]:
            del answers[name]
    elif kind == BROKEN:
        answers[spoilt[0]] = chance.choice(
            (
                answers[spoilt[0]].replace(":", "", 1),
                "import a_module_that_nobody_has\n\n" + answers[spoilt[0]],
                answers[spoilt[0]] + "\n\nraise RuntimeError('left over')\n",
            )
        )
    elif kind == HANGING:
        answers[spoilt[0]] = _hanging(lesson, spoilt[0])
    return answers


def _right(lesson: Lesson, name: str, chance: random.Random) -> str:
    """The reference or one of the variants."""
    reference = lesson.reference_source(name)
    variants = [None, *lesson.exercises[name].variants]
    variant = chance.choice(variants)
    return variant.apply(reference) if variant else reference


def _hanging(lesson: Lesson, name: str) -> str:
    return Draft.of(lesson).in_place_of_stub(name, "while True:\n    pass")
