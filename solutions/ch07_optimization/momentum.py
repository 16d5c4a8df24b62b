"""Momentum: SGD, heavy ball and Nesterov, how fast they converge, and SGD as a class."""

from collections.abc import Iterable

import torch
from torch import Tensor


def sgd_step(param: Tensor, grad: Tensor, lr: float = 1e-2, weight_decay: float = 0.0) -> Tensor:
    """Take one step of (stochastic) gradient descent, with an L2 penalty if asked for.

    In the form of ``torch.optim.SGD``: the penalty acts through the gradient. Written with tensor
    arithmetic, without ``torch.optim``.

    Args:
        param: the parameter before the step; any shape.
        grad: the loss's gradient at ``param``, without any penalty; the same shape.
        lr: the learning rate.
        weight_decay: λ, the weight of the penalty λ/2 · ‖param‖².

    Returns:
        The parameter after the step, a new tensor of the shape, dtype and device of ``param``.
        The arguments are left unchanged.
    """
    return param - lr * (grad + weight_decay * param)


def momentum_step(
    param: Tensor, grad: Tensor, velocity: Tensor, lr: float = 1e-2, momentum: float = 0.9
) -> tuple[Tensor, Tensor]:
    """Take one step of gradient descent with momentum, Polyak's heavy ball.

    Polyak (1964), https://doi.org/10.1016/0041-5553(64)90137-5, in the form of
    ``torch.optim.SGD`` without dampening: the velocity is a sum of gradients, and the learning
    rate is applied to it when it is used. Written with tensor arithmetic, without ``torch.optim``.

    Args:
        param: the parameter before the step; any shape.
        grad: the loss's gradient at ``param``; the same shape.
        velocity: v before the step, not counting ``grad``; the same shape, zeros before the first
            step.
        lr: the learning rate.
        momentum: μ, the share of the velocity that is kept.

    Returns:
        ``(param, velocity)`` after the step, as new tensors of the shape, dtype and device of
        ``param``. The arguments are left unchanged.
    """
    velocity = momentum * velocity + grad
    return param - lr * velocity, velocity


def nesterov_step(
    param: Tensor, grad: Tensor, velocity: Tensor, lr: float = 1e-2, momentum: float = 0.9
) -> tuple[Tensor, Tensor]:
    """Take one step of gradient descent with Nesterov's momentum.

    Nesterov (1983), as momentum by Sutskever et al. (2013),
    https://proceedings.mlr.press/v28/sutskever13.html, and rewritten as in Bengio et al. (2012),
    https://arxiv.org/abs/1212.0901, and ``torch.optim.SGD(nesterov=True)``: ``param`` is the point
    that looks ahead, so that ``grad`` is taken where ``param`` is. Written with tensor arithmetic,
    without ``torch.optim``.

    Args:
        param: the parameter before the step; any shape.
        grad: the loss's gradient at ``param``; the same shape.
        velocity: v before the step, not counting ``grad``; the same shape, zeros before the first
            step.
        lr: the learning rate.
        momentum: μ, the share of the velocity that is kept.

    Returns:
        ``(param, velocity)`` after the step, as new tensors of the shape, dtype and device of
        ``param``. The velocity is that of ``momentum_step``. The arguments are left unchanged.
    """
    velocity = momentum * velocity + grad
    return param - lr * (grad + momentum * velocity), velocity


def convergence_rate(curvature: Tensor, lr: float, momentum: float = 0.0) -> Tensor:
    """Say by which factor the error shrinks, step after step, under ``momentum_step``.

    On the loss ½·λ·w² each step of ``momentum_step`` is a linear map of (w, velocity). Its
    eigenvalues are the two roots z of z² − (1 + μ − ηλ)·z + μ = 0, with μ = ``momentum`` and
    η = ``lr``, and in the long run the error shrinks by the larger of their absolute values.
    Polyak (1964); Goh (2017), https://distill.pub/2017/momentum/.

    Args:
        curvature: λ, one or more second derivatives of the loss; any shape, any sign.
        lr: η, the learning rate; positive.
        momentum: μ, in [0, 1).

    Returns:
        max(|z₁|, |z₂|) for each curvature by itself: the shape, dtype and device of
        ``curvature``. Below 1 the error dies out, above 1 it grows.
    """
    b = 1 + momentum - lr * curvature
    discriminant = b**2 - 4 * momentum
    real = (b.abs() + discriminant.clamp(min=0).sqrt()) / 2
    return torch.where(discriminant < 0, momentum**0.5, real)


def best_momentum(smallest: float, largest: float) -> tuple[float, float]:
    """Find the learning rate and the momentum that are best for a quadratic.

    Best for the slowest of its directions, under ``momentum_step``, when the curvatures lie
    anywhere between ``smallest`` and ``largest``. Polyak (1964); Goh (2017),
    https://distill.pub/2017/momentum/.

    Args:
        smallest: the smallest curvature; positive.
        largest: the largest curvature; at least ``smallest``.

    Returns:
        ``(lr, momentum)``, two numbers.
    """
    low, high = smallest**0.5, largest**0.5
    lr = (2 / (high + low)) ** 2
    momentum = ((high - low) / (high + low)) ** 2
    return lr, momentum


class SGD:
    """Gradient descent for any number of parameters, with momentum if asked for.

    As ``torch.optim.SGD`` does it, but written without ``torch.optim``, so it is no subclass of
    ``torch.optim.Optimizer`` either; the steps of this lesson may be called. Each parameter has a
    velocity of its own, which starts at zero and belongs to this optimizer alone.

    Attributes:
        lr: the learning rate. Each step reads it anew: whoever changes it changes the steps that
            follow.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-2,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        """Take charge of the parameters.

        Args:
            params: the parameters, as any iterable: a list, or a generator such as
                ``model.parameters()``.
            lr: the learning rate.
            momentum: μ; with 0 this is plain gradient descent.
            weight_decay: λ of an L2 penalty. It acts through the gradient, as in ``sgd_step``,
                before momentum sees it.
            nesterov: whether the momentum is Nesterov's.

        Raises:
            ValueError: ``nesterov`` is asked for without a positive ``momentum``.
        """
        if nesterov and momentum <= 0:
            raise ValueError(f"Nesterov's momentum needs a positive momentum, not {momentum}")
        self.params = list(params)
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.nesterov = nesterov
        self.velocities = [torch.zeros_like(param) for param in self.params]

    def step(self) -> None:
        """Update every parameter that has a gradient, in place.

        The update is not recorded by autograd. A parameter whose ``grad`` is None is skipped:
        neither it nor its velocity changes. The gradients themselves are left as they are.
        """
        rule = nesterov_step if self.nesterov else momentum_step
        with torch.no_grad():
            for i, param in enumerate(self.params):
                if param.grad is None:
                    continue
                grad = param.grad + self.weight_decay * param
                new, self.velocities[i] = rule(
                    param, grad, self.velocities[i], lr=self.lr, momentum=self.momentum
                )
                param.copy_(new)

    def zero_grad(self) -> None:
        """Set the ``grad`` of every parameter to None."""
        for param in self.params:
            param.grad = None
