"""PyTorch's stacks of modes: what looks at every function and operator, in a worker.

A student's code can leave modes of its own in force. What we do with a case's inputs is none of
their business: they would see them where nobody watches what they do with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from autograder.engine.steady import keep_builtins

keep_builtins(globals())

INNER: Any = torch._C


@dataclass(frozen=True)
class Stack:
    """One of the two, by PyTorch's own functions, bound before a student's code could replace them.

    Attributes:
        size: how many modes are in force.
        at: which one is the so-manieth.
        pop: take off the innermost.
        push: put one on.
    """

    size: Callable[[], int]
    at: Callable[[int], Any]
    pop: Callable[[], Any]
    push: Callable[[Any], None]

    def take_off(self, mode: Any) -> bool:
        """End a mode that may have others on it, such as a device; whether it was still there."""
        own = next((i for i in range(self.size()) if self.at(i) is mode), None)
        if own is None:
            return False
        others = [self.pop() for _ in range(self.size() - own - 1)]
        mode.__exit__(None, None, None)
        for other in reversed(others):
            self.push(other)
        return True


FUNCTIONS = Stack(
    INNER._len_torch_function_stack,
    INNER._get_function_stack_at,
    INNER._pop_torch_function_stack,
    INNER._push_on_torch_function_stack,
)
OPERATORS = Stack(
    INNER._len_torch_dispatch_stack,
    INNER._get_dispatch_stack_at,
    partial(INNER._pop_torch_dispatch_stack, None),
    INNER._push_on_torch_dispatch_stack,
)


class Unseen:
    """Within it no mode is in force; those that were are afterwards."""

    def __enter__(self) -> None:
        self._others: list[tuple[Stack, Any]] = []
        for stack in (FUNCTIONS, OPERATORS):
            while stack.size():
                self._others.append((stack, stack.pop()))

    def __exit__(self, *_: object) -> None:
        while self._others:
            stack, mode = self._others.pop()
            stack.push(mode)
