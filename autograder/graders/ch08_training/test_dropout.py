"""Dropout. Srivastava et al. (2014), https://jmlr.org/papers/v15/srivastava14a.html.

Masks are random, so they are judged by facts that hold for every draw: what share was dropped,
by what factor the rest was scaled, whether masks repeat. Facts are rounded far beyond the
noise of the draws, so that a right answer always has the same ones, and so has each mistake.
The ensemble's average and the Monte Carlo mean over a scripted model are not random.
"""

import inspect
from itertools import pairwise

import torch
from torch import Tensor, nn

from autograder.spec import (
    Case,
    Exercise,
    Mistake,
    Variant,
    gradients,
    load_parameters,
    raised,
)

DROPOUT_BY_TORCH = [
    *(f"torch.nn.{name}" for name in ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d")),
    *("torch.nn.AlphaDropout", "torch.nn.FeatureAlphaDropout", "torch.nn.modules.dropout"),
    *(f"torch.nn.functional.{name}" for name in ("dropout", "dropout1d", "dropout2d", "dropout3d")),
    *("torch.nn.functional.alpha_dropout", "torch.nn.functional.feature_alpha_dropout"),
    *("torch.dropout", "torch.dropout_", "torch.native_dropout", "torch._fused_dropout"),
    *("torch.alpha_dropout", "torch.alpha_dropout_", "torch.feature_dropout"),
    *("torch.feature_dropout_", "torch.feature_alpha_dropout", "torch.feature_alpha_dropout_"),
    *("torch.ops.aten.dropout", "torch.ops.aten.native_dropout", "torch.ops.aten._fused_dropout"),
    *("torch.ops.aten.native_dropout_backward", "torch.ops.aten.alpha_dropout"),
]
AUTOGRAD = ["torch.autograd.grad", "torch.autograd.backward", "torch.Tensor.backward", "torch.func"]


# Oracles: written by other means, and without PyTorch's dropout, which students may not call.


def forward_by_bernoulli(x, p, training, generator=None):
    if not 0 <= p <= 1:
        raise ValueError("p outside [0, 1]")
    chance = torch.full_like(x, 1 - p if training else 1.0)
    mask = torch.bernoulli(chance.detach(), generator=generator).bool()
    return torch.where(mask, x / chance.clamp(min=1e-9), torch.zeros_like(x)), mask


def backward_by_autograd(grad_output, mask, p, training):
    x = torch.ones_like(grad_output).requires_grad_()
    keep = mask if training else torch.ones_like(mask)
    chance = 1 - p if training and p < 1 else 1.0
    output = torch.where(keep, x / chance, x - x)
    return torch.autograd.grad(output, x, grad_output)[0]


class Dropout(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        if p < 0 or p > 1:
            raise ValueError("p outside [0, 1]")
        self.p = p

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        keep = torch.bernoulli(torch.full_like(x, 1 - self.p)).detach()
        return x * keep / max(1 - self.p, 1e-9)


class ClassifierOfLayers(nn.Module):
    def __init__(self, in_features, hidden, classes, p=0.5):
        super().__init__()
        sizes = [in_features, *hidden, classes]
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.dropout = Dropout(p)

    def forward(self, x):
        for linear in self.linears[:-1]:
            x = self.dropout(linear(x).clamp(min=0))
        return self.linears[-1](x)


class RegressorOfLayers(nn.Module):
    def __init__(self, in_features, hidden, p=0.1):
        super().__init__()
        sizes = [in_features, *hidden, 1]
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.dropout = Dropout(p)

    def forward(self, x):
        for linear in self.linears[:-1]:
            z = linear(x)
            x = self.dropout(z / (1 + torch.exp(-z)))
        return self.linears[-1](x)[:, 0]


def mean_by_recursion(head, h, p):
    def expect(done, rest):  # split on one unit after the other: dropped, or kept
        if rest.shape[1] == 0:
            return head(done)
        unit, rest = rest[:, :1], rest[:, 1:]
        dropped = expect(torch.cat([done, unit - unit], dim=1), rest)
        if p == 1:
            return dropped
        return p * dropped + (1 - p) * expect(torch.cat([done, unit / (1 - p)], dim=1), rest)

    return expect(h[:, :0], h)


def predict_by_running_sums(model, x, samples):
    was = {name: module.training for name, module in model.named_modules()}
    model.eval()
    for module in model.modules():
        if isinstance(module, Dropout):
            module.train()
    mean = squares = None
    for n in range(1, samples + 1):  # Welford (1962)
        y = model(x).detach()
        before = y if mean is None else mean
        mean = before + (y - before) / n
        step = (y - before) * (y - mean)
        squares = step if squares is None else squares + step
    for name, module in model.named_modules():
        module.training = was[name]
    return mean, (squares / samples).sqrt()


# What dropout did to a tensor, told in facts that are the same for every draw.


def coarse(value, step):
    """The nearest multiple of ``step``, as text; NaN as -1."""
    value = float(torch.as_tensor(value, dtype=torch.float64).nan_to_num(nan=-1.0))
    return f"{round(value / step) * step:.4g}"


def thinning(output, x, p):
    """Facts on ``output``, of tens of thousands of values, as ``x`` after dropout with p."""
    fits = isinstance(output, Tensor) and output.shape == x.shape and output.is_floating_point()
    facts = {"the output is one floating-point tensor of the shape of x": fits}
    if not fits:
        return facts
    facts["the output has the dtype of x"] = output.dtype == x.dtype
    output, x = output.detach().double(), x.detach().double()
    lost = (output == 0)[x != 0]
    ratio = (output / x)[(x != 0) & (output != 0)]
    kept_as = 0.0 if p == 1 else 1 / (1 - p)
    if 0 < p < 1:
        varies = []
        for d in range(x.ndim):
            both = (x != 0).narrow(d, 1, x.shape[d] - 1) & (x != 0).narrow(d, 0, x.shape[d] - 1)
            varies.append(bool((output == 0).diff(dim=d)[both].any()))
            facts[f"values along dimension {d} are dropped on their own"] = varies[d]
        if any(varies) and not all(varies):
            return facts
    return facts | {
        "share of values dropped, about": coarse(lost.double().mean(), 0.1),
        "factor on the kept values, about": coarse(ratio.median() if len(ratio) else 0.0, 0.25),
        "kept values have one factor": bool(((ratio - ratio.mean()).abs() < 1e-3).all()),
        "kept values are scaled by 1/(1-p)": bool(((ratio - kept_as).abs() < 1e-4).all()),
    }


def naming_nan(outcome, _inputs):
    """The outcome itself, with NaN told in so many words."""
    facts = {}
    for key, value in outcome.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            facts[f"{key}: free of NaN"] = not bool(value.isnan().any())
            value = value.nan_to_num(nan=1e9)
        facts[key] = value
    return facts


def with_zeros(make, *shape):
    """Values away from zero, about a quarter of them replaced by zeros."""
    return make.away_from_zero(*shape) * make.boolean(*shape, p=0.75)


# Exercise: dropout_forward


def one_draw(impl, x, p, training):
    output, mask = impl(x, p, training)
    return {"output": output, "mask": mask}


def facts_of_draw(outcome, inputs):
    x, output, mask = inputs["x"], outcome["output"], outcome["mask"]
    p = inputs["p"] if inputs["training"] else 0.0
    facts = thinning(output, x, p)
    whole = isinstance(mask, Tensor) and mask.shape == x.shape
    facts["the mask is a tensor of the shape of x"] = whole
    if not whole or not isinstance(output, Tensor) or output.shape != x.shape:
        return facts
    kept, there = mask != 0, x != 0
    facts["the mask is bool"] = mask.dtype == torch.bool
    facts["the mask is True where a value is kept, False where it is dropped"] = bool(
        (kept == (output != 0))[there].all()
    )
    if "share of values dropped, about" in facts and x.numel() > 1000:
        facts["largest value in the mask, about"] = coarse(mask.max(), 0.25)
        of_zeros = kept[~there].double().mean()
        facts["share of True in the mask where x is zero, about"] = coarse(of_zeros, 0.1)
    return facts


def many_draws(impl, x, p, calls):
    return {"outputs": torch.stack([impl(x, p, True)[0] for _ in range(calls)])}


def facts_of_many(outcome, _inputs):
    kept = outcome["outputs"] != 0  # (calls, n)
    counts = kept.sum(dim=1)
    fresh = bool((kept != kept[0]).any())
    mixed = bool(((counts > 0) & (counts < kept.shape[1])).any())
    return {
        "every call draws a fresh mask": fresh,
        "one call keeps some values and drops others": mixed,
        "how many are dropped differs from call to call": fresh
        and bool((counts != counts[0]).any()),
    }


def seeded_draws(impl, x, p, seed, other):
    def draw(ambient, of_generator):
        torch.manual_seed(ambient)
        if of_generator is None:
            mask = impl(x, p, True)[1]
        else:
            generator = torch.Generator(device=x.device).manual_seed(of_generator)
            first = impl(x, p, True, generator=generator)[1]
            mask = torch.stack([first, impl(x, p, True, generator=generator)[1]])
        return mask, torch.rand(5)

    draws = [draw(seed, None), draw(seed, None), draw(other, None)]
    return {
        "masks": [mask for mask, _ in draws],
        "global generator afterwards": [after for _, after in draws],
        "masks from a generator": [draw(seed, 5)[0], draw(other, 5)[0], draw(seed, 6)[0]],
    }


def facts_of_seeds(outcome, _inputs):
    def same(pair):
        return bool((pair[0] == pair[1]).all())

    a, b, c = outcome["masks"]
    from_5, again_5, from_6 = outcome["masks from a generator"]
    after_a, _, after_c = outcome["global generator afterwards"]
    return {
        "torch.manual_seed before the call repeats the mask": same((a, b)),
        "another torch.manual_seed gives another mask": not same((a, c)),
        "the global generator is not seeded inside": not same((after_a, after_c)),
        "a generator with the same seed repeats the mask": same((from_5, again_5)),
        "a generator with another seed gives another mask": not same((from_5, from_6)),
        "two calls with one generator draw different masks": not same(from_5),
    }


def small_shapes(impl, p, **tensors):
    return {name: list(impl(x, p, True)) for name, x in tensors.items()}


def facts_of_shapes(outcome, inputs):
    facts = {}
    for name, (output, mask) in outcome.items():
        x = inputs[name]
        fits = isinstance(output, Tensor) and isinstance(mask, Tensor)
        fits = fits and output.shape == x.shape == mask.shape and output.dtype == x.dtype
        facts[f"{name}: output and mask have the shape of x, the output its dtype"] = fits
        if fits:
            expected = torch.where(mask != 0, x / (1 - inputs["p"]), torch.zeros_like(x))
            close = torch.isclose(output.to(x), expected, rtol=1e-4).all()
            facts[f"{name}: x/(1-p) where the mask is True, zero elsewhere"] = bool(close)
    return facts


def forward_gradient(impl, x, cotangent, p, training):
    x = x.clone().requires_grad_()
    output, _ = impl(x, p, training)
    return {"output": output.detach(), "gradient": gradients(output, [x], cotangent)[0]}


def facts_of_gradient(outcome, inputs):
    output, gradient = outcome["output"], outcome["gradient"]
    facts = {"the output is differentiable with respect to x": isinstance(gradient, Tensor)}
    if isinstance(gradient, Tensor) and isinstance(output, Tensor):
        expected = inputs["cotangent"] * output / inputs["x"]  # what multiplied x multiplies it
        same = torch.isclose(gradient, expected.to(gradient), rtol=1e-4, atol=1e-6).all()
        facts["the gradient goes through the same mask and factor as x"] = bool(same)
    return facts


def forward_errors(impl, x, low, high):
    return {
        "p below 0, training": raised(lambda: impl(x, low, True), ValueError),
        "p above 1, training": raised(lambda: impl(x, high, True), ValueError),
        "p below 0, evaluation": raised(lambda: impl(x, low, False), ValueError),
        "p above 1, evaluation": raised(lambda: impl(x, high, False), ValueError),
        "p = 0, training": raised(lambda: impl(x, 0, True), ValueError),
        "p = 1, training": raised(lambda: impl(x, 1, True), ValueError),
        "p = 1, evaluation": raised(lambda: impl(x, 1.0, False), ValueError),
    }


def forward_without_chance(impl, x, p, training):
    output, mask = impl(x, p, training)
    return {"output": output, "mask": mask}


RAND = "torch.rand(x.shape, generator=generator, device=x.device)"
SCALE = "0.0 if p == 1 else 1 / (1 - p)"

dropout_forward = Exercise(
    "dropout_forward",
    oracle=forward_by_bernoulli,
    forbids=DROPOUT_BY_TORCH,
    mistakes=[
        Mistake(
            "kept values not scaled",
            "x * mask * scale",
            "x * mask",
            "Without a factor the output's expected value is (1-p)·x: in *inverted* dropout the "
            "kept values make up, in training, for those that are gone.",
        ),
        Mistake(
            "divided by the root of the keep probability",
            SCALE,
            "0.0 if p == 1 else (1 - p) ** -0.5",
            "A root would keep the size of the squares. It is the expected value that should stay "
            "the same, and that takes the plain factor.",
        ),
        Mistake(
            "divided by p",
            SCALE,
            "0.0 if p == 0 else 1 / p",
            "p is the probability of dropping. The share that is left, and has to make up for "
            "the rest, is not p.",
        ),
        Mistake(
            "multiplied by the keep probability in training",
            SCALE,
            "1 - p",
            "Multiplying makes what is left smaller still. Kept values have to grow for the "
            "expected output to be x.",
        ),
        Mistake(
            "p taken as the probability of keeping",
            ">= p",
            "< p",
            "Your mask keeps a share p of the values. In this course, as in PyTorch, p is the "
            "probability of *dropping*.",
        ),
        Mistake.edits_of(
            "p taken as the probability of keeping, in the factor too",
            [(">= p", "< p"), (SCALE, "0.0 if p == 0 else 1 / p")],
            "This is consistent, but with p as the probability of keeping (the paper's and some "
            "courses' convention). Here, as in PyTorch, p is the probability of *dropping*.",
        ),
        Mistake.edits_of(
            "scaled in evaluation instead of in training",
            [("x * mask * scale", "x * mask"), ("return x, torch", "return x * (1 - p), torch")],
            "This is the original dropout, which scales at test time. Inverted dropout does all "
            "its scaling in training, so that evaluation has nothing to do.",
        ),
        Mistake(
            "scaled in evaluation as well",
            "return x, torch",
            "return x * (1 - p), torch",
            "The scaling was done in training already: in evaluation the output is x itself.",
        ),
        Mistake(
            "divided in evaluation as well",
            "return x, torch",
            "return x / max(1 - p, 1e-9), torch",
            "In evaluation nothing is dropped, and so there is nothing to make up for: the "
            "output is x itself.",
        ),
        Mistake(
            "drops in evaluation too",
            "if not training:",
            "if training is None:",
            "`training` has no effect: in evaluation nothing may be dropped.",
        ),
        Mistake(
            "training and evaluation swapped",
            "if not training:",
            "if training:",
            "It is the other way round: values are dropped in training and left alone in "
            "evaluation.",
        ),
        Mistake(
            "mask True where dropped",
            "x * mask * scale, mask",
            "x * mask * scale, ~mask",
            "Your mask marks what was dropped. The docstring's mask is True where a value was "
            "*kept*.",
        ),
        Mistake(
            "scaled mask returned",
            "x * mask * scale, mask",
            "x * mask * scale, mask * scale",
            "The factor belongs to the output only: the mask that you return is bool.",
        ),
        Mistake.edits_of(
            "mask of numbers",
            [
                ("x * mask * scale, mask", "x * mask * scale, mask.to(x.dtype)"),
                ("dtype=torch.bool", "dtype=x.dtype"),
            ],
            "The mask has the right entries as 0 and 1, but it should be a bool tensor.",
        ),
        Mistake(
            "mask read off the output",
            "return x * mask * scale, mask",
            "output = x * mask * scale\n    return output, output != 0",
            "A value of x may be zero and kept all the same: the mask is what was drawn, and "
            "cannot be read off the output.",
        ),
        Mistake(
            "one decision for each row",
            RAND,
            "torch.rand(x.shape[:1] + (1,) * (x.ndim - 1), generator=generator, "
            "device=x.device).expand(x.shape)",
            "Whole rows are dropped together. Every element needs a random number of its own.",
        ),
        Mistake(
            "one mask for the whole batch",
            RAND,
            "torch.rand(x.shape[1:], generator=generator, device=x.device).expand(x.shape)",
            "All examples of the batch share one mask. Every element of every example is "
            "dropped or kept on its own.",
        ),
        Mistake(
            "one decision for each column",
            RAND,
            "torch.rand(x.shape[-1:], generator=generator, device=x.device).expand(x.shape)",
            "Whole columns are dropped together. Every element needs a random number of its own.",
        ),
        Mistake(
            "one coin for everything",
            RAND,
            "torch.rand(1, generator=generator, device=x.device).expand(x.shape)",
            "One random number decides about the whole tensor. Every element needs its own.",
        ),
        Mistake(
            "a fixed number of values dropped",
            f"mask = {RAND} >= p",
            "order = torch.randperm(x.numel(), generator=generator, device=x.device)\n"
            "    mask = (order >= round(p * x.numel())).reshape(x.shape)",
            "You drop exactly the share p each time. Dropout flips a coin for every element on "
            "its own, so how many fall varies from call to call.",
        ),
        Mistake(
            "Gaussian instead of uniform numbers",
            "torch.rand(",
            "torch.randn(",
            "A normal number is below p with another probability than p. Draw from a "
            "distribution for which P(u < p) = p.",
        ),
        Mistake(
            "Gaussian noise instead of a mask",
            "    scale = 0.0",
            "    if p < 1:\n"
            "        noise = torch.randn(x.shape, generator=generator, device=x.device)\n"
            "        return x * (1 + noise * (p / (1 - p)) ** 0.5), torch.ones_like(mask)\n"
            "    scale = 0.0",
            "This multiplies by Gaussian noise, a relative of dropout that drops nothing. Here a "
            "value is either dropped or kept.",
        ),
        Mistake(
            "half of the values dropped whatever p is",
            ">= p",
            ">= 0.5",
            "The share that is dropped does not follow p: is 0.5 written into the code?",
        ),
        Mistake(
            "numbers drawn by NumPy",
            RAND,
            'torch.from_numpy(__import__("numpy").random.rand(*x.shape)).to(x.device)',
            "NumPy's random numbers obey neither the generator nor torch.manual_seed. Draw with "
            "PyTorch.",
        ),
        Mistake(
            "matrices only",
            RAND,
            "torch.rand(x.shape[0], x.shape[1], generator=generator, device=x.device)",
            "The mask has two dimensions whatever x has. x may have any shape: draw the mask in "
            "the shape of x.",
        ),
        Mistake(
            "generator ignored",
            "generator=generator",
            "generator=None",
            "The generator that the caller passed is not used: hand it to the function that "
            "draws the mask.",
        ),
        Mistake(
            "seeded inside",
            "    mask = torch.rand",
            "    torch.manual_seed(0)\n    mask = torch.rand",
            "A seed inside the function draws the same mask in every call, and resets all other "
            "randomness of the caller's program. Seeding is the caller's business.",
        ),
        Mistake(
            "a new generator in every call",
            "    mask = torch.rand",
            "    generator = generator or torch.Generator(device=x.device)\n    mask = torch.rand",
            "A newly made generator always starts from the same seed, so every call draws the "
            "same mask. Without a generator, draw from PyTorch's global one.",
        ),
        Mistake(
            "division by zero at p = 1",
            SCALE,
            "1 / (1 - p)",
            "At p = 1 the factor 1/(1-p) does not exist, but the output does: everything is "
            "dropped.",
        ),
        Mistake.edits_of(
            "division by zero at p = 1, in evaluation too",
            [
                ("    if not training:", "    scale = 1 / (1 - p)\n    if not training:"),
                (f"    scale = {SCALE}\n", ""),
            ],
            "At p = 1 the factor 1/(1-p) does not exist, and in evaluation it is not even needed. "
            "The output is defined in both.",
        ),
        Mistake(
            "NaN at p = 1",
            "x * mask * scale",
            "x * mask / (1 - p)",
            "At p = 1 this is 0/0, which is NaN. Everything is dropped: the output is zero.",
        ),
        Mistake(
            "p = 1 refused",
            "0 <= p <= 1",
            "0 <= p < 1",
            "p = 1 is allowed: everything is dropped.",
        ),
        Mistake(
            "p = 0 refused",
            "0 <= p <= 1",
            "0 < p <= 1",
            "p = 0 is allowed: nothing is dropped.",
        ),
        Mistake(
            "both ends refused",
            "0 <= p <= 1",
            "0 < p < 1",
            "p = 0 and p = 1 are allowed: nothing and everything is dropped.",
        ),
        Mistake(
            "p not checked",
            "if not 0 <= p <= 1:",
            "if p is None:",
            "A p outside [0, 1] is no probability: raise a ValueError.",
        ),
        Mistake.edits_of(
            "an assertion instead of a ValueError",
            [
                ("if not 0 <= p <= 1:\n        raise ValueError(", "assert 0 <= p <= 1, ("),
            ],
            "A p outside [0, 1] should raise a ValueError; an assert raises another error, and "
            "none under python -O.",
        ),
        Mistake.edits_of(
            "mask not returned",
            [
                ("return x * mask * scale, mask", "return x * mask * scale"),
                ("return x, torch.ones_like(x, dtype=torch.bool)", "return x"),
            ],
            "Two tensors are returned, the output and the mask: the backward pass needs the mask.",
        ),
        Mistake.edits_of(
            "p checked in training only",
            [("if not 0 <= p <= 1:", "if training and not 0 <= p <= 1:")],
            "A wrong p should be refused in evaluation too: check it before anything else.",
        ),
        Mistake(
            "x changed in place",
            "return x * mask * scale, mask",
            "x *= mask * scale\n    return x, mask",
            "You write into the caller's tensor. Make a new one: x is still needed by others.",
        ),
        Mistake(
            "cut off from the graph",
            "x * mask * scale",
            "x.detach() * mask * scale",
            "No gradient reaches x: something detaches it from the graph on the way.",
        ),
        Mistake(
            "zeros of another dtype at p = 1",
            "    mask = torch.rand",
            "    if p == 1:\n"
            "        zeros = torch.zeros(x.shape, device=x.device)\n"
            "        return zeros, torch.zeros_like(x, dtype=torch.bool)\n"
            "    mask = torch.rand",
            "At p = 1 the output is made anew, in PyTorch's default dtype: it has the dtype of x.",
        ),
        Mistake(
            "one draw for a whole row",
            RAND,
            "torch.rand(*x.shape[:-1], 1, generator=generator, device=x.device).expand_as(x)",
            "All values along the last dimension share one draw, and are dropped or kept together. "
            "Every element has a draw of its own.",
        ),
        Mistake(
            "a factor of two, whatever p is",
            SCALE,
            "2.0",
            "Your kept values are doubled whatever p is. That is right at p = 0.5 only.",
        ),
        Mistake(
            "the caller's generator seeded again",
            "    mask = torch.rand",
            "    if generator is not None:\n"
            "        generator.manual_seed(generator.initial_seed())\n"
            "    mask = torch.rand",
            "Your function sets the caller's generator back to its seed, so that every call with "
            "it draws the same mask. Only draw from it: seeding is the caller's business.",
        ),
        Mistake(
            "cut off from the graph in evaluation",
            "return x, torch",
            "return x.detach(), torch",
            "In evaluation no gradient reaches x: something detaches it. The identity lets "
            "gradients through, too.",
        ),
        Mistake(
            "scaled by what was in fact kept",
            "x * mask * scale",
            "x * mask / mask.to(x.dtype).mean().clamp(min=1e-9)",
            "You divide by the share that happened to be kept in this draw. The factor follows "
            "from p alone.",
        ),
        Mistake(
            "everything in double precision",
            "x * mask * scale",
            "x * mask.double() * scale",
            "The output should have the dtype of x; yours is float64 whatever x is.",
        ),
        Mistake(
            "mask and output in the wrong order",
            "return x * mask * scale, mask",
            "return mask, x * mask * scale",
            "The output comes first, then the mask.",
        ),
        Mistake(
            "no mask in evaluation",
            "return x, torch.ones_like(x, dtype=torch.bool)",
            "return x, None",
            "In evaluation there is a mask too: True everywhere, since everything is kept.",
        ),
        Mistake(
            "mask False in evaluation",
            "torch.ones_like",
            "torch.zeros_like",
            "In evaluation everything is kept, and True means kept.",
        ),
        Mistake(
            "mask made on the CPU",
            ", device=x.device",
            "",
            "Tensors made without a device land on the CPU: make the mask where x is.",
        ),
    ],
    variants=[
        Variant(
            "from random whole numbers",
            """
            def dropout_forward(x, p, training, generator=None):
                if not 0 <= p <= 1:
                    raise ValueError()
                big = 2**40
                cut = round(p * big) if training else 0
                mask = torch.randint(0, big, x.shape, generator=generator, device=x.device) >= cut
                factor = 0.0 if p == 1 and training else (1 / (1 - p) if training else 1.0)
                return mask * x * factor, mask
            """,
        ),
        Variant.edits_of("strictly greater", [(">= p", "> p")]),
        Variant(
            "bernoulli_ on an empty tensor, where",
            """
            def dropout_forward(x, p, training, generator=None):
                if p < 0.0 or p > 1.0:
                    raise ValueError("p")
                if training and p > 0:
                    mask = torch.empty_like(x).bernoulli_(1 - p, generator=generator).bool()
                    if p == 1:
                        return torch.zeros_like(x), mask
                    return torch.where(mask, x / (1 - p), 0.0), mask
                return x.clone(), torch.ones(x.shape, dtype=torch.bool, device=x.device)
            """,
        ),
        Variant(
            "drop mask, masked_fill, a list",
            """
            def dropout_forward(x, p, training, generator=None):
                if not (p >= 0 and p <= 1):
                    raise ValueError(f"p = {p}")
                dropped = torch.zeros_like(x, dtype=torch.bool)
                if training:
                    dropped = x.new_empty(x.size()).uniform_(generator=generator) < p
                    if p < 1:
                        x = x / (1.0 - p)
                return [x.masked_fill(dropped, 0), ~dropped]
            """,
        ),
        Variant(
            "rand_like where there is no generator, output indexed",
            """
            def dropout_forward(x, p, training, generator=None):
                if p < 0 or p > 1:
                    raise ValueError
                keep = 1 - p
                if not training:
                    return x, torch.full_like(x, True, dtype=torch.bool)
                if generator is None:
                    mask = torch.rand_like(x) < keep
                else:
                    mask = torch.rand(*x.shape, dtype=x.dtype, device=x.device,
                                      generator=generator) < keep
                out = x.clone()
                out[~mask] = 0
                if keep > 0:
                    out = out.div(keep)
                return out, mask
            """,
        ),
        Variant(
            "torch.bernoulli of a tensor of probabilities, scaled mask inside",
            """
            def dropout_forward(x, p, training, generator=None):
                if not 0.0 <= p <= 1.0:
                    raise ValueError("p must be between 0 and 1")
                q = 1.0 - p if training else 1.0
                noise = torch.bernoulli(torch.full(x.shape, q, dtype=x.dtype, device=x.device),
                                        generator=generator)
                factor = noise / q if q > 0 else noise
                return x * factor, noise > 0
            """,
        ),
    ],
)


def drawn(*shape, p, training=True, zeros=True):
    def inputs(make):
        x = with_zeros(make, *shape) if zeros else make.away_from_zero(*shape)
        return dict(x=x, p=p, training=training)

    return inputs


def turned(make):
    return dict(x=with_zeros(make, 31, 19, 51).permute(2, 0, 1), p=0.2, training=True)


@dropout_forward.test(
    points=2,
    cases=[
        Case("few are dropped", one_draw, drawn(51, 31, 19, p=0.2), facts_of_draw),
        Case("most are dropped", one_draw, drawn(121, 251, p=0.6), facts_of_draw),
        Case("an input that is not contiguous", one_draw, turned, facts_of_draw),
        Case(
            "inputs of several shapes",
            small_shapes,
            lambda make: dict(
                p=0.3,
                vector=make.away_from_zero(7),
                image=make.away_from_zero(2, 3, 4, 7),
                empty=make.away_from_zero(0, 6),
            ),
            facts_of_shapes,
        ),
    ],
)
def test_drops_and_scales(submission, case):
    """Drops each element with probability p and scales what is left"""
    submission.matches_reference(case)


@dropout_forward.test(
    points=1,
    cases=[
        Case(
            "many calls on few values",
            many_draws,
            lambda make: dict(x=make.away_from_zero(10), p=0.3, calls=300),
            facts_of_many,
        ),
        Case(
            "seeds and generators",
            seeded_draws,
            lambda make: dict(
                x=make.away_from_zero(40, 30), p=0.4, seed=make.seed(), other=make.seed() + 2**32
            ),
            facts_of_seeds,
        ),
    ],
)
def test_draws_a_fresh_mask(submission, case):
    """Draws a fresh mask at every call, from the generator that it should"""
    submission.matches_reference(case)


@dropout_forward.test(
    points=1,
    cases=[
        Case("evaluation", one_draw, drawn(60, 40, p=0.4, training=False), facts_of_draw),
        Case("evaluation, p = 1", one_draw, drawn(8, 5, p=1.0, training=False), facts_of_draw),
        Case("p = 0", one_draw, drawn(60, 40, p=0, zeros=False), facts_of_draw),
        Case("p = 1", one_draw, drawn(60, 40, p=1, zeros=False), facts_of_draw),
    ],
)
def test_where_there_is_no_chance(submission, case):
    """Is the identity in evaluation, and is defined at p = 0 and p = 1"""
    submission.matches_reference(case)


def with_cotangent(*shape, p, training):
    return lambda make: dict(
        x=make.away_from_zero(*shape), cotangent=make.normal(*shape), p=p, training=training
    )


@dropout_forward.test(
    points=0.5,
    cases=[
        Case(
            "in training",
            forward_gradient,
            with_cotangent(30, 20, p=0.3, training=True),
            facts_of_gradient,
        ),
        Case(
            "in evaluation",
            forward_gradient,
            with_cotangent(6, 5, p=0.3, training=False),
            facts_of_gradient,
        ),
    ],
)
def test_is_differentiable(submission, case):
    """Lets gradients through to x"""
    submission.matches_reference(case)


@dropout_forward.test(
    points=0.5,
    cases=[
        Case(
            "p inside and outside [0, 1]",
            forward_errors,
            lambda make: dict(
                x=make.normal(4, 3), low=make.number(-2, -0.01), high=make.number(1.01, 3)
            ),
        )
    ],
)
def test_refuses_what_is_no_probability(submission, case):
    """Raises ValueError for a p outside [0, 1], and for no other"""
    submission.matches_reference(case)


@dropout_forward.test(
    points=0.5,
    cases=[
        Case("p = 0", forward_without_chance, drawn(6, 4, p=0.0, zeros=False), naming_nan),
        Case("p = 1", forward_without_chance, drawn(6, 4, p=1.0, zeros=False), naming_nan),
        Case("evaluation", forward_without_chance, drawn(3, 5, p=1.0, training=False), naming_nan),
        Case("training", one_draw, drawn(60, 40, p=0.4), facts_of_draw),
    ],
)
def test_forward_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# Exercise: dropout_backward


def backward(impl, grad_output, mask, p, training):
    return {"gradient": impl(grad_output, mask, p, training)}


def facts_of_backward(outcome, inputs):
    given, mask, gradient = inputs["grad_output"], inputs["mask"], outcome["gradient"]
    fits = isinstance(gradient, Tensor) and gradient.shape == given.shape
    facts = {"the gradient is a tensor of the shape of grad_output": fits}
    if not fits:
        return facts
    ratio = gradient.double() / given.double()
    factor = ratio - 1 / (1 - inputs["p"])
    return facts | {
        "the gradient has the dtype of grad_output": gradient.dtype == given.dtype,
        "factor where the mask is False, about": coarse(ratio[~mask].median(), 0.05),
        "factor where the mask is True, about": coarse(ratio[mask].median(), 0.05),
        "nothing flows where the mask is False": bool((ratio[~mask] == 0).all()),
        "where the mask is True, grad_output is scaled like x": bool(
            (factor[mask].abs() < 1e-4).all()
        ),
    }


dropout_backward = Exercise(
    "dropout_backward",
    oracle=backward_by_autograd,
    forbids=[*DROPOUT_BY_TORCH, *AUTOGRAD],
    mistakes=[
        Mistake(
            "gradient not scaled",
            "grad_output * mask * scale",
            "grad_output * mask",
            "The forward pass multiplied the kept values by a factor; its derivative has the "
            "same factor.",
        ),
        Mistake(
            "mask forgotten",
            "grad_output * mask * scale",
            "grad_output * scale",
            "A value that was dropped did not influence the output: no gradient reaches it.",
        ),
        Mistake(
            "mask and factor forgotten",
            "return grad_output * mask * scale",
            "return grad_output * (scale > 0)",
            "This is the gradient of the identity. In training the forward pass dropped values "
            "and scaled the others, and both show in the gradient.",
        ),
        Mistake(
            "mask upside down",
            "grad_output * mask",
            "grad_output * ~mask",
            "True in the mask means kept: that is where the gradient flows.",
        ),
        Mistake(
            "gradient passed on whole at p = 1",
            "    scale = 0.0 if p == 1",
            "    if p == 1:\n        return grad_output\n    scale = 0.0 if p == 1",
            "At p = 1 in training everything was dropped, and so no gradient reaches x.",
        ),
        Mistake(
            "filled into a new tensor of another dtype",
            "return grad_output * mask * scale",
            "gradient = torch.zeros(grad_output.shape)\n"
            "    gradient[mask] = grad_output[mask] * scale\n"
            "    return gradient",
            "You fill a tensor that torch.zeros has made: it is float32 on the CPU, whatever "
            "grad_output is. Make it like grad_output.",
        ),
        Mistake(
            "fresh mask",
            "grad_output * mask",
            "grad_output * (torch.rand_like(grad_output) >= p)",
            "The backward pass must use the mask of the forward pass, not draw another one.",
        ),
        Mistake(
            "divided by p",
            SCALE,
            "0.0 if p == 0 else 1 / p",
            "p is the probability of dropping; the factor of the forward pass follows from the "
            "probability of keeping.",
        ),
        Mistake(
            "multiplied by the keep probability",
            SCALE,
            "1 - p",
            "The derivative of c·x is c, not 1/c: the factor is that of the forward pass.",
        ),
        Mistake(
            "multiplied by p",
            SCALE,
            "p",
            "The factor of the forward pass follows from the probability of keeping, and the "
            "gradient has the same one.",
        ),
        Mistake(
            "scaled twice",
            "* mask * scale",
            "* mask * scale * scale",
            "The factor is applied twice, once too often: the mask that you are given is bool "
            "and holds no factor, and the forward pass multiplied once.",
        ),
        Mistake(
            "scaled by what was in fact kept",
            "grad_output * mask * scale",
            "grad_output * mask / mask.to(grad_output.dtype).mean().clamp(min=1e-9)",
            "The factor follows from p, not from the share of this mask that happens to be True.",
        ),
        Mistake(
            "evaluation ignored",
            "if not training:",
            "if training is None:",
            "In evaluation the forward pass was the identity, and so is the backward pass.",
        ),
        Mistake(
            "mask applied in evaluation",
            "return grad_output\n",
            "return grad_output * mask\n",
            "In evaluation nothing was dropped: the mask is not looked at.",
        ),
        Mistake(
            "scaled in evaluation",
            "return grad_output\n",
            "return grad_output * (1 - p)\n",
            "In evaluation nothing is scaled: all the scaling is done in training.",
        ),
        Mistake(
            "divided in evaluation",
            "return grad_output\n",
            "return grad_output / max(1 - p, 1e-9)\n",
            "In evaluation nothing is scaled: all the scaling is done in training.",
        ),
        Mistake(
            "no gradient in evaluation",
            "return grad_output\n",
            "return torch.zeros_like(grad_output)\n",
            "In evaluation the output equals x, so the gradient passes unchanged; it is not zero.",
        ),
        Mistake(
            "training and evaluation swapped",
            "if not training:",
            "if training:",
            "It is the other way round: the mask matters in training only.",
        ),
        Mistake(
            "division by zero at p = 1",
            SCALE,
            "1 / (1 - p)",
            "At p = 1 the factor 1/(1-p) does not exist, but the gradient does: nothing was kept.",
        ),
        Mistake.edits_of(
            "division by zero at p = 1, in evaluation too",
            [
                ("    if not training:", "    scale = 1 / (1 - p)\n    if not training:"),
                (f"    scale = {SCALE}\n", ""),
            ],
            "At p = 1 the factor 1/(1-p) does not exist, and in evaluation it is not even needed. "
            "The gradient is defined in both.",
        ),
        Mistake(
            "gradients of kept values only",
            "grad_output * mask * scale",
            "grad_output[mask] * scale",
            "Indexing with the mask throws the dropped places away. The gradient has the shape of "
            "x, with zeros where values were dropped.",
        ),
        Mistake(
            "NaN at p = 1",
            "grad_output * mask * scale",
            "grad_output * mask / (1 - p)",
            "At p = 1 this is 0/0, which is NaN. Everything was dropped: the gradient is zero.",
        ),
        Mistake(
            "grad_output changed in place",
            "return grad_output * mask * scale",
            "grad_output *= mask * scale\n    return grad_output",
            "You write into the caller's gradient, which others may still need. Make a new one.",
        ),
        Mistake(
            "everything in double precision",
            "grad_output * mask * scale",
            "grad_output * mask.double() * scale",
            "The gradient should have the dtype of grad_output; yours is always float64.",
        ),
        Mistake(
            "everything in single precision",
            "grad_output * mask * scale",
            "(grad_output * mask * scale).float()",
            "The gradient should have the dtype of grad_output; yours is always float32.",
        ),
    ],
    variants=[
        Variant(
            "torch.where",
            """
            def dropout_backward(grad_output, mask, p, training):
                if training and p < 1:
                    return torch.where(mask, grad_output / (1 - p), torch.zeros_like(grad_output))
                return torch.zeros_like(grad_output) if training else grad_output.clone()
            """,
        ),
        Variant(
            "in place on a copy",
            """
            def dropout_backward(grad_output, mask, p, training):
                gradient = grad_output.clone()
                if training:
                    gradient[~mask] = 0
                    if p != 1:
                        gradient /= 1 - p
                return gradient
            """,
        ),
        Variant(
            "masked_fill and a clamped denominator",
            """
            def dropout_backward(grad_output, mask, p, training):
                if not training:
                    return grad_output * 1
                return grad_output.masked_fill(mask.logical_not(), 0.0) / max(1.0 - p, 1e-12)
            """,
        ),
    ],
)


def masked(*shape, p, training=True, share=0.5):
    return lambda make: dict(
        grad_output=make.away_from_zero(*shape),
        mask=make.boolean(*shape, p=share),  # its share of True is not 1-p
        p=p,
        training=training,
    )


@dropout_backward.test(
    points=1,
    cases=[
        Case("few are dropped", backward, masked(50, 30, p=0.2), facts_of_backward),
        Case("most are dropped", backward, masked(8, 20, 5, 6, p=0.6), facts_of_backward),
        Case(
            "a gradient that is not contiguous",
            backward,
            lambda make: dict(
                grad_output=make.away_from_zero(40, 30).mT,
                mask=make.boolean(30, 40),
                p=0.3,
                training=True,
            ),
            facts_of_backward,
        ),
    ],
)
def test_goes_back_through_the_mask(submission, case):
    """Sends the gradient back through the mask and the factor of the forward pass"""
    submission.matches_reference(case)


@dropout_backward.test(
    points=1,
    cases=[
        Case("evaluation", backward, masked(7, 5, 3, p=0.4, training=False)),
        Case("evaluation, p = 1", backward, masked(7, 5, p=1.0, training=False)),
        Case("p = 0", backward, masked(6, 4, p=0, share=1.0)),
        Case("p = 1", backward, masked(6, 4, p=1.0, share=0.0), naming_nan),
    ],
)
def test_backward_where_there_is_no_chance(submission, case):
    """Is the identity in evaluation, and is defined at p = 0 and p = 1"""
    submission.matches_reference(case)


@dropout_backward.test(
    points=0.5,
    cases=[
        Case("training", backward, masked(50, 30, p=0.3), facts_of_backward),
        Case("p = 1", backward, masked(6, 4, p=1.0, share=0.0), naming_nan),
        Case("evaluation", backward, masked(3, 5, p=0.3, training=False)),
    ],
)
def test_backward_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# Exercise: Dropout


def life_of_a_layer(impl, x, p):
    layer = impl(p)
    first, second = layer(x), layer(x)
    layer.eval()
    evaluated = layer(x)
    layer.train()
    return {"first": first, "second": second, "evaluated": evaluated, "third": layer(x)}


def facts_of_a_life(outcome, inputs):
    x, p = inputs["x"], inputs["p"]
    facts = {}
    told = {"first": "in training", "evaluated": "after eval()", "third": "after train()"}
    for call, when in told.items():
        found = thinning(outcome[call], x, 0.0 if call == "evaluated" else p)
        facts |= {f"{when}, {name}": value for name, value in found.items()}
    if all(isinstance(outcome[call], Tensor) for call in ("first", "second")):
        first, second = outcome["first"] == 0, outcome["second"] == 0
        facts["every call draws a fresh mask"] = bool((first != second).any())
    return facts


def default_layer(impl, x):
    return {"output": impl()(x)}


def reassigned_layer(impl, x, before, p):
    layer = impl(before)
    layer(x)
    layer.p = p
    return {"output": layer(x)}


def facts_of_output(outcome, inputs):
    return thinning(outcome["output"], inputs["x"], inputs.get("p", 0.5))


def layer_in_a_network(impl, x, p):
    network = nn.Sequential(nn.Sequential(impl(p)), nn.Identity())
    trained = network(x)
    return {"output": trained, "evaluated": network.eval()(x)}


def facts_of_network(outcome, inputs):
    x = inputs["x"]
    evaluated = thinning(outcome["evaluated"], x, 0.0)
    return facts_of_output(outcome, inputs) | {
        f"after eval() of the network, {name}": value for name, value in evaluated.items()
    }


def layer_on_shapes(impl, p, **tensors):
    layer = impl(p)
    return {name: layer(x) for name, x in tensors.items()}


def facts_of_layer_shapes(outcome, inputs):
    facts = {}
    for name, output in outcome.items():
        x = inputs[name]
        fits = isinstance(output, Tensor) and output.shape == x.shape
        facts[f"{name}: the output is a tensor of the shape of x"] = fits
        if fits:
            scaled = torch.isclose(output.to(x), x / (1 - inputs["p"]), rtol=1e-4)
            facts[f"{name}: every value is x/(1-p) or zero"] = bool((scaled | (output == 0)).all())
    return facts


def layer_gradient(impl, x, cotangent, p):
    x = x.clone().requires_grad_()
    output = impl(p)(x)
    output = output if isinstance(output, Tensor) else output[0]
    return {"output": output.detach(), "gradient": gradients(output, [x], cotangent)[0]}


def what_a_layer_holds(impl, p):
    layer = impl(p=p)
    return {
        "p": layer.p,
        "training": layer.training,
        "entries of state_dict()": len(layer.state_dict()),
        "parameters": len(list(layer.parameters())),
    }


def layer_errors(impl, low, high):
    return {
        "p below 0": raised(lambda: impl(low), ValueError),
        "p above 1": raised(lambda: impl(high), ValueError),
        "p = 0": raised(lambda: impl(0), ValueError),
        "p = 1": raised(lambda: impl(1), ValueError),
    }


def layer_without_chance(impl, x):
    return {"p = 0": impl(0.0)(x), "p = 1": impl(1.0)(x), "evaluation": impl(1.0).eval()(x)}


FORWARD = "dropout_forward(x, self.p, self.training)"

dropout_module = Exercise(
    "Dropout",
    oracle=Dropout,
    forbids=DROPOUT_BY_TORCH,
    mistakes=[
        Mistake(
            "always training",
            FORWARD,
            "dropout_forward(x, self.p, True)",
            "The layer drops in evaluation mode too. `train()` and `eval()` set a module's mode: "
            "ask for it in every call, instead of writing it in or copying it once.",
        ),
        Mistake(
            "mode upside down",
            FORWARD,
            "dropout_forward(x, self.p, not self.training)",
            "It is the other way round: the layer drops in training mode only.",
        ),
        Mistake(
            "1-p passed on",
            FORWARD,
            "dropout_forward(x, 1 - self.p, self.training)",
            "p is the probability of dropping here and in dropout_forward: no conversion needed.",
        ),
        Mistake(
            "p taken as the probability of keeping",
            f"output, _ = {FORWARD}\n        return output",
            "if not self.training:\n            return x\n"
            "        keep = torch.rand_like(x) < self.p\n"
            "        return x * keep * (0.0 if self.p == 1 else 1 / (1 - self.p))",
            "Your mask keeps a share p of the values. In this course, as in PyTorch, p is the "
            "probability of *dropping*.",
        ),
        Mistake(
            "scaled in evaluation instead of in training",
            f"output, _ = {FORWARD}\n        return output",
            f"_, mask = {FORWARD}\n        return x * mask if self.training else x * (1 - self.p)",
            "This is the original dropout, which scales at test time. Inverted dropout does all "
            "its scaling in training, so that evaluation has nothing to do.",
        ),
        Mistake(
            "0.5 whatever p is",
            FORWARD,
            "dropout_forward(x, 0.5, self.training)",
            "The share that is dropped does not follow p: is 0.5 written into forward?",
        ),
        Mistake.edits_of(
            "the factor of the first p kept",
            [
                (
                    "        self.p = p",
                    "        self.p = p\n        self.scale = 0.0 if p == 1 else 1 / (1 - p)",
                ),
                (
                    f"output, _ = {FORWARD}\n        return output",
                    f"_, mask = {FORWARD}\n"
                    "        return x * mask * self.scale if self.training else x",
                ),
            ],
            "The factor 1/(1-p) is computed once, when the layer is made. After a new `p` the "
            "share that is dropped follows it, and the factor does not.",
        ),
        Mistake.edits_of(
            "a buffer for the mask",
            [
                (
                    "        self.p = p",
                    '        self.p = p\n        self.register_buffer("mask", torch.ones(1))',
                )
            ],
            "The layer keeps a buffer, so that its state_dict is not empty. A mask belongs to one "
            "call, and there is nothing to save.",
        ),
        Mistake(
            "mask made on the CPU",
            f"output, _ = {FORWARD}\n        return output",
            "if not self.training or self.p == 0:\n            return x\n"
            "        if self.p == 1:\n            return x * 0\n"
            "        return x * (torch.rand(x.shape) >= self.p) / (1 - self.p)",
            "Tensors made without a device land on the CPU: make the mask where x is.",
        ),
        Mistake(
            "output and mask returned",
            f"output, _ = {FORWARD}\n        return output",
            f"return {FORWARD}",
            "A layer returns one tensor, so that it can stand in a network: leave the mask behind.",
        ),
        Mistake(
            "mask returned",
            "output, _ =",
            "_, output =",
            "You return the mask. The layer's output is the other of the two.",
        ),
        Mistake(
            "not scaled",
            f"output, _ = {FORWARD}\n        return output",
            f"_, mask = {FORWARD}\n        return x * mask",
            "The kept values are not scaled: without the factor the expected output is not x.",
        ),
        Mistake(
            "scaled twice",
            "return output",
            "return output / (1 - self.p) if self.training and self.p < 1 else output",
            "The output of dropout_forward is scaled already: here it is scaled once more.",
        ),
        Mistake(
            "scaled in evaluation",
            "return output",
            "return output if self.training else output * (1 - self.p)",
            "Inverted dropout does its scaling in training: in evaluation the layer is the "
            "identity.",
        ),
        Mistake(
            "the first mask kept for ever",
            f"output, _ = {FORWARD}\n        return output",
            f"""if not self.training:
            return x
        if getattr(self, "mask", None) is None or self.mask.shape != x.shape:
            self.mask = {FORWARD}[1]
        return x * self.mask * (0.0 if self.p == 1 else 1 / (1 - self.p))""",
            "The mask of the first call is used for ever. Each call in training draws a fresh "
            "one, so that each step trains another thinned network.",
        ),
        Mistake(
            "seeded inside",
            "output, _ =",
            "torch.manual_seed(0)\n        output, _ =",
            "A seed inside forward draws the same mask in every call. Seeding is the caller's "
            "business.",
        ),
        Mistake(
            "one mask for the whole batch",
            FORWARD,
            "dropout_forward(torch.ones_like(x[:1]), self.p, self.training)\n"
            "        output = x * output",
            "All examples of a batch share one mask. Draw one of the full shape of x.",
        ),
        Mistake(
            "whole columns dropped",
            FORWARD,
            "dropout_forward(torch.ones_like(x[..., :1]), self.p, self.training)\n"
            "        output = x * output",
            "Whole slices are dropped together. Draw a mask of the full shape of x.",
        ),
        Mistake(
            "p not checked at construction",
            """        if not 0 <= p <= 1:
            raise ValueError(f"p is a probability, from 0 to 1, but is {p}")
""",
            "",
            "A p outside [0, 1] should be refused when the layer is made, not at the first call.",
        ),
        Mistake(
            "an assertion instead of a ValueError",
            "if not 0 <= p <= 1:\n            raise ValueError(",
            "assert 0 <= p <= 1, (",
            "A p outside [0, 1] should raise a ValueError; an assert raises another error, and "
            "none under python -O.",
        ),
        Mistake(
            "p = 1 refused",
            "0 <= p <= 1",
            "0 <= p < 1",
            "p = 1 is allowed: everything is dropped.",
        ),
        Mistake(
            "both ends refused",
            "0 <= p <= 1",
            "0 < p < 1",
            "p = 0 and p = 1 are allowed: nothing and everything is dropped.",
        ),
        Mistake(
            "p = 0 refused",
            "0 <= p <= 1",
            "0 < p <= 1",
            "p = 0 is allowed: nothing is dropped.",
        ),
        Mistake(
            "p made a parameter",
            "self.p = p",
            "self.p = nn.Parameter(torch.tensor(float(p)))",
            "p is a plain number chosen by hand. As an nn.Parameter it would be trained, and "
            "saved with the weights.",
        ),
        Mistake(
            "p made a buffer",
            "self.p = p",
            'self.register_buffer("p", torch.tensor(float(p)))',
            "p is a plain number, not a part of the state: the layer's state_dict is empty.",
        ),
        Mistake.edits_of(
            "p kept under another name",
            [("self.p = p", "self.rate = p"), (FORWARD, FORWARD.replace("self.p", "self.rate"))],
            "The docstring asks for the attribute `p`, so that p can be read and changed later.",
        ),
        Mistake.edits_of(
            "p frozen at construction",
            [
                ("self.p = p", "self.p = p\n        self._first_p = p"),
                (FORWARD, FORWARD.replace("self.p", "self._first_p")),
            ],
            "forward uses what p was when the layer was made. Assigning a new `p` should take "
            "effect at the next call.",
        ),
        Mistake(
            "no default for p",
            "p: float = 0.5",
            "p: float",
            "The stub's signature gives p a default: keep it, so that Dropout() can be written.",
        ),
        Mistake(
            "another default for p",
            "p: float = 0.5",
            "p: float = 0.1",
            "The stub's signature gives p another default than yours.",
        ),
        Mistake(
            "super().__init__() forgotten",
            "        super().__init__()\n",
            "",
            "A module's constructor has to call that of nn.Module first.",
        ),
        Mistake(
            "cut off from the graph",
            FORWARD,
            "dropout_forward(x.detach(), self.p, self.training)",
            "No gradient reaches the layers below: something detaches the input or switches "
            "recording off.",
        ),
        Mistake(
            "division by zero at p = 1",
            f"output, _ = {FORWARD}\n        return output",
            "if not self.training:\n            return x\n"
            "        return x * (torch.rand_like(x) >= self.p) * (1 / (1 - self.p))",
            "At p = 1 the factor 1/(1-p) does not exist, but the output does: everything is "
            "dropped. Your dropout_forward knows that already.",
        ),
        Mistake(
            "NaN at p = 1",
            f"output, _ = {FORWARD}\n        return output",
            "if not self.training:\n            return x\n"
            "        return x * (torch.rand_like(x) >= self.p) / (1 - self.p)",
            "At p = 1 this is 0/0, which is NaN. Your dropout_forward knows better already.",
        ),
        Mistake(
            "x changed in place",
            f"output, _ = {FORWARD}\n        return output",
            "if self.training:\n"
            "            x *= dropout_forward(torch.ones_like(x), self.p, True)[0]\n"
            "        return x",
            "You write the output into the caller's tensor. Return a new one.",
        ),
    ],
    variants=[
        Variant(
            "p as a property that checks",
            """
            class Dropout(nn.Module):
                def __init__(self, p=0.5):
                    super().__init__()
                    self.p = p
                @property
                def p(self):
                    return self._p
                @p.setter
                def p(self, value):
                    if not 0 <= value <= 1:
                        raise ValueError("p")
                    self._p = value
                def forward(self, x):
                    out, _ = dropout_forward(x, self.p, self.training)
                    return out
            """,
        ),
        Variant(
            "with a backward pass of its own",
            """
            class _Drop(torch.autograd.Function):
                @staticmethod
                def forward(ctx, x, p):
                    y, mask = dropout_forward(x, p, True)
                    ctx.save_for_backward(mask)
                    ctx.p = p
                    return y
                @staticmethod
                def backward(ctx, g):
                    (mask,) = ctx.saved_tensors
                    return dropout_backward(g, mask, ctx.p, True), None
            class Dropout(nn.Module):
                def __init__(self, p=0.5):
                    super().__init__()
                    if not 0 <= p <= 1: raise ValueError
                    self.p = p
                def forward(self, x):
                    return _Drop.apply(x, self.p) if self.training else x
            """,
        ),
        Variant(
            "written from scratch",
            """
            class Dropout(nn.Module):
                def __init__(self, p=0.5):
                    super().__init__()
                    if p < 0 or p > 1:
                        raise ValueError("p must lie in [0, 1]")
                    self.p = p

                def forward(self, x):
                    if not self.training or self.p == 0:
                        return x
                    if self.p == 1:
                        return torch.zeros_like(x)
                    keep = torch.empty_like(x).bernoulli_(1 - self.p)
                    return x * keep / (1 - self.p)

                def extra_repr(self):
                    return f"p={self.p}"
            """,
        ),
        Variant(
            "keywords, the last mask kept to look at",
            """
            class Dropout(nn.Module):
                def __init__(self, p: float = 0.5):
                    nn.Module.__init__(self)
                    if not (0.0 <= p <= 1.0):
                        raise ValueError(p)
                    self.p = p
                    self.last_mask = None

                def forward(self, x):
                    result = dropout_forward(x, p=self.p, training=self.training, generator=None)
                    self.last_mask = result[1]
                    return result[0]
            """,
        ),
        Variant(
            "an autograd function of its own",
            """
            class Dropout(nn.Module):
                def __init__(self, p=0.5):
                    super().__init__()
                    if p > 1 or p < 0:
                        raise ValueError
                    self.p = p

                def forward(self, x):
                    p, training = self.p, self.training

                    class Apply(torch.autograd.Function):
                        @staticmethod
                        def forward(ctx, x):
                            output, mask = dropout_forward(x, p, training)
                            ctx.save_for_backward(mask)
                            return output.clone()

                        @staticmethod
                        def backward(ctx, grad_output):
                            (mask,) = ctx.saved_tensors
                            return dropout_backward(grad_output, mask, p, training)

                    return Apply.apply(x)
            """,
        ),
    ],
)


@dropout_module.test(
    points=1.5,
    cases=[
        Case(
            "training, evaluation, training, few dropped",
            life_of_a_layer,
            lambda make: dict(x=with_zeros(make, 40, 30, 20), p=0.2),
            facts_of_a_life,
        ),
        Case(
            "training, evaluation, training, most dropped",
            life_of_a_layer,
            lambda make: dict(x=with_zeros(make, 160, 150), p=0.6),
            facts_of_a_life,
        ),
        Case(
            "inside a network",
            layer_in_a_network,
            lambda make: dict(x=with_zeros(make, 120, 150), p=0.4),
            facts_of_network,
        ),
    ],
)
def test_is_a_layer_with_two_modes(submission, case):
    """Drops with a fresh mask in training mode, is the identity in evaluation mode"""
    submission.matches_reference(case)


@dropout_module.test(
    points=1,
    cases=[
        Case(
            "without p",
            default_layer,
            lambda make: dict(x=with_zeros(make, 120, 150)),
            facts_of_output,
        ),
        Case(
            "p assigned later",
            reassigned_layer,
            lambda make: dict(x=with_zeros(make, 120, 150), before=0.8, p=0.3),
            facts_of_output,
        ),
        Case(
            "inputs of several shapes, one after the other",
            layer_on_shapes,
            lambda make: dict(
                p=0.3,
                matrix=make.away_from_zero(9, 7),
                vector=make.away_from_zero(11),
                image=make.away_from_zero(2, 3, 4, 7),
            ),
            facts_of_layer_shapes,
        ),
        Case(
            "what the layer holds", what_a_layer_holds, lambda make: dict(p=make.number(0.1, 0.9))
        ),
    ],
)
def test_takes_p_and_any_shape(submission, case):
    """Keeps p as a plain attribute, holds no state, and takes any shape"""
    submission.matches_reference(case)


@dropout_module.test(
    points=0.5,
    cases=[
        Case(
            "through the layer",
            layer_gradient,
            lambda make: dict(x=make.away_from_zero(30, 20), cotangent=make.normal(30, 20), p=0.3),
            facts_of_gradient,
        )
    ],
)
def test_layer_is_differentiable(submission, case):
    """Sends the gradient back through the mask of the forward pass"""
    submission.matches_reference(case)


@dropout_module.test(
    points=0.5,
    cases=[
        Case(
            "p inside and outside [0, 1]",
            layer_errors,
            lambda make: dict(low=make.number(-2, -0.01), high=make.number(1.01, 3)),
        ),
        Case(
            "p = 0, p = 1, evaluation",
            layer_without_chance,
            lambda make: dict(x=make.away_from_zero(6, 4)),
            naming_nan,
        ),
    ],
)
def test_layer_at_the_ends(submission, case):
    """Is defined at p = 0 and p = 1, and refuses what lies outside"""
    submission.matches_reference(case)


@dropout_module.test(
    points=0.5,
    cases=[
        Case(
            "training and evaluation",
            layer_without_chance,
            lambda make: dict(x=make.away_from_zero(6, 4)),
            naming_nan,
        ),
        Case(
            "training, some are dropped",
            default_layer,
            lambda make: dict(x=make.away_from_zero(60, 40)),
            facts_of_output,
        ),
    ],
)
def test_layer_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# Exercises: DropoutClassifier and DropoutRegressor. Their weights are put in by shape, so that
# attributes may have any names. No two shapes are alike.


def with_weights(model, weights, use):
    """What ``use`` makes of the model with these weights, if the model has room for them."""
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    told = {"shapes of the parameters": str(sorted(shapes.values()))}
    by_shape = {tuple(w.shape): w for w in weights}
    if sorted(shapes.values()) != sorted(by_shape):
        return told
    load_parameters(model, {name: by_shape[shape] for name, shape in shapes.items()})
    return told | use(model)


def gradients_of(model, weights, x, cotangent):
    output = model(x)
    named = {tuple(p.shape): p for p in model.parameters()}
    wrt = [named[tuple(w.shape)] for w in weights]
    return {"output": output, "gradients": gradients(output, wrt, cotangent)}


def modes_of(model, x):
    return {"training": model(x), "evaluation": model.eval()(x), "again": model.train()(x)}


def random_weights(make, *widths):
    pairs = list(pairwise(widths))
    return [
        w
        for fan_in, fan_out in pairs
        for w in (make.normal(fan_out, fan_in, std=fan_in**-0.5), make.normal(fan_out))
    ]


def chain_weights(make, *widths):
    """Layers that only grow: each passes its inputs on one by one and adds units of its own."""
    weights = []
    for fan_in, fan_out in pairwise(widths):
        matrix = torch.zeros(fan_out, fan_in, dtype=torch.float64)
        matrix[:fan_in] = torch.diag(make.uniform(fan_in, low=0.6, high=1.6))
        bias = torch.zeros(fan_out, dtype=torch.float64)
        bias[fan_in:] = make.uniform(fan_out - fan_in, low=0.5, high=2.0)
        weights += [matrix, bias]
    return weights


def undropped(x, weights, activation):
    """The network without dropout."""
    *hidden, matrix, bias = weights
    for w, b in zip(hidden[::2], hidden[1::2], strict=True):
        x = activation(x @ w.mT + b)
    return x @ matrix.mT + bias


def widths_of(weights):
    return weights[0].shape[1], [len(b) for b in weights[1:-2:2]], len(weights[-1])


def classify(impl, x, weights, p, training):
    model = impl(*widths_of(weights), p)
    return with_weights(model, weights, lambda m: {"output": m.train(training)(x)})


def classify_by_default(impl, x, weights):
    return with_weights(impl(*widths_of(weights)), weights, lambda m: {"output": m(x)})


def classifier_modes(impl, x, weights, p):
    model = impl(*widths_of(weights), p=p)
    return with_weights(model, weights, lambda m: modes_of(m, x))


def classifier_gradients(impl, x, weights, cotangent):
    model = impl(*widths_of(weights), p=0.0).eval()
    return with_weights(model, weights, lambda m: gradients_of(m, weights, x, cotangent))


def nearest_share(share, p):
    """The share, as text, as one of those that dropout with p can lead to."""
    keep = 1 - p if p < 1 else 0.5
    steps = {1 - keep**k for k in range(7)} | {keep, 1.0}
    return f"{min(steps, key=lambda s: abs(s - share)):.3g}"


def facts_of_logits(logits, x, weights, p, active=True):
    """Which units were dropped how often, read off the logits of chain weights."""
    expected = undropped(x, weights, torch.relu)
    fits = isinstance(logits, Tensor) and logits.shape == expected.shape
    facts = {"logits of shape (batch, classes)": fits}
    if not fits:
        return facts
    lost = logits == 0
    ends = [0, x.shape[1], *(len(b) for b in weights[1::2])]
    if active and p < 1:
        facts["each row is thinned on its own"] = bool((lost != lost[:1]).any())
    for layer, (start, end) in enumerate(pairwise(ends)):
        through = len(weights) // 2 - 1 - max(layer - 1, 0)
        name = f"paths through {through} hidden layers" + (", from the inputs" * (layer == 0))
        share = float(lost[:, start:end].double().mean())
        ratio = (logits / expected)[:, start:end][~lost[:, start:end]]
        facts[f"{name}: share cut by dropout, about"] = nearest_share(share, p)
        facts[f"{name}: factor on the rest, about"] = coarse(
            ratio.median() if len(ratio) else 0.0, 0.1
        )
    return facts


def facts_of_training(outcome, inputs, facts_of=facts_of_logits, default=0.5):
    if "output" not in outcome:
        return outcome
    p = inputs.get("p", default)
    told = {"shapes of the parameters": outcome["shapes of the parameters"]}
    return told | facts_of(outcome["output"], inputs["x"], inputs["weights"], p)


def facts_of_modes(outcome, inputs, facts_of=facts_of_logits):
    if "evaluation" not in outcome:
        return outcome
    facts = {"shapes of the parameters": outcome["shapes of the parameters"]}
    x, weights, p = inputs["x"], inputs["weights"], inputs["p"]
    for mode in ("training", "evaluation", "again"):
        found = facts_of(outcome[mode], x, weights, p, active=mode != "evaluation")
        facts |= {f"{mode}: {name}": value for name, value in found.items()}
    return facts


def misplaced(activation, output, result):
    """What goes wrong with dropout in either network."""
    linear = "nn.Linear(fan_in, fan_out)"
    layer = f"layers += [{linear}, {activation}, Dropout(p)]"
    bare = f"layers += [{linear}, {activation}]"
    built = "self.hidden = nn.Sequential(*layers)"
    return [
        Mistake(
            "dropout after the output too",
            f"self.output = {output}",
            f"self.output = nn.Sequential({output}, Dropout(p))",
            "What the output layer gives is dropped as well, and a dropped output is not missing "
            "but 0: nothing comes after the output layer.",
        ),
        Mistake.edits_of(
            "dropout after the output only",
            [
                (layer, bare),
                (f"self.output = {output}", f"self.output = nn.Sequential({output}, Dropout(p))"),
            ],
            "Dropout is in the one place where it does not belong, after the output layer. It "
            "belongs after each hidden activation.",
        ),
        Mistake(
            "dropout on the inputs too",
            "layers: list[nn.Module] = []",
            "layers: list[nn.Module] = [Dropout(p)]",
            "Inputs are dropped as well: here dropout comes after hidden activations only.",
        ),
        Mistake(
            "dropout before each layer instead of after",
            layer,
            f"layers += [Dropout(p), {linear}, {activation}]",
            "Dropout comes before each hidden layer: the inputs are dropped and the last hidden "
            "layer is not. It belongs after the activations.",
        ),
        Mistake.edits_of(
            "dropout after the last hidden layer only",
            [(layer, bare), (built, "self.hidden = nn.Sequential(*layers, Dropout(p))")],
            "Only the last hidden layer is followed by dropout: every hidden layer should be.",
        ),
        Mistake(
            "dropout after the first hidden layer only",
            layer,
            f"{bare}\n            if len(layers) == 2:\n                layers.append(Dropout(p))",
            "Only the first hidden layer is followed by dropout: every hidden layer should be.",
        ),
        Mistake(
            "none after the last hidden layer",
            built,
            "self.hidden = nn.Sequential(*layers[:-1])",
            "The last hidden layer is not followed by dropout: every hidden layer should be.",
        ),
        Mistake(
            "no dropout",
            layer,
            bare,
            "Nothing is dropped: each hidden activation is to be followed by your Dropout.",
        ),
        Mistake(
            "dropout twice in each layer",
            layer,
            f"layers += [{linear}, {activation}, Dropout(p), Dropout(p)]",
            "Each hidden layer is thinned twice: once is enough, after the activation.",
        ),
        Mistake(
            "p of dropping turned into keeping",
            f"{activation}, Dropout(p)",
            f"{activation}, Dropout(1 - p)",
            "p is the probability of dropping in the network and in Dropout alike.",
        ),
        Mistake(
            "p not passed on",
            f"{activation}, Dropout(p)",
            f"{activation}, Dropout()",
            "Dropout is made without p, and so takes its own default.",
        ),
        Mistake.edits_of(
            "always dropping",
            [
                (layer, bare),
                ("        self.output = ", "        self.p = p\n        self.output = "),
                (
                    f"{result}: Tensor = self.output(self.hidden(x))",
                    "for layer in self.hidden:\n"
                    "            x = layer(x)\n"
                    "            if not isinstance(layer, nn.Linear):\n"
                    "                x = dropout_forward(x, self.p, True)[0]\n"
                    f"        {result} = self.output(x)",
                ),
            ],
            "Units are dropped in evaluation mode too: `eval()` does not reach your dropout. Use "
            "Dropout layers, and register them: in a plain list the model does not know them.",
        ),
        Mistake(
            "layers not registered",
            built,
            "self.hidden = nn.Sequential(*layers).forward",
            "The hidden layers' weights are missing from model.parameters(), and no optimizer "
            "would train them: a plain list or function hides layers from the model.",
        ),
        Mistake(
            "activation forgotten",
            f"{activation}, Dropout(p)",
            "Dropout(p)",
            "Without activations all layers together are one linear map.",
        ),
        Mistake(
            "no activation in the last hidden layer",
            built,
            "self.hidden = nn.Sequential(*layers[:-2], layers[-1])",
            "The last hidden layer has no activation: every hidden layer has one.",
        ),
        Mistake(
            "tanh for the activation",
            activation,
            "nn.Tanh()",
            "The hidden layers have another activation than the docstring's.",
        ),
        Mistake(
            "GELU for the activation",
            activation,
            "nn.GELU()",
            "The hidden layers have another activation than the docstring's.",
        ),
        Mistake(
            "leaky ReLU for the activation",
            activation,
            "nn.LeakyReLU()",
            "The hidden layers have another activation than the docstring's.",
        ),
        Mistake(
            "one hidden layer used again and again",
            layer,
            "if not layers:\n"
            f"                layers += [{linear}, {activation}, Dropout(p)]\n"
            "            layers += layers[:3]",
            "One linear layer stands for all hidden layers. Each of them has weights of its own: "
            "make a new layer for each entry of `hidden`.",
        ),
        Mistake(
            "the hidden layers normalised as well",
            f"{activation}, Dropout(p)]",
            f"nn.LayerNorm(fan_out, elementwise_affine=False), {activation}, Dropout(p)]",
            "Something normalises the hidden layers. The docstring's have an affine map, an "
            "activation and dropout, and nothing else.",
        ),
        Mistake(
            "a parameter that nothing uses",
            "        self.output = ",
            "        self.scale = nn.Parameter(torch.ones(1))\n        self.output = ",
            "The model has parameters that the docstring does not list: only the affine maps have "
            "any.",
        ),
        Mistake(
            "x cast to single precision",
            "self.hidden(x))",
            "self.hidden(x.float()))",
            "Something turns the inputs into float32, and a model in double precision cannot take "
            "them. Leave x in its dtype: it is that of the weights.",
        ),
        Mistake(
            "only the first hidden width used",
            "[in_features, *hidden]",
            "[in_features, *hidden[:1]]",
            "There is one hidden layer for each entry of `hidden`; yours makes one in all.",
        ),
        Mistake(
            "hidden widths in reverse",
            "[in_features, *hidden]",
            "[in_features, *reversed(hidden)]",
            "`hidden` gives the widths from the first hidden layer to the last.",
        ),
        Mistake(
            "one linear layer too many",
            built,
            "self.hidden = nn.Sequential(*layers, nn.Linear(widths[-1], widths[-1]))",
            "There is one hidden layer for each entry of `hidden`, then the output layer; yours "
            "has one layer more.",
        ),
        Mistake(
            "no bias in the hidden layers",
            linear,
            "nn.Linear(fan_in, fan_out, bias=False)",
            "The affine maps have a bias each.",
        ),
        Mistake(
            "cut off from the graph",
            "self.hidden(x))",
            "self.hidden(x).detach())",
            "No gradient reaches the hidden layers: something detaches their output.",
        ),
    ]


dropout_classifier = Exercise(
    "DropoutClassifier",
    oracle=ClassifierOfLayers,
    forbids=DROPOUT_BY_TORCH,
    mistakes=[
        *misplaced("nn.ReLU()", "nn.Linear(widths[-1], classes)", "logits"),
        Mistake(
            "another default for p",
            "p: float = 0.5",
            "p: float = 0.2",
            "The stub's signature gives p another default than yours.",
        ),
        Mistake(
            "the regressor's default for p",
            "p: float = 0.5",
            "p: float = 0.1",
            "The stub's signature gives p another default than yours: 0.1 is the regressor's.",
        ),
        Mistake(
            "a batch of one squeezed",
            "return logits",
            "return logits.squeeze()",
            "A batch of one loses its batch axis: something squeezes every axis of size one.",
        ),
        Mistake(
            "softmax on the logits",
            "self.output(self.hidden(x))",
            "self.output(self.hidden(x)).softmax(dim=-1)",
            "forward returns logits: the loss takes the softmax.",
        ),
        Mistake(
            "log-softmax on the logits",
            "self.output(self.hidden(x))",
            "self.output(self.hidden(x)).log_softmax(dim=-1)",
            "forward returns logits: the loss takes the log-softmax.",
        ),
        Mistake(
            "ReLU on the logits",
            "self.output(self.hidden(x))",
            "self.output(self.hidden(x)).relu()",
            "Logits may be negative: no activation after the output layer.",
        ),
        Mistake(
            "SiLU, as in the regressor",
            "nn.ReLU()",
            "nn.SiLU()",
            "The classifier's hidden layers have a ReLU; SiLU is the regressor's.",
        ),
    ],
    variants=[
        Variant(
            "ModuleList, one shared dropout layer, dropout before ReLU",
            """
            class DropoutClassifier(nn.Module):
                def __init__(self, in_features, hidden, classes, p=0.5):
                    super().__init__()
                    self.layers = nn.ModuleList()
                    for width in hidden:
                        self.layers.append(nn.Linear(in_features, width))
                        in_features = width
                    self.out = nn.Linear(in_features, classes)
                    self.drop = Dropout(p)

                def forward(self, x):
                    for layer in self.layers:
                        x = torch.relu(self.drop(layer(x)))  # ReLU and dropout commute
                    return self.out(x)
            """,
        ),
        Variant(
            "dropout_forward with the model's mode, output layer made first",
            """
            class DropoutClassifier(nn.Module):
                def __init__(self, in_features, hidden, classes, p=0.5):
                    super().__init__()
                    self.p = p
                    hidden = list(hidden)
                    self.head = nn.Linear(hidden[-1], classes)
                    sizes = [in_features] + hidden
                    self.body = nn.ModuleList(
                        [nn.Linear(sizes[i], sizes[i + 1]) for i in range(len(hidden))]
                    )

                def forward(self, x):
                    for linear in self.body:
                        x, _ = dropout_forward(linear(x).clamp(min=0), self.p, self.training)
                    return self.head(x)
            """,
        ),
        Variant(
            "one Sequential",
            """
            class DropoutClassifier(nn.Module):
                def __init__(self, in_features, hidden, classes, p=0.5):
                    super().__init__()
                    layers = []
                    last = in_features
                    for h in hidden:
                        layers.append(nn.Linear(last, h))
                        layers.append(nn.ReLU())
                        layers.append(Dropout(p=p))
                        last = h
                    layers.append(nn.Linear(last, classes))
                    self.net = nn.Sequential(*layers)

                def forward(self, x):
                    return self.net(x)
            """,
        ),
        Variant(
            "add_module with names",
            """
            class DropoutClassifier(nn.Module):
                def __init__(self, in_features, hidden, classes, p=0.5):
                    super().__init__()
                    self.depth = len(hidden)
                    for i, (a, b) in enumerate(zip([in_features, *hidden], hidden)):
                        self.add_module(f"linear{i}", nn.Linear(a, b))
                        self.add_module(f"dropout{i}", Dropout(p))
                    self.output = nn.Linear(hidden[-1], classes)

                def forward(self, x):
                    h = x
                    for i in range(self.depth):
                        z = getattr(self, f"linear{i}")(h)
                        h = getattr(self, f"dropout{i}")(torch.where(z > 0, z, 0.0))
                    return self.output(h)
            """,
        ),
    ],
)


def network(*widths, batch):
    """Nothing is random, by p and by the mode: the formula is judged by itself."""
    return lambda make: dict(
        x=make.normal(batch, widths[0]),
        weights=random_weights(make, *widths),
        p=0.0,
        training=False,
    )


def chain(*widths, batch=6000, **more):
    return lambda make: dict(
        x=make.uniform(batch, widths[0], low=0.5, high=2.0),
        weights=chain_weights(make, *widths),
        **more,
    )


@dropout_classifier.test(
    points=1,
    cases=[
        Case("one hidden layer", classify, network(5, 8, 3, batch=6)),
        Case("three hidden layers", classify, network(4, 9, 6, 7, 5, batch=3)),
        Case("a batch of one", classify, network(6, 5, 4, 3, batch=1)),
        Case(
            "gradients",
            classifier_gradients,
            lambda make: dict(
                x=make.normal(6, 5),
                weights=random_weights(make, 5, 8, 7, 4),
                cotangent=make.normal(6, 4),
            ),
        ),
    ],
)
def test_is_a_network_of_relu_layers(submission, case):
    """Without dropout it is the network that the docstring describes"""
    submission.matches_reference(case)


@dropout_classifier.test(
    points=1.5,
    cases=[
        Case(
            "one hidden layer", classify, chain(5, 9, 12, p=0.3, training=True), facts_of_training
        ),
        Case(
            "three hidden layers",
            classify,
            chain(4, 8, 12, 16, 20, p=0.3, training=True),
            facts_of_training,
        ),
        Case("without p", classify_by_default, chain(5, 9, 13, 17), facts_of_training),
        Case(
            "every unit dropped",
            classify,
            chain(4, 7, 11, 13, p=1.0, training=True),
            facts_of_training,
        ),
    ],
)
def test_drops_after_hidden_activations(submission, case):
    """Drops after every hidden activation, and nowhere else"""
    submission.matches_reference(case)


@dropout_classifier.test(
    points=1,
    cases=[
        Case(
            "training, evaluation, training",
            classifier_modes,
            chain(4, 9, 13, 17, p=0.3),
            facts_of_modes,
        )
    ],
)
def test_evaluation_drops_nothing(submission, case):
    """Drops nothing after eval(), and drops again after train()"""
    submission.matches_reference(case)


@dropout_classifier.test(
    points=0.5,
    cases=[
        Case("training", classify, chain(4, 9, 13, p=0.3, training=True), facts_of_training),
        Case("evaluation", classify, network(5, 8, 4, batch=7)),
    ],
)
def test_classifier_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


def regress(impl, x, weights, p, training):
    model = impl(*widths_of(weights)[:2], p)
    return with_weights(model, weights, lambda m: {"output": m.train(training)(x)})


def regress_by_default(impl, x, weights):
    return with_weights(impl(*widths_of(weights)[:2]), weights, lambda m: {"output": m(x)})


def regressor_modes(impl, x, weights, p):
    model = impl(*widths_of(weights)[:2], p=p)
    return with_weights(model, weights, lambda m: modes_of(m, x))


def regressor_gradients(impl, x, weights, cotangent):
    model = impl(*widths_of(weights)[:2], p=0.0).eval()
    return with_weights(model, weights, lambda m: gradients_of(m, weights, x, cotangent))


def one_path(make, *widths, unit):
    """Chain weights, of which the output reads a single unit of the last hidden layer."""
    weights = chain_weights(make, *widths)
    read = torch.zeros(1, widths[-1], dtype=torch.float64)
    read[0, unit] = make.number(0.7, 1.9)
    return [*weights, read, make.uniform(1, low=0.5, high=2.0)]


def path(*widths, unit, batch=8000, **more):
    return lambda make: dict(
        x=make.uniform(batch, widths[0], low=0.5, high=2.0),
        weights=one_path(make, *widths, unit=unit),
        **more,
    )


def facts_of_predictions(predictions, x, weights, p, active=True):
    """How often the one path was cut, and whether what passed it was scaled where it should be."""
    x, weights = x.double(), [w.double() for w in weights]
    expected = undropped(x, weights, nn.functional.silu)[:, 0]
    fits = isinstance(predictions, Tensor) and predictions.shape == expected.shape
    facts = {"predictions of shape (batch,)": fits}
    if not fits:
        return facts
    predictions, bias = predictions.detach().double(), weights[-1]
    scale = (1 / (1 - p) if p < 1 else 0.0) if active else 1.0
    *hidden, read, _ = weights
    kept = x
    for w, b in zip(hidden[::2], hidden[1::2], strict=True):
        kept = scale * nn.functional.silu(kept @ w.mT + b)
    cut = torch.minimum((predictions - bias).abs(), (predictions - scale * bias).abs()) < 1e-5
    passed = ~cut & (predictions != 0)
    zeros = float((predictions == 0).double().mean())
    right = torch.isclose(predictions, (kept @ read.mT)[:, 0] + bias, rtol=1e-4)
    ratio = ((predictions - bias) / (expected - bias))[passed]
    facts |= {
        "share of predictions that are 0, about": nearest_share(zeros, p),
        "share cut by dropout, about": nearest_share(float(cut.double().mean()), p),
        "what passes is scaled after each activation": bool(right[passed].all()),
    }
    if len(hidden) == 2:
        constant = bool(len(ratio) > 0 and ratio.max() - ratio.min() < 1e-3)
        facts["factor on what passes, about"] = coarse(ratio[0], 0.1) if constant else "none"
    return facts


def facts_of_regression(outcome, inputs):
    return facts_of_training(outcome, inputs, facts_of_predictions, default=0.1)


def facts_of_regressor_modes(outcome, inputs):
    return facts_of_modes(outcome, inputs, facts_of_predictions)


dropout_regressor = Exercise(
    "DropoutRegressor",
    oracle=RegressorOfLayers,
    forbids=DROPOUT_BY_TORCH,
    mistakes=[
        *misplaced("nn.SiLU()", "nn.Linear(widths[-1], 1)", "prediction"),
        Mistake(
            "one column too many",
            "return prediction.squeeze(-1)",
            "return prediction",
            "The predictions have shape (batch, 1). Against targets of shape (batch,) a loss "
            "would broadcast them to (batch, batch), silently.",
        ),
        Mistake(
            "every axis of size one squeezed",
            "squeeze(-1)",
            "squeeze()",
            "A batch of one loses its batch axis as well: squeeze the axis that you mean.",
        ),
        Mistake(
            "the batch axis squeezed",
            "squeeze(-1)",
            "squeeze(0)",
            "The axis that goes is that of the single output, not that of the batch.",
        ),
        Mistake(
            "dropout before the activation",
            "nn.SiLU(), Dropout(p)",
            "Dropout(p), nn.SiLU()",
            "With SiLU the order matters: SiLU of a scaled value is not the scaled SiLU. Dropout "
            "comes after the activation.",
        ),
        Mistake(
            "another default for p",
            "p: float = 0.1",
            "p: float = 0.5",
            "The stub's signature gives p another default than yours.",
        ),
        Mistake(
            "ReLU, as in the classifier",
            "nn.SiLU()",
            "nn.ReLU()",
            "The regressor's hidden layers have a SiLU; ReLU is the classifier's.",
        ),
        Mistake(
            "sigmoid for SiLU",
            "nn.SiLU()",
            "nn.Sigmoid()",
            "SiLU multiplies the sigmoid of a value by the value itself.",
        ),
        Mistake(
            "activation on the prediction",
            "self.output(self.hidden(x))",
            "nn.functional.silu(self.output(self.hidden(x)))",
            "A regressor's prediction may be any number: no activation after the output layer.",
        ),
    ],
    variants=[
        Variant(
            "a skeleton that both could share",
            """
            class _Skeleton(nn.Module):
                activation = staticmethod(nn.functional.silu)
                def __init__(self, in_features, hidden, outputs, p):
                    super().__init__()
                    w = (in_features, *hidden)
                    self.affine = nn.ModuleList(nn.Linear(*pair) for pair in zip(w, w[1:]))
                    self.dropout = nn.ModuleList(Dropout(p) for _ in w[1:])
                    self.last = nn.Linear(w[-1], outputs)
                def forward(self, x):
                    for f, d in zip(self.affine, self.dropout, strict=True):
                        x = d(self.activation(f(x)))
                    return self.last(x)
            class DropoutRegressor(_Skeleton):
                def __init__(self, in_features, hidden, p=0.1):
                    super().__init__(in_features, hidden, 1, p)
                def forward(self, x):
                    return super().forward(x).reshape(-1)
            """,
        ),
        Variant(
            "ModuleList, one shared dropout layer",
            """
            class DropoutRegressor(nn.Module):
                def __init__(self, in_features, hidden, p=0.1):
                    super().__init__()
                    self.layers = nn.ModuleList()
                    for width in hidden:
                        self.layers.append(nn.Linear(in_features, width))
                        in_features = width
                    self.out = nn.Linear(in_features, 1)
                    self.drop = Dropout(p)

                def forward(self, x):
                    for layer in self.layers:
                        z = layer(x)
                        x = self.drop(z * torch.sigmoid(z))
                    return self.out(x)[:, 0]
            """,
        ),
        Variant(
            "dropout_forward with the model's mode, flattened",
            """
            class DropoutRegressor(nn.Module):
                def __init__(self, in_features, hidden, p=0.1):
                    super().__init__()
                    self.p = p
                    sizes = [in_features, *hidden, 1]
                    self.linears = nn.ModuleList(
                        [nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:])]
                    )

                def forward(self, x):
                    for linear in list(self.linears)[:-1]:
                        z = linear(x)
                        x = dropout_forward(z / (1 + torch.exp(-z)), self.p, self.training)[0]
                    return self.linears[-1](x).flatten()
            """,
        ),
        Variant(
            "one Sequential with Flatten",
            """
            class DropoutRegressor(nn.Module):
                def __init__(self, in_features, hidden, p=0.1):
                    super().__init__()
                    layers, last = [], in_features
                    for h in hidden:
                        layers += [nn.Linear(last, h), nn.SiLU(), Dropout(p=p)]
                        last = h
                    self.net = nn.Sequential(*layers, nn.Linear(last, 1), nn.Flatten(0))

                def forward(self, x):
                    return self.net(x)
            """,
        ),
    ],
)


@dropout_regressor.test(
    points=1,
    cases=[
        Case("one hidden layer", regress, network(5, 8, 1, batch=6)),
        Case("three hidden layers", regress, network(4, 9, 6, 7, 1, batch=3)),
        Case("a batch of one", regress, network(6, 5, 4, 1, batch=1)),
        Case(
            "gradients",
            regressor_gradients,
            lambda make: dict(
                x=make.normal(6, 5),
                weights=random_weights(make, 5, 8, 7, 1),
                cotangent=make.normal(6),
            ),
        ),
    ],
)
def test_is_a_network_of_silu_layers(submission, case):
    """Without dropout it is the network that the docstring describes"""
    submission.matches_reference(case)


def training_path(title, *widths, unit, p=0.3):
    """The output reads one unit: an early one reads an input, a late one reads biases alone."""
    return Case(title, regress, path(*widths, unit=unit, p=p, training=True), facts_of_regression)


@dropout_regressor.test(
    points=1.5,
    cases=[
        training_path("one hidden layer", 4, 9, unit=1),
        training_path("one hidden layer, a unit that reads no input", 4, 9, unit=6),
        training_path("two hidden layers", 4, 9, 13, unit=1),
        training_path("two hidden layers, a unit of the second", 4, 9, 13, unit=11),
        training_path("every unit dropped", 4, 9, 13, unit=1, p=1.0),
        Case("without p", regress_by_default, path(5, 9, unit=2), facts_of_regression),
    ],
)
def test_regressor_drops_after_hidden_activations(submission, case):
    """Drops after every hidden activation, and nowhere else"""
    submission.matches_reference(case)


@dropout_regressor.test(
    points=1,
    cases=[
        Case(
            "training, evaluation, training",
            regressor_modes,
            path(4, 9, 13, unit=1, p=0.3),
            facts_of_regressor_modes,
        )
    ],
)
def test_regressor_evaluation_drops_nothing(submission, case):
    """Drops nothing after eval(), and drops again after train()"""
    submission.matches_reference(case)


@dropout_regressor.test(
    points=0.5,
    cases=[
        training_path("training", 4, 9, unit=1),
        Case("evaluation", regress, network(5, 8, 1, batch=7)),
    ],
)
def test_regressor_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# Exercise: ensemble_mean


def ensemble(impl, h, w, c, v, p):
    def head(a):
        return torch.tanh(a @ w + c) @ v

    return {"mean": impl(head, h, p), "again": impl(head, h, p)}


def linear_ensemble(impl, h, w, c, p):
    def head(a):
        return a @ w + c

    return {"mean": impl(head, h, p), "again": impl(head, h, p)}


def facts_of_ensemble(outcome, _inputs):
    mean, again = outcome["mean"], outcome["again"]
    facts = {"two calls give the same": torch.allclose(mean, again, equal_nan=True)}
    return facts | naming_nan({"mean": mean}, None) if facts["two calls give the same"] else facts


def units(batch, n, p):
    return lambda make: dict(
        h=make.away_from_zero(batch, n),
        w=make.away_from_zero(n, 6),
        c=make.normal(6),
        v=make.normal(6, 4),
        p=p,
    )


# Probabilities made with torch.tensor are float32 by default: no mistake that is asked for here.
ROUGH = (torch.float32,)
PROBABILITY = "(1 - p) ** sum(kept) * p ** (n - sum(kept))"

ensemble_mean = Exercise(
    "ensemble_mean",
    oracle=mean_by_recursion,
    mistakes=[
        Mistake(
            "all masks equally likely",
            PROBABILITY,
            "0.5**n",
            "Your masks all weigh the same. That is right at p = 0.5 only: otherwise a mask's "
            "probability depends on how many units it keeps.",
        ),
        Mistake(
            "weights and masks disagree",
            PROBABILITY,
            "p ** sum(kept) * (1 - p) ** (n - sum(kept))",
            "p is the probability of dropping: a mask that drops many units is likely where p is "
            "large. Yours is the other way round, in the exponents or in the mask.",
        ),
        Mistake(
            "only the kept units in the weights",
            PROBABILITY,
            "(1 - p) ** sum(kept)",
            "A mask's probability has a factor for every unit, the dropped ones too. As it is, "
            "the weights do not add up to 1.",
        ),
        Mistake(
            "only the dropped units in the weights",
            PROBABILITY,
            "p ** (n - sum(kept))",
            "A mask's probability has a factor for every unit, the kept ones too. As it is, the "
            "weights do not add up to 1.",
        ),
        Mistake.edits_of(
            "p taken as the probability of keeping",
            [
                (PROBABILITY, "p ** sum(kept) * (1 - p) ** (n - sum(kept))"),
                (SCALE, "0.0 if p == 0 else 1 / p"),
            ],
            "This is consistent, but with p as the probability of keeping. Here, as in PyTorch, p "
            "is the probability of *dropping*.",
        ),
        Mistake(
            "weights multiplied by the number of masks like it",
            PROBABILITY,
            f'__import__("math").comb(n, sum(kept)) * {PROBABILITY}',
            "The binomial coefficient counts the masks that keep as many units. You go through "
            "those one by one already.",
        ),
        Mistake(
            "weights left out",
            "probability * head",
            "head",
            "You add the outputs up without weights: an average weighs each by its probability.",
        ),
        Mistake(
            "divided by the number of masks as well",
            "    return mean",
            "    return mean / 2**n",
            "The probabilities add up to 1 already: no division is left to do.",
        ),
        Mistake(
            "kept units not scaled",
            "h * mask * scale",
            "h * mask",
            "Inverted dropout scales the units that it keeps; each thinned network sees them so.",
        ),
        Mistake(
            "divided by p",
            SCALE,
            "0.0 if p == 0 else 1 / p",
            "p is the probability of dropping: the kept units' factor follows from the other one.",
        ),
        Mistake(
            "multiplied by the keep probability",
            SCALE,
            "1 - p",
            "Inverted dropout makes the kept units larger; yours become smaller.",
        ),
        Mistake(
            "outputs scaled instead of units",
            "head(h * mask * scale)",
            "head(h * mask) * scale",
            "The factor belongs to the units, before the head, as in dropout_forward. The head "
            "is not linear.",
        ),
        Mistake(
            "empty mask left out",
            "        mask = h.new_tensor(kept)",
            "        if not any(kept):\n            continue\n        mask = h.new_tensor(kept)",
            "The mask that drops every unit is missing: it is one of the 2ⁿ too.",
        ),
        Mistake(
            "empty mask left out, the others weighted up",
            "    return mean",
            "    mean = mean - p**n * head(torch.zeros_like(h))\n    return mean / (1 - p**n)",
            "The mask that drops every unit is missing, and the others' probabilities are made to "
            "add up to 1 without it. It is one of the 2ⁿ masks too.",
        ),
        Mistake.edits_of(
            "one unit in every mask",
            [
                ("product((0, 1), repeat=n)", "product((0, 1), repeat=n - 1)"),
                ("h.new_tensor(kept)", "h.new_tensor((1, *kept))"),
            ],
            "You go through half of the masks only: one unit is in every one of them. All n units "
            "may be dropped, which gives 2ⁿ masks.",
        ),
        Mistake(
            "scaled by the share that is kept",
            "head(h * mask * scale)",
            "head(h * mask * (n / max(sum(kept), 1) if p < 1 else 0.0))",
            "You scale by n/|m|, the units there are over those that this mask keeps. The factor "
            "of inverted dropout follows from p alone and is the same for every mask.",
        ),
        Mistake(
            "factor infinite at p = 1",
            SCALE,
            'float("inf") if p == 1 else 1 / (1 - p)',
            "At p = 1 an infinite factor meets units of 0, which is NaN. No unit is ever kept "
            "there: the factor may be any number.",
        ),
        Mistake(
            "geometric mean",
            "        mean = mean + probability * head(h * mask * scale)\n    return mean",
            "        logs = head(h * mask * scale).abs().clamp(min=1e-30).log()\n"
            "        mean = mean + probability * logs\n"
            "    return mean.exp()",
            "You average logarithms and take the exponential: that is a geometric mean. The "
            "outputs themselves are averaged.",
        ),
        Mistake(
            "full mask left out",
            "        mask = h.new_tensor(kept)",
            "        if all(kept):\n            continue\n        mask = h.new_tensor(kept)",
            "The mask that keeps every unit is missing: it is one of the 2ⁿ too.",
        ),
        Mistake(
            "one unit dropped at a time",
            "        mask = h.new_tensor(kept)",
            "        if sum(kept) < n - 1:\n"
            "            continue\n"
            "        mask = h.new_tensor(kept)",
            "You only go through masks with at most one unit dropped. There are 2ⁿ masks.",
        ),
        Mistake(
            "a sample of masks instead of all",
            """    mean = torch.zeros_like(head(h))
""",
            """    draws = [head(dropout_forward(h, p, True)[0]) for _ in range(300)]
    return torch.stack(draws).mean(dim=0)
    mean = torch.zeros_like(head(h))
""",
            "Two calls give different results, since the masks are drawn at random. The average "
            "asked for is exact: go through all 2ⁿ masks.",
        ),
        Mistake(
            "units averaged before the head",
            "        mean = mean + probability * head(h * mask * scale)\n    return mean",
            "        mean = mean + 0 * probability * mask.sum() * scale\n    return head(h) + mean",
            "The average of the units goes through the head once. That is the weight-scaling "
            "shortcut; the ensemble averages what comes *out* of the head.",
        ),
        Mistake(
            "examples masked instead of units",
            "n = h.shape[-1]",
            "h, wide = h.mT, head\n    head = lambda a: wide(a.mT)\n    n = h.shape[-1]",
            "You drop rows, the examples. Units are the columns of h.",
        ),
        Mistake(
            "division by zero at p = 1",
            SCALE,
            "1 / (1 - p)",
            "At p = 1 the factor 1/(1-p) does not exist, but the average does: no unit is ever "
            "kept.",
        ),
        Mistake(
            "a shortcut at p = 1",
            "    n = h.shape[-1]\n",
            "    if p == 1:\n        return torch.zeros_like(head(h))\n    n = h.shape[-1]\n",
            "At p = 1 all units are zero, but the head's output for zeros need not be.",
        ),
        Mistake(
            "h changed in place",
            "    return mean",
            "    h *= scale\n    return mean",
            "You write into the caller's units. Scale a copy.",
        ),
    ],
    variants=[
        Variant(
            "all masks at once",
            """
            def ensemble_mean(head, h, p):
                batch, n = h.shape
                codes = torch.arange(2**n, device=h.device)
                bits = torch.arange(n, device=h.device)
                masks = ((codes[:, None] >> bits) & 1).to(h.dtype)  # (2**n, n)
                kept = masks.sum(dim=1)
                weights = (1 - p) ** kept * p ** (n - kept)
                factor = 1 / (1 - p) if p < 1 else 0.0
                thinned = h[None] * masks[:, None] * factor  # (2**n, batch, n)
                outputs = head(thinned.reshape(-1, n)).reshape(2**n, batch, -1)
                return torch.einsum("m,mbk->bk", weights, outputs)
            """,
        ),
        Variant(
            "recursion, one unit after the other",
            """
            def ensemble_mean(head, h, p):
                def expected(i, units):
                    if i == units.shape[1]:
                        return head(units)
                    total = 0
                    if p > 0:
                        dropped = units.clone()
                        dropped[:, i] = 0
                        total = total + p * expected(i + 1, dropped)
                    if p < 1:
                        kept = units.clone()
                        kept[:, i] /= 1 - p
                        total = total + (1 - p) * expected(i + 1, kept)
                    return total

                return expected(0, h)
            """,
        ),
        Variant(
            "bits of a counter, stacked",
            """
            def ensemble_mean(head, h, p):
                n = h.size(1)
                outputs = []
                for code in range(2**n):
                    bits = [(code >> i) & 1 for i in range(n)]
                    weight = 1.0
                    for bit in bits:
                        weight *= (1 - p) if bit else p
                    if weight == 0:
                        continue
                    mask = torch.tensor(bits, dtype=torch.bool, device=h.device)
                    thinned = torch.where(mask, h / (1 - p) if p < 1 else h, torch.zeros_like(h))
                    outputs.append(weight * head(thinned))
                return torch.stack(outputs).sum(dim=0)
            """,
        ),
        Variant(
            "cartesian product and a product of probabilities",
            """
            def ensemble_mean(head, h, p):
                coins = torch.tensor([0.0, 1.0], dtype=h.dtype, device=h.device)
                n = h.shape[1]
                masks = torch.cartesian_prod(*[coins] * n).reshape(-1, n)
                chance = torch.where(masks > 0, 1.0 - p, p).prod(dim=1)
                factor = 0.0 if p == 1.0 else 1.0 / (1.0 - p)
                return sum(w * head(h * m * factor) for w, m in zip(chance, masks))
            """,
        ),
    ],
)


@ensemble_mean.test(
    points=2,
    cases=[
        Case("few are dropped", ensemble, units(3, 5, p=0.2), facts_of_ensemble, dtypes=ROUGH),
        Case("most are dropped", ensemble, units(5, 7, p=0.7), facts_of_ensemble, dtypes=ROUGH),
        Case("half are dropped", ensemble, units(2, 4, p=0.5), facts_of_ensemble, dtypes=ROUGH),
        Case("a single unit", ensemble, units(3, 1, p=0.3), facts_of_ensemble, dtypes=ROUGH),
        Case("a batch of one", ensemble, units(1, 3, p=0.4), facts_of_ensemble, dtypes=ROUGH),
    ],
)
def test_averages_over_all_masks(submission, case):
    """Averages the head over all masks, each weighted by its probability"""
    submission.matches_reference(case)


@ensemble_mean.test(
    points=0.5,
    cases=[
        Case("p = 0", ensemble, units(3, 4, p=0.0), facts_of_ensemble, dtypes=ROUGH),
        Case("p = 1", ensemble, units(3, 4, p=1.0), facts_of_ensemble, dtypes=ROUGH),
        Case(
            "a linear head",
            linear_ensemble,
            lambda make: dict(
                h=make.normal(3, 5), w=make.normal(5, 4), c=make.normal(4), p=make.number(0.1, 0.9)
            ),
            facts_of_ensemble,
            dtypes=ROUGH,
        ),
    ],
)
def test_is_defined_at_the_ends(submission, case):
    """Is defined at p = 0 and p = 1, and is the plain pass for a linear head"""
    submission.matches_reference(case)


@ensemble_mean.test(
    points=0.5, cases=[Case("a few units", ensemble, units(3, 4, p=0.3), facts_of_ensemble)]
)
def test_ensemble_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# Exercise: mc_dropout_predict. A scripted model returns prepared values, call after call, and
# notes the modes of its layers; its Dropout is the notebook's own, or the stand-in.


def scripted_passes(impl, x, script, samples, modes):
    own_dropout = inspect.unwrap(impl).__globals__["Dropout"]

    calls = []  # out here, where a copy of the model finds it too

    class Scripted(nn.Module):
        def __init__(self):
            super().__init__()
            self.dropout = own_dropout(0.5)
            self.block = nn.Sequential(nn.Sequential(nn.Tanh(), own_dropout(0.2)))
            self.norm = nn.BatchNorm1d(3)
            self.gain = nn.Parameter(torch.ones_like(script[0]))

        def forward(self, given):
            n, repeats = len(calls), len(given) // len(x)
            seen = {name: module.training for name, module in self.watched().items()}
            calls.append(seen | {"given x": given.shape == x.shape})
            return torch.cat([self.gain * value for value in script[n : n + repeats]])

        def watched(self):
            return {
                "a Dropout": self.dropout,
                "a nested Dropout": self.block[0][1],
                "a batch norm": self.norm,
                "the model itself": self,
            }

    model = Scripted()
    model.train(modes["the model itself"])
    for name, module in model.watched().items():
        if name != "the model itself":
            module.training = modes[name]
    with torch.enable_grad():
        mean, std = impl(model, x, samples)
        recording = torch.is_grad_enabled()
    in_training = {
        f"passes with {name} in training mode": sum(call[name] for call in calls)
        for name in model.watched()
    }
    after = {
        f"{name} is in the mode that it was in before": module.training == modes[name]
        for name, module in model.watched().items()
    }
    return {
        "calls of the model": len(calls),
        "calls given all of x": sum(call["given x"] for call in calls),
        **in_training,
        **after,
        "mean": mean,
        "standard deviation": std,
        "gradients are recorded afterwards as before": recording,
        "mean requires a gradient": mean.requires_grad,
        "standard deviation requires a gradient": std.requires_grad,
    }


def facts_of_agreement(outcome, inputs):
    """The outcome where all passes are the same, rounding aside."""
    std = outcome["standard deviation"]
    fits = isinstance(std, Tensor) and std.shape == inputs["script"].shape[1:]
    zero = {"standard deviation": bool((std < 0.01).all())} if fits else {}
    return naming_nan(outcome, inputs) | zero


def passes_without_weights(impl, x, weight, samples):
    own_dropout = inspect.unwrap(impl).__globals__["Dropout"]
    calls = []

    class Scripted(nn.Module):  # no parameters: PyTorch cannot deepcopy them on the fake device
        def __init__(self):
            super().__init__()
            self.dropout = own_dropout(0.0)

        def forward(self, given):
            calls.append(len(calls) % 3)
            return self.dropout(given) @ weight * calls[-1]

    mean, std = impl(Scripted(), x, samples)
    return {"mean": mean, "standard deviation": std}


def real_passes(impl, x, weight, samples):
    own_dropout = inspect.unwrap(impl).__globals__["Dropout"]
    head = nn.Linear(x.shape[1], 1)
    load_parameters(head, {"weight": weight, "bias": weight.new_zeros(1)})
    model = nn.Sequential(own_dropout(0.3), head).eval()
    mean, std = impl(model, x, samples)
    return {"mean": mean, "standard deviation": std, "plain": model(x)}


def facts_of_real_passes(outcome, inputs):
    x, weight, n = inputs["x"].double(), inputs["weight"].double(), inputs["samples"]
    spread = ((x * weight).square().sum(dim=1, keepdim=True) * 0.3 / 0.7).sqrt()
    mean, std = outcome["mean"], outcome["standard deviation"]
    plain = outcome["plain"]
    fits = all(isinstance(t, Tensor) and t.shape == spread.shape for t in (mean, std, plain))
    facts = {"mean and deviation have the shape of one pass": fits}
    if fits:
        error = (mean.double() - x @ weight.mT).abs()
        facts["the mean is near the expected value"] = bool((error < 7 * spread / n**0.5).all())
        off = (std.double() / spread - 1).abs()
        facts["the deviation is near the true one"] = bool((off < 7 / (2 * n) ** 0.5).all())
        same = torch.isclose(plain, x.to(plain) @ weight.to(plain).mT, rtol=1e-4, atol=1e-4)
        facts["afterwards the model evaluates as before"] = bool(same.all())
    return facts


def script_of(*shape, samples, model, norm, dropout, nested, alike=False):
    modes = {
        "the model itself": model,
        "a batch norm": norm,
        "a Dropout": dropout,
        "a nested Dropout": nested,
    }
    return lambda make: dict(
        x=make.normal(shape[0], 6),
        script=make.normal(1 if alike else 2 * samples + 3, *shape, mean=0.5)
        .expand(2 * samples + 3, *shape)
        .clone(),
        samples=samples,
        modes=modes,
    )


EVALUATING = dict(model=False, norm=False, dropout=False, nested=False)
TRAINING = dict(model=True, norm=True, dropout=True, nested=True)
SET_MODES = """    for module, _ in modes:
        module.training = isinstance(module, Dropout)
"""
RESTORE_MODES = """    for module, training in modes:
        module.training = training
"""
PASSES = "torch.stack([model(x) for _ in range(samples)])"
RETURN = "return passes.mean(dim=0), passes.std(dim=0, correction=0)"

mc_dropout_predict = Exercise(
    "mc_dropout_predict",
    oracle=predict_by_running_sums,
    mistakes=[
        Mistake(
            "dropout not active",
            SET_MODES,
            "    model.eval()\n",
            "The Dropout layers are in evaluation mode, where every pass is the same. They must be "
            "in training mode; they are of your own class, not of PyTorch's.",
        ),
        Mistake(
            "everything in training mode",
            SET_MODES,
            "    model.train()\n",
            "The whole model is in training mode, so that batch norm would use, and change, its "
            "statistics. Only the Dropout layers are to be in training mode.",
        ),
        Mistake(
            "modes left as they were",
            SET_MODES,
            "",
            "The passes run in whatever mode the model happens to be in. Dropout must be active, "
            "and everything else in evaluation mode, whatever was before.",
        ),
        Mistake(
            "other layers left in training mode",
            SET_MODES,
            "    for module, _ in modes:\n"
            "        if isinstance(module, Dropout):\n"
            "            module.train()\n",
            "A model that comes in training mode keeps its other layers, such as batch norm, in "
            "training mode. Put them into evaluation mode for the passes.",
        ),
        Mistake(
            "nested dropout layers missed",
            SET_MODES,
            "    model.eval()\n    for child in model.children():\n"
            "        if isinstance(child, Dropout):\n            child.train()\n",
            "Dropout layers inside other modules stay inactive: go through the modules at every "
            "depth.",
        ),
        Mistake(
            "modes not restored",
            RESTORE_MODES,
            "",
            "The model is left in the mode of the passes: whoever evaluates it next gets random "
            "predictions. Restore the modes.",
        ),
        Mistake(
            "left in evaluation mode",
            RESTORE_MODES,
            "    model.eval()\n",
            "The model is always left in evaluation mode. Who was training it expects the mode "
            "that it was in before.",
        ),
        Mistake(
            "left in training mode",
            RESTORE_MODES,
            "    model.train()\n",
            "The model is always left in training mode. Restore the mode that it was in before.",
        ),
        Mistake(
            "only the model's own mode restored",
            RESTORE_MODES,
            "    model.train(modes[0][1])\n",
            "Layers that were in another mode than the model, such as a frozen batch norm, have "
            "lost theirs: remember the mode of each module.",
        ),
        Mistake.edits_of(
            "train() before and eval() after",
            [(SET_MODES, "    model.train()\n"), (RESTORE_MODES, "    model.eval()\n")],
            "train() puts batch norm into training mode too, and eval() afterwards forgets in "
            "which mode the model came. Switch the Dropout layers only, and restore every mode.",
        ),
        Mistake.edits_of(
            "train() before, the model's own mode restored",
            [
                (SET_MODES, "    model.train()\n"),
                (RESTORE_MODES, "    model.train(modes[0][1])\n"),
            ],
            "train() puts batch norm into training mode too, and layers in a mode of their own "
            "lose it. Switch the Dropout layers only, and restore the mode of each module.",
        ),
        Mistake.edits_of(
            "train(), PyTorch's deviation, eval()",
            [
                (SET_MODES, "    model.train()\n"),
                (RESTORE_MODES, "    model.eval()\n"),
                ("correction=0", "correction=1"),
            ],
            "train() and eval() change the modes of all layers, for good; and PyTorch's deviation "
            "divides by one pass fewer by default. Look at the modes first.",
        ),
        Mistake.edits_of(
            "eval() and nothing else",
            [(SET_MODES, "    model.eval()\n"), (RESTORE_MODES, "")],
            "In evaluation mode every pass is the same. The Dropout layers must be in training "
            "mode during the passes, and all modes restored afterwards.",
        ),
        Mistake.edits_of(
            "train() and nothing else",
            [(SET_MODES, "    model.train()\n"), (RESTORE_MODES, "")],
            "train() puts batch norm into training mode too, and the model stays so. Switch the "
            "Dropout layers only, and restore every mode.",
        ),
        Mistake(
            "one pass, repeated",
            PASSES,
            "torch.stack([model(x)] * samples)",
            "The model is called once and its output repeated. Each pass is a call of its own, "
            "with fresh masks.",
        ),
        Mistake(
            "one pass too few",
            "range(samples)",
            "range(max(samples - 1, 1))",
            "There is one pass fewer than asked for.",
        ),
        Mistake(
            "a pass to warm up",
            f"        passes = {PASSES}",
            f"        model(x)\n        passes = {PASSES}",
            "The model is called once more than asked for: a call before the passes whose output "
            "is thrown away.",
        ),
        Mistake(
            "mean and deviation over passes and batch",
            RETURN,
            "return passes.mean(dim=(0, 1)), passes.std(dim=(0, 1), correction=0)",
            "You average over the examples of the batch as well. Each example has a mean of its "
            "own: average over the passes alone.",
        ),
        Mistake(
            "mean absolute deviation",
            RETURN,
            "mean = passes.mean(dim=0)\n    return mean, (passes - mean).abs().mean(dim=0)",
            "You average the absolute distances from the mean. The standard deviation is the root "
            "of the mean squared distance.",
        ),
        Mistake(
            "mean square less squared mean, which rounding makes negative",
            RETURN,
            "mean = passes.mean(dim=0)\n"
            "    return mean, (passes.square().mean(dim=0) - mean.square()).sqrt()",
            "Where the passes agree, the mean square less the squared mean is rounding error, "
            "sometimes below zero, and its root is NaN. Subtract the mean before you square.",
        ),
        Mistake(
            "softmax of the passes",
            PASSES,
            "torch.stack([model(x).softmax(dim=-1) for _ in range(samples)])",
            "You summarise a softmax of the outputs. The mean and the deviation asked for are "
            "those of model(x) as it is.",
        ),
        Mistake(
            "recording left switched off",
            "    with torch.no_grad():\n        passes = ",
            "    torch.set_grad_enabled(False)\n    passes = ",
            "Afterwards nothing records a graph any more, anywhere in the program: switch "
            "recording off for the passes only, with a context that ends.",
        ),
        Mistake(
            "one pass too many",
            "range(samples)",
            "range(samples + 1)",
            "There is one pass more than asked for.",
        ),
        Mistake(
            "x repeated in one big batch",
            PASSES,
            "model(torch.cat([x] * samples)).unflatten(0, (samples, len(x)))",
            "The model is to be called with x as it is, once for each pass: a batch as large as "
            "all passes together may not fit into memory.",
        ),
        Mistake(
            "deviation over samples minus one",
            "correction=0",
            "correction=1",
            "The deviation divides by the number of passes. PyTorch's default divides by one "
            "fewer, which is NaN for a single pass.",
        ),
        Mistake(
            "variance instead of deviation",
            "passes.std(",
            "passes.var(",
            "This is the variance, in squared units: the standard deviation is its root.",
        ),
        Mistake(
            "standard error of the mean",
            "passes.std(dim=0, correction=0)",
            "passes.std(dim=0, correction=0) / samples**0.5",
            "You divide by the root of the number of passes: that tells how exact the mean is. "
            "The deviation of the passes is asked for.",
        ),
        Mistake(
            "mean and deviation over the batch",
            RETURN,
            "return passes.mean(dim=1), passes.std(dim=1, correction=0)",
            "You average over the examples of the batch. Average over the passes.",
        ),
        Mistake(
            "deviation over everything",
            "passes.std(dim=0, correction=0)",
            "passes.std(correction=0)",
            "One number for all: the deviation is taken for each output on its own.",
        ),
        Mistake(
            "mean over everything",
            "passes.mean(dim=0)",
            "passes.mean()",
            "One number for all: the mean is taken for each output on its own.",
        ),
        Mistake(
            "deviation and mean in the wrong order",
            RETURN,
            "return passes.std(dim=0, correction=0), passes.mean(dim=0)",
            "The mean comes first, then the standard deviation.",
        ),
        Mistake(
            "median for mean",
            "passes.mean(dim=0)",
            "passes.median(dim=0).values",
            "The mean of the passes is asked for, not their median.",
        ),
        Mistake(
            "the plain prediction for the mean",
            RETURN,
            "return model(x).detach(), passes.std(dim=0, correction=0)",
            "The mean is that of the passes, not a pass without dropout.",
        ),
        Mistake(
            "a sum for the mean",
            "passes.mean(dim=0)",
            "passes.sum(dim=0)",
            "The passes are added up but not divided by their number.",
        ),
        Mistake(
            "graph recorded",
            "    with torch.no_grad():\n        passes = ",
            "    passes = ",
            "The passes are recorded for a backward pass that never comes, which holds the memory "
            "of all of them. Switch recording off.",
        ),
    ],
    variants=[
        Variant(
            "decorated, modes in a dict",
            """
            @torch.no_grad()
            def mc_dropout_predict(model, x, samples):
                before = {name: module.training for name, module in model.named_modules()}
                model.eval()
                for module in model.modules():
                    if isinstance(module, Dropout):
                        module.train()
                outputs = []
                for _ in range(samples):
                    outputs.append(model(x))
                for name, module in model.named_modules():
                    module.training = before[name]
                outputs = torch.stack(outputs, dim=-1)
                return outputs.mean(-1), outputs.std(-1, unbiased=False)
            """,
        ),
        Variant(
            "running sums, try and finally",
            """
            def mc_dropout_predict(model, x, samples):
                modules = list(model.modules())
                modes = [m.training for m in modules]
                try:
                    for m in modules:
                        m.train(isinstance(m, Dropout))
                    total, squares = 0.0, 0.0
                    with torch.inference_mode():
                        for _ in range(samples):
                            y = model(x)
                            total = total + y
                            squares = squares + y**2
                        mean = total / samples
                        std = (squares / samples - mean**2).clamp(min=0).sqrt()
                finally:
                    for m, mode in zip(modules, modes):
                        m.training = mode
                return mean, std
            """,
        ),
        Variant(
            "dropout layers of either kind, modes set by apply",
            """
            def mc_dropout_predict(model, x, samples):
                modes = {}

                def activate(module):
                    modes[module] = module.training
                    module.training = isinstance(module, (Dropout, nn.Dropout))

                model.apply(activate)
                with torch.no_grad():
                    passes = torch.cat([model(x).unsqueeze(0) for _ in range(samples)])
                for module in model.modules():
                    module.training = modes[module]
                return passes.mean(0), passes.var(0, unbiased=False).sqrt()
            """,
        ),
        Variant(
            "dropout layers by their class's name",
            """
            def mc_dropout_predict(model, x, samples):
                was = [m.training for m in model.modules()]
                model.eval()
                for m in model.modules():
                    if m.__class__.__name__.startswith("Dropout"):
                        m.train()
                with torch.no_grad():
                    ys = [model(x) for _ in range(samples)]
                for m, mode in zip(model.modules(), was):
                    m.training = mode
                mean = sum(ys) / len(ys)
                return mean, torch.sqrt(sum((y - mean) ** 2 for y in ys) / len(ys))
            """,
        ),
        Variant(
            "deviations squared by hand, detached at the end",
            """
            def mc_dropout_predict(model, x, samples):
                kept = [(m, m.training) for m in model.modules()]
                model.eval()
                for m, _ in kept:
                    if type(m) is Dropout:
                        m.training = True
                ys = torch.stack([model(x).detach() for _ in range(samples)])
                for m, mode in kept:
                    m.training = mode
                mean = ys.sum(0) / samples
                return [mean, ((ys - mean).pow(2).sum(0) / samples).sqrt()]
            """,
        ),
        Variant(
            "on a copy of the model",
            """
            def mc_dropout_predict(model, x, samples):
                import copy

                model = copy.deepcopy(model).eval()
                for module in model.modules():
                    if isinstance(module, Dropout):
                        module.train()
                with torch.no_grad():
                    passes = torch.stack([model(x) for _ in range(samples)])
                mean = passes.mean(0)
                return mean, (passes - mean).square().mean(0).sqrt()
            """,
        ),
        Variant(
            "torch.var_mean",
            """
            def mc_dropout_predict(model, x, samples):
                state = {m: m.training for m in model.modules()}
                for m in state:
                    m.training = isinstance(m, Dropout)
                with torch.set_grad_enabled(False):
                    var, mean = torch.var_mean(
                        torch.stack([model(x) for i in range(samples)]), dim=0, unbiased=False
                    )
                for m, mode in state.items():
                    m.training = mode
                return mean, var**0.5
            """,
        ),
    ],
)


@mc_dropout_predict.test(
    points=2.5,
    cases=[
        Case(
            "a model in evaluation mode", scripted_passes, script_of(4, 3, samples=6, **EVALUATING)
        ),
        Case("a model in training mode", scripted_passes, script_of(5, samples=7, **TRAINING)),
        Case(
            "layers in modes of their own",
            scripted_passes,
            script_of(2, 3, samples=4, model=True, norm=False, dropout=False, nested=True),
        ),
        Case(
            "an evaluating model with layers in training",
            scripted_passes,
            script_of(3, 2, 4, samples=5, model=False, norm=True, dropout=True, nested=False),
        ),
        Case("one pass", scripted_passes, script_of(3, 2, samples=1, **TRAINING), naming_nan),
        Case(
            "passes that agree",
            scripted_passes,
            script_of(6, 8, samples=3, alike=True, **TRAINING),
            facts_of_agreement,
        ),
    ],
)
def test_summarises_the_passes(submission, case):
    """Returns mean and deviation of the passes, and leaves the model as it was"""
    submission.matches_reference(case)


@mc_dropout_predict.test(
    points=1,
    cases=[
        Case(
            "many passes through real dropout",
            real_passes,
            lambda make: dict(
                x=make.uniform(3, 60), weight=make.away_from_zero(1, 60), samples=400
            ),
            facts_of_real_passes,
        )
    ],
)
def test_measures_the_spread_of_dropout(submission, case):
    """Measures the spread that dropout causes"""
    submission.matches_reference(case)


@mc_dropout_predict.test(
    points=0.5,
    cases=[
        Case(
            "a few passes",
            passes_without_weights,
            lambda make: dict(x=make.normal(5, 4), weight=make.normal(4, 3), samples=6),
        )
    ],
)
def test_mc_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)
