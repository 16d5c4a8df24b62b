"""What a submission's cells define, and what names stand for in them."""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from autograder.engine.syntax import assigned, imports, names_in, nodes, parsed

BLOCKS = (ast.ExceptHandler, ast.match_case)


@dataclass(frozen=True)
class Definition:
    """A statement that gives a name its meaning."""

    cell: str
    statement: ast.AST
    lines: Sequence[str]


@dataclass
class Code:
    """What a submission's cells define, and what names stand for in them.

    Attributes:
        methods: names of the methods of the student's own classes.
    """

    aliases: dict[str, str] = field(default_factory=dict)
    methods: set[str] = field(default_factory=set)
    definitions: dict[str, list[Definition]] = field(default_factory=dict)

    def reached_from(self, exercise: str, others: set[str]) -> Iterator[Definition]:
        """The exercise's own definitions, and those of the helpers that it leads to.

        Args:
            exercise: where to start.
            others: names at which the search ends: exercises with rules of their own.
        """
        waiting, seen, read = [exercise], set[str](), set[int]()
        while waiting:
            name = waiting.pop()
            if name in seen or name in others:
                continue
            seen.add(name)
            for definition in self.definitions.get(name, []):
                if id(definition.statement) not in read:
                    read.add(id(definition.statement))
                    yield definition
                    waiting += names_in(definition.statement) & self.definitions.keys()


@lru_cache(maxsize=8)
def code_of(cells: tuple[tuple[str, str], ...]) -> Code:
    """Read all of a submission's cells."""
    code = Code()
    for cell, source in cells:
        alone = _read_alone(source)
        if alone is None:
            continue
        code.aliases.update(alone.imports)
        code.aliases.update(assigned(alone.loose, code.aliases).maps[0])
        code.methods |= alone.methods
        for name, statement in alone.defined:
            code.definitions.setdefault(name, []).append(Definition(cell, statement, alone.lines))
    return code


@dataclass(frozen=True)
class _Alone:
    """What a cell says whatever the others say; a class hands in many cells that are alike.

    Attributes:
        loose: what is not in a function.
        defined: names with the statements that bind them.
    """

    lines: Sequence[str]
    imports: Mapping[str, str]
    loose: ast.Module
    methods: frozenset[str]
    defined: Sequence[tuple[str, ast.AST]]


@lru_cache(maxsize=512)
def _read_alone(source: str) -> _Alone | None:
    tree = parsed(source)
    if tree is None:
        return None
    classes = [node for node in nodes(tree) if isinstance(node, ast.ClassDef)]
    methods = [s.name for c in classes for s in c.body if isinstance(s, ast.FunctionDef)]
    loose = ast.Module([s for s in tree.body if not isinstance(s, ast.FunctionDef)], [])
    return _Alone(
        source.split("\n"), imports(tree), loose, frozenset(methods), tuple(_defined(tree.body))
    )


def _defined(statements: Iterable[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    """Names that statements bind, under ``if``, ``for``, ``with`` and ``try`` as well."""
    waiting = deque(statements)
    while waiting:
        statement = waiting.popleft()
        if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield statement.name, statement
            continue
        inner, head = _taken_apart(statement)
        waiting += inner
        bound = {
            node.id
            for node in nodes(head)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        for name in sorted(bound):
            yield name, head


def _taken_apart(statement: ast.stmt) -> tuple[list[ast.stmt], ast.AST]:
    """The statements within a statement, and the rest of it: each part is to be read once."""
    inner: list[ast.stmt] = []
    rest: list[ast.AST] = []
    for part in ast.iter_child_nodes(statement):
        own = ast.iter_child_nodes(part) if isinstance(part, BLOCKS) else (part,)
        for node in own:
            if isinstance(node, ast.stmt):
                inner.append(node)
            else:
                rest.append(node)
    head = ast.Tuple(rest, ast.Load()) if inner else statement  # type: ignore[arg-type]
    return inner, head
