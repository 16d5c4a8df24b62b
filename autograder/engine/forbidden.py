"""Forbidden calls as they stand in the code, resolved through imports and aliases."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache


@dataclass(frozen=True)
class ForbiddenUse:
    """One use: which forbidden name, in which cell, at which line."""

    name: str
    cell: str
    line: int
    text: str


@dataclass
class _Code:
    """What a submission's cells define and import."""

    aliases: dict[str, str] = field(default_factory=dict)
    definitions: dict[str, list[tuple[str, ast.AST, list[str]]]] = field(default_factory=dict)


def forbidden_uses(
    exercise: str,
    forbids: Sequence[str],
    cells: Iterable[tuple[str, str]],
    exercises: Iterable[str],
) -> list[ForbiddenUse]:
    """Find forbidden names in an exercise's code and in the helpers that it reaches.

    Args:
        exercise: where to start.
        forbids: dotted names; ``torch.Tensor.x`` also stands for the method ``.x``.
        cells: (name, source) of every cell that runs.
        exercises: all exercises' names; the search does not go on into other exercises, which
            have rules of their own.
    """
    if not forbids:
        return []
    code = _read(cells)
    others = set(exercises) - {exercise}
    waiting, seen = [exercise], set[str]()
    found: list[ForbiddenUse] = []
    while waiting:
        name = waiting.pop()
        if name in seen or name in others:
            continue
        seen.add(name)
        for cell, tree, lines in code.definitions.get(name, []):
            aliases = {**code.aliases, **_imports(tree)}
            found += _uses_in(tree, aliases, forbids, cell, lines)
            waiting += [
                node.id
                for node in ast.walk(tree)
                if isinstance(node, ast.Name) and node.id in code.definitions
            ]
    return sorted(set(found), key=lambda use: (use.cell, use.line, use.name))


def _read(cells: Iterable[tuple[str, str]]) -> _Code:
    code = _Code()
    for cell, source in cells:
        read = _read_cell(source)
        code.aliases.update(read.aliases)
        for name, statement in read.definitions:
            code.definitions.setdefault(name, []).append((cell, statement, read.lines))
    return code


@dataclass(frozen=True)
class _Cell:
    aliases: dict[str, str]
    definitions: list[tuple[str, ast.stmt]]
    lines: list[str]


@lru_cache(maxsize=256)
def _read_cell(source: str) -> _Cell:
    """What a cell defines and imports; nothing where it cannot be parsed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _Cell({}, [], [])
    definitions = [(name, statement) for statement in tree.body for name in _defined(statement)]
    return _Cell(_imports(tree), definitions, source.split("\n"))


def _defined(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            yield from (n.id for n in ast.walk(target) if isinstance(n, ast.Name))


def _imports(tree: ast.AST) -> dict[str, str]:
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                whole = name.asname is not None
                first = name.name.split(".")[0]
                aliases[name.asname or first] = name.name if whole else first
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for name in node.names:
                aliases[name.asname or name.name] = f"{node.module}.{name.name}"
    return aliases


def _uses_in(
    tree: ast.AST, aliases: dict[str, str], forbids: Sequence[str], cell: str, lines: list[str]
) -> Iterator[ForbiddenUse]:
    methods = {f.rsplit(".", 1)[1]: f for f in forbids if f.startswith("torch.Tensor.")}
    annotations = {id(part) for a in _annotations(tree) for part in ast.walk(a)}
    for node in ast.walk(tree):
        if id(node) in annotations or not isinstance(node, ast.expr):
            continue
        dotted = _dotted(node, aliases)
        name = _match(dotted, forbids) if dotted else None
        if name is None and isinstance(node, ast.Attribute) and node.attr in methods:
            base = _dotted(node.value, aliases)
            name = methods[node.attr] if base is None or base not in aliases.values() else None
        if name:
            text = lines[node.lineno - 1].strip() if node.lineno <= len(lines) else ""
            yield ForbiddenUse(name, cell, node.lineno, text[:200])


def _annotations(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
            yield node.annotation
        if isinstance(node, ast.FunctionDef) and node.returns:
            yield node.returns


def _dotted(node: ast.expr, aliases: dict[str, str]) -> str | None:
    """The dotted name that an expression stands for, through imports and ``getattr``."""
    if isinstance(node, ast.Name):
        return aliases.get(node.id)
    if isinstance(node, ast.Attribute):
        base = _dotted(node.value, aliases)
        return f"{base}.{node.attr}" if base else None
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "getattr"
        and len(node.args) >= 2
        and isinstance(node.args[1], ast.Constant)
        and isinstance(node.args[1].value, str)
    ):
        base = _dotted(node.args[0], aliases)
        return f"{base}.{node.args[1].value}" if base else None
    return None


def _match(dotted: str, forbids: Sequence[str]) -> str | None:
    for name in forbids:
        if dotted == name or dotted.startswith(name + "."):
            return name
    return None
