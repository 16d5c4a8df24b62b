"""A first network on handwritten digits: from nothing but tensors, then with PyTorch's modules.

LeCun, Bottou, Bengio & Haffner (1998), "Gradient-based learning applied to document recognition",
https://doi.org/10.1109/5.726791; He et al. (2015), https://arxiv.org/abs/1502.01852
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from solutions.ch06_mlp.backprop import linear_forward, mlp_backward, softmax_cross_entropy


def pixel_statistics(x_train: Tensor) -> tuple[Tensor, Tensor]:
    """Measure each pixel's mean and standard deviation over the training images.

    The standard deviation is that of the examples themselves: the root of the mean squared
    distance from the mean. A pixel that is the same in every image gets 1 instead of 0, so that
    dividing by it does no harm; every other one, however small, stays as it is.

    Args:
        x_train: (examples, pixels), floating point. Left unchanged.

    Returns:
        The means and the standard deviations, each (pixels,), in the dtype and on the device of
        ``x_train``.
    """
    mean = x_train.mean(dim=0)
    std = (x_train - mean).square().mean(dim=0).sqrt()
    constant = (x_train == x_train[0]).all(dim=0)  # not std == 0: a mean is rounded
    return mean, torch.where(constant, torch.ones_like(std), std)


def init_parameters(
    d_in: int, d_hidden: int, classes: int, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Draw the first parameters of a two-layer ReLU network. He et al. (2015), section 2.2.

    Every weight comes from a normal distribution with mean 0 and a variance of 2 over the number
    of inputs of its own layer. The biases are 0.

    Args:
        d_in: inputs of the network.
        d_hidden: hidden units.
        classes: outputs of the network.
        generator: of the draw; PyTorch's own where it is None.

    Returns:
        ``"W1"`` (d_in, d_hidden), ``"b1"`` (d_hidden,), ``"W2"`` (d_hidden, classes) and ``"b2"``
        (classes,): plain float32 tensors on the CPU that require no gradient.
    """
    return {
        "W1": torch.randn(d_in, d_hidden, generator=generator) * math.sqrt(2 / d_in),
        "b1": torch.zeros(d_hidden),
        "W2": torch.randn(d_hidden, classes, generator=generator) * math.sqrt(2 / d_hidden),
        "b2": torch.zeros(classes),
    }


def mlp_forward(x: Tensor, params: dict[str, Tensor]) -> Tensor:
    """Compute the logits of a two-layer ReLU network.

    Args:
        x: (batch, d_in), floating point. Left unchanged.
        params: ``"W1"`` (d_in, d_hidden), ``"b1"`` (d_hidden,), ``"W2"`` (d_hidden, classes) and
            ``"b2"`` (classes,). Left unchanged.

    Returns:
        (batch, classes).
    """
    h = linear_forward(x, params["W1"], params["b1"]).relu()  # (batch, d_hidden)
    return linear_forward(h, params["W2"], params["b2"])


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Measure the share of examples whose largest logit is that of the right class.

    Args:
        logits: (batch, classes), floating point.
        labels: (batch,), int64.

    Returns:
        A Python number between 0 and 1.
    """
    return (logits.argmax(dim=1) == labels).double().mean().item()


def sgd_step(params: dict[str, Tensor], grads: dict[str, Tensor], lr: float) -> dict[str, Tensor]:
    """Take one step of gradient descent.

    Args:
        params: tensors by name. Left unchanged.
        grads: the gradient of each of them under the same name, in any order. Left unchanged.
        lr: the learning rate, a positive number.

    Returns:
        The parameters after the step, under their names: new tensors in a new dict.
    """
    return {name: value - lr * grads[name] for name, value in params.items()}


def train_epoch(
    x: Tensor,
    labels: Tensor,
    params: dict[str, Tensor],
    lr: float,
    batch_size: int,
    order: Tensor,
) -> tuple[dict[str, Tensor], Tensor]:
    """Train a two-layer ReLU network for one epoch of minibatch gradient descent, by hand.

    The examples are taken as ``order`` says: the first ``batch_size`` of its entries are the first
    batch, the next ones the second, and so on; the last batch may be smaller. Each batch gives a
    loss and a gradient at the parameters as they are by then, and one step. No automatic
    differentiation and no optimizer.

    Args:
        x: (n, d_in), floating point.
        labels: (n,), int64.
        params: the network's parameters as in ``mlp_forward``. Left unchanged.
        lr: the learning rate.
        batch_size: at least 1; it may be larger than the number of examples.
        order: (m,), int64, m ≥ 1: which examples to take, in this order. Those that it does not
            name are not used.

    Returns:
        The parameters after the epoch, and the mean cross-entropy over the m examples, each
        measured just before its batch's step: a tensor of shape (), in the dtype and on the device
        of ``x``.
    """
    total = x.new_zeros(())
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        loss = softmax_cross_entropy(mlp_forward(x[batch], params), labels[batch])
        params = sgd_step(params, mlp_backward(x[batch], labels[batch], params), lr)
        total = total + len(batch) * loss
    return params, total / len(order)


def train_module_epoch(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
) -> float:
    """Train a model for one epoch, the PyTorch way.

    The model is put into training mode and stays in it. Each batch gives one step of the
    optimizer, along the gradient of that batch's loss alone: gradients that parameters hold from
    before have no part in it. The model is called once for each batch, itself and not its
    ``forward``, so that its hooks run.

    Args:
        model: maps inputs (batch, …) to logits; its parameters are changed.
        loader: batches of inputs and labels; the last one may be smaller. It may have no length,
            and yield its batches only once.
        optimizer: of the model's parameters.
        loss_fn: called with logits and labels; the mean loss of a batch, of shape ().

    Returns:
        The mean loss over all examples of the epoch, each counted once and measured before its
        batch's step: a Python number.
    """
    model.train()
    total, count = 0.0, 0
    for x, y in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += len(x) * loss.item()
        count += len(x)
    return total / count


def evaluate(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    loss_fn: Callable[[Tensor, Tensor], Tensor],
) -> tuple[float, float]:
    """Measure a model's mean loss and accuracy on held-out examples.

    The model is called in evaluation mode and without building a graph. Afterwards everything is
    as it was: every module is in the mode in which it was found, also where a part of the model
    was in another mode than the rest, and gradients are enabled as before.

    Args:
        model: maps inputs (batch, …) to logits (batch, classes).
        loader: batches of inputs and labels; the last one may be smaller. It may have no length,
            and yield its batches only once.
        loss_fn: called with logits and labels; the mean loss of a batch, of shape ().

    Returns:
        The mean loss and the accuracy over all examples, each counted once: two Python numbers.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    total, right, count = 0.0, 0.0, 0
    with torch.no_grad():
        for x, y in loader:
            logits = model(x)
            total += len(x) * loss_fn(logits, y).item()
            right += len(x) * accuracy(logits, y)
            count += len(x)
    for module, training in modes.items():
        module.training = training
    return total / count, right / count
