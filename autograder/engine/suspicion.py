"""What in a submission a person should look at: it proves nothing, and costs nothing.

Honest code may hold all of this. It is told with its lines, and the score stays as it is.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache

from autograder.engine.definitions import code_of
from autograder.engine.forbidden import ForbiddenUse, use_at
from autograder.engine.syntax import (
    MAX_CHAIN,
    constant_text,
    dotted_name,
    imports,
    nodes,
    parsed,
)

REACHES = (
    "autograder", "solutions", "builtins", "ctypes", "gc", "inspect", "marshal", "socket",
    "subprocess", "sys.modules", "sys._getframe", "sys._current_frames", "sys.settrace",
    "sys.setprofile", "sys.meta_path", "sys.path", "types.FunctionType", "types.CodeType",
    "os.kill", "os._exit", "os.fork", "os.system", "os.environ", "os.read", "os.readv", "os.write",
    "os.writev", "os.fdopen", "os.dup", "os.dup2", "os.set_blocking", "torch._C", "torch.ops",
    "torch.overrides", "torch.fx", "torch.jit", "torch._subclasses",
    "torch.utils._python_dispatch", "torch.library", "torch.package", "_thread", "atexit",
    "importlib.machinery", "importlib.util", "logging.currentframe", "pkgutil", "pydoc", "runpy",
    "traceback.extract_stack", "traceback.format_stack", "traceback.print_stack",
    "traceback.walk_stack", "unittest.mock",
)  # fmt: skip
INSIDE = frozenset({
    "__base__", "__bases__", "__builtins__", "__closure__", "__code__", "__getattribute__",
    "__globals__", "__mro__", "__self__", "__subclasses__", "__torch_dispatch__",
    "__torch_function__", "__wrapped__", "ag_frame", "cr_frame", "f_back", "f_code", "f_globals",
    "f_locals", "findCaller", "gi_frame", "is_meta", "tb_frame",
})  # fmt: skip
SPELT = re.compile(rf"\b(autograder|sys\.modules|{'|'.join(sorted(INSIDE))})\b")
MAX_ALIASES, MAX_CHARACTERS = 200, 60_000
LINES_OF_A_KIND = 3  # or harmless ones would hide the rest
HIDES = {"exec", "eval", "compile", "__import__", "globals"}


def suspicions(cells: Iterable[tuple[str, str]]) -> list[ForbiddenUse]:
    """Lines by which code could look or reach where an answer has no business.

    Args:
        cells: (name, source) of every cell that runs.
    """
    told = tuple(cells)
    known = frozenset(code_of(told).aliases.items())
    # What is very large is not kept: a class of such cells would fill the memory.
    alike = len(known) <= MAX_ALIASES and sum(len(source) for _, source in told) <= MAX_CHARACTERS
    suspect = _suspect_lines if alike else _suspect_lines.__wrapped__
    found: dict[ForbiddenUse, None] = {}
    kinds = Counter[str]()
    for cell, source in told:
        lines = source.split("\n")
        for line, what in suspect(source, known):
            use = use_at(what, cell, lines, line)
            if use not in found and kinds[what] < LINES_OF_A_KIND:
                found[use] = None
                kinds[what] += 1
    return list(found)


@lru_cache(maxsize=1024)
def _suspect_lines(source: str, aliases: frozenset[tuple[str, str]]) -> tuple[tuple[int, str], ...]:
    """What is suspect in a cell; a class hands in many that are alike."""
    tree = parsed(source)
    return tuple(_suspect(tree, {**dict(aliases), **imports(tree)})) if tree else ()


def _suspect(tree: ast.AST, aliases: dict[str, str]) -> Iterator[tuple[int, str]]:
    for node in nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            for name in [module] if module else [n.name for n in node.names]:
                if _reached(name):
                    yield node.lineno, _reached(name)
        elif isinstance(node, ast.Attribute):
            name = node.attr if node.attr in INSIDE else _reached(dotted_name(node, aliases) or "")
            if name:
                yield node.lineno, name
            elif isinstance(node.ctx, ast.Store | ast.Del) and _of_torch(node.value, aliases):
                yield node.lineno, "a change of PyTorch itself"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield from _suspect_call(node, aliases)
        elif isinstance(node, ast.Subscript) and _is_namespace(node.value):
            if constant_text(node.slice) is None:
                yield node.lineno, "a name in a namespace that is made as it runs"
        else:
            yield from ((node.lineno, name) for name in _spelt(node))  # type: ignore[attr-defined]


def _is_namespace(node: ast.expr) -> bool:
    called = node.func if isinstance(node, ast.Call) else None
    return (isinstance(called, ast.Name) and called.id == "vars") or (
        isinstance(node, ast.Attribute) and node.attr == "__dict__"
    )


def _spelt(node: ast.AST) -> list[str]:
    """Names that reach inside without an attribute: by a pattern, in a text, as a method."""
    if isinstance(node, ast.MatchClass):
        return [name for name in node.kwd_attrs if name in INSIDE]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return SPELT.findall(node.value)[:1]
    name = node.id if isinstance(node, ast.Name) else getattr(node, "name", None)
    defines = isinstance(node, ast.Name | ast.FunctionDef)
    return [name] if defines and name in INSIDE else []


def _suspect_call(node: ast.Call, aliases: dict[str, str]) -> Iterator[tuple[int, str]]:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name in HIDES:
        yield node.lineno, name
    elif name in ("getattr", "setattr", "delattr") and len(node.args) >= 2:
        own = isinstance(node.args[0], ast.Name) and node.args[0].id == "self"
        hidden = constant_text(node.args[1]) is None and not own
        if hidden or (name != "getattr" and _of_torch(node.args[0], aliases)):
            yield node.lineno, f"{name} of a name that is made as it runs" if hidden else name


def _of_torch(node: ast.expr, aliases: dict[str, str]) -> bool:
    dotted = dotted_name(node, aliases)
    return dotted is not None and (dotted == "torch" or dotted.startswith("torch."))


def _reached(dotted: str) -> str:
    """The name in REACHES that a dotted name leads to, as itself or by way of another module."""
    parts = dotted.split(".", MAX_CHAIN)
    ends = [".".join(parts[i:]) + "." for i in range(len(parts))]
    return next((n for n in REACHES for end in ends if end.startswith(f"{n}.")), "")
