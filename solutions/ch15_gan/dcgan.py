"""Convolutional GANs: their blocks, their first weights, labels, spectral norms, a distance.

Radford, Metz & Chintala (2016), "Unsupervised representation learning with deep convolutional
generative adversarial networks", https://arxiv.org/abs/1511.06434
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from solutions.ch15_gan.training import (  # noqa: F401 - for the lesson's payoff
    discriminator_step,
    generator_step,
    sample_noise,
    update_average,
)


class GeneratorBlock(nn.Module):
    """A layer of the generator that doubles height and width.

    A transposed convolution, batch normalisation, and ReLU, in this order. Radford et al. (2016),
    section 3.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.

    Attributes:
        conv: an ``nn.ConvTranspose2d`` with a kernel of 4 × 4, stride 2 and padding 1; without a
            bias, since the normalisation would take it away again.
        norm: an ``nn.BatchNorm2d`` with PyTorch's defaults.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, 4, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to (n, out_channels, 2h, 2w); ``x`` is left unchanged."""
        return torch.relu(self.norm(self.conv(x)))


class DiscriminatorBlock(nn.Module):
    """A layer of the discriminator that halves height and width.

    A convolution, batch normalisation where it is wanted, and a leaky ReLU of slope 0.2, in this
    order. Radford et al. (2016), section 3, who leave the normalisation out in the first layer; the
    slope is in section 4.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        normalize: whether there is batch normalisation.

    Attributes:
        conv: an ``nn.Conv2d`` with a kernel of 4 × 4, stride 2 and padding 1. It has a bias where
            there is no normalisation, and none where there is.
        norm: an ``nn.BatchNorm2d`` with PyTorch's defaults; nothing that has parameters or
            buffers where ``normalize`` is False.
    """

    def __init__(self, in_channels: int, out_channels: int, normalize: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 4, 2, 1, bias=not normalize)
        self.norm = nn.BatchNorm2d(out_channels) if normalize else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_channels, h, w), h and w even, to (n, out_channels, h/2, w/2).

        ``x`` is left unchanged.
        """
        return F.leaky_relu(self.norm(self.conv(x)), 0.2)


def init_weights(model: nn.Module, generator: torch.Generator | None = None) -> None:
    """Draw a network's first weights as DCGAN and its code do. Radford et al. (2016), section 4.

    The weight of every ``nn.Conv2d``, ``nn.ConvTranspose2d`` and ``nn.Linear``, layers of classes
    derived from them included, comes from a normal distribution with mean 0 and standard deviation
    0.02; the scale (``weight``) of every ``nn.BatchNorm2d`` from one with mean 1 and standard
    deviation 0.02. The bias of any of these becomes 0, where there is one. All else stays as it is,
    also an ``nn.BatchNorm1d``.

    Args:
        model: may be such a layer itself, or hold them at any depth. Its parameters are changed in
            place, unseen by autograd.
        generator: of the draws (PyTorch's random number generator); PyTorch's own where it is
            None.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02, generator=generator)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def append_labels(x: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Append each example's label to its channels, one-hot.

    Example i gets ``num_classes`` more channels: the one with the number of its label is 1 at
    every position, the others are 0. Mirza & Osindero (2014), https://arxiv.org/abs/1411.1784.

    Args:
        x: (n, c, …), with any number of dimensions of positions, also none: noise (n, c) or
            images (n, c, h, w). Left unchanged.
        labels: (n,), int64, from 0 to num_classes − 1; not every class need occur.
        num_classes: how many classes there are.

    Returns:
        (n, c + num_classes, …), first the channels of ``x`` and then those of the label, in the
        dtype and on the device of ``x``.
    """
    classes = torch.arange(num_classes, device=x.device)
    one_hot = (labels[:, None] == classes).to(x.dtype)  # (n, num_classes)
    planes = one_hot.reshape(*one_hot.shape, *[1] * (x.dim() - 2))  # (n, num_classes, 1, …)
    return torch.cat([x, planes.expand(-1, -1, *x.shape[2:])], dim=1)


def power_iteration(matrix: Tensor, u: Tensor, steps: int = 1) -> tuple[Tensor, Tensor]:
    """Approach the first singular vectors of a matrix. Miyato et al. (2018), Algorithm 1.

    In each step v becomes the transposed matrix times u, scaled to length 1, and then u the
    matrix times v, scaled to length 1. Without PyTorch's decompositions and matrix norms.

    Args:
        matrix: (rows, cols), floating point. Left unchanged.
        u: (rows,), of any length but 0, with which to start. Left unchanged.
        steps: how many; at least 1.

    Returns:
        The new u, (rows,), and the last v, (cols,), both of length 1; no gradient flows through
        them.
    """
    with torch.no_grad():
        for _ in range(steps):
            v = F.normalize(matrix.T @ u, dim=0)  # (cols,)
            u = F.normalize(matrix @ v, dim=0)  # (rows,)
    return u, v


def spectral_normalize(weight: Tensor, u: Tensor, steps: int = 1) -> tuple[Tensor, Tensor]:
    """Divide a weight by an estimate of its largest singular value. Miyato et al. (2018).

    The weight counts as a matrix with one row for each output: its first dimension, with all the
    others made into one. The estimate is uᵀ W v, with u and v from ``power_iteration``, which are
    constants for autograd; the weight within it is not. Without PyTorch's own spectral norms,
    decompositions and matrix norms.

    Args:
        weight: (outputs, …), floating point, of two dimensions or more. Left unchanged.
        u: (outputs,), with which the power iteration starts. Left unchanged.
        steps: of the power iteration.

    Returns:
        The normalised weight, of the shape of ``weight`` and differentiable with respect to it;
        and the new u, (outputs,), to start with the next time.
    """
    matrix = weight.flatten(1)  # (outputs, …)
    u, v = power_iteration(matrix, u, steps)
    sigma = u @ matrix @ v
    return weight / sigma, u


class SpectralConv2d(nn.Conv2d):
    """A convolution that works with its weight divided by its largest singular value.

    Its parameter ``weight`` stays what the optimizer makes of it: each call normalises it anew,
    with one step of the power iteration, and convolves with the result. The bias is not
    normalised. Miyato et al. (2018), https://arxiv.org/abs/1802.05957, without PyTorch's own
    spectral norms, decompositions and matrix norms.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: height and width of the kernel.
        stride: as in ``nn.Conv2d``.
        padding: likewise, with zeros.
        bias: whether there is a bias.

    Attributes:
        weight: as in ``nn.Conv2d``, a parameter (out_channels, in_channels, kernel_size,
            kernel_size).
        bias: as in ``nn.Conv2d``, a parameter (out_channels,), or None.
        u: a buffer of shape (out_channels,), drawn at random at the start. In training mode each
            call leaves the new u there for the next one; in evaluation mode it stays as it is.
    """

    u: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=bias)
        self.register_buffer("u", torch.randn(self.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (n, in_channels, h, w) with the normalised weight, and add the bias."""
        weight, u = spectral_normalize(self.weight, self.u)
        if self.training:
            self.u = u
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


def gaussian_statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Measure the mean and the covariance of a set of feature vectors.

    The covariance is the unbiased one, with a divisor of one less than the number of examples.
    Without ``torch.cov`` and its like.

    Args:
        features: (n, d), floating point, n ≥ 2. Left unchanged.

    Returns:
        The mean, (d,), and the covariance, (d, d), in the dtype and on the device of ``features``.
    """
    mean = features.mean(dim=0)  # (d,)
    centred = features - mean  # (n, d)
    return mean, centred.T @ centred / (len(features) - 1)


def matrix_sqrt(matrix: Tensor) -> Tensor:
    """Take the square root of a symmetric positive semidefinite matrix.

    That is the one symmetric positive semidefinite matrix whose product with itself is the given
    one. The given one may be singular; then rounding makes some of its computed eigenvalues
    slightly negative, and these count as 0. Without SciPy's ``sqrtm`` and without
    ``torch.linalg.matrix_exp``.

    Args:
        matrix: (d, d), floating point, symmetric but for rounding. Left unchanged.

    Returns:
        (d, d), without NaN.
    """
    eigenvalues, vectors = torch.linalg.eigh(matrix)  # (d,), (d, d): a column each
    root: Tensor = (vectors * eigenvalues.clamp(min=0).sqrt()) @ vectors.T
    return root


def frechet_distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> Tensor:
    """Compute the squared Fréchet distance between two Gaussians.

    The squared distance of the means, plus the trace of C₁ + C₂ − 2 (C₁^½ C₂ C₁^½)^½, with the
    roots of matrices, without SciPy's ``sqrtm``. Dowson & Landau (1982),
    https://doi.org/10.1016/0047-259X(82)90077-X; with features of a classifier network, Heusel et
    al. (2017), https://arxiv.org/abs/1706.08500.

    Args:
        mean1: (d,), floating point.
        cov1: (d, d), symmetric positive semidefinite, possibly singular.
        mean2: (d,).
        cov2: (d, d), likewise.

    Returns:
        The squared distance, a tensor of shape (). No argument is changed.
    """
    root = matrix_sqrt(cov1)  # (d, d)
    cross = matrix_sqrt(root @ cov2 @ root)  # (d, d)
    return (mean1 - mean2).square().sum() + (cov1 + cov2 - 2 * cross).trace()
