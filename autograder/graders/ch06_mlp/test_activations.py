"""Activation functions, their slopes, and the units that saturate or die.

Hendrycks & Gimpel (2016), https://arxiv.org/abs/1606.08415; Elfwing et al. (2017),
https://arxiv.org/abs/1702.03118; PyTorch's own ops are the oracles, autograd that of the slopes.
"""

import torch
import torch.nn.functional as F  # noqa: N812

from autograder.spec import TRAINING, Case, Exercise, Mistake, Variant, raised

AUTOGRAD = ["torch.autograd.grad", "torch.autograd.backward", "torch.Tensor.backward", "torch.func"]


def aliases(*names, modules=()):
    """A forbidden function by every name under which users reach it."""
    roots = ("torch", "torch.Tensor", "torch.nn.functional", "torch.ops.aten", "torch.special")
    return [f"{root}.{n}{end}" for n in names for root in roots for end in ("", "_")] + [
        f"torch.nn.{m}" for m in modules
    ]


NO_SIGMOID = aliases("sigmoid", "expit", "logsigmoid", modules=["Sigmoid", "LogSigmoid"])
NO_TANH = aliases("tanh", modules=["Tanh"])
NO_SILU = aliases("silu", modules=["SiLU"])
NO_GELU = aliases("gelu", modules=["GELU"])
NO_RELU = aliases(
    "relu", "relu6", "hardtanh", "threshold", modules=["ReLU", "ReLU6", "Hardtanh", "Threshold"]
)
NO_LEAKY = aliases("leaky_relu", "prelu", "rrelu", modules=["LeakyReLU", "PReLU", "RReLU"])

# ---------------------------------------------------------------- scenarios and cases


def apply(impl, x, **options):
    return impl(x, **options)


def apply_transposed(impl, x):
    return impl(x.T)


def both_signs(make, *shape, low=0.2, high=3.0):
    """Half of the values positive, half negative: never all of one sign by chance."""
    signs = 2.0 * make.labels(torch.Size(shape).numel(), 2) - 1
    return signs.reshape(shape) * make.uniform(*shape, low=low, high=high)


def of_x(*shape, low=0.2, high=3.0):
    return lambda make: {"x": both_signs(make, *shape, low=low, high=high)}


VALUES = [
    Case("moderate values of both signs", apply, of_x(11)),
    Case("a batch of maps", apply, of_x(2, 3, 4, 5)),
    Case("a transposed matrix", apply_transposed, of_x(4, 7)),
]
TAILS = [
    Case("values around ten and twenty", apply, of_x(12, low=8.0, high=30.0)),
    Case("values near a thousand", apply, of_x(9, low=800.0, high=1000.0)),
]
AT_ZERO = Case("values close to zero, and zero", apply, lambda make: {
    "x": torch.cat([both_signs(make, 6, low=0.001, high=0.15), torch.zeros(1)]).double()
})  # fmt: skip
DEVICE = [Case("a matrix", apply, of_x(3, 5))]


def written_over(impl, x):
    """A new tensor is the caller's to write into: where it is x itself, x changes."""
    y = impl(x)
    kept = y.clone()
    y.fill_(-7.0)
    return kept


ALL_POSITIVE = Case(
    "positive values alone, and the result written over",
    written_over,
    lambda make: {"x": make.uniform(3, 4, low=0.2, high=3.0)},
)


def slips(function, rows):
    """Mistakes told as expressions of x: ``(name, what is returned, hint)``.

    Lines before the return are separated from it by " ; ".
    """
    body = {name: "\n    ".join(told.split(" ; ")) for name, told, _ in rows}
    return [Mistake.written(n, f"def {function}:\n    {body[n]}", hint) for n, _, hint in rows]


def ways(function, rows):
    """Right answers told likewise: name → body."""
    body = {name: "\n    ".join(told.split(" ; ")) for name, told in rows.items()}
    return [Variant(name, f"def {function}:\n    {told}") for name, told in body.items()]


SIGN = "The sign is turned: check it at a large positive x, where you know the value."
OVERFLOW = (
    "The formula is right, but for large |x| an exponential is infinite, and infinity over "
    "infinity is NaN. Rewrite it so that only exponentials of negative numbers are taken."
)
OUTPUT = (
    "This is the rule in terms of the function's *output*. The argument is what the function is "
    "given: work out the output first."
)
PRODUCT = "The function is a product of two factors that both depend on x: use the product rule."
CLIPPED = "Clipping x makes all larger values alike: the tail goes on. Avoid the overflow instead."
IN_PLACE = "The caller's x is changed: operations ending in _ write into it. Make a new tensor."
FIXED = "The slope is written into the code: use the argument."


def slope_oracle(function):
    def by_autograd(x, **options):
        leaf = x.detach().clone().requires_grad_()
        return torch.autograd.grad(function(leaf, **options).sum(), leaf)[0]

    return by_autograd


# ---------------------------------------------------------------- sigmoid

sigmoid = Exercise(
    "sigmoid",
    oracle=lambda x: torch.sigmoid(x),
    forbids=NO_SIGMOID,
    mistakes=slips("sigmoid(x)", [
        ("exponential of x over one plus itself",
         "return torch.exp(x) / (1 + torch.exp(x))", OVERFLOW),
        ("exponential of plus x", "return 1 / (1 + torch.exp(x))",
         "The curve falls where it should rise: the exponential in the denominator has a minus."),
        ("difference in the denominator", "return 1 / (1 - torch.exp(-x))",
         "The denominator is a sum: 1 plus the exponential, so that it is never 0."),
        ("parentheses left out", "return 1 / 1 + torch.exp(-x)",
         "Division comes before addition: put the whole denominator in parentheses."),
        ("one left out", "return 1 / torch.exp(-x)",
         "The denominator is 1 *plus* the exponential; without it the output grows without bound."),
        ("a tanh", "return torch.tanh(x)",
         "That curve runs from −1 to 1: it is the next exercise. The sigmoid lies in (0, 1)."),
        ("half of a tanh of x", "return (1 + torch.tanh(x)) / 2",
         "Half of 1 + tanh is a sigmoid, but one twice as steep: halve what tanh is given."),
        ("a softmax", "return torch.softmax(x, dim=-1)",
         "The sigmoid looks at each entry by itself: nothing is normalised across entries."),
        ("right for positive x only", "return 1 / (1 + torch.exp(-x.abs()))",
         "Taking |x| avoids the overflow, but makes negative x look positive: they need another "
         "expression."),
        ("a straight line with two corners", "return (x / 6 + 0.5).clamp(0, 1)",
         "That is the hard sigmoid, three straight pieces. The logistic function has no corner."),
        ("clipped at 10", "return 1 / (1 + torch.exp(-x.clamp(-10, 10)))", CLIPPED),
        ("clipped at 20", "return 1 / (1 + torch.exp(-x.clamp(-20, 20)))", CLIPPED),
        ("a constant in the denominator", "return 1 / (1 + torch.exp(-x) + 1e-6)",
         "The denominator is never below 1, so it needs no epsilon, which only bends the curve."),
        ("NaN replaced by 0", "return torch.nan_to_num(x.exp() / (1 + x.exp()), nan=0.0)",
         "Replacing NaN hides the overflow: for large positive x the sigmoid is 1, and not 0. "
         "Avoid the overflow instead."),
        ("a rounded e", "return 1 / (1 + 2.718 ** (-x))",
         "e has more digits than that: let the exponential function itself take the power."),
    ]),
    variants=ways("sigmoid(x)", {
        "the formula as it stands": "return 1 / (1 + torch.exp(-x))",
        "half of 1 + tanh(x/2)": "return 0.5 * (1 + torch.tanh(0.5 * x))",
        "with masks": "y = torch.empty_like(x) ; up = x > 0 ; "
        "y[up] = 1 / (1 + (-x[up]).exp()) ; e = x[~up].exp() ; y[~up] = e / (1 + e) ; return y",
        "softmax against zero":
        "return torch.softmax(torch.stack([x, torch.zeros_like(x)]), dim=0)[0]",
        "from logaddexp": "return torch.exp(-torch.logaddexp(torch.zeros_like(x), -x))",
    }),
)  # fmt: skip


@sigmoid.test(points=1, cases=[*VALUES, AT_ZERO])
def test_sigmoid_is_the_logistic_function(submission, case):
    """Is the logistic function, entry by entry"""
    submission.matches_reference(case)


@sigmoid.test(points=0.5, cases=TAILS)
def test_sigmoid_is_stable(submission, case):
    """Stays right far from zero"""
    submission.matches_reference(case)


@sigmoid.test(points=0.5, cases=DEVICE)
def test_sigmoid_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- sigmoid_derivative

sigmoid_derivative = Exercise(
    "sigmoid_derivative",
    oracle=slope_oracle(torch.sigmoid),
    forbids=AUTOGRAD,
    mistakes=slips("sigmoid_derivative(x)", [
        ("the sigmoid itself", "return sigmoid(x)", "That is the function, not its slope."),
        ("x taken for the output", "return x * (1 - x)", OUTPUT),
        ("one factor from x", "s = sigmoid(x) ; return s * (1 - x)",
         "The first factor is right. The second one, too, is made of the sigmoid's value, not of "
         "x."),
        ("plus in place of minus", "s = sigmoid(x) ; return s * (1 + s)",
         "The slope has to vanish where the sigmoid reaches 1: check the sign in the second "
         "factor."),
        ("squared", "s = sigmoid(x) ; return s * s",
         "This goes on rising to 1. The slope is largest at 0 and falls on both sides."),
        ("complement alone", "return 1 - sigmoid(x)",
         "A factor is missing: this does not vanish at very negative x, where the sigmoid is flat "
         "too."),
        ("complement squared", "return (1 - sigmoid(x)) ** 2",
         "One of the two factors is the sigmoid itself, not its complement."),
        ("tanh's rule", "s = sigmoid(x) ; return 1 - s * s",
         "1 − y² belongs to tanh. The sigmoid has a rule of its own."),
        ("applied twice", "s = sigmoid(sigmoid(x)) ; return s * (1 - s)",
         "The sigmoid is applied twice here: once is enough."),
        ("sign turned", "s = sigmoid(x) ; return s * (s - 1)",
         "The sigmoid rises everywhere, so its slope is never negative."),
        ("overflowing quotient", "e = torch.exp(-x) ; return e / (1 + e) ** 2", OVERFLOW),
        ("denominator not squared", "e = torch.exp(-x.abs()) ; return e / (1 + e)",
         "The quotient rule squares the denominator."),
        ("clipped at 20", "e = torch.exp(-x.clamp(-20, 20)) ; return e / (1 + e) ** 2",
         CLIPPED),
    ]),
    variants=ways("sigmoid_derivative(x)", {
        "difference of value and square": "s = sigmoid(x) ; return s - s**2",
        "the product with the mirror image": "return sigmoid(x) * sigmoid(-x)",
        "from the magnitude": "e = torch.exp(-torch.abs(x)) ; return e / (1 + e).square()",
        "with torch's sigmoid": "s = torch.sigmoid(x) ; return s.mul(1 - s)",
    }),
)  # fmt: skip


@sigmoid_derivative.test(points=1, cases=[*VALUES, AT_ZERO, *TAILS])
def test_sigmoid_derivative_is_the_slope(submission, case):
    """Is the slope of the sigmoid"""
    submission.matches_reference(case)


@sigmoid_derivative.test(points=0.5, cases=DEVICE)
def test_sigmoid_derivative_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- tanh

tanh = Exercise(
    "tanh",
    oracle=lambda x: torch.tanh(x),
    forbids=NO_TANH,
    mistakes=slips("tanh(x)", [
        ("both exponentials overflow", "a, b = torch.exp(x), torch.exp(-x) ; return (a-b) / (a+b)",
         OVERFLOW),
        ("exponential of 2x overflows", "e = torch.exp(2 * x) ; return (e - 1) / (e + 1)",
         "Right for negative x, but for large positive x the exponential is infinite: infinity "
         "over infinity is NaN."),
        ("exponential of −2x overflows", "e = torch.exp(-2 * x) ; return (1 - e) / (1 + e)",
         "Right for positive x, but for large negative x the exponential is infinite: infinity "
         "over infinity is NaN."),
        ("not twice x", "return 2 * sigmoid(x) - 1",
         "Stretched and shifted well, but too gentle at 0, where tanh has the slope 1: the "
         "sigmoid is given something else than x."),
        ("not shifted", "return 2 * sigmoid(2 * x)",
         "This runs from 0 to 2. tanh lies between −1 and 1, and is 0 at 0."),
        ("not stretched", "return sigmoid(2 * x) - 1",
         "This runs from −1 to 0. tanh lies between −1 and 1: stretch the sigmoid before the "
         "shift."),
        ("a sigmoid", "return sigmoid(x)", "That is the sigmoid. tanh lies between −1 and 1."),
        ("upside down", "a, b = torch.exp(x), torch.exp(-x) ; return (a + b) / (a - b)",
         "Numerator and denominator are swapped: tanh is 0 at 0, not infinite."),
        ("hyperbolic sine", "return torch.sinh(x)",
         "That is only the numerator, sinh: it has to be divided by the cosh."),
        ("sign lost", "e = torch.exp(-2 * x.abs()) ; return (1 - e) / (1 + e)",
         "Taking |x| avoids the overflow, but loses the sign: tanh(−x) is −tanh(x)."),
        ("clamped line", "return x.clamp(-1, 1)",
         "That is the hard tanh, three straight pieces. tanh has no corner."),
        ("sign turned", "return 1 - 2 * sigmoid(2 * x)", SIGN),
        ("clipped at 5", "a = torch.exp(2 * x.clamp(-5, 5)) ; return (a - 1) / (a + 1)",
         CLIPPED),
        ("clipped at 3", "a = torch.exp(2 * x.clamp(-3, 3)) ; return (a - 1) / (a + 1)",
         CLIPPED),
        ("softsign", "return x / (1 + x.abs())",
         "That is the softsign, a cousin without exponentials. It nears ±1 far more slowly."),
    ]),
    variants=ways("tanh(x)", {
        "with the sign put back":
        "e = torch.exp(-2 * x.abs()) ; return torch.sign(x) * (1 - e) / (1 + e)",
        "with expm1": "a = torch.expm1(-2 * x.abs()) ; return torch.copysign(-a / (a + 2), x)",
        "one minus a sigmoid": "return 1 - 2 * sigmoid(-2 * x)",
        "difference of two sigmoids": "return sigmoid(2 * x) - sigmoid(-2 * x)",
    }),
)  # fmt: skip


@tanh.test(points=1, cases=[*VALUES, AT_ZERO])
def test_tanh_is_the_hyperbolic_tangent(submission, case):
    """Is the hyperbolic tangent, entry by entry"""
    submission.matches_reference(case)


@tanh.test(points=0.5, cases=TAILS)
def test_tanh_is_stable(submission, case):
    """Stays right far from zero"""
    submission.matches_reference(case)


@tanh.test(points=0.5, cases=DEVICE)
def test_tanh_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- tanh_derivative

tanh_derivative = Exercise(
    "tanh_derivative",
    oracle=slope_oracle(torch.tanh),
    forbids=AUTOGRAD,
    mistakes=slips("tanh_derivative(x)", [
        ("the tanh itself", "return tanh(x)", "That is the function, not its slope."),
        ("x taken for the output", "return 1 - x**2", OUTPUT),
        ("square left out", "return 1 - tanh(x)",
         "The value is squared before it is taken from 1: the slope is the same at x and −x."),
        ("square of the difference", "return (1 - tanh(x)) ** 2",
         "The square is on the value alone, not on the difference."),
        ("the sigmoid's rule", "t = tanh(x) ; return t * (1 - t)",
         "y(1 − y) belongs to the sigmoid. tanh has a rule of its own."),
        ("plus in place of minus", "return 1 + tanh(x) ** 2",
         "The slope has to vanish where tanh reaches ±1: check the sign."),
        ("one left out", "return tanh(x) ** 2", "This is 0 at 0, where tanh is steepest."),
        ("sign turned", "return tanh(x) ** 2 - 1", "tanh rises everywhere: its slope is positive."),
        ("square inside", "return 1 - tanh(x**2)", "Square what tanh returns, not what it gets."),
        ("cosh not squared", "return 1 / torch.cosh(x)",
         "In terms of the hyperbolic cosine, the slope is one over its *square*."),
        ("inner factor missing", "return 2 * sigmoid_derivative(2 * x)",
         "tanh is 2·sigmoid(2x) − 1: the chain rule brings out the inner 2 as well."),
        ("inner argument missing", "return 4 * sigmoid_derivative(x)",
         "The factor is right, but the sigmoid's slope is taken at 2x, as in the function."),
    ]),
    variants=ways("tanh_derivative(x)", {
        "through the sigmoid": "return 4 * sigmoid_derivative(2 * x)",
        "one over cosh squared": "return 1 / torch.cosh(x) ** 2",
        "as a product": "t = tanh(x) ; return (1 - t) * (1 + t)",
        "with torch's tanh": "return -torch.pow(torch.tanh(x), 2) + 1",
    }),
)  # fmt: skip


@tanh_derivative.test(points=1, cases=[*VALUES, AT_ZERO, *TAILS])
def test_tanh_derivative_is_the_slope(submission, case):
    """Is the slope of the tanh"""
    submission.matches_reference(case)


@tanh_derivative.test(points=0.5, cases=DEVICE)
def test_tanh_derivative_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- relu

relu = Exercise(
    "relu",
    oracle=lambda x: torch.relu(x),
    forbids=NO_RELU,
    mistakes=slips("relu(x)", [
        ("the negative part", "return x.clamp(max=0)",
         "This keeps what is negative: it is a *lower* bound of 0 that is wanted."),
        ("magnitude", "return x.abs()", "Negative entries become 0, not positive."),
        ("step", "return (x > 0).to(x.dtype)",
         "That is the slope of ReLU, a step. The function keeps the positive values themselves."),
        ("cut off at one", "return x.clamp(0, 1)", "There is no upper bound."),
        ("cut off at six", "return x.clamp(0, 6)",
         "That is ReLU6. ReLU has no upper bound."),
        ("in place", "return x.clamp_(min=0)", IN_PLACE),
        ("leaky", "return torch.where(x > 0, x, 0.01 * x)",
         "That is the leaky ReLU of the next exercise: here negative entries become 0."),
        ("softplus", "return torch.log1p(torch.exp(x))",
         "That is the softplus, a smooth relative of ReLU."),
        ("one decision for all", "return x * (x.sum() > 0)",
         "Each entry decides for itself: there is no sum over the tensor."),
        ("only the positive entries", "return x[x > 0]",
         "Negative entries are not removed but replaced by 0: the shape stays."),
        ("sign turned", "return -x.clamp(min=0)", SIGN),
        ("mirrored", "return (-x).clamp(min=0)",
         "This keeps the negative entries and turns their sign: the positive ones are wanted."),
        ("x itself where all is positive", "return x if (x >= 0).all() else x.clamp(min=0)",
         "The values are right, but where nothing is negative you hand back x itself, and whoever "
         "writes into one changes the other. Return a new tensor."),
        ("the largest of all", "return x.max().clamp(min=0)",
         "Each entry is compared with 0 by itself: yours is the largest entry of all."),
        ("whole numbers", "return x.long().clamp(min=0).to(x.dtype)",
         "Going through integers cuts the digits after the point off: positive entries stay as "
         "they are."),
    ]),
    variants=ways("relu(x)", {
        "times a mask": "return x * (x > 0)",
        "maximum": "return torch.maximum(x, torch.zeros_like(x))",
        "where": "return torch.where(x > 0, x, 0.0)",
        "half of x plus its magnitude": "return (x + x.abs()) / 2",
        "own copy in place": "y = x.clone() ; y[y < 0] = 0 ; return y",
    }),
)  # fmt: skip


@relu.test(points=0.5, cases=[*VALUES, AT_ZERO, TAILS[0], ALL_POSITIVE])
def test_relu_keeps_what_is_positive(submission, case):
    """Keeps what is positive"""
    submission.matches_reference(case)


@relu.test(points=0.5, cases=DEVICE)
def test_relu_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- leaky_relu


def with_slope(low, high, *shape):
    return lambda make: {
        "x": both_signs(make, *shape, low=0.02, high=3.0),
        "negative_slope": round(64 * make.number(low, high)) / 64,  # the same in float32
    }


def at_the_corner(make):
    x = torch.cat([both_signs(make, 8, low=0.01, high=0.4), torch.zeros(4)])
    return {"x": x, "negative_slope": round(64 * make.number(0.45, 0.8)) / 64}


SLOPES = [
    Case("the slope by default", apply, of_x(9), dtypes=(torch.float32,)),
    Case("a slope between 0 and 1", apply, with_slope(0.1, 0.6, 3, 5)),
    Case("a slope of 0", apply, lambda make: of_x(7)(make) | {"negative_slope": 0.0}),
    Case("a slope above 1", apply, with_slope(1.5, 3.0, 2, 3, 4)),
    Case("a slope below 0", apply, with_slope(-0.9, -0.2, 8)),
    Case("zeros, and values nearer to zero than the slope", apply, at_the_corner),
    ALL_POSITIVE,
]
LEAKY_DEVICE = [Case("a matrix and a slope", apply, with_slope(0.1, 0.6, 3, 4))]
LEAKY = "leaky_relu(x, negative_slope=0.01)"

leaky_relu = Exercise(
    "leaky_relu",
    oracle=lambda x, negative_slope=0.01: F.leaky_relu(x, negative_slope),
    forbids=NO_LEAKY,
    mistakes=slips(LEAKY, [
        ("the larger of the two", "return torch.maximum(x, negative_slope * x)",
         "The maximum of x and slope·x picks the right branch only for slopes up to 1. Let the "
         "sign of x decide."),
        ("slope ignored", "return torch.where(x > 0, x, 0.01 * x)", FIXED),
        ("slope on the positive side", "return torch.where(x > 0, negative_slope * x, x)",
         "The branches are swapped: positive entries stay as they are."),
        ("slope with a minus", "return torch.where(x > 0, x, -negative_slope * x)",
         "x is negative already on that side: with a positive slope the output is negative too."),
        ("a constant on the negative side", "return torch.where(x > 0, x, negative_slope + 0 * x)",
         "On the negative side the slope multiplies x; alone it is a constant."),
        ("bounded by the slope", "return x.clamp(min=negative_slope)",
         "That is a lower bound. The negative side is a line that goes on falling."),
        ("plain ReLU", "return x.clamp(min=0)", "The negative side is missing: it leaks."),
        ("slope added on both sides", "return x.clamp(min=0) + negative_slope * x",
         "The leak is added on the positive side too, where the slope is exactly 1."),
        ("ELU", "return torch.where(x > 0, x, negative_slope * (torch.exp(x) - 1))",
         "That is the ELU, which bends. Here the negative side is a straight line."),
        ("divided by the slope", "return torch.where(x > 0, x, x / (negative_slope or 1e-9))",
         "Multiply by the slope; do not divide."),
        ("corner at the slope", "return torch.where(x > negative_slope, x, negative_slope * x)",
         "The corner is at 0, wherever the slope is."),
        ("in place", "x[x < 0] *= negative_slope ; return x", IN_PLACE),
        ("magnitude of the slope", "return torch.where(x > 0, x, abs(negative_slope) * x)",
         "The slope may be negative, and then it is used with its sign."),
        ("a slope of 0 taken for none",
         "a = negative_slope or 0.01 ; return torch.where(x > 0, x, a * x)",
         "A slope of 0 is a slope too, and `or` takes it for a missing one."),
        ("slope kept between 0 and 1",
         "a = min(max(negative_slope, 0.0), 1.0) ; return torch.where(x > 0, x, a * x)",
         "The slope may be any number: values below 0 or above 1 are used as they are."),
        ("x itself where all is positive",
         "return x if (x >= 0).all() else torch.where(x > 0, x, negative_slope * x)",
         "The values are right, but where nothing is negative you hand back x itself, and whoever "
         "writes into one changes the other. Return a new tensor."),
    ]),
    variants=ways(LEAKY, {
        "two clamps": "return x.clamp(min=0) + negative_slope * x.clamp(max=0)",
        "a factor for each entry":
        "return x * torch.where(x < 0, torch.full_like(x, negative_slope), torch.ones_like(x))",
        "own copy in place": "y = x.clone() ; y[y < 0] *= negative_slope ; return y",
        "with masks": "return x * (x > 0) + negative_slope * x * (x <= 0)",
    }),
)  # fmt: skip


@leaky_relu.test(points=1, cases=SLOPES)
def test_leaky_relu_has_two_slopes(submission, case):
    """Has the slope 1 on one side and the given one on the other"""
    submission.matches_reference(case)


@leaky_relu.test(points=0.5, cases=LEAKY_DEVICE)
def test_leaky_relu_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- leaky_relu_derivative

PAIR = "torch.ones_like(x), torch.full_like(x, negative_slope)"
LEAKY_SLOPE = "leaky_relu_derivative(x, negative_slope=0.01)"

leaky_relu_derivative = Exercise(
    "leaky_relu_derivative",
    oracle=lambda x, negative_slope=0.01: slope_oracle(F.leaky_relu)(
        x, negative_slope=negative_slope
    ),
    forbids=AUTOGRAD,
    mistakes=slips(LEAKY_SLOPE, [
        ("zero counted as positive", f"return torch.where(x >= 0, {PAIR})",
         "At exactly 0 the docstring asks for the slope of the negative side."),
        ("no slope at zero", f"return torch.where(x > 0, {PAIR}) * (x != 0)",
         "At exactly 0 the docstring asks for the slope of the negative side, not for 0."),
        ("middle of both at zero",
         f"return torch.where(x == 0, (1 + negative_slope) / 2, torch.where(x > 0, {PAIR}))",
         "At exactly 0 the docstring asks for the slope of the negative side, not for the middle."),
        ("dtype of two plain numbers", "return torch.where(x > 0, 1.0, negative_slope)",
         "torch.where makes a float32 tensor of two plain numbers, whatever dtype x has. Make "
         "one of them like x."),
        ("the function itself", "return torch.where(x > 0, x, negative_slope * x)",
         "That is the function. Its slope does not grow with x: it takes two values only."),
        ("slope ignored", "return torch.where(x > 0, torch.ones_like(x), 0.01)", FIXED),
        ("plain ReLU", "return (x > 0).to(x.dtype)",
         "The negative side has a slope too: the leak."),
        ("slopes swapped", "return torch.where(x > 0, negative_slope, torch.ones_like(x))",
         "The two slopes are swapped: the positive side has the slope 1."),
        ("x on the positive side",
         "return torch.where(x > 0, x, torch.full_like(x, negative_slope))",
         "The slope of y = x is 1, not x."),
        ("slope with a minus", "return torch.where(x > 0, torch.ones_like(x), -negative_slope)",
         "The slope of the negative side is the given one, with its own sign."),
        ("read off the output", f"return torch.where(leaky_relu(x, negative_slope) > 0, {PAIR})",
         "The sign of the output tells the side only for positive slopes. Ask x itself."),
        ("leak added on both sides", "return (x > 0).to(x.dtype) + negative_slope",
         "The positive side has the slope 1 alone: the leak belongs to the other side."),
        ("a slope of 0 taken for none",
         "a = negative_slope or 0.01 ; return torch.where(x > 0, torch.ones_like(x), "
         "torch.full_like(x, a))",
         "A slope of 0 is a slope too, and `or` takes it for a missing one."),
        ("output over input", "return leaky_relu(x, negative_slope) / x",
         "At 0 the quotient is 0/0, which is NaN. The sign of x alone tells the slope: nothing "
         "needs dividing."),
    ]),
    variants=ways(LEAKY_SLOPE, {
        "filled, then masked": "y = torch.full_like(x, negative_slope) ; y[x > 0] = 1 ; return y",
        "from the mask": "on = (x > 0).to(x.dtype) ; return on + negative_slope * (1 - on)",
        "one like x": "return torch.where(x > 0, torch.ones_like(x), negative_slope)",
        "cast at the end": "return torch.where(x > 0, 1.0, negative_slope).to(x.dtype)",
    }),
)  # fmt: skip


@leaky_relu_derivative.test(points=1, cases=SLOPES)
def test_leaky_relu_derivative_is_the_slope(submission, case):
    """Is the slope of the leaky ReLU, at the corner too"""
    submission.matches_reference(case)


@leaky_relu_derivative.test(points=0.5, cases=LEAKY_DEVICE)
def test_leaky_relu_derivative_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- gelu


def by_approximation(impl, x):
    return {
        "exact by default": impl(x),
        "exact by name": impl(x, approximate="none"),
        "approximated": impl(x, approximate="tanh"),
    }


def gelu_errors(impl, x):
    return {
        "another name": raised(lambda: impl(x, approximate="sigmoid"), ValueError),
        "an upper-case name": raised(lambda: impl(x, approximate="Tanh"), ValueError),
        "no name": raised(lambda: impl(x, approximate=None), ValueError),
    }


EXACT = "0.5 * x * (1 + torch.erf(x / math.sqrt(2)))"
INNER = "math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)"
APPROXIMATED = "0.5 * x * (1 + tanh(inner))"

gelu = Exercise(
    "gelu",
    oracle=lambda x, approximate="none": (
        F.gelu(x, approximate=approximate) if approximate in ("none", "tanh") else int("x")
    ),
    forbids=NO_GELU,
    mistakes=[Mistake(name, *edit, hint) for name, edit, hint in [
        ("root of two left out", ("x / math.sqrt(2)", "x"),
         "erf and the normal distribution are scaled differently: divide x by √2 first."),
        ("divided by two", ("x / math.sqrt(2)", "x / 2"),
         "It is the square root of 2 that x is divided by."),
        ("multiplied by the root", ("x / math.sqrt(2)", "x * math.sqrt(2)"),
         "Divide x by √2 inside erf, do not multiply."),
        ("half left out", (EXACT, EXACT.removeprefix("0.5 * ")),
         "Φ is a probability, half of 1 + erf. Without the half the output is twice too large."),
        ("probability alone", (EXACT, EXACT.replace(" * x", "")),
         "That is Φ(x) alone: it weighs x, so multiply by it."),
        ("minus erf", (EXACT, EXACT.replace("1 + ", "1 - ")),
         "Large x should pass nearly unchanged: check the sign before erf."),
        ("one left out", (EXACT, EXACT.replace("1 + ", "")),
         "erf runs from −1 to 1. Add the 1, so that the weight lies between 0 and 1."),
        ("sigmoid in place of the normal", (EXACT, "x * torch.sigmoid(1.702 * x)"),
         "That is the paper's other approximation. \"none\" asks for the exact function."),
        ("factor left out", (INNER, "x + 0.044715 * x**3"),
         "In the approximation, the sum is multiplied by √(2/π)."),
        ("factor inverted", ("2 / math.pi", "math.pi / 2"),
         "The factor in the approximation is √(2/π), not √(π/2)."),
        ("root left out", (INNER, INNER.replace("math.sqrt(2 / math.pi)", "(2 / math.pi)")),
         "The factor in the approximation is the square *root* of 2/π."),
        ("square in place of the cube", ("x**3", "x**2"),
         "The approximation holds a cube: a square would be blind to the sign."),
        ("factor on x alone", (INNER, "math.sqrt(2 / math.pi) * x + 0.044715 * x**3"),
         "The factor √(2/π) multiplies the whole sum, cube included."),
        ("one left out of the approximation", (APPROXIMATED, "0.5 * x * tanh(inner)"),
         "tanh runs from −1 to 1. Add the 1, so that the weight lies between 0 and 1."),
        ("approximate ignored", ('approximate == "none"', 'approximate in ("none", "tanh")'),
         "`approximate` has no effect here: with \"tanh\" the approximation is asked for."),
        ("other names accepted", ("raise ValueError", "return x  # ValueError"),
         "An unknown `approximate` should raise a ValueError, not return something."),
        ("root and quotient mixed up", ("math.sqrt(2 / math.pi)", "math.sqrt(2) / math.pi"),
         "In the approximation's factor the root is over the whole quotient: √(2/π), not √2/π."),
        ("a rounded constant", ("0.044715", "0.0447"),
         "The approximation's constant has more digits: 0.044715."),
        ("a sigmoid in the approximation", (APPROXIMATED, "x * torch.sigmoid(1.702 * x)"),
         "That is the paper's other approximation. \"tanh\" asks for the one with a hyperbolic "
         "tangent."),
        ("overflow in the approximation", (APPROXIMATED,
          "0.5 * x * (1 + (inner.exp() - (-inner).exp()) / (inner.exp() + (-inner).exp()))"),
         OVERFLOW),
        ("any case accepted", ("approximate == \"tanh\"", "approximate.lower() == \"tanh\""),
         "The names are as they are spelled: anything else, upper case included, is a ValueError."),
        ("None accepted", ("approximate == \"none\"", "approximate in (None, \"none\")"),
         "None is not the name \"none\": anything but the two names is a ValueError."),
        ("another error", ("raise ValueError", "raise KeyError"),
         "An error is raised, but of another class: the docstring asks for a ValueError."),
        ("in place", ("x / math.sqrt(2)", "x.div_(math.sqrt(2))"),
         IN_PLACE),
        ("root of two in float32", ("math.sqrt(2))", "torch.tensor(2.0).sqrt())"),
         "A tensor made of a plain number is float32: its root of 2 has only seven digits. Take "
         "the root as a number, or make the tensor like x."),
    ]] + [
        Mistake.edits_of("always approximated", [
            (f"return {EXACT}", "pass"),
            ('    if approximate == "tanh":\n', '    if approximate in ("none", "tanh"):\n'),
        ], "The exact function is never returned: it is what \"none\" asks for."),
    ],
    variants=ways('gelu(x, approximate="none")', {
        "through the normal distribution":
        "if approximate == 'none': ; "
        "    return x * torch.distributions.Normal(0.0, 1.0).cdf(x) ; "
        "if approximate != 'tanh': ; "
        "    raise ValueError(approximate) ; "
        "k = (2 / torch.pi) ** 0.5 ; "
        "return x / 2 * (1 + torch.tanh(k * x * (1 + 0.044715 * x * x)))",
        "special.ndtr and a sigmoid":
        "if approximate == 'tanh': ; "
        "    return x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x.pow(3))) ; "
        "elif approximate == 'none': ; "
        "    return x * torch.special.ndtr(x) ; "
        "else: ; "
        "    raise ValueError('approximate')",
        "checked first": "if approximate not in ('none', 'tanh'): ; "
        "    raise ValueError('no such approximation') ; "
        "exact = approximate == 'none' ; "
        "weight = torch.erf(x * 0.5**0.5) if exact else "
        "tanh((2 / math.pi) ** 0.5 * (x + 0.044715 * x * x * x)) ; return x * (weight + 1) / 2",
    }),
)  # fmt: skip

BOTH_WAYS = [
    Case("moderate values of both signs", by_approximation, of_x(11, high=2.5)),
    Case("a batch of maps", by_approximation, of_x(2, 3, 4)),
    Case("large values", by_approximation, of_x(6, low=8.0, high=100.0)),
    Case("in bfloat16", by_approximation, of_x(3, 5), dtypes=TRAINING),
]


@gelu.test(points=1.5, cases=BOTH_WAYS)
def test_gelu_weighs_by_the_normal_distribution(submission, case):
    """Weighs by the normal distribution, exactly and approximately"""
    submission.matches_reference(case)


@gelu.test(points=0.25, cases=[Case("names that mean nothing", gelu_errors, of_x(3))])
def test_gelu_refuses_other_approximations(submission, case):
    """Raises a ValueError for an unknown approximation"""
    submission.matches_reference(case)


@gelu.test(points=0.25, cases=[Case("a matrix, both ways", by_approximation, of_x(3, 4))])
def test_gelu_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- gelu_derivative

BELL = "torch.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)"

gelu_derivative = Exercise(
    "gelu_derivative",
    oracle=slope_oracle(F.gelu),
    forbids=AUTOGRAD,
    mistakes=[Mistake(name, *edit, hint) for name, edit, hint in [
        ("probability alone", ("cdf + x * density", "cdf"), PRODUCT),
        ("density term alone", ("cdf + x * density", "x * density"), PRODUCT),
        ("density not multiplied by x", ("cdf + x * density", "cdf + density"),
         "In the second term of the product rule the other factor, x, stays."),
        ("minus between the terms", ("cdf + x * density", "cdf - x * density"),
         "The product rule adds its two terms."),
        ("density times x squared", ("cdf + x * density", "cdf + x**2 * density"),
         "The slope of Φ is the density itself; no further x comes out."),
        ("x times the probability", ("cdf + x * density", "x * cdf + density"),
         "The factors are crossed: each term of the product rule differentiates one factor and "
         "keeps the other."),
        ("half left out of the exponent", ("-0.5 * x**2", "-(x**2)"),
         "The normal density has x² / 2 in its exponent."),
        ("plus in the exponent", ("-0.5 * x**2", "0.5 * x**2"),
         "The bell falls on both sides: its exponent is negative."),
        ("density not normalised", (BELL, "torch.exp(-0.5 * x**2)"),
         "The normal density is divided by √(2π), so that its area is 1."),
        ("root left out", (BELL, BELL.replace("math.sqrt(2 * math.pi)", "(2 * math.pi)")),
         "The density is divided by the square *root* of 2π."),
        ("inner factor of erf left out", ("math.sqrt(2 * math.pi)", "math.sqrt(math.pi)"),
         "Inside erf stands x/√2, and the chain rule brings that factor out."),
        ("root of two left out", ("x / math.sqrt(2)", "x"),
         "Φ is made of erf at x/√2, not at x."),
        ("slope of the tanh approximation", ("return cdf + x * density",
         "k = math.sqrt(2 / math.pi)\n    t = torch.tanh(k * (x + 0.044715 * x**3))\n"
         "    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * k * (1 + 3 * 0.044715 * x**2)"),
         "That is the slope of the approximation by a tanh: close, but the exact one is asked "
         "for."),
        ("the function itself", ("cdf + x * density", "x * cdf"),
         "That is gelu itself. Its slope has two terms."),
        ("root of two times pi", ("math.sqrt(2 * math.pi)", "(math.sqrt(2) * math.pi)"),
         "The root in the normal density is over the whole product: √(2π), not √2·π."),
        ("logistic in place of the normal",
         ("cdf = 0.5 * (1 + torch.erf(x / math.sqrt(2)))", "cdf = sigmoid(1.702 * x)"),
         "The weight here is the normal distribution's Φ, exactly, not a sigmoid that is near it."),
    ]],
    variants=ways("gelu_derivative(x)", {
        "through the normal distribution":
        "n = torch.distributions.Normal(0.0, 1.0) ; return n.cdf(x) + x * n.log_prob(x).exp()",
        "erf and its own slope": "u = x / 2**0.5 ; "
        "return (1 + torch.erf(u)) / 2 + u * torch.exp(-u * u) / torch.pi**0.5",
        "special.ndtr": "return torch.special.ndtr(x) + x * (-x.square() / 2).exp() * "
        "(2 * torch.pi) ** -0.5",
    }),
)  # fmt: skip


@gelu_derivative.test(points=1.5, cases=[*VALUES, AT_ZERO, TAILS[0]])
def test_gelu_derivative_is_the_slope(submission, case):
    """Is the slope of the exact GELU"""
    submission.matches_reference(case)


@gelu_derivative.test(points=0.5, cases=DEVICE)
def test_gelu_derivative_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- silu and silu_derivative

silu = Exercise(
    "silu",
    oracle=lambda x: F.silu(x),
    forbids=NO_SILU,
    mistakes=slips("silu(x)", [
        ("sigmoid of minus x", "return x * sigmoid(-x)",
         "Large x should pass nearly unchanged: the sigmoid is taken of x itself."),
        ("sigmoid alone", "return sigmoid(x)", "The sigmoid is the weight: multiply x by it."),
        ("overflowing quotient", "e = torch.exp(x) ; return x * e / (1 + e)", OVERFLOW),
        ("weighed by tanh", "return x * tanh(x)",
         "The weight lies between 0 and 1: a sigmoid, not a tanh."),
        ("steeper sigmoid", "return x * sigmoid(1.702 * x)",
         "With the factor 1.702 this approximates GELU. In SiLU the sigmoid gets x as it is."),
        ("mish", "return x * tanh(torch.log1p(torch.exp(x)))",
         "That is Mish, a relative. SiLU's weight is the sigmoid."),
        ("hard swish", "return x * (x / 6 + 0.5).clamp(0, 1)",
         "That is the hard swish, with a piecewise line for the sigmoid."),
        ("sigmoid squared", "return x * sigmoid(x) ** 2", "The sigmoid is a factor once."),
        ("sum", "return x + sigmoid(x)", "x is multiplied by its sigmoid, not added to it."),
        ("sigmoid of the product", "return sigmoid(x * x)",
         "The product is taken after the sigmoid, not before."),
        ("times the slope", "return x * sigmoid_derivative(x)",
         "The weight is the sigmoid itself, not its slope."),
        ("only where positive", "return (x * sigmoid(x)).clamp(min=0)",
         "SiLU dips below 0 for negative x: nothing is cut off."),
        ("x squared", "return x**2 * sigmoid(x)",
         "x is multiplied by its sigmoid once: yours has one factor x too many."),
        ("x times the sigmoid of a square", "return x * sigmoid(x * x)",
         "The sigmoid is taken of x itself: its square has lost the sign."),
    ]),
    variants=ways("silu(x)", {
        "a quotient": "return x / (1 + torch.exp(-x))",
        "with torch's sigmoid": "return torch.mul(torch.sigmoid(x), x)",
        "through tanh": "return 0.5 * x * (1 + tanh(x / 2))",
    }),
)  # fmt: skip


@silu.test(points=0.75, cases=[*VALUES, AT_ZERO, *TAILS])
def test_silu_weighs_by_the_sigmoid(submission, case):
    """Weighs every entry by its sigmoid"""
    submission.matches_reference(case)


@silu.test(points=0.25, cases=DEVICE)
def test_silu_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


silu_derivative = Exercise(
    "silu_derivative",
    oracle=slope_oracle(F.silu),
    forbids=AUTOGRAD,
    mistakes=slips("silu_derivative(x)", [
        ("sigmoid alone", "return sigmoid(x)", PRODUCT),
        ("slope term alone", "return x * sigmoid_derivative(x)", PRODUCT),
        ("slope not multiplied by x", "return sigmoid(x) + sigmoid_derivative(x)",
         "In the second term of the product rule the other factor, x, stays."),
        ("the sigmoid's slope", "return sigmoid_derivative(x)",
         "That is the slope of the weight alone: x itself depends on x too."),
        ("sigmoid for its complement", "s = sigmoid(x) ; return s * (1 + x * s)",
         "The sigmoid's slope has the factor one *minus* the sigmoid."),
        ("sigmoid left out of the second term", "s = sigmoid(x) ; return s + x * (1 - s)",
         "The sigmoid's slope has two factors; one of them is missing in the second term."),
        ("minus between the terms", "s = sigmoid(x) ; return s * (1 - x * (1 - s))",
         "The product rule adds its two terms."),
        ("common factor left out", "s = sigmoid(x) ; return 1 + x * (1 - s)",
         "Both terms have the sigmoid as a factor."),
        ("output in place of the sigmoid", "y = x * sigmoid(x) ; return y * (1 - y)",
         "That rule is the sigmoid's own, and works on the sigmoid's value, not on silu's."),
        ("the function itself", "return x * sigmoid(x)", "That is silu, not its slope."),
        ("x taken twice", "s = sigmoid(x) ; return x * s * (1 + x * (1 - s))",
         "The slope of the factor x is 1: the first term is the sigmoid alone."),
        ("overflowing quotient",
         "e = torch.exp(x) ; return e * (1 + e + x) / (1 + e) ** 2", OVERFLOW),
        ("overflowing quotient of falling exponentials",
         "e = torch.exp(-x) ; return (1 + e + x * e) / (1 + e) ** 2",
         OVERFLOW),
    ]),
    variants=ways("silu_derivative(x)", {
        "product rule as it stands": "return sigmoid(x) + x * sigmoid_derivative(x)",
        "through the output": "y, s = silu(x), sigmoid(x) ; return y + s * (1 - y)",
        "with torch's sigmoid": "s = torch.sigmoid(x) ; return s + x * s * (1.0 - s)",
    }),
)  # fmt: skip


@silu_derivative.test(points=1.25, cases=[*VALUES, AT_ZERO, *TAILS])
def test_silu_derivative_is_the_slope(submission, case):
    """Is the slope of the SiLU"""
    submission.matches_reference(case)


@silu_derivative.test(points=0.25, cases=DEVICE)
def test_silu_derivative_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- saturated_share


def negated_sine(x):
    return -torch.sin(x)  # a slope of either sign, which differs at x and −x


def share_of(impl, x, threshold):
    return impl(x, negated_sine, threshold)


def share_of_given_slopes(impl, x, slopes, threshold):
    return impl(x, lambda _: slopes, threshold)


def share_by_default(impl, x, slopes):
    return impl(x, lambda _: slopes)


def ties(make):
    x, slopes = make.normal(7, 3), make.uniform(7, 3, low=0.3, high=0.7)
    slopes[::2, :2] = 0.5
    return {"x": x, "slopes": slopes, "threshold": 0.5}


def near_the_default(make):
    return {"x": make.normal(9, 4), "slopes": make.normal(9, 4, std=0.015)}


def sloped(low, high, *shape):
    return lambda make: {"x": make.normal(*shape), "threshold": make.number(low, high)}


def share_by_loops(x, derivative, threshold=0.01):
    slopes = derivative(x)
    flat = (slopes < threshold) & (slopes > -threshold)
    return torch.stack([column.to(x.dtype).sum() / x.shape[0] for column in flat.T])


FLAT = "derivative(x).abs() < threshold"
MEAN = "flat.to(x.dtype).mean(dim=0)"

saturated_share = Exercise(
    "saturated_share",
    oracle=share_by_loops,
    mistakes=[Mistake(name, *edit, hint) for name, edit, hint in [
        ("magnitude left out", (FLAT, "derivative(x) < threshold"),
         "A slope may be negative, and steep: compare its magnitude."),
        ("averaged over the units", (MEAN, MEAN.replace("dim=0", "dim=1")),
         "One share for each unit: the average runs over the examples of the batch."),
        ("one share for all", (MEAN, "flat.to(x.dtype).mean()"),
         "One share for each unit is asked for, of shape (units,)."),
        ("counted", (MEAN, "flat.to(x.dtype).sum(dim=0)"),
         "A share is a count divided by the number of examples."),
        ("the share that is not flat", (FLAT, "derivative(x).abs() >= threshold"),
         "This is the share on which the unit is *not* saturated."),
        ("threshold itself counted as flat", (FLAT, "derivative(x).abs() <= threshold"),
         "A slope of exactly the threshold is not flat: the comparison is strict."),
        ("the input compared", (FLAT, "x.abs() < threshold"),
         "It is the *slope* at x that is small where a unit is saturated, not x."),
        ("relative to the steepest",
         (FLAT, "derivative(x).abs() < threshold * derivative(x).abs().max()"),
         "The threshold is absolute here: it is not multiplied by the largest slope."),
        ("threshold ignored", (FLAT, "derivative(x).abs() < 0.01"),
         "The threshold is written into the code: use the argument."),
        ("averaged before comparing", (f"{FLAT}  # (batch, units)\n    return {MEAN}",
         "derivative(x).abs().mean(dim=0) < threshold\n    return flat.to(x.dtype)"),
         "Compare each example's slope first, then take the average of the answers."),
        ("computed in float32", (MEAN, "flat.float().mean(dim=0)"),
         "The share takes the dtype of x: .float() always makes float32."),
        ("slope at a mean", (FLAT, "derivative(x - x.mean(dim=0)).abs() < threshold"),
         "x is used as it is: nothing is subtracted from it."),
        ("an axis left over", (MEAN, "flat.to(x.dtype).mean(dim=0, keepdim=True)"),
         "The shares should have shape (units,): the axis of the examples is still there, with "
         "length 1."),
    ]],
    variants=ways("saturated_share(x, derivative, threshold=0.01)", {
        "counted and divided":
        "hit = torch.abs(derivative(x)) < threshold ; return hit.sum(0) / x.new_tensor(len(x))",
        "one minus the rest":
        "steep = derivative(x).abs() >= threshold ; return 1 - steep.type_as(x).mean(0)",
        "unit by unit": "s = derivative(x) ; return torch.stack("
        "[((s[:, j] < threshold) & (s[:, j] > -threshold)).to(x).mean() "
        "for j in range(x.shape[1])])",
    }),
)  # fmt: skip


@saturated_share.test(
    points=1.25,
    cases=[
        Case("more examples than units", share_of, sloped(0.3, 0.6, 13, 5)),
        Case("more units than examples", share_of, sloped(0.4, 0.7, 4, 9)),
        Case("slopes of exactly the threshold", share_of_given_slopes, ties),
        Case("the threshold by default", share_by_default, near_the_default),
        Case("one example", share_of, sloped(0.4, 0.7, 1, 12)),
    ],
)
def test_saturated_share_counts_flat_slopes(submission, case):
    """Is the share of examples on which a unit is flat"""
    submission.matches_reference(case)


@saturated_share.test(points=0.25, cases=[Case("six units", share_of, sloped(0.3, 0.6, 5, 6))])
def test_saturated_share_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- dead_units


def mostly_negative(make, *shape):
    """Units of every kind in a random order: dead, at the corner, alive once, alive throughout."""
    x = -make.uniform(*shape, low=0.5, high=2.0)
    flat = x.view(-1, shape[-1])
    kinds = make.permutation(shape[-1])
    flat[-1, kinds[0]] = 0.3  # alive on the last example alone
    flat[0, kinds[1]] = 1e-9  # and on the first alone, by very little
    flat[:, kinds[2]] = 0.0  # at the corner: no example switches it on
    flat[:, kinds[3]] = flat[:, kinds[3]].abs()  # alive throughout
    flat[0, kinds[4]] = 50.0  # alive, and positive on average
    return {"pre_activations": x}


def units(*shape):
    return lambda make: mostly_negative(make, *shape)


def dead_of(impl, pre_activations):
    return impl(pre_activations)


def dead_by_maximum(pre_activations):
    return pre_activations.reshape(-1, pre_activations.shape[-1]).amax(dim=0) <= 0


DEAD = "(pre_activations <= 0).flatten(0, -2).all(dim=0)"

dead_units = Exercise(
    "dead_units",
    oracle=dead_by_maximum,
    mistakes=[Mistake(name, DEAD, mistaken, hint) for name, mistaken, hint in [
        ("silent once", "(pre_activations <= 0).flatten(0, -2).any(dim=0)",
         "A unit that is off for some examples is what ReLU is for. It is dead if it is off for "
         "*all* of them."),
        ("zero counted as alive", "(pre_activations < 0).flatten(0, -2).all(dim=0)",
         "At exactly 0 the output and the slope are 0 too: such a unit is not switched on."),
        ("over the units", "(pre_activations <= 0).all(dim=-1)",
         "This looks for examples that switch no unit on. The answer has one entry for each unit."),
        ("over the first dimension alone", "(pre_activations <= 0).all(dim=0)",
         "All leading dimensions count examples, not only the first."),
        ("over the first two dimensions",
         "(pre_activations <= 0).all(dim=0).all(dim=0) if pre_activations.ndim > 2 else "
         "(pre_activations <= 0).all(dim=0)",
         "Right for two and three dimensions, but there may be more leading ones."),
        ("alive marked", "(pre_activations > 0).flatten(0, -2).any(dim=0)",
         "This is True where a unit is alive: the docstring marks the dead ones."),
        ("never off", "(pre_activations > 0).flatten(0, -2).all(dim=0)",
         "This marks the units that every example switches on."),
        ("on average", "pre_activations.flatten(0, -2).mean(dim=0) <= 0",
         "A unit may be off on average and alive all the same: one positive example is enough."),
        ("the first example alone", "pre_activations.flatten(0, -2)[0] <= 0",
         "One example does not tell: look at all of them."),
        ("always zero", "(pre_activations == 0).flatten(0, -2).all(dim=0)",
         "It is the *output* of ReLU that is always 0. What it is given is 0 or negative."),
        ("counted", "(pre_activations <= 0).flatten(0, -2).all(dim=0).sum()",
         "This is how many are dead. The docstring asks which ones."),
        ("numbers in place of bools", "1.0 * (pre_activations <= 0).flatten(0, -2).all(dim=0)",
         "The right entries as numbers: the result should be bool."),
        ("over all the units of an example", "(pre_activations <= 0).flatten(0, -2).all(dim=1)",
         "This looks for examples that switch no unit on. The answer has one entry for each unit."),
        ("numbers of the dead ones",
         "(pre_activations <= 0).flatten(0, -2).all(dim=0).nonzero().flatten()",
         "These are the places of the dead units. The docstring asks for one bool a unit."),
        ("units cut out of the rows",
         "(pre_activations <= 0).reshape(pre_activations.shape[-1], -1).all(dim=1)",
         "reshape does not turn a tensor round: the units are the last dimension, so keep them "
         "last when you join the others."),
        ("dead within a tolerance",
         "pre_activations.flatten(0, -2).clamp(min=0).sum(dim=0) < 1e-6",
         "One positive example is enough, however small it is: compare with 0 itself."),
    ]],
    variants=ways("dead_units(pre_activations)", {
        "the largest": "return pre_activations.flatten(0, -2).max(dim=0).values <= 0",
        "not any": "on = (pre_activations > 0).reshape(-1, pre_activations.shape[-1]) ; "
        "return ~on.any(dim=0)",
        "of the outputs": "out = torch.relu(pre_activations) ; "
        "return out.sum(dim=tuple(range(out.ndim - 1))) == 0",
        "one dimension after the other": "off = pre_activations <= 0 ; "
        "while off.ndim > 1: ;     off = off.all(dim=0) ; return off",
    }),
)  # fmt: skip


@dead_units.test(
    points=1.25,
    cases=[
        Case("a batch", dead_of, units(9, 8)),
        Case("a batch of sequences", dead_of, units(3, 5, 7)),
        Case("a batch of images", dead_of, units(2, 3, 4, 9)),
        Case("one example", dead_of, units(1, 10)),
    ],
)
def test_dead_units_finds_what_no_example_switches_on(submission, case):
    """Finds the units that no example switches on"""
    submission.matches_reference(case)


@dead_units.test(points=0.25, cases=[Case("a batch of sequences", dead_of, units(2, 3, 6))])
def test_dead_units_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)
