"""A lesson's MyST text: its front matter, and its cells with their lines."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import yaml

from autograder.builder.problem import BuildError, Problem

ROLES = ("setup", "earlier", "exercise", "check")
SOLUTION_MODULE = re.compile(r"solutions\.\w+\.\w+")
CELL_START = re.compile(r"^(`{3,}|~{3,}|:{3,})\{code-cell\}")
FRONT_MATTER = {"title": str, "minutes": int}


@dataclass(frozen=True)
class TextCell:
    """One cell of a lesson.

    Attributes:
        role: "prose", "setup", "earlier", "exercise", "check" or "demo".
        source: Markdown or Python.
        line: of the cell's first line in the lesson's file; 1 for prose.
        module: of `solutions`, that an exercise cell or an earlier cell imports from.
        names: what it imports.
    """

    role: str
    source: str
    line: int
    module: str = ""
    names: tuple[str, ...] = ()

    @property
    def exercise(self) -> str | None:
        return self.names[0] if self.role == "exercise" else None


@dataclass(frozen=True)
class LessonText:
    """A lesson as its author wrote it."""

    file: Path
    title: str
    minutes: int
    cells: tuple[TextCell, ...]

    def of_role(self, role: str) -> list[TextCell]:
        return [cell for cell in self.cells if cell.role == role]


def read_text(file: Path) -> LessonText:
    """Read a lesson.

    Raises:
        BuildError: with the file and line of everything that is malformed.
    """
    text = file.read_text(encoding="utf-8")
    front = _settings(file, front_matter(file, text)[0])
    notebook = jupytext.reads(text, fmt="md:myst")
    starts = [n for n, line in enumerate(text.split("\n"), start=1) if CELL_START.match(line)]
    code_cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if len(starts) != len(code_cells):
        raise BuildError([Problem(file, 1, "a {code-cell} fence is not closed, or is nested")])
    lines = iter(starts)
    cells, problems = [], []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            if cell.source.strip():
                cells.append(TextCell("prose", cell.source, 1))
            continue
        try:
            cells.append(_code_cell(file, cell, next(lines)))
        except BuildError as error:
            problems += error.problems
    if problems:
        raise BuildError(problems)
    return LessonText(file, front["title"], front["minutes"], tuple(cells))


def front_matter(file: Path, text: str) -> tuple[Any, str]:
    """What stands between a page's first two --- lines, and the text behind them.

    Raises:
        BuildError: there are no such lines, or what they enclose is not YAML.
    """
    lines = text.split("\n")
    if lines[0].strip() != "---" or "---" not in [line.strip() for line in lines[1:]]:
        raise BuildError(
            [
                Problem(
                    file, 1, "front matter is missing: begin with --- lines, as CONTRIBUTING shows"
                )
            ]
        )
    end = [line.strip() for line in lines[1:]].index("---") + 1
    try:
        found = yaml.safe_load("\n".join(lines[1:end]))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 2 if mark else 1
        what = getattr(error, "problem", None) or "it is not YAML"
        raise BuildError([Problem(file, line, f"broken front matter: {what}")]) from None
    return found, "\n".join(lines[end + 1 :])


def _settings(file: Path, found: Any) -> dict[str, Any]:
    """The lesson's own section of its front matter."""
    told = found.get("forwardpass") if isinstance(found, dict) else None
    if not isinstance(told, dict):
        raise BuildError([Problem(file, 1, "broken front matter: it has no forwardpass: section")])
    for key, kind in FRONT_MATTER.items():
        if not isinstance(told.get(key), kind):
            raise BuildError(
                [
                    Problem(
                        file, 1, f"broken front matter: forwardpass: {key}: {kind.__name__} needed"
                    )
                ]
            )
    return told


def _code_cell(file: Path, cell: Any, line: int) -> TextCell:
    tags = cell.metadata.get("tags", [])
    roles = [tag for tag in tags if tag in ROLES]
    unknown = [tag for tag in tags if tag not in ROLES]
    if unknown or len(roles) > 1:
        told = f"one of {', '.join(ROLES)} is needed, or no tag"
        raise BuildError([Problem(file, line, f"the cell is tagged {tags}: {told}")])
    role = roles[0] if roles else "demo"
    if role not in ("exercise", "earlier"):
        return TextCell(role, cell.source, line)
    module, names = _solution_import(cell.source)
    if not module or (role == "exercise" and len(names) != 1):
        holds = {"exercise": "<name>", "earlier": "<names>"}[role]
        wanted = f"exactly one `from solutions.<chapter>.<lesson> import {holds}`, nothing else"
        raise BuildError([Problem(file, line, f"an {role} cell holds {wanted}")])
    return TextCell(role, cell.source, line, module, names)


def _solution_import(source: str) -> tuple[str, tuple[str, ...]]:
    """The module and the names of a cell that is one import from `solutions`, else nothing."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return "", ()
    if len(statements) != 1 or not isinstance(statements[0], ast.ImportFrom):
        return "", ()
    module, names = statements[0].module or "", statements[0].names
    if not SOLUTION_MODULE.fullmatch(module) or any(n.asname or n.name == "*" for n in names):
        return "", ()
    return module, tuple(name.name for name in names)
