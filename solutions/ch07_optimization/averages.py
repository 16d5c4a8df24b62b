"""Exponentially weighted averages: the rule, its bias, its memory, and averages of weights."""

import torch
from torch import Tensor, nn


def exponential_average(values: Tensor, beta: float = 0.9) -> Tensor:
    """Average a sequence so that what is long ago counts less and less.

    Roberts (1959), https://doi.org/10.1080/00401706.1959.10489860. The average starts at zero and
    is not corrected for that.

    Args:
        values: x₁, …, x_T, of shape (T, …) with T ≥ 1; each of any shape.
        beta: β, the share of the old average that is kept.

    Returns:
        The average after each value, v₁, …, v_T: a new tensor of the shape, dtype and device of
        ``values``, which are left unchanged.
    """
    average = torch.zeros_like(values[0])
    averages = []
    for value in values:
        average = beta * average + (1 - beta) * value
        averages.append(average)
    return torch.stack(averages)


def correct_bias(averages: Tensor, beta: float = 0.9) -> Tensor:
    """Correct exponentially weighted averages for their start at zero.

    Kingma and Ba (2015), section 3, https://arxiv.org/abs/1412.6980.

    Args:
        averages: v₁, …, v_T as ``exponential_average`` returns them, of shape (T, …): the first
            one holds one value, the second one two, and so on.
        beta: β, the share of the old average that was kept; between 0 and 1.

    Returns:
        The corrected averages: a new tensor of the shape, dtype and device of ``averages``, which
        are left unchanged.
    """
    corrected = [average / (1 - beta**t) for t, average in enumerate(averages, start=1)]
    return torch.stack(corrected)


def average_weights(
    t: int,
    beta: float,
    corrected: bool = False,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Say how much each value counts in an exponentially weighted average of t values.

    Args:
        t: how many values have been averaged; at least 1.
        beta: β, the share of the old average that is kept; between 0 and 1.
        corrected: whether the average is corrected for its start at zero.
        dtype: a floating dtype, that of the result.
        device: where the result is to be.

    Returns:
        The weights of x₁, …, x_t, the oldest value first: of shape (t,), on the device and in the
        dtype asked for.
    """
    age = torch.arange(t - 1, -1, -1, dtype=dtype, device=device)
    weights = (1 - beta) * beta**age
    return weights / (1 - beta**t) if corrected else weights


def effective_window(beta: float) -> float:
    """The number of recent values that an average is said to reach back.

    Args:
        beta: β, the share of the old average that is kept; between 0 and 1.

    Returns:
        The n for which a plain mean of n values gives each of them the weight that this average
        gives its newest value; it need not be a whole number.
    """
    return 1 / (1 - beta)


def beta_from_half_life(steps: float) -> float:
    """Choose β by how long a value takes to lose half of its weight.

    Args:
        steps: the half-life; positive, not necessarily a whole number.

    Returns:
        The β with which a value counts half as much after so many steps.
    """
    return float(0.5 ** (1 / steps))


def noise_factor(beta: float) -> float:
    """Say how much of its noise a long running average lets through.

    Args:
        beta: β, the share of the old average that is kept; between 0 and 1.

    Returns:
        The variance of the average as a share of the variance of a single value, where the values
        are independent, have the same variance, and the first one was infinitely long ago.
    """
    return (1 - beta) / (1 + beta)


class WeightAverage:
    """An exponentially weighted average of a model's parameters, corrected for its start.

    Polyak and Juditsky (1992), https://doi.org/10.1137/0330046, with the fading memory of Kingma
    and Ba (2015), section 7.2. Every parameter is averaged, whether it is trained or frozen;
    buffers are none of its business. Written without ``torch.optim``.

    It shares no memory with any model: what a model does later does not change the average.
    """

    def __init__(self, model: nn.Module, beta: float = 0.99) -> None:
        """Start an average of zero, in which nothing counts yet.

        Args:
            model: whose parameters will be averaged; they do not yet count, and are left as they
                are.
            beta: β, the share of the old average that is kept in each update.
        """
        self.beta = beta
        self.updates = 0
        self.averages = [torch.zeros_like(param) for param in model.parameters()]

    def update(self, model: nn.Module) -> None:
        """Take the model's parameters, as they are now, into the average.

        Autograd records nothing of it, and the model is left as it is.

        Args:
            model: the model given before, or another one with parameters of the same shapes.
        """
        self.updates += 1
        with torch.no_grad():
            self.averages = [
                self.beta * average + (1 - self.beta) * param
                for average, param in zip(self.averages, model.parameters(), strict=True)
            ]

    def copy_to(self, model: nn.Module) -> None:
        """Write the average, corrected for its start at zero, into a model's parameters.

        They are overwritten in place, unseen by autograd. The average itself stays as it is, so
        that it can be asked for at any time and updated further.

        Args:
            model: the model given before, or another one with parameters of the same shapes.

        Raises:
            RuntimeError: there has been no update yet.
        """
        if self.updates == 0:
            raise RuntimeError("nothing has been averaged yet: call update first")
        with torch.no_grad():
            for average, param in zip(self.averages, model.parameters(), strict=True):
                param.copy_(average / (1 - self.beta**self.updates))
