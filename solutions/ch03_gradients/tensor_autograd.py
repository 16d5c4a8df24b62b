"""Reverse-mode automatic differentiation of tensors, and a small module system on top of it.

Paszke et al. (2017), "Automatic differentiation in PyTorch",
https://openreview.net/forum?id=BJJsrmfCZ
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from solutions.ch03_gradients.scalar_autograd import topological_order


def unbroadcast(grad: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Carry a gradient back through broadcasting: from the large shape to the original one.

    A tensor of the given shape was broadcast to the shape of ``grad``: dimensions were put in
    front of it, and dimensions of size 1 were repeated. Each of its entries has then been used
    in several places, and receives something from every one of them.

    Written by hand: ``Tensor.sum_to_size`` and automatic differentiation are not allowed.

    Args:
        grad: the gradient with respect to the broadcast tensor. Left unchanged.
        shape: the original shape, () included, which broadcasts to that of ``grad``.

    Returns:
        The gradient with respect to the original tensor, of the given shape, in the dtype and on
        the device of ``grad``; it may be ``grad`` itself where nothing was broadcast.
    """
    for _ in range(grad.dim() - len(shape)):
        grad = grad.sum(dim=0)
    for dim, size in enumerate(shape):
        if size == 1:
            grad = grad.sum(dim=dim, keepdim=True)
    return grad


def matmul_backward(grad: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Carry a gradient back through the matrix product ``a @ b``, batches included.

    The dimensions before the last two are batches and broadcast against each other as they do
    in ``torch.matmul``. Written by hand: no automatic differentiation.

    Args:
        grad: (…, n, m), the gradient of the loss with respect to the product.
        a: (…, n, k), at least two dimensions.
        b: (…, k, m), at least two dimensions; its batches broadcast with those of ``a``.

    Returns:
        The gradients with respect to ``a`` and ``b``, in this order, each in the shape of its
        own operand. The arguments are left unchanged.
    """
    grad_a = grad @ b.transpose(-2, -1)  # (…, n, k), batches broadcast
    grad_b = a.transpose(-2, -1) @ grad  # (…, k, m), batches broadcast
    return unbroadcast(grad_a, a.shape), unbroadcast(grad_b, b.shape)


def sum_backward(
    grad: Tensor,
    shape: tuple[int, ...],
    dim: int | tuple[int, ...] | None = None,
    keepdim: bool = False,
) -> Tensor:
    """Carry a gradient back through ``x.sum(dim, keepdim)``.

    Args:
        grad: the gradient with respect to the sum, in the shape that the sum has.
        shape: that of x, with at least one dimension.
        dim: what was summed over: one dimension, several, or all where it is None. A negative
            one counts from the end; several may come in any order.
        keepdim: whether the summed dimensions were kept with size 1.

    Returns:
        The gradient with respect to x, of the given shape, in the dtype and on the device of
        ``grad``. It may share memory with ``grad``, which is left unchanged.
    """
    if dim is not None and not keepdim:
        dims = (dim,) if isinstance(dim, int) else dim
        for d in sorted(d % len(shape) for d in dims):
            grad = grad.unsqueeze(d)
    return grad.expand(shape)


def index_backward(grad: Tensor, shape: tuple[int, ...], index: Any) -> Tensor:
    """Carry a gradient back through ``x[index]``.

    Entries of x that were not taken receive zero; an entry that was taken several times, as an
    index tensor may do, receives all of their gradients, added up.

    Args:
        grad: the gradient with respect to ``x[index]``, of its shape. Left unchanged.
        shape: that of x.
        index: whatever may stand in the brackets: an int, a slice, None, an int64 tensor with
            or without repetitions, a bool tensor, or a tuple of such. Its tensors are on the
            device of ``grad``.

    Returns:
        The gradient with respect to x: of the given shape, in the dtype and on the device of
        ``grad``.
    """
    flat = grad.new_zeros(shape).flatten()  # (numel,)
    places = torch.arange(len(flat), device=grad.device).reshape(shape)[index]  # like grad
    return flat.index_add(0, places.flatten(), grad.flatten()).reshape(shape)


def softmax_backward(grad: Tensor, y: Tensor, dim: int) -> Tensor:
    """Carry a gradient back through ``y = softmax(x, dim)``, without making a Jacobian.

    Written by hand: no automatic differentiation.

    Args:
        grad: any shape, the gradient with respect to ``y``. Left unchanged.
        y: the shape of ``grad``: what the softmax returned. Left unchanged.
        dim: the dimension over which each softmax was taken, negative ones included.

    Returns:
        The gradient with respect to x, of the shape of ``y``.
    """
    return y * (grad - (grad * y).sum(dim=dim, keepdim=True))


class Variable:
    """A tensor that remembers how it was computed.

    An operation on Variables makes a new one, which records its operands and a function that
    carries a gradient back to them. Operands are never changed.

    Attributes:
        recording: of the class: while it is False, operations record nothing.
        data: the tensor.
        requires_grad: whether a gradient is wanted, of this Variable or of one behind it.
        grad: None, or the gradient that ``backward`` has left here: a tensor like ``data``.
        parents: the operands that it was computed from; empty where nothing was recorded.
        vjp: takes the gradient with respect to this Variable and returns a tuple with the
            gradient with respect to each of ``parents``; None where nothing was recorded.
    """

    recording = True

    def __init__(self, data: Tensor, requires_grad: bool = False) -> None:
        """Wrap a tensor that was not computed from anything."""
        self.data = data
        self.requires_grad = requires_grad
        self.grad: Tensor | None = None
        self.parents: tuple[Variable, ...] = ()
        self.vjp: Callable[[Tensor], tuple[Tensor, ...]] | None = None

    @staticmethod
    def record(
        data: Tensor,
        parents: "tuple[Variable, ...]",
        vjp: Callable[[Tensor], tuple[Tensor, ...]],
    ) -> "Variable":
        """Make the result of an operation.

        It requires a gradient, and has its parents and its vjp, where ``Variable.recording``
        holds and at least one of the parents requires a gradient. Otherwise it is a Variable
        with no history that requires none.
        """
        ### BEGIN SOLUTION
        wanted = Variable.recording and any(parent.requires_grad for parent in parents)
        result = Variable(data, requires_grad=wanted)
        if wanted:
            result.parents, result.vjp = parents, vjp
        return result
        ### END SOLUTION

    def detach(self) -> "Variable":
        """Give the same tensor as a Variable with no history that requires no gradient."""
        ### BEGIN SOLUTION
        return Variable(self.data)
        ### END SOLUTION

    def backward(self, grad: Tensor | None = None) -> None:
        """Compute the gradients of everything in the history that was not computed.

        Each Variable of the history that has no parents and requires a gradient receives it in
        its ``grad``: added to what is there, or as a tensor of its own where there was None.
        All others keep the ``grad`` that they have. The history stays as it was, so that a
        second call adds the same once more.

        Args:
            grad: the gradient that arrives here, in the shape of ``data``. May be left out
                where that is (), and is then 1.

        Raises:
            RuntimeError: this Variable requires no gradient; or ``grad`` is left out though
                ``data`` is not of shape ().
        """
        ### BEGIN SOLUTION
        if not self.requires_grad:
            raise RuntimeError("this Variable requires no gradient")
        if grad is None:
            if self.data.dim() > 0:
                raise RuntimeError("only a Variable of shape () may do without a gradient")
            grad = torch.ones_like(self.data)
        arrived = {id(self): grad}
        for node in reversed(topological_order(self)):
            if id(node) not in arrived:
                continue
            whole = arrived.pop(id(node))
            if node.vjp is None:
                node.grad = whole.clone() if node.grad is None else node.grad + whole
                continue
            for parent, share in zip(node.parents, node.vjp(whole), strict=True):
                if parent.requires_grad:
                    before = arrived.get(id(parent))
                    arrived[id(parent)] = share if before is None else before + share
        ### END SOLUTION

    def __add__(self, other: "Variable | float") -> "Variable":
        """Add a Variable, shapes broadcast, or a plain number."""
        ### BEGIN SOLUTION
        b = other if isinstance(other, Variable) else Variable(torch.full_like(self.data, other))

        def vjp(grad: Tensor) -> tuple[Tensor, ...]:
            return unbroadcast(grad, self.data.shape), unbroadcast(grad, b.data.shape)

        return Variable.record(self.data + b.data, (self, b), vjp)
        ### END SOLUTION

    def __mul__(self, other: "Variable | float") -> "Variable":
        """Multiply entry by entry with a Variable, shapes broadcast, or with a plain number."""
        ### BEGIN SOLUTION
        b = other if isinstance(other, Variable) else Variable(torch.full_like(self.data, other))

        def vjp(grad: Tensor) -> tuple[Tensor, ...]:
            grad_a = unbroadcast(grad * b.data, self.data.shape)
            grad_b = unbroadcast(grad * self.data, b.data.shape)
            return grad_a, grad_b

        return Variable.record(self.data * b.data, (self, b), vjp)
        ### END SOLUTION

    def __matmul__(self, other: "Variable") -> "Variable":
        """Multiply as matrices, (…, n, k) with (…, k, m); batches broadcast."""

        ### BEGIN SOLUTION
        def vjp(grad: Tensor) -> tuple[Tensor, ...]:
            return matmul_backward(grad, self.data, other.data)

        return Variable.record(self.data @ other.data, (self, other), vjp)
        ### END SOLUTION

    def sum(self, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> "Variable":
        """Sum over one dimension, several, or all where dim is None."""
        ### BEGIN SOLUTION
        total = self.data.sum(dim=dim, keepdim=keepdim)

        def vjp(grad: Tensor) -> tuple[Tensor, ...]:
            return (sum_backward(grad, self.data.shape, dim, keepdim),)

        return Variable.record(total, (self,), vjp)
        ### END SOLUTION

    def reshape(self, *shape: int) -> "Variable":
        """Give the same entries another shape; one of the sizes may be −1."""

        ### BEGIN SOLUTION
        def vjp(grad: Tensor) -> tuple[Tensor, ...]:
            return (grad.reshape(self.data.shape),)

        return Variable.record(self.data.reshape(shape), (self,), vjp)
        ### END SOLUTION

    def __getitem__(self, index: Any) -> "Variable":
        """Take what stands in the brackets: ints, slices, tensors of indices or of bools."""

        ### BEGIN SOLUTION
        def vjp(grad: Tensor) -> tuple[Tensor, ...]:
            return (index_backward(grad, self.data.shape, index),)

        return Variable.record(self.data[index], (self,), vjp)
        ### END SOLUTION

    def softmax(self, dim: int) -> "Variable":
        """Take the softmax over one dimension; ``torch.softmax`` may compute its values."""
        ### BEGIN SOLUTION
        y = torch.softmax(self.data, dim=dim)

        def vjp(grad: Tensor) -> tuple[Tensor, ...]:
            return (softmax_backward(grad, y, dim),)

        return Variable.record(y, (self,), vjp)
        ### END SOLUTION

    def relu(self) -> "Variable":
        """Compute max(x, 0) entry by entry; at 0 its slope is 0."""

        ### BEGIN SOLUTION
        def vjp(grad: Tensor) -> tuple[Tensor, ...]:
            return (grad * (self.data > 0),)

        return Variable.record(self.data.clamp(min=0), (self,), vjp)
        ### END SOLUTION

    def log(self) -> "Variable":
        """Compute the natural logarithm of every entry, all of them positive."""

        ### BEGIN SOLUTION
        def vjp(grad: Tensor) -> tuple[Tensor, ...]:
            return (grad / self.data,)

        return Variable.record(self.data.log(), (self,), vjp)
        ### END SOLUTION

    def __radd__(self, other: float) -> "Variable":
        """Add to a plain number that stands on the left."""
        return self + other

    def __rmul__(self, other: float) -> "Variable":
        """Multiply a plain number that stands on the left."""
        return self * other

    def __neg__(self) -> "Variable":
        """Turn the sign."""
        return self * -1.0

    def __sub__(self, other: "Variable | float") -> "Variable":
        """Subtract a Variable, shapes broadcast, or a plain number."""
        return self + (-other)


class no_grad:  # noqa: N801 - spelt as in PyTorch
    """While a ``with no_grad():`` block runs, operations on Variables record nothing.

    ``Variable.recording`` is False from where the block is entered until it is left, by an
    exception too, and is then what it was when the block was entered. So blocks may stand within
    each other. An exception passes through. Making a ``no_grad()`` changes nothing yet.
    """

    def __enter__(self) -> None:
        """Stop recording."""
        self.before = Variable.recording
        Variable.recording = False

    def __exit__(self, *error: object) -> None:
        """Go back to how it was."""
        Variable.recording = self.before


class Module:
    """Something with parameters, and with Modules inside it that have parameters too.

    Its parameters are the attributes that are Variables and require a gradient. Its parts are
    the attributes that are Modules. Either may also stand in a list or a tuple that is an
    attribute. Other attributes are of no concern.
    """

    def named_parameters(self, prefix: str = "") -> "dict[str, Variable]":
        """Find all parameters by name, in the order in which the attributes were first assigned.

        An attribute's own name is its parameter's name; position i of a list adds ``.i`` to the
        list's name; a parameter of a part has the part's name and a dot before it, such as
        ``layers.0.weight``. A parameter that is met again is left out the second time.

        Args:
            prefix: what every name begins with.
        """
        ### BEGIN SOLUTION
        found: dict[str, Variable] = {}
        for attribute, value in vars(self).items():
            several = isinstance(value, list | tuple)
            parts = {f"{attribute}.{i}": p for i, p in enumerate(value)} if several else None
            for name, part in (parts or {attribute: value}).items():
                inner: dict[str, Variable] = {}
                if isinstance(part, Module):
                    inner = part.named_parameters(f"{prefix}{name}.")
                elif isinstance(part, Variable) and part.requires_grad:
                    inner = {prefix + name: part}
                for key, parameter in inner.items():
                    if all(parameter is not other for other in found.values()):
                        found[key] = parameter
        return found
        ### END SOLUTION

    def parameters(self) -> "list[Variable]":
        """List all parameters, each once."""
        ### BEGIN SOLUTION
        return list(self.named_parameters().values())
        ### END SOLUTION

    def zero_grad(self) -> None:
        """Set the ``grad`` of every parameter to None."""
        ### BEGIN SOLUTION
        for parameter in self.parameters():
            parameter.grad = None
        ### END SOLUTION

    def forward(self, x: "Variable") -> "Variable":
        """Compute the output; every kind of Module has one of its own."""
        raise TypeError(f"{type(self).__name__} has no forward for a {type(x).__name__}")

    def __call__(self, x: "Variable") -> "Variable":
        """Compute the output."""
        return self.forward(x)


class Linear(Module):
    """A linear layer, x W + b, as a Module.

    Attributes:
        weight: a parameter, its data of shape (in_features, out_features).
        bias: a parameter, its data of shape (out_features,); assigned after ``weight``, so that
            it is listed after it.
    """

    def __init__(
        self, in_features: int, out_features: int, generator: torch.Generator | None = None
    ) -> None:
        """Draw the weights uniformly between −1/√in_features and 1/√in_features; biases are 0.

        Both are float32, on the CPU.

        Args:
            in_features: how many numbers come in.
            out_features: how many come out.
            generator: of the draw; PyTorch's own where it is None.
        """
        bound = in_features**-0.5
        weight = torch.rand(in_features, out_features, generator=generator)
        self.weight = Variable((2 * weight - 1) * bound, requires_grad=True)
        self.bias = Variable(torch.zeros(out_features), requires_grad=True)

    def forward(self, x: "Variable") -> "Variable":
        """Map (…, in_features), at least two dimensions, to (…, out_features)."""
        return x @ self.weight + self.bias
