"""Training a GAN: noise, the two steps, what mode collapse looks like in figures, and averaging.

Goodfellow et al. (2014), "Generative Adversarial Nets", https://arxiv.org/abs/1406.2661
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from solutions.ch15_gan.losses import discriminator_loss, generator_loss


def sample_noise(
    batch_size: int,
    latent_dim: int,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw the noise that a generator network turns into fakes.

    Every entry is drawn by itself from the standard normal distribution.

    Args:
        batch_size: how many fakes are to be made.
        latent_dim: how many random numbers each of them is made of.
        generator: of the draw (PyTorch's random number generator, not the network), on ``device``;
            PyTorch's own where it is None.
        device: where the noise is to be.

    Returns:
        (batch_size, latent_dim), float32.
    """
    return torch.randn(batch_size, latent_dim, generator=generator, device=device)


def discriminator_step(
    generator: nn.Module,
    discriminator: nn.Module,
    optimizer: torch.optim.Optimizer,
    real: Tensor,
    noise: Tensor,
) -> Tensor:
    """Train the discriminator for one step, on a batch of reals and a batch of fakes.

    It takes one step of the optimizer along the gradient of ``discriminator_loss``. Goodfellow et
    al. (2014), Algorithm 1, the inner loop. Gradients that the discriminator's parameters hold
    from before have no part in the step. Reals and fakes go through the discriminator in separate
    calls, so that batch normalisation does not mix them.

    The generator makes the fakes and is otherwise left alone: its parameters, their ``.grad`` and
    their ``requires_grad`` are afterwards as they were. Both networks work in the mode, training
    or evaluation, in which they are passed in, and stay in it.

    Args:
        generator: maps noise (m, latent_dim) to fakes (m, …).
        discriminator: maps examples (n, …) to logits, of any shape.
        optimizer: of the discriminator's parameters.
        real: (n, …), real examples. Left unchanged.
        noise: (m, latent_dim), the noise of the fakes; m need not be n. Left unchanged.

    Returns:
        The loss before the step, a tensor of shape () that requires no gradient.
    """
    fake = generator(noise).detach()  # (m, …)
    loss = discriminator_loss(discriminator(real), discriminator(fake))
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()


def generator_step(
    generator: nn.Module,
    discriminator: nn.Module,
    optimizer: torch.optim.Optimizer,
    noise: Tensor,
) -> Tensor:
    """Train the generator for one step against the discriminator as it stands.

    It takes one step of the optimizer along the gradient of the non-saturating ``generator_loss``.
    Goodfellow et al. (2014), Algorithm 1, the outer loop, with the loss of section 3. Gradients
    that the generator's parameters hold from before have no part in the step.

    The discriminator's parameters and their ``requires_grad`` are afterwards as they were. Their
    ``.grad`` may be anything: it is for the discriminator's own step to clear them. Both networks
    work in the mode, training or evaluation, in which they are passed in, and stay in it.

    Args:
        generator: maps noise (m, latent_dim) to fakes (m, …).
        discriminator: maps examples (m, …) to logits, of any shape.
        optimizer: of the generator's parameters.
        noise: (m, latent_dim), the noise of the fakes. Left unchanged.

    Returns:
        The loss before the step, a tensor of shape () that requires no gradient.
    """
    fake = generator(noise)  # (m, …)
    loss = generator_loss(discriminator(fake))
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()


def mode_counts(samples: Tensor, centres: Tensor, std: float) -> Tensor:
    """Count the high-quality samples at each mode of a mixture of Gaussians.

    A sample belongs to the mode whose centre is nearest, in Euclidean distance. It is of high
    quality, and is counted, if that distance is at most three standard deviations. Srivastava et
    al. (2017), https://arxiv.org/abs/1705.07761.

    Args:
        samples: (n, d), floating point. Left unchanged.
        centres: (modes, d), no two of them alike. Left unchanged.
        std: the standard deviation of each Gaussian in each of its d directions; positive.
            Where it is infinite, every sample counts.

    Returns:
        (modes,), int64; 0 where a mode has no high-quality sample.
    """
    distance: Tensor = torch.linalg.vector_norm(samples[:, None] - centres, dim=2)  # (n, modes)
    shortest, nearest = distance.min(dim=1)  # (n,)
    good = shortest <= 3 * std  # (n,)
    every = torch.arange(len(centres), device=samples.device)  # (modes,)
    return ((nearest[:, None] == every) & good[:, None]).sum(dim=0)


def mode_coverage(counts: Tensor, n: int, share: float = 0.2) -> tuple[Tensor, Tensor]:
    """Say how many modes are covered, and how many of the samples are of high quality.

    If all ``n`` samples were good and evenly spread, each mode would have the same number of them:
    its fair share. A mode is covered if it has at least ``share`` times that number.

    Args:
        counts: (modes,), int64: the high-quality samples at each mode. Left unchanged.
        n: how many samples there were in all, those of low quality included; at least 1.
        share: which part of its fair share a mode needs; positive.

    Returns:
        The number of modes covered, int64, and the share of the n samples that are of high
        quality, between 0 and 1, in PyTorch's default dtype: two tensors of shape (), on the
        device of ``counts``.
    """
    covered = (counts >= share * n / len(counts)).sum()
    quality = counts.sum() / n
    return covered, quality


def mode_kl(counts: Tensor) -> Tensor:
    """Measure how unevenly the high-quality samples are spread over the modes.

    The Kullback-Leibler divergence, in nats, of the distribution of samples over the modes from
    the uniform one: the sum over the modes of p log(p / u), where p is the mode's part of all the
    counts, and u is one over the number of modes. A mode without samples adds 0. It is 0 for
    modes with equal counts. Srivastava et al. (2017), https://arxiv.org/abs/1705.07761. Without
    ``F.kl_div`` and its like, and without ``torch.distributions``.

    Args:
        counts: (modes,), int64, not all of them 0. Left unchanged.

    Returns:
        The divergence, a tensor of shape () in PyTorch's default dtype, on the device of
        ``counts``.
    """
    p = counts / counts.sum()  # (modes,)
    gain: Tensor = torch.special.xlogy(p, p * len(counts))  # (modes,)
    return gain.sum()


def update_average(average: nn.Module, generator: nn.Module, decay: float = 0.999) -> None:
    """Let a running average of a generator take in the generator as it is now.

    Each parameter of the average keeps the share ``decay`` of what it was, and takes the rest from
    the generator: Yazıcı et al. (2019), https://arxiv.org/abs/1806.04498. Buffers, such as the
    running statistics of batch normalisation, are not averaged: they become equal to the
    generator's.

    The average is changed in place, parameters and buffers alike, unseen by autograd. It shares no
    memory with the generator, which is left as it is. Without ``torch.optim.swa_utils``.

    Args:
        average: a network of the same class and sizes; usually a deep copy of the generator from
            before training.
        generator: the network that is being trained.
        decay: between 0 and 1.
    """
    with torch.no_grad():
        for kept, new in zip(average.parameters(), generator.parameters(), strict=True):
            kept.copy_(decay * kept + (1 - decay) * new)
        for buffer, newest in zip(average.buffers(), generator.buffers(), strict=True):
            buffer.copy_(newest)
