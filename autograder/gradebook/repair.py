"""A submission rebuilt on the lesson's own notebook, whatever became of its cells.

The lesson's cells come in the lesson's order with the lesson's metadata; of the student's there
are the solutions, the cells that they added, in their place, and what they wrote over others.
Outputs are left out: they are claims, and what they draw could do things in a grader's browser.
"""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from autograder.builder.solution import clear_solution
from autograder.engine.notebook import MAX_CELL_CHARACTERS, grade_id, source_of
from autograder.gradebook.shown import Shown

Cell = dict[str, Any]
HIDDEN = re.compile(r"^[^\n]*### BEGIN HIDDEN TESTS.*?### END HIDDEN TESTS[^\n]*\n?", re.S | re.M)


@dataclass
class Repair:
    """One submission being rebuilt.

    Attributes:
        source: the lesson's own notebook.
        notes: what the student should know of it, one sentence each.
    """

    source: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    _claimed: dict[int, list[Cell]] = field(default_factory=lambda: defaultdict(list))
    _added: dict[int, list[Cell]] = field(default_factory=lambda: defaultdict(list))
    _count: int = 0
    _shown: Shown = field(default_factory=Shown)

    def rebuild(self, submitted: dict[str, Any]) -> dict[str, Any]:
        """Rebuild a submission.

        Args:
            submitted: a parsed notebook of format 4, not trusted in anything else.
        """
        self._sort_out(submitted["cells"])
        cells = list(self._own(-1))
        for at, cell in enumerate(self.source["cells"]):
            cells += self._merged(at, cell)
            cells += self._own(at)
        return self._notebook(cells)

    def without(self, reason: str) -> dict[str, Any]:
        """The lesson as handed out, for a submission that cannot be read."""
        cells = [_placed(cell, handed_out(cell)) for cell in self.source["cells"]]
        return self._notebook(cells, unreadable=reason)

    def _sort_out(self, submitted: list[Cell]) -> None:
        """Tell which of the lesson's cells each submitted one is, or after which it stands."""
        matcher = _Matcher(self.source["cells"], submitted)
        at = -1
        for cell in submitted:
            found = matcher.position(cell)
            if found is not None:
                at = found
                self._claimed[at].append(cell)
            elif readable(cell).strip():
                self._added[at].append(cell)

    def _merged(self, at: int, cell: Cell) -> Iterator[Cell]:
        texts = [readable(claimed) for claimed in self._claimed[at]]
        role = cell["metadata"].get("forwardpass", {}).get("role")
        written = _distinct(text for text in texts if not _same(text, cell, role))
        if role == "tests":
            yield _placed(cell, source_of(cell))
            rest = written
        elif not written:
            yield _placed(cell, handed_out(cell))
            rest = []
        else:
            *rest, last = written
            yield from (self._students(cell["cell_type"], text) for text in rest)
            yield _placed(cell, self._shown.cell(cell["cell_type"], last))
            rest = []
        yield from (self._students("code", text) for text in rest if text.strip())
        if role == "exercise":
            self._note_exercise(cell["metadata"]["forwardpass"]["exercise"], at, len(written))

    def _note_exercise(self, name: str, at: int, written: int) -> None:
        claimed = self._claimed[at]
        if not claimed:
            self.notes.append(
                f"The cell of `{name}` was not in your notebook; it stands here as handed out."
            )
        elif any(cell.get("cell_type") != "code" for cell in claimed):
            self.notes.append(f"Your cell of `{name}` was not a code cell, so it did not run.")
        elif written > 1:
            self.notes.append(
                f"Your notebook had more than one cell of `{name}`; the last one counts."
            )

    def _own(self, at: int) -> Iterator[Cell]:
        for cell in self._added[at]:
            yield self._students(str(cell.get("cell_type")), readable(cell))

    def _students(self, cell_type: str, text: str) -> Cell:
        self._count += 1
        kind = "code" if cell_type == "code" else "markdown"
        cell: Cell = {"id": f"own-{self._count}", "metadata": {}, "cell_type": kind}
        if kind == "code":
            cell |= {"execution_count": None, "outputs": []}
        return {**cell, "source": self._shown.cell(kind, text)}

    def _notebook(self, cells: list[Cell], unreadable: str = "") -> dict[str, Any]:
        metadata = copy.deepcopy(self.source["metadata"])
        told = metadata.setdefault("forwardpass", {})
        told |= {"notes": self.notes, "unreadable": unreadable}
        return {**self.source, "cells": cells, "metadata": metadata}


class _Matcher:
    """Finds which of the lesson's cells a submitted cell is."""

    def __init__(self, lesson: list[Cell], submitted: list[Cell]) -> None:
        self._by_grade_id = {grade_id(c): i for i, c in enumerate(lesson) if grade_id(c)}
        self._by_id = {c["id"]: i for i, c in enumerate(lesson)}
        self._by_text: dict[str, int] = {}
        self._by_name: dict[str, int] = {}
        graded = {grade_id(cell) for cell in submitted}
        for i, cell in enumerate(lesson):
            self._by_text.setdefault(_normal(handed_out(cell)), i)
            told = cell["metadata"].get("forwardpass", {})
            if told.get("role") == "exercise" and told["exercise"] not in graded:
                self._by_name[told["exercise"]] = i

    def position(self, cell: Cell) -> int | None:
        text = readable(cell)
        for found in (
            self._by_grade_id.get(grade_id(cell)),
            self._by_text.get(_normal(text)) if text.strip() else None,
            self._by_id.get(str(cell.get("id"))),
        ):
            if found is not None:
                return found
        if cell.get("cell_type") == "code":
            for name in re.findall(r"^(?:def|class)[ \t]+(\w+)", text, re.M):
                if name in self._by_name:
                    return self._by_name[name]
        return None


def handed_out(cell: Cell) -> str:
    """A cell of the lesson's own notebook as students get it."""
    role = cell["metadata"].get("forwardpass", {}).get("role")
    text = source_of(cell)
    if role == "exercise":
        return clear_solution(text)
    return HIDDEN.sub("", text).rstrip("\n") if role == "tests" else text


def readable(cell: Cell) -> str:
    """A submitted cell's text, such as can be written to a file again."""
    source = cell.get("source")
    length = sum(map(len, source)) if isinstance(source, list) and _strings(source) else 0
    if max(length, len(source) if isinstance(source, str) else 0) > MAX_CELL_CHARACTERS:
        return f"# A cell of more than {MAX_CELL_CHARACTERS} characters was left out here."
    return source_of(cell).encode("utf-8", "replace").decode("utf-8")


def _strings(parts: list[Any]) -> bool:
    return all(isinstance(part, str) for part in parts)


def _placed(cell: Cell, text: str) -> Cell:
    """The lesson's cell with this text in it."""
    placed = copy.deepcopy(cell)
    placed["source"] = text
    if cell["cell_type"] == "code":
        placed |= {"outputs": [], "execution_count": None}
    return placed


def _same(text: str, cell: Cell, role: str | None) -> bool:
    known = [handed_out(cell)] if role == "exercise" else [handed_out(cell), source_of(cell)]
    return _normal(text) in map(_normal, known) or not text.strip()


def _distinct(texts: Iterator[str]) -> list[str]:
    """Without repetitions; of each text the last stands."""
    return list(dict.fromkeys(reversed(list(texts))))[::-1]


def _normal(source: str) -> str:
    return "\n".join(line.rstrip() for line in source.strip().split("\n"))
