"""Derivatives measured and derivatives derived: differences, checks, descent and curvature.

Baydin, Pearlmutter, Radul & Siskind (2018), "Automatic differentiation in machine learning: a
survey", https://arxiv.org/abs/1502.05767, section 2.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def numerical_gradient(f: Callable[[Tensor], Tensor], x: Tensor, eps: float = 1e-5) -> Tensor:
    """Estimate the gradient of a scalar function at a point by central differences.

    One entry at a time is moved by ``eps`` upwards and by ``eps`` downwards while every other
    entry stays where it is; the entry's slope is the difference of the two values over the
    distance between the two points. Without automatic differentiation.

    Args:
        f: takes a tensor of the shape of ``x`` and returns a tensor of shape (). It does not
            change its argument.
        x: any shape, () included, with at least one entry; floating point, contiguous or not.
            Left unchanged.
        eps: the step in each direction, positive.

    Returns:
        The slopes: a new tensor of the shape, dtype and device of ``x``.
    """
    slopes = []
    for i in range(x.numel()):
        step = x.new_zeros(x.numel())  # (numel,)
        step[i] = eps
        step = step.reshape(x.shape)
        slopes.append((f(x + step) - f(x - step)) / (2 * eps))  # ()
    return torch.stack(slopes).reshape(x.shape)


def relative_error(a: Tensor, b: Tensor, floor: float = 1e-8) -> Tensor:
    """Compute the largest relative difference between two gradients, entry by entry.

    Each entry's difference, in absolute value, is measured against the sum of the two entries'
    absolute values, or against ``floor`` where that sum is smaller. So an entry that is zero
    in both has an error of 0, and no entry an error above 1.

    Args:
        a: any shape with at least one entry, floating point. Left unchanged.
        b: the shape of ``a``. Left unchanged.
        floor: the least that a difference is divided by, positive.

    Returns:
        The largest of the entries' errors, a tensor of shape ().
    """
    size = (a.abs() + b.abs()).clamp(min=floor)
    return ((a - b).abs() / size).max()


def gradient_check(
    f: Callable[[dict[str, Tensor]], Tensor],
    params: dict[str, Tensor],
    grads: dict[str, Tensor],
    eps: float = 1e-5,
) -> dict[str, Tensor]:
    """Compare the gradient of each parameter with central differences.

    While one parameter is moved, entry by entry, the others stay as they are. Your earlier
    functions are yours to call; automatic differentiation is not allowed.

    Args:
        f: takes a dict with the names and shapes of ``params`` and returns the loss, a tensor
            of shape (). It needs all of the names.
        params: by name, each of any shape, floating point. The dict and its tensors are left
            unchanged.
        grads: the gradients to be checked: the names of ``params``, in any order, each of the
            shape of its parameter.
        eps: the step of the differences.

    Returns:
        By name, the ``relative_error`` between the parameter's numerical gradient and the one
        in ``grads``: a tensor of shape ().
    """
    errors = {}
    for name, value in params.items():

        def loss(moved: Tensor, name: str = name) -> Tensor:
            return f({**params, name: moved})

        errors[name] = relative_error(numerical_gradient(loss, value, eps), grads[name])
    return errors


def quadratic_gradient(A: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """Compute the gradient with respect to x of f(x) = ½ xᵀAx + bᵀx.

    Derived by hand: no automatic differentiation and no differences.

    Args:
        A: (n, n), floating point, not necessarily symmetric. Left unchanged.
        b: (n,).
        x: (n,).

    Returns:
        (n,), the gradient at ``x``.
    """
    return (A + A.T) @ x / 2 + b


def bilinear_backward(
    grad_s: Tensor, x: Tensor, W: Tensor, y: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Carry a gradient back through the bilinear scores sₙ = xₙᵀ W yₙ, one for each example.

    The loss is one number that depends on the scores, and ``grad_s`` holds its derivative with
    respect to each of them. Derived by hand: no automatic differentiation and no differences.

    Args:
        grad_s: (batch,), the gradient of the loss with respect to the scores.
        x: (batch, d_x), one example a row.
        W: (d_x, d_y), shared by all the examples.
        y: (batch, d_y).

    Returns:
        The gradients of the loss with respect to x (batch, d_x), W (d_x, d_y) and y
        (batch, d_y), in this order. New tensors; the arguments are left unchanged.
    """
    grad_x = grad_s[:, None] * (y @ W.T)  # (batch, d_x)
    grad_W = x.T @ (grad_s[:, None] * y)  # (d_x, d_y)
    grad_y = grad_s[:, None] * (x @ W)  # (batch, d_y)
    return grad_x, grad_W, grad_y


def softmax_jacobian(z: Tensor) -> Tensor:
    """Compute how each probability of a softmax changes with each logit.

    The softmax is over the last dimension; every other dimension is a batch of its own.
    ``torch.softmax`` is allowed; automatic differentiation and differences are not. Finite and
    right for logits of ±1000.

    Args:
        z: (…, K), the logits, with any number of dimensions before the last, none included.
            Left unchanged.

    Returns:
        (…, K, K): entry [i, j] of the last two dimensions is ∂pᵢ/∂zⱼ, where p is the softmax.
    """
    p = torch.softmax(z, dim=-1)  # (…, K)
    return torch.diag_embed(p) - p[..., :, None] * p[..., None, :]  # (…, K, K)


def gradient_descent(
    gradient: Callable[[Tensor], Tensor], x: Tensor, lr: float, steps: int
) -> Tensor:
    """Walk downhill: at each step against the gradient, by ``lr`` times its length.

    Written with tensor arithmetic: neither ``torch.optim`` nor automatic differentiation is
    allowed.

    Args:
        gradient: takes a tensor of the shape of ``x`` and returns one of that shape. It does
            not change its argument.
        x: any shape, the start. Left unchanged.
        lr: the learning rate.
        steps: how many steps to take, 0 or more.

    Returns:
        (steps + 1, *x.shape), every point of the walk: the start first, the end last.
    """
    path = [x]
    for _ in range(steps):
        path.append(path[-1] - lr * gradient(path[-1]))
    return torch.stack(path)


def numerical_hessian(f: Callable[[Tensor], Tensor], x: Tensor, eps: float = 1e-3) -> Tensor:
    """Estimate the matrix of second derivatives of a scalar function by central differences.

    Every entry is estimated by differences that are symmetric about ``x``, so that it is exact,
    but for rounding, where ``f`` is a polynomial of degree three. Your earlier functions are
    yours to call; automatic differentiation is not allowed.

    Args:
        f: takes a tensor of shape (n,) and returns a tensor of shape (). It does not change its
            argument.
        x: (n,), floating point. Left unchanged.
        eps: the step in each direction, the same in both differences; positive.

    Returns:
        (n, n), entry [i, j] being ∂²f/∂xᵢ∂xⱼ at ``x``; of the dtype and device of ``x``.
    """
    rows = []
    for i in range(len(x)):

        def slope(u: Tensor, i: int = i) -> Tensor:
            return numerical_gradient(f, u, eps)[i]

        rows.append(numerical_gradient(slope, x, eps))  # (n,)
    return torch.stack(rows)  # (n, n)


def classify_critical_point(hessian: Tensor, tol: float = 1e-6) -> str:
    """Tell what kind of point it is at which the gradient vanishes, from the curvature there.

    An eigenvalue within ``tol`` of zero has no sign: the surface is flat that way, as far as
    anyone can tell.

    Args:
        hessian: (n, n), symmetric, floating point; n is any positive number.
        tol: how near to zero an eigenvalue counts as none.

    Returns:
        ``"minimum"`` where the surface curves upwards every way; ``"maximum"`` where it curves
        downwards every way; ``"saddle"`` where it curves upwards some way and downwards
        another, flat ways or not; ``"degenerate"`` otherwise.
    """
    eigenvalues = torch.linalg.eigvalsh(hessian)  # (n,), ascending
    upwards, downwards = eigenvalues > tol, eigenvalues < -tol
    if upwards.all():
        return "minimum"
    if downwards.all():
        return "maximum"
    if upwards.any() and downwards.any():
        return "saddle"
    return "degenerate"
