"""What the two players of a GAN minimise, and the penalty that keeps a critic's slope near 1.

Goodfellow et al. (2014), "Generative Adversarial Nets", https://arxiv.org/abs/1406.2661
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Compute the binary cross-entropy of telling real examples (label 1) from fakes (label 0).

    With D = sigmoid(logit), the probability that an example is real: the mean of −log D over
    the real batch, plus the mean of −log(1 − D) over the fake batch. Goodfellow et al. (2014),
    equation 1, negated so that it is minimised.

    Value and gradients stay finite and exact for logits of ±1000. PyTorch's stable functions
    of logits are all allowed.

    Args:
        real_logits: any shape, floating point; the discriminator's output on real examples.
        fake_logits: any shape, not necessarily that of ``real_logits``; its output on fakes.

    Returns:
        The loss, a tensor of shape (), differentiable with respect to both arguments. Each
        mean is over every entry of its own batch.
    """
    on_real = -F.logsigmoid(real_logits).mean()
    on_fake = -F.logsigmoid(-fake_logits).mean()
    return on_real + on_fake


def minimax_generator_loss(fake_logits: Tensor) -> Tensor:
    """Compute the generator's side of the original game: the mean of log(1 − D) over fakes.

    D = sigmoid(logit) is the probability that an example is real. The discriminator would push
    this number up; the generator minimises it. It is never positive. Goodfellow et al. (2014),
    equation 1.

    Value and gradient stay finite and exact for logits of ±1000.

    Args:
        fake_logits: any shape, floating point; the discriminator's output on fakes.

    Returns:
        The loss, a tensor of shape (), differentiable; the mean is over every entry.
    """
    return F.logsigmoid(-fake_logits).mean()


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Compute the non-saturating generator loss: the mean of −log D over fakes.

    D = sigmoid(logit) is the probability that an example is real. Goodfellow et al. (2014),
    section 3: the loss that is used in practice, since its gradient is largest where the
    discriminator recognises the fakes.

    Value and gradient stay finite and exact for logits of ±1000.

    Args:
        fake_logits: any shape, floating point; the discriminator's output on fakes.

    Returns:
        The loss, a tensor of shape (), differentiable; the mean is over every entry.
    """
    return -F.logsigmoid(fake_logits).mean()


def least_squares_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Compute half the mean squared distance of real outputs to 1 and of fake outputs to 0.

    Mao et al. (2017), https://arxiv.org/abs/1611.04076, with the targets 0 and 1 and the
    paper's factor of one half before the mean over each batch; the two are added. There is no
    sigmoid: the discriminator's output is compared with its target as it is.

    Args:
        real_logits: any shape, floating point; the discriminator's output on real examples.
        fake_logits: any shape, not necessarily that of ``real_logits``; its output on fakes.

    Returns:
        The loss, a tensor of shape (), differentiable with respect to both arguments. Each
        mean is over every entry of its own batch.
    """
    on_real = (real_logits - 1).square().mean() / 2
    on_fake = fake_logits.square().mean() / 2
    return on_real + on_fake


def least_squares_generator_loss(fake_logits: Tensor) -> Tensor:
    """Compute half the mean squared distance of the outputs on fakes to 1, the target of reals.

    Mao et al. (2017), https://arxiv.org/abs/1611.04076, with the paper's factor of one half
    and no sigmoid.

    Args:
        fake_logits: any shape, floating point; the discriminator's output on fakes.

    Returns:
        The loss, a tensor of shape (), differentiable; the mean is over every entry.
    """
    return (fake_logits - 1).square().mean() / 2


def hinge_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Compute how far real outputs fall short of +1 and fake outputs exceed −1, on average.

    An output beyond its margin costs nothing and has no gradient. Lim & Ye (2017),
    https://arxiv.org/abs/1705.02894; Miyato et al. (2018), https://arxiv.org/abs/1802.05957.
    Here it is minimised, so it is never negative. There is no sigmoid.

    Args:
        real_logits: any shape, floating point; the discriminator's output on real examples.
        fake_logits: any shape, not necessarily that of ``real_logits``; its output on fakes.

    Returns:
        The sum of the two means, each over every entry of its own batch: a tensor of shape (),
        differentiable with respect to both arguments.
    """
    on_real = F.relu(1 - real_logits).mean()
    on_fake = F.relu(1 + fake_logits).mean()
    return on_real + on_fake


def hinge_generator_loss(fake_logits: Tensor) -> Tensor:
    """Compute the generator's loss that goes with the hinge: linear, with no margin.

    It falls by 1 where the mean output on fakes rises by 1, however large that is, and is 0
    where it is 0. Lim & Ye (2017), https://arxiv.org/abs/1705.02894.

    Args:
        fake_logits: any shape, floating point; the discriminator's output on fakes.

    Returns:
        The loss, a tensor of shape (), differentiable; the mean is over every entry.
    """
    return -fake_logits.mean()


def wasserstein_critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Compute what a Wasserstein critic minimises, so that it scores real above fake.

    The negative of the gap between the mean score on the real batch and that on the fake one:
    the better the critic tells them apart, the lower. It may be negative. No sigmoid and no
    logarithm. Arjovsky et al. (2017), https://arxiv.org/abs/1701.07875, algorithm 1.

    Args:
        real_scores: any shape, floating point; the critic's output on real examples.
        fake_scores: any shape, not necessarily that of ``real_scores``; its output on fakes.

    Returns:
        The loss, a tensor of shape (), differentiable with respect to both arguments. Each
        mean is over every entry of its own batch.
    """
    return fake_scores.mean() - real_scores.mean()


def wasserstein_generator_loss(fake_scores: Tensor) -> Tensor:
    """Compute the part of the Wasserstein game that the generator can change, to be minimised.

    It is lowest where the critic scores fakes highest. Arjovsky et al. (2017),
    https://arxiv.org/abs/1701.07875, algorithm 1.

    Args:
        fake_scores: any shape, floating point; the critic's output on fakes.

    Returns:
        The loss, a tensor of shape (), differentiable; the mean is over every entry.
    """
    return -fake_scores.mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    epsilon: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Compute how far the critic's slope is from 1 at random points between real and fake.

    For example i the point is ``epsilon[i] * real[i] + (1 - epsilon[i]) * fake[i]``: one share
    for the whole example. The slope is the Euclidean norm of the gradient of the critic's
    score with respect to that point, over all its dimensions together. The penalty is the mean
    over the examples of the squared difference between slope and 1, with no weight before it.
    Gulrajani et al. (2017), https://arxiv.org/abs/1704.00028, equation 3, second term.

    Args:
        critic: maps (n, …) to scores of shape (n,) or (n, 1), each example by itself.
        real: (n, …), with at least one dimension beside the batch. Left unchanged.
        fake: the shape of ``real``. Left unchanged.
        epsilon: (n,), the share of ``real`` in each point, in [0, 1]. Where it is None, one is
            drawn for each example, uniformly from [0, 1), in the dtype and on the device of
            ``real``.
        generator: of that draw, on the device of ``real``; PyTorch's own where it is None. Not
            used where ``epsilon`` is given.

    Returns:
        The penalty, a tensor of shape (), differentiable with respect to the critic's
        parameters, so that it can be trained on. ``real`` and ``fake`` count as constants: no
        gradient reaches them through the penalty, not even a fake that came straight from a
        generator network. The call leaves every parameter's ``.grad`` as it was.
    """
    if epsilon is None:
        epsilon = torch.rand(len(real), generator=generator, dtype=real.dtype, device=real.device)
    share = epsilon.reshape(-1, *[1] * (real.dim() - 1))  # (n, 1, …, 1)
    between = (share * real + (1 - share) * fake).detach().requires_grad_()  # (n, …)
    scores = critic(between)
    (gradient,) = torch.autograd.grad(scores.sum(), between, create_graph=True)  # (n, …)
    slope: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)  # (n,)
    return (slope - 1).square().mean()
