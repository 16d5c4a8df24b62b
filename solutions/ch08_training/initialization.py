"""Initialisation: Glorot and Bengio (2010), He et al. (2015); inputs: LeCun et al. (1998)."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class Standardizer(nn.Module):
    """Shift and scale each input feature as the training set says.

    LeCun, Bottou, Orr and Müller (1998), "Efficient BackProp", section 4.3. It has no parameters
    and two buffers, which are all that its ``state_dict()`` holds:

    - ``mean``, (num_features,): zeros before ``fit``;
    - ``std``, (num_features,): ones before ``fit``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("std", torch.ones(num_features))

    def fit(self, x: Tensor) -> None:
        """Take mean and standard deviation of each feature from x; what was fitted before is gone.

        The standard deviation is that of these very examples: the root of the mean squared
        distance from their mean. A feature that is the same in all examples gets 1 instead; every
        other one, however small, stays as it is.

        Args:
            x: training inputs, (examples, num_features), in the dtype and on the device of the
                buffers; at least one example. Left unchanged.
        """
        constant = (x == x[0]).all(dim=0)  # not std == 0: a mean is rounded
        self.mean = x.mean(dim=0)
        self.std = x.std(dim=0, correction=0).masked_fill(constant, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Standardise inputs, whichever they are, with what was fitted.

        Args:
            x: (batch, num_features). Left unchanged.

        Returns:
            (batch, num_features), differentiable with respect to ``x``.
        """
        return (x - self.mean) / self.std

    def inverse(self, z: Tensor) -> Tensor:
        """Undo ``forward``: (batch, num_features) back into the units of the data."""
        return z * self.std + self.mean


def fan_in_and_fan_out(weight: Tensor) -> tuple[int, int]:
    """Count the connections of a unit in a layer with this weight, ahead of it and behind it.

    Args:
        weight: of a linear layer, (out_features, in_features), or of a convolution,
            (out_channels, in_channels, *kernel_size), with a kernel of one dimension or more.

    Returns:
        ``(fan_in, fan_out)``, as Python ints: how many products are added up for one output
        value, and in how many output values one input value is a factor (away from the borders,
        at stride 1).

    Raises:
        ValueError: the weight has fewer than two dimensions.
    """
    if weight.ndim < 2:
        raise ValueError(f"a weight has two dimensions or more, but this one has {weight.ndim}")
    positions = math.prod(weight.shape[2:])  # of the kernel; 1 in a linear layer
    return weight.shape[1] * positions, weight.shape[0] * positions


def activation_gain(activation: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Measure by which factor weights must grow to make up for an activation.

    Args:
        activation: φ, applied element by element.
        z: draws from the standard normal distribution, of any shape. Left unchanged.

    Returns:
        The factor that, put on φ's values at these draws, gives them a mean square of 1: a tensor
        of shape (), in the dtype and on the device of ``z``.
    """
    return activation(z).square().mean().rsqrt()


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    """Fill a weight in place: uniform, with Xavier's variance.

    Glorot and Bengio (2010), equation 16. Written without ``torch.nn.init``.

    Args:
        tensor: the weight, of any floating dtype, of two dimensions or more. It may be a
            parameter: it then stays a leaf that requires a gradient, and nothing is recorded.
        gain: factor on the standard deviation.
        generator: of the draw, on the device of ``tensor``; PyTorch's own where it is None.
            Neither is ever seeded in here.

    Returns:
        ``tensor`` itself. All its elements are drawn independently from a uniform distribution
        around 0.
    """
    fan_in, fan_out = fan_in_and_fan_out(tensor)
    bound = gain * math.sqrt(6 / (fan_in + fan_out))
    with torch.no_grad():
        return tensor.uniform_(-bound, bound, generator=generator)


def xavier_normal_(
    tensor: Tensor, gain: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    """Fill a weight in place: normal, with Xavier's variance.

    Glorot and Bengio (2010), equation 12. Written without ``torch.nn.init``.

    Args:
        tensor: the weight, of any floating dtype, of two dimensions or more. It may be a
            parameter: it then stays a leaf that requires a gradient, and nothing is recorded.
        gain: factor on the standard deviation.
        generator: of the draw, on the device of ``tensor``; PyTorch's own where it is None.
            Neither is ever seeded in here.

    Returns:
        ``tensor`` itself. All its elements are drawn independently from a normal distribution
        with mean 0.
    """
    fan_in, fan_out = fan_in_and_fan_out(tensor)
    std = gain * math.sqrt(2 / (fan_in + fan_out))
    with torch.no_grad():
        return tensor.normal_(0.0, std, generator=generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Fill a weight in place: uniform, with Kaiming's variance for (leaky) ReLU.

    He, Zhang, Ren and Sun (2015), equations 10, 14 and 15. Written without ``torch.nn.init``.

    Args:
        tensor: the weight, of any floating dtype, of two dimensions or more. It may be a
            parameter: it then stays a leaf that requires a gradient, and nothing is recorded.
        a: slope of the leaky ReLU for negative inputs; 0 for ReLU.
        mode: ``"fan_in"`` keeps the size of the activations on the way forward, ``"fan_out"``
            that of the gradients on the way back.
        generator: of the draw, on the device of ``tensor``; PyTorch's own where it is None.
            Neither is ever seeded in here.

    Returns:
        ``tensor`` itself. All its elements are drawn independently from a uniform distribution
        around 0.

    Raises:
        ValueError: ``mode`` is neither of the two.
    """
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode must be 'fan_in' or 'fan_out', but is {mode!r}")
    fan_in, fan_out = fan_in_and_fan_out(tensor)
    fan = fan_in if mode == "fan_in" else fan_out
    bound = math.sqrt(6 / ((1 + a**2) * fan))
    with torch.no_grad():
        return tensor.uniform_(-bound, bound, generator=generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Fill a weight in place: normal, with Kaiming's variance for (leaky) ReLU.

    He, Zhang, Ren and Sun (2015), equations 10, 14 and 15. Written without ``torch.nn.init``.

    Args:
        tensor: the weight, of any floating dtype, of two dimensions or more. It may be a
            parameter: it then stays a leaf that requires a gradient, and nothing is recorded.
        a: slope of the leaky ReLU for negative inputs; 0 for ReLU.
        mode: ``"fan_in"`` keeps the size of the activations on the way forward, ``"fan_out"``
            that of the gradients on the way back.
        generator: of the draw, on the device of ``tensor``; PyTorch's own where it is None.
            Neither is ever seeded in here.

    Returns:
        ``tensor`` itself. All its elements are drawn independently from a normal distribution
        with mean 0.

    Raises:
        ValueError: ``mode`` is neither of the two.
    """
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode must be 'fan_in' or 'fan_out', but is {mode!r}")
    fan_in, fan_out = fan_in_and_fan_out(tensor)
    fan = fan_in if mode == "fan_in" else fan_out
    std = math.sqrt(2 / ((1 + a**2) * fan))
    with torch.no_grad():
        return tensor.normal_(0.0, std, generator=generator)


def activation_rms(
    x: Tensor, weights: Sequence[Tensor], activation: Callable[[Tensor], Tensor]
) -> Tensor:
    """Follow the size of the activations through a deep network without biases.

    Every layer multiplies by its weight and applies the activation, the last one too.

    Args:
        x: (batch, n₀). Left unchanged.
        weights: one a layer, W_ℓ of shape (n_ℓ, n_ℓ₋₁), as ``nn.Linear`` has them; there may be
            none. Left unchanged.
        activation: φ, applied element by element.

    Returns:
        (layers + 1,): the root mean square over batch and units of the input and of every layer's
        output, in this order, in the dtype and on the device of ``x``.
    """
    h, sizes = x, [x.square().mean().sqrt()]
    for weight in weights:
        h = activation(h @ weight.T)  # (batch, n_ℓ)
        sizes.append(h.square().mean().sqrt())
    return torch.stack(sizes)


def gradient_rms(
    x: Tensor,
    weights: Sequence[Tensor],
    activation: Callable[[Tensor], Tensor],
    grad_output: Tensor,
) -> Tensor:
    """Follow the size of the gradient back through the network of ``activation_rms``.

    Autograd may be used. No argument is changed: in particular none comes to require a gradient,
    and none has its ``.grad`` filled.

    Args:
        x: (batch, n₀); it requires no gradient.
        weights: one a layer, W_ℓ of shape (n_ℓ, n_ℓ₋₁).
        activation: φ, applied element by element.
        grad_output: gradient of the loss with respect to the last layer's output, (batch, n_L).

    Returns:
        (layers + 1,): the root mean square over batch and units of the loss's gradient with
        respect to the input and to every layer's output, in this order (so the last entry is that
        of ``grad_output``), in the dtype and on the device of ``x``, with no graph attached.
    """
    h = x.detach().requires_grad_()
    outputs = [h]
    for weight in weights:
        h = activation(h @ weight.T)  # (batch, n_ℓ)
        outputs.append(h)
    grads = torch.autograd.grad(h, outputs, grad_output)
    return torch.stack([grad.square().mean().sqrt() for grad in grads])
