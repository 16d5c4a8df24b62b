"""Learning-rate schedules as functions of the step, a plateau's watch, and gradient clipping.

Oracles: torch.optim.lr_scheduler, gone through step by step, and torch.nn.utils.

Schedules are plain numbers; they are judged to float32's tolerance, since an answer may go through
a default tensor. Where clipping is judged in float64, the tolerance leaves room for the 1e-6 that
torch.nn.utils adds to the norm.
"""

import functools

import torch
from torch import nn
from torch.optim import lr_scheduler

from autograder.spec import Case, Exercise, Mistake, Variant
from autograder.spec.probes import tensors_of
from autograder.spec.tables import edits_of

NO_SCHEDULERS = ["torch.optim"]
NO_CLIPPING = ["torch.nn.utils"]


def case(title, scenario, inputs, **options):
    return Case(title, scenario, inputs, dtypes=(torch.float32,), **options)


# Oracles: PyTorch's schedulers, asked for all learning rates up to the step.


def rate_by_torch(make_scheduler, lr, step):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = make_scheduler(optimizer)
    for _ in range(step):
        optimizer.step()
        scheduler.step()
    return float(optimizer.param_groups[0]["lr"])


def by_lambda(step, lr, factor):
    return rate_by_torch(lambda optimizer: lr_scheduler.LambdaLR(optimizer, factor), lr, step)


def inverse_time_by_torch(step, lr, decay):
    return by_lambda(step, lr, lambda t: 1 / (1 + decay * t))


def exponential_by_torch(step, lr, gamma):
    return rate_by_torch(lambda o: lr_scheduler.ExponentialLR(o, gamma), lr, step)


def stairs_by_torch(step, lr, step_size, gamma=0.1):
    return rate_by_torch(lambda o: lr_scheduler.StepLR(o, step_size, gamma), lr, step)


def cosine_by_torch(step, lr, total_steps, min_lr=0.0):
    def make(optimizer):
        return lr_scheduler.CosineAnnealingLR(optimizer, total_steps, min_lr)

    return rate_by_torch(make, lr, min(step, total_steps))


def inverse_sqrt_by_torch(step, lr, warmup_steps):
    def factor(t):
        return warmup_steps**0.5 * min((t + 1) ** -0.5, (t + 1) * warmup_steps**-1.5)

    return by_lambda(step, lr, factor)


def warmup_by_table(schedule, warmup_steps):
    def warmed(step):
        rise = torch.linspace(0, 1, warmup_steps + 1, dtype=torch.float64)[1:].tolist()
        return schedule(0) * rise[step] if step < len(rise) else schedule(step - len(rise))

    return warmed


def one_cycle_by_torch(
    step, max_lr, total_steps, pct_start=0.3, div_factor=25.0, final_div_factor=1e4
):
    def make(optimizer):
        return lr_scheduler.OneCycleLR(
            optimizer,
            max_lr,
            total_steps,
            pct_start=pct_start,
            div_factor=div_factor,
            final_div_factor=final_div_factor,
            cycle_momentum=False,
        )

    return rate_by_torch(make, max_lr, step)


class PlateauByTorch:
    def __init__(self, lr, factor=0.1, patience=10, threshold=1e-4, cooldown=0, min_lr=0.0):
        self.optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
        self.scheduler = lr_scheduler.ReduceLROnPlateau(
            self.optimizer,
            factor=factor,
            patience=patience,
            threshold=threshold,
            cooldown=cooldown,
            min_lr=min_lr,
            eps=0.0,
        )

    @property
    def lr(self):
        return self.optimizer.param_groups[0]["lr"]

    def step(self, loss):
        self.scheduler.step(loss)
        return self.lr


def leaves_with(grads):
    leaves = [torch.zeros_like(grad) for grad in grads]
    for leaf, grad in zip(leaves, grads, strict=True):
        leaf.grad = grad.clone()
    return leaves


def clip_value_by_torch(grads, clip_value):
    leaves = leaves_with(grads)
    nn.utils.clip_grad_value_(leaves, clip_value)
    return [leaf.grad for leaf in leaves]


def clip_norm_by_torch(grads, max_norm):
    leaves = leaves_with(grads)
    total_norm = nn.utils.clip_grad_norm_(leaves, max_norm)
    return [leaf.grad for leaf in leaves], total_norm


# A schedule is asked for several steps, in an order of its own, and called by keywords or not.


def curve(impl, steps, options):
    return told({step: impl(step, **options) for step in steps})


def told(rates):
    """The rates by step; among those of step 0, whether they are Python numbers."""
    tensors = any(isinstance(rate, torch.Tensor) for rate in rates.values())
    return {
        **{
            f"the learning rate of step {step}": rate.item()
            if isinstance(rate, torch.Tensor)
            else rate
            for step, rate in rates.items()
        },
        **({"a learning rate is a tensor": tensors} if 0 in rates else {}),
    }


def asked(steps, **options):
    """Inputs of ``curve``; an option given as (low, high) is drawn."""

    def draw(make):
        drawn = {
            name: make.number(*value) if isinstance(value, tuple) else value
            for name, value in options.items()
        }
        order = make.permutation(len(steps)).tolist()
        return {"steps": [steps[i] for i in order], "options": drawn}

    return draw


TENSOR = "A schedule returns a Python float: this is a tensor."
OFF_BY_ONE = "Steps are numbered from 0 here, and the formula takes that number as it is."
BASE = (2.0, 9.0)  # learning rates far from 1, and large, so that every factor shows

inverse_time_decay = Exercise(
    "inverse_time_decay",
    oracle=inverse_time_by_torch,
    forbids=NO_SCHEDULERS,
    mistakes=edits_of(
        "lr / (1 + decay * step)",
        ("1 left out", "lr / (decay * step)", "At step 0 the rate is lr: the 1 keeps it so."),
        ("brackets left out", "lr / 1 + decay * step", "1 + decay * step is the denominator."),
        ("decay left out", "lr / (1 + step)", "The argument decay has no effect."),
        ("a tensor returned", "torch.tensor(lr / (1 + decay * step))", TENSOR),
        (
            "by the exponential function",
            "lr * 2.718281828459045 ** (-decay * step)",
            "That is exponential decay. Here the rate is divided by 1 plus decay times the step.",
        ),
        (
            "a power",
            "lr / (1 + decay) ** step",
            "That is exponential decay; here the step multiplies decay and is no exponent.",
        ),
        ("counted from 1", "lr / (1 + decay * (step + 1))", OFF_BY_ONE),
        (
            "one step late",
            "lr / (1 + decay * max(step - 1, 0))",
            OFF_BY_ONE,
        ),
        (
            "a straight line",
            "lr * (1 - decay * step)",
            "A straight line falls below zero in the end; divide by 1 + decay * step.",
        ),
        (
            "not below zero, but a straight line",
            "lr * max(0.0, 1 - decay * step)",
            "The rate is lr divided by a growing number; it falls ever more slowly.",
        ),
        ("rising", "lr * (1 + decay * step)", "The rate falls: divide, do not multiply."),
        ("a root", "lr / (1 + decay * step) ** 0.5", "There is no root in inverse time decay."),
        ("step squared", "lr / (1 + decay * step**2)", "The step goes in as it is, unsquared."),
    ),
    variants=[
        Variant.edits_of(
            "a product", [("lr / (1 + decay * step)", "lr * (1 + step * decay) ** -1")]
        ),
        Variant.edits_of(
            "through a tensor",
            [("lr / (1 + decay * step)", "(lr / torch.tensor(1 + decay * step)).item()")],
        ),
        Variant(
            "by parts",
            """
            def inverse_time_decay(step, lr, decay):
                slow = 1.0
                for _ in range(step):
                    slow += decay
                return lr / slow
            """,
        ),
    ],
)


@inverse_time_decay.test(
    points=0.5,
    cases=[
        case("early", curve, asked([0, 1, 2, 5], lr=BASE, decay=(0.2, 0.7))),
        case("late", curve, asked([40, 300, 7000], lr=BASE, decay=(0.02, 0.05))),
    ],
)
def test_inverse_time(submission, case):
    """Falls like one over time"""
    submission.matches_reference(case)


exponential_decay = Exercise(
    "exponential_decay",
    oracle=exponential_by_torch,
    forbids=NO_SCHEDULERS,
    mistakes=edits_of(
        "lr * gamma**step",
        ("not a power", "lr * gamma * step", "gamma is multiplied in once for every step."),
        ("a tensor returned", "torch.tensor(lr * gamma**step)", TENSOR),
        ("lr in the power", "(lr * gamma) ** step", "Only gamma is taken to a power, not lr."),
        ("counted from 1", "lr * gamma ** (step + 1)", OFF_BY_ONE),
        ("one step late", "lr * gamma ** max(step - 1, 0)", OFF_BY_ONE),
        ("factor and remainder mixed up", "lr * (1 - gamma) ** step", "gamma is what is kept."),
        ("rising", "lr / gamma**step", "gamma is below 1: multiply, and the rate falls."),
        ("base and exponent swapped", "lr * step**gamma", "The step is the exponent."),
        (
            "e as the base",
            "lr * math.exp(-gamma * step)",
            "The factor from step to step is gamma itself, so gamma is the base of the power.",
        ),
        ("only once", "lr * gamma ** min(step, 1)", "gamma is multiplied in again in every step."),
    ),
    variants=[
        Variant.edits_of("by logarithms", [("gamma**step", "math.exp(step * math.log(gamma))")]),
        Variant.edits_of("pow", [("lr * gamma**step", "pow(gamma, step) * lr")]),
        Variant(
            "step by step",
            """
            def exponential_decay(step, lr, gamma):
                for _ in range(step):
                    lr *= gamma
                return lr
            """,
        ),
    ],
)


@exponential_decay.test(
    points=0.5,
    cases=[
        case("early", curve, asked([0, 1, 2, 5], lr=BASE, gamma=(0.6, 0.9))),
        case("later", curve, asked([10, 45], lr=BASE, gamma=(0.95, 0.99))),
    ],
)
def test_exponential(submission, case):
    """Falls by the same factor in every step"""
    submission.matches_reference(case)


STAIRS = "gamma ** (step // step_size)"

step_decay = Exercise(
    "step_decay",
    oracle=stairs_by_torch,
    forbids=NO_SCHEDULERS,
    mistakes=[
        *edits_of(
            STAIRS,
            (
                "no stairs",
                "gamma ** (step / step_size)",
                "This falls smoothly: count whole stairs, rounded down.",
            ),
            (
                "rounded to the nearest",
                "gamma ** round(step / step_size)",
                "A stair is counted when it is complete: round down, not to the nearest.",
            ),
            ("rounded up", "gamma ** math.ceil(step / step_size)", "Round down, not up."),
            ("a tensor returned", "torch.tensor(gamma ** (step // step_size))", TENSOR),
            (
                "multiplied by the number of the stair",
                "(gamma * (step // step_size) if step >= step_size else 1.0)",
                "gamma is multiplied in once for every stair: it is taken to a power.",
            ),
            ("stairs a step early", "gamma ** ((step + 1) // step_size)", OFF_BY_ONE),
            ("stairs a step late", "gamma ** (max(step - 1, 0) // step_size)", OFF_BY_ONE),
            (
                "remainder",
                "gamma ** (step % step_size)",
                "That is the place within the stair; asked for is the number of the stair.",
            ),
            (
                "only on the edge",
                "(gamma if step > 0 and step % step_size == 0 else 1)",
                "The drop is to last, not just for the step in which it happens.",
            ),
            (
                "one drop",
                "(gamma if step >= step_size else 1)",
                "The rate drops again after each step_size steps.",
            ),
            ("a drop each step", "gamma**step", "The rate drops only once in step_size steps."),
            (
                "not a power",
                "max(gamma * (step // step_size), 1)",
                "Each stair multiplies by gamma once more: gamma to the number of the stair.",
            ),
            ("default gamma", "0.1 ** (step // step_size)", "The argument gamma has no effect."),
        ),
        Mistake("rising", "lr * gamma", "lr / gamma", "gamma is below 1: multiply by it."),
    ],
    variants=[
        Variant.edits_of("floor", [("step // step_size", "math.floor(step / step_size)")]),
        Variant(
            "dropping in a loop",
            """
            def step_decay(step, lr, step_size, gamma=0.1):
                for t in range(1, step + 1):
                    if t % step_size == 0:
                        lr = lr * gamma
                return lr
            """,
        ),
        Variant(
            "by itself",
            """
            def step_decay(step, lr, step_size, gamma=0.1):
                if step < step_size:
                    return lr
                return gamma * step_decay(step - step_size, lr, step_size, gamma)
            """,
        ),
    ],
)


@step_decay.test(
    points=1,
    cases=[
        case("on all stairs", curve, asked([0, 3, 6, 9, 14], lr=BASE, step_size=5, gamma=0.6)),
        case(
            "at the edges", curve, asked([4, 5, 9, 10, 20], lr=BASE, step_size=5, gamma=(0.3, 0.8))
        ),
        case("with the default gamma", curve, asked([6, 7, 8, 15], lr=BASE, step_size=7)),
        case("with stairs of one step", curve, asked([0, 1, 4], lr=BASE, step_size=1, gamma=0.7)),
    ],
)
def test_stairs(submission, case):
    """Falls in stairs"""
    submission.matches_reference(case)


SHARE = "min(step, total_steps) / total_steps"
BELL = "min_lr + (lr - min_lr) * (1 + math.cos(math.pi * share)) / 2"

cosine_decay = Exercise(
    "cosine_decay",
    oracle=cosine_by_torch,
    forbids=NO_SCHEDULERS,
    mistakes=[
        *edits_of(
            SHARE,
            (
                "rising again",
                "step / total_steps",
                "After total_steps the cosine turns up again: the rate stays at min_lr from there.",
            ),
            (
                "starting over",
                "(step % total_steps) / total_steps",
                "There are no restarts here: from step total_steps on, the rate is min_lr.",
            ),
            ("counted from 1", "min(step + 1, total_steps) / total_steps", OFF_BY_ONE),
            (
                "min_lr a step early",
                "min(step, total_steps - 1) / (total_steps - 1)",
                "min_lr is reached at step total_steps, so that is what the step is divided by.",
            ),
            (
                "min_lr a step early, and still there",
                "min(step / (total_steps - 1), 1 if step > total_steps else math.inf)",
                "min_lr is reached at step total_steps, so that is what the step is divided by.",
            ),
        ),
        *edits_of(
            BELL,
            ("a tensor returned", f"torch.tensor({BELL})", TENSOR),
            (
                "back at the top after the end",
                f"({BELL} if step <= total_steps else lr)",
                "After the end the rate is min_lr, not lr.",
            ),
            (
                "degrees",
                BELL.replace("math.pi", "180"),
                "math.cos takes radians: half a turn is π, not 180.",
            ),
            (
                "nothing after the end",
                "(" + BELL + ") * (step <= total_steps)",
                "After the end the rate is min_lr, not 0.",
            ),
            (
                "min_lr ignored",
                "lr * (1 + math.cos(math.pi * share)) / 2",
                "The argument min_lr has no effect: the rate falls to it, not to 0.",
            ),
            (
                "min_lr added on top",
                "min_lr + lr * (1 + math.cos(math.pi * share)) / 2",
                "At step 0 the rate is lr: only the distance from lr to min_lr follows the cosine.",
            ),
            (
                "min_lr as a floor",
                "max(min_lr, lr * (1 + math.cos(math.pi * share)) / 2)",
                "min_lr is no floor that cuts the curve off, but the end that it glides into.",
            ),
            (
                "half left out",
                "min_lr + (lr - min_lr) * (1 + math.cos(math.pi * share))",
                "1 + cos goes from 2 to 0: halve it.",
            ),
            (
                "a quarter of the cosine",
                "min_lr + (lr - min_lr) * math.cos(math.pi * share / 2)",
                "That is a quarter of a cosine. Half of one, raised by 1 and halved, ends flat.",
            ),
            (
                "a whole cosine",
                "min_lr + (lr - min_lr) * (1 + math.cos(2 * math.pi * share)) / 2",
                "The angle goes from 0 to π only, half of a turn.",
            ),
            (
                "pi left out",
                "min_lr + (lr - min_lr) * (1 + math.cos(share)) / 2",
                "The angle at the end is π.",
            ),
            (
                "rising",
                "min_lr + (lr - min_lr) * (1 - math.cos(math.pi * share)) / 2",
                "At step 0 the cosine is 1, and the rate lr: check the sign before the cosine.",
            ),
            (
                "a straight line",
                "min_lr + (lr - min_lr) * (1 - share)",
                "That is a straight line between the right ends; the way down follows the cosine.",
            ),
        ),
    ],
    variants=[
        Variant.edits_of(
            "a squared cosine",
            [("(1 + math.cos(math.pi * share)) / 2", "math.cos(math.pi / 2 * share) ** 2")],
        ),
        Variant(
            "the end first",
            """
            def cosine_decay(step, lr, total_steps, min_lr=0.0):
                if step >= total_steps:
                    return min_lr
                middle, swing = (lr + min_lr) / 2, (lr - min_lr) / 2
                return middle + swing * math.cos(math.pi * step / total_steps)
            """,
        ),
        Variant(
            "through tensors",
            """
            def cosine_decay(step, lr, total_steps, min_lr=0.0):
                angle = torch.pi * torch.tensor(step).clamp(max=total_steps) / total_steps
                share = 0.5 + 0.5 * angle.cos()
                return torch.lerp(torch.tensor(min_lr), torch.tensor(lr), share).item()
            """,
        ),
    ],
)


@cosine_decay.test(
    points=1.5,
    cases=[
        case("by default down to zero", curve, asked([0, 3, 8, 10], lr=BASE, total_steps=10)),
        case(
            "down to min_lr",
            curve,
            asked([0, 1, 5, 12, 16, 17], lr=BASE, total_steps=17, min_lr=(0.3, 0.9)),
        ),
        case(
            "past the end", curve, asked([14, 20, 33], lr=BASE, total_steps=13, min_lr=(0.3, 0.9))
        ),
    ],
)
def test_cosine(submission, case):
    """Falls along half a cosine and stays down"""
    submission.matches_reference(case)


NOAM = "min(t / warmup_steps, math.sqrt(warmup_steps / t))"

inverse_sqrt_schedule = Exercise(
    "inverse_sqrt_schedule",
    oracle=inverse_sqrt_by_torch,
    forbids=NO_SCHEDULERS,
    mistakes=[
        *edits_of(
            NOAM,
            (
                "no warm-up",
                "math.sqrt(warmup_steps / t)",
                "The rise is missing: before the peak, the smaller of the two parts counts.",
            ),
            (
                "never above the peak",
                "min(1.0, math.sqrt(warmup_steps / t))",
                "During the warm-up the rate rises in proportion to the step; yours is constant.",
            ),
            ("a tensor returned", f"torch.tensor({NOAM})", TENSOR),
            (
                "rise a step too long",
                "min(t / (warmup_steps + 1), math.sqrt(warmup_steps / t))",
                "The peak is reached at t = warmup_steps: divide by that number, not by one more.",
            ),
            (
                "larger of the two",
                "max(t / warmup_steps, math.sqrt(warmup_steps / t))",
                "The smaller of the two parts counts; yours takes the larger one.",
            ),
            (
                "peak not scaled",
                "min(t / warmup_steps**1.5, 1 / math.sqrt(t))",
                "That is the paper's formula unscaled: the peak has to be lr.",
            ),
            (
                "root left out",
                "min(t / warmup_steps, warmup_steps / t)",
                "After the peak the rate falls like one over the root of t.",
            ),
            (
                "root in the rise, too",
                "min(math.sqrt(t / warmup_steps), math.sqrt(warmup_steps / t))",
                "The rise is a straight line; only the fall has a root.",
            ),
            (
                "square in place of the root",
                "min(t / warmup_steps, (warmup_steps / t) ** 2)",
                "The fall is slower than that: one over the root of t.",
            ),
            (
                "no fall",
                "min(t / warmup_steps, 1.0)",
                "After the warm-up the rate does not stay, it falls like one over the root of t.",
            ),
            (
                "fall from the peak's own clock",
                "(t / warmup_steps if t <= warmup_steps else 1 / math.sqrt(t - warmup_steps + 1))",
                "t goes on counting from the first step when the peak is past.",
            ),
        ),
        *edits_of(
            "t = step + 1",
            ("counted from 0", "t = step", "The formula counts steps from 1, and step from 0."),
            (
                "counted from 0, but for the first",
                "t = max(step, 1)",
                "t is step + 1 in every step, not in the first alone.",
            ),
        ),
    ],
    variants=[
        Variant.edits_of(
            "two exponents", [("math.sqrt(warmup_steps / t)", "(t / warmup_steps) ** -0.5")]
        ),
        Variant(
            "in two branches",
            """
            def inverse_sqrt_schedule(step, lr, warmup_steps):
                if step < warmup_steps:
                    return lr * (step + 1) / warmup_steps
                return lr * warmup_steps**0.5 / (step + 1) ** 0.5
            """,
        ),
        Variant.edits_of(
            "the paper's formula, scaled",
            [("lr * " + NOAM, "lr * warmup_steps**0.5 * min(t**-0.5, t * warmup_steps**-1.5)")],
        ),
    ],
)


@inverse_sqrt_schedule.test(
    points=1,
    cases=[
        case("up", curve, asked([0, 1, 4, 6], lr=BASE, warmup_steps=8)),
        case("around the peak", curve, asked([5, 6, 7, 8], lr=BASE, warmup_steps=7)),
        case("down", curve, asked([9, 30, 400], lr=BASE, warmup_steps=5)),
        case("with a warm-up of one step", curve, asked([0, 1, 3, 15], lr=BASE, warmup_steps=1)),
    ],
)
def test_inverse_sqrt(submission, case):
    """Rises in a straight line, then falls like one over the root of the step"""
    submission.matches_reference(case)


# with_warmup. The schedule inside is falling, and not a power, so that a shift always shows.


def falling(step, lr):
    return lr / (1 + 0.3 * step)


def warmed_curve(impl, steps, lr, warmup_steps):
    schedule = impl(functools.partial(falling, lr=lr), warmup_steps)
    return told({step: schedule(step) for step in steps})


RISE, AFTER = "schedule(0) * (step + 1) / warmup_steps", "schedule(step - warmup_steps)"

with_warmup = Exercise(
    "with_warmup",
    oracle=warmup_by_table,
    forbids=NO_SCHEDULERS,
    mistakes=[
        Mistake(
            "one step of the warm-up too many",
            "if step < warmup_steps:",
            "if step <= warmup_steps:",
            "The warm-up has warmup_steps steps, numbered from 0: step warmup_steps is the "
            "schedule's already.",
        ),
        *edits_of(
            RISE,
            (
                "towards a later rate",
                "schedule(warmup_steps) * (step + 1) / warmup_steps",
                "The rise leads to the schedule's first rate, that of its step 0.",
            ),
            (
                "whole parts only",
                "schedule(0) * ((step + 1) // warmup_steps)",
                "Integer division makes every part of the way 0 but the last: use a true division.",
            ),
            (
                "first step at zero",
                "schedule(0) * step / warmup_steps",
                "Step 0 would do nothing, and the top would be missed: the first of the equal "
                "parts is taken at step 0.",
            ),
            (
                "top reached a step late",
                "schedule(0) * (step + 1) / (warmup_steps + 1)",
                "The last step of the warm-up already has the schedule's first rate.",
            ),
            (
                "top reached over one step less",
                "schedule(0) * step / max(warmup_steps - 1, 1)",
                "The parts are equal and the first one is taken at step 0, which is not zero.",
            ),
            (
                "falling while rising",
                "schedule(step) * (step + 1) / warmup_steps",
                "The schedule waits during the warm-up: the rise leads to its first rate.",
            ),
            (
                "constant warm-up",
                "schedule(0)",
                "The warm-up rises, in equal parts; yours is there from the start.",
            ),
            (
                "schedule's rate left out",
                "(step + 1) / warmup_steps",
                "That is the share of the way; it has to be multiplied with the rate at the top.",
            ),
            (
                "rise squared",
                "schedule(0) * ((step + 1) / warmup_steps) ** 2",
                "A linear warm-up rises by the same amount in each step.",
            ),
        ),
        *edits_of(
            AFTER,
            (
                "schedule not shifted",
                "schedule(step)",
                "After the warm-up the schedule begins with its own step 0; yours has lost its "
                "first steps.",
            ),
            (
                "schedule's first step skipped",
                "schedule(step - warmup_steps + 1)",
                "After the warm-up comes the whole schedule, from its step 0.",
            ),
            (
                "schedule's first step twice",
                "schedule(max(step - warmup_steps - 1, 0))",
                "In the step after the warm-up the schedule is at its step 0, then it goes on.",
            ),
            (
                "constant after the warm-up",
                "schedule(0)",
                "After the warm-up the schedule runs; yours stands still at its first rate.",
            ),
        ),
        Mistake.edits_of(
            "divided by no steps",
            [
                (
                    "\n    def warmed(",
                    "    part = schedule(0) / warmup_steps\n\n    def warmed(",
                ),
                (RISE, "part * (step + 1)"),
            ],
            "With no warm-up at all there is nothing to divide by: look at the step first.",
        ),
        Mistake.edits_of(
            "counting its own calls",
            [
                ("\n    def warmed", "    calls = []\n\n    def warmed"),
                (
                    "        if step < warmup_steps:",
                    "        step = len(calls)\n        calls.append(step)\n"
                    "        if step < warmup_steps:",
                ),
            ],
            "The step is told by the argument: a function that counts its calls is wrong as soon "
            "as somebody asks for the steps in another order.",
        ),
    ],
    variants=[
        Variant(
            "a lambda",
            """
            def with_warmup(schedule, warmup_steps):
                return lambda step: (
                    schedule(step - warmup_steps)
                    if step >= warmup_steps
                    else (1 + step) / warmup_steps * schedule(0)
                )
            """,
        ),
        Variant(
            "one product",
            """
            def with_warmup(schedule, warmup_steps):
                def warmed(step):
                    share = min(1.0, (step + 1) / max(warmup_steps, 1))
                    return share * schedule(max(0, step - warmup_steps))

                return warmed
            """,
        ),
        Variant(
            "an object",
            """
            def with_warmup(schedule, warmup_steps):
                class Warmed:
                    def __call__(self, step):
                        if step + 1 <= warmup_steps:
                            return (step + 1) * (schedule(0) / warmup_steps)
                        return schedule(step - warmup_steps)

                return Warmed()
            """,
        ),
    ],
)


def warmup_case(title, steps, warmup_steps):
    def draw(make):
        order = make.permutation(len(steps)).tolist()
        lr = make.number(*BASE)
        return {"steps": [steps[i] for i in order], "lr": lr, "warmup_steps": warmup_steps}

    return case(title, warmed_curve, draw)


@with_warmup.test(
    points=2,
    cases=[
        warmup_case("the rise", [0, 1, 3, 5], 6),
        warmup_case("the top", [3, 4, 5, 6], 5),
        warmup_case("what follows", [4, 7, 30], 3),
        warmup_case("a warm-up of one step", [0, 1, 2], 1),
        warmup_case("no warm-up", [0, 1, 4], 0),
    ],
)
def test_warmup(submission, case):
    """Rises in equal parts, then lets the whole schedule follow"""
    submission.matches_reference(case)


# one_cycle

PEAK = "peak, last = pct_start * total_steps - 1, total_steps - 1"
UP = "start, end, share = first_lr, max_lr, step / peak"
DOWN = "max_lr, first_lr / final_div_factor, (step - peak) / (last - peak)"
WAVE = "return end + (start - end) * (1 + math.cos(math.pi * share)) / 2"

one_cycle = Exercise(
    "one_cycle",
    oracle=one_cycle_by_torch,
    forbids=NO_SCHEDULERS,
    mistakes=[
        *edits_of(
            PEAK,
            (
                "peak a step late",
                "peak, last = pct_start * total_steps, total_steps - 1",
                "The peak is at step pct_start * total_steps - 1, since steps count from 0.",
            ),
            (
                "end a step late",
                "peak, last = pct_start * total_steps - 1, total_steps",
                "The last of the steps has the number total_steps - 1, and the final rate.",
            ),
            (
                "both a step late",
                "peak, last = pct_start * total_steps, total_steps",
                "Steps count from 0, so that both the peak and the end come one step earlier.",
            ),
            (
                "peak at a share of the last step",
                "peak, last = pct_start * (total_steps - 1), total_steps - 1",
                "The share is of all total_steps; 1 is subtracted afterwards.",
            ),
            (
                "peak rounded",
                "peak, last = int(pct_start * total_steps) - 1, total_steps - 1",
                "The peak need not be at a whole step: do not round it.",
            ),
            (
                "default pct_start",
                "peak, last = 0.3 * total_steps - 1, total_steps - 1",
                "The argument pct_start has no effect.",
            ),
        ),
        *edits_of(
            "first_lr = max_lr / div_factor",
            ("default div_factor", "first_lr = max_lr / 25.0", "div_factor has no effect."),
        ),
        *edits_of(
            UP,
            (
                "from zero",
                "start, end, share = 0.0, max_lr, step / peak",
                "The cycle does not start at 0: step 0 has max_lr / div_factor.",
            ),
        ),
        *edits_of(
            DOWN,
            (
                "final rate from the peak",
                "max_lr, max_lr / final_div_factor, (step - peak) / (last - peak)",
                "final_div_factor divides the rate of step 0, not the peak's.",
            ),
            (
                "back to the first rate",
                "max_lr, first_lr, (step - peak) / (last - peak)",
                "The way down ends far below the rate of step 0: final_div_factor divides it.",
            ),
            (
                "down to zero",
                "max_lr, 0.0, (step - peak) / (last - peak)",
                "The way down ends at a small rate, not at 0.",
            ),
            (
                "down at the pace of the whole",
                "max_lr, first_lr / final_div_factor, step / last",
                "The way down begins at the peak: its share of the way is 0 there.",
            ),
            (
                "down over all steps",
                "max_lr, first_lr / final_div_factor, (step - peak) / last",
                "From the peak, only last - peak steps are left for the way down.",
            ),
        ),
        *edits_of(
            WAVE,
            (
                "straight lines",
                "return start + (end - start) * share",
                "The way from start to end follows half a cosine, not a straight line.",
            ),
            (
                "straight up",
                "if step <= peak:\n        return start + (end - start) * share\n    " + WAVE,
                "The way up follows half a cosine, too.",
            ),
            (
                "start and end swapped",
                "return start + (end - start) * (1 + math.cos(math.pi * share)) / 2",
                "At the start of each way the cosine is 1: what is multiplied by it is the start.",
            ),
        ),
    ],
    variants=[
        Variant(
            "with a helper",
            """
            def one_cycle(
                step, max_lr, total_steps, pct_start=0.3, div_factor=25.0, final_div_factor=1e4
            ):
                def glide(a, b, share):
                    return (a + b) / 2 + (a - b) / 2 * math.cos(math.pi * share)

                initial = max_lr / div_factor
                top = float(pct_start * total_steps) - 1
                if step < top:
                    return glide(initial, max_lr, step / top)
                share = (step - top) / (total_steps - top - 1)
                return glide(max_lr, initial / final_div_factor, share)
            """,
        ),
        Variant(
            "by cosine_decay",
            """
            def one_cycle(
                step, max_lr, total_steps, pct_start=0.3, div_factor=25.0, final_div_factor=1e4
            ):
                p = pct_start * total_steps - 1
                low = max_lr / div_factor
                if step > p:
                    rest = total_steps - 1 - p
                    return cosine_decay(step - p, max_lr, rest, low / final_div_factor)
                return low + max_lr - cosine_decay(step, max_lr, p, low)
            """,
        ),
    ],
)

CYCLE = {"max_lr": BASE, "pct_start": 0.37, "div_factor": 6.0, "final_div_factor": 7.0}


@one_cycle.test(
    points=1.25,
    cases=[
        case("its two ends", curve, asked([0, 22], total_steps=23, **CYCLE)),
        case("the way up", curve, asked([2, 5, 7], total_steps=23, **CYCLE)),
        case(
            "a peak at a whole step",
            curve,
            asked([4, 5, 6], total_steps=24, **CYCLE | {"pct_start": 0.25}),
        ),
    ],
)
def test_one_cycle_rises(submission, case):
    """Starts, peaks and ends where it should, and rises along a cosine"""
    submission.matches_reference(case)


@one_cycle.test(
    points=1.25,
    cases=[
        case("the way down", curve, asked([8, 11, 16, 21], total_steps=23, **CYCLE)),
        case("by default", curve, asked([0, 3, 8, 20], max_lr=BASE, total_steps=34)),
    ],
)
def test_one_cycle_falls(submission, case):
    """Falls along a longer cosine, also with the default factors"""
    submission.matches_reference(case)


# ReduceOnPlateau


def watched(impl, losses, lr, **options):
    watch = impl(lr, **options)
    path = {"lr before the first epoch": watch.lr}
    for t, loss in enumerate(losses, start=1):
        path[f"what step returns after epoch {t}"] = watch.step(loss)
        path[f"lr after epoch {t}"] = watch.lr
    return path


BETTER = "loss < self.best * (1 - self.threshold)"
REDUCED = "self.lr = max(self.lr * self.factor, self.min_lr)"
COOLING = """        if self.cooling > 0:
            self.cooling -= 1
            self.bad_epochs = 0
"""
RESET = f"            {REDUCED}\n            self.bad_epochs = 0\n"

ReduceOnPlateau = Exercise(
    "ReduceOnPlateau",
    oracle=PlateauByTorch,
    forbids=NO_SCHEDULERS,
    mistakes=[
        *edits_of(
            "self.bad_epochs > self.patience",
            (
                "patience lost an epoch early",
                "self.bad_epochs >= self.patience",
                "patience epochs may pass without improvement; the one after them is too many.",
            ),
            (
                "patience of an epoch more",
                "self.bad_epochs > self.patience + 1",
                "patience epochs may pass without improvement; the one after them is too many.",
            ),
        ),
        *edits_of(
            BETTER,
            ("threshold ignored", "loss < self.best", "threshold has no effect."),
            (
                "equal is better",
                "loss <= self.best * (1 - self.threshold)",
                "A loss that just reaches the limit, but is no smaller, is no improvement.",
            ),
            (
                "absolute threshold",
                "loss < self.best - self.threshold",
                "The threshold is relative: it is a share of the best loss.",
            ),
            (
                "threshold the wrong way",
                "loss < self.best * (1 + self.threshold)",
                "An improvement must be clear of the best loss, not merely near it.",
            ),
            (
                "larger is better",
                "self.best == math.inf or loss > self.best * (1 + self.threshold)",
                "The loss is to fall: an improvement is a smaller loss.",
            ),
            (
                "NaN taken for better",
                "not loss >= self.best * (1 - self.threshold)",
                "Every comparison with NaN is false, so yours takes NaN for an improvement.",
            ),
        ),
        Mistake.edits_of(
            "compared with the epoch before",
            [
                (f"        if {BETTER}:\n", f"        better = {BETTER}\n        if better:\n"),
                ("            self.best = loss\n            self.bad", "            self.bad"),
                (COOLING, f"        self.best = loss\n{COOLING}"),
            ],
            "The loss is compared with the best one so far, not with the last one: otherwise a "
            "loss that goes up and down counts as improving.",
        ),
        Mistake(
            "count not reset by an improvement",
            "            self.best = loss\n            self.bad_epochs = 0\n",
            "            self.best = loss\n",
            "An improvement sets the count of bad epochs to zero: they count in a row.",
        ),
        Mistake(
            "count not reset by a reduction",
            RESET,
            f"            {REDUCED}\n",
            "After a reduction the patience starts afresh: set the count to zero.",
        ),
        Mistake(
            "best forgotten at a reduction",
            RESET,
            RESET + "            self.best = math.inf\n",
            "A reduction does not change the best loss: whoever follows has to beat it.",
        ),
        *edits_of(
            REDUCED,
            ("min_lr ignored", "self.lr = self.lr * self.factor", "min_lr has no effect."),
            (
                "no last reduction",
                "self.lr = self.lr * self.factor if self.lr * self.factor >= self.min_lr "
                "else self.lr",
                "A reduction that would go below min_lr goes to min_lr; it is not left out.",
            ),
            (
                "factor subtracted",
                "self.lr = max(self.lr - self.factor, self.min_lr)",
                "The learning rate is multiplied with factor.",
            ),
            (
                "factor divided by",
                "self.lr = max(self.lr / self.factor, self.min_lr)",
                "factor is below 1: multiply, or the rate will rise.",
            ),
        ),
        Mistake(
            "cooldown ignored",
            COOLING,
            "",
            "For cooldown epochs after a reduction, nothing is held against the loss.",
        ),
        Mistake(
            "cooldown endless",
            "            self.cooling -= 1\n",
            "",
            "The cooldown ends after as many epochs as cooldown says: count them down.",
        ),
        Mistake.edits_of(
            "cooldown too long by one",
            [("self.cooling = self.cooldown", "self.cooling = self.cooldown + 1")],
            "The cooldown lasts cooldown epochs, the first of which is the one after the "
            "reduction.",
        ),
        Mistake.edits_of(
            "blind during the cooldown",
            [
                (COOLING, ""),
                (
                    f"        if {BETTER}:\n",
                    "        if self.cooling > 0:\n            self.cooling -= 1\n"
                    f"            return self.lr\n        if {BETTER}:\n",
                ),
            ],
            "During the cooldown the best loss is kept up to date all the same.",
        ),
        Mistake(
            "cooldown not used up by an improvement",
            "            self.best = loss\n            self.bad_epochs = 0\n",
            "            self.best = loss\n            self.bad_epochs = 0\n"
            "            return self.lr\n",
            "Every call uses up an epoch of the cooldown, an improvement as well.",
        ),
        Mistake(
            "NaN as the first best",
            BETTER,
            f"self.best == math.inf or {BETTER}",
            "The first loss is taken whatever it is. If it is NaN, no later loss is smaller: a NaN "
            "never becomes the best.",
        ),
        Mistake(
            "best of zero taken for none",
            BETTER,
            f"(not self.best and loss == loss) or {BETTER}",
            "A best loss of 0 counts as false, so that every later loss is better. Ask whether "
            "there is a best loss yet, not whether it is true.",
        ),
        Mistake.edits_of(
            "attribute lr not kept up to date",
            [
                (
                    REDUCED,
                    "self.kept = max(getattr(self, 'kept', self.lr) * self.factor, self.min_lr)",
                ),
                ("return self.lr", "return getattr(self, 'kept', self.lr)"),
            ],
            "What step returns is right, but the attribute lr stays as it was: it holds the rate "
            "as it stands.",
        ),
        Mistake(
            "nothing returned",
            "        return self.lr",
            "",
            "step returns the learning rate for the next epoch.",
        ),
    ],
    variants=[
        Variant(
            "other names, other order",
            """
            class ReduceOnPlateau:
                def __init__(
                    self, lr, factor=0.1, patience=10, threshold=1e-4, cooldown=0, min_lr=0.0
                ):
                    self.lr = lr
                    self.options = factor, patience, threshold, cooldown, min_lr
                    self.lowest = None
                    self.waited = self.rest = 0

                def step(self, loss):
                    factor, patience, threshold, cooldown, min_lr = self.options
                    improved = loss == loss and (
                        self.lowest is None or loss < (1 - threshold) * self.lowest
                    )
                    if improved:
                        self.lowest = loss
                    resting = self.rest > 0
                    self.rest = max(self.rest - 1, 0)
                    self.waited = 0 if improved or resting else self.waited + 1
                    if self.waited == patience + 1:
                        self.lr = factor * self.lr
                        if self.lr < min_lr:
                            self.lr = min_lr
                        self.waited, self.rest = 0, cooldown
                    return self.lr
            """,
        ),
        Variant(
            "a negative count for the cooldown",
            """
            class ReduceOnPlateau:
                def __init__(
                    self, lr, factor=0.1, patience=10, threshold=1e-4, cooldown=0, min_lr=0.0
                ):
                    self.__dict__.update(
                        lr=lr, factor=factor, patience=patience, threshold=threshold,
                        cooldown=cooldown, min_lr=min_lr, best=float("inf"), bad=0, cool=0,
                    )

                def step(self, loss):
                    if loss < self.best - self.threshold * self.best or self.best == float("inf"):
                        if loss == loss:
                            self.best = loss
                            self.bad = -1
                    self.bad += 1
                    if self.cool:
                        self.cool, self.bad = self.cool - 1, 0
                    if self.bad > self.patience:
                        self.lr = max(self.factor * self.lr, self.min_lr)
                        self.cool, self.bad = self.cooldown, 0
                    return self.lr
            """,
        ),
    ],
)


def losses(*values, **options):
    """Inputs of ``watched``: losses in units of a number that is drawn."""

    def draw(make):
        unit, lr = make.number(1.5, 4.0), make.number(*BASE)
        return {"losses": [unit * value for value in values], "lr": lr, **options}

    return draw


NAN = float("nan")


@ReduceOnPlateau.test(
    points=1.5,
    cases=[
        case(
            "when nothing improves",
            watched,
            losses(1.0, 1.2, 1.3, 1.1, 1.4, 1.2, 1.3, 1.5, 1.1, factor=0.4, patience=2),
        ),
        case(
            "when improvements come in between",
            watched,
            losses(1.0, 1.2, 1.1, 0.9, 1.0, 0.95, 0.92, 0.8, 0.9, 0.85, factor=0.4, patience=2),
        ),
        case(
            "when the loss goes up and down",
            watched,
            losses(1.0, 1.5, 1.2, 1.5, 1.1, 1.4, 1.05, 1.3, factor=0.6, patience=3),
        ),
        case("without patience", watched, losses(1.0, 1.1, 0.9, 0.95, 0.7, factor=0.3, patience=0)),
        case("by default", watched, losses(1.0, 0.99993, *[1.5] * 9, 1.3, *[1.2] * 11)),
        case(
            "of a loss that stays exactly the same",
            watched,
            losses(*[1.0] * 5, factor=0.5, patience=1, threshold=0.0),
        ),
        case(
            "of losses that begin with NaN and fall to zero",
            watched,
            losses(NAN, 1.0, 1.1, 0.0, 0.0, 0.0, 0.0, factor=0.5, patience=1),
        ),
        case(
            "of a loss that becomes NaN",
            watched,
            losses(1.0, 0.9, NAN, NAN, 0.95, NAN, factor=0.5, patience=1),
        ),
    ],
)
def test_plateau_reduces(submission, case):
    """Reduces the learning rate when patience is exceeded"""
    submission.matches_reference(case)


@ReduceOnPlateau.test(
    points=1.5,
    cases=[
        case(
            "a threshold",
            watched,
            losses(
                1.0, 0.9, 0.82, 0.72, 0.5, 0.47, 0.42, 0.41, factor=0.5, patience=1, threshold=0.2
            ),
        ),
        case(
            "a threshold where losses are small",
            watched,
            losses(0.1, 0.07, 0.05, 0.035, 0.024, 0.017, factor=0.5, patience=1, threshold=0.2),
        ),
        case(
            "a cooldown",
            watched,
            losses(1.0, *[1.2] * 12, factor=0.7, patience=1, cooldown=3),
        ),
        case(
            "an improvement during the cooldown",
            watched,
            losses(
                1.0,
                1.1,
                1.2,
                0.5,
                0.8,
                0.7,
                0.65,
                0.75,
                0.9,
                0.6,
                factor=0.7,
                patience=1,
                cooldown=2,
            ),
        ),
        case(
            "a smallest learning rate",
            watched,
            losses(*[1.0] * 8, factor=0.45, patience=0, min_lr=0.6),
        ),
    ],
)
def test_plateau_minds(submission, case):
    """Minds its threshold, its cooldown and the smallest learning rate"""
    submission.matches_reference(case)


# Clipping. The gradients of a network: all of different shapes, one of them a single number.

SHAPES = [(3, 4), (4,), (2, 3, 2), ()]


def shared(results, grads):
    """Whether a gradient that was passed in comes back itself."""
    return any(a is b for a in tensors_of([results]) for b in grads)


def values_clipped(impl, grads, clip_value):
    clipped = impl(grads, clip_value)
    return {"the clipped gradients": clipped, "a result is its argument": shared(clipped, grads)}


def norm_clipped(impl, grads, max_norm):
    clipped, total_norm = impl(grads, max_norm)
    return {
        "the clipped gradients": clipped,
        "total_norm": total_norm,
        "a result is its argument": shared(clipped, grads),
    }


def gradients(make, scale=1.0, shapes=SHAPES):
    """The k-th gradient is the larger the larger k is, so that none stands for all."""
    drawn = [make.away_from_zero(max(1, torch.Size(shape).numel())) for shape in shapes]
    return [
        scale * (k + 1) * grad.reshape(shape)
        for k, (grad, shape) in enumerate(zip(drawn, shapes, strict=True))
    ]


def value_case(title, clip_value, scale=1.0, shapes=SHAPES):
    def draw(make):
        return {"grads": gradients(make, scale, shapes), "clip_value": clip_value}

    return Case(title, values_clipped, draw)


CLAMPED = "[grad.clamp(-clip_value, clip_value) for grad in grads]"

clip_grad_value = Exercise(
    "clip_grad_value",
    oracle=clip_value_by_torch,
    forbids=NO_CLIPPING,
    mistakes=edits_of(
        CLAMPED,
        (
            "clipped above only",
            "[grad.clamp(max=clip_value) for grad in grads]",
            "Large negative elements are clipped as well, at -clip_value.",
        ),
        (
            "negative elements lost",
            "[grad.clamp(0.0, clip_value) for grad in grads]",
            "Negative elements keep their sign: the interval lies on both sides of zero.",
        ),
        (
            "sign lost",
            "[grad.abs().clamp(max=clip_value) for grad in grads]",
            "The size is clipped and the sign is kept.",
        ),
        (
            "all set to the limit",
            "[grad.sign() * clip_value for grad in grads]",
            "Elements that are within the interval stay as they are.",
        ),
        (
            "outliers set to zero",
            "[grad.where(grad.abs() <= clip_value, 0.0 * grad) for grad in grads]",
            "An element outside of the interval is set to its nearer end, not to zero.",
        ),
        (
            "outliers set to the upper end",
            "[grad.where(grad.abs() <= clip_value, 0 * grad + clip_value) for grad in grads]",
            "An element below the interval is set to the lower end.",
        ),
        (
            "scaled tensor by tensor",
            "[grad * (clip_value / grad.abs().max()).clamp(max=1.0) for grad in grads]",
            "You scale whole tensors. Clipping by value looks at each element by itself.",
        ),
        (
            "clipped by the norm",
            "[grad * (clip_value / grad.norm()).clamp(max=1.0) for grad in grads]",
            "That is clipping by the norm; clipping by value looks at each element by itself.",
        ),
        (
            "short ones handed back",
            "[grad if (grad.abs() <= clip_value).all() else "
            "grad.clamp(-clip_value, clip_value) for grad in grads]",
            "Gradients with nothing to clip come back themselves. The results are to be new "
            "tensors, all of them.",
        ),
        (
            "others left out",
            "[grads[0].clamp(-clip_value, clip_value)]",
            "Only the first gradient comes back: the list has one for each that was passed in.",
        ),
        (
            "bent smoothly",
            "[clip_value * torch.tanh(grad / clip_value) for grad in grads]",
            "Elements within the interval are bent, too: they keep their values, and the others "
            "end exactly at its ends.",
        ),
        (
            "only the first",
            "[grad.clamp(-clip_value, clip_value) if i == 0 else grad "
            "for i, grad in enumerate(grads)]",
            "All gradients of the list are clipped.",
        ),
        (
            "clipped in place",
            "[grad.clamp_(-clip_value, clip_value) for grad in grads]",
            "The gradients that were passed in have changed: methods that end in _ write into "
            "them.",
        ),
    ),
    variants=[
        Variant.edits_of(
            "clip, a tuple",
            [(CLAMPED, "tuple(torch.clip(g, min=-clip_value, max=clip_value) for g in grads)")],
        ),
        Variant(
            "masks on copies",
            """
            def clip_grad_value(grads, clip_value):
                clipped = []
                for grad in grads:
                    grad = grad.clone()
                    grad[grad > clip_value] = clip_value
                    grad[grad < -clip_value] = -clip_value
                    clipped.append(grad)
                return clipped
            """,
        ),
        Variant.edits_of(
            "sign times size",
            [(CLAMPED, "[g.sign() * g.abs().clamp(max=clip_value) for g in grads]")],
        ),
    ],
)


@clip_grad_value.test(
    points=0.75,
    cases=[
        value_case("some elements of each", 1.7),
        value_case("no element", 50.0),
        value_case("every element", 0.01),
        value_case("one matrix", 0.8, shapes=[(5, 3)]),
    ],
)
def test_value_clips_each_element(submission, case):
    """Clips each element by itself"""
    submission.matches_reference(case)


@clip_grad_value.test(points=0.25, cases=[value_case("some elements", 1.7)])
def test_value_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


NORM = "total_norm = torch.stack([grad.norm() for grad in grads]).norm()"
SCALED = "scale = (max_norm / total_norm).clamp(max=1.0)"
RESULT = "return [grad * scale for grad in grads], total_norm"
TOGETHER = "The norm is of all gradients together: the root of the sum of all squares."

clip_grad_norm = Exercise(
    "clip_grad_norm",
    oracle=clip_norm_by_torch,
    forbids=NO_CLIPPING,
    mistakes=[
        *edits_of(
            NORM,
            (
                "norms added up",
                "total_norm = torch.stack([grad.norm() for grad in grads]).sum()",
                f"Norms do not add up, their squares do. {TOGETHER}",
            ),
            (
                "largest norm",
                "total_norm = torch.stack([grad.norm() for grad in grads]).max()",
                f"You take the largest of the norms. {TOGETHER}",
            ),
            (
                "mean norm",
                "total_norm = torch.stack([grad.norm() for grad in grads]).mean()",
                f"You take the mean of the norms. {TOGETHER}",
            ),
            (
                "root left out",
                "total_norm = torch.stack([grad.square().sum() for grad in grads]).sum()",
                "The sum of squares is the norm's square: take its root.",
            ),
            (
                "means of squares added up",
                "total_norm = torch.stack([g.square().mean() for g in grads]).sum().sqrt()",
                "Within each gradient the squares are averaged here; they are added up.",
            ),
            (
                "gradients stacked",
                "total_norm = torch.stack(list(grads)).norm()",
                "Gradients differ in shape and cannot be stacked: take each one's norm, or make "
                "long vectors of them first.",
            ),
            (
                "mean of squares",
                "total_norm = torch.cat([g.flatten() for g in grads]).square().mean().sqrt()",
                "The squares are added up, not averaged: large networks have long gradients.",
            ),
            (
                "absolute values",
                "total_norm = torch.cat([g.flatten() for g in grads]).abs().sum()",
                "The Euclidean norm is made of squares, not of absolute values.",
            ),
            (
                "largest element",
                "total_norm = torch.cat([g.flatten() for g in grads]).abs().max()",
                "The Euclidean norm is made of all elements, not of the largest alone.",
            ),
        ),
        *edits_of(
            SCALED,
            (
                "always scaled",
                "scale = max_norm / total_norm.clamp(min=1e-30)",
                "Gradients that are short enough stay as they are; yours are made longer.",
            ),
            (
                "NaN for zero gradients",
                "scale = total_norm.clamp(max=max_norm) / total_norm",
                "Where all gradients are zero, yours divides zero by zero.",
            ),
            (
                "root of the factor",
                "scale = (max_norm / total_norm).clamp(max=1.0).sqrt()",
                "The factor is max_norm over the norm, with no root: the norm after clipping is to "
                "be max_norm.",
            ),
            (
                "limited from the wrong side",
                "scale = (max_norm / total_norm).clamp(min=1.0, max=1e30)",
                "The factor is at most 1: clipping never makes gradients longer.",
            ),
            (
                "made to have norm 1",
                "scale = torch.where(total_norm > max_norm, 1 / total_norm, 1.0)",
                "Too long gradients get the norm max_norm, not 1.",
            ),
            (
                "scaled by max_norm",
                "scale = torch.where(total_norm > max_norm, max_norm, 1.0)",
                "The factor is such that the new norm is max_norm: the old norm has a part in it.",
            ),
            (
                "dropped",
                "scale = torch.where(total_norm > max_norm, 0.0, 1.0)",
                "Too long gradients are shortened, not thrown away: their direction is good.",
            ),
        ),
        *edits_of(
            RESULT,
            (
                "tensor by tensor",
                "return [\n        g * (max_norm / g.norm()).clamp(max=1.0) for g in grads\n"
                "    ], total_norm",
                "Each tensor is scaled by itself, which turns the direction of the whole. All "
                "share one factor.",
            ),
            (
                "clipped by value",
                "return [g.clamp(-max_norm, max_norm) for g in grads], total_norm",
                "That is clipping by value; here all gradients are scaled by one factor.",
            ),
            (
                "short ones handed back",
                "return [g if total_norm <= max_norm else g * scale for g in grads], total_norm",
                "Gradients that are short enough come back themselves. The results are to be new "
                "tensors, clipped or not.",
            ),
            (
                "norm as a number",
                "return [grad * scale for grad in grads], total_norm.item()",
                "The norm is returned as a tensor of shape (): .item() makes a Python number of "
                "it.",
            ),
            (
                "norm of shape (1,)",
                "return [grad * scale for grad in grads], total_norm.reshape(1)",
                "The norm has the shape (), not (1,).",
            ),
            (
                "norm after clipping",
                "return [grad * scale for grad in grads], total_norm * scale",
                "total_norm is the norm before clipping: that is what one wants to watch.",
            ),
            (
                "norm not returned",
                "return [grad * scale for grad in grads]",
                "The norm before clipping is returned, too, after the gradients.",
            ),
            (
                "results swapped",
                "return total_norm, [grad * scale for grad in grads]",
                "The gradients are returned first, the norm second.",
            ),
            (
                "scaled in place",
                "return [grad.mul_(scale) for grad in grads], total_norm",
                "The gradients that were passed in have changed: methods that end in _ write into "
                "them.",
            ),
        ),
    ],
    variants=[
        Variant(
            "by a branch, with PyTorch's small constant",
            """
            def clip_grad_norm(grads, max_norm):
                total = torch.cat([g.reshape(-1) for g in grads]).pow(2).sum().sqrt()
                if total <= max_norm:
                    return [g.clone() for g in grads], total
                return [g * (max_norm / (total + 1e-6)) for g in grads], total
            """,
        ),
        Variant(
            "squares in a loop, a factor by where",
            """
            def clip_grad_norm(grads, max_norm):
                squares = 0
                for g in grads:
                    squares = squares + (g * g).sum()
                norm = squares**0.5
                factor = torch.where(norm > max_norm, max_norm / norm, torch.ones_like(norm))
                return tuple(torch.mul(g, factor) for g in grads), norm
            """,
        ),
        Variant(
            "in place on copies",
            """
            def clip_grad_norm(grads, max_norm):
                flat = torch.cat([g.flatten() for g in grads])
                total_norm = torch.linalg.vector_norm(flat)
                factor = max_norm / (total_norm + 1e-6)
                copies = [g.clone() for g in grads]
                for g in copies:
                    g.mul_(torch.minimum(factor, torch.ones_like(factor)))
                return copies, total_norm
            """,
        ),
    ],
)


def norm_case(title, max_norm, scale=1.0, shapes=SHAPES):
    def draw(make):
        return {"grads": gradients(make, scale, shapes), "max_norm": max_norm}

    return Case(title, norm_clipped, draw, dtypes=(torch.float64,), loosen=1e3)


@clip_grad_norm.test(
    points=2.25,
    cases=[
        norm_case("gradients that are too long together", 3.5),
        norm_case("gradients that are each, but not together, short enough", 14.0, scale=1.5),
        norm_case("gradients that are short enough", 200.0),
        norm_case("gradients that are all zero", 1.5, scale=0.0),
        norm_case("one matrix that is too long", 0.7, shapes=[(5, 3)]),
    ],
)
def test_norm_clips_together(submission, case):
    """Scales all gradients by one factor where they are too long together"""
    submission.matches_reference(case)


@clip_grad_norm.test(
    points=0.25,
    cases=[
        Case(
            "long gradients",
            norm_clipped,
            lambda make: {"grads": gradients(make), "max_norm": 3.5},
            dtypes=(torch.float32,),
        )
    ],
)
def test_norm_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)
