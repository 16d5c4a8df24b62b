"""Reverse-mode automatic differentiation of single numbers.

Griewank (2012), "Who invented the reverse mode of differentiation?", Documenta Mathematica,
https://doi.org/10.4171/dms/6/38; after the design of Karpathy's micrograd (2020),
https://github.com/karpathy/micrograd.
"""

import math
from typing import Any


class Value:
    """A number that remembers how it was computed.

    An operation on Values makes a new Value, which records its operands as ``parents`` and, for
    each of them, the derivative of the result with respect to that operand alone: a local
    derivative, a plain number, computed at once from the operands' data. No operation changes
    its operands.

    In ``+ - * /`` either side may be a plain number (int or float), which is then a constant.

    Attributes:
        data: the number, a float.
        grad: the derivative of some later result with respect to this Value, once ``backward``
            has been there; 0.0 until then.
        parents: the operands, a tuple of Values; empty for one that was not computed. An operand
            that is used twice stands there twice.
        local_grads: one float for each of ``parents``, in the same order.
    """

    def __init__(
        self,
        data: float,
        parents: "tuple[Value, ...]" = (),
        local_grads: tuple[float, ...] = (),
    ) -> None:
        """Store a number, as a float, and the history that comes with it."""
        self.data = float(data)
        self.grad = 0.0
        self.parents = parents
        self.local_grads = local_grads

    def __add__(self, other: "Value | float") -> "Value":
        """Add a Value or a plain number."""
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data + other.data, (self, other), (1.0, 1.0))

    def __mul__(self, other: "Value | float") -> "Value":
        """Multiply by a Value or a plain number."""
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, exponent: float) -> "Value":
        """Raise to a power that is a plain number: int or float, of either sign.

        The base is positive, or it is negative and the exponent a whole number.
        """
        slope = exponent * self.data ** (exponent - 1)
        return Value(self.data**exponent, (self,), (slope,))

    def exp(self) -> "Value":
        """Compute the exponential."""
        result = math.exp(self.data)
        return Value(result, (self,), (result,))

    def tanh(self) -> "Value":
        """Compute the hyperbolic tangent; right for any size of the number."""
        result = math.tanh(self.data)
        return Value(result, (self,), (1.0 - result**2,))

    def relu(self) -> "Value":
        """Compute max(x, 0); at exactly 0 its derivative is taken as 0."""
        return Value(max(self.data, 0.0), (self,), (1.0 if self.data > 0 else 0.0,))

    def __neg__(self) -> "Value":
        """Compute the number with its sign turned."""
        return self * -1.0

    def __sub__(self, other: "Value | float") -> "Value":
        """Subtract a Value or a plain number."""
        return self + (-other)

    def __truediv__(self, other: "Value | float") -> "Value":
        """Divide by a Value or a plain number that is not 0."""
        return self * other**-1

    def __radd__(self, other: float) -> "Value":
        """Add to a plain number that stands on the left."""
        return self + other

    def __rmul__(self, other: float) -> "Value":
        """Multiply by a plain number that stands on the left."""
        return self * other

    def __rsub__(self, other: float) -> "Value":
        """Subtract from a plain number that stands on the left."""
        return -self + other

    def __rtruediv__(self, other: float) -> "Value":
        """Divide a plain number that stands on the left."""
        return self**-1 * other


def topological_order(root: Any) -> list[Any]:
    """List everything that a result was computed from, each before what was computed from it.

    Looks at nothing but ``parents`` and tells Values apart by identity, never by their numbers.
    Works for histories of any depth: a chain of 5000 operations is far deeper than Python's
    recursion goes by default.

    Args:
        root: the result: a Value, or anything else that has ``parents``. It and its history are
            left unchanged.

    Returns:
        Every Value of the history once, the root included: each of them after all of its
        parents. So the root is the last. Any order with this property will do.
    """
    order = []
    seen = set()
    stack = [(root, False)]
    while stack:
        node, parents_done = stack.pop()
        if parents_done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((parent, False) for parent in node.parents)
    return order


def backward(root: "Value") -> None:
    """Compute the derivative of one result with respect to every Value of its history.

    Each Value's derivative is left in its ``grad``, in place. A Value that was not computed (no
    parents: a weight, an input, a constant) *adds* it to what its ``grad`` holds already, so
    that several results can share weights and each have their say. A Value that was computed,
    the root among them, starts anew: whatever an earlier call left there is forgotten. A root
    without parents adds 1 to its own ``grad``.

    Args:
        root: the result. Nothing but ``grad`` is changed in it or in its history.
    """
    order = topological_order(root)
    for node in order:
        if node.parents:
            node.grad = 0.0
    root.grad += 1.0
    for node in reversed(order):
        for parent, local in zip(node.parents, node.local_grads, strict=True):
            parent.grad += local * node.grad


def sgd_step(parameters: "list[Value]", lr: float) -> None:
    """Take one step of gradient descent, and make the parameters ready for the next.

    Every parameter moves against its ``grad``, by ``lr`` times as much; afterwards its ``grad``
    is 0.0. Both happen in the Values themselves, so that whoever holds them sees it.

    Args:
        parameters: Values with gradients in their ``grad``.
        lr: the learning rate.
    """
    for parameter in parameters:
        parameter.data -= lr * parameter.grad
        parameter.grad = 0.0
