"""Gradient descent, heavy ball and Nesterov, their rate on a quadratic, and SGD as a class.

Polyak (1964), https://doi.org/10.1016/0041-5553(64)90137-5; Sutskever et al. (2013),
https://proceedings.mlr.press/v28/sutskever13.html; Goh (2017), https://distill.pub/2017/momentum/.
Oracles: torch.optim.SGD, driven for the same steps; the eigenvalues of the step as a matrix.

The velocity is warm wherever its weight must show, and lr and momentum are far from their defaults.
"""

import torch
from torch import nn

from autograder.spec import Case, Exercise, Mistake, Variant, raised
from autograder.spec.probes import tensors_of

FORBIDDEN = [
    "torch.optim",
    "torch._fused_sgd_",
    "torch._C._VariableFunctions._fused_sgd_",
    "torch.ops.aten._fused_sgd",
    "torch.ops.aten._fused_sgd_",
    "torch.distributed.optim",
]
IN_PLACE = (
    "The results are to be new tensors: += and methods that end in _ write into the old ones."
)


# Oracles: torch.optim.SGD, put into the given state and asked for one step.


def by_torch_sgd(param, grad, velocity=None, **options):
    after = param.clone()
    after.grad = grad.clone()
    optimizer = torch.optim.SGD([after], foreach=False, differentiable=True, **options)
    if velocity is not None:
        optimizer.state[after]["momentum_buffer"] = velocity.clone()
    optimizer.step()
    return after, optimizer.state[after].get("momentum_buffer")


def sgd_by_torch(param, grad, lr=1e-2, weight_decay=0.0):
    return by_torch_sgd(param, grad, lr=lr, weight_decay=weight_decay)[0]


def momentum_by_torch(param, grad, velocity, lr=1e-2, momentum=0.9):
    if momentum == 0:  # torch.optim keeps no buffer then
        return by_torch_sgd(param, grad, lr=lr)[0], grad.clone()
    return by_torch_sgd(param, grad, velocity, lr=lr, momentum=momentum)


def nesterov_by_torch(param, grad, velocity, lr=1e-2, momentum=0.9):
    if momentum == 0:
        return by_torch_sgd(param, grad, lr=lr)[0], grad.clone()
    return by_torch_sgd(param, grad, velocity, lr=lr, momentum=momentum, nesterov=True)


def rate_by_eigenvalues(curvature, lr, momentum=0.0):
    one = torch.ones_like(curvature)
    rows = [
        torch.stack([1 - lr * curvature, -lr * momentum * one], dim=-1),
        torch.stack([curvature, momentum * one], dim=-1),
    ]
    return torch.linalg.eigvals(torch.stack(rows, dim=-2)).abs().amax(dim=-1)


def best_by_condition_number(smallest, largest):
    root = (largest / smallest) ** 0.5
    momentum = ((root - 1) / (root + 1)) ** 2
    return 2 * (1 + momentum) / (largest + smallest), momentum


class SGDByTorch:
    def __init__(self, params, lr=1e-2, momentum=0.0, weight_decay=0.0, nesterov=False):
        self.optimizer = torch.optim.SGD(
            params, lr, momentum, 0, weight_decay, nesterov, foreach=False
        )

    @property
    def lr(self):
        return self.optimizer.param_groups[0]["lr"]

    @lr.setter
    def lr(self, value):
        self.optimizer.param_groups[0]["lr"] = value

    def step(self):
        self.optimizer.step()

    def zero_grad(self):
        self.optimizer.zero_grad()


# Scenarios and inputs of the three steps. The memory is what a step carries on: nothing, or v.


def one_step(impl, param, grad, memory=(), **options):
    what = "(param, velocity)" if memory else "the parameter after the step"
    result, given = impl(param, grad, *memory, **options), [param, grad, *memory]
    own = all(a is not b for a in tensors_of([result]) for b in given)
    return {what: result, "every result is a new tensor": own}


def transposed_step(impl, param, grad, memory=(), **options):
    return one_step(impl, param.T, grad.T, [v.T for v in memory], **options)


def scalar_step(impl, param, grad, memory=(), **options):
    return one_step(impl, param[0], grad[0], [v[0] for v in memory], **options)


def steps_in_a_row(impl, param, grads, **options):
    velocity, path = torch.zeros_like(param), {}
    for t, grad in enumerate(grads, start=1):
        param, velocity = impl(param, grad, velocity, **options)
        path[f"the parameter after step {t}"] = param
        path[f"the velocity after step {t}"] = velocity
    return path


def plain(make, *shape, **options):
    return {"param": make.away_from_zero(*shape), "grad": make.away_from_zero(*shape), **options}


def warm(make, *shape, **options):
    return plain(make, *shape, **options) | {"memory": [make.away_from_zero(*shape)]}


def row(make, *shape, steps, **options):
    grads = [make.away_from_zero(*shape) for _ in range(steps)]
    return {"param": make.normal(*shape), "grads": grads, **options}


# sgd_step

DECAYED = "lr * (grad + weight_decay * param)"

sgd_step = Exercise(
    "sgd_step",
    oracle=sgd_by_torch,
    forbids=FORBIDDEN,
    mistakes=[
        Mistake(
            "uphill",
            "param - lr",
            "param + lr",
            "This step climbs: the gradient points uphill, and we want to go down.",
        ),
        Mistake(
            "lr left out",
            DECAYED,
            "(grad + weight_decay * param)",
            "The learning rate lr has no effect: it scales the whole step.",
        ),
        Mistake(
            "lr hard-coded",
            "param - lr",
            "param - 1e-2",
            "The argument lr has no effect: use it instead of a number of your own.",
        ),
        Mistake(
            "weight decay ignored",
            "(grad + weight_decay * param)",
            "grad",
            "weight_decay has no effect: the penalty has a gradient, too, and it is added to grad.",
        ),
        Mistake(
            "penalty's sign",
            "grad + weight_decay",
            "grad - weight_decay",
            "The penalty drives the parameter away from zero: check the sign of its gradient.",
        ),
        Mistake(
            "decay not scaled by lr",
            DECAYED,
            "lr * grad - weight_decay * param",
            "The penalty's gradient is a gradient like the other: lr scales their sum.",
        ),
        *(
            Mistake(
                f"penalty's gradient {name}",
                "weight_decay * param",
                f"{factor} * weight_decay * param",
                "Differentiate λ/2 · ‖param‖² once more: the 2 of the square and the ½ cancel.",
            )
            for name, factor in (("doubled", 2), ("halved", 0.5))
        ),
        Mistake(
            "penalty's value added",
            "weight_decay * param",
            "weight_decay / 2 * (param**2).sum()",
            "That is the penalty itself, one number. A gradient has an entry for each element.",
        ),
        Mistake(
            "penalty's value added, element by element",
            "weight_decay * param",
            "weight_decay / 2 * param**2",
            "That is the penalty itself. What is added to grad is its derivative.",
        ),
        Mistake(
            "norm not squared",
            "weight_decay * param",
            "weight_decay * param / param.norm()",
            "That is the gradient of the norm. The penalty is made of the norm's square.",
        ),
        Mistake(
            "nothing new without a gradient",
            f"return param - {DECAYED}",
            "if weight_decay == 0 and not grad.any():\n        return param\n"
            f"    return param - {DECAYED}",
            "Where every gradient is zero the very param that was passed in comes back. The result "
            "is to be a new tensor, whatever the gradient is.",
        ),
        Mistake(
            "absolute value penalised",
            "weight_decay * param",
            "weight_decay * param.sign()",
            "A pull of the same strength on every element belongs to an L1 penalty. The gradient "
            "of a square grows with the element.",
        ),
        Mistake(
            "gradient decayed",
            "weight_decay * param",
            "weight_decay * grad",
            "What decays is the parameter: the penalty's gradient is made of param, not of grad.",
        ),
        Mistake(
            "decay after the step",
            f"return param - {DECAYED}",
            "param = param - lr * grad\n    return param - lr * weight_decay * param",
            "Both gradients are taken at the same point, the parameter before the step.",
        ),
        Mistake(
            "update returned",
            "return param - lr",
            "return -lr",
            "What is returned is the parameter after the step, not the step.",
        ),
        Mistake(
            "parameter changed in place",
            f"return param - {DECAYED}",
            f"param -= {DECAYED}\n    return param",
            f"The param that was passed in has changed. {IN_PLACE}",
        ),
    ],
    variants=[
        Variant(
            "shrunk first",
            """
            def sgd_step(param, grad, lr=1e-2, weight_decay=0.0):
                return (1 - lr * weight_decay) * param - lr * grad
            """,
        ),
        Variant(
            "in place, on copies",
            """
            def sgd_step(param, grad, lr=1e-2, weight_decay=0.0):
                g = grad.clone()
                if weight_decay != 0:
                    g.add_(param, alpha=weight_decay)
                after = param.clone()
                after.sub_(g, alpha=lr)
                return after
            """,
        ),
        Variant(
            "functions, nothing recorded",
            """
            @torch.no_grad()
            def sgd_step(param, grad, lr=1e-2, weight_decay=0.0):
                total = torch.add(grad, torch.mul(param, weight_decay))
                return torch.sub(param, torch.mul(total, lr))
            """,
        ),
    ],
)


@sgd_step.test(
    points=0.75,
    cases=[
        Case("without decay", one_step, lambda make: plain(make, 3, 5, lr=0.3)),
        Case("with decay", one_step, lambda make: plain(make, 4, 3, lr=0.3, weight_decay=0.7)),
        Case(
            "with decay, for transposed tensors of another shape",
            transposed_step,
            lambda make: plain(make, 2, 6, lr=1.7, weight_decay=0.4),
        ),
        Case(
            "for a single number",
            scalar_step,
            lambda make: plain(make, 1, lr=0.2, weight_decay=0.9),
        ),
        Case("with the default lr", one_step, lambda make: plain(make, 2, 3, 4)),
        Case(
            "where every gradient is zero",
            one_step,
            lambda make: plain(make, 2, 3, lr=0.3) | {"grad": torch.zeros(2, 3)},
        ),
    ],
)
def test_sgd_follows_the_formula(submission, case):
    """Steps down the gradient of the loss and its penalty"""
    submission.matches_reference(case)


@sgd_step.test(
    points=0.25,
    cases=[Case("a step", one_step, lambda make: plain(make, 4, 3, lr=0.3, weight_decay=0.7))],
)
def test_sgd_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# momentum_step and nesterov_step share their velocity, and what goes wrong with it.

VELOCITY = "momentum * velocity + grad"
HYPER = {"lr": 0.3, "momentum": 0.7}


def velocity_mistakes(direction):
    """What goes wrong around ``return param - lr * direction, velocity``."""
    step = f"return param - lr * {direction}, velocity"

    def renamed(line):
        return line.replace("velocity", "new")

    return [
        Mistake(
            "uphill",
            "param - lr",
            "param + lr",
            "This step climbs: the velocity is a sum of gradients, which point uphill.",
        ),
        Mistake(
            "lr left out",
            f"lr * {direction}",
            direction,
            "The learning rate lr has no effect: it scales the whole step.",
        ),
        Mistake.edits_of(
            "lr inside the velocity",
            [
                (VELOCITY, "momentum * velocity + lr * grad"),
                (f"lr * {direction}", direction.replace("grad", "lr * grad")),
            ],
            "Your velocity collects lr times the gradient. Here it collects gradients, and lr is "
            "applied when the velocity is used: a later change of lr then acts at once.",
        ),
        Mistake.edits_of(
            "lr applied twice",
            [(VELOCITY, "momentum * velocity + lr * grad")],
            "lr scales the gradient on its way into the velocity, and then the velocity again: "
            "leave it out of the velocity.",
        ),
        Mistake(
            "a running average",
            VELOCITY,
            "momentum * velocity + (1 - momentum) * grad",
            "The new gradient goes in with its full weight: this velocity is a fading sum, not an "
            "average.",
        ),
        Mistake(
            "momentum and 1 - momentum swapped",
            VELOCITY,
            "(1 - momentum) * velocity + momentum * grad",
            "momentum is the share of the old velocity that is kept; the new gradient is added.",
        ),
        Mistake(
            "old velocity forgotten",
            VELOCITY,
            "grad + 0",
            "Nothing is remembered: the velocity keeps the share momentum of what it was.",
        ),
        Mistake(
            "old velocity unweighted",
            VELOCITY,
            "velocity + grad",
            "The old velocity lacks its weight momentum, so that nothing ever fades.",
        ),
        Mistake(
            "both weighted with momentum",
            VELOCITY,
            "momentum * (velocity + grad)",
            "Only the old velocity is multiplied with momentum, not the new gradient.",
        ),
        Mistake(
            "gradient subtracted from the velocity",
            VELOCITY,
            "momentum * velocity - grad",
            "Here the velocity adds gradients up, and the minus stands in the step alone.",
        ),
        Mistake.edits_of(
            "velocity pointing downhill",
            [(VELOCITY, "momentum * velocity - grad"), ("param - lr", "param + lr")]
            + ([(direction, "(momentum * velocity - grad)")] if direction != "velocity" else []),
            "Your velocity points downhill. That is another convention: here it adds gradients up, "
            "uphill as they point, and the minus stands in the step alone.",
        ),
        Mistake(
            "velocity returned times lr",
            step,
            f"{step.removesuffix('velocity')}lr * velocity",
            "The velocity that comes back is multiplied with lr, and the next step would do that "
            "again: lr is applied where the velocity is used.",
        ),
        Mistake(
            "new gradient weighted in place of the old velocity",
            VELOCITY,
            "velocity + momentum * grad",
            "momentum is the share of the old velocity that is kept; the new gradient goes in "
            "whole.",
        ),
        Mistake(
            "gradient itself as velocity",
            f"velocity = {VELOCITY}",
            f"velocity = grad if momentum == 0 else {VELOCITY}",
            "With momentum 0 the velocity that comes back is the very grad that was passed in, so "
            "that a later change of one is a change of the other: return a new tensor.",
        ),
        Mistake(
            "momentum hard-coded",
            VELOCITY,
            "0.9 * velocity + grad",
            "The argument momentum has no effect on the velocity: use it instead of a number.",
        ),
        Mistake(
            "old velocity returned",
            f"velocity = {VELOCITY}\n    {step}",
            f"new = {VELOCITY}\n    {renamed(step).replace(', new', ', velocity')}",
            "The step is right, but the velocity that comes back is the old one: the next step "
            "would not know of this gradient.",
        ),
        Mistake(
            "step by the old velocity",
            f"velocity = {VELOCITY}\n    {step}",
            f"new = {VELOCITY}\n    {step.replace(', velocity', ', new')}",
            "The velocity is updated first; the step then uses the new one.",
        )
        if direction == "velocity"
        else Mistake(
            "look-ahead without this gradient",
            "grad + momentum * velocity",
            "grad + momentum * (velocity - grad)",
            "Looking ahead takes the new velocity, the one with this gradient in it.",
        ),
        Mistake(
            "results swapped",
            step,
            f"return velocity, param - lr * {direction}",
            "The parameter is returned first, the velocity second.",
        ),
        Mistake(
            "velocity not returned",
            step,
            step.removesuffix(", velocity"),
            "After the parameter comes the velocity: without it, the next step would start afresh.",
        ),
        Mistake(
            "velocity changed in place",
            f"velocity = {VELOCITY}",
            "velocity.mul_(momentum).add_(grad)",
            f"The velocity that was passed in has changed. {IN_PLACE}",
        ),
        Mistake(
            "parameter changed in place",
            step,
            f"param -= lr * {direction}\n    return param, velocity",
            f"The param that was passed in has changed. {IN_PLACE}",
        ),
    ]


# Momentum and Nesterov's are asked for the same steps.
STEPS = [
    Case("with a warm velocity", one_step, lambda make: warm(make, 4, 3, **HYPER)),
    Case(
        "through three steps from rest",
        steps_in_a_row,
        lambda make: row(make, 2, 5, steps=3, **HYPER),
    ),
    Case("with momentum 0", one_step, lambda make: warm(make, 3, 2, lr=0.3, momentum=0.0)),
    Case("with the default lr and momentum", one_step, lambda make: warm(make, 2, 3, 4)),
]
ANY_SHAPE = [
    Case("for a single number", scalar_step, lambda make: warm(make, 1, **HYPER)),
    Case("for transposed tensors", transposed_step, lambda make: warm(make, 3, 5, **HYPER)),
]
ELSEWHERE = [Case("a warm step", one_step, lambda make: warm(make, 4, 3, **HYPER))]

momentum_step = Exercise(
    "momentum_step",
    oracle=momentum_by_torch,
    forbids=FORBIDDEN,
    mistakes=[
        *velocity_mistakes("velocity"),
        Mistake(
            "step by the gradient alone",
            "lr * velocity",
            "lr * grad",
            "The velocity is kept up to date but never used: it is what the parameter follows.",
        ),
        Mistake(
            "gradient counted twice",
            "lr * velocity",
            "lr * (velocity + grad)",
            "The new gradient is in the velocity already; adding it again counts it twice.",
        ),
        Mistake(
            "Nesterov's step",
            "lr * velocity",
            "lr * (grad + momentum * velocity)",
            "That is Nesterov's step, which comes next. The heavy ball follows its velocity.",
        ),
    ],
    variants=[
        Variant(
            "in place, on copies",
            """
            def momentum_step(param, grad, velocity, lr=1e-2, momentum=0.9):
                v = velocity.clone().mul_(momentum).add_(grad)
                after = param.clone().add_(v, alpha=-lr)
                return after, v
            """,
        ),
        Variant(
            "the step first, a list returned",
            """
            def momentum_step(param, grad, velocity, lr=1e-2, momentum=0.9):
                after = param - lr * momentum * velocity - lr * grad
                return [after, torch.add(grad, velocity, alpha=momentum)]
            """,
        ),
        Variant(
            "nothing recorded",
            """
            @torch.no_grad()
            def momentum_step(param, grad, velocity, lr=1e-2, momentum=0.9):
                new = torch.lerp(grad, grad + velocity, momentum)
                return sgd_step(param, new, lr=lr), new
            """,
        ),
    ],
)


@momentum_step.test(points=1.5, cases=STEPS)
def test_momentum_follows_the_formula(submission, case):
    """Follows the formula of the heavy ball"""
    submission.matches_reference(case)


@momentum_step.test(points=0.25, cases=ANY_SHAPE)
def test_momentum_takes_any_shape(submission, case):
    """Takes parameters of any shape"""
    submission.matches_reference(case)


@momentum_step.test(points=0.25, cases=ELSEWHERE)
def test_momentum_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


NESTEROV = "(grad + momentum * velocity)"

nesterov_step = Exercise(
    "nesterov_step",
    oracle=nesterov_by_torch,
    forbids=FORBIDDEN,
    mistakes=[
        *velocity_mistakes(NESTEROV),
        Mistake(
            "heavy ball's step",
            NESTEROV,
            "velocity",
            "That is the heavy ball. Nesterov's step looks one more velocity ahead: the gradient, "
            "plus momentum times the new velocity.",
        ),
        Mistake(
            "look-ahead unweighted",
            NESTEROV,
            "(grad + velocity)",
            "In the step, too, the velocity has the weight momentum.",
        ),
        Mistake(
            "gradient missing from the step",
            NESTEROV,
            "momentum * velocity",
            "The step has two parts: the gradient itself, and momentum times the new velocity.",
        ),
        Mistake(
            "both parts of the step weighted",
            NESTEROV,
            "momentum * (grad + velocity)",
            "In the step only the velocity is weighted with momentum; the gradient comes in whole.",
        ),
        Mistake(
            "looked ahead once more",
            NESTEROV,
            "(grad + momentum * velocity + momentum * (velocity - grad))",
            "param is the point that looks ahead already: the old velocity does not move it once "
            "more before the step.",
            edits=[
                (
                    f"velocity = {VELOCITY}\n    return param - lr * {NESTEROV}, velocity",
                    f"param = param - lr * momentum * velocity\n    velocity = {VELOCITY}\n"
                    "    return param - lr * velocity, velocity",
                )
            ],
        ),
        Mistake(
            "heavy ball's step taken twice",
            NESTEROV,
            "(velocity + grad + momentum * velocity)",
            "These are two steps of the heavy ball, one after the other. Nesterov's is one step, "
            "along the gradient plus momentum times the new velocity.",
        ),
        Mistake(
            "weights of the step swapped",
            NESTEROV,
            "(momentum * grad + velocity)",
            "In the step, momentum weighs the velocity, and the gradient comes in whole.",
        ),
        Mistake(
            "direction returned as velocity",
            f"return param - lr * {NESTEROV}, velocity",
            "velocity = grad + momentum * velocity\n    return param - lr * velocity, velocity",
            "What is carried on is the heavy ball's velocity; the direction of this step is used "
            "once and thrown away.",
        ),
    ],
    variants=[
        Variant(
            "two calls of the heavy ball's velocity",
            """
            def nesterov_step(param, grad, velocity, lr=1e-2, momentum=0.9):
                _, new = momentum_step(param, grad, velocity, lr, momentum)
                after, _ = momentum_step(param, grad, new, lr, momentum)
                return after, new
            """,
        ),
        Variant(
            "multiplied out",
            """
            def nesterov_step(param, grad, velocity, lr=1e-2, momentum=0.9):
                direction = (1 + momentum) * grad + momentum**2 * velocity
                return (param - direction * lr, grad + velocity * momentum)
            """,
        ),
        Variant(
            "in place, on copies",
            """
            def nesterov_step(param, grad, velocity, lr=1e-2, momentum=0.9):
                v = velocity.clone()
                v *= momentum
                v += grad
                d = grad.add(v, alpha=momentum)
                after = param.clone()
                after -= lr * d
                return after, v
            """,
        ),
    ],
)


@nesterov_step.test(points=1.5, cases=STEPS)
def test_nesterov_follows_the_formula(submission, case):
    """Follows the formula of Nesterov's momentum"""
    submission.matches_reference(case)


@nesterov_step.test(points=0.25, cases=ANY_SHAPE)
def test_nesterov_takes_any_shape(submission, case):
    """Takes parameters of any shape"""
    submission.matches_reference(case)


@nesterov_step.test(points=0.25, cases=ELSEWHERE)
def test_nesterov_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# convergence_rate. With lr η and momentum μ the roots are complex where (1-√μ)² < ηλ < (1+√μ)²;
# the ranges below stay clear of both ends, where a root amplifies rounding.

RATE = "lr * curvature"
SCALE = {"lr": 0.1, "momentum": 0.64}  # complex for λ between 0.4 and 32.4, divergent above 32.8


def rates(impl, curvature, transpose=False, **options):
    curvature = curvature.T if transpose else curvature
    return {"the rate for each curvature": impl(curvature, **options)}


def curvatures(make, low, high, *shape, **options):
    return {"curvature": make.uniform(*shape, low=low, high=high), **options}


def every_regime(make):
    parts = [(-5.0, -1.0), (0.05, 0.3), (0.8, 9.0), (11.0, 30.0), (33.0, 60.0)]
    drawn = [make.uniform(3, low=low, high=high) for low, high in parts]
    return {"curvature": torch.cat(drawn)[make.permutation(15)].reshape(3, 5), **SCALE}


convergence_rate = Exercise(
    "convergence_rate",
    oracle=rate_by_eigenvalues,
    mistakes=[
        Mistake(
            "complex roots overlooked",
            "torch.where(discriminant < 0, momentum**0.5, real)",
            "real",
            "Where the discriminant is negative the roots are complex: their imaginary part "
            "belongs to the absolute value, too. Their product is momentum.",
        ),
        Mistake(
            "real roots overlooked",
            "torch.where(discriminant < 0, momentum**0.5, real)",
            "torch.full_like(curvature, momentum**0.5)",
            "The root of momentum is right for complex roots only; real ones differ in size.",
        ),
        Mistake(
            "NaN for complex roots",
            "discriminant.clamp(min=0).sqrt()) / 2\n"
            "    return torch.where(discriminant < 0, momentum**0.5, real)",
            "discriminant.sqrt()) / 2\n    return real",
            "The root of a negative number is NaN. There the roots are complex and have an "
            "absolute value all the same.",
        ),
        Mistake(
            "momentum itself for complex roots",
            "momentum**0.5",
            "momentum",
            "Two conjugate roots have the same absolute value, and their product is momentum.",
        ),
        Mistake(
            "complex roots without their real part",
            "momentum**0.5",
            "(-discriminant).clamp(min=0).sqrt() / 2",
            "The absolute value of a complex root takes its real part, too.",
        ),
        Mistake(
            "largest root instead of largest size",
            "b.abs()",
            "b",
            "A root of -0.9 dies out more slowly than one of 0.5: compare absolute values.",
        ),
        Mistake(
            "smaller root",
            "b.abs() + discriminant.clamp(min=0).sqrt()",
            "b.abs() - discriminant.clamp(min=0).sqrt()",
            "In the long run the root of larger size is left over; yours is the smaller one.",
        ),
        Mistake(
            "momentum left out",
            "b = 1 + momentum - lr * curvature\n"
            "    discriminant = b**2 - 4 * momentum\n"
            "    real = (b.abs() + discriminant.clamp(min=0).sqrt()) / 2\n"
            "    return torch.where(discriminant < 0, momentum**0.5, real)",
            "return (1 - lr * curvature).abs()",
            "That is the rate without momentum; with it there are two roots to compare.",
        ),
        Mistake(
            "one kind of root for all curvatures",
            "torch.where(discriminant < 0, momentum**0.5, real)",
            "torch.full_like(b, momentum**0.5) if (discriminant < 0).any() else real",
            "Each curvature has roots of its own, real or complex: choose for each entry by "
            "itself, not once for the whole tensor.",
        ),
        Mistake(
            "largest rate for all curvatures",
            "return torch.where(discriminant < 0, momentum**0.5, real)",
            "return torch.where(discriminant < 0, momentum**0.5, real).max().expand_as(b)",
            "The maximum is over the two roots of each curvature, not over the curvatures.",
        ),
        Mistake(
            "rate cut off at 1",
            "return torch.where(discriminant < 0, momentum**0.5, real)",
            "return torch.where(discriminant < 0, momentum**0.5, real).clamp(max=1)",
            "Where the error grows the rate is above 1, and that is what is asked for: no limit.",
        ),
        Mistake(
            "plain rate without its size",
            "b = 1 + momentum - lr * curvature",
            "if momentum == 0:\n        return 1 - lr * curvature\n"
            "    b = 1 + momentum - lr * curvature",
            "Without momentum the factor may be negative: the rate is its absolute value.",
        ),
        Mistake(
            "momentum's sign in the middle term",
            "1 + momentum - lr",
            "1 - momentum - lr",
            "The middle coefficient of the quadratic is 1 + momentum - lr * curvature: check the "
            "sign of the momentum.",
        ),
        Mistake(
            "curvature's sign in the middle term",
            "1 + momentum - lr * curvature",
            "1 + momentum + lr * curvature",
            "The middle coefficient of the quadratic is 1 + momentum - lr * curvature: check the "
            "sign of the curvature.",
        ),
        Mistake(
            "negative curvature taken for positive",
            "- lr * curvature",
            "- lr * curvature.abs()",
            "At a saddle the curvature is negative and the error grows: keep its sign.",
        ),
        Mistake(
            "largest stretch in one step",
            "return torch.where(discriminant < 0, momentum**0.5, real)",
            "stretch = (1 - lr * curvature) ** 2 + (lr * momentum) ** 2\n"
            "    stretch = stretch + curvature**2 + momentum**2\n"
            "    spread = (stretch**2 - 4 * momentum**2).clamp(min=0).sqrt()\n"
            "    return ((stretch + spread) / 2).sqrt()",
            "That is the largest singular value: how much a single step can stretch. In the long "
            "run the eigenvalues decide, the roots of the quadratic.",
        ),
        Mistake(
            "momentum missing from the middle term",
            "1 + momentum - lr",
            "1 - lr",
            "The middle coefficient of the quadratic is 1 + momentum - lr * curvature.",
        ),
        Mistake(
            "1 missing from the middle term",
            "1 + momentum - lr",
            "momentum - lr",
            "The middle coefficient of the quadratic is 1 + momentum - lr * curvature.",
        ),
        Mistake(
            "running average's lr",
            RATE,
            "lr * (1 - momentum) * curvature",
            "Here the velocity is a sum, so that lr is not multiplied with 1 - momentum.",
        ),
        Mistake(
            "4 missing in the discriminant",
            "4 * momentum",
            "momentum",
            "The discriminant of z² - bz + c is b² - 4c.",
        ),
        Mistake(
            "plus in the discriminant",
            "b**2 - 4",
            "b**2 + 4",
            "The discriminant of z² - bz + c is b² - 4c, with a minus.",
        ),
        Mistake(
            "half left out",
            "real = (b.abs() + discriminant.clamp(min=0).sqrt()) / 2",
            "real = b.abs() + discriminant.clamp(min=0).sqrt()",
            "The roots of z² - bz + c are half of b plus or minus the root of the discriminant.",
        ),
        Mistake(
            "rate of the loss",
            "momentum**0.5, real)",
            "momentum**0.5, real) ** 2",
            "You square the rate: that is how fast the loss falls. Asked for is the error.",
        ),
        Mistake(
            "slowest of all",
            "momentum**0.5, real)",
            "momentum**0.5, real).max()",
            "Every curvature has a rate of its own: the result has the shape of curvature.",
        ),
    ],
    variants=[
        Variant(
            "complex arithmetic",
            """
            def convergence_rate(curvature, lr, momentum=0.0):
                b = (1 + momentum - lr * curvature) + 0j
                root = torch.sqrt(b * b - 4 * momentum)
                return torch.maximum(((b + root) / 2).abs(), ((b - root) / 2).abs())
            """,
        ),
        Variant(
            "eigenvalues",
            """
            def convergence_rate(curvature, lr, momentum=0.0):
                m = curvature.new_zeros(*curvature.shape, 2, 2)
                m[..., 0, 0] = 1 + momentum - lr * curvature
                m[..., 0, 1] = -momentum
                m[..., 1, 0] = 1
                return torch.linalg.eigvals(m).abs().max(dim=-1).values
            """,
        ),
        Variant(
            "both roots, and a mask",
            """
            def convergence_rate(curvature, lr, momentum=0.0):
                half = (1 + momentum - lr * curvature) / 2
                inside = half.square() - momentum
                real = inside >= 0
                root = inside.abs().sqrt()
                by_real = torch.maximum((half + root).abs(), (half - root).abs())
                by_complex = torch.hypot(half, root)
                return by_real * real + by_complex * ~real
            """,
        ),
    ],
)


@convergence_rate.test(
    points=1.75,
    cases=[
        Case("where every kind of root occurs", rates, every_regime),
        Case(
            "where all roots are real", rates, lambda make: curvatures(make, 0.05, 0.3, 4, **SCALE)
        ),
        Case(
            "where all roots are complex", rates, lambda make: curvatures(make, 1, 30, 5, **SCALE)
        ),
        Case("where it diverges", rates, lambda make: curvatures(make, 34, 70, 3, **SCALE)),
        Case("downhill from a saddle", rates, lambda make: curvatures(make, -6, -1, 3, **SCALE)),
        Case(
            "where the ground is flat",
            rates,
            lambda make: {
                "curvature": torch.zeros(2),
                "lr": make.number(0.1, 2.0),
                "momentum": 0.3,
            },
        ),
        Case(
            "with another lr and momentum",
            rates,
            lambda make: curvatures(make, 0.2, 0.9, 2, 3, lr=1.3, momentum=0.85),
        ),
    ],
)
def test_rate_follows_the_roots(submission, case):
    """Finds the larger root, real or complex"""
    submission.matches_reference(case)


@convergence_rate.test(
    points=0.5,
    cases=[
        Case(
            "on either side of the best lr",
            rates,
            lambda make: curvatures(make, 0.1, 30, 3, 4, lr=0.1, momentum=0.0),
        ),
        Case("by default", rates, lambda make: curvatures(make, 0.1, 30, 6, lr=0.1)),
    ],
)
def test_rate_without_momentum(submission, case):
    """Finds the rate of plain gradient descent"""
    submission.matches_reference(case)


@convergence_rate.test(
    points=0.5,
    cases=[
        Case("one curvature", rates, lambda make: {"curvature": 3 + make.uniform(1)[0], **SCALE}),
        Case(
            "three dimensions",
            rates,
            lambda make: curvatures(make, 1, 30, 2, 3, 2, lr=0.1, momentum=0.64),
        ),
        Case("transposed", rates, lambda make: every_regime(make) | {"transpose": True}),
    ],
)
def test_rate_takes_any_shape(submission, case):
    """Takes curvatures of any shape"""
    submission.matches_reference(case)


@convergence_rate.test(points=0.25, cases=[Case("every kind of root", rates, every_regime)])
def test_rate_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# best_momentum. Judged to float32's tolerance: an answer may go through a default tensor.

LR, MOMENTUM = "lr = (2 / (high + low)) ** 2", "momentum = ((high - low) / (high + low)) ** 2"
SINGLE = (torch.float32,)


def best(impl, smallest, largest):
    lr, momentum = impl(smallest, largest)
    return {"lr": lr, "momentum": momentum}


def ends(make, ratio):
    smallest = make.number(0.2, 3.0)
    return {"smallest": smallest, "largest": smallest * ratio}


best_momentum = Exercise(
    "best_momentum",
    oracle=best_by_condition_number,
    mistakes=[
        Mistake(
            "best lr without momentum",
            LR,
            "lr = 2 / (largest + smallest)",
            "That lr is the best one for plain gradient descent; momentum allows a larger one.",
        ),
        Mistake(
            "lr not squared",
            LR,
            "lr = 2 / (high + low)",
            "Your equations give the root of lr: square it.",
        ),
        Mistake(
            "lr of the steepest direction alone",
            LR,
            "lr = 1 / largest",
            "Both ends have a say in lr: eliminate the momentum from the two equations.",
        ),
        Mistake(
            "lr four times too small",
            LR,
            "lr = (1 / (high + low)) ** 2",
            "Adding the two equations leaves a 2 on the right-hand side.",
        ),
        Mistake(
            "largest stable lr",
            LR,
            "lr = 2 / largest",
            "With this lr, plain gradient descent neither converges nor diverges in the steepest "
            "direction; the best one with momentum is another.",
        ),
        Mistake(
            "lr of the mean curvature",
            LR,
            "lr = 4 / (largest + smallest)",
            "The sum of two roots, squared, is not the sum of what stands under them.",
        ),
        Mistake(
            "momentum not squared",
            MOMENTUM,
            "momentum = (high - low) / (high + low)",
            "That is the root of the momentum, the rate that both ends share: square it.",
        ),
        Mistake(
            "momentum without roots",
            MOMENTUM,
            "momentum = ((largest - smallest) / (largest + smallest)) ** 2",
            "The equations hold the roots of the curvatures, not the curvatures.",
        ),
        Mistake(
            "plain rate as momentum",
            MOMENTUM,
            "momentum = (largest - smallest) / (largest + smallest)",
            "That is the best rate of plain gradient descent; solve the two equations for the "
            "momentum.",
        ),
        Mistake.edits_of(
            "Nesterov's choice",
            [(LR, "lr = 1 / largest"), (MOMENTUM, "momentum = (high - low) / (high + low)")],
            "That pair is often used with Nesterov's momentum. For the heavy ball, solve the two "
            "equations.",
        ),
        Mistake(
            "only the 2 squared",
            LR,
            "lr = 4 / (high + low)",
            "The whole quotient is squared, the sum of the roots as well as the 2.",
        ),
        Mistake(
            "momentum for many steps",
            MOMENTUM,
            "momentum = (1 - low / high) ** 2",
            "Close where the curvatures differ a lot, and wrong otherwise: lr is not quite "
            "1 / largest, so that it does not cancel like this.",
        ),
        Mistake.edits_of(
            "roots left out",
            [("low, high = smallest**0.5, largest**0.5", "low, high = smallest, largest")],
            "The equations hold the roots of the curvatures, not the curvatures.",
        ),
        Mistake(
            "results swapped",
            "return lr, momentum",
            "return momentum, lr",
            "lr is returned first, the momentum second.",
        ),
    ],
    variants=[
        Variant(
            "by the condition number",
            """
            def best_momentum(smallest, largest):
                kappa = largest / smallest
                rate = (kappa**0.5 - 1) / (kappa**0.5 + 1)
                return (1 + rate) ** 2 / largest, rate**2
            """,
        ),
        Variant(
            "from the other end, through tensors",
            """
            def best_momentum(smallest, largest):
                low, high = torch.tensor([smallest, largest]).sqrt()
                root = (high - low) / (high + low)
                lr = (1 + root**2) * 2 / (smallest + largest)
                return [lr.item(), root.item() ** 2]
            """,
        ),
        Variant(
            "by bisection",
            """
            def best_momentum(smallest, largest):
                below, above = 0.0, 1.0
                for _ in range(80):
                    root = (below + above) / 2
                    if (1 - root) ** 2 / smallest > (1 + root) ** 2 / largest:
                        below = root
                    else:
                        above = root
                return (1 - root) ** 2 / smallest, root**2
            """,
        ),
    ],
)


@best_momentum.test(
    points=2,
    cases=[
        Case("in a ravine", best, lambda make: ends(make, make.number(20, 90)), dtypes=SINGLE),
        Case("in a bowl", best, lambda make: ends(make, make.number(1.5, 4)), dtypes=SINGLE),
        Case("in a round bowl", best, lambda make: ends(make, 1.0), dtypes=SINGLE),
        Case("in a gorge", best, lambda make: ends(make, make.number(1e3, 1e4)), dtypes=SINGLE),
    ],
)
def test_best_momentum(submission, case):
    """Finds the learning rate and the momentum at which both ends shrink alike"""
    submission.matches_reference(case)


# SGD. Each scenario builds its own leaves; `without` holds the (step, parameter) that lack a grad.

SHAPES = [(3, 4), (5,), (2, 3), (2, 3)]
PAUSES = [(0, 3), (1, 0), (2, 2), (3, 0), (3, 1)]
ALL = {"lr": 0.3, "momentum": 0.7, "weight_decay": 0.4}


def some(make, steps):
    return [[make.away_from_zero(*shape) for shape in SHAPES] for _ in range(steps)]


def training(make, steps, **options):
    values = [make.away_from_zero(*shape) for shape in SHAPES]
    return {"values": values, "gradients": some(make, steps), **options}


def leaves_of(values):
    return [value.clone().requires_grad_() for value in values]


def take(optimizer, params, gradients, without=()):
    for t, grads in enumerate(gradients):
        for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
            param.grad = None if (t, i) in without else grad.clone()
        optimizer.step()


def told(params):
    return {f"parameter {i}": param.detach().clone() for i, param in enumerate(params)}


def trained(impl, values, gradients, without=(), then=None, generator=False, **options):
    params = leaves_of(values)
    optimizer = impl((p for p in params) if generator else params, **options)
    take(optimizer, params, gradients, without)
    if then is not None:
        optimizer.lr, later = then
        take(optimizer, params, later)
    return {**told(params), "still leaves": [p.requires_grad and p.is_leaf for p in params]}


def afresh(impl, values, gradients, later, **options):
    params = leaves_of(values)
    take(impl(params, **options), params, gradients)
    take(impl(params, **options), params, later)
    return told(params)


def gradients_after(impl, values, gradients, **options):
    """Steps, and two more on gradients that nobody sets anew."""
    params = leaves_of(values)
    optimizer = impl(params, **options)
    take(optimizer, params, gradients)
    for _ in range(2):
        optimizer.step()
    return {f"gradient {i} after the steps": param.grad for i, param in enumerate(params)}


def after_zero_grad(impl, values, gradients, **options):
    params = leaves_of(values)
    optimizer = impl(params, **options)
    take(optimizer, params, gradients, without=[(len(gradients) - 1, 2)])
    optimizer.zero_grad()
    cleared = [param.grad is None for param in params]
    optimizer.step()
    return {"every grad is None after zero_grad": all(cleared), **told(params)}


def by_backward(impl, x, y, weight, bias, steps, **options):
    layer = nn.Linear(3, 2).to(x)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    optimizer = impl(layer.parameters(), **options)
    for _ in range(steps):
        optimizer.zero_grad()
        (layer(x).tanh() - y).square().mean().backward()
        optimizer.step()
    kept = tensors_of(list(getattr(optimizer, "__dict__", {}).values()))
    return {
        "the weight": layer.weight.detach(),
        "the bias": layer.bias.detach(),
        "autograd recorded a velocity": any(tensor.grad_fn is not None for tensor in kept),
    }


def regression(make, **options):
    data = {"x": make.normal(7, 3), "y": make.normal(7, 2)}
    return data | {"weight": make.normal(2, 3), "bias": make.normal(2), **options}


def refused(impl, value, **options):
    return {"what is raised": raised(lambda: impl(leaves_of([value]), **options), ValueError)}


STEP_LOOP = "for i, param in enumerate(self.params):"
SKIP = "                if param.grad is None:\n                    continue\n"
GRAD = "grad = param.grad + self.weight_decay * param"
REFUSAL = """        if nesterov and momentum <= 0:
            raise ValueError(f"Nesterov's momentum needs a positive momentum, not {momentum}")
"""
SKIPPED = "A parameter whose grad is None sits this step out, and the others do not."

SGD = Exercise(
    "SGD",
    oracle=SGDByTorch,
    forbids=FORBIDDEN,
    mistakes=[
        Mistake("None not skipped", SKIP, "", f"{SKIPPED} Yours computes with None."),
        Mistake(
            "None taken for zero",
            f"{SKIP}                {GRAD}",
            "                grad = torch.zeros_like(param) if param.grad is None else param.grad\n"
            "                grad = grad + self.weight_decay * param",
            f"{SKIPPED} Yours takes None for a gradient of zero, and so it coasts on.",
        ),
        Mistake(
            "stopped at the first None",
            "                    continue\n",
            "                    break\n",
            f"{SKIPPED} Yours ends the step at the first one.",
        ),
        Mistake(
            "velocities counted among those with a gradient",
            f"{STEP_LOOP}\n{SKIP}",
            "for i, param in enumerate(p for p in self.params if p.grad is not None):\n",
            "A parameter that is skipped shifts the numbers of those behind it, and they get "
            "another one's velocity. Keep the number, or the parameter itself, as the key.",
        ),
        Mistake(
            "velocity not stored",
            "new, self.velocities[i] = rule(",
            "new, _ = rule(",
            "The new velocity is thrown away, so each step starts from rest.",
        ),
        Mistake.edits_of(
            "velocity kept on the parameter",
            [
                ("new, self.velocities[i] = rule(", "new, param.velocity = rule("),
                (
                    "param, grad, self.velocities[i], lr",
                    "param, grad, getattr(param, 'velocity', torch.zeros_like(param)), lr",
                ),
            ],
            "The velocity outlives the optimizer: a new one on the same parameters starts at rest.",
        ),
        Mistake(
            "weight decay ignored",
            GRAD,
            "grad = param.grad",
            "weight_decay has no effect: the penalty's gradient is added to the loss's.",
        ),
        Mistake.edits_of(
            "weight decay past the velocity",
            [
                (GRAD, "grad = param.grad"),
                ("copy_(new)", "copy_(new - self.lr * self.weight_decay * param)"),
            ],
            "The penalty's gradient goes through the velocity like any gradient: add it before "
            "the step is taken.",
        ),
        Mistake(
            "penalty scaled by lr twice",
            GRAD,
            "grad = param.grad + self.lr * self.weight_decay * param",
            "lr scales the whole step later on: the penalty's gradient goes in without it.",
        ),
        Mistake(
            "a running average",
            GRAD,
            "grad = (1 - self.momentum) * (param.grad + self.weight_decay * param)",
            "The gradient goes into the velocity with its full weight: a fading sum, no average.",
        ),
        Mistake(
            "penalty written into grad",
            GRAD,
            "grad = param.grad.add_(self.weight_decay * param)",
            "param.grad is left as it is: add the penalty's gradient to a copy.",
        ),
        Mistake(
            "Nesterov ignored",
            "nesterov_step if self.nesterov else momentum_step",
            "momentum_step",
            "The argument nesterov has no effect: it chooses the rule.",
        ),
        Mistake(
            "always Nesterov",
            "nesterov_step if self.nesterov else momentum_step",
            "nesterov_step",
            "Nesterov's step is taken only where it is asked for; otherwise the heavy ball's.",
        ),
        Mistake(
            "default momentum",
            "lr=self.lr, momentum=self.momentum",
            "lr=self.lr",
            "The optimizer's momentum does not reach the step, which takes its own default.",
        ),
        Mistake.edits_of(
            "lr fixed at the start",
            [
                ("self.lr = lr\n", "self.lr = self.first_lr = lr\n"),
                ("lr=self.lr, momentum", "lr=self.first_lr, momentum"),
            ],
            "A change of the attribute lr has no effect: read it in each step.",
        ),
        Mistake.edits_of(
            "generator used up",
            [
                ("self.params = list(params)", "self.params = params"),
                ("for param in self.params]", "for param in params]"),
            ],
            "A generator can be gone through only once: keep the parameters in a list.",
        ),
        Mistake.edits_of(
            "generator used up in the first step",
            [
                ("self.params = list(params)", "self.params = params"),
                ("[torch.zeros_like(param) for param in self.params]", "{}"),
                (
                    "grad, self.velocities[i], lr",
                    "grad, self.velocities.get(i, torch.zeros_like(param)), lr",
                ),
            ],
            "After the first step the parameters are gone: a generator can be gone through only "
            "once, so keep the parameters in a list.",
        ),
        Mistake(
            "velocity fades while skipped",
            "                    continue\n",
            "                    self.velocities[i] = self.momentum * self.velocities[i]\n"
            "                    continue\n",
            f"{SKIPPED} Its velocity stays as it was, too: here it fades meanwhile.",
        ),
        Mistake(
            "velocity dropped while skipped",
            "                    continue\n",
            "                    self.velocities[i] = torch.zeros_like(param)\n"
            "                    continue\n",
            f"{SKIPPED} Its velocity stays as it was, too: here it starts from rest again.",
        ),
        Mistake.edits_of(
            "one velocity for each shape",
            [
                ("[torch.zeros_like(param) for param in self.params]", "{}"),
                ("new, self.velocities[i] = rule(", "new, self.velocities[param.shape] = rule("),
                (
                    "grad, self.velocities[i], lr",
                    "grad, self.velocities.get(param.shape, torch.zeros_like(param)), lr",
                ),
            ],
            "Parameters of the same shape share a velocity here. Each has its own: the parameter "
            "itself, or its number, is the key.",
        ),
        Mistake(
            "no decay for vectors",
            GRAD,
            "grad = param.grad + self.weight_decay * (param.dim() > 1) * param",
            "Parameters of one dimension do not decay. The penalty is on every parameter that the "
            "optimizer is given.",
        ),
        Mistake(
            "no decay under Nesterov",
            GRAD,
            "grad = param.grad + self.weight_decay * (not self.nesterov) * param",
            "With Nesterov's momentum the weight decay is left out: the penalty's gradient is "
            "added first, whatever the rule is.",
        ),
        Mistake(
            "gradients cleared by the step",
            "param.copy_(new)",
            "param.copy_(new)\n                param.grad = None",
            "step leaves the gradients as they are: clearing them is what zero_grad is for.",
        ),
        Mistake.written(
            "gradient itself as the first velocity",
            """
            class SGD:
                def __init__(
                    self, params, lr=1e-2, momentum=0.0, weight_decay=0.0, nesterov=False
                ):
                    if nesterov and momentum <= 0:
                        raise ValueError("no momentum")
                    self.params, self.velocities = list(params), {}
                    self.lr, self.momentum = lr, momentum
                    self.weight_decay, self.nesterov = weight_decay, nesterov

                @torch.no_grad()
                def step(self):
                    for i, param in enumerate(self.params):
                        if param.grad is None:
                            continue
                        grad = param.grad
                        if self.weight_decay:
                            grad = grad + self.weight_decay * param
                        if i in self.velocities:
                            self.velocities[i].mul_(self.momentum).add_(grad)
                        else:
                            self.velocities[i] = grad
                        velocity = self.velocities[i]
                        ahead = grad + self.momentum * velocity
                        param.sub_(self.lr * (ahead if self.nesterov else velocity))

                def zero_grad(self):
                    for param in self.params:
                        param.grad = None
            """,
            "The first velocity is the very tensor in param.grad, and later steps write into it: "
            "start the velocity from a copy.",
        ),
        Mistake.edits_of(
            "velocities recorded by autograd",
            [("with torch.no_grad():", "if True:"), ("param.copy_(new)", "param.data.copy_(new)")],
            "The penalty is recorded by autograd, and through the velocity the graph grows with "
            "every step: an optimizer's step runs without recording.",
        ),
        Mistake(
            "refused by an assertion",
            REFUSAL,
            "        assert not nesterov or momentum > 0\n",
            "An assert raises AssertionError, and is left out when Python optimises: raise "
            "ValueError.",
        ),
        Mistake(
            "negative momentum accepted",
            "nesterov and momentum <= 0",
            "nesterov and momentum == 0",
            "A negative momentum is not positive either: with nesterov it is an error.",
        ),
        Mistake(
            "gradient set to zero",
            "param.grad = None",
            "param.grad = torch.zeros_like(param)",
            "zero_grad leaves None behind: with a gradient of zero the velocity would still move "
            "the parameter.",
        ),
        Mistake(
            "parameter replaced",
            "param.copy_(new)",
            "self.params[i] = new",
            "The model's own tensor has to change, in place; yours makes a new one beside it.",
        ),
        Mistake(
            "update recorded by autograd",
            "with torch.no_grad():",
            "if True:",
            "Autograd refuses a change of a leaf that it records: switch it off around the update.",
        ),
        Mistake(
            "nothing refused",
            REFUSAL,
            "",
            "Nesterov's momentum without a positive momentum is an error: raise ValueError.",
        ),
        Mistake(
            "zero momentum accepted",
            "nesterov and momentum <= 0",
            "nesterov and momentum < 0",
            "A momentum of 0 is not positive either: with nesterov it is an error.",
        ),
        Mistake(
            "zero momentum always refused",
            "nesterov and momentum <= 0",
            "momentum <= 0",
            "Without momentum this is plain gradient descent, and no error: only Nesterov's "
            "needs a positive one.",
        ),
    ],
    variants=[
        Variant(
            "velocities in a dict, made when needed",
            """
            class SGD:
                def __init__(
                    self, params, lr=1e-2, momentum=0.0, weight_decay=0.0, nesterov=False
                ):
                    if nesterov and not momentum > 0:
                        raise ValueError("nesterov needs momentum")
                    self.params = [*params]
                    self.lr, self.mu, self.wd, self.nesterov = lr, momentum, weight_decay, nesterov
                    self.v = {}

                @torch.no_grad()
                def step(self):
                    for p in self.params:
                        if p.grad is not None:
                            g = torch.add(p.grad, p, alpha=self.wd)
                            v = self.v[p] = g + self.mu * self.v[p] if p in self.v else g.clone()
                            p -= self.lr * (g + self.mu * v if self.nesterov else v)

                def zero_grad(self):
                    for p in self.params:
                        p.grad = None
            """,
        ),
        Variant(
            "through the data of the parameters, three rules",
            """
            class SGD:
                def __init__(
                    self, params, lr=1e-2, momentum=0.0, weight_decay=0.0, nesterov=False
                ):
                    if nesterov:
                        if momentum <= 0.0:
                            raise ValueError("momentum must be positive")
                    self.lr = lr
                    self.options = momentum, weight_decay, nesterov
                    self.state = [[p, None] for p in params]

                def step(self):
                    momentum, weight_decay, nesterov = self.options
                    for entry in self.state:
                        p, v = entry
                        if p.grad is None:
                            continue
                        g = p.grad.detach() + weight_decay * p.data
                        if momentum == 0:
                            p.data = sgd_step(p.data, g, lr=self.lr)
                        else:
                            rule = nesterov_step if nesterov else momentum_step
                            v = torch.zeros_like(g) if v is None else v
                            p.data, entry[1] = rule(p.data, g, v, self.lr, momentum)

                def zero_grad(self):
                    for p, _ in self.state:
                        p.grad = None
            """,
        ),
        Variant(
            "helpers, velocities in place",
            """
            class SGD:
                def __init__(
                    self, params, lr=1e-2, momentum=0.0, weight_decay=0.0, nesterov=False
                ):
                    if nesterov and momentum <= 0:
                        raise ValueError
                    self.params = tuple(params)
                    self.buffers = tuple(p.detach().new_zeros(p.shape) for p in self.params)
                    self.lr = lr
                    self.momentum = momentum
                    self.weight_decay = weight_decay
                    self.nesterov = nesterov

                def _direction(self, p, v):
                    g = p.grad.clone()
                    g += self.weight_decay * p
                    v.mul_(self.momentum).add_(g)
                    return g.add_(v, alpha=self.momentum) if self.nesterov else v

                def step(self):
                    with torch.no_grad():
                        for p, v in zip(self.params, self.buffers):
                            if p.grad is not None:
                                p.sub_(self.lr * self._direction(p, v))

                def zero_grad(self):
                    for p in self.params:
                        if p.grad is not None:
                            p.grad = None
            """,
        ),
    ],
)


@SGD.test(
    points=1.25,
    cases=[
        Case("without momentum", trained, lambda make: training(make, 2, lr=0.3)),
        Case(
            "with weight decay, without momentum",
            trained,
            lambda make: training(make, 2, lr=0.3, weight_decay=0.4),
        ),
        Case("with momentum", trained, lambda make: training(make, 3, lr=0.3, momentum=0.7)),
        Case("with momentum and weight decay", trained, lambda make: training(make, 3, **ALL)),
        Case("by default", trained, lambda make: training(make, 2)),
        Case(
            "with gradients from backward",
            by_backward,
            lambda make: regression(make, steps=3, **ALL),
        ),
    ],
)
def test_class_trains(submission, case):
    """Updates its parameters in place, with momentum and weight decay if asked for"""
    submission.matches_reference(case)


@SGD.test(
    points=0.75,
    cases=[
        Case(
            "and weight decay",
            trained,
            lambda make: training(make, 3, nesterov=True, **ALL),
        ),
        Case(
            "without a positive momentum",
            refused,
            lambda make: {"value": make.normal(2), "nesterov": True, "momentum": 0.0},
        ),
        Case(
            "with a negative momentum",
            refused,
            lambda make: {"value": make.normal(2), "nesterov": True, "momentum": -0.5},
        ),
    ],
)
def test_class_knows_nesterov(submission, case):
    """Takes Nesterov's momentum where asked, and refuses it without a positive momentum"""
    submission.matches_reference(case)


@SGD.test(
    points=1.25,
    cases=[
        Case(
            "where gradients come and go",
            trained,
            lambda make: training(make, 5, without=PAUSES, **ALL),
        ),
        Case(
            "given by a generator",
            trained,
            lambda make: training(make, 3, generator=True, **ALL),
        ),
        Case(
            "after lr has been changed",
            trained,
            lambda make: training(make, 2, **ALL) | {"then": [0.9, some(make, 2)]},
        ),
        Case(
            "with a new optimizer that starts at rest",
            afresh,
            lambda make: training(make, 2, **ALL) | {"later": some(make, 2)},
        ),
    ],
)
def test_class_keeps_velocities(submission, case):
    """Keeps a velocity for each parameter, skips those without a gradient, and reads lr anew"""
    submission.matches_reference(case)


@SGD.test(
    points=0.5,
    cases=[
        Case("left alone by steps", gradients_after, lambda make: training(make, 1, **ALL)),
        Case(
            "left alone by steps without weight decay",
            gradients_after,
            lambda make: training(make, 1, lr=0.3, momentum=0.7),
        ),
        Case("cleared by zero_grad", after_zero_grad, lambda make: training(make, 3, **ALL)),
    ],
)
def test_class_handles_gradients(submission, case):
    """Clears gradients in zero_grad, and only there"""
    submission.matches_reference(case)


@SGD.test(
    points=0.25,
    cases=[
        Case(
            "training with pauses",
            trained,
            lambda make: training(make, 3, without=[(0, 1)], nesterov=True, **ALL),
        )
    ],
)
def test_class_follows_the_device(submission, case):
    """Works on whichever device its parameters are on"""
    submission.matches_on_device(case)
