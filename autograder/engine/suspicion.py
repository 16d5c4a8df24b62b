"""What in a submission a person should look at: it proves nothing, and costs nothing.

Honest code may hold all of this. It is told with its lines, and the score stays as it is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from autograder.engine.forbidden import MAX_USES, ForbiddenUse, code_of, use_at
from autograder.engine.syntax import constant_text, dotted_name, imports, nodes, parsed

REACHES = (
    "autograder", "solutions", "builtins", "ctypes", "gc", "inspect", "marshal", "socket",
    "subprocess", "sys.modules", "sys._getframe", "sys._current_frames", "sys.settrace",
    "sys.setprofile", "sys.meta_path", "sys.path", "types.FunctionType", "types.CodeType",
    "os.kill", "os._exit", "os.fork", "os.system", "os.environ", "torch._C", "torch.ops",
    "torch.overrides", "torch.fx", "torch.jit", "torch._subclasses",
    "torch.utils._python_dispatch", "torch.library", "torch.package",
)  # fmt: skip
INSIDE = frozenset({
    "__builtins__", "__closure__", "__code__", "__globals__", "__subclasses__", "__wrapped__",
    "cr_frame", "f_back", "f_code", "f_globals", "f_locals", "gi_frame", "is_meta",
    "tb_frame",
})  # fmt: skip
HIDES = {"exec", "eval", "compile", "__import__", "globals"}


def suspicions(cells: Iterable[tuple[str, str]]) -> list[ForbiddenUse]:
    """Lines by which code could look or reach where an answer has no business.

    Args:
        cells: (name, source) of every cell that runs.
    """
    told = tuple(cells)
    aliases = code_of(told).aliases
    found: dict[ForbiddenUse, None] = {}
    for cell, source in told:
        tree = parsed(source)
        lines = source.split("\n")
        for line, what in _suspect(tree, {**aliases, **imports(tree)}) if tree else ():
            found[use_at(what, cell, lines, line)] = None
            if len(found) >= MAX_USES:
                return list(found)
    return list(found)


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
    return next((n for n in REACHES if dotted == n or dotted.startswith(f"{n}.")), "")
