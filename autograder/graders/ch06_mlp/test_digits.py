"""A first network on digits: by hand from tensors, then with modules.

Whatever is random is judged by rounded facts; whatever is trained starts from a case's inputs, so
that every step can be compared. The oracles of the training loops use automatic differentiation.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from autograder.spec import Case, Exercise, Mistake, Variant, load_parameters
from autograder.spec.tables import edits

AUTOGRAD = ["torch.autograd.grad", "torch.autograd.backward", "torch.Tensor.backward",
            "torch.func", "torch.optim"]  # fmt: skip
NAMES = ("W1", "b1", "W2", "b2")
ONE = (torch.float64,)
IN_FLOAT32 = 1e3  # where a Python number is asked for: it may have been added up in float32


def apply(impl, **inputs):
    return impl(**inputs)


def network(make, d_in, d_hidden, classes):
    shapes = ((d_in, d_hidden), (d_hidden,), (d_hidden, classes), (classes,))
    return {name: make.normal(*shape) for name, shape in zip(NAMES, shapes)}  # noqa: B905


# ---------------------------------------------------------------- pixel_statistics


def statistics_by_torch(x_train):
    std, mean = torch.std_mean(x_train, dim=0, correction=0)
    return mean, std.masked_fill(std == 0, 1.0)


def pictures(n, pixels, constant=(), faint=(), bright=(), once=()):
    def draw(make):
        x = make.normal(n, pixels, mean=1.5) * make.uniform(pixels, low=0.5, high=2.0)
        for column, value in constant:
            x[:, column] = value
        for column in faint:
            x[:, column] *= 1e-6
        for column in bright:  # the difference of two large numbers would not see these
            x[:, column] = 3 + 1e-5 * x[:, column]
        for column, image in once:
            x[:, column] = 0.25 + (torch.arange(n) == image)
        return {"x_train": x}

    return draw


MEAN, STD = "x_train.mean(dim=0)", "(x_train - mean).square().mean(dim=0).sqrt()"
NO_ZERO = "torch.where(constant, torch.ones_like(std), std)"
BY_STD = "torch.where(std > 0, std, torch.ones_like(std))"

pixel_statistics = Exercise(
    "pixel_statistics",
    oracle=statistics_by_torch,
    mistakes=[*edits([
        ("divided by one less", STD, "x_train.std(dim=0)",
         "torch's std divides by n − 1 unless told otherwise. The docstring asks for the mean over "
         "all n."),
        ("variance", STD, STD.removesuffix(".sqrt()"),
         "That is the variance: its root is missing."),
        ("mean absolute distance", STD, "(x_train - mean).abs().mean(dim=0)",
         "That is the mean absolute distance. Square, take the mean, then the root."),
        ("root before the mean", STD, "(x_train - mean).square().sum(dim=0).sqrt() / len(x_train)",
         "The mean is taken of the squares, and the root of that mean."),
        ("not centred", STD, "x_train.square().mean(dim=0).sqrt()",
         "The distance is measured from the pixel's mean: subtract it first."),
        ("zeros left", NO_ZERO, "std",
         "A pixel that never changes has the standard deviation 0; dividing by it gives NaN. It "
         "should get 1."),
        ("a small number added", NO_ZERO, "std + 1e-8",
         "A constant added to all of them bends all of them, and makes constant pixels huge."),
        ("faint pixels replaced too", NO_ZERO, "torch.where(std > 1e-3, std, torch.ones_like(std))",
         "Only pixels that never change get 1. A faint one keeps its own small value."),
        ("bounded from below", NO_ZERO, "std.clamp(min=1e-8)",
         "A pixel that never changes gets 1, not a tiny number, which would blow noise up."),
        ("never below one", NO_ZERO, "std.clamp(min=1.0)",
         "Only a standard deviation of 0 becomes 1. Others below 1 stay."),
        ("returned in the other order", f"mean, {NO_ZERO}", f"{NO_ZERO}, mean",
         "The means come first, then the standard deviations."),
        ("dimensions kept", f"mean, {NO_ZERO}", f"mean[None], {NO_ZERO}[None]",
         "Each result has the shape (pixels,): no dimension of size 1 is kept."),
        ("constant by its first two images", "(x_train == x_train[0])",
         "(x_train[:2] == x_train[0])",
         "A pixel never changes if it is the same in *every* image: look at all of them."),
        ("constant by its first and last image", "(x_train == x_train[0])",
         "(x_train[-1:] == x_train[0])",
         "A pixel never changes if it is the same in *every* image: look at all of them."),
        ("mean of the square less the square of the mean", STD,
         "(x_train.square().mean(dim=0) - mean.square()).clamp(min=0).sqrt()",
         "The difference of two large numbers keeps few digits where a pixel is bright and hardly "
         "changes. Take the distances from the mean first."),
        ("mean of constant pixels replaced too", "return mean,",
         "return torch.where(constant, torch.zeros_like(mean), mean),",
         "Only the standard deviation of a constant pixel is replaced. Its mean is what it is."),
        *[(f"bounded from below at {least}", NO_ZERO, f"std.clamp(min={least})",
           "A pixel that never changes gets 1, not a tiny number, which would blow noise up.")
          for least in ("1e-6", "1e-7", "1e-12")],
    ]), Mistake.edits_of("one for all pixels", [(MEAN, "x_train.mean()"), (STD,
        "(x_train - mean).square().mean().sqrt()"), (NO_ZERO, BY_STD)],
        "One number for all pixels together: each pixel has statistics of its own."),
        Mistake.edits_of("over the pixels", [(MEAN, MEAN.replace("0", "1")), (STD,
        "(x_train - mean[:, None]).square().mean(dim=1).sqrt()"), (NO_ZERO, BY_STD)],
        "These are statistics of each *image*. Each pixel is measured over the images."),
    ],
    variants=[
        Variant("torch.std, corrected", """
            def pixel_statistics(x_train):
                mean, std = torch.mean(x_train, 0), torch.std(x_train, 0, unbiased=False)
                std[std == 0] = 1.0
                return mean, std
        """),
        Variant("sums, and constant pixels by their range", """
            def pixel_statistics(x_train):
                n = x_train.shape[0]
                mean = x_train.sum(0) / n
                std = ((x_train - mean) ** 2).sum(0).div(n) ** 0.5
                constant = x_train.max(0).values == x_train.min(0).values
                return [mean, std.masked_fill(constant, 1)]
        """),
        Variant("a norm over the root of n", """
            def pixel_statistics(x_train):
                mean = x_train.mean(dim=0)
                std = torch.linalg.vector_norm(x_train - mean, dim=0) / len(x_train) ** 0.5
                return mean, std + (std == 0).to(std)
        """),
    ],
)  # fmt: skip


@pixel_statistics.test(
    points=1.25,
    cases=[
        Case("every pixel changes", apply, pictures(7, 4)),
        Case("two pixels never change", apply, pictures(6, 5, constant=[(1, 0.0), (4, 0.5)])),
        Case("a faint pixel", apply, pictures(9, 4, constant=[(0, 1.0)], faint=[2])),
        Case("one image", apply, pictures(1, 6)),
        Case(
            "pixels that change once",
            apply,
            pictures(5, 4, constant=[(0, 0.5)], once=[(3, 2), (1, 4)]),
        ),
        Case("a bright pixel that hardly changes", apply, pictures(8, 3, bright=[1]), dtypes=ONE),
    ],
)
def test_pixel_statistics_measures_each_pixel(submission, case):
    """Measures each pixel over the images"""
    submission.matches_reference(case)


@pixel_statistics.test(points=0.25, cases=[Case("seven images", apply, pictures(7, 4))])
def test_pixel_statistics_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- init_parameters


def parameters_by_normal(d_in, d_hidden, classes, generator=None):
    def drawn(a, b):
        return torch.empty(a, b).normal_(0.0, (2 / a) ** 0.5, generator=generator)

    W1, W2 = drawn(d_in, d_hidden), drawn(d_hidden, classes)
    return {"W1": W1, "b1": 0 * W1[0], "W2": W2, "b2": 0 * W2[0]}


def drawn_parameters(impl, d_in, d_hidden, classes, seed):
    def seeded(seed):
        generator = torch.Generator().manual_seed(seed)
        return impl(d_in, d_hidden, classes, generator)

    first, again, other = seeded(seed), seeded(seed), seeded(seed + 1)
    torch.manual_seed(seed)
    free, freely = impl(d_in, d_hidden, classes), impl(d_in, d_hidden, classes)
    return {
        "parameters": {name: first[name] for name in NAMES},
        "require a gradient": any(first[name].requires_grad for name in NAMES),
        "W1 again": again["W1"],
        "W2 again": again["W2"],
        "W1 with another seed": other["W1"],
        "W1 without a generator": free["W1"],
        "W1 once more": freely["W1"],
    }


def shapes_of_parameters(impl, seed, **sizes):
    params = impl(**sizes, generator=torch.Generator().manual_seed(seed))
    return {name: 0 * params[name] for name in NAMES}


def facts_of_parameters(outcome, inputs):
    params = outcome["parameters"]
    facts = {
        "the tensors require a gradient": outcome["require a gradient"],
        "a generator with the same seed repeats the draw": params["W1"].equal(outcome["W1 again"]),
        "and so does the last layer's": params["W2"].equal(outcome["W2 again"]),
        "another seed gives another draw": not params["W1"].equal(outcome["W1 with another seed"]),
        "without a generator, each call draws anew": not outcome["W1 without a generator"].equal(
            outcome["W1 once more"]
        ),
        "W2 repeats the numbers of W1": bool(
            torch.isclose(
                params["W2"].flatten()[:9] / params["W2"].flatten()[0],
                params["W1"].flatten()[:9] / params["W1"].flatten()[0],
            ).all()
        ),
    }
    for weight, bias, fan_in in (("W1", "b1", inputs["d_in"]), ("W2", "b2", inputs["d_hidden"])):
        drawn = params[weight].double() * (fan_in / 2) ** 0.5
        facts |= {
            f"{weight}: spread over what it should be, about": f"{round(4 * float(drawn.std()))}/4",
            f"{weight}: mean, about": f"{round(4 * float(drawn.mean()))}/4",
            f"{weight}: bell-shaped": bool(drawn.abs().max() > 2.5 * drawn.std()),
            f"{bias}: all zero": bool((params[bias] == 0).all()),
            f"{bias}: all alike": bool((params[bias] == params[bias][0]).all()),
        }
    return facts


HIDDEN, OUT = "d_in, d_hidden, generator=generator", "d_hidden, classes, generator=generator"
ROOTS = ("math.sqrt(2 / d_in)", "math.sqrt(2 / d_hidden)")


def roots(name, first, second, hint):
    return Mistake.edits_of(name, [(ROOTS[1], second), (ROOTS[0], first)], hint)


init_parameters = Exercise(
    "init_parameters",
    oracle=parameters_by_normal,
    mistakes=[
        roots("standard normal", "1.0", "1.0",
              "With a variance of 1, sums over many inputs become huge: scale each weight down."),
        roots("two left out", "math.sqrt(1 / d_in)", "math.sqrt(1 / d_hidden)",
              "ReLU lets about half of the signal through, and the 2 makes up for it."),
        roots("variance for the standard deviation", "(2 / d_in)", "(2 / d_hidden)",
              "2 over the inputs is the *variance*. A normal number is scaled by its root."),
        roots("outputs for inputs", "math.sqrt(2 / d_hidden)", "math.sqrt(2 / classes)",
              "It is the number of *inputs* of the layer that counts, since those are summed."),
        roots("a hundredth", "0.01", "0.01",
              "A fixed small number is the wrong size for most layers: it follows the inputs."),
        *edits([
            ("two left out of the first layer", ROOTS[0], "math.sqrt(1 / d_in)",
             "ReLU lets about half of the signal through, and the 2 makes up for it."),
            ("two left out of the last layer", ROOTS[1], "math.sqrt(1 / d_hidden)",
             "The 2 belongs to every layer's variance, that of the last one too."),
            ("uniform, and not centred", f"torch.randn({HIDDEN})",
             "torch.rand(d_in, d_hidden, generator=generator)",
             "rand draws uniformly between 0 and 1: the weights are normal, around 0."),
            ("generator ignored by the last layer", OUT, "d_hidden, classes",
             "The generator is not used for all draws, so a seeded run is not repeated."),
            ("last layer drawn from a copy of the generator", OUT,
             "d_hidden, classes, generator=generator if generator is None else "
             "torch.Generator().manual_seed(generator.initial_seed())",
             "A generator made afresh starts from the beginning, so that the last layer repeats "
             "the "
             "first one's numbers. Draw all of them from the one you are given."),
            ("same draw each time", "    return {", "    generator = generator or "
             "torch.Generator().manual_seed(0)\n    return {",
             "Without a generator PyTorch's own draws: yours starts anew each time."),
            ("both from the network's inputs", ROOTS[1], "math.sqrt(2 / d_in)",
             "The second layer's inputs are the hidden units, not the network's inputs."),
            ("first weights of zeros", f"torch.randn({HIDDEN})", "torch.zeros(d_in, d_hidden)",
             "If all weights of a layer start alike, its units stay alike for ever."),
            ("last weights of zeros", f"torch.randn({OUT})", "torch.zeros(d_hidden, classes)",
             "The docstring has the weights of the last layer drawn like the others."),
            ("uniform", f"torch.randn({HIDDEN})",
             "(12**0.5 * (torch.rand(d_in, d_hidden, generator=generator) - 0.5))",
             "The weights come from a normal distribution, not from a uniform one."),
            ("not centred", f"torch.randn({HIDDEN})", f"(1 + torch.randn({HIDDEN}))",
             "The weights have the mean 0."),
            ("biases drawn", "torch.zeros(d_hidden)", "torch.randn(d_hidden)",
             "Biases start at 0."),
            ("biases of one", "torch.zeros(d_hidden)", "torch.ones(d_hidden)",
             "Biases start at 0."),
            ("weights the other way round", f"torch.randn({HIDDEN})",
             "torch.randn(d_hidden, d_in, generator=generator)",
             "W1 has the shape (d_in, d_hidden), as linear_forward expects it."),
            ("generator ignored", HIDDEN, "d_in, d_hidden",
             "The generator is not used for all draws, so a seeded run is not repeated."),
            ("gradients required", '"W2": torch', '"W2": 1 * torch.ones((), requires_grad=True) * '
             "torch", "Plain tensors are asked for: the gradient will come by hand."),
        ]),
        Mistake.edits_of("one generator for each weight", [
            ("    return {", "    seed = torch.initial_seed() if generator is None else "
             "generator.initial_seed()\n    generator = torch.Generator().manual_seed(seed)\n"
             "    g2 = torch.Generator().manual_seed(seed)\n    return {"),
            (OUT, OUT.replace("=generator", "=g2")),
        ], "A generator made afresh starts from the beginning: both weights get the same numbers, "
           "in every call. Draw all of them from the one you are given."),
    ],
    variants=[
        Variant("a loop over the layers", """
            def init_parameters(d_in, d_hidden, classes, generator=None):
                params = {}
                for i, (a, b) in enumerate([(d_in, d_hidden), (d_hidden, classes)], start=1):
                    noise = torch.randn((a, b), generator=generator)
                    params[f"W{i}"] = noise * (2 / a) ** 0.5
                    params[f"b{i}"] = torch.zeros(b)
                return params
        """),
        Variant("torch.normal, last layer first", """
            def init_parameters(d_in, d_hidden, classes, generator=None):
                W2 = torch.normal(0.0, math.sqrt(2 / d_hidden), (d_hidden, classes),
                                  generator=generator)
                W1 = torch.normal(0.0, math.sqrt(2 / d_in), (d_in, d_hidden), generator=generator)
                b1, b2 = W1.new_zeros(d_hidden), W2.new_zeros(classes)
                return dict(W1=W1, b1=b1, W2=W2, b2=b2)
        """),
        Variant("nn.init", """
            def init_parameters(d_in, d_hidden, classes, generator=None):
                W1, W2 = torch.empty(d_in, d_hidden), torch.empty(d_hidden, classes)
                for W in (W1, W2):
                    nn.init.normal_(W, std=math.sqrt(2 / len(W)), generator=generator)
                return {"b1": torch.zeros(d_hidden), "b2": torch.zeros(classes), "W1": W1, "W2": W2}
        """),
    ],
)  # fmt: skip


@init_parameters.test(points=1.25, cases=[
    Case("a wide network", drawn_parameters,
         lambda make: {"d_in": 50, "d_hidden": 200, "classes": 30, "seed": make.seed()},
         observe=facts_of_parameters, dtypes=ONE),
    Case("a network with more inputs than units", drawn_parameters,
         lambda make: {"d_in": 160, "d_hidden": 60, "classes": 40, "seed": make.seed()},
         observe=facts_of_parameters, dtypes=ONE),
])  # fmt: skip
def test_init_parameters_draws_the_weights(submission, case):
    """Draws weights of the right size, and biases of zero"""
    submission.matches_reference(case)


@init_parameters.test(points=0.25, cases=[
    Case("a small network", shapes_of_parameters,
         lambda make: {"d_in": 5, "d_hidden": 4, "classes": 3, "seed": make.seed()})
])  # fmt: skip
def test_init_parameters_stays_on_the_cpu(submission, case):
    """Makes float32 tensors on the CPU"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- mlp_forward


def forward_by_torch(x, params):
    W1, b1, W2, b2 = (params[name] for name in NAMES)
    return F.linear(F.relu(F.linear(x, W1.T, b1)), W2.T, b2)


def forward_inputs(n, *sizes):
    return lambda make: {"x": make.normal(n, sizes[0]), "params": network(make, *sizes)}


RELU, LOGITS = ".relu()", 'linear_forward(h, params["W2"], params["b2"])'

mlp_forward = Exercise(
    "mlp_forward",
    oracle=forward_by_torch,
    forbids=AUTOGRAD,
    mistakes=edits([
        ("no activation", RELU, "", "Without the ReLU, both layers together are a single one."),
        ("activated at the end", LOGITS, LOGITS + ".relu()",
         "Logits may be negative: there is no ReLU after the last layer."),
        ("softmax at the end", LOGITS, LOGITS + ".softmax(dim=1)",
         "The logits are asked for. The loss takes the softmax itself, in a stable way."),
        ("sigmoid", RELU, ".sigmoid()", "The activation of this network is ReLU."),
        ("tanh", RELU, ".tanh()", "The activation of this network is ReLU."),
        ("absolute value", RELU, ".abs()", "ReLU sets negative entries to 0."),
        ("first bias left out", 'params["b1"])', 'torch.zeros_like(params["b1"]))',
         "The first layer's bias is missing."),
        ("last bias left out", 'params["b2"])', 'torch.zeros_like(params["b2"]))',
         "The last layer's bias is missing."),
        ("input activated", "linear_forward(x, ", "linear_forward(x.relu(), ",
         "The input goes into the first layer as it is."),
        ("hidden layer returned", f"return {LOGITS}", "return h",
         "These are the hidden units: the second layer is missing."),
        ("classes returned", LOGITS, LOGITS + ".argmax(dim=1)",
         "The logits are asked for, one for each class, not the class that wins."),
        ("squeezed", LOGITS, LOGITS + ".squeeze()",
         "The result has the shape (batch, classes) for a batch of one too."),
        ("parameters by position", '    h = linear_forward(x, params["W1"], params["b1"])',
         "    params = dict(zip(('W1', 'b1', 'W2', 'b2'), params.values()))\n"
         '    h = linear_forward(x, params["W1"], params["b1"])',
         "A dict may hold its entries in any order: look each parameter up by its name."),
    ]),
    variants=[
        Variant("written out", """
            def mlp_forward(x, params):
                hidden = torch.clamp(x @ params["W1"] + params["b1"], min=0)
                return hidden @ params["W2"] + params["b2"]
        """),
        Variant("a loop", """
            def mlp_forward(x, params):
                for i in (1, 2):
                    x = linear_forward(x, params[f"W{i}"], params[f"b{i}"])
                    if i == 1:
                        x = torch.relu(x)
                return x
        """),
        Variant("addmm", """
            def mlp_forward(x, params):
                h = torch.addmm(params["b1"], x, params["W1"])
                h[h < 0] = 0
                return torch.addmm(params["b2"], h, params["W2"])
        """),
    ],
)  # fmt: skip

FORWARDS = [
    Case("a batch", apply, forward_inputs(6, 4, 5, 3)),
    Case("one example", apply, forward_inputs(1, 3, 7, 4)),
    Case(
        "parameters in another order",
        apply,
        lambda make: {
            "x": make.normal(4, 3),
            "params": dict(sorted(network(make, 3, 3, 3).items())),  # every shape would fit
        },
    ),
]


@mlp_forward.test(points=0.75, cases=FORWARDS)
def test_mlp_forward_computes_logits(submission, case):
    """Computes the logits"""
    submission.matches_reference(case)


@mlp_forward.test(points=0.25, cases=FORWARDS[:1])
def test_mlp_forward_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- accuracy


def accuracy_by_loop(logits, labels):
    pairs = zip(logits.tolist(), labels.tolist(), strict=True)
    return sum(row.index(max(row)) == label for row, label in pairs) / len(labels)


def judged(n, classes, right):
    """Logits of which a given number is right; the right class's rank differs elsewhere."""

    def draw(make):
        labels, logits = make.labels(n, classes), make.normal(n, classes)
        best = logits.max(dim=1).values + make.uniform(n, low=0.1, high=1.0)
        favoured = torch.where(torch.arange(n) < right, labels, (labels + 1) % classes)
        logits.scatter_(1, favoured[:, None], best[:, None])
        order = make.permutation(n)
        shifted = logits + make.away_from_zero(n, 1, low=0.5, high=2.5)  # right ones of either sign
        return {"logits": shifted[order], "labels": labels[order]}

    return draw


def one_far_above(make):
    """The first example's logits are the largest of the whole batch, in every column."""
    labels = torch.tensor([3, 0, 3, 1, 3, 2, 4, 1])
    right = torch.tensor([1, 0, 1, 1, 0, 0, 1, 0], dtype=torch.bool)
    logits = make.normal(8, 5)
    best = logits.max(dim=1).values + make.uniform(8, low=0.1, high=1.0)
    logits.scatter_(1, torch.where(right, labels, (labels + 1) % 5)[:, None], best[:, None])
    logits[0] += 8.0
    return {"logits": logits, "labels": labels}


def share_right(impl, logits, labels):
    share = impl(logits, labels)
    found = {"share": share, "a Python number": isinstance(share, int | float)}
    return found | {"share where all are right": impl(logits, logits.argmax(dim=1))}


HIT = "(logits.argmax(dim=1) == labels).double().mean().item()"

accuracy = Exercise(
    "accuracy",
    oracle=accuracy_by_loop,
    mistakes=[Mistake(name, HIT, mistaken, hint) for name, mistaken, hint in [
        ("counted", "(logits.argmax(dim=1) == labels).double().sum().item()",
         "A share is a count divided by the number of examples."),
        ("in percent", "100 * " + HIT, "The share lies between 0 and 1: no percent."),
        ("errors", "1 - " + HIT, "That is the share that is wrong."),
        ("smallest logit", HIT.replace("argmax", "argmin"), "The *largest* logit decides."),
        ("over the examples", "(logits.argmax(dim=0) == labels[: logits.shape[1]])"
         ".double().mean().item()", "The largest logit is looked for among the classes of each "
         "example."),
        ("largest magnitude", HIT.replace("logits", "logits.abs()", 1),
         "Logits keep their sign: a very negative one says no."),
        ("rounded", f"round({HIT}, 1)", "The exact share is asked for, not a rounded one."),
        ("rounded to hundredths", f"round({HIT}, 2)",
         "The exact share is asked for, not a rounded one."),
        ("a tensor", HIT.removesuffix(".item()"),
         "The value is right, but it is a tensor: a Python number is asked for."),
        ("a tensor of float32", "(logits.argmax(dim=1) == labels).float().mean()",
         "The value is right, but it is a tensor: a Python number is asked for."),
        ("largest of all logits", "(logits.argmax() == labels).double().mean().item()",
         "Without a dimension argmax looks for the largest logit of the whole batch: each example "
         "has one of its own."),
        ("probability of the right class",
         "logits.softmax(dim=1).gather(1, labels[:, None]).double().mean().item()",
         "That is the mean probability of the right class. Accuracy asks which class wins."),
        ("positive logit", "(logits.gather(1, labels[:, None]) > 0).double().mean().item()",
         "The right class's logit has to be the largest, whatever its sign."),
        ("among the first two", "(logits.topk(2, dim=1).indices == labels[:, None])"
         ".any(dim=1).double().mean().item()", "Only the largest logit counts, not the second."),
        ("mean over the classes", "torch.stack([(logits.argmax(dim=1) == labels)[labels == c]"
         ".double().mean() for c in labels.unique()]).mean().item()",
         "Each *example* counts the same: no average over the classes."),
        ("divided by the classes", "((logits.argmax(dim=1) == labels).sum() / logits.shape[1])"
         ".item()", "Divide by the number of examples, not of classes."),
        ("whole or nothing", "float(bool((logits.argmax(dim=1) == labels).all()))",
         "The share of right examples is asked for, not whether all are right."),
    ]],
    variants=[
        Variant("a sum over a length", """
            def accuracy(logits, labels):
                return float((torch.max(logits, 1)[1] == labels).sum()) / len(labels)
        """),
        Variant("a loop", """
            def accuracy(logits, labels):
                right = 0
                for row, label in zip(logits, labels):
                    right += int(row.argmax() == label)
                return right / labels.numel()
        """),
        Variant("eq and float", """
            def accuracy(logits, labels):
                predicted = logits.softmax(dim=-1).argmax(-1)
                return predicted.eq(labels).to(torch.float64).mean().item()
        """),
        Variant("averaged in float32", """
            def accuracy(logits, labels):
                return (logits.argmax(dim=1) == labels).float().mean().item()
        """),
    ],
)  # fmt: skip


@accuracy.test(
    points=1,
    cases=[
        Case("most are right", share_right, judged(14, 5, 10), loosen=IN_FLOAT32),
        Case("few are right", share_right, judged(11, 4, 3), loosen=IN_FLOAT32),
        Case("none is right", share_right, judged(7, 6, 0), loosen=IN_FLOAT32),
        Case("one example far above the rest", share_right, one_far_above, loosen=IN_FLOAT32),
    ],
)
def test_accuracy_is_the_share_that_is_right(submission, case):
    """Is the share of examples that are right"""
    submission.matches_reference(case)


# ---------------------------------------------------------------- sgd_step


def step_by_fma(params, grads, lr):
    return {name: torch.add(value, grads[name], alpha=-lr) for name, value in params.items()}


def stepped(impl, params, grads, lr):
    after = impl(params, grads, lr)
    return {"number of parameters": len(after), "after": after,
            "a new dict": after is not params and after is not grads}  # fmt: skip


def stepped_and_written_over(impl, params, grads, lr):
    """New tensors are the caller's to write into: where one is an argument's, that changes."""
    after = impl(params, grads, lr)
    kept = {name: value.clone() for name, value in after.items()}
    for value in after.values():
        value.fill_(7.0)
    return {"after": kept}


def no_slope(make):
    inputs = step_inputs((0, 1), (2, 3), (3,))(make)
    return {**inputs, "grads": {**inputs["grads"], "p1": 0 * inputs["grads"]["p1"]}}


def step_inputs(order, *shapes):
    def draw(make):
        params = {f"p{i}": make.normal(*shape) for i, shape in enumerate(shapes)}
        grads = {f"p{i}": make.normal(*shapes[i]) for i in order}
        return {"params": params, "grads": grads, "lr": make.number(0.1, 0.6)}

    return draw


STEP = "value - lr * grads[name]"

sgd_step = Exercise(
    "sgd_step",
    oracle=step_by_fma,
    forbids=AUTOGRAD,
    mistakes=edits([
        ("uphill", STEP, "value + lr * grads[name]",
         "The gradient points uphill: a step down goes against it."),
        ("no learning rate", STEP, "value - grads[name]", "The learning rate is missing."),
        ("divided by the learning rate", STEP, "value - grads[name] / lr",
         "The gradient is multiplied by the learning rate."),
        ("the step alone", STEP, "-lr * grads[name]",
         "That is the step: it has to be added to where the parameter was."),
        ("all scaled", STEP, "lr * (value - grads[name])",
         "The learning rate is a factor of the gradient alone."),
        ("shrunk", STEP, "(1 - lr) * value - lr * grads[name]",
         "Nothing shrinks the parameters here: that would be weight decay."),
        ("sign of the gradient", STEP, "value - lr * grads[name].sign()",
         "The step is as large as the gradient says, not only in its direction."),
        ("normalised", STEP, "value - lr * grads[name] / grads[name].norm()",
         "The gradient is used as it is, not at length 1."),
        ("divided by the rows", STEP, "value - lr * grads[name] / len(value)",
         "The gradient is an average already: nothing is divided here."),
        ("paired by position", f"name: {STEP} for name, value in params.items()",
         "name: value - lr * grad for (name, value), grad in zip(params.items(), grads.values())",
         "The two dicts may be in different orders: look each gradient up by its name."),
        ("weights alone", STEP, f"({STEP}) if value.ndim > 1 else value",
         "Biases are trained too."),
        ("in place", STEP, "value.sub_(lr * grads[name])",
         "The tensors that were passed in are changed. Make new ones."),
        ("the same tensor where the gradient is zero", STEP,
         f"({STEP}) if grads[name].any() else value",
         "Where the gradient is zero you hand back the old tensor itself: make new ones "
         "throughout."),
        ("a list", f"return {{name: {STEP} for name, value in params.items()}}",
         f"return [{STEP} for name, value in params.items()]",
         "The names are lost: return a dict, as params is one."),
        ("the same dict", f"return {{name: {STEP} for name, value in params.items()}}",
         f"for name, value in params.items():\n        params[name] = {STEP}\n    return params",
         "The caller's dict is changed: put the results into a new one."),
    ]),
    variants=[
        Variant("a loop", """
            def sgd_step(params, grads, lr):
                new = {}
                for name in params:
                    new[name] = params[name] - grads[name] * lr
                return new
        """),
        Variant("on copies", """
            def sgd_step(params, grads, lr):
                after = {k: v.clone() for k, v in params.items()}
                for k, g in grads.items():
                    after[k] -= lr * g
                return after
        """),
        Variant("torch.add with alpha", """
            def sgd_step(params, grads, lr):
                return dict((k, torch.add(v, grads[k], alpha=-lr)) for k, v in params.items())
        """),
    ],
)  # fmt: skip


@sgd_step.test(
    points=0.75,
    cases=[
        Case("a matrix and a vector", stepped, step_inputs((0, 1), (3, 4), (4,))),
        Case("gradients in another order", stepped, step_inputs((2, 0, 1), (2, 5), (2, 5), (2, 5))),
        Case("a gradient of zero", stepped_and_written_over, no_slope),
    ],
)
def test_sgd_step_goes_downhill(submission, case):
    """Takes one step downhill"""
    submission.matches_reference(case)


@sgd_step.test(points=0.25, cases=[Case("two tensors", stepped, step_inputs((1, 0), (2, 3), (3,)))])
def test_sgd_step_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- train_epoch


def epoch_by_autograd(x, labels, params, lr, batch_size, order):
    params = dict(params)
    losses = []
    for batch in order.split(batch_size):
        leaves = [params[name].detach().requires_grad_() for name in NAMES]
        W1, b1, W2, b2 = leaves
        logits = (x[batch] @ W1 + b1).clamp(min=0) @ W2 + b2
        each = F.cross_entropy(logits, labels[batch], reduction="none")
        losses.append(each.detach())
        found = torch.autograd.grad(each.mean(), leaves)
        steps = zip(NAMES, leaves, found, strict=True)
        params = {name: leaf.detach() - lr * grad for name, leaf, grad in steps}
    return params, torch.cat(losses).mean()


def epoch_inputs(n, batch_size, *sizes, used=None):
    def draw(make):
        return {
            "x": make.normal(n, sizes[0]),
            "labels": make.labels(n, sizes[2]),
            "params": network(make, *sizes),
            "lr": make.number(0.1, 0.3),
            "batch_size": batch_size,
            "order": make.permutation(n)[:used],
        }

    return draw


def one_epoch(impl, **inputs):
    params, loss = impl(**inputs)
    return {"mean loss": loss, "parameters": {name: params[name] for name in NAMES}}


LOSS = "        loss = softmax_cross_entropy(mlp_forward(x[batch], params), labels[batch])\n"
UPDATE = "        params = sgd_step(params, mlp_backward(x[batch], labels[batch], params), lr)\n"
COUNTED, AVERAGE = "total = total + len(batch) * loss", "total / len(order)"
RANGE = "range(0, len(order), batch_size)"

train_epoch = Exercise(
    "train_epoch",
    oracle=epoch_by_autograd,
    forbids=AUTOGRAD,
    mistakes=[Mistake.edits_of(name, changes, hint) for name, changes, hint in [
        ("order ignored", [("order[start : start + batch_size]", "torch.arange(start, min(start + "
          "batch_size, len(order)), device=x.device)")],
         "`order` says which examples make up a batch: they are not taken as they stand."),
        ("last batch dropped", [(RANGE, "range(0, len(order) - batch_size + 1, batch_size)")],
         "The last batch may be smaller than the others; it is used all the same."),
        ("one example too many", [("start + batch_size]", "start + batch_size + 1]")],
         "Each batch overlaps with the next one by an example."),
        ("all gradients at the start",
         [("    total = x", "    given = params\n    total = x"),
          ("labels[batch], params), lr)", "labels[batch], given), lr)")],
         "Each batch's gradient is taken at the parameters as they are *by then*."),
        ("parameters not kept", [("        params = sgd_step", "        sgd_step")],
         "sgd_step returns new parameters: keep them, or nothing is learned."),
        ("one step an epoch", [("order[start : start + batch_size]", "order"),
                               (RANGE, "range(0, 1)")],
         "All examples in one batch make a single step. Go on batch by batch."),
        ("loss after the step", [(LOSS + UPDATE, UPDATE + LOSS)],
         "The loss is measured *before* its batch's step."),
        ("mean of the batches", [(COUNTED, "total = total + loss"),
                                 (AVERAGE, "total / len(range(0, len(order), batch_size))")],
         "A smaller last batch counts as much as a full one here. Every *example* should count "
         "the same."),
        ("losses of batches over examples", [(COUNTED, "total = total + loss")],
         "A batch's loss is a mean over the batch: multiply by its size before you add it up."),
        ("sum of the losses", [(AVERAGE, "total")],
         "That is the sum over the examples: divide by how many there are."),
        ("divided by all examples", [(AVERAGE, "total / len(x)")],
         "Divide by the number of examples that were used: `order` may leave some out."),
        ("full batch size counted", [(COUNTED, "total = total + batch_size * loss")],
         "The last batch may be smaller: multiply by the size that it really has."),
        ("labels not in order", [("labels[batch])\n", "labels[start : start + len(batch)])\n")],
         "The loss compares images with other images' labels: take both as the order says."),
        ("labels of the gradient not in order",
         [("labels[batch], params), lr)", "labels[start : start + len(batch)], params), lr)")],
         "The gradient compares images with other images' labels: take both as the order says."),
        ("first batch alone", [(RANGE, "range(0, min(len(order), batch_size), batch_size)")],
         "Only the first batch is used: an epoch goes on until the order ends."),
        ("divided by the batch again",
         [("labels[batch], params), lr)", "labels[batch], params), lr / len(batch))")],
         "The gradient is that of a mean already: it is not divided by the batch's size once "
         "more."),
        ("a Python number", [(AVERAGE, "(total / len(order)).item()")],
         "The mean loss is asked for as a tensor of shape (), not as a Python number."),
        ("last loss", [(COUNTED, "total = len(order) * loss")],
         "That is the last batch's loss. The mean over the epoch is asked for."),
        ("gradient summed", [("labels[batch], params), lr)", "labels[batch], params), lr * "
                              "len(batch))")],
         "The gradient is that of a mean already: the learning rate is not multiplied by the "
         "batch's size."),
    ]],
    variants=[
        Variant("batches by split", """
            def train_epoch(x, labels, params, lr, batch_size, order):
                losses = []
                for batch in torch.split(order, batch_size):
                    xb, yb = x[batch], labels[batch]
                    losses.append(softmax_cross_entropy(mlp_forward(xb, params), yb) * len(xb))
                    params = sgd_step(params, mlp_backward(xb, yb, params), lr)
                return params, torch.stack(losses).sum() / order.numel()
        """),
        Variant("everything in order first", """
            def train_epoch(x, labels, params, lr, batch_size, order):
                x, labels, m = x[order], labels[order], len(order)
                total, i = 0.0, 0
                while i < m:
                    xb, yb = x[i : i + batch_size], labels[i : i + batch_size]
                    log_probs = mlp_forward(xb, params).log_softmax(dim=1)
                    total = total - log_probs[torch.arange(len(yb), device=x.device), yb].sum()
                    grads = mlp_backward(xb, yb, params)
                    params = {k: v - lr * grads[k] for k, v in params.items()}
                    i += batch_size
                return params, total / m
        """),
        Variant("on copies, in place", """
            def train_epoch(x, labels, params, lr, batch_size, order):
                mine = {k: v.clone() for k, v in params.items()}
                total = torch.zeros((), dtype=x.dtype, device=x.device)
                for start in range(0, order.shape[0], batch_size):
                    b = order[start:start + batch_size]
                    total += b.numel() * softmax_cross_entropy(mlp_forward(x[b], mine), labels[b])
                    for k, g in mlp_backward(x[b], labels[b], mine).items():
                        mine[k].sub_(lr * g)
                return mine, total.div(order.shape[0])
        """),
    ],
)  # fmt: skip


@train_epoch.test(
    points=2.5,
    cases=[
        Case("batches that come out even", one_epoch, epoch_inputs(8, 4, 3, 5, 4)),
        Case("a smaller last batch", one_epoch, epoch_inputs(11, 4, 4, 6, 3)),
        Case("some examples left out", one_epoch, epoch_inputs(13, 3, 4, 5, 3, used=8)),
        Case("batches of one", one_epoch, epoch_inputs(5, 1, 3, 4, 2)),
        Case("a batch size beyond the examples", one_epoch, epoch_inputs(6, 10, 4, 3, 5)),
    ],
)
def test_train_epoch_steps_batch_by_batch(submission, case):
    """Takes one step for each batch, and averages the loss over the examples"""
    submission.matches_reference(case)


@train_epoch.test(
    points=0.5, cases=[Case("a smaller last batch", one_epoch, epoch_inputs(7, 3, 4, 5, 3))]
)
def test_train_epoch_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- the PyTorch way


class Recorder(nn.Module):
    """Passes its input on and writes down in which mode it was called."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def forward(self, x):
        mode = "training" if self.training else "evaluation"
        self.seen.append(f"{mode}, {'with' if torch.is_grad_enabled() else 'without'} gradients")
        return x


def small_model(weights, seen):
    W1, b1, W2, b2 = weights
    norm = nn.BatchNorm1d(len(b1)).to(W1)
    model = nn.Sequential(
        load_parameters(nn.Linear(*W1.shape[::-1]), {"weight": W1, "bias": b1}),
        norm, nn.Sequential(nn.Tanh(), Recorder(seen)),
        load_parameters(nn.Linear(*W2.shape[::-1]), {"weight": W2, "bias": b2}),
    )  # fmt: skip
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    return model, calls


def loader_inputs(*batches, **more):
    """Batches of the given sizes; 3 features, 5 hidden units, 4 classes."""

    def draw(make):
        return {
            "weights": [make.normal(5, 3), make.normal(5), make.normal(4, 5), make.normal(4)],
            "loader": [(make.normal(n, 3), make.integers(0, 4, n)) for n in batches],
            **more,
        }

    return draw


def smoothed(logits, labels):
    """A loss other than the usual one, which knows its arguments' order."""
    return F.cross_entropy(logits, labels, label_smoothing=0.2) + logits.square().mean()


class WatchedSGD(torch.optim.SGD):
    """Writes down when it steps."""

    events: list[str]

    def step(self, closure=None):
        found = super().step(closure)
        self.events.append("step")
        return found


def module_epoch(impl, weights, loader, training, stale=None, once=False):
    seen: list[str] = []
    model, calls = small_model(weights, seen)
    model.train(training)
    optimizer = WatchedSGD(model.parameters(), lr=0.2, momentum=0.9)
    optimizer.events = []
    model[0].weight.register_hook(lambda _: optimizer.events.append("backward"))
    if stale is not None:
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, stale)
    loss = impl(model, iter(loader) if once else loader, optimizer, smoothed)
    return {
        "mean loss": loss,
        "a Python number": isinstance(loss, int | float),
        "parameters": [p.detach().flatten().tolist() for p in model.parameters()],
        "running mean": model[1].running_mean.tolist(),
        "modes": sorted(set(seen)),
        "backward passes and steps": ", ".join(optimizer.events),
        "calls of the model": len(calls),
        "in training mode afterwards": all(m.training for m in model.modules()),
    }


def module_epoch_by_grad(model, loader, optimizer, loss_fn):
    model.train()
    losses = []
    for x, y in loader:
        loss = loss_fn(model(x), y)
        parameters = list(model.parameters())
        for p, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            p.grad = g
        optimizer.step()
        losses += [loss.detach()] * len(y)
    return float(torch.stack(losses).mean())


ZERO = "        optimizer.zero_grad()\n"
BACK = "        loss.backward()  # type: ignore[no-untyped-call]\n"
TAKE, SUM, RATIO = "        optimizer.step()\n", "len(x) * loss.item()", "total / count"
MODE = "    model.train()\n"

train_module_epoch = Exercise(
    "train_module_epoch",
    oracle=module_epoch_by_grad,
    mistakes=[Mistake.edits_of(name, changes, hint) for name, changes, hint in [
        ("gradients never cleared", [(ZERO, "")],
         "backward() *adds* to what .grad holds: clear the gradients in every round."),
        ("cleared after the step only", [(ZERO, ""), (TAKE, TAKE + ZERO)],
         "The first batch still meets the gradients that were there before the call: clear them "
         "before backward()."),
        ("cleared before the step", [(ZERO, ""), (BACK, BACK + ZERO)],
         "The gradients are cleared between backward() and step(): there is nothing left to step "
         "along."),
        ("cleared once", [(ZERO, ""), ("    total, count", "    optimizer.zero_grad()\n"
                                       "    total, count")],
         "The gradients are cleared once an epoch, and pile up batch after batch."),
        ("no step", [(TAKE, "")], "step() is missing: the gradients are there, and nobody moves."),
        ("no backward", [(BACK, "")],
         "backward() is missing: step() finds no gradient, or an old one."),
        ("step before backward", [(BACK + TAKE, TAKE + BACK)],
         "The step comes before the gradient it should use."),
        ("one step an epoch", [(TAKE, ""), ("    return total", "    optimizer.step()\n"
                                            "    return total")],
         "Every batch gets a step of its own, not only the last one."),
        ("mode not set", [(MODE, "")],
         "The model may come in evaluation mode: put it into training mode first."),
        ("evaluation mode", [(MODE, "    model.eval()\n")],
         "That is evaluation mode, in which dropout and batch norm do not train."),
        ("left in evaluation mode", [(f"    return {RATIO}", f"    model.eval()\n    return {RATIO}"
                                      )], "The model stays in training mode afterwards."),
        ("mean of the batches", [(SUM, "loss.item()"), ("count += len(x)", "count += 1")],
         "A smaller last batch counts as much as a full one. Weigh each batch's loss by its size."),
        ("losses of batches over examples", [(SUM, "loss.item()")],
         "A batch's loss is a mean already: multiply by the batch's size before adding."),
        ("sum of the losses", [(RATIO, "total")], "Divide by the number of examples."),
        ("last loss", [("total += " + SUM, "total = loss.item()"), (RATIO, "total")],
         "That is the last batch's loss; the mean over the epoch is asked for."),
        ("loss after the step", [(SUM, "len(x) * loss_fn(model(x), y).item()")],
         "The model is called a second time, after the step. The loss is measured before it."),
        ("a tensor", [("loss.item()", "loss.detach()")],
         "The value is right, but it is a tensor: a Python number is asked for."),
        ("arguments of the loss swapped", [("loss_fn(model(x), y)", "loss_fn(y, model(x))")],
         "loss_fn is given its two arguments the other way round: the logits come first."),
        ("divided by the data set", [(RATIO, "total / len(loader.dataset)")],
         "The loader may be anything that yields batches: count the examples as they come."),
        ("batches counted beforehand", [(MODE, "    n = sum(len(x) for x, _ in loader)\n" + MODE),
                                        (RATIO, "total / n")],
         "The loader may yield its batches only once: count the examples in the same round."),
        ("another loss", [("loss_fn(model(x), y)", "nn.functional.cross_entropy(model(x), y)")],
         "`loss_fn` is not used: the caller decides on the loss."),
        ("forward called directly", [("model(x)", "model.forward(x)")],
         "Call the model itself, so that its hooks run."),
    ]],
    variants=[
        Variant("cleared through the model, sums of tensors", """
            def train_module_epoch(model, loader, optimizer, loss_fn):
                model.train(True)
                losses, sizes = [], []
                for inputs, targets in loader:
                    loss = loss_fn(model(inputs), targets)
                    model.zero_grad()
                    loss.backward()
                    optimizer.step()
                    losses.append(loss.detach() * targets.shape[0])
                    sizes.append(targets.shape[0])
                return float(sum(losses)) / sum(sizes)
        """),
        Variant("zeros instead of None", """
            def train_module_epoch(model, loader, optimizer, loss_fn):
                total = n = 0
                for x, y in loader:
                    model.train()
                    out = model(x)
                    loss = loss_fn(out, y)
                    optimizer.zero_grad(set_to_none=False)
                    torch.autograd.backward(loss)
                    optimizer.step()
                    total, n = total + float(loss) * y.numel(), n + y.numel()
                return total / n
        """),
        Variant("a closure for the optimizer", """
            def train_module_epoch(model, loader, optimizer, loss_fn):
                model.train()
                seen = []
                for x, y in loader:
                    def closure():
                        optimizer.zero_grad()
                        loss = loss_fn(model(x), y)
                        loss.backward()
                        return loss
                    seen.append((len(y), optimizer.step(closure).item()))
                return sum(n * v for n, v in seen) / sum(n for n, _ in seen)
        """),
        Variant("added up in a float32 tensor", """
            def train_module_epoch(model, loader, optimizer, loss_fn):
                model.train()
                total, n = torch.tensor(0.0), 0
                for x, y in loader:
                    optimizer.zero_grad()
                    loss = loss_fn(model(x), y)
                    loss.backward()
                    optimizer.step()
                    total += loss.detach() * len(x)
                    n += len(x)
                return (total / n).item()
        """),
    ],
)  # fmt: skip


@train_module_epoch.test(
    points=2.5,
    cases=[
        Case("a smaller last batch", module_epoch, loader_inputs(5, 5, 2, training=False),
             dtypes=ONE, loosen=IN_FLOAT32),
        Case("gradients left from before", module_epoch,
             lambda make: loader_inputs(4, 6, training=False, stale=make.number(0.5, 1.5))(make),
             dtypes=ONE, loosen=IN_FLOAT32),
        Case("a model in training mode already, and batches that come once", module_epoch,
             loader_inputs(7, 3, training=True, once=True), dtypes=ONE, loosen=IN_FLOAT32),
    ],
)  # fmt: skip
def test_train_module_epoch_trains_on_every_batch(submission, case):
    """Takes one clean step for each batch"""
    submission.matches_reference(case)


# ---------------------------------------------------------------- evaluate


def evaluate_at_once(model, loader, loss_fn):
    modes = [(module, module.training) for module in model.modules()]
    with torch.inference_mode():
        outputs = [(model.eval()(x), y) for x, y in loader]
        sizes = torch.tensor([len(y) for _, y in outputs], dtype=torch.float64)
        losses = torch.stack([loss_fn(z, y).double() for z, y in outputs])
    for module, training in modes:
        module.training = training
    right = sum(int((z.argmax(dim=-1) == y).sum()) for z, y in outputs)
    return float((losses * sizes).sum() / sizes.sum()), right / int(sizes.sum())


def evaluation(impl, weights, loader, frozen, grad_on=True):
    seen: list[str] = []
    model, calls = small_model(weights, seen)
    model.train()
    if frozen == "norm":
        model[0].eval()  # and the other linear layer is not
        model[1].eval()
    elif frozen == "model":
        model.eval()
    model[1].running_mean.copy_(weights[1])  # away from the batches' own
    running = model[1].running_mean.clone()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    with torch.set_grad_enabled(grad_on):
        loss, right = impl(model, loader if grad_on else iter(loader), smoothed)
        enabled = torch.is_grad_enabled()
    return {
        "mean loss": loss,
        "two Python numbers": isinstance(loss, int | float) and isinstance(right, int | float),
        "parameters' gradients as before": all(
            p.grad is not None and bool((p.grad == 1).all()) for p in model.parameters()
        ),
        "accuracy": right,
        "called": sorted(set(seen)),
        "modes of all modules afterwards": ", ".join(
            "training" if m.training else "evaluation" for m in model.modules()
        ),
        "running mean as before": bool((running == model[1].running_mean).all()),
        "gradients enabled afterwards": enabled,
        "calls of the model": len(calls),
    }


RESTORE = "    for module, training in modes.items():\n        module.training = training\n"
RIGHT = "right += len(x) * accuracy(logits, y)"
LOSSES = "total += len(x) * loss_fn(logits, y).item()"

evaluate = Exercise(
    "evaluate",
    oracle=evaluate_at_once,
    mistakes=[Mistake.edits_of(name, changes, hint) for name, changes, hint in [
        ("in training mode", [("    model.eval()\n", "")],
         "Put the model into evaluation mode, or dropout and batch norm spoil the measurement."),
        ("left in evaluation mode", [(RESTORE, "")],
         "The model stays in evaluation mode, and training goes on without dropout unnoticed."),
        ("always back to training", [(RESTORE, "    model.train()\n")],
         "The model may have been in evaluation mode before: remember the mode, and restore it."),
        ("one mode for all modules",
         [("modes = {module: module.training for module in model.modules()}",
           "was = model.training"), (RESTORE, "    model.train(was)\n")],
         "A part of the model may be in another mode than the whole, such as a frozen batch norm: "
         "remember each module's mode."),
        ("graph built", [("with torch.no_grad():", "if True:")],
         "A graph is built for a gradient that nobody asks for: switch gradients off."),
        ("gradients off for good",
         [("with torch.no_grad():", "torch.set_grad_enabled(False)\n    if True:")],
         "Gradients stay switched off after the call, and the next training step fails. Use a "
         "context, which ends."),
        ("losses of batches averaged", [(LOSSES, LOSSES.replace("len(x) * ", "")),
          ("return total / count", "return total / len(list(loader))")],
         "A smaller last batch counts as much as a full one. Weigh each loss by the batch's size."),
        ("accuracies of batches averaged", [(RIGHT, "right += accuracy(logits, y)"),
          ("right / count", "right / len(list(loader))")],
         "A smaller last batch counts as much as a full one. Count the examples that are right."),
        ("batches averaged", [(LOSSES, LOSSES.replace("len(x) * ", "")),
          (RIGHT, "right += accuracy(logits, y)"), ("count += len(x)", "count += 1")],
         "A smaller last batch counts as much as a full one. Weigh both figures by the batch's "
         "size."),
        ("accuracy in percent", [("right / count", "100 * right / count")],
         "The accuracy lies between 0 and 1: no percent."),
        ("accuracy as a count", [("right / count", "right")],
         "A share is a count divided by the number of examples."),
        ("returned the other way round", [("return total / count, right / count",
                                           "return right / count, total / count")],
         "The loss comes first, then the accuracy."),
        ("sum of the losses", [("return total / count", "return total")],
         "Divide by the number of examples."),
        ("last batch alone", [(LOSSES, LOSSES.replace("+=", "=")), (RIGHT, RIGHT.replace("+=", "="
          )), ("count += len(x)", "count = len(x)")],
         "These are the figures of the last batch: add up over all of them."),
        ("another loss", [("loss_fn(logits, y)", "nn.functional.cross_entropy(logits, y)")],
         "`loss_fn` is not used: the caller decides on the loss."),
        ("gradients on for good",
         [("with torch.no_grad():", "torch.set_grad_enabled(False)\n    if True:"),
          (RESTORE, RESTORE + "    torch.set_grad_enabled(True)\n")],
         "Gradients may have been off before the call, and are on after it: leave them as they "
         "were."),
        ("modes of the children alone", [("model.modules()", "[model, *model.children()]")],
         "Parts may have parts: model.eval() reaches all of them, so remember the mode of each."),
        ("one mode for each kind of module",
         [("{module: module.training for module in model.modules()}",
           "{type(m): m.training for m in model.modules()}"),
          (RESTORE, "    for m in model.modules():\n        m.training = modes[type(m)]\n")],
         "Two modules of the same class may be in different modes: remember each one's own."),
        ("gradients cleared", [("    model.eval()\n", "    model.eval()\n    model.zero_grad()\n")],
         "Measuring must not change anything: the parameters' gradients are not yours to clear."),
        ("tensors", [(LOSSES, LOSSES.removesuffix(".item()"))],
         "The value is right, but it is a tensor: two Python numbers are asked for."),
        ("error rate", [("right / count", "1 - right / count")],
         "That is the share that is wrong."),
    ]],
    variants=[
        Variant("lists, then one mean", """
            @torch.no_grad()
            def evaluate(model, loader, loss_fn):
                modes = [(m, m.training) for m in model.modules()]
                model.eval()
                losses, hits = [], []
                for x, y in loader:
                    z = model(x)
                    losses += [loss_fn(z, y).item()] * len(y)
                    hits.append(z.argmax(dim=1) == y)
                for m, mode in modes:
                    m.train(mode) if not list(m.children()) else setattr(m, "training", mode)
                hits = torch.cat(hits)
                return sum(losses) / len(losses), hits.double().mean().item()
        """),
        Variant("restored in a finally, inference mode", """
            def evaluate(model, loader, loss_fn):
                training = [m for m in model.modules() if m.training]
                total = right = n = 0
                try:
                    model.train(False)
                    with torch.inference_mode():
                        for inputs, targets in loader:
                            out = model(inputs)
                            total += float(loss_fn(out, targets)) * len(targets)
                            right += int((out.max(dim=1).indices == targets).sum())
                            n += len(targets)
                finally:
                    for m in training:
                        m.training = True
                return total / n, right / n
        """),
        Variant("a tuple of sums", """
            def evaluate(model, loader, loss_fn):
                was = {name: m.training for name, m in model.named_modules()}
                previous = torch.is_grad_enabled()
                model.eval()
                torch.set_grad_enabled(False)
                sums = torch.zeros(3, dtype=torch.float64)
                for x, y in loader:
                    z, n = model(x), x.shape[0]
                    sums += torch.tensor([n * loss_fn(z, y).item(), n * accuracy(z, y), n],
                                         dtype=torch.float64)
                torch.set_grad_enabled(previous)
                for name, m in model.named_modules():
                    m.training = was[name]
                return (sums[0] / sums[2]).item(), (sums[1] / sums[2]).item()
        """),
        Variant("accuracies averaged in float32", """
            def evaluate(model, loader, loss_fn):
                modes = [(m, m.training) for m in model.modules()]
                model.eval()
                total, right, n = torch.tensor(0.0), 0.0, 0
                with torch.no_grad():
                    for x, y in loader:
                        z = model(x)
                        total += loss_fn(z, y) * len(x)
                        right += len(x) * (z.argmax(1) == y).float().mean().item()
                        n += len(x)
                for m, mode in modes:
                    m.training = mode
                return (total / n).item(), right / n
        """),
    ],
)  # fmt: skip


@evaluate.test(
    points=2,
    cases=[
        Case("a model in training", evaluation, loader_inputs(6, 6, 3, frozen="nothing"),
             loosen=IN_FLOAT32),
        Case("a model in evaluation already, no gradients, and batches that come once", evaluation,
             loader_inputs(5, 2, frozen="model", grad_on=False), loosen=IN_FLOAT32),
        Case("a batch norm and a layer in evaluation, the rest in training", evaluation,
             loader_inputs(4, 5, frozen="norm"), loosen=IN_FLOAT32),
    ],
)  # fmt: skip
def test_evaluate_measures_and_restores(submission, case):
    """Measures in evaluation mode and leaves everything as it was"""
    submission.matches_reference(case)
