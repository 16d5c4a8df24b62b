"""Hyperparameter search: grid, random on the right scale, coarse to fine, successive halving."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor


def parameter_grid(space: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """List every combination of values.

    Args:
        space: for each hyperparameter, by its name, the values to try; it may have none, and there
            may be no hyperparameter. Left unchanged.

    Returns:
        The combinations, in any order: each a dict of its own, from every name to one of its
        values. Without any hyperparameter there is one, which is empty; where a hyperparameter has
        no values, there is none.
    """
    return [dict(zip(space, values, strict=True)) for values in product(*space.values())]


def log_uniform(u: Tensor, low: float, high: float) -> Tensor:
    """Turn uniform random numbers into numbers whose logarithm is uniform.

    Args:
        u: draws from the uniform distribution on [0, 1], of any shape. Left unchanged.
        low: what 0 becomes; positive.
        high: what 1 becomes; larger than ``low``.

    Returns:
        Of the shape, dtype and device of ``u``, and computed in this dtype; the larger u, the
        larger the result.
    """
    return torch.exp(math.log(low) + u * (math.log(high) - math.log(low)))


def beta_uniform(u: Tensor, low: float, high: float) -> Tensor:
    """Turn uniform random numbers into numbers β such that the logarithm of 1 - β is uniform.

    For what sets how long an average remembers: a momentum, or Adam's betas.

    Args:
        u: draws from the uniform distribution on [0, 1], of any shape. Left unchanged.
        low: what 0 becomes.
        high: what 1 becomes; larger than ``low`` and below 1.

    Returns:
        β, of the shape, dtype and device of ``u``; the larger u, the larger β.
    """
    return 1 - log_uniform(1 - u, 1 - high, 1 - low)


def sample_configurations(
    space: Mapping[str, tuple[str, float, float]], u: Tensor
) -> list[dict[str, float]]:
    """Draw configurations for a random search. Bergstra and Bengio (2012).

    Args:
        space: for each hyperparameter, by its name, a tuple ``(scale, low, high)``. The scale says
            what is uniform between the two ends: ``"linear"`` the value itself, ``"log"`` its
            logarithm, ``"one_minus"`` the logarithm of one minus the value. Left unchanged.
        u: (trials, len(space)), draws from the uniform distribution on [0, 1]: a row for each
            configuration, a column for each hyperparameter in the order of ``space``. 0 becomes
            ``low`` and 1 becomes ``high``. Left unchanged.

    Returns:
        One dict for each row, from every name to a Python float.

    Raises:
        ValueError: a scale is none of the three.
    """
    columns: dict[str, list[float]] = {}
    for column, (name, (scale, low, high)) in zip(u.T, space.items(), strict=True):
        if scale == "linear":
            values = low + column * (high - low)
        elif scale == "log":
            values = log_uniform(column, low, high)
        elif scale == "one_minus":
            values = beta_uniform(column, low, high)
        else:
            raise ValueError(f"{name}: scale must be linear, log or one_minus, but is {scale!r}")
        columns[name] = values.tolist()
    return [{name: columns[name][trial] for name in columns} for trial in range(len(u))]


def expected_best(losses: Tensor, n: int) -> Tensor:
    """Estimate the best loss that a search of n trials finds on average.

    Dodge, Gururangan, Card, Schwartz and Smith (2019), https://arxiv.org/abs/1909.03004, section
    3, for losses, of which the smallest is the best.

    Args:
        losses: (trials,), of a random search; in any order, possibly with ties. Left unchanged.
        n: how many trials the search would have; 1 or more, and possibly more than there are.

    Returns:
        The expected value of the smallest of n losses that are drawn from ``losses`` independently,
        with replacement: a tensor of shape (), computed in the dtype and on the device of
        ``losses``.
    """
    total = len(losses)
    ordered = losses.sort().values
    left = torch.arange(total, -1, -1, dtype=losses.dtype, device=losses.device) / total
    at_least = left**n  # (trials + 1,): P(the smallest is not among the first i)
    return (ordered * (at_least[:-1] - at_least[1:])).sum()


def refine(
    space: Mapping[str, tuple[str, float, float]], best: Mapping[str, float], shrink: float
) -> dict[str, tuple[str, float, float]]:
    """Narrow a search space around the best configuration: from coarse to fine.

    On its own scale, each new range is ``shrink`` times as long as the old one and has the best
    value in its middle; where it would stick out of the old range, it is moved, at its full length,
    until it just does not.

    Args:
        space: as for ``sample_configurations``. Left unchanged.
        best: a value from its range for every name in ``space``.
        shrink: between 0 and 1.

    Returns:
        The new space: for each name the same scale, and new ends, as Python floats.
    """
    forth: dict[str, Callable[[float], float]] = {
        "linear": float,
        "log": math.log,
        "one_minus": lambda value: -math.log(1 - value),
    }
    back: dict[str, Callable[[float], float]] = {
        "linear": float,
        "log": math.exp,
        "one_minus": lambda place: 1 - math.exp(-place),
    }
    finer: dict[str, tuple[str, float, float]] = {}
    for name, (scale, low, high) in space.items():
        first, last = forth[scale](low), forth[scale](high)
        length = shrink * (last - first)
        start = forth[scale](best[name]) - length / 2
        start = min(max(start, first), last - length)
        finer[name] = (scale, back[scale](start), back[scale](start + length))
    return finer


def successive_halving(
    evaluate: Callable[[Any, int], float],
    configurations: Sequence[Any],
    min_budget: int,
    eta: int = 3,
) -> tuple[Any, list[tuple[int, list[int]]]]:
    """Search by giving ever more budget to ever fewer configurations.

    Jamieson and Talwalkar (2016), https://arxiv.org/abs/1502.07943, with the halving by ``eta`` of
    Li et al. (2018), https://arxiv.org/abs/1603.06560.

    Each round evaluates all configurations that are left with the same budget: ``min_budget`` in
    the first round, ``eta`` times as much in each following one. Of k configurations the best
    k / ``eta``, rounded down, but at least one, go on to the next round; of equal losses that of
    the configuration which stands earlier in ``configurations`` is the better, and a NaN is worse
    than any number. The round that evaluates a single configuration is the last.

    Args:
        evaluate: called with a configuration and a budget; returns a loss, the smaller the better.
            It is called once for each configuration and round.
        configurations: at least one, of any kind; two may be equal. Left unchanged.
        min_budget: 1 or more.
        eta: 2 or more.

    Returns:
        ``(best, rounds)``: the configuration that the last round evaluated; and for each round its
        budget and the places in ``configurations`` of those it evaluated, in any order.
    """
    left, budget = list(range(len(configurations))), min_budget
    rounds: list[tuple[int, list[int]]] = []
    while True:
        losses = {i: evaluate(configurations[i], budget) for i in left}
        rounds.append((budget, left))
        if len(left) == 1:
            return configurations[left[0]], rounds
        ranked = sorted(left, key=lambda i: (math.isnan(losses[i]), losses[i]))
        left = sorted(ranked[: max(1, len(left) // eta)])  # so that ties go to the earlier one
        budget *= eta
