"""What every notebook's text must lead to; shared with the coverage-guided fuzzer."""

from __future__ import annotations

import contextlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import nbformat

from autograder.engine.grading import Plan, lesson_of
from autograder.engine.notebook import (
    MAX_CELL_CHARACTERS,
    UnreadableNotebook,
    grade_id,
    parse_notebook,
    read_notebook,
)
from autograder.gradebook.repair import Repair
from autograder.lesson import UnknownLesson, find_lesson

LONGEST_MESSAGE = 2_000


@cache
def plan() -> Plan:
    return Plan(find_lesson("ch15_gan/losses"))


@cache
def source() -> dict[str, Any]:
    return read_notebook(plan().lesson.source)


@cache
def release() -> str:
    return plan().lesson.release.read_text(encoding="utf-8")


def check_notebook(text: str, *, validate: bool = True) -> bool:
    """Read a notebook, plan what of it runs, rebuild it.

    Args:
        text: of the file.
        validate: the rebuilt one against the format, which takes long.

    Returns:
        Whether it is a notebook that can be graded.

    Raises:
        AssertionError: it leads to something that it must not.
    """
    try:
        notebook = parse_notebook(text, "it.ipynb")
    except UnreadableNotebook as error:
        told = str(error)
        assert told.startswith("it.ipynb ")
        assert len(told) < LONGEST_MESSAGE, told[:200]
        return False
    _check_plan(notebook)
    with contextlib.suppress(UnknownLesson):
        lesson_of(notebook, Path("it.ipynb"))
    _check_rebuilt(notebook, validate)
    return True


def _check_plan(notebook: dict[str, Any]) -> None:
    cells = plan().job("it", notebook).cells
    assert cells[0].name == "setup"
    assert [c.source for c in cells if c.name == "setup"] == [
        c.source for c in plan().cells if c.role == "setup"
    ]
    for cell in cells:
        assert type(cell.source) is str
        assert len(cell.source) <= MAX_CELL_CHARACTERS
        assert cell.exercise is None or cell.exercise in plan().stubs


def _check_rebuilt(notebook: dict[str, Any], validate: bool) -> None:
    repair = Repair(source())
    rebuilt = repair.rebuild(notebook)
    written = json.dumps(rebuilt, ensure_ascii=False).encode()
    if validate:
        nbformat.validate(nbformat.from_dict(json.loads(written)))
    ids = [cell["id"] for cell in rebuilt["cells"]]
    assert len(set(ids)) == len(ids)
    lesson = [cell["id"] for cell in source()["cells"]]
    assert [i for i in ids if not i.startswith("own-")] == lesson
    graded = {grade_id(c): c["metadata"] for c in source()["cells"] if grade_id(c)}
    assert {grade_id(c): c["metadata"] for c in rebuilt["cells"] if grade_id(c)} == graded
    assert all(not cell.get("outputs") for cell in rebuilt["cells"])
