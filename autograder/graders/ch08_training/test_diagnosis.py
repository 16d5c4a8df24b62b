"""Diagnosis: splits without leaks, bias and variance, learning curves, early stopping, decay.

Geman, Bienenstock and Doursat (1992), https://doi.org/10.1162/neco.1992.4.1.1; Prechelt (1998),
https://doi.org/10.1007/3-540-49430-8_3. Nothing here is random: splits are given their shuffle.
"""

from typing import Any

import torch
from torch import nn

from autograder.spec import Case, Exercise, Mistake, gradients, raised
from autograder.spec.tables import slips, variants, written

NAN = float("nan")


# ---------------------------------------------------------------- stratified_split


def split_class_by_class(labels, order, val_fraction):
    val = []
    for label in set(labels):
        members = [i for i in order if labels[i] == label]
        val += members[: int(val_fraction * len(members))]
    return sorted(set(range(len(labels))) - set(val)), sorted(val)


def split(impl, who, order, val_fraction):
    train, val = impl(who, order, val_fraction)
    return {"training": sorted(int(i) for i in train), "validation": sorted(int(i) for i in val)}


def classes(val_fraction, **counts):
    """Labels in a random order, so many of each, and a shuffle."""

    def draw(make):
        numbers = [4, 9, -2, 0][: len(counts)]
        ordered = [k for k, c in zip(numbers, counts.values(), strict=True) for _ in range(c)]
        labels = [ordered[i] for i in make.permutation(len(ordered)).tolist()]
        order = make.permutation(len(labels)).tolist()
        return {"who": labels, "order": order, "val_fraction": val_fraction}

    return draw


SHARES = "left = {label: math.floor(val_fraction * labels.count(label)) for label in set(labels)}"
PARTS = "return train, val"

stratified_split = Exercise(
    "stratified_split",
    oracle=split_class_by_class,
    mistakes=[
        *slips(SHARES, """
            rounded to the nearest
                left = {label: round(val_fraction * labels.count(label)) for label in set(labels)}
            The number of validation examples of a class is rounded down, not to the nearest.

            rounded up
                left = {k: math.ceil(val_fraction * labels.count(k)) for k in set(labels)}
            The number of validation examples of a class is rounded down.

            classes counted from zero
                counts = [labels.count(k) for k in range(len(set(labels)))]
                    left = {label: 0 for label in labels}
                    left |= {k: math.floor(val_fraction * c) for k, c in enumerate(counts)}
            Labels are any integers, also negative ones: go through the classes that occur.

            shuffled anew
                left = {k: math.floor(val_fraction * labels.count(k)) for k in set(labels)}
                    order = torch.randperm(len(labels)).tolist()
            Your function shuffles by itself, so that two calls differ. order is the shuffle, and
            nothing else is random.

            at least one of each class
                left = {k: max(1, math.floor(val_fraction * labels.count(k))) for k in set(labels)}
            A class that is too small for one validation example gets none: round down.

            training's share for validation
                left = {k: math.floor((1 - val_fraction) * labels.count(k)) for k in set(labels)}
            val_fraction is the share of the *validation* set.

            as many of each class
                share = math.floor(val_fraction * len(labels) / len(set(labels)))
                    left = {label: share for label in set(labels)}
            Every class gives a share of its own examples, so that rare classes stay as rare.

            share of the largest class
                most = max(labels.count(label) for label in labels)
                    left = {label: math.floor(val_fraction * most) for label in set(labels)}
            Every class gives a share of its own examples, so that rare classes stay as rare.

            labels taken as 0, 1, 2 …
                left = {k: math.floor(val_fraction * labels.count(k)) for k in range(len(labels))}
            Labels may be any integers: look at which ones occur.
        """),
        *slips("for i in order:", """
            order ignored
                for i in range(len(labels)):
            Who goes to validation is decided by the shuffle, not by the order of the data, in which
            neighbours are often alike.

            last instead of first
                for i in reversed(order):
            Of each class, those go to validation that order names first.

            order taken as positions
                for i in sorted(order, key=lambda j: order[j]):
            order holds the numbers of examples, the first to be chosen first; it does not hold
            the place of each example.
        """),
        *slips("if left[labels[i]] > 0:", """
            one too many
                if left[labels[i]] >= 0:
            Each class gives one example too many.

            one too few
                if left[labels[i]] > 1:
            Each class gives one example too few.
        """),
        *slips(PARTS, """
            labels for numbers
                return [labels[i] for i in train], [labels[i] for i in val]
            The numbers of the examples are asked for, not their labels.

            sets swapped
                return val, train
            The training set is returned first.

            leak
                return train + val, val
            An example that is in the validation set must not be trained on.

            every training example left out
                return train[: len(val)], val
            All examples that are not for validation are for training.
        """),
        *written("""
            not stratified
                def stratified_split(labels, order, val_fraction):
                    n = math.floor(val_fraction * len(labels))
                    return list(order[n:]), list(order[:n])
            The whole set is cut in one place, so that a class may have any share. Cut each class.

            label of another example
                def stratified_split(labels, order, val_fraction):
                    left = {k: math.floor(val_fraction * labels.count(k)) for k in set(labels)}
                    train, val = [], []
                    for label, i in zip(labels, order):
                        (val if left[label] > 0 else train).append(i)
                        left[label] -= 1
                    return train, val
            The label that counts is that of the example which order names: labels are not shuffled
            with it.

            places in the shuffle
                def stratified_split(labels, order, val_fraction):
                    left = {k: math.floor(val_fraction * labels.count(k)) for k in set(labels)}
                    train, val = [], []
                    for place, i in enumerate(order):
                        (val if left[labels[i]] > 0 else train).append(place)
                        left[labels[i]] -= 1
                    return train, val
            The numbers of the examples are returned, which stand in order, not their places there.

            order emptied
                def stratified_split(labels, order, val_fraction):
                    left = {k: math.floor(val_fraction * labels.count(k)) for k in set(labels)}
                    train, val = [], []
                    while order:
                        i = order.pop(0)
                        (val if left[labels[i]] > 0 else train).append(i)
                        left[labels[i]] -= 1
                    return train, val
            The caller's order is empty afterwards: leave it as it was.
        """),
    ],
    variants=variants("""
        class by class
            def stratified_split(labels, order, val_fraction):
                train, val = [], []
                for label in sorted(set(labels)):
                    members = [i for i in order if labels[i] == label]
                    cut = int(val_fraction * len(members))
                    val.extend(members[:cut])
                    train.extend(members[cut:])
                return train, val

        with tensors
            def stratified_split(labels, order, val_fraction):
                labels, order = torch.tensor(labels), torch.tensor(order)
                chosen = torch.zeros(len(labels), dtype=torch.bool)
                for label in labels.unique():
                    members = order[labels[order] == label]
                    chosen[members[: math.floor(val_fraction * len(members))]] = True
                return (~chosen).nonzero().flatten(), chosen.nonzero().flatten()

        counted as they come
            def stratified_split(labels, order, val_fraction):
                seen, train, val = {}, [], []
                for i in order:
                    label = labels[i]
                    seen[label] = seen.get(label, 0) + 1
                    most = val_fraction * sum(other == label for other in labels)
                    (val if seen[label] <= most else train).append(i)
                return (train, val)
    """),
)  # fmt: skip


@stratified_split.test(
    points=1,
    cases=[
        Case("three classes of unequal size", split, classes(0.3, a=11, b=7, c=4)),
        Case("shares that come out even", split, classes(0.25, a=12, b=8, c=4, d=4)),
        Case("a class too small for one example", split, classes(0.4, a=9, b=2, c=13)),
        Case("more validation than training", split, classes(0.7, a=5, b=9)),
        Case("no validation", split, classes(0.0, a=5, b=3)),
    ],
)
def test_stratified_split_keeps_the_shares(submission, case):
    """Gives every class the same share in both sets"""
    submission.matches_reference(case)


# ---------------------------------------------------------------- group_split


def split_by_running_sizes(groups, order, val_fraction):
    sizes = torch.tensor([list(groups).count(group) for group in order], dtype=torch.int64)
    before = sizes.cumsum(0) - sizes
    last = int((before < val_fraction * len(groups)).sum())
    held = list(order)[:last]
    val = [i for i in range(len(groups)) if groups[i] in held]
    return [i for i in range(len(groups)) if groups[i] not in held], val


def grouped(val_fraction, *sizes, names=None):
    """Groups of these sizes, in a random order; the k-th to be taken has the k-th size."""

    def draw(make):
        told = names or [17, 3, 8, 5, 40, 2, 11][: len(sizes)]
        shuffled = [told[i] for i in make.permutation(len(sizes)).tolist()]
        ordered = [g for g, size in zip(shuffled, sizes, strict=True) for _ in range(size)]
        groups = [ordered[i] for i in make.permutation(len(ordered)).tolist()]
        return {"who": groups, "order": shuffled, "val_fraction": val_fraction}

    return draw


ENOUGH = "if size >= val_fraction * len(groups):"
SIZE = "size += sum(other == group for other in groups)"

group_split = Exercise(
    "group_split",
    oracle=split_by_running_sizes,
    mistakes=[
        Mistake.edits_of(
            "the group after the last one",
            [
                (f"        {ENOUGH}\n            break\n        chosen.add(group)\n",
                 f"        chosen.add(group)\n        {ENOUGH}\n            break\n"),
            ],
            "You look at the number after a group was chosen but before it is counted: so one "
            "group more than needed is taken.",
        ),
        Mistake(
            "groups taken for small numbers",
            SIZE,
            "size += int(torch.bincount(torch.tensor(groups))[group])",
            "A group may be called by a name, or anything else that can be compared: do not "
            "make a tensor of the groups.",
        ),
        *slips(ENOUGH, """
            number rounded down
                if size >= math.floor(val_fraction * len(groups)):
            Nothing is rounded here: groups are taken as long as validation holds fewer than
            val_fraction · n examples, whole number or not.

            number rounded to the nearest
                if size >= round(val_fraction * len(groups)):
            Nothing is rounded here: groups are taken as long as validation holds fewer than
            val_fraction · n examples, whole number or not.

            counted in groups
                if len(chosen) >= val_fraction * len(order):
            Groups differ in size: it is the examples in validation that are counted.

            one group more
                if size > val_fraction * len(groups):
            When the number is reached exactly, no further group is taken.

            never more than the share
                more = sum(other == group for other in groups)
                        if size + more > val_fraction * len(groups):
            The group that passes the number is still taken, and is the last.

            training's share for validation
                if size >= (1 - val_fraction) * len(groups):
            val_fraction is the share of the *validation* set.

            at least one group
                if size > 0 and size >= val_fraction * len(groups):
            At val_fraction 0 validation is empty: look whether it is full before a group is taken.

            every group
                if size > len(groups):
            Stop as soon as validation is large enough.
        """),
        *slips(SIZE, """
            each group counted as one
                size += 1
            A group brings all its examples: count those.

            size of the last group only
                size = sum(other == group for other in groups)
            The sizes of all groups taken are added up.
        """),
        *slips("for group in order:", """
            sorted groups
                for group in sorted(order, key=str):
            The groups are taken as order names them.

            groups in the order of the data
                for group in dict.fromkeys(groups):
            The groups are taken as the shuffle, order, names them.

            last instead of first
                for group in reversed(order):
            The groups are taken as order names them, the first one first.

            largest group first
                for group in sorted(order, key=lambda g: -sum(other == g for other in groups)):
            The groups are taken as order names them, whatever their sizes.
        """),
        *slips("return train, val", """
            sets swapped
                return val, train
            The training set is returned first.

            leak
                return list(range(len(groups))), val
            An example that is in the validation set must not be trained on.

            groups returned
                return [groups[i] for i in train], [groups[i] for i in val]
            The numbers of the examples are returned, not their groups.
        """),
        *written("""
            groups torn apart
                def group_split(groups, order, val_fraction):
                    named = sorted(range(len(groups)), key=lambda i: list(order).index(groups[i]))
                    n = math.ceil(val_fraction * len(groups))
                    return named[n:], named[:n]
            The cut goes through a group: then the same patient is in both sets. The last group is
            taken whole.

            groups that fit are picked
                def group_split(groups, order, val_fraction):
                    room, chosen = val_fraction * len(groups), []
                    for group in order:
                        if groups.count(group) <= room:
                            room -= groups.count(group)
                            chosen.append(group)
                    val = [i for i, g in enumerate(groups) if g in chosen]
                    return [i for i, g in enumerate(groups) if g not in chosen], val
            No group is passed over for its size: the one that passes the number is taken, too.

            one example of each group
                def group_split(groups, order, val_fraction):
                    val, seen = [], {}
                    for i, group in enumerate(groups):
                        seen[group] = seen.get(group, 0) + 1
                        if seen[group] <= val_fraction * groups.count(group):
                            val.append(i)
                    return [i for i in range(len(groups)) if i not in val], val
            That takes a share of each group, and so each is in both sets: the leak to be avoided.

            order emptied
                def group_split(groups, order, val_fraction):
                    val = []
                    while order and len(val) < val_fraction * len(groups):
                        group = order.pop(0)
                        val += [i for i, other in enumerate(groups) if other == group]
                    return [i for i in range(len(groups)) if i not in val], val
            The caller's order has changed afterwards: leave it as it was.
        """),
    ],
    variants=variants("""
        examples collected
            def group_split(groups, order, val_fraction):
                val = []
                for group in order:
                    if len(val) < val_fraction * len(groups):
                        val.extend(i for i, other in enumerate(groups) if other == group)
                taken = set(val)
                return [i for i in range(len(groups)) if i not in taken], val

        groups gathered in a dict
            def group_split(groups, order, val_fraction):
                members = {}
                for i, group in enumerate(groups):
                    members.setdefault(group, []).append(i)
                train, val = [], []
                for group in order:
                    full = len(val) >= val_fraction * len(groups)
                    (train if full else val).extend(members[group])
                return train, val

        a while loop, a tuple
            def group_split(groups, order, val_fraction):
                k, size = 0, 0
                while k < len(order) and size < val_fraction * len(groups):
                    size += list(groups).count(order[k])
                    k += 1
                first = set(order[:k])
                val = tuple(i for i in range(len(groups)) if groups[i] in first)
                return tuple(i for i in range(len(groups)) if groups[i] not in first), val
    """),
)  # fmt: skip


@group_split.test(
    points=1,
    cases=[
        Case("groups of unequal size", split, grouped(0.4, 3, 1, 7, 2, 5)),
        Case("a share reached exactly", split, grouped(0.25, 3, 2, 6, 4, 1, 4)),
        Case("a large group that comes first", split, grouped(0.2, 9, 2, 3, 4)),
        Case("groups that have names", split, grouped(0.3, 1, 3, 2, 6, names=[*"cabd"])),
        Case("no validation", split, grouped(0.0, 2, 4, 3)),
        Case("every example a group", split, grouped(0.31, *[1] * 7)),
        Case("many groups of one or two", split, grouped(0.35, 1, 2, 1, 1, 2, 2, 1)),
    ],
)
def test_group_split_keeps_groups_whole(submission, case):
    """Keeps every group in one set"""
    submission.matches_reference(case)


# ---------------------------------------------------------------- bias_variance


def decomposed_by_moments(predictions, truth):
    second = (predictions**2).mean(dim=0)
    first = torch.einsum("mp->p", predictions) / predictions.shape[0]
    bias_squared = torch.linalg.vector_norm(first - truth) ** 2 / len(truth)
    return bias_squared, torch.dot(torch.ones_like(first), second - first * first) / len(first)


def decomposed(impl, predictions, truth):
    bias_squared, variance = impl(predictions, truth)
    return {"bias_squared": bias_squared, "variance": variance}


def many_models(models, points, spread=1.0):
    def draw(make):
        truth = make.normal(points, std=2.0)
        wrong = truth + make.away_from_zero(points)
        return {"predictions": wrong + spread * make.normal(models, points), "truth": truth}

    return draw


CENTRE = "centre = predictions.mean(dim=0)  # (points,)"
BIAS = "bias_squared = (centre - truth).square().mean()"
VARIANCE = "variance = (predictions - centre).square().mean()"

bias_variance = Exercise(
    "bias_variance",
    oracle=decomposed_by_moments,
    mistakes=[
        *slips(CENTRE, """
            mean over the points
                centre = predictions.mean(dim=1, keepdim=True).expand_as(predictions)
            The average is over the models, at each point by itself.

            one mean for everything
                centre = predictions.mean()
            The average is over the models, at each point by itself.

            median of the models
                centre = predictions.median(dim=0).values
            The decomposition holds for the mean of the predictions, not for their median.

            first model
                centre = predictions[0]
            Bias is what remains when the accidents of single training sets are averaged away.
        """),
        Mistake(
            "through NumPy",
            VARIANCE,
            "variance = torch.as_tensor(predictions.numpy().var(axis=0).mean())",
            "NumPy cannot see a tensor that is on a GPU. Stay in PyTorch: it has the same "
            "operations.",
        ),
        *slips(BIAS, """
            one bias for each point
                bias_squared = (centre - truth).square()
                    return bias_squared, (predictions - centre).square().mean(dim=0)
            Both are averaged over the points: a tensor of shape () each.

            bias with its sign
                bias_squared = (centre - truth).mean()
            The bias is not squared: at some points it is positive, at others negative, and cancels.

            squared twice
                bias_squared = (centre - truth).square().square().mean()
            The bias is squared once, then averaged over the points.

            bias not squared
                bias_squared = (centre - truth).abs().mean()
            It is the square of the bias that adds up with the variance.

            averaged before squaring
                bias_squared = (centre - truth).mean().square()
            The bias is squared at each point, before the mean over the points: too high here does
            not make up for too low there.

            bias of single models
                bias_squared = (predictions - truth).square().mean()
            That is the whole error. The bias is that of the models' average.

            root taken
                bias_squared = (centre - truth).square().mean().sqrt()
            The squared bias is asked for, without a root.

            bias summed over the points
                bias_squared = (centre - truth).square().sum()
            Both figures are means over the points.

            bias against the mean truth
                bias_squared = (centre - truth.mean()).square().mean()
            Each point has a truth of its own.
        """),
        *slips(VARIANCE, """
            divided by one less
                variance = predictions.var(dim=0).nan_to_num().mean()
            Divide by the number of models; otherwise both parts do not add up to the error.

            standard deviation
                variance = (predictions - centre).square().mean(dim=0).sqrt().mean()
            The variance is asked for, without a root.

            variance over the points
                variance = predictions.var(dim=1, correction=0).mean()
            The variance is over the models, at each point by itself.

            variance of all predictions
                variance = predictions.var(correction=0)
            The variance is over the models, at each point by itself.

            spread around the truth
                variance = (predictions - truth).square().mean()
            That is the whole error. The variance is around the models' own average.

            variance summed over the models
                variance = (predictions - centre).square().sum(dim=0).mean()
            The variance is a mean over the models, not a sum.

            variance summed over the points
                variance = (predictions - centre).square().mean(dim=0).sum()
            Both figures are means over the points.

            absolute distances
                variance = (predictions - centre).abs().mean()
            A variance is made of squares.
        """),
        *slips("return bias_squared, variance", """
            results swapped
                return variance, bias_squared
            The squared bias is returned first.

            one figure
                return bias_squared + variance
            Two figures are asked for: the squared bias and the variance.

            Python numbers
                return bias_squared.item(), variance.item()
            Tensors of shape () are asked for.
        """),
    ],
    variants=variants("""
        torch.var
            def bias_variance(predictions, truth):
                gap = predictions.mean(0) - truth
                return (gap**2).mean(), predictions.var(dim=0, unbiased=False).mean()

        the error less the bias
            def bias_variance(predictions, truth):
                error = ((predictions - truth) ** 2).mean()
                bias = predictions.sum(dim=0) / len(predictions) - truth
                bias_squared = torch.dot(bias, bias) / bias.numel()
                return bias_squared, error - bias_squared

        point by point
            def bias_variance(predictions, truth):
                biases, variances = [], []
                for column, right in zip(predictions.T, truth):
                    biases.append((column.mean() - right) ** 2)
                    variances.append(((column - column.mean()) ** 2).mean())
                return [torch.stack(biases).mean(), torch.stack(variances).mean()]
    """),
)  # fmt: skip


@bias_variance.test(
    points=1,
    cases=[
        Case("many models", decomposed, many_models(9, 4)),
        Case("many points", decomposed, many_models(3, 11, spread=2.5)),
        Case("a single model", decomposed, many_models(1, 6), dtypes=(torch.float64,)),
        Case(
            "models that nearly agree",
            decomposed,
            many_models(5, 7, spread=0.05),
            dtypes=(torch.float64,),
        ),
    ],
)
def test_bias_variance_decomposes(submission, case):
    """Splits the error into squared bias and variance"""
    submission.matches_reference(case)


@bias_variance.test(points=0.25, cases=[Case("a few models", decomposed, many_models(4, 6))])
def test_bias_variance_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- learning_curve


def curve_from_the_end(fit, loss_fn, x_train, y_train, x_val, y_val, sizes):
    found = []
    for m in sizes:
        x, y = x_train.narrow(0, 0, m), y_train.narrow(0, 0, m)
        model = fit(x, y)
        found.append([loss_fn(model(a), b).detach() for a, b in ((x, y), (x_val, y_val))])
    return tuple(torch.stack(losses) for losses in zip(*found, strict=True))


def lopsided(predictions, targets):
    """A loss that minds which of its arguments is which."""
    gap = predictions - targets
    return gap.square().mean() + 0.3 * gap.mean()


def curve(impl, x_train, y_train, x_val, y_val, sizes):
    fitted, enabled = [], []

    def fit(x, y):
        fitted.append([len(x), len(y)])
        enabled.append(torch.is_grad_enabled())
        a = x.T @ x + 0.1 * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        w = torch.linalg.solve(a, x.T @ y).requires_grad_()
        return lambda inputs: inputs @ w

    train_losses, val_losses = impl(fit, lopsided, x_train, y_train, x_val, y_val, sizes)
    kinds = {type(losses).__name__ for losses in (train_losses, val_losses)}
    if kinds & {"list", "tuple"}:
        return {"the losses are given as": ", ".join(sorted(kinds))}
    return {
        "training losses": train_losses.detach(),
        "validation losses": val_losses.detach(),
        "a graph is attached": train_losses.requires_grad or val_losses.requires_grad,
        "examples that each fit was given": sorted(fitted),
        "gradients are enabled while fit runs": all(enabled),
    }


def data(n, n_val, features, sizes):
    def draw(make):
        w = make.normal(features)
        x, x_val = make.normal(n, features), make.normal(n_val, features, mean=0.4)
        return {
            "x_train": x,
            "y_train": x @ w + make.normal(n),
            "x_val": x_val,
            "y_val": x_val @ w + 0.7 * make.normal(n_val),
            "sizes": sizes,
        }

    return draw


FIT = "model = fit(x_train[:m], y_train[:m])"
TRAIN_LOSS = "train_losses.append(loss_fn(model(x_train[:m]), y_train[:m]))"
VAL_LOSS = "val_losses.append(loss_fn(model(x_val), y_val))"
CURVES = "return torch.stack(train_losses), torch.stack(val_losses)"

learning_curve = Exercise(
    "learning_curve",
    oracle=curve_from_the_end,
    mistakes=[
        Mistake.edits_of(
            "predictions and targets exchanged in both",
            [
                (TRAIN_LOSS, TRAIN_LOSS.replace("model(x_train[:m]), y_train[:m]",
                                                "y_train[:m], model(x_train[:m])")),
                (VAL_LOSS, VAL_LOSS.replace("model(x_val), y_val", "y_val, model(x_val)")),
            ],
            "loss_fn takes the predictions first, then the targets: not every loss is symmetric.",
        ),
        Mistake.edits_of(
            "the last examples in both places",
            [
                (FIT, "model = fit(x_train[-m:], y_train[-m:])"),
                (TRAIN_LOSS, "train_losses.append(loss_fn(model(x_train[-m:]), y_train[-m:]))"),
            ],
            "The first m examples are taken, not the last m.",
        ),
        Mistake(
            "lists for tensors",
            CURVES,
            "return train_losses, val_losses",
            "Each of the two is a tensor of shape (len(sizes),), not a list of losses.",
        ),
        Mistake(
            "fitted again for validation",
            VAL_LOSS,
            "val_losses.append(loss_fn(fit(x_train[:m], y_train[:m])(x_val), y_val))",
            "A model is fitted anew for the validation loss. For each size one model is fitted, "
            "once, and both losses are its own.",
        ),
        *slips(FIT, """
            fitted to everything
                model = fit(x_train, y_train)
            The model of size m sees m examples only: that is what the curve is about.

            fitted without gradients
                with torch.no_grad():
                            model = fit(x_train[:m], y_train[:m])
            fit has to train, and without gradients it cannot: switch them off for measuring only.

            one example too few
                model = fit(x_train[: max(1, m - 1)], y_train[: max(1, m - 1)])
            The model of size m is fitted to m examples.

            fitted to the last examples
                model = fit(x_train[-m:], y_train[-m:])
            The first m examples are taken.

            fitted to the validation set
                model = fit(x_val[:m], y_val[:m])
            A model that has seen the validation set cannot be judged by it.

            fitted to both sets
                model = fit(torch.cat([x_train[:m], x_val]), torch.cat([y_train[:m], y_val]))
            A model that has seen the validation set cannot be judged by it.

            one example too many
                m = min(m + 1, len(x_train))
                        model = fit(x_train[:m], y_train[:m])
            Everything of size m is about the first m examples: yours has one more.

            only what is new
                start = sizes[len(train_losses) - 1] if train_losses else 0
                        start = start if start < m else 0
                        model = fit(x_train[start:m], y_train[start:m])
            Each size has a model of its own, fitted to all of the first m examples: not only to
            those that are new since the size before.

            fitted once for the largest size
                model = fit(x_train[: max(sizes)], y_train[: max(sizes)])
            Each size needs a model of its own, fitted to so many examples.

            fitted twice
                fit(x_train[:m], y_train[:m])
                        model = fit(x_train[:m], y_train[:m])
            One fit for each size is enough, and training is expensive.
        """),
        *slips(TRAIN_LOSS, """
            training loss on all training examples
                train_losses.append(loss_fn(model(x_train), y_train))
            The training loss is that on the m examples that the model was fitted to; the others
            are new to it.

            training loss on the rest
                train_losses.append(loss_fn(model(x_train[-m:]), y_train[-m:]))
            The training loss is that on the m examples that the model was fitted to.

            training loss summed
                train_losses.append(m * loss_fn(model(x_train[:m]), y_train[:m]))
            loss_fn gives a mean already, and means of different sizes can be compared.

            training loss per share
                train_losses.append(loss_fn(model(x_train[:m]), y_train[:m]) * m / len(x_train))
            loss_fn gives a mean over the m examples: leave it as it is.

            arguments of the training loss swapped
                train_losses.append(loss_fn(y_train[:m], model(x_train[:m])))
            loss_fn takes the predictions first, the targets second.
        """),
        *slips(VAL_LOSS, """
            validation set cut to size
                val_losses.append(loss_fn(model(x_val[:m]), y_val[:m]))
            The validation set is always the whole one, so that sizes can be compared.

            training loss twice
                val_losses.append(loss_fn(model(x_train[:m]), y_train[:m]))
            The validation loss is measured on the validation set.

            validation on the unused training examples
                val_losses.append(loss_fn(model(x_train[m:]), y_train[m:]))
            The validation loss is measured on the validation set that is given.

            arguments of the validation loss swapped
                val_losses.append(loss_fn(y_val, model(x_val)))
            loss_fn takes the predictions first, the targets second.
        """),
        *slips("for m in sizes:", """
            sizes sorted
                for m in sorted(sizes):
            The losses are asked for in the order of sizes.

            last size left out
                for m in sizes[:-1] or sizes:
            There is one loss for each size.
        """),
        *slips(CURVES, """
            results swapped
                return torch.stack(val_losses), torch.stack(train_losses)
            The training losses are returned first.

            best so far
                return torch.stack(train_losses), torch.stack(val_losses).cummin(0).values
            The losses are returned as they were measured, also where they go up.

            default dtype
                train = torch.tensor([float(loss) for loss in train_losses])
                    return train, torch.tensor([float(loss) for loss in val_losses])
            torch.tensor makes float32 of Python numbers: the losses keep their dtype and device.

            gap returned
                gaps = torch.stack(val_losses) - torch.stack(train_losses)
                    return torch.stack(train_losses), gaps
            The validation losses themselves are asked for, not their distance from the others.
        """),
        *slips("with torch.no_grad():", """
            graph attached
                with torch.enable_grad():
            The losses are only read off: measure them without building a graph.
        """),
    ],
    variants=variants("""
        filled tensors
            def learning_curve(fit, loss_fn, x_train, y_train, x_val, y_val, sizes):
                losses = x_train.new_zeros(2, len(sizes))
                for k, m in enumerate(sizes):
                    x, y = x_train[:m], y_train[:m]
                    model = fit(x, y)
                    losses[0, k] = loss_fn(model(x), y).detach()
                    losses[1, k] = loss_fn(model(x_val), y_val).detach()
                return losses[0], losses[1]

        pairs, unzipped
            def learning_curve(fit, loss_fn, x_train, y_train, x_val, y_val, sizes):
                def at(m):
                    model = fit(x_train[:m], y_train[:m])
                    with torch.no_grad():
                        seen = loss_fn(model(x_train[:m]), y_train[:m])
                        return seen, loss_fn(model(x_val), y_val)
                train_losses, val_losses = zip(*[at(m) for m in sizes])
                return [torch.stack(train_losses), torch.stack(val_losses)]

        numbers, collected
            def learning_curve(fit, loss_fn, x_train, y_train, x_val, y_val, sizes):
                losses = []
                for m in sizes:
                    model = fit(x_train[:m], y_train[:m])
                    losses.append([loss_fn(model(x_train[:m]), y_train[:m]).item(),
                                   loss_fn(model(x_val), y_val).item()])
                return torch.tensor(losses, dtype=x_train.dtype, device=x_train.device).unbind(1)

        detached at the end
            def learning_curve(fit, loss_fn, x_train, y_train, x_val, y_val, sizes):
                models = [fit(x_train[:m], y_train[:m]) for m in sizes]
                train = [loss_fn(f(x_train[:m]), y_train[:m]) for f, m in zip(models, sizes)]
                val = [loss_fn(f(x_val), y_val) for f in models]
                return torch.stack(train).detach(), torch.stack(val).detach()
    """),
)  # fmt: skip


@learning_curve.test(
    points=1.25,
    cases=[
        Case("sizes that grow", curve, data(14, 6, 3, [2, 5, 9, 14])),
        Case("sizes in another order", curve, data(11, 13, 2, [7, 3, 10])),
        Case("a single size", curve, data(6, 4, 3, [5])),
    ],
)
def test_learning_curve_measures_both_losses(submission, case):
    """Measures both losses for each size"""
    submission.matches_reference(case)


@learning_curve.test(points=0.25, cases=[Case("two sizes", curve, data(9, 5, 2, [4, 8]))])
def test_learning_curve_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- error_gaps


def gaps_by_pairs(target, train, train_dev, dev, test):
    chain = [target, train, train_dev, dev, test]
    names = ("avoidable bias", "variance", "data mismatch", "overfitting to dev")
    return {name: chain[i + 1] - chain[i] for i, name in enumerate(names)}


def gaps(impl, **errors):
    found = impl(**errors)
    if not isinstance(found, dict):
        return {"the result is a dict": False}
    return found


def errors_of(*, falling=False):
    def draw(make):
        steps = [make.number(0.02, 0.2) for _ in range(5)]
        if falling:
            steps = [0.9, *(-step for step in steps[1:])]
        levels = [sum(steps[: k + 1]) for k in range(5)]
        names = ("target", "train", "train_dev", "dev", "test")
        return dict(zip(names, levels, strict=True))

    return draw


error_gaps = Exercise(
    "error_gaps",
    oracle=gaps_by_pairs,
    mistakes=[
        *slips("train - target,", """
            training error for the avoidable bias
                train,
            Not all of the training error can be avoided: only what exceeds the target.

            bias the wrong way round
                target - train,
            The gap is what the training error has more than the target.

            bias up to the dev set
                dev - target,
            The avoidable bias shows on the training set already.
        """),
        Mistake.edits_of(
            "names with underscores",
            [
                ('"avoidable bias": ', '"avoidable_bias": '),
                ('"data mismatch": ', '"data_mismatch": '),
                ('"overfitting to dev": ', '"overfitting_to_dev": '),
            ],
            "The gaps have the names that the docstring gives, with spaces in them.",
        ),
        Mistake.edits_of(
            "all the wrong way round",
            [
                ("train - target,", "target - train,"),
                ("train_dev - train,", "train - train_dev,"),
                ("dev - train_dev,", "train_dev - dev,"),
                ("test - dev,", "dev - test,"),
            ],
            "Every gap has the wrong sign: it is what one error has *more* than the one before it "
            "in the chain.",
        ),
        Mistake(
            "values without names",
            '        "overfitting to dev": test - dev,\n    }',
            '        "overfitting to dev": test - dev,\n    }.values()',
            "A dict is asked for, in which each gap stands under its name.",
        ),
        Mistake(
            "rounded to hundredths",
            "train - target,",
            "round(train - target, 2),",
            "A gap is rounded: return it as it is.",
        ),
        *slips("train_dev - train,", """
            variance relative to the training error
                (train_dev - train) / train,
            Each gap is a difference of errors, not a ratio.

            variance up to the dev set
                dev - train,
            A part of that is due to the data being of another kind: held-out examples of the
            training's kind tell the variance alone.

            variance the wrong way round
                train - train_dev,
            The gap is what the error on held-out examples has more than that on the training set.

            variance from the target
                train_dev - target,
            What is beyond the target on the training set already is bias, not variance.
        """),
        *slips("dev - train_dev,", """
            mismatch from the training set
                dev - train,
            Between these two lies the variance as well: compare held-out with held-out.

            mismatch up to the test set
                test - train_dev,
            The dev set is the first one from where the model will be used.

            mismatch the wrong way round
                train_dev - dev,
            The gap is what the dev error has more than that on held-out training data.
        """),
        *slips("test - dev,", """
            overfitting from the training set
                test - train,
            Overfitting to the *dev* set is what the test error has more than the dev error.

            overfitting from train_dev
                test - train_dev,
            Overfitting to the *dev* set is what the test error has more than the dev error.

            overfitting the wrong way round
                dev - test,
            The gap is what the test error has more than the dev error.
        """),
        *written("""
            never negative
                def error_gaps(target, train, train_dev, dev, test):
                    chain = [target, train, train_dev, dev, test]
                    names = ["avoidable bias", "variance", "data mismatch", "overfitting to dev"]
                    return {n: max(0.0, b - a) for n, a, b in zip(names, chain, chain[1:])}
            A gap may be negative, and that is worth knowing: do not cut it off at 0.

            absolute values
                def error_gaps(target, train, train_dev, dev, test):
                    chain = [target, train, train_dev, dev, test]
                    names = ["avoidable bias", "variance", "data mismatch", "overfitting to dev"]
                    return {n: abs(b - a) for n, a, b in zip(names, chain, chain[1:])}
            A gap may be negative, and that is worth knowing: keep its sign.

            relative gaps
                def error_gaps(target, train, train_dev, dev, test):
                    chain = [target, train, train_dev, dev, test]
                    names = ["avoidable bias", "variance", "data mismatch", "overfitting to dev"]
                    return {n: (b - a) / a for n, a, b in zip(names, chain, chain[1:])}
            The gaps are differences, not ratios: only so do they add up.

            all from the target
                def error_gaps(target, train, train_dev, dev, test):
                    chain = [train, train_dev, dev, test]
                    names = ["avoidable bias", "variance", "data mismatch", "overfitting to dev"]
                    return {n: b - target for n, b in zip(names, chain)}
            Each error is compared with the one before it in the chain.

            variance and mismatch swapped
                def error_gaps(target, train, train_dev, dev, test):
                    chain = [target, train, train_dev, dev, test]
                    names = ["avoidable bias", "data mismatch", "variance", "overfitting to dev"]
                    return {n: b - a for n, a, b in zip(names, chain, chain[1:])}
            train_dev comes from where the training set comes from: up to it, it is variance.
        """),
    ],
    variants=variants("""
        pairs
            def error_gaps(target, train, train_dev, dev, test):
                chain = (target, train, train_dev, dev, test)
                names = ("avoidable bias", "variance", "data mismatch", "overfitting to dev")
                return {n: b - a for n, a, b in zip(names, chain[:-1], chain[1:])}

        keywords
            def error_gaps(target, train, train_dev, dev, test):
                gaps = dict(variance=train_dev - train)
                gaps["avoidable bias"] = -(target - train)
                gaps["data mismatch"] = dev - train_dev
                gaps["overfitting to dev"] = test - dev
                return gaps

        with a tensor
            def error_gaps(target, train, train_dev, dev, test):
                gaps = torch.tensor([target, train, train_dev, dev, test]).double().diff().tolist()
                gaps = [train - target, train_dev - train, *gaps[2:]]
                gaps[2:] = [dev - train_dev, test - dev]
                return dict(zip(["avoidable bias", "variance", "data mismatch",
                                 "overfitting to dev"], gaps))
    """),
)  # fmt: skip


@error_gaps.test(
    points=0.5,
    cases=[
        Case("errors that grow along the chain", gaps, errors_of()),
        Case("errors that shrink along the chain", gaps, errors_of(falling=True)),
    ],
)
def test_error_gaps_follow_the_chain(submission, case):
    """Compares each error with the one before it"""
    submission.matches_reference(case)


# ---------------------------------------------------------------- EarlyStopping


class StoppingByHistory:
    def __init__(self, patience=10, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        self.history, self.improvements, self.kept = [], [], None

    @property
    def best_epoch(self):
        return self.improvements[-1] if self.improvements else None

    @property
    def best_loss(self):
        return self.history[self.improvements[-1]] if self.improvements else float("inf")

    def step(self, val_loss, model):
        self.history.append(val_loss)
        if self.best_loss - val_loss > self.min_delta or (
            not self.improvements and val_loss == val_loss and val_loss < float("inf")
        ):
            self.improvements.append(len(self.history) - 1)
            self.kept = [t.detach().clone() for t in model.state_dict().values()]
        since = self.best_epoch if self.improvements else -1
        return len(self.history) - 1 - since >= self.patience

    def restore(self, model):
        if self.kept is None:
            raise RuntimeError("nothing kept")
        with torch.no_grad():
            for t, kept in zip(model.state_dict().values(), self.kept, strict=True):
                t.copy_(kept)


def stopped(impl, losses, states, **options):
    """Epochs after each of which the model is in another state; then back to the best one."""

    def new_model():
        return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).to(states[0])

    def tensors(model):
        return [model[0].weight, model[0].bias, model[1].weight, model[1].running_mean]

    def put(state, model):
        with torch.no_grad():
            for t, values in zip(tensors(model), state.split([6, 2, 2, 2]), strict=True):
                t.copy_(values.reshape(t.shape))

    def state(model):
        return torch.cat([t.detach().flatten() for t in tensors(model)])

    model, other, watch = new_model(), new_model(), impl(**options)
    put(0 * states[0], other)
    before = [id(p) for p in model.parameters()]
    path = {}
    for t, loss in enumerate(losses):
        put(states[t], model)
        path[f"stop at epoch {t}"] = stop = watch.step(loss, model)
        path[f"best_loss after epoch {t}"] = watch.best_loss
        path[f"best_epoch after epoch {t}"] = watch.best_epoch
        path[f"model after epoch {t}"] = state(model)
        path[f"mode after epoch {t}"] = "training" if model.training else "evaluation"
        if isinstance(stop, bool) and stop:
            break
    put(states[-1], model)
    watch.restore(model)
    path["restored"] = state(model)
    path["parameters are the same objects"] = before == [id(p) for p in model.parameters()]
    put(states[-1] + 1, model)
    watch.restore(other)
    path["restored into another model of its kind"] = state(other)
    watch.restore(model)
    path["restored once more, after training on"] = state(model)
    return path


def nothing_to_restore(impl, x):
    def restored(losses):
        model, watch = nn.Linear(2, 1).to(x), impl(patience=5)
        for loss in losses:
            watch.step(loss, model)
        watch.restore(model)

    fresh, never = impl(), impl(patience=3)
    model = nn.Linear(2, 1).to(x)
    return {
        "stop, after each of three NaN": [never.step(NAN, model) for _ in range(3)],
        "best_epoch before the first epoch": fresh.best_epoch,
        "best_loss before the first epoch": fresh.best_loss,
        "before the first epoch": raised(lambda: restored([]), RuntimeError),
        "after a NaN": raised(lambda: restored([NAN]), RuntimeError),
        "after an epoch": raised(lambda: restored([0.5]), RuntimeError),
        "before the first epoch, after another watch": raised(lambda: restored([]), RuntimeError),
    }


def epochs(*losses, **options):
    def draw(make):
        states = [make.normal(12) for _ in range(len(losses) + 1)]
        return {"losses": list(losses), "states": states, **options}

    return draw


BETTER = "if val_loss < self.best_loss - self.min_delta:"
KEPT = "self.best_state = copy.deepcopy(model.state_dict())"
STOP = "return self.bad_epochs >= self.patience"
BACK = "model.load_state_dict(self.best_state)"

EarlyStopping = Exercise(
    "EarlyStopping",
    oracle=StoppingByHistory,
    mistakes=[
        *slips(BETTER, """
            min_delta ignored
                if val_loss < self.best_loss:
            An epoch is an improvement only if it is better by more than min_delta.

            min_delta the wrong way round
                if val_loss < self.best_loss + self.min_delta:
            An epoch that is a little worse is no improvement: the loss has to be *below* the best
            by more than min_delta.

            min_delta relative
                if val_loss < self.best_loss * (1 - self.min_delta):
            min_delta is a difference of losses, not a share.

            equal is better
                if val_loss <= self.best_loss - self.min_delta:
            A loss that is lower by exactly min_delta is no improvement: it takes more than that.

            NaN is better
                if not val_loss >= self.best_loss - self.min_delta:
            A NaN compares as False with everything: make sure that it is no improvement.

            compared with the last epoch
                previous, self.last = getattr(self, "last", math.inf), val_loss
                        if val_loss < previous - self.min_delta:
            An epoch is compared with the best one so far, not with the last one.

            larger is better
                if self.best_epoch is None or val_loss > self.best_loss + self.min_delta:
            It is a loss: smaller is better.
        """),
        *slips(STOP, """
            only after a first improvement
                return self.best_epoch is not None and self.bad_epochs >= self.patience
            patience counts from the first epoch on: training that never improves is to stop too.

            nothing returned while training goes on
                if self.bad_epochs >= self.patience:
                            return True
            Before training is to stop, step returns False; yours returns None there.

            a number for a bool
                return int(self.bad_epochs >= self.patience)
            step returns True or False, a Python bool; yours returns a number.

            model put back by step
                if self.bad_epochs >= self.patience and self.best_epoch is not None:
                            self.restore(model)
                        return self.bad_epochs >= self.patience
            step leaves the model as it is. Whoever calls it decides whether to restore.

            model put into evaluation mode
                model.eval()
                        return self.bad_epochs >= self.patience
            step leaves the model unchanged, its mode too: training goes on after it.

            state of the last epoch
                self.best_state = copy.deepcopy(model.state_dict())
                        return self.bad_epochs >= self.patience
            The state is remembered at every epoch. It is that of the last improvement which is to
            come back.

            best loss lowered without an improvement
                self.best_loss = min(self.best_loss, val_loss)
                        return self.bad_epochs >= self.patience
            best_loss is that of the last improvement: a loss that is lower by too little leaves
            it alone.
        """),
        Mistake.edits_of(
            "state shared by all watches",
            [
                ("        self.best_state: dict[str, Any] = {}\n", ""),
                ("    def __init__(", "    best_state: dict[str, Any] = {}\n\n    def __init__("),
                (KEPT, KEPT.replace("self.", "EarlyStopping.")),
                ("if self.best_epoch is None:", "if not self.best_state:"),
            ],
            "The remembered state belongs to the class, and so to every watch there is: keep it in "
            "the instance.",
        ),
        *slips(BACK, """
            restored once only
                model.load_state_dict(self.best_state)
                        self.best_epoch = None
            The remembered state is given away by the first restore. It can be called more than
            once.
        """),
        Mistake.edits_of(
            "no best loss at first",
            [
                ("self.best_loss = math.inf", "self.best_loss = None"),
                (BETTER, BETTER.replace("if ", "if self.best_loss is None or ")),
            ],
            "Before the first improvement best_loss is infinite, not None: then the first epoch "
            "needs no case of its own, and a NaN cannot slip in.",
        ),
        *slips("self.best_loss = val_loss", """
            best loss not remembered
                self.best_loss = math.inf
            The best loss is remembered at each improvement.

            best loss less min_delta
                self.best_loss = val_loss - self.min_delta
            best_loss is the loss itself; min_delta enters when it is compared, once.
        """),
        *slips("self.best_epoch = self.epoch", """
            epochs counted from 1
                self.best_epoch = self.epoch + 1
            The first epoch is number 0.

            improvements counted
                self.best_epoch = 0 if self.best_epoch is None else self.best_epoch + 1
            best_epoch is the number of the epoch, and epochs without improvement count, too.
        """),
        *slips(KEPT, """
            state not copied
                self.best_state = model.state_dict()
            state_dict() gives the very tensors of the model, which change when training goes on. A
            new dict, or detach(), does not help: copy the tensors themselves.

            buffers left out
                self.best_state = {
                                k: v.detach().clone() for k, v in model.named_parameters()
                            }
                            self.best_state |= {
                                k: b for k, b in model.state_dict().items()
                                if k not in self.best_state
                            }
            The buffers, such as the running mean of batch norm, belong to the state.

            first state kept
                self.best_state = self.best_state or copy.deepcopy(model.state_dict())
            Each improvement brings a new best state.
        """),
        *slips("self.bad_epochs += 1", """
            NaN passed over
                self.bad_epochs += 1 if val_loss == val_loss else 0
            A NaN is an epoch without improvement, like any other.
        """),
        *slips("self.bad_epochs = 0\n        else:", """
            count not set back
                self.bad_epochs += 0
                        else:
            The epochs without improvement are counted in a row: an improvement starts the count
            afresh.

            count halved
                self.bad_epochs //= 2
                        else:
            An improvement sets the count to zero.
        """),
        *slips(STOP, """
            one epoch too late
                return self.bad_epochs > self.patience
            Training is to stop at the patience-th epoch without improvement, not at the one after
            it.

            one epoch too early
                return self.bad_epochs >= max(1, self.patience - 1)
            Training is to stop at the patience-th epoch without improvement, not before it.

            never
                return False
            step has to say when training is to stop.

            at the first bad epoch
                return self.bad_epochs > 0
            patience is how many epochs in a row it takes.

            after so many epochs
                return self.epoch >= self.patience + 1
            Only epochs *without improvement* use up the patience.

            opposite answer
                return self.bad_epochs < self.patience
            step returns True if training is to stop.

            nothing returned
                self.stop = self.bad_epochs >= self.patience
            step has to return whether training is to stop.
        """),
        *slips(BACK, """
            restored without copying
                for name, p in [*model.named_parameters(), *model.named_buffers()]:
                            p.data = self.best_state[name]
            The model now holds the remembered tensors themselves, and training on changes them:
            copy the values into the model.

            new parameters
                for name, value in self.best_state.items():
                            module, _, key = name.rpartition(".")
                            owner = model.get_submodule(module)
                            if key in owner._parameters:
                                owner._parameters[key] = nn.Parameter(value.clone())
                            else:
                                owner._buffers[key] = value.clone()
            The parameters are new objects, which the optimizer does not know: copy the values
            into the old ones.

            only the parameters restored
                for name, p in model.named_parameters():
                            p.data.copy_(self.best_state[name])
            The buffers, such as the running mean of batch norm, go back as well.

            not restored
                model.train(model.training)
            The remembered state has to be put back into the model.
        """),
        *slips("if self.best_epoch is None:", """
            nothing to restore, and no error
                if self.best_epoch is None:
                            return
                        if self.epoch < 0:
            Without a best state, restore raises a RuntimeError: silence would hide a mistake.

            refused before the first epoch only
                if self.epoch == 0:
                            raise RuntimeError("no epoch")
                        if self.best_epoch is None:
                            return
                        if self.epoch < 0:
            After epochs that were all NaN there is nothing to restore either: raise a
            RuntimeError.
        """),
        *slips("raise RuntimeError(", """
            another error
                raise ValueError(
            Without a best state, restore raises a RuntimeError.
        """),
        Mistake.edits_of(
            "a best epoch from the start",
            [("self.best_epoch: int | None = None", "self.best_epoch = -1"),
             ("if self.best_epoch is None:", "if self.best_epoch < 0:")],
            "Before the first improvement best_epoch is None.",
        ),
        Mistake.edits_of(
            "no best loss at the start",
            [("self.best_loss = math.inf\n        self.best_epoch:",
              "self.best_loss = None\n        self.best_epoch:"),
             (BETTER, "if self.best_loss is None and val_loss == val_loss or (\n"
                      "            self.best_loss is not None\n"
                      "            and val_loss < self.best_loss - self.min_delta\n"
                      "        ):")],
            "Before the first improvement best_loss is infinite: every number is below that.",
        ),
        *slips("self.bad_epochs += 1\n        self.epoch += 1", """
            model rolled back at once
                self.bad_epochs += 1
                            if self.best_state:
                                model.load_state_dict(self.best_state)
                        self.epoch += 1
            step leaves the model alone: only restore changes it.
        """),
    ],
    variants=variants("""
        a dataclass that counts down
            from dataclasses import dataclass, field
            @dataclass
            class EarlyStopping:
                patience: int = 10
                min_delta: float = 0.0
                best_loss: float = field(default=math.inf, init=False)
                best_epoch: int | None = field(default=None, init=False)
                epochs: int = field(default=0, init=False)
                left: int = field(default=0, init=False)
                def __post_init__(self):
                    self.left = self.patience
                def step(self, val_loss, model):
                    epoch, self.epochs = self.epochs, self.epochs + 1
                    if val_loss < self.best_loss - self.min_delta:
                        self.best_loss, self.best_epoch, self.left = val_loss, epoch, self.patience
                        self.memory = [t.clone() for t in (*model.parameters(), *model.buffers())]
                    else:
                        self.left -= 1
                    return self.left <= 0
                def restore(self, model):
                    if not hasattr(self, "memory"):
                        raise RuntimeError("nothing remembered")
                    with torch.no_grad():
                        for now, then in zip((*model.parameters(), *model.buffers()), self.memory):
                            now.copy_(then)

        clones in a dict, copied back
            class EarlyStopping:
                def __init__(self, patience=10, min_delta=0.0):
                    self.patience, self.min_delta = patience, min_delta
                    self.best_loss, self.best_epoch = float("inf"), None
                    self.seen = 0
                def step(self, val_loss, model):
                    improved = self.best_loss - val_loss > self.min_delta
                    if improved:
                        self.best_loss, self.best_epoch = val_loss, self.seen
                        self.saved = {k: v.detach().clone() for k, v in model.state_dict().items()}
                    self.seen += 1
                    last = -1 if self.best_epoch is None else self.best_epoch
                    return self.seen - 1 - last >= self.patience
                @torch.no_grad()
                def restore(self, model):
                    if self.best_epoch is None:
                        raise RuntimeError("nothing to restore")
                    for name, tensor in model.state_dict().items():
                        tensor.copy_(self.saved[name])

        patience counted down
            class EarlyStopping:
                def __init__(self, patience=10, min_delta=0.0):
                    self.patience, self.min_delta, self.left = patience, min_delta, patience
                    self.best_loss, self.best_epoch, self.epochs = math.inf, None, []
                    self.parameters = self.buffers = None
                def step(self, val_loss, model):
                    self.epochs.append(val_loss)
                    if val_loss + self.min_delta < self.best_loss:
                        self.left = self.patience
                        self.best_loss, self.best_epoch = val_loss, len(self.epochs) - 1
                        self.parameters = [p.detach().clone() for p in model.parameters()]
                        self.buffers = [b.clone() for b in model.buffers()]
                        return False
                    self.left -= 1
                    return self.left <= 0
                def restore(self, model):
                    if self.parameters is None:
                        raise RuntimeError
                    for p, saved in zip(model.parameters(), self.parameters):
                        p.data.copy_(saved)
                    for b, saved in zip(model.buffers(), self.buffers):
                        b.copy_(saved)

        the whole model copied
            class EarlyStopping:
                def __init__(self, patience=10, min_delta=0.0):
                    self.patience = patience
                    self.min_delta = min_delta
                    self.best_loss = math.inf
                    self.best_epoch = None
                    self.count = 0
                    self.bad = 0
                    self.best_model = None
                def step(self, val_loss, model):
                    if math.isnan(val_loss) or val_loss >= self.best_loss - self.min_delta:
                        self.bad = self.bad + 1
                    else:
                        self.best_model = copy.deepcopy(model)
                        self.best_loss = val_loss
                        self.best_epoch = self.count
                        self.bad = 0
                    self.count = self.count + 1
                    if self.bad >= self.patience:
                        return True
                    return False
                def restore(self, model):
                    if self.best_model is None:
                        raise RuntimeError("no best model yet")
                    model.load_state_dict(self.best_model.state_dict())
    """),
)  # fmt: skip


@EarlyStopping.test(
    points=2,
    cases=[
        Case(
            "a loss that falls, then rises",
            stopped,
            epochs(2.0, 1.5, 1.25, 1.5, 1.4, 1.3, 1.6, patience=3),
        ),
        Case(
            "improvements in between",
            stopped,
            epochs(1.0, 1.5, 0.75, 0.8, 0.9, 0.5, 0.6, 0.7, 0.65, 0.8, 0.9, patience=3),
        ),
        Case(
            "a loss that goes up and down",
            stopped,
            epochs(2.0, 3.0, 2.5, 2.75, 2.25, 2.5, patience=4),
        ),
        Case("the patience of one epoch", stopped, epochs(3.0, 2.0, 1.0, 1.0, 0.5, patience=1)),
        Case(
            "by default",
            stopped,
            epochs(1.0, 0.75, 0.5, 0.25, *[0.5] * 8, 0.2, *[0.3] * 11),
        ),
        Case("a loss that keeps falling", stopped, epochs(3.0, 2.0, 1.5, 1.25, 1.0, patience=2)),
    ],
)
def test_early_stopping_stops_in_time(submission, case):
    """Stops when patience is at an end, and brings back the best state"""
    submission.matches_reference(case)


@EarlyStopping.test(
    points=0.75,
    cases=[
        Case(
            "a smallest improvement",
            stopped,
            epochs(4.0, 3.75, 3.25, 2.75, 2.5, 2.25, 2.125, 2.0, patience=3, min_delta=0.5),
        ),
        Case(
            "a smallest improvement, after a loss that rises a little",
            stopped,
            epochs(2.0, 2.25, 1.75, 1.25, 1.5, 1.375, 1.625, patience=3, min_delta=0.5),
        ),
        Case(
            "a smallest improvement, many small steps",
            stopped,
            epochs(1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, patience=4, min_delta=0.3),
        ),
        Case("a NaN in between", stopped, epochs(1.0, NAN, 0.5, NAN, NAN, 0.25, 0.75, patience=2)),
    ],
)
def test_early_stopping_minds_its_threshold(submission, case):
    """Minds min_delta, and takes no NaN for an improvement"""
    submission.matches_reference(case)


@EarlyStopping.test(
    points=0.25,
    cases=[Case("nothing remembered", nothing_to_restore, lambda make: {"x": make.normal(1)})],
)
def test_early_stopping_refuses_to_restore_nothing(submission, case):
    """Starts with nothing remembered, and refuses to restore it"""
    submission.matches_reference(case)


@EarlyStopping.test(
    points=0.25, cases=[Case("a few epochs", stopped, epochs(1.0, 0.5, 0.75, 0.8, patience=2))]
)
def test_early_stopping_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- l2_penalty and decay_groups


def penalty_by_vector(model, weight_decay):
    weights = [p for p in model.parameters() if p.dim() > 1]
    flat = torch.nn.utils.parameters_to_vector(weights)
    return weight_decay * torch.dot(flat, flat) / 2


class Scale(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(features))


class Shared(nn.Module):
    """Layers of every kind; the first and the last share their weight."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 3)
        self.conv = nn.Conv1d(3, 4, 2)
        self.norm = nn.BatchNorm1d(4)
        self.table = nn.Parameter(torch.zeros(2, 5))
        self.inner = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), Scale(3))
        self.head = nn.Linear(3, 7)
        self.head.weight = self.embed.weight
        self.temperature = nn.Parameter(torch.ones(()))


def built(values, kind):
    model = Shared() if kind == "shared" else nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 1))
    model.to(values)
    start = 0
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(values[start : start + p.numel()].reshape(p.shape))
            start += p.numel()
    return model


def penalty(impl, values, weight_decay, kind):
    model = built(values, kind)
    result = impl(model, weight_decay)
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = gradients(result, list(parameters))
    return {
        "penalty": result.detach(),
        **{f"gradient of {n}": g for n, g in zip(names, found, strict=True)},
    }


def penalty_of_frozen(impl, values, weight_decay, kind, frozen):
    model = built(values, kind)
    for name, p in model.named_parameters():
        p.requires_grad_(name not in frozen)
    return {"penalty": impl(model, weight_decay).detach()}


def sorted_into_groups(impl, values, weight_decay, kind, frozen):
    model = built(values, kind)
    for name, p in model.named_parameters():
        p.requires_grad_(name not in frozen)
    groups = impl(model, weight_decay)
    kinds = [type(group).__name__ for group in groups]
    if kinds != ["dict"] * len(kinds):
        return {"the groups are": ", ".join(kinds)}
    lists = [isinstance(group["params"], list) for group in groups]
    held = {"copies" for group in groups for p in group["params"]
            if isinstance(p, torch.Tensor) and not p.is_leaf}  # fmt: skip
    held |= {type(p).__name__ for group, is_list in zip(groups, lists, strict=True) if is_list
            for p in group["params"] if not isinstance(p, torch.Tensor)}  # fmt: skip
    if held:
        return {"the groups hold": ", ".join(sorted(held))}
    optimizer = torch.optim.SGD(groups, lr=0.5, weight_decay=0.9)
    name_of = {id(p): name for name, p in model.named_parameters()}
    told: dict[str, Any] = {"the groups hold lists": lists}
    for place, group in zip(("first", "second"), optimizer.param_groups, strict=False):
        told[f"parameters of the {place} group"] = sorted(
            name_of.get(id(p), "none of the model's") for p in group["params"]
        )
        told[f"weight_decay of the {place} group"] = float(group["weight_decay"])
    return told


def penalised(kind, weight_decay=0.3, frozen=None, same=False):
    def draw(make):
        values = make.away_from_zero(1).expand(150).clone() if same else make.away_from_zero(150)
        inputs = {"values": values, "weight_decay": weight_decay, "kind": kind}
        return inputs if frozen is None else {**inputs, "frozen": list(frozen)}

    return draw


SQUARES = "squares = [p.square().sum() for p in model.parameters() if p.ndim >= 2]"
PENALTY = "return weight_decay / 2 * torch.stack(squares).sum()"

l2_penalty = Exercise(
    "l2_penalty",
    oracle=penalty_by_vector,
    mistakes=[
        *slips(SQUARES, """
            frozen weights left out
                squares = [
                        p.square().sum() for p in model.parameters()
                        if p.ndim >= 2 and p.requires_grad
                    ]
            A weight that is not trained at the moment belongs to the penalty all the same: all
            parameters of two or more dimensions do.

            dimensions of size one not counted
                squares = [p.square().sum() for p in model.parameters() if p.squeeze().ndim >= 2]
            A weight for a single output has two dimensions as well, one of them of size 1.

            more than one element
                squares = [p.square().sum() for p in model.parameters() if p.numel() > 1]
            It is the number of dimensions that tells a weight, not that of its elements.

            only the outermost layers
                squares = [
                        m.weight.square().sum() for m in model.children()
                        if hasattr(m, "weight") and m.weight.ndim >= 2
                    ]
            Weights may be anywhere: in layers inside of layers, under other names, and in the model
            itself.

            biases penalised
                squares = [p.square().sum() for p in model.parameters()]
            Parameters of one dimension, such as biases and the scales of batch norm, are not
            penalised.

            by the name weight
                squares = [p.square().sum() for n, p in model.named_parameters() if "weight" in n]
            The scales of batch norm are called weight, too, and other weights are not: go by the
            number of dimensions.

            by the name bias
                squares = [p.square().sum() for n, p in model.named_parameters() if "bias" not in n]
            The scales of batch norm are no biases, and are not penalised either: go by the number
            of dimensions.

            matrices only
                squares = [p.square().sum() for p in model.parameters() if p.ndim == 2]
            The weight of a convolution has more than two dimensions, and is penalised.

            linear layers only
                squares = [
                        m.weight.square().sum() for m in model.modules() if isinstance(m, nn.Linear)
                    ]
            Convolutions, embeddings and parameters of the model's own are penalised as well.

            shared weights counted twice
                squares = [
                        p.square().sum() for m in model.modules()
                        for p in m.parameters(recurse=False) if p.ndim >= 2
                    ]
            Two layers share a weight, which is one parameter, and is penalised once.

            absolute values
                squares = [p.abs().sum() for p in model.parameters() if p.ndim >= 2]
            That is the L1 penalty. L2 has squares.

            norms
                squares = [p.norm() for p in model.parameters() if p.ndim >= 2]
            The norms are not squared: their sum is another penalty.

            means
                squares = [p.square().mean() for p in model.parameters() if p.ndim >= 2]
            The squares are summed: with means, large layers would be penalised less.

            cut off from the graph
                squares = [p.data.square().sum() for p in model.parameters() if p.ndim >= 2]
            The penalty has to reach the gradient: nothing may detach it.

            vectors only
                squares = [p.square().sum() for p in model.parameters() if p.ndim < 2]
            It is the other way round: parameters of two or more dimensions are penalised.

            first layer only
                squares = [p.square().sum() for p in model.parameters() if p.ndim >= 2][:1]
            All weights of the model are penalised.
        """),
        *slips(PENALTY, """
            half left out
                return weight_decay * torch.stack(squares).sum()
            The penalty has a half in it, so that its gradient is λ times the weight.

            doubled
                return weight_decay * 2 * torch.stack(squares).sum()
            The 2 stands below the line.

            lambda left out
                return torch.stack(squares).sum() / 2
            The penalty is multiplied by weight_decay.

            lambda squared
                return weight_decay**2 / 2 * torch.stack(squares).sum()
            λ enters as it is: it is a plain factor of the penalty, not its square.

            root taken
                return weight_decay / 2 * torch.stack(squares).sum().sqrt()
            The norm is squared in the penalty: there is no root.

            averaged over the layers
                return weight_decay / 2 * torch.stack(squares).mean()
            The squares of all layers are summed.

            a Python number
                return weight_decay / 2 * sum(float(s) for s in squares)
            A tensor is asked for, through which gradients flow.
        """),
    ],
    variants=variants("""
        a running sum
            def l2_penalty(model, weight_decay):
                total = 0.0
                for p in model.parameters():
                    if p.dim() > 1:
                        total = total + (p * p).sum()
                return 0.5 * weight_decay * total

        squared norms
            def l2_penalty(model, weight_decay):
                return sum(p.norm() ** 2 for p in model.parameters() if len(p.shape) >= 2) * (
                    weight_decay / 2)

        the others times zero
            def l2_penalty(model, weight_decay):
                squares = [(p.ndim >= 2) * (p**2).sum() for p in model.parameters()]
                return sum(squares) * weight_decay / 2

        one long vector
            def l2_penalty(model, weight_decay):
                weights = [p for p in model.parameters() if p.ndim not in (0, 1)]
                flat = torch.cat([p.reshape(-1) for p in weights])
                return flat.pow(2).sum().mul(weight_decay).div(2)
    """),
)  # fmt: skip


@l2_penalty.test(
    points=1,
    cases=[
        Case("two linear layers", penalty, penalised("plain")),
        Case("layers of every kind", penalty, penalised("shared", weight_decay=1.7)),
        Case(
            "a weight that is frozen",
            penalty_of_frozen,
            penalised("shared", frozen=["conv.weight"]),
        ),
    ],
)
def test_l2_penalty_sums_the_squares(submission, case):
    """Sums the squares of the weights, and lets gradients through"""
    submission.matches_reference(case)


@l2_penalty.test(points=0.25, cases=[Case("layers of every kind", penalty, penalised("shared"))])
def test_l2_penalty_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


def groups_by_name(model, weight_decay):
    decaying, others = [], []
    for _, p in model.named_parameters():
        if p.requires_grad:
            (decaying if len(p.shape) > 1 else others).append(p)
    return [
        {"params": decaying, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


TRAINED = "trained = [p for p in model.parameters() if p.requires_grad]"
FIRST = '{"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},'
SECOND = '{"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},'

decay_groups = Exercise(
    "decay_groups",
    oracle=groups_by_name,
    mistakes=[
        Mistake(
            "frozen ones kept among the others",
            SECOND,
            SECOND.replace("in trained", "in model.parameters()"),
            "A parameter that requires no gradient is in neither of the groups: yours is in the "
            "second.",
        ),
        Mistake.edits_of(
            "convolutions among the others",
            [(FIRST, FIRST.replace(">= 2", "== 2")), (SECOND, SECOND.replace("< 2", "!= 2"))],
            "The weight of a convolution has more than two dimensions, and decays.",
        ),
        Mistake(
            "names for parameters",
            FIRST,
            FIRST.replace("p for p in trained", "n for n, p in model.named_parameters()"),
            "The groups hold the parameters themselves, not their names.",
        ),
        Mistake(
            "clones for parameters",
            FIRST,
            FIRST.replace("[p for", "[p.clone() for"),
            "The optimizer has to get the model's own parameters: it cannot train clones of them.",
        ),
        Mistake(
            "data for parameters",
            FIRST,
            FIRST.replace("[p for", "[p.data for"),
            "p.data is another tensor, without a gradient: the optimizer has to get the model's "
            "own parameters.",
        ),
        Mistake(
            "a list for the first group",
            FIRST,
            "[p for p in trained if p.ndim >= 2],",
            "Each group is a dict: the list of parameters stands under params, beside the decay.",
        ),
        *slips(TRAINED, """
            equal ones taken for shared ones
                every = list(model.parameters())
                    trained = [
                        p for i, p in enumerate(every)
                        if p.requires_grad and not any(torch.equal(p, q) for q in every[:i])
                    ]
            Two parameters with equal values are two parameters: shared is what is the same object.

            frozen parameters included
                trained = list(model.parameters())
            A parameter that requires no gradient is left out.

            only frozen parameters
                trained = [p for p in model.parameters() if not p.requires_grad]
            It is the other way round: parameters that require a gradient are trained.

            outer layers only
                trained = [
                        p for m in model.children() for p in m.parameters(recurse=False)
                        if p.requires_grad
                    ]
                    trained = list(dict.fromkeys(trained))
            Parameters may be anywhere in the model: in layers inside of layers, and in the model
            itself.

            copies
                trained = [nn.Parameter(p.detach().clone()) for p in model.parameters()
                               if p.requires_grad]
            The optimizer has to get the model's own parameters: it would train copies.

            layers' parameters only
                inner = [p for m in model.children() for p in m.parameters()]
                    trained = [p for p in dict.fromkeys(inner) if p.requires_grad]
            Parameters of the model itself, outside of its layers, are trained as well.

            weights and biases only
                trained = [
                        p for n, p in model.named_parameters()
                        if p.requires_grad and n.rpartition(".")[2] in ("weight", "bias")
                    ]
            A model may have parameters by any name: all of them are trained.
        """),
        *slips(FIRST, """
            matrices only
                {"params": [p for p in trained if p.ndim == 2], "weight_decay": weight_decay},
            The weight of a convolution has more than two dimensions, and is in no group now.

            everything decays
                {"params": [p for p in trained if p.ndim >= 0], "weight_decay": weight_decay},
            A parameter is in one group only.

            half the decay
                {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay / 2},
            The optimizer takes λ as it is: the half is in the penalty only.

            no decay
                {"params": [p for p in trained if p.ndim >= 2], "weight_decay": 0.0},
            The first group decays.

            decay left to the optimizer
                {"params": [p for p in trained if p.ndim >= 2]},
            Without an entry of its own, a group gets the optimizer's weight_decay.

            a generator
                {"params": (p for p in trained if p.ndim >= 2), "weight_decay": weight_decay},
            A generator can be read only once. Under "params" belongs a list.
        """),
        *slips(SECOND, """
            no decay left to the optimizer
                {"params": [p for p in trained if p.ndim < 2]},
            Without an entry of its own, the second group gets the optimizer's weight_decay: say 0.

            everything decays, in two groups
                {"params": [p for p in trained if p.ndim < 2], "weight_decay": weight_decay},
            Parameters of one dimension do not decay.

            scalars left out
                {"params": [p for p in trained if p.ndim == 1], "weight_decay": 0.0},
            A parameter of no dimension belongs to the second group, too.

            biases left out
                {"params": [], "weight_decay": 0.0},
            Parameters that do not decay are trained all the same: they need a group.
        """),
        *written("""
            by the name bias
                def decay_groups(model, weight_decay):
                    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
                    return [
                        {"params": [p for n, p in named if "bias" not in n],
                         "weight_decay": weight_decay},
                        {"params": [p for n, p in named if "bias" in n], "weight_decay": 0.0},
                    ]
            The scales of batch norm and layer norm are no biases, and do not decay either: go by
            the number of dimensions.

            by the name weight
                def decay_groups(model, weight_decay):
                    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
                    return [
                        {"params": [p for n, p in named if "weight" in n],
                         "weight_decay": weight_decay},
                        {"params": [p for n, p in named if "weight" not in n], "weight_decay": 0.0},
                    ]
            The scales of batch norm are called weight, too, and other weights are not: go by the
            number of dimensions.

            groups swapped
                def decay_groups(model, weight_decay):
                    trained = [p for p in model.parameters() if p.requires_grad]
                    return [
                        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
                        {"params": [p for p in trained if p.ndim >= 2],
                         "weight_decay": weight_decay},
                    ]
            The group that decays comes first.

            the wrong ones decay
                def decay_groups(model, weight_decay):
                    trained = [p for p in model.parameters() if p.requires_grad]
                    return [
                        {"params": [p for p in trained if p.ndim < 2],
                         "weight_decay": weight_decay},
                        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": 0.0},
                    ]
            It is the weights that decay, with two or more dimensions.

            a group for each parameter
                def decay_groups(model, weight_decay):
                    return [
                        {"params": [p], "weight_decay": weight_decay if p.ndim >= 2 else 0.0}
                        for p in model.parameters() if p.requires_grad
                    ]
            Two groups are asked for.

            shared weights twice
                def decay_groups(model, weight_decay):
                    trained = [p for m in model.modules() for p in m.parameters(recurse=False)
                               if p.requires_grad]
                    return [
                        {"params": [p for p in trained if p.ndim >= 2],
                         "weight_decay": weight_decay},
                        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
                    ]
            A weight that two layers share is one parameter: it is in its group once.
        """),
    ],
    variants=variants("""
        through the modules, each parameter once
            def decay_groups(model, weight_decay):
                groups = [{"params": [], "weight_decay": decay} for decay in (weight_decay, 0.0)]
                seen = set()
                for module in model.modules():
                    for p in module._parameters.values():
                        if p is None or id(p) in seen or not p.requires_grad: continue
                        seen.add(id(p))
                        groups[0 if p.dim() >= 2 else 1]["params"].append(p)
                return groups

        one loop
            def decay_groups(model, weight_decay):
                decaying, others = [], []
                for p in model.parameters():
                    if not p.requires_grad:
                        continue
                    if p.dim() < 2:
                        others.append(p)
                    else:
                        decaying.append(p)
                return [dict(params=decaying, weight_decay=weight_decay),
                        dict(params=others, weight_decay=0)]

        filters, a tuple
            def decay_groups(model, weight_decay):
                def group(test, decay):
                    wanted = lambda p: p.requires_grad and test(len(p.size()))
                    chosen = list(filter(wanted, model.parameters()))
                    return {"weight_decay": decay, "params": chosen}
                return group(lambda n: n > 1, weight_decay), group(lambda n: n <= 1, 0.0)

        shared weights by identity
            def decay_groups(model, weight_decay):
                seen, groups = set(), [{"params": [], "weight_decay": weight_decay},
                                       {"params": [], "weight_decay": 0.0}]
                for module in model.modules():
                    for p in module.parameters(recurse=False):
                        if p.requires_grad and id(p) not in seen:
                            seen.add(id(p))
                            groups[p.ndim < 2]["params"].append(p)
                return groups
    """),
)  # fmt: skip


@decay_groups.test(
    points=1,
    cases=[
        Case("two linear layers", sorted_into_groups, penalised("plain", frozen=[])),
        Case(
            "parameters with equal values",
            sorted_into_groups,
            penalised("shared", 0.4, frozen=[], same=True),
        ),
        Case("layers of every kind", sorted_into_groups, penalised("shared", 0.05, frozen=[])),
        Case(
            "layers that are frozen",
            sorted_into_groups,
            penalised("shared", 0.2, frozen=["conv.weight", "inner.0.bias"]),
        ),
    ],
)
def test_decay_groups_sort_the_parameters(submission, case):
    """Puts every trained parameter into the group where it belongs"""
    submission.matches_reference(case)
