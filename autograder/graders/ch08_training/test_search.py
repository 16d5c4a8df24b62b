"""Search: grid and random on the right scales, coarse to fine, successive halving.

Bergstra and Bengio (2012), https://jmlr.org/papers/v13/bergstra12a.html; Dodge et al. (2019),
https://arxiv.org/abs/1909.03004; Jamieson and Talwalkar (2016), https://arxiv.org/abs/1502.07943.
The random numbers are given to the student's code, so that nothing here is a matter of chance.
"""

import math
import operator

import torch

from autograder.spec import Case, Exercise, Mistake, raised
from autograder.spec.tables import slips, variants, written

NAN = float("nan")


# ---------------------------------------------------------------- parameter_grid


def grid_by_recursion(space):
    if not space:
        return [{}]
    *first, last = space
    rest = grid_by_recursion({name: space[name] for name in first})
    return [{**point, last: value} for value in space[last] for point in rest]


def grid(impl, space):
    points = impl(space)
    return {
        "combinations": sorted(str(sorted(point.items())) for point in points),
        "each is a dict of its own": len({id(point) for point in points}) == len(points),
        "each is a dict": all(isinstance(point, dict) for point in points),
    }


def values(*counts, names=("lr", "beta", "activation", "width")):
    def draw(make):
        space = {}
        for name, count in zip(names, counts, strict=False):
            pool = [0.1, 0.3, 0.25, 7, 64, "relu", "tanh", True]
            space[name] = [pool[i] for i in make.permutation(len(pool)).tolist()[:count]]
        return {"space": space}

    return draw


GRID = "return [dict(zip(space, values, strict=True)) for values in product(*space.values())]"

parameter_grid = Exercise(
    "parameter_grid",
    oracle=grid_by_recursion,
    forbids=["sklearn.model_selection"],
    mistakes=[
        *slips(GRID, """
            side by side
                return [dict(zip(space, values)) for values in zip(*space.values())]
            That pairs the first values, then the second ones. A grid has *every* combination.

            values under the names before them
                kept = [values for values in space.values() if values]
                    return [dict(zip(space, values)) for values in product(*kept)]
            Where a hyperparameter has no value to try, there is no combination at all. Leaving out
            its empty list moves the values of the others under wrong names.

            an iterator for a list
                return (dict(zip(space, values)) for values in product(*space.values()))
            A list is asked for, which has a length and can be gone through twice: a generator has
            neither.

            equal ones taken once
                return [dict(zip(space, v)) for v in dict.fromkeys(product(*space.values()))]
            Values may be of any kind, lists as well: they need not be hashable, and 1 and True are
            two values.

            values as texts
                return [dict(zip(space, map(str, v))) for v in product(*space.values())]
            The values are to be as they were given: yours have become strings.

            one at a time
                first = {name: list(values)[0] for name, values in space.items()}
                    return [{**first, name: v} for name, values in space.items() for v in values]
            Only one hyperparameter is varied at a time. A grid has every combination.

            every combination only of neighbours
                points = [{}]
                    for name, values in space.items():
                        points = [{**point, name: v} for point in points[:2] for v in values]
                    return points
            Some combinations are missing: each value goes with all combinations of the others.

            tuples of values
                return list(product(*space.values()))
            Each combination is a dict, which says what each value is for.

            one dict for all
                point, points = {}, []
                    for values in product(*space.values()):
                        point.update(zip(space, values))
                        points.append(point)
                    return points
            All entries are the same dict, which holds the last combination in the end. Make a new
            one each time.

            names sorted, values not
                return [dict(zip(sorted(space), values)) for values in product(*space.values())]
            The values end up under the wrong names: keep both in the same order.

            last value left out
                shorter = [list(values)[:-1] for values in space.values()]
                    return [dict(zip(space, values)) for values in product(*shorter)]
            All values are tried, the last of each list, too.

            places of the values
                places = [range(len(values)) for values in space.values()]
                    return [dict(zip(space, values)) for values in product(*places)]
            The values themselves are asked for, not their places in the lists.

            last combination left out
                return [dict(zip(space, values)) for values in product(*space.values())][:-1]
            The last combination is missing.

            a dict of lists
                points = list(product(*space.values()))
                    return [{name: [p[k] for p in points] for k, name in enumerate(space)}]
            A list of dicts is asked for, one for each combination.

            nothing for no hyperparameter
                if not space:
                        return []
                    return [dict(zip(space, values)) for values in product(*space.values())]
            With nothing to choose there is one combination, the empty one.

            two hyperparameters at most
                if len(space) < 2:
                        return [{name: v} for name, values in space.items() for v in values] or [{}]
                    a, b, *_ = space
                    return [{a: v, b: w} for v in space[a] for w in space[b]]
            There may be any number of hyperparameters: combine what you have with one after the
            other.

            empty lists passed over
                full = {name: values for name, values in space.items() if len(values)}
                    return [dict(zip(full, values)) for values in product(*full.values())]
            Where a hyperparameter has no value to try there is no combination.
        """),
    ],
    variants=variants("""
        by the digits of a counter
            def parameter_grid(space):
                total = math.prod(len(v) for v in space.values())
                out = []
                for k in range(total):
                    d = {}
                    for name, vs in space.items():
                        k, r = divmod(k, len(vs))
                        d[name] = vs[r]
                    out.append(d)
                return out

        a loop that grows
            def parameter_grid(space):
                points = [{}]
                for name, values in space.items():
                    points = [dict(point, **{name: value}) for point in points for value in values]
                return points

        recursion
            def parameter_grid(space):
                if len(space) == 0:
                    return [dict()]
                name = next(iter(space))
                rest = {other: values for other, values in space.items() if other != name}
                return [{name: v} | point for v in space[name] for point in parameter_grid(rest)]

        counting in a mixed base
            def parameter_grid(space):
                found = []
                for number in range(math.prod(len(values) for values in space.values())):
                    point = {}
                    for name, values in space.items():
                        number, digit = divmod(number, len(values))
                        point[name] = values[digit]
                    found.append(point)
                return tuple(found)
    """),
)  # fmt: skip


@parameter_grid.test(
    points=0.5,
    cases=[
        Case("three hyperparameters", grid, values(3, 2, 4)),
        Case("four hyperparameters", grid, values(2, 3, 1, 2)),
        Case("a single hyperparameter", grid, values(5, names=["lr"])),
        Case("no hyperparameter", grid, lambda _: {"space": {}}),
        Case("a hyperparameter without values", grid, values(3, 0, 2)),
        Case(
            "values of any kind",
            grid,
            lambda _: {"space": {"widths": [[64], [32, 16], []], "bias": [1, True]}},
        ),
        Case("names not in alphabetical order", grid, values(2, 3, names=["width", "beta"])),
    ],
)
def test_grid_has_every_combination(submission, case):
    """Lists every combination"""
    submission.matches_reference(case)


# ---------------------------------------------------------------- log_uniform, beta_uniform


def log_by_powers(u, low, high):
    return low * torch.pow(torch.full_like(u, high / low), u)


def beta_by_powers(u, low, high):
    return 1 - (1 - low) * torch.pow(torch.full_like(u, (1 - high) / (1 - low)), u)


def scaled(impl, u, low, high):
    return {"values": impl(u, low, high)}


def between(low, high, *shape, ends=False):
    def draw(make):
        u = make.uniform(*shape)
        if ends:
            u = torch.cat([u.flatten(), u.new_tensor([0.0, 1.0, 0.5])])
        return {"u": u, "low": low, "high": high}

    return draw


LOG = "return torch.exp(math.log(low) + u * (math.log(high) - math.log(low)))"
BETA = "return 1 - log_uniform(1 - u, 1 - high, 1 - low)"

log_uniform = Exercise(
    "log_uniform",
    oracle=log_by_powers,
    mistakes=[
        *slips(LOG, """
            linear
                return low + u * (high - low)
            That is uniform itself, so that nine tenths of the draws come from the highest decade.

            logarithm of a linear draw
                return torch.log(low + u * (high - low))
            It is the logarithm that is uniform: draw that, then undo it.

            power of ten of a linear draw
                return 10 ** (low + u * (high - low))
            Uniform is the exponent, between the logarithms of the two ends, not between the ends.

            exponential of a linear draw
                return torch.exp(low + u * (high - low))
            Uniform is the exponent, between the logarithms of the two ends, not between the ends.

            exponential of u
                return low + (high - low) * torch.exp(u - 1)
            It is not u whose exponential is taken: u goes from the logarithm of one end to that of
            the other, and the whole of it is raised.

            one added before the logarithm
                a, b = math.log1p(low), math.log1p(high)
                    return torch.expm1(a + u * (b - a))
            The logarithm of the value itself is uniform, not that of one plus the value.

            u squared
                return torch.exp(math.log(low) + u**2 * (math.log(high) - math.log(low)))
            u is uniform already: squared, it prefers the low end.

            one dimension only
                return torch.exp(math.log(low) + u.flatten() * math.log(high / low))
            u may have any shape, and the result has the same.

            two bases
                return 10 ** (math.log(low) + u * (math.log(high) - math.log(low)))
            The power has to undo the logarithm: to the base ten, or to the base e, in both places.

            two bases the other way round
                return torch.exp(math.log10(low) + u * (math.log10(high) - math.log10(low)))
            The power has to undo the logarithm: to the base ten, or to the base e, in both places.

            ends swapped
                return torch.exp(math.log(high) + u * (math.log(low) - math.log(high)))
            0 becomes low and 1 becomes high.

            exponents not raised
                return math.log(low) + u * (math.log(high) - math.log(low))
            That is the logarithm of the answer.

            difference left out
                return torch.exp(math.log(low) + u * math.log(high))
            At u = 1 the exponent is to be the logarithm of high, no more and no less.

            whole decades only
                exponent = math.log10(low) + u * (math.log10(high) - math.log10(low))
                    return 10 ** exponent.round()
            Every value between the ends is possible, not only the powers of ten.

            between the roots
                return (math.sqrt(low) + u * (math.sqrt(high) - math.sqrt(low))) ** 2
            It is the logarithm that is uniform, not the root.

            from zero
                return high ** u * (1 + 0 * low)
            The draws begin at low: u = 0 has to give it.

            logarithm of u
                return low * torch.exp(torch.log(u.clamp(min=1e-9)) * math.log(high / low))
            u is uniform already and stays as it is: it is the ends whose logarithms are taken.

            fresh draws
                return torch.exp(math.log(low) + torch.rand_like(u) * math.log(high / low))
            The random numbers are given: use u.

            ends in single precision
                ends = torch.tensor([low, high]).log()
                    return torch.exp(ends[0] + u * (ends[1] - ends[0]))
            A tensor made of Python floats is float32, which costs half of their digits where u is
            float64.

            reciprocal
                return 1 / (1 / low + u * (1 / high - 1 / low))
            It is the logarithm that is uniform, not the reciprocal.

            u changed in place
                return u.mul_(math.log(high / low)).add_(math.log(low)).exp()
            The caller's u has changed: methods that end in _ write into it.
        """),
    ],
    variants=variants("""
        base ten
            def log_uniform(u, low, high):
                a, b = math.log10(low), math.log10(high)
                return 10 ** (a + (b - a) * u)

        a power of the ratio
            def log_uniform(u, low, high):
                return low * (high / low) ** u

        weighted geometric mean
            def log_uniform(u, low, high):
                return low ** (1 - u) * high**u

        lerp of tensors
            def log_uniform(u, low, high):
                ends = torch.tensor([low, high], dtype=u.dtype, device=u.device).log()
                return torch.lerp(ends[0].expand_as(u), ends[1].expand_as(u), u).exp()
    """),
)  # fmt: skip


@log_uniform.test(
    points=0.5,
    cases=[
        Case("learning rates", scaled, between(1e-5, 1e-1, 40)),
        Case("numbers beyond one", scaled, between(3.0, 700.0, 4, 5)),
        Case("the ends and the middle", scaled, between(0.02, 5.0, 3, ends=True)),
    ],
)
def test_log_uniform_is_uniform_in_the_logarithm(submission, case):
    """Is uniform in the logarithm"""
    submission.matches_reference(case)


@log_uniform.test(points=0.25, cases=[Case("learning rates", scaled, between(1e-4, 1.0, 6))])
def test_log_uniform_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


beta_uniform = Exercise(
    "beta_uniform",
    oracle=beta_by_powers,
    mistakes=[
        *slips(BETA, """
            linear
                return low + u * (high - low)
            A β of 0.9 averages over about ten steps, 0.999 over a thousand. Drawn uniformly, β
            itself hardly ever gets near the long memories.

            two bases
                a, b = math.log10(1 - low), math.log10(1 - high)
                    return 1 - torch.exp(a + u * (b - a))
            The power has to undo the logarithm: to the base ten, or to the base e, in both places.

            one plus beta
                a, b = math.log(1 + low), math.log(1 + high)
                    return 1 - torch.exp(a + u * (b - a))
            It is 1 - β whose logarithm is uniform, not 1 + β.

            ends in single precision
                a, b = torch.tensor(1 - low).log(), torch.tensor(1 - high).log()
                    return 1 - torch.exp(a + u * (b - a))
            A tensor made of Python floats is float32, which costs half of their digits where u is
            float64.

            logarithm of beta
                return log_uniform(u, low, high)
            It is the logarithm of *1 - β* that is uniform. That of β is nearly the same as β.

            one minus beta returned
                return log_uniform(1 - u, 1 - high, 1 - low)
            That is 1 - β. β itself is asked for.

            falling
                return 1 - log_uniform(u, 1 - high, 1 - low)
            A small 1 - β is a large β: 0 becomes low and 1 becomes high, and so the order has to be
            turned round.

            one minus a draw between the same ends
                return 1 - log_uniform(u, low, high)
            If β is between low and high, between what ends is 1 - β?

            one minus a falling draw between the same ends
                return 1 - log_uniform(1 - u, low, high)
            If β is between low and high, between what ends is 1 - β?

            uniform memory
                return 1 - 1 / (1 / (1 - low) + u * (1 / (1 - high) - 1 / (1 - low)))
            That is uniform in 1/(1 - β), the number of steps, and not in its logarithm.

            whole decades only
                return 1 - 10 ** torch.log10(log_uniform(1 - u, 1 - high, 1 - low)).round()
            Every value between the ends is possible, not only 0.9, 0.99 and 0.999.

            fresh draws
                return 1 - log_uniform(torch.rand_like(u), 1 - high, 1 - low)
            The random numbers are given: use u.

            root
                return 1 - log_uniform(1 - u, 1 - high, 1 - low).sqrt()
            No root is taken: β itself has the two ends.

            logarithm of the odds
                a, b = math.log((low + 1e-9) / (1 - low)), math.log(high / (1 - high))
                    return torch.sigmoid(a + u * (b - a))
            That is uniform in the logarithm of β/(1 - β). Leave out the upper β.

            u changed in place
                return 1 - log_uniform(u.neg_().add_(1), 1 - high, 1 - low)
            The caller's u has changed: methods that end in _ write into it.
        """),
    ],
    variants=variants("""
        by exponents
            def beta_uniform(u, low, high):
                a, b = math.log10(1 - low), math.log10(1 - high)
                return 1 - 10 ** (a + u * (b - a))

        log_uniform between swapped ends
            def beta_uniform(u, low, high):
                return 1 - log_uniform(u, 1 - low, 1 - high)

        a power of the ratio
            def beta_uniform(u, low, high):
                return 1 - (1 - low) * ((1 - high) / (1 - low)) ** u
    """),
)  # fmt: skip


@beta_uniform.test(
    points=0.5,
    cases=[
        Case("momenta", scaled, between(0.5, 0.995, 30)),
        Case("from no memory on", scaled, between(0.0, 0.9, 3, 4)),
        Case("the ends and the middle", scaled, between(0.2, 0.98, 2, ends=True)),
    ],
)
def test_beta_uniform_is_uniform_in_the_memory(submission, case):
    """Is uniform in the logarithm of one minus beta"""
    submission.matches_reference(case)


@beta_uniform.test(points=0.25, cases=[Case("momenta", scaled, between(0.8, 0.999, 6))])
def test_beta_uniform_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- sample_configurations


def sampled_one_by_one(space, u):
    maps = {
        "linear": lambda t, low, high: (1 - t) * low + t * high,
        "log": lambda t, low, high: low * (high / low) ** t,
        "one_minus": lambda t, low, high: 1 - (1 - low) * ((1 - high) / (1 - low)) ** t,
    }
    if any(scale not in maps for scale, _, _ in space.values()):
        raise ValueError("unknown scale")
    return [
        {name: maps[s](t, a, b) for (name, (s, a, b)), t in zip(space.items(), row, strict=True)}
        for row in u.tolist()
    ]


def sampled(impl, space, u):
    drawn = impl(space, u)
    return {
        "configurations": [{name: float(v) for name, v in point.items()} for point in drawn],
        "each is a dict of its own": len({id(point) for point in drawn}) == len(drawn),
        "the values are Python floats": all(
            type(v) is float for point in drawn for v in point.values()
        ),
    }


def unknown_scales(impl, u):
    def drawn(scale):
        return raised(
            lambda: impl({"lr": ("log", 0.1, 1.0), "x": (scale, 0.2, 0.9)}, u), ValueError
        )

    return {scale: drawn(scale) for scale in ("linear", "log", "one_minus", "logarithmic", "Log")}


SPACE = {
    "width": ("linear", 20.0, 90.0),
    "lr": ("log", 1e-4, 0.5),
    "momentum": ("one_minus", 0.3, 0.99),
    "dropout": ("linear", -0.4, 0.6),
    "decay": ("log", 2.0, 300.0),
}


def rows(trials, *names):
    def draw(make):
        return {"space": {n: SPACE[n] for n in names}, "u": make.uniform(trials, len(names))}

    return draw


ZIP = "for column, (name, (scale, low, high)) in zip(u.T, space.items(), strict=True):"
LIST = "return [{name: columns[name][trial] for name in columns} for trial in range(len(u))]"

sample_configurations = Exercise(
    "sample_configurations",
    oracle=sampled_one_by_one,
    mistakes=[
        *slips(ZIP, """
            one draw for all
                first = [u[:, 0]] * len(space)
                    for column, (name, (scale, low, high)) in zip(first, space.items()):
            Every hyperparameter needs random numbers of its own; yours all rise and fall together.

            rows for columns
                for column, (name, (scale, low, high)) in zip(
                        u.reshape(len(space), len(u)), space.items(), strict=True
                    ):
            A row of u is a configuration, and a column a hyperparameter.

            a row for each hyperparameter
                u = u.T
                    for column, (name, (scale, low, high)) in zip(u.T, space.items()):
            A row of u is a configuration, and a column a hyperparameter: yours are exchanged.

            single precision
                for column, (name, (scale, low, high)) in zip(u.float().T, space.items()):
            Something turns the random numbers into float32, which costs half of their digits.

            names sorted
                for column, (name, (scale, low, high)) in zip(u.T, sorted(space.items())):
            The columns belong to the hyperparameters in the order of space.

            columns from the last
                for column, (name, (scale, low, high)) in zip(u.T.flip(0), space.items()):
            The columns belong to the hyperparameters in the order of space.

            last hyperparameter left out
                for column, (name, (scale, low, high)) in list(zip(u.T, space.items()))[:-1]:
            Every hyperparameter of the space gets a value.

            ends swapped
                for column, (name, (scale, high, low)) in zip(u.T, space.items(), strict=True):
            0 becomes low and 1 becomes high.

            own draws
                for column, (name, (scale, low, high)) in zip(torch.rand_like(u).T, space.items()):
            The random numbers are given: use u.
        """),
        *slips("values = low + column * (high - low)", """
            length left out
                values = low + column * high
            At u = 1 the value is to be high.

            from zero
                values = column * high
            At u = 0 the value is to be low.

            rounded
                values = (low + column * (high - low)).round()
            The scale is linear, and every value in between is possible.
        """),
        *slips('elif scale == "log":\n            values = log_uniform(column, low, high)', """
            linear for log
                elif scale == "log":
                            values = low + column * (high - low)
            On the scale "log" it is the logarithm that is uniform.
        """),
        *slips("values = beta_uniform(column, low, high)", """
            one minus the value
                values = 1 - beta_uniform(column, low, high)
            The value itself is asked for: one_minus only says what is uniform.

            one_minus from the other end
                values = beta_uniform(1 - column, low, high)
            0 becomes low and 1 becomes high, on this scale too: beta_uniform sees to the direction
            already.

            linear for one_minus
                values = low + column * (high - low)
            On the scale "one_minus" it is the logarithm of 1 - β that is uniform.

            log for one_minus
                values = log_uniform(column, low, high)
            On the scale "one_minus" it is the logarithm of 1 - β that is uniform.
        """),
        *slips(LIST, """
            columns returned
                return columns
            A list is asked for, with a dict for each configuration.

            first configuration for all
                return [{name: columns[name][0] for name in columns} for trial in range(len(u))]
            Each row of u gives a configuration of its own.

            first row only
                return [{n: columns[n][t] for n in columns} for t in range(min(len(u), 1))]
            u may have many rows, and each of them gives a configuration.

            last configuration left out
                return [{name: columns[name][t] for name in columns} for t in range(len(u) - 1)]
            Each row of u gives a configuration, the last one, too.

            one dict for all
                point = {}
                    found = []
                    for trial in range(len(u)):
                        point.update({name: columns[name][trial] for name in columns})
                        found.append(point)
                    return found
            All entries are the same dict, which holds the last configuration in the end. Make a new
            one each time.

            as many as hyperparameters
                return [{n: columns[n][t] for n in columns} for t in range(min(len(u), len(space)))]
            The rows of u are the configurations; there may be more of them than hyperparameters.

            tensors for floats
                return [
                        {name: torch.tensor(columns[name][trial]) for name in columns}
                        for trial in range(len(u))
                    ]
            The values are to be Python floats.
        """),
        *slips("columns[name] = values.tolist()", """
            values left as tensors
                columns[name] = values
            The values are to be Python floats: an element of a tensor is a tensor of shape ().

            rounded values
                columns[name] = [round(value, 4) for value in values.tolist()]
            Nothing is rounded: a learning rate of 0.00003 would become 0.

            space emptied
                columns[name] = values.tolist()
                    space.pop(next(iter(space)))
            The caller's space is left unchanged: yours loses a hyperparameter.
        """),
        Mistake(
            "any scale that begins with log",
            'elif scale == "log":',
            'elif scale.startswith("log"):',
            '"logarithmic" is none of the three scales: it raises a ValueError.',
        ),
        *slips("raise ValueError(", """
            unknown scale taken as linear
                values = low + column * (high - low)
                        if False:
                            raise ValueError(
            A scale that is none of the three raises a ValueError.

            another error
                raise KeyError(
            A scale that is none of the three raises a ValueError.
        """),
    ],
    variants=variants("""
        row by row
            def sample_configurations(space, u):
                found = []
                for row in u:
                    point = {}
                    for k, name in enumerate(space):
                        scale, low, high = space[name]
                        if scale not in ("linear", "log", "one_minus"):
                            raise ValueError(scale)
                        if scale == "log":
                            point[name] = float(log_uniform(row[k], low, high))
                        elif scale == "one_minus":
                            point[name] = beta_uniform(row[k], low, high).item()
                        else:
                            point[name] = low + (high - low) * float(row[k])
                    found.append(point)
                return found

        a table of functions
            def sample_configurations(space, u):
                scales = {"log": log_uniform, "one_minus": beta_uniform,
                          "linear": lambda t, a, b: a * (1 - t) + b * t}
                columns = []
                for k, (scale, low, high) in enumerate(space.values()):
                    if scale not in scales:
                        raise ValueError(f"unknown scale {scale}")
                    columns.append(scales[scale](u[:, k], low, high))
                table = torch.stack(columns, dim=1).tolist()
                return [dict(zip(space.keys(), row)) for row in table]

        plain numbers
            def sample_configurations(space, u):
                def value(t, scale, low, high):
                    match scale:
                        case "linear":
                            return low + t * (high - low)
                        case "log":
                            return math.exp(math.log(low) + t * math.log(high / low))
                        case "one_minus":
                            return 1 - (1 - low) * math.exp(t * math.log((1 - high) / (1 - low)))
                    raise ValueError(scale)
                return tuple({n: value(t, *s) for t, (n, s) in zip(row, space.items())}
                             for row in u.tolist())
    """),
)  # fmt: skip


@sample_configurations.test(
    points=1.25,
    cases=[
        Case("one scale of each kind", sampled, rows(6, "width", "lr", "momentum")),
        Case("five hyperparameters", sampled, rows(4, *SPACE)),
        Case("names in another order", sampled, rows(5, "momentum", "decay", "dropout", "lr")),
        Case("as many trials as hyperparameters", sampled, rows(2, "momentum", "decay")),
        Case("a single trial", sampled, rows(1, "lr", "width")),
    ],
)
def test_sample_configurations_draws_on_each_scale(submission, case):
    """Draws every hyperparameter on its own scale"""
    submission.matches_reference(case)


@sample_configurations.test(
    points=0.25,
    cases=[Case("unknown scales", unknown_scales, lambda make: {"u": make.uniform(3, 2)})],
)
def test_sample_configurations_refuses(submission, case):
    """Refuses a scale that does not exist"""
    submission.matches_reference(case)


# ---------------------------------------------------------------- expected_best


def best_by_running_through(losses, n):
    """Where every draw can be listed, list them; else one loss after the other."""
    if len(losses) ** n <= 4096:
        drawn = torch.cartesian_prod(*[losses] * n).reshape(-1, n)
        return drawn.amin(dim=1).mean()
    ordered, total = torch.sort(losses).values, len(losses)
    mean = torch.zeros_like(ordered[0])
    for i in range(total):
        mean = mean + ordered[i] * (((total - i) / total) ** n - ((total - i - 1) / total) ** n)
    return mean


def best_expected(impl, losses, n):
    return {"expected best": impl(losses, n)}


def best_expected_twice(impl, losses, n):
    return {"expected best": impl(losses, n), "again": impl(losses, n)}


def facts_of_two(outcome, _inputs):
    first, second = outcome["expected best"], outcome["again"]
    tensors = isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)
    same = torch.equal(first, second) or bool(first.isnan().any()) if tensors else first == second
    return {"two calls give the same": same} | ({"expected best": first} if same else {})


def trials(count, n, ties=False):
    def draw(make):
        losses = make.uniform(count, low=0.2, high=3.0)
        if ties:
            losses = torch.cat([losses, losses[: count // 2], losses[:1]])
        return {"losses": losses, "n": n}

    return draw


LEFT = "left = torch.arange(total, -1, -1, dtype=losses.dtype, device=losses.device) / total"
CHANCE = "return (ordered * (at_least[:-1] - at_least[1:])).sum()"

expected_best = Exercise(
    "expected_best",
    oracle=best_by_running_through,
    mistakes=[
        *slips(LEFT, """
            weights in single precision
                left = torch.arange(total, -1, -1, device=losses.device) / total
            The quotient of integers is float32, whatever the losses are: give arange their dtype.
        """),
        *slips("ordered = losses.sort().values", """
            not sorted
                ordered = losses
            The formula speaks of the losses in order: sort them first.

            largest first
                ordered = losses.sort(descending=True).values
            These are losses: the best one is the smallest, and comes first.

            places for losses
                ordered = losses.sort().indices.to(losses.dtype)
            sort returns the values and their places: the values are wanted.
        """),
        *slips("at_least = left**n", """
            at most as many trials as losses
                at_least = left ** min(n, total)
            n may be larger than the number of losses: they are drawn with replacement.

            powers before the quotient
                at_least = (left * total) ** n / torch.full_like(left, total) ** n
            The power of a count soon exceeds what a float32 can hold, and inf / inf is NaN. Divide
            first, then raise.

            powers of whole numbers
                counts = torch.arange(total, -1, -1, device=losses.device)
                    at_least = (counts**n / torch.full_like(counts, total) ** n).to(losses.dtype)
            Integers overflow without a word, and their quotient is float32. Divide first, in the
            dtype of the losses.

            one trial too few
                at_least = left ** max(n - 1, 1)
            All n trials have to miss the i best losses.

            one trial too many
                at_least = left ** (n + 1)
            There are n trials, no more.

            probabilities multiplied, not raised
                at_least = (left * n).clamp(max=1.0)
            That all of n independent draws miss has the probability of one miss to the power of n.

            without replacement
                at_least = torch.stack([
                        math.comb(total - i, min(n, total)) / math.comb(total, min(n, total))
                        * torch.ones_like(losses[0]) for i in range(total + 1)
                    ])
            That is the expectation for draws without replacement. These go back after each draw.
        """),
        *slips(CHANCE, """
            mean
                return losses.mean()
            That is what a single trial finds on average. The best of several is smaller.

            smallest
                return losses.min()
            That is the best of all that were tried. A search of n trials finds it only with luck.

            best of the first n
                return losses[:n].min()
            That is a single search of n trials. Its average over all searches is asked for.

            difference left out
                return (ordered * at_least[:-1]).sum()
            A loss is weighted by the probability that *it* is the smallest, not that the smallest
            is at least as large.

            difference the other way round
                return (ordered * (at_least[1:] - at_least[:-1])).sum()
            These weights are negative: what is larger comes first.

            averaged
                return (ordered * (at_least[:-1] - at_least[1:])).mean()
            The weights add up to 1 already: sum the products.

            the place before
                return (ordered * (((left[:-1] * total + 1) / total) ** n - at_least[:-1])).sum()
            The weights are one place off: the smallest loss has 1 - ((N-1)/N)^n.

            density for probability
                return (ordered * n * left[:-1] ** (n - 1) / total).sum()
            That is the derivative of the probability. There are finitely many losses: take the
            difference of two powers.

            shape of one element
                return (ordered * (at_least[:-1] - at_least[1:])).sum().reshape(1)
            A tensor of shape () is asked for, and yours has an axis.

            a place off
                return (ordered[1:] * (at_least[:-2] - at_least[1:-1])).sum()
            The first weight belongs to the smallest loss.

            the k-th best
                return losses.sort().values[total // (n + 1)]
            That is a rule of thumb. The expected value has a weight for each loss.

            a Python number
                return float((ordered * (at_least[:-1] - at_least[1:])).sum())
            A tensor of shape () is asked for.

            drawn at random
                picks = torch.randint(total, (500, n), device=losses.device)
                    return losses[picks].amin(dim=1).mean()
            No draws are needed: the expected value can be computed exactly.
        """),
        *slips("total = len(losses)", """
            ties taken once
                losses = losses.unique()
                    total = len(losses)
            Equal losses are drawn as often as there are of them.

            sorted in place
                losses.copy_(losses.sort().values)
                    total = len(losses)
            The caller's losses have changed their order.
        """),
    ],
    variants=variants("""
        summed by parts
            def expected_best(losses, n):
                s, _ = torch.sort(losses)
                N = s.shape[0]
                survive = torch.arange(N - 1, 0, -1, dtype=s.dtype, device=s.device).div(N).pow(n)
                return s[0] + (s.diff() * survive).sum()

        differences of powers
            def expected_best(losses, n):
                values, _ = torch.sort(losses)
                N = values.numel()
                i = torch.arange(1, N + 1, device=values.device, dtype=values.dtype)
                weights = ((N - i + 1) / N) ** n - ((N - i) / N) ** n
                return torch.dot(values, weights)

        a loop
            def expected_best(losses, n):
                N, mean = len(losses), 0.0
                for i, loss in enumerate(torch.sort(losses)[0]):
                    mean = mean + loss * ((1 - i / N) ** n - (1 - (i + 1) / N) ** n)
                return mean

        summed by parts, from the front
            def expected_best(losses, n):
                values = losses.sort()[0]
                steps = torch.cat([values[:1], values.diff()])
                before = torch.arange(len(values), dtype=values.dtype, device=values.device)
                return (steps * (1 - before / len(values)).pow(n)).sum()
    """),
)  # fmt: skip


@expected_best.test(
    points=1.25,
    cases=[
        Case("some trials of many", best_expected_twice, trials(9, 3), facts_of_two),
        Case("one trial", best_expected_twice, trials(7, 1), facts_of_two),
        Case("more trials than losses", best_expected_twice, trials(5, 12), facts_of_two),
        Case("a long search", best_expected_twice, trials(40, 60), facts_of_two),
        Case("two trials, and ties", best_expected_twice, trials(6, 2, ties=True), facts_of_two),
        Case("a single loss", best_expected, trials(1, 4)),
    ],
)
def test_expected_best_weighs_each_loss(submission, case):
    """Weighs each loss by its chance to be the best"""
    submission.matches_reference(case)


@expected_best.test(points=0.25, cases=[Case("some trials", best_expected, trials(8, 3))])
def test_expected_best_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- refine


def refined_by_shares(space, best, shrink):
    """Through the share of the way from one end to the other."""
    finer = {}
    for name, (scale, low, high) in space.items():
        value = best[name]
        if scale == "linear":
            share = (value - low) / (high - low)
        elif scale == "log":
            share = math.log(value / low) / math.log(high / low)
        else:
            share = math.log((1 - value) / (1 - low)) / math.log((1 - high) / (1 - low))
        start = max(0.0, share - shrink / 2)
        start = min(start, 1 - shrink)
        ends = torch.tensor([[start], [start + shrink]], dtype=torch.float64)
        low, high = (point["x"] for point in sampled_one_by_one({"x": (scale, low, high)}, ends))
        finer[name] = (scale, low, high)
    return finer


def refined(impl, space, best, shrink):
    finer = impl(space, best, shrink)
    kinds = sorted({type(end).__name__ for _, *ends in finer.values() for end in ends})
    if kinds != ["float"]:
        return {"the ends are": ", ".join(kinds)}
    return {
        "new space": told(finer),
        "the space that was passed in": told(space),
    }


def refined_again(impl, space, best, shrink):
    return refined(impl, impl(space, best, shrink), best, shrink)


def told(space):
    return {
        name: {"scale": scale, "low": float(low), "high": float(high)}
        for name, (scale, low, high) in space.items()
    }


def around(*names, share, shrink):
    """The best values lie at about this share of the way through their ranges."""

    def draw(make):
        space = {name: SPACE[name] for name in names}
        u = torch.tensor([[make.number(share - 0.03, share + 0.03) for _ in names]])
        return {"space": space, "best": sampled_one_by_one(space, u)[0], "shrink": shrink}

    return draw


LENGTH = "length = shrink * (last - first)"
START = "start = forth[scale](best[name]) - length / 2"
MOVED = "start = min(max(start, first), last - length)"
FINER = "finer[name] = (scale, back[scale](start), back[scale](start + length))"

refine = Exercise(
    "refine",
    oracle=refined_by_shares,
    mistakes=[
        *slips("first, last = forth[scale](low), forth[scale](high)", """
            linear on every scale
                forth = back = dict.fromkeys(["linear", "log", "one_minus"], float)
                        first, last = low, high
            Each range is narrowed on its own scale: a learning rate is as far from a tenth of it as
            from ten times it.

            one_minus narrowed as log
                forth["one_minus"], back["one_minus"] = math.log, math.exp
                        first, last = forth[scale](low), forth[scale](high)
            On the scale "one_minus" it is the logarithm of 1 - β that counts, not that of β.

            one_minus narrowed as linear
                forth["one_minus"] = back["one_minus"] = float
                        first, last = forth[scale](low), forth[scale](high)
            On the scale "one_minus" it is the logarithm of 1 - β that counts, not β itself.

            log narrowed as linear
                forth["log"] = back["log"] = float
                        first, last = forth[scale](low), forth[scale](high)
            On the scale "log" it is the logarithm that counts, not the value itself.
        """),
        *slips(LENGTH, """
            shrink to either side
                length = min(1.0, 2 * shrink) * (last - first)
            The whole new range is shrink times as long as the old one, half of that to either side.

            shrunk by instead of to
                length = (1 - shrink) * (last - first)
            shrink is how much of the length is left, not how much is taken away.

            always halved
                length = 0.5 * (last - first)
            shrink says how much of the length is left.

            shrunk twice
                length = shrink**2 * (last - first)
            The new range is shrink times as long as the old one.

            not shrunk
                length = last - first
            The new range is shrink times as long as the old one.
        """),
        *slips(START, """
            best where it was in proportion
                place = forth[scale](best[name])
                        start = place - shrink * (place - first)
            The best value keeps its share of the way. It is to be in the middle of the new range,
            and the range is moved where that sticks out.

            best at the lower end
                start = forth[scale](best[name])
            The best value is to be in the middle of the new range.

            best at the upper end
                start = forth[scale](best[name]) - length
            The best value is to be in the middle of the new range.

            around the old middle
                start = (first + last) / 2 - length / 2
            The new range lies around the best value.
        """),
        *slips(MOVED, """
            sticks out
                start = start + 0.0
            A new range must not leave the old one: move it back inside.

            one_minus sticks out
                if scale != "one_minus":
                            start = min(max(start, first), last - length)
            A new range must not leave the old one, on the scale one_minus either.

            sticks out below
                start = min(start, last - length)
            A new range must not leave the old one at the lower end either.

            sticks out above
                start = max(start, first)
            A new range must not leave the old one at the upper end either.

            cut off
                end = min(start + length, last)
                        start = max(start, first)
                        length = end - start
            A range that would stick out is moved, not cut off: it keeps its full length.

            cut off on both sides
                out = max(first - start, start + length - last, 0.0)
                        start, length = start + out, length - 2 * out
            A range that would stick out is moved, at its full length, and no longer has the best
            value in its middle.
        """),
        *slips(FINER, """
            ends swapped for one_minus
                ends = back[scale](start), back[scale](start + length)
                        finer[name] = (scale, *(ends[::-1] if scale == "one_minus" else ends))
            The lower end comes first on every scale: a larger 1 - β is a smaller β.

            tensors for floats
                finer[name] = (
                            scale, torch.tensor(back[scale](start), dtype=torch.float64),
                            torch.tensor(back[scale](start + length), dtype=torch.float64),
                        )
            The ends are to be Python floats.

            only the first hyperparameter
                finer[name] = (scale, back[scale](start), back[scale](start + length))
                        break
            Every hyperparameter of the space has a range, and each is narrowed.

            ends swapped
                finer[name] = (scale, back[scale](start + length), back[scale](start))
            The lower end comes first.

            on the inner scale
                finer[name] = (scale, start, start + length)
            The ends are to be values again, not logarithms.

            scale left out
                finer[name] = (back[scale](start), back[scale](start + length))
            The new space has the form of the old one, with the scale in it.

            always linear
                finer[name] = ("linear", back[scale](start), back[scale](start + length))
            Each hyperparameter keeps its scale.

            low and length
                finer[name] = (scale, back[scale](start), back[scale](length))
            The second number is the upper end, not a length.

            first hyperparameter only
                finer[name] = (scale, back[scale](start), back[scale](start + length))
                        return finer | {n: r for n, r in space.items() if n != name}
            Every hyperparameter's range is narrowed.
        """),
        *slips("return finer", """
            space changed
                space.update(finer)
                    return space
            The caller's space has changed: return a new one.
        """),
    ],
    variants=variants("""
        by shares of the way
            def refine(space, best, shrink):
                def place(scale, low, high, v):
                    if scale == "linear":
                        return (v - low) / (high - low)
                    if scale == "log":
                        return math.log(v / low) / math.log(high / low)
                    return math.log((1 - v) / (1 - low)) / math.log((1 - high) / (1 - low))
                def value(scale, low, high, u):
                    if scale == "linear":
                        return low + u * (high - low)
                    if scale == "log":
                        return low * (high / low) ** u
                    return 1 - (1 - low) * ((1 - high) / (1 - low)) ** u
                out = {}
                for name, entry in space.items():
                    u = place(*entry, best[name])
                    left, right = u - shrink / 2, u + shrink / 2
                    if left < 0:
                        left, right = 0.0, shrink
                    elif right > 1:
                        left, right = 1 - shrink, 1.0
                    out[name] = (entry[0], value(*entry, left), value(*entry, right))
                return out

        branches
            def refine(space, best, shrink):
                finer = {}
                for name, (scale, low, high) in space.items():
                    value = best[name]
                    if scale == "log":
                        a, b, t = math.log10(low), math.log10(high), math.log10(value)
                    elif scale == "one_minus":
                        a, b, t = (math.log10(1 - v) for v in (high, low, value))
                    else:
                        a, b, t = low, high, value
                    half = shrink * (b - a) / 2
                    centre = min(max(t, a + half), b - half)
                    left, right = centre - half, centre + half
                    if scale == "log":
                        finer[name] = (scale, 10**left, 10**right)
                    elif scale == "one_minus":
                        finer[name] = (scale, 1 - 10**right, 1 - 10**left)
                    else:
                        finer[name] = (scale, left, right)
                return finer

        one_minus through log
            def refine(space, best, shrink):
                def linear(low, high, value):
                    length = (high - low) * shrink
                    start = value - length / 2
                    if start < low:
                        start = low
                    elif start + length > high:
                        start = high - length
                    return start, start + length
                def log(low, high, value):
                    return tuple(map(math.exp, linear(*map(math.log, (low, high, value)))))
                def one_minus(low, high, value):
                    low, high = log(1 - high, 1 - low, 1 - value)
                    return 1 - high, 1 - low
                ways = {"linear": linear, "log": log, "one_minus": one_minus}
                return {n: (s, *ways[s](a, b, best[n])) for n, (s, a, b) in space.items()}

        shares of the way, lists
            def refine(space, best, shrink):
                result = {}
                for name in space:
                    scale, low, high = space[name]
                    one = torch.tensor([low, high, best[name]], dtype=torch.float64)
                    place = {"linear": one, "log": one.log(), "one_minus": -(1 - one).log()}[scale]
                    share = (place[2] - place[0]) / (place[1] - place[0])
                    start = (share - shrink / 2).clamp(0.0, 1 - shrink)
                    ends = place[0] + torch.stack([start, start + shrink]) * (place[1] - place[0])
                    back = {"linear": ends, "log": ends.exp(), "one_minus": 1 - (-ends).exp()}
                    ends = back[scale]
                    result[name] = [scale, *ends.tolist()]
                return result
    """),
)  # fmt: skip


@refine.test(
    points=1.5,
    cases=[
        Case(
            "best in the middle, every scale",
            refined,
            around("width", "lr", "momentum", share=0.55, shrink=0.3),
        ),
        Case("best near the lower ends", refined, around(*SPACE, share=0.08, shrink=0.4)),
        Case("best near the upper ends", refined, around(*SPACE, share=0.93, shrink=0.35)),
        Case(
            "a range that hardly shrinks",
            refined,
            around("decay", "momentum", share=0.4, shrink=0.9),
        ),
        Case(
            "refined twice", refined_again, around("lr", "momentum", "width", share=0.3, shrink=0.5)
        ),
    ],
)
def test_refine_narrows_each_range(submission, case):
    """Narrows each range on its own scale, around the best value"""
    submission.matches_reference(case)


# ---------------------------------------------------------------- successive_halving


def halving_by_recursion(evaluate, configurations, min_budget, eta=3):
    def play(left, budget):
        losses = [evaluate(configurations[i], budget) for i in left]
        if len(left) == 1:
            return configurations[left[0]], [(budget, left)]
        failed = [loss != loss for loss in losses]
        numbers = [0.0 if f else loss for f, loss in zip(failed, losses, strict=True)]
        keys = zip(failed, numbers, left, strict=True)
        kept = [i for _, _, i in sorted(keys)][: max(1, len(left) // eta)]
        best, rounds = play(sorted(kept), budget * eta)
        return best, [(budget, left), *rounds]

    return play(list(range(len(configurations))), min_budget)


def played(impl, floors, slopes, min_budget, **options):
    """Losses that fall, or rise, with the budget; each configuration knows its own curve."""
    configurations = [{"floor": f, "slope": s} for f, s in zip(floors, slopes, strict=True)]
    order = [id(configuration) for configuration in configurations]
    calls = []

    def evaluate(configuration, budget):
        budget = operator.index(budget)  # as range(budget) asks for
        loss = configuration["floor"] + configuration["slope"] / budget
        calls.append([loss if loss == loss else -1.0, float(budget)])
        return loss

    best, rounds = impl(evaluate, configurations, min_budget, **options)
    form = form_of(rounds)
    readable = form == "a pair of a budget and places"
    return {
        "each round is": form,
        "budgets": [int(budget) for budget, _ in rounds] if readable else None,
        "places evaluated": [sorted(int(i) for i in places) for _, places in rounds]
        if readable
        else None,
        "calls of evaluate": sorted(calls, key=lambda call: (call[1], call[0])),
        "place of the best": place_of(best, configurations),
        "configurations are left in their order": order == [id(c) for c in configurations],
    }


def form_of(rounds):
    """What the entries of the list of rounds are, as text."""
    for entry in rounds:
        if not isinstance(entry, (tuple, list)) or len(entry) != 2:
            return f"a {type(entry).__name__}"
        budget, places = entry
        if isinstance(budget, (tuple, list)) or not isinstance(places, (tuple, list, set, range)):
            return f"a pair of a {type(budget).__name__} and a {type(places).__name__}"
        strange = [type(i).__name__ for i in places if isinstance(i, (dict, tuple, list, str))]
        if strange:
            return f"a pair of a budget and a list with a {strange[0]} in it"
    return "a pair of a budget and places"


def place_of(best, configurations):
    if not isinstance(best, dict):
        return f"not a configuration, but a {type(best).__name__}"
    same = [i for i, c in enumerate(configurations) if c is best]
    return (same or [i for i, c in enumerate(configurations) if c == best] or [-1])[0]


def race(count, min_budget, *, nans=0, ties=False, rising=False, crossing=False, **options):
    def draw(make):
        floors = make.uniform(count, low=-0.8, high=0.8).tolist()
        slopes = make.uniform(count, low=0.2, high=1.5).tolist()
        if rising:  # the losses rise with the budget, most of all that which is best at first
            floors = make.uniform(count, low=0.5, high=1.2).tolist()
            slopes = make.uniform(count, low=-0.4, high=-0.1).tolist()
            blender = int(make.integers(0, count, 1).item())
            floors[blender], slopes[blender] = 1.9, -1.85 * min_budget
        if crossing:  # what is best at first is worst from the second round on, by less
            pace = sorted(make.uniform(count, low=0.1, high=0.9).tolist())
            shuffled = make.permutation(count).tolist()
            slopes = [3 * min_budget * pace[i] for i in shuffled]
            floors = [-2 * pace[i] for i in shuffled]
        if ties:
            floors = [floors[i % 3] for i in range(count)]
            slopes = [slopes[0]] * count
        for i in make.permutation(count).tolist()[:nans]:
            floors[i] = NAN
        return {"floors": floors, "slopes": slopes, "min_budget": min_budget, **options}

    return draw


EVALUATED = "losses = {i: evaluate(configurations[i], budget) for i in left}"
RANKED = "ranked = sorted(left, key=lambda i: (math.isnan(losses[i]), losses[i]))"
KEPT = "left = sorted(ranked[: max(1, len(left) // eta)])"

successive_halving = Exercise(
    "successive_halving",
    oracle=halving_by_recursion,
    mistakes=[
        *slips(RANKED, """
            NaN wherever sorting puts it
                ranked = sorted(left, key=lambda i: losses[i])
            Every comparison with NaN is False, so that sorting leaves it, and its neighbours, in
            no order at all. Give it a place yourself, behind all numbers.

            later ones first, NaN too
                ranks = {i: 0.0 if math.isnan(loss) else loss for i, loss in losses.items()}
                        ranked = sorted(left, key=lambda i: (math.isnan(losses[i]), ranks[i], -i))
            Of equal losses that of the earlier configuration is the better; of NaN, too.

            evaluated anew for ranking
                anew = {i: evaluate(configurations[i], budget) for i in left}
                        ranked = sorted(left, key=lambda i: (math.isnan(losses[i]), anew[i]))
            evaluate is expensive: call it once for each configuration and round, and keep what it
            returns.
        """),
        Mistake(
            "configurations for places",
            "rounds.append((budget, left))",
            "rounds.append((budget, [configurations[i] for i in left]))",
            "A round lists the *places* of the configurations that it evaluated, since two of them "
            "may be equal; yours lists the configurations.",
        ),
        Mistake(
            "a dict for each round",
            "rounds.append((budget, left))",
            'rounds.append({"budget": budget, "places": left})',
            "Each round is a pair, the budget and the places, without names.",
        ),
        Mistake(
            "rounds that share a list",
            "left = sorted(ranked",
            "left[:] = sorted(ranked",
            "All rounds hold one and the same list, which you go on changing: store a copy.",
        ),
        Mistake.edits_of(
            "losses of all rounds added up",
            [
                ("rounds: list[tuple[int, list[int]]] = []", "rounds, totals = [], {}"),
                (
                    RANKED,
                    "totals = {i: losses[i] + totals.get(i, 0.0) for i in left}\n        "
                    + RANKED.replace("losses", "totals"),
                ),
            ],
            "You add up the losses of all rounds. What counts is the loss of this round alone, "
            "with this budget.",
        ),
        *slips(EVALUATED, """
            equal configurations evaluated once
                cache = {}
                        for i in left:
                            key = str(configurations[i])
                            cache[key] = cache.get(key) or evaluate(configurations[i], budget)
                        losses = {i: cache[str(configurations[i])] for i in left}
            Two configurations may be equal, and each is evaluated: keep the losses by place, not by
            configuration.

            only what is added to the budget
                more = budget if budget == min_budget else budget - budget // eta
                        losses = {i: evaluate(configurations[i], more) for i in left}
            evaluate gets the whole budget of the round, not what it has more than the one before.
        """),
        *slips("budget *= eta", """
            budget by the configurations left
                budget = min_budget * len(configurations) // len(left)
            The budget is eta times as much in each round, whatever was lost to rounding.

            a fractional budget
                budget = budget * float(eta)
            A budget is a whole number, which evaluate may count with: yours has become a float.
        """),
        Mistake(
            "a fractional budget from the start",
            "left, budget = list(range(len(configurations))), min_budget",
            "left, budget = list(range(len(configurations))), float(min_budget)",
            "A budget is a whole number, which evaluate may count with: yours has become a float.",
        ),
        Mistake(
            "another default for eta",
            "eta: int = 3",
            "eta: int = 2",
            "The stub's signature gives eta another default than yours.",
        ),
        Mistake(
            "configurations sorted",
            "left, budget = list(range(len(configurations))), min_budget",
            "configurations.sort(key=str)\n"
            "    left, budget = list(range(len(configurations))), min_budget",
            "You sort the caller's configurations: places are those in the list as it was given.",
        ),
        *slips(KEPT, """
            worst kept
                left = sorted(ranked[-max(1, len(left) // eta) :])
            Those with the smallest losses go on.

            rounded up
                left = sorted(ranked[: -(-len(left) // eta)])
            The number that goes on is rounded down.

            rounded to the nearest
                left = sorted(ranked[: max(1, round(len(left) / eta))])
            The number that goes on is rounded down, not to the nearest.

            always halved
                left = sorted(ranked[: max(1, len(left) // 2)])
            It is halving by eta: one in eta goes on.

            eta dropped
                left = sorted(ranked[: max(1, min(len(left) - eta, len(left) - 1))])
            One in eta goes on, whatever eta; it is not that eta of them drop out.

            all but one in eta
                left = sorted(ranked[: max(1, len(left) - max(1, len(left) // eta))])
            One in eta goes on, not one in eta drops out.

            the first ones kept
                left = left[: max(1, len(left) // eta)]
            Those with the smallest losses go on, not those that stand first.

            winner at once
                left = ranked[:1]
            The number goes down by eta in each round, not to one at once.
        """),
        *slips("budget *= eta", """
            same budget again
                budget *= 1
            Those that go on get eta times the budget.

            budget added
                budget += min_budget
            The budget is multiplied by eta in each round.

            budget doubled
                budget *= 2
            The budget grows by the factor eta, as the number of configurations shrinks by it.

            eta added
                budget += eta
            The budget is multiplied by eta, not raised by it.

            budget squared
                budget *= budget if budget > 1 else eta
            The budget is multiplied by eta in each round.
        """),
        *slips(EVALUATED, """
            always the smallest budget
                losses = {i: evaluate(configurations[i], min_budget) for i in left}
            Each round evaluates with that round's budget.

            everyone evaluated again
                losses = {i: evaluate(c, budget) for i, c in enumerate(configurations)}
            Only those that are left are evaluated: the others are what is saved.

            best loss of all rounds
                seen = {} if budget == min_budget else seen
                        losses = {i: evaluate(configurations[i], budget) for i in left}
                        losses = {i: min(losses[i], seen.get(i, math.inf)) for i in left}
                        seen |= losses
            Losses of different budgets cannot be compared: each round is judged by its own.

            budget of the next round
                losses = {i: evaluate(configurations[i], budget * eta) for i in left}
            The first round has min_budget, and each round the budget that it notes down.

            evaluated twice
                losses = {i: evaluate(configurations[i], budget) for i in left}
                        losses = {i: evaluate(configurations[i], budget) for i in left}
            evaluate is expensive: once for each configuration and round.
        """),
        *slips(RANKED, """
            largest loss first
                ranked = sorted(left, key=lambda i: (math.isnan(losses[i]), -losses[i]))
            These are losses: the smallest is the best.

            NaN first
                ranked = sorted(left, key=lambda i: (not math.isnan(losses[i]), losses[i]))
            A NaN is worse than any number: training has failed.

            NaN as zero
                ranked = sorted(left, key=lambda i: 0.0 if math.isnan(losses[i]) else losses[i])
            A NaN is worse than any number: training has failed.

            ties to the later one
                ranked = sorted(left, key=lambda i: (math.isnan(losses[i]), losses[i], -i))
            Of equal losses that of the earlier configuration is the better.
        """),
        *slips("return configurations[left[0]], rounds", """
            place for the configuration
                return left[0], rounds
            The configuration itself is returned, not its place.

            results swapped
                return rounds, configurations[left[0]]
            The best configuration is returned first, the rounds second.

            loss for the configuration
                return losses[left[0]], rounds
            The configuration itself is returned, not its loss.

            last round not noted
                return configurations[left[0]], rounds[:-1]
            The round that evaluates a single configuration is a round, too.

            rounds from the last
                return configurations[left[0]], rounds[::-1]
            The rounds are listed from the first to the last.
        """),
        *slips("rounds.append((budget, left))", """
            counts for places
                rounds.append((budget, [len(left)]))
            Each round notes down which configurations it evaluated, by their places.

            places first
                rounds.append((left, budget))
            A round is its budget and the places, in this order.

            survivors noted
                order = sorted(left, key=lambda i: (math.isnan(losses[i]), losses[i]))
                        rounds.append((budget, sorted(order[: max(1, len(left) // eta)])))
            A round notes down whom it evaluated, not who goes on.

            places within the round
                rounds.append((budget, list(range(len(left)))))
            The places are those in configurations, in every round.
        """),
        *written("""
            last one not evaluated
                def successive_halving(evaluate, configurations, min_budget, eta=3):
                    left, budget, rounds = list(range(len(configurations))), min_budget, []
                    while len(left) > 1:
                        losses = {i: evaluate(configurations[i], budget) for i in left}
                        rounds.append((budget, left))
                        ranked = sorted(left, key=lambda i: (math.isnan(losses[i]), losses[i]))
                        left = sorted(ranked[: max(1, len(left) // eta)])
                        budget *= eta
                    return configurations[left[0]], rounds
            The last round evaluates the winner, alone and with the largest budget.

            nobody left
                def successive_halving(evaluate, configurations, min_budget, eta=3):
                    left, budget, rounds, best = list(range(len(configurations))), min_budget, [], 0
                    while left:
                        losses = {i: evaluate(configurations[i], budget) for i in left}
                        rounds.append((budget, left))
                        ranked = sorted(left, key=lambda i: (math.isnan(losses[i]), losses[i]))
                        best = ranked[0]
                        left = sorted(ranked[: len(left) // eta])
                        budget *= eta
                    return configurations[best], rounds
            Where k / eta is rounded down to 0, one configuration goes on all the same.

            places by comparison
                def successive_halving(evaluate, configurations, min_budget, eta=3):
                    left, budget, rounds = list(configurations), min_budget, []
                    while True:
                        scored = [(evaluate(c, budget), c) for c in left]
                        rounds.append((budget, [configurations.index(c) for c in left]))
                        if len(left) == 1:
                            return left[0], rounds
                        scored.sort(key=lambda pair: (math.isnan(pair[0]), pair[0]))
                        kept = {id(c) for _, c in scored[: max(1, len(left) // eta)]}
                        left = [c for c in left if id(c) in kept]
                        budget *= eta
            index() finds the first of several equal configurations: carry the places along.

            best of all evaluations
                def successive_halving(evaluate, configurations, min_budget, eta=3):
                    left, budget, rounds = list(range(len(configurations))), min_budget, []
                    best = (math.inf, 0)
                    while True:
                        losses = {i: evaluate(configurations[i], budget) for i in left}
                        best = min([best] + [(losses[i], i) for i in left
                                             if not math.isnan(losses[i])])
                        rounds.append((budget, left))
                        if len(left) == 1:
                            return configurations[best[1]], rounds
                        ranked = sorted(left, key=lambda i: (math.isnan(losses[i]), losses[i]))
                        left = sorted(ranked[: max(1, len(left) // eta)])
                        budget *= eta
            Losses of different budgets cannot be compared: the winner is the one that is left.
        """),
    ],
    variants=variants("""
        picked one by one
            def successive_halving(evaluate, configurations, min_budget, eta=3):
                def better(a, b):
                    if math.isnan(a[0]) or math.isnan(b[0]):
                        return (math.isnan(a[0]), a[1]) < (math.isnan(b[0]), b[1])
                    return a < b
                alive, budget, log = [*range(len(configurations))], min_budget, []
                while True:
                    log.append((budget, alive))
                    scored = [(float(evaluate(configurations[i], budget)), i) for i in alive]
                    if len(alive) == 1:
                        break
                    chosen = []
                    for _ in range(max(1, math.floor(len(alive) / eta))):
                        pick = scored[0]
                        for s in scored[1:]:
                            if better(s, pick):
                                pick = s
                        scored = [s for s in scored if s is not pick]
                        chosen.append(pick[1])
                    alive, budget = chosen, budget * eta
                return configurations[alive[0]], log

        a for loop over rounds
            def successive_halving(evaluate, configurations, min_budget, eta=3):
                alive, rounds = list(enumerate(configurations)), []
                for r in range(len(configurations) + 1):
                    budget = min_budget * eta**r
                    scored = []
                    for i, configuration in alive:
                        loss = evaluate(configuration, budget)
                        scored.append((math.inf if math.isnan(loss) else loss, i))
                    rounds.append((budget, [i for i, _ in alive]))
                    if len(alive) == 1:
                        break
                    chosen = {i for _, i in sorted(scored)[: max(1, len(alive) // eta)]}
                    alive = [pair for pair in alive if pair[0] in chosen]
                return alive[0][1], rounds

        with tensors
            def successive_halving(evaluate, configurations, min_budget, eta=3):
                left = torch.arange(len(configurations))
                rounds, budget = [], min_budget
                while True:
                    losses = [evaluate(configurations[i], budget) for i in left.tolist()]
                    losses = torch.tensor(losses, dtype=torch.float64).nan_to_num(nan=math.inf)
                    rounds.append([budget, left.tolist()])
                    if len(left) < 2:
                        break
                    kept = losses.argsort(stable=True)[: max(len(left) // eta, 1)]
                    left = left[kept].sort().values
                    budget = budget * eta
                return configurations[int(left[0])], rounds

        recursion on rounds
            def successive_halving(evaluate, configurations, min_budget, eta=3):
                def play(places, budget):
                    losses = []
                    for place in places:
                        losses.append((evaluate(configurations[place], budget), place))
                    if len(places) == 1:
                        return configurations[places[0]], [(budget, places)]
                    good = sorted(pair for pair in losses if not math.isnan(pair[0]))
                    order = [p for _, p in good] + [p for x, p in losses if math.isnan(x)]
                    count = len(places) // eta
                    kept = sorted(order[: count if count > 0 else 1])
                    best, later = play(kept, eta * budget)
                    return best, [(budget, places)] + later
                return play(list(range(len(configurations))), min_budget)
    """),
)  # fmt: skip


@successive_halving.test(
    points=2,
    cases=[
        Case("nine configurations, by default", played, race(9, 1)),
        Case("numbers that do not divide", played, race(23, 2, eta=4)),
        Case("halving in two", played, race(11, 3, eta=2)),
        Case("losses that rise with the budget", played, race(20, 1, eta=3, rising=True)),
        Case("curves that cross", played, race(12, 2, eta=2, crossing=True)),
        Case("fewer configurations than eta", played, race(2, 5, eta=3)),
        Case("a single configuration", played, race(1, 4)),
    ],
)
def test_successive_halving_spends_the_budget(submission, case):
    """Gives more budget to fewer configurations"""
    submission.matches_reference(case)


@successive_halving.test(
    points=0.5,
    cases=[
        Case("losses that are NaN", played, race(12, 1, nans=5, eta=2)),
        Case("nothing but NaN", played, race(4, 1, nans=4, eta=2)),
        Case("equal losses", played, race(13, 2, ties=True, eta=3)),
    ],
)
def test_successive_halving_ranks_with_care(submission, case):
    """Ranks NaN last, and the earlier of two equals first"""
    submission.matches_reference(case)
