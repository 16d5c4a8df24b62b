"""Students' code as syntax trees, each parsed once, and what can be read off them for certain."""

from __future__ import annotations

import ast
import re
import warnings
from collections import ChainMap
from collections.abc import Iterator, Mapping
from functools import lru_cache

MAX_CHAIN = 24  # attributes in a row; longer ones are made to slow us down
MAX_DEPTH = 12
MAX_DOTS = 1_000
DOTTED = re.compile(r"[\w. \t\f]+")
RUNS_TEXT = frozenset({"exec", "eval", "compile", "torch.jit.CompilationUnit"})
BY_NAME = frozenset({"getattr", "hasattr", "builtins.getattr", "torch._jit_internal.getattr"})
IMPORTS = frozenset({"__import__", "importlib.import_module", "builtins.__import__"})


def parsed(source: str) -> ast.Module | None:
    """A cell's tree; None where it is not Python."""
    return _read(source)[0]


def is_too_deep(source: str) -> bool:
    """Whether a cell is Python nested so deeply that it cannot be read, though it might run."""
    return _read(source)[1]


@lru_cache(maxsize=512)
def _read(source: str) -> tuple[ast.Module | None, bool]:
    if _has_endless_name(source):
        return None, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source), False
    except (RecursionError, MemoryError):
        return None, True
    except (SyntaxError, ValueError):
        return None, False


def _has_endless_name(source: str) -> bool:
    """Whether Python would take minutes over a dotted name: the square of its length."""
    if source.count(".") <= MAX_DOTS:
        return False
    chains = DOTTED.findall(source.replace("\\\n", ""))
    return any(chain.count(".") > MAX_DOTS for chain in chains)


@lru_cache(maxsize=1024)
def nodes(tree: ast.AST) -> tuple[ast.AST, ...]:
    """Every node of a tree, collected once for all who look through it."""
    return tuple(ast.walk(tree))


def names_in(tree: ast.AST) -> set[str]:
    """Every plain name that stands in a tree."""
    return {node.id for node in nodes(tree) if isinstance(node, ast.Name)}


@lru_cache(maxsize=1024)
def names_of(source: str) -> frozenset[str]:
    """Every plain name that stands in a cell; none where it is not Python."""
    return frozenset(names_in(parsed(source) or ast.Module([], [])))


def imports(tree: ast.AST) -> dict[str, str]:
    """What names stand for by the imports in a tree; ``"*…"`` for a module imported by a star."""
    aliases: dict[str, str] = {}
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.count(".") > MAX_CHAIN:
                    continue
                whole = name.asname is not None
                first = name.name.split(".")[0]
                aliases[name.asname or first] = name.name if whole else first
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for name in node.names:
                if name.name == "*":
                    aliases[f"*{node.module}"] = node.module
                else:
                    aliases[name.asname or name.name] = f"{node.module}.{name.name}"
    return aliases


def assigned(tree: ast.AST, aliases: Mapping[str, str]) -> ChainMap[str, str]:
    """What names stand for by assignments of modules and functions to them, before the others."""
    found = ChainMap[str, str]({}, aliases)  # type: ignore[arg-type]
    for node in nodes(tree):
        target, value = None, None
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
        elif isinstance(node, ast.NamedExpr | ast.AnnAssign):
            target, value = node.target, node.value
        if isinstance(target, ast.Name) and value is not None and target.id not in found:
            dotted = dotted_name(value, found)
            if dotted:
                found[target.id] = dotted
    return found


def dotted_name(node: ast.expr, aliases: Mapping[str, str], depth: int = 0) -> str | None:
    """The dotted name that an expression stands for; None where that cannot be said.

    Seen through are imports, aliases, ``getattr``, ``vars``, ``__dict__``, ``sys.modules``,
    ``import_module`` and ``__import__`` where the names in them are constants.
    """
    attributes: list[str] = []
    while isinstance(node, ast.Attribute) and len(attributes) <= MAX_CHAIN:
        attributes.append(node.attr)
        node = node.value
    if depth > MAX_DEPTH or len(attributes) > MAX_CHAIN:
        return None
    base = _base(node, aliases, depth + 1)
    if base is None:
        return None
    found = ".".join(part for part in (base, *reversed(attributes)) if part != "__dict__")
    return found if found.count(".") <= MAX_CHAIN else None


def _base(node: ast.expr, aliases: Mapping[str, str], depth: int) -> str | None:
    if isinstance(node, ast.Name):
        return aliases.get(node.id)
    if isinstance(node, ast.Subscript):
        owner = dotted_name(node.value, aliases, depth)
        key = constant_text(node.slice)
        if isinstance(node.value, ast.Call) and _called(node.value, aliases, depth) == "vars":
            owner = dotted_name(node.value.args[0], aliases, depth) if node.value.args else None
        if owner and key:
            return key if owner == "sys.modules" else f"{owner}.{key}"
        return None
    if isinstance(node, ast.Call) and node.args:
        called = _called(node, aliases, depth)
        if called in BY_NAME and len(node.args) >= 2:
            owner, name = dotted_name(node.args[0], aliases, depth), constant_text(node.args[1])
            return f"{owner}.{name}" if owner and name else None
        if called in IMPORTS:
            module = constant_text(node.args[0])
            return module.split(".")[0] if module and called == "__import__" else module
    return None


def _called(node: ast.Call, aliases: Mapping[str, str], depth: int = 0) -> str | None:
    """The name of what is called: a builtin's own where nothing else is known of it."""
    known = dotted_name(node.func, aliases, depth)
    return known or (node.func.id if isinstance(node.func, ast.Name) else None)


def texts_run(tree: ast.AST, aliases: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Code in constant texts that are handed to ``exec``, ``eval`` and the like: line and code."""
    for node in nodes(tree):
        if isinstance(node, ast.Call) and node.args and _called(node, aliases) in RUNS_TEXT:
            text = constant_text(node.args[0])
            if text:
                yield node.lineno, text


def constant_text(node: ast.expr, depth: int = 0) -> str | None:
    """The text that an expression of constants makes; None where it takes more than reading."""
    if depth > MAX_DEPTH:
        return None
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = constant_text(node.left, depth + 1), constant_text(node.right, depth + 1)
        return left + right if left is not None and right is not None else None
    if isinstance(node, ast.JoinedStr):
        inner = [v.value if isinstance(v, ast.FormattedValue) else v for v in node.values]
        parts = [constant_text(part, depth + 1) for part in inner]
        return "".join(p or "" for p in parts) if None not in parts else None
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
        text = constant_text(node.value, depth + 1)
        return text[::-1] if text is not None and _is_backwards(node.slice) else None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return _joined(node, depth)
    return None


def _is_backwards(part: ast.Slice) -> bool:
    step = part.step
    return (
        part.lower is None
        and part.upper is None
        and isinstance(step, ast.UnaryOp)
        and isinstance(step.op, ast.USub)
        and isinstance(step.operand, ast.Constant)
        and step.operand.value == 1
    )


def _joined(node: ast.Call, depth: int) -> str | None:
    assert isinstance(node.func, ast.Attribute)
    between = constant_text(node.func.value, depth + 1)
    if node.func.attr != "join" or between is None or len(node.args) != 1:
        return None
    listed = node.args[0]
    if not isinstance(listed, ast.List | ast.Tuple):
        return None
    parts = [constant_text(part, depth + 1) for part in listed.elts]
    return between.join(p or "" for p in parts) if None not in parts else None
