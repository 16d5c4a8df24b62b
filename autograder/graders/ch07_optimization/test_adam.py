"""AdaGrad, RMSprop, Adam and AdamW, one step each, and Adam as an optimizer class.

Duchi, Hazan & Singer (2011), https://jmlr.org/papers/v12/duchi11a.html; Tieleman & Hinton (2012),
lecture 6e; Kingma & Ba (2015), Algorithm 1, https://arxiv.org/abs/1412.6980; Loshchilov & Hutter
(2019), Algorithm 2, https://arxiv.org/abs/1711.05101. Oracles: torch.optim, driven for the same
steps.

Nothing shows at a method's usual hyperparameters, so here every ``eps`` is large enough for its
place to matter, the betas are far from 1 and from each other, and the memory is warm.
"""

from copy import deepcopy

import torch
from torch import nn

from autograder.spec import Case, Exercise, Mistake, Variant, raised

FORBIDDEN = [
    "torch.optim",
    *(f"torch._fused_{name}_" for name in ("adam", "adamw", "adagrad", "sgd")),
    *(f"torch._C._VariableFunctions._fused_{name}_" for name in ("adam", "adamw", "adagrad")),
    *(f"torch.ops.aten._fused_{name}" for name in ("adam", "adamw", "adagrad")),
    *(f"torch.ops.aten._fused_{name}_" for name in ("adam", "adamw", "adagrad")),
    "torch.distributed.optim",
]


# Oracles: torch.optim's own classes, put into the given state and asked for one step. They record
# what autograd records, so that standing in for a student's step hides nothing in a later class.


def by_torch_optim(kind, param, grad, state, t=1, **options):
    after = param.clone()
    after.grad = grad.clone()
    optimizer = kind([after], foreach=False, differentiable=True, **options)
    kept = {name: value.clone() for name, value in state.items()}
    step = torch.tensor(float(t - 1), dtype=torch.float64)
    optimizer.state[after].update(step=step, **kept)
    optimizer.step()
    return after, *(optimizer.state[after][name] for name in state)


def adagrad_by_torch(param, grad, state_sum, lr=1e-2, eps=1e-10):
    return by_torch_optim(torch.optim.Adagrad, param, grad, {"sum": state_sum}, lr=lr, eps=eps)


def rmsprop_by_torch(param, grad, square_avg, lr=1e-2, alpha=0.99, eps=1e-8):
    state = {"square_avg": square_avg}
    return by_torch_optim(torch.optim.RMSprop, param, grad, state, lr=lr, alpha=alpha, eps=eps)


def adam_by_torch(param, grad, m, v, t, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
    state, betas = {"exp_avg": m, "exp_avg_sq": v}, tuple(betas)
    return by_torch_optim(torch.optim.Adam, param, grad, state, t, lr=lr, betas=betas, eps=eps)


def adamw_by_torch(param, grad, m, v, t, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
    options = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
    state = {"exp_avg": m, "exp_avg_sq": v}
    return by_torch_optim(torch.optim.AdamW, param, grad, state, t, **options)


class AdamByTorch(torch.optim.Adam):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        super().__init__(params, lr, betas, eps, weight_decay, foreach=False)

    def state_dict(self):
        return deepcopy(super().state_dict())

    def load_state_dict(self, state_dict):
        super().load_state_dict(deepcopy(state_dict))


# Scenarios for the rules. A memory is what a rule carries from step to step.


def one_step(impl, what, param, grad, memory, **options):
    return {what: impl(param, grad, *memory, **options)}


def transposed_step(impl, what, param, grad, memory, **options):
    return {what: impl(param.T, grad.T, *(kept.T for kept in memory), **options)}


def scalar_step(impl, what, param, grad, memory, **options):
    return {what: impl(param[0], grad[0], *(kept[0] for kept in memory), **options)}


def steps_in_a_row(impl, what, param, grads, memories, counted=False, **options):
    memory = [torch.zeros_like(param) for _ in range(memories)]
    path = {}
    for t, grad in enumerate(grads, start=1):
        number = [t] if counted else []
        result = impl(param, grad, *memory, *number, **options)
        path[f"{what} after step {t}"] = result
        param, *memory = result
    return path


def arguments_after(impl, names, param, grad, memory, **options):
    before = [value.clone() for value in (param, grad, *memory)]
    results = impl(param, grad, *memory, **options)
    same = map(torch.equal, before, (param, grad, *memory))
    passed = {id(value) for value in (param, grad, *memory)}
    return {
        "shapes of the results": [list(result.shape) for result in results],
        "every result is a new tensor": all(id(result) not in passed for result in results),
        **{f"{name} is left as it was": fact for name, fact in zip(names, same, strict=True)},
    }


def warm(make, *shape, memories=1, **options):
    """A step in the middle of training: nothing zero, second moments far from grad**2."""
    first = [make.normal(*shape, std=0.5)] if memories == 2 else []
    return {
        "param": make.normal(*shape),
        "grad": make.away_from_zero(*shape),
        "memory": [*first, make.uniform(*shape, low=0.3, high=3.0)],
        **options,
    }


def fresh(make, *shape, memories=1, scale=1.0, **options):
    """The first step: the memory is zero."""
    param = make.normal(*shape)
    return {
        "param": param,
        "grad": scale * make.away_from_zero(*shape),
        "memory": [torch.zeros_like(param) for _ in range(memories)],
        **options,
    }


def partly_zero(make, *shape, **options):
    """A fresh step in which some elements have no gradient."""
    inputs = fresh(make, *shape, **options)
    inputs["grad"] = inputs["grad"] * (torch.arange(inputs["grad"].numel()).reshape(shape) % 3 > 0)
    return inputs


def row(make, *shape, steps, **options):
    return {
        "param": make.normal(*shape),
        "grads": [make.away_from_zero(*shape) for _ in range(steps)],
        **options,
    }


# Mistakes that several rules share.

IN_PLACE = (
    "The results are to be new tensors: operators such as += and methods that end in _ write "
    "into what they are applied to."
)


def quotient_mistakes(numerator, size, memory):
    """What goes wrong in ``param - lr * numerator / (size.sqrt() + eps), memory``."""
    quotient = f"{numerator} / ({size}.sqrt() + eps)"
    return [
        Mistake(
            "eps under the root",
            f"({size}.sqrt() + eps)",
            f"({size} + eps).sqrt()",
            "eps stands outside the root here: take the root first, then add eps.",
        ),
        Mistake(
            "eps left out",
            f"({size}.sqrt() + eps)",
            f"{size}.sqrt()",
            "eps is missing from the denominator. Without it, an element that never had a "
            "gradient is divided by zero.",
        ),
        Mistake(
            "eps as a floor",
            f"({size}.sqrt() + eps)",
            f"{size}.sqrt().clamp(min=eps)",
            "eps is added to the root, always; it is not a lower limit for it.",
        ),
        Mistake(
            "eps subtracted",
            f"({size}.sqrt() + eps)",
            f"({size}.sqrt() - eps)",
            "eps is added to the root, to keep it away from zero; yours takes it nearer.",
        ),
        Mistake(
            "eps hard-coded",
            "+ eps)",
            "+ 1e-8)",
            "The argument eps has no effect: use it instead of a number of your own.",
        ),
        Mistake(
            "root left out",
            f"({size}.sqrt() + eps)",
            f"({size} + eps)",
            f"{size} holds squares; only its root has the size of a gradient.",
        ),
        Mistake(
            "quotient not bracketed",
            quotient,
            f"{numerator} / {size}.sqrt() + eps",
            "Division binds more tightly than addition: the root and eps form the denominator "
            "together, so they need brackets.",
        ),
        Mistake(
            "multiplied by the size",
            quotient,
            f"{numerator} * ({size}.sqrt() + eps)",
            "Large gradients should not make the step larger still: divide by their usual size.",
        ),
        Mistake(
            "uphill",
            "param - lr",
            "param + lr",
            "This step climbs: the gradient points uphill, and we want to go down.",
        ),
        Mistake(
            "lr left out",
            f"lr * {numerator}",
            numerator,
            "The learning rate lr has no effect: it scales the whole step.",
        ),
        Mistake(
            "direction left out of the step",
            f"lr * {numerator}",
            "lr",
            "lr divided by the usual size is only a rate. It still has to be multiplied by the "
            "direction, which also gives the step its sign.",
        ),
        Mistake(
            "update returned",
            "return param - lr",
            "return -lr",
            "What is returned first is the parameter after the step, not the step.",
        ),
        Mistake(
            "memory not returned",
            f"+ eps), {memory}",
            "+ eps)",
            f"After the parameter comes {memory}: without it, the next step would start afresh.",
        ),
        Mistake(
            "parameter changed in place",
            f"return param - lr * {quotient}, {memory}",
            f"param -= lr * {quotient}\n    return param, {memory}",
            f"The param that was passed in has changed. {IN_PLACE}",
        ),
    ]


def squares_mistakes(s):
    """What else goes wrong where the memory ``s`` of squares is the only one."""
    quotient = f"grad / ({s}.sqrt() + eps)"
    return [
        Mistake(
            "eps kept in the memory",
            f"return param - lr * {quotient}, {s}",
            f"{s} = {s} + eps\n    return param - lr * grad / {s}.sqrt(), {s}",
            f"eps belongs to the denominator of this step alone: {s} is stored without it.",
        ),
        Mistake(
            "squared gradient in the step",
            "lr * grad",
            "lr * grad**2",
            "The square of the gradient goes into the memory; the step itself follows the "
            "gradient, sign and all.",
        ),
        Mistake(
            "results swapped",
            f"return param - lr * {quotient}, {s}",
            f"return {s}, param - lr * {quotient}",
            f"The parameter is returned first, {s} second.",
        ),
        Mistake(
            "root stored",
            f"+ eps), {s}",
            f"+ eps), {s}.sqrt()",
            f"The root is needed for the step only. What is returned and remembered is {s} itself.",
        ),
    ]


def one_size_mistakes(s, old, new):
    """The memory kept per tensor: ``old`` is the elementwise formula, ``new`` takes {size}."""
    return [
        Mistake(
            f"one {what} for the whole tensor",
            old,
            new.format(size=f"(grad**2).{what}()"),
            f"Every element has an entry of its own in {s}: square elementwise, and do not sum or "
            "average over the tensor.",
        )
        for what in ("sum", "mean")
    ]


ADAGRAD = "(param, state_sum)"
ADAGRAD_NAMES = ["param", "grad", "state_sum"]
ADAGRAD_HYPER = {"what": ADAGRAD, "lr": 0.3, "eps": 0.2}

adagrad_step = Exercise(
    "adagrad_step",
    oracle=adagrad_by_torch,
    forbids=FORBIDDEN,
    mistakes=[
        *quotient_mistakes("grad", "state_sum", "state_sum"),
        *squares_mistakes("state_sum"),
        *one_size_mistakes("state_sum", "state_sum + grad**2", "state_sum + {size}"),
        Mistake(
            "sum not accumulated",
            "state_sum + grad**2",
            "grad**2",
            "Earlier gradients are forgotten: the new square is added to the sum so far.",
        ),
        Mistake(
            "memory never updated",
            "state_sum = state_sum + grad**2",
            "state_sum = state_sum + 0",
            "The sum never grows: this step's squared gradient has to be added to it.",
        ),
        Mistake(
            "gradient not squared",
            "state_sum + grad**2",
            "state_sum + grad",
            "The sum is of squares: as it is, positive and negative gradients cancel, and the "
            "root of a negative sum is not defined.",
        ),
        Mistake(
            "absolute values summed",
            "state_sum + grad**2",
            "state_sum + grad.abs()",
            "The sum is of squared gradients, not of their absolute values.",
        ),
        Mistake(
            "sum squared as a whole",
            "state_sum + grad**2",
            "(state_sum + grad) ** 2",
            "Only the gradient is squared, then added; the old sum holds squares already.",
        ),
        Mistake(
            "divided by the old sum",
            "state_sum = state_sum + grad**2\n"
            "    return param - lr * grad / (state_sum.sqrt() + eps), state_sum",
            "total = state_sum + grad**2\n"
            "    return param - lr * grad / (state_sum.sqrt() + eps), total",
            "The sum is updated first; the division then uses the new sum, with this gradient in.",
        ),
        Mistake(
            "old sum returned",
            "state_sum = state_sum + grad**2\n"
            "    return param - lr * grad / (state_sum.sqrt() + eps), state_sum",
            "total = state_sum + grad**2\n"
            "    return param - lr * grad / (total.sqrt() + eps), state_sum",
            "The step is right, but the sum that comes back is the old one: the next step would "
            "not know of this gradient.",
        ),
        Mistake(
            "a running average",
            "state_sum + grad**2",
            "0.9 * state_sum + 0.1 * grad**2",
            "That is RMSprop's memory, which fades. AdaGrad's is a plain sum.",
        ),
        Mistake(
            "half the sum",
            "state_sum + grad**2",
            "(state_sum + grad**2) / 2",
            "The memory is a sum of all squares, not an average of old and new.",
        ),
        Mistake(
            "memory changed in place",
            "state_sum = state_sum + grad**2",
            "state_sum += grad**2",
            f"The state_sum that was passed in has changed. {IN_PLACE}",
        ),
        Mistake.edits_of(
            "everything in place",
            [
                ("state_sum = state_sum + grad**2", "state_sum += grad**2"),
                (
                    "return param - lr * grad / (state_sum.sqrt() + eps), state_sum",
                    "param -= lr * grad / (state_sum.sqrt() + eps)\n    return param, state_sum",
                ),
            ],
            f"The param and the memory that were passed in have changed. {IN_PLACE}",
        ),
        Mistake(
            "eps always at its default",
            "+ eps)",
            "+ 1e-10)",
            "The argument eps has no effect where it is given: use it instead of its default.",
        ),
        Mistake(
            "lr in the sum",
            "state_sum = state_sum + grad**2",
            "state_sum = state_sum + (lr * grad) ** 2",
            "The learning rate has come into the sum, where it divides itself away: the sum is of "
            "the squared gradients as they came, and lr scales only the step.",
        ),
        Mistake(
            "nothing new without a gradient",
            "state_sum = state_sum + grad**2",
            "if not grad.any():\n        return param, state_sum\n"
            "    state_sum = state_sum + grad**2",
            "Where every gradient is zero the very tensors that were passed in come back. The "
            "values are right, but the results are to be new tensors, whatever the gradient is.",
        ),
    ],
    variants=[
        Variant(
            "in place, on copies",
            """
            def adagrad_step(param, grad, state_sum, lr=1e-2, eps=1e-10):
                total = state_sum.clone().addcmul_(grad, grad)
                after = param.clone()
                after.addcdiv_(grad, total.sqrt().add_(eps), value=-lr)
                return after, total
            """,
        ),
        Variant(
            "functions, and a list returned",
            """
            def adagrad_step(param, grad, state_sum, lr=1e-2, eps=1e-10):
                new_sum = torch.add(state_sum, torch.square(grad))
                rate = torch.div(lr, torch.add(torch.sqrt(new_sum), eps))
                return [torch.sub(param, torch.mul(rate, grad)), new_sum]
            """,
        ),
        Variant(
            "element by element",
            """
            def adagrad_step(param, grad, state_sum, lr=1e-2, eps=1e-10):
                params, sums = [], []
                flat = zip(param.flatten(), grad.flatten(), state_sum.flatten())
                for p, g, s in flat:
                    s = s + g * g
                    sums.append(s)
                    params.append(p - lr * g / (s**0.5 + eps))
                shape = param.shape
                return torch.stack(params).reshape(shape), torch.stack(sums).reshape(shape)
            """,
        ),
        Variant(
            "without gradients recorded",
            """
            @torch.no_grad()
            def adagrad_step(param, grad, state_sum, lr=1e-2, eps=1e-10):
                state_sum = state_sum + grad.pow(2)
                scale = state_sum.sqrt() + eps
                update = grad / scale
                return param - update * lr, state_sum
            """,
        ),
    ],
)


@adagrad_step.test(
    points=1,
    cases=[
        Case("in the first step", one_step, lambda make: fresh(make, 3, 5, **ADAGRAD_HYPER)),
        Case(
            "with a sum of earlier steps", one_step, lambda make: warm(make, 4, 3, **ADAGRAD_HYPER)
        ),
        Case(
            "through four steps from the start",
            steps_in_a_row,
            lambda make: row(make, 2, 5, steps=4, memories=1, **ADAGRAD_HYPER),
        ),
        Case(
            "where gradients are much smaller than eps",
            one_step,
            lambda make: fresh(make, 3, 4, scale=1e-3, **ADAGRAD_HYPER),
        ),
    ],
)
def test_adagrad_follows_the_formula(submission, case):
    """Follows AdaGrad's formula"""
    submission.matches_reference(case)


@adagrad_step.test(
    points=0.5,
    cases=[
        Case(
            "where an element has never had a gradient",
            one_step,
            lambda make: partly_zero(make, 4, 2, **ADAGRAD_HYPER),
        ),
        Case(
            "for tensors of three dimensions",
            one_step,
            lambda make: warm(make, 2, 3, 4, **ADAGRAD_HYPER),
        ),
        Case("for a single number", scalar_step, lambda make: warm(make, 1, **ADAGRAD_HYPER)),
        Case(
            "for transposed tensors",
            transposed_step,
            lambda make: warm(make, 3, 5, **ADAGRAD_HYPER),
        ),
        Case(
            "with the default lr and eps",
            one_step,
            lambda make: fresh(make, 6, what=ADAGRAD, scale=1e-9),
        ),
    ],
)
def test_adagrad_takes_what_it_is_given(submission, case):
    """Takes parameters of any shape, elements without a gradient, and the default rates"""
    submission.matches_reference(case)


@adagrad_step.test(
    points=0.25,
    cases=[
        Case(
            "after one step",
            arguments_after,
            lambda make: warm(make, 3, 2, names=ADAGRAD_NAMES, lr=0.3, eps=0.2),
        ),
        Case(
            "after a step in which every gradient is zero",
            arguments_after,
            lambda make: warm(make, 3, 2, names=ADAGRAD_NAMES) | {"grad": torch.zeros(3, 2)},
        ),
    ],
)
def test_adagrad_leaves_its_arguments(submission, case):
    """Leaves its arguments unchanged"""
    submission.matches_reference(case)


@adagrad_step.test(
    points=0.25,
    cases=[Case("a warm step", one_step, lambda make: warm(make, 4, 3, **ADAGRAD_HYPER))],
)
def test_adagrad_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


RMSPROP = "(param, square_avg)"
RMSPROP_NAMES = ["param", "grad", "square_avg"]
RMSPROP_HYPER = {"what": RMSPROP, "lr": 0.3, "alpha": 0.7, "eps": 0.2}
AVERAGE = "alpha * square_avg + (1 - alpha) * grad**2"
RMSPROP_STEP = "return param - lr * grad / (square_avg.sqrt() + eps), square_avg"

rmsprop_step = Exercise(
    "rmsprop_step",
    oracle=rmsprop_by_torch,
    forbids=FORBIDDEN,
    mistakes=[
        *quotient_mistakes("grad", "square_avg", "square_avg"),
        *squares_mistakes("square_avg"),
        *one_size_mistakes("square_avg", AVERAGE, "alpha * square_avg + (1 - alpha) * {size}"),
        Mistake(
            "alpha and 1 - alpha swapped",
            AVERAGE,
            "(1 - alpha) * square_avg + alpha * grad**2",
            "alpha is the share of the old average that is kept; the new square gets the rest.",
        ),
        Mistake(
            "a sum, as in AdaGrad",
            AVERAGE,
            "square_avg + grad**2",
            "That is AdaGrad's sum. RMSprop's memory fades: old average and new square are "
            "weighted, and the weights add up to 1.",
        ),
        Mistake(
            "new square unweighted",
            AVERAGE,
            "alpha * square_avg + grad**2",
            "The new square lacks its weight: the two weights of an average add up to 1.",
        ),
        Mistake(
            "old average unweighted",
            AVERAGE,
            "square_avg + (1 - alpha) * grad**2",
            "The old average lacks its weight alpha, so nothing is ever forgotten.",
        ),
        Mistake(
            "both weighted with alpha",
            AVERAGE,
            "alpha * square_avg + alpha * grad**2",
            "Both parts have the weight alpha; the two weights of an average add up to 1.",
        ),
        Mistake(
            "weight squared with the gradient",
            "(1 - alpha) * grad**2",
            "((1 - alpha) * grad) ** 2",
            "Only the gradient is squared; its weight 1 - alpha stays as it is.",
        ),
        Mistake(
            "gradient not squared",
            "(1 - alpha) * grad**2",
            "(1 - alpha) * grad",
            "The average is of squared gradients: as it is, positive and negative ones cancel.",
        ),
        Mistake(
            "absolute values averaged",
            "(1 - alpha) * grad**2",
            "(1 - alpha) * grad.abs()",
            "The average is of squared gradients, not of their absolute values.",
        ),
        Mistake(
            "average squared as a whole",
            AVERAGE,
            "(alpha * square_avg + (1 - alpha) * grad) ** 2",
            "Only the gradient is squared, before it is averaged; the old average holds squares.",
        ),
        Mistake(
            "only this gradient",
            AVERAGE,
            "grad**2",
            "Earlier gradients are forgotten at once: the old average keeps the share alpha.",
        ),
        Mistake(
            "memory never updated",
            AVERAGE,
            "square_avg + 0",
            "The running average stays as it was: this step's squared gradient goes into it.",
        ),
        Mistake(
            "divided by the old average",
            f"square_avg = {AVERAGE}\n    {RMSPROP_STEP}",
            f"average = {AVERAGE}\n    {RMSPROP_STEP.replace(', square_avg', ', average')}",
            "The average is updated first; the division then uses the new one.",
        ),
        Mistake(
            "old average returned",
            f"square_avg = {AVERAGE}\n    {RMSPROP_STEP}",
            f"average = {AVERAGE}\n    {RMSPROP_STEP.replace('(square_avg', '(average')}",
            "The step is right, but the average that comes back is the old one: the next step "
            "would not know of this gradient.",
        ),
        Mistake(
            "bias corrected in the step",
            "(square_avg.sqrt() + eps)",
            "((square_avg / (1 - alpha)).sqrt() + eps)",
            "RMSprop does not correct its average for the start at zero; that is Adam's addition.",
        ),
        Mistake(
            "average starts with the first square",
            f"square_avg = {AVERAGE}",
            f"square_avg = {AVERAGE} if square_avg.any() else grad**2",
            "The first step is no exception: the average starts at zero, and the first square gets "
            "the weight of a new square, too.",
        ),
        Mistake(
            "first step corrected",
            "(square_avg.sqrt() + eps)",
            "((square_avg / (1 if memory.any() else 1 - alpha)).sqrt() + eps)",
            "RMSprop does not correct its average for the start at zero, not even in the first "
            "step; that is Adam's addition.",
            edits=[
                (f"square_avg = {AVERAGE}", f"memory = square_avg\n    square_avg = {AVERAGE}"),
                (
                    "(square_avg.sqrt() + eps)",
                    "((square_avg / (1 if memory.any() else 1 - alpha)).sqrt() + eps)",
                ),
            ],
        ),
        Mistake(
            "centred",
            "(1 - alpha) * grad**2",
            "(1 - alpha) * (grad - grad.mean()) ** 2",
            "The average is of the gradients' plain squares: nothing is subtracted from them first "
            "(this RMSprop is not centred).",
        ),
        Mistake(
            "roots averaged",
            AVERAGE,
            "(alpha * square_avg.sqrt() + (1 - alpha) * grad.abs()) ** 2",
            "The average is of the squares. The root comes afterwards: a mean of sizes, squared, "
            "is smaller than the mean of the squares.",
        ),
        Mistake(
            "gradient squared in place",
            f"square_avg = {AVERAGE}\n    {RMSPROP_STEP}",
            f"step = lr * grad\n    square_avg = {AVERAGE.replace('grad**2', 'grad.pow_(2)')}\n"
            f"    {RMSPROP_STEP.replace('lr * grad', 'step')}",
            f"The grad that was passed in has changed: it holds its squares now. {IN_PLACE}",
        ),
        Mistake(
            "gradient averaged, too",
            "lr * grad",
            "lr * (1 - alpha) * grad",
            "Only the squares are averaged; the step follows the gradient itself, unweighted.",
        ),
        Mistake(
            "alpha hard-coded",
            AVERAGE,
            "0.99 * square_avg + 0.01 * grad**2",
            "The argument alpha has no effect: use it instead of its default.",
        ),
        Mistake(
            "memory changed in place",
            f"square_avg = {AVERAGE}",
            "square_avg.mul_(alpha).add_((1 - alpha) * grad**2)",
            f"The square_avg that was passed in has changed. {IN_PLACE}",
        ),
        Mistake.edits_of(
            "everything in place",
            [
                (f"square_avg = {AVERAGE}", "square_avg.mul_(alpha).add_((1 - alpha) * grad**2)"),
                (
                    RMSPROP_STEP,
                    "param -= lr * grad / (square_avg.sqrt() + eps)\n    return param, square_avg",
                ),
            ],
            f"The param and the memory that were passed in have changed. {IN_PLACE}",
        ),
    ],
    variants=[
        Variant(
            "in place, on copies",
            """
            def rmsprop_step(param, grad, square_avg, lr=1e-2, alpha=0.99, eps=1e-8):
                average = square_avg.clone().mul_(alpha).addcmul_(grad, grad, value=1 - alpha)
                return param.clone().addcdiv_(grad, average.sqrt().add_(eps), value=-lr), average
            """,
        ),
        Variant(
            "by interpolation, and a list returned",
            """
            def rmsprop_step(param, grad, square_avg, lr=1e-2, alpha=0.99, eps=1e-8):
                average = torch.lerp(square_avg, grad.square(), 1 - alpha)
                return [param - lr * (grad / (average.sqrt() + eps)), average]
            """,
        ),
        Variant(
            "as a correction of the old average",
            """
            def rmsprop_step(param, grad, square_avg, lr=1e-2, alpha=0.99, eps=1e-8):
                new_avg = square_avg - (1 - alpha) * (square_avg - grad * grad)
                size = torch.pow(new_avg, 0.5) + eps
                rate = lr / size
                return param.sub(rate.mul(grad)), new_avg
            """,
        ),
        Variant(
            "with inner functions",
            """
            def rmsprop_step(param, grad, square_avg, lr=1e-2, alpha=0.99, eps=1e-8):
                def ewa(old, new):
                    return alpha * old + (1.0 - alpha) * new

                def scale(s):
                    return torch.sqrt(s) + eps

                with torch.no_grad():
                    square_avg = ewa(square_avg, grad ** 2)
                    param = param - lr * grad / scale(square_avg)
                return param, square_avg
            """,
        ),
    ],
)


@rmsprop_step.test(
    points=1,
    cases=[
        Case("in the first step", one_step, lambda make: fresh(make, 3, 5, **RMSPROP_HYPER)),
        Case("with a warm average", one_step, lambda make: warm(make, 4, 3, **RMSPROP_HYPER)),
        Case(
            "through four steps from the start",
            steps_in_a_row,
            lambda make: row(make, 2, 5, steps=4, memories=1, **RMSPROP_HYPER),
        ),
        Case(
            "where gradients are much smaller than eps",
            one_step,
            lambda make: fresh(make, 3, 4, scale=1e-3, **RMSPROP_HYPER),
        ),
    ],
)
def test_rmsprop_follows_the_formula(submission, case):
    """Follows RMSprop's formula"""
    submission.matches_reference(case)


@rmsprop_step.test(
    points=0.5,
    cases=[
        Case(
            "where an element has never had a gradient",
            one_step,
            lambda make: partly_zero(make, 4, 2, **RMSPROP_HYPER),
        ),
        Case(
            "for tensors of three dimensions",
            one_step,
            lambda make: warm(make, 2, 3, 4, **RMSPROP_HYPER),
        ),
        Case("for a single number", scalar_step, lambda make: warm(make, 1, **RMSPROP_HYPER)),
        Case(
            "for transposed tensors",
            transposed_step,
            lambda make: warm(make, 3, 5, **RMSPROP_HYPER),
        ),
        Case(
            "with the default lr, alpha and eps",
            one_step,
            lambda make: fresh(make, 6, what=RMSPROP, scale=1e-7),
        ),
    ],
)
def test_rmsprop_takes_what_it_is_given(submission, case):
    """Takes parameters of any shape, elements without a gradient, and the default rates"""
    submission.matches_reference(case)


@rmsprop_step.test(
    points=0.25,
    cases=[
        Case(
            "after one step",
            arguments_after,
            lambda make: warm(make, 3, 2, names=RMSPROP_NAMES, lr=0.3, alpha=0.7, eps=0.2),
        )
    ],
)
def test_rmsprop_leaves_its_arguments(submission, case):
    """Leaves its arguments unchanged"""
    submission.matches_reference(case)


@rmsprop_step.test(
    points=0.25,
    cases=[Case("a warm step", one_step, lambda make: warm(make, 4, 3, **RMSPROP_HYPER))],
)
def test_rmsprop_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# Adam. The reference, in pieces that mistakes replace.

ADAM = "(param, m, v)"
ADAM_NAMES = ["param", "grad", "m", "v"]
ADAM_HYPER = {"what": ADAM, "memories": 2, "lr": 0.3, "betas": (0.6, 0.85), "eps": 0.2}
FIRST = "beta1 * m + (1 - beta1) * grad"
SECOND = "beta2 * v + (1 - beta2) * grad**2"
STEP = "return param - lr * m_hat / (v_hat.sqrt() + eps), m, v"

adam_step = Exercise(
    "adam_step",
    oracle=adam_by_torch,
    forbids=FORBIDDEN,
    mistakes=[
        # the moments
        Mistake(
            "m weighted the wrong way round",
            f"m = {FIRST}",
            "m = (1 - beta1) * m + beta1 * grad",
            "beta1 is the share of the old m that is kept; the new gradient gets the rest.",
        ),
        Mistake(
            "v weighted the wrong way round",
            SECOND,
            "(1 - beta2) * v + beta2 * grad**2",
            "beta2 is the share of the old v that is kept; the new square gets the rest.",
        ),
        Mistake.edits_of(
            "both moments weighted the wrong way round",
            [
                (f"m = {FIRST}", "m = (1 - beta1) * m + beta1 * grad"),
                (SECOND, "(1 - beta2) * v + beta2 * grad**2"),
            ],
            "Each beta is the share of the old moment that is kept; what is new gets the rest.",
        ),
        Mistake(
            "gradient unweighted in m",
            f"m = {FIRST}",
            "m = beta1 * m + grad",
            "That is classical momentum. In Adam m is an average: its two weights add up to 1.",
        ),
        Mistake(
            "square unweighted in v",
            SECOND,
            "beta2 * v + grad**2",
            "v is an average of squares: its two weights add up to 1.",
        ),
        Mistake.edits_of(
            "nothing new weighted",
            [(f"m = {FIRST}", "m = beta1 * m + grad"), (SECOND, "beta2 * v + grad**2")],
            "Both moments are averages: the two weights of each add up to 1.",
        ),
        Mistake(
            "betas swapped",
            "beta1, beta2 = betas",
            "beta2, beta1 = betas",
            "The first of the betas belongs to m, the second to v.",
        ),
        Mistake(
            "beta1 for both moments",
            SECOND,
            "beta1 * v + (1 - beta1) * grad**2",
            "v has a decay rate of its own, the second of the betas.",
        ),
        Mistake(
            "1 - beta2 in m",
            f"m = {FIRST}",
            "m = beta1 * m + (1 - beta2) * grad",
            "The two weights of an average add up to 1: m takes both from the first beta.",
        ),
        Mistake(
            "1 - beta1 in v",
            SECOND,
            "beta2 * v + (1 - beta1) * grad**2",
            "The two weights of an average add up to 1: v takes both from the second beta.",
        ),
        Mistake(
            "beta1 for everything",
            "beta1, beta2 = betas",
            "beta1 = beta2 = betas[0]",
            "v and its correction have a decay rate of their own, the second of the betas.",
        ),
        Mistake(
            "beta2 for both moments",
            f"m = {FIRST}",
            "m = beta2 * m + (1 - beta2) * grad",
            "m has a decay rate of its own, the first of the betas.",
        ),
        Mistake(
            "gradient not squared in v",
            SECOND,
            "beta2 * v + (1 - beta2) * grad",
            "v averages squared gradients: as it is, positive and negative ones cancel.",
        ),
        Mistake(
            "absolute values in v",
            SECOND,
            "beta2 * v + (1 - beta2) * grad.abs()",
            "v averages squared gradients, not their absolute values.",
        ),
        Mistake(
            "weight squared with the gradient",
            SECOND,
            "beta2 * v + ((1 - beta2) * grad) ** 2",
            "Only the gradient is squared; its weight 1 - beta2 stays as it is.",
        ),
        Mistake(
            "v from m instead of the gradient",
            SECOND,
            "beta2 * v + (1 - beta2) * m**2",
            "What is squared for v is this step's gradient, not the average m.",
        ),
        Mistake(
            "centred second moment",
            SECOND,
            "beta2 * v + (1 - beta2) * (grad - m) ** 2",
            "v averages the plain squares of the gradients; the mean m is not subtracted first.",
        ),
        Mistake(
            "v as a sum",
            SECOND,
            "v + grad**2",
            "That is AdaGrad's sum. Adam's v is an average that fades at the rate beta2.",
        ),
        Mistake(
            "v never shrinks",
            f"v = {SECOND}",
            f"v = torch.maximum(v, {SECOND})",
            "That is close to AMSGrad. Adam's v is an average, which falls when gradients do.",
        ),
        Mistake(
            "moments start with the first gradient",
            f"v = {SECOND}",
            f"v = {SECOND}\n    if t == 1:\n        m, v = grad, grad**2",
            "The first step is no exception: the moments start at zero, and the bias correction "
            "makes up for it.",
        ),
        Mistake(
            "v as a maximum",
            SECOND,
            "torch.maximum(beta2 * v, grad**2)",
            "That is close to AdaMax. Adam's v is an average of squares.",
        ),
        Mistake(
            "one sum for the whole tensor",
            SECOND,
            "beta2 * v + (1 - beta2) * (grad**2).sum()",
            "Every element has a second moment of its own: square elementwise and do not sum.",
        ),
        Mistake(
            "one mean for the whole tensor",
            SECOND,
            "beta2 * v + (1 - beta2) * (grad**2).mean()",
            "Every element has a second moment of its own: square elementwise and do not average.",
        ),
        Mistake(
            "betas hard-coded",
            "beta1, beta2 = betas",
            "beta1, beta2 = 0.9, 0.999",
            "The argument betas has no effect: use it instead of numbers of your own.",
        ),
        Mistake.edits_of(
            "m of the opposite sign",
            [
                (f"m = {FIRST}", "m = beta1 * m - (1 - beta1) * grad"),
                ("return param - lr", "return param + lr"),
            ],
            "m averages the gradients themselves; the minus sign belongs to the step.",
        ),
        # the correction
        Mistake.edits_of(
            "no bias correction",
            [("m / (1 - beta1**t)", "m"), ("v / (1 - beta2**t)", "v")],
            "m and v start at zero, so they are too small at first: correct both for it.",
        ),
        Mistake(
            "m uncorrected",
            "m / (1 - beta1**t)",
            "m",
            "v is corrected for its start at zero, m is not: it needs the same.",
        ),
        Mistake(
            "v uncorrected",
            "v / (1 - beta2**t)",
            "v",
            "m is corrected for its start at zero, v is not: it needs the same.",
        ),
        Mistake.edits_of(
            "t counted from zero",
            [("beta1**t", "beta1 ** (t - 1)"), ("beta2**t", "beta2 ** (t - 1)")],
            "The first step comes with t = 1, and t is the exponent as it stands: with t - 1 the "
            "first correction divides by zero.",
        ),
        Mistake.edits_of(
            "t one too large",
            [("beta1**t", "beta1 ** (t + 1)"), ("beta2**t", "beta2 ** (t + 1)")],
            "The first step comes with t = 1 already: t is the exponent as it stands.",
        ),
        Mistake.edits_of(
            "beta times t",
            [("beta1**t", "beta1 * t"), ("beta2**t", "beta2 * t")],
            "In the correction beta is raised to the power t, not multiplied by t.",
        ),
        Mistake.edits_of(
            "t ignored",
            [("beta1**t", "beta1"), ("beta2**t", "beta2")],
            "The correction fades as training goes on: beta is raised to the power t.",
        ),
        Mistake(
            "beta2 in m's correction",
            "(1 - beta1**t)",
            "(1 - beta2**t)",
            "Each moment is corrected with the decay rate that it was averaged with.",
        ),
        Mistake(
            "beta1 in v's correction",
            "(1 - beta2**t)",
            "(1 - beta1**t)",
            "Each moment is corrected with the decay rate that it was averaged with.",
        ),
        Mistake.edits_of(
            "corrections swapped",
            [("(1 - beta1**t)", "(1 - beta2**t)"), ("v / (1 - beta2**t)", "v / (1 - beta1**t)")],
            "The corrections are swapped: m goes with the first of the betas, v with the second.",
        ),
        Mistake.edits_of(
            "correction not bracketed",
            [("(1 - beta1**t)", "1 - beta1**t"), ("(1 - beta2**t)", "1 - beta2**t")],
            "Division binds more tightly than subtraction: what the moments are divided by needs "
            "brackets.",
        ),
        Mistake(
            "Nesterov's look-ahead",
            "m / (1 - beta1**t)",
            "(beta1 * m + (1 - beta1) * grad) / (1 - beta1**t)",
            "The gradient goes into m once. Putting it in again for the step is NAdam.",
        ),
        Mistake.edits_of(
            "correction multiplied",
            [("m / (1", "m * (1"), ("v / (1", "v * (1")],
            "The young moments are too small, so the correction has to enlarge them: divide.",
        ),
        Mistake.edits_of(
            "correction of the wrong sign",
            [("(1 - beta1**t)", "(1 + beta1**t)"), ("(1 - beta2**t)", "(1 + beta2**t)")],
            "The weights inside a moment add up to one minus beta to the power t, not one plus it.",
        ),
        Mistake.edits_of(
            "divided by the power alone",
            [("(1 - beta1**t)", "beta1**t"), ("(1 - beta2**t)", "beta2**t")],
            "The weights inside a moment add up to one minus beta to the power t: divide by that.",
        ),
        Mistake(
            "only the first step corrected",
            STEP,
            "if t > 1:\n        m_hat, v_hat = m, v\n    " + STEP,
            "The correction belongs to every step; it fades by itself as t grows.",
        ),
        Mistake(
            "only early steps corrected",
            STEP,
            "if t >= 10:\n        m_hat, v_hat = m, v\n    " + STEP,
            "The correction stops after some steps. It belongs to every step, and it fades by "
            "itself as t grows; with a large beta that takes very long.",
        ),
        Mistake.edits_of(
            "v corrected after the root",
            [("v / (1 - beta2**t)", "v"), ("v_hat.sqrt()", "v_hat.sqrt() / (1 - beta2**t)")],
            "v is corrected first, then comes the root: after it the correction is too strong.",
        ),
        Mistake.edits_of(
            "corrected moments returned",
            [("+ eps), m, v", "+ eps), m_hat, v_hat")],
            "The corrected moments serve this step only. What is returned is m and v as they were "
            "averaged, or the next step would average corrected values.",
        ),
        Mistake(
            "corrected first moment returned",
            "+ eps), m, v",
            "+ eps), m_hat, v",
            "The corrected first moment serves this step only: return m as it was averaged.",
        ),
        Mistake(
            "corrected second moment returned",
            "+ eps), m, v",
            "+ eps), m, v_hat",
            "The corrected second moment serves this step only: return v as it was averaged.",
        ),
        Mistake.edits_of(
            "old moments corrected and used",
            [
                (f"m = {FIRST}", f"first = {FIRST}"),
                (f"v = {SECOND}", f"second = {SECOND}"),
                ("+ eps), m, v", "+ eps), first, second"),
            ],
            "The step uses the moments from before this gradient. Update m and v first, then step.",
        ),
        Mistake.edits_of(
            "moments not updated",
            [
                (f"m = {FIRST}", f"first = {FIRST}"),
                (f"v = {SECOND}", f"second = {SECOND}"),
                ("m / (1", "first / (1"),
                ("v / (1", "second / (1"),
                ("+ eps), m, v", "+ eps), m.clone(), v.clone()"),
            ],
            "The moments that come back are the old ones: return those with this gradient in them.",
        ),
        Mistake(
            "corrected twice",
            "lr * m_hat",
            "lr * (1 - beta2**t) ** 0.5 / (1 - beta1**t) * m_hat",
            "The correction is in twice: either correct the moments, or move it into the rate.",
        ),
        # the step
        *quotient_mistakes("m_hat", "v_hat", "m, v"),
        Mistake.edits_of(
            "eps added to v",
            [
                ("v / (1 - beta2**t)", "(v + eps) / (1 - beta2**t)"),
                ("(v_hat.sqrt() + eps)", "v_hat.sqrt()"),
            ],
            "eps is added after the correction and outside the root, not to v.",
        ),
        Mistake.edits_of(
            "eps before the correction",
            [
                ("v_hat = v / (1 - beta2**t)", "v_hat = v"),
                ("(v_hat.sqrt() + eps)", "((v_hat.sqrt() + eps) / (1 - beta2**t) ** 0.5)"),
            ],
            "eps is added to the root of the corrected v. The paper's short form, which moves the "
            "correction into the learning rate, has another eps (its section 2 says so).",
        ),
        Mistake(
            "lr hard-coded",
            "lr * m_hat",
            "1e-3 * m_hat",
            "The argument lr has no effect: use it instead of a number of your own.",
        ),
        Mistake(
            "lr faded with t",
            "lr * m_hat",
            "lr / t**0.5 * m_hat",
            "lr stays as it is from step to step; only the bias correction depends on t.",
        ),
        Mistake(
            "gradient instead of m",
            "lr * m_hat",
            "lr * grad",
            "The step follows the corrected average of gradients, not this step's gradient alone: "
            "as it is, this is RMSprop.",
        ),
        Mistake(
            "m_hat times the gradient",
            "lr * m_hat",
            "lr * m_hat * grad",
            "The corrected average m takes the gradient's place in the step; the gradient does not "
            "come in once more.",
        ),
        Mistake(
            "moments returned in the wrong order",
            "+ eps), m, v",
            "+ eps), v, m",
            "The order of the results is param, m, v.",
        ),
        Mistake(
            "moments returned first",
            STEP,
            "return m, v, param - lr * m_hat / (v_hat.sqrt() + eps)",
            "The order of the results is param, m, v.",
        ),
        # the arguments
        Mistake(
            "m changed in place",
            f"m = {FIRST}",
            "m.mul_(beta1).add_((1 - beta1) * grad)",
            f"The m that was passed in has changed. {IN_PLACE}",
        ),
        Mistake(
            "v changed in place",
            f"v = {SECOND}",
            "v.mul_(beta2).add_((1 - beta2) * grad**2)",
            f"The v that was passed in has changed. {IN_PLACE}",
        ),
        Mistake.edits_of(
            "both moments changed in place",
            [
                (f"m = {FIRST}", "m.mul_(beta1).add_((1 - beta1) * grad)"),
                (f"v = {SECOND}", "v.mul_(beta2).add_((1 - beta2) * grad**2)"),
            ],
            f"The m and v that were passed in have changed. {IN_PLACE}",
        ),
        Mistake.edits_of(
            "everything in place",
            [
                (f"m = {FIRST}", "m.mul_(beta1).add_((1 - beta1) * grad)"),
                (f"v = {SECOND}", "v.mul_(beta2).add_((1 - beta2) * grad**2)"),
                (STEP, "param -= lr * m_hat / (v_hat.sqrt() + eps)\n    return param, m, v"),
            ],
            f"The param, m and v that were passed in have changed. {IN_PLACE}",
        ),
    ],
    variants=[
        Variant(
            "in place, on copies, with the correction in the rate",
            """
            def adam_step(param, grad, m, v, t, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
                beta1, beta2 = betas
                param, m, v = param.clone(), m.clone(), v.clone()
                m.mul_(beta1).add_(grad, alpha=1 - beta1)
                v.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
                denominator = (v.sqrt() / (1 - beta2**t) ** 0.5).add_(eps)
                param.addcdiv_(m, denominator, value=-lr / (1 - beta1**t))
                return param, m, v
            """,
        ),
        Variant(
            "the paper's short form, with its eps adjusted",
            """
            def adam_step(param, grad, m, v, t, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
                c1, c2 = (1 - b**t for b in betas)
                m = betas[0] * m + (1 - betas[0]) * grad
                v = betas[1] * v + (1 - betas[1]) * grad * grad
                root = c2**0.5
                return param - lr * root / c1 * m / (v.sqrt() + eps * root), m, v
            """,
        ),
        Variant(
            "by interpolation, and a list returned",
            """
            def adam_step(param, grad, m, v, t, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
                new_m = torch.lerp(m, grad, 1 - betas[0])
                new_v = torch.lerp(v, torch.square(grad), 1 - betas[1])
                m_hat = torch.div(new_m, 1 - pow(betas[0], t))
                v_hat = torch.div(new_v, 1 - pow(betas[1], t))
                step = torch.div(m_hat, torch.add(torch.sqrt(v_hat), eps))
                return [torch.sub(param, step, alpha=lr), new_m, new_v]
            """,
        ),
        Variant(
            "with inner functions, nothing recorded",
            """
            def adam_step(param, grad, m, v, t, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
                def average(old, new, beta):
                    return old + (1 - beta) * (new - old)

                def corrected(moment, beta):
                    return moment / (1 - beta**t)

                with torch.no_grad():
                    m = average(m, grad, betas[0])
                    v = average(v, grad**2, betas[1])
                    step = corrected(m, betas[0]) / (corrected(v, betas[1]) ** 0.5 + eps)
                    return param - lr * step, m, v
            """,
        ),
        Variant(
            "powers multiplied up",
            """
            def adam_step(param, grad, m, v, t, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
                beta1, beta2 = betas
                power1 = power2 = 1.0
                for _ in range(t):
                    power1, power2 = power1 * beta1, power2 * beta2
                m_new = torch.stack([m, grad]).mul(
                    torch.stack([torch.full_like(m, beta1), torch.full_like(m, 1 - beta1)])
                ).sum(0)
                v_new = v * beta2 + grad.abs().pow(2) * (1 - beta2)
                v_hat = v_new / (1 - power2)
                return param + -lr * (m_new / (1 - power1)) / (eps + v_hat.sqrt()), m_new, v_new
            """,
        ),
    ],
)


@adam_step.test(
    points=2,
    cases=[
        Case("in the first step", one_step, lambda make: fresh(make, 3, 5, t=1, **ADAM_HYPER)),
        Case("in the second step", one_step, lambda make: warm(make, 4, 3, t=2, **ADAM_HYPER)),
        Case(
            "in a step long after the start",
            one_step,
            lambda make: warm(make, 2, 7, t=150, **ADAM_HYPER | {"betas": (0.98, 0.995)}),
        ),
        Case(
            "through five steps from the start",
            steps_in_a_row,
            lambda make: row(make, 2, 5, steps=5, counted=True, **ADAM_HYPER),
        ),
    ],
)
def test_adam_step_follows_algorithm_1(submission, case):
    """Follows Algorithm 1 of the paper"""
    submission.matches_reference(case)


@adam_step.test(
    points=1,
    cases=[
        Case(
            "where gradients are much smaller than eps",
            one_step,
            lambda make: fresh(make, 3, 4, scale=1e-3, t=1, **ADAM_HYPER),
        ),
        Case(
            "where an element has never had a gradient",
            one_step,
            lambda make: partly_zero(make, 4, 2, t=3, **ADAM_HYPER),
        ),
        Case(
            "with the default lr, betas and eps",
            one_step,
            lambda make: fresh(make, 6, what=ADAM, memories=2, scale=1e-8, t=4),
        ),
    ],
)
def test_adam_step_divides_with_care(submission, case):
    """Keeps eps in its place, for tiny gradients and for none"""
    submission.matches_reference(case)


@adam_step.test(
    points=0.5,
    cases=[
        Case(
            "for tensors of three dimensions",
            one_step,
            lambda make: warm(make, 2, 3, 4, t=4, **ADAM_HYPER),
        ),
        Case("for a single number", scalar_step, lambda make: warm(make, 1, t=4, **ADAM_HYPER)),
        Case(
            "for transposed tensors",
            transposed_step,
            lambda make: warm(make, 3, 5, t=4, **ADAM_HYPER),
        ),
    ],
)
def test_adam_step_takes_any_shape(submission, case):
    """Takes parameters of any shape"""
    submission.matches_reference(case)


@adam_step.test(
    points=0.25,
    cases=[
        Case(
            "after one step",
            arguments_after,
            lambda make: warm(make, 3, 2, t=3, names=ADAM_NAMES, memories=2, lr=0.3, eps=0.2),
        )
    ],
)
def test_adam_step_leaves_its_arguments(submission, case):
    """Leaves its arguments unchanged"""
    submission.matches_reference(case)


@adam_step.test(
    points=0.25,
    cases=[Case("a warm step", one_step, lambda make: warm(make, 4, 3, t=3, **ADAM_HYPER))],
)
def test_adam_step_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# AdamW. Whoever writes Adam out again may slip as in adam_step; the rest is the decay.

ADAM_WRITTEN_OUT = f"""
def adam_step(param, grad, m, v, t, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
    beta1, beta2 = betas
    m = {FIRST}
    v = {SECOND}
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    {STEP}
"""
ADAMW_WRITTEN_OUT = (
    ADAM_WRITTEN_OUT.replace("eps=1e-8)", "eps=1e-8, weight_decay=1e-2)")
    .replace("def adam_step", "def adamw_step")
    .replace("    beta1,", "    param = param * (1 - lr * weight_decay)\n    beta1,")
)
ADAMW_HYPER = {**ADAM_HYPER, "weight_decay": 0.4}
DECAY = "decayed = param - lr * weight_decay * param"
CALL = "adam_step(decayed, grad, m, v, t, lr, betas, eps)"

adamw_step = Exercise(
    "adamw_step",
    oracle=adamw_by_torch,
    forbids=FORBIDDEN,
    mistakes=[
        *(
            Mistake.written(slip.name, slip.apply(ADAMW_WRITTEN_OUT), slip.hint)
            for slip in adam_step.mistakes
            if slip.name not in ("parameter changed in place", "everything in place")
        ),
        Mistake.edits_of(
            "L2 in the gradient",
            [
                (DECAY, "grad = grad + weight_decay * param"),
                (CALL, CALL.replace("decayed", "param")),
            ],
            "The decay is in the gradient, so both moments hear of it and it is divided away. That "
            "is Adam with an L2 penalty; in AdamW the decay goes straight to the parameter.",
        ),
        Mistake.written(
            "L2 in the first moment",
            ADAMW_WRITTEN_OUT.replace(
                "(1 - beta1) * grad", "(1 - beta1) * (grad + weight_decay * param)"
            ).replace("    param = param * (1 - lr * weight_decay)\n", ""),
            "The decay is in the first moment, where it is averaged and divided like a gradient. "
            "In AdamW neither moment hears of it.",
        ),
        Mistake(
            "L2 in the gradient and decay",
            DECAY,
            f"{DECAY}\n    grad = grad + weight_decay * param",
            "The decay acts twice: on the parameter, where it belongs, and in the gradient.",
        ),
        Mistake(
            "decay divided like the gradient",
            f"{DECAY}\n    return {CALL}",
            "new, m_new, v_new = adam_step(param, grad, m, v, t, lr, betas, eps)\n"
            "    size = (v_new / (1 - betas[1] ** t)).sqrt() + eps\n"
            "    return new - lr * weight_decay * param / size, m_new, v_new",
            "The decay is inside the quotient and divided by the gradients' usual size. Decoupled "
            "means that it is not.",
        ),
        Mistake(
            "decay without lr",
            DECAY,
            "decayed = param - weight_decay * param",
            "The decay lacks the learning rate: here, as in PyTorch, lr scales both parts.",
        ),
        Mistake(
            "decay with lr squared",
            DECAY,
            "decayed = param - lr**2 * weight_decay * param",
            "The learning rate scales the decay once, not twice.",
        ),
        Mistake(
            "growth instead of decay",
            DECAY,
            "decayed = param + lr * weight_decay * param",
            "The parameter grows: decay takes a share of it away.",
        ),
        Mistake.edits_of(
            "no decay",
            [(DECAY, "decayed = param + 0")],
            "weight_decay has no effect: this is plain Adam.",
        ),
        Mistake(
            "vectors not decayed",
            DECAY,
            f"{DECAY} * (param.dim() > 1)",
            "Parameters of one dimension do not decay. Which parameters do is for the caller to "
            "choose; this function decays whatever it is given.",
        ),
        Mistake(
            "no decay without a gradient",
            DECAY,
            f"{DECAY} * (grad != 0)",
            "Elements whose gradient is zero do not decay. The decay does not depend on the "
            "gradient at all: every element decays in every step.",
        ),
        Mistake(
            "decay after the step",
            f"{DECAY}\n    return {CALL}",
            "new, m, v = adam_step(param, grad, m, v, t, lr, betas, eps)\n"
            "    return new - lr * weight_decay * new, m, v",
            "What decays is the parameter as it was before the step, not after it.",
        ),
        Mistake(
            "decay by a constant",
            DECAY,
            "decayed = param - lr * weight_decay",
            "The decay is a share of each weight, so that it pulls towards zero: it lacks the "
            "parameter as a factor.",
        ),
        Mistake(
            "decay by the sign",
            DECAY,
            "decayed = param - lr * weight_decay * param.sign()",
            "That is the pull of an L1 penalty. Weight decay is proportional to the weight.",
        ),
        Mistake(
            "decay by the square",
            DECAY,
            "decayed = param - lr * weight_decay * param**2",
            "The penalty is quadratic, its pull is not: the decay is proportional to the weight.",
        ),
        Mistake(
            "decay by the absolute value",
            DECAY,
            "decayed = param - lr * weight_decay * param.abs()",
            "Negative weights move away from zero: the decay is a share of the weight, with its "
            "sign.",
        ),
        Mistake(
            "decay by the norm",
            DECAY,
            "decayed = param - lr * weight_decay * param.norm()",
            "The decay is a share of each weight, element by element, and not of the norm.",
        ),
        Mistake(
            "decay doubled",
            DECAY,
            "decayed = param - 2 * lr * weight_decay * param",
            "There is a factor 2 too many in the decay: look at the formula's second term again.",
        ),
        Mistake(
            "decay halved",
            DECAY,
            "decayed = param - 0.5 * lr * weight_decay * param",
            "There is a factor one half too many. It belongs to an L2 penalty, before "
            "differentiating; here there is no penalty, only the decay itself.",
        ),
        Mistake(
            "only the decayed share kept",
            DECAY,
            "decayed = lr * weight_decay * param",
            "What is left is only the share that should have been taken away.",
        ),
        Mistake(
            "moments decayed, too",
            f"return {CALL}",
            "kept = 1 - lr * weight_decay\n"
            "    return adam_step(decayed, grad, kept * m, v, t, lr, betas, eps)",
            "The decay concerns the parameter alone: the moments know nothing of it.",
        ),
        Mistake.edits_of(
            "learning rate decayed",
            [
                (DECAY, "lr = lr * (1 - weight_decay)"),
                (CALL, CALL.replace("decayed", "param")),
            ],
            "It is the weights that decay, not the learning rate.",
        ),
        Mistake.edits_of(
            "decay of the gradient",
            [
                (DECAY, "grad = grad - lr * weight_decay * grad"),
                (CALL, CALL.replace("decayed", "param")),
            ],
            "It is the weights that decay, not the gradient.",
        ),
        Mistake(
            "weight_decay hard-coded",
            DECAY,
            "decayed = param - lr * 1e-2 * param",
            "The argument weight_decay has no effect: use it instead of a number of your own.",
        ),
        Mistake(
            "hyperparameters not passed on",
            CALL,
            "adam_step(decayed, grad, m, v, t)",
            "lr, betas and eps do not reach Adam's step, which takes its defaults: pass them on.",
        ),
        Mistake(
            "m and v passed in the wrong order",
            CALL,
            "adam_step(decayed, grad, v, m, t, lr, betas, eps)",
            "Adam's step expects m before v.",
        ),
        Mistake(
            "parameter changed in place",
            DECAY,
            "decayed = param.mul_(1 - lr * weight_decay)",
            f"The param that was passed in has changed. {IN_PLACE}",
        ),
    ],
    variants=[
        Variant("everything written out", ADAMW_WRITTEN_OUT),
        Variant(
            "the decay subtracted at the end",
            """
            def adamw_step(
                param, grad, m, v, t, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2
            ):
                stepped, m, v = adam_step(param, grad, m, v, t, lr=lr, betas=betas, eps=eps)
                return [stepped - lr * weight_decay * param, m, v]
            """,
        ),
        Variant(
            "a factor first, keywords throughout",
            """
            def adamw_step(
                param, grad, m, v, t, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2
            ):
                with torch.no_grad():
                    shrunk = param.clone().mul_(1 - lr * weight_decay)
                    return adam_step(
                        param=shrunk, grad=grad, m=m, v=v, t=t, lr=lr, betas=betas, eps=eps
                    )
            """,
        ),
        Variant(
            "both pulls in one bracket",
            """
            def adamw_step(
                param, grad, m, v, t, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2
            ):
                b1, b2 = betas
                m = torch.lerp(m, grad, 1 - b1)
                v = v.mul(b2).addcmul(grad, grad, value=1 - b2)
                direction = (m / (1 - b1**t)).div((v / (1 - b2**t)).sqrt().add(eps))
                return param - lr * (direction + weight_decay * param), m, v
            """,
        ),
        Variant(
            "interpolated towards zero",
            """
            def adamw_step(
                param, grad, m, v, t, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2
            ):
                decayed = torch.lerp(param, torch.zeros_like(param), lr * weight_decay)
                new_param, new_m, new_v = adam_step(decayed, grad, m, v, t, lr, betas, eps)
                return new_param, new_m, new_v
            """,
        ),
    ],
)


@adamw_step.test(
    points=1.5,
    cases=[
        Case("in the first step", one_step, lambda make: fresh(make, 3, 5, t=1, **ADAMW_HYPER)),
        Case("in the second step", one_step, lambda make: warm(make, 4, 3, t=2, **ADAMW_HYPER)),
        Case(
            "in a step long after the start",
            one_step,
            lambda make: warm(make, 2, 7, t=150, **ADAMW_HYPER | {"betas": (0.98, 0.995)}),
        ),
        Case(
            "through five steps from the start",
            steps_in_a_row,
            lambda make: row(make, 2, 5, steps=5, counted=True, **ADAMW_HYPER),
        ),
    ],
)
def test_adamw_step_decays_decoupled(submission, case):
    """Takes Adam's step and decays the parameter beside it"""
    submission.matches_reference(case)


@adamw_step.test(
    points=0.75,
    cases=[
        Case(
            "with a weight decay of zero",
            one_step,
            lambda make: warm(make, 3, 4, t=3, **ADAM_HYPER, weight_decay=0.0),
        ),
        Case(
            "where an element has never had a gradient",
            one_step,
            lambda make: partly_zero(make, 4, 2, t=3, **ADAMW_HYPER),
        ),
        Case(
            "where gradients are much smaller than eps",
            one_step,
            lambda make: fresh(make, 3, 4, scale=1e-3, t=1, **ADAMW_HYPER),
        ),
        Case(
            "with the default hyperparameters",
            one_step,
            lambda make: fresh(make, 6, what=ADAM, memories=2, scale=1e-8, t=4),
        ),
        Case(
            "for tensors of three dimensions",
            one_step,
            lambda make: warm(make, 2, 3, 4, t=4, **ADAMW_HYPER),
        ),
    ],
)
def test_adamw_step_takes_what_it_is_given(submission, case):
    """Takes any weight decay, any shape, and elements without a gradient"""
    submission.matches_reference(case)


@adamw_step.test(
    points=0.5,
    cases=[
        Case(
            "after one step",
            arguments_after,
            lambda make: warm(make, 3, 2, t=3, names=ADAM_NAMES, memories=2, lr=0.3, eps=0.2),
        )
    ],
)
def test_adamw_step_leaves_its_arguments(submission, case):
    """Leaves its arguments unchanged"""
    submission.matches_reference(case)


@adamw_step.test(
    points=0.25,
    cases=[Case("a warm step", one_step, lambda make: warm(make, 4, 3, t=3, **ADAMW_HYPER))],
)
def test_adamw_step_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# The optimizer class. Its scenarios make the parameters, hand over gradients, and look at what
# became of the very same parameters. Its values are judged in float32: the formula was judged
# above, and a step counter kept in a float32 tensor is no mistake.


def case(title, scenario, inputs):
    return Case(title, scenario, inputs, dtypes=(torch.float32,))


def leaves(start):
    return [nn.Parameter(value.clone()) for value in start]


def grouped(params, sizes, options, once=False):
    """Group dicts of the given sizes; with ``once``, their parameters can be gone through once."""
    groups, begin = [], 0
    for size, own in zip(sizes, options, strict=True):
        chunk = params[begin : begin + size]
        groups.append({"params": iter(chunk) if once else chunk, **own})
        begin += size
    return groups


def feed(optimizer, params, gradients):
    """One step for each list of gradients, which holds a gradient or None for each parameter."""
    for now in gradients:
        for param, grad in zip(params, now, strict=True):
            param.grad = None if grad is None else grad.clone()
        optimizer.step()


def values(params):
    return {f"parameter {i}": param.detach().clone() for i, param in enumerate(params)}


def contents(saved, stepped):
    """What a state dict holds, of the states those of the parameters that have been updated."""
    state = {}
    for i in stepped:
        entry = saved["state"][i]
        state[f"step of parameter {i}"] = float(entry["step"])
        for moment in ("exp_avg", "exp_avg_sq"):
            state[f"{moment} of parameter {i}"] = entry[moment].detach().clone()
    hyper = ("lr", "betas", "eps", "weight_decay")
    groups = saved["param_groups"]
    return {
        "the state": state,
        "the numbers of the groups' parameters": [list(group["params"]) for group in groups],
        "the groups' hyperparameters": [{name: group[name] for name in hyper} for group in groups],
    }


def one_group(impl, start, gradients, generator=False, **options):
    params = leaves(start)
    optimizer = impl((p for p in params) if generator else params, **options)
    feed(optimizer, params, gradients)
    return values(params)


def several_groups(impl, start, sizes, groups, gradients, once=False, then=None, **options):
    """Train; with ``then``, write other hyperparameters into the groups and train on."""
    params = leaves(start)
    optimizer = impl(grouped(params, sizes, groups, once), **options)
    feed(optimizer, params, gradients)
    if then is not None:
        for group, changes in zip(optimizer.param_groups, then["groups"], strict=True):
            group.update(changes)
        feed(optimizer, params, then["gradients"])
    return values(params)


def steps_counted(impl, start, sizes, groups, gradients, **options):
    params = leaves(start)
    optimizer = impl(grouped(params, sizes, groups), **options)
    feed(optimizer, params, gradients)
    saved = optimizer.state_dict()["state"]
    stepped = [i for i in range(len(params)) if any(now[i] is not None for now in gradients)]
    return {f"step of parameter {i}": float(saved[i]["step"]) for i in stepped}


def by_backward(impl, weight, bias, x, y, steps, **options):
    weight, bias = leaves([weight, bias])
    optimizer = impl([weight, bias], **options)
    for _ in range(steps):
        optimizer.zero_grad()
        ((x @ weight.T + bias - y) ** 2).mean().backward()
        optimizer.step()
    moment = optimizer.state_dict()["state"][0]["exp_avg"]
    return {
        **values([weight, bias]),
        "the parameters still require gradients": weight.requires_grad and bias.requires_grad,
        "the parameters are still leaves": weight.is_leaf and bias.is_leaf,
        "autograd recorded the first moment": moment.requires_grad,
    }


def gradients_after_steps(impl, start, gradients, repeats, **options):
    """Further steps on gradients that nobody sets anew."""
    params = leaves(start)
    optimizer = impl(params, **options)
    feed(optimizer, params, gradients)
    grads = {f"gradient of parameter {i}": param.grad.clone() for i, param in enumerate(params)}
    for _ in range(repeats):
        optimizer.step()
    return {**grads, **values(params)}


def after_zero_grad(impl, start, sizes, groups, gradients, **options):
    """Train, clear the gradients, and step once with gradients for every other parameter."""
    params = leaves(start)
    optimizer = impl(grouped(params, sizes, groups), **options)
    feed(optimizer, params, gradients)
    optimizer.zero_grad()
    cleared = {
        f"gradient {i} is None after zero_grad": p.grad is None for i, p in enumerate(params)
    }
    for param, grad in list(zip(params, gradients[0], strict=True))[1::2]:
        param.grad = grad.clone()
    optimizer.step()
    return {**cleared, **values(params)}


def snapshot(impl, start, sizes, groups, gradients, stepped, later=(), **options):
    """A state dict, looked at after ``later`` steps."""
    params = leaves(start)
    optimizer = impl(grouped(params, sizes, groups), **options)
    feed(optimizer, params, gradients)
    saved = optimizer.state_dict()
    if later:
        feed(optimizer, params, later)
        optimizer.param_groups[0]["lr"] = 9.0
    return contents(saved, stepped)


def resumed(impl, start, sizes, groups, gradients, later, before=(), **options):
    """Save after ``gradients``, load into one optimizer for each entry of ``later``, go on.

    Each of these has other hyperparameters and has taken the steps ``before``.
    """
    params = leaves(start)
    optimizer = impl(grouped(params, sizes, groups), **options)
    feed(optimizer, params, gradients)
    saved = optimizer.state_dict()
    result = {}
    for k, rest in enumerate(later):
        twins = leaves(start)
        other = impl(grouped(twins, sizes, [{} for _ in sizes]), lr=0.7, eps=0.3)
        feed(other, twins, before)
        with torch.no_grad():
            for twin, param in zip(twins, params, strict=True):
                twin.copy_(param)
        other.load_state_dict(saved)
        feed(other, twins, rest)
        result[f"optimizer {k} that goes on"] = values(twins)
    return result


def reloaded(impl, start, sizes, groups, gradients, stepped, **options):
    """What another optimizer's own snapshot says after it has loaded one."""
    params, twins = leaves(start), leaves(start)
    optimizer = impl(grouped(params, sizes, groups), **options)
    feed(optimizer, params, gradients)
    other = impl(grouped(twins, sizes, [{} for _ in sizes]))
    other.load_state_dict(optimizer.state_dict())
    return contents(other.state_dict(), stepped)


def refused(impl, start, sizes, other_sizes):
    saved = impl(grouped(leaves(start), sizes, [{} for _ in sizes])).state_dict()
    other = impl(grouped(leaves(start), other_sizes, [{} for _ in other_sizes]))
    return {"what loading it raises": raised(lambda: other.load_state_dict(saved), ValueError)}


def nothing_to_train(impl, generator):
    empty = leaves([])
    params = iter(empty) if generator else empty
    return {"what the constructor raises": raised(lambda: impl(params), ValueError)}


SHAPES = [(3, 4), (5,), (3, 4), (2, 3, 2)]  # two of one shape: their states must not be mixed up
OPTIONS = {"lr": 0.2, "betas": (0.6, 0.85), "eps": 0.15}
GROUPS = {  # each hyperparameter is some groups' own and some group's default
    "sizes": [2, 1, 1],
    "groups": [
        {"lr": 0.4, "eps": 0.05},
        {"betas": (0.3, 0.95), "weight_decay": 0.5},
        {"eps": 0.5, "betas": (0.8, 0.7), "lr": 0.1},
    ],
    "weight_decay": 0.2,
    **OPTIONS,
}
UNDECAYED = {**GROUPS, "groups": [{"weight_decay": 0.0}, *GROUPS["groups"][1:]]}
CHANGED = [
    {"lr": 0.05, "weight_decay": 0.7},
    {"betas": (0.7, 0.6), "eps": 0.4},
    {"lr": 0.6, "weight_decay": 0.0, "eps": 0.1},
]
# (step, parameter) without a gradient: 0 starts late, 1 pauses, 2 stops early, 3 never starts.
PAUSES = [(0, 0), (1, 0), (1, 1), (2, 1), (3, 2), (4, 2), *((t, 3) for t in range(5))]


def some(make, steps, without=()):
    return [
        [None if (t, i) in without else make.away_from_zero(*s) for i, s in enumerate(SHAPES)]
        for t in range(steps)
    ]


def untrained(make, **options):
    return {"start": [make.normal(*shape) for shape in SHAPES], **options}


def training(make, steps, without=(), zero=False, zeros=(), **options):
    """Gradients for so many steps.

    With ``zero`` an element never has any; ``zeros`` holds (step, parameter) of gradients of zero.
    """
    gradients = some(make, steps, without)
    for now in gradients if zero else []:
        now[1][2] = 0.0
    for t, i in zeros:
        gradients[t][i] = torch.zeros_like(gradients[t][i])
    return {**untrained(make), "gradients": gradients, **options}


def regression(make, **options):
    pairs = {"x": make.normal(7, 3), "y": make.normal(7, 2, mean=1.0)}
    return {"weight": make.normal(2, 3), "bias": make.normal(2), **pairs, **options}


# Pieces of the class that mistakes replace.

OF_GROUP = {
    "lr": 'lr=group["lr"]',
    "betas": 'betas=group["betas"]',
    "eps": 'eps=group["eps"]',
    "weight_decay": 'group["weight_decay"] * param',
}
GROUP = '{**defaults, **group, "params": list(group["params"])}'
NO_STATE = "self.state: dict[Tensor, dict[str, Any]] = {}"
LOOP = "with torch.no_grad():\n            for group in self.param_groups:"
SKIP = "if param.grad is None:\n                        continue"
COUNT = 'state["step"] += 1'
UPDATE = 'new, state["exp_avg"], state["exp_avg_sq"] = adam_step('
L2 = 'param.grad + group["weight_decay"] * param,'
WRITE = "param.copy_(new)"
SAVE = "{number[param]: deepcopy(state) for param, state in self.state.items()}"
LOAD = '{every[i]: deepcopy(state) for i, state in state_dict["state"].items()}'
KEPT_IN_PLACE = [
    (UPDATE, "new, m, v = adam_step("),
    (
        WRITE,
        f'{WRITE}\n                    state["exp_avg"].copy_(m)\n'
        '                    state["exp_avg_sq"].copy_(v)',
    ),
]


SLIPS_IN_THE_RULE = (
    *("no bias correction", "m uncorrected", "v uncorrected", "t ignored"),
    *("t one too large", "corrected moments returned", "eps before the correction"),
    *("eps under the root", "eps left out", "eps hard-coded", "betas hard-coded", "betas swapped"),
    *("root left out", "quotient not bracketed", "uphill", "gradient instead of m"),
    *("nothing new weighted", "both moments weighted the wrong way round"),
)


def slips_in_the_rule():
    """Adam's formula written out once more in the class, with a slip known from adam_step."""
    for slip in adam_step.mistakes:
        if slip.name in SLIPS_IN_THE_RULE:
            rule = slip.apply(ADAM_WRITTEN_OUT).replace("def adam_step", "def rule")
            edits = [("class Adam:", f"{rule}\n\nclass Adam:"), ("= adam_step(", "= rule(")]
            yield Mistake.edits_of(slip.name, edits, slip.hint)


def from_elsewhere(name, *hyperparameters):
    """Hyperparameters taken from the constructor's arguments, or from the groups as they were."""
    pairs = [(OF_GROUP[h], h) for h in hyperparameters]
    kept = "".join(f"\n        self.{h} = {h}" for h in hyperparameters)
    yield Mistake.edits_of(
        f"{name} of the groups ignored",
        [(NO_STATE, NO_STATE + kept)]
        + [(code, code.replace(f'group["{h}"]', f"self.{h}")) for code, h in pairs],
        f"Every group trains with the constructor's {name}: look it up in the group, in each step.",
    )
    yield Mistake.edits_of(
        f"{name} fixed at the start",
        [
            (NO_STATE, f"{NO_STATE}\n        self.first = [dict(g) for g in self.param_groups]"),
            (
                LOOP,
                LOOP.replace(
                    "group in self.param_groups", "k, group in enumerate(self.param_groups)"
                ),
            ),
        ]
        + [(code, code.replace("group[", "self.first[k][")) for code, _ in pairs],
        f"Writing another value for {name} into param_groups has no effect, nor has loading one: "
        "look it up in the group, in each step.",
    )


Adam = Exercise(
    "Adam",
    oracle=AdamByTorch,
    forbids=FORBIDDEN,
    mistakes=[
        *slips_in_the_rule(),
        *from_elsewhere("lr", "lr"),
        *from_elsewhere("betas", "betas"),
        *from_elsewhere("eps", "eps"),
        *from_elsewhere("weight_decay", "weight_decay"),
        *from_elsewhere("hyperparameters", *OF_GROUP),
        # the constructor and the groups
        Mistake(
            "groups' own hyperparameters overwritten",
            GROUP,
            '{**group, **defaults, "params": list(group["params"])}',
            "The constructor's arguments are defaults: where a group brings a value of its own, "
            "that one counts.",
        ),
        Mistake.edits_of(
            "groups without defaults",
            [
                (GROUP, '{**group, "params": list(group["params"])}'),
                ('[{"params": given}]', '[{**defaults, "params": given}]'),
            ],
            "A group that says nothing about a hyperparameter takes it from the constructor's "
            "arguments; yours has none then.",
        ),
        Mistake(
            "zero taken for missing",
            GROUP,
            '{**{k: group.get(k) or d for k, d in defaults.items()}, "params": '
            'list(group["params"])}',
            "A group that says 0 means 0 (no weight decay on biases, say); here it gets the "
            "constructor's value. Ask whether the key is there, not whether its value is true.",
        ),
        Mistake(
            "hyperparameters leak into later groups",
            GROUP,
            '(defaults.update({**group, "params": list(group["params"])}), dict(defaults))[1]',
            "What one group brings becomes the default of the groups after it: give each group a "
            "dict of its own, and leave the defaults as they are.",
        ),
        Mistake.edits_of(
            "the first group's hyperparameters for all",
            [(code, code.replace("group[", "self.param_groups[0][")) for code in OF_GROUP.values()],
            "Every group trains with the hyperparameters of the first one.",
        ),
        Mistake(
            "only the first group trained",
            LOOP,
            LOOP.replace("param_groups", "param_groups[:1]"),
            "Parameters of later groups never move: a step goes through all groups.",
        ),
        Mistake.edits_of(
            "generator used up",
            [
                (
                    "given: list[Any] = list(params)",
                    "given: Any = params if isinstance(params, list) else [None]",
                ),
                ('[{"params": given}]', '[{"params": given if given[0] is not None else params}]'),
                (GROUP, "{**defaults, **group}"),
            ],
            "After the first step the parameters are gone: a generator can be gone through only "
            "once, so make a list of it at the start.",
        ),
        Mistake(
            "groups' generators used up",
            GROUP,
            "{**defaults, **group}",
            "A group's parameters may come as a generator, which can be gone through only once: "
            "make a list of it at the start.",
        ),
        Mistake(
            "a list taken for groups",
            "isinstance(given[0], dict)",
            "isinstance(params, list)",
            "A list may hold parameters as well as group dicts: look at what is in it.",
        ),
        Mistake(
            "nothing to train not refused",
            "if not given:",
            "if params is None:",
            "With no parameters at all a ValueError is promised.",
        ),
        Mistake.edits_of(
            "an empty generator accepted",
            [("if not given:", "if params == []:"), ("given[0]", "[*given, None][0]")],
            "A generator counts as true even when nothing is left in it: look at the list that is "
            "made of it.",
        ),
        Mistake.edits_of(
            "nothing to train accepted",
            [("if not given:", "if params is None:"), ("given[0]", "[*given, None][0]")],
            "With no parameters at all a ValueError is promised: training nothing is a mistake "
            "that should be heard of.",
        ),
        # the step: state and counter
        Mistake.edits_of(
            "one counter for all parameters",
            [
                (NO_STATE, f"{NO_STATE}\n        self.t = 0"),
                (LOOP, f"self.t += 1\n        {LOOP}"),
                (COUNT, 'state["step"] = self.t'),
            ],
            "The counter belongs to the optimizer, so a parameter that sat out some steps is "
            "corrected for steps that it never took. Each parameter counts its own.",
        ),
        Mistake.edits_of(
            "counter goes up with every parameter",
            [
                (NO_STATE, f"{NO_STATE}\n        self.t = 0"),
                (COUNT, 'self.t += 1\n                    state["step"] = self.t'),
            ],
            "One counter goes up for each parameter in turn. Each parameter counts its own steps.",
        ),
        Mistake.edits_of(
            "counter shared by a group",
            [
                (COUNT, 'state["step"] = group["count"]'),
                (
                    'for param in group["params"]:\n                    if param.grad is None',
                    'group["count"] = group.get("count", 0) + any(\n'
                    '                    p.grad is not None for p in group["params"]\n'
                    "                )\n"
                    '                for param in group["params"]:\n'
                    "                    if param.grad is None",
                ),
            ],
            "The counter belongs to the group, so a parameter that sat out some steps is "
            "corrected for steps that it never took. Each parameter counts its own.",
        ),
        Mistake.edits_of(
            "skipped steps counted",
            [
                (
                    f"{SKIP}\n                    if param not in self.state:",
                    "if param not in self.state:",
                ),
                (COUNT, f"{COUNT}\n                    {SKIP}"),
            ],
            "A step without a gradient does not count for the parameter: skip it before its "
            "counter goes up.",
        ),
        Mistake.edits_of(
            "counted after the update",
            [(f"{COUNT}\n", "pass\n"), (WRITE, f"{WRITE}\n                    {COUNT}")],
            "t counts from 1: the counter goes up before the update that it is used in.",
        ),
        Mistake(
            "counter never moves",
            COUNT,
            'state["step"] = 1',
            "Every step is taken for the first one: the counter has to go up.",
        ),
        Mistake(
            "state made anew in every step",
            "if param not in self.state:",
            "if True:",
            "The state is made anew in every step: make it when a parameter is first updated, and "
            "keep it.",
        ),
        Mistake(
            "moments not kept",
            UPDATE,
            "new, _, _ = adam_step(",
            "The new moments are thrown away: put them back into the parameter's state.",
        ),
        Mistake(
            "second moment not kept",
            UPDATE,
            'new, state["exp_avg"], _ = adam_step(',
            "The new second moment is thrown away: put it back into the parameter's state.",
        ),
        Mistake(
            "moments kept the wrong way round",
            UPDATE,
            'new, state["exp_avg_sq"], state["exp_avg"] = adam_step(',
            "The moments change places in the state: adam_step returns the first moment first.",
        ),
        Mistake.edits_of(
            "states mixed up between groups",
            [
                (
                    'for param in group["params"]:\n                    if param.grad is None',
                    'for place, param in enumerate(group["params"]):\n'
                    "                    if param.grad is None",
                ),
                ("if param not in self.state:", "if place not in self.state:"),
                ("self.state[param] = {", "self.state[place] = {"),
                ("state = self.state[param]", "state = self.state[place]"),
                (SAVE, "deepcopy(self.state)"),
                (LOAD, 'deepcopy(state_dict["state"])'),
            ],
            "Parameters at the same place of two groups share one state. Each parameter needs its "
            "own: tell them apart by what they are, not by their place in the group.",
        ),
        Mistake.edits_of(
            "states mixed up between shapes",
            [
                ("if param not in self.state:", "if param.shape not in self.state:"),
                ("self.state[param] = {", "self.state[param.shape] = {"),
                ("state = self.state[param]", "state = self.state[param.shape]"),
                (SAVE, "{i: deepcopy(self.state.get(p.shape)) for p, i in number.items()}"),
                (LOAD, '{every[i].shape: deepcopy(s) for i, s in state_dict["state"].items()}'),
            ],
            "Parameters of the same shape share one state. Each parameter needs its own.",
        ),
        Mistake(
            "moments made on the CPU",
            '"exp_avg": torch.zeros_like(param),',
            '"exp_avg": torch.zeros(param.shape),',
            "The moments start on the CPU, in the default dtype: make them like the parameter.",
        ),
        # the step: the gradient
        Mistake(
            "missing gradient not skipped",
            SKIP,
            "pass",
            "A parameter that took no part in the loss has None for a gradient: skip it.",
        ),
        Mistake.edits_of(
            "missing gradient taken for zero",
            [
                (SKIP, "pass"),
                (L2, L2.replace("param.grad", "(param * 0 if param.grad is None else param.grad)")),
            ],
            "A parameter without a gradient is not one whose gradient is zero: skip it, or its "
            "momentum moves it on and its counter goes up.",
        ),
        Mistake(
            "gradients of zero skipped",
            "if param.grad is None:",
            "if param.grad is None or not param.grad.any():",
            "A gradient of zero is a gradient: the step counts, and momentum moves on.",
        ),
        Mistake(
            "rest of the group skipped",
            SKIP,
            SKIP.replace("continue", "break"),
            "Where one parameter has no gradient, the rest of its group is left out, too: go on "
            "with the next parameter.",
        ),
        Mistake(
            "everything after it skipped",
            SKIP,
            SKIP.replace("continue", "return"),
            "Where one parameter has no gradient, the whole step ends: go on with the next "
            "parameter.",
        ),
        Mistake(
            "skipped parameters decayed",
            SKIP,
            SKIP.replace(
                "continue",
                'param.mul_(1 - group["lr"] * group["weight_decay"])\n' + " " * 24 + "continue",
            ),
            "A parameter without a gradient does not change at all, not even by weight decay.",
        ),
        Mistake(
            "penalty left out",
            L2,
            "param.grad,",
            "weight_decay has no effect: it adds a share of the parameter to the gradient.",
        ),
        Mistake(
            "penalty of the wrong sign",
            L2,
            L2.replace("+", "-"),
            "The penalty pushes weights away from zero: its gradient is added, not subtracted.",
        ),
        Mistake(
            "penalty without the parameter",
            L2,
            'param.grad + group["weight_decay"],',
            "The penalty's gradient is weight_decay times the parameter, not weight_decay alone.",
        ),
        Mistake(
            "penalty scaled by lr",
            L2,
            L2.replace("+ group", '+ group["lr"] * group'),
            "The penalty is part of the gradient: lr scales the step later on, all of it.",
        ),
        Mistake(
            "penalty doubled",
            L2,
            L2.replace("+ group", "+ 2 * group"),
            "There is a factor 2 too many: what is added to the gradient is weight_decay times "
            "the parameter.",
        ),
        Mistake.edits_of(
            "decay decoupled",
            [
                (L2, "param.grad,"),
                (
                    UPDATE,
                    f'param.mul_(1 - group["lr"] * group["weight_decay"])\n{" " * 20}{UPDATE}',
                ),
            ],
            "That is AdamW's decoupled decay. Here, as in torch.optim.Adam, weight_decay is an L2 "
            "penalty and goes through the gradient.",
        ),
        Mistake(
            "gradient changed by the penalty",
            L2,
            'param.grad.add_(group["weight_decay"] * param),',
            "The penalty is written into param.grad, where the next step would find it: leave the "
            "gradient as it is and work on a new tensor.",
        ),
        Mistake(
            "gradients cleared by the step",
            WRITE,
            f"{WRITE}\n                    param.grad = None",
            "step leaves the gradients as they are: clearing them is what zero_grad is for.",
        ),
        # the step: the parameter
        Mistake(
            "parameter not changed in place",
            WRITE,
            "param = new",
            "The model's parameters stay as they were: param = … only gives a new tensor the "
            "name. Write the new values into the old tensor.",
        ),
        Mistake(
            "update recorded by autograd",
            "with torch.no_grad():",
            "if True:",
            "A parameter that requires a gradient must not be changed in place while autograd is "
            "recording.",
        ),
        Mistake.edits_of(
            "moments recorded by autograd",
            [("with torch.no_grad():", "if True:"), (WRITE, "param.data.copy_(new)")],
            "The penalty is recorded by autograd, and through the moments the graph grows with "
            "every step: an optimizer's step runs without recording.",
        ),
        # zero_grad
        Mistake(
            "gradients set to zeros",
            "param.grad = None",
            "param.grad = torch.zeros_like(param)",
            "zero_grad leaves zeros. A gradient of zero still counts as a step: set it to None.",
        ),
        Mistake(
            "gradients zeroed in place",
            "param.grad = None",
            "if param.grad is not None:\n                    param.grad.zero_()",
            "zero_grad leaves zeros. A gradient of zero still counts as a step: set it to None.",
        ),
        Mistake(
            "gradients not cleared",
            "param.grad = None",
            "pass",
            "zero_grad has no effect, so gradients of several steps add up.",
        ),
        Mistake(
            "only the first group's gradients cleared",
            'for group in self.param_groups:\n            for param in group["params"]:\n'
            "                param.grad = None",
            'for group in self.param_groups[:1]:\n            for param in group["params"]:\n'
            "                param.grad = None",
            "zero_grad clears the first group alone: go through all groups.",
        ),
        # the state dict
        Mistake(
            "snapshot still alive",
            SAVE,
            SAVE.replace("deepcopy(state)", "state"),
            "The state dict hands out the optimizer's own state, so that later steps change what "
            "was saved: copy it.",
        ),
        Mistake.edits_of(
            "tensors of the snapshot still alive",
            [(SAVE, SAVE.replace("deepcopy", "dict")), *KEPT_IN_PLACE],
            "The state dict hands out the very tensors that later steps change in place: a copy of "
            "the dict alone still shares them.",
        ),
        Mistake(
            "numbers start anew in each group",
            "{param: i for i, param in enumerate(every)}",
            '{p: i for group in self.param_groups for i, p in enumerate(group["params"])}',
            "The parameters of every group are counted from 0, so that their states overwrite one "
            "another: go on counting through all groups.",
        ),
        Mistake(
            "numbers in the order of the first update",
            SAVE,
            "{i: deepcopy(state) for i, state in enumerate(self.state.values())}",
            "The states are numbered in the order in which parameters were first updated. A "
            "parameter's number is its place among all parameters.",
        ),
        Mistake(
            "numbers start at 1",
            "enumerate(every)",
            "enumerate(every, start=1)",
            "The first parameter has the number 0.",
            edits=[
                ("enumerate(every)", "enumerate(every, start=1)"),
                (LOAD, LOAD.replace("every[i]", "every[i - 1]")),
            ],
        ),
        Mistake(
            "parameters in the snapshot",
            '{**group, "params": [number[param] for param in group["params"]]}',
            "dict(group)",
            "The state dict's groups hold the parameters themselves. They belong to the model's "
            "own state dict; here they go by their numbers.",
        ),
        Mistake.edits_of(
            "counter not saved",
            [
                (SAVE, '{number[p]: {**deepcopy(s), "step": 0} for p, s in self.state.items()}'),
            ],
            "The snapshot does not say how many steps each parameter has taken.",
        ),
        Mistake.edits_of(
            "hyperparameters not saved",
            [
                (
                    '{**group, "params": [number[param] for param in group["params"]]}',
                    '{"params": [number[param] for param in group["params"]]}',
                ),
                ("{**saved, ", "{**group, **saved, "),
            ],
            "The snapshot's groups lack their hyperparameters.",
        ),
        *(
            Mistake.edits_of(
                f"{name} not saved",
                [
                    (
                        '{**group, "params": [number[param] for param in group["params"]]}',
                        f"{{k: v for k, v in group.items() if k not in ('{name}', 'params')}}"
                        ' | {"params": [number[param] for param in group["params"]]}',
                    ),
                    ("{**saved, ", "{**group, **saved, "),
                ],
                f"The snapshot's groups lack {name}: all hyperparameters of a group belong to it.",
            )
            for name in OF_GROUP
        ),
        Mistake(
            "only the groups' numbers start anew",
            '[number[param] for param in group["params"]]',
            'list(range(len(group["params"])))',
            "In the snapshot's groups the parameters of every group are counted from 0, while the "
            "states count through all groups: both use the same numbers.",
        ),
        Mistake(
            "snapshot emptied by loading",
            '{**saved, "params": group["params"]}',
            '{"params": (saved.pop("params"), group["params"])[1], **saved}',
            "Loading takes something out of the snapshot that it was given, so that it cannot be "
            "loaded again: work on a copy.",
        ),
        Mistake.edits_of(
            "tensors of another dtype after loading",
            [
                (
                    LOAD,
                    LOAD.replace(
                        "deepcopy(state)",
                        "{k: v if k == 'step' else v.float() for k, v in state.items()}",
                    ),
                )
            ],
            "After loading, the moments are in another dtype than in the snapshot: copy them as "
            "they are.",
        ),
        Mistake(
            "snapshot shared after loading",
            LOAD,
            LOAD.replace("deepcopy(state)", "state"),
            "After loading, the snapshot and the optimizer share one state, so that steps change "
            "what was saved: copy it.",
        ),
        Mistake.edits_of(
            "tensors shared after loading",
            [(LOAD, LOAD.replace("deepcopy", "dict")), *KEPT_IN_PLACE],
            "After loading, the snapshot and the optimizer share the tensors that steps change in "
            "place: a copy of the dict alone is not enough.",
        ),
        Mistake(
            "counter restarts after loading",
            LOAD,
            LOAD.replace("deepcopy(state)", '{**deepcopy(state), "step": 0}'),
            "After loading, the counters start again while the moments are warm: they are part "
            "of what is loaded.",
        ),
        Mistake(
            "states not loaded",
            LOAD,
            "{}",
            "Loading brings the hyperparameters back, but neither the moments nor the counters.",
        ),
        Mistake(
            "states loaded in their order",
            LOAD,
            'dict(zip(every, deepcopy(list(state_dict["state"].values())), strict=False))',
            "The states are handed out in the order in which they stand in the snapshot: give "
            "each to the parameter whose number it bears.",
        ),
        Mistake(
            "states not replaced by loading",
            f"self.state = {LOAD}",
            f"self.state.update({LOAD})",
            "A parameter that has no state in the snapshot keeps the one it had: loading replaces "
            "all states.",
        ),
        Mistake(
            "hyperparameters not loaded",
            "{**saved, ",
            "{**saved, **group, ",
            "Loading brings the states back, but not the groups' hyperparameters.",
        ),
        Mistake(
            "only lr loaded",
            "{**saved, ",
            '{**group, "lr": saved["lr"], ',
            "Of the groups' hyperparameters only lr is loaded: betas, eps and weight_decay belong "
            "to the snapshot, too.",
        ),
        Mistake(
            "numbers loaded in place of parameters",
            '{**saved, "params": group["params"]}',
            "dict(saved, **{k: group[k] for k in group if k not in saved})",
            "After loading, the groups hold numbers where their parameters were.",
        ),
        Mistake.edits_of(
            "misfit accepted",
            [("if saved_sizes != sizes:", "if not saved_sizes:"), ("strict=True", "strict=False")],
            "A snapshot with other groups is loaded without a word: a ValueError is promised.",
        ),
        Mistake(
            "only the number of groups compared",
            "if saved_sizes != sizes:",
            "if len(saved_sizes) != len(sizes):",
            "The number of groups is compared, but not how many parameters each of them has.",
        ),
        Mistake.edits_of(
            "only the number of parameters compared",
            [
                ("if saved_sizes != sizes:", "if sum(saved_sizes) != sum(sizes):"),
                ("strict=True", "strict=False"),
            ],
            "The parameters are counted all together: compare them group by group.",
        ),
        Mistake(
            "groups counted, and parameters all together",
            "if saved_sizes != sizes:",
            "if (len(saved_sizes), sum(saved_sizes)) != (len(sizes), sum(sizes)):",
            "The groups are counted, and the parameters of all of them together: two groups of "
            "other sizes still pass. Compare group by group.",
        ),
        Mistake.edits_of(
            "groups compared only as far as both go",
            [
                (
                    "if saved_sizes != sizes:",
                    "if any(a != b for a, b in zip(saved_sizes, sizes)):",
                ),
                ("strict=True", "strict=False"),
            ],
            "The groups are compared one by one, but not counted: zip stops with the shorter list, "
            "so that missing groups are not noticed.",
        ),
    ],
    variants=[
        Variant(
            "as in PyTorch, in place",
            """
            class Adam:
                def __init__(
                    self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0
                ):
                    params = list(params)
                    if len(params) == 0:
                        raise ValueError("optimizer got an empty parameter list")
                    if not isinstance(params[0], dict):
                        params = [dict(params=params)]
                    self.state = {}
                    self.param_groups = []
                    for given in params:
                        group = dict(given)
                        group["params"] = list(group["params"])
                        group.setdefault("lr", lr)
                        group.setdefault("betas", betas)
                        group.setdefault("eps", eps)
                        group.setdefault("weight_decay", weight_decay)
                        self.param_groups.append(group)

                @torch.no_grad()
                def step(self):
                    for group in self.param_groups:
                        beta1, beta2 = group["betas"]
                        for p in group["params"]:
                            if p.grad is None:
                                continue
                            grad = p.grad
                            if group["weight_decay"] != 0:
                                grad = grad.add(p, alpha=group["weight_decay"])
                            state = self.state.setdefault(id(p), {})
                            if not state:
                                state["step"] = 0
                                state["exp_avg"] = torch.zeros_like(p)
                                state["exp_avg_sq"] = torch.zeros_like(p)
                            state["step"] += 1
                            state["exp_avg"].lerp_(grad, 1 - beta1)
                            state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
                            root = (1 - beta2 ** state["step"]) ** 0.5
                            denominator = (state["exp_avg_sq"].sqrt() / root).add_(group["eps"])
                            rate = group["lr"] / (1 - beta1 ** state["step"])
                            p.addcdiv_(state["exp_avg"], denominator, value=-rate)

                def zero_grad(self, set_to_none=True):
                    for group in self.param_groups:
                        for p in group["params"]:
                            p.grad = None

                def state_dict(self):
                    index, groups = {}, []
                    for group in self.param_groups:
                        for p in group["params"]:
                            index[id(p)] = len(index)
                        packed = {k: v for k, v in group.items() if k != "params"}
                        packed["params"] = [index[id(p)] for p in group["params"]]
                        groups.append(packed)
                    state = {}
                    for key, value in self.state.items():
                        state[index[key]] = {
                            k: v.clone() if torch.is_tensor(v) else v for k, v in value.items()
                        }
                    return {"state": state, "param_groups": groups}

                def load_state_dict(self, state_dict):
                    old, new = self.param_groups, deepcopy(state_dict["param_groups"])
                    if len(old) != len(new):
                        raise ValueError("another number of groups")
                    if any(len(a["params"]) != len(b["params"]) for a, b in zip(old, new)):
                        raise ValueError("a group of another size")
                    self.state = {}
                    for group, saved in zip(old, new):
                        for p, number in zip(group["params"], saved["params"]):
                            if number in state_dict["state"]:
                                self.state[id(p)] = deepcopy(state_dict["state"][number])
                        group.update({k: v for k, v in saved.items() if k != "params"})
            """,
        ),
        Variant(
            "states from the start, counters in tensors",
            """
            class Adam:
                def __init__(
                    self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0
                ):
                    params = [p for p in params]
                    if not params:
                        raise ValueError("no parameters")
                    if isinstance(params[0], torch.Tensor):
                        params = [{"params": params}]
                    defaults = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
                    self.param_groups = [defaults | g | {"params": [*g["params"]]} for g in params]
                    self.all = [p for g in self.param_groups for p in g["params"]]
                    self.state = [
                        dict(
                            step=torch.tensor(0.0),
                            exp_avg=torch.zeros_like(p, requires_grad=False),
                            exp_avg_sq=torch.zeros_like(p, requires_grad=False),
                        )
                        for p in self.all
                    ]

                def step(self, closure=None):
                    groups = [g for g in self.param_groups for _ in g["params"]]
                    for p, g, s in zip(self.all, groups, self.state):
                        if p.grad is not None:
                            s["step"] = s["step"] + 1
                            w = p.detach()
                            grad = p.grad.detach() + g["weight_decay"] * w
                            new, s["exp_avg"], s["exp_avg_sq"] = adam_step(
                                w, grad, s["exp_avg"], s["exp_avg_sq"], s["step"],
                                g["lr"], g["betas"], g["eps"],
                            )
                            p.data = new

                def zero_grad(self):
                    for p in self.all:
                        p.grad = None

                def state_dict(self):
                    numbers = iter(range(len(self.all)))
                    groups = []
                    for g in self.param_groups:
                        groups.append({**g, "params": [next(numbers) for _ in g["params"]]})
                    return dict(state=dict(enumerate(deepcopy(self.state))), param_groups=groups)

                def load_state_dict(self, state_dict):
                    sizes = [len(g["params"]) for g in state_dict["param_groups"]]
                    if sizes != [len(g["params"]) for g in self.param_groups]:
                        raise ValueError("the groups do not fit")
                    for mine, saved in zip(self.param_groups, state_dict["param_groups"]):
                        for key in ("lr", "betas", "eps", "weight_decay"):
                            mine[key] = saved[key]
                    self.state = [deepcopy(state_dict["state"][i]) for i in range(len(self.all))]
            """,
        ),
        Variant(
            "moments in dicts of their own, with helpers",
            """
            class Adam:
                def __init__(
                    self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0
                ):
                    groups = list(params)
                    if not groups:
                        raise ValueError("nothing to train")
                    if not all(isinstance(g, dict) for g in groups):
                        groups = [{"params": groups}]
                    self.param_groups = []
                    for g in groups:
                        self.param_groups.append({
                            "params": list(g["params"]),
                            "lr": g.get("lr", lr),
                            "betas": g.get("betas", betas),
                            "eps": g.get("eps", eps),
                            "weight_decay": g.get("weight_decay", weight_decay),
                        })
                    self.t, self.m, self.v = {}, {}, {}

                def _parameters(self):
                    for group in self.param_groups:
                        for param in group["params"]:
                            yield group, param

                def step(self):
                    for group, param in self._parameters():
                        if param.grad is not None:
                            self._update(param, **group)

                @torch.no_grad()
                def _update(self, param, lr, betas, eps, weight_decay, params):
                    t = self.t[param] = self.t.get(param, 0) + 1
                    zero = param.new_zeros(param.shape)
                    grad = torch.add(param.grad, param, alpha=weight_decay)
                    m = betas[0] * self.m.get(param, zero) + (1 - betas[0]) * grad
                    v = betas[1] * self.v.get(param, zero) + (1 - betas[1]) * grad.square()
                    self.m[param], self.v[param] = m, v
                    scale = (v / (1 - betas[1] ** t)).sqrt() + eps
                    param -= lr * (m / (1 - betas[0] ** t)) / scale

                def zero_grad(self):
                    for _, param in self._parameters():
                        if param.grad is not None:
                            param.grad = None

                def state_dict(self):
                    state, groups, number = {}, [], 0
                    for group in self.param_groups:
                        numbers = []
                        for param in group["params"]:
                            if param in self.t:
                                state[number] = {
                                    "step": self.t[param],
                                    "exp_avg": self.m[param].clone(),
                                    "exp_avg_sq": self.v[param].clone(),
                                }
                            numbers.append(number)
                            number += 1
                        groups.append(dict(group, params=numbers))
                    return {"param_groups": groups, "state": state}

                def load_state_dict(self, state_dict):
                    saved = state_dict["param_groups"]
                    if len(saved) != len(self.param_groups):
                        raise ValueError(f"{len(saved)} groups")
                    for mine, theirs in zip(self.param_groups, saved):
                        if len(mine["params"]) != len(theirs["params"]):
                            raise ValueError("a group does not fit")
                    self.t, self.m, self.v = {}, {}, {}
                    for mine, theirs in zip(self.param_groups, saved):
                        for param, number in zip(mine["params"], theirs["params"]):
                            entry = state_dict["state"].get(number)
                            if entry is not None:
                                self.t[param] = entry["step"]
                                self.m[param] = entry["exp_avg"].clone()
                                self.v[param] = entry["exp_avg_sq"].clone()
                        mine.update({k: v for k, v in theirs.items() if k != "params"})
            """,
        ),
    ],
)


@Adam.test(
    points=1.5,
    cases=[
        case(
            "in the first step",
            one_group,
            lambda make: training(make, 1, **OPTIONS),
        ),
        case(
            "in four steps",
            one_group,
            lambda make: training(make, 4, **OPTIONS),
        ),
        case(
            "with weight decay",
            one_group,
            lambda make: training(make, 3, weight_decay=0.6, **OPTIONS),
        ),
        case(
            "with parameters from a generator",
            one_group,
            lambda make: training(make, 3, generator=True, **OPTIONS),
        ),
        case(
            "with an element that never has a gradient, and the default hyperparameters",
            one_group,
            lambda make: training(make, 3, zero=True),
        ),
        case(
            "with gradients from backward",
            by_backward,
            lambda make: regression(make, steps=4, weight_decay=0.3, **OPTIONS),
        ),
        Case(
            "with parameters in double precision",
            one_group,
            lambda make: training(make, 3, weight_decay=0.6, **OPTIONS),
            dtypes=(torch.float64,),
            loosen=1e6,  # a step counter kept in a float32 tensor is no mistake
        ),
    ],
)
def test_adam_trains_one_group(submission, case):
    """Updates the parameters of one group in place, by Adam's rule"""
    submission.matches_reference(case)


@Adam.test(
    points=1,
    cases=[
        case(
            "each with its own and with default hyperparameters",
            several_groups,
            lambda make: training(make, 3, **GROUPS),
        ),
        case(
            "where a group's own weight decay is zero",
            several_groups,
            lambda make: training(make, 3, **UNDECAYED),
        ),
        case(
            "given by generators",
            several_groups,
            lambda make: training(make, 3, once=True, **GROUPS),
        ),
        case(
            "after lr has been changed",
            several_groups,
            lambda make: (
                training(make, 2, **GROUPS)
                | {"then": {"groups": [{"lr": 0.9}, {}, {}], "gradients": some(make, 2)}}
            ),
        ),
        case(
            "after all hyperparameters have been changed",
            several_groups,
            lambda make: (
                training(make, 2, **GROUPS)
                | {"then": {"groups": CHANGED, "gradients": some(make, 2)}}
            ),
        ),
    ],
)
def test_adam_trains_groups(submission, case):
    """Trains each parameter group with the hyperparameters that the group has now"""
    submission.matches_reference(case)


@Adam.test(
    points=1,
    cases=[
        case(
            "where parameters start late, pause, stop early, or never start",
            several_groups,
            lambda make: training(make, 5, without=PAUSES, **GROUPS),
        ),
        case(
            "where they do so in one group",
            one_group,
            lambda make: training(make, 5, without=PAUSES, **OPTIONS),
        ),
        case(
            "where gradients are zero, but there",
            several_groups,
            lambda make: training(make, 4, zeros=[(1, 0), (2, 1), (0, 3)], **GROUPS),
        ),
        case(
            "in its counter",
            steps_counted,
            lambda make: training(make, 5, without=PAUSES, **GROUPS),
        ),
    ],
)
def test_adam_keeps_a_state_for_each_parameter(submission, case):
    """Keeps a state of its own for each parameter, and skips those without a gradient"""
    submission.matches_reference(case)


@Adam.test(
    points=0.5,
    cases=[
        case(
            "zero_grad leaves None, and who has no gradient then stays",
            after_zero_grad,
            lambda make: training(make, 3, without=[(2, 2)], **GROUPS),
        ),
        case(
            "steps leave the gradients as they are",
            gradients_after_steps,
            lambda make: training(make, 1, repeats=2, weight_decay=0.6, **OPTIONS),
        ),
    ],
)
def test_adam_handles_gradients(submission, case):
    """Clears gradients in zero_grad, and only there"""
    submission.matches_reference(case)


@Adam.test(
    points=1.25,
    cases=[
        case(
            "its contents",
            snapshot,
            lambda make: training(make, 5, without=PAUSES, stepped=[0, 1, 2], **GROUPS),
        ),
        case(
            "its contents, after training went on",
            snapshot,
            lambda make: training(make, 2, stepped=[0, 1, 2, 3], later=some(make, 2), **GROUPS),
        ),
        case(
            "going on from it in a new optimizer",
            resumed,
            lambda make: training(make, 3, later=[some(make, 2)], **GROUPS),
        ),
        case(
            "going on from it in an optimizer that has trained before",
            resumed,
            lambda make: (
                training(make, 5, without=PAUSES, **GROUPS)
                | {"before": some(make, 2), "later": [some(make, 2)]}
            ),
        ),
        case(
            "going on from it twice",
            resumed,
            lambda make: training(make, 2, later=[some(make, 2), some(make, 3)], **GROUPS),
        ),
        Case(
            "its contents, loaded and saved again, in double precision",
            reloaded,
            lambda make: training(make, 2, stepped=[0, 1, 2, 3], **GROUPS),
            dtypes=(torch.float64,),
            loosen=1e6,
        ),
    ],
)
def test_adam_saves_and_resumes(submission, case):
    """Saves a state dict, and goes on from it as if nothing had happened"""
    submission.matches_reference(case)


@Adam.test(
    points=0.5,
    cases=[
        case("an empty list of parameters", nothing_to_train, lambda _: {"generator": False}),
        case("an empty generator", nothing_to_train, lambda _: {"generator": True}),
        case(
            "a snapshot with another number of groups",
            refused,
            lambda make: untrained(make, sizes=[2, 2], other_sizes=[4]),
        ),
        case(
            "a snapshot with a group more",
            refused,
            lambda make: untrained(make, sizes=[1, 2, 1], other_sizes=[1, 2]),
        ),
        case(
            "a snapshot with a group less",
            refused,
            lambda make: untrained(make, sizes=[3], other_sizes=[3, 1]),
        ),
        case(
            "a snapshot with groups of other sizes",
            refused,
            lambda make: untrained(make, sizes=[1, 3], other_sizes=[2, 2]),
        ),
        case(
            "a snapshot with another number of parameters",
            refused,
            lambda make: untrained(make, sizes=[2, 2], other_sizes=[2, 1]),
        ),
    ],
)
def test_adam_refuses(submission, case):
    """Raises ValueError for nothing to train and for a snapshot that does not fit"""
    submission.matches_reference(case)


@Adam.test(
    points=0.25,
    cases=[
        case(
            "training three groups",
            several_groups,
            lambda make: training(make, 3, without=[(0, 0), (1, 3)], **GROUPS),
        ),
    ],
)
def test_adam_follows_the_device(submission, case):
    """Works on whichever device its parameters are on"""
    submission.matches_on_device(case)
