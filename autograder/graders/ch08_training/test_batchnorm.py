"""Batch normalisation and its relatives.

Ioffe & Szegedy (2015), https://arxiv.org/abs/1502.03167; Ba, Kiros & Hinton (2016),
https://arxiv.org/abs/1607.06450; Ulyanov, Vedaldi & Lempitsky (2016),
https://arxiv.org/abs/1607.08022; Wu & He (2018), https://arxiv.org/abs/1803.08494;
Zhang & Sennrich (2019), https://arxiv.org/abs/1910.07467.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from autograder.spec import (
    TRAINING,
    Case,
    Exercise,
    Mistake,
    Variant,
    gradients,
    load_parameters,
    raised,
)

# Momentum is neither PyTorch's default nor symmetric; eps is large enough for its place to show.
HYPER = {"momentum": 0.3, "eps": 0.2}

NORMALISATIONS = [
    *(
        f"torch.nn.functional.{name}"
        for name in ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")
    ),
    *(f"torch.nn.{kind}Norm{d}d" for kind in ("Batch", "LazyBatch", "Instance") for d in (1, 2, 3)),
    *(f"torch.nn.LazyInstanceNorm{d}d" for d in (1, 2, 3)),
    "torch.nn.SyncBatchNorm",
    "torch.nn.LayerNorm",
    "torch.nn.GroupNorm",
    "torch.nn.RMSNorm",
    *(
        f"torch.{name}"
        for name in (
            "batch_norm",
            "layer_norm",
            "group_norm",
            "instance_norm",
            "rms_norm",
            "native_batch_norm",
            "native_layer_norm",
            "native_group_norm",
            "cudnn_batch_norm",
        )
    ),
    "torch.ops",
]
BY_AUTOGRAD = [
    "torch.autograd",
    *(f"torch.autograd.{name}" for name in ("grad", "backward", "functional")),
    "torch.Tensor.backward",
    *(f"torch.func.{name}" for name in ("grad", "vjp", "jvp", "jacrev", "jacfwd")),
]


# What the exercises are run on ---------------------------------------------------------------


def per_channel(values, x):
    """Values of shape (C,) laid along dimension 1 of x."""
    return values.reshape(-1, *[1] * (x.dim() - 2))


def some_x(make, *shape, far=2.0):
    """(N, C, …): every channel with a centre and a spread of its own."""
    noise = make.normal(*shape)
    centre = make.away_from_zero(shape[1], low=0.5 * far, high=far)
    spread = make.uniform(shape[1], low=0.6, high=1.8)
    return per_channel(centre, noise) + per_channel(spread, noise) * noise


def affine(make, *shape):
    return {"gamma": make.away_from_zero(*shape), "beta": make.away_from_zero(*shape)}


def warm(make, c):
    """Running statistics far from those of any batch above."""
    return {
        "running_mean": make.uniform(c, low=4.0, high=7.0),
        "running_var": make.uniform(c, low=5.0, high=12.0),
    }


def batchnorm_inputs(make, *shape, training=True, **changes):
    c = shape[1]
    made = dict(x=some_x(make, *shape), **affine(make, c), **warm(make, c))
    return {**made, "training": training, **HYPER, **changes}


def backward_inputs(make, *shape, eps=HYPER["eps"], **changes):
    made = {
        "grad_output": make.normal(*shape, mean=0.7),
        "x": some_x(make, *shape),
        "gamma": make.away_from_zero(shape[1]),
        "eps": eps,
    }
    return {**made, **changes}


def with_a_constant_feature(x):
    return torch.cat([x[:, :1].mean().expand(len(x), 1), x[:, 1:]], dim=1)


# Batch normalisation, forward ------------------------------------------------------------------


def output_alone(impl, x, gamma, beta, running_mean, running_var, training, **hyper):
    out, _, _ = impl(x, gamma, beta, running_mean, running_var, training, **hyper)
    return {"output": out}


def statistics_alone(impl, x, gamma, beta, running_mean, running_var, training, **hyper):
    _, mean, var = impl(x, gamma, beta, running_mean, running_var, training, **hyper)
    return {"new running mean": mean, "new running variance": var}


def everything(impl, x, gamma, beta, running_mean, running_var, training, **hyper):
    out, mean, var = impl(x, gamma, beta, running_mean, running_var, training, **hyper)
    return {"output": out, "new running mean": mean, "new running variance": var}


def trained_then_evaluated(impl, batches, x, gamma, beta, running_mean, running_var, **hyper):
    mean, var = running_mean, running_var
    for batch in batches:
        _, mean, var = impl(batch, gamma, beta, mean, var, True, **hyper)
    out, kept_mean, kept_var = impl(x, gamma, beta, mean, var, False, **hyper)
    return {
        "output in evaluation": out,
        "running mean after evaluation": kept_mean,
        "running variance after evaluation": kept_var,
    }


def trained_inputs(make, *shape, sizes=(5, 9, 6)):
    c = shape[1]
    return dict(
        batches=[some_x(make, n, *shape[1:]) for n in sizes],
        x=some_x(make, *shape),
        **affine(make, c),
        **warm(make, c),
        **HYPER,
    )


def gradients_of_forward(impl, x, gamma, beta, cotangent, **rest):
    leaves = [t.detach().clone().requires_grad_() for t in (x, gamma, beta)]
    found = gradients(impl(*leaves, **rest)[0], leaves, cotangent)
    return dict(zip(("gradient of x", "gradient of gamma", "gradient of beta"), found, strict=True))


def history_of_statistics(impl, x, gamma, beta, **rest):
    leaves = [t.detach().clone().requires_grad_() for t in (x, gamma, beta)]
    out, mean, var = impl(*leaves, **rest)
    return {
        "a gradient flows through the output": out.requires_grad,
        "a gradient flows through the new running mean": mean.requires_grad,
        "a gradient flows through the new running variance": var.requires_grad,
    }


def too_few_values(impl, **inputs):
    return {"raised": raised(lambda: impl(**inputs), ValueError)}


def too_few_and_enough(impl, x, **inputs):
    return {
        "one value a feature": raised(lambda: impl(x[:1], **inputs), ValueError),
        "two values a feature": raised(lambda: impl(x, **inputs), ValueError),
    }


def torch_batch_norm(x, gamma, beta, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    if training and x.numel() // x.shape[1] < 2:
        raise ValueError("training needs at least two values")
    mean, var = running_mean.detach().clone(), running_var.detach().clone()
    out = F.batch_norm(x, mean, var, gamma, beta, training, momentum, eps)
    return out, mean, var


def for_dimensions(count, oracle):
    """An oracle that is as narrow as its exercise: vectors or images, not both."""

    def narrow(*args, **kwargs):
        first = args[0] if args else kwargs["x" if "x" in kwargs else "grad_output"]
        if first.dim() != count:
            raise ValueError(f"expected {count} dimensions")
        return oracle(*args, **kwargs)

    return narrow


HINTS = {
    "eps outside the root": "eps is added to the variance before the root is taken, not to the "
    "standard deviation after it.",
    "eps forgotten": "eps is missing: it is added to the variance, so that a feature that never "
    "varies does not divide by zero.",
    "eps hard-coded": "eps is an argument: use the one that was passed, not its default.",
    "eps as a floor": "eps is added to every variance; it is not a floor for the small ones.",
    "multiplied by the standard deviation": "The centred values are divided by the standard "
    "deviation; yours are multiplied by it.",
    "divides by the variance": "Dividing by the variance gives values of the wrong unit: divide by "
    "its root, the standard deviation.",
    "unbiased variance normalises": "Within the batch, normalise with the biased variance (divide "
    "by the number of values, not by one less). `Tensor.var` is unbiased unless told otherwise.",
    "gamma forgotten": "The normalised values are not multiplied by gamma yet.",
    "beta forgotten": "The scaled values are not shifted by beta yet.",
    "gamma and beta forgotten": "The values are normalised, but neither scaled by gamma nor "
    "shifted by beta.",
    "gamma from one": "You scale by 1 + gamma. gamma is the scale itself.",
    "gamma before normalising": "gamma multiplies x before it is normalised, which undoes its "
    "effect on the scale. It comes after.",
    "in single precision": "Something computes in float32 whatever the inputs are: leave x in its "
    "dtype.",
    "mean detached": "The mean depends on x: a gradient must flow through it, so do not detach it "
    "where it normalises.",
    "variance detached": "The variance depends on x: a gradient must flow through it, so do not "
    "detach it where it normalises.",
    "gamma and beta exchanged": "gamma scales and beta shifts; yours have changed places.",
    "gamma scales beta too": "Shift last: beta is added after the scaling, so gamma does not "
    "multiply it.",
    "mean not subtracted": "Only the scale is normalised so far: subtract the mean as well.",
    "statistics detached": "The mean and the variance depend on x: gradients must flow through "
    "them, so do not detach them or compute them under no_grad.",
    "another exception": "The docstring names the exception to raise: a ValueError, raised with "
    "`raise`; an `assert` raises another one.",
    "E[x²] − E[x]²": "Right on paper, but two large, nearly equal numbers are subtracted, and "
    "float32 loses the digits. Average the squared distances from the mean instead.",
}

MEAN = "mean = x.mean(dim=0)  # (D,)"
VAR = "var = (x - mean).square().mean(dim=0)  # (D,)"
UNBIASED = "unbiased = var.detach() * n / (n - 1)"
NEW_MEAN = "running_mean = (1 - momentum) * running_mean + momentum * mean.detach()"
NEW_VAR = "running_var = (1 - momentum) * running_var + momentum * unbiased"
KEPT_MEAN = ("momentum * mean.detach()", "momentum * mean")
KEPT_VAR = (UNBIASED, "unbiased = var * n / (n - 1)")
EVALUATION = "mean, var = running_mean, running_var\n"
X_HAT = "x_hat = (x - mean) / torch.sqrt(var + eps)"
OUT = "return gamma * x_hat + beta, running_mean, running_var"


def known(name, old, new):
    return Mistake(name, old, new, HINTS[name])


ROOT = "torch.sqrt(var + eps)"
ROOT_MISTAKES = [
    known("eps outside the root", ROOT, "(torch.sqrt(var) + eps)"),
    known("eps forgotten", ROOT, "torch.sqrt(var)"),
    known("eps hard-coded", ROOT, "torch.sqrt(var + 1e-5)"),
    known("eps as a floor", ROOT, "torch.sqrt(var.clamp(min=eps))"),
    known("divides by the variance", ROOT, "(var + eps)"),
    known("multiplied by the standard deviation", ROOT, "torch.rsqrt(var + eps)"),
]

FORWARD_MISTAKES = [
    *ROOT_MISTAKES,
    Mistake.edits_of(
        "unbiased variance normalises",
        [(VAR, "var = x.var(dim=0)"), (UNBIASED, "unbiased = var.detach()")],
        HINTS["unbiased variance normalises"],
    ),
    Mistake(
        "unbiased standard deviation, eps outside",
        X_HAT,
        "x_hat = (x - mean) / ((x.std(dim=0) if training else var.sqrt()) + eps)",
        "Two things at once: within the batch the variance is biased, and eps goes under its root.",
    ),
    Mistake(
        "biased variance in the running variance",
        UNBIASED,
        "unbiased = var.detach()",
        "The batch is normalised with the biased variance, but the running variance averages the "
        "unbiased one, which divides by one less than the number of values.",
    ),
    Mistake(
        "corrected twice",
        VAR,
        "var = x.var(dim=0)",
        "`Tensor.var` is unbiased already: within the batch use the biased variance, and correct "
        "it only for the running one.",
    ),
    Mistake.edits_of(
        "biased and unbiased variance exchanged",
        [(VAR, "var = x.var(dim=0)"), (UNBIASED, "unbiased = var.detach() * (n - 1) / n")],
        "The two variances have changed places: the biased one normalises the batch, the unbiased "
        "one goes into the running variance.",
    ),
    Mistake(
        "Bessel's correction upside down",
        "* n / (n - 1)",
        "* (n - 1) / n",
        "The unbiased variance is the larger of the two: your correction is upside down.",
    ),
    Mistake(
        "counts the features",
        "unbiased = var.detach() * n / (n - 1)",
        "unbiased = var.detach() * x.shape[1] / (x.shape[1] - 1)",
        "The correction counts the values that a feature is averaged over, which are the examples, "
        "not the features.",
    ),
    Mistake.edits_of(
        "momentum weighs the past",
        [
            (NEW_MEAN, "running_mean = momentum * running_mean + (1 - momentum) * mean.detach()"),
            (NEW_VAR, "running_var = momentum * running_var + (1 - momentum) * unbiased"),
        ],
        "Here momentum is the weight of the new batch, as PyTorch has it; you gave that weight to "
        "the past.",
    ),
    Mistake(
        "momentum weighs the past mean",
        NEW_MEAN,
        "running_mean = momentum * running_mean + (1 - momentum) * mean.detach()",
        "The running variance is right, but in the running mean momentum is the weight of the "
        "past: it belongs to the new batch.",
    ),
    Mistake(
        "momentum weighs the past variance",
        NEW_VAR,
        "running_var = momentum * running_var + (1 - momentum) * unbiased",
        "The running mean is right, but in the running variance momentum is the weight of the "
        "past: it belongs to the new batch.",
    ),
    Mistake.edits_of(
        "momentum hard-coded",
        [
            (NEW_MEAN, "running_mean = 0.9 * running_mean + 0.1 * mean.detach()"),
            (NEW_VAR, "running_var = 0.9 * running_var + 0.1 * unbiased"),
        ],
        "momentum is an argument: use the one that was passed, not its default.",
    ),
    Mistake.edits_of(
        "added up instead of averaged",
        [
            (NEW_MEAN, "running_mean = running_mean + momentum * mean.detach()"),
            (NEW_VAR, "running_var = running_var + momentum * unbiased"),
        ],
        "The two weights of the running average must add up to one: the past has to be scaled down "
        "too.",
    ),
    Mistake.edits_of(
        "no running average",
        [(NEW_MEAN, "running_mean = mean.detach()"), (NEW_VAR, "running_var = unbiased")],
        "The new running statistics are those of this batch alone: average them with the past "
        "ones, weighed by momentum.",
    ),
    Mistake.edits_of(
        "running statistics not updated",
        [(NEW_MEAN, "running_mean = running_mean"), (NEW_VAR, "running_var = running_var")],
        "In training the running statistics should move towards those of the batch; yours come "
        "back as they were.",
    ),
    Mistake(
        "running variance not updated",
        NEW_VAR,
        "running_var = running_var",
        "The running mean moves, but the running variance comes back as it was.",
    ),
    Mistake(
        "running standard deviation",
        "+ momentum * unbiased",
        "+ momentum * unbiased.sqrt()",
        "running_var averages variances; a standard deviation went into yours.",
    ),
    Mistake(
        "eps in the running variance",
        "+ momentum * unbiased",
        "+ momentum * (unbiased + eps)",
        "eps guards the division only; it does not belong in the running variance.",
    ),
    *[
        Mistake(
            name,
            EVALUATION,
            "mean, var = running_mean, running_var\n"
            "        running_mean = (1 - momentum) * running_mean + momentum * x.mean(dim=0)\n"
            f"        running_var = (1 - momentum) * running_var + momentum * {batch_var}\n",
            "In evaluation the running statistics are read and left alone; yours still follow the "
            "batch.",
        )
        for name, batch_var in (
            (
                "running statistics updated in evaluation",
                "(x - x.mean(dim=0)).square().sum(dim=0) / (len(x) - 1)",
            ),
            ("running statistics updated in evaluation, biased", "x.var(dim=0, correction=0)"),
        )
    ],
    Mistake(
        "batch statistics in evaluation",
        EVALUATION,
        "mean, var = x.mean(dim=0), x.var(dim=0, correction=0)\n",
        "In evaluation an example must not depend on the others in its batch: normalise with the "
        "running statistics.",
    ),
    Mistake(
        "training and evaluation exchanged",
        "    if training:",
        "    if not training:",
        "The two modes have changed places: the batch's own statistics belong to training.",
    ),
    Mistake(
        "never in evaluation",
        "    if training:",
        "    if training or not training:",
        "The argument `training` makes no difference in your answer: in evaluation, read the "
        "running statistics and leave them alone.",
    ),
    Mistake(
        "normalises with the running statistics in training",
        X_HAT,
        "x_hat = (x - running_mean) / torch.sqrt(running_var + eps)",
        "In training the batch is normalised with its own mean and variance; the running ones are "
        "only kept up to date for later.",
    ),
    Mistake.edits_of(
        "old running statistics in training",
        [
            (X_HAT, "x_hat = (x - old[0]) / torch.sqrt(old[1] + eps)"),
            ("    if training:", "    old = running_mean, running_var\n    if training:"),
        ],
        "In training the batch is normalised with its own mean and variance; the running ones wait "
        "for evaluation.",
    ),
    Mistake.edits_of(
        "normalises each example",
        [
            (MEAN, "mean = x.mean(dim=1, keepdim=True)"),
            (VAR, "var = (x - mean).square().mean(dim=1, keepdim=True)"),
        ],
        "You average over the features of an example, which is layer normalisation. Batch "
        "normalisation averages each feature over the batch.",
    ),
    Mistake.edits_of(
        "statistics of shape (1, D)",
        [
            (MEAN, "mean = x.mean(dim=0, keepdim=True)"),
            (VAR, "var = (x - mean).square().mean(dim=0, keepdim=True)"),
        ],
        "The running statistics have shape (D,): a kept dimension of size one is still in yours.",
    ),
    Mistake.edits_of(
        "one mean for all features",
        [
            (MEAN, "mean = x.mean().expand(x.shape[1])"),
            (VAR, "var = (x - mean).square().mean().expand(x.shape[1])"),
        ],
        "Your statistics are one number for the whole batch; every feature has a mean and a "
        "variance of its own.",
    ),
    Mistake(
        "variance around the running mean",
        VAR,
        "var = (x - running_mean).square().mean(dim=0)",
        "The variance of the batch is measured around the mean of the batch, not around the "
        "running mean.",
    ),
    Mistake(
        "variance not centred",
        VAR,
        "var = x.square().mean(dim=0)",
        "The mean of the squares is not the variance: subtract the mean before squaring.",
    ),
    known("E[x²] − E[x]²", VAR, "var = x.square().mean(dim=0) - mean.square()"),
    known("gamma and beta forgotten", "gamma * x_hat + beta", "x_hat"),
    Mistake(
        "eps squared",
        X_HAT,
        "x_hat = (x - mean) / torch.sqrt(var + eps**2)",
        "eps is added to the variance as it is: it is not a standard deviation to be squared.",
    ),
    Mistake(
        "old variance corrected as well",
        NEW_VAR,
        "running_var = ((1 - momentum) * running_var + momentum * var.detach()) * n / (n - 1)",
        "The correction N/(N-1) belongs to the batch's variance alone. Yours enlarges the old "
        "running variance too, again at every batch.",
    ),
    Mistake(
        "eps in the batch's part of the running variance",
        UNBIASED,
        "unbiased = (var.detach() + eps) * n / (n - 1)",
        "eps only keeps the root away from zero: the running variance is fed with the batch's "
        "variance, without eps.",
    ),
    Mistake(
        "running mean updated in evaluation",
        EVALUATION,
        EVALUATION
        + "        running_mean = torch.lerp(running_mean, x.detach().mean(dim=0), momentum)\n",
        "In evaluation the running statistics stay as they are: yours follow the batch there too.",
    ),
    Mistake(
        "running variance uncorrected in evaluation",
        EVALUATION,
        "mean, var = running_mean, running_var * max(len(x) - 1, 1) / len(x)\n",
        "In evaluation the running variance is used as it is: how many examples there are now "
        "has nothing to do with it.",
    ),
    Mistake(
        "cut off from the graph in evaluation",
        X_HAT,
        "x_hat = ((x if training else x.detach()) - mean) / torch.sqrt(var + eps)",
        "In evaluation no gradient reaches x: something detaches it. Only the running statistics "
        "are constants.",
    ),
    Mistake(
        "two examples refused in training",
        "if n < 2:",
        "if n <= 2:",
        "Two examples have a spread: only a batch of fewer than two is refused.",
    ),
    Mistake(
        "x changed in place",
        X_HAT,
        "x.sub_(mean.detach())\n    x_hat = x / torch.sqrt(var + eps)",
        "You subtract the mean from the caller's x itself. Make a new tensor.",
    ),
    known("mean not subtracted", X_HAT, "x_hat = x / torch.sqrt(var + eps)"),
    known("gamma forgotten", "gamma * x_hat + beta", "x_hat + beta"),
    known("beta forgotten", "gamma * x_hat + beta", "gamma * x_hat"),
    known("gamma and beta exchanged", "gamma * x_hat + beta", "beta * x_hat + gamma"),
    known("gamma scales beta too", "gamma * x_hat + beta", "gamma * (x_hat + beta)"),
    Mistake(
        "no gamma and beta in evaluation",
        EVALUATION,
        EVALUATION
        + "        return (x - mean) / torch.sqrt(var + eps), running_mean, running_var\n",
        "In evaluation the normalised values are scaled by gamma and shifted by beta just as in "
        "training.",
    ),
    Mistake(
        "no eps in evaluation",
        EVALUATION,
        "mean, var = running_mean, running_var - eps\n",
        "eps is added to the variance in evaluation too.",
    ),
    Mistake(
        "corrected again in evaluation",
        EVALUATION,
        "mean, var = running_mean, running_var * len(x) / max(len(x) - 1, 1)\n",
        "The running variance is unbiased already: in evaluation use it as it is.",
    ),
    Mistake(
        "running statistics returned in the wrong order",
        OUT,
        "return gamma * x_hat + beta, running_var, running_mean",
        "The running mean is returned before the running variance.",
    ),
    Mistake(
        "output alone returned",
        OUT,
        "return gamma * x_hat + beta",
        "Three tensors are returned: the output, the new running mean and the new running "
        "variance.",
    ),
    Mistake(
        "statistics of the batch returned",
        OUT,
        "return gamma * x_hat + beta, mean.detach(), var.detach()",
        "Return the new running statistics, not the mean and the variance that this batch was "
        "normalised with.",
    ),
    Mistake.edits_of(
        "running statistics changed in place",
        [
            (NEW_MEAN, "running_mean.mul_(1 - momentum).add_(momentum * mean.detach())"),
            (NEW_VAR, "running_var.mul_(1 - momentum).add_(momentum * unbiased)"),
        ],
        "The running statistics that were passed must stay as they are: return new tensors.",
    ),
    *[
        Mistake.edits_of(
            name,
            edits,
            "The running statistics must not remember how they were computed, or the graph of "
            "every batch so far stays alive: detach what goes into them.",
        )
        for name, edits in (
            ("running mean keeps its history", [KEPT_MEAN]),
            ("running variance keeps its history", [KEPT_VAR]),
            ("running statistics keep their history", [KEPT_MEAN, KEPT_VAR]),
        )
    ],
    Mistake.edits_of(
        "statistics detached",
        [(MEAN, "mean = x.mean(dim=0).detach()"), (VAR, f"{VAR[:37]}.detach()")],
        HINTS["statistics detached"],
    ),
    Mistake(
        "mean detached",
        X_HAT,
        "x_hat = (x - mean.detach()) / torch.sqrt(var + eps)",
        "The mean depends on x: a gradient must flow through it, so do not detach it where it "
        "normalises.",
    ),
    Mistake(
        "variance detached",
        X_HAT,
        "x_hat = (x - mean) / torch.sqrt(var + eps).detach()",
        "The variance depends on x: a gradient must flow through it, so do not detach it where it "
        "normalises.",
    ),
    Mistake(
        "a single example accepted in training",
        "if n < 2:",
        "if n < 1:",
        "One example has no spread to normalise by: the docstring asks for a ValueError.",
    ),
    Mistake(
        "another exception",
        "raise ValueError(",
        "raise RuntimeError(",
        HINTS["another exception"],
    ),
    Mistake(
        "a single example refused in evaluation",
        "    if training:",
        "    if x.shape[0] < 2:\n        raise ValueError\n    if training:",
        "In evaluation a single example is fine: only training needs two.",
    ),
]

batchnorm_forward = Exercise(
    "batchnorm_forward",
    oracle=for_dimensions(2, torch_batch_norm),
    forbids=NORMALISATIONS,
    mistakes=FORWARD_MISTAKES,
    variants=[
        Variant(
            "var_mean and lerp",
            """
            def batchnorm_forward(
                x, gamma, beta, running_mean, running_var, training, momentum=0.1, eps=1e-5
            ):
                if not training:
                    inv_std = torch.rsqrt(running_var + eps)
                    return (x - running_mean) * inv_std * gamma + beta, running_mean, running_var
                if len(x) == 1:
                    raise ValueError("one example")
                var, mean = torch.var_mean(x, dim=0, correction=0)
                out = torch.addcmul(beta, (x - mean) * torch.rsqrt(var + eps), gamma)
                with torch.no_grad():
                    new_mean = torch.lerp(running_mean, mean, momentum)
                    new_var = torch.lerp(running_var, x.var(dim=0), momentum)
                return [out, new_mean, new_var]
            """,
        ),
        Variant(
            "a loop over the features",
            """
            def batchnorm_forward(
                x, gamma, beta, running_mean, running_var, training, momentum=0.1, eps=1e-5
            ):
                n, d = x.shape
                if training and n <= 1:
                    raise ValueError("too few")
                columns, means, variances = [], [], []
                for j in range(d):
                    column = x[:, j]
                    if training:
                        mean = column.sum() / n
                        spread = ((column - mean) ** 2).sum()
                        var = spread / n
                        means.append(
                            running_mean[j] + momentum * (mean.detach() - running_mean[j])
                        )
                        variances.append(
                            running_var[j]
                            + momentum * (spread.detach() / (n - 1) - running_var[j])
                        )
                    else:
                        mean, var = running_mean[j], running_var[j]
                        means.append(mean)
                        variances.append(var)
                    columns.append(gamma[j] * (column - mean) / (var + eps) ** 0.5 + beta[j])
                return torch.stack(columns, dim=1), torch.stack(means), torch.stack(variances)
            """,
        ),
        Variant(
            "in place on copies of its own",
            """
            def batchnorm_forward(
                x, gamma, beta, running_mean, running_var, training, momentum=0.1, eps=1e-5
            ):
                running_mean, running_var = running_mean.clone(), running_var.clone()
                mean, var = running_mean, running_var
                if training:
                    if x.size(0) < 2:
                        raise ValueError("needs two examples")
                    mean, var = x.mean(0), x.var(0, unbiased=False)
                    running_mean *= 1 - momentum
                    running_mean += momentum * mean.detach()
                    running_var.mul_(1 - momentum).add_(x.detach().var(0), alpha=momentum)
                scale = gamma / (var + eps).sqrt()
                return (x - mean).mul(scale).add(beta), running_mean, running_var
            """,
        ),
        Variant.edits_of(
            "one scale and one shift a feature",
            [
                (X_HAT + "  # (N, D)", "scale = gamma / torch.sqrt(var + eps)"),
                ("gamma * x_hat + beta", "x * scale + (beta - mean * scale)"),
            ],
        ),
    ],
)


@batchnorm_forward.test(
    points=2,
    cases=[
        Case(
            "the output for a batch",
            output_alone,
            lambda make: batchnorm_inputs(make, 7, 4),
        ),
        Case(
            "the output for a smaller batch of more features",
            output_alone,
            lambda make: batchnorm_inputs(make, 3, 8),
        ),
        Case(
            "a feature that is the same in every example",
            lambda impl, x, **rest: output_alone(impl, with_a_constant_feature(x), **rest),
            lambda make: batchnorm_inputs(make, 6, 3),
        ),
        Case(
            "features far from zero",
            output_alone,
            lambda make: batchnorm_inputs(make, 6, 3, x=some_x(make, 6, 3, far=600.0), eps=1e-3),
        ),
        Case(
            "momentum and eps left at their defaults, features of tiny spread",
            everything,
            lambda make: dict(
                x=make.normal(5, 3, std=0.002),
                **affine(make, 3),
                **warm(make, 3),
                training=True,
            ),
        ),
    ],
)
def test_normalises_the_batch_in_training(submission, case):
    """Normalises the batch with its own mean and variance in training"""
    submission.matches_reference(case)


@batchnorm_forward.test(
    points=1.5,
    cases=[
        Case(
            "one update of warm statistics",
            statistics_alone,
            lambda make: batchnorm_inputs(make, 7, 4),
        ),
        Case(
            "a momentum that forgets the past",
            statistics_alone,
            lambda make: batchnorm_inputs(make, 5, 3, momentum=1.0),
        ),
        Case(
            "batches of different sizes, one after another",
            trained_then_evaluated,
            lambda make: trained_inputs(make, 4, 3),
        ),
    ],
)
def test_updates_the_running_statistics(submission, case):
    """Moves the running statistics towards those of the batch in training"""
    submission.matches_reference(case)


@batchnorm_forward.test(
    points=1.5,
    cases=[
        Case(
            "a batch far from the running statistics",
            everything,
            lambda make: batchnorm_inputs(make, 5, 4, training=False),
        ),
        Case(
            "a single example",
            everything,
            lambda make: batchnorm_inputs(make, 1, 4, training=False),
        ),
        Case(
            "a small running variance",
            everything,
            lambda make: batchnorm_inputs(
                make, 5, 4, training=False, running_var=make.uniform(4, low=0.1, high=0.5)
            ),
        ),
    ],
)
def test_uses_the_running_statistics_in_evaluation(submission, case):
    """Uses the running statistics, and leaves them alone, in evaluation"""
    submission.matches_reference(case)


@batchnorm_forward.test(
    points=1,
    cases=[
        Case(
            "gradients in training",
            gradients_of_forward,
            lambda make: batchnorm_inputs(make, 6, 4, cotangent=make.normal(6, 4)),
        ),
        Case(
            "gradients in evaluation",
            gradients_of_forward,
            lambda make: batchnorm_inputs(make, 6, 4, training=False, cotangent=make.normal(6, 4)),
        ),
        Case(
            "what a gradient flows through",
            history_of_statistics,
            lambda make: batchnorm_inputs(make, 6, 4),
        ),
    ],
)
def test_gradients_flow_through_the_batch_alone(submission, case):
    """Lets gradients through the statistics of the batch, and none through the running ones"""
    submission.matches_reference(case)


@batchnorm_forward.test(
    points=0.5,
    cases=[
        Case(
            "one example in training",
            too_few_and_enough,
            lambda make: batchnorm_inputs(make, 2, 4),
        ),
    ],
)
def test_refuses_a_single_example_in_training(submission, case):
    """Refuses a batch that has no spread"""
    submission.matches_reference(case)


@batchnorm_forward.test(
    points=0.5,
    cases=[
        Case("in training", everything, lambda make: batchnorm_inputs(make, 6, 4)),
        Case(
            "in evaluation", everything, lambda make: batchnorm_inputs(make, 6, 4, training=False)
        ),
    ],
)
def test_forward_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# Batch normalisation, backward -----------------------------------------------------------------


def gradient_of_x(impl, grad_output, x, gamma, eps):
    var, mean = torch.var_mean(x, dim=0, correction=0)
    return {"gradient of x": impl(grad_output, x, gamma, mean, var, eps)[0]}


def gradients_of_parameters(impl, grad_output, x, gamma, eps):
    var, mean = torch.var_mean(x, dim=0, correction=0)
    _, grad_gamma, grad_beta = impl(grad_output, x, gamma, mean, var, eps=eps)
    return {"gradient of gamma": grad_gamma, "gradient of beta": grad_beta}


def all_gradients(impl, **inputs):
    return gradient_of_x(impl, **inputs) | gradients_of_parameters(impl, **inputs)


def gradients_at_the_default_eps(impl, grad_output, x, gamma, eps):
    del eps
    var, mean = torch.var_mean(x, dim=0, correction=0)
    grad_x, grad_gamma, _ = impl(grad_output, x, gamma, mean, var)
    return {"gradient of x": grad_x, "gradient of gamma": grad_gamma}


def backward_by_autograd(grad_output, x, gamma, mean, var, eps=1e-5):
    del mean, var
    with torch.enable_grad():
        leaves = [x.detach().clone(), gamma.detach().clone(), torch.zeros_like(gamma)]
        for leaf in leaves:
            leaf.requires_grad_()
        out = F.batch_norm(leaves[0], None, None, leaves[1], leaves[2], True, 0.0, eps)
        return torch.autograd.grad(out, leaves, grad_output)


batchnorm_backward = Exercise(
    "batchnorm_backward",
    oracle=backward_by_autograd,
    forbids=[*BY_AUTOGRAD, *NORMALISATIONS],
    mistakes=[
        Mistake.edits_of(
            "1/(N − 1) on the way through mean and variance",
            [
                ("grad_var.expand_as(x) / n", "grad_var.expand_as(x) / (n - 1)"),
                ("grad_centred + grad_mean / n", "grad_centred + grad_mean / (n - 1)"),
            ],
            "The mean and the biased variance divide by N, and so do the gradients that go back "
            "through them; yours are divided by N - 1.",
        ),
        Mistake(
            "mean and variance taken for constants",
            "grad_x = grad_centred + grad_mean / n",
            "grad_x = grad_x_hat * inv_std",
            "x also reaches the output through the mean and through the variance of its batch: two "
            "more paths to follow back. (In evaluation yours would be right.)",
        ),
        Mistake(
            "no path through the variance",
            "grad_centred + 2 * centred * grad_squared",
            "grad_centred",
            "The centred values have two consumers: x_hat directly, and the variance. The path "
            "through the variance is missing, or it is the same for all examples and cancels.",
        ),
        Mistake(
            "only the path through the variance",
            "grad_centred + 2 * centred * grad_squared",
            "2 * centred * grad_squared",
            "The centred values have two consumers, and the gradients of both are added; your "
            "second path replaces the first.",
        ),
        Mistake(
            "no path through the mean",
            "grad_centred + grad_mean / n",
            "grad_centred",
            "x has two consumers: the centred values directly, and the mean. The path through the "
            "mean is missing.",
        ),
        Mistake(
            "only the path through the mean",
            "grad_centred + grad_mean / n",
            "(grad_mean / n).expand_as(x)",
            "x has two consumers, and the gradients of both are added; your second path replaces "
            "the first.",
        ),
        Mistake(
            "the mean's path with the wrong sign",
            "-grad_centred.sum(dim=0)",
            "grad_centred.sum(dim=0)",
            "The mean is subtracted, so the gradient that comes back through it changes sign.",
        ),
        Mistake(
            "the variance's path with the wrong sign",
            "-grad_inv_std / std**2",
            "grad_inv_std / std**2",
            "1/s falls as s grows: its derivative is negative.",
        ),
        Mistake(
            "a standard deviation missing",
            "-grad_inv_std / std**2",
            "-grad_inv_std / std",
            "Between 1/s and the variance lie two derivatives: that of 1/s has s squared below the "
            "line, that of √v has √v. One of these factors is missing.",
        ),
        Mistake(
            "two standard deviations missing",
            "-grad_inv_std / std**2",
            "-grad_inv_std",
            "The derivative of v to the power −½ is −½ v to the power −3/2: check your exponent.",
        ),
        Mistake(
            "root's ½ forgotten",
            "0.5 * grad_std / std",
            "grad_std / std",
            "The derivative of √v is 1/(2√v): the 2 is missing.",
        ),
        Mistake(
            "square's 2 forgotten",
            "2 * centred * grad_squared",
            "centred * grad_squared",
            "The derivative of c² is 2c: the 2 is missing.",
        ),
        Mistake(
            "1/N of the variance forgotten",
            "grad_var.expand_as(x) / n",
            "grad_var.expand_as(x)",
            "The variance is a mean over the batch: each example receives only its Nth part of the "
            "gradient.",
        ),
        Mistake(
            "unbiased variance",
            "grad_var.expand_as(x) / n",
            "grad_var.expand_as(x) / (n - 1)",
            "The batch was normalised with the biased variance: its gradient is shared among N, "
            "not N − 1.",
        ),
        Mistake(
            "1/N of the mean forgotten",
            "grad_mean / n",
            "grad_mean",
            "The mean is a sum divided by N: each example receives only its Nth part of the "
            "gradient.",
        ),
        Mistake(
            "counts the features",
            "n = x.shape[0]",
            "n = x.shape[1]",
            "N is the number of examples, not of features.",
        ),
        Mistake(
            "not summed over the batch for 1/s",
            "(grad_x_hat * centred).sum(dim=0)",
            "grad_x_hat * centred",
            "1/s is shared by the whole batch, so its gradient is summed over the batch.",
        ),
        Mistake(
            "averaged over the batch for 1/s",
            "(grad_x_hat * centred).sum(dim=0)",
            "(grad_x_hat * centred).mean(dim=0)",
            "1/s is shared by the whole batch: its gradient is a sum over the batch. The 1/N comes "
            "later, from the variance's mean.",
        ),
        Mistake(
            "not summed over the batch for the mean",
            "grad_mean = -grad_centred.sum(dim=0)",
            "grad_mean = -grad_centred",
            "The mean is shared by the whole batch, so its gradient is summed over the batch.",
        ),
        Mistake(
            "a standard deviation too many",
            "(grad_x_hat * centred).sum(dim=0)",
            "(grad_x_hat * x_hat).sum(dim=0)",
            "The variance's path is divided by the standard deviation once too often. The factor "
            "of r's gradient is c, not x_hat; and the derivative of √v divides by √v, not by v.",
        ),
        Mistake(
            "gamma forgotten on the variance's path",
            "(grad_x_hat * centred).sum(dim=0)",
            "(grad_output * centred).sum(dim=0)",
            "What comes back through the variance has passed gamma too: start from the gradient of "
            "x_hat.",
        ),
        Mistake(
            "1/s forgotten on the direct path",
            "grad_centred = grad_x_hat * inv_std",
            "grad_centred = grad_x_hat",
            "x_hat is centred times 1/s: on the direct path back to the centred values the "
            "gradient is multiplied by 1/s.",
        ),
        Mistake(
            "unbiased variance recomputed",
            "torch.sqrt(var + eps)",
            "torch.sqrt(x.var(dim=0) + eps)",
            "The batch was normalised with the biased variance, the one that you are given.",
        ),
        Mistake(
            "gamma forgotten",
            "grad_x_hat = grad_output * gamma",
            "grad_x_hat = grad_output",
            "On the way back to x_hat the gradient is multiplied by gamma.",
        ),
        Mistake(
            "gradient of gamma from x",
            "(grad_output * x_hat).sum(dim=0)",
            "(grad_output * x).sum(dim=0)",
            "gamma multiplied the normalised values, so these are the factor in its gradient, not "
            "x.",
        ),
        Mistake(
            "gradient of gamma from the centred values",
            "(grad_output * x_hat).sum(dim=0)",
            "(grad_output * centred).sum(dim=0)",
            "gamma multiplied the values after the division by the standard deviation: these are "
            "the factor in its gradient.",
        ),
        Mistake(
            "gamma in its own gradient",
            "(grad_output * x_hat).sum(dim=0)",
            "(grad_output * gamma * x_hat).sum(dim=0)",
            "The output is linear in gamma, so gamma itself does not occur in its gradient.",
        ),
        Mistake(
            "gradient of beta averaged",
            "grad_beta = grad_output.sum(dim=0)",
            "grad_beta = grad_output.mean(dim=0)",
            "beta is added to every example: their gradients are summed, not averaged.",
        ),
        Mistake.edits_of(
            "gradients of gamma and beta averaged",
            [
                ("grad_beta = grad_output.sum(dim=0)", "grad_beta = grad_output.mean(dim=0)"),
                ("(grad_output * x_hat).sum(dim=0)", "(grad_output * x_hat).mean(dim=0)"),
            ],
            "gamma and beta serve every example: their gradients are summed, not averaged.",
        ),
        Mistake(
            "gradient of gamma averaged",
            "(grad_output * x_hat).sum(dim=0)",
            "(grad_output * x_hat).mean(dim=0)",
            "gamma scales every example: their gradients are summed, not averaged.",
        ),
        Mistake.edits_of(
            "summed over the features",
            [
                ("grad_beta = grad_output.sum(dim=0)", "grad_beta = grad_output.sum(dim=1)"),
                ("(grad_output * x_hat).sum(dim=0)", "(grad_output * x_hat).sum(dim=1)"),
            ],
            "gamma and beta have one value a feature: sum over the examples, not over the "
            "features.",
        ),
        Mistake.edits_of(
            "gradients of gamma and beta of shape (1, D)",
            [
                ("grad_beta = grad_output.sum(dim=0)", "grad_beta = grad_output.sum(0, True)"),
                ("(grad_output * x_hat).sum(dim=0)", "(grad_output * x_hat).sum(0, True)"),
            ],
            "The gradients of gamma and beta have their shape, (D,): a kept dimension of size one "
            "is still in yours.",
        ),
        Mistake(
            "returned in reverse",
            "return grad_x, grad_gamma, grad_beta",
            "return grad_beta, grad_gamma, grad_x",
            "The gradients are returned in the order of the forward's arguments: x, gamma, beta.",
        ),
        Mistake(
            "gradient of x alone",
            "return grad_x, grad_gamma, grad_beta",
            "return grad_x",
            "Three gradients are returned: of x, of gamma and of beta.",
        ),
        Mistake(
            "returned in the wrong order",
            "return grad_x, grad_gamma, grad_beta",
            "return grad_x, grad_beta, grad_gamma",
            "The gradient of gamma is returned before that of beta.",
        ),
        Mistake(
            "eps forgotten",
            "torch.sqrt(var + eps)",
            "torch.sqrt(var)",
            "The forward pass added eps to the variance: the same standard deviation belongs here.",
        ),
        Mistake(
            "eps hard-coded",
            "torch.sqrt(var + eps)",
            "torch.sqrt(var + 1e-5)",
            "eps is an argument: use the one that was passed, not its default.",
        ),
        Mistake(
            "eps outside the root",
            "torch.sqrt(var + eps)",
            "torch.sqrt(var) + eps",
            "eps is added to the variance before the root is taken, not after.",
        ),
        Mistake(
            "gradient changed in place",
            "grad_output * gamma",
            "grad_output.mul_(gamma)",
            "grad_output belongs to the caller: multiply into a new tensor.",
        ),
    ],
    variants=[
        Variant(
            "the Jacobian of each column",
            """
            def batchnorm_backward(grad_output, x, gamma, mean, var, eps=1e-5):
                n = x.shape[0]
                eye = torch.eye(n, dtype=x.dtype, device=x.device)
                cols = []
                x_hat = (x - mean) / (var + eps).sqrt()
                for d in range(x.shape[1]):
                    h = x_hat[:, d]
                    jacobian = (eye - 1 / n - torch.outer(h, h) / n) * gamma[d]
                    cols.append(jacobian @ grad_output[:, d] / torch.sqrt(var[d] + eps))
                return torch.stack(cols, dim=1), (grad_output * x_hat).sum(0), grad_output.sum(0)
            """,
        ),
        Variant(
            "Ioffe and Szegedy's three gradients",
            """
            def batchnorm_backward(grad_output, x, gamma, mean, var, eps=1e-5):
                n = len(x)
                inv_std = (var + eps).rsqrt()
                x_hat = (x - mean) * inv_std
                g = gamma * grad_output
                grad_var = (g * (x - mean) * -0.5 * inv_std**3).sum(0)
                grad_mean = (-g * inv_std).sum(0) + grad_var * (-2 * (x - mean)).mean(0)
                grad_x = g * inv_std + grad_var * 2 * (x - mean) / n + grad_mean / n
                return grad_x, torch.einsum("nd,nd->d", grad_output, x_hat), grad_output.sum(0)
            """,
        ),
        Variant(
            "the closed formula",
            """
            def batchnorm_backward(grad_output, x, gamma, mean, var, eps=1e-5):
                std = (var + eps) ** 0.5
                x_hat = (x - mean) / std
                g = grad_output * gamma
                grad_x = (g - g.mean(dim=0) - x_hat * (g * x_hat).mean(dim=0)) / std
                return [grad_x, (grad_output * x_hat).sum(dim=0), grad_output.sum(dim=0)]
            """,
        ),
        Variant(
            "the statistics computed anew, feature by feature",
            """
            def batchnorm_backward(grad_output, x, gamma, mean, var, eps=1e-5):
                grad_x = torch.empty_like(x)
                grad_gamma, grad_beta = torch.zeros_like(gamma), torch.zeros_like(gamma)
                n, d = x.shape
                for j in range(d):
                    c = x[:, j] - x[:, j].mean()
                    s = torch.sqrt((c * c).mean() + eps)
                    g = grad_output[:, j]
                    jacobian = torch.eye(n, dtype=x.dtype, device=x.device) - 1 / n
                    jacobian = jacobian - torch.outer(c, c) / (n * s**2)
                    grad_x[:, j] = gamma[j] / s * (jacobian @ g)
                    grad_gamma[j] = (g * c / s).sum()
                    grad_beta[j] = g.sum()
                return grad_x, grad_gamma, grad_beta
            """,
        ),
    ],
)

BACKWARD_CASES = [
    ("a batch", lambda make: backward_inputs(make, 7, 4)),
    ("a smaller batch of more features", lambda make: backward_inputs(make, 3, 6)),
    (
        "a feature that is the same in every example",
        lambda make: backward_inputs(make, 5, 3, x=with_a_constant_feature(some_x(make, 5, 3))),
    ),
]


@batchnorm_backward.test(
    points=3.5,
    cases=[
        *(Case(title, gradient_of_x, inputs) for title, inputs in BACKWARD_CASES),
        Case(
            "eps left at its default, features of tiny spread",
            gradients_at_the_default_eps,
            lambda make: backward_inputs(make, 5, 3, x=make.normal(5, 3, std=0.002)),
        ),
    ],
)
def test_gradient_of_the_input(submission, case):
    """Finds the gradient of x along all three of its paths"""
    submission.matches_reference(case)


@batchnorm_backward.test(
    points=1,
    cases=[Case(title, gradients_of_parameters, inputs) for title, inputs in BACKWARD_CASES],
)
def test_gradients_of_gamma_and_beta(submission, case):
    """Finds the gradients of gamma and beta"""
    submission.matches_reference(case)


@batchnorm_backward.test(
    points=0.5, cases=[Case("a batch", all_gradients, lambda make: backward_inputs(make, 6, 4))]
)
def test_backward_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# Batch normalisation, backward in closed form --------------------------------------------------


def remembered(x, eps):
    """What the forward pass leaves behind: x_hat, and one over the standard deviation."""
    dims = [d for d in range(x.dim()) if d != 1]
    var, mean = torch.var_mean(x, dim=dims, correction=0, keepdim=True)
    inv_std = torch.rsqrt(var + eps)
    return (x - mean) * inv_std, inv_std.reshape(-1)


def simplified_gradient_of_x(impl, grad_output, x, gamma, eps):
    x_hat, inv_std = remembered(x, eps)
    return {"gradient of x": impl(grad_output, x_hat, gamma, inv_std)[0]}


def simplified_gradients_of_parameters(impl, grad_output, x, gamma, eps):
    x_hat, inv_std = remembered(x, eps)
    _, grad_gamma, grad_beta = impl(grad_output, x_hat, gamma, inv_std)
    return {"gradient of gamma": grad_gamma, "gradient of beta": grad_beta}


def all_simplified_gradients(impl, **inputs):
    of_x = simplified_gradient_of_x(impl, **inputs)
    return of_x | simplified_gradients_of_parameters(impl, **inputs)


def simplified_by_autograd(grad_output, x_hat, gamma, inv_std):
    """Undo the normalisation, do it again with autograd watching, and ask for the gradients."""
    with torch.enable_grad():
        x = (x_hat / per_channel(inv_std, x_hat)).detach().requires_grad_()
        gamma = gamma.detach().clone().requires_grad_()
        beta = torch.zeros_like(gamma).requires_grad_()
        dims = [d for d in range(x.dim()) if d != 1]
        var, mean = torch.var_mean(x, dim=dims, correction=0)
        eps = (inv_std**-2 - var).detach()
        normalised = (x - per_channel(mean, x)) / per_channel((var + eps).sqrt(), x)
        out = per_channel(gamma, x) * normalised + per_channel(beta, x)
        return torch.autograd.grad(out, [x, gamma, beta], grad_output)


SIMPLIFIED_MISTAKES = [
    Mistake(
        "mean and variance taken for constants",
        "(grad_output - along)",
        "grad_output",
        "Both sums are missing: they are what comes back through the mean and the variance. (In "
        "evaluation yours would be right.)",
    ),
    Mistake(
        "no term of the mean",
        "along = grad_beta / n + x_hat * grad_gamma / n",
        "along = x_hat * grad_gamma / n",
        "What comes back through the mean is missing: the average of the gradients over the batch.",
    ),
    Mistake(
        "no term of the variance",
        "along = grad_beta / n + x_hat * grad_gamma / n",
        "along = grad_beta / n",
        "What comes back through the variance is missing: the term in the direction of x_hat.",
    ),
    Mistake(
        "terms of the wrong sign",
        "(grad_output - along)",
        "(grad_output + along)",
        "Both averages are taken away from the gradient, not added to it.",
    ),
    Mistake(
        "the variance's term of the wrong sign",
        "grad_beta / n + x_hat * grad_gamma / n",
        "grad_beta / n - x_hat * grad_gamma / n",
        "The term of the variance is subtracted too; watch the bracket.",
    ),
    Mistake(
        "x_hat forgotten in the variance's term",
        "x_hat * grad_gamma / n",
        "grad_gamma / n",
        "The term of the variance points along x_hat: it has that factor twice, inside the sum and "
        "outside.",
    ),
    Mistake(
        "x_hat not in the variance's sum",
        "x_hat * grad_gamma / n",
        "x_hat * grad_beta / n",
        "The sum of the variance's term weighs each gradient by its x_hat.",
    ),
    Mistake(
        "mean's term not averaged",
        "grad_beta / n +",
        "grad_beta +",
        "The term of the mean is an average over the batch; yours is a sum.",
    ),
    Mistake(
        "variance's term not averaged",
        "x_hat * grad_gamma / n",
        "x_hat * grad_gamma",
        "The term of the variance is an average over the batch; yours is a sum.",
    ),
    Mistake(
        "neither term averaged",
        "grad_beta / n + x_hat * grad_gamma / n",
        "grad_beta + x_hat * grad_gamma",
        "Both terms are averages over the batch; yours are sums.",
    ),
    Mistake(
        "unbiased variance",
        "x_hat * grad_gamma / n",
        "x_hat * grad_gamma / (n - 1)",
        "The batch was normalised with the biased variance: divide by N, not by N − 1.",
    ),
    Mistake(
        "both terms divided by N − 1",
        "grad_beta / n + x_hat * grad_gamma / n",
        "grad_beta / (n - 1) + x_hat * grad_gamma / (n - 1)",
        "Both terms are averages over the batch: divide by N, not by N − 1.",
    ),
    Mistake.edits_of(
        "N forgotten inside",
        [
            ("grad_beta / n + x_hat * grad_gamma / n", "grad_beta + x_hat * grad_gamma"),
            ("(grad_output - along)", "(grad_output - along) / n"),
        ],
        "With 1/N in front of the bracket, the first term inside needs the factor N.",
    ),
    Mistake(
        "gamma missing from the averages",
        "gamma * inv_std * (grad_output - along)",
        "inv_std * (gamma * grad_output - along)",
        "gamma multiplies the gradient before the averages are taken, so it belongs to all three "
        "terms.",
    ),
    Mistake(
        "gamma missing from the mean's term",
        "gamma * inv_std * (grad_output - along)",
        "inv_std * (gamma * grad_output - grad_beta / n - gamma * x_hat * grad_gamma / n)",
        "gamma multiplies the gradient before the averages are taken, so it belongs to all three "
        "terms; it is missing from that of the mean.",
    ),
    Mistake(
        "gamma missing from the variance's term",
        "gamma * inv_std * (grad_output - along)",
        "inv_std * (gamma * (grad_output - grad_beta / n) - x_hat * grad_gamma / n)",
        "gamma multiplies the gradient before the averages are taken, so it belongs to all three "
        "terms; it is missing from that of the variance.",
    ),
    Mistake(
        "x_hat taken for the centred values",
        "x_hat * grad_gamma / n",
        "x_hat * inv_std**2 * grad_gamma / n",
        "x_hat is divided by the standard deviation already: its term needs no more powers of "
        "inv_std.",
    ),
    Mistake(
        "1/N outside",
        "gamma * inv_std * (grad_output - along)",
        "gamma * inv_std * (grad_output - along) / n",
        "Your 1/N divides the whole bracket: the first term inside then needs the factor N.",
    ),
    Mistake(
        "N outside",
        "gamma * inv_std * (grad_output - along)",
        "gamma * inv_std * (grad_output - along) * n",
        "A factor 1/N is missing in front of the bracket.",
    ),
    Mistake(
        "gamma forgotten",
        "gamma * inv_std *",
        "inv_std *",
        "On the way back to x_hat the gradient is multiplied by gamma.",
    ),
    Mistake(
        "gamma twice",
        "gamma * inv_std *",
        "gamma * gamma * inv_std *",
        "gamma is in your formula twice, inside the bracket and in front of it; once is enough.",
    ),
    Mistake(
        "inv_std forgotten",
        "gamma * inv_std *",
        "gamma *",
        "The forward pass divided by the standard deviation, so its inverse scales the gradient.",
    ),
    Mistake(
        "inv_std taken for the standard deviation",
        "gamma * inv_std *",
        "gamma / inv_std *",
        "inv_std is one over the standard deviation already: multiply by it.",
    ),
    Mistake(
        "inv_std twice",
        "gamma * inv_std *",
        "gamma * inv_std * inv_std *",
        "The gradient scales with 1/s, once: x_hat already holds the other one.",
    ),
    Mistake(
        "inv_std in the gradient of gamma",
        "grad_gamma = (grad_output * x_hat).sum(dim=0)  # (D,)",
        "grad_gamma = (grad_output * x_hat * inv_std).sum(dim=0)",
        "gamma multiplied x_hat, which is normalised already: inv_std is not in its gradient.",
    ),
    Mistake.edits_of(
        "gamma in the gradients of gamma and beta",
        [
            ("grad_beta = grad_output.sum(dim=0)", "grad_beta = (gamma * grad_output).sum(dim=0)"),
            ("(grad_output * x_hat).sum(dim=0)", "(gamma * grad_output * x_hat).sum(dim=0)"),
            ("gamma * inv_std * (grad_output - along)", "inv_std * (gamma * grad_output - along)"),
        ],
        "The gradients of gamma and beta come from grad_output itself, before it is multiplied by "
        "gamma.",
    ),
    Mistake(
        "gamma in its own gradient",
        "return grad_x, grad_gamma, grad_beta",
        "return grad_x, gamma * grad_gamma, grad_beta",
        "The output is linear in gamma, so gamma itself does not occur in its gradient.",
    ),
    Mistake(
        "gamma in the gradient of beta",
        "return grad_x, grad_gamma, grad_beta",
        "return grad_x, grad_gamma, gamma * grad_beta",
        "beta is added after the scaling: gamma does not occur in its gradient.",
    ),
    Mistake(
        "gradient of gamma averaged",
        "return grad_x, grad_gamma, grad_beta",
        "return grad_x, grad_gamma / n, grad_beta",
        "gamma scales every example: their gradients are summed, not averaged.",
    ),
    Mistake(
        "gradient of beta averaged",
        "return grad_x, grad_gamma, grad_beta",
        "return grad_x, grad_gamma, grad_beta / n",
        "beta is added to every example: their gradients are summed, not averaged.",
    ),
    Mistake(
        "gradient of x alone",
        "return grad_x, grad_gamma, grad_beta",
        "return grad_x",
        "Three gradients are returned: of x, of gamma and of beta.",
    ),
    Mistake(
        "returned in reverse",
        "return grad_x, grad_gamma, grad_beta",
        "return grad_beta, grad_gamma, grad_x",
        "The gradients are returned in the order of the forward's arguments: x, gamma, beta.",
    ),
    Mistake(
        "gradients of gamma and beta averaged",
        "return grad_x, grad_gamma, grad_beta",
        "return grad_x, grad_gamma / n, grad_beta / n",
        "gamma and beta serve every example: their gradients are summed, not averaged.",
    ),
    Mistake(
        "returned in the wrong order",
        "return grad_x, grad_gamma, grad_beta",
        "return grad_x, grad_beta, grad_gamma",
        "The gradient of gamma is returned before that of beta.",
    ),
    Mistake(
        "counts the features",
        "n = grad_output.shape[0]",
        "n = grad_output.shape[1]",
        "N is the number of examples, not of features.",
    ),
    Mistake(
        "averaged over the features",
        "along = grad_beta / n + x_hat * grad_gamma / n",
        "along = grad_output.mean(dim=1, keepdim=True)"
        " + x_hat * (grad_output * x_hat).mean(dim=1, keepdim=True)",
        "Both averages run over the batch, feature by feature; yours run over the features.",
    ),
    Mistake(
        "gradient changed in place",
        "(grad_output - along)",
        "grad_output.sub_(along)",
        "grad_output belongs to the caller: subtract into a new tensor.",
    ),
]

batchnorm_backward_simplified = Exercise(
    "batchnorm_backward_simplified",
    oracle=for_dimensions(2, simplified_by_autograd),
    forbids=[*BY_AUTOGRAD, *NORMALISATIONS],
    mistakes=[
        *SIMPLIFIED_MISTAKES,
        Mistake(
            "counts all values",
            "n = grad_output.shape[0]",
            "n = grad_output.numel()",
            "N is the number of examples, over which each feature's sum runs; yours counts the "
            "features as well.",
        ),
        Mistake(
            "one average for all features",
            "along = grad_beta / n + x_hat * grad_gamma / n",
            "along = grad_output.mean() + x_hat * (grad_output * x_hat).mean()",
            "Your two averages run over the features too. Each feature is normalised by itself, "
            "and has averages over the batch of its own.",
        ),
        Mistake(
            "x_hat squared in the variance's term",
            "x_hat * grad_gamma / n",
            "x_hat**2 * grad_gamma / n",
            "In the variance's term x_hat stands once outside the sum and once within it; yours "
            "stands outside twice.",
        ),
    ],
    variants=[
        Variant(
            "the bracket times N, over N",
            """
            def batchnorm_backward_simplified(grad_output, x_hat, gamma, inv_std):
                n = grad_output.size(0)
                g = grad_output * gamma
                bracket = n * g - g.sum(0) - x_hat * (g * x_hat).sum(0)
                return inv_std / n * bracket, (grad_output * x_hat).sum(0), grad_output.sum(0)
            """,
        ),
        Variant(
            "projections as matrices",
            """
            def batchnorm_backward_simplified(grad_output, x_hat, gamma, inv_std):
                n = len(grad_output)
                ones = torch.ones_like(grad_output[:, :1])
                centred = grad_output - ones @ (ones.T @ grad_output) / n
                grad_gamma = torch.einsum("nd,nd->d", grad_output, x_hat)
                grad_x = (centred - x_hat * grad_gamma / n).mul_(gamma).mul_(inv_std)
                return [grad_x, grad_gamma, (ones.T @ grad_output)[0]]
            """,
        ),
        Variant(
            "a loop over the features",
            """
            def batchnorm_backward_simplified(grad_output, x_hat, gamma, inv_std):
                columns, grad_gamma, grad_beta = [], [], []
                for g, xh, scale in zip(grad_output.T, x_hat.T, gamma * inv_std):
                    columns.append(scale * (g - g.mean() - xh * torch.mean(g * xh)))
                    grad_gamma.append(torch.dot(g, xh))
                    grad_beta.append(g.sum())
                return torch.stack(columns, 1), torch.stack(grad_gamma), torch.stack(grad_beta)
            """,
        ),
    ],
)


@batchnorm_backward_simplified.test(
    points=2.5,
    cases=[Case(title, simplified_gradient_of_x, inputs) for title, inputs in BACKWARD_CASES],
)
def test_simplified_gradient_of_the_input(submission, case):
    """Finds the gradient of x in closed form"""
    submission.matches_reference(case)


@batchnorm_backward_simplified.test(
    points=1,
    cases=[
        Case(title, simplified_gradients_of_parameters, inputs) for title, inputs in BACKWARD_CASES
    ],
)
def test_simplified_gradients_of_gamma_and_beta(submission, case):
    """Finds the gradients of gamma and beta"""
    submission.matches_reference(case)


@batchnorm_backward_simplified.test(
    points=0.5,
    cases=[Case("a batch", all_simplified_gradients, lambda make: backward_inputs(make, 6, 4))],
)
def test_simplified_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# Spatial batch normalisation -------------------------------------------------------------------


def strided(x):
    """The same values, laid out in memory so that `view` cannot merge dimensions."""
    return x.mT.contiguous().mT


def everything_strided(impl, x, **rest):
    return everything(impl, x=strided(x), **rest)


ROWS = "x.permute(0, 2, 3, 1).reshape(n * h * w, c)"
IMAGES = "out.reshape(n, h, w, c).permute(0, 3, 1, 2)"
CALL = "rows, gamma, beta, running_mean, running_var, training, momentum, eps"
RETURN = f"return {IMAGES}, running_mean, running_var"

# What students write who do not call batchnorm_forward: right, and then wrong in one place.
SPATIAL_BY_HAND = """
def spatial_batchnorm_forward(
    x, gamma, beta, running_mean, running_var, training, momentum=0.1, eps=1e-5
):
    count = x.shape[0] * x.shape[2] * x.shape[3]
    if training:
        if count < 2:
            raise ValueError("too few values")
        mean = x.mean(dim=(0, 2, 3))
        var = x.var(dim=(0, 2, 3), correction=0)
        running_mean = (1 - momentum) * running_mean + momentum * mean.detach()
        running_var = (1 - momentum) * running_var + momentum * var.detach() * count / (count - 1)
    else:
        mean, var = running_mean, running_var
    x_hat = (x - mean[:, None, None]) / torch.sqrt(var + eps)[:, None, None]
    return gamma[:, None, None] * x_hat + beta[:, None, None], running_mean, running_var
"""


def by_hand(name, hint, *edits):
    source = SPATIAL_BY_HAND
    for old, new in edits:
        if source.count(old) != 1:
            raise ValueError(f"{name}: {old!r} is there {source.count(old)} times")
        source = source.replace(old, new)
    return Mistake.written(name, source, hint)


spatial_batchnorm_forward = Exercise(
    "spatial_batchnorm_forward",
    oracle=for_dimensions(4, torch_batch_norm),
    forbids=NORMALISATIONS,
    mistakes=[
        Mistake.edits_of(
            "reshaped without moving the channels",
            [(ROWS, "x.reshape(n * h * w, c)"), (IMAGES, "out.reshape(n, c, h, w)")],
            "Reshaping (N, C, H, W) into C columns mixes channels and positions: move the channels "
            "to the end before, and back after.",
        ),
        Mistake.edits_of(
            "channels moved to the front",
            [
                (ROWS, "x.transpose(0, 1).reshape(n * h * w, c)"),
                (IMAGES, "out.reshape(c, n, h, w).transpose(0, 1)"),
            ],
            "A row of the table should hold one value of each channel, so the channels belong at "
            "the end before reshaping, not at the front.",
        ),
        Mistake(
            "channels left at the end",
            IMAGES,
            "out.reshape(n, h, w, c)",
            "The output has the shape of x, (N, C, H, W): move the channels back to their place.",
        ),
        Mistake(
            "channels not moved to the end",
            ROWS,
            "x.reshape(n * h * w, c)",
            "Reshaping (N, C, H, W) into C columns mixes channels and positions: move the channels "
            "to the end first.",
        ),
        Mistake(
            "channels not moved back",
            IMAGES,
            "out.reshape(n, c, h, w)",
            "The rows come back in the order N, H, W, C: give them that shape first, then move the "
            "channels back to their place.",
        ),
        Mistake(
            "height and width exchanged",
            IMAGES,
            "out.reshape(n, w, h, c).permute(0, 3, 2, 1)",
            "The rows run along the width within the height: reshape them in the order in which "
            "they were made.",
        ),
        Mistake(
            "only channels and width exchanged",
            ROWS,
            "x.transpose(1, 3).reshape(n * h * w, c)",
            "transpose(1, 3) exchanges the channels with the width, so that the rows run along the "
            "height within the width. Go back in the order in which you came.",
        ),
        by_hand(
            "mean of the images' variances",
            "You average the variances of the single images. How far the images' means lie apart "
            "belongs to the variance of the channel as well.",
            (
                "        var = x.var(dim=(0, 2, 3), correction=0)",
                "        var = x.var(dim=(2, 3), correction=0).mean(dim=0)",
            ),
        ),
        Mistake(
            "view instead of reshape",
            ROWS,
            "x.view(n, c, h * w).transpose(1, 2).reshape(n * h * w, c)",
            "`view` needs contiguous memory, and x need not be; `reshape` copies where it must.",
        ),
        by_hand(
            "statistics for each position",
            "A channel is normalised over the batch and over all its positions, so that the same "
            "pattern is treated alike wherever it is; yours has statistics for each position.",
            ("mean = x.mean(dim=(0, 2, 3))", "mean = x.mean(dim=0)"),
            ("var = x.var(dim=(0, 2, 3), correction=0)", "var = x.var(dim=0, correction=0)"),
            (
                "(1 - momentum) * running_mean + momentum * mean.detach()",
                "(1 - momentum) * running_mean + momentum * mean.detach().mean(dim=(1, 2))",
            ),
            (
                "(1 - momentum) * running_var + momentum * var.detach() * count / (count - 1)",
                "(1 - momentum) * running_var + momentum * var.detach().mean(dim=(1, 2))"
                " * x.shape[0] / max(x.shape[0] - 1, 1)",
            ),
            (
                "mean, var = running_mean, running_var",
                "mean, var = running_mean[:, None, None], running_var[:, None, None]",
            ),
            (
                "(x - mean[:, None, None]) / torch.sqrt(var + eps)[:, None, None]",
                "(x - mean) / torch.sqrt(var + eps)",
            ),
        ),
        by_hand(
            "statistics for each image",
            "That is instance normalisation: here the images of the batch share the mean and the "
            "variance of a channel.",
            ("mean = x.mean(dim=(0, 2, 3))", "mean = x.mean(dim=(2, 3), keepdim=True)"),
            (
                "var = x.var(dim=(0, 2, 3), correction=0)",
                "var = x.var(dim=(2, 3), correction=0, keepdim=True)",
            ),
            (
                "(1 - momentum) * running_mean + momentum * mean.detach()",
                "(1 - momentum) * running_mean + momentum * mean.detach().mean(dim=(0, 2, 3))",
            ),
            (
                "momentum * var.detach() * count / (count - 1)",
                "momentum * x.detach().var(dim=(0, 2, 3))",
            ),
            (
                "mean, var = running_mean, running_var",
                "mean, var = running_mean[:, None, None], running_var[:, None, None]",
            ),
            (
                "(x - mean[:, None, None]) / torch.sqrt(var + eps)[:, None, None]",
                "(x - mean) / torch.sqrt(var + eps)",
            ),
        ),
        by_hand(
            "statistics over all channels",
            "Your mean and variance are shared by all channels; each channel has its own.",
            ("mean = x.mean(dim=(0, 2, 3))", "mean = x.mean().expand(x.shape[1])"),
            (
                "var = x.var(dim=(0, 2, 3), correction=0)",
                "var = x.var(correction=0).expand(x.shape[1])",
            ),
        ),
        by_hand(
            "positions along the width alone",
            "Positions run over the height and the width: your average leaves one of them out.",
            ("mean = x.mean(dim=(0, 2, 3))", "mean = x.mean(dim=(0, 3)).mean(dim=1)"),
            (
                "var = x.var(dim=(0, 2, 3), correction=0)",
                "var = x.var(dim=(0, 3), correction=0).mean(dim=1)",
            ),
        ),
        by_hand(
            "counts the images alone",
            "The unbiased variance counts every value that a channel is averaged over: N·H·W, not "
            "N.",
            (
                "var.detach() * count / (count - 1)",
                "var.detach() * x.shape[0] / max(x.shape[0] - 1, 1)",
            ),
        ),
        by_hand(
            "biased variance in the running variance",
            "The batch is normalised with the biased variance, but the running variance averages "
            "the unbiased one.",
            ("var.detach() * count / (count - 1)", "var.detach()"),
        ),
        by_hand(
            "unbiased variance normalises",
            HINTS["unbiased variance normalises"],
            ("var = x.var(dim=(0, 2, 3), correction=0)", "var = x.var(dim=(0, 2, 3))"),
            ("var.detach() * count / (count - 1)", "var.detach()"),
        ),
        by_hand(
            "momentum weighs the past",
            "Here momentum is the weight of the new batch, as PyTorch has it; you gave that weight "
            "to the past.",
            (
                "(1 - momentum) * running_mean + momentum * mean",
                "momentum * running_mean + (1 - momentum) * mean",
            ),
            (
                "(1 - momentum) * running_var + momentum * var",
                "momentum * running_var + (1 - momentum) * var",
            ),
        ),
        by_hand(
            "eps outside the root",
            HINTS["eps outside the root"],
            ("torch.sqrt(var + eps)", "(torch.sqrt(var) + eps)"),
        ),
        by_hand(
            "eps forgotten",
            HINTS["eps forgotten"],
            ("torch.sqrt(var + eps)", "torch.sqrt(var)"),
        ),
        by_hand(
            "running statistics keep their history",
            "The running statistics must not remember how they were computed: detach what goes "
            "into them.",
            ("mean.detach()", "mean"),
            ("var.detach()", "var"),
        ),
        by_hand(
            "statistics detached",
            HINTS["statistics detached"],
            ("mean = x.mean(dim=(0, 2, 3))", "mean = x.detach().mean(dim=(0, 2, 3))"),
            ("var = x.var(dim=", "var = x.detach().var(dim="),
        ),
        by_hand(
            "running statistics changed in place",
            "The running statistics that were passed must stay as they are: return new tensors.",
            (
                "running_mean = (1 - momentum) * running_mean + momentum * mean.detach()",
                "running_mean.mul_(1 - momentum).add_(momentum * mean.detach())",
            ),
            (
                "running_var = (1 - momentum) * running_var + momentum * var.detach() * count",
                "running_var.mul_(1 - momentum).add_(momentum * var.detach() * count",
            ),
            ("/ (count - 1)", "/ (count - 1))"),
        ),
        by_hand(
            "batch statistics in evaluation",
            "In evaluation an image must not depend on the others in its batch: normalise with the "
            "running statistics.",
            (
                "mean, var = running_mean, running_var",
                "mean, var = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), correction=0)",
            ),
        ),
        by_hand(
            "a single image refused",
            "One image with many positions has a mean and a variance: only a single value has "
            "none.",
            ("if count < 2", "if x.shape[0] < 2"),
        ),
        by_hand(
            "a single value accepted",
            "One value a channel has no spread: the docstring asks for a ValueError.",
            ("if count < 2", "if count < 1"),
        ),
        Mistake(
            "always in training",
            CALL,
            "rows, gamma, beta, running_mean, running_var, True, momentum, eps",
            "The argument `training` is not passed on: evaluation behaves as training.",
        ),
        Mistake(
            "training and evaluation exchanged",
            CALL,
            "rows, gamma, beta, running_mean, running_var, not training, momentum, eps",
            "The two modes have changed places: the batch's own statistics belong to training.",
        ),
        Mistake(
            "momentum and eps not passed on",
            CALL,
            "rows, gamma, beta, running_mean, running_var, training",
            "momentum and eps are arguments of this function too: pass them on.",
        ),
        Mistake(
            "momentum not passed on",
            CALL,
            "rows, gamma, beta, running_mean, running_var, training, eps=eps",
            "momentum is an argument of this function too: pass it on.",
        ),
        Mistake(
            "eps not passed on",
            CALL,
            "rows, gamma, beta, running_mean, running_var, training, momentum",
            "eps is an argument of this function too: pass it on.",
        ),
        Mistake(
            "momentum and eps exchanged",
            CALL,
            "rows, gamma, beta, running_mean, running_var, training, eps, momentum",
            "momentum comes before eps in the arguments; yours have changed places.",
        ),
        Mistake(
            "gamma and beta exchanged",
            CALL,
            "rows, beta, gamma, running_mean, running_var, training, momentum, eps",
            HINTS["gamma and beta exchanged"],
        ),
        Mistake.edits_of(
            "running statistics not returned",
            [
                ("out, running_mean, running_var = batch", "out, _, _ = batch"),
            ],
            "The running statistics come back as they were passed: return the new ones.",
        ),
        Mistake(
            "running statistics returned in the wrong order",
            RETURN,
            f"return {IMAGES}, running_var, running_mean",
            "The running mean is returned before the running variance.",
        ),
    ],
    variants=[
        Variant("by hand over three dimensions", SPATIAL_BY_HAND),
        Variant(
            "channels first, positions behind",
            """
            def spatial_batchnorm_forward(
                x, gamma, beta, running_mean, running_var, training, momentum=0.1, eps=1e-5
            ):
                columns = x.transpose(0, 1).flatten(start_dim=1)
                out, *statistics = batchnorm_forward(
                    columns.T, gamma, beta, running_mean, running_var, training=training,
                    momentum=momentum, eps=eps,
                )
                n, c, h, w = x.shape
                return out.T.reshape(c, n, h, w).transpose(0, 1).contiguous(), *statistics
            """,
        ),
        Variant(
            "einsum for the mean",
            """
            def spatial_batchnorm_forward(
                x, gamma, beta, running_mean, running_var, training, momentum=0.1, eps=1e-5
            ):
                as_map = lambda v: v.view(1, -1, 1, 1)
                m = x.numel() // x.size(1)
                if not training:
                    std = (running_var + eps).sqrt()
                    out = as_map(gamma / std) * (x - as_map(running_mean)) + as_map(beta)
                    return out, running_mean.clone(), running_var.clone()
                if m == 1:
                    raise ValueError("a single value")
                mean = torch.einsum("nchw->c", x) / m
                centred = x - as_map(mean)
                var = torch.einsum("nchw,nchw->c", centred, centred) / m
                out = as_map(gamma) * centred * as_map((var + eps).rsqrt()) + as_map(beta)
                with torch.no_grad():
                    running_mean = running_mean + momentum * (mean - running_mean)
                    running_var = running_var + momentum * (var * m / (m - 1) - running_var)
                return out, running_mean, running_var
            """,
        ),
    ],
)


@spatial_batchnorm_forward.test(
    points=1.5,
    cases=[
        Case("a batch of images", output_alone, lambda make: batchnorm_inputs(make, 3, 4, 2, 5)),
        Case(
            "a single image",
            everything,
            lambda make: batchnorm_inputs(make, 1, 3, 2, 4),
        ),
        Case(
            "images that are not contiguous in memory",
            everything_strided,
            lambda make: batchnorm_inputs(make, 2, 5, 4, 3),
        ),
        Case(
            "momentum and eps left at their defaults, channels of tiny spread",
            everything,
            lambda make: dict(
                x=make.normal(2, 3, 4, 5, std=0.002),
                **affine(make, 3),
                **warm(make, 3),
                training=True,
            ),
        ),
    ],
)
def test_normalises_each_channel(submission, case):
    """Normalises each channel over the batch and all positions"""
    submission.matches_reference(case)


@spatial_batchnorm_forward.test(
    points=1,
    cases=[
        Case(
            "one update of warm statistics",
            statistics_alone,
            lambda make: batchnorm_inputs(make, 3, 4, 2, 5),
        ),
        Case(
            "several updates, then evaluation",
            trained_then_evaluated,
            lambda make: trained_inputs(make, 2, 3, 2, 4, sizes=(3, 1, 4)),
        ),
    ],
)
def test_keeps_statistics_for_evaluation(submission, case):
    """Keeps running statistics for each channel, and uses them in evaluation"""
    submission.matches_reference(case)


@spatial_batchnorm_forward.test(
    points=0.5,
    cases=[
        Case(
            "gradients in training",
            gradients_of_forward,
            lambda make: batchnorm_inputs(make, 3, 4, 2, 5, cotangent=make.normal(3, 4, 2, 5)),
        ),
        Case(
            "what a gradient flows through",
            history_of_statistics,
            lambda make: batchnorm_inputs(make, 3, 4, 2, 5),
        ),
    ],
)
def test_spatial_gradients(submission, case):
    """Lets gradients through the statistics of the batch, and none through the running ones"""
    submission.matches_reference(case)


@spatial_batchnorm_forward.test(
    points=0.5,
    cases=[
        Case(
            "one image of one position in training",
            too_few_values,
            lambda make: batchnorm_inputs(make, 1, 4, 1, 1),
        ),
    ],
)
def test_refuses_a_single_value_in_training(submission, case):
    """Refuses a channel that has no spread"""
    submission.matches_reference(case)


@spatial_batchnorm_forward.test(
    points=0.5,
    cases=[
        Case("in training", everything, lambda make: batchnorm_inputs(make, 2, 3, 4, 5)),
        Case(
            "in evaluation",
            everything,
            lambda make: batchnorm_inputs(make, 2, 3, 4, 5, training=False),
        ),
    ],
)
def test_spatial_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


GRAD_ROWS = "grad_output.permute(0, 2, 3, 1).reshape(n * h * w, c)"
X_HAT_ROWS = "x_hat.permute(0, 2, 3, 1).reshape(n * h * w, c)"
GRAD_IMAGES = "grad_rows.reshape(n, h, w, c).permute(0, 3, 1, 2)"


def strided_gradient_of_x(impl, grad_output, x, gamma, eps):
    x_hat, inv_std = remembered(x, eps)
    return {"gradient of x": impl(strided(grad_output), strided(x_hat), gamma, inv_std)[0]}


def spatial_formula(name, hint, bracket="grad_output - mean - x_hat * along", **changes):
    parts = {
        "mean": "grad_output.mean(dim=(0, 2, 3), keepdim=True)",
        "along": "(grad_output * x_hat).mean(dim=(0, 2, 3), keepdim=True)",
        "scale": "(gamma * inv_std)[:, None, None]",
        "grad_gamma": "(grad_output * x_hat).sum(dim=(0, 2, 3))",
        "grad_beta": "grad_output.sum(dim=(0, 2, 3))",
    }
    lines = [f"    {name} = {value}" for name, value in {**parts, **changes}.items()]
    source = "\n".join(
        [
            "def spatial_batchnorm_backward(grad_output, x_hat, gamma, inv_std):",
            *lines,
            f"    return scale * ({bracket}), grad_gamma, grad_beta",
        ]
    )
    return Mistake.written(name, source, hint) if hint else Variant(name, source)


spatial_batchnorm_backward = Exercise(
    "spatial_batchnorm_backward",
    oracle=for_dimensions(4, simplified_by_autograd),
    forbids=[*BY_AUTOGRAD, *NORMALISATIONS],
    mistakes=[
        Mistake(
            "height and width exchanged",
            GRAD_IMAGES,
            "grad_rows.reshape(n, w, h, c).permute(0, 3, 2, 1)",
            "The rows run along the width within the height: reshape them in the order in which "
            "they were made.",
        ),
        Mistake(
            "gradients of gamma and beta with axes of size one",
            "grad_gamma, grad_beta\n",
            "grad_gamma.reshape(1, c, 1, 1), grad_beta.reshape(1, c, 1, 1)\n",
            "gamma and beta are (C,), and so are their gradients: take off the axes of size one.",
        ),
        Mistake.edits_of(
            "reshaped without moving the channels",
            [
                (GRAD_ROWS, "grad_output.reshape(n * h * w, c)"),
                (X_HAT_ROWS, "x_hat.reshape(n * h * w, c)"),
                (GRAD_IMAGES, "grad_rows.reshape(n, c, h, w)"),
            ],
            "Reshaping (N, C, H, W) into C columns mixes channels and positions: move the channels "
            "to the end before, and back after.",
        ),
        Mistake.edits_of(
            "channels moved to the front",
            [
                (GRAD_ROWS, "grad_output.transpose(0, 1).reshape(n * h * w, c)"),
                (X_HAT_ROWS, "x_hat.transpose(0, 1).reshape(n * h * w, c)"),
                (GRAD_IMAGES, "grad_rows.reshape(c, n, h, w).transpose(0, 1)"),
            ],
            "A row of the table should hold one value of each channel, so the channels belong at "
            "the end before reshaping, not at the front.",
        ),
        Mistake(
            "gradient's channels not moved",
            GRAD_ROWS,
            "grad_output.reshape(n * h * w, c)",
            "The gradient's rows are not those of x_hat: move its channels to the end before "
            "reshaping.",
        ),
        Mistake(
            "x_hat's channels not moved",
            X_HAT_ROWS,
            "x_hat.reshape(n * h * w, c)",
            "The rows of x_hat are not those of the gradient: move its channels to the end before "
            "reshaping.",
        ),
        Mistake(
            "channels not moved back",
            GRAD_IMAGES,
            "grad_rows.reshape(n, c, h, w)",
            "The rows come back in the order N, H, W, C: give them that shape first, then move the "
            "channels back to their place.",
        ),
        Mistake(
            "x_hat and the gradient exchanged",
            f"        {GRAD_ROWS},\n        {X_HAT_ROWS},\n",
            f"        {X_HAT_ROWS},\n        {GRAD_ROWS},\n",
            "The gradient is the first argument of batchnorm_backward_simplified, x_hat the "
            "second.",
        ),
        Mistake(
            "returned in the wrong order",
            "return grad_rows.reshape(n, h, w, c).permute(0, 3, 1, 2), grad_gamma, grad_beta",
            "return grad_rows.reshape(n, h, w, c).permute(0, 3, 1, 2), grad_beta, grad_gamma",
            "The gradient of gamma is returned before that of beta.",
        ),
        spatial_formula(
            "averages over the batch alone",
            "Both averages run over the batch and over all positions; yours run over the batch "
            "alone.",
            mean="grad_output.mean(dim=0)",
            along="(grad_output * x_hat).mean(dim=0)",
        ),
        spatial_formula(
            "averages over the positions alone",
            "Both averages run over the batch and over all positions; yours run over the positions "
            "of each image.",
            mean="grad_output.mean(dim=(2, 3), keepdim=True)",
            along="(grad_output * x_hat).mean(dim=(2, 3), keepdim=True)",
        ),
        spatial_formula(
            "divides by the number of images",
            "The averages divide by all the values of a channel, N·H·W; yours divide by N.",
            mean="grad_output.sum(dim=(0, 2, 3), keepdim=True) / len(x_hat)",
            along="(grad_output * x_hat).sum(dim=(0, 2, 3), keepdim=True) / len(x_hat)",
        ),
        spatial_formula(
            "mean and variance taken for constants",
            "What comes back through the mean and the variance of each channel is missing.",
            bracket="grad_output",
        ),
        spatial_formula(
            "no term of the mean",
            "What comes back through the mean is missing: the average of the gradients.",
            bracket="grad_output - x_hat * along",
        ),
        spatial_formula(
            "no term of the variance",
            "What comes back through the variance is missing: the term in the direction of x_hat.",
            bracket="grad_output - mean",
        ),
        spatial_formula(
            "gamma forgotten",
            "On the way back to x_hat the gradient is multiplied by gamma.",
            scale="inv_std[:, None, None]",
        ),
        spatial_formula(
            "inv_std taken for the standard deviation",
            "inv_std is one over the standard deviation already: multiply by it.",
            scale="(gamma / inv_std)[:, None, None]",
        ),
        spatial_formula(
            "gradients of gamma and beta averaged",
            "gamma and beta serve every image and position: their gradients are summed.",
            grad_gamma="(grad_output * x_hat).mean(dim=(0, 2, 3))",
            grad_beta="grad_output.mean(dim=(0, 2, 3))",
        ),
        Mistake(
            "view instead of reshape",
            GRAD_ROWS,
            "grad_output.view(n, c, h * w).transpose(1, 2).reshape(n * h * w, c)",
            "`view` needs contiguous memory, and a gradient need not be; `reshape` copies where it "
            "must.",
        ),
    ],
    variants=[
        spatial_formula("the formula over three dimensions", ""),
        Variant(
            "channels first, positions behind",
            """
            def spatial_batchnorm_backward(grad_output, x_hat, gamma, inv_std):
                n, c, h, w = x_hat.shape
                flat = lambda t: t.transpose(0, 1).reshape(c, -1).T
                grad_x, grad_gamma, grad_beta = batchnorm_backward_simplified(
                    grad_output=flat(grad_output), x_hat=flat(x_hat), gamma=gamma, inv_std=inv_std
                )
                return [grad_x.T.reshape(c, n, h, w).transpose(0, 1), grad_gamma, grad_beta]
            """,
        ),
        Variant(
            "a loop over the channels",
            """
            def spatial_batchnorm_backward(grad_output, x_hat, gamma, inv_std):
                grad_x = torch.empty_like(x_hat)
                grad_gamma, grad_beta = torch.empty_like(gamma), torch.empty_like(gamma)
                for c in range(x_hat.shape[1]):
                    g, xh = grad_output[:, c], x_hat[:, c]
                    grad_gamma[c], grad_beta[c] = (g * xh).sum(), g.sum()
                    centred = g - (grad_beta[c] + xh * grad_gamma[c]) / g.numel()
                    grad_x[:, c] = gamma[c] * inv_std[c] * centred
                return grad_x, grad_gamma, grad_beta
            """,
        ),
    ],
)


@spatial_batchnorm_backward.test(
    points=1,
    cases=[
        Case(
            "a batch of images",
            simplified_gradient_of_x,
            lambda make: backward_inputs(make, 3, 4, 2, 5),
        ),
        Case(
            "a gradient that is not contiguous in memory",
            strided_gradient_of_x,
            lambda make: backward_inputs(make, 2, 3, 5, 4),
        ),
    ],
)
def test_spatial_gradient_of_the_input(submission, case):
    """Finds the gradient of x for images"""
    submission.matches_reference(case)


@spatial_batchnorm_backward.test(
    points=0.5,
    cases=[
        Case(
            "a batch of images",
            simplified_gradients_of_parameters,
            lambda make: backward_inputs(make, 3, 4, 2, 5),
        )
    ],
)
def test_spatial_gradients_of_gamma_and_beta(submission, case):
    """Finds the gradients of gamma and beta for images"""
    submission.matches_reference(case)


@spatial_batchnorm_backward.test(
    points=0.5,
    cases=[
        Case(
            "a batch of images",
            all_simplified_gradients,
            lambda make: backward_inputs(make, 2, 3, 4, 5),
        )
    ],
)
def test_spatial_backward_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# The module ------------------------------------------------------------------------------------


def prepared(impl, state, **hyper):
    return load_parameters(impl(len(state["weight"]), **hyper), state)


def buffers_of(module):
    return {"running_mean": module.running_mean, "running_var": module.running_var}


def fresh(impl, num_features):
    module = impl(num_features)
    return {
        "names of the parameters": sorted(name for name, _ in module.named_parameters()),
        "names of the buffers": sorted(name for name, _ in module.named_buffers()),
        "names in the state_dict": sorted(module.state_dict()),
        "weight at the start": module.weight.detach(),
        "bias at the start": module.bias.detach(),
        "running_mean at the start": module.running_mean,
        "running_var at the start": module.running_var,
    }


def one_batch(impl, x, state, **hyper):
    module = prepared(impl, state, **hyper).train()
    return {"output in training": module(x), **buffers_of(module)}


def one_batch_of_two_modules(impl, x, state, **hyper):
    other = impl(len(state["weight"]), **hyper)
    outcome = one_batch(impl, x, state, **hyper)
    told = {f"{name} of another module": value for name, value in buffers_of(other).items()}
    return outcome | told


def positional_arguments(impl, x, state, eps, momentum):
    module = load_parameters(impl(len(state["weight"]), eps, momentum), state).train()
    return {"output in training": module(x), **buffers_of(module)}


def evaluated(impl, x, state, **hyper):
    module = prepared(impl, state, **hyper).eval()
    return {"output in evaluation": module(x), **buffers_of(module)}


def several_batches_then_evaluated(impl, batches, x, state, **hyper):
    module = prepared(impl, state, **hyper).train()
    for batch in batches:
        module(batch)
    kept = {f"{name} after training": value.clone() for name, value in buffers_of(module).items()}
    module.eval()
    return {**kept, "output in evaluation": module(x), **buffers_of(module)}


def two_steps_of_training(impl, batches, cotangents, state, **hyper):
    module = prepared(impl, state, **hyper).train()
    found = {}
    for step, (batch, cotangent) in enumerate(zip(batches, cotangents, strict=True), start=1):
        x = batch.detach().clone().requires_grad_()
        wrt = [x, module.weight, module.bias]
        names = ("x", "weight", "bias")
        for name, grad in zip(names, gradients(module(x), wrt, cotangent), strict=True):
            found[f"gradient of {name}, step {step}"] = grad
    return found


class ByTorchBatchNorm(nn.Module):
    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x):
        statistics = self.running_mean, self.running_var
        return F.batch_norm(
            x, *statistics, self.weight, self.bias, self.training, self.momentum, self.eps
        )


def module_inputs(make, *shape, sizes=None, **changes):
    c = shape[1]
    a = affine(make, c)
    made = {
        "x": some_x(make, *shape),
        "state": dict(weight=a["gamma"], bias=a["beta"], **warm(make, c)),
    }
    if sizes:
        made["batches"] = [some_x(make, n, *shape[1:]) for n in sizes]
    return {**made, **HYPER, **changes}


def two_step_inputs(make, *shape):
    made = module_inputs(make, *shape, sizes=(shape[0], shape[0] + 2))
    del made["x"]
    return {**made, "cotangents": [make.normal(*batch.shape) for batch in made["batches"]]}


WEIGHT = "self.weight = nn.Parameter(torch.ones(num_features))"
BIAS = "self.bias = nn.Parameter(torch.zeros(num_features))"
BUFFER_MEAN = 'self.register_buffer("running_mean", torch.zeros(num_features))'
BUFFER_VAR = 'self.register_buffer("running_var", torch.ones(num_features))'
UPDATE = "out, self.running_mean, self.running_var = normalise("

batch_norm_module = Exercise(
    "BatchNorm",
    oracle=ByTorchBatchNorm,
    forbids=NORMALISATIONS,
    mistakes=[
        Mistake.edits_of(
            "running statistics are plain attributes",
            [
                (BUFFER_MEAN, "self.running_mean = torch.zeros(num_features)"),
                (BUFFER_VAR, "self.running_var = torch.ones(num_features)"),
            ],
            "A plain tensor is not saved with the module and does not follow it to another device: "
            "register the running statistics as buffers.",
        ),
        Mistake(
            "running mean is a plain attribute",
            BUFFER_MEAN,
            "self.running_mean = torch.zeros(num_features)",
            "A plain tensor is not saved with the module and does not follow it to another device: "
            "register the running mean as a buffer.",
        ),
        Mistake(
            "running variance is a plain attribute",
            BUFFER_VAR,
            "self.running_var = torch.ones(num_features)",
            "A plain tensor is not saved with the module and does not follow it to another device: "
            "register the running variance as a buffer.",
        ),
        Mistake.edits_of(
            "buffers that are not saved",
            [
                (BUFFER_MEAN, BUFFER_MEAN.replace("))", "), persistent=False)")),
                (BUFFER_VAR, BUFFER_VAR.replace("))", "), persistent=False)")),
            ],
            "A model without its running statistics cannot be evaluated: let its state_dict hold "
            "them.",
        ),
        Mistake.edits_of(
            "called gamma and beta",
            [
                (WEIGHT, WEIGHT.replace("weight", "gamma")),
                (BIAS, BIAS.replace("bias", "beta")),
                ("            self.weight,", "            self.gamma,"),
                ("            self.bias,", "            self.beta,"),
            ],
            "In the module gamma is called weight and beta is called bias: the names in the "
            "state_dict are part of what it promises.",
        ),
        Mistake(
            "module not initialised",
            "        super().__init__()\n",
            "",
            "A module can hold parameters only after nn.Module's own __init__ has run: call it "
            "first.",
        ),
        Mistake.edits_of(
            "running statistics are parameters",
            [
                (BUFFER_MEAN, "self.running_mean = nn.Parameter(torch.zeros(num_features))"),
                (BUFFER_VAR, "self.running_var = nn.Parameter(torch.ones(num_features))"),
                (UPDATE, "out, self.running_mean.data, self.running_var.data = normalise("),
            ],
            "An optimizer would change the running statistics if they were parameters: register "
            "them as buffers.",
        ),
        Mistake.edits_of(
            "weight and bias are buffers",
            [
                (WEIGHT, 'self.register_buffer("weight", torch.ones(num_features))'),
                (BIAS, 'self.register_buffer("bias", torch.zeros(num_features))'),
            ],
            "weight and bias are learned: an optimizer finds them only as parameters.",
        ),
        Mistake(
            "weight is a buffer",
            WEIGHT,
            'self.register_buffer("weight", torch.ones(num_features))',
            "weight is learned: an optimizer finds it only as a parameter.",
        ),
        Mistake.edits_of(
            "weight and bias as rows",
            [
                (WEIGHT, "self.weight = nn.Parameter(torch.ones(1, num_features))"),
                (BIAS, "self.bias = nn.Parameter(torch.zeros(1, num_features))"),
                ("            self.weight,", "            self.weight[0],"),
                ("            self.bias,", "            self.bias[0],"),
            ],
            "weight and bias have one dimension, (num_features,): yours have two, and the state of "
            "another batch norm does not fit in.",
        ),
        Mistake.edits_of(
            "buffers shared by all modules",
            [
                (
                    "    running_mean: Tensor\n",
                    "    shared: dict[int, Tensor] = {}\n    running_mean: Tensor\n",
                ),
                (
                    BUFFER_MEAN,
                    'self.register_buffer("running_mean", self.shared.setdefault('
                    "num_features, torch.zeros(num_features)))",
                ),
                (UPDATE, "out, new_mean, self.running_var = normalise("),
                (
                    "        return out",
                    "        self.running_mean.copy_(new_mean)\n        return out",
                ),
            ],
            "All modules of a width write into one and the same buffer. Each makes tensors of its "
            "own in __init__, not once in the class.",
        ),
        Mistake(
            "the batch's statistics in evaluation, buffers kept",
            UPDATE,
            "was = self.running_mean.clone(), self.running_var.clone()\n"
            "        if not self.training:\n"
            "            vectors = x.dim() == 2\n"
            "            return (batchnorm_forward if vectors else spatial_batchnorm_forward)(\n"
            "                x, self.weight, self.bias, *was, True, self.momentum, self.eps\n"
            "            )[0]\n"
            f"        {UPDATE}",
            "In evaluation mode your layer still normalises with the batch. Pass the module's mode "
            "on: evaluation stands on the running statistics.",
        ),
        Mistake(
            "buffers updated in evaluation",
            "        return out",
            "        if not self.training:\n"
            "            was = self.running_mean, self.running_var\n"
            "            _, self.running_mean, self.running_var = normalise(\n"
            "                x, self.weight, self.bias, *was, True, self.momentum, self.eps\n"
            "            )\n"
            "        return out",
            "The output in evaluation is right, but the buffers follow the batch there too. They "
            "are updated in training mode only.",
        ),
        Mistake(
            "output and statistics returned",
            "        return out",
            "        return out, self.running_mean, self.running_var",
            "A layer returns one tensor, so that it can stand in a network: keep the statistics in "
            "the buffers.",
        ),
        Mistake(
            "recording switched off",
            "        return out",
            "        return out.detach()",
            "No gradient reaches x, weight or bias: something detaches the output or switches "
            "recording off.",
        ),
        Mistake(
            "no bias of its own",
            BIAS,
            'self.register_buffer("bias", torch.zeros(num_features))',
            "bias is learned: an optimizer finds it only as a parameter.",
        ),
        Mistake(
            "weight starts at zero",
            WEIGHT,
            "self.weight = nn.Parameter(torch.zeros(num_features))",
            "A weight of zero silences the layer: gamma starts at one.",
        ),
        Mistake(
            "weight starts at random",
            WEIGHT,
            "self.weight = nn.Parameter(torch.randn(num_features))",
            "Nothing is random here: gamma starts at one, so that the layer only normalises.",
        ),
        Mistake(
            "bias starts at one",
            BIAS,
            "self.bias = nn.Parameter(torch.ones(num_features))",
            "beta starts at zero, so that the layer only normalises.",
        ),
        Mistake(
            "running variance starts at zero",
            BUFFER_VAR,
            'self.register_buffer("running_var", torch.zeros(num_features))',
            "Before the first batch the running variance is one: with zero, evaluation would "
            "multiply by one over the root of eps.",
        ),
        Mistake(
            "running mean starts at one",
            BUFFER_MEAN,
            'self.register_buffer("running_mean", torch.ones(num_features))',
            "Before the first batch the running mean is zero.",
        ),
        Mistake(
            "running statistics thrown away",
            UPDATE,
            "out, _, _ = normalise(",
            "The new running statistics come back from the function and are lost: store them in "
            "the buffers.",
        ),
        Mistake(
            "running variance thrown away",
            UPDATE,
            "out, self.running_mean, _ = normalise(",
            "The new running variance comes back from the function and is lost: store it too.",
        ),
        Mistake(
            "running statistics stored in the wrong order",
            UPDATE,
            "out, self.running_var, self.running_mean = normalise(",
            "The function returns the running mean before the running variance.",
        ),
        Mistake(
            "always in training",
            "            self.training,",
            "            True,",
            "eval() makes no difference to your module: every module knows its mode as "
            "self.training.",
        ),
        Mistake(
            "always in evaluation",
            "            self.training,",
            "            False,",
            "Your module never uses the statistics of the batch: every module knows its mode as "
            "self.training.",
        ),
        Mistake(
            "training and evaluation exchanged",
            "            self.training,",
            "            not self.training,",
            "train() and eval() have changed places in your module.",
        ),
        Mistake(
            "momentum and eps exchanged",
            "            self.momentum,\n            self.eps,",
            "            self.eps,\n            self.momentum,",
            "momentum comes before eps in the function's arguments; name them to be safe.",
        ),
        Mistake(
            "momentum turned around",
            "            self.momentum,\n            self.eps,",
            "            1 - self.momentum,\n            self.eps,",
            "momentum means the same in the module as in the function: the weight of the new "
            "batch.",
        ),
        Mistake(
            "a buffer too many",
            BUFFER_VAR,
            f'{BUFFER_VAR}\n        self.register_buffer("num_batches_tracked", torch.tensor(0))',
            "The state_dict holds the four tensors of the docstring and nothing else: others could "
            "not load it.",
        ),
        Mistake(
            "momentum not passed on",
            "            self.momentum,\n            self.eps,",
            "            eps=self.eps,",
            "The momentum that the module was made with does not reach the function.",
        ),
        Mistake(
            "eps not passed on",
            "            self.momentum,\n            self.eps,",
            "            self.momentum,",
            "The eps that the module was made with does not reach the function.",
        ),
        Mistake(
            "momentum and eps not passed on",
            "            self.momentum,\n            self.eps,\n",
            "",
            "The momentum and the eps that the module was made with do not reach the function.",
        ),
        Mistake(
            "arguments in another order",
            "num_features: int, eps: float = 1e-5, momentum: float = 0.1",
            "num_features: int, momentum: float = 0.1, eps: float = 1e-5",
            "eps comes before momentum when the module is made, as in nn.BatchNorm1d.",
        ),
        Mistake(
            "weight and bias not used",
            "            self.weight,\n            self.bias,",
            "            torch.ones_like(self.weight),\n            torch.zeros_like(self.bias),",
            "The module's weight and bias do not reach the output.",
        ),
        Mistake(
            "weight and bias exchanged",
            "            self.weight,\n            self.bias,",
            "            self.bias,\n            self.weight,",
            "The weight is gamma and the bias is beta; yours have changed places.",
        ),
        Mistake(
            "weight and bias detached",
            "            self.weight,\n            self.bias,",
            "            self.weight.data,\n            self.bias.data,",
            "No gradient reaches weight and bias: pass the parameters themselves.",
        ),
        Mistake(
            "vectors only",
            "batchnorm_forward if x.dim() == 2 else spatial_batchnorm_forward",
            "batchnorm_forward",
            "Images have four dimensions and need the spatial function.",
        ),
        Mistake(
            "images only",
            "batchnorm_forward if x.dim() == 2 else spatial_batchnorm_forward",
            "spatial_batchnorm_forward",
            "Vectors have two dimensions and need the plain function.",
        ),
    ],
    variants=[
        Variant(
            "vectors as images of one position",
            """
            class BatchNorm(nn.Module):
                def __init__(self, num_features, eps=1e-5, momentum=0.1):
                    super().__init__()
                    self.eps, self.momentum = eps, momentum
                    self.weight = nn.Parameter(torch.empty(num_features))
                    self.bias = nn.Parameter(torch.empty(num_features))
                    nn.init.ones_(self.weight), nn.init.zeros_(self.bias)
                    self.register_buffer("running_mean", torch.zeros_like(self.bias.detach()))
                    self.register_buffer("running_var", torch.ones_like(self.weight.detach()))
                def forward(self, x):
                    images = x.reshape(*x.shape, *[1] * (4 - x.dim()))
                    y, m, v = spatial_batchnorm_forward(
                        images, self.weight, self.bias, self.running_mean, self.running_var,
                        training=self.training, momentum=self.momentum, eps=self.eps,
                    )
                    self.running_mean.data = m.data
                    self.running_var.data = v.data
                    return y.reshape(x.shape)
            """,
        ),
        Variant.edits_of(
            "buffers written in place",
            [
                (UPDATE, "out, mean, var = normalise("),
                (
                    "        return out",
                    "        if self.training:\n"
                    "            self.running_mean.copy_(mean)\n"
                    "            self.running_var.copy_(var)\n"
                    "        return out",
                ),
            ],
        ),
        Variant(
            "written out, with attributes of its own",
            """
            class BatchNorm(nn.Module):
                def __init__(self, num_features, eps=1e-5, momentum=0.1):
                    super().__init__()
                    self.num_features, self.hyper = num_features, {"eps": eps, "m": momentum}
                    self.weight = nn.Parameter(torch.empty(num_features).fill_(1.0))
                    self.bias = nn.Parameter(torch.empty(num_features).fill_(0.0))
                    for name, value in (("running_mean", 0.0), ("running_var", 1.0)):
                        self.register_buffer(name, torch.full((num_features,), value))

                def _along_channels(self, v, x):
                    return v.reshape(1, self.num_features, *([1] * (x.ndim - 2)))

                def forward(self, x):
                    dims = [0, *range(2, x.ndim)]
                    mean, var = self.running_mean, self.running_var
                    if self.training:
                        var, mean = torch.var_mean(x, dim=dims, correction=0)
                        with torch.no_grad():
                            m = self.hyper["m"]
                            self.running_mean.lerp_(mean, m)
                            self.running_var.lerp_(x.var(dim=dims), m)
                    std = torch.sqrt(var + self.hyper["eps"])
                    x_hat = (x - self._along_channels(mean, x)) / self._along_channels(std, x)
                    weight = self._along_channels(self.weight, x)
                    return weight * x_hat + self._along_channels(self.bias, x)
            """,
        ),
        Variant(
            "vectors with two axes added",
            """
            class BatchNorm(nn.Module):
                def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1):
                    super().__init__()
                    self.momentum = momentum
                    self.eps = eps
                    self.register_parameter("weight", nn.Parameter(torch.ones(num_features)))
                    self.register_parameter("bias", nn.Parameter(torch.zeros(num_features)))
                    self.register_buffer("running_mean", torch.zeros(num_features))
                    self.register_buffer("running_var", torch.ones(num_features))

                def forward(self, x):
                    images = x if x.dim() == 4 else x[:, :, None, None]
                    out, mean, var = spatial_batchnorm_forward(
                        images, self.weight, self.bias, self.running_mean, self.running_var,
                        training=self.training, eps=self.eps, momentum=self.momentum,
                    )
                    self.running_mean, self.running_var = mean.detach(), var.detach()
                    return out.reshape(x.shape)
            """,
        ),
    ],
)


@batch_norm_module.test(
    points=1,
    cases=[Case("a fresh module", fresh, lambda make: {"num_features": make.choice([3, 5, 7])})],
)
def test_holds_parameters_and_buffers(submission, case):
    """Starts with the right parameters and buffers"""
    submission.matches_reference(case)


@batch_norm_module.test(
    points=1,
    cases=[
        Case(
            "a batch of vectors",
            one_batch_of_two_modules,
            lambda make: module_inputs(make, 6, 4),
        ),
        Case("a batch of images", one_batch, lambda make: module_inputs(make, 2, 5, 3, 4)),
        Case("made positionally", positional_arguments, lambda make: module_inputs(make, 5, 3)),
        Case(
            "eps and momentum left at their defaults, features of tiny spread",
            one_batch,
            lambda make: {
                "x": make.normal(5, 3, std=0.002),
                "state": module_inputs(make, 5, 3)["state"],
            },
        ),
    ],
)
def test_module_in_training(submission, case):
    """Normalises a batch and updates its buffers in training"""
    submission.matches_reference(case)


@batch_norm_module.test(
    points=1,
    cases=[
        Case("a batch of vectors", evaluated, lambda make: module_inputs(make, 3, 4)),
        Case(
            "vectors, after several batches of training",
            several_batches_then_evaluated,
            lambda make: module_inputs(make, 3, 4, sizes=(5, 8, 6)),
        ),
        Case(
            "images, after several batches of training",
            several_batches_then_evaluated,
            lambda make: module_inputs(make, 1, 3, 4, 2, sizes=(2, 3)),
        ),
    ],
)
def test_module_in_evaluation(submission, case):
    """Uses its buffers, and leaves them alone, in evaluation"""
    submission.matches_reference(case)


@batch_norm_module.test(
    points=0.5,
    cases=[
        Case("two steps", two_steps_of_training, lambda make: two_step_inputs(make, 5, 4)),
    ],
)
def test_module_can_be_trained(submission, case):
    """Gradients reach x, weight and bias, batch after batch"""
    submission.matches_reference(case)


@batch_norm_module.test(
    points=0.5,
    cases=[
        Case("vectors, in training", one_batch, lambda make: module_inputs(make, 6, 4)),
        Case("images, in evaluation", evaluated, lambda make: module_inputs(make, 2, 3, 4, 5)),
    ],
)
def test_module_follows_the_device(submission, case):
    """Works on whichever device it is moved to"""
    submission.matches_on_device(case)


# The relatives ---------------------------------------------------------------------------------


def called(impl, **inputs):
    return {"output": impl(**inputs)}


def called_with_strides(impl, x, **rest):
    return {"output": impl(strided(x), **rest)}


def gradients_of_norm(impl, x, gamma, beta, cotangent, **rest):
    x, gamma, beta = (t.detach().clone().requires_grad_() for t in (x, gamma, beta))
    out = impl(x=x, gamma=gamma, beta=beta, **rest)
    found = gradients(out, [x, gamma, beta], cotangent)
    return dict(zip(("gradient of x", "gradient of gamma", "gradient of beta"), found, strict=True))


def gradients_of_rms_norm(impl, x, gamma, cotangent, eps):
    x, gamma = (t.detach().clone().requires_grad_() for t in (x, gamma))
    found = gradients(impl(x, gamma, eps), [x, gamma], cotangent)
    return dict(zip(("gradient of x", "gradient of gamma"), found, strict=True))


def varied(make, *shape, far=2.0):
    """Every entry with a centre and a spread of its own, whichever dimensions are averaged."""
    centre = sum(
        make.away_from_zero(*(n if i == d else 1 for i, n in enumerate(shape)), high=far)
        for d in range(len(shape))
    )
    return centre + make.uniform(*shape, low=0.6, high=1.8) * make.normal(*shape)


def far_from_zero(make, *shape):
    return make.normal(*shape) + make.number(400, 900)


def norm_inputs(make, *shape, over, **changes):
    made = dict(x=varied(make, *shape), **affine(make, *over), eps=HYPER["eps"])
    return {**made, **changes}


def by_torch_layer_norm(x, gamma, beta, eps=1e-5):
    return F.layer_norm(x, gamma.shape, gamma, beta, eps)


def by_torch_group_norm(x, num_groups, gamma, beta, eps=1e-5):
    if x.shape[1] % num_groups:
        raise ValueError("the groups are not of one size")
    return F.group_norm(x, num_groups, gamma, beta, eps)


def by_torch_instance_norm(x, gamma, beta, eps=1e-5):
    return F.instance_norm(x, weight=gamma, bias=beta, eps=eps)


def by_torch_rms_norm(x, gamma, eps=1e-6):
    return F.rms_norm(x, gamma.shape, gamma, eps)


def affine_mistakes(gamma, beta):
    """The same four slips, for a norm whose last line spells gamma and beta so."""
    right = f"{gamma} * x_hat + {beta}"
    return [
        known("gamma forgotten", right, f"x_hat + {beta}"),
        known("beta forgotten", right, f"{gamma} * x_hat"),
        known("gamma and beta exchanged", right, f"{beta} * x_hat + {gamma}"),
        known("gamma scales beta too", right, f"{gamma} * (x_hat + {beta})"),
        known("gamma and beta forgotten", right, "x_hat"),
        known("gamma from one", right, f"(1 + {gamma}) * x_hat + {beta}"),
    ]


def detached_mistakes(centred):
    """A statistic that lets no gradient through, where x_hat is spelled so."""
    right = f"{centred} / torch.sqrt(var + eps)"
    return [
        known("mean detached", right, right.replace("mean", "mean.detach()")),
        known("variance detached", right, right.replace("var", "var.detach()")),
    ]


DIMS = "dims = tuple(range(-gamma.dim(), 0))"
LAYER_MEAN = "mean = x.mean(dim=dims, keepdim=True)"
LAYER_VAR = "var = (x - mean).square().mean(dim=dims, keepdim=True)"

layer_norm = Exercise(
    "layer_norm",
    oracle=by_torch_layer_norm,
    forbids=NORMALISATIONS,
    mistakes=[
        *ROOT_MISTAKES,
        *affine_mistakes("gamma", "beta"),
        *detached_mistakes("(x - mean)"),
        known("in single precision", LAYER_MEAN, f"x = x.float()\n    {LAYER_MEAN}"),
        Mistake(
            "sum of squares for their mean",
            LAYER_VAR,
            LAYER_VAR.replace("square().mean", "square().sum"),
            "The squared distances from the mean are averaged, not added up.",
        ),
        Mistake(
            "last dimension alone",
            DIMS,
            "dims = (-1,)",
            "gamma may have several dimensions: all of them are averaged over, together.",
        ),
        Mistake(
            "everything but the batch",
            DIMS,
            "dims = tuple(range(1, x.dim()))",
            "Only the dimensions that gamma has are averaged over; in a batch of sequences every "
            "token is normalised by itself.",
        ),
        Mistake(
            "over the batch",
            DIMS,
            "dims = (0,)",
            "That is batch normalisation: here every example is normalised over its own features, "
            "alone.",
        ),
        Mistake(
            "over dimension 1",
            DIMS,
            "dims = (min(1, x.dim() - 1),)",
            "The features are the last dimensions of x, as many as gamma has, and not always "
            "dimension 1.",
        ),
        Mistake(
            "over the leading dimensions",
            DIMS,
            "dims = tuple(range(gamma.dim()))",
            "The features are the last dimensions of x, not the first.",
        ),
        Mistake(
            "over everything",
            DIMS,
            "dims = tuple(range(x.dim()))",
            "Your mean and variance are shared by the whole batch; each example has its own.",
        ),
        Mistake(
            "unbiased variance",
            LAYER_VAR,
            "var = x.var(dim=dims, keepdim=True)",
            "Divide by the number of features, not by one less: `Tensor.var` is unbiased unless "
            "told otherwise.",
        ),
        Mistake(
            "unbiased standard deviation, eps outside",
            "x_hat = (x - mean) / torch.sqrt(var + eps)",
            "x_hat = (x - mean) / (x.std(dim=dims, keepdim=True) + eps)",
            "Two things at once: the variance here is biased, and eps goes under its root.",
        ),
        known(
            "E[x²] − E[x]²", LAYER_VAR, "var = x.square().mean(dim=dims, keepdim=True) - mean**2"
        ),
        Mistake(
            "variance not centred",
            LAYER_VAR,
            "var = x.square().mean(dim=dims, keepdim=True)",
            "The mean of the squares is not the variance: subtract the mean before squaring.",
        ),
        known("mean not subtracted", "(x - mean) / torch", "x / torch"),
        Mistake(
            "unbiased standard deviation, no eps",
            "x_hat = (x - mean) / torch.sqrt(var + eps)",
            "x_hat = (x - mean) / x.std(dim=dims, keepdim=True)",
            "Two things at once: the variance here is biased, and eps is added to it.",
        ),
        Mistake.edits_of(
            "averaged dimensions not kept",
            [
                (LAYER_MEAN, "mean = x.mean(dim=dims)"),
                (LAYER_VAR, "var = x.var(dim=dims, correction=0)"),
            ],
            "The mean and the variance must broadcast against x: keep the averaged dimensions, "
            "with size one.",
        ),
        Mistake(
            "root mean square",
            "x_hat = (x - mean) / torch.sqrt(var + eps)",
            "x_hat = x / torch.sqrt(x.square().mean(dim=dims, keepdim=True) + eps)",
            "That is RMSNorm: layer normalisation subtracts the mean first.",
        ),
        Mistake.edits_of(
            "statistics detached",
            [
                (LAYER_MEAN, "mean = x.detach().mean(dim=dims, keepdim=True)"),
                (LAYER_VAR, "var = (x - mean).detach().square().mean(dim=dims, keepdim=True)"),
            ],
            HINTS["statistics detached"],
        ),
    ],
    variants=[
        Variant(
            "flattened features",
            """
            def layer_norm(x, gamma, beta, eps=1e-5):
                rows = x.reshape(-1, gamma.numel())
                var, mean = torch.var_mean(rows, dim=1, correction=0, keepdim=True)
                rows = torch.rsqrt(var + eps) * (rows - mean)
                return (rows * gamma.flatten() + beta.flatten()).reshape(x.shape)
            """,
        ),
        Variant(
            "sums and powers",
            """
            def layer_norm(x, gamma, beta, eps=1e-5):
                axes = [-(i + 1) for i in range(len(gamma.shape))]
                m = gamma.numel()
                centred = x - torch.sum(x, axes, keepdim=True) / m
                var = torch.sum(centred**2, axes, keepdim=True) / m
                return beta + gamma * centred / (var + eps) ** 0.5
            """,
        ),
        Variant.edits_of(
            "tensor methods",
            [
                (LAYER_VAR, "var = x.var(dim=dims, unbiased=False, keepdim=True)"),
                ("/ torch.sqrt(var + eps)", "* (var + eps).rsqrt()"),
            ],
        ),
    ],
)

LAYER_CASES = [
    ("vectors", lambda make: norm_inputs(make, 5, 7, over=(7,))),
    ("a batch of sequences", lambda make: norm_inputs(make, 3, 5, 6, over=(6,))),
    ("features of two dimensions", lambda make: norm_inputs(make, 4, 3, 6, 5, over=(6, 5))),
    ("a single vector without a batch", lambda make: norm_inputs(make, 6, over=(6,))),
]


@layer_norm.test(
    points=2,
    cases=[
        *(Case(title, called, inputs) for title, inputs in LAYER_CASES),
        Case("in bfloat16", called, LAYER_CASES[0][1], dtypes=TRAINING),
        Case(
            "features far from zero",
            called,
            lambda make: norm_inputs(make, 4, 6, over=(6,), eps=1e-3, x=far_from_zero(make, 4, 6)),
        ),
        Case(
            "eps left at its default, features of tiny spread",
            called,
            lambda make: dict(x=make.normal(3, 5, std=0.002), **affine(make, 5)),
        ),
    ],
)
def test_normalises_each_example(submission, case):
    """Normalises over the dimensions that gamma has"""
    submission.matches_reference(case)


@layer_norm.test(
    points=0.5,
    cases=[
        Case(
            "a batch of sequences",
            gradients_of_norm,
            lambda make: norm_inputs(make, 3, 4, 6, over=(6,), cotangent=make.normal(3, 4, 6)),
        )
    ],
)
def test_layer_norm_gradients(submission, case):
    """Lets gradients through the mean and the variance"""
    submission.matches_reference(case)


@layer_norm.test(
    points=0.5,
    cases=[Case("sequences", called, lambda make: norm_inputs(make, 3, 5, 6, over=(6,)))],
)
def test_layer_norm_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


GROUPED = "grouped = x.reshape(n, num_groups, -1)  # (N, groups, C/groups · positions)"
UNGROUPED = "x_hat = ((grouped - mean) / torch.sqrt(var + eps)).reshape(x.shape)"
GROUP_MEAN = "mean = grouped.mean(dim=2, keepdim=True)"
GROUP_VAR = "var = (grouped - mean).square().mean(dim=2, keepdim=True)"
GROUP_VAR_SHORT = "var = grouped.square().mean(dim=2, keepdim=True) - mean.square()"


def group_inputs(make, *shape, num_groups, **changes):
    return norm_inputs(make, *shape, over=(shape[1],), num_groups=num_groups, **changes)


group_norm = Exercise(
    "group_norm",
    oracle=by_torch_group_norm,
    forbids=NORMALISATIONS,
    mistakes=[
        *ROOT_MISTAKES,
        *affine_mistakes("gamma.reshape(per_channel)", "beta.reshape(per_channel)"),
        *detached_mistakes("(grouped - mean)"),
        known("E[x²] − E[x]²", GROUP_VAR, GROUP_VAR_SHORT),
        Mistake(
            "gamma and beta along the last dimension",
            "return gamma.reshape(per_channel) * x_hat + beta.reshape(per_channel)",
            "return x_hat.movedim(1, -1) * gamma + beta",
            "The channels end up last. gamma and beta belong to dimension 1, and the output has "
            "the shape of x.",
        ),
        Mistake(
            "images only",
            "per_channel = (c, *[1] * (x.dim() - 2))",
            "per_channel = (1, c, 1, 1)",
            "gamma and beta are laid along two dimensions of positions. There may be any number of "
            "them, also none.",
        ),
        known(
            "gamma before normalising",
            f"{GROUPED}",
            "gamma, x = torch.ones_like(gamma), x * gamma.reshape(c, *[1] * (x.dim() - 2))\n"
            f"    {GROUPED}",
        ),
        Mistake.edits_of(
            "interleaved groups",
            [
                (
                    GROUPED,
                    "grouped = x.reshape(n, c // num_groups, num_groups, -1).transpose(1, 2)"
                    ".reshape(n, num_groups, -1)",
                ),
                (
                    UNGROUPED,
                    "x_hat = ((grouped - mean) / torch.sqrt(var + eps))"
                    ".reshape(n, num_groups, c // num_groups, -1).transpose(1, 2).reshape(x.shape)",
                ),
            ],
            "Your groups take every so-many-th channel; a group is a run of neighbouring channels.",
        ),
        Mistake(
            "number of groups taken for their size",
            GROUPED,
            "grouped = x.reshape(n, c // num_groups, -1)",
            "num_groups says how many groups there are, not how many channels each one has.",
        ),
        Mistake(
            "one group",
            GROUPED,
            "grouped = x.reshape(n, 1, -1)",
            "Your channels are all in one group, which is layer normalisation.",
        ),
        Mistake(
            "every channel its own group",
            GROUPED,
            "grouped = x.reshape(n, c, -1)",
            "Each of your channels is normalised alone, which is instance normalisation.",
        ),
        Mistake.edits_of(
            "each position apart",
            [
                (GROUPED, "grouped = x.reshape(n, num_groups, c // num_groups, -1)"),
            ],
            "The channels of a group share one mean over all positions; yours has one for each "
            "position.",
        ),
        Mistake.edits_of(
            "statistics shared by the batch",
            [
                (GROUP_MEAN, "mean = grouped.mean(dim=(0, 2), keepdim=True)"),
                (GROUP_VAR, "var = (grouped - mean).square().mean(dim=(0, 2), keepdim=True)"),
            ],
            "The examples of a batch do not share their statistics here: leave the batch out of "
            "the average.",
        ),
        Mistake(
            "unbiased variance",
            GROUP_VAR,
            "var = grouped.var(dim=2, keepdim=True)",
            "Divide by the number of values in a group, not by one less: `Tensor.var` is unbiased "
            "unless told otherwise.",
        ),
        Mistake(
            "variance not centred",
            GROUP_VAR,
            "var = grouped.square().mean(dim=2, keepdim=True)",
            "The mean of the squares is not the variance: subtract the mean before squaring.",
        ),
        known("mean not subtracted", "((grouped - mean) / torch", "(grouped / torch"),
        Mistake(
            "the first channel's gamma for its group",
            "gamma.reshape(per_channel) * x_hat",
            "gamma[:: c // num_groups].repeat_interleave(c // num_groups).reshape(per_channel)"
            " * x_hat",
            "The channels of a group share the mean and the variance, but each has a gamma of its "
            "own.",
        ),
        Mistake.edits_of(
            "statistics detached",
            [
                (GROUP_MEAN, "mean = grouped.detach().mean(dim=2, keepdim=True)"),
                (GROUP_VAR, "var = (grouped - mean).detach().square().mean(dim=2, keepdim=True)"),
            ],
            HINTS["statistics detached"],
        ),
        Mistake(
            "view instead of reshape",
            "x.reshape(n, num_groups, -1)",
            "x.view(n, num_groups, -1)",
            "`view` needs contiguous memory, and x need not be; `reshape` copies where it must.",
        ),
        Mistake(
            "another exception",
            "raise ValueError(",
            "raise RuntimeError(",
            HINTS["another exception"],
        ),
        Mistake(
            "groups of unequal size not refused",
            "if c % num_groups != 0:",
            "if c < num_groups:",
            "Channels that cannot be divided evenly are refused with a ValueError.",
        ),
    ],
    variants=[
        Variant(
            "layer_norm over groups",
            """
            def group_norm(x, num_groups, gamma, beta, eps=1e-5):
                batch, channels, *positions = x.shape
                size, rest = divmod(channels, num_groups)
                if rest:
                    raise ValueError("channels")
                grouped = x.reshape(batch, num_groups, size, *positions)
                unit = torch.ones(grouped.shape[2:], dtype=x.dtype, device=x.device)
                y = layer_norm(grouped, unit, torch.zeros_like(unit), eps).reshape(x.shape)
                return (y.transpose(1, -1) * gamma + beta).transpose(1, -1)
            """,
        ),
        Variant(
            "a loop over the groups",
            """
            def group_norm(x, num_groups, gamma, beta, eps=1e-5):
                if x.size(1) % num_groups:
                    raise ValueError("the groups would not be of one size")
                normalised = []
                for group in x.chunk(num_groups, dim=1):
                    dims = list(range(1, x.dim()))
                    centred = group - group.mean(dims, keepdim=True)
                    var = (centred * centred).mean(dims, keepdim=True)
                    normalised.append(centred * torch.rsqrt(var + eps))
                moved = torch.cat(normalised, dim=1).movedim(1, -1)
                return (moved * gamma + beta).movedim(-1, 1)
            """,
        ),
        Variant(
            "unflattened channels",
            """
            def group_norm(x, num_groups, gamma, beta, eps=1e-5):
                n, c, *positions = x.shape
                size, rest = divmod(c, num_groups)
                if rest > 0:
                    raise ValueError(f"{c} is no multiple of {num_groups}")
                grouped = x.unflatten(1, (num_groups, size))
                dims = tuple(range(2, grouped.dim()))
                var, mean = torch.var_mean(grouped, dim=dims, unbiased=False, keepdim=True)
                x_hat = ((grouped - mean) / (var + eps).sqrt()).flatten(1, 2)
                shape = [1, c] + [1] * len(positions)
                return torch.addcmul(beta.view(shape), gamma.view(shape), x_hat)
            """,
        ),
        Variant.edits_of(
            "layer_norm over each group",
            [
                (
                    GROUP_MEAN + "  # (N, groups, 1)",
                    "ones = torch.ones_like(grouped[0, 0])",
                ),
                (GROUP_VAR + "  # (N, groups, 1)\n    ", ""),
                (
                    UNGROUPED,
                    "x_hat = layer_norm(grouped, ones, torch.zeros_like(ones), eps)"
                    ".reshape(x.shape)",
                ),
            ],
        ),
    ],
)


@group_norm.test(
    points=1.5,
    cases=[
        Case(
            "images, more groups than channels in each",
            called,
            lambda make: group_inputs(make, 4, 6, 2, 5, num_groups=3),
        ),
        Case(
            "images, fewer groups than channels in each",
            called,
            lambda make: group_inputs(make, 3, 8, 5, 2, num_groups=2),
        ),
        Case("sequences", called, lambda make: group_inputs(make, 2, 6, 5, num_groups=2)),
        Case("no positions", called, lambda make: group_inputs(make, 5, 12, num_groups=3)),
        Case(
            "images that are not contiguous in memory",
            called_with_strides,
            lambda make: group_inputs(make, 2, 6, 3, 4, num_groups=2),
        ),
        Case(
            "eps left at its default, channels of tiny spread",
            called,
            lambda make: dict(x=make.normal(2, 6, 4, std=0.002), num_groups=3, **affine(make, 6)),
        ),
        Case(
            "channels far from zero",
            called,
            lambda make: group_inputs(
                make, 2, 6, 4, num_groups=3, eps=1e-3, x=far_from_zero(make, 2, 6, 4)
            ),
        ),
    ],
)
def test_normalises_each_group(submission, case):
    """Normalises groups of neighbouring channels"""
    submission.matches_reference(case)


@group_norm.test(
    points=0.5,
    cases=[
        Case(
            "images",
            gradients_of_norm,
            lambda make: group_inputs(
                make, 2, 6, 3, 4, num_groups=3, cotangent=make.normal(2, 6, 3, 4)
            ),
        )
    ],
)
def test_group_norm_gradients(submission, case):
    """Lets gradients through the mean and the variance"""
    submission.matches_reference(case)


@group_norm.test(
    points=0.5,
    cases=[
        Case(
            "channels that leave a remainder",
            too_few_values,
            lambda make: group_inputs(make, 4, 6, 2, 4, num_groups=4),
        ),
    ],
)
def test_refuses_groups_of_unequal_size(submission, case):
    """Refuses channels that cannot be divided evenly"""
    submission.matches_reference(case)


@group_norm.test(
    points=0.5,
    cases=[Case("images", called, lambda make: group_inputs(make, 2, 6, 3, 4, num_groups=3))],
)
def test_group_norm_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


POSITIONS = "positions = tuple(range(2, x.dim()))"
INSTANCE_MEAN = "mean = x.mean(dim=positions, keepdim=True)"
INSTANCE_VAR = "var = (x - mean).square().mean(dim=positions, keepdim=True)"


def instance_inputs(make, *shape, **changes):
    return norm_inputs(make, *shape, over=(shape[1],), **changes)


instance_norm = Exercise(
    "instance_norm",
    oracle=by_torch_instance_norm,
    forbids=NORMALISATIONS,
    mistakes=[
        *ROOT_MISTAKES,
        *affine_mistakes("gamma.reshape(per_channel)", "beta.reshape(per_channel)"),
        *detached_mistakes("(x - mean)"),
        known(
            "E[x²] − E[x]²",
            INSTANCE_VAR,
            "var = x.square().mean(dim=positions, keepdim=True) - mean.square()",
        ),
        Mistake(
            "as many groups as examples",
            POSITIONS,
            "return group_norm(x, x.shape[0], gamma, beta, eps)\n"
            "    positions = tuple(range(2, x.dim()))",
            "The groups are counted by the batch. Every channel is to be a group of its own: their "
            "number is that of the channels.",
        ),
        Mistake(
            "over the batch too",
            POSITIONS,
            "positions = (0, *range(2, x.dim()))",
            "That is batch normalisation: here each example has a mean and a variance of its own.",
        ),
        Mistake(
            "over the channels too",
            POSITIONS,
            "positions = tuple(range(1, x.dim()))",
            "That is layer normalisation: here each channel has a mean and a variance of its own.",
        ),
        Mistake(
            "over the channels alone",
            POSITIONS,
            "positions = (1,)",
            "You average over the channels of a position; average over the positions of a channel.",
        ),
        Mistake(
            "over the batch alone",
            POSITIONS,
            "positions = (0,)",
            "You average over the batch; average over the positions of each channel of each "
            "example.",
        ),
        Mistake(
            "over everything",
            POSITIONS,
            "positions = tuple(range(x.dim()))",
            "Your mean and variance are shared by the whole batch; each channel of each example "
            "has its own.",
        ),
        Mistake(
            "last dimension alone",
            POSITIONS,
            "positions = (-1,)",
            "Positions are all the dimensions after the channels, not the last one alone.",
        ),
        Mistake(
            "images alone",
            POSITIONS,
            "positions = (2, 3)",
            "x may have one dimension of positions, or three: take all that come after the "
            "channels.",
        ),
        Mistake(
            "unbiased variance",
            INSTANCE_VAR,
            "var = x.var(dim=positions, keepdim=True)",
            "Divide by the number of positions, not by one less: `Tensor.var` is unbiased unless "
            "told otherwise.",
        ),
        Mistake(
            "variance not centred",
            INSTANCE_VAR,
            "var = x.square().mean(dim=positions, keepdim=True)",
            "The mean of the squares is not the variance: subtract the mean before squaring.",
        ),
        known("mean not subtracted", "(x - mean) / torch", "x / torch"),
        Mistake.edits_of(
            "statistics detached",
            [
                (INSTANCE_MEAN, "mean = x.detach().mean(dim=positions, keepdim=True)"),
                (
                    INSTANCE_VAR,
                    "var = (x - mean).detach().square().mean(dim=positions, keepdim=True)",
                ),
            ],
            HINTS["statistics detached"],
        ),
    ],
    variants=[
        Variant(
            "group_norm with a group for every channel",
            """
            def instance_norm(x, gamma, beta, eps=1e-5):
                return group_norm(x, x.shape[1], gamma, beta, eps=eps)
            """,
        ),
        Variant(
            "flattened positions",
            """
            def instance_norm(x, gamma, beta, eps=1e-5):
                flat = x.flatten(2)
                var, mean = torch.var_mean(flat, dim=-1, correction=0, keepdim=True)
                x_hat = (flat - mean) * (var + eps).rsqrt()
                return (gamma[:, None] * x_hat + beta[:, None]).reshape(x.shape)
            """,
        ),
        Variant(
            "a loop over examples and channels",
            """
            def instance_norm(x, gamma, beta, eps=1e-5):
                out = torch.empty_like(x)
                for n in range(x.shape[0]):
                    for c in range(x.shape[1]):
                        one = x[n, c]
                        std = torch.sqrt(((one - one.mean()) ** 2).mean() + eps)
                        out[n, c] = (one - one.mean()) / std * gamma[c] + beta[c]
                return out
            """,
        ),
    ],
)


@instance_norm.test(
    points=1.5,
    cases=[
        Case("images", called, lambda make: instance_inputs(make, 3, 4, 2, 5)),
        Case("sequences", called, lambda make: instance_inputs(make, 4, 3, 6)),
        Case("volumes", called, lambda make: instance_inputs(make, 2, 3, 4, 2, 3)),
        Case(
            "eps left at its default, channels of tiny spread",
            called,
            lambda make: dict(x=make.normal(2, 3, 4, 5, std=0.002), **affine(make, 3)),
        ),
        Case(
            "channels far from zero",
            called,
            lambda make: instance_inputs(make, 2, 3, 7, eps=1e-3, x=far_from_zero(make, 2, 3, 7)),
        ),
    ],
)
def test_normalises_each_channel_of_each_example(submission, case):
    """Normalises each channel of each example over its positions"""
    submission.matches_reference(case)


@instance_norm.test(
    points=0.5,
    cases=[
        Case(
            "images",
            gradients_of_norm,
            lambda make: instance_inputs(make, 2, 3, 4, 5, cotangent=make.normal(2, 3, 4, 5)),
        )
    ],
)
def test_instance_norm_gradients(submission, case):
    """Lets gradients through the mean and the variance"""
    submission.matches_reference(case)


@instance_norm.test(
    points=0.5, cases=[Case("images", called, lambda make: instance_inputs(make, 2, 3, 4, 5))]
)
def test_instance_norm_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


MEAN_SQUARE = "x.square().mean(dim=dims, keepdim=True)"
RMS = "torch.sqrt(mean_square + eps)"


def rms_inputs(make, *shape, over, **changes):
    made = {"x": varied(make, *shape), "gamma": make.away_from_zero(*over), "eps": HYPER["eps"]}
    return {**made, **changes}


rms_norm = Exercise(
    "rms_norm",
    oracle=by_torch_rms_norm,
    forbids=[*NORMALISATIONS, "torch.nn.functional.normalize"],
    mistakes=[
        Mistake(
            "layer_norm's default for eps",
            "eps: float = 1e-6",
            "eps: float = 1e-5",
            "The stub's signature gives eps another default than yours.",
        ),
        Mistake(
            "mean absolute value",
            RMS,
            "(x.abs().mean(dim=dims, keepdim=True) + eps)",
            "You divide by the mean absolute value. The *root of the mean square* is asked for.",
        ),
        Mistake(
            "divided by the size of the last dimension alone",
            MEAN_SQUARE,
            "x.square().sum(dim=dims, keepdim=True) / x.shape[-1]",
            "gamma may have several dimensions: the mean is over all their values together, so "
            "divide by how many there are in all.",
        ),
        known("in single precision", "mean_square = ", "x = x.float()\n    mean_square = "),
        Mistake(
            "mean subtracted",
            "return gamma * x / torch",
            "x = x - x.mean(dim=dims, keepdim=True)\n    return gamma * x / torch",
            "RMSNorm saves itself the mean: nothing is subtracted.",
        ),
        Mistake(
            "standard deviation",
            MEAN_SQUARE,
            "x.var(dim=dims, keepdim=True, correction=0)",
            "The mean square is taken around zero, not around the mean: it is not the variance.",
        ),
        Mistake.written(
            "layer normalisation",
            """
            def rms_norm(x, gamma, eps=1e-6):
                dims = tuple(range(-gamma.dim(), 0))
                var, mean = torch.var_mean(x, dim=dims, keepdim=True, correction=0)
                return gamma * (x - mean) / torch.sqrt(var + eps)
            """,
            "That is layer normalisation without beta: RMSNorm neither subtracts the mean nor "
            "measures around it.",
        ),
        Mistake(
            "sum instead of mean",
            MEAN_SQUARE,
            "x.square().sum(dim=dims, keepdim=True)",
            "Dividing by the length of the vector makes its values shrink as features are added: "
            "take the mean of the squares, not their sum.",
        ),
        Mistake(
            "unbiased mean square",
            MEAN_SQUARE,
            "x.square().sum(dim=dims, keepdim=True) / (gamma.numel() - 1)",
            "The mean of the squares divides by the number of features, not by one less.",
        ),
        Mistake(
            "square of the mean",
            MEAN_SQUARE,
            "x.mean(dim=dims, keepdim=True).square()",
            "Square first, then average: yours is the square of the mean.",
        ),
        Mistake(
            "mean of the magnitudes",
            MEAN_SQUARE,
            "x.abs().mean(dim=dims, keepdim=True).square()",
            "The root mean square is not the mean of the magnitudes: square, average, take the "
            "root.",
        ),
        Mistake(
            "root forgotten",
            RMS,
            "(mean_square + eps)",
            "The root is missing: divide by the root of the mean square.",
        ),
        known("eps outside the root", RMS, "(torch.sqrt(mean_square) + eps)"),
        known("eps forgotten", RMS, "torch.sqrt(mean_square)"),
        Mistake(
            "eps hard-coded",
            RMS,
            "torch.sqrt(mean_square + 1e-6)",
            HINTS["eps hard-coded"],
        ),
        known("eps as a floor", RMS, "torch.sqrt(mean_square.clamp(min=eps))"),
        Mistake(
            "multiplied by the root mean square",
            RMS,
            "torch.rsqrt(mean_square + eps)",
            "The values are divided by their root mean square; yours are multiplied by it.",
        ),
        Mistake(
            "mean taken after the root",
            "mean_square + eps)",
            "mean_square * gamma.numel() + eps) * gamma.numel()",
            "The mean is taken under the root: dividing the length by the number of features is "
            "dividing too much.",
        ),
        known("gamma forgotten", "gamma * x", "x"),
        Mistake(
            "gamma counted from one",
            "gamma * x",
            "(1 + gamma) * x",
            "Some language models store gamma less one; here gamma is the factor itself.",
        ),
        Mistake(
            "gamma inside the mean square",
            MEAN_SQUARE,
            "(gamma * x).square().mean(dim=dims, keepdim=True)",
            "gamma scales the normalised values; it has no part in the mean square.",
        ),
        Mistake(
            "last dimension alone",
            DIMS,
            "dims = (-1,)",
            "gamma may have several dimensions: all of them are averaged over, together.",
        ),
        Mistake(
            "everything but the batch",
            DIMS,
            "dims = tuple(range(1, x.dim()))",
            "Only the dimensions that gamma has are averaged over; in a batch of sequences every "
            "token is normalised by itself.",
        ),
        Mistake(
            "over the batch",
            DIMS,
            "dims = (0,)",
            "Every example is normalised over its own features, not each feature over the batch.",
        ),
        Mistake(
            "over everything",
            DIMS,
            "dims = tuple(range(x.dim()))",
            "Your root mean square is shared by the whole batch; each example has its own.",
        ),
        Mistake(
            "root mean square detached",
            RMS,
            "torch.sqrt(mean_square + eps).detach()",
            "The root mean square depends on x: gradients must flow through it, so do not detach "
            "it.",
        ),
    ],
    variants=[
        Variant(
            "rsqrt and powers",
            """
            def rms_norm(x, gamma, eps=1e-6):
                dims = [-1 - i for i in range(gamma.ndim)]
                return x * torch.rsqrt(x.pow(2).mean(dims, keepdim=True) + eps) * gamma
            """,
        ),
        Variant(
            "the length of the vector",
            """
            def rms_norm(x, gamma, eps=1e-6):
                rows = x.reshape(-1, gamma.numel())
                length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
                rows = rows / torch.sqrt(length**2 / gamma.numel() + eps)
                return rows.reshape(x.shape) * gamma
            """,
        ),
        Variant(
            "einsum",
            """
            def rms_norm(x, gamma, eps=1e-6):
                rows = x.flatten(start_dim=x.dim() - gamma.dim())
                mean_square = torch.einsum("...d,...d->...", rows, rows) / rows.shape[-1]
                rows = rows / (mean_square + eps).sqrt().unsqueeze(-1)
                return gamma * rows.reshape(x.shape)
            """,
        ),
    ],
)


@rms_norm.test(
    points=1,
    cases=[
        Case("vectors", called, lambda make: rms_inputs(make, 5, 7, over=(7,))),
        Case(
            "in bfloat16", called, lambda make: rms_inputs(make, 5, 7, over=(7,)), dtypes=TRAINING
        ),
        Case("a batch of sequences", called, lambda make: rms_inputs(make, 3, 5, 6, over=(6,))),
        Case(
            "features of two dimensions",
            called,
            lambda make: rms_inputs(make, 4, 3, 6, 5, over=(6, 5)),
        ),
        Case(
            "a single vector without a batch", called, lambda make: rms_inputs(make, 6, over=(6,))
        ),
        Case(
            "eps left at its default, small features",
            called,
            lambda make: {"x": make.normal(3, 5, std=0.0007), "gamma": make.away_from_zero(5)},
        ),
    ],
)
def test_divides_by_the_root_mean_square(submission, case):
    """Divides each example by its root mean square"""
    submission.matches_reference(case)


@rms_norm.test(
    points=0.5,
    cases=[
        Case(
            "a batch of sequences",
            gradients_of_rms_norm,
            lambda make: rms_inputs(make, 3, 4, 6, over=(6,), cotangent=make.normal(3, 4, 6)),
        )
    ],
)
def test_rms_norm_gradients(submission, case):
    """Lets gradients through the root mean square"""
    submission.matches_reference(case)


@rms_norm.test(
    points=0.5,
    cases=[Case("sequences", called, lambda make: rms_inputs(make, 3, 5, 6, over=(6,)))],
)
def test_rms_norm_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)
