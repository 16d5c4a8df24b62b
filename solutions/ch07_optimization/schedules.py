"""Learning-rate schedules, from inverse time to one cycle and plateaus, and gradient clipping."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def inverse_time_decay(step: int, lr: float, decay: float) -> float:
    """The learning rate of a step, falling like one over time.

    Robbins and Monro (1951), https://doi.org/10.1214/aoms/1177729586.

    Args:
        step: the number of the step; the first step is number 0.
        lr: η₀, the learning rate of step 0.
        decay: κ, how fast it falls; after 1/κ steps it is halved.

    Returns:
        The learning rate of this step.
    """
    return lr / (1 + decay * step)


def exponential_decay(step: int, lr: float, gamma: float) -> float:
    """The learning rate of a step, falling by the same factor in every step.

    Args:
        step: the number of the step; the first step is number 0.
        lr: η₀, the learning rate of step 0.
        gamma: γ, the factor from each step to the next.

    Returns:
        The learning rate of this step.
    """
    return lr * gamma**step


def step_decay(step: int, lr: float, step_size: int, gamma: float = 0.1) -> float:
    """The learning rate of a step, constant at first, then falling in stairs.

    Args:
        step: the number of the step; the first step is number 0.
        lr: η₀, the learning rate of the first ``step_size`` steps.
        step_size: how many steps each stair is long.
        gamma: γ, the factor from each stair to the next.

    Returns:
        The learning rate of this step.
    """
    return lr * gamma ** (step // step_size)


def cosine_decay(step: int, lr: float, total_steps: int, min_lr: float = 0.0) -> float:
    """The learning rate of a step, falling along half a cosine.

    Loshchilov and Hutter (2017), https://arxiv.org/abs/1608.03983, equation 5, without restarts.

    Args:
        step: the number of the step; the first step is number 0.
        lr: η₀, the learning rate of step 0.
        total_steps: T, the step at which ``min_lr`` is reached.
        min_lr: the learning rate of step T, and of every step after it.

    Returns:
        The learning rate of this step.
    """
    share = min(step, total_steps) / total_steps
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * share)) / 2


def inverse_sqrt_schedule(step: int, lr: float, warmup_steps: int) -> float:
    """The learning rate of a step, as the Transformer was trained: a rise, then 1/√t.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762, equation 3, scaled so that the peak is
    ``lr``. The equation counts the steps t from 1.

    Args:
        step: the number of the step; the first step is number 0.
        lr: the learning rate of the peak.
        warmup_steps: w, how many steps the rise takes; at least 1.

    Returns:
        The learning rate of this step.
    """
    t = step + 1
    return lr * min(t / warmup_steps, math.sqrt(warmup_steps / t))


def with_warmup(schedule: Callable[[int], float], warmup_steps: int) -> Callable[[int], float]:
    """Put a linear warm-up before a schedule.

    Goyal et al. (2017), https://arxiv.org/abs/1706.02677, section 2.2.

    Args:
        schedule: a function from the number of a step, counted from 0, to its learning rate.
        warmup_steps: w, how many steps the warm-up takes; with 0 there is none.

    Returns:
        A function from the number of a step, counted from 0, to its learning rate: it rises in
        equal parts, reaches the schedule's first learning rate in the last step of the warm-up,
        and after that the whole schedule follows, from its step 0. The steps may be asked for in
        any order.
    """

    def warmed(step: int) -> float:
        if step < warmup_steps:
            return schedule(0) * (step + 1) / warmup_steps
        return schedule(step - warmup_steps)

    return warmed


def one_cycle(
    step: int,
    max_lr: float,
    total_steps: int,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> float:
    """The learning rate of a step: up to a peak and down to almost nothing.

    Smith and Topin (2018), https://arxiv.org/abs/1708.07120, in the form of
    ``torch.optim.lr_scheduler.OneCycleLR`` with cosines. Written without ``torch.optim``.

    Args:
        step: the number of the step, from 0 to ``total_steps - 1``.
        max_lr: the learning rate of the peak.
        total_steps: T, how many steps there are.
        pct_start: the share of the steps up to the peak, so that the peak is at step
            ``pct_start * total_steps - 1``, a number that need not be whole and is positive.
        div_factor: step 0 has the learning rate of the peak divided by this.
        final_div_factor: the last step has the learning rate of *step 0* divided by this.

    Returns:
        The learning rate of this step.
    """
    peak, last = pct_start * total_steps - 1, total_steps - 1
    first_lr = max_lr / div_factor
    if step <= peak:
        start, end, share = first_lr, max_lr, step / peak
    else:
        start, end, share = max_lr, first_lr / final_div_factor, (step - peak) / (last - peak)
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


class ReduceOnPlateau:
    """A learning rate that is reduced when the loss has stopped falling.

    The rule is that of ``torch.optim.lr_scheduler.ReduceLROnPlateau`` (mode "min", relative
    threshold). Written without ``torch.optim``.

    Attributes:
        lr: the learning rate as it stands.
    """

    def __init__(
        self,
        lr: float,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        """Start with no loss seen.

        Args:
            lr: the learning rate to begin with.
            factor: what it is multiplied with when it is reduced; below 1.
            patience: how many epochs in a row may pass without improvement; the next one reduces
                the learning rate.
            threshold: an epoch is an improvement if its loss is smaller than
                ``(1 - threshold)`` times the best one so far.
            cooldown: for this many epochs after a reduction nothing is held against the loss.
            min_lr: the learning rate is never reduced below this.
        """
        self.lr = lr
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.cooldown = cooldown
        self.min_lr = min_lr
        self.best = math.inf
        self.bad_epochs = 0
        self.cooling = 0

    def step(self, loss: float) -> float:
        """Take note of an epoch's loss, and reduce the learning rate if it is time to.

        An epoch without improvement is counted; an improvement sets the count to zero and is
        remembered as the best loss, as the first finite loss always is. During the cooldown the
        count stays at zero, but the best loss is kept up to date. Where the count exceeds
        ``patience`` the learning rate is multiplied with ``factor``, the count is set to zero, and
        the cooldown begins with the next epoch. The best loss stays what it was.

        Args:
            loss: of the epoch, usually on validation data; not negative. A NaN is no improvement.

        Returns:
            The learning rate for the next epoch, which is ``lr``, too.
        """
        if loss < self.best * (1 - self.threshold):
            self.best = loss
            self.bad_epochs = 0
        else:
            self.bad_epochs += 1
        if self.cooling > 0:
            self.cooling -= 1
            self.bad_epochs = 0
        if self.bad_epochs > self.patience:
            self.lr = max(self.lr * self.factor, self.min_lr)
            self.bad_epochs = 0
            self.cooling = self.cooldown
        return self.lr


def clip_grad_value(grads: Sequence[Tensor], clip_value: float) -> list[Tensor]:
    """Clip each element of all gradients to an interval around zero.

    As ``torch.nn.utils.clip_grad_value_`` does in place; written without ``torch.nn.utils``.

    Args:
        grads: the gradients of all parameters; any shapes.
        clip_value: c, the largest size that an element may keep; positive.

    Returns:
        The clipped gradients in the same order, as new tensors of their shapes, dtypes and
        devices. The arguments are left unchanged.
    """
    return [grad.clamp(-clip_value, clip_value) for grad in grads]


def clip_grad_norm(grads: Sequence[Tensor], max_norm: float) -> tuple[list[Tensor], Tensor]:
    """Shorten all gradients together where they are too long together.

    Pascanu, Mikolov and Bengio (2013), https://arxiv.org/abs/1211.5063, Algorithm 1. As
    ``torch.nn.utils.clip_grad_norm_`` does in place; written without ``torch.nn.utils``.

    Args:
        grads: the gradients of all parameters; at least one, any shapes, one dtype and device.
        max_norm: c, the largest norm that all of them together may keep; positive.

    Returns:
        ``(grads, total_norm)``: the gradients in the same order, as new tensors of their shapes,
        dtypes and devices, and the Euclidean norm that they had together *before* clipping, of
        shape (), in their dtype and on their device. Gradients that are not too long keep their
        values, also where all of them are zero. The arguments are left unchanged.
    """
    total_norm = torch.stack([grad.norm() for grad in grads]).norm()
    scale = (max_norm / total_norm).clamp(max=1.0)
    return [grad * scale for grad in grads], total_norm
