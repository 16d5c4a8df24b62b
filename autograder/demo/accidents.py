"""Notebooks that came to grief: broken files, lost cells, code that stops, hangs or exits."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from typing import Any

from autograder.demo.draft import Draft
from autograder.demo.submissions import NONE, Submission, all_of, reference_answers
from autograder.engine.notebook import source_of
from autograder.lesson import Lesson


def broken_files(lesson: Lesson) -> Iterable[Submission]:
    """Files that are no notebook of format 4, whatever work is in them."""
    right = reference_answers(lesson)
    whole = Draft.of(lesson).fill(right).to_bytes()
    lost = all_of(right, NONE)
    cut = whole[: 2 * len(whole) // 3]
    yield Submission("tess-truncated", "the upload broke off", cut, lost, unreadable=True)
    old = json.dumps(_format_3(json.loads(whole)), indent=1).encode()
    yield Submission("fay-format-3", "notebook format 3", old, lost, unreadable=True)


def disordered_notebooks(lesson: Lesson) -> Iterable[Submission]:
    """Right answers in notebooks whose cells or metadata are not as they were released."""
    right = reference_answers(lesson)
    names = list(right)

    draft = Draft.of(lesson).fill(right)
    gone = names[1 % len(names)]
    del draft.cells[draft.position(gone)]
    marks = {**all_of(right), gone: NONE}
    yield Submission("dora-deleted", f"lost the cell of {gone}", draft.to_bytes(), marks)

    draft = Draft.of(lesson)
    for name in names:
        draft.repeat_cell(name)
    file = draft.fill(right).to_bytes()
    yield Submission("tom-twice", "every exercise's cell twice", file, all_of(right))

    draft = Draft.of(lesson).fill(right)
    draft.cells.reverse()
    yield Submission("rob-reversed", "the cells back to front", draft.to_bytes(), all_of(right))

    draft = Draft.of(lesson).fill(right)
    for i, cell in enumerate(draft.cells):
        cell.update(metadata={}, id=f"c{i}")
    draft.rest["metadata"] = {}
    yield Submission("stan-stripped", "no metadata left", draft.to_bytes(), all_of(right))


def failing_code(lesson: Lesson) -> Iterable[Submission]:
    """One answer that does not run, among right ones: it costs its own points and no others."""
    accidents: list[tuple[str, str, Callable[[Draft, str], str]]] = [
        ("sven-syntax-error", "a bracket never closed", _with_open_bracket),
        ("lou-loop", "an endless loop", _with_endless_loop),
        ("ines-import-error", "imports what is not there", _with_missing_import),
        ("xena-exit", "os._exit", _with_exit),
    ]
    right = reference_answers(lesson)
    names = list(right)
    for number, (student, story, spoil) in enumerate(accidents):
        exercise = names[number % len(names)]
        draft = Draft.of(lesson)
        spoilt = spoil(draft, exercise)
        file = draft.fill({**right, exercise: spoilt}).to_bytes()
        yield Submission(
            student,
            f"{story}, in {exercise}",
            file,
            {**all_of(right), exercise: NONE},
            suspicious="_exit" in story,
        )


def _with_open_bracket(draft: Draft, exercise: str) -> str:
    return draft.lesson.reference_source(exercise).rstrip("\n") + "\n    print(\n"


def _with_missing_import(draft: Draft, exercise: str) -> str:
    return "import optimizers_from_the_forum\n\n" + draft.lesson.reference_source(exercise)


def _with_endless_loop(draft: Draft, exercise: str) -> str:
    return draft.in_place_of_stub(exercise, "while True:\n    pass")


def _with_exit(draft: Draft, exercise: str) -> str:
    return draft.in_place_of_stub(exercise, "import os\nos._exit(0)")


def _format_3(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook as IPython 1 to 2 wrote it: worksheets, and ``input`` for ``source``."""
    cells = []
    for cell in notebook["cells"]:
        old = {"cell_type": cell["cell_type"], "metadata": copy.deepcopy(cell["metadata"])}
        if cell["cell_type"] == "code":
            old |= {"input": source_of(cell), "outputs": [], "language": "python"}
        else:
            old["source"] = source_of(cell)
        cells.append(old)
    return {
        "metadata": {"name": ""},
        "nbformat": 3,
        "nbformat_minor": 0,
        "worksheets": [{"cells": cells, "metadata": {}}],
    }
