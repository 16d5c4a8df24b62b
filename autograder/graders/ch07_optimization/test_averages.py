"""Exponentially weighted averages: the rule, its bias, its memory, and averages of weights.

Roberts (1959), https://doi.org/10.1080/00401706.1959.10489860; Kingma & Ba (2015), section 3,
https://arxiv.org/abs/1412.6980; Polyak & Juditsky (1992), https://doi.org/10.1137/0330046.
Oracles: the averages as explicit sums with the weights written out, in place of the recursion.

β stays at or below 0.9 where float32 is judged: 1 - β loses digits when β is close to 1.
"""

import torch
from torch import nn

from autograder.spec import Case, Exercise, Mistake, Variant, raised
from autograder.spec.probes import tensors_of
from autograder.spec.tables import edits_of

DOUBLE, SINGLE = (torch.float64,), (torch.float32,)


# Oracles: every average is a row of weights times the values.


def average_by_weights(values, beta=0.9):
    steps = torch.arange(len(values), dtype=values.dtype, device=values.device)
    age = steps[:, None] - steps[None, :]
    weights = torch.where(age >= 0, (1 - beta) * beta ** age.clamp(min=0), torch.zeros_like(age))
    return torch.tensordot(weights, values, dims=1)


def correction_by_weights(averages, beta=0.9):
    """Divide by the sum of the weights, added up one by one."""
    sums, total = [], 0.0
    for age in range(len(averages)):
        total += (1 - beta) * beta**age
        sums.append(total)
    divisors = torch.tensor(sums, dtype=averages.dtype, device=averages.device)
    return (averages.movedim(0, -1) / divisors).movedim(-1, 0)


def weights_by_impulses(t, beta, corrected=False, *, dtype=torch.float64, device="cpu"):
    """Average sequences that are 1 at one place and 0 elsewhere."""
    average = torch.zeros(t, dtype=dtype, device=device)
    for one in torch.eye(t, dtype=dtype, device=device):
        average = beta * average + (1 - beta) * one
    return average / average.sum() if corrected else average


def window_by_series(beta):
    return sum(beta**age for age in range(4000))


def beta_by_bisection(steps):
    low, high = 0.0, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if middle**steps < 0.5 else (low, middle)
    return low


def noise_by_series(beta):
    return sum(((1 - beta) * beta**age) ** 2 for age in range(4000))


class AverageOfHistory:
    """Keeps every update and averages when asked."""

    def __init__(self, model, beta=0.99):
        del model
        self.beta, self.history = beta, []

    def update(self, model):
        self.history.append([param.detach().clone() for param in model.parameters()])

    def copy_to(self, model):
        if not self.history:
            raise RuntimeError("no update yet")
        weights = [self.beta**age for age in reversed(range(len(self.history)))]
        with torch.no_grad():
            for param, *past in zip(model.parameters(), *self.history, strict=True):
                total = sum(w * p for w, p in zip(weights, past, strict=True))
                param.copy_(total / sum(weights))


# exponential_average and correct_bias


def of_sequence(impl, sequence, beta=None, transpose=False):
    sequence = sequence.transpose(-1, -2) if transpose else sequence
    return {"the result": impl(sequence) if beta is None else impl(sequence, beta)}


def sequence_case(title, *shape, beta=None, transpose=False, dtypes=(torch.float64, torch.float32)):
    def draw(make):
        return {"sequence": make.away_from_zero(*shape), "beta": beta, "transpose": transpose}

    return Case(title, of_sequence, draw, dtypes=dtypes)


RULE = "average = beta * average + (1 - beta) * value"

exponential_average = Exercise(
    "exponential_average",
    oracle=average_by_weights,
    mistakes=[
        *edits_of(
            RULE,
            (
                "beta and 1 - beta swapped",
                "average = (1 - beta) * average + beta * value",
                "beta is the share of the old average that is kept; the new value gets the rest.",
            ),
            (
                "new value unweighted",
                "average = beta * average + value",
                "That is a fading sum. In an average the two weights add up to 1.",
            ),
            (
                "old average unweighted",
                "average = average + (1 - beta) * value",
                "The old average lacks its weight beta, so that nothing is ever forgotten.",
            ),
            (
                "nothing remembered",
                "average = (1 - beta) * value",
                "The old average is missing: it keeps the share beta.",
            ),
            (
                "weighted twice",
                "average = beta * ((1 - beta) * value + average)",
                "The new value's weight is 1 - beta alone; beta weighs the old average.",
            ),
            (
                "default beta",
                "average = 0.9 * average + 0.1 * value",
                "The argument beta has no effect.",
            ),
            (
                "absolute values",
                "average = beta * average + (1 - beta) * value.abs()",
                "The values go in as they are, with their signs.",
            ),
        ),
        *edits_of(
            "torch.zeros_like(values[0])",
            (
                "started at the first value",
                "values[0]",
                "The average starts at zero here. That it is too small at first is a bias which "
                "the next exercise corrects.",
            ),
            (
                "started at the mean",
                "values.mean(dim=0)",
                "The average starts at zero, and knows nothing of later values.",
            ),
        ),
        Mistake(
            "averages before the values",
            f"        {RULE}\n        averages.append(average)\n",
            f"        averages.append(average)\n        {RULE}\n",
            "The t-th result already holds the t-th value: update first, then note it down.",
        ),
        Mistake.edits_of(
            "one tensor noted down again and again",
            [
                (f"        {RULE}\n", "        average.mul_(beta).add_((1 - beta) * value)\n"),
            ],
            "Changing the average in place changes what you have noted down before: all entries "
            "of your list are the same tensor.",
        ),
        Mistake.written(
            "powers of beta divided out",
            """
            def exponential_average(values, beta=0.9):
                t = torch.arange(len(values), dtype=values.dtype, device=values.device)
                fade = (beta**t).reshape(-1, *[1] * (values.dim() - 1))
                return (1 - beta) * fade * (values / fade).cumsum(dim=0)
            """,
            "Each value is divided by a power of beta, and the sum multiplied with one. In a long "
            "sequence these powers become too small for any float: go from step to step.",
        ),
        Mistake(
            "a moving mean",
            RULE,
            "average = values[max(0, len(averages) + 1 - round(1 / (1 - beta))) : "
            "len(averages) + 1].mean(dim=0)",
            "That is the plain mean of the latest values. Here every value counts, the older the "
            "less.",
        ),
        Mistake.written(
            "averaged along the last dimension",
            """
            def exponential_average(values, beta=0.9):
                average, averages = torch.zeros_like(values[..., 0]), []
                for value in values.unbind(-1):
                    average = beta * average + (1 - beta) * value
                    averages.append(average)
                return torch.stack(averages, dim=-1)
            """,
            "Time is the first dimension; what follows it is averaged element by element.",
        ),
        *edits_of(
            "return torch.stack(averages)",
            ("only the last", "return averages[-1]", "Asked for is the average after each value."),
            (
                "newest first",
                "return torch.stack(averages[::-1])",
                "The averages are in the order of the values.",
            ),
            (
                "bias corrected",
                "return torch.stack([a / (1 - beta**t) for t, a in enumerate(averages, 1)])",
                "These are corrected for the start at zero; that is the next exercise.",
            ),
            (
                "along the wrong dimension",
                "return torch.stack(averages, dim=-1)",
                "Time is the first dimension, of the values and of the result.",
            ),
        ),
    ],
    variants=[
        Variant(
            "into a buffer",
            """
            def exponential_average(values, beta=0.9):
                result = torch.empty_like(values)
                for t in range(len(values)):
                    result[t] = (1 - beta) * values[t]
                    if t > 0:
                        result[t] += beta * result[t - 1]
                return result
            """,
        ),
        Variant(
            "a step towards the value",
            """
            def exponential_average(values, beta=0.9):
                v, out = values[0] * 0, []
                for x in values.unbind(0):
                    v = torch.lerp(x, v, beta)
                    out += [v]
                return torch.stack(out, 0)
            """,
        ),
        Variant(
            "by a matrix of weights",
            """
            def exponential_average(values, beta=0.9):
                n = values.shape[0]
                t = torch.arange(n, device=values.device)
                powers = torch.tril(beta ** (t[:, None] - t[None, :]).abs().to(values.dtype))
                return torch.einsum("ts,s...->t...", (1 - beta) * powers, values)
            """,
        ),
    ],
)


@exponential_average.test(
    points=1,
    cases=[
        sequence_case("of numbers", 7, beta=0.6),
        sequence_case("of numbers, with a long memory", 5, beta=0.97, dtypes=DOUBLE),
        sequence_case("by default", 6),
        sequence_case("of a single value", 1, beta=0.7),
        sequence_case("of many numbers, with a short memory", 1200, beta=0.5),
    ],
)
def test_average_of_numbers(submission, case):
    """Averages a sequence of numbers"""
    submission.matches_reference(case)


@exponential_average.test(
    points=0.5,
    cases=[
        sequence_case("of vectors", 5, 3, beta=0.4),
        sequence_case("of images", 4, 2, 3, 5, beta=0.8),
        sequence_case("of transposed matrices", 6, 2, 3, beta=0.5, transpose=True),
    ],
)
def test_average_of_tensors(submission, case):
    """Averages a sequence of tensors"""
    submission.matches_reference(case)


@exponential_average.test(points=0.25, cases=[sequence_case("of vectors", 5, 3, beta=0.4)])
def test_average_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


CORRECTED = "average / (1 - beta**t)"
EACH = "[average / (1 - beta**t) for t, average in enumerate(averages, start=1)]"

correct_bias = Exercise(
    "correct_bias",
    oracle=correction_by_weights,
    mistakes=[
        *edits_of(
            CORRECTED,
            (
                "multiplied",
                "average * (1 - beta**t)",
                "The averages are too small: divide by the sum of their weights.",
            ),
            (
                "the same for all",
                "average / (1 - beta)",
                "That is right for the first average only: the t-th holds t values.",
            ),
            (
                "the last one's for all",
                "average / (1 - beta ** len(averages))",
                "Each average has its own number of values: the t-th is divided by 1 - beta**t.",
            ),
            (
                "not a power",
                "average / (1 - beta * t)",
                "beta to the power t, and not beta times t.",
            ),
            (
                "power of the wrong weight",
                "average / (1 - (1 - beta) ** t)",
                "What is missing in the sum of the weights is beta**t.",
            ),
            (
                "whole bracket to the power",
                "average / (1 - beta) ** t",
                "Only beta is taken to the power t, before it is subtracted from 1.",
            ),
            (
                "1 left out",
                "average / beta**t",
                "The weights add up to 1 - beta**t; you divide by what is missing.",
            ),
            (
                "plus",
                "average / (1 + beta**t)",
                "The sum of the weights is less than 1: 1 minus beta**t.",
            ),
            (
                "a root",
                "average / (1 - beta**t) ** 0.5",
                "There is no root in the correction; it corrects a mean.",
            ),
            (
                "missing part added",
                "average + beta**t",
                "The missing weight beta**t is made up for by dividing, not by adding.",
            ),
        ),
        *edits_of(
            "start=1",
            (
                "counted from 0",
                "start=0",
                "The first average holds one value, so that counting starts at 1.",
            ),
            (
                "counted from 2",
                "start=2",
                "The first average holds one value, so that counting starts at 1.",
            ),
        ),
        *edits_of(
            EACH,
            (
                "only the first",
                "[a / (1 - beta) if i == 0 else a for i, a in enumerate(averages)]",
                "The first average is not the only one that is too small: correct each of them.",
            ),
            (
                "counted along the last dimension",
                "list(averages / (1 - beta ** (1 + torch.arange(averages.size(-1)).to(averages))))",
                "Time is the first dimension. A vector of T divisors lines up with the last one, "
                "unless it is reshaped.",
            ),
            (
                "divisors lined up with the last dimension",
                "list(averages / (1 - beta ** (1 + torch.arange(len(averages)).to(averages))))",
                "Time is the first dimension. A vector of T divisors lines up with the last one, "
                "unless it is reshaped.",
            ),
            (
                "divisors for matrices only",
                "list(averages / (1 - beta ** (1 + torch.arange(len(averages)).to(averages)))"
                ".reshape([-1] + [1] * (averages.dim() > 1)))",
                "The divisors get one more dimension, which is right for matrices. What follows "
                "time may have any number of them.",
            ),
            (
                "corrections piling up",
                "[a / torch.prod(1 - beta ** torch.arange(1, i + 2).to(a)) "
                "for i, a in enumerate(averages)]",
                "Each average is corrected by itself, with one division.",
            ),
        ),
        Mistake(
            "corrected in place",
            f"corrected = {EACH}",
            f"corrected = {EACH.replace('average / (', 'average.div_(')}",
            "The averages that were passed in have changed: methods that end in _ and operators "
            "such as /= write into them.",
        ),
    ],
    variants=[
        Variant(
            "divided by a column",
            """
            def correct_bias(averages, beta=0.9):
                t = torch.arange(1, len(averages) + 1, dtype=averages.dtype, device=averages.device)
                return averages / (1 - beta**t).reshape(-1, *[1] * (averages.ndim - 1))
            """,
        ),
        Variant(
            "sums of the weights, on a copy",
            """
            def correct_bias(averages, beta=0.9):
                result, total = averages.clone(), 0.0
                for t in range(len(result)):
                    total = beta * total + (1 - beta)
                    result[t] /= total
                return result
            """,
        ),
        Variant(
            "transposed",
            """
            def correct_bias(averages, beta=0.9):
                powers = torch.cumprod(averages.new_full((averages.shape[0],), beta), dim=0)
                return (averages.movedim(0, -1) / (1 - powers)).movedim(-1, 0)
            """,
        ),
    ],
)


@correct_bias.test(
    points=0.75,
    cases=[
        sequence_case("of numbers", 7, beta=0.6),
        sequence_case("of numbers, with a long memory", 5, beta=0.97, dtypes=DOUBLE),
        sequence_case("by default", 6),
        sequence_case("of a single average", 1, beta=0.7),
    ],
)
def test_correction_of_numbers(submission, case):
    """Corrects averages of numbers"""
    submission.matches_reference(case)


@correct_bias.test(
    points=0.5,
    cases=[
        sequence_case("of vectors", 5, 3, beta=0.4),
        sequence_case("of as many numbers as averages", 4, 4, beta=0.8),
        sequence_case("of images", 4, 2, 3, 5, beta=0.8),
        sequence_case("of transposed matrices", 6, 2, 3, beta=0.5, transpose=True),
    ],
)
def test_correction_of_tensors(submission, case):
    """Corrects averages of tensors, along time"""
    submission.matches_reference(case)


@correct_bias.test(points=0.25, cases=[sequence_case("of vectors", 5, 3, beta=0.4)])
def test_correction_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# average_weights. `like`, where there is one, has the dtype and the device that are asked for.


def weights_of(impl, t, beta, corrected=None, like=None):
    asked = {} if like is None else {"dtype": like.dtype, "device": like.device}
    weights = impl(t, beta, **asked) if corrected is None else impl(t, beta, corrected, **asked)
    return {"the weights": weights}


def weights_case(title, t, low, high, corrected=None):
    def draw(make):
        return {"t": t, "beta": make.number(low, high), "corrected": corrected}

    return Case(title, weights_of, draw, dtypes=DOUBLE)


def asked_weights(title, t, corrected):
    def draw(make):
        beta = make.number(0.5, 0.9)
        return {"t": t, "beta": beta, "corrected": corrected, "like": torch.zeros(1)}

    return Case(title, weights_of, draw, dtypes=SINGLE)


average_weights = Exercise(
    "average_weights",
    oracle=weights_by_impulses,
    mistakes=[
        *edits_of(
            "torch.arange(t - 1, -1, -1, dtype=dtype, device=device)",
            (
                "newest first",
                "torch.arange(t, dtype=dtype, device=device)",
                "The oldest value comes first, and it is the one with the smallest weight.",
            ),
            (
                "ages from 1",
                "torch.arange(t, 0, -1, dtype=dtype, device=device)",
                "The newest value has not been multiplied with beta yet: its age is 0.",
            ),
            (
                "default dtype",
                "torch.arange(t - 1, -1, -1, device=device)",
                "The weights are to have the dtype asked for, not PyTorch's default.",
            ),
            (
                "always double",
                "torch.arange(t - 1, -1, -1, dtype=torch.float64, device=device)",
                "The argument dtype has no effect.",
            ),
            (
                "always on the CPU",
                "torch.arange(t - 1, -1, -1, dtype=dtype)",
                "The argument device has no effect.",
            ),
            (
                "one weight too many",
                "torch.arange(t, -1, -1, dtype=dtype, device=device)",
                "There are t values, and t weights: what is left of the start at zero is no value.",
            ),
        ),
        *edits_of(
            "(1 - beta) * beta**age",
            (
                "1 - beta left out",
                "beta**age",
                "Each value goes in with the weight 1 - beta, and fades from there.",
            ),
            (
                "weights swapped",
                "beta * (1 - beta) ** age",
                "With each step a value is multiplied with beta; it goes in with 1 - beta.",
            ),
            (
                "first value whole",
                "torch.where(age == t - 1, 1.0, 1 - beta) * beta**age",
                "The average starts at zero, not at the first value: that one has no special "
                "weight.",
            ),
            (
                "fading as e",
                "(1 - beta) * torch.exp(-(1 - beta) * age)",
                "That is close for beta near 1, and no more: the weight is beta to the age.",
            ),
        ),
        *edits_of(
            "weights / (1 - beta**t) if corrected else weights",
            ("never corrected", "weights", "The argument corrected has no effect."),
            (
                "always corrected",
                "weights / (1 - beta**t)",
                "The weights are corrected only if corrected is True.",
            ),
            (
                "corrected the other way round",
                "weights if corrected else weights / (1 - beta**t)",
                "With corrected=True the weights add up to 1; yours do so with False.",
            ),
            (
                "corrected by the first weight",
                "weights / (1 - beta) if corrected else weights",
                "t values are in the average: their weights together are 1 - beta**t.",
            ),
            (
                "corrected one by one",
                "weights / (1 - beta ** (age + 1)) if corrected else weights",
                "One division for the whole average: all t weights get the same divisor.",
            ),
        ),
    ],
    variants=[
        Variant(
            "divided by their sum",
            """
            def average_weights(t, beta, corrected=False, *, dtype=torch.float64, device="cpu"):
                weights = torch.tensor(
                    [(1 - beta) * beta ** (t - i) for i in range(1, t + 1)],
                    dtype=dtype, device=device,
                )
                return weights / weights.sum() if corrected else weights
            """,
        ),
        Variant(
            "turned round",
            """
            def average_weights(t, beta, corrected=False, *, dtype=torch.float64, device="cpu"):
                powers = torch.full((t,), beta, dtype=torch.double).pow(torch.arange(t)).flip(0)
                powers = powers.to(device, dtype)
                scale = (1 - beta) / (1 - beta**t) if corrected else 1 - beta
                return scale * powers
            """,
        ),
        Variant(
            "by fading",
            """
            def average_weights(t, beta, corrected=False, *, dtype=torch.float64, device="cpu"):
                weights = torch.zeros(t, dtype=dtype, device=device)
                for i in range(t):
                    weights *= beta
                    weights[i] += 1 - beta
                if corrected:
                    weights /= 1 - beta**t
                return weights
            """,
        ),
    ],
)


@average_weights.test(
    points=0.75,
    cases=[
        weights_case("of a few values", 5, 0.5, 0.9, False),
        weights_case("by default", 9, 0.9, 0.99),
        weights_case("of one value", 1, 0.3, 0.9, False),
    ],
)
def test_weights(submission, case):
    """Finds the weights of the plain average"""
    submission.matches_reference(case)


@average_weights.test(
    points=0.5,
    cases=[
        weights_case("of a few values", 6, 0.5, 0.9, True),
        weights_case("of many values", 300, 0.98, 0.99, True),
    ],
)
def test_weights_corrected(submission, case):
    """Finds the weights of the corrected average"""
    submission.matches_reference(case)


@average_weights.test(
    points=0.25,
    cases=[
        asked_weights("of the plain average", 5, corrected=False),
        asked_weights("of the corrected average", 6, corrected=True),
    ],
)
def test_weights_follow_what_is_asked_for(submission, case):
    """Returns the dtype and the device that are asked for"""
    submission.matches_on_device(case)


# Three numbers. Judged to float32's tolerance: an answer may go through a default tensor.


def number_of(impl, *, given):
    return {"the result": impl(given)}


def number_case(title, low, high):
    return Case(title, number_of, lambda make: {"given": make.number(low, high)}, dtypes=SINGLE)


effective_window = Exercise(
    "effective_window",
    oracle=window_by_series,
    mistakes=edits_of(
        "1 / (1 - beta)",
        ("of 1 - beta", "1 / beta", "The newest value has the weight 1 - beta, not beta."),
        (
            "weight itself",
            "1 - beta",
            "That is the newest value's weight itself. In a plain mean of n values each has the "
            "weight 1/n: solve for n.",
        ),
        ("old values only", "beta / (1 - beta)", "The newest value is a part of the window, too."),
        (
            "plus",
            "1 / (1 + beta)",
            "The newest value has the weight 1 - beta, and the window is longer than one value.",
        ),
        (
            "values worth",
            "(1 + beta) / (1 - beta)",
            "That is how many values a plain mean would need for the same noise, another measure.",
        ),
        (
            "exact half-life",
            "-0.6931471805599453 / __import__('math').log(beta)",
            "That is the half-life. The window is the n whose 1/n is the newest value's weight.",
        ),
        (
            "time to 1/e",
            "-1 / __import__('math').log(beta)",
            "That is how long a value takes to fade to 1/e. The window is the n whose 1/n is the "
            "newest value's weight.",
        ),
        (
            "half-life",
            "0.6931471805599453 / (1 - beta)",
            "That is close to the half-life. The window is the n whose 1/n is the newest value's "
            "weight.",
        ),
        ("whole numbers", "round(1 / (1 - beta))", "It need not be a whole number: do not round."),
        ("squared", "1 / (1 - beta) ** 2", "The newest value's weight is 1/n, without a square."),
    ),
    variants=[
        Variant.edits_of("a power", [("1 / (1 - beta)", "(1 - beta) ** -1")]),
        Variant.edits_of("one more", [("1 / (1 - beta)", "1 + beta / (1 - beta)")]),
        Variant.edits_of(
            "through a tensor", [("1 / (1 - beta)", "(1 - torch.tensor(beta)).reciprocal()")]
        ),
    ],
)


@effective_window.test(
    points=0.5, cases=[number_case("a short one", 0.1, 0.6), number_case("a longer one", 0.7, 0.95)]
)
def test_window(submission, case):
    """Finds the window"""
    submission.matches_reference(case)


beta_from_half_life = Exercise(
    "beta_from_half_life",
    oracle=beta_by_bisection,
    mistakes=edits_of(
        "float(0.5 ** (1 / steps))",
        (
            "by the window",
            "1 - 1 / steps",
            "That β has a window of so many steps. After them, more than half of the weight is "
            "gone.",
        ),
        ("power of the steps", "0.5**steps", "It is β to the power of the steps that is a half."),
        ("no power", "0.5 / steps", "A weight fades by factors: solve β to the steps = 1/2."),
        (
            "a straight line",
            "1 - 0.5 / steps",
            "A weight does not fade by equal amounts, but by equal factors.",
        ),
        (
            "decay to 1/e",
            "2.718281828459045 ** (-1 / steps)",
            "With this β the weight has fallen to 1/e; a half-life ends at 1/2.",
        ),
        ("above 1", "2 ** (1 / steps)", "Weights fade, so β is below 1."),
        (
            "rate of the decay",
            "0.6931471805599453 / steps",
            "That is about how much is lost in a step. Asked for is the share β that is kept.",
        ),
        (
            "whole steps only",
            "0.5 ** (1 / int(steps))",
            "The half-life need not be a whole number: do not round it.",
        ),
        (
            "integer division",
            "0.5 ** (1 // steps)",
            "Integer division makes the exponent 0: use a true division.",
        ),
        (
            "1 - beta returned",
            "1 - 0.5 ** (1 / steps)",
            "That is the new value's weight 1 - β; asked for is β.",
        ),
        (
            "one step more",
            "0.5 ** (1 / (steps + 1))",
            "After steps steps β has been applied so many times.",
        ),
        (
            "base and exponent swapped",
            "(1 / steps) ** 0.5",
            "Base and exponent are mixed up: which of the two numbers is it whose root is taken?",
        ),
    ),
    variants=[
        Variant.edits_of(
            "exp and log",
            [("0.5 ** (1 / steps)", "torch.exp(torch.log(torch.tensor(0.5)) / steps)")],
        ),
        Variant.edits_of("a power of two", [("0.5 ** (1 / steps)", "2 ** (-1 / steps)")]),
        Variant.edits_of("one over", [("0.5 ** (1 / steps)", "1 / 2 ** (1 / steps)")]),
    ],
)


@beta_from_half_life.test(
    points=0.5, cases=[number_case("a few steps", 1.5, 4.0), number_case("many steps", 10.0, 60.0)]
)
def test_half_life(submission, case):
    """Finds β from a half-life"""
    submission.matches_reference(case)


noise_factor = Exercise(
    "noise_factor",
    oracle=noise_by_series,
    mistakes=edits_of(
        "(1 - beta) / (1 + beta)",
        (
            "weights not squared",
            "1 - beta",
            "Close, but the variance is the sum of all squared weights, a geometric series in β².",
        ),
        (
            "newest value alone",
            "(1 - beta) ** 2",
            "That is the newest value's part: the older ones add theirs.",
        ),
        (
            "sum not squared in front",
            "1 / (1 - beta**2)",
            "Each squared weight has the factor (1 - β)², in front of the series.",
        ),
        (
            "1 - beta not squared in front",
            "(1 - beta) / (1 - beta**2)",
            "The weight's factor 1 - β is squared, too.",
        ),
        (
            "upside down",
            "(1 + beta) / (1 - beta)",
            "An average has less noise than a value: your factor is above 1.",
        ),
        (
            "standard deviation",
            "((1 - beta) / (1 + beta)) ** 0.5",
            "That is the ratio of the standard deviations; the variance is its square.",
        ),
        (
            "what is kept out",
            "2 * beta / (1 + beta)",
            "That is the share of the noise that is kept out; asked for is what gets through.",
        ),
        ("squared", "((1 - beta) / (1 + beta)) ** 2", "The weights are squared once."),
        (
            "series cut off",
            "sum(((1 - beta) * beta**age) ** 2 for age in range(100))",
            "The series never ends, and with a long memory a hundred terms are not nearly all of "
            "it: use the formula for its sum.",
        ),
        (
            "1 - beta left over in front",
            "(1 - beta) ** 2 / (1 + beta)",
            "One factor too many: 1 - β² has a factor 1 - β, which cancels against one of the two.",
        ),
        ("half", "(1 - beta) / 2", "That is close for β near 1 only: add the series up exactly."),
    ),
    variants=[
        Variant.edits_of(
            "a series", [("(1 - beta) / (1 + beta)", "(1 - beta) ** 2 / (1 - beta**2)")]
        ),
        Variant.edits_of(
            "added up",
            [
                (
                    "(1 - beta) / (1 + beta)",
                    "sum((1 - beta) ** 2 * beta ** (2 * age) for age in range(2000))",
                )
            ],
        ),
        Variant.edits_of(
            "by what is kept out", [("(1 - beta) / (1 + beta)", "1 - 2 * beta / (1 + beta)")]
        ),
    ],
)


@noise_factor.test(
    points=1,
    cases=[
        number_case("of a short memory", 0.15, 0.6),
        number_case("of a longer one", 0.96, 0.975),
    ],
)
def test_noise(submission, case):
    """Finds how much noise gets through"""
    submission.matches_reference(case)


# WeightAverage. A model of three layers, one of them frozen; a history of its weights.


def network(like):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2, bias=False)).to(like)
    model[1].weight.requires_grad_(False)
    return model


def set_to(model, weights):
    with torch.no_grad():
        for param, value in zip(model.parameters(), weights, strict=True):
            param.copy_(value)


def weights_of_model(model):
    return {name: param.detach().clone() for name, param in model.named_parameters()}


def drawn_weights(make):
    return [make.away_from_zero(*shape) for shape in [(4, 3), (4,), (4,), (4,), (2, 4)]]


def history(make, updates, **options):
    return {"weights": [drawn_weights(make) for _ in range(updates + 1)], **options}


def averaged(impl, weights, asked_at=(), other=False, another=False, **options):
    """Start with weights[0], update with each of the others, then ask for the average.

    With ``other`` it is written into another model, with ``another`` the updates come from one.
    """
    model = network(weights[0][0])
    set_to(model, weights[0])
    average, told = impl(model, **options), {}
    model = network(weights[0][0]) if another else model
    for t, now in enumerate(weights[1:], start=1):
        set_to(model, now)
        average.update(model)
        if t in asked_at:
            aside = network(weights[0][0])
            average.copy_to(aside)
            told[f"the average after update {t}"] = weights_of_model(aside)
    told["the model before it is written to"] = weights_of_model(model)
    kept = tensors_of(list(getattr(average, "__dict__", {}).values()))
    told["autograd recorded an update"] = any(tensor.grad_fn is not None for tensor in kept)
    before = list(model.parameters())
    receiver = network(weights[0][0]) if other else model
    average.copy_to(receiver)
    told["the average at the end"] = weights_of_model(receiver)
    told["the parameters are the same objects"] = all(
        a is b for a, b in zip(before, model.parameters(), strict=True)
    )
    told["requires_grad"] = [param.requires_grad for param in receiver.parameters()]
    return told


def goes_on(impl, weights, **options):
    """The average is written into the model itself half way, and then updated further."""
    model = network(weights[0][0])
    average = impl(model, **options)
    for now in weights:
        set_to(model, now)
        average.update(model)
        average.copy_to(model)
    return {"the average at the end": weights_of_model(model)}


def buffers_kept(impl, weights, running, **options):
    model, receiver = network(weights[0][0]), network(weights[0][0])
    average = impl(model, **options)
    average.update(model)
    with torch.no_grad():
        receiver[1].running_mean.copy_(running)
    average.copy_to(receiver)
    return {"the receiver's running mean": receiver[1].running_mean.clone()}


def asked_too_early(impl, weights, **options):
    model = network(weights[0][0])
    average = impl(model, **options)
    return {"what is raised": raised(lambda: average.copy_to(model), RuntimeError)}


MIXED = "self.beta * average + (1 - self.beta) * param\n"
WRITTEN = "param.copy_(average / (1 - self.beta**self.updates))"

WeightAverage = Exercise(
    "WeightAverage",
    oracle=AverageOfHistory,
    forbids=["torch.optim"],
    mistakes=[
        *edits_of(
            WRITTEN,
            (
                "not corrected",
                "param.copy_(average)",
                "The average starts at zero and is too small while it is young: correct it when "
                "it is written.",
            ),
            (
                "corrected as after one update",
                "param.copy_(average / (1 - self.beta))",
                "The correction depends on the number of updates: β to that power.",
            ),
            (
                "correction kept",
                "param.copy_(average.div_(1 - self.beta**self.updates))",
                "Writing the average must not change it: it is corrected afresh each time.",
            ),
            (
                "corrected with one update too many",
                "param.copy_(average / (1 - self.beta ** (self.updates + 1)))",
                "After the first update the power of β is 1.",
            ),
        ),
        Mistake.edits_of(
            "started at the first weights",
            [
                (
                    "[torch.zeros_like(param) for",
                    "[param.detach().clone() for",
                ),
                (WRITTEN, "param.copy_(average)"),
            ],
            "The weights given at the start do not count yet: start at zero and correct.",
        ),
        Mistake(
            "started at the first weights, and corrected",
            "[torch.zeros_like(param) for",
            "[param.detach().clone() for",
            "The correction makes up for a start at zero: yours starts at the first weights.",
        ),
        *edits_of(
            MIXED,
            (
                "beta and 1 - beta swapped",
                "(1 - self.beta) * average + self.beta * param\n",
                "beta is the share of the old average that is kept.",
            ),
            (
                "new weights unweighted",
                "self.beta * average + param\n",
                "The new weights lack their weight 1 - β: that is a fading sum.",
            ),
            (
                "latest weights only",
                "(1 - self.beta**self.updates) * param.clone()\n",
                "Earlier weights are forgotten: the old average keeps the share β.",
            ),
            (
                "default beta",
                "0.99 * average + (1 - 0.99) * param\n",
                "The argument beta has no effect on the update.",
            ),
        ),
        Mistake.edits_of(
            "updates counted parameter by parameter",
            [
                ("        self.updates += 1\n", ""),
                (
                    "                for average, param in zip(self.averages, model.parameters(), "
                    "strict=True)\n            ]\n",
                    "                for average, param in zip(self.averages, model.parameters(), "
                    "strict=True)\n            ]\n            self.updates += len(self.averages)\n",
                ),
            ],
            "The count goes up once in an update, not once for every parameter.",
        ),
        Mistake.edits_of(
            "frozen parameters left out",
            [
                (
                    "for param in model.parameters()]",
                    "for param in model.parameters() if param.requires_grad]",
                ),
                (
                    "average, param in zip(self.averages, model.parameters(), strict=True)\n"
                    "            ]",
                    "average, param in zip(self.averages, [p for p in model.parameters() "
                    "if p.requires_grad], strict=True)\n            ]",
                ),
                (
                    "            for average, param in zip(self.averages, model.parameters(), "
                    "strict=True):\n",
                    "            for average, param in zip(self.averages, [p for p in "
                    "model.parameters() if p.requires_grad], strict=True):\n",
                ),
            ],
            "Every parameter is averaged, also one that does not require a gradient.",
        ),
        Mistake(
            "model changed by an update",
            "            ]\n\n    def copy_to",
            "            ]\n            for average, param in zip(self.averages, "
            "model.parameters(), strict=True):\n                param.copy_(average)\n\n"
            "    def copy_to",
            "An update only looks at the model: its parameters stay as they are.",
        ),
        Mistake.edits_of(
            "buffers written, too",
            [
                (
                    "        self.updates += 1\n",
                    "        self.updates += 1\n"
                    "        self.buffers = [buffer.clone() for buffer in model.buffers()]\n",
                ),
                (
                    WRITTEN,
                    WRITTEN + "\n            for kept, buffer in zip(self.buffers, "
                    "model.buffers(), strict=True):\n                buffer.copy_(kept)",
                ),
            ],
            "Buffers are left alone: copy_to writes parameters only.",
        ),
        Mistake(
            "started afresh after writing",
            WRITTEN,
            f"{WRITTEN}\n                average.zero_()\n            self.updates = 0",
            "Writing the average throws it away: it stays as it is, so that it can be updated "
            "further.",
        ),
        Mistake.edits_of(
            "always updated from the first model",
            [
                ("        self.beta = beta\n", "        self.beta, self.model = beta, model\n"),
                (
                    "zip(self.averages, model.parameters(), strict=True)\n            ]",
                    "zip(self.averages, self.model.parameters(), strict=True)\n            ]",
                ),
            ],
            "update ignores the model that it is given and looks at the one from the start.",
        ),
        Mistake.edits_of(
            "always written into the first model",
            [
                ("        self.beta = beta\n", "        self.beta, self.model = beta, model\n"),
                (
                    "            for average, param in zip(self.averages, model.parameters(), "
                    "strict=True):\n",
                    "            for average, param in zip(self.averages, self.model.parameters(), "
                    "strict=True):\n",
                ),
            ],
            "copy_to ignores the model that it is given and writes into the one from the start.",
        ),
        Mistake(
            "frozen by writing",
            WRITTEN,
            f"{WRITTEN}\n                param.requires_grad_(False)",
            "The model's parameters require no gradient any more: only their values are "
            "overwritten.",
        ),
        Mistake.edits_of(
            "the first weights count",
            [
                (
                    "self.updates = 0\n        self.averages = [torch.zeros_like(param) for",
                    "self.updates = 1\n        self.averages = [(1 - beta) * param.detach() for",
                )
            ],
            "The weights given at the start are taken in as if by an update: nothing counts yet.",
        ),
        Mistake(
            "updates recorded by autograd",
            "        with torch.no_grad():\n            self.averages",
            "        if True:\n            self.averages",
            "Autograd records the updates, and the graph grows with each of them: the average "
            "takes in the numbers alone.",
        ),
        Mistake(
            "asked too early, with another error",
            "raise RuntimeError(",
            "raise ValueError(",
            "Asked too early, it raises RuntimeError, and no other error.",
        ),
        Mistake(
            "data of the average given away",
            WRITTEN,
            "average.div_(1 - self.beta**self.updates)\n                param.data = average",
            "The model and the average now share memory. Copy the numbers instead.",
        ),
        Mistake(
            "asked too early",
            "        if self.updates == 0:\n"
            '            raise RuntimeError("nothing has been averaged yet: call update first")\n',
            "        if self.updates == 0:\n            return\n",
            "Before the first update there is nothing to write: raise RuntimeError.",
        ),
        Mistake(
            "recorded by autograd",
            "        with torch.no_grad():\n            for average",
            "        if True:\n            for average",
            "Autograd refuses a change of a leaf that it records: switch it off around it.",
        ),
    ],
    variants=[
        Variant(
            "by name, in place",
            """
            class WeightAverage:
                def __init__(self, model, beta=0.99):
                    self.beta, self.count = beta, 0
                    self.v = {n: p.detach().clone().zero_() for n, p in model.named_parameters()}

                @torch.no_grad()
                def update(self, model):
                    self.count = self.count + 1
                    for name, param in model.named_parameters():
                        self.v[name].mul_(self.beta).add_(param, alpha=1 - self.beta)

                @torch.no_grad()
                def copy_to(self, model):
                    if not self.count:
                        raise RuntimeError("no updates")
                    for name, param in model.named_parameters():
                        param.copy_(self.v[name] / (1 - self.beta**self.count))
            """,
        ),
        Variant(
            "always corrected, with a rate that changes",
            """
            class WeightAverage:
                def __init__(self, model, beta=0.99):
                    self.beta = beta
                    self.weight = 0.0
                    self.mean = [torch.zeros_like(p.data) for p in model.parameters()]

                def update(self, model):
                    self.weight = self.beta * self.weight + (1 - self.beta)
                    rate = (1 - self.beta) / self.weight
                    for mean, p in zip(self.mean, model.parameters()):
                        mean += rate * (p.detach() - mean)

                def copy_to(self, model):
                    if self.weight == 0.0:
                        raise RuntimeError
                    for mean, p in zip(self.mean, model.parameters()):
                        p.data.copy_(mean)
            """,
        ),
        Variant(
            "one flat vector",
            """
            class WeightAverage:
                def __init__(self, model, beta=0.99):
                    self.beta, self.t = beta, 0
                    self.flat = 0 * nn.utils.parameters_to_vector(model.parameters()).detach()

                def update(self, model):
                    self.t += 1
                    now = torch.cat([p.detach().flatten() for p in model.parameters()])
                    self.flat = self.beta * self.flat + (1 - self.beta) * now

                def copy_to(self, model):
                    if self.t < 1:
                        raise RuntimeError("update first")
                    right, i = self.flat / (1 - self.beta**self.t), 0
                    for p in model.parameters():
                        with torch.no_grad():
                            p[...] = right[i : i + p.numel()].view_as(p)
                        i += p.numel()
            """,
        ),
    ],
)


@WeightAverage.test(
    points=1.5,
    cases=[
        Case("after one update", averaged, lambda make: history(make, 1, beta=0.7)),
        Case("after four updates", averaged, lambda make: history(make, 4, beta=0.7)),
        Case(
            "written into another model",
            averaged,
            lambda make: history(make, 3, beta=0.6, other=True),
        ),
        Case(
            "updated by another model",
            averaged,
            lambda make: history(make, 2, beta=0.6, another=True),
        ),
        Case("by default", averaged, lambda make: history(make, 3), dtypes=DOUBLE),
    ],
)
def test_weights_are_averaged(submission, case):
    """Averages every parameter, and writes the corrected average"""
    submission.matches_reference(case)


@WeightAverage.test(
    points=1.25,
    cases=[
        Case(
            "when asked after every update",
            averaged,
            lambda make: history(make, 4, beta=0.7, asked_at=[1, 2, 3]),
        ),
        Case(
            "when written into the model that trains on",
            goes_on,
            lambda make: history(make, 3, beta=0.6),
        ),
        Case(
            "with buffers left alone",
            buffers_kept,
            lambda make: history(make, 0, beta=0.6, running=make.normal(4)),
        ),
        Case("when asked too early", asked_too_early, lambda make: history(make, 0, beta=0.6)),
    ],
)
def test_average_goes_on(submission, case):
    """Keeps to itself: asking changes nothing, and asking too early raises RuntimeError"""
    submission.matches_reference(case)


@WeightAverage.test(
    points=0.25,
    cases=[
        Case("three updates", averaged, lambda make: history(make, 3, beta=0.6)),
    ],
)
def test_weight_average_follows_the_device(submission, case):
    """Works on whichever device the model is on"""
    submission.matches_on_device(case)
