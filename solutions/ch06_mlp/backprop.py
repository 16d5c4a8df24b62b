"""Backpropagation by hand, from one linear layer to a network of any depth.

Rumelhart, Hinton & Williams (1986), "Learning representations by back-propagating errors",
https://doi.org/10.1038/323533a0
"""

from __future__ import annotations

import torch
from torch import Tensor


def linear_forward(x: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """Map every example affinely: what one layer of a network does before its activation.

    Write it from tensor products; ``torch.nn.Linear`` and ``torch.nn.functional.linear`` are
    not allowed.

    Args:
        x: (batch, d_in), floating point; one example a row. Left unchanged.
        W: (d_in, d_out), the weights; note the order, which is not that of ``nn.Linear``.
        b: (d_out,), the bias, the same for every example.

    Returns:
        (batch, d_out), in the dtype and on the device of ``x``.
    """
    return x @ W + b  # (batch, d_out)


def linear_backward(grad_y: Tensor, x: Tensor, W: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Carry a gradient backwards through ``y = linear_forward(x, W, b)``.

    The loss is one number, and ``grad_y`` holds its derivative with respect to every entry of
    ``y``. Where the loss is a mean over the batch, ``grad_y`` knows that already. Written by
    hand: no automatic differentiation.

    Args:
        grad_y: (batch, d_out), the gradient of the loss with respect to the layer's output.
        x: (batch, d_in), the layer's input in the forward pass.
        W: (d_in, d_out), its weights.

    Returns:
        The gradients of the loss with respect to the layer's input, weights and bias, in this
        order: ``grad_x`` (batch, d_in), ``grad_W`` (d_in, d_out), ``grad_b`` (d_out,). New
        tensors; the arguments are left unchanged.
    """
    grad_x = grad_y @ W.T  # (batch, d_in)
    grad_W = x.T @ grad_y  # (d_in, d_out)
    grad_b = grad_y.sum(dim=0)  # (d_out,)
    return grad_x, grad_W, grad_b


def relu_backward(grad_y: Tensor, x: Tensor) -> Tensor:
    """Carry a gradient backwards through ``y = relu(x) = max(x, 0)``, entry by entry.

    At exactly 0, where ReLU has no derivative, take 0, as PyTorch does. Written by hand: no
    automatic differentiation.

    Args:
        grad_y: any shape, the gradient of the loss with respect to ``y``.
        x: the shape of ``grad_y``, what ReLU was given in the forward pass.

    Returns:
        The gradient of the loss with respect to ``x``: a new tensor of the shape, dtype and
        device of ``grad_y``. Both arguments are left unchanged.
    """
    return grad_y * (x > 0)


def softmax_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the mean cross-entropy of a batch, stable from logits.

    Finite wherever the logits are: entries of thousands, of either sign, neither overflow nor
    lose a row whose logits lie far below those of another. Write it from elementary tensor
    functions (``torch.logsumexp`` and ``torch.log_softmax`` among them): PyTorch's
    ``cross_entropy`` and ``nll_loss``, as functions or as modules, are not allowed.

    Args:
        logits: (batch, classes), floating point. Left unchanged.
        labels: (batch,), int64, the right class of each example, in 0 … classes − 1. Not every
            class need occur.

    Returns:
        The loss in nats, averaged over the batch: a tensor of shape (), of the logits' dtype.
    """
    shifted = logits - logits.max(dim=1, keepdim=True).values  # (batch, classes), at most 0
    log_probs = shifted - shifted.exp().sum(dim=1, keepdim=True).log()  # (batch, classes)
    of_label = log_probs.gather(1, labels[:, None])  # (batch, 1)
    return -of_label.mean()


def softmax_cross_entropy_backward(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the gradient of ``softmax_cross_entropy(logits, labels)``, a mean over the batch.

    As stable as the loss: finite and right for logits of thousands, of either sign. Written by
    hand: no automatic differentiation. ``torch.softmax`` is allowed.

    Args:
        logits: (batch, classes), floating point. Left unchanged.
        labels: (batch,), int64, in 0 … classes − 1. Not every class need occur.

    Returns:
        The gradient of the mean loss with respect to the logits: (batch, classes), of the
        logits' dtype.
    """
    probs = torch.softmax(logits, dim=1)  # (batch, classes)
    target = torch.zeros_like(logits).scatter(1, labels[:, None], 1.0)  # (batch, classes)
    return (probs - target) / logits.shape[0]


def mlp_backward(x: Tensor, labels: Tensor, params: dict[str, Tensor]) -> dict[str, Tensor]:
    """Compute every gradient of a two-layer ReLU network, through the whole of it, by hand.

    The network is ``logits = relu(x W1 + b1) W2 + b2`` and its loss the mean softmax
    cross-entropy. Run it forwards, keep what the way back needs, and come back. Your earlier
    functions are yours to call; automatic differentiation is not allowed.

    Args:
        x: (batch, d_in), floating point.
        labels: (batch,), int64, in 0 … classes − 1.
        params: the parameters ``"W1"`` (d_in, d_hidden), ``"b1"`` (d_hidden,), ``"W2"``
            (d_hidden, classes) and ``"b2"`` (classes,).

    Returns:
        The gradient of the mean loss with respect to each parameter, under the parameter's name
        and in its shape. New tensors: ``x`` and ``params`` are left unchanged, no step is taken.
    """
    a = linear_forward(x, params["W1"], params["b1"])  # (batch, d_hidden)
    h = a.relu()  # (batch, d_hidden)
    logits = linear_forward(h, params["W2"], params["b2"])  # (batch, classes)
    grad_logits = softmax_cross_entropy_backward(logits, labels)  # (batch, classes)
    grad_h, grad_W2, grad_b2 = linear_backward(grad_logits, h, params["W2"])
    grad_a = relu_backward(grad_h, a)  # (batch, d_hidden)
    _, grad_W1, grad_b1 = linear_backward(grad_a, x, params["W1"])
    return {"W1": grad_W1, "b1": grad_b1, "W2": grad_W2, "b2": grad_b2}


def deep_forward(
    x: Tensor, weights: list[Tensor], biases: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Run a network of L linear layers, with a ReLU between every two of them.

    There is no ReLU after the last layer, and none before the first. L is the number of
    weights, at least 1.

    Args:
        x: (batch, d_0), floating point.
        weights: L tensors; ``weights[l]`` has shape (d_l, d_{l+1}).
        biases: L tensors; ``biases[l]`` has shape (d_{l+1},).

    Returns:
        The logits (batch, d_L), and a list of L tensors that the way back will need: entry l is
        what linear layer l was given, (batch, d_l), so that entry 0 is ``x``. The arguments are
        left unchanged.
    """
    inputs = [x]
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        inputs.append(linear_forward(inputs[-1], W, b).relu())
    logits = linear_forward(inputs[-1], weights[-1], biases[-1])
    return logits, inputs


def deep_backward(
    grad_logits: Tensor, inputs: list[Tensor], weights: list[Tensor]
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Carry a gradient backwards through all of ``deep_forward``. Written by hand.

    Automatic differentiation is not allowed.

    Args:
        grad_logits: (batch, d_L), the gradient of the loss with respect to the logits. Where
            the loss is a mean over the batch, it knows that already.
        inputs: the L tensors that ``deep_forward`` kept; ``inputs[l]`` is (batch, d_l).
        weights: the L weights, (d_l, d_{l+1}).

    Returns:
        The gradients with respect to ``x``, of shape (batch, d_0); to the weights, a list of L;
        and to the biases, a list of L: both lists in the order of the layers, first layer
        first. The arguments, lists included, are left unchanged.
    """
    grad = grad_logits
    grad_weights: list[Tensor] = []
    grad_biases: list[Tensor] = []
    for layer in reversed(range(len(weights))):
        grad, grad_W, grad_b = linear_backward(grad, inputs[layer], weights[layer])
        if layer > 0:
            grad = relu_backward(grad, inputs[layer])  # (batch, d_layer)
        grad_weights.insert(0, grad_W)
        grad_biases.insert(0, grad_b)
    return grad, grad_weights, grad_biases
