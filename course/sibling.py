"""What a lesson takes over from an earlier lesson of its chapter: the student's own functions."""

from __future__ import annotations

import ast
import json
import linecache
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

RUN_WHOLE = ("setup", "earlier", "exercise")
NOT_THERE = "{file} is not beside this notebook: put it there, then run this cell again."
UNREADABLE = "{file} cannot be read as a notebook ({why}): save it again, or download it again."
UNWRITTEN = "`{name}` is not written yet in {file}: write it there, save, then run this cell again."
STOPPED = "`{name}` could not be taken from {file}, where a cell stops with {error}."


def earlier(lesson: str, *names: str) -> Any:
    """Take functions and classes that the student wrote in an earlier lesson of the same chapter.

    Reads the notebook beside this one, and runs its set-up, its solution cells and the
    definitions that the student added; nothing else of it runs. What is not there yet fails
    softly: it is said here, and again where it is called.

    Args:
        lesson: chapter and lesson, such as ``"ch06_mlp/backprop"``.
        names: of exercises of that lesson.

    Returns:
        One function or class for a single name, else a tuple of them in the order of ``names``.
    """
    file = Path(f"{lesson.split('/')[-1]}.ipynb")
    namespace: dict[str, Any] = {"__name__": lesson.replace("/", ".")}
    stubs: set[str] = set()
    trouble = ""
    try:
        cells = list(_sources(file))
    except FileNotFoundError:
        cells, trouble = [], NOT_THERE.format(file=file)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        cells, trouble = [], UNREADABLE.format(file=file, why=error)
    error_met = ""
    for number, source in cells:
        stubs = (stubs | set(_defined(source))) - set(_written(source))
        try:
            _run(source, f"<{file}, cell {number}>", namespace)
        except Exception as error:
            error_met = error_met or f"{type(error).__name__}: {error}"
    taken = []
    for name in names:
        told = trouble
        if not told and name not in namespace and error_met:
            told = STOPPED.format(name=name, file=file, error=error_met)
        elif not told and (name not in namespace or name in stubs):
            told = UNWRITTEN.format(name=name, file=file)
        if told:
            print(f"✏️  {told}")
        taken.append(_missing(name, told) if told else namespace[name])
    return taken[0] if len(taken) == 1 else tuple(taken)


def definitions_of(source: str) -> str:
    """Only a cell's top-level imports, functions and classes; empty where it is not Python."""
    keep = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    lines = source.split("\n")
    return "\n".join(_segment(lines, s) for s in _body(source) if isinstance(s, keep))


def _segment(lines: list[str], statement: ast.stmt) -> str:
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *(d.lineno for d in decorators)])
    return "\n".join(lines[first - 1 : statement.end_lineno])


def _sources(file: Path) -> Iterator[tuple[int, str]]:
    notebook = json.loads(file.read_text(encoding="utf-8"))
    for number, cell in enumerate(notebook["cells"], start=1):
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            role = cell["metadata"].get("forwardpass", {}).get("role")
            yield number, source if role in RUN_WHOLE else definitions_of(source)


def _run(source: str, name: str, namespace: dict[str, Any]) -> None:
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(source, name, "exec", dont_inherit=True), namespace)


def _defined(source: str) -> Iterator[str]:
    """Functions and classes of a cell, whether written or not."""
    for statement in _body(source):
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            yield statement.name


def _written(source: str) -> Iterator[str]:
    """Those of them in which no stub is left."""
    for statement in _body(source):
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            raised = [node.exc for node in ast.walk(statement) if isinstance(node, ast.Raise)]
            if not any(exc and ast.unparse(exc) == "NotImplementedError()" for exc in raised):
                yield statement.name


def _body(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _missing(name: str, told: str) -> Callable[..., Any]:
    def missing(*_args: Any, **_kwargs: Any) -> Any:
        raise NotImplementedError(told)

    missing.__name__ = missing.__qualname__ = name
    return missing
