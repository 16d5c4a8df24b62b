"""Derivatives: differences, gradient checks, gradients by hand, descent, second derivatives.

Central differences are judged with steps so large that every formula gives a value of its own,
on cubics, whose central differences are known exactly.
"""

import itertools

import torch

from autograder.spec import Case, Exercise, Mistake
from autograder.spec.tables import slips, variants, written

AUTODIFF = [
    "torch.autograd.grad",
    "torch.autograd.backward",
    "torch.autograd.functional",
    "torch.autograd.forward_ad",
    "torch.Tensor.backward",
    "torch.func",
]


def apart(make, shape, low=0.2, high=2.0):
    """Entries away from zero, of any shape, () included."""
    return make.away_from_zero(*(shape or (1,)), low=low, high=high).reshape(shape)


SIGN = "The gradients are right but for their sign."
MEAN = "The chain rule adds the examples up. If the loss is a mean, grad_s knows that already."

# ---------------------------------------------------------------- numerical_gradient


def cubic(c, w):
    """A cubic in which every entry has a slope of its own, and all depend on one another."""
    return lambda u: (c * u**3).sum() + (w * u).sum() ** 2


def slopes(impl, x, c, w, eps):
    return impl(cubic(c, w), x, eps)


def slopes_of_product(impl, x, c, w, eps):
    return impl(lambda u: (c * u**3).sum() + ((u @ w) ** 2).sum(), x, eps=eps)


def slopes_transposed(impl, x, c, w, eps):
    return impl(cubic(c, w), x.T, eps)


def slopes_by_default(impl, x, c):
    return impl(lambda u: (c * u**2).sum(), x)


def cubic_at(*shape, turned=False):
    other = shape[::-1] if turned else shape
    return lambda make: {
        "x": apart(make, shape),
        "c": apart(make, other, low=0.5),
        "w": apart(make, other, low=0.3, high=1.0),
        "eps": make.number(0.2, 0.5),
    }


def entry_by_entry(f, x, eps=1e-5):
    gradient = torch.empty_like(x, memory_format=torch.contiguous_format)
    for index in itertools.product(*(range(n) for n in x.shape)):
        above, below = x.clone(), x.clone()
        above[index] += eps
        below[index] -= eps
        gradient[index] = (f(above) - f(below)) / (2 * eps)
    return gradient


DIFFERENCE = "(f(x + step) - f(x - step)) / (2 * eps)"

numerical_gradient = Exercise(
    "numerical_gradient",
    oracle=entry_by_entry,
    forbids=AUTODIFF,
    mistakes=[
        *slips(
            DIFFERENCE,
            """
            forward difference
                (f(x + step) - f(x)) / eps
            This is a one-sided difference: its error shrinks with eps, that of the central one
            with the square of eps. Move the entry in both directions.

            backward difference
                (f(x) - f(x - step)) / eps
            This is a one-sided difference: its error shrinks with eps, that of the central one
            with the square of eps. Move the entry in both directions.

            divided by one step
                (f(x + step) - f(x - step)) / eps
            The two points are two steps apart: divide by the whole distance.

            not divided
                f(x + step) - f(x - step)
            A slope is a rise over a run: divide by the distance of the two points.

            half a step in each direction
                (f(x + step / 2) - f(x - step / 2)) / eps
            The entry moves by a whole eps in either direction, not by half of it.

            sign turned
                (f(x - step) - f(x + step)) / (2 * eps)
            The numbers are right but for their sign: which of the two comes first?

            precedence of / and *
                (f(x + step) - f(x - step)) / 2 * eps
            a / 2 * eps divides by 2 and then multiplies by eps: put the run in brackets.

            one-sided value over two steps
                (f(x + step) - f(x)) / (2 * eps)
            The second point is one step below x, not x itself.
            """,
        ),
        *slips(
            "return torch.stack(slopes).reshape(x.shape)",
            """
            returned flat
                return torch.stack(slopes)
            The gradient has one number for each entry of x, in the shape of x.

            returned in float32
                return torch.tensor([slope.item() for slope in slopes]).reshape(x.shape)
            A tensor made of Python numbers is float32, on the CPU. The gradient has the dtype and
            the device of x.
            """,
        ),
        Mistake(
            "step made on the CPU",
            "x.new_zeros(x.numel())",
            "torch.zeros(x.numel(), dtype=x.dtype)",
            "A tensor made without a device lives on the CPU: make the step like x.",
        ),
        Mistake(
            "all entries moved together",
            "step[i] = eps",
            "step[:] = eps",
            "Each slope is that of one entry: the others stay where they are while it moves.",
        ),
        *written(
            """
            entries not moved back
                def numerical_gradient(f, x, eps=1e-5):
                    slopes, step = [], x.new_zeros(x.numel())
                    for i in range(x.numel()):
                        step[i] = eps
                        moved = step.reshape(x.shape)
                        slopes.append((f(x + moved) - f(x - moved)) / (2 * eps))
                    return torch.stack(slopes).reshape(x.shape)
            The step of one entry is still there when the next one moves: start each entry from
            the original point.

            whole rows moved
                def numerical_gradient(f, x, eps=1e-5):
                    gradient = torch.zeros_like(x)
                    for i in range(len(x)):
                        step = torch.zeros_like(x)
                        step[i] = eps
                        gradient[i] = (f(x + step) - f(x - step)) / (2 * eps)
                    return gradient
            x[i] is one entry of a vector, and a whole row of a matrix: x may have any shape.

            view of a tensor that is not contiguous
                def numerical_gradient(f, x, eps=1e-5):
                    moved, gradient = x.clone(), torch.zeros_like(x)
                    for i in range(x.numel()):
                        here = x.reshape(-1)[i].clone()
                        moved.view(-1)[i] = here + eps
                        above = f(moved)
                        moved.view(-1)[i] = here - eps
                        gradient.view(-1)[i] = (above - f(moved)) / (2 * eps)
                        moved.view(-1)[i] = here
                    return gradient
            view(-1) needs a contiguous tensor, and a clone or zeros_like of a transposed one is
            not.

            flatten trusted to share memory
                def numerical_gradient(f, x, eps=1e-5):
                    flat, slopes = x.flatten(), []
                    for i in range(x.numel()):
                        here = flat[i].clone()
                        flat[i] = here + eps
                        above = f(x)
                        flat[i] = here - eps
                        slopes.append((above - f(x)) / (2 * eps))
                        flat[i] = here
                    return torch.stack(slopes).reshape(x.shape)
            flatten shares memory with a contiguous tensor and copies any other: then moving the
            flat one does not move x at all.

            x left nudged
                def numerical_gradient(f, x, eps=1e-5):
                    gradient = torch.zeros(x.shape, dtype=x.dtype, device=x.device)
                    for i in range(x.numel()):
                        index = [j.item() for j in torch.unravel_index(torch.tensor(i), x.shape)]
                        x[tuple(index)] += eps
                        above = f(x)
                        x[tuple(index)] -= 2 * eps
                        gradient[tuple(index)] = (above - f(x)) / (2 * eps)
                    return gradient
            x has to come out as it went in: put each entry back, or move a copy.
            """,
        ),
        *written(
            """
            eps ignored
                def numerical_gradient(f, x, eps=1e-5):
                    slopes = []
                    for i in range(x.numel()):
                        step = x.new_zeros(x.numel())
                        step[i] = 1e-5
                        step = step.reshape(x.shape)
                        slopes.append((f(x + step) - f(x - step)) / 2e-5)
                    return torch.stack(slopes).reshape(x.shape)
            The step is the caller's to choose: yours is the same whatever eps is.

            step scaled by the entry
                def numerical_gradient(f, x, eps=1e-5):
                    slopes = []
                    for i in range(x.numel()):
                        step = x.new_zeros(x.numel())
                        step[i] = eps * x.flatten()[i].abs().clamp(min=1.0)
                        here = step[i]
                        step = step.reshape(x.shape)
                        slopes.append((f(x + step) - f(x - step)) / (2 * here))
                    return torch.stack(slopes).reshape(x.shape)
            The step is eps itself, whatever the size of the entry that moves.

            a formula of four points
                def numerical_gradient(f, x, eps=1e-5):
                    slopes = []
                    for i in range(x.numel()):
                        step = x.new_zeros(x.numel())
                        step[i] = eps
                        step = step.reshape(x.shape)
                        near, far = f(x + step) - f(x - step), f(x + 2 * step) - f(x - 2 * step)
                        slopes.append((8 * near - far) / (12 * eps))
                    return torch.stack(slopes).reshape(x.shape)
            This is a finer formula, with points two steps away. Asked for is the difference of the
            two
            values one step away.

            entry left below
                def numerical_gradient(f, x, eps=1e-5):
                    flat, slopes = x.flatten().clone(), []
                    for i in range(x.numel()):
                        flat[i] += eps
                        above = f(flat.reshape(x.shape))
                        flat[i] -= 2 * eps
                        slopes.append((above - f(flat.reshape(x.shape))) / (2 * eps))
                    return torch.stack(slopes).reshape(x.shape)
            An entry that has been measured stays one step below: put it back before the next one
            moves.

            f given a flat tensor
                def numerical_gradient(f, x, eps=1e-5):
                    flat, slopes = x.flatten(), []
                    for i in range(x.numel()):
                        step = torch.zeros_like(flat)
                        step[i] = eps
                        slopes.append((f(flat + step) - f(flat - step)) / (2 * eps))
                    return torch.stack(slopes).reshape(x.shape)
            f expects a tensor of the shape of x, and is given a flat one.

            vectors and matrices only
                def numerical_gradient(f, x, eps=1e-5):
                    slopes = torch.zeros_like(x)
                    for i in range(x.shape[0]):
                        for j in range(x.shape[1]) if x.ndim > 1 else [...]:
                            step = torch.zeros_like(x)
                            step[i, j] = eps
                            slopes[i, j] = (f(x + step) - f(x - step)) / (2 * eps)
                    return slopes
            x may have any shape: no dimension at all, or more than two. Count the entries, not the
            rows.
            """,
        ),
    ],
    variants=variants(
        """
        one copy, moved and put back
            def numerical_gradient(f, x, eps=1e-5):
                flat = x.flatten().clone()
                gradient = torch.empty_like(flat)
                for i in range(len(flat)):
                    here = flat[i].clone()
                    flat[i] = here + eps
                    above = f(flat.reshape(x.shape))
                    flat[i] = here - eps
                    below = f(flat.reshape(x.shape))
                    flat[i] = here
                    gradient[i] = (above - below) / (2 * eps)
                return gradient.reshape(x.shape)

        rows of an identity
            def numerical_gradient(f, x, eps=1e-5):
                steps = eps * torch.eye(x.numel(), dtype=x.dtype, device=x.device)
                steps = steps.reshape(-1, *x.shape)
                return torch.stack([f(x + s) / 2 / eps - f(x - s) / 2 / eps for s in steps]).view(
                    x.shape
                )

        the mean of the two one-sided differences
            def numerical_gradient(f, x, eps=1e-5):
                slopes, middle = torch.zeros(x.shape, dtype=x.dtype, device=x.device), f(x)
                for index in torch.cartesian_prod(*map(torch.arange, x.shape)) if x.ndim else [()]:
                    index = tuple(torch.atleast_1d(index).tolist()) if x.ndim else ()
                    step = torch.zeros_like(slopes)
                    step[index] = eps
                    slopes[index] = ((f(x + step) - middle) + (middle - f(x - step))) / eps / 2
                return slopes
        """
    ),
)


@numerical_gradient.test(
    points=2,
    cases=[
        Case("a vector", slopes, cubic_at(5)),
        Case("a matrix", slopes, cubic_at(3, 4)),
        Case("three dimensions", slopes, cubic_at(2, 3, 2)),
        Case(
            "a function that needs the shape",
            slopes_of_product,
            lambda make: {**cubic_at(2, 3)(make), "w": make.normal(3, 4)},
        ),
    ],
)
def test_nudges_every_entry(submission, case):
    """Estimates the slope of every entry by central differences"""
    submission.matches_reference(case)


@numerical_gradient.test(
    points=1.5,
    cases=[
        Case("one entry", slopes, cubic_at(1)),
        Case("a number, of shape ()", slopes, cubic_at()),
        Case("a transposed matrix", slopes_transposed, cubic_at(4, 3, turned=True)),
        Case(
            "with its own eps",
            slopes_by_default,
            lambda make: {"x": make.away_from_zero(3), "c": make.away_from_zero(3)},
            dtypes=(torch.float64,),
            loosen=1e4,
        ),
    ],
)
def test_takes_any_shape(submission, case):
    """Takes any shape and any memory layout, and has a default step"""
    submission.matches_reference(case)


@numerical_gradient.test(points=0.5, cases=[Case("a matrix", slopes, cubic_at(2, 3))])
def test_numerical_gradient_on_device(submission, case):
    """Works on whichever device its input is on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- relative_error


def error_of(impl, a, b):
    return impl(a, b)


def error_with_floor(impl, a, b, floor):
    return impl(a, b, floor=floor)


def near(*shape):
    """Two gradients that differ by up to a half, signs alike; every entry's error is another."""

    def inputs(make):
        a = apart(make, shape)
        return {"a": a, "b": a * (1 + apart(make, shape, low=0.1, high=0.5))}

    return inputs


def worst_is_small(make):
    """The largest difference and the largest relative difference at different entries."""
    a = make.uniform(6, low=50.0, high=90.0)
    b = a + make.uniform(6, low=2.0, high=5.0)
    a[1], b[1] = make.number(0.01, 0.02), make.number(0.03, 0.05)
    return {"a": a, "b": b}


def with_zeros(make):
    inputs = near(7)(make)
    inputs["a"][2] = inputs["b"][2] = inputs["b"][4] = 0.0
    return inputs


def larger_first(make):
    """The entry that is furthest off relatively is larger in a, and negative."""
    b = make.uniform(5, low=-2.0, high=-1.0)
    a = b * (1 + make.uniform(5, low=0.1, high=0.2))
    a[3] = b[3] * make.number(1.8, 2.5)
    return {"a": a, "b": b}


def opposite(make):
    return {"a": make.uniform(4, low=0.5, high=2.0), "b": -make.uniform(4, low=0.5, high=2.0)}


def relative_error_in_python(a, b, floor=1e-8):
    one, other = a.reshape(-1), b.reshape(-1)
    worst = torch.zeros_like(one[0])
    for p, q in zip(one, other, strict=True):
        size = torch.maximum(torch.hypot(p, p * 0) + torch.hypot(q, q * 0), p * 0 + floor)
        worst = torch.maximum(worst, torch.maximum(p - q, q - p) / size)
    return worst


SIZE = "(a.abs() + b.abs()).clamp(min=floor)"
RATIO = "return ((a - b).abs() / size).max()"

relative_error = Exercise(
    "relative_error",
    oracle=relative_error_in_python,
    mistakes=[
        *slips(
            RATIO,
            """
            differences keep their sign
                return ((a - b) / size).max()
            An entry that is too small is as wrong as one that is too large: take absolute values
            of the differences.

            mean over the entries
                return ((a - b).abs() / size).mean()
            A mean hides one wrong entry among many right ones: take the largest.

            smallest entry's error
                return ((a - b).abs() / size).min()
            The worst entry counts, and yours is the best one.

            sum over the entries
                return ((a - b).abs() / size).sum()
            The errors are not added up: the largest of them counts.

            largest difference over largest size
                return (a - b).abs().max() / size.max()
            Divide each entry by its own size before looking for the largest.

            absolute error
                return (a - b).abs().max()
            This is the absolute error: divide each entry's difference by its size.

            one error for each entry
                return (a - b).abs() / size
            The result is one number, the largest of the entries' errors.

            largest over the first dimension
                return ((a - b).abs() / size).max(dim=0).values
            max over one dimension leaves the others behind: take it over every entry.

            ratio of two norms
                return (a - b).norm() / (a.norm() + b.norm()).clamp(min=floor)
            A ratio of norms is another measure: small entries hide behind large ones in it.

            returned as a number
                return ((a - b).abs() / size).max().item()
            Return a tensor of shape (), and not a Python number.
            """,
        ),
        *slips(
            SIZE,
            """
            size of the sum
                (a + b).abs().clamp(min=floor)
            Where the signs differ, a + b is near zero: add the two absolute values.

            larger of the two
                torch.maximum(a.abs(), b.abs()).clamp(min=floor)
            The size here is the sum of the two absolute values, not the larger one.

            mean of the two
                ((a.abs() + b.abs()) / 2).clamp(min=floor)
            The size here is the sum of the two absolute values, without a half.

            measured against a alone
                a.abs().clamp(min=floor)
            Neither gradient is known to be right: both belong into the size.

            measured against b alone
                b.abs().clamp(min=floor)
            Neither gradient is known to be right: both belong into the size.

            no floor
                a.abs() + b.abs()
            Two zeros agree perfectly, and 0/0 is NaN: mind the floor.

            floor added
                a.abs() + b.abs() + floor
            The floor takes over where the size is smaller; it is not added to it.

            floor on each of the two
                a.abs().clamp(min=floor) + b.abs().clamp(min=floor)
            The floor is for the sum of the two, not for each of them.
            """,
        ),
        *slips(
            RATIO,
            """
            squares in place of absolute values
                return ((a - b) ** 2 / (a**2 + b**2).clamp(min=floor)).max()
            Squares are another measure: take absolute values, above and below.

            largest along one axis
                return ((a - b).abs() / size).amax(dim=-1 if a.ndim else ())
            One number for the whole gradient: yours is the largest along the last axis only.

            no error below the floor
                return torch.where(size > floor, (a - b).abs() / size, 0.0).max()
            Below the floor a difference is still a difference: it is divided by the floor, not
            dropped.
            """,
        ),
        *slips(
            SIZE,
            """
            floor fixed
                (a.abs() + b.abs()).clamp(min=1e-8)
            The floor is the caller's to choose: yours is the same whatever is asked for.

            floor as a ceiling
                (a.abs() + b.abs()).clamp(max=floor)
            The floor is the least that is divided by: yours is the most.
            """,
        ),
    ],
    variants=variants(
        """
        torch.where and amax
            def relative_error(a, b, floor=1e-8):
                size = torch.abs(a) + torch.abs(b)
                size = torch.where(size < floor, torch.full_like(size, floor), size)
                return torch.amax(torch.abs(b - a) / size)

        maximum with a tensor, flattened
            def relative_error(a, b, floor=1e-8):
                a, b = a.flatten(), b.flatten()
                least = torch.tensor(floor, dtype=a.dtype, device=a.device)
                return torch.max((a - b).abs() / torch.maximum(a.abs() + b.abs(), least), dim=0)[0]

        squares and roots
            def relative_error(a, b, floor=1e-8):
                off = (a - b).square().sqrt()
                return (off / (a.square().sqrt() + b.square().sqrt()).clamp_min(floor)).max()
        """
    ),
)


@relative_error.test(
    points=1,
    cases=[
        Case("vectors", error_of, near(6)),
        Case("matrices", error_of, near(3, 4)),
        Case("one entry", error_of, near(1)),
        Case("of shape ()", error_of, near()),
    ],
)
def test_measures_the_worst_entry(submission, case):
    """Measures the worst entry"""
    submission.matches_reference(case)


@relative_error.test(
    points=1,
    cases=[
        Case("a small entry far off among large ones", error_of, worst_is_small),
        Case("an entry that is too large, and negative", error_of, larger_first),
        Case("opposite signs", error_of, opposite),
        Case("zeros in both, and in one", error_of, with_zeros),
        Case(
            "zeros only", error_of, lambda make: {"a": 0 * make.normal(3), "b": 0 * make.normal(3)}
        ),
        Case(
            "a floor above the size of some entries",
            error_with_floor,
            lambda make: {
                "a": make.away_from_zero(5, low=0.05, high=0.2),
                "b": make.away_from_zero(5, low=0.05, high=0.2),
                "floor": make.number(0.6, 0.9),
            },
        ),
        Case(
            "a floor below the size of every entry",
            error_with_floor,
            lambda make: {**near(4)(make), "floor": make.number(0.2, 0.3)},
        ),
    ],
)
def test_divides_by_the_size(submission, case):
    """Divides each difference by the size of its own entry, and never by less than the floor"""
    submission.matches_reference(case)


@relative_error.test(points=0.5, cases=[Case("matrices", error_with_floor, lambda make: {
    **near(2, 3)(make), "floor": 0.1})])  # fmt: skip
def test_relative_error_on_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- gradient_check


def checked(impl, params, off, X, eps):
    """A loss that is cubic in each parameter, and gradients that are off by a known share."""

    def loss(p):
        return ((X @ p["W"] + p["bias"]) ** 3).sum() * p["scale"] ** 3

    leaves = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
    right = torch.autograd.grad(loss(leaves), list(leaves.values()))
    grads = {name: g * off[name] for name, g in zip(leaves, right, strict=True)}
    grads = {name: grads[name] for name in reversed(list(grads))}
    given = list(grads)
    errors = impl(loss, params, grads, eps)
    return {"the errors": errors, "the names in grads afterwards": given == list(grads)}


def alike(impl, params, off, eps):
    """Parameters of one shape, gradients in the same order."""

    def loss(p):
        return (p["first"] ** 3 * p["second"]).sum() + (p["second"] ** 3).sum() + 0 * p["first"][0]

    leaves = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
    right = torch.autograd.grad(loss(leaves), list(leaves.values()))
    return impl(loss, params, {n: g * off[n] for n, g in zip(leaves, right, strict=True)}, eps)


def network(make):
    shapes = {"W": (3, 2), "bias": (2,), "scale": ()}
    return {
        "params": {n: apart(make, s, low=0.5, high=1.5) for n, s in shapes.items()},
        "off": {n: 1 + apart(make, s, low=0.1, high=0.4) for n, s in shapes.items()},
        "X": make.normal(4, 3),
        "eps": make.number(0.3, 0.5),
    }


def pair(make):
    names = ("first", "second")
    return {
        "params": {n: make.uniform(3, low=0.5, high=1.5) for n in names},
        "off": {n: 1 + make.away_from_zero(3, low=0.1, high=0.4) for n in names},
        "eps": make.number(0.2, 0.4),
    }


def check_by_hand(f, params, grads, eps=1e-5):
    found = {}
    for name in params:
        worst = torch.zeros((), dtype=params[name].dtype, device=params[name].device)
        for index in itertools.product(*(range(n) for n in params[name].shape)):
            values = []
            for side in (eps, -eps):
                moved = {n: p.clone() for n, p in params.items()}
                moved[name][index] += side
                values.append(f(moved))
            slope, given = (values[0] - values[1]) / (2 * eps), grads[name][index]
            size = (slope.abs() + given.abs()).clamp(min=1e-8)
            worst = torch.maximum(worst, (slope - given).abs() / size)
        found[name] = worst
    return found


ERRORS = "errors[name] = relative_error(numerical_gradient(loss, value, eps), grads[name])"

gradient_check = Exercise(
    "gradient_check",
    oracle=check_by_hand,
    forbids=AUTODIFF,
    mistakes=[
        *slips(
            ERRORS,
            """
            eps not passed on
                errors[name] = relative_error(numerical_gradient(loss, value), grads[name])
            The differences take the step that was asked for: pass eps on.

            absolute error
                errors[name] = (numerical_gradient(loss, value, eps) - grads[name]).abs().max()
            Each parameter's error is the relative one.

            returned as numbers
                numeric = numerical_gradient(loss, value, eps)
                        errors[name] = relative_error(numeric, grads[name]).item()
            Each error is a tensor of shape (), and not a Python number.

            the gradients themselves
                errors[name] = numerical_gradient(loss, value, eps)
            What is asked for is how far the two gradients are apart, not one of them.

            verdicts in place of errors
                numeric = numerical_gradient(loss, value, eps)
                        errors[name] = relative_error(numeric, grads[name]) < 1e-5
            Return the errors; whoever calls decides how small is small enough.

            ratio of norms
                n = numerical_gradient(loss, value, eps)
                        errors[name] = (n - grads[name]).norm() / (n.norm() + grads[name].norm())
            A ratio of norms lets small entries hide: use the relative error of this lesson.

            step passed as the floor
                numeric = numerical_gradient(loss, value, eps)
                        errors[name] = relative_error(numeric, grads[name], eps)
            eps is the step of the differences; the floor of the relative error is another number.
            """,
        ),
        *slips(
            "return errors",
            """
            one error for all
                return torch.stack(list(errors.values())).max()
            Return one error for each parameter, by name: which one is wrong is the point.

            a list without names
                return list(errors.values())
            Return a dict, with the parameters' names.

            only the last parameter
                return {name: errors[name]}
            Every parameter has an error: is the result built once, before the loop?
            """,
        ),
        Mistake(
            "the other parameters missing",
            "{**params, name: moved}",
            "{name: moved}",
            "f needs all the names: hand it the others too, unmoved.",
        ),
        Mistake(
            "f handed the unmoved parameters",
            "{**params, name: moved}",
            "params",
            "The loss never sees the moved value, so all differences are zero.",
        ),
        *written(
            """
            gradients matched by position
                def gradient_check(f, params, grads, eps=1e-5):
                    errors = {}
                    for (name, value), grad in zip(params.items(), grads.values()):
                        numeric = numerical_gradient(
                            lambda moved: f({**params, name: moved}), value, eps
                        )
                        errors[name] = relative_error(numeric, grad)
                    return errors
            The names of grads may come in any order: look each gradient up by its name.

            params changed
                def gradient_check(f, params, grads, eps=1e-5):
                    errors = {}
                    for name, value in list(params.items()):
                        def loss(moved):
                            params[name] = moved
                            return f(params)
                        errors[name] = relative_error(
                            numerical_gradient(loss, value, eps), grads[name]
                        )
                    return errors
            The last nudge stays in the dict, and spoils the parameters that follow. Give f a dict
            of its own.

            name looked up too late
                def gradient_check(f, params, grads, eps=1e-5):
                    losses = []
                    for name in params:
                        losses.append(lambda moved: f({**params, name: moved}))
                    return {
                        key: relative_error(numerical_gradient(loss, params[key], eps), grads[key])
                        for key, loss in zip(params, losses)
                    }
            A function made in a loop looks the loop's variable up when it is called, and then it
            is the last one. Call it within the loop, or bind the name.
            """,
        ),
        Mistake(
            "measured at the gradient",
            "numerical_gradient(loss, value, eps)",
            "numerical_gradient(loss, grads[name], eps)",
            "The slopes are measured at the parameters; yours are measured where grads points.",
        ),
        *written(
            """
            last move kept in the copy
                def gradient_check(f, params, grads, eps=1e-5):
                    errors, trial = {}, dict(params)
                    for name in params:
                        def loss(moved):
                            trial[name] = moved
                            return f(trial)
                        errors[name] = relative_error(
                            numerical_gradient(loss, params[name], eps), grads[name]
                        )
                    return errors
            The last nudge of one parameter stays in your dict while the next is measured: put the
            parameter
            back, or begin each from a fresh copy.
            """,
        ),
    ],
    variants=variants(
        """
        a comprehension
            def gradient_check(f, params, grads, eps=1e-5):
                return {
                    name: relative_error(
                        grads[name],
                        numerical_gradient(lambda p, n=name: f(dict(params, **{n: p})), value, eps),
                    )
                    for name, value in params.items()
                }

        a dict of copies
            def gradient_check(f, params, grads, eps=1e-5):
                errors = dict()
                for name in grads:
                    others = {key: value.clone() for key, value in params.items()}
                    def loss(moved):
                        others[name] = moved
                        return f(others)
                    estimate = numerical_gradient(loss, params[name], eps=eps)
                    errors[name] = relative_error(estimate, grads[name])
                return errors

        without the earlier functions
            def gradient_check(f, params, grads, eps=1e-5):
                errors = {}
                for name, value in params.items():
                    numeric = value.new_zeros(value.numel())
                    for i in range(value.numel()):
                        step = torch.zeros_like(numeric)
                        step[i] = eps
                        step = step.reshape(value.shape)
                        up, down = params.copy(), params.copy()
                        up[name], down[name] = value + step, value - step
                        numeric[i] = (f(up) - f(down)) / (2 * eps)
                    given = grads[name].flatten()
                    size = (numeric.abs() + given.abs()).clamp(min=1e-8)
                    errors[name] = ((numeric - given).abs() / size).max()
                return errors
        """
    ),
)


@gradient_check.test(
    points=1.5,
    cases=[
        Case("three parameters, gradients in another order", checked, network, loosen=4),
        Case("two parameters of one shape", alike, pair),
        Case(
            "gradients near zero",
            alike,
            lambda make: {
                **pair(make),
                "params": {n: make.uniform(3, low=0.05, high=0.15) for n in ("first", "second")},
            },
        ),
    ],
)
def test_checks_every_parameter(submission, case):
    """Tells the error of every parameter, by name"""
    submission.matches_reference(case)


@gradient_check.test(points=0.5, cases=[Case("three parameters", checked, network)])
def test_gradient_check_on_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- quadratic_gradient


def quadratic(impl, A, b, x):
    return impl(A, b, x)


def quadratic_of(n, symmetric=False):
    def inputs(make):
        A = make.normal(n, n)
        return {"A": A + A.T if symmetric else A, "b": make.normal(n), "x": make.normal(n)}

    return inputs


def quadratic_by_autograd(A, b, x):
    leaf = x.detach().clone().requires_grad_()
    value = torch.einsum("i,ij,j->", leaf, A, leaf) / 2 + torch.dot(b, leaf)
    return torch.autograd.grad(value, leaf)[0]


quadratic_gradient = Exercise(
    "quadratic_gradient",
    oracle=quadratic_by_autograd,
    forbids=AUTODIFF,
    mistakes=slips(
        "return (A + A.T) @ x / 2 + b",
        """
                 A taken to be symmetric
                     return A @ x + b
                 This is right where A is symmetric only. Write xᵀAx with indices: each entry of x
                 occurs on the left and on the right.

                 A transposed alone
                     return A.T @ x + b
                 This is right where A is symmetric only. Write xᵀAx with indices: each entry of x
                 occurs on the left and on the right.

                 the half forgotten
                     return (A + A.T) @ x + b
                 f begins with ½, and its derivative keeps it.

                 half of A alone
                     return A @ x / 2 + b
                 x occurs twice in xᵀAx, so there are two terms, not one.

                 b left out
                     return (A + A.T) @ x / 2
                 The linear term has a gradient too.

                 b subtracted
                     return (A + A.T) @ x / 2 - b
                 The linear term is added in f.

                 b halved
                     return ((A + A.T) @ x + b) / 2
                 The half belongs to the first term alone.

                 b times x
                     return (A + A.T) @ x / 2 + b * x
                 bᵀx is linear in x: its slope does not depend on x.

                 the value
                     return x @ A @ x / 2 + b @ x
                 This is f itself; asked for is its gradient, with one entry for each of x.

                 entry by entry
                     return (A + A.T) * x / 2 + b
                 A times x is a matrix-vector product here.

                 A with itself
                     return (A.T @ A) @ x / 2 + b
                 The two terms of the derivative are added, not multiplied.

                 sign turned
                     return -(A + A.T) @ x / 2 - b
                 This is minus the gradient.

                 terms subtracted
                     return (A - A.T) @ x / 2 + b
                 The two terms of the derivative are added, not subtracted.

                 quadratic term lost
                     return (1 // 2) * (A + A.T) @ x + b
                 Only b is left of your gradient: 1 // 2 is 0, and so the quadratic term is gone.

                 one triangle mirrored
                     return (A.triu() + A.triu().T) @ x / 2 + b
                 A need not be symmetric: what stands below its diagonal counts too.
                 """,
    ),
    variants=variants(
        """
        x on both sides
            def quadratic_gradient(A, b, x):
                return 0.5 * (A @ x + x @ A) + b

        einsum
            def quadratic_gradient(A, b, x):
                right = torch.einsum("ij,j->i", A, x)
                left = torch.einsum("i,ij->j", x, A)
                return b + right / 2 + left / 2

        a loop
            def quadratic_gradient(A, b, x):
                gradient = b.clone()
                for i in range(len(x)):
                    gradient[i] += ((A[i] * x).sum() + (A[:, i] * x).sum()) / 2
                return gradient
        """
    ),
)


@quadratic_gradient.test(
    points=1.5,
    cases=[
        Case("a symmetric matrix", quadratic, quadratic_of(4, symmetric=True)),
        Case("a matrix that is not symmetric", quadratic, quadratic_of(5)),
        Case("one variable", quadratic, quadratic_of(1)),
    ],
)
def test_is_the_gradient(submission, case):
    """Is the gradient of the quadratic, whatever the matrix"""
    submission.matches_reference(case)


@quadratic_gradient.test(points=0.5, cases=[Case("three variables", quadratic, quadratic_of(3))])
def test_quadratic_on_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- bilinear_backward


def carried_back(impl, grad_s, x, W, y):
    grads = impl(grad_s, x, W, y)
    return dict(zip(("grad_x", "grad_W", "grad_y"), grads, strict=True))


def bilinear(batch, d_x, d_y):
    return lambda make: {
        "grad_s": make.away_from_zero(batch),
        "x": make.normal(batch, d_x),
        "W": make.normal(d_x, d_y),
        "y": make.normal(batch, d_y),
    }


def bilinear_by_autograd(grad_s, x, W, y):
    leaves = [t.detach().clone().requires_grad_() for t in (x, W, y)]
    scores = torch.einsum("ni,ij,nj->n", *leaves)
    return torch.autograd.grad(scores, leaves, grad_s)


GX, GW, GY = (
    "grad_s[:, None] * (y @ W.T)",
    "x.T @ (grad_s[:, None] * y)",
    "grad_s[:, None] * (x @ W)",
)
CHAIN = (
    "The chain rule: each example's share is multiplied by the derivative of the loss with respect "
    "to its own score. One of your gradients lacks it."
)

bilinear_backward = Exercise(
    "bilinear_backward",
    oracle=bilinear_by_autograd,
    forbids=AUTODIFF,
    mistakes=[
        Mistake("grad_s left out of grad_x", GX, "y @ W.T", CHAIN),
        Mistake("grad_s left out of grad_W", GW, "x.T @ y", CHAIN),
        Mistake("grad_s left out of grad_y", GY, "x @ W", CHAIN),
        Mistake.edits_of(
            "grad_s left out", [(GX, "y @ W.T"), (GW, "x.T @ y"), (GY, "x @ W")], CHAIN
        ),
        Mistake(
            "grad_s twice in grad_W",
            GW,
            "(grad_s[:, None] * x).T @ (grad_s[:, None] * y)",
            "Each example's share of grad_W has the factor grad_s once.",
        ),
        Mistake.edits_of(
            "grad_s added up first",
            [
                (GX, "grad_s.sum() * (y @ W.T)"),
                (GW, "grad_s.sum() * (x.T @ y)"),
                (GY, "grad_s.sum() * (x @ W)"),
            ],
            "Every example has its own derivative in grad_s: multiply before adding up.",
        ),
        Mistake("grad_W a mean", GW, GW + " / len(x)", MEAN),
        Mistake.edits_of(
            "all a mean",
            [(GX, GX + " / len(x)"), (GW, GW + " / len(x)"), (GY, GY + " / len(x)")],
            MEAN,
        ),
        Mistake(
            "grad_W transposed",
            GW,
            "(grad_s[:, None] * y).T @ x",
            "A gradient has the shape of what it belongs to: grad_W is (d_x, d_y) as W is.",
        ),
        Mistake(
            "grad_W for each example",
            GW,
            "grad_s[:, None, None] * x[:, :, None] * y[:, None, :]",
            "All the examples share W: add their shares up.",
        ),
        Mistake(
            "grad_W of the batch's means",
            GW,
            "torch.outer((grad_s[:, None] * x).sum(0), y.sum(0))",
            "The sum over the examples is over products xᵢyⱼ, not a product of sums.",
        ),
        Mistake.edits_of(
            "grad_x and grad_y swapped",
            [(GX, GY), (f"grad_y = {GY}", f"grad_y = {GX}")],
            "The slope with respect to x holds y, and that with respect to y holds x.",
        ),
        Mistake(
            "returned in another order",
            "return grad_x, grad_W, grad_y",
            "return grad_x, grad_y, grad_W",
            "The order is that of the arguments: x, W, y.",
        ),
        Mistake(
            "W in place of W transposed",
            GX,
            "grad_s[:, None] * (y @ W)",
            "The sum is over W's second index: look at which of its dimensions y fits.",
        ),
        Mistake(
            "batch summed in grad_x",
            GX,
            "(grad_s[:, None] * (y @ W.T)).sum(dim=0)",
            "Each example has its own x, so grad_x has a row for each.",
        ),
        Mistake(
            "sign turned", "return grad_x, grad_W, grad_y", "return -grad_x, -grad_W, -grad_y", SIGN
        ),
        Mistake(
            "grad_s added up first in grad_W",
            GW,
            "grad_s.sum() * (x.T @ y)",
            "Each example's product has its own factor grad_s: multiply before you add up.",
        ),
        Mistake(
            "W turned in grad_y",
            GY,
            "grad_s[:, None] * (x @ W.T)",
            "The sum is over W's first index: look at which of its dimensions x fits.",
        ),
        Mistake(
            "x in grad_x",
            GX,
            "grad_s[:, None] * x * (y @ W.T)",
            "A score is linear in x: its derivative holds W and y, and x itself is gone.",
        ),
        Mistake(
            "grad_s along the features in grad_x",
            GX,
            "grad_s * (y @ W.T)",
            "grad_s has one number for each example. Without an axis of length 1 it lines up with "
            "the "
            "features, and that even fits where there are as many.",
        ),
        Mistake(
            "grad_s along the features in grad_y",
            GY,
            "grad_s * (x @ W)",
            "grad_s has one number for each example. Without an axis of length 1 it lines up with "
            "the "
            "features, and that even fits where there are as many.",
        ),
        Mistake(
            "grad_W of the last example",
            GW,
            "grad_s[-1] * torch.outer(x[-1], y[-1])",
            "Only the last example is left in grad_W: add the examples' shares up, and let none "
            "replace "
            "another.",
        ),
    ],
    variants=variants(
        """
        einsum
            def bilinear_backward(grad_s, x, W, y):
                return (
                    torch.einsum("n,ij,nj->ni", grad_s, W, y),
                    torch.einsum("n,ni,nj->ij", grad_s, x, y),
                    torch.einsum("n,ni,ij->nj", grad_s, x, W),
                )

        a loop over the examples
            def bilinear_backward(grad_s, x, W, y):
                grad_W, rows_x, rows_y = torch.zeros_like(W), [], []
                for g, x_n, y_n in zip(grad_s, x, y):
                    rows_x.append(g * (W @ y_n))
                    rows_y.append(g * (W.T @ x_n))
                    grad_W += g * torch.outer(x_n, y_n)
                return [torch.stack(rows_x), grad_W, torch.stack(rows_y)]

        a diagonal matrix
            def bilinear_backward(grad_s, x, W, y):
                scale = torch.diag(grad_s)
                grad_x = scale @ y @ W.t()
                grad_W = x.t() @ scale @ y
                return grad_x, grad_W, (scale @ x).matmul(W)
        """
    ),
)


@bilinear_backward.test(
    points=2.5,
    cases=[
        Case("more examples than features", carried_back, bilinear(6, 3, 4)),
        Case("fewer examples than features", carried_back, bilinear(2, 5, 3)),
        Case("x and y of one size", carried_back, bilinear(5, 3, 3)),
        Case("one example", carried_back, bilinear(1, 4, 2)),
        Case("as many examples as features", carried_back, bilinear(4, 4, 4)),
    ],
)
def test_carries_the_gradient_back(submission, case):
    """Carries the scores' gradient back to x, W and y"""
    submission.matches_reference(case)


@bilinear_backward.test(points=0.5, cases=[Case("a batch", carried_back, bilinear(4, 2, 3))])
def test_bilinear_on_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- softmax_jacobian


def jacobian(impl, z):
    return impl(z)


def logits(*shape, std=1.0):
    return lambda make: {"z": make.normal(*shape, std=std)}


def certain_logits(make):
    """Rows of thousands, with a doubt left between two neighbours in each."""
    z = make.uniform(3, 5, low=-1000.0, high=-700.0)
    z[0, 2:4] = 900.0 + make.uniform(2)
    z[1, 0:2] = -100.0 + make.uniform(2)
    return {"z": z}


def jacobian_by_autograd(z):
    flat = z.reshape(-1, z.shape[-1])
    rows = [
        torch.autograd.functional.jacobian(lambda r: torch.log_softmax(r, 0).exp(), row)
        for row in flat
    ]
    return torch.stack(rows).reshape(*z.shape, z.shape[-1])


JACOBIAN = "torch.diag_embed(p) - p[..., :, None] * p[..., None, :]"

softmax_jacobian = Exercise(
    "softmax_jacobian",
    oracle=jacobian_by_autograd,
    forbids=AUTODIFF,
    mistakes=[
        *slips(
            JACOBIAN,
            """
            only the diagonal
                torch.diag_embed(p * (1 - p))
            Every logit changes every probability, since they add up to one: the matrix is full.

            one vector of slopes
                p * (1 - p)
            That is a sigmoid's derivative. K probabilities by K logits make a matrix.

            no diagonal term
                -p[..., :, None] * p[..., None, :]
            A probability depends on its own logit also through the numerator.

            plus in place of minus
                torch.diag_embed(p) + p[..., :, None] * p[..., None, :]
            Raising a logit takes from the other probabilities: look at the sign.

            sign turned
                p[..., :, None] * p[..., None, :] - torch.diag_embed(p)
            Raising a logit raises its own probability: the sign is turned.

            Jacobian of the log-softmax
                torch.eye(p.shape[-1], dtype=p.dtype, device=p.device) - p[..., None, :]
            This is the derivative of log p. That of p has the factor pᵢ too.

            identity in place of the diagonal of p
                torch.eye(p.shape[-1]).to(p) - p[..., :, None] * p[..., None, :]
            Look at the case i = j: differentiating the numerator gives back the numerator itself,
            and it is still divided by the sum.

            squares in place of products
                torch.diag_embed(p) - p[..., :, None] ** 2
            The second term pairs the probability of row i with that of column j.

            diagonal for vectors only
                torch.diag(p) - p[..., :, None] * p[..., None, :]
            torch.diag makes a matrix of a vector, and something else of a batch.

            product across the batch
                torch.diag_embed(p) - p.T @ p
            Each row of the batch has a matrix of its own: its probabilities meet those of no
            other row.

            logits in place of probabilities
                torch.diag_embed(z) - z[..., :, None] * z[..., None, :]
            The formula is in the probabilities: take the softmax first.

            diagonal doubled
                torch.diag_embed(p + p * (1 - p)) - p[..., :, None] * p[..., None, :]
            Off the diagonal your entries are right. On it everything is counted twice: work out the
            case i = j once more.
            """,
        ),
        *slips(
            "torch.softmax(z, dim=-1)",
            """
            softmax over the first dimension
                torch.softmax(z, dim=0)
            The last dimension holds the classes, the others are a batch.

            exponentials that overflow
                z.exp() / z.exp().sum(dim=-1, keepdim=True)
            Exponentials of large logits are infinite, and of very negative ones all zero.

            largest logit of the whole batch
                (z - z.max()).exp() / (z - z.max()).exp().sum(dim=-1, keepdim=True)
            Rows far below the batch's largest logit vanish: each row has its own largest.

            not divided by the sum
                (z - z.amax(dim=-1, keepdim=True)).exp()
            Probabilities add up to one: the exponentials are not yet divided by their sum.
            """,
        ),
        *slips(
            JACOBIAN,
            """
            numerators alone
                torch.diag_embed(p)
            Each logit is in every denominator too: the product of two probabilities is missing.

            only one of the two probabilities
                torch.diag_embed(p) - p[..., None, :] ** 2 * torch.ones_like(p)[..., :, None]
            Entry [i, j] holds the probabilities of i and of j: yours has one of them twice.

            diagonal set to the probability
                torch.diag_embed(p + p**2) - p[..., :, None] * p[..., None, :]
            On the diagonal both cases of the quotient rule meet: the numerator's part and the
            denominator's.
            """,
        ),
        Mistake(
            "softmax over the second dimension",
            "torch.softmax(z, dim=-1)",
            "torch.softmax(z, dim=min(1, z.ndim - 1))",
            "The last dimension holds the classes. With more than one batch dimension that is not "
            "number 1.",
        ),
        *slips(
            f"return {JACOBIAN}",
            """
            first batch dimension added up
                J = torch.diag_embed(p) - p[..., :, None] * p[..., None, :]
                    return J if z.ndim < 3 else J.sum(dim=0)
            Every row has a Jacobian of its own: nothing is added up over a batch.

            batch dimensions joined
                J = torch.diag_embed(p) - p[..., :, None] * p[..., None, :]
                    return J.flatten(0, max(0, z.ndim - 2))
            The batch's dimensions stay as they came: yours are joined into one.
            """,
        ),
    ],
    variants=variants(
        """
        p times (identity minus p)
            def softmax_jacobian(z):
                p = z.softmax(-1)
                identity = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
                return p.unsqueeze(-1) * (identity - p.unsqueeze(-2))

        einsum, and a stable softmax of one's own
            def softmax_jacobian(z):
                e = (z - z.amax(dim=-1, keepdim=True)).exp()
                p = e / e.sum(dim=-1, keepdim=True)
                return torch.diag_embed(p) - torch.einsum("...i,...j->...ij", p, p)

        loops
            def softmax_jacobian(z):
                p = torch.log_softmax(z, dim=-1).exp()
                K = z.shape[-1]
                J = p.new_zeros(*p.shape, K)
                for i in range(K):
                    for j in range(K):
                        J[..., i, j] = p[..., i] * (float(i == j) - p[..., j])
                return J
        """
    ),
)


@softmax_jacobian.test(
    points=1.5,
    cases=[
        Case("a vector", jacobian, logits(4)),
        Case("two classes", jacobian, logits(2)),
        Case("larger logits", jacobian, logits(5, std=3.0)),
    ],
)
def test_is_the_jacobian_of_a_vector(submission, case):
    """Is the Jacobian of the softmax of a vector"""
    submission.matches_reference(case)


@softmax_jacobian.test(
    points=1,
    cases=[
        Case("a batch", jacobian, logits(3, 5)),
        Case("as many rows as classes", jacobian, logits(4, 4)),
        Case("a batch with two dimensions", jacobian, logits(2, 3, 4)),
        Case("logits near a thousand", jacobian, certain_logits),
    ],
)
def test_takes_batches_and_extremes(submission, case):
    """Takes batches, and logits of any size"""
    submission.matches_reference(case)


@softmax_jacobian.test(points=0.5, cases=[Case("a batch", jacobian, logits(2, 3))])
def test_softmax_jacobian_on_device(submission, case):
    """Works on whichever device its input is on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- gradient_descent


def walk(impl, x, c, lr, steps):
    return impl(lambda u: c * u + 0.3 * u**3, x, lr, steps)


def walk_on_a_ravine(impl, x, A, lr, steps):
    return impl(lambda u: A @ u, x, lr=lr, steps=steps)


def start(*shape, steps):
    return lambda make: {
        "x": make.away_from_zero(*shape, low=0.5),
        "c": make.uniform(*shape, low=0.5, high=2.0),
        "lr": make.number(0.1, 0.3),
        "steps": steps,
    }


def at_rest(make):
    inputs = start(2, 3, steps=4)(make)
    return {**inputs, "x": 0 * inputs["x"]}


def ravine(make):
    A = make.normal(3, 3)
    return {"x": make.normal(3), "A": A @ A.T / 3, "lr": make.number(0.1, 0.2), "steps": 4}


def descent_by_sgd(gradient, x, lr, steps):
    point = torch.nn.Parameter(x.detach().clone())
    optimizer = torch.optim.SGD([point], lr=lr)
    path = torch.empty(steps + 1, *x.shape, dtype=x.dtype, device=x.device)
    path[0] = x
    for t in range(1, steps + 1):
        point.grad = gradient(point.detach())
        optimizer.step()
        path[t] = point.detach()
    return path


STEP = "path.append(path[-1] - lr * gradient(path[-1]))"
RETURN = "return torch.stack(path)"

gradient_descent = Exercise(
    "gradient_descent",
    oracle=descent_by_sgd,
    forbids=[*AUTODIFF, "torch.optim"],
    mistakes=[
        *slips(
            STEP,
            """
            uphill
                path.append(path[-1] + lr * gradient(path[-1]))
            The gradient points uphill: walk against it.

            gradient of the start
                path.append(path[-1] - lr * gradient(x))
            The gradient changes as you walk: take it at the point where you are.

            every step from the start
                path.append(x - lr * gradient(path[-1]))
            Each step begins where the last one ended.

            learning rate left out
                path.append(path[-1] - gradient(path[-1]))
            The step is lr times the gradient.

            point and not gradient
                path.append(path[-1] - lr * path[-1])
            The step goes along the gradient at the point, not along the point itself.

            gradient normalised
                path.append(path[-1] - lr * gradient(path[-1]) / gradient(path[-1]).norm())
            The gradient's length counts: where the surface is flat, the steps are short.

            sign of the gradient
                path.append(path[-1] - lr * gradient(path[-1]).sign())
            The gradient's size counts, not only its sign.

            divided by lr
                path.append(path[-1] - gradient(path[-1]) / lr)
            The learning rate multiplies the gradient.

            steps alone
                path.append(-lr * gradient(path[-1]))
            Each entry of the path is a point: where you were, plus the step.
            """,
        ),
        *slips(
            RETURN,
            """
            start left out
                return torch.stack(path[1:])
            The path begins with the start.

            end left out
                return torch.stack(path[:-1] or path)
            After the last step there is one more point: steps + 1 of them.

            end alone
                return path[-1]
            Return the whole path, not only where it ends.

            path reversed
                return torch.stack(path[::-1])
            The start comes first.

            points joined end to end
                return torch.cat([point.flatten() for point in path])
            Stack the points along a new first dimension.

            a list
                return path
            Return one tensor, with a first dimension for the points.

            stacked last
                return torch.stack(path, dim=-1)
            The points are counted by the first dimension.
            """,
        ),
        *written(
            """
            every entry the same tensor
                def gradient_descent(gradient, x, lr, steps):
                    x = x.clone()
                    path = [x]
                    for _ in range(steps):
                        x -= lr * gradient(x)
                        path.append(x)
                    return torch.stack(path)
            A list holds tensors, not copies: a point changed in place changes everywhere in the
            path.

            start changed in place
                def gradient_descent(gradient, x, lr, steps):
                    path = [x.clone()]
                    for _ in range(steps):
                        x -= lr * gradient(x)
                        path.append(x.clone())
                    return torch.stack(path)
            An argument is not what it was before the call. Move a copy of it, or a new tensor.
            """,
        ),
        *slips(
            STEP,
            """
            learning rate that decays
                path.append(path[-1] - lr / len(path) * gradient(path[-1]))
            The learning rate stays as it is: yours shrinks from step to step.

            gradient clipped
                path.append(path[-1] - lr * gradient(path[-1]).clamp(-1.0, 1.0))
            The gradient's whole length counts: yours is cut off at 1.
            """,
        ),
        *slips(
            "for _ in range(steps):",
            """
            one step too many
                for _ in range(steps + 1):
            One step too many: with the start there are steps + 1 points.

            never fewer than one step
                for _ in range(max(1, steps)):
            No step at all is a walk too: then the start is all that there is.
            """,
        ),
        *written(
            """
            momentum
                def gradient_descent(gradient, x, lr, steps):
                    path, velocity = [x], torch.zeros_like(x)
                    for _ in range(steps):
                        velocity = 0.9 * velocity + gradient(path[-1])
                        path.append(path[-1] - lr * velocity)
                    return torch.stack(path)
            This is momentum. Plain descent forgets the earlier gradients: each step takes the
            present one.

            start moved after it was kept
                def gradient_descent(gradient, x, lr, steps):
                    point = x.clone()
                    path = [point]
                    for _ in range(steps):
                        point -= lr * gradient(point)
                        path.append(point.clone())
                    return torch.stack(path)
            The path's first entry is the tensor that you move: keep a copy of it, as of the later
            ones.

            stops where the slope vanishes
                def gradient_descent(gradient, x, lr, steps):
                    path = [x]
                    for _ in range(steps):
                        slope = gradient(path[-1])
                        if slope.norm() < 1e-6:
                            break
                        path.append(path[-1] - lr * slope)
                    return torch.stack(path)
            The walk has as many points as asked for, even where it stands still: take every step.

            rows of a matrix
                def gradient_descent(gradient, x, lr, steps):
                    path = x.new_zeros(steps + 1, len(x))
                    path[0] = x
                    for t in range(steps):
                        path[t + 1] = path[t] - lr * gradient(path[t])
                    return path
            x may have any shape: give the path all of its dimensions, not only the first.
            """,
        ),
    ],
    variants=variants(
        """
        a tensor filled in
            def gradient_descent(gradient, x, lr, steps):
                path = x.new_empty((steps + 1, *x.shape))
                path[0] = x
                for t in range(steps):
                    path[t + 1] = path[t] - lr * gradient(path[t])
                return path

        a copy moved in place
            def gradient_descent(gradient, x, lr, steps):
                here = x.clone()
                path = here[None].clone()
                for _ in range(steps):
                    here.add_(gradient(here), alpha=-lr)
                    path = torch.cat([path, here[None]], dim=0)
                return path

        a generator
            def gradient_descent(gradient, x, lr, steps):
                def points(here):
                    yield here
                    for _ in range(steps):
                        here = here - gradient(here).mul(lr)
                        yield here
                return torch.stack(tuple(points(x)))
        """
    ),
)


@gradient_descent.test(
    points=1.5,
    cases=[
        Case("a vector, five steps", walk, start(3, steps=5)),
        Case("a matrix, three steps", walk, start(2, 4, steps=3)),
        Case("one step", walk, start(4, steps=1)),
        Case("no step", walk, start(3, steps=0)),
        Case("a start where the slope is zero", walk, at_rest),
        Case("a ravine", walk_on_a_ravine, ravine),
    ],
)
def test_walks_against_the_gradient(submission, case):
    """Walks against the gradient, and tells every point"""
    submission.matches_reference(case)


@gradient_descent.test(points=0.5, cases=[Case("a vector", walk, start(3, steps=2))])
def test_descent_on_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- numerical_hessian


def curved(impl, x, T, Q, eps):
    def f(u):
        return torch.einsum("ijk,i,j,k->", T, u, u, u) + u @ Q @ u + u.sum()

    return impl(f, x, eps)


def steps_taken(impl, x, eps):
    """How far from x the function is asked about, in steps."""
    moves = []

    def f(u):
        moves.append((u - x).abs().max() / eps)
        return (u.sin() * u.flip(0)).sum()

    impl(f, x, eps)
    sizes = torch.stack(moves)
    return {"largest": sizes.max(), "least": sizes[sizes > 1e-9].min()}


def steps_are_whole(outcome, _):
    """One step for each difference: two where both move one entry, unless it is done at once."""
    largest, least = float(outcome["largest"]), float(outcome["least"])
    return {
        "no point lies nearer than a step of the size asked for": least > 0.99,
        "no point lies further than two of them": 0.99 < largest < 2.01,
    }


def curved_by_default(impl, x, Q):
    return impl(lambda u: u @ Q @ u, x)


def polynomial(n):
    return lambda make: {
        "x": make.away_from_zero(n, low=0.5),
        "T": make.normal(n, n, n),
        "Q": make.normal(n, n),
        "eps": make.number(0.3, 0.6),
    }


def hessian_by_four_points(f, x, eps=1e-3):
    units = eps * torch.eye(len(x), dtype=x.dtype, device=x.device)
    H = torch.zeros(len(x), len(x), dtype=x.dtype, device=x.device)
    for i, a in enumerate(units):
        for j, b in enumerate(units):
            H[i, j] = f(x + a + b) - f(x + a - b) - f(x - a + b) + f(x - a - b)
    return H / (4 * eps * eps)


numerical_hessian = Exercise(
    "numerical_hessian",
    oracle=hessian_by_four_points,
    forbids=[*AUTODIFF, "torch.autograd"],
    mistakes=[
        Mistake(
            "inner step left at its default",
            "return numerical_gradient(f, u, eps)[i]",
            "return numerical_gradient(f, u)[i]",
            "Both differences take the step asked for. A step of 1e-5 twice drowns in rounding.",
        ),
        Mistake(
            "outer step left at its default",
            "rows.append(numerical_gradient(slope, x, eps))",
            "rows.append(numerical_gradient(slope, x))",
            "Both differences take the step asked for. A step of 1e-5 twice drowns in rounding.",
        ),
        *slips(
            "rows.append(numerical_gradient(slope, x, eps))",
            """
            halved
                rows.append(numerical_gradient(slope, x, eps) / 2)
            There is no half in the matrix of second derivatives.

            doubled
                rows.append(numerical_gradient(slope, x, eps) * 2)
            Off by a factor of two: count the steps that you divide by.
            """,
        ),
        *slips(
            "return torch.stack(rows)",
            """
            only the diagonal
                return torch.diag(torch.stack(rows).diagonal())
            The mixed derivatives are missing: the slope along i changes along j too.

            a vector of curvatures
                return torch.stack(rows).diagonal()
            There is one second derivative for each pair of entries: a matrix.

            upper triangle alone
                return torch.stack(rows).triu()
            Both orders of differentiation give an entry: the matrix is full.

            joined end to end
                return torch.cat(rows)
            Stack the rows: the result is (n, n).

            sign turned
                return -torch.stack(rows)
            The numbers are right but for their sign.
            """,
        ),
        *written(
            """
            product of the slopes
                def numerical_hessian(f, x, eps=1e-3):
                    g = numerical_gradient(f, x, eps)
                    return torch.outer(g, g)
            A product of two first derivatives is not a second derivative: differentiate the
            gradient.

            one-sided difference of gradients
                def numerical_hessian(f, x, eps=1e-3):
                    steps = eps * torch.eye(len(x), dtype=x.dtype, device=x.device)
                    g = numerical_gradient(f, x, eps)
                    rows = [numerical_gradient(f, x + s, eps) - g for s in steps]
                    return torch.stack(rows) / eps
            The outer difference is one-sided: move in both directions.

            one-sided in both
                def numerical_hessian(f, x, eps=1e-3):
                    steps = eps * torch.eye(len(x), dtype=x.dtype, device=x.device)
                    rows = [
                        torch.stack([f(x + a + b) - f(x + a) - f(x + b) + f(x) for b in steps])
                        for a in steps
                    ]
                    return torch.stack(rows) / eps**2
            These differences all lie on one side of x: make them symmetric about it.

            divided by one step only
                def numerical_hessian(f, x, eps=1e-3):
                    steps = eps * torch.eye(len(x), dtype=x.dtype, device=x.device)
                    rows = [
                        torch.stack([
                            f(x + a + b) - f(x + a - b) - f(x - a + b) + f(x - a - b)
                            for b in steps
                        ])
                        for a in steps
                    ]
                    return torch.stack(rows) / (4 * eps)
            A second difference is divided by a distance twice: once for each direction.

            row of one slope only
                def numerical_hessian(f, x, eps=1e-3):
                    total = numerical_gradient(
                        lambda u: numerical_gradient(f, u, eps).sum(), x, eps
                    )
                    return torch.diag(total)
            Summing the slopes mixes the rows up: differentiate each slope by itself.
            """,
        ),
        Mistake.edits_of(
            "eps ignored",
            [
                (
                    "return numerical_gradient(f, u, eps)[i]",
                    "return numerical_gradient(f, u, 1e-3)[i]",
                ),
                (
                    "rows.append(numerical_gradient(slope, x, eps))",
                    "rows.append(numerical_gradient(slope, x, 1e-3))",
                ),
            ],
            "The step is the caller's to choose: yours is the same whatever eps is.",
        ),
        *slips(
            "return torch.stack(rows)",
            """
            four times too large
                return 4 * torch.stack(rows)
            Each of the two differences spans two steps: four squared steps in all.

            one triangle mirrored, diagonal and all
                upper = torch.stack(rows).triu()
                    return upper + upper.T
            Mirroring the upper triangle counts the diagonal twice.
            """,
        ),
        *written(
            """
            index looked up too late
                def numerical_hessian(f, x, eps=1e-3):
                    slopes = [lambda u: numerical_gradient(f, u, eps)[i] for i in range(len(x))]
                    return torch.stack([numerical_gradient(slope, x, eps) for slope in slopes])
            A function made in a loop looks the loop's variable up when it is called, and then it
            is the
            last one: every row is the same. Call it within the loop, or bind the index.

            gradient of the slopes' sum
                def numerical_hessian(f, x, eps=1e-3):
                    return numerical_gradient(lambda u: numerical_gradient(f, u, eps).sum(), x, eps)
            Summing the slopes mixes the rows up: differentiate each slope by itself.
            """,
        ),
    ],
    variants=variants(
        """
        columns of central differences of gradients
            def numerical_hessian(f, x, eps=1e-3):
                H = x.new_zeros(len(x), len(x))
                for j in range(len(x)):
                    step = torch.zeros_like(x)
                    step[j] = eps
                    above = numerical_gradient(f, x + step, eps)
                    below = numerical_gradient(f, x - step, eps)
                    H[:, j] = (above - below) / (2 * eps)
                return H

        four points, the lower half copied
            def numerical_hessian(f, x, eps=1e-3):
                n = x.shape[0]
                H = torch.zeros(n, n, dtype=x.dtype, device=x.device)
                e = torch.eye(n, dtype=x.dtype, device=x.device) * eps
                for i in range(n):
                    for j in range(i, n):
                        four = f(x + e[i] + e[j]) - f(x + e[i] - e[j])
                        four = four - f(x - e[i] + e[j]) + f(x - e[i] - e[j])
                        H[i, j] = H[j, i] = four / (4 * eps**2)
                return H

        three points on the diagonal
            def numerical_hessian(f, x, eps=1e-3):
                e = eps * torch.eye(len(x), dtype=x.dtype, device=x.device)
                def entry(i, j):
                    if i == j:
                        return (f(x + e[i]) - 2 * f(x) + f(x - e[i])) / eps**2
                    plus = f(x + e[i] + e[j]) + f(x - e[i] - e[j])
                    minus = f(x + e[i] - e[j]) + f(x - e[i] + e[j])
                    return (plus - minus) / (4 * eps**2)
                n = range(len(x))
                return torch.stack([torch.stack([entry(i, j) for j in n]) for i in n])
        """
    ),
)


@numerical_hessian.test(
    points=2.5,
    cases=[
        Case("three variables", curved, polynomial(3), dtypes=(torch.float64,), loosen=10),
        Case("four variables", curved, polynomial(4), dtypes=(torch.float64,), loosen=10),
        Case("one variable", curved, polynomial(1), loosen=10),
        Case(
            "steps of the size asked for",
            steps_taken,
            lambda make: {"x": make.normal(3), "eps": make.number(0.05, 0.1)},
            observe=steps_are_whole,
            dtypes=(torch.float64,),
        ),
        Case(
            "with its own eps",
            curved_by_default,
            lambda make: {"x": make.normal(3), "Q": make.away_from_zero(3, 3)},
            dtypes=(torch.float64,),
            loosen=1e5,
        ),
    ],
)
def test_is_the_matrix_of_second_derivatives(submission, case):
    """Is the matrix of second derivatives"""
    submission.matches_reference(case)


@numerical_hessian.test(points=0.5, cases=[Case("two variables", curved, polynomial(2))])
def test_hessian_on_device(submission, case):
    """Works on whichever device its input is on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- classify_critical_point


def kind_of(impl, hessian):
    return impl(hessian)


def kind_within(impl, hessian, tol):
    return impl(hessian, tol)


def turned(*signs, tol=None):
    """A symmetric matrix with eigenvalues of these signs, in a random basis."""

    def inputs(make):
        n = len(signs)
        eigenvalues = make.uniform(n, low=0.5, high=3.0) * torch.tensor(signs, dtype=torch.float64)
        basis, _ = torch.linalg.qr(make.normal(n, n))
        H = basis @ torch.diag(eigenvalues) @ basis.T
        H = (H + H.T) / 2
        return {"hessian": H} if tol is None else {"hessian": H, "tol": tol}

    return inputs


def exactly_tol(make):
    sign = make.choice((-1.0, 1.0))
    return {"hessian": torch.full((1, 1), 0.25 * sign, dtype=torch.float64), "tol": 0.25}


def hidden_saddle(make):
    """Curved upwards along every axis, and downwards along a diagonal."""
    d = make.uniform(3, low=1.0, high=1.2)
    u = make.uniform(3, low=0.95, high=1.05)
    return {"hessian": 1.6 * torch.diag(d * u) + torch.diag(u) - 1.7 * torch.outer(u, u)}


def even_saddle(make):
    """Two ways down and two ways up; the determinant and the trace are positive."""
    inputs = turned(1, 1, -1, -1)(make)
    inputs["hessian"] = inputs["hessian"] + 0.2 * torch.eye(4, dtype=torch.float64)
    return inputs


def kind_by_cases(hessian, tol=1e-6):
    values = torch.linalg.eigvals(hessian.to(torch.complex128)).real.tolist()
    up, down = sum(v > tol for v in values), sum(v < -tol for v in values)
    if up and down:
        return "saddle"
    whole = len(values)
    return "minimum" if up == whole else "maximum" if down == whole else "degenerate"


EIGENVALUES = "eigenvalues = torch.linalg.eigvalsh(hessian)"
SIGNS = "upwards, downwards = eigenvalues > tol, eigenvalues < -tol"

classify_critical_point = Exercise(
    "classify_critical_point",
    oracle=kind_by_cases,
    mistakes=[
        Mistake.edits_of(
            "minimum and maximum swapped",
            [
                ('return "minimum"', 'return "MAXIMUM"'),
                ('return "maximum"', 'return "minimum"'),
                ('return "MAXIMUM"', 'return "maximum"'),
            ],
            "Curved upwards is a bowl, and its bottom a minimum.",
        ),
        *slips(
            EIGENVALUES,
            """
            diagonal in place of eigenvalues
                eigenvalues = hessian.diagonal()
            The diagonal holds the curvatures along the axes; a saddle may lie askew. The
            eigenvalues are the curvatures along the principal directions.

            trace
                eigenvalues = hessian.trace()[None]
            The trace is the sum of the curvatures: its sign does not tell theirs.

            singular values
                eigenvalues = torch.linalg.svdvals(hessian)
            Singular values have no sign; the eigenvalues of a symmetric matrix do.

            entries of the matrix
                eigenvalues = hessian.flatten()
            Not the entries' signs but those of the eigenvalues tell how the surface curves.

            smallest eigenvalue alone
                eigenvalues = torch.linalg.eigvalsh(hessian)[:1]
            Every way counts: the largest and the smallest curvature may differ in sign.
            """,
        ),
        *slips(
            SIGNS,
            """
            tolerance ignored
                upwards, downwards = eigenvalues > 0, eigenvalues < 0
            Rounding gives a flat way a curvature of some sign: within tol it has none.

            flat counted with both
                upwards, downwards = eigenvalues >= -tol, eigenvalues <= tol
            A flat way curves neither upwards nor downwards.

            flat counted as upwards
                upwards, downwards = eigenvalues >= -tol, eigenvalues < -tol
            A flat way is not one that curves upwards.

            tolerance relative to the largest
                tol = tol * eigenvalues.abs().max()
                    upwards, downwards = eigenvalues > tol, eigenvalues < -tol
            tol is compared with the eigenvalues themselves.
            """,
        ),
        Mistake(
            "no degenerate points",
            'return "degenerate"',
            'return "saddle"',
            "Where some way is flat and the others agree, nothing can be told: that is degenerate.",
        ),
        Mistake(
            "degenerate first",
            "    if upwards.all():",
            '    if not (upwards | downwards).all():\n        return "degenerate"\n'
            "    if upwards.all():",
            "A flat way does not undo a saddle: up one way and down another settles it.",
        ),
        Mistake(
            "flat called a minimum",
            "    if upwards.all():",
            "    if not downwards.any() and upwards.any():",
            "With a flat way left, the curvature does not prove a minimum.",
        ),
        *written(
            """
            sign of the determinant
                def classify_critical_point(hessian, tol=1e-6):
                    determinant = torch.linalg.det(hessian)
                    if determinant < -tol:
                        return "saddle"
                    if determinant <= tol:
                        return "degenerate"
                    return "minimum" if hessian[0, 0] > 0 else "maximum"
            The determinant's test is for two variables. With more, look at every eigenvalue.
            """,
        ),
        *slips(
            SIGNS,
            """
            tolerance fixed
                upwards, downwards = eigenvalues > 1e-6, eigenvalues < -1e-6
            The tolerance is the caller's to choose: yours is the same whatever tol is.

            a sign at the tolerance itself
                upwards, downwards = eigenvalues >= tol, eigenvalues <= -tol
            A curvature of exactly tol is still within it: it counts as flat.
            """,
        ),
        Mistake(
            "saddle by the product of the extremes",
            "if upwards.any() and downwards.any():",
            "if eigenvalues[0] * eigenvalues[-1] < -tol:",
            "A product of two small curvatures is smaller still, and tol is not meant for it: "
            "compare each "
            "with tol.",
        ),
        Mistake.edits_of(
            "names with a capital",
            [
                (f'return "{name}"', f'return "{name.capitalize()}"')
                for name in ("minimum", "maximum", "saddle", "degenerate")
            ],
            "The names are spelled in small letters, as in the docstring.",
        ),
    ],
    variants=variants(
        """
        smallest and largest
            def classify_critical_point(hessian, tol=1e-6):
                values = torch.linalg.eigvalsh(hessian)
                low, high = values.min(), values.max()
                if low < -tol and high > tol:
                    return "saddle"
                if low > tol:
                    return "minimum"
                return "maximum" if high < -tol else "degenerate"

        counted in Python
            def classify_critical_point(hessian, tol=1e-6):
                values = torch.linalg.eigh(hessian).eigenvalues.tolist()
                up = [v for v in values if v > tol]
                down = [v for v in values if v < -tol]
                if up and down:
                    return "saddle"
                if len(up) == len(values):
                    return "minimum"
                if len(down) == len(values):
                    return "maximum"
                return "degenerate"

        general eigenvalues
            def classify_critical_point(hessian, tol=1e-6):
                values = torch.linalg.eigvals(hessian).real
                if bool((values > tol).all()):
                    kind = "minimum"
                elif bool((values < -tol).all()):
                    kind = "maximum"
                elif bool((values > tol).any()) and bool((values < -tol).any()):
                    kind = "saddle"
                else:
                    kind = "degenerate"
                return kind
        """
    ),
)

GENTLE = 1e-3  # a curvature that the default tolerance must see
FLAT = 1e-8  # one that it must not; only in float64, where it survives the turning


@classify_critical_point.test(
    points=1,
    cases=[
        Case("a minimum in two variables", kind_of, turned(1, 1)),
        Case("a maximum in three variables", kind_of, turned(-1, -1, -1)),
        Case("a saddle in two variables", kind_of, turned(1, -1)),
        Case("a minimum in one variable", kind_of, turned(1)),
        Case("a saddle with more ways down", kind_of, turned(1, -1, -1)),
        Case("a saddle in four variables", kind_of, even_saddle),
        Case("a saddle that lies askew", kind_of, hidden_saddle),
        Case("a gentle minimum", kind_of, turned(1, GENTLE, 1)),
    ],
)
def test_tells_the_kinds(submission, case):
    """Tells minima, maxima and saddles"""
    submission.matches_reference(case)


@classify_critical_point.test(
    points=1,
    cases=[
        Case("a valley", kind_of, turned(1, 1, FLAT), dtypes=(torch.float64,)),
        Case("a ridge", kind_of, turned(-1, -FLAT, -1), dtypes=(torch.float64,)),
        Case("a ridge that seems to rise", kind_of, turned(-1, FLAT), dtypes=(torch.float64,)),
        Case("a valley that seems to fall", kind_of, turned(1, -FLAT), dtypes=(torch.float64,)),
        Case("a saddle with a flat way", kind_of, turned(1, FLAT, -1), dtypes=(torch.float64,)),
        Case("a coarser tolerance", kind_within, turned(1, 0.05, 1, tol=0.2)),
        Case("a curvature of exactly the tolerance", kind_within, exactly_tol),
        Case("a saddle that is gentle both ways", kind_of, turned(GENTLE / 4, -GENTLE / 4)),
        Case("a coarser tolerance, one way steep", kind_within, turned(20, 0.5, tol=0.2)),
        Case("a coarser tolerance that is met", kind_within, turned(-1, -1, tol=0.3)),
        Case("a plain", kind_of, lambda make: {"hessian": 0 * make.normal(3, 3)}),
    ],
)
def test_knows_flat_ways(submission, case):
    """Knows what cannot be told where the surface is flat some way"""
    submission.matches_reference(case)


def kind_of_rows(impl, rows):
    return impl(torch.tensor(rows))


@classify_critical_point.test(
    points=0.5,
    cases=[
        Case(  # as rows of numbers, since the answer is in the values, which no fake device has
            "a saddle",
            kind_of_rows,
            lambda make: {"rows": turned(1, -1, 1)(make)["hessian"].tolist()},
        )
    ],
)
def test_kinds_on_device(submission, case):
    """Works on whichever device its input is on"""
    submission.matches_on_device(case)
