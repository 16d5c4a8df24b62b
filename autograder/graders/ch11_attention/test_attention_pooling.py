"""Kernel regression: Nadaraya (1964), https://doi.org/10.1137/1109020, and Watson (1964); masked
softmax; additive attention: Bahdanau et al. (2014), https://arxiv.org/abs/1409.0473.

Oracles: the kernel as a normal density in logarithms; one softmax for each row over the keys that
are left; one key left out at a time; a single linear layer on query and key side by side.
"""

import torch
from torch import nn

from autograder.spec import Case, Exercise, Mistake, gradients, load_weights, names_and_shapes
from autograder.spec.tables import edits, edits_of, slips, variants

SHORT_CUTS = [
    "torch.masked",
    "torch._masked_softmax",
    "torch.nn.functional.scaled_dot_product_attention",
    "torch.nn.functional.multi_head_attention_forward",
    "torch.nn.MultiheadAttention",
    "torch.nn.attention",
]


def case(title, scenario, inputs, loosen=10.0):
    """With room for exponents that are large before a softmax takes their differences."""
    return Case(title, scenario, inputs, loosen=loosen)


def named(result, first="output"):
    """Names for the feedback; where only one thing comes back, the weights are missing."""
    pair = isinstance(result, tuple | list) and len(result) == 2
    output, weights = result if pair else (result, None)
    return {first: output, "weights": weights}


# -------------------------------------------------------------------------- nadaraya_watson


def regression_by_densities(queries, keys, values, bandwidth):
    """In logarithms, which neither over- nor underflow; constants cancel."""
    scaled = (queries[..., :, None, :] - keys[..., None, :, :]) / bandwidth
    log_density = torch.distributions.Normal(torch.zeros_like(scaled), 1.0).log_prob(scaled).sum(-1)
    weights = (log_density - log_density.logsumexp(-1, keepdim=True)).exp()
    return torch.einsum("...qk,...kv->...qv", weights, values), weights


def regress(impl, queries, keys, values, bandwidth):
    return named(impl(queries, keys, values, bandwidth), "predictions")


def regress_backward(impl, queries, keys, values, bandwidth, cotangent):
    leaves = [t.detach().clone().requires_grad_() for t in (queries, keys, values, bandwidth)]
    predictions, _ = impl(*leaves)
    names = ("queries", "keys", "values", "bandwidth")
    found = gradients(predictions, leaves, cotangent)
    return {f"gradient of the {n}": g for n, g in zip(names, found, strict=True)}


def points(make, *leading, queries=4, keys=6, features=3, d_v=2, bandwidth=(0.5, 0.8), far=0.0):
    return {
        "queries": far + make.normal(*leading, queries, features),
        "keys": make.normal(*leading, keys, features),
        "values": 3 + make.normal(*leading, keys, d_v),
        "bandwidth": make.number(*bandwidth),
    }


def as_tensor(make, **options):
    drawn = points(make, **options)
    return {**drawn, "bandwidth": torch.tensor(drawn["bandwidth"], dtype=torch.float64)}


def on_a_key(drawn, cotangent):
    drawn["queries"][1] = drawn["keys"][2]
    return {**drawn, "cotangent": cotangent}


DIFFERENCES = "queries.unsqueeze(-2) - keys.unsqueeze(-3)"
SQUARED = "differences.square().sum(dim=-1)"
WEIGHTS = "weights = torch.softmax(-squared_distances / (2 * bandwidth**2), dim=-1)"
POOLED = "return weights @ values, weights"
KERNEL = "kernel = torch.exp(-squared_distances / (2 * bandwidth**2))\n    "
UNDERFLOWS = (
    "For a query far from every key all exponentials round to 0, and the average is lost. A "
    "softmax of the exponents finds the nearest key all the same."
)

nadaraya_watson = Exercise(
    "nadaraya_watson",
    oracle=regression_by_densities,
    mistakes=[
        *edits(
            [
                (
                    f"no gradient for the {name}",
                    where,
                    where.replace(name, f"{name}.detach()"),
                    f"No gradient reaches the {name}: they are detached on the way.",
                )
                for name, where in (
                    ("queries", DIFFERENCES),
                    ("keys", DIFFERENCES),
                    ("values", "weights @ values"),
                )
            ]
        ),
        *slips(
            SQUARED,
            """
            distance not squared
                differences.square().sum(dim=-1).add(1e-30).sqrt()
            The Gaussian kernel takes the square of the distance, not the distance itself.

            absolute differences
                differences.abs().sum(dim=-1)
            Differences of the features are squared before they are added up.

            mean over the features
                differences.square().mean(dim=-1)
            A squared distance is the sum over the features; you average them.

            squared after the sum
                differences.sum(dim=-1).square()
            Differences of opposite sign cancel if they are added before they are squared.

            only the first feature
                differences.square()[..., 0]
            All features take part in the distance: right for one feature only.

            the distance over the bandwidth
                2 * bandwidth * differences.square().sum(dim=-1).add(1e-30).sqrt()
            The weights fall with the distance itself. A Gaussian kernel takes the square of the
            distance, over twice the square of the bandwidth.

            rooted and squared again
                differences.square().sum(dim=-1).sqrt().square()
            Where a query stands on a key, the root has an infinite slope, and the gradient is NaN.
            The kernel takes the squared distance: no root is needed on the way to it.

            largest difference
                differences.square().amax(dim=-1)
            All features take part in the distance, not only the one that differs most.
            """,
        ),
        *slips(
            WEIGHTS,
            """
            2 left out
                weights = torch.softmax(-squared_distances / bandwidth**2, dim=-1)
            The exponent is divided by twice the square of the bandwidth.

            bandwidth not squared
                weights = torch.softmax(-squared_distances / (2 * bandwidth), dim=-1)
            The bandwidth is a standard deviation: its square stands under the distance.

            2 squared as well
                weights = torch.softmax(-squared_distances / (2 * bandwidth) ** 2, dim=-1)
            Only the bandwidth is squared, not the 2 beside it.

            bandwidth ignored
                weights = torch.softmax(-squared_distances / 2, dim=-1)
            The bandwidth has no effect on the weights.

            multiplied by the bandwidth
                weights = torch.softmax(-squared_distances * bandwidth**2 / 2, dim=-1)
            A larger bandwidth makes the kernel wider: divide by its square.

            far keys count most
                weights = torch.softmax(squared_distances / (2 * bandwidth**2), dim=-1)
            The further a key, the less it counts: the exponent is negative.

            normalised over the queries
                weights = torch.softmax(-squared_distances / (2 * bandwidth**2), dim=-2)
            The weights add up to 1 over the keys, for every query by itself.

            not normalised
                weights = torch.exp(-squared_distances / (2 * bandwidth**2))
            The weights of a query add up to 1: divide by their sum.

            nearest key only
                nearest = squared_distances.argmin(dim=-1)
                    weights = nn.functional.one_hot(nearest, keys.size(-2)).to(values)
            All keys take part, each with its weight; yours gives everything to the nearest.

            no gradient for the bandwidth
                spread = torch.as_tensor(bandwidth, device=keys.device).detach()
                    weights = torch.softmax(-squared_distances / (2 * spread**2), dim=-1)
            No gradient reaches the bandwidth, and so it could not be learned: use the tensor
            itself, not a number or a copy made from it.
            """,
        ),
        *edits_of(
            WEIGHTS,
            (
                "divided by the number of keys",
                f"{KERNEL}weights = kernel / kernel.size(-1)",
                "The kernel's values are divided by their sum, not by how many keys there are.",
            ),
            (
                "0/0 far from every key",
                f"{KERNEL}weights = kernel / kernel.sum(dim=-1, keepdim=True)",
                UNDERFLOWS,
            ),
            (
                "0 far from every key",
                f"{KERNEL}weights = kernel / kernel.sum(dim=-1, keepdim=True).clamp_min(1e-12)",
                UNDERFLOWS,
            ),
        ),
        *edits(
            [
                (
                    "queries and keys exchanged",
                    DIFFERENCES,
                    "keys.unsqueeze(-2) - queries.unsqueeze(-3)",
                    "Rows belong to the queries and columns to the keys; yours are exchanged.",
                ),
                (
                    "leading dimensions forgotten",
                    DIFFERENCES,
                    "queries.unsqueeze(1) - keys.unsqueeze(0)",
                    "Dimensions are counted from the front, which is right without leading ones "
                    "only. Count them from the back.",
                ),
                (
                    "weights before predictions",
                    POOLED,
                    "return weights, weights @ values",
                    "The predictions are returned first, then the weights.",
                ),
                (
                    "weights not returned",
                    POOLED,
                    "return weights @ values",
                    "The weights are returned as well, after the predictions.",
                ),
                (
                    "values not averaged",
                    POOLED,
                    "return weights @ (values - values.mean(-2, keepdim=True)), weights",
                    "The values are averaged as they are; nothing is taken from them first.",
                ),
                (
                    "weights cut from the graph",
                    POOLED,
                    "return weights.detach() @ values, weights",
                    "No gradient reaches queries, keys and bandwidth: the weights are detached.",
                ),
                (
                    "queries changed in place",
                    DIFFERENCES,
                    "queries.unsqueeze_(-2) - keys.unsqueeze(-3)",
                    "The caller's queries have changed: methods that end in _ write into them.",
                ),
            ]
        ),
    ],
    variants=variants(
        """
        by cdist
            def nadaraya_watson(queries, keys, values, bandwidth):
                exact = "donot_use_mm_for_euclid_dist"
                distances = torch.cdist(queries, keys, compute_mode=exact)
                weights = nn.functional.softmax(-0.5 * (distances / bandwidth) ** 2, dim=-1)
                return weights.matmul(values), weights

        the nearest key's distance subtracted
            def nadaraya_watson(queries, keys, values, bandwidth):
                d = (queries[..., :, None, :] - keys[..., None, :, :]).pow(2).sum(-1)
                d = d - d.min(dim=-1, keepdim=True).values
                kernel = torch.exp(-d / 2 / bandwidth / bandwidth)
                weights = kernel / kernel.sum(-1, keepdim=True)
                return [torch.einsum("...ij,...jv->...iv", weights, values), weights]

        query by query
            def nadaraya_watson(queries, keys, values, bandwidth):
                rows, outputs = [], []
                for i in range(queries.shape[-2]):
                    query = queries[..., i : i + 1, :]
                    exponents = -torch.sum((keys - query) ** 2, dim=-1) / (2 * bandwidth**2)
                    row = torch.exp(exponents - torch.logsumexp(exponents, -1, keepdim=True))
                    rows.append(row)
                    outputs.append((row.unsqueeze(-1) * values).sum(-2))
                return torch.stack(outputs, -2), torch.stack(rows, -2)
        """
    ),
)


@nadaraya_watson.test(
    points=1.5,
    cases=[
        case("several features", regress, points),
        case("one feature", regress, lambda make: points(make, features=1, d_v=1)),
        case("a small bandwidth", regress, lambda make: points(make, bandwidth=(0.1, 0.2))),
        case("a large bandwidth", regress, lambda make: points(make, bandwidth=(2.0, 3.0))),
        case("as many queries as keys", regress, lambda make: points(make, queries=5, keys=5)),
    ],
)
def test_averages_by_the_kernel(submission, case):
    """Averages the values by a Gaussian kernel"""
    submission.matches_reference(case)


@nadaraya_watson.test(
    points=0.5,
    cases=[
        case("one leading dimension", regress, lambda make: points(make, 2, d_v=5)),
        case("two leading dimensions", regress, lambda make: points(make, 2, 3)),
        case("one query", regress, lambda make: points(make, 5, queries=1)),
    ],
)
def test_regression_with_leading_dimensions(submission, case):
    """Treats leading dimensions independently"""
    submission.matches_reference(case)


@nadaraya_watson.test(
    points=0.5,
    cases=[
        case(
            "queries far from every key",
            regress,
            lambda make: points(make, far=30.0, bandwidth=(0.3, 0.5)),
            loosen=50.0,
        ),
    ],
)
def test_regression_far_away(submission, case):
    """Stays exact far from every key"""
    submission.matches_reference(case)


@nadaraya_watson.test(
    points=0.5,
    cases=[
        case(
            "of all four arguments",
            regress_backward,
            lambda make: dict(**as_tensor(make), cotangent=make.normal(4, 2)),
            loosen=100.0,
        ),
        case(
            "of a query that stands on a key",
            regress_backward,
            lambda make: on_a_key(as_tensor(make), make.normal(4, 2)),
            loosen=100.0,
        ),
    ],
)
def test_regression_learns(submission, case):
    """Passes gradients back"""
    submission.matches_reference(case)


@nadaraya_watson.test(points=0.5, cases=[case("a tensor as bandwidth", regress, as_tensor)])
def test_regression_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# --------------------------------------------------------------------------- masked_softmax


def softmax_of_what_is_left(scores, mask=None):
    """Row by row, with the masked keys taken out."""
    if mask is None:
        return torch.softmax(scores, -1)
    allowed = mask.broadcast_to(scores.shape)
    rows = []
    for row, kept in zip(
        scores.reshape(-1, scores.size(-1)), allowed.reshape(-1, scores.size(-1)), strict=True
    ):
        rows.append(torch.zeros_like(row).masked_scatter(kept, torch.softmax(row[kept], 0)))
    return torch.stack(rows).view_as(scores) + 0.0 * scores


def weigh(impl, scores, mask=None):
    return {"weights": impl(scores) if mask is None else impl(scores, mask)}


def weigh_backward(impl, scores, mask, cotangent):
    leaf = scores.detach().clone().requires_grad_()
    weights = impl(leaf, mask)
    return {"weights": weights, "gradient of the scores": gradients(weights, [leaf], cotangent)[0]}


def some_of(make, *shape, dead=()):
    """A mask in which the rows of ``dead`` have no key, and every other row at least one."""
    mask = make.boolean(*shape, p=0.55)
    lucky = make.integers(0, shape[-1], *shape[:-1]).unsqueeze(-1)
    mask = mask | (torch.arange(shape[-1]) == lucky)
    mask[..., list(dead), :] = False
    return mask


def lengths_mask(make, batch, keys):
    """Padding of another length in every sequence, of shape (batch, 1, keys)."""
    return torch.arange(keys) < (1 + make.permutation(keys - 1)[:batch])[:, None, None]


def enormous(make):
    """Far beyond a billion in both directions, the largest of each row masked."""
    ranks = torch.stack([make.permutation(6), make.permutation(6)])
    return {"scores": 2.0**40 * (ranks + torch.tensor([[1.0], [-9.0]])).double(), "mask": ranks < 3}


def shifted(make, *shape, by):
    """Scores far from zero, in eighths, so that float32 holds them exactly."""
    return (make.normal(*shape) * 8).round() / 8 + torch.as_tensor(by, dtype=torch.float64)


MASKED = """    weights = torch.softmax(scores.masked_fill(~mask, lowest), dim=-1)
    return weights.masked_fill(~mask, 0.0)"""
PLAIN = "        return torch.softmax(scores, dim=-1)"
NO_MASK = "        mask = torch.ones_like(scores, dtype=torch.bool)"
EXPONENTIALS = """    total = exponentials.sum(dim=-1, keepdim=True)
    return exponentials / total.masked_fill(total == 0, 1.0)"""


def over(dims):
    """Both softmaxes of the reference over other dimensions."""
    filled = "    masked = scores.masked_fill(~mask, lowest)\n    weights = "
    masked = "torch.softmax(scores.masked_fill(~mask, lowest), dim=-1)\n"
    return [
        (PLAIN, f"        return torch.softmax(scores{dims}"),
        (masked, f"torch.softmax(masked{dims}\n"),
        ("    weights = ", filled),
    ]


masked_softmax = Exercise(
    "masked_softmax",
    oracle=softmax_of_what_is_left,
    forbids=SHORT_CUTS,
    mistakes=[
        *edits_of(
            PLAIN,
            (
                "no mask not provided for",
                "        return torch.softmax(scores, dim=-1).masked_fill(~mask, 0.0)",
                "A mask is taken for granted. It may be None, and then every key counts.",
            ),
        ),
        *edits_of(
            MASKED,
            (
                "mask the wrong way round",
                MASKED.replace("~mask", "mask"),
                "The mask is read the wrong way round: True means that a key may be attended to.",
            ),
            (
                "mask ignored",
                "    return torch.softmax(scores, dim=-1)",
                "The mask changes nothing: masked keys still get weight.",
            ),
            (
                "masked scores set to zero",
                "    return torch.softmax(scores * mask, dim=-1)",
                "A score of 0 still gets weight, since exp(0) is 1. What should a masked key add "
                "to the sum under the fraction?",
            ),
            (
                "masked scores set to zero, then masked",
                "    return torch.softmax(scores * mask, dim=-1) * mask",
                "A masked key with the score 0 still takes its share, since exp(0) is 1, and what "
                "is left does not add up to 1.",
            ),
            (
                "masked after the softmax",
                "    return torch.softmax(scores, dim=-1).masked_fill(~mask, 0.0)",
                "The masked keys take their share before they are dropped, so what is left does "
                "not add up to 1. Mask the scores, then take the softmax.",
            ),
            (
                "masked after the softmax, made to add up",
                "    weights = torch.softmax(scores, dim=-1) * mask\n"
                "    return weights / weights.sum(dim=-1, keepdim=True)",
                "Dividing by what is left breaks down where nothing is left: in rows masked "
                "whole, and where a masked score is so large that the others round to 0. Mask "
                "the scores first.",
            ),
            (
                "masked after the softmax, with a floor under the sum",
                "    weights = torch.softmax(scores, dim=-1) * mask\n"
                "    return weights / weights.sum(dim=-1, keepdim=True).clamp_min(1e-12)",
                "Where a masked score is far larger than the others, these have rounded to 0 "
                "before the mask comes in. Mask the scores first.",
            ),
            (
                "NaN for an empty row",
                "    return torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1)",
                "A row masked whole is a softmax of nothing but minus infinity: 0/0. Such a row "
                "should get zeros.",
            ),
            (
                "the mean for an empty row",
                "    return torch.softmax(scores.masked_fill(~mask, lowest), dim=-1)",
                "In a row masked whole all scores are equal after masking, and a softmax shares "
                "out evenly among keys that must not be seen. Such a row should get zeros.",
            ),
            (
                "all keys for an empty row",
                "    return torch.softmax(scores + ~mask * -1e9, dim=-1)",
                "Where everything is masked, all scores of a row are lowered by the same number, "
                "which a softmax does not notice. Such a row should get zeros.",
            ),
            (
                "cut from the graph",
                MASKED.replace("scores.masked_fill", "scores.detach().masked_fill"),
                "Under a mask no gradient passes back: the scores are detached, so that what made "
                "them could not be learned.",
            ),
            (
                "the mask's shape taken for that of the scores",
                "    scores = scores.clone()\n"
                "    scores[~mask] = lowest\n"
                "    return torch.softmax(scores, dim=-1).masked_fill(~mask, 0.0)",
                "Indexing with the mask needs it in the shape of the scores, but it may come in "
                "any shape that broadcasts to it.",
            ),
            (
                "a constant under the sum",
                "    filled = scores.masked_fill(~mask, lowest)\n"
                "    exponentials = (filled - filled.amax(dim=-1, keepdim=True)).exp() * mask\n"
                "    return exponentials / (exponentials.sum(dim=-1, keepdim=True) + 1e-6)",
                "A constant is added to the sum that the weights are divided by, so that they do "
                "not quite add up to 1. Only empty rows need help; leave the others exact.",
            ),
            (
                "masked scores not low enough",
                "    return torch.softmax(scores.masked_fill(~mask, -100.0), dim=-1) * mask.any(\n"
                "        dim=-1, keepdim=True\n    )",
                "The number put in for masked scores is not low enough: where the true scores "
                "are lower still, masked keys win.",
            ),
            (
                "masked scores not low enough, then masked",
                "    return torch.softmax(scores.masked_fill(~mask, -100.0), dim=-1) * mask",
                "The number put in for masked scores is not low enough: where the true scores "
                "are lower still, masked keys take a share that is then lost.",
            ),
            (
                "a billion below zero",
                "    return torch.softmax(scores.masked_fill(~mask, -1e9), dim=-1) * mask",
                "Minus a billion is a score like any other: where the true scores are lower still, "
                "masked keys take a share that is then lost.",
            ),
            (
                "a billion subtracted",
                "    return torch.softmax(scores - 1e9 * ~mask, dim=-1) * mask",
                "A masked score that is larger than the others by more than a billion still wins. "
                "Replace masked scores; do not only lower them.",
            ),
            (
                "NaN gradients",
                "    bias = torch.zeros_like(scores).masked_fill(~mask, -torch.inf)\n"
                "    return torch.softmax(scores + bias, dim=-1).nan_to_num(0.0)",
                "The weights are right, but the gradients are NaN: hiding the 0/0 of a row "
                "masked whole works going forward, not going backward. Avoid it instead.",
            ),
            (
                "evenly among the allowed keys",
                "    return mask / mask.sum(dim=-1, keepdim=True).clamp_min(1).to(scores)",
                "All allowed keys get the same weight. The scores decide how much each gets.",
            ),
            (
                "numbers below zero dropped",
                "    weights = (scores * mask).clamp_min(0.0)\n"
                "    return weights / weights.sum(dim=-1, keepdim=True).clamp_min(1e-30)",
                "Scores may be negative and still count: weights are made of exponentials.",
            ),
            (
                "zeros in every row where one is empty",
                MASKED + " * mask.any(dim=-1, keepdim=True).all()",
                "An empty row gets zeros; the other rows keep their weights.",
            ),
        ),
        *edits(
            [
                (
                    "no softmax without a mask",
                    PLAIN,
                    "        return scores",
                    "Without a mask all keys may be attended to, and the softmax is taken all "
                    "the same.",
                ),
                (
                    "logarithms",
                    MASKED,
                    MASKED.replace("softmax", "log_softmax"),
                    "The weights are wanted, not their logarithms.",
                ),
                (
                    "scores changed in place",
                    "scores.masked_fill(~mask, lowest)",
                    "scores.masked_fill_(~mask, lowest)",
                    "The caller's scores have changed: methods that end in _ write into them.",
                ),
            ]
        ),
        Mistake.edits_of(
            "softmax over the rows",
            over(".unsqueeze(0), dim=-2).squeeze(0)"),
            "The weights add up to 1 along the wrong dimension. The keys are the last one.",
        ),
        Mistake.edits_of(
            "softmax over the first dimension",
            over(", dim=0)"),
            "The weights add up to 1 over the first dimension. The keys are the last one.",
        ),
        Mistake.edits_of(
            "softmax over everything",
            over(".flatten(), dim=0).view_as(scores)"),
            "All weights together add up to 1; each row should have weights that do.",
        ),
        *[
            Mistake.edits_of(name, [(PLAIN, NO_MASK), (MASKED, made + EXPONENTIALS)], hint)
            for name, made, hint in [
                (
                    "overflows",
                    "    exponentials = scores.exp() * mask\n",
                    "exp of a large score overflows, exp of a very negative one is 0. A softmax "
                    "does not change when the same number is taken from all scores of a row.",
                ),
                (
                    "one maximum for all rows",
                    "    exponentials = (scores - scores.max()).exp() * mask\n",
                    "The largest of all scores is subtracted, and rows with much smaller ones "
                    "round to 0. Every row needs its own maximum.",
                ),
                (
                    "clamped",
                    "    exponentials = scores.clamp(-40.0, 40.0).exp() * mask\n",
                    "Scores beyond the limits become equal, and their differences are lost. A "
                    "stable softmax needs no clamp.",
                ),
            ]
        ],
    ],
    variants=variants(
        """
        minus infinity, and empty rows kept away from it
            def masked_softmax(scores, mask=None):
                if mask is None:
                    mask = torch.ones_like(scores, dtype=torch.bool)
                mask = mask.expand_as(scores)
                empty = ~mask.any(dim=-1, keepdim=True)
                filled = torch.where(mask | empty, scores, float("-inf"))
                return nn.functional.softmax(filled, dim=-1) * (~empty)

        by hand, with each row's own maximum
            def masked_softmax(scores, mask=None):
                if mask is None:
                    mask = scores.new_ones((), dtype=torch.bool)
                low = torch.where(mask, scores, torch.full_like(scores, -1e30))
                top = low.max(dim=-1, keepdim=True).values.detach()
                exponentials = torch.exp(low - top) * mask
                total = exponentials.sum(-1, keepdim=True)
                return exponentials / torch.where(total == 0, torch.ones_like(total), total)

        minus infinity, then zeros
            def masked_softmax(scores, mask=None):
                if mask is not None:
                    scores = scores.masked_fill(mask.logical_not(), float("-inf"))
                weights = scores.softmax(-1)
                return weights if mask is None else torch.nan_to_num(weights, nan=0.0)

        logsumexp on a copy
            def masked_softmax(scores, mask=None):
                own = scores.clone()
                if mask is not None:
                    own[~mask.broadcast_to(own.shape)] = -1e20
                weights = (own - own.logsumexp(dim=-1, keepdim=True)).exp()
                return weights if mask is None else torch.where(mask, weights, 0.0)
        """
    ),
)


@masked_softmax.test(
    points=1.5,
    cases=[
        case("no mask", weigh, lambda make: {"scores": make.normal(3, 5, std=2.0)}),
        case(
            "a mask for every row",
            weigh,
            lambda make: {"scores": make.normal(3, 4, 6), "mask": some_of(make, 3, 4, 6)},
        ),
        case(
            "a mask of padded keys",
            weigh,
            lambda make: {"scores": make.normal(3, 4, 6), "mask": lengths_mask(make, 3, 6)},
        ),
        case(
            "one mask for all leading dimensions",
            weigh,
            lambda make: {"scores": make.normal(2, 3, 4, 6), "mask": some_of(make, 4, 6)},
        ),
        case(
            "one row",
            weigh,
            lambda make: {"scores": make.normal(7), "mask": make.permutation(7) < 4},
        ),
    ],
)
def test_shares_among_the_allowed(submission, case):
    """Shares out among the keys that may be attended to"""
    submission.matches_reference(case)


@masked_softmax.test(
    points=0.5,
    cases=[
        case(
            "some rows are empty",
            weigh,
            lambda make: {
                "scores": make.normal(2, 5, 6),
                "mask": some_of(make, 2, 5, 6, dead=(1, 3)),
            },
        ),
        case(
            "an empty sequence in the batch",
            weigh,
            lambda make: {
                "scores": make.normal(2, 3, 5),
                "mask": torch.tensor([[[False]], [[True]]]),
            },
        ),
    ],
)
def test_empty_rows_get_zeros(submission, case):
    """Gives zeros where everything is masked"""
    submission.matches_reference(case)


@masked_softmax.test(
    points=1,
    cases=[
        case(
            "scores far above and far below zero",
            weigh,
            lambda make: {"scores": shifted(make, 3, 6, by=[[800.0], [-800.0], [0.0]])},
        ),
        case(
            "scores far above and far below zero, with a mask",
            weigh,
            lambda make: {
                "scores": shifted(make, 3, 6, by=[[800.0], [-800.0], [0.0]]),
                "mask": torch.stack([make.permutation(6) < 4 for _ in range(3)]),  # some in each
            },
        ),
        case(
            "large scores in the padding",
            weigh,
            lambda make: {
                "scores": shifted(make, 4, 6, by=[0.0, 0.0, 0.0, 900.0, 900.0, 900.0]),
                "mask": torch.arange(6) < 3,
            },
        ),
        case("enormous scores", weigh, enormous),
    ],
)
def test_masked_softmax_is_stable(submission, case):
    """Stays exact for large scores, masked or not"""
    submission.matches_reference(case)


@masked_softmax.test(
    points=0.5,
    cases=[
        case(
            "with empty rows",
            weigh_backward,
            lambda make: {
                "scores": make.normal(2, 5, 6),
                "mask": some_of(make, 2, 5, 6, dead=(0, 4)),
                "cotangent": make.normal(2, 5, 6),
            },
            loosen=100.0,
        ),
    ],
)
def test_masked_softmax_passes_gradients(submission, case):
    """Passes finite gradients back"""
    submission.matches_reference(case)


@masked_softmax.test(
    points=0.5,
    cases=[
        case(
            "with a mask",
            weigh,
            lambda make: {"scores": make.normal(3, 4, 6), "mask": some_of(make, 3, 1, 6)},
        )
    ],
)
def test_masked_softmax_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ----------------------------------------------------------------------- leave_one_out_loss


def one_left_out_at_a_time(keys, values, bandwidth):
    errors = []
    for i in range(len(keys)):
        rest = [j for j in range(len(keys)) if j != i]
        exponents = -((keys[rest] - keys[i]) / bandwidth).square().sum(1) / 2
        predicted = torch.softmax(exponents, 0) @ values[rest]
        errors.append((predicted - values[i]).square())
    return torch.stack(errors).mean()


def judge(impl, keys, values, bandwidth):
    return {"the loss": impl(keys, values, bandwidth)}


def judge_backward(impl, keys, values, bandwidth):
    leaf = bandwidth.detach().clone().requires_grad_()
    loss = impl(keys, values, leaf)
    return {"the loss": loss, "gradient of the bandwidth": gradients(loss, [leaf])[0]}


def scattered(make, n=7, features=2, d_v=3, bandwidth=(0.6, 0.9)):
    return {
        "keys": make.normal(n, features),
        "values": 2 + make.normal(n, d_v),
        "bandwidth": make.number(*bandwidth),
    }


def spread_out(make, **options):
    """The same with a bandwidth that is a tensor."""
    drawn = scattered(make, **options)
    return {**drawn, "bandwidth": torch.tensor(drawn["bandwidth"], dtype=torch.float64)}


def at_one_place(drawn):
    drawn["keys"][4] = drawn["keys"][1]
    return drawn


APART = "(keys.unsqueeze(1) - keys.unsqueeze(0)).square().sum(dim=-1)"
OTHERS = "~torch.eye(len(keys), dtype=torch.bool, device=keys.device)"
LEFT_OUT = "masked_softmax(-squared_distances / (2 * bandwidth**2), others)"
LOSS = "(weights @ values - values).square().mean()"

leave_one_out_loss = Exercise(
    "leave_one_out_loss",
    oracle=one_left_out_at_a_time,
    forbids=SHORT_CUTS,
    mistakes=[
        *slips(
            OTHERS,
            """
            nobody left out
                torch.ones(len(keys), len(keys), dtype=torch.bool, device=keys.device)
            Every key takes part in its own prediction, which is easy to do well. It should be left
            out.

            all others left out
                torch.eye(len(keys), dtype=torch.bool, device=keys.device)
            The mask is the wrong way round: every key attends to itself alone. True means that a
            key may be attended to.

            earlier keys only
                torch.ones_like(squared_distances, dtype=torch.bool).tril(-1)
            Only the keys before it take part in a prediction; all others should.

            later keys only
                torch.ones_like(squared_distances, dtype=torch.bool).triu(1)
            Only the keys after it take part in a prediction; all others should.

            the first key left out every time
                torch.arange(len(keys), device=keys.device).expand(len(keys), -1) > 0
            The same key is left out every time. Each prediction leaves out the key that it is for.
            """,
        ),
        *slips(
            LEFT_OUT,
            """
            left out after the softmax
                torch.softmax(-squared_distances / (2 * bandwidth**2), dim=-1) * others
            A key takes its share of the weight before it is dropped, so the weights that are left
            do not add up to 1.

            left out after the softmax, made to add up
                torch.softmax(-squared_distances / (2 * bandwidth**2), dim=-1) * others
                    weights = weights / weights.sum(dim=-1, keepdim=True)
            Each key is its own nearest neighbour: with a small bandwidth all other weights round
            to 0 beside it before it is dropped. Mask first, then take the softmax.

            infinitely far from itself
                torch.softmax(
                        -squared_distances.masked_fill(~others, torch.inf) / (2 * bandwidth**2), -1
                    )
            The loss is right, but its gradient is NaN: with an infinite distance the bandwidth gets
            0 times infinity. Mask after the distances were divided, not before.

            not normalised
                torch.exp(-squared_distances / (2 * bandwidth**2)) * others
            The weights of the others add up to 1: divide by their sum.

            2 left out
                masked_softmax(-squared_distances / bandwidth**2, others)
            The exponent is divided by twice the square of the bandwidth.

            bandwidth not squared
                masked_softmax(-squared_distances / (2 * bandwidth), others)
            The bandwidth is a standard deviation: its square stands under the distance.

            2 squared as well
                masked_softmax(-squared_distances / (2 * bandwidth) ** 2, others)
            Only the bandwidth is squared, not the 2 beside it.

            far keys count most
                masked_softmax(squared_distances / (2 * bandwidth**2), others)
            The further a key, the less it counts: the exponent is negative.

            no gradient for the bandwidth
                masked_softmax(
                        -squared_distances / (2 * torch.as_tensor(
                            bandwidth, device=keys.device).detach() ** 2), others
                    )
            No gradient reaches the bandwidth, and so it could not be learned: use the tensor
            itself, not a number or a copy made from it.
            """,
        ),
        *slips(
            APART,
            """
            distance not squared
                (keys.unsqueeze(1) - keys.unsqueeze(0)).square().sum(dim=-1).add(1e-30).sqrt()
            The Gaussian kernel takes the square of the distance, not the distance itself.

            mean over the features
                (keys.unsqueeze(1) - keys.unsqueeze(0)).square().mean(dim=-1)
            A squared distance is the sum over the features; you average them.

            only the first feature
                (keys.unsqueeze(1) - keys.unsqueeze(0)).square()[..., 0]
            All features take part in the distance: right for one feature only.
            """,
        ),
        *slips(
            OTHERS,
            """
            whoever stands at the same place left out
                squared_distances > 0
            Every key at the same place is left out. Two measurements may stand at one place; it is
            only its own value that a key may not use.
            """,
        ),
        *slips(
            LOSS,
            """
            a number instead of a tensor
                (weights @ values - values).square().mean().item()
            The loss is a Python number, from which no gradient passes back; a 0-d tensor is asked
            for.

            divided by one key less
                (weights @ values - values).square().mean() * len(keys) / (len(keys) - 1)
            The squared error is averaged over all n · d_v numbers; nothing is taken off the count.

            error added up
                (weights @ values - values).square().sum()
            The squared error is averaged, not added up.

            added up over the features of a value
                (weights @ values - values).square().sum(dim=-1).mean()
            The average runs over all n times d_v numbers: right for one number a value only.

            root of the error
                (weights @ values - values).square().mean().sqrt()
            The loss is the mean squared error itself, without a root.

            absolute error
                (weights @ values - values).abs().mean()
            The error is squared before it is averaged.

            half of the error
                (weights @ values - values).square().mean() / 2
            There is no factor of one half in this loss.

            keys predicted
                (weights @ keys - keys).square().mean()
            The values are predicted, not the keys.

            squared after averaging
                (weights @ values - values).mean().square()
            Errors of opposite sign cancel if they are averaged before they are squared.

            one loss a point
                (weights @ values - values).square().mean(dim=-1)
            The loss is a single number, averaged over the points as well.

            a list of one
                (weights @ values - values).square().mean().reshape(1)
            The loss is a tensor of no dimensions; yours has shape (1,).
            """,
        ),
    ],
    variants=variants(
        """
        one after the other
            def leave_one_out_loss(keys, values, bandwidth):
                total = 0.0
                for i in range(keys.size(0)):
                    rest = torch.cat([keys[:i], keys[i + 1 :]])
                    known = torch.cat([values[:i], values[i + 1 :]])
                    predicted, _ = nadaraya_watson(keys[i : i + 1], rest, known, bandwidth)
                    total = total + ((predicted[0] - values[i]) ** 2).sum()
                return total / values.numel()

        minus infinity on the diagonal
            def leave_one_out_loss(keys, values, bandwidth):
                difference = keys[:, None] - keys[None]
                exponents = -torch.einsum("ijf,ijf->ij", difference, difference)
                exponents = exponents / bandwidth / bandwidth / 2
                exponents = exponents.clone()
                exponents.fill_diagonal_(-torch.inf)
                return nn.functional.mse_loss(torch.softmax(exponents, dim=1) @ values, values)

        distances by cdist, masked by comparing
            def leave_one_out_loss(keys, values, bandwidth):
                exact = "donot_use_mm_for_euclid_dist"
                distances = torch.cdist(keys, keys, compute_mode=exact).detach()
                index = torch.arange(keys.size(0), device=keys.device)
                exponents = -0.5 * (distances / bandwidth) ** 2
                weights = masked_softmax(exponents, index[:, None] != index)
                return torch.mean(torch.square(torch.matmul(weights, values) - values))
        """
    ),
)


@leave_one_out_loss.test(
    points=1,
    cases=[
        case("several features and values", judge, scattered),
        case("one feature, one value", judge, lambda make: scattered(make, features=1, d_v=1)),
        case("a large bandwidth", judge, lambda make: scattered(make, bandwidth=(2.0, 3.0))),
        case("two keys", judge, lambda make: scattered(make, n=2)),
        case("two keys at one place", judge, lambda make: at_one_place(scattered(make))),
    ],
)
def test_leaves_one_out(submission, case):
    """Predicts each value from all the others"""
    submission.matches_reference(case)


@leave_one_out_loss.test(
    points=0.5,
    cases=[
        case(
            "a very small bandwidth",
            judge,
            lambda make: scattered(make, bandwidth=(0.003, 0.004)),
            loosen=100.0,
        ),
    ],
)
def test_small_bandwidths(submission, case):
    """Stays exact for small bandwidths"""
    submission.matches_reference(case)


@leave_one_out_loss.test(
    points=0.5, cases=[case("a bandwidth to be learned", judge_backward, spread_out, loosen=100.0)]
)
def test_bandwidth_learns(submission, case):
    """Passes a gradient to the bandwidth"""
    submission.matches_reference(case)


@leave_one_out_loss.test(points=0.5, cases=[case("a tensor as bandwidth", judge, spread_out)])
def test_loss_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# -------------------------------------------------------------------------- additive_scores


def scores_side_by_side(query, key, W_q, W_k, w_v):
    """A single linear layer on query and key, concatenated."""
    n, m = query.size(-2), key.size(-2)
    queries = query.unsqueeze(-2).expand(*query.shape[:-1], m, query.size(-1))
    keys = key.unsqueeze(-3).expand(*key.shape[:-2], n, m, key.size(-1))
    hidden = nn.functional.linear(torch.cat([queries, keys], -1), torch.cat([W_q, W_k], 1)).tanh()
    return nn.functional.linear(hidden, w_v[None]).squeeze(-1)


def score(impl, query, key, W_q, W_k, w_v):
    return {"scores": impl(query, key, W_q, W_k, w_v)}


def score_backward(impl, cotangent, **inputs):
    leaves = [t.detach().clone().requires_grad_() for t in inputs.values()]
    scores = impl(*leaves)
    found = gradients(scores, leaves, cotangent)
    return {f"gradient of {n}": g for n, g in zip(inputs, found, strict=True)}


def network(make, *leading, queries=3, keys=5, d_query=4, d_key=6, d_hidden=7):
    return {
        "query": make.normal(*leading, queries, d_query),
        "key": make.normal(*leading, keys, d_key),
        "W_q": make.normal(d_hidden, d_query, std=0.5),
        "W_k": make.normal(d_hidden, d_key, std=0.5),
        "w_v": make.normal(d_hidden),
    }


ADDED = "torch.tanh(from_query + from_key) @ w_v"
FROM_QUERY = "(query @ W_q.T).unsqueeze(-2)"
FROM_KEY = "(key @ W_k.T).unsqueeze(-3)"

additive_scores = Exercise(
    "additive_scores",
    oracle=scores_side_by_side,
    mistakes=[
        *slips(
            ADDED,
            """
            no tanh
                (from_query + from_key) @ w_v
            The hidden layer lacks its hyperbolic tangent, without which every query gives the keys
            the same order.

            tanh before adding
                (torch.tanh(from_query) + torch.tanh(from_key)) @ w_v
            Query and key are added first, then the tanh is taken of the sum.

            tanh of the score
                torch.tanh((from_query + from_key) @ w_v)
            The tanh belongs to the hidden layer; the score itself is not limited.

            tanh after w_v
                torch.tanh((from_query + from_key) * w_v).sum(dim=-1)
            w_v multiplies the hidden units after their tanh, not before it.

            sigmoid
                torch.sigmoid(from_query + from_key) @ w_v
            The hidden layer has hyperbolic tangents, not sigmoids.

            ReLU
                torch.relu(from_query + from_key) @ w_v
            The hidden layer has hyperbolic tangents, not ReLUs.

            multiplied instead of added
                torch.tanh(from_query * from_key) @ w_v
            The projections of query and key are added: that is what additive attention means.

            subtracted
                torch.tanh(from_query - from_key) @ w_v
            The projections of query and key are added, not subtracted.

            dot product
                (from_query * from_key) @ w_v
            That is a weighted dot product. Here projections are added and go through a tanh.

            w_v left out
                torch.tanh(from_query + from_key).sum(dim=-1)
            The hidden units are added up with the weights w_v.

            mean over the hidden units
                torch.tanh(from_query + from_key) @ w_v / w_v.numel()
            The hidden units are added up with their weights, not averaged.

            scaled by the root
                torch.tanh(from_query + from_key) @ w_v / w_v.numel() ** 0.5
            Additive scores are not scaled; the root belongs to dot products.

            a dimension too many
                torch.tanh(from_query + from_key) @ w_v.unsqueeze(-1)
            There is one score for each pair; the dimension of size 1 at the end is too much.

            w_v cut from the graph
                torch.tanh(from_query + from_key) @ w_v.detach()
            No gradient reaches w_v: it is detached, and could not be learned.

            normalised already
                torch.softmax(torch.tanh(from_query + from_key) @ w_v, dim=-1)
            The scores are wanted, before any softmax.

            transposed
                (torch.tanh(from_query + from_key) @ w_v).transpose(-2, -1)
            Rows belong to the queries and columns to the keys; yours are exchanged.

            key left out
                torch.tanh(from_query + 0 * from_key) @ w_v
            The key has no effect on the score.

            query left out
                torch.tanh(0 * from_query + from_key) @ w_v
            The query has no effect on the score.
            """,
        ),
        *edits(
            [
                (
                    "W_q for both",
                    FROM_KEY,
                    "(key @ W_q.T).unsqueeze(-3)",
                    "The keys have a projection of their own, W_k.",
                ),
                (
                    "query cut from the graph",
                    FROM_QUERY,
                    "(query.detach() @ W_q.T).unsqueeze(-2)",
                    "No gradient reaches the query: it is detached on the way.",
                ),
                (
                    "key cut from the graph",
                    FROM_KEY,
                    "(key.detach() @ W_k.T).unsqueeze(-3)",
                    "No gradient reaches the key: it is detached on the way.",
                ),
                (
                    "the query made float32",
                    FROM_QUERY,
                    "(query.float() @ W_q.T).unsqueeze(-2)",
                    "The query is cast to float32 whatever comes in, which does not go together "
                    "with weights of another dtype. Keep the dtype of the inputs.",
                ),
                (
                    "weights not transposed",
                    FROM_QUERY,
                    "(query @ W_q).unsqueeze(-2)",
                    "W_q has shape (d_hidden, d_query), as in nn.Linear: the features of the "
                    "query meet its second dimension.",
                ),
                (
                    "every query with its own key only",
                    FROM_QUERY,
                    "(query @ W_q.T).unsqueeze(-3)",
                    "Every query meets every key: give the two projections dimensions of size 1 "
                    "in different places.",
                ),
            ]
        ),
        Mistake.edits_of(
            "leading dimensions forgotten",
            [
                (FROM_QUERY, "(query @ W_q.T)[:, None]"),
                (FROM_KEY, "(key @ W_k.T)[None]"),
            ],
            "Right without leading dimensions only. Count dimensions from the back, so that any "
            "number of them may come first.",
        ),
        Mistake.edits_of(
            "dimensions counted from the front",
            [
                (FROM_QUERY, "(query @ W_q.T).unsqueeze(2)"),
                (FROM_KEY, "(key @ W_k.T).unsqueeze(1)"),
            ],
            "Dimensions are counted from the front, which is right for one leading dimension "
            "only. Count them from the back.",
        ),
    ],
    variants=variants(
        """
        linear layers and einsum
            def additive_scores(query, key, W_q, W_k, w_v):
                a, b = nn.functional.linear(query, W_q), nn.functional.linear(key, W_k)
                hidden = (a[..., :, None, :] + b[..., None, :, :]).tanh()
                return torch.einsum("...qkh,h->...qk", hidden, w_v)

        query by query
            def additive_scores(query, key, W_q, W_k, w_v):
                projected = key.matmul(W_k.mT)
                rows = []
                for i in range(query.size(-2)):
                    own = query[..., i : i + 1, :].matmul(W_q.mT)
                    rows.append((torch.tanh(projected + own) * w_v).sum(-1))
                return torch.stack(rows, dim=-2)

        tanh by exponentials
            def additive_scores(query, key, W_q, W_k, w_v):
                total = (query @ W_q.t()).unsqueeze(-2) + (key @ W_k.t()).unsqueeze(-3)
                hidden = 2 * torch.sigmoid(2 * total) - 1
                return torch.matmul(hidden, w_v.unsqueeze(-1)).squeeze(-1)
        """
    ),
)


@additive_scores.test(
    points=1.5,
    cases=[
        case("one leading dimension", score, lambda make: network(make, 2)),
        case("no leading dimension", score, network),
        case("two leading dimensions", score, lambda make: network(make, 2, 3)),
        case("queries and keys alike", score, lambda make: network(make, 2, keys=3, d_key=4)),
        case(
            "one query, one hidden unit", score, lambda make: network(make, queries=1, d_hidden=1)
        ),
        case(
            "as many features everywhere",
            score,
            lambda make: network(make, 2, d_query=6, d_hidden=6),
        ),
    ],
)
def test_scores_every_pair(submission, case):
    """Scores every query with every key"""
    submission.matches_reference(case)


@additive_scores.test(
    points=0.5,
    cases=[
        case(
            "of all five arguments",
            score_backward,
            lambda make: dict(**network(make, 2), cotangent=make.normal(2, 3, 5)),
            loosen=100.0,
        )
    ],
)
def test_scores_pass_gradients(submission, case):
    """Passes gradients back"""
    submission.matches_reference(case)


@additive_scores.test(
    points=0.5, cases=[case("with a batch", score, lambda make: network(make, 2))]
)
def test_scores_follow_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ------------------------------------------------------------------------ AdditiveAttention


class AttentionSideBySide(nn.Module):
    """Scores by a single linear layer, weights in logarithms."""

    def __init__(self, d_query, d_key, d_hidden):
        super().__init__()
        self.W_q = nn.Linear(d_query, d_hidden, bias=False)
        self.W_k = nn.Linear(d_key, d_hidden, bias=False)
        self.w_v = nn.Linear(d_hidden, 1, bias=False)

    def forward(self, query, key, value, mask=None):
        own = (self.W_q.weight, self.W_k.weight, self.w_v.weight[0])
        scores = scores_side_by_side(query, key, *own)
        allowed = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
        weights = torch.exp(
            torch.log_softmax(scores.masked_fill(~allowed, -1e30), -1)
        ) * allowed.to(scores)
        return torch.einsum("bqk,bkv->bqv", weights, value), weights


def attend(impl, sizes, parameters, sequences, mask=None):
    attention = load_weights(impl(*sizes), parameters)
    return named(attention(*sequences) if mask is None else attention(*sequences, mask))


def attend_backward(impl, sizes, parameters, sequences, mask, cotangent):
    attention = load_weights(impl(*sizes), parameters)
    leaves = [t.detach().clone().requires_grad_() for t in sequences]
    output, _ = attention(*leaves, mask)
    own = dict(attention.named_parameters())
    found = gradients(output, [*(own[name] for name in parameters), *leaves], cotangent)
    names = (*parameters, "query", "key", "value")
    return {f"gradient of {n}": g for n, g in zip(names, found, strict=True)}


def attend_twice(impl, sizes, parameters, sequences, mask, then):
    """One module, first with a mask, then on other sequences without."""
    attention = load_weights(impl(*sizes), parameters)
    first = named(attention(*sequences, mask))
    return {"first call": first, "second call": named(attention(*then))}


def sequences(
    make, mask=None, *, batch=2, queries=3, keys=5, d_query=4, d_key=6, d_hidden=7, d_v=8
):
    drawn = network(make, queries=1, keys=1, d_query=d_query, d_key=d_key, d_hidden=d_hidden)
    inputs = {
        "sizes": [d_query, d_key, d_hidden],
        "parameters": {
            "W_q.weight": drawn["W_q"],
            "W_k.weight": drawn["W_k"],
            "w_v.weight": drawn["w_v"].unsqueeze(0),
        },
        "sequences": [
            make.normal(batch, queries, d_query),
            make.normal(batch, keys, d_key),
            make.normal(batch, keys, d_v),
        ],
    }
    return inputs if mask is None else {**inputs, "mask": mask}


SCORED = "scores = additive_scores(query, key, self.W_q.weight, self.W_k.weight, w_v)"
NORMALISED = "weights = masked_softmax(scores, mask)"
OUTPUT = "return weights @ value, weights"


def unchecked(fill):
    return (
        "if mask is not None:\n"
        f"            scores = scores.masked_fill(~mask, {fill})\n"
        "        weights = torch.softmax(scores, dim=-1)"
    )


def biased(*layers):
    sizes = {"W_q": "d_query, d_hidden", "W_k": "d_key, d_hidden", "w_v": "d_hidden, 1"}
    return [
        (f"nn.Linear({sizes[layer]}, bias=False)", f"nn.Linear({sizes[layer]})") for layer in layers
    ]


BIAS = "which nn.Linear adds unless told otherwise; the docstring asks for none."

AdditiveAttention = Exercise(
    "AdditiveAttention",
    oracle=AttentionSideBySide,
    forbids=SHORT_CUTS,
    mistakes=[
        *slips(
            SCORED,
            """
            no tanh
                scores = (self.W_q(query)[:, :, None] + self.W_k(key)[:, None]) @ w_v
            The hidden layer lacks its hyperbolic tangent, and all queries get the same weights.

            W_q for both
                W_k = self.W_k if self.W_k.weight.shape != self.W_q.weight.shape else self.W_q
                        scores = additive_scores(query, key, self.W_q.weight, W_k.weight, w_v)
            Where queries and keys have as many features, both go through W_q. The keys have a
            projection of their own, W_k.

            every dimension of size 1 squeezed away
                hidden = torch.tanh(self.W_q(query)[:, :, None] + self.W_k(key)[:, None])
                        scores = self.w_v(hidden).squeeze()
            squeeze without a dimension also takes away the batch, the queries or the keys where
            there is only one. Say which dimension is to go.

            W_q cut from the graph
                W_q = self.W_q.weight.data
                        scores = additive_scores(query, key, W_q, self.W_k.weight, w_v)
            No gradient reaches W_q: data cuts the graph, and so it could not be learned.

            w_v cut from the graph
                scores = additive_scores(
                            query, key, self.W_q.weight, self.W_k.weight, w_v.detach()
                        )
            No gradient reaches w_v: it is detached, and so it could not be learned.

            W_q and W_k cut from the graph
                W_q, W_k = self.W_q.weight.data, self.W_k.weight.data
                        scores = additive_scores(query, key, W_q, W_k, w_v)
            No gradient reaches W_q and W_k: data cuts the graph, and so they could not be learned.

            dot product
                scores = self.W_q(query) @ self.W_k(key).transpose(1, 2)
            That is dot-product attention. Additive scores come from a hidden layer.
            """,
        ),
        *edits_of(
            SCORED,
            (
                "scaled by the root",
                f"{SCORED} / w_v.numel() ** 0.5",
                "Additive scores are not scaled; the root belongs to dot products.",
            ),
            (
                "limited by a second tanh",
                f"{SCORED}.tanh()",
                "The tanh belongs to the hidden layer; the scores themselves are not limited.",
            ),
        ),
        *slips(
            NORMALISED,
            """
            mask ignored
                weights = masked_softmax(scores)
            The mask changes nothing; it goes into the softmax.

            mask the wrong way round
                weights = masked_softmax(scores, None if mask is None else ~mask)
            The mask is read the wrong way round: True means that a key may be attended to.

            softmax over the queries
                weights = masked_softmax(
                            scores.mT, None if mask is None else
                            mask.expand_as(scores).mT
                        ).mT
            The weights add up to 1 over the queries; each query should share its attention out
            among the keys.

            no softmax
                weights = scores if mask is None else scores * mask
            The scores are used as weights; they should go through a softmax first.

            masked after the softmax
                weights = masked_softmax(scores) * (1 if mask is None else mask)
            Masked keys take their share before they are dropped, so what is left does not add up
            to 1. Mask before the softmax.

            masked scores set to zero
                weights = torch.softmax(scores if mask is None else scores * mask, dim=-1)
            A score of 0 still gets weight, since exp(0) is 1.

            the batch of the mask taken for queries
                weights = masked_softmax(
                            scores, mask if mask is None or mask.dim() < 3 else mask.any(dim=1)
                        )
            A mask of shape (batch, queries, keys) has a row for each query of each sequence; use
            it as it is.

            the first sequence's mask for all
                weights = masked_softmax(
                            scores, mask if mask is None or mask.dim() < 3 else mask[0]
                        )
            Every sequence of the batch has a mask of its own; yours gets the first one's.

            the last mask kept
                mask = self.kept = getattr(self, "kept", None) if mask is None else mask
                        weights = masked_softmax(scores, mask)
            A mask of an earlier call is still used when a call comes without one. None means:
            every query may attend to every key.

            a mask without batch taken for padding
                if mask is not None and mask.dim() == 2:
                            mask = mask.unsqueeze(1)
                        weights = masked_softmax(scores, mask)
            A mask of shape (queries, keys) is read as (batch, keys). Two dimensions are queries and
            keys, the same for every sequence.

            room made for heads
                weights = masked_softmax(scores, None if mask is None else mask.unsqueeze(-3))
            There are no heads here: the mask broadcasts to (batch, queries, keys) as it is.
            """,
        ),
        *edits_of(
            NORMALISED,
            (
                "NaN for a query that sees nothing",
                unchecked("-torch.inf"),
                "A query that may attend to nothing gets NaN; it should get zeros.",
            ),
            (
                "the mean for a query that sees nothing",
                unchecked("-1e9"),
                "A query that may attend to nothing gets the mean of all values; it should get "
                "zeros.",
            ),
        ),
        *slips(
            OUTPUT,
            """
            weights before output
                return weights, weights @ value
            The two results are in the wrong order: the output first, then the weights.

            weights not returned
                return weights @ value
            Only the output comes back; the weights should follow it.

            scores returned as weights
                return weights @ value, scores
            The second result should be the weights, after the softmax, not the scores.

            keys averaged
                return weights @ key, weights
            The keys are averaged; what a query gets is an average of the values.

            values cut from the graph
                return weights @ value.detach(), weights
            No gradient reaches the values: they are detached, so that what made them could not be
            learned.

            weights cut from the graph
                return weights.detach() @ value, weights
            No gradient reaches the parameters: the weights are detached before they are used.
            """,
        ),
        *(
            Mistake.edits_of(f"{layer} with a bias", biased(layer), f"{layer} has a bias, {BIAS}")
            for layer in ("W_q", "W_k", "w_v")
        ),
        Mistake.edits_of(
            "all layers with biases",
            biased("W_q", "W_k", "w_v"),
            f"The layers have biases, {BIAS}",
        ),
        Mistake.edits_of(
            "projections with biases",
            biased("W_q", "W_k"),
            f"W_q and W_k have biases, {BIAS}",
        ),
        Mistake.edits_of(
            "W_q and W_k exchanged",
            [
                ("self.W_q = nn.Linear(d_query, d_hidden", "self.W_q = nn.Linear(d_key, d_hidden"),
                ("self.W_k = nn.Linear(d_key, d_hidden", "self.W_k = nn.Linear(d_query, d_hidden"),
                (
                    "query, key, self.W_q.weight, self.W_k.weight",
                    "query, key, self.W_k.weight, self.W_q.weight",
                ),
            ],
            "W_q is for the queries and takes d_query features; W_k is for the keys.",
        ),
        *(
            Mistake.edits_of(
                f"{' and '.join(layers)} no layers",
                [
                    edit
                    for layer, size in layers.items()
                    for edit in (
                        (
                            f"self.{layer} = nn.Linear({size}, d_hidden, bias=False)",
                            f"self.{layer} = nn.Parameter(torch.randn(d_hidden, {size}))",
                        ),
                        (f"self.{layer}.weight", f"self.{layer}"),
                    )
                ],
                f"{' and '.join(layers)}: the docstring asks for nn.Linear, whose parameter is "
                "called weight.",
            )
            for layers in (
                {"W_q": "d_query"},
                {"W_k": "d_key"},
                {"W_q": "d_query", "W_k": "d_key"},
            )
        ),
        Mistake.edits_of(
            "weights that are not a layer",
            [
                ("nn.Linear(d_hidden, 1, bias=False)", "nn.Parameter(torch.randn(d_hidden))"),
                ("self.w_v.weight.squeeze(0)", "self.w_v"),
            ],
            "w_v should be an nn.Linear from d_hidden features to 1, so that its parameter is "
            "w_v.weight.",
        ),
    ],
    variants=variants(
        """
        calling the layers
            class AdditiveAttention(nn.Module):
                def __init__(self, d_query, d_key, d_hidden):
                    super().__init__()
                    self.W_k = nn.Linear(d_key, d_hidden, bias=False)
                    self.W_q = nn.Linear(d_query, d_hidden, bias=False)
                    self.w_v = nn.Linear(d_hidden, 1, bias=False)
                def forward(self, query, key, value, mask=None):
                    hidden = self.W_q(query)[:, :, None] + self.W_k(key)[:, None]
                    scores = self.w_v(torch.tanh(hidden))[..., 0]
                    weights = masked_softmax(scores, mask=mask)
                    return torch.bmm(weights, value), weights

        query by query
            class AdditiveAttention(nn.Module):
                def __init__(self, d_query, d_key, d_hidden):
                    super().__init__()
                    self.W_q = nn.Linear(d_query, d_hidden, bias=False)
                    self.W_k = nn.Linear(d_key, d_hidden, bias=False)
                    self.w_v = nn.Linear(d_hidden, 1, bias=False)
                def forward(self, query, key, value, mask=None):
                    b, n, m = query.size(0), query.size(1), key.size(1)
                    projected = self.W_k(key)
                    allowed = None if mask is None else mask.expand(b, n, m)
                    outputs, rows = [], []
                    for i in range(n):
                        hidden = torch.tanh(self.W_q(query[:, i]).unsqueeze(1) + projected)
                        score = self.w_v(hidden).squeeze(-1)
                        row = masked_softmax(score, None if mask is None else allowed[:, i])
                        rows.append(row)
                        outputs.append(torch.einsum("bk,bkv->bv", row, value))
                    return [torch.stack(outputs, 1), torch.stack(rows, 1)]

        its own masking
            class AdditiveAttention(nn.Module):
                def __init__(self, d_query, d_key, d_hidden):
                    super().__init__()
                    self.W_q = nn.Linear(d_query, d_hidden, bias=False)
                    self.W_k = nn.Linear(d_key, d_hidden, bias=False)
                    self.w_v = nn.Linear(d_hidden, 1, bias=False)
                def forward(self, query, key, value, mask=None):
                    w_v = self.w_v.weight.flatten()
                    scores = additive_scores(query, key, self.W_q.weight, self.W_k.weight, w_v)
                    if mask is not None:
                        scores = torch.where(mask, scores, -1e30)
                    weights = nn.functional.softmax(scores, dim=2)
                    if mask is not None:
                        weights = weights * mask
                    return weights.matmul(value), weights
        """
    ),
)


@AdditiveAttention.test(
    points=0.5,
    cases=[
        Case(
            "names and shapes of the parameters",
            names_and_shapes,
            lambda make: {"sizes": [make.choice([4, 5]), 6, make.choice([7, 8])]},
        )
    ],
)
def test_additive_parameters(submission, case):
    """Has the three layers of the docstring, and no other parameters"""
    submission.matches_reference(case)


@AdditiveAttention.test(
    points=1,
    cases=[
        case("features of four sizes", attend, sequences),
        case(
            "as many queries as keys, then others without a mask",
            attend_twice,
            lambda make: dict(
                **sequences(make, some_of(make, 5, 5), queries=5, d_key=4, d_v=4),
                then=[make.normal(2, 5, 4) for _ in range(3)],
            ),
        ),
        case("one query", attend, lambda make: sequences(make, batch=4, queries=1)),
    ],
)
def test_additive_attends(submission, case):
    """Averages the values by additive scores"""
    submission.matches_reference(case)


@AdditiveAttention.test(
    points=1,
    cases=[
        case(
            "a mask for every query and key",
            attend,
            lambda make: sequences(make, some_of(make, 3, 3, 5), batch=3),
        ),
        case(
            "a mask of padded keys",
            attend,
            lambda make: sequences(make, lengths_mask(make, 4, 5), batch=4),
        ),
        case(
            "one mask for all sequences",
            attend,
            lambda make: sequences(make, some_of(make, 4, 5), queries=4),
        ),
        case(
            "queries that may attend to nothing",
            attend,
            lambda make: sequences(make, some_of(make, 2, 4, 5, dead=(0, 2)), queries=4),
        ),
    ],
)
def test_additive_masks(submission, case):
    """Attends only where the mask allows"""
    submission.matches_reference(case)


@AdditiveAttention.test(
    points=0.5,
    cases=[
        case(
            "of the parameters and the sequences",
            attend_backward,
            lambda make: dict(
                **sequences(make, some_of(make, 2, 3, 5)), cotangent=make.normal(2, 3, 8)
            ),
            loosen=100.0,
        )
    ],
)
def test_additive_learns(submission, case):
    """Passes gradients to its parameters"""
    submission.matches_reference(case)


@AdditiveAttention.test(
    points=0.5,
    cases=[
        case("with a mask", attend, lambda make: sequences(make, some_of(make, 2, 3, 5))),
        case("without a mask", attend, sequences),
    ],
)
def test_additive_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)
