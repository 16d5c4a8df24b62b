"""The hidden tests of the lesson under attack."""

import torch

from autograder.spec import Case, Exercise, Mistake, gradients, raised

SECONDS = 4.0


def value(impl, **inputs):
    return impl(**inputs)


def slope(impl, x, gain, cotangent):
    x = x.requires_grad_()
    return gradients(impl(x, gain), [x], cotangent)[0]


centre = Exercise(
    "centre",
    oracle=lambda x, gain: gain * (x - x.sum(1, keepdim=True) / x.shape[1]),
    mistakes=[Mistake("not centred", "(x - x.mean(dim=1, keepdim=True))", "x", "Take the mean.")],
    seconds=SECONDS,
    megabytes=256,
)
VALUES = [
    Case("a few rows", value, lambda m: {"x": m.normal(3, 5), "gain": m.number(2, 3)}, seconds=1),
    Case("one row", value, lambda m: {"x": m.normal(1, 7), "gain": m.number(-3, -2)}, seconds=1),
]
SLOPES = [
    Case(
        "a few rows",
        slope,
        lambda m: {"x": m.normal(4, 3), "gain": m.number(2, 3), "cotangent": m.normal(4, 3)},
        seconds=1,
    )
]


@centre.test(points=4, cases=VALUES)
def test_centre(submission, case):
    """Centres and scales."""
    submission.matches_reference(case)


@centre.test(points=1, cases=SLOPES)
def test_centre_slope(submission, case):
    """Lets gradients through."""
    submission.matches_reference(case)


@centre.test(points=1, cases=VALUES[:1])
def test_centre_device(submission, case):
    """Works where its inputs are."""
    submission.matches_on_device(case)


soft = Exercise(
    "soft",
    oracle=lambda x: torch.softmax(x, -1),
    forbids=["torch.nn.functional.softmax"],
    seconds=SECONDS,
    megabytes=256,
)
LOGITS = [
    Case("a matrix", value, lambda m: {"x": m.normal(3, 4)}, seconds=1),
    Case("large logits", value, lambda m: {"x": m.normal(2, 5, std=200.0)}, seconds=1),
]


@soft.test(points=2, cases=LOGITS)
def test_soft(submission, case):
    """Is a softmax."""
    submission.matches_reference(case)


def soft_slope(grad, x):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(torch.softmax(x, -1), x, grad)[0]


soft_backward = Exercise(
    "soft_backward", oracle=soft_slope, forbids=["torch.autograd.grad"], seconds=SECONDS,
    megabytes=256,
)  # fmt: skip
SOFT_SLOPES = [
    Case("a matrix", value, lambda m: {"grad": m.normal(3, 4), "x": m.normal(3, 4)}, seconds=1)
]


@soft_backward.test(points=2, cases=SOFT_SLOPES)
def test_soft_backward(submission, case):
    """Is softmax's gradient."""
    submission.matches_reference(case)


count = Exercise("count", seconds=SECONDS, megabytes=256)
COUNTS = [
    Case("a vector", value, lambda m: {"x": m.normal(50)}, seconds=1),
    Case("a matrix", value, lambda m: {"x": m.normal(7, 8)}, seconds=1),
]
REFUSALS = [
    Case(
        "nothing to count",
        lambda impl, x: raised(lambda: impl(x[:0]), ValueError),
        lambda m: {"x": m.normal(5)},
        seconds=1,
    )
]


@count.test(points=2, cases=COUNTS)
def test_count(submission, case):
    """Counts."""
    submission.matches_reference(case)


@count.test(points=0.5, cases=REFUSALS)
def test_count_refuses(submission, case):
    """Refuses nothing."""
    submission.matches_reference(case)


def seen_noise(outcome, inputs):
    noise = (outcome - inputs["x"]) / inputs["scale"]
    return {
        "every entry is moved": bool((noise != 0).all()),
        "by no more than scale": bool((noise.abs() <= 1 + 1e-5).all()),
        "to either side": bool((noise > 0).any() and (noise < 0).any()),
    }


jitter = Exercise("jitter", seconds=SECONDS, megabytes=256)
NOISE = [
    Case(
        "a long vector",
        value,
        lambda m: {"x": m.normal(200), "scale": m.number(1, 2)},
        observe=seen_noise,
        seconds=1,
    )
]


@jitter.test(points=1, cases=NOISE)
def test_jitter(submission, case):
    """Is noise of that scale."""
    submission.matches_reference(case)
