"""Initialisation: standardised inputs, Xavier, Kaiming, and signals through many layers.

Glorot and Bengio (2010), https://proceedings.mlr.press/v9/glorot10a.html; He, Zhang, Ren and Sun
(2015), https://arxiv.org/abs/1502.01852. Draws are random, so weights are judged by facts that
are the same for every draw of tens of thousands of numbers, rounded far beyond their noise.
"""

import math
from itertools import pairwise

import torch
from torch import nn

from autograder.spec import Case, Exercise, Mistake, Variant, gradients, raised
from autograder.spec.tables import edits_of, slips, variants

NO_INIT = ["torch.nn.init"]
ONE = (torch.float32,)


# ---------------------------------------------------------------- oracles


class StandardizerByMoments(nn.Module):
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, num_features):
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("std", torch.zeros(num_features) + 1)

    def fit(self, x):
        x = x.detach()
        mean = x.sum(dim=0) / len(x)
        std = torch.linalg.vector_norm(x - mean, dim=0) / math.sqrt(len(x))
        same = x.amax(dim=0) == x.amin(dim=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(same, torch.ones_like(std), std))

    def forward(self, x):
        return x.sub(self.mean).div(self.std)

    def inverse(self, z):
        return torch.addcmul(self.mean, z, self.std)


def fans_by_counting(weight):
    if weight.dim() < 2:
        raise ValueError("too few dimensions")
    return weight[0].numel(), weight[:, 0].numel()


def gain_by_vector_norm(activation, z):
    phi = activation(z)
    return math.sqrt(phi.numel()) / torch.linalg.vector_norm(phi)


def uniform_with(tensor, std, generator):
    unit = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype, device=tensor.device)
    tensor.data.copy_((unit - 0.5) * (12**0.5 * std))
    return tensor


def normal_with(tensor, std, generator):
    unit = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype, device=tensor.device)
    tensor.data.copy_(unit * std)
    return tensor


def xavier_std(tensor, gain=1.0):
    return gain / (sum(fans_by_counting(tensor)) / 2) ** 0.5


def kaiming_std(tensor, a, mode):
    fans = dict(zip(("fan_in", "fan_out"), fans_by_counting(tensor), strict=True))
    if mode not in fans:
        raise ValueError(mode)
    return (2 / (1 + a * a) / fans[mode]) ** 0.5


def xavier_uniform_by_rand(tensor, gain=1.0, generator=None):
    return uniform_with(tensor, xavier_std(tensor, gain), generator)


def xavier_normal_by_randn(tensor, gain=1.0, generator=None):
    return normal_with(tensor, xavier_std(tensor, gain), generator)


def kaiming_uniform_by_rand(tensor, a=0.0, mode="fan_in", generator=None):
    return uniform_with(tensor, kaiming_std(tensor, a, mode), generator)


def kaiming_normal_by_randn(tensor, a=0.0, mode="fan_in", generator=None):
    return normal_with(tensor, kaiming_std(tensor, a, mode), generator)


def sizes_by_norms(x, weights, activation):
    def size(h):
        return torch.linalg.vector_norm(h) / h.numel() ** 0.5

    if not weights:
        return size(x).reshape(1)
    h = activation(torch.nn.functional.linear(x, weights[0]))
    return torch.cat([size(x).reshape(1), sizes_by_norms(h, weights[1:], activation)])


def gradients_by_vjp(x, weights, activation, grad_output):
    pulls, h = [], x
    for weight in weights:
        pulled = torch.func.vjp(lambda h, w=weight: activation(h @ w.detach().T), h)
        h = pulled[0]
        pulls.append(pulled[1])
    g = grad_output
    sizes = [g.pow(2).mean()]
    for pull in reversed(pulls):
        (g,) = pull(g)
        sizes.insert(0, g.pow(2).mean())
    return torch.stack(sizes).sqrt()


# ---------------------------------------------------------------- Standardizer


def fitted(impl, train, held_out, z, cotangent):
    layer = impl(train.shape[1]).to(train)
    before = layer(held_out)
    layer.fit(train)
    x = held_out.clone().requires_grad_()
    output = layer(x)
    return {
        "before fit": before,
        "mean": layer.mean.clone(),
        "std": layer.std.clone(),
        "held-out examples, standardised": output.detach(),
        "gradient of x": gradients(output, [x], cotangent)[0],
        "inverse": layer.inverse(z),
        "there and back": layer.inverse(layer(held_out)),
    }


def fitted_twice(impl, train, other, x):
    layer = impl(train.shape[1]).to(train)
    layer.train()
    layer.fit(train)
    first = layer(x)
    layer.fit(other)
    return {"after the first fit": first, "after the second": layer.eval()(x), "mean": layer.mean}


def saved(impl, train, x):
    layer = impl(train.shape[1]).to(train)
    layer.fit(train)
    state = layer.state_dict()
    fresh = impl(train.shape[1]).to(train)
    fresh.load_state_dict(state)
    return {
        "names in state_dict()": sorted(state),
        "number of parameters": len(list(layer.parameters())),
        "output of a layer that loads the state": fresh(x),
    }


def table_of(make, n, features, constant=(), tiny=(), minute=()):
    """Features in units of their own: means and spreads of very different sizes."""
    scale = make.uniform(features, low=0.5, high=8.0)
    for feature in tiny:
        scale[feature] = 1e-3
    shift = make.away_from_zero(features, low=1.0, high=9.0)
    table = scale * make.normal(n, features) + shift
    for feature in constant:
        table[:, feature] = 0.25 * (feature + 3)
    for feature in minute:  # around 0, where even float32 can tell so small a spread
        table[:, feature] = 1e-9 * make.away_from_zero(n)
    return table


def tables(n, features, constant=(), tiny=(), minute=()):
    def draw(make):
        return {
            "train": table_of(make, n, features, constant, tiny, minute),
            "held_out": 3 * make.normal(6, features) - 2,
            "z": make.normal(3, features),
            "cotangent": make.normal(6, features),
        }

    return draw


CONSTANT = "constant = (x == x[0]).all(dim=0)  # not std == 0: a mean is rounded\n"
FITTED = "self.std = x.std(dim=0, correction=0).masked_fill(constant, 1.0)"
FORWARD, INVERSE = "return (x - self.mean) / self.std", "return z * self.std + self.mean"

Standardizer = Exercise(
    "Standardizer",
    oracle=StandardizerByMoments,
    mistakes=[
        *slips(
            FITTED,
            """
            divided by n - 1
                self.std = x.std(dim=0, correction=int(len(x) > 1)).masked_fill(constant, 1.0)
            The mean squared distance divides by the number of examples; std() divides by one less
            unless it is told not to.

            variance for the standard deviation
                self.std = x.var(dim=0, correction=0).masked_fill(constant, 1.0)
            That is the variance. The features are divided by its root.

            divides by zero where a feature is constant
                self.std = x.std(dim=0, correction=0).masked_fill(constant, 0.0)
            A feature that never varies has deviation 0, and dividing by it gives inf or NaN: the
            docstring says what it gets instead.

            epsilon added
                self.std = (x.std(dim=0, correction=0) + 1e-5).masked_fill(constant, 1.0)
            No epsilon is added: features that vary little would not come out with size 1.

            largest distance
                self.std = (x - self.mean).abs().amax(dim=0).masked_fill(constant, 1.0)
            That scales by the largest distance from the mean, which one outlier can set. The
            standard deviation is asked for.

            tiny number for constant features
                self.std = x.std(dim=0, correction=0).masked_fill(constant, 1e-8)
            A constant feature is divided by 1, not by a tiny number: one that differs on new data
            would be blown up.

            small deviations replaced
                std = x.std(dim=0, correction=0)
                        self.std = torch.where(std < 0.01, torch.ones_like(std), std)
            Only a feature that is the same in every example gets 1; one that varies little keeps
            its deviation.

            one deviation for all features
                self.std = x.std(correction=0).expand_as(constant).masked_fill(constant, 1.0)
            Every feature has units, and so a standard deviation, of its own.

            mean absolute distance
                self.std = (x - self.mean).abs().mean(dim=0).masked_fill(constant, 1.0)
            The standard deviation is made of squares, not of absolute values.

            root mean square
                self.std = x.square().mean(dim=0).sqrt().masked_fill(constant, 1.0)
            Distances are measured from the mean, not from 0.

            mean square less squared mean
                gap = x.square().mean(dim=0) - self.mean.square()
                        self.std = gap.sqrt().masked_fill(constant, 1.0)
            The same on paper, but here two large numbers nearly cancel, and a feature that varies
            little loses its digits: square the distances from the mean.

            range
                self.std = (x.amax(dim=0) - x.amin(dim=0)).masked_fill(constant, 1.0)
            That scales by the range, which one outlier can set. The standard deviation is asked
            for.
        """,
        ),
        *(
            Mistake(
                f"epsilon of {eps} instead of one",
                FITTED,
                f"self.std = x.std(dim=0, correction=0) + {eps}",
                "An epsilon keeps the division alive, but a constant feature would be divided by "
                "it: it gets 1 instead, and no other feature gets anything added.",
            )
            for eps in ("1e-8", "1e-6", "1e-5")
        ),
        *(
            Mistake(
                f"floor of {floor} for all deviations",
                FITTED,
                f"self.std = x.std(dim=0, correction=0).clamp(min={floor})",
                "You raise every small deviation to a floor. Only a feature that is the same in "
                "all examples is treated apart, and it gets 1.",
            )
            for floor in ("1e-8", "1e-6", "1e-5", "1e-3")
        ),
        *slips(
            "self.mean = x.mean(dim=0)",
            """
            one mean for all features
                self.mean = x.mean().expand_as(x[0])
            Every feature has a mean of its own.

            constant features not centred
                self.mean = x.mean(dim=0).masked_fill(constant, 0.0)
            A constant feature has a mean as well, and it is subtracted: only its deviation is
            replaced.

            statistics of a row of features
                x = x.float()
                        self.mean = x.mean(dim=0)
            Something turns the inputs into float32: the statistics keep the dtype of the buffers.

            training inputs centred in place
                self.mean = x.mean(dim=0)
                        x -= self.mean
            You subtract the mean from the caller's training inputs themselves. fit only looks at
            them.

            median
                self.mean = x.median(dim=0).values
            The mean is subtracted, not the median.

            minimum
                self.mean = x.amin(dim=0)
            The mean is subtracted, not the minimum.
        """,
        ),
        Mistake(
            "only the first fit counts",
            f"        {CONSTANT}",
            f"        if (self.std != 1).any():\n            return\n        {CONSTANT}",
            "A second call of fit starts afresh: what was fitted before is gone.",
        ),
        Mistake.edits_of(
            "running average",
            [
                (
                    "self.mean = x.mean(dim=0)",
                    "seen, new = (self.std != 1).any(), x.mean(dim=0)\n"
                    "        self.mean = torch.where(seen, (self.mean + new) / 2, new)",
                )
            ],
            "A second call of fit starts afresh: what was fitted before has no part in it.",
        ),
        *slips(
            FORWARD,
            """
            statistics of the batch at hand
                return (x - x.mean(dim=0)) / x.std(dim=0, correction=0)
            New inputs are standardised with what was fitted on the training set, not with their
            own mean and deviation.

            divided before subtracting
                return x / self.std - self.mean
            The mean is in the units of the data: subtract it before you divide.

            not centred
                return x / self.std
            The mean is not subtracted.

            not scaled
                return x - self.mean
            The standard deviation is not divided by.

            multiplied by the deviation
                return (x - self.mean) * self.std
            Multiplying makes wide features wider still: divide.

            mean of the batch at hand
                return (x - x.mean(dim=0)) / self.std
            New inputs are shifted by what was fitted on the training set, not by their own mean.

            fitted again in forward
                if self.training:
                            self.fit(x)
                        return (x - self.mean) / self.std
            forward only uses what was fitted, in training mode too: it never fits.

            fitted again in forward, without a graph
                if self.training:
                            self.fit(x.detach())
                        return (x - self.mean) / self.std
            forward only uses what was fitted, in training mode too: it never fits.

            subtracted in the caller's tensor
                x -= self.mean
                        return x / self.std
            You subtract from the caller's x itself: make a new tensor.

            clipped
                return ((x - self.mean) / self.std).clamp(-1, 1)
            Nothing is clipped: values several deviations away are normal.

            cut off from the graph
                return ((x - self.mean) / self.std).detach()
            The output has to be differentiable with respect to x.

            x changed in place
                return x.data.sub_(self.mean).div_(self.std)
            The caller's x has changed: make a new tensor.
        """,
        ),
        *slips(
            INVERSE,
            """
            inverse in the wrong order
                return (z + self.mean) * self.std
            Undo the steps in reverse: what was done last is undone first.

            inverse without the mean
                return z * self.std
            The mean that forward has subtracted is to be added again.

            inverse divides
                return z / self.std + self.mean
            forward divides by the deviation, so the inverse multiplies with it.
        """,
        ),
        Mistake.edits_of(
            "one mean and deviation for all features",
            [
                ("self.mean = x.mean(dim=0)", "self.mean = x.mean().expand_as(x[0])"),
                (
                    FITTED,
                    "self.std = x.std(correction=0).expand_as(constant).masked_fill(constant, 1.0)",
                ),
            ],
            "Your mean and deviation run over all features together. Every feature has units, and "
            "so a mean and a standard deviation, of its own.",
        ),
        Mistake.edits_of(
            "mean and deviation as rows",
            [
                ("self.mean = x.mean(dim=0)", "self.mean = x.mean(dim=0, keepdim=True)"),
                (FITTED, f"{FITTED}[None]"),
            ],
            "The buffers have the shape (num_features,): yours have an axis of size one in front.",
        ),
        Mistake(
            "a single example refused",
            f"        {CONSTANT}",
            f"        if len(x) < 2:\n            raise ValueError\n        {CONSTANT}",
            "One example is enough: all its features are the same in all examples, and so get 1.",
        ),
        Mistake(
            "one buffer not saved",
            '"std", torch.ones(num_features)',
            '"std", torch.ones(num_features), persistent=False',
            "A buffer that is not persistent is missing from the state_dict: both belong there.",
        ),
        Mistake(
            "a buffer too many",
            "super().__init__()",
            'super().__init__()\n        self.register_buffer("fitted", torch.zeros(1))',
            "mean and std are all that the state_dict holds: yours has another entry.",
        ),
        Mistake(
            "made on the CPU in fit",
            FITTED,
            "ones = torch.ones(x.shape[1], dtype=x.dtype)\n"
            "        self.std = torch.where(constant, ones, x.std(dim=0, correction=0))",
            "Something that fit makes is on the CPU, wherever its inputs are: make new tensors "
            "where x is.",
        ),
        Mistake.edits_of(
            "plain attributes",
            [
                (
                    'self.register_buffer("mean", torch.zeros(num_features))',
                    "self.mean = torch.zeros(num_features)",
                ),
                (
                    'self.register_buffer("std", torch.ones(num_features))',
                    "self.std = torch.ones(num_features)",
                ),
            ],
            "Plain attributes are neither saved with the model nor moved with it: register them "
            "as buffers.",
        ),
        Mistake.edits_of(
            "parameters for buffers",
            [
                (
                    'self.register_buffer("mean", torch.zeros(num_features))',
                    "self.mean = nn.Parameter(torch.zeros(num_features))",
                ),
                (
                    'self.register_buffer("std", torch.ones(num_features))',
                    "self.std = nn.Parameter(torch.ones(num_features))",
                ),
                ("self.mean = x.mean(dim=0)", "self.mean.data = x.mean(dim=0)"),
                ("self.std = x.std", "self.std.data = x.std"),
            ],
            "Parameters would be trained by the optimizer. What is measured belongs in buffers.",
        ),
        Mistake.edits_of(
            "zeros before fit",
            [('"std", torch.ones', '"std", torch.zeros')],
            "Before fit the layer leaves its input alone: a standard deviation of 0 cannot.",
        ),
    ],
    variants=variants("""
        in double precision inside
            class Standardizer(nn.Module):
                def __init__(self, num_features):
                    super().__init__()
                    mean, std = torch.zeros(num_features), torch.ones(num_features)
                    self.register_buffer("mean", mean)
                    self.register_buffer("std", std)
                def fit(self, x):
                    with torch.no_grad():
                        d = x.double()
                        var, mean = torch.var_mean(d, dim=0, correction=0)
                        spread = d.max(0).values - d.min(0).values
                        std = torch.where(spread > 0, var.sqrt(), 1.0)
                        self.mean, self.std = mean.to(x.dtype), std.to(x.dtype)
                def forward(self, x):
                    return (x - self.mean[None]) / self.std[None]
                def inverse(self, z):
                    return z * self.std[None] + self.mean[None]

        copied into the buffers
            class Standardizer(nn.Module):
                def __init__(self, num_features):
                    super().__init__()
                    self.register_buffer("mean", torch.zeros(num_features))
                    self.register_buffer("std", torch.ones(num_features))
                @torch.no_grad()
                def fit(self, x):
                    variance, mean = torch.var_mean(x, dim=0, unbiased=False)
                    varies = (x != x[:1]).any(dim=0)
                    self.mean.copy_(mean)
                    self.std.copy_(torch.where(varies, variance.sqrt(), torch.ones_like(mean)))
                def forward(self, x):
                    return torch.div(x - self.mean[None], self.std[None])
                def inverse(self, z):
                    return self.mean + self.std * z

        deviation compared with zero
            class Standardizer(nn.Module):
                def __init__(self, num_features):
                    super().__init__()
                    self.num_features = num_features
                    self.register_buffer("std", torch.ones(num_features))
                    self.register_buffer("mean", torch.zeros(num_features))
                def fit(self, x):
                    centred = x - x.mean(0)
                    std = (centred**2).mean(0) ** 0.5
                    std[std == 0] = 1.0
                    self.mean, self.std = x.mean(0), std
                def forward(self, x):
                    scale = 1 / self.std
                    return scale * x - scale * self.mean
                def inverse(self, z):
                    return z.mul(self.std).add(self.mean)

        a loop over the features
            class Standardizer(nn.Module):
                def __init__(self, num_features):
                    super().__init__()
                    self.register_buffer("mean", torch.full((num_features,), 0.0))
                    self.register_buffer("std", torch.full((num_features,), 1.0))
                def fit(self, x):
                    for j in range(x.shape[1]):
                        column = x[:, j]
                        mean = column.sum() / len(column)
                        same = torch.all(column == column[0])
                        spread = torch.sqrt(((column - mean) ** 2).sum() / len(column))
                        self.mean[j] = mean
                        self.std[j] = torch.where(same, torch.ones_like(spread), spread)
                def forward(self, x):
                    return torch.stack([(x[:, j] - m) / s for j, (m, s) in
                                        enumerate(zip(self.mean, self.std))], dim=1)
                def inverse(self, z):
                    return torch.addcmul(self.mean, z, self.std)
    """),
)


@Standardizer.test(
    points=1.5,
    cases=[
        Case("features in units of their own", fitted, tables(9, 5)),
        Case("a feature that never varies", fitted, tables(8, 4, constant=(2,))),
        Case("a feature that varies little", fitted, tables(7, 6, tiny=(1,))),
        Case("a feature that hardly varies", fitted, tables(8, 3, minute=(1,))),
        Case("a single example", fitted, tables(1, 3, constant=(0, 1, 2))),
    ],
)
def test_standardizer_uses_what_was_fitted(submission, case):
    """Standardises with the training set's mean and deviation, and back"""
    submission.matches_reference(case)


@Standardizer.test(
    points=0.75,
    cases=[
        Case(
            "fitted a second time",
            fitted_twice,
            lambda make: {
                "train": table_of(make, 9, 4),
                "other": table_of(make, 6, 4),
                "x": make.normal(3, 4),
            },
        ),
        Case(
            "saved and loaded",
            saved,
            lambda make: {"train": table_of(make, 9, 4), "x": make.normal(3, 4)},
        ),
    ],
)
def test_standardizer_keeps_its_state(submission, case):
    """Keeps what it has fitted, as buffers, until the next fit"""
    submission.matches_reference(case)


@Standardizer.test(points=0.25, cases=[Case("a small table", fitted, tables(9, 5))])
def test_standardizer_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- fan_in_and_fan_out


def fans(impl, **weights):
    found = {name: tuple(impl(weight)) for name, weight in weights.items()}
    kinds = sorted({type(fan).__name__ for pair in found.values() for fan in pair})
    return {
        name: {"fan_in": fan_in, "fan_out": fan_out} for name, (fan_in, fan_out) in found.items()
    } | {"fans are given as": ", ".join(kinds)}


def fans_of_vectors(impl, bias, scalar):
    return {
        "a bias": raised(lambda: impl(bias), ValueError),
        "a scalar": raised(lambda: impl(scalar), ValueError),
    }


POSITIONS = "positions = math.prod(weight.shape[2:])  # of the kernel; 1 in a linear layer"
FANS = "return weight.shape[1] * positions, weight.shape[0] * positions"

fan_in_and_fan_out = Exercise(
    "fan_in_and_fan_out",
    oracle=fans_by_counting,
    forbids=NO_INIT,
    mistakes=[
        *slips(
            FANS,
            """
            fans swapped
                return weight.shape[0] * positions, weight.shape[1] * positions
            PyTorch's weights have the outputs first, the inputs second.

            kernel counted in fan_in only
                return weight.shape[1] * positions, weight.shape[0]
            An input pixel, too, meets every position of the kernel: once for each output that its
            window covers.

            kernel counted in fan_out only
                return weight.shape[1], weight.shape[0] * positions
            An output value adds up the products of all positions of the kernel.

            divided by the kernel
                return weight.shape[1] // positions, weight.shape[0] // positions
            A larger kernel makes for more products, not fewer.

            all elements
                return weight.numel(), weight.numel()
            The number of elements counts all connections; the fans count those of one unit.

            bias counted
                return weight.shape[1] * positions + 1, weight.shape[0] * positions
            The bias is no input: only the products with the weight are counted.

            sizes added up
                return sum(weight.shape[1:]), weight.shape[0] + sum(weight.shape[2:])
            Channels and kernel sizes are multiplied: each channel has every position.
        """,
        ),
        *slips(
            POSITIONS,
            """
            kernel left out
                positions = 1
            A convolution adds up its products over the positions of the kernel, too.

            first side of the kernel only
                positions = math.prod(weight.shape[2:3])
            A kernel has as many positions as all its sides multiplied.

            kernel taken as a square
                positions = math.prod(weight.shape[2:3]) ** (weight.ndim - 2)
            The sides of a kernel may differ: multiply all of them.

            two sides of the kernel
                positions = math.prod(weight.shape[2:4])
            A kernel may have three dimensions: multiply all its sides.

            sides of the kernel added up
                positions = sum(weight.shape[2:]) or 1
            A kernel of 3 by 5 has fifteen positions, not eight.

            in and out channels swapped in convolutions
                positions = math.prod(weight.shape[2:])
                    if weight.ndim > 2:
                        return weight.shape[0] * positions, weight.shape[1] * positions
            A convolution's weight has its output channels first, as a linear layer's has its
            output features.
        """,
        ),
        *slips(
            FANS,
            """
            fans as tensors
                positions = torch.tensor(positions)
                    return weight.shape[1] * positions, weight.shape[0] * positions
            The numbers are right, but they are tensors: Python ints are asked for.

            fans as fractional numbers
                return float(weight.shape[1] * positions), float(weight.shape[0] * positions)
            The numbers are right, but they are floats: counts are Python ints. A division with /
            makes a float.

            all elements for fan_in
                return weight.numel(), weight.shape[0] * positions
            The weight has a part for each output: one output value adds up its own part alone.
        """,
        ),
        Mistake(
            "every kernel taken for a square",
            POSITIONS,
            "positions = weight.shape[-1] ** (weight.ndim - 2)",
            "A kernel's sides may differ: multiply them, instead of raising the last one to a "
            "power.",
        ),
        Mistake(
            "scalars not refused",
            "if weight.ndim < 2:",
            "if weight.ndim == 1:",
            "A scalar has no dimension at all, and raises a ValueError too: fewer than two "
            "dimensions are too few.",
        ),
        Mistake(
            "through NumPy",
            FANS,
            "shape = weight.detach().numpy().shape\n"
            "    return shape[1] * positions, shape[0] * positions",
            "NumPy cannot see a tensor that is on a GPU. The weight knows its shape itself.",
        ),
        Mistake(
            "vectors accepted",
            "if weight.ndim < 2:",
            "if weight.ndim < 2:\n        return 1, weight.numel()\n    if weight.ndim < 0:",
            "A bias has no fan_in: a weight of fewer than two dimensions raises a ValueError.",
        ),
        Mistake(
            "only scalars refused",
            "if weight.ndim < 2:",
            "if weight.ndim == 1:\n        return weight.numel(), weight.numel()\n"
            "    if weight.ndim < 1:",
            "A bias has no fans either: two dimensions are the least.",
        ),
        Mistake(
            "two-dimensional weights only",
            "if weight.ndim < 2:",
            "if weight.ndim != 2:",
            "Convolutions have weights of more than two dimensions, and fans of their own.",
        ),
        Mistake(
            "another error raised",
            "raise ValueError(",
            "raise IndexError(",
            "A weight with too few dimensions raises a ValueError.",
        ),
    ],
    variants=variants("""
        by counting elements
            def fan_in_and_fan_out(weight):
                if weight.dim() < 2:
                    raise ValueError("fewer than two dimensions")
                return weight.numel() // weight.size(0), weight.numel() // weight.size(1)

        a loop over the kernel
            def fan_in_and_fan_out(weight):
                if len(weight.shape) < 2:
                    raise ValueError(tuple(weight.shape))
                fan_out, fan_in, *kernel = weight.shape
                for side in kernel:
                    fan_in *= side
                    fan_out *= side
                return [fan_in, fan_out]

        slices of the weight
            def fan_in_and_fan_out(weight):
                if weight.ndim in (0, 1):
                    raise ValueError("no fans")
                return weight[0].numel(), weight.transpose(0, 1)[0].numel()
    """),
)


@fan_in_and_fan_out.test(
    points=0.75,
    cases=[
        Case(
            "a linear layer",
            fans,
            lambda make: {"weight": make.normal(7, 4), "one_output": make.normal(1, 6)},
        ),
        Case(
            "convolutions over images",
            fans,
            lambda make: {"oblong": make.normal(6, 5, 3, 2), "square": make.normal(2, 8, 3, 3)},
        ),
        Case(
            "convolutions over sequences and volumes",
            fans,
            lambda make: {"sequence": make.normal(7, 4, 5), "volume": make.normal(3, 2, 4, 2, 5)},
        ),
    ],
)
def test_fans_are_counted(submission, case):
    """Counts the connections of one unit"""
    submission.matches_reference(case)


@fan_in_and_fan_out.test(
    points=0.1,
    cases=[Case("a convolution", fans, lambda make: {"weight": make.normal(6, 5, 3, 2)})],
)
def test_fans_follow_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


@fan_in_and_fan_out.test(
    points=0.15,
    cases=[
        Case(
            "fewer than two dimensions",
            fans_of_vectors,
            lambda make: {"bias": make.normal(5), "scalar": make.normal(1).sum()},
        )
    ],
)
def test_fans_refuse_vectors(submission, case):
    """Refuses what has no fans"""
    submission.matches_reference(case)


# ---------------------------------------------------------------- activation_gain

ACTIVATIONS = {
    "identity": lambda z: 1.0 * z,
    "ReLU": lambda z: z.relu(),
    "leaky ReLU": lambda z: torch.where(z > 0, z, 0.3 * z),
    "tanh": lambda z: z.tanh(),
    "sigmoid": lambda z: z.sigmoid(),
    "SiLU": lambda z: z * z.sigmoid(),
    "negative": lambda z: -2 - z.abs(),
}


def gains(impl, z, names):
    return {f"gain of {name}": impl(ACTIVATIONS[name], z) for name in names}


def gains_twice(impl, z, names):
    return {"first": gains(impl, z, names), "second": gains(impl, z, names)}


def facts_of_two(outcome, _inputs):
    first, second = outcome["first"], outcome["second"]
    same = all(
        type(a) is type(b) and (torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b)
        for a, b in zip(first.values(), second.values(), strict=True)
    )
    return {"two calls with the same draws agree": same} | (first if same else {})


def gains_of(*shape, names):
    return lambda make: {"z": make.normal(*shape), "names": names}


GAIN = "return activation(z).square().mean().rsqrt()"
SECOND = "What the next layer adds up are products with φ(z), and so φ(z)'s mean square counts"

activation_gain = Exercise(
    "activation_gain",
    oracle=gain_by_vector_norm,
    forbids=NO_INIT,
    mistakes=edits_of(
        GAIN,
        (
            "variance for the mean square",
            "return activation(z).var(correction=0).rsqrt()",
            f"{SECOND}, not its distance from the mean: ReLU's mean is not 0.",
        ),
        (
            "standard deviation by n - 1",
            "return 1 / activation(z).std()",
            f"{SECOND}, not its distance from the mean: ReLU's mean is not 0.",
        ),
        (
            "root left out",
            "return 1 / activation(z).square().mean()",
            "A factor on the values enters the mean square squared: take the root.",
        ),
        (
            "upside down",
            "return activation(z).square().mean().sqrt()",
            "That is the size of φ's values. The gain makes up for it.",
        ),
        (
            "mean square",
            "return activation(z).square().mean()",
            "That is φ's mean square itself. The gain makes up for it, and for its root.",
        ),
        (
            "draws overwritten",
            "return z.copy_(activation(z)).square().mean().rsqrt()",
            "You write φ's values into the caller's draws: keep them in a tensor of their own.",
        ),
        (
            "silent draws left out",
            "phi = activation(z)\n    return phi[phi != 0].square().mean().rsqrt()",
            "The draws at which the activation is 0 count as well: it is the mean over all draws.",
        ),
        (
            "mean absolute value",
            "return 1 / activation(z).abs().mean()",
            "The size is measured by squares, not by absolute values.",
        ),
        (
            "mean before the square",
            "return 1 / activation(z).mean().abs()",
            "The square comes first, the mean after it: positive and negative values must not "
            "cancel.",
        ),
        (
            "summed",
            "return activation(z).square().sum().rsqrt()",
            "The mean is taken, so that more draws give a better figure and not another one.",
        ),
        (
            "activation left out",
            "return z.square().mean().rsqrt()",
            "The activation has to be applied to the draws.",
        ),
        (
            "activation of the square",
            "return activation(z.square()).mean().abs().rsqrt()",
            "The activation comes first, then the square.",
        ),
        (
            "relative to the draws",
            "return (z.square().mean() / activation(z).square().mean()).sqrt()",
            "The target is a mean square of 1, whatever the draws' own happens to be.",
        ),
        (
            "slope at the draws",
            "x = z.clone().requires_grad_()\n"
            "    (slope,) = torch.autograd.grad(activation(x).sum(), x)\n"
            "    return slope.square().mean().rsqrt()",
            "That is the gain for the way back, made of φ's slopes. Here φ's own values count.",
        ),
        (
            "along the first dimension",
            "return activation(z).square().mean(dim=0).rsqrt()",
            "All draws together give a single number.",
        ),
        (
            "a Python number",
            "return activation(z).square().mean().rsqrt().item()",
            "A tensor of shape () is asked for.",
        ),
        (
            "ReLU's gain for all",
            "return activation(z).square().mean().rsqrt() * 0 + math.sqrt(2)",
            "√2 is the gain of ReLU. Other activations have others: measure them.",
        ),
        (
            "fresh draws",
            "return activation(torch.randn_like(z)).square().mean().rsqrt()",
            "The draws are given: use z.",
        ),
    ),
    variants=[
        Variant.edits_of("power and division", [(GAIN, "return (activation(z)**2).mean()**-0.5")]),
        Variant.edits_of(
            "by the norm", [(GAIN, "y = activation(z)\n    return y.numel() ** 0.5 / y.norm()")]
        ),
        Variant.edits_of(
            "a dot product",
            [(GAIN, "y = activation(z).flatten()\n    return (len(y) / torch.dot(y, y)).sqrt()")],
        ),
        Variant.edits_of(
            "mean and variance",
            [(GAIN, "y = activation(z)\n"
                    "    return 1 / (y.var(correction=0) + y.mean() ** 2).sqrt()")],
        ),
    ],
)  # fmt: skip


@activation_gain.test(
    points=0.75,
    cases=[
        Case(
            "activations with a kink",
            gains_twice,
            gains_of(40, names=["identity", "ReLU", "leaky ReLU"]),
            facts_of_two,
        ),
        Case(
            "smooth activations",
            gains_twice,
            gains_of(5, 8, names=["tanh", "sigmoid", "SiLU"]),
            facts_of_two,
        ),
        Case(
            "an activation that is never positive",
            gains_twice,
            gains_of(3, 2, 4, names=["negative"]),
            facts_of_two,
        ),
    ],
)
def test_gain_restores_the_mean_square(submission, case):
    """Restores a mean square of one"""
    submission.matches_reference(case)


@activation_gain.test(points=0.25, cases=[Case("ReLU", gains, gains_of(6, 5, names=["ReLU"]))])
def test_gain_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- the four initialisers


def filled(impl, tensor, seed, **options):
    def seeded(seed, given=True):
        weight = nn.Parameter(tensor.clone())
        if not given:
            return weight, impl(weight, **options)
        generator = torch.Generator(device=weight.device).manual_seed(seed)
        return weight, impl(weight, **options, generator=generator)

    torch.manual_seed(seed)
    weight, result = seeded(seed)
    ambient = torch.rand(4)
    torch.manual_seed(seed)
    untouched = torch.rand(4)
    torch.manual_seed(seed + 1)
    free, once_more = seeded(0, given=False)[0], seeded(0, given=False)[0]
    torch.manual_seed(seed + 1)
    repeated = seeded(0, given=False)[0]
    return {
        "weight": weight.detach(),
        "returns the tensor": result is weight,
        "a plain tensor": impl(tensor.clone(), **options).requires_grad,
        "still a leaf": weight.is_leaf and weight.requires_grad,
        "again": seeded(seed)[0].detach(),
        "with another seed": seeded(seed + 7)[0].detach(),
        "the global generator is left alone": bool((ambient == untouched).all()),
        "without a generator": free.detach(),
        "once more": once_more.detach(),
        "repeated": repeated.detach(),
    }


def steps(ratio, fineness):
    """How many steps of so many a doubling a ratio is above 1; as text."""
    if not ratio > 0 or not math.isfinite(ratio):
        return "none"
    return f"{round(fineness * math.log2(ratio))}/{fineness} doublings"


def facts_about(std_of):
    """Facts about a draw, next to the standard deviation that it should have."""

    def facts(outcome, inputs):
        weight = outcome["weight"].double()
        options = {k: v for k, v in inputs.items() if k not in ("tensor", "seed")}
        std = std_of(inputs["tensor"], **options)
        spread = float(weight.std()) or 1.0
        centred = (weight - weight.mean()) / spread
        kurtosis = float(centred.pow(4).mean())
        form = "flat" if kurtosis < 2.1 else "bell-shaped" if 2.6 < kurtosis < 3.4 else "neither"
        return {
            "the result is the tensor that was passed in": outcome["returns the tensor"],
            "a parameter stays a leaf that requires a gradient": outcome["still a leaf"],
            "a plain tensor comes to require a gradient": outcome["a plain tensor"],
            "the tensor is filled": not weight.equal(inputs["tensor"].double()),
            "spread of the elements, above what it should be": steps(spread / std, 8),
            "mean of the elements, in spreads": f"{round(4 * float(weight.mean()) / spread)}/4",
            "the distribution is": form,
            "the elements are different numbers": bool((weight[0] != weight[1]).any())
            and bool((weight[:, 0] != weight[:, 1]).any()),
            "a generator with the same seed repeats the draw": weight.equal(
                outcome["again"].double()
            ),
            "another seed gives another draw": not weight.equal(
                outcome["with another seed"].double()
            ),
            "with a generator, PyTorch's own is left alone": outcome[
                "the global generator is left alone"
            ],
            "without a generator, each call draws anew": not outcome["without a generator"].equal(
                outcome["once more"]
            ),
            "without a generator, torch.manual_seed repeats the draw": outcome[
                "without a generator"
            ].equal(outcome["repeated"]),
        }

    return facts


def shape_filled(impl, tensor, **options):
    return {"a weight": 0 * impl(tensor.clone(), **options)}


def wrong_modes(impl, tensor):
    return {
        "fan_avg": raised(lambda: impl(tensor.clone(), mode="fan_avg"), ValueError),
        "FAN_IN": raised(lambda: impl(tensor.clone(), mode="FAN_IN"), ValueError),
        "fan_in": raised(lambda: impl(tensor.clone(), mode="fan_in"), ValueError),
    }


FAN = "fan_in, fan_out = fan_in_and_fan_out(tensor)"
UNIFORM = "return tensor.uniform_(-bound, bound, generator=generator)"
NORMAL = "return tensor.normal_(0.0, std, generator=generator)"
ROOT_3 = (
    "A uniform distribution from -b to b has the standard deviation b/√3, not b: from the "
    "variance, work out the bound."
)


def drawing_slips(line):
    """Mistakes of how the numbers are drawn and where they go, alike in all four."""
    name, args = ("uniform_", "-bound, bound") if line == UNIFORM else ("normal_", "0.0, std")
    return [
        *edits_of(
            line,
            (
                "the generator is not used",
                f"return tensor.{name}({args})",
                "The generator that the caller passed has to draw the numbers.",
            ),
            (
                "seeded inside",
                f"torch.manual_seed(0)\n        return tensor.{name}({args}, generator=generator)",
                "Seeding is the caller's business: inside, it makes every layer the same, and "
                "resets all other randomness.",
            ),
            (
                "a generator of its own",
                "generator = generator or torch.Generator(device=tensor.device)\n"
                f"        return tensor.{name}({args}, generator=generator)",
                "A new generator starts from the same seed in each call: without one, draw from "
                "PyTorch's own.",
            ),
            (
                "a new tensor",
                f"return torch.empty_like(tensor).{name}({args}, generator=generator)",
                "The numbers go into the tensor that was passed in: the trailing _ says so.",
            ),
            (
                "a copy returned",
                f"return tensor.{name}({args}, generator=generator).clone()",
                "tensor itself is returned, not a copy of it.",
            ),
            (
                "nothing returned",
                f"tensor.{name}({args}, generator=generator)",
                "The tensor is returned, after it has been filled.",
            ),
            (
                "gradient switched off",
                "tensor.requires_grad_(False)\n"
                f"        return tensor.{name}({args}, generator=generator)",
                "A parameter goes on requiring its gradient, or it would never be trained.",
            ),
            (
                "gradient switched on",
                f"tensor.{name}({args}, generator=generator)\n    return tensor.requires_grad_()",
                "A tensor that requires no gradient goes on requiring none: only its elements "
                "change.",
            ),
            (
                "the same numbers in each row",
                f"return tensor.copy_(torch.empty_like(tensor[0]).{name}({args}, "
                "generator=generator).expand_as(tensor))",
                "Units with the same weights stay the same for ever: each element has a draw of "
                "its own.",
            ),
            (
                "added to what was there",
                f"return tensor.add_(torch.empty_like(tensor).{name}({args}, "
                "generator=generator))",
                "What was in the tensor before has no part in it: it is filled, not added to.",
            ),
            (
                "every element the same",
                f"return tensor.fill_({args.split()[-1]})",
                "The elements are drawn at random: units that start alike stay alike for ever.",
            ),
        ),
        Mistake.edits_of(
            "recorded by autograd",
            [("    with torch.no_grad():\n    ", ""),],
            "Autograd refuses to have a leaf overwritten: switch it off while you fill a "
            "parameter.",
        ),
    ]  # fmt: skip


UNIFORM_SLIPS = [
    *drawing_slips(UNIFORM),
    *slips(
        UNIFORM,
        """
        one side only
            return tensor.uniform_(0.0, bound, generator=generator)
        The distribution lies around 0, half of it on the negative side.

        bell-shaped instead of flat
            return tensor.normal_(0.0, bound / math.sqrt(3), generator=generator)
        The spread is right, but a uniform distribution is asked for.

        normal with the bound as its deviation
            return tensor.normal_(0.0, bound, generator=generator)
        The bound is that of a uniform distribution, which is what is asked for.

        √3 in it twice
            bound = bound * math.sqrt(3)
                    return tensor.uniform_(-bound, bound, generator=generator)
        The numbers spread √3 times too far: between deviation and bound there is one √3, and yours
        has two, or a plain 3.

        interval's width for the bound
            return tensor.uniform_(-2 * bound, 2 * bound, generator=generator)
        The √12 goes with the whole width of the interval; from 0 to either end it is half of that.

        √2 for √3
            bound = bound * math.sqrt(2 / 3)
                    return tensor.uniform_(-bound, bound, generator=generator)
        Between the standard deviation and the bound of a uniform distribution there is a factor of
        √3: the mean square of numbers from -b to b is b²/3.

        interval as wide as the bound
            return tensor.uniform_(-bound / 2, bound / 2, generator=generator)
        The bound is the distance from 0 to either end, not between the ends.

        not centred
            return tensor.uniform_(-bound, bound, generator=generator).add_(bound)
        The distribution lies around 0.
    """,
    ),
]
NORMAL_SLIPS = [
    *drawing_slips(NORMAL),
    *slips(
        NORMAL,
        """
        variance for the deviation
            return tensor.normal_(0.0, std**2, generator=generator)
        The formula gives a variance. What multiplies a standard normal number is its root.

        root taken twice
            return tensor.normal_(0.0, math.sqrt(std), generator=generator)
        The deviation is the root of the variance: it is taken once.

        flat instead of bell-shaped
            return tensor.uniform_(-(3**0.5) * std, 3**0.5 * std, generator=generator)
        The spread is right, but a normal distribution is asked for.

        uniform with the deviation as its bound
            return tensor.uniform_(-std, std, generator=generator)
        A normal distribution is asked for, and std is its deviation.

        not centred
            return tensor.normal_(1.0, std, generator=generator)
        The distribution lies around 0: as much of it below as above.

        truncated at two deviations
            drawn = tensor.normal_(0.0, std, generator=generator)
                    return drawn.clamp_(-2 * std, 2 * std)
        Nothing is cut off: one normal number in twenty lies further away than two deviations.

        the bound's formula for the deviation
            return tensor.normal_(0.0, math.sqrt(3) * std, generator=generator)
        The numbers spread √3 times too far: the 6 belongs to the bound of the uniform
        distribution.

        truncated
            drawn = tensor.normal_(0.0, 1.0, generator=generator)
                    return drawn.clamp_(-1.5, 1.5).mul_(std)
        Nothing is cut off: a normal number may well be two deviations away.

        positive elements only
            return tensor.normal_(0.0, std, generator=generator).abs_()
        The distribution lies around 0, half of it on the negative side.
    """,
    ),
]


def xavier_slips(line, name, number):
    """Slips in Xavier's variance; ``line`` sets bound or std, ``number`` over the sum of fans."""

    def spread(inside, gain="gain * "):
        return f"{name} = {gain}math.sqrt({inside})"

    rows = [
        ("fan_in only", spread(f"{number} / (2 * fan_in)"),
         "Xavier minds both directions: the sum of the two fans stands below the line."),
        ("fan_out only", spread(f"{number} / (2 * fan_out)"),
         "Xavier minds both directions: the sum of the two fans stands below the line."),
        ("mean of the fans", spread(f"{number} / ((fan_in + fan_out) / 2)"),
         "Below the line stands the fans' sum; with their mean, the 2 above it is counted twice."),
        ("product of the fans", spread(f"{number} / (fan_in * fan_out)"),
         "The fans are added up, not multiplied."),
        ("gain left out", spread(f"{number} / (fan_in + fan_out)", ""),
         "The gain multiplies the standard deviation: yours has no effect."),
        ("gain squared", spread(f"{number} / (fan_in + fan_out)", "gain**2 * "),
         "The gain multiplies the standard deviation, not the variance, and so stands outside of "
         "the root as it is."),
        ("gain under the root", spread(f"gain * {number} / (fan_in + fan_out)", ""),
         "The gain is a factor on the standard deviation: outside of the root."),
        ("divided by the gain", spread(f"{number} / (fan_in + fan_out)", "1 / gain * "),
         "The gain makes weights larger, to make up for an activation that shrinks its inputs."),
        ("Kaiming's variance", spread(f"{number} / fan_in"),
         "That is Kaiming's variance. Xavier's has the sum of both fans below the line."),
        ("a fixed number", f"{name} = gain * 0.05",
         "No fixed number suits layers of every width: the fans determine it."),
    ]  # fmt: skip
    return [
        *edits_of(line, *rows),
        Mistake(
            "kernel left out of the fans",
            FAN,
            "fan_out, fan_in = tensor.shape[:2]",
            "In a convolution the kernel's positions count, too: you have a function for that.",
        ),
    ]


def kaiming_slips(line, name, number):
    """Slips in Kaiming's variance."""

    def spread(inside):
        return f"{name} = math.sqrt({inside})"

    rows = [
        ("slope ignored", spread(f"{number} / fan"),
         "a has no effect: a leaky ReLU lets a part of the negative side through, and needs less."),
        ("slope not squared", spread(f"{number} / ((1 + abs(a)) * fan)"),
         "Mean squares are what is kept, and so the slope enters squared."),
        ("slope subtracted", spread(f"{number} / (abs(1 - a**2) * fan)"),
         "The negative side adds its part to the signal: 1 + a², not 1 - a²."),
        ("slope above the line", spread(f"{number} * (1 + a**2) / fan"),
         "The more gets through, the smaller the weights have to be."),
        ("one plus a, squared", spread(f"{number} / ((1 + a) ** 2 * fan)"),
         "Each side of the activation adds a mean square of its own: 1 + a²."),
        ("half of the signal forgotten", spread(f"{number} / 2 / ((1 + a**2) * fan)"),
         "ReLU lets half of the mean square through; the 2 above the line makes up for it."),
        ("both fans together", spread(f"{number} / ((1 + a**2) * (fan_in + fan_out))"),
         "That would be Xavier's compromise; Kaiming has one fan below the line, as mode says."),
        ("mean of the fans", spread(f"{number} / ((1 + a**2) * (fan_in + fan_out) / 2)"),
         "That would be a compromise; Kaiming has one fan below the line, as mode says."),
        ("a fixed number", f"{name} = 0.05",
         "No fixed number suits layers of every width: the fan determines it."),
    ]  # fmt: skip
    chosen = 'fan = fan_in if mode == "fan_in" else fan_out'
    return [
        *edits_of(line, *rows),
        *slips(
            chosen,
            """
            always fan_in
                fan = fan_in
            mode has no effect: fan_out is chosen by it, too.

            always fan_out
                fan = fan_out
            mode has no effect: fan_in is chosen by it, too.

            modes swapped
                fan = fan_out if mode == "fan_in" else fan_in
            It is the other way round: each mode uses the fan that it is named after.
        """,
        ),
        Mistake(
            "kernel left out of the fans",
            FAN,
            "fan_out, fan_in = tensor.shape[:2]",
            "In a convolution the kernel's positions count, too: you have a function for that.",
        ),
        Mistake(
            "fan_avg accepted",
            'if mode not in ("fan_in", "fan_out"):',
            'if mode not in ("fan_in", "fan_out", "fan_avg"):',
            "There are two modes, fan_in and fan_out: every other one raises a ValueError, fan_avg "
            "too.",
        ),
        Mistake(
            "modes in any case",
            'if mode not in ("fan_in", "fan_out"):',
            'mode = mode.lower()\n    if mode not in ("fan_in", "fan_out"):',
            "FAN_IN is neither of the two modes: it raises a ValueError.",
        ),
        Mistake(
            "another error for a mode",
            "raise ValueError(",
            "raise KeyError(",
            "A mode that does not exist raises a ValueError. A look-up in a dict raises a KeyError "
            "unless you see to it.",
        ),
        Mistake(
            "PyTorch's slope for linear layers",
            "a: float = 0.0",
            "a: float = 5**0.5",
            "The stub's signature gives a another default than yours: without it, ReLU is meant.",
        ),
        Mistake(
            "any mode accepted",
            'if mode not in ("fan_in", "fan_out"):',
            "if mode is None:",
            "A mode that is neither fan_in nor fan_out raises a ValueError.",
        ),
    ]


XAVIER_UNIFORM = "bound = gain * math.sqrt(6 / (fan_in + fan_out))"
XAVIER_NORMAL = "std = gain * math.sqrt(2 / (fan_in + fan_out))"
KAIMING_UNIFORM = "bound = math.sqrt(6 / ((1 + a**2) * fan))"
KAIMING_NORMAL = "std = math.sqrt(2 / ((1 + a**2) * fan))"

xavier_uniform_ = Exercise(
    "xavier_uniform_",
    oracle=xavier_uniform_by_rand,
    forbids=NO_INIT,
    mistakes=[
        *xavier_slips(XAVIER_UNIFORM, "bound", "6"),
        *edits_of(
            XAVIER_UNIFORM,
            ("deviation for the bound", "bound = gain * math.sqrt(2 / (fan_in + fan_out))", ROOT_3),
            (
                "variance for the bound",
                "bound = gain * 2 / (fan_in + fan_out)",
                "That is the variance. The bound follows from its root.",
            ),
            (
                "root left out",
                "bound = gain * 6 / (fan_in + fan_out)",
                "A root is missing: the variance goes with the square of the bound.",
            ),
            (
                "three for six",
                "bound = gain * math.sqrt(3 / (fan_in + fan_out))",
                "The variance has a 2 above the line, and the bound's square is three times that.",
            ),
        ),
        *UNIFORM_SLIPS,
    ],
    variants=variants("""
        from numbers between 0 and 1
            def xavier_uniform_(tensor, gain=1.0, generator=None):
                fan_in, fan_out = fan_in_and_fan_out(tensor)
                std = gain * (2 / (fan_in + fan_out)) ** 0.5
                unit = torch.rand(tensor.shape, generator=generator, device=tensor.device)
                with torch.no_grad():
                    tensor.copy_((2 * unit - 1) * 3**0.5 * std)
                return tensor

        through the data
            def xavier_uniform_(tensor, gain=1.0, generator=None):
                bound = gain * math.sqrt(3 * 2 / sum(fan_in_and_fan_out(tensor)))
                tensor.data.uniform_(-bound, bound, generator=generator)
                return tensor

        as a decorator
            @torch.no_grad()
            def xavier_uniform_(tensor, gain=1.0, generator=None):
                outputs, inputs = tensor.shape[0], tensor.shape[1]
                positions = tensor[0, 0].numel()
                limit = (6.0 / (positions * (inputs + outputs))) ** 0.5
                tensor.uniform_(-1, 1, generator=generator)
                tensor.mul_(limit * gain)
                return tensor
    """),
)

xavier_normal_ = Exercise(
    "xavier_normal_",
    oracle=xavier_normal_by_randn,
    forbids=NO_INIT,
    mistakes=[
        *xavier_slips(XAVIER_NORMAL, "std", "2"),
        Mistake(
            "the 2 above the line forgotten",
            XAVIER_NORMAL,
            "std = gain * math.sqrt(1 / (fan_in + fan_out))",
            "The variance is half of what it should be: a 2 stands above the line.",
        ),
        *NORMAL_SLIPS,
    ],
    variants=variants("""
        from standard normal numbers
            def xavier_normal_(tensor, gain=1.0, generator=None):
                fan_in, fan_out = fan_in_and_fan_out(tensor)
                noise = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype,
                                    device=tensor.device)
                with torch.no_grad():
                    tensor[:] = noise * gain * (2 / (fan_in + fan_out)) ** 0.5
                return tensor

        through the data
            def xavier_normal_(tensor, gain=1.0, generator=None):
                mean_fan = sum(fan_in_and_fan_out(tensor)) / 2
                tensor.data.normal_(mean=0, std=gain / math.sqrt(mean_fan), generator=generator)
                return tensor

        torch.normal
            def xavier_normal_(tensor, gain=1.0, generator=None):
                fan_in, fan_out = fan_in_and_fan_out(tensor)
                std = gain * math.sqrt(2.0 / float(fan_in + fan_out))
                drawn = torch.normal(0.0, std, tensor.shape, generator=generator,
                                     device=tensor.device)
                with torch.no_grad():
                    return tensor.copy_(drawn)
    """),
)

kaiming_uniform_ = Exercise(
    "kaiming_uniform_",
    oracle=kaiming_uniform_by_rand,
    forbids=NO_INIT,
    mistakes=[
        *kaiming_slips(KAIMING_UNIFORM, "bound", "6"),
        *edits_of(
            KAIMING_UNIFORM,
            ("deviation for the bound", "bound = math.sqrt(2 / ((1 + a**2) * fan))", ROOT_3),
            (
                "root left out",
                "bound = 6 / ((1 + a**2) * fan)",
                "A root is missing: the variance goes with the square of the bound.",
            ),
        ),
        *UNIFORM_SLIPS,
    ],
    variants=variants("""
        from numbers between 0 and 1
            def kaiming_uniform_(tensor, a=0.0, mode="fan_in", generator=None):
                fans = dict(zip(("fan_in", "fan_out"), fan_in_and_fan_out(tensor)))
                if mode not in fans:
                    raise ValueError(mode)
                gain = math.sqrt(2 / (1 + a * a))
                unit = torch.rand(tensor.size(), generator=generator, device=tensor.device)
                with torch.no_grad():
                    tensor.copy_((unit - 0.5) * 2 * gain * (3 / fans[mode]) ** 0.5)
                return tensor

        branches
            def kaiming_uniform_(tensor, a=0.0, mode="fan_in", generator=None):
                if mode == "fan_in":
                    fan = fan_in_and_fan_out(tensor)[0]
                elif mode == "fan_out":
                    fan = fan_in_and_fan_out(tensor)[1]
                else:
                    raise ValueError(f"no such mode: {mode}")
                variance = 2 / (1 + a**2) / fan
                limit = (3 * variance) ** 0.5
                tensor.detach().uniform_(-limit, limit, generator=generator)
                return tensor

        scaled in place
            @torch.no_grad()
            def kaiming_uniform_(tensor, a=0.0, mode="fan_in", generator=None):
                if mode not in {"fan_in", "fan_out"}:
                    raise ValueError
                fan = fan_in_and_fan_out(tensor)[mode == "fan_out"]
                tensor.uniform_(-1.0, 1.0, generator=generator)
                tensor *= math.sqrt(6 / fan) / math.hypot(1, a)
                return tensor
    """),
)

kaiming_normal_ = Exercise(
    "kaiming_normal_",
    oracle=kaiming_normal_by_randn,
    forbids=NO_INIT,
    mistakes=[*kaiming_slips(KAIMING_NORMAL, "std", "2"), *NORMAL_SLIPS],
    variants=variants("""
        from standard normal numbers
            def kaiming_normal_(tensor, a=0.0, mode="fan_in", generator=None):
                fans = dict(zip(("fan_in", "fan_out"), fan_in_and_fan_out(tensor)))
                if mode not in fans:
                    raise ValueError(mode)
                gain = math.sqrt(2 / (1 + a * a))
                noise = torch.randn(tensor.size(), generator=generator, device=tensor.device)
                with torch.no_grad():
                    tensor.copy_(noise * gain / math.sqrt(fans[mode]))
                return tensor

        branches
            def kaiming_normal_(tensor, a=0.0, mode="fan_in", generator=None):
                if mode == "fan_in":
                    fan = fan_in_and_fan_out(tensor)[0]
                elif mode == "fan_out":
                    fan = fan_in_and_fan_out(tensor)[1]
                else:
                    raise ValueError(f"no such mode: {mode}")
                variance = 2 / (1 + a**2) / fan
                tensor.data.normal_(std=variance**0.5, generator=generator)
                return tensor

        scaled in place
            @torch.no_grad()
            def kaiming_normal_(tensor, a=0.0, mode="fan_in", generator=None):
                if mode not in {"fan_in", "fan_out"}:
                    raise ValueError
                fan = fan_in_and_fan_out(tensor)[mode == "fan_out"]
                tensor.normal_(generator=generator)
                tensor *= math.sqrt(2 / fan) / math.hypot(1, a)
                return tensor
    """),
)


def to_fill(*shape, **options):
    return lambda make: {"tensor": make.normal(*shape), "seed": make.seed(), **options}


def small(*shape, **options):
    return lambda make: {"tensor": make.normal(*shape), **options}


def xavier_cases():
    about = facts_about(xavier_std)
    return [
        Case("a wide linear layer", filled, to_fill(400, 100), observe=about),
        Case("a gain", filled, to_fill(100, 400, gain=1.7), observe=about, dtypes=ONE),
        Case("a convolution", filled, to_fill(50, 30, 3, 7, gain=0.6), observe=about, dtypes=ONE),
    ]


def kaiming_cases():
    def about(outcome, inputs):
        options = {"a": inputs.get("a", 0.0), "mode": inputs.get("mode", "fan_in")}
        return facts_about(lambda tensor, **_: kaiming_std(tensor, **options))(outcome, inputs)

    return [
        Case("a linear layer before ReLU", filled, to_fill(400, 100), observe=about),
        Case("a leaky ReLU", filled, to_fill(110, 300, a=0.45), observe=about, dtypes=ONE),
        Case(
            "a convolution, for the way back",
            filled,
            to_fill(50, 30, 3, 7, a=1.6, mode="fan_out"),
            observe=about,
            dtypes=ONE,
        ),
    ]


@xavier_uniform_.test(points=0.75, cases=xavier_cases())
def test_xavier_uniform_draws(submission, case):
    """Fills the weight from the right distribution"""
    submission.matches_reference(case)


@xavier_uniform_.test(
    points=0.25, cases=[Case("a small layer", shape_filled, small(5, 3, gain=2.0))]
)
def test_xavier_uniform_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


@xavier_normal_.test(points=0.75, cases=xavier_cases())
def test_xavier_normal_draws(submission, case):
    """Fills the weight from the right distribution"""
    submission.matches_reference(case)


@xavier_normal_.test(
    points=0.25, cases=[Case("a small layer", shape_filled, small(5, 3, gain=2.0))]
)
def test_xavier_normal_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


@kaiming_uniform_.test(points=1, cases=kaiming_cases())
def test_kaiming_uniform_draws(submission, case):
    """Fills the weight from the right distribution"""
    submission.matches_reference(case)


@kaiming_uniform_.test(points=0.25, cases=[Case("unknown modes", wrong_modes, small(6, 4))])
def test_kaiming_uniform_refuses(submission, case):
    """Refuses a mode that does not exist"""
    submission.matches_reference(case)


@kaiming_uniform_.test(points=0.25, cases=[Case("a small layer", shape_filled, small(5, 3, a=0.2))])
def test_kaiming_uniform_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


@kaiming_normal_.test(points=1, cases=kaiming_cases())
def test_kaiming_normal_draws(submission, case):
    """Fills the weight from the right distribution"""
    submission.matches_reference(case)


@kaiming_normal_.test(points=0.25, cases=[Case("unknown modes", wrong_modes, small(6, 4))])
def test_kaiming_normal_refuses(submission, case):
    """Refuses a mode that does not exist"""
    submission.matches_reference(case)


@kaiming_normal_.test(points=0.25, cases=[Case("a small layer", shape_filled, small(5, 3, a=0.2))])
def test_kaiming_normal_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- through many layers


def forward_sizes(impl, x, weights, name):
    return {"sizes": impl(x, weights, ACTIVATIONS[name])}


def network_of(make, batch, widths):
    """An input that is not centred, and weights of unlike shapes and sizes."""
    weights = [
        (0.6 + 0.3 * i) * make.normal(out, inputs) / inputs**0.5
        for i, (inputs, out) in enumerate(pairwise(widths))
    ]
    return {"x": make.normal(batch, widths[0], mean=0.7), "weights": weights}


def layers(batch, *widths, name):
    return lambda make: {**network_of(make, batch, widths), "name": name}


STEP = "h = activation(h @ weight.T)  # (batch, n_ℓ)"
FIRST = "h, sizes = x, [x.square().mean().sqrt()]"
SIZE = "sizes.append(h.square().mean().sqrt())"
RESULT = "return torch.stack(sizes)"


def measured(one, name, hint):
    """The same slip in both places where a size is measured."""
    of_x, of_h = one.replace("{}", "x"), one.replace("{}", "h")
    return Mistake.edits_of(
        name,
        [(FIRST, f"h, sizes = x, [{of_x}]"), (SIZE, f"sizes.append({of_h})")],
        hint,
    )


activation_rms = Exercise(
    "activation_rms",
    oracle=sizes_by_norms,
    mistakes=[
        measured("{}.std(correction=0)", "standard deviation",
                 "The mean is not subtracted: after ReLU it is part of the signal that the next "
                 "layer gets."),
        measured("{}.std()", "standard deviation, by n - 1",
                 "The mean is not subtracted, nor is one less divided by: the mean of the squares "
                 "is asked for, then its root."),
        measured("{}.square().mean(dim=1).sqrt().mean()", "example by example",
                 "The mean is over batch and units at once, then comes one root."),
        measured("({}.square().sum() / {}.shape[1]).sqrt()", "averaged over the units alone",
                 "You divide by the number of units alone: the mean goes over the batch, too."),
        measured("{}.square().mean()", "root left out",
                 "That is the mean square: its root is asked for."),
        measured("{}.abs().mean()", "mean absolute value",
                 "A root mean square is made of squares, not of absolute values."),
        measured("{}.norm()", "sum for the mean",
                 "The squares are averaged, not added up: otherwise wide layers look large."),
        measured("{}.mean()", "mean", "That is the mean, in which signs cancel. Square first."),
        measured("{}.square().mean(dim=0).sqrt().mean()", "unit by unit",
                 "The mean is over batch and units at once, then comes one root."),
        measured("{}.square().sum(dim=1).mean().sqrt()", "length of each example",
                 "The mean goes over the units, too: otherwise wide layers look large."),
        *slips(FIRST, """
            input activated
                x = activation(x)
                    h, sizes = x, [x.square().mean().sqrt()]
            The input goes into the first layer as it is: the activation comes after a weight.

            input overwritten
                x.zero_().add_(1)
                    h, sizes = x, [x.square().mean().sqrt()]
            You write into the caller's x: work on tensors of your own.

            last weight first
                h, sizes = x, [x.square().mean().sqrt()]
                    weights = weights[::-1]
            The weights stand in the order of the layers: the first one meets the input.
        """),
        *slips(STEP, """
            every layer from the input, whatever fits
                h = activation(x @ weight.T)
            Each layer gets what the layer before it has given, not the input.

            not transposed
                h = activation(h @ weight)
            The weights are stored as (outputs, inputs), as nn.Linear has them.

            activation left out
                h = h @ weight.T
            Each layer applies the activation after its weight.

            activation before the weight
                h = activation(h) @ weight.T
            A layer multiplies by its weight first, then applies the activation.

            first weight only
                h = activation(h @ weights[0].T) if len(sizes) == 1 else h
            Every layer has a weight of its own.

            every layer from the input
                h = activation((x if x.shape[1] == weight.shape[1] else h) @ weight.T)
            Each layer gets what the layer before it has given.

            not transposed where it fits
                h = activation(h @ (weight if weight.shape[0] == h.shape[1] else weight.T))
            The weights are stored as (outputs, inputs), also where they are square.

            size before the activation
                z = h @ weight.T
                        sizes.append(z.square().mean().sqrt())
                        h = activation(z)
                        continue
            It is the layer's output that is measured, after the activation.

            last layer linear
                h = h @ weight.T
                        h = activation(h) if weight is not weights[-1] else h
            Here the last layer applies the activation, too.

            normalised on the way
                h = activation(h @ weight.T)
                        h = h / h.square().mean().sqrt().clamp(min=1.0)
            The signal is watched, not rescaled on the way.
        """),
        *slips(RESULT, """
            input left out
                return torch.stack(sizes[1:])
            The input's size comes first: one entry more than there are layers.

            last layer left out
                return torch.stack(sizes[:-1])
            The size of the last layer's output is the last entry.

            last layer first
                return torch.stack(sizes[::-1])
            The sizes go from the input to the last layer.

            relative to the input
                return torch.stack(sizes) / sizes[0]
            The sizes themselves are asked for, not their ratio to the input's.

            a list of numbers
                return [float(size) for size in sizes]
            One tensor of shape (layers + 1,) is asked for.

            logarithms
                return torch.stack(sizes).log()
            The sizes themselves are asked for; a plot may have a logarithmic axis.
        """),
    ],
    variants=variants("""
        norms over the root of the count
            def activation_rms(x, weights, activation):
                outputs = [x]
                for weight in weights:
                    outputs.append(activation(torch.nn.functional.linear(outputs[-1], weight)))
                return torch.stack([h.norm() / math.sqrt(h.numel()) for h in outputs])

        filled into a tensor
            def activation_rms(x, weights, activation):
                sizes = x.new_empty(len(weights) + 1)
                sizes[0] = (x**2).mean() ** 0.5
                for i, weight in enumerate(weights, start=1):
                    x = activation(torch.einsum("bi,oi->bo", x, weight))
                    sizes[i] = torch.sqrt(torch.mean(x * x))
                return sizes

        transposed throughout
            def activation_rms(x, weights, activation):
                def rms(h):
                    return (h.var(correction=0) + h.mean() ** 2).sqrt()
                columns = x.T
                found = [rms(columns)]
                for weight in weights:
                    columns = activation(weight @ columns)
                    found.append(rms(columns))
                return torch.stack(found)
    """),
)  # fmt: skip


@activation_rms.test(
    points=0.75,
    cases=[
        Case("layers of unlike widths", forward_sizes, layers(6, 5, 9, 3, 7, name="ReLU")),
        Case("square layers", forward_sizes, layers(4, 6, 6, 6, 6, name="tanh")),
        Case("an activation far from zero", forward_sizes, layers(5, 4, 8, 3, name="negative")),
        Case("thirty layers", forward_sizes, layers(3, *[8] * 31, name="leaky ReLU")),
        Case("no layer at all", forward_sizes, layers(5, 4, name="ReLU")),
    ],
)
def test_activation_rms_follows_the_signal(submission, case):
    """Follows the size of the activations"""
    submission.matches_reference(case)


@activation_rms.test(
    points=0.25, cases=[Case("three layers", forward_sizes, layers(6, 5, 9, 3, 7, name="tanh"))]
)
def test_activation_rms_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


def backward_sizes(impl, x, weights, grad_output, name, trained=False):
    x, weights = x.clone(), [nn.Parameter(w.clone()) if trained else w.clone() for w in weights]
    sizes = impl(x, weights, ACTIVATIONS[name], grad_output)
    return {
        "sizes": sizes.detach(),
        "a graph is attached": sizes.requires_grad,
        "x has come to require a gradient": x.requires_grad,
        "a .grad is filled": any(t.grad is not None for t in [x, *weights]),
        "weights require a gradient as before": all(w.requires_grad == trained for w in weights),
    }


def backward_beside_training(impl, x, weights, grad_output, name):
    weights = [nn.Parameter(w.clone()) for w in weights]
    for w in weights:
        w.grad = w.detach().clone()
    sizes = impl(x, weights, ACTIVATIONS[name], grad_output)
    kept = all(w.grad is not None and bool((w.grad == w).all()) for w in weights)
    return {"sizes": sizes.detach(), "gradients that were there are left alone": kept}


def back(batch, *widths, name, **options):
    def draw(make):
        grad_output = make.normal(batch, widths[-1], mean=-0.4)
        return {**network_of(make, batch, widths), "grad_output": grad_output, "name": name,
                **options}  # fmt: skip

    return draw


START = "h = x.detach().requires_grad_()"
GRADS = "grads = torch.autograd.grad(h, outputs, grad_output)"
GRAD_SIZES = "return torch.stack([grad.square().mean().sqrt() for grad in grads])"


def grad_measured(one, name, hint):
    return Mistake(name, GRAD_SIZES, f"return torch.stack([{one} for grad in grads])", hint)


gradient_rms = Exercise(
    "gradient_rms",
    oracle=gradients_by_vjp,
    mistakes=[
        grad_measured("grad.std(correction=0)", "standard deviation",
                      "The mean is not subtracted: a root mean square is asked for."),
        grad_measured("grad.std()", "standard deviation, by n - 1",
                      "The mean is not subtracted, nor is one less divided by: a root mean square "
                      "is asked for."),
        grad_measured("grad.square().mean(dim=1).sqrt().mean()", "example by example",
                      "The mean is over batch and units at once, then comes one root."),
        grad_measured("grad.square().mean()", "root left out",
                      "That is the mean square: its root is asked for."),
        grad_measured("grad.abs().mean()", "mean absolute value",
                      "A root mean square is made of squares, not of absolute values."),
        grad_measured("grad.norm()", "sum for the mean",
                      "The squares are averaged, not added up: otherwise wide layers look large."),
        grad_measured("grad.mean()", "mean",
                      "That is the mean, in which signs cancel. Square first."),
        grad_measured("grad.square().sum(dim=1).mean().sqrt()", "length of each example",
                      "The mean goes over the units, too: otherwise wide layers look large."),
        *slips(GRADS, """
            grad_output ignored
                grads = torch.autograd.grad(h.sum(), outputs)
            The gradient at the output is given: what comes back depends on it.

            loss of squares
                grads = torch.autograd.grad((h * h.detach() * grad_output).sum(), outputs)
            grad_output is the loss's gradient at the last output: nothing else multiplies it.

            a mean for the loss
                grads = torch.autograd.grad((h * grad_output).mean(), outputs)
            A sum over batch and units gives the loss whose gradient is grad_output; a mean makes
            everything smaller.

            the slopes of ReLU
                grads = [grad_output]
                    for weight, output in zip(weights[::-1], outputs[::-1]):
                        grads.insert(0, (grads[0] * (output > 0)) @ weight.detach())
            You let the gradient through where an output is positive, which is ReLU's slope. The
            activation is whatever the caller passes: autograd knows its slope.

            gradients of the weights wiped out
                grads = torch.autograd.grad(h, outputs, grad_output)
                    for weight in weights:
                        weight.grad = None
            The .grad of the caller's weights is gone: nothing of theirs may change.

            weights frozen
                grads = torch.autograd.grad(h, outputs, grad_output)
                    for weight in weights:
                        weight.requires_grad_(False)
            The caller's weights no longer require a gradient: nothing of theirs may change. Use
            detached ones.

            averaged over the batch
                grads = torch.autograd.grad(h, outputs, grad_output / len(x))
            The loss is whatever gave grad_output: no further mean over the batch is taken.

            outputs for gradients
                grads = outputs
            Those are the activations. Their gradients are asked for.

            gradients of the weights
                ws = list(weights)
                    h = x
                    ws = [w.detach().requires_grad_() for w in ws]
                    for w in ws:
                        h = activation(h @ w.T)
                    grads = [*torch.autograd.grad(h, ws, grad_output), grad_output]
            The gradients with respect to the layers' outputs are asked for, not those of the
            weights.
        """),
        *slips(STEP, """
            before the activation
                z = h @ weight.T
                        outputs[-1:] = [outputs[-1]] if len(outputs) == 1 else outputs[-1:]
                        h = activation(z)
                        outputs.append(z)
                        continue
            The gradient is taken with respect to what the activation gives, not what it gets.

            cut in two
                h = activation(h.detach().requires_grad_() @ weight.T)
            Something detaches a layer from the one before it: the gradient does not get through.

            not transposed where it fits
                h = activation(h @ (weight if weight.shape[0] == h.shape[1] else weight.T))
            The weights are stored as (outputs, inputs), also where they are square.

            last layer linear
                h = h @ weight.T
                        h = activation(h) if weight is not weights[-1] else h
            Here the last layer applies the activation, too.
        """),
        *slips(GRAD_SIZES, """
            last layer first
                return torch.stack([g.square().mean().sqrt() for g in reversed(grads)])
            The sizes go from the input to the last layer, although the gradient goes the other
            way.

            input left out
                return torch.stack([g.square().mean().sqrt() for g in grads[1:]])
            The gradient with respect to the input comes first.

            last output left out
                return torch.stack([g.square().mean().sqrt() for g in grads[:-1]])
            The last entry is the size of grad_output itself.

            relative to the output
                sizes = torch.stack([g.square().mean().sqrt() for g in grads])
                    return sizes / sizes[-1]
            The sizes themselves are asked for, not their ratio to the last one's.

            a list of numbers
                return [float(g.square().mean().sqrt()) for g in grads]
            One tensor of shape (layers + 1,) is asked for.
        """),
        Mistake("x made to require a gradient", START, "h = x.requires_grad_()",
                "The caller's x has come to require a gradient: work on a detached one."),
        Mistake.edits_of("gradients accumulated", [
            (GRADS, "for out in outputs:\n        out.retain_grad()\n    h.backward(grad_output)\n"
                    "    grads = [out.grad for out in outputs]"),
        ], "backward() fills .grad of every weight that requires a gradient, which is the "
           "caller's: ask for the gradients that you want alone."),
        Mistake("graph kept", "h, outputs, grad_output)",
                "h, outputs, 1.0 * grad_output.clone().requires_grad_(), create_graph=True)",
                "The result carries a graph: nothing is going to be differentiated twice."),
        Mistake.written("slopes left out", """
            def gradient_rms(x, weights, activation, grad_output):
                g, sizes = grad_output, [grad_output.square().mean().sqrt()]
                for weight in reversed(weights):
                    g = g @ weight.detach()
                    sizes.append(g.square().mean().sqrt())
                return torch.stack(sizes[::-1])
            """, "On its way back the gradient meets the activation's slope in every layer."),
    ],
    variants=variants("""
        the rest of the network anew from each layer
            def gradient_rms(x, weights, activation, grad_output):
                def rest(h, i):
                    for w in weights[i:]:
                        h = activation(h @ w.detach().mT)
                    return h
                result = []
                h = x.detach()
                for i in range(len(weights) + 1):
                    leaf = h.detach().requires_grad_()
                    loss = (rest(leaf, i) * grad_output.detach()).sum()
                    (g,) = torch.autograd.grad(loss, leaf)
                    result.append((g**2).mean().sqrt())
                    if i < len(weights):
                        with torch.no_grad():
                            h = activation(h @ weights[i].T)
                return torch.stack(result)

        by hand, with the activation's slope from autograd
            def gradient_rms(x, weights, activation, grad_output):
                slopes, h = [], x
                for weight in weights:
                    z = (h @ weight.T).detach().requires_grad_()
                    h = activation(z)
                    slopes.append(torch.autograd.grad(h.sum(), z)[0])
                    h = h.detach()
                g, grads = grad_output, [grad_output]
                for weight, slope in zip(reversed(weights), reversed(slopes)):
                    g = (g * slope) @ weight.detach()
                    grads.insert(0, g)
                return torch.stack([g.pow(2).mean().sqrt() for g in grads])

        backward on detached copies
            def gradient_rms(x, weights, activation, grad_output):
                outputs = [x.clone().requires_grad_(True)]
                for w in weights:
                    outputs.append(activation(outputs[-1] @ w.detach().T))
                for out in outputs:
                    out.retain_grad()
                outputs[-1].backward(gradient=grad_output)
                return torch.stack([(o.grad ** 2).mean() ** 0.5 for o in outputs])

        a product and a sum for the loss
            def gradient_rms(x, weights, activation, grad_output):
                with torch.enable_grad():
                    h = x.detach().clone()
                    h.requires_grad_()
                    layers = [h]
                    for w in weights:
                        layers.append(activation(torch.einsum("bi,oi->bo", layers[-1], w)))
                    loss = (layers[-1] * grad_output).sum()
                found = torch.autograd.grad(loss, layers)
                return torch.tensor([g.norm() / g.numel() ** 0.5 for g in found],
                                    dtype=x.dtype, device=x.device)
    """),
)  # fmt: skip


@gradient_rms.test(
    points=1.25,
    cases=[
        Case("layers of unlike widths", backward_sizes, back(6, 5, 9, 3, 7, name="SiLU")),
        Case("square layers", backward_sizes, back(4, 6, 6, 6, 6, name="tanh")),
        Case(
            "weights that require a gradient",
            backward_sizes,
            back(5, 4, 8, 3, name="negative", trained=True),
        ),
        Case("thirty layers", backward_sizes, back(3, *[8] * 31, name="leaky ReLU")),
        Case(
            "weights that have gradients already",
            backward_beside_training,
            back(4, 5, 3, 6, name="SiLU"),
        ),
    ],
)
def test_gradient_rms_follows_the_gradient(submission, case):
    """Follows the size of the gradient, and leaves everything as it was"""
    submission.matches_reference(case)


@gradient_rms.test(
    points=0.25, cases=[Case("three layers", backward_sizes, back(6, 5, 9, 3, 7, name="tanh"))]
)
def test_gradient_rms_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)
