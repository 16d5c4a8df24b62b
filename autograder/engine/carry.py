"""Which earlier exercises are replaced by correct ones while a later one is judged again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from autograder.builder.solution import stub_of
from autograder.engine.notebook import RunnableCell, normalised
from autograder.engine.syntax import names_of
from autograder.engine.verdict import ExerciseResult
from autograder.lesson import Lesson


def earlier_to_replace(
    lesson: Lesson,
    exercise: str,
    results: Mapping[str, ExerciseResult],
    cells: Iterable[RunnableCell],
) -> frozenset[str]:
    """The earlier exercises that this one leans on, that are not right, and that have an oracle.

    An exercise leans on what its reference names and on what the student's own code for it
    names, directly or through one another. Where nothing is written yet, nothing would help.
    """
    cells = list(cells)
    own = {normalised(cell.source) for cell in cells if cell.exercise == exercise}
    elsewhere = any(exercise in cell.source for cell in cells if cell.exercise is None)
    if own == {_stub(lesson.reference_source(exercise))} and not elsewhere:
        return frozenset()
    order = list(lesson.exercises)
    earlier = set(order[: order.index(exercise)])
    names = {name: set(names_of(lesson.reference_source(name))) for name in order}
    for cell in cells:
        if cell.exercise in names:
            names[cell.exercise] |= names_of(cell.source)
        elif cell.exercise is None:
            # A helper of the student's own may lead anywhere.
            names[exercise] |= names_of(cell.source)
    reached: set[str] = set()
    waiting = [exercise]
    while waiting:
        found = names[waiting.pop()] & earlier - reached
        reached |= found
        waiting += found
    return frozenset(
        name
        for name in reached
        if lesson.exercises[name].oracle is not None
        and name in results
        and results[name].score < results[name].max_score
    )


@lru_cache(maxsize=1024)
def _stub(reference: str) -> str:
    return normalised(stub_of(reference))
