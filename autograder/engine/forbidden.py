"""Forbidden calls as they stand in the code, resolved through imports and aliases."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice

from autograder.engine.codec import printable
from autograder.engine.doors import METHODS, doors_of, match
from autograder.engine.syntax import (
    assigned,
    dotted_name,
    imports,
    names_in,
    nodes,
    parsed,
    texts_run,
)

MAX_USES = 20
# Beside whatever an exercise forbids: no answer is written with these, and the checks are undone.
UNDOES_THE_CHECKS = (
    "autograder",
    "torch._C.DisableTorchFunction",
    "torch._C.DisableTorchFunctionSubclass",
    "torch.overrides",
    "torch.utils._python_dispatch",
    "ctypes",
    "gc.get_objects",
    "gc.get_referents",
    "gc.get_referrers",
    "inspect.currentframe",
    "inspect.stack",
    "sys._current_frames",
    "sys._getframe",
    "traceback.walk_stack",
)
LOOKS_AT_CALLERS = (
    "__closure__", "__globals__", "__subclasses__", "ag_frame", "cr_frame", "f_back", "f_globals",
    "f_locals", "gi_frame", "tb_frame",
)  # fmt: skip
# In any cell, since it need not lead there: the engine, and code that runs where PyTorch's modes
# do not reach.
UNDOES_THEM_ANYWHERE = ("autograder", "torch.library")


@dataclass(frozen=True)
class ForbiddenUse:
    """One use: which forbidden name, in which cell, at which line."""

    name: str
    cell: str
    line: int
    text: str


@dataclass(frozen=True)
class Definition:
    """A statement that gives a name its meaning."""

    cell: str
    statement: ast.AST
    lines: Sequence[str]


@dataclass
class Code:
    """What a submission's cells define, and what names stand for in them."""

    aliases: dict[str, str] = field(default_factory=dict)
    definitions: dict[str, list[Definition]] = field(default_factory=dict)

    def reached_from(self, exercise: str, others: set[str]) -> Iterator[Definition]:
        """The exercise's own definitions, and those of the helpers that it leads to.

        Args:
            exercise: where to start.
            others: names at which the search ends: exercises with rules of their own.
        """
        waiting, seen = [exercise], set[str]()
        while waiting:
            name = waiting.pop()
            if name in seen or name in others:
                continue
            seen.add(name)
            for definition in self.definitions.get(name, []):
                yield definition
                waiting += names_in(definition.statement) & self.definitions.keys()


def forbidden_uses(
    exercise: str,
    forbids: Sequence[str],
    cells: Iterable[tuple[str, str]],
    exercises: Iterable[str],
) -> list[ForbiddenUse]:
    """Find forbidden names in an exercise's code and in the helpers that it reaches.

    Args:
        exercise: where to start.
        forbids: dotted names; ``torch.Tensor.x`` also stands for the method ``.x``, and a function
            for every other name that PyTorch has for it (`doors.py`).
        cells: (name, source) of every cell that runs.
        exercises: all exercises' names; the search does not go on into other exercises, which
            have rules of their own.
    """
    if not forbids:
        return []
    doors = {**doors_of(tuple(forbids)), **{name: name for name in UNDOES_THE_CHECKS}}
    methods = {f.rsplit(".", 1)[1]: f for f in forbids if f.startswith(f"{METHODS}.")}
    methods |= {name: name for name in LOOKS_AT_CALLERS}
    told = tuple(cells)
    code = code_of(told)
    found: dict[ForbiddenUse, None] = dict.fromkeys(_undoing(told, code))
    for definition in code.reached_from(exercise, set(exercises) - {exercise}):
        for use in _uses_in(definition, code.aliases, doors, methods):
            found[use] = None
            if len(found) >= MAX_USES:
                break
    return sorted(found, key=lambda use: (use.cell, use.line, use.name))


@lru_cache(maxsize=8)
def code_of(cells: tuple[tuple[str, str], ...]) -> Code:
    """Read all of a submission's cells."""
    code = Code()
    for cell, source in cells:
        tree = parsed(source)
        if tree is None:
            continue
        lines = source.split("\n")
        code.aliases.update(imports(tree))
        loose = ast.Module([s for s in tree.body if not isinstance(s, ast.FunctionDef)], [])
        code.aliases = assigned(loose, code.aliases)
        for name, statement in _defined(tree.body):
            code.definitions.setdefault(name, []).append(Definition(cell, statement, lines))
    return code


def use_at(name: str, cell: str, lines: Sequence[str], line: int) -> ForbiddenUse:
    """A use with the line that it stands on, as a person will read it."""
    text = lines[line - 1].strip() if line <= len(lines) else ""
    return ForbiddenUse(name, cell, line, printable(text[:200]))


def _defined(statements: Iterable[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Names that statements bind, under ``if``, ``for``, ``with`` and ``try`` as well."""
    waiting = list(statements)
    while waiting:
        statement = waiting.pop(0)
        if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield statement.name, statement
            continue
        inner = [s for s in ast.iter_child_nodes(statement) if isinstance(s, ast.stmt)]
        handlers = [
            s for h in ast.iter_child_nodes(statement) if isinstance(h, ast.ExceptHandler)
            for s in h.body
        ]  # fmt: skip
        waiting += inner + handlers
        bound = {
            node.id
            for node in nodes(statement)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        for name in sorted(bound):
            yield name, statement


def _uses_in(
    definition: Definition, known: Mapping[str, str], doors: dict[str, str], methods: dict[str, str]
) -> Iterator[ForbiddenUse]:
    aliases = _aliases_in(definition.statement, known, doors)
    for line, name in _names_in(definition.statement, aliases, doors, methods):
        yield use_at(name, definition.cell, definition.lines, line)
    for line, text in texts_run(definition.statement, aliases):
        inner = parsed(text)
        within = _aliases_in(inner, {**aliases, **imports(inner)}, doors) if inner else {}
        for _, name in _names_in(inner, within, doors, methods) if inner else ():
            yield use_at(name, definition.cell, definition.lines, line)


def _undoing(cells: Iterable[tuple[str, str]], code: Code) -> Iterator[ForbiddenUse]:
    doors = {name: name for name in UNDOES_THEM_ANYWHERE}
    for cell, source in cells:
        tree = parsed(source)
        if tree is not None and any(name.rpartition(".")[2] in source for name in doors):
            whole = Definition(cell, tree, source.split("\n"))
            yield from islice(_uses_in(whole, code.aliases, doors, {}), MAX_USES)


def _aliases_in(
    tree: ast.AST, known: Mapping[str, str], doors: Mapping[str, str]
) -> dict[str, str]:
    aliases = assigned(tree, {**known, **imports(tree), "__import__": "__import__"})
    for key, module in list(aliases.items()):
        if key.startswith("*"):
            below = [door for door in doors if door.rpartition(".")[0] == module]
            aliases.update({door.rpartition(".")[2]: door for door in below})
    return aliases


def _names_in(
    tree: ast.AST, aliases: Mapping[str, str], doors: dict[str, str], methods: dict[str, str]
) -> Iterator[tuple[int, str]]:
    annotations = {id(part) for a in _annotations(tree) for part in ast.walk(a)}
    for node in nodes(tree):
        if id(node) in annotations or not isinstance(node, ast.expr):
            continue
        dotted = dotted_name(node, aliases)
        name = match(dotted, doors) if dotted else None
        if name is None and isinstance(node, ast.Attribute) and node.attr in methods:
            base = dotted_name(node.value, aliases)
            name = methods[node.attr] if base is None or base not in aliases.values() else None
        if name:
            yield node.lineno, name


def _annotations(tree: ast.AST) -> Iterator[ast.AST]:
    for node in nodes(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
            yield node.annotation
        if isinstance(node, ast.FunctionDef) and node.returns:
            yield node.returns
