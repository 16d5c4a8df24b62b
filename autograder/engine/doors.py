"""Every name under which PyTorch offers what an exercise forbids, so that authors name it once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import torch
from torch import nn

ROOTS = (
    "torch",
    "torch.nn.functional",
    "torch.special",
    "torch.ops.aten",
    "torch._C._nn",
    "torch._C._special",
    "torch._C._sparse",
    "torch._C._VariableFunctions",
    "torch._VF",
    "torch.sparse",
    "torch.masked",
    "scipy.special",
    "scipy.special._logsumexp",
    "sklearn.utils.extmath",
)
METHODS = "torch.Tensor"
# Python code of PyTorch's own that computes the same: to call it is not to write it.
COPIES = ("torch._refs", "torch._decomp", "torch._prims", "torch._inductor")
DERIVATIVES = (
    "torch.autograd.grad",
    "torch.autograd.backward",
    "torch.autograd.functional",
    "torch.autograd.forward_ad",
    "torch._C._enter_dual_level",
    "torch.autograd.Variable._execution_engine",
    "torch.Tensor.backward",
    "torch.func",
    "functorch",
    "torch._functorch",
    "torch._C._functorch",
    "torch._C._ImperativeEngine",
    "torch._C._EngineBase",
    "torch.autograd.variable.ImperativeEngine",
    "torch.Tensor.grad_fn",
    "torch.nn.grad",
)
# Of these, the method and the operator of the same name are another function.
NAMESAKES = {
    "torch.nn.functional.unfold": (
        "torch.nn.Unfold",
        "torch._C._nn.im2col",
        "torch.ops.aten.im2col",
    ),
    "torch.nn.functional.fold": ("torch.nn.Fold", "torch._C._nn.col2im", "torch.ops.aten.col2im"),
}
# What turns PyTorch's modes off, or calls an operator past them.
SWITCHES = (
    "ExcludeDispatchKeyGuard",
    "_ExcludeDispatchKeyGuard",
    "_ForceDispatchKeyGuard",
    "_SetExcludeDispatchKeyGuard",
    "_dispatch_call_boxed",
    "_dispatch_find_schema_or_throw",
    "_dispatch_tls_set_dispatch_key_excluded",
    "_pop_torch_dispatch_stack",
    "_pop_torch_function_stack",
    "_push_on_torch_dispatch_stack",
    "_push_on_torch_function_stack",
    "_set_dispatch_mode",
    "_set_skip_next_torch_function",
    "_set_torch_function_state",
    "_skip_one_hop_torch_function",
    "_unset_dispatch_mode",
)
BACKWARD = "torch.…_backward"  # stands for every function of PyTorch's that is called so
ASKS_FOR_DERIVATIVES = ("torch.autograd.grad", "torch.autograd.backward", "torch.Tensor.backward")
MODULES = {
    name.lower(): name
    for name, kind in vars(nn).items()
    if isinstance(kind, type) and issubclass(kind, nn.Module)
}


@lru_cache(maxsize=256)
def doors_of(forbids: tuple[str, ...]) -> dict[str, str]:
    """Dotted names to the forbidden name that each is another name of.

    A function's, wherever PyTorch keeps functions; its operators; the modules that wrap it; and,
    where the derivative is to be written, every way to have it taken. Methods are not among
    them unless the author names them: a student may well call a method of their own so.
    """
    doors = {name: name for name in forbids}
    for name in forbids:
        owner, _, function = name.rpartition(".")
        if name in ASKS_FOR_DERIVATIVES:
            told = dict.fromkeys((*DERIVATIVES, BACKWARD), name)
        elif name in NAMESAKES:
            told = dict.fromkeys((*NAMESAKES[name], *COPIES), name)
        elif owner in ROOTS and function.islower() and owner != "torch.ops.aten":
            told = dict.fromkeys(_of_function(function), name)
        else:
            continue
        doors = {**told, **doors}
    return doors


@lru_cache(maxsize=256)
def doors_as_called(forbids: tuple[str, ...]) -> dict[str, str]:
    """The same with methods: as code runs, a method is certain to be PyTorch's."""
    doors = doors_of(forbids)
    functions = {
        d: n for d, n in doors.items() if d.rpartition(".")[0] in ROOTS and d not in NAMESAKES
    }
    methods = {f"{METHODS}.{d.rpartition('.')[2]}": n for d, n in functions.items()}
    return {**methods, **doors}


@lru_cache(maxsize=256)
def operators_of(forbids: tuple[str, ...]) -> dict[str, str]:
    """Names of operators, as they are dispatched, to the forbidden name that they betray."""
    found: dict[str, str] = {}
    for door, name in doors_of(forbids).items():
        owner, _, function = door.rpartition(".")
        if owner in (*ROOTS, METHODS) and door not in NAMESAKES:
            found.setdefault(function, name)
    return found


@lru_cache(maxsize=256)
def tails_of(forbids: tuple[str, ...]) -> dict[str, frozenset[str]]:
    """For each forbidden name, the names by which code calls it or one of its doors."""
    found: dict[str, set[str]] = {name: set() for name in forbids}
    for door, name in doors_as_called(forbids).items():
        found[name].add(door.rpartition(".")[2])
    return {name: frozenset(tails) for name, tails in found.items()}


HOOKS = "_backward_hooks"


def match(dotted: str, doors: dict[str, str]) -> str | None:
    """The forbidden name that a dotted name is, or is below, of the doors."""
    # Copying and pickling a tensor look at its hooks, which compute nothing.
    if (
        BACKWARD in doors
        and dotted.startswith("torch.")
        and "_backward" in dotted.replace(HOOKS, "")
    ):
        return doors[BACKWARD]
    while dotted:
        if dotted in doors:
            return doors[dotted]
        dotted = dotted.rpartition(".")[0]
    return None


def _of_function(function: str) -> Iterable[str]:
    kept = function.removesuffix("_")
    if not any(hasattr(owner, kept) for owner in (torch, nn.functional, torch.Tensor)):
        return ()
    spellings = {kept, f"{kept}_", f"_{kept}", f"_{kept}_backward_data", f"{kept}_backward"}
    spellings |= {f"{kind}_{kept}" for kind in ("native", "special", "_safe", "_masked", "_sparse")}
    found = [f"{root}.{spelling}" for root in ROOTS for spelling in sorted(spellings)]
    plain = kept.replace("_", "")
    for wanted in (plain, plain + "loss", *(f"{plain}{d}d" for d in (1, 2, 3))):
        for kind in (MODULES.get(wanted), MODULES.get("lazy" + wanted)):
            if kind is not None:
                found.append(f"torch.nn.{kind}")
    return [*found, *COPIES]
