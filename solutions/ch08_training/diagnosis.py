"""Diagnosis: the right split, bias and variance, learning curves, early stopping, weight decay."""

import copy
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def stratified_split(
    labels: Sequence[int], order: Sequence[int], val_fraction: float
) -> tuple[list[int], list[int]]:
    """Split examples into two sets in which each class has the same share.

    Of a class with c examples, ``val_fraction`` · c, rounded down, are for validation: those that
    ``order`` names first. All others are for training.

    Args:
        labels: the class of each of the n examples; any integers.
        order: the numbers 0 … n-1, shuffled. It decides who is chosen; nothing else is random.
            Left unchanged.
        val_fraction: between 0 and 1.

    Returns:
        ``(train, val)``: the numbers of the examples of either set, in any order.
    """
    left = {label: math.floor(val_fraction * labels.count(label)) for label in set(labels)}
    train: list[int] = []
    val: list[int] = []
    for i in order:
        if left[labels[i]] > 0:
            left[labels[i]] -= 1
            val.append(i)
        else:
            train.append(i)
    return train, val


def group_split(
    groups: Sequence[Hashable], order: Sequence[Hashable], val_fraction: float
) -> tuple[list[int], list[int]]:
    """Split examples into two sets that have no group in common.

    Groups are taken for validation one after the other, as ``order`` names them, each with all its
    examples, as long as validation holds fewer than ``val_fraction`` · n examples; the group that
    reaches or passes this number is the last one taken. All other examples are for training.

    Args:
        groups: for each of the n examples, what group it belongs to: the patient, the writer, the
            photograph that it was cut from.
        order: every group once, shuffled. Left unchanged.
        val_fraction: between 0 and 1; at 0 validation is empty.

    Returns:
        ``(train, val)``: the numbers of the examples of either set, in any order.
    """
    chosen: set[Hashable] = set()
    size = 0
    for group in order:
        if size >= val_fraction * len(groups):
            break
        chosen.add(group)
        size += sum(other == group for other in groups)
    train = [i for i, group in enumerate(groups) if group not in chosen]
    val = [i for i, group in enumerate(groups) if group in chosen]
    return train, val


def bias_variance(predictions: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Split the expected squared error into squared bias and variance.

    Geman, Bienenstock and Doursat (1992), https://doi.org/10.1162/neco.1992.4.1.1.

    Args:
        predictions: (models, points): what models of one kind, each trained on a training set of
            its own, predict at the same points. Left unchanged.
        truth: (points,): what is to be predicted, free of noise. Left unchanged.

    Returns:
        ``(bias_squared, variance)``, each of shape (), in the dtype and on the device of
        ``predictions``, and averaged over the points. Together they are the mean squared error of
        all these predictions.
    """
    centre = predictions.mean(dim=0)  # (points,)
    bias_squared = (centre - truth).square().mean()
    variance = (predictions - centre).square().mean()
    return bias_squared, variance


def learning_curve(
    fit: Callable[[Tensor, Tensor], Callable[[Tensor], Tensor]],
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    x_train: Tensor,
    y_train: Tensor,
    x_val: Tensor,
    y_val: Tensor,
    sizes: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Measure how two losses change as the training set grows.

    For each size m a model is fitted, once, to the first m training examples. Its training loss is
    that on these m examples; its validation loss is that on the whole validation set.

    Args:
        fit: called with inputs and targets; returns the fitted model, itself a function from
            inputs to predictions. It trains, and so needs gradients to be enabled when it is
            called, as they are when ``learning_curve`` is.
        loss_fn: called with predictions and targets; the mean loss, of shape ().
        x_train: (n, …).
        y_train: (n, …).
        x_val: (n_val, …).
        y_val: (n_val, …).
        sizes: the sizes m, each from 1 to n, in any order.

    Returns:
        ``(train_losses, val_losses)``, each of shape (len(sizes),), in the order of ``sizes``, in
        the dtype and on the device of the losses, with no graph attached.
    """
    train_losses, val_losses = [], []
    for m in sizes:
        model = fit(x_train[:m], y_train[:m])
        with torch.no_grad():
            train_losses.append(loss_fn(model(x_train[:m]), y_train[:m]))
            val_losses.append(loss_fn(model(x_val), y_val))
    return torch.stack(train_losses), torch.stack(val_losses)


def error_gaps(
    target: float, train: float, train_dev: float, dev: float, test: float
) -> dict[str, float]:
    """Tell apart what stands between a model and the error that it should reach.

    Ng (2018), "Machine Learning Yearning", chapters 20 to 43. Each gap is what one error has more
    than the one before it in the chain; it may be negative.

    Args:
        target: the error that is possible: a human expert's, say, or the Bayes error.
        train: on the training set.
        train_dev: on held-out examples from where the training set comes from.
        dev: on the validation set, from where the model will be used.
        test: on the test set, from there too, looked at only once.

    Returns:
        The gaps under ``"avoidable bias"``, ``"variance"``, ``"data mismatch"`` and
        ``"overfitting to dev"``: one for each step of the chain, from the target to the test.
    """
    return {
        "avoidable bias": train - target,
        "variance": train_dev - train,
        "data mismatch": dev - train_dev,
        "overfitting to dev": test - dev,
    }


class EarlyStopping:
    """Stop when the validation loss has stopped falling, and bring back the best weights.

    Prechelt (1998), "Early Stopping: But When?", https://doi.org/10.1007/3-540-49430-8_3.

    Attributes:
        best_loss: the validation loss of the last improvement; infinite before the first.
        best_epoch: the number of the epoch that brought it, the first epoch being number 0;
            None before the first improvement.
    """

    def __init__(self, patience: int = 10, min_delta: float = 0.0) -> None:
        """Start with no epoch seen.

        Args:
            patience: training is to stop at the epoch that is the ``patience``-th in a row without
                improvement; 1 or more.
            min_delta: an epoch is an improvement if its loss is below ``best_loss`` by more than
                this.
        """
        self.patience = patience
        self.min_delta = min_delta
        self.best_loss = math.inf
        self.best_epoch: int | None = None
        self.best_state: dict[str, Any] = {}
        self.epoch = 0
        self.bad_epochs = 0

    def step(self, val_loss: float, model: nn.Module) -> bool:
        """Take note of an epoch.

        At an improvement the model's state is remembered as it is now, parameters and buffers, and
        stays remembered so, whatever becomes of the model. The model is left unchanged.

        Args:
            val_loss: of the epoch. A NaN is no improvement.
            model: as it is after the epoch.

        Returns:
            True if training is to stop, as a Python bool.
        """
        if val_loss < self.best_loss - self.min_delta:
            self.best_loss = val_loss
            self.best_epoch = self.epoch
            self.best_state = copy.deepcopy(model.state_dict())
            self.bad_epochs = 0
        else:
            self.bad_epochs += 1
        self.epoch += 1
        return self.bad_epochs >= self.patience

    def restore(self, model: nn.Module) -> None:
        """Give the model back the state remembered at ``best_epoch``, parameters and buffers.

        It may be called more than once, with training in between. The parameters remain the same
        objects, so that an optimizer goes on working.

        Args:
            model: the one that was watched, or another one of the same architecture.

        Raises:
            RuntimeError: there was no improvement yet, and so nothing is remembered.
        """
        if self.best_epoch is None:
            raise RuntimeError("no epoch has improved on anything yet: there is no best state")
        model.load_state_dict(self.best_state)


def l2_penalty(model: nn.Module, weight_decay: float) -> Tensor:
    """Compute the L2 penalty on a model's weights, λ/2 times the sum of their squares.

    Args:
        model: its weights are the parameters of two or more dimensions, those that require no
            gradient included; there is at least one, and one that two layers share counts once.
            Biases, and the scales and shifts of normalisation layers, have one dimension and are
            not penalised.
        weight_decay: λ.

    Returns:
        A tensor of shape (), in the dtype and on the device of the parameters, differentiable
        with respect to them.
    """
    squares = [p.square().sum() for p in model.parameters() if p.ndim >= 2]
    return weight_decay / 2 * torch.stack(squares).sum()


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Sort a model's parameters into two groups for an optimizer: weights decay, others do not.

    Args:
        model: parameters that require no gradient are left out; every other one is in exactly one
            group, once, even where two layers share it.
        weight_decay: λ, for parameters of two or more dimensions. All others get 0.

    Returns:
        Two dicts with the keys ``"params"``, a list of parameters, and ``"weight_decay"``, a
        number, as ``torch.optim``'s optimizers take them: first the group that decays, then the
        other.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
