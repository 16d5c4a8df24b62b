"""Batch normalisation, forward and backward, and the norms that came after it."""

import torch
from torch import Tensor, nn


def batchnorm_forward(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise each feature over the batch, then scale and shift it.

    Ioffe & Szegedy (2015), Algorithm 1 for training and Algorithm 2 for evaluation, with
    PyTorch's conventions for the running statistics, but without PyTorch's own normalisations.
    The answer stays accurate where the values lie far from zero compared with their spread.

    Args:
        x: (N, D), N examples of D features.
        gamma: (D,), the scale of each feature.
        beta: (D,), the shift of each feature.
        running_mean: (D,), the running estimate of the mean so far; not changed in place.
        running_var: (D,), the running estimate of the variance so far; not changed in place.
        training: normalise with the statistics of this batch and update the running ones where
            True; normalise with the running ones and leave them as they are where False.
        momentum: the weight of the *new* batch in the running statistics, in [0, 1].
        eps: added to the variance, whichever is used, before its root is taken.

    Returns:
        The output, (N, D), differentiable with respect to ``x``, ``gamma`` and ``beta``, also
        through the statistics of the batch; the new running mean, (D,), and the new running
        variance, (D,), through which no gradient flows.

    Raises:
        ValueError: ``training`` is True and the batch holds fewer than two examples.
    """
    if training:
        n = x.shape[0]
        if n < 2:
            raise ValueError(f"training needs at least two values a feature, but got {n}")
        mean = x.mean(dim=0)  # (D,)
        var = (x - mean).square().mean(dim=0)  # (D,)
        unbiased = var.detach() * n / (n - 1)  # (D,)
        running_mean = (1 - momentum) * running_mean + momentum * mean.detach()
        running_var = (1 - momentum) * running_var + momentum * unbiased
    else:
        mean, var = running_mean, running_var
    x_hat = (x - mean) / torch.sqrt(var + eps)  # (N, D)
    return gamma * x_hat + beta, running_mean, running_var


def batchnorm_backward(
    grad_output: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, var: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of batch normalisation in training, node by node through its graph.

    The chain rule along the graph of the lesson, from the output back to ``x``. By hand: no
    automatic differentiation, and without PyTorch's own normalisations.

    Args:
        grad_output: (N, D), the gradient of the loss with respect to the output.
        x: (N, D), the input of the forward pass.
        gamma: (D,), the scale of the forward pass.
        mean: (D,), the mean of ``x`` over the batch, remembered from the forward pass.
        var: (D,), the biased variance of ``x`` over the batch, remembered likewise; without eps.
        eps: that of the forward pass.

    Returns:
        The gradients with respect to ``x``, (N, D); to gamma, (D,); and to beta, (D,). No
        argument is changed in place.
    """
    n = x.shape[0]
    # The nodes of the forward pass.
    centred = x - mean  # (N, D)
    std = torch.sqrt(var + eps)  # (D,)
    inv_std = 1 / std  # (D,)
    x_hat = centred * inv_std  # (N, D)
    # The same nodes, last to first.
    grad_beta = grad_output.sum(dim=0)  # (D,)
    grad_gamma = (grad_output * x_hat).sum(dim=0)  # (D,)
    grad_x_hat = grad_output * gamma  # (N, D)
    grad_centred = grad_x_hat * inv_std  # (N, D), the first of two paths
    grad_inv_std = (grad_x_hat * centred).sum(dim=0)  # (D,)
    grad_std = -grad_inv_std / std**2  # (D,)
    grad_var = 0.5 * grad_std / std  # (D,)
    grad_squared = grad_var.expand_as(x) / n  # (N, D)
    grad_centred = grad_centred + 2 * centred * grad_squared  # (N, D), both paths
    grad_mean = -grad_centred.sum(dim=0)  # (D,)
    grad_x = grad_centred + grad_mean / n  # (N, D)
    return grad_x, grad_gamma, grad_beta


def batchnorm_backward_simplified(
    grad_output: Tensor, x_hat: Tensor, gamma: Tensor, inv_std: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of batch normalisation in training, in one closed formula.

    The gradients of Ioffe & Szegedy (2015), section 3, simplified on paper until only two sums
    over the batch are left. By hand: no automatic differentiation, and without PyTorch's own
    normalisations.

    Args:
        grad_output: (N, D), the gradient of the loss with respect to the output.
        x_hat: (N, D), the normalised input, before gamma and beta, remembered from the forward
            pass.
        gamma: (D,), the scale of the forward pass.
        inv_std: (D,), one over the root of (biased variance + eps), remembered likewise.

    Returns:
        The gradients with respect to the layer's input, (N, D); to gamma, (D,); and to beta,
        (D,). No argument is changed in place.
    """
    n = grad_output.shape[0]
    grad_beta = grad_output.sum(dim=0)  # (D,)
    grad_gamma = (grad_output * x_hat).sum(dim=0)  # (D,)
    along = grad_beta / n + x_hat * grad_gamma / n  # (N, D)
    grad_x = gamma * inv_std * (grad_output - along)  # (N, D)
    return grad_x, grad_gamma, grad_beta


def spatial_batchnorm_forward(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise each channel of a batch of images over the batch and over all positions.

    Ioffe & Szegedy (2015), section 3.2. ``batchnorm_forward`` may be called;
    PyTorch's own normalisations may not.

    Args:
        x: (N, C, H, W), N images of C channels; not necessarily contiguous.
        gamma: (C,), the scale of each channel.
        beta: (C,), the shift of each channel.
        running_mean: (C,), the running mean so far; not changed in place.
        running_var: (C,), the running variance so far; not changed in place.
        training: as in ``batchnorm_forward``.
        momentum: as in ``batchnorm_forward``.
        eps: as in ``batchnorm_forward``.

    Returns:
        The output, (N, C, H, W), differentiable as in ``batchnorm_forward``; the new running
        mean, (C,), and the new running variance, (C,), through which no gradient flows.

    Raises:
        ValueError: ``training`` is True and a channel holds fewer than two values. One image
            is enough where it has two positions or more.
    """
    n, c, h, w = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(n * h * w, c)  # (N·H·W, C)
    out, running_mean, running_var = batchnorm_forward(
        rows, gamma, beta, running_mean, running_var, training, momentum, eps
    )
    return out.reshape(n, h, w, c).permute(0, 3, 1, 2), running_mean, running_var


def spatial_batchnorm_backward(
    grad_output: Tensor, x_hat: Tensor, gamma: Tensor, inv_std: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of spatial batch normalisation in training.

    ``batchnorm_backward_simplified`` may be called. By hand: no automatic differentiation, and
    without PyTorch's own normalisations.

    Args:
        grad_output: (N, C, H, W), the gradient of the loss with respect to the output; not
            necessarily contiguous.
        x_hat: (N, C, H, W), the normalised input, before gamma and beta; likewise.
        gamma: (C,), the scale of the forward pass.
        inv_std: (C,), one over the root of (biased variance + eps).

    Returns:
        The gradients with respect to the layer's input, (N, C, H, W); to gamma, (C,); and to
        beta, (C,). No argument is changed in place.
    """
    n, c, h, w = grad_output.shape
    grad_rows, grad_gamma, grad_beta = batchnorm_backward_simplified(
        grad_output.permute(0, 2, 3, 1).reshape(n * h * w, c),
        x_hat.permute(0, 2, 3, 1).reshape(n * h * w, c),
        gamma,
        inv_std,
    )
    return grad_rows.reshape(n, h, w, c).permute(0, 3, 1, 2), grad_gamma, grad_beta


class BatchNorm(nn.Module):
    """Batch normalisation as a module, for vectors and for images.

    It behaves as ``nn.BatchNorm1d`` does on (N, D) and ``nn.BatchNorm2d`` on (N, C, H, W). It
    may call ``batchnorm_forward`` and ``spatial_batchnorm_forward``, and not PyTorch's own
    normalisations. Training or evaluation is chosen by ``train()`` and ``eval()``, as in every
    module. Its ``state_dict`` holds the four tensors below and nothing else.

    Args:
        num_features: D, or C for images.
        eps: added to the variance.
        momentum: the weight of the new batch in the running statistics.

    Attributes:
        weight: gamma, a parameter of shape (num_features,); ones at the start.
        bias: beta, a parameter of shape (num_features,); zeros at the start.
        running_mean: a buffer of shape (num_features,); zeros at the start.
        running_var: a buffer of shape (num_features,); ones at the start.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        """Make the parameters and the buffers, in PyTorch's default dtype."""
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise a batch; in training mode, update the running statistics too.

        Args:
            x: (N, num_features) or (N, num_features, H, W).

        Returns:
            The output, of the shape of ``x``.
        """
        normalise = batchnorm_forward if x.dim() == 2 else spatial_batchnorm_forward
        out, self.running_mean, self.running_var = normalise(
            x,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            self.training,
            self.momentum,
            self.eps,
        )
        return out


def layer_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
    """Normalise each example over its own features.

    Ba, Kiros & Hinton (2016), without PyTorch's own normalisations. The shape of gamma says what is
    normalised over: the last ``gamma.dim()`` dimensions of ``x``, all together. The answer stays
    accurate where the values lie far from zero compared with their spread.

    Args:
        x: any leading dimensions, then those of gamma: (…, D) with gamma (D,), or
            (…, C, H, W) with gamma (C, H, W), and so on.
        gamma: the scale of each feature, of one dimension or more.
        beta: the shift of each feature, of the shape of gamma.
        eps: added to the biased variance before its root is taken.

    Returns:
        The output, of the shape of ``x``, differentiable with respect to ``x``, gamma and beta,
        also through the mean and the variance.
    """
    dims = tuple(range(-gamma.dim(), 0))
    mean = x.mean(dim=dims, keepdim=True)
    var = (x - mean).square().mean(dim=dims, keepdim=True)
    x_hat = (x - mean) / torch.sqrt(var + eps)
    return gamma * x_hat + beta


def group_norm(
    x: Tensor, num_groups: int, gamma: Tensor, beta: Tensor, eps: float = 1e-5
) -> Tensor:
    """Normalise each example over groups of neighbouring channels and over all positions.

    Wu & He (2018), without PyTorch's own normalisations. The first C / num_groups
    channels are the first group, and so on. Accurate far from zero, as ``layer_norm`` is.

    Args:
        x: (N, C, …), with any number of dimensions of positions after the channels, also none;
            not necessarily contiguous.
        num_groups: how many groups the channels are divided into.
        gamma: (C,), the scale of each channel.
        beta: (C,), the shift of each channel.
        eps: added to the biased variance before its root is taken.

    Returns:
        The output, of the shape of ``x``, differentiable as in ``layer_norm``.

    Raises:
        ValueError: C is not divisible by ``num_groups``.
    """
    n, c = x.shape[:2]
    if c % num_groups != 0:
        raise ValueError(f"{c} channels cannot be divided into {num_groups} groups")
    grouped = x.reshape(n, num_groups, -1)  # (N, groups, C/groups · positions)
    mean = grouped.mean(dim=2, keepdim=True)  # (N, groups, 1)
    var = (grouped - mean).square().mean(dim=2, keepdim=True)  # (N, groups, 1)
    x_hat = ((grouped - mean) / torch.sqrt(var + eps)).reshape(x.shape)
    per_channel = (c, *[1] * (x.dim() - 2))
    return gamma.reshape(per_channel) * x_hat + beta.reshape(per_channel)


def instance_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
    """Normalise each channel of each example over its positions.

    Ulyanov, Vedaldi & Lempitsky (2016), with a scale and a shift. ``group_norm`` may be called;
    PyTorch's own normalisations may not. Accurate far from zero, as ``layer_norm`` is.

    Args:
        x: (N, C, …), with one or more dimensions of positions after the channels.
        gamma: (C,), the scale of each channel.
        beta: (C,), the shift of each channel.
        eps: added to the biased variance before its root is taken.

    Returns:
        The output, of the shape of ``x``, differentiable as in ``layer_norm``.
    """
    positions = tuple(range(2, x.dim()))
    mean = x.mean(dim=positions, keepdim=True)  # (N, C, 1, …)
    var = (x - mean).square().mean(dim=positions, keepdim=True)  # (N, C, 1, …)
    x_hat = (x - mean) / torch.sqrt(var + eps)
    per_channel = (x.shape[1], *[1] * (x.dim() - 2))
    return gamma.reshape(per_channel) * x_hat + beta.reshape(per_channel)


def rms_norm(x: Tensor, gamma: Tensor, eps: float = 1e-6) -> Tensor:
    """Divide each example by the root mean square of its features, then scale them.

    Zhang & Sennrich (2019), equation 4, without PyTorch's own normalisations. As in
    ``layer_norm``, the shape of gamma says what the mean is taken over: the last
    ``gamma.dim()`` dimensions of ``x``, all together.

    Args:
        x: any leading dimensions, then those of gamma.
        gamma: the scale of each feature, of one dimension or more.
        eps: added to the mean square before its root is taken.

    Returns:
        The output, of the shape of ``x``, differentiable with respect to ``x`` and gamma, also
        through the root mean square.
    """
    dims = tuple(range(-gamma.dim(), 0))
    mean_square = x.square().mean(dim=dims, keepdim=True)
    return gamma * x / torch.sqrt(mean_square + eps)
