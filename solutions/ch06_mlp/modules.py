"""Networks as modules: layers that know their parameters, chains of them, counting and freezing.

Paszke et al. (2019), "PyTorch: an imperative style, high-performance deep learning library",
https://arxiv.org/abs/1912.01703
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class Linear(nn.Module):
    """An affine layer that owns its parameters, like ``torch.nn.Linear``.

    PyTorch's own layer is not allowed, nor is ``torch.nn.functional.linear``. Every entry of the
    weight and of the bias is drawn uniformly between plus and minus one over the square root of
    ``in_features``.

    Args:
        in_features: how many numbers each example has.
        out_features: how many it is turned into.
        bias: whether there is a bias. Where not, the attribute ``bias`` is None.

    Attributes:
        weight: a parameter of shape (out_features, in_features).
        bias: a parameter of shape (out_features,), or None.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_features)
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))
        self.bias = (
            nn.Parameter(torch.empty(out_features).uniform_(-bound, bound)) if bias else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map each example.

        Args:
            x: (…, in_features), any number of leading dimensions; in the parameters' dtype.

        Returns:
            (…, out_features).
        """
        y = x @ self.weight.T  # (…, out_features)
        return y if self.bias is None else y + self.bias


class Sequential(nn.Module):
    """A chain of modules, like ``torch.nn.Sequential``, which is not allowed.

    The modules given are its children, under the names "0", "1", … in their order, so that its
    parameters are called "0.weight" and so on. They are used as they are, not copied; the same
    module may stand in the chain more than once.

    Args:
        modules: any number of modules, even none.
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.length = len(modules)
        for index, module in enumerate(modules):
            self.add_module(str(index), module)

    def forward(self, x: Tensor) -> Tensor:
        """Send an input through the chain, each module called on what the one before returned.

        The modules are called, not their ``forward``, so that their hooks run.

        Args:
            x: what the first module takes.

        Returns:
            What the last module returns; ``x`` where there is none.
        """
        for index in range(self.length):
            x = self.get_submodule(str(index))(x)
        return x

    def __len__(self) -> int:
        """Count the modules of the chain, one that stands in it twice twice."""
        return self.length


class MLP(nn.Module):
    """A multilayer perceptron of any depth.

    One linear layer leads from each size to the next, with the activation between every two of
    them: none before the first layer and none after the last. The linear layers may be your own
    or PyTorch's, and all have a bias.

    Args:
        sizes: the number of features at the input, after each hidden layer, and at the output;
            at least two numbers.
        activation: a function, or a module such as ``nn.PReLU()``, that maps a tensor to one of
            its own shape. The very same one is used after every hidden layer; the parameters of
            a module are parameters of the network too.

    Attributes:
        layers: the linear layers in order, an ``nn.ModuleList``, so that the parameters are
            called "layers.0.weight" and so on.
    """

    def __init__(
        self, sizes: Sequence[int], activation: Callable[[Tensor], Tensor] = torch.relu
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Linear(d_in, d_out) for d_in, d_out in pairwise(sizes)])
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits.

        Args:
            x: (…, sizes[0]).

        Returns:
            (…, sizes[-1]).
        """
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        logits: Tensor = self.layers[-1](x)
        return logits


def count_parameters(model: nn.Module, trainable_only: bool = False) -> int:
    """Count the numbers in all parameters of a model, those of its submodules included.

    A parameter that is shared by several submodules counts once. Buffers, such as the running
    statistics of batch norm, are not parameters.

    Args:
        model: left unchanged.
        trainable_only: leave out what is frozen, that is, what requires no gradient.

    Returns:
        How many numbers, an int.
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable_only)


def mlp_parameter_count(sizes: Sequence[int], bias: bool = True) -> int:
    """Work out how many parameters an MLP has, without building one.

    Args:
        sizes: as for ``MLP``; at least two numbers. Left unchanged.
        bias: whether each linear layer has a bias.

    Returns:
        The number of weights and biases, an int.
    """
    return sum(d_in * d_out + (d_out if bias else 0) for d_in, d_out in pairwise(sizes))


def widest_hidden(d_in: int, d_out: int, hidden_layers: int, budget: int) -> int:
    """Find how wide an MLP's hidden layers may be for its parameters to stay within a budget.

    All hidden layers have the same width, and every linear layer has a bias.

    Args:
        d_in: features at the input.
        d_out: features at the output.
        hidden_layers: how many there are, at least 1.
        budget: the largest number of parameters allowed, up to some tens of thousands, for which
            the answer should take no more than a moment; reaching it exactly is allowed.

    Returns:
        The largest width that fits, an int; 0 where not even width 1 does.
    """
    width = 0
    while mlp_parameter_count([d_in, *[width + 1] * hidden_layers, d_out]) <= budget:
        width += 1
    return width


def freeze(model: nn.Module, *names: str) -> list[str]:
    """Exclude parts of a model from training.

    A name means a submodule, with everything in it, or a single parameter: "layers.1" freezes
    "layers.1.weight" and "layers.1.bias", but not "layers.10.weight". A frozen parameter
    requires no gradient, and a gradient that it still holds is dropped (its ``.grad`` is None),
    since an optimizer would go on using it. Everything else stays as it was: other parameters,
    all values, and training or evaluation mode.

    Args:
        model: changed as described.
        names: of submodules and parameters, dotted, as ``model.named_parameters()`` spells them.

    Returns:
        The full names of the parameters that the names mean, in the model's order.
    """
    frozen = []
    for name, parameter in model.named_parameters():
        if any(name == part or name.startswith(f"{part}.") for part in names):
            parameter.requires_grad_(False)
            parameter.grad = None
            frozen.append(name)
    return frozen
