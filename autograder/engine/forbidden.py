"""Forbidden calls as they stand in the code, resolved through imports and aliases."""

from __future__ import annotations

import ast
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from autograder.engine.codec import printable
from autograder.engine.definitions import Definition, code_of
from autograder.engine.doors import METHODS, SWITCHES, doors_of, match
from autograder.engine.syntax import (
    assigned,
    dotted_name,
    imports,
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
    *(f"torch._C.{name}" for name in SWITCHES),
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
    doors = doors_of(tuple(forbids))
    methods = {f.rsplit(".", 1)[1]: f for f in forbids if f.startswith(f"{METHODS}.")}
    told = tuple(cells)
    code = code_of(told)
    # Whose method it is only a run can tell where the student's own classes have one, too.
    methods = {name: f for name, f in methods.items() if name not in code.methods}
    methods |= {name: name for name in LOOKS_AT_CALLERS}
    aliases = _with_stars(code.aliases, doors)
    known = _Names(aliases, (frozenset(aliases.values()),))
    found: dict[ForbiddenUse, None] = dict.fromkeys(_undoing(told, known))
    for definition in code.reached_from(exercise, set(exercises) - {exercise}):
        for use in _uses_in(definition, known, doors, methods):
            found[use] = None
            if len(found) >= MAX_USES:
                break
    return sorted(found, key=lambda use: (use.cell, use.line, use.name))


def use_at(name: str, cell: str, lines: Sequence[str], line: int) -> ForbiddenUse:
    """A use with the line that it stands on, as a person will read it."""
    text = lines[line - 1].strip() if line <= len(lines) else ""
    return ForbiddenUse(name, cell, line, printable(text[:200]))


def _uses_in(
    definition: Definition, known: _Names, doors: dict[str, str], methods: dict[str, str]
) -> Iterator[ForbiddenUse]:
    names = known.within(definition.statement, doors)
    for line, name in _names_in(definition.statement, names, doors, methods):
        yield use_at(name, definition.cell, definition.lines, line)
    for line, text in texts_run(definition.statement, names.aliases):
        inner = parsed(text)
        within = names.within(inner, doors) if inner else names
        for _, name in _names_in(inner, within, doors, methods) if inner else ():
            yield use_at(name, definition.cell, definition.lines, line)


@lru_cache(maxsize=4096)
def _undoes(dotted: str) -> str | None:
    """What undoes the checks, as itself or by way of a module that has imported it."""
    path = f".{dotted}."
    return next((name for name in UNDOES_THE_CHECKS if f".{name}." in path), None)


def _undoing(cells: Iterable[tuple[str, str]], known: _Names) -> Iterator[ForbiddenUse]:
    doors = {name: name for name in UNDOES_THEM_ANYWHERE}
    for cell, source in cells:
        tree = parsed(source)
        if tree is not None and any(name.rpartition(".")[2] in source for name in doors):
            whole = Definition(cell, tree, source.split("\n"))
            yield from islice(_uses_in(whole, known, doors, {}), MAX_USES)


@dataclass(frozen=True)
class _Names:
    """What names stand for, and which modules and functions those are."""

    aliases: Mapping[str, str]
    values: tuple[frozenset[str], ...]

    def within(self, tree: ast.AST, doors: Mapping[str, str]) -> _Names:
        """The same with what a tree imports and assigns."""
        own = _with_stars({**imports(tree), "__import__": "__import__"}, doors)
        found = assigned(tree, ChainMap(own, self.aliases))  # type: ignore[arg-type]
        here = frozenset([*own.values(), *found.maps[0].values()])
        return _Names(found, (here, *self.values))

    def is_of_a_module(self, dotted: str | None) -> bool:
        return any(dotted in values for values in self.values)


def _with_stars(aliases: Mapping[str, str], doors: Mapping[str, str]) -> dict[str, str]:
    """With all that a star imports of what is forbidden."""
    found = dict(aliases)
    stars = {module for key, module in aliases.items() if key.startswith("*")}
    for door in doors if stars else ():
        module, _, name = door.rpartition(".")
        if module in stars:
            found[name] = door
    return found


def _names_in(
    tree: ast.AST, names: _Names, doors: dict[str, str], methods: dict[str, str]
) -> Iterator[tuple[int, str]]:
    annotations = {id(part) for a in _annotations(tree) for part in ast.walk(a)}
    for node in nodes(tree):
        if id(node) in annotations or not isinstance(node, ast.expr):
            continue
        dotted = dotted_name(node, names.aliases)
        name = match(dotted, doors) or _undoes(dotted) if dotted else None
        if name is None and isinstance(node, ast.Attribute) and node.attr in methods:
            owner = dotted_name(node.value, names.aliases)
            name = None if names.is_of_a_module(owner) else methods[node.attr]
        if name:
            yield node.lineno, name


def _annotations(tree: ast.AST) -> Iterator[ast.AST]:
    for node in nodes(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
            yield node.annotation
        if isinstance(node, ast.FunctionDef) and node.returns:
            yield node.returns
