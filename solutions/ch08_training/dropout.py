"""Dropout: Srivastava et al. (2014), https://jmlr.org/papers/v15/srivastava14a.html."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise, product

import torch
from torch import Tensor, nn


def dropout_forward(
    x: Tensor, p: float, training: bool, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Drop elements of x at random (inverted dropout; Srivastava et al., 2014, section 10).

    PyTorch's own dropout functions and modules are not to be used.

    Args:
        x: floating point, of any shape. It is left unchanged.
        p: the probability of *dropping* an element, from 0 to 1, both ends included. Every
            element is dropped or kept on its own, whatever happens to the others.
        training: whether to drop anything at all.
        generator: draws the mask where it is given, and is on the device of ``x``. Otherwise
            PyTorch's global generator draws it, so that ``torch.manual_seed`` in the caller's
            code repeats a mask. Neither is ever seeded in here: every call draws a fresh mask.

    Returns:
        The output, of the shape, dtype and device of ``x`` and differentiable with respect
        to ``x``; and the mask, bool, of the shape and device of ``x``, True where an element
        was *kept*.
        In training the output has, element by element, the expected value ``x``.
        At ``p = 1`` it is zero everywhere (not NaN). In evaluation it equals ``x``, and the
        mask is True everywhere.

    Raises:
        ValueError: ``p`` lies outside [0, 1], in training or not.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p is a probability, from 0 to 1, but is {p}")
    if not training:
        return x, torch.ones_like(x, dtype=torch.bool)
    mask = torch.rand(x.shape, generator=generator, device=x.device) >= p
    scale = 0.0 if p == 1 else 1 / (1 - p)
    return x * mask * scale, mask


def dropout_backward(grad_output: Tensor, mask: Tensor, p: float, training: bool) -> Tensor:
    """Carry a gradient back through ``dropout_forward``, by hand: autograd is not to be used.

    Args:
        grad_output: gradient of the loss with respect to the output; floating point, of any
            shape. It is left unchanged.
        mask: what ``dropout_forward`` returned: bool, of the shape of ``grad_output``, True
            where an element was kept. It is left unchanged. In evaluation it is not looked at.
        p: the probability of dropping that the forward pass used, from 0 to 1.
        training: whether the forward pass was in training.

    Returns:
        The gradient of the loss with respect to ``x``, of the shape and dtype of
        ``grad_output``. At ``p = 1`` in training it is zero everywhere.
    """
    if not training:
        return grad_output
    scale = 0.0 if p == 1 else 1 / (1 - p)
    return grad_output * mask * scale


class Dropout(nn.Module):
    """Dropout as a layer: random in training mode, the identity in evaluation mode.

    It has neither parameters nor buffers: its ``state_dict()`` is empty. It takes inputs of
    any shape, and of another shape at every call. PyTorch's own dropout functions and modules
    are not to be used.

    Args:
        p: the probability of dropping an element, from 0 to 1. It is kept as the attribute
            ``p``, which may be assigned a new value between calls; the next call uses it.

    Raises:
        ValueError: at construction, where ``p`` lies outside [0, 1].
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"p is a probability, from 0 to 1, but is {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Apply inverted dropout to x, with a fresh mask, as the module's mode says.

        Args:
            x: floating point, of any shape. It is left unchanged.

        Returns:
            One tensor, of the shape and dtype of ``x``, differentiable with respect to ``x``.
        """
        output, _ = dropout_forward(x, self.p, self.training)
        return output


class DropoutClassifier(nn.Module):
    """A classifier with dropout after the activation of every hidden layer.

    Each hidden layer is an affine map (``nn.Linear`` with its bias), ReLU, then your
    ``Dropout(p)``. The output layer is an ``nn.Linear`` alone. Nothing is dropped from the
    inputs or from the outputs, and there are no other parameters. PyTorch's own dropout functions
    and modules are not to be used.

    Args:
        in_features: size of an input vector.
        hidden: width of each hidden layer, first to last; at least one.
        classes: how many classes there are.
        p: the probability of dropping a hidden unit.
    """

    def __init__(
        self, in_features: int, hidden: Sequence[int], classes: int, p: float = 0.5
    ) -> None:
        super().__init__()
        widths = [in_features, *hidden]
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU(), Dropout(p)]
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits: (batch, in_features) to (batch, classes), with no softmax."""
        logits: Tensor = self.output(self.hidden(x))
        return logits


class DropoutRegressor(nn.Module):
    """A regressor with dropout after the activation of every hidden layer.

    Each hidden layer is an affine map (``nn.Linear`` with its bias), SiLU, x · sigmoid(x),
    then your ``Dropout(p)``. The output layer is an ``nn.Linear`` alone, with one output. Nothing
    is dropped from the inputs or from the outputs, and there are no other parameters. PyTorch's
    own dropout functions and modules are not to be used.

    Args:
        in_features: size of an input vector.
        hidden: width of each hidden layer, first to last; at least one.
        p: the probability of dropping a hidden unit.
    """

    def __init__(self, in_features: int, hidden: Sequence[int], p: float = 0.1) -> None:
        super().__init__()
        widths = [in_features, *hidden]
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.SiLU(), Dropout(p)]
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Linear(widths[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        """Predict one number a row: (batch, in_features) to (batch,), also for a batch of one."""
        prediction: Tensor = self.output(self.hidden(x))  # (batch, 1)
        return prediction.squeeze(-1)


def ensemble_mean(head: Callable[[Tensor], Tensor], h: Tensor, p: float) -> Tensor:
    """Average a network over every way in which dropout can thin its units: no randomness.

    With n units there are 2ⁿ keep masks. Each is as likely as dropout makes it: every unit is
    dropped with probability p on its own. For each of them the surviving units are scaled as
    inverted dropout scales them, ``head`` is applied, and its outputs are averaged, weighted
    by the probability of the mask (Srivastava et al., 2014, sections 1 and 7.5).

    Args:
        head: the rest of the network, which maps (m, n) to (m, k) row by row, for any m.
        h: the units, (batch, n); n is small, 12 at most. It is left unchanged.
        p: the probability of dropping a unit, from 0 to 1. At 0 all units are always kept, at
            1 all are always dropped.

    Returns:
        (batch, k): the expected value of ``head`` after dropout of ``h``, exactly.
    """
    n = h.shape[-1]
    scale = 0.0 if p == 1 else 1 / (1 - p)
    mean = torch.zeros_like(head(h))
    for kept in product((0, 1), repeat=n):
        mask = h.new_tensor(kept)  # (n,)
        probability = (1 - p) ** sum(kept) * p ** (n - sum(kept))
        mean = mean + probability * head(h * mask * scale)
    return mean


def mc_dropout_predict(model: nn.Module, x: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Predict with uncertainty by Monte Carlo dropout (Gal & Ghahramani, 2016, section 4).

    Args:
        model: contains ``Dropout`` layers of yours, at any depth, and maybe other layers that
            know training from evaluation. During the passes every ``Dropout`` is in training
            mode and every other module in evaluation mode. Afterwards each module of
            ``model`` is in the mode that it was in before.
        x: the model's input. It is left unchanged.
        samples: how many times ``model(x)`` is called, each time with fresh masks; 1 or more.

    Returns:
        Mean and standard deviation of the passes, element by element, each of the shape of
        one ``model(x)``. The deviation divides by ``samples``, so that it is 0 for one pass.
        No graph is recorded: neither of the two requires a gradient.
    """
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = isinstance(module, Dropout)
    with torch.no_grad():
        passes = torch.stack([model(x) for _ in range(samples)])  # (samples, *output)
    for module, training in modes:
        module.training = training
    return passes.mean(dim=0), passes.std(dim=0, correction=0)
