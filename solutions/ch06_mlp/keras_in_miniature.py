"""A small Keras on top of PyTorch: branches, heads, and a model that trains itself.

Chollet and others (2015), Keras, https://keras.io; Cheng et al. (2016), "Wide & deep learning",
https://arxiv.org/abs/1606.07792; Caruana (1997), "Multitask learning",
https://doi.org/10.1023/A:1007379606734
"""
# ruff: noqa: ARG002 - every callback is handed the model, though not every one needs it

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Data = Any  # a tensor of shape (examples, …), or a dict of such tensors by name


def count_examples(data: Data) -> int:
    """Count the examples of one tensor, or of several tensors that belong together.

    Args:
        data: a tensor of shape (examples, …), or a dict of at least one such tensor by name.

    Returns:
        How many examples there are, an int.

    Raises:
        ValueError: the tensors of a dict differ in their number of examples.
    """
    tensors = list(data.values()) if isinstance(data, dict) else [data]
    counts = {len(tensor) for tensor in tensors}
    if len(counts) != 1:
        raise ValueError(f"the tensors differ in their number of examples: {sorted(counts)}")
    return counts.pop()


def select(data: Data, index: Tensor) -> Data:
    """Take some examples, in a given order, from one tensor or from several.

    Args:
        data: a tensor of shape (examples, …), or a dict of such tensors. Left unchanged.
        index: (n,), int64, which examples to take; an example may be taken more than once.

    Returns:
        As ``data``: a tensor of shape (n, …), or a new dict of such tensors under the same names.
    """
    if isinstance(data, dict):
        return {name: tensor[index] for name, tensor in data.items()}
    return data[index]


def join(parts: Sequence[Data]) -> Data:
    """Put batches together again, one behind the other.

    Args:
        parts: at least one batch; all are tensors of shape (n, …), or all are dicts with the same
            names, not necessarily in the same order. n may differ from batch to batch.

    Returns:
        A tensor of shape (sum of the n, …), or a dict of such tensors under the same names.
    """
    if isinstance(parts[0], dict):
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return torch.cat(list(parts))


class Branches(nn.Module):
    """A network with several inputs, each with a branch of its own, joined by a head.

    Args:
        branches: modules by name; each maps an input (batch, …) to features (batch, f). At least
            one; the f may differ.
        head: a module that maps the features of all branches, side by side in the order of
            ``branches``, of shape (batch, sum of the f), to the output.

    Attributes:
        branches: the branches in an ``nn.ModuleDict``.
        head: as given.
    """

    def __init__(self, branches: Mapping[str, nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(branches)
        self.head = head

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Send each input through its branch, and all features through the head.

        Branches and head are called themselves, not their ``forward``, so that their hooks run.

        Args:
            inputs: a tensor (batch, …) for each branch under its name, in any order. Further
                tensors under other names are ignored.

        Returns:
            What the head returns.
        """
        features = [branch(inputs[name]) for name, branch in self.branches.items()]
        output: Tensor = self.head(torch.cat(features, dim=1))
        return output


class Heads(nn.Module):
    """A network with several outputs that share a trunk.

    Args:
        trunk: a module that maps the input to features.
        heads: modules by name; each maps those same features to an output. At least one.

    Attributes:
        trunk: as given.
        heads: the heads in an ``nn.ModuleDict``.
    """

    def __init__(self, trunk: nn.Module, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleDict(heads)

    def forward(self, x: Data) -> dict[str, Tensor]:
        """Compute the features once, and every output from them.

        Trunk and heads are called themselves, not their ``forward``, so that their hooks run.

        Args:
            x: what the trunk takes.

        Returns:
            Each head's output under its name.
        """
        features = self.trunk(x)
        return {name: head(features) for name, head in self.heads.items()}


def total_loss(
    outputs: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    losses: Mapping[str, Callable[[Tensor, Tensor], Tensor]],
    weights: Mapping[str, float] | None = None,
) -> dict[str, Tensor]:
    """Weigh and add up the losses of several heads.

    Args:
        outputs: the heads' outputs by name.
        targets: what each of them should be, under the same name.
        losses: for each head that is trained, a function of its output and its target, in this
            order, that returns a tensor of shape (). Heads that are not named here have no part.
        weights: a factor for some or all of the losses; 1 where none is given.

    Returns:
        ``"loss"``, the weighted sum, of shape (), differentiable; and beside it each head's own
        loss under the head's name, not weighted.
    """
    each = {name: loss(outputs[name], targets[name]) for name, loss in losses.items()}
    factors = weights or {}
    total = torch.stack([factors.get(name, 1.0) * value for name, value in each.items()]).sum()
    return {"loss": total, **each}


class History:
    """A callback that writes down what every epoch reported.

    A callback is an object with three methods that ``Model.fit`` calls: ``on_train_begin`` before
    the first epoch, ``on_epoch_end`` after each one, ``on_train_end`` at the end.

    Attributes:
        epoch: the numbers of the epochs so far, a list of ints.
        history: for each name in the reports, the list of its values so far, as Python floats.
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def on_train_begin(self, model: nn.Module) -> None:
        """Forget what an earlier training wrote."""
        self.epoch = []
        self.history = {}

    def on_epoch_end(self, model: nn.Module, epoch: int, logs: Mapping[str, float]) -> None:
        """Write down an epoch.

        Args:
            model: not used.
            epoch: its number, counted from 0.
            logs: figures by name: Python numbers, or tensors of shape (). Left unchanged.
        """
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))

    def on_train_end(self, model: nn.Module) -> None:
        """Do nothing: what was written stays."""
        return


class BestWeights:
    """A callback that keeps the best epoch's weights, and puts them back when training ends.

    An epoch is better than the best so far if the figure watched is strictly lower, or higher for
    mode "max". A figure that is NaN is never the best.

    Args:
        monitor: the name of the figure in the epochs' reports.
        mode: "min" if lower is better, "max" if higher is.

    Attributes:
        best: the best figure so far, a float; None before there is one.
        best_epoch: the number of its epoch; None before there is one.

    Raises:
        ValueError: ``mode`` is neither of the two.
    """

    def __init__(self, monitor: str = "val_loss", mode: str = "min") -> None:
        if mode not in ("min", "max"):
            raise ValueError(f'mode must be "min" or "max", but is {mode!r}')
        self.monitor = monitor
        self.mode = mode
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.weights: dict[str, Tensor] | None = None

    def on_train_begin(self, model: nn.Module) -> None:
        """Forget the best of an earlier training."""
        self.best, self.best_epoch, self.weights = None, None, None

    def on_epoch_end(self, model: nn.Module, epoch: int, logs: Mapping[str, float]) -> None:
        """Keep the model's state, buffers included, if this epoch is the best so far.

        What is kept does not change when the model is trained further.

        Args:
            model: as it is after the epoch. Left unchanged.
            epoch: its number, counted from 0.
            logs: figures by name, ``monitor`` among them.
        """
        value = float(logs[self.monitor])
        if math.isnan(value):
            return
        lower = self.mode == "min"
        if self.best is None or (value < self.best if lower else value > self.best):
            self.best, self.best_epoch = value, epoch
            self.weights = {k: v.detach().clone() for k, v in model.state_dict().items()}

    def on_train_end(self, model: nn.Module) -> None:
        """Load the best epoch's state into the model; do nothing where there is none.

        What was kept stays until the next training begins.
        """
        if self.weights is not None:
            model.load_state_dict(self.weights)


class Model(nn.Module):
    """A network that knows how to train itself.

    Inputs and targets are tensors of shape (examples, …), or dicts of such tensors; what the
    network takes and returns may be either, too.

    Args:
        network: the module that is trained.

    Attributes:
        network: as given.
        stop_training: a callback sets it to True to end ``fit`` after the current epoch.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.stop_training = False
        self.optimizer: torch.optim.Optimizer | None = None

    def forward(self, x: Data) -> Data:
        """Call the network."""
        return self.network(x)

    def compile(
        self,
        optimizer: torch.optim.Optimizer,
        loss: Callable[[Data, Data], Tensor],
        metrics: Mapping[str, Callable[[Data, Data], Any]] | None = None,
    ) -> None:
        """Say how to train and what to report; what an earlier call said is forgotten.

        Args:
            optimizer: of the model's parameters.
            loss: maps a batch's outputs and targets to its mean loss, a tensor of shape ().
            metrics: further figures by name; each maps a batch's outputs and targets to a mean
                over the batch, a number or a tensor of shape ().
        """
        self.optimizer = optimizer
        self.loss = loss
        self.metrics = dict(metrics or {})

    def fit(
        self,
        x: Data,
        y: Data,
        *,
        epochs: int,
        batch_size: int = 32,
        validation_data: tuple[Data, Data] | None = None,
        callbacks: Sequence[Any] = (),
        shuffle: bool = True,
        generator: torch.Generator | None = None,
    ) -> History:
        """Train, and report after every epoch.

        In each epoch every example is used once, in batches of ``batch_size``, of which the last
        may be smaller; each batch gives one step of the optimizer, in training mode, along its own
        gradient. Then the epoch's report is made: ``"loss"`` and each metric, averaged over the
        examples as they were met in training; and, with ``validation_data``, what ``evaluate``
        finds there, under the same names with ``"val_"`` before them. All are Python floats.

        ``on_train_begin(model)`` of every callback is called before the first epoch,
        ``on_epoch_end(model, epoch, logs)`` after each epoch, counted from 0, and
        ``on_train_end(model)`` at the end, in the order of ``callbacks``. ``stop_training`` is
        False when training begins; once a callback sets it, no further epoch is begun.

        Args:
            x: the inputs.
            y: the targets.
            epochs: how many at most.
            batch_size: examples a batch.
            validation_data: held-out inputs and targets.
            callbacks: see above.
            shuffle: take the examples in a new random order in every epoch; else as they stand.
            generator: of the orders; PyTorch's own where it is None.

        Returns:
            A history of all reports, which is made anew in every call.

        Raises:
            RuntimeError: the model was not compiled.
        """
        if self.optimizer is None:
            raise RuntimeError("compile the model before training it")
        n, history = count_examples(x), History()
        everyone = [*callbacks, history]
        self.stop_training = False
        for callback in everyone:
            callback.on_train_begin(self)
        for epoch in range(epochs):
            order = torch.randperm(n, generator=generator) if shuffle else torch.arange(n)
            totals = dict.fromkeys(["loss", *self.metrics], 0.0)
            self.train()
            for start in range(0, n, batch_size):
                index = order[start : start + batch_size]
                outputs, targets = self(select(x, index)), select(y, index)
                loss = self.loss(outputs, targets)
                self.optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                self.optimizer.step()
                totals["loss"] += len(index) * loss.item()
                with torch.no_grad():
                    for name, metric in self.metrics.items():
                        totals[name] += len(index) * float(metric(outputs, targets))
            logs = {name: total / n for name, total in totals.items()}
            if validation_data is not None:
                found = self.evaluate(*validation_data, batch_size)
                logs |= {f"val_{name}": value for name, value in found.items()}
            for callback in everyone:
                callback.on_epoch_end(self, epoch, logs)
            if self.stop_training:
                break
        for callback in everyone:
            callback.on_train_end(self)
        return history

    def evaluate(self, x: Data, y: Data, batch_size: int = 32) -> dict[str, float]:
        """Measure loss and metrics, in evaluation mode and without a graph.

        Afterwards the model is in the mode in which it was.

        Args:
            x: the inputs.
            y: the targets.
            batch_size: examples a batch; it makes no difference to the result.

        Returns:
            ``"loss"`` and each metric by name, averaged over the examples: Python floats.

        Raises:
            RuntimeError: the model was not compiled.
        """
        if self.optimizer is None:
            raise RuntimeError("compile the model before evaluating it")
        n, training = count_examples(x), self.training
        totals = dict.fromkeys(["loss", *self.metrics], 0.0)
        self.eval()
        with torch.no_grad():
            for start in range(0, n, batch_size):
                index = torch.arange(start, min(start + batch_size, n))
                outputs, targets = self(select(x, index)), select(y, index)
                for name, measure in {"loss": self.loss, **self.metrics}.items():
                    totals[name] += len(index) * float(measure(outputs, targets))
        self.train(training)
        return {name: total / n for name, total in totals.items()}

    def predict(self, x: Data, batch_size: int = 32) -> Data:
        """Compute the outputs for all examples, in evaluation mode and without a graph.

        Afterwards the model is in the mode in which it was. It need not be compiled.

        Args:
            x: the inputs.
            batch_size: examples a batch; it makes no difference to the result.

        Returns:
            What the network returns, for all examples in their order.
        """
        n, training = count_examples(x), self.training
        parts = []
        self.eval()
        with torch.no_grad():
            for start in range(0, n, batch_size):
                parts.append(self(select(x, torch.arange(start, min(start + batch_size, n)))))
        self.train(training)
        return join(parts)
