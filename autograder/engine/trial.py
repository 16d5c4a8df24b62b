"""One run of one scenario: the same code for the student in the worker, for the reference in
the grader, and for a known mistake.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor

from autograder.engine.accelerator import UNJUDGED, fake_mode, place, plain_meta
from autograder.engine.modes import Unseen
from autograder.engine.steady import keep_builtins

keep_builtins(globals())

# Bound before a student's code could put something else in its place.
EQUAL, NAN_TO_NUM = torch.equal, torch.Tensor.nan_to_num
UNWATCHED: AbstractContextManager[Any] = nullcontext()


def run_trial(
    scenario: Callable[..., Any],
    implementation: Any,
    inputs: Mapping[str, Any],
    *,
    device: str,
    seed: int,
    watching: AbstractContextManager[Any] = UNWATCHED,
    read: Callable[[Any], Any] | None = None,
) -> dict[str, Any]:
    """Run a scenario on fresh copies of its inputs.

    Args:
        scenario: ``scenario(implementation, **inputs)``.
        implementation: the function or class judged.
        inputs: tensors on the CPU, in the dtype judged.
        device: ``"cpu"``, ``"cuda"`` or ``"fake"``.
        seed: of PyTorch's generators during the run.
        watching: what the scenario runs within; what we do ourselves does not.
        read: turns the outcome into what is kept of it, as long as it is watched: that, too, may
            run code of the implementation's.

    Returns:
        ``status`` ``"returned"`` with ``outcome`` and ``changed`` (the names of the inputs that
        the run changed in place), or ``"unjudged"`` with ``reason``. What the implementation
        raises is passed on.
    """
    with Unseen():
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)
        seed_generators(seed, device)
        if device == "cuda":
            hold_still()
    if device == "fake":
        with watching:
            trial = _run_fake(scenario, implementation, inputs, seed)
            return {**trial, "outcome": read(trial["outcome"])} if read else trial
    with Unseen():
        placed = place(dict(inputs), device)
        before = inputs if device == "cpu" else place(dict(inputs), device)
    with watching:
        outcome = scenario(implementation, **placed)
        outcome = read(outcome) if read else outcome
    with Unseen():
        changed = _changed(before, placed)
    return {"status": "returned", "outcome": outcome, "changed": changed}


def _run_fake(
    scenario: Callable[..., Any], implementation: Any, inputs: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """Shapes, dtypes and devices alone: quickly where that is enough, else with care."""
    with suppress(Exception), plain_meta():
        outcome = scenario(implementation, **place(dict(inputs), "fake"))
        return {"status": "returned", "outcome": outcome, "changed": []}
    seed_generators(seed, "cpu")
    try:
        with fake_mode():
            outcome = scenario(implementation, **place(dict(inputs), "fake"))
    except UNJUDGED as error:
        return {"status": "unjudged", "reason": type(error).__name__, "outcome": None}
    return {"status": "returned", "outcome": outcome, "changed": []}


NUMERICS = {"tf32": False, "deterministic algorithms": True}  # on CUDA; recorded in verdicts


def hold_still() -> None:
    """Make CUDA compute in full precision, and the same way twice where it can."""
    torch.backends.cuda.matmul.allow_tf32 = NUMERICS["tf32"]
    torch.backends.cudnn.allow_tf32 = NUMERICS["tf32"]
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(NUMERICS["deterministic algorithms"], warn_only=True)


def seed_generators(seed: int, device: str) -> None:
    """Seed the generators that code on a device can draw from.

    torch.manual_seed would do the same at a millisecond a call: for every kind of accelerator
    that is not there, it keeps the call and its stack for later.
    """
    torch.default_generator.manual_seed(seed)
    if device == "cuda":
        torch.cuda.manual_seed_all(seed)


def cast(tree: Any, dtype: torch.dtype) -> Any:
    """Copy a tree of inputs with its floating-point tensors in another dtype."""
    if isinstance(tree, Tensor):
        return tree.to(dtype) if tree.is_floating_point() else tree.clone()
    if isinstance(tree, dict):
        return {key: cast(value, dtype) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(cast(value, dtype) for value in tree)
    return copy.copy(tree)


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in before if not _same(before[name], after.get(name)))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        if not isinstance(b, Tensor) or a.shape != b.shape or a.dtype != b.dtype:
            return False
        b = b.detach()
        return bool(EQUAL(a, b) or EQUAL(NAN_TO_NUM(a, 0.0), NAN_TO_NUM(b, 0.0)))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, bool | int | float | str):
        return type(a) is type(b) and (a == b or a != a)  # NaN stays NaN
    return True
