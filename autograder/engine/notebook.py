"""A submitted notebook, read as text by the grader: which cells run, and which is which.

Nothing here runs student code. Cells are told apart by what the lesson's own notebook says of
them, never by what the submission claims.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.engine.syntax import is_too_deep, parsed
from course.sibling import definitions_of

MAX_FILE_BYTES = 32 << 20
MAX_CELLS = 5_000
MAX_CELL_CHARACTERS = 400_000
MAX_CODE_CHARACTERS = 500_000  # of all cells; a syntax tree takes a hundred times as much
MAX_PARTS = 2_000_000
HARMLESS_CELL_MAGICS = ("%%time", "%%timeit", "%%capture", "%%prun")
# A student's own process may read deeper than the checks on what it runs.
TOO_DEEP = "raise RecursionError('this cell is nested too deeply to be read')"
SETUP = "setup"
RUN_WHOLE = (SETUP, "exercise")


class UnreadableNotebook(ValueError):
    """A file is not a notebook that can be graded; the message says why and what to do."""


@dataclass(frozen=True)
class RunnableCell:
    """A cell to be run while grading.

    Attributes:
        name: for the student: the exercise's name, or which cell it is.
        source: Python, without magics.
        exercise: the exercise that the cell is the solution cell of, if it is one.
    """

    name: str
    source: str
    exercise: str | None = None

    @property
    def is_setup(self) -> bool:
        """Whether it is the lesson's own."""
        return self.name == SETUP and self.exercise is None


@dataclass(frozen=True)
class PlannedCell:
    """A code cell of the lesson's own notebook."""

    id: str
    role: str
    exercise: str | None
    source: str


def read_notebook(path: Path) -> dict[str, Any]:
    """Read a notebook file.

    Raises:
        UnreadableNotebook: it is missing, too large, not JSON, or not a version 4 notebook.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UnreadableNotebook(
                f"{path} holds more than {MAX_FILE_BYTES >> 20} MiB: clear its outputs and save it"
            )
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UnreadableNotebook(f"{path} does not exist") from None
    except UnicodeDecodeError:
        raise UnreadableNotebook(f"{path} is not a notebook: it is not UTF-8 text") from None
    except OSError as error:
        raise UnreadableNotebook(f"{path} cannot be read: {error.strerror}") from None
    return parse_notebook(text, str(path))


def parse_notebook(text: str, where: str) -> dict[str, Any]:
    """Parse a notebook's text; ``where`` names it in errors.

    Raises:
        UnreadableNotebook: it is not JSON, or not a version 4 notebook.
    """
    if text.count("{") + text.count("[") > MAX_PARTS:
        raise UnreadableNotebook(
            f"{where} has far more cells and outputs than a notebook has: clear its outputs and "
            "save it"
        )
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError) as error:
        what = "is empty" if not text.strip() else f"is not a notebook, or is cut short: {error}"
        raise UnreadableNotebook(f"{where} {what}; download or save it again") from None
    if not isinstance(notebook, dict) or "nbformat" not in notebook:
        raise UnreadableNotebook(f"{where} is JSON but not a notebook: it has no nbformat")
    if notebook["nbformat"] != 4:
        found = notebook["nbformat"] if isinstance(notebook["nbformat"], int) else "unknown"
        raise UnreadableNotebook(
            f"{where} has notebook format {str(found)[:20]}, but format 4 is needed: open "
            "it in JupyterLab and save it again"
        )
    cells = notebook.get("cells")
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise UnreadableNotebook(f"{where} has no list of cells; download the lesson again")
    if len(cells) > MAX_CELLS:
        raise UnreadableNotebook(f"{where} has {len(cells)} cells; at most {MAX_CELLS} are read")
    code = sum(len(source_of(cell)) for cell in code_cells(notebook))
    if code > MAX_CODE_CHARACTERS:
        raise UnreadableNotebook(
            f"{where} holds {code} characters of code; at most {MAX_CODE_CHARACTERS} are read: "
            "take out cells that are not needed"
        )
    return notebook


def source_of(cell: dict[str, Any]) -> str:
    """A cell's source, whichever way it is stored; empty where it is malformed."""
    source = cell.get("source", "")
    if isinstance(source, list):
        source = "".join(part for part in source if isinstance(part, str))
    return source if isinstance(source, str) and len(source) <= MAX_CELL_CHARACTERS else ""


def grade_id(cell: dict[str, Any]) -> str | None:
    """The cell's nbgrader id, if it has one."""
    nbgrader = _mapping(_mapping(cell.get("metadata")).get("nbgrader"))
    found = nbgrader.get("grade_id")
    return found if isinstance(found, str) else None


def plan_of(source_notebook: dict[str, Any]) -> list[PlannedCell]:
    """What the lesson's own notebook says of its code cells."""
    plan = []
    for cell in source_notebook["cells"]:
        if cell["cell_type"] == "code":
            told = cell["metadata"]["forwardpass"]
            plan.append(
                PlannedCell(cell["id"], told["role"], told.get("exercise"), source_of(cell))
            )
    return plan


def runnable_cells(
    notebook: dict[str, Any], plan: list[PlannedCell], stubs: dict[str, str]
) -> list[RunnableCell]:
    """The cells that grading runs, in order: the lesson's set-up, then the student's.

    The lesson's demos, checks and training cells never run; of one that the student changed,
    the definitions and imports do. A solution cell left untouched does not run where another
    copy of it was filled in.

    Args:
        notebook: the submission.
        plan: of the lesson's source notebook.
        stubs: each exercise's untouched cell.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a student's backslash is not the grader's concern
        return _runnable_cells(notebook, plan, stubs)


def _runnable_cells(
    notebook: dict[str, Any], plan: list[PlannedCell], stubs: dict[str, str]
) -> list[RunnableCell]:
    cells = [RunnableCell(SETUP, cell.source) for cell in plan if cell.role == SETUP]
    by_id = {cell.id: cell for cell in plan}
    by_source = {normalised(cell.source): cell for cell in plan if cell.role != "exercise"}
    written = _written_exercises(notebook, stubs)
    for number, cell in enumerate(notebook["cells"], start=1):
        if cell.get("cell_type") != "code":
            continue
        source = without_magics(source_of(cell))
        if not source.strip():
            continue
        if is_too_deep(source):
            source = TOO_DEEP
        exercise = grade_id(cell)
        if exercise in stubs:
            if exercise in written and normalised(source) == normalised(stubs[exercise]):
                continue
            cells.append(RunnableCell(exercise, source, exercise))
            continue
        planned = by_source.get(normalised(source)) or by_id.get(str(cell.get("id")))
        if planned is None and grade_id(cell) is None and not _told_role(cell):
            cells.append(RunnableCell(f"number {number}", source))
        elif planned is None or normalised(source) != normalised(planned.source):
            whole = planned is not None and planned.role in RUN_WHOLE
            runnable = source if whole else definitions_of(source)
            if runnable:
                cells.append(RunnableCell(f"number {number}", runnable))
    return cells


def without_magics(source: str) -> str:
    """Python without IPython's magics and shell escapes; empty for a cell in another language."""
    if parsed(source) is not None:
        return source
    lines = source.split("\n")
    first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    if lines[first].startswith("%%"):
        if lines[first].split()[0] not in HARMLESS_CELL_MAGICS:
            return ""
        lines[first] = ""
    kept = []
    for line in lines:
        stripped = line.strip()
        magic = stripped.startswith(("%", "!", "?")) or stripped.endswith("?")
        indent = line[: len(line) - len(line.lstrip())]
        kept.append(f"{indent}pass" if magic else line)
    return "\n".join(kept)


def _written_exercises(notebook: dict[str, Any], stubs: dict[str, str]) -> set[str]:
    written = set()
    for cell in notebook["cells"]:
        exercise = grade_id(cell)
        if exercise in stubs and normalised(source_of(cell)) != normalised(stubs[exercise]):
            written.add(exercise)
    return written


def _told_role(cell: dict[str, Any]) -> bool:
    return "forwardpass" in _mapping(cell.get("metadata"))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def normalised(source: str) -> str:
    """A source as it is compared with another: blanks at its ends and its lines' tell nothing."""
    return "\n".join(line.rstrip() for line in source.strip().split("\n"))


def code_cells(notebook: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The notebook's code cells."""
    return (cell for cell in notebook["cells"] if cell.get("cell_type") == "code")
