"""A reference's source as a solution cell, and as the stub that students get."""

from __future__ import annotations

import ast
import textwrap

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = ("# YOUR CODE HERE", "raise NotImplementedError()")  # as nbgrader writes it


def mark_solution(source: str) -> str:
    """Put BEGIN and END SOLUTION around what students write.

    Everything after the docstring of a function, or of each method of a class, unless the
    reference marks smaller regions itself.

    Args:
        source: one function or class, with its decorators.
    """
    source = textwrap.dedent(source).rstrip("\n") + "\n"
    if BEGIN in source:
        return source
    lines = source.split("\n")
    for first, last in sorted(_regions(ast.parse(source).body[0], len(lines) - 1), reverse=True):
        while last > first and not lines[last - 1].strip():
            last -= 1
        code = next(line for line in lines[first - 1 : last] if line.strip())
        indent = code[: len(code) - len(code.lstrip())]
        lines[last:last] = [indent + END]
        lines[first - 1 : first - 1] = [indent + BEGIN]
    return "\n".join(lines)


def clear_solution(marked: str) -> str:
    """The stub that nbgrader's ClearSolutions makes of a marked solution."""
    kept: list[str] = []
    inside = False
    for line in marked.split("\n"):
        if BEGIN in line:
            inside = True
            indent = line[: len(line) - len(line.lstrip())]
            kept += [indent + stub for stub in STUB]
        elif END in line:
            inside = False
        elif not inside:
            kept.append(line)
    return "\n".join(kept)


def stub_of(source: str) -> str:
    """The stub that students get of a reference: one function or class."""
    return clear_solution(mark_solution(source))


def _regions(node: ast.stmt, end: int) -> list[tuple[int, int]]:
    """First and last lines, counted from 1, of what students write in a definition."""
    if isinstance(node, ast.FunctionDef):
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        if not body:
            return []
        first = _docstring_end(node) + 1 if len(body) < len(node.body) else body[0].lineno
        return [(first, end)]
    if isinstance(node, ast.ClassDef):
        regions = []
        for i, child in enumerate(node.body):
            following = node.body[i + 1] if i + 1 < len(node.body) else None
            child_end = _first_line(following) - 1 if following else end
            regions += _regions(child, child_end)
        return regions
    return []


def _docstring_end(node: ast.FunctionDef) -> int:
    return node.body[0].end_lineno or node.body[0].lineno


def _first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(d.lineno for d in decorators)])
