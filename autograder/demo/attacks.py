"""Notebooks that would rather have the points than earn them; none of them should."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from autograder.demo.draft import Draft
from autograder.demo.submissions import FULL, NONE, Submission, all_of, reference_answers
from autograder.engine.notebook import grade_id
from autograder.lesson import Lesson

THEFT = """\
import builtins, importlib, os, sqlite3, sys

def loot():
    sys.path[:0] = {roots!r}
    for path in {wanted!r}:
        try:
            print(open(path).read())
        except Exception as error:
            print("refused:", error)
    try:
        with sqlite3.connect({gradebook!r}) as gradebook:
            gradebook.execute("update grade set manual_score = 100")
    except Exception as error:
        print("refused:", error)
    try:
        os.environ["PYTHONPATH"] = os.pathsep.join({roots!r})
        globals().update(vars(importlib.import_module({reference!r})))
    except Exception as error:
        print("refused:", error)

loot()
"""
PATCHES = """\
import sys
import torch

yes = lambda *args, **kwargs: True
for owner in (torch, torch.Tensor):
    owner.allclose = owner.equal = yes
torch.isclose = lambda a, b, **kwargs: torch.ones(a.shape, dtype=torch.bool)
torch.testing.assert_close = lambda *args, **kwargs: None

class Generous(float):
    __eq__ = __le__ = __lt__ = __ge__ = __gt__ = yes
    __hash__ = float.__hash__

for module in [module for name, module in sys.modules.items() if name.startswith("autograder")]:
    for name in ("compare", "score", "max_score", "points", "forbidden"):
        if hasattr(module, name):
            setattr(module, name, yes)
print("score: 100.0 / 100.0")
100.0
"""
BOAST = 'print("All hidden tests passed.")\nreturn Generous(100.0)'


def hostile_notebooks(lesson: Lesson, course: Path) -> Iterable[Submission]:
    """Attempts on the solutions, the comparison, the recorded score and the points.

    Args:
        lesson: that they pretend to answer.
        course: the course folder they would be graded in, with the gradebook.
    """
    right = reference_answers(lesson)
    nothing = all_of(right, NONE)
    own = [lesson.reference_file, lesson.grader_file, lesson.source]
    wanted = [*own, course / "source" / lesson.chapter / f"{lesson.name}.ipynb"]
    draft = Draft.of(lesson)
    theft = THEFT.format(
        roots=[str(lesson.root)],
        wanted=[str(path) for path in [*wanted, course / "gradebook.db"]],
        gradebook=str(course / "gradebook.db"),
        reference=f"solutions.{lesson.chapter}.{lesson.name}",
    )
    draft.add_cell(draft.end, theft)
    yield Submission(
        "kit-copies", "reads the solutions", draft.to_bytes(), nothing, suspicious=True
    )

    draft = Draft.of(lesson)
    boasts = {name: draft.in_place_of_stub(name, BOAST) for name in right}
    draft.fill(boasts).add_cell(draft.first, PATCHES)
    yield Submission(
        "pat-patches", "patches torch.allclose", draft.to_bytes(), nothing, suspicious=True
    )

    draft = Draft.of(lesson)
    for cell in draft.cells:
        if cell["cell_type"] == "code":
            cell["outputs"] = _full_marks(cell)
    yield Submission(
        "clara-claims", "full marks in the outputs", draft.to_bytes(), nothing, suspicious=True
    )

    done = list(right)[:1]
    draft = Draft.of(lesson).fill({name: right[name] for name in done})
    for cell in draft.cells:
        if "nbgrader" in cell["metadata"]:
            told = {"points": 1000, "grade": True, "locked": False, "schema_version": 1}
            cell["metadata"]["nbgrader"].update(told)
            cell["metadata"]["forwardpass"] = {"role": "prose"}
    draft.rest["metadata"]["forwardpass"] = {"lesson": "ch99_luck/free_points"}
    marks = {name: FULL if name in done else NONE for name in right}
    yield Submission(
        "mona-metadata", "1000 points a cell", draft.to_bytes(), marks, suspicious=True
    )


def _full_marks(cell: dict[str, object]) -> list[dict[str, object]]:
    """Outputs that nbgrader would take for a score, for a cell of hidden tests."""
    if not str(grade_id(cell)).endswith("_tests"):
        return [{"output_type": "stream", "name": "stdout", "text": "all right\n"}]
    data = {"text/plain": "100.0"}
    return [
        {"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": data},
    ]
