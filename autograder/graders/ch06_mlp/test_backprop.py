"""Backpropagation by hand. Rumelhart, Hinton & Williams (1986), Nature 323, 533–536."""

from itertools import pairwise

import torch
from torch.nn import functional

from autograder.spec import TRAINING, Case, Exercise, Make, Mistake, Variant

AUTOGRAD = [
    "torch.autograd.grad",
    "torch.autograd.backward",
    "torch.autograd.functional",
    "torch.Tensor.backward",
    "torch.func",
    "torch.ops",
]
KINK = 1e-3  # no hidden unit is judged closer than this to ReLU's corner
LARGE_LOGITS = 30.0  # exp(logits - logsumexp) is right, and inherits the rounding of thousands

# --------------------------------------------------------------------------- linear_forward


def layer_inputs(batch, d_in, d_out):
    return lambda make: {
        "x": make.normal(batch, d_in),
        "W": make.normal(d_in, d_out),
        "b": make.normal(d_out),
    }


def layer(impl, x, W, b):
    return {"y": impl(x, W, b)}


linear_forward = Exercise(
    "linear_forward",
    oracle=lambda x, W, b: functional.linear(x, W.T, b),
    forbids=["torch.nn.functional.linear", "torch.nn.Linear", "torch.ops"],
    mistakes=[
        Mistake("no bias", "x @ W + b", "x @ W", "The bias is missing: every output has its own."),
        Mistake(
            "bias subtracted",
            "x @ W + b",
            "x @ W - b",
            "The bias is added here, not taken away: look at its sign.",
        ),
        *[
            Mistake(
                f"{product} in place of the product",
                "x @ W + b",
                f"{product} + b",
                "Here x is (batch, d_in) and W is (d_in, d_out), unlike nn.Linear's weight. Put "
                "the factors so that the axis they share, d_in, stands in the middle; nothing "
                "needs turning.",
            )
            for product in ("x @ W.T", "W @ x", "W.T @ x", "x.T @ W", "W @ x.T")
        ],
        Mistake(
            "bias along the batch",
            "x @ W + b",
            "x @ W + b[:, None]",
            "The bias belongs to the outputs, not to the examples: it should line up with the "
            "last axis.",
        ),
        Mistake(
            "bias added to the input",
            "x @ W + b",
            "(x + b) @ W",
            "The bias comes after the weights: it is added to the output, not to the input.",
        ),
        Mistake(
            "bias inside the sum",
            "x @ W + b",
            "x @ W + b * x.shape[1]",
            "The bias is added once an output. Yours is added once for every input feature: it "
            "sits inside the sum over them.",
        ),
        Mistake(
            "bias averaged in",
            "x @ W + b",
            "x @ W + b / x.shape[1]",
            "The bias is added whole; yours is divided by the number of inputs.",
        ),
        Mistake(
            "one bias for all",
            "x @ W + b",
            "x @ W + b.sum()",
            "Every output has a bias of its own; they are not added up.",
        ),
        Mistake(
            "mean over the inputs",
            "x @ W + b",
            "x @ W / x.shape[1] + b",
            "A linear layer sums over its inputs; yours takes their mean.",
        ),
        Mistake(
            "product entry by entry",
            "x @ W + b",
            "x * W + b",
            "The star multiplies entry by entry. A layer needs the matrix product, which sums "
            "over the inputs.",
        ),
        Mistake(
            "output transposed",
            "x @ W + b",
            "(x @ W + b).T",
            "Your output is (d_out, batch): examples should stay in the rows.",
        ),
        Mistake.written(
            "gathered in PyTorch's default dtype",
            """
            def linear_forward(x, W, b):
                y = torch.zeros(x.shape[0], W.shape[1])
                for n in range(x.shape[0]):
                    y[n] = x[n] @ W + b
                return y
            """,
            "torch.zeros(…) by itself is float32 and on the CPU. Let new tensors take dtype and "
            "device from your inputs.",
        ),
        Mistake(
            "activation included",
            "x @ W + b",
            "(x @ W + b).relu()",
            "Only the affine map is asked for here: the ReLU comes later, by itself.",
        ),
        Mistake(
            "a batch of one squeezed",
            "x @ W + b",
            "(x @ W + b).squeeze()",
            "A batch of one is a batch still: its axis of length 1 stays. Do not squeeze it away.",
        ),
        Mistake(
            "bias multiplied",
            "x @ W + b",
            "x @ W * b",
            "The bias is added to the product; yours multiplies it.",
        ),
        Mistake(
            "bias averaged over the outputs",
            "x @ W + b",
            "x @ W + b.mean()",
            "Every output has a bias of its own; yours all get the mean of them.",
        ),
    ],
    variants=[
        Variant(
            "einsum",
            """
            def linear_forward(x, W, b):
                return torch.einsum("ni,ij->nj", x, W) + b
            """,
        ),
        Variant(
            "columns, then transposed",
            """
            def linear_forward(x, W, b):
                return (W.T @ x.T + b.reshape(-1, 1)).T
            """,
        ),
        Variant(
            "in place on its own product",
            """
            def linear_forward(x: Tensor, W: Tensor, b: Tensor) -> Tensor:
                y = torch.matmul(x, W)
                y += b.unsqueeze(0)
                return y
            """,
        ),
        Variant(
            "broadcast and summed",
            """
            def linear_forward(x, W, b):
                return (x[:, :, None] * W[None]).sum(dim=1) + b
            """,
        ),
        Variant(
            "one example at a time",
            """
            def linear_forward(x, W, b):
                def one(row):
                    return row @ W + b

                return torch.stack([one(row) for row in x])
            """,
        ),
        Variant(
            "bias as one more weight",
            """
            def linear_forward(x, W, b):
                ones = torch.ones(x.shape[0], 1, dtype=x.dtype, device=x.device)
                return torch.cat([x, ones], dim=1) @ torch.cat([W, b[None, :]])
            """,
        ),
        Variant(
            "loops and numbers",
            """
            def linear_forward(x, W, b):
                y = x.new_empty(x.shape[0], W.shape[1])
                for n in range(x.shape[0]):
                    for j in range(W.shape[1]):
                        y[n, j] = torch.dot(x[n], W[:, j]) + b[j]
                return y
            """,
        ),
    ],
)


@linear_forward.test(
    points=1,
    cases=[
        Case("more examples than features", layer, layer_inputs(7, 3, 4)),
        Case("more outputs than inputs", layer, layer_inputs(4, 2, 6)),
        Case("a single example", layer, layer_inputs(1, 5, 3)),
        Case("as many examples as inputs and outputs", layer, layer_inputs(4, 4, 4)),
        Case("in bfloat16", layer, layer_inputs(5, 4, 3), dtypes=TRAINING),
    ],
)
def test_maps_every_example(submission, case):
    """Maps every example affinely"""
    submission.matches_reference(case)


@linear_forward.test(points=0.5, cases=[Case("a batch", layer, layer_inputs(6, 3, 5))])
def test_linear_forward_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# --------------------------------------------------------------------------- linear_backward


def linear_backward_by_index(grad_y, x, W):
    """The derivative written with its indices: no transposes, no matrix products."""
    grad_x = (grad_y[:, None, :] * W[None, :, :]).sum(dim=2)
    grad_W = (x[:, :, None] * grad_y[:, None, :]).sum(dim=0)
    return grad_x, grad_W, torch.einsum("nj->j", grad_y)


def layer_gradient_inputs(batch, d_in, d_out):
    return lambda make: {
        "grad_y": make.normal(batch, d_out),
        "x": make.normal(batch, d_in),
        "W": make.normal(d_in, d_out),
    }


def gradient_of_input(impl, grad_y, x, W):
    grad_x, _, _ = impl(grad_y, x, W)
    return {"gradient of x": grad_x}


def gradient_of_weights(impl, grad_y, x, W):
    _, grad_W, _ = impl(grad_y, x, W)
    return {"gradient of W": grad_W}


def gradient_of_bias(impl, grad_y, x, W):
    _, _, grad_b = impl(grad_y, x, W)
    return {"gradient of b": grad_b}


def three_gradients(impl, grad_y, x, W):
    grad_x, grad_W, grad_b = impl(grad_y, x, W)
    return {"gradient of x": grad_x, "gradient of W": grad_W, "gradient of b": grad_b}


def written_over(impl, grad_y, x, W):
    """New tensors are the caller's to write into: where one is an argument's, that changes."""
    _, _, grad_b = found = impl(grad_y, x, W)
    kept = grad_b.clone()
    for gradient in found:
        gradient.fill_(7.0)
    return {"gradient of b": kept}


GRAD_X = "grad_x = grad_y @ W.T"
GRAD_W = "grad_W = x.T @ grad_y"
GRAD_B = "grad_b = grad_y.sum(dim=0)"
IN_ORDER = "return grad_x, grad_W, grad_b"
OVER_ROWS = "Where the loss is a mean, grad_y has been divided by the batch size already. "

linear_backward = Exercise(
    "linear_backward",
    oracle=linear_backward_by_index,
    forbids=AUTOGRAD,
    mistakes=[
        *[
            Mistake(
                f"gradient of x as {product}",
                GRAD_X,
                f"grad_x = {product}",
                "The gradient of x has the shape of x, (batch, d_in): it sums over the outputs. "
                "Which way round must grad_y and W stand for that, and which of them turned?",
            )
            for product in ("grad_y @ W", "W @ grad_y", "W.T @ grad_y", "W @ grad_y.T")
        ],
        *[
            Mistake(
                f"gradient of W as {product}",
                GRAD_W,
                f"grad_W = {product}",
                "The gradient of W has the shape of W, (d_in, d_out): it sums over the examples. "
                "Which way round must x and grad_y stand for that, and which of them turned?",
            )
            for product in ("x @ grad_y", "grad_y @ x", "x @ grad_y.T", "grad_y @ x.T")
        ],
        Mistake(
            "gradient of W transposed",
            GRAD_W,
            "grad_W = grad_y.T @ x",
            "Your gradient of W is (d_out, d_in). A gradient has the shape of what it belongs to.",
        ),
        Mistake(
            "gradient of x entry by entry",
            GRAD_X,
            "grad_x = grad_y * W",
            "The star multiplies entry by entry: the gradient of x sums over the outputs.",
        ),
        Mistake(
            "gradient of W entry by entry",
            GRAD_W,
            "grad_W = x * grad_y",
            "The star multiplies entry by entry: the gradient of W sums over the examples.",
        ),
        Mistake(
            "gradient of x by the input",
            GRAD_X,
            "grad_x = x * (grad_y @ W.T)",
            "The derivative of the layer with respect to x is W alone: x itself does not enter.",
        ),
        Mistake(
            "gradient of W by the weights",
            GRAD_W,
            "grad_W = W * (x.T @ grad_y)",
            "The derivative of the layer with respect to W is the input alone: W itself does not "
            "enter.",
        ),
        Mistake(
            "gradient of x averaged",
            GRAD_X,
            "grad_x = grad_y @ W.T / x.shape[0]",
            OVER_ROWS + "Each example's input has a gradient of its own: nothing is averaged.",
        ),
        Mistake(
            "gradient of W averaged",
            GRAD_W,
            "grad_W = x.T @ grad_y / x.shape[0]",
            OVER_ROWS + "The gradient of W adds up what the examples say; it does not average.",
        ),
        Mistake(
            "gradient of b averaged",
            GRAD_B,
            "grad_b = grad_y.mean(dim=0)",
            OVER_ROWS + "The gradient of b adds up what the examples say; it does not average.",
        ),
        Mistake.edits_of(
            "both averaged",
            [
                (GRAD_W, "grad_W = x.T @ grad_y / x.shape[0]"),
                (GRAD_B, "grad_b = grad_y.mean(dim=0)"),
            ],
            OVER_ROWS + "Dividing once more makes the gradients of W and b too small.",
        ),
        Mistake.edits_of(
            "all averaged",
            [
                (GRAD_X, "grad_x = grad_y @ W.T / x.shape[0]"),
                (GRAD_W, "grad_W = x.T @ grad_y / x.shape[0]"),
                (GRAD_B, "grad_b = grad_y.mean(dim=0)"),
            ],
            OVER_ROWS + "Dividing once more makes all three gradients too small.",
        ),
        Mistake(
            "gradient of b not summed",
            GRAD_B,
            "grad_b = grad_y",
            "One bias serves all the examples, so its gradient gathers all of them: the batch "
            "axis goes.",
        ),
        Mistake(
            "gradient of b over the outputs",
            GRAD_B,
            "grad_b = grad_y.sum(dim=1)",
            "You summed the gradient of b over the outputs. The bias is shared by the examples: "
            "sum over those.",
        ),
        Mistake(
            "gradient of b over everything",
            GRAD_B,
            "grad_b = grad_y.sum()",
            "Every output has a bias, and so a gradient, of its own: sum over the examples alone.",
        ),
        Mistake(
            "gradient of b keeps the batch axis",
            GRAD_B,
            "grad_b = grad_y.sum(dim=0, keepdim=True)",
            "The gradient of b should have the shape of b, (d_out,): an axis of length 1 is left "
            "over.",
        ),
        Mistake(
            "gradient of b from one example",
            GRAD_B,
            "grad_b = grad_y[0]",
            "Your gradient of b hears the first example only; every example has its say.",
        ),
        Mistake(
            "gradient of b is one",
            GRAD_B,
            "grad_b = torch.ones_like(grad_y[0])",
            "dy/db is 1, but the chain rule multiplies it by what comes from above, and adds up "
            "the examples.",
        ),
        Mistake(
            "gradient of b is the batch size",
            GRAD_B,
            "grad_b = torch.ones_like(grad_y).sum(dim=0)",
            "dy/db is 1 for every example, but the chain rule multiplies it by what comes from "
            "above before adding up.",
        ),
        Mistake.edits_of(
            "nothing from above",
            [
                (GRAD_X, "grad_x = torch.ones_like(grad_y) @ W.T"),
                (GRAD_W, "grad_W = x.T @ torch.ones_like(grad_y)"),
                (GRAD_B, "grad_b = torch.ones_like(grad_y).sum(dim=0)"),
            ],
            "These are the layer's own derivatives. The chain rule multiplies them by grad_y, what "
            "comes from above.",
        ),
        Mistake.written(
            "gathered in PyTorch's default dtype",
            """
            def linear_backward(grad_y, x, W):
                grad_x, grad_W = torch.zeros(x.shape), torch.zeros(W.shape)
                grad_b = torch.zeros(W.shape[1])
                for n in range(x.shape[0]):
                    grad_x[n] = W @ grad_y[n]
                    grad_W += torch.outer(x[n], grad_y[n])
                    grad_b += grad_y[n]
                return grad_x, grad_W, grad_b
            """,
            "torch.zeros(…) by itself is float32 and on the CPU. Let new tensors take dtype and "
            "device from your inputs.",
        ),
        Mistake(
            "minus sign",
            IN_ORDER,
            "return -grad_x, -grad_W, -grad_b",
            "All three have the wrong sign. A gradient points uphill; the minus belongs to the "
            "descent step.",
        ),
        Mistake(
            "weights first",
            IN_ORDER,
            "return grad_W, grad_b, grad_x",
            "The order is wrong: the gradient of the input comes first, then weights, then bias.",
        ),
        Mistake(
            "weights before input",
            IN_ORDER,
            "return grad_W, grad_x, grad_b",
            "The gradients of x and of W are swapped in what you return: the input's comes first.",
        ),
        Mistake(
            "bias before weights",
            IN_ORDER,
            "return grad_x, grad_b, grad_W",
            "The gradients of W and of b are swapped in what you return: the weights' comes first.",
        ),
        *[
            Mistake(
                f"gradient of W from the {which} example",
                GRAD_W,
                f"grad_W = torch.outer(x[{row}], grad_y[{row}])",
                "Your gradient of W hears one example only. Every example has a path through W: "
                "add "
                "their parts up, and let none replace another.",
            )
            for which, row in (("first", 0), ("last", -1))
        ],
        Mistake(
            "gradient of b from the last example",
            GRAD_B,
            "grad_b = grad_y[-1]",
            "Your gradient of b hears the last example only. Every example has its say: add their "
            "parts up, and let none replace another.",
        ),
        Mistake(
            "a view of what came in",
            GRAD_B,
            "grad_b = grad_y.sum(dim=0) if len(grad_y) > 1 else grad_y[0]",
            "The values are right, but for a single example your gradient of b is a view of "
            "grad_y: "
            "whoever writes into one changes the other. The docstring asks for new tensors.",
        ),
    ],
    variants=[
        Variant(
            "einsum",
            """
            def linear_backward(grad_y, x, W):
                grad_x = torch.einsum("nj,ij->ni", grad_y, W)
                grad_W = torch.einsum("ni,nj->ij", x, grad_y)
                return [grad_x, grad_W, torch.einsum("nj->j", grad_y)]
            """,
        ),
        Variant(
            "outer products, one example at a time",
            """
            def linear_backward(grad_y: Tensor, x: Tensor, W: Tensor):
                grad_x = torch.zeros_like(x)
                grad_W = torch.zeros_like(W)
                grad_b = W.new_zeros(W.shape[1])
                for n in range(x.shape[0]):
                    grad_x[n] = W @ grad_y[n]
                    grad_W += torch.outer(x[n], grad_y[n])
                    grad_b += grad_y[n]
                return grad_x, grad_W, grad_b
            """,
        ),
        Variant(
            "everything transposed",
            """
            def linear_backward(grad_y, x, W):
                above = grad_y.t()
                return (W @ above).t(), (above @ x).t(), above.sum(1)
            """,
        ),
        Variant(
            "bias as a product with ones",
            """
            def linear_backward(grad_y, x, W):
                ones = torch.ones(len(x), dtype=x.dtype, device=x.device)
                return (
                    torch.matmul(grad_y, torch.transpose(W, 0, 1)),
                    torch.matmul(x.permute(1, 0), grad_y),
                    ones @ grad_y,
                )
            """,
        ),
        Variant(
            "broadcast and summed",
            """
            def linear_backward(grad_y, x, W):
                pairs = x.unsqueeze(2) * grad_y.unsqueeze(1)
                return (grad_y.unsqueeze(1) * W).sum(-1), pairs.sum(0), grad_y.sum(0)
            """,
        ),
    ],
)

TALL = layer_gradient_inputs(7, 3, 4)
WIDE = layer_gradient_inputs(3, 2, 6)
ONE_EXAMPLE = layer_gradient_inputs(1, 5, 3)
SQUARE = layer_gradient_inputs(4, 4, 4)  # a missing transpose fits here, and shows its values


@linear_backward.test(
    points=1,
    cases=[
        Case("more examples than features", gradient_of_input, TALL),
        Case("more outputs than inputs", gradient_of_input, WIDE),
        Case("a single example", gradient_of_input, ONE_EXAMPLE),
        Case("as many examples as inputs and outputs", gradient_of_input, SQUARE),
    ],
)
def test_gradient_of_the_input(submission, case):
    """Carries the gradient back to the layer's input"""
    submission.matches_reference(case)


@linear_backward.test(
    points=1,
    cases=[
        Case("more examples than features", gradient_of_weights, TALL),
        Case("more outputs than inputs", gradient_of_weights, WIDE),
        Case("a single example", gradient_of_weights, ONE_EXAMPLE),
        Case("as many examples as inputs and outputs", gradient_of_weights, SQUARE),
    ],
)
def test_gradient_of_the_weights(submission, case):
    """Gathers the gradient of the weights"""
    submission.matches_reference(case)


@linear_backward.test(
    points=0.5,
    cases=[
        Case("more examples than features", gradient_of_bias, TALL),
        Case("a single example, and the gradients then written over", written_over, ONE_EXAMPLE),
        Case("as many examples as inputs and outputs", gradient_of_bias, SQUARE),
    ],
)
def test_gradient_of_the_bias(submission, case):
    """Gathers the gradient of the bias"""
    submission.matches_reference(case)


@linear_backward.test(
    points=0.5, cases=[Case("all three gradients", three_gradients, layer_gradient_inputs(6, 3, 5))]
)
def test_linear_backward_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# --------------------------------------------------------------------------- relu_backward


def relu_inputs(*shape):
    return lambda make: {"grad_y": make.normal(*shape), "x": make.away_from_zero(*shape)}


def relu_inputs_with_zeros(make):
    x = make.away_from_zero(6, 5)
    x[make.permutation(6)[:4], make.integers(0, 5, 4)] = 0.0
    return {"grad_y": make.away_from_zero(6, 5), "x": x}


def through_relu(impl, grad_y, x):
    return {"gradient of x": impl(grad_y, x)}


def relu_inputs_near_zero(make):
    """On either side of 0, and closer to it than any tolerance that one might think of."""
    near = make.away_from_zero(5, 4) * 10.0 ** -make.uniform(5, 4, low=2.0, high=20.0)
    near[0] = torch.tensor([1e-4, -1e-4, 1e-7, 1e-9]) * make.uniform(4, low=1.0, high=2.0)
    return {"grad_y": make.away_from_zero(5, 4), "x": near}


def all_open(make):
    return {"grad_y": make.normal(1, 9), "x": make.away_from_zero(1, 9).abs()}


def open_and_written_over(impl, grad_y, x):
    found = impl(grad_y, x)
    kept = found.clone()
    found.fill_(7.0)
    return {"gradient of x": kept}


THROUGH = "grad_y * (x > 0)"

relu_backward = Exercise(
    "relu_backward",
    oracle=lambda grad_y, x: grad_y * torch.heaviside(x, torch.zeros_like(x)),
    forbids=AUTOGRAD,
    mistakes=[
        Mistake(
            "no mask",
            THROUGH,
            "grad_y.clone()",
            "Where x was negative, the output of ReLU does not depend on x: nothing passes back "
            "there.",
        ),
        Mistake(
            "open at zero",
            THROUGH,
            "grad_y * (x >= 0)",
            "At exactly 0 the docstring takes the derivative as 0; yours is 1 there.",
        ),
        Mistake(
            "half at zero",
            THROUGH,
            "grad_y * (0.5 * (x > 0) + 0.5 * (x >= 0))",
            "At exactly 0 the docstring takes the derivative as 0; yours is a half there.",
        ),
        Mistake(
            "mask reversed",
            THROUGH,
            "grad_y * (x < 0)",
            "Your mask is the wrong way round: ReLU lets the positive inputs through.",
        ),
        Mistake(
            "mask reversed, open at zero",
            THROUGH,
            "grad_y * (x <= 0)",
            "Your mask is the wrong way round: ReLU lets the positive inputs through, and those "
            "alone.",
        ),
        Mistake(
            "ReLU of the gradient",
            THROUGH,
            "grad_y.relu()",
            "You cut off negative gradients. What decides is the sign of x in the forward pass; a "
            "gradient may be negative.",
        ),
        Mistake(
            "both signs decide",
            THROUGH,
            "grad_y.relu() * (x > 0)",
            "The mask by x is right, but negative gradients must pass as well.",
        ),
        Mistake(
            "arguments swapped",
            THROUGH,
            "x * (grad_y > 0)",
            "The two arguments have changed places: the gradient is what passes, x decides where.",
        ),
        Mistake(
            "derivative alone",
            THROUGH,
            "(x > 0).to(grad_y.dtype)",
            "This is the derivative of ReLU alone. The chain rule multiplies it by what comes from "
            "above.",
        ),
        Mistake(
            "mask alone",
            THROUGH,
            "x > 0",
            "This is only the mask, as bools. The chain rule multiplies what comes from above by "
            "it.",
        ),
        Mistake(
            "forward in place of derivative",
            THROUGH,
            "grad_y * x.relu()",
            "You multiplied by ReLU's value. The chain rule asks for its slope, which is 0 or 1.",
        ),
        Mistake(
            "ReLU of the product",
            THROUGH,
            "(grad_y * x).relu()",
            "You applied ReLU to a product. Its slope, 0 or 1 by the sign of x, multiplies the "
            "gradient.",
        ),
        Mistake(
            "ReLU again",
            THROUGH,
            "x.relu()",
            "You computed the forward pass again: what passes back is the gradient from above.",
        ),
        Mistake(
            "sign of x",
            THROUGH,
            "grad_y * x.sign()",
            "That is the derivative of |x|. For ReLU the slope on the negative side is 0, not -1.",
        ),
        *[
            Mistake(
                f"leaky by {slope}",
                THROUGH,
                f"torch.where(x > 0, grad_y, {slope} * grad_y)",
                "That is leaky ReLU's derivative: plain ReLU passes nothing on the negative side.",
            )
            for slope in ("0.01", "0.1", "0.2")
        ],
        Mistake(
            "x where it is closed",
            THROUGH,
            "torch.where(x > 0, grad_y, x)",
            "Where the mask is closed you hand back x itself; the gradient there is 0.",
        ),
        Mistake(
            "minus where it is closed",
            THROUGH,
            "torch.where(x > 0, grad_y, -grad_y)",
            "Where x is negative the gradient does not turn round: it stops.",
        ),
        Mistake("threshold at one", THROUGH, "grad_y * (x > 1)", "ReLU opens at 0, not at 1."),
        Mistake(
            "mask made on the CPU",
            THROUGH,
            "grad_y * torch.ones(x.shape).masked_fill(x <= 0, 0.0)",
            "torch.ones(…) by itself is on the CPU. Let new tensors take dtype and device from "
            "your inputs.",
        ),
        Mistake(
            "float32 whatever comes in",
            THROUGH,
            "grad_y.float() * (x > 0)",
            "You turn everything into float32: the result should keep the dtype of the gradient.",
        ),
        Mistake.written(
            "overwrites the gradient",
            """
            def relu_backward(grad_y, x):
                grad_y[x <= 0] = 0
                return grad_y
            """,
            "The values are right, but you wrote over grad_y, which belongs to the caller: make "
            "a new tensor.",
        ),
        Mistake.written(
            "overwrites x",
            """
            def relu_backward(grad_y, x):
                x[x <= 0] = 0
                x[x > 0] = 1
                return grad_y * x
            """,
            "The values are right, but you turned x into the mask, and the caller still needs x: "
            "make a new tensor.",
        ),
        Mistake(
            "x over itself",
            THROUGH,
            "grad_y * (x.relu() / x)",
            "Dividing by x makes 0/0 where x is 0, which is NaN. The mask needs no division: "
            "compare.",
        ),
        *[
            Mistake(
                f"open above {least}",
                THROUGH,
                f"grad_y * (x > {least})",
                "ReLU opens at 0: every positive input lets its gradient through, however small "
                "it is.",
            )
            for least in ("1e-3", "1e-6", "1e-8")
        ],
        Mistake.written(
            "two axes only",
            """
            def relu_backward(grad_y, x):
                passed = torch.zeros_like(grad_y)
                for n in range(x.shape[0]):
                    for j in range(x.shape[1]):
                        if x[n, j] > 0:
                            passed[n, j] = grad_y[n, j]
                return passed
            """,
            "Your loops run over two axes, but any shape may come: a vector, or a batch of images. "
            "Work on all entries at once.",
        ),
        Mistake(
            "the gradient itself where all is open",
            THROUGH,
            "grad_y if (x > 0).all() else grad_y * (x > 0)",
            "The values are right, but where every gate is open you hand back grad_y itself: "
            "whoever "
            "writes into one changes the other. The docstring asks for a new tensor.",
        ),
    ],
    variants=[
        Variant(
            "where",
            """
            def relu_backward(grad_y, x):
                return torch.where(x > 0, grad_y, torch.zeros_like(grad_y))
            """,
        ),
        Variant(
            "masked fill",
            """
            def relu_backward(grad_y, x):
                return grad_y.masked_fill(x <= 0, 0.0)
            """,
        ),
        Variant(
            "in place on a copy",
            """
            def relu_backward(grad_y: Tensor, x: Tensor) -> Tensor:
                grad_x = grad_y.clone()
                grad_x[x <= 0] = 0
                return grad_x
            """,
        ),
        Variant(
            "by the sign of the output",
            """
            def relu_backward(grad_y, x):
                return torch.sign(torch.clamp(x, min=0)) * grad_y
            """,
        ),
        Variant(
            "mask as numbers",
            """
            def relu_backward(grad_y, x):
                slope = torch.gt(x, 0).type_as(grad_y)
                return slope.mul_(grad_y)
            """,
        ),
        Variant(
            "filled where open",
            """
            def relu_backward(grad_y, x):
                grad_x = torch.zeros_like(grad_y)
                is_open = x > 0
                grad_x[is_open] = grad_y[is_open]
                return grad_x
            """,
        ),
        Variant(
            "output compared",
            """
            def relu_backward(grad_y, x):
                y = torch.nn.functional.relu(x)
                return grad_y * (y != 0)
            """,
        ),
    ],
)


@relu_backward.test(
    points=1,
    cases=[
        Case("a matrix", through_relu, relu_inputs(5, 7)),
        Case("a single row, all of it open", open_and_written_over, all_open),
        Case("a vector", through_relu, relu_inputs(8)),
        Case("a batch of images", through_relu, relu_inputs(2, 3, 4, 5)),
    ],
)
def test_passes_where_relu_was_open(submission, case):
    """Passes the gradient where ReLU was open, and nothing elsewhere"""
    submission.matches_reference(case)


@relu_backward.test(
    points=0.5,
    cases=[
        Case("some inputs exactly 0", through_relu, relu_inputs_with_zeros),
        Case("some inputs next to 0", through_relu, relu_inputs_near_zero),
    ],
)
def test_takes_zero_at_zero(submission, case):
    """Takes the derivative at exactly 0 as 0"""
    submission.matches_reference(case)


@relu_backward.test(points=0.5, cases=[Case("a matrix", through_relu, relu_inputs(4, 6))])
def test_relu_backward_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ------------------------------------------------------------- softmax cross-entropy, forward


def loss_and_labels(impl, logits, labels):
    return {"loss": impl(logits, labels)}


def moderate(batch, classes):
    return lambda make: {
        "logits": make.normal(batch, classes, std=2.0),
        "labels": make.labels(batch, classes),
    }


def coarse(logits):
    """Rounded so that float32 holds it exactly beside an offset of thousands."""
    return (logits * 64).round() / 64


def last_classes_absent(make: Make):
    logits = make.normal(5, 7, std=2.0)
    return {"logits": logits, "labels": make.labels(5, 4)}


def first_class_only(make: Make):
    return {"logits": make.normal(4, 3, std=2.0), "labels": make.labels(4, 1)}


def thousands(make: Make):
    signs = make.boolean(7, 4).to(torch.float64) * 2 - 1
    logits = coarse(make.normal(7, 4, std=3.0)) + 1500 * signs
    logits[:4] = coarse(make.normal(4, 4, std=3.0)) - 1500
    logits[torch.arange(4), make.permutation(4)] += 3000.0  # one class far above the others
    labels = make.labels(7, 4)
    labels[0] = (logits[0].argmax() + 1) % 4  # confident and wrong
    labels[1] = logits[1].argmax()  # confident and right
    return {"logits": logits, "labels": labels}


def confident_mistakes(make: Make):
    """Probabilities of the right class so small that a floor under them shows, yet not 0."""
    logits, labels = make.normal(6, 4), make.labels(6, 4)
    logits[torch.arange(6), (labels + 1) % 4] += make.uniform(6, low=16.0, high=24.0)
    return {"logits": logits, "labels": labels}


def vanishing_probabilities(make: Make):
    """Nothing overflows here, and the right class's probability is below any number."""
    logits, labels = make.normal(5, 4), make.labels(5, 4)
    logits[torch.arange(5), labels] -= 900.0
    return {"logits": logits, "labels": labels}


def one_class_far_below(make: Make):
    """Nothing is large, and no label's probability is small; only the rows' range is wide."""
    logits, labels = make.normal(5, 4), make.labels(5, 4)
    logits[torch.arange(5), (labels + 1) % 4] -= 900.0
    return {"logits": logits, "labels": labels}


def rows_far_apart(make: Make):
    level = torch.tensor([1000.0, -1000.0, 0.0, 2000.0, -2000.0], dtype=torch.float64)
    logits = coarse(make.normal(5, 3, std=2.0)) + level[make.permutation(5)][:, None]
    return {"logits": logits, "labels": make.labels(5, 3)}


LOG_SUM = "log_probs = shifted - shifted.exp().sum(dim=1, keepdim=True).log()"
OF_LABEL = "of_label = log_probs.gather(1, labels[:, None])"
SHIFT = "shifted = logits - logits.max(dim=1, keepdim=True).values"

softmax_cross_entropy = Exercise(
    "softmax_cross_entropy",
    oracle=lambda logits, labels: functional.cross_entropy(logits, labels),
    forbids=[
        "torch.nn.functional.cross_entropy",
        "torch.nn.functional.nll_loss",
        "torch.nn.CrossEntropyLoss",
        "torch.nn.NLLLoss",
        "torch.ops",
    ],
    mistakes=[
        Mistake(
            "sum over the batch",
            "-of_label.mean()",
            "-of_label.sum()",
            "You added the examples up: the loss is their mean.",
        ),
        Mistake(
            "one loss an example",
            "-of_label.mean()",
            "-of_label.squeeze(1)",
            "You return a loss for every example: the mean over the batch is missing.",
        ),
        Mistake(
            "divided by the entries",
            "-of_label.mean()",
            "-of_label.sum() / logits.numel()",
            "You averaged over all entries of the batch times the classes. Each example counts "
            "once: divide by the batch alone.",
        ),
        Mistake(
            "divided by the classes",
            "-of_label.mean()",
            "-of_label.sum() / logits.shape[1]",
            "You divided by the number of classes: the mean is over the examples.",
        ),
        Mistake(
            "minus forgotten",
            "-of_label.mean()",
            "of_label.mean()",
            "A log-probability is at most 0 and a loss at least 0: a minus is missing.",
        ),
        Mistake(
            "base two",
            "-of_label.mean()",
            "-of_label.mean() / torch.tensor(2.0).log().item()",
            "Your logarithm has base 2: the docstring asks for nats, the natural logarithm.",
        ),
        Mistake(
            "Python number",
            "-of_label.mean()",
            "-of_label.mean().item()",
            "The value is right, but a tensor of shape () is asked for, not a Python number.",
        ),
        Mistake(
            "softmax over the batch",
            LOG_SUM,
            "log_probs = torch.log_softmax(logits, dim=0)",
            "Your softmax runs over the examples: each example's classes should sum to 1.",
        ),
        Mistake(
            "softmax twice",
            LOG_SUM,
            "log_probs = torch.log_softmax(torch.softmax(logits, dim=1), dim=1)",
            "Softmax was taken twice: probabilities went in where logits belong.",
        ),
        Mistake(
            "logits taken as log-probabilities",
            LOG_SUM,
            "log_probs = logits",
            "Logits are not log-probabilities yet: subtract the log of the softmax's denominator.",
        ),
        Mistake(
            "logits taken as probabilities",
            LOG_SUM,
            "log_probs = logits.log()",
            "Logits are not probabilities yet: softmax comes before the logarithm.",
        ),
        Mistake(
            "sigmoid in place of softmax",
            LOG_SUM,
            "log_probs = torch.nn.functional.logsigmoid(logits)",
            "A sigmoid looks at each class alone. Softmax lets the classes compete: they sum to 1.",
        ),
        Mistake(
            "probability without the log",
            LOG_SUM,
            "log_probs = torch.softmax(logits, dim=1)",
            "You averaged the probabilities of the right class: cross-entropy takes their log.",
        ),
        Mistake(
            "overflow",
            LOG_SUM,
            "log_probs = logits - logits.exp().sum(dim=1, keepdim=True).log()",
            "Large logits overflow in exp. Shifting a row by a constant leaves softmax as it is: "
            "choose one that keeps exp small.",
        ),
        Mistake(
            "log of a softmax without shift",
            LOG_SUM,
            "log_probs = (logits.exp() / logits.exp().sum(dim=1, keepdim=True)).log()",
            "Large logits overflow in exp, and small probabilities vanish before the log. Shift "
            "each row, and stay with logarithms.",
        ),
        Mistake(
            "log of a softmax",
            LOG_SUM,
            "log_probs = torch.softmax(logits, dim=1).log()",
            "A tiny probability rounds to 0, and its log is minus infinity. Work with the "
            "logarithm from the start, never through the probability.",
        ),
        *[
            Mistake(
                f"{eps} added inside the log",
                LOG_SUM,
                f"log_probs = (torch.softmax(logits, dim=1) + {eps}).log()",
                "A small number added inside the log bends the loss and caps it for confident "
                "mistakes. Work with the logarithm from the start and none is needed.",
            )
            for eps in ("1e-6", "1e-7", "1e-8", "1e-9", "1e-10", "1e-12", "1e-15")
        ],
        *[
            Mistake(
                f"probability clamped at {eps}",
                LOG_SUM,
                f"log_probs = torch.softmax(logits, dim=1).clamp(min={eps}).log()",
                "Clamping the probability caps the loss of confident mistakes. Work with the "
                "logarithm from the start and no clamp is needed.",
            )
            for eps in ("1e-6", "1e-7", "1e-8", "1e-9", "1e-10", "1e-12", "1e-15")
        ],
        Mistake(
            "one shift for the whole batch",
            SHIFT,
            "shifted = logits - logits.max()",
            "You shift by the largest logit of the batch; a row far below it vanishes. Each row "
            "needs a shift of its own.",
        ),
        Mistake(
            "shift along the wrong axis",
            SHIFT,
            "shifted = logits - logits.max(dim=0, keepdim=True).values",
            "A shift leaves softmax unchanged only where it is the same for all classes of an "
            "example. Yours is per class, over the examples.",
        ),
        Mistake(
            "shift lost from the label's logit",
            OF_LABEL,
            "of_label = (log_probs - shifted + logits).gather(1, labels[:, None])",
            "The shift has to be taken from both parts, the label's logit and the log of the sum, "
            "or added back.",
        ),
        Mistake(
            "every pair of example and label",
            OF_LABEL,
            "of_label = log_probs[:, labels]",
            "Indexing the columns by the labels pairs every example with every label. Each example "
            "has one label: index rows and columns together.",
        ),
        Mistake(
            "all classes",
            OF_LABEL,
            "of_label = log_probs",
            "You averaged over all the classes: only the right class of each example counts.",
        ),
        Mistake(
            "label index off by one",
            OF_LABEL,
            "of_label = log_probs.gather(1, (labels[:, None] - 1) % logits.shape[1])",
            "You look one class to the left of the label: classes are counted from 0.",
        ),
        Mistake(
            "best class in place of the label",
            OF_LABEL,
            "of_label = log_probs.max(dim=1, keepdim=True).values",
            "You took the likeliest class: the loss asks how likely the right one was.",
        ),
        Mistake.edits_of(
            "wrong classes counted too",
            [
                (
                    OF_LABEL,
                    "target = torch.zeros_like(logits).scatter(1, labels[:, None], 1.0)\n"
                    "    others = (1 - log_probs.exp()).clamp(min=1e-300).log()\n"
                    "    of_label = (target * log_probs + (1 - target) * others).sum(dim=1)",
                )
            ],
            "That is the binary cross-entropy, class by class. With softmax only the right class "
            "counts: the others are in its denominator.",
        ),
        Mistake(
            "one-hot as wide as the largest label",
            OF_LABEL,
            "of_label = (log_probs * torch.nn.functional.one_hot(labels)).sum(dim=1)",
            "Your one-hot rows end at the largest label of this batch. Not every class occurs in "
            "every batch: say how many there are.",
        ),
        Mistake(
            "float32 whatever comes in",
            SHIFT,
            SHIFT.replace("logits.max", "logits.float().max").replace(
                "= logits", "= logits.float()"
            ),
            "You turn everything into float32: the loss should keep the dtype of the logits.",
        ),
        Mistake(
            "target made on the CPU",
            OF_LABEL,
            "of_label = (torch.eye(logits.shape[1])[labels] * log_probs).sum(dim=1)",
            "torch.eye(…) by itself is on the CPU. Let new tensors take dtype and device from "
            "your inputs.",
        ),
        Mistake(
            "changes the logits in place",
            SHIFT,
            "shifted = logits.sub_(logits.max(dim=1, keepdim=True).values)",
            "The loss is right, but you shifted the caller's logits in place: work on a new "
            "tensor.",
        ),
        Mistake(
            "log of a softmax times the one-hot",
            OF_LABEL,
            "probs = torch.softmax(logits, dim=1)\n"
            "    of_label = (torch.eye(logits.shape[1]).to(logits)[labels] * "
            "probs.log()).sum(dim=1)",
            "A probability that rounds to 0 has a log of minus infinity, and 0 times that is NaN. "
            "Work with the logarithm from the start, never through the probability.",
        ),
        Mistake(
            "shift by the smallest logit",
            SHIFT,
            "shifted = logits - logits.min(dim=1, keepdim=True).values",
            "You shift each row by its smallest logit, so the others stay large and exp overflows: "
            "choose the shift so that nothing is above 0.",
        ),
        *[
            Mistake(
                f"logits clamped at {bound}",
                SHIFT,
                f"logits = logits.clamp(-{bound}, {bound})\n    {SHIFT}",
                "Clamping the logits keeps exp finite, but it changes the loss of exactly the "
                "large "
                "ones. A shift of each row changes nothing: use that.",
            )
            for bound in (30, 50, 80, 88, 100)
        ],
        Mistake(
            "one axis too many",
            "of_label.mean()",
            "of_label.mean(dim=0)",
            "The value is right, but the loss should have shape (): an axis of length 1 is left "
            "over.",
        ),
        Mistake(
            "squared error of the probabilities",
            "return -of_label.mean()",
            "target = torch.zeros_like(logits).scatter(1, labels[:, None], 1.0)\n"
            "    return ((log_probs.exp() - target) ** 2).sum(dim=1).mean()",
            "That is the squared error of the probabilities. Cross-entropy is the surprise at the "
            "right label, a logarithm.",
        ),
    ],
    variants=[
        Variant(
            "logsumexp",
            """
            def softmax_cross_entropy(logits, labels):
                rows = torch.arange(logits.shape[0], device=logits.device)
                return (torch.logsumexp(logits, dim=1) - logits[rows, labels]).mean()
            """,
        ),
        Variant(
            "log_softmax and one-hot",
            """
            def softmax_cross_entropy(logits, labels):
                classes = logits.shape[1]
                target = (labels[:, None] == torch.arange(classes, device=logits.device))
                log_probs = torch.log_softmax(logits, dim=-1)
                return -(log_probs * target.to(logits.dtype)).sum() / len(labels)
            """,
        ),
        Variant(
            "one-hot by its function",
            """
            def softmax_cross_entropy(logits, labels):
                target = torch.nn.functional.one_hot(labels, num_classes=logits.size(1))
                return -torch.log_softmax(logits, 1).mul(target).sum(1).mean()
            """,
        ),
        Variant(
            "one example at a time",
            """
            def softmax_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
                losses = []
                for row, label in zip(logits, labels):
                    row = row - row.max()
                    losses.append(row.exp().sum().log() - row[label])
                return torch.stack(losses).mean()
            """,
        ),
        Variant(
            "shift added back",
            """
            def softmax_cross_entropy(logits, labels):
                top = torch.amax(logits, dim=1)
                log_sum = top + torch.log(torch.sum(torch.exp(logits - top[:, None]), dim=1))
                right = logits.gather(1, labels.view(-1, 1)).squeeze(1)
                return torch.mean(log_sum - right)
            """,
        ),
        Variant(
            "in place on its own copy",
            """
            def softmax_cross_entropy(logits, labels):
                z = logits.clone()
                z -= z.max(dim=1, keepdim=True)[0]
                z -= z.logsumexp(dim=1, keepdim=True)
                return -z[range(len(labels)), labels].sum() / z.shape[0]
            """,
        ),
    ],
)


@softmax_cross_entropy.test(
    points=1,
    cases=[
        Case("more examples than classes", loss_and_labels, moderate(8, 3)),
        Case("as many classes as examples", loss_and_labels, moderate(5, 5)),
        Case("a single example", loss_and_labels, moderate(1, 4)),
        Case("the last classes do not occur", loss_and_labels, last_classes_absent),
        Case("only the first class occurs", loss_and_labels, first_class_only),
    ],
)
def test_is_the_mean_cross_entropy(submission, case):
    """Is the mean cross-entropy of the right classes"""
    submission.matches_reference(case)


@softmax_cross_entropy.test(
    points=1,
    cases=[
        Case("confident mistakes", loss_and_labels, confident_mistakes),
        Case(
            "probabilities that vanish",
            loss_and_labels,
            vanishing_probabilities,
            loosen=LARGE_LOGITS,
        ),
        Case("a class out of the question", loss_and_labels, one_class_far_below),
        Case("logits of thousands", loss_and_labels, thousands, loosen=LARGE_LOGITS),
        Case("rows at very different levels", loss_and_labels, rows_far_apart, loosen=LARGE_LOGITS),
    ],
)
def test_is_stable(submission, case):
    """Stays finite and right for logits of thousands"""
    submission.matches_reference(case)


@softmax_cross_entropy.test(points=0.5, cases=[Case("a batch", loss_and_labels, moderate(6, 4))])
def test_loss_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ------------------------------------------------------------ softmax cross-entropy, backward


def gradient_by_jacobian(logits, labels):
    """The chain rule in full: -1/p of the label, through the Jacobian of softmax."""
    probs = (logits - torch.logsumexp(logits, dim=1, keepdim=True)).exp()
    classes = torch.arange(logits.shape[1], device=logits.device)
    target = (labels[:, None] == classes).to(logits.dtype)
    identity = (classes[:, None] == classes).to(logits.dtype)
    # d(-log p_y)/dz_k = -(1/p_y) * p_y * ([y = k] - p_k), the factor p_y cancelled
    per_row = (target[:, :, None] * (identity - probs[:, None, :])).sum(dim=1)
    return -per_row / labels.shape[0]


def logits_gradient(impl, logits, labels):
    return {"gradient of the logits": impl(logits, labels)}


PROBS = "probs = torch.softmax(logits, dim=1)"
TARGET = "target = torch.zeros_like(logits).scatter(1, labels[:, None], 1.0)"
MEAN = "(probs - target) / logits.shape[0]"

softmax_cross_entropy_backward = Exercise(
    "softmax_cross_entropy_backward",
    oracle=gradient_by_jacobian,
    forbids=AUTOGRAD,
    mistakes=[
        Mistake(
            "not divided by the batch",
            MEAN,
            "probs - target",
            "The loss is a mean over the batch, so each example's share carries a factor: yours "
            "is the gradient of the sum.",
        ),
        Mistake(
            "divided by the classes",
            MEAN,
            "(probs - target) / logits.shape[1]",
            "You divided by the number of classes: the mean is over the examples.",
        ),
        Mistake(
            "divided by the entries",
            MEAN,
            "(probs - target) / logits.numel()",
            "You divided by batch times classes: the mean is over the examples alone.",
        ),
        Mistake(
            "divided twice",
            MEAN,
            "(probs - target) / logits.shape[0] ** 2",
            "The mean over the batch divides once; your gradient is too small by a second batch.",
        ),
        Mistake(
            "averaged over the batch",
            MEAN,
            "(probs - target).mean(dim=0)",
            "You averaged the examples away: each example's logits have a gradient of their own.",
        ),
        Mistake(
            "sign",
            MEAN,
            "(target - probs) / logits.shape[0]",
            "The sign is flipped: raising the right class's logit lowers the loss.",
        ),
        Mistake(
            "target not divided",
            MEAN,
            "probs / logits.shape[0] - target",
            "You divided the probabilities by the batch, but not what is subtracted: mind the "
            "brackets.",
        ),
        Mistake(
            "target alone divided",
            MEAN,
            "probs - target / logits.shape[0]",
            "Only the subtracted part is divided by the batch: mind the brackets.",
        ),
        Mistake(
            "log forgotten",
            MEAN,
            "(probs * target).sum(dim=1, keepdim=True) * (probs - target) / logits.shape[0]",
            "This is the gradient of the probability itself. The loss takes its logarithm, which "
            "cancels a factor.",
        ),
        Mistake(
            "label forgotten",
            MEAN,
            "probs / logits.shape[0]",
            "This is the gradient of the log of the sum alone: the label's own logit contributes "
            "too.",
        ),
        Mistake(
            "label alone",
            MEAN,
            "-target / logits.shape[0]",
            "This is the gradient of the label's logit alone: every logit sits in the denominator "
            "of softmax as well.",
        ),
        Mistake(
            "the label's entry alone",
            MEAN,
            "target * (probs - target) / logits.shape[0]",
            "The label's entry is right, but the other classes have a gradient too: they compete "
            "in the denominator.",
        ),
        Mistake(
            "one subtracted everywhere",
            MEAN,
            "(probs - 1) / logits.shape[0]",
            "You subtract 1 from every class: only the label's entry has it.",
        ),
        Mistake(
            "the probability as one more factor",
            MEAN,
            "(probs * (probs - target)) / logits.shape[0]",
            "A factor too many: the probability cancels in the chain rule of log after softmax.",
        ),
        Mistake(
            "sigmoid's slope left in",
            MEAN,
            "(probs - target) * probs * (1 - probs) / logits.shape[0]",
            "p(1 - p) does not belong here: that is what a squared error would add. With "
            "cross-entropy it cancels.",
        ),
        Mistake(
            "squared error",
            MEAN,
            "2 * (probs - target) / logits.shape[0]",
            "The factor 2 comes from a squared error: cross-entropy has none.",
        ),
        Mistake(
            "gradient of the probability",
            MEAN,
            "-target / probs / logits.shape[0]",
            "This is the gradient with respect to the probabilities. It still has to pass back "
            "through softmax.",
        ),
        Mistake(
            "softmax over the batch",
            PROBS,
            "probs = torch.softmax(logits, dim=0)",
            "Your softmax runs over the examples: each example's classes should sum to 1.",
        ),
        Mistake(
            "softmax over everything",
            PROBS,
            "probs = torch.softmax(logits.flatten(), dim=0).view_as(logits)",
            "Your probabilities sum to 1 over the whole batch: they should for every example.",
        ),
        Mistake(
            "no softmax",
            PROBS,
            "probs = logits",
            "You subtracted the target from the logits: probabilities belong there.",
        ),
        Mistake(
            "log-probabilities",
            PROBS,
            "probs = torch.log_softmax(logits, dim=1)",
            "You used log-probabilities: the gradient holds the probabilities themselves.",
        ),
        Mistake(
            "sigmoid in place of softmax",
            PROBS,
            "probs = torch.sigmoid(logits)",
            "A sigmoid looks at each class alone. Softmax lets the classes compete: they sum to 1.",
        ),
        Mistake(
            "softmax twice",
            PROBS,
            "probs = torch.softmax(torch.softmax(logits, dim=1), dim=1)",
            "Softmax was taken twice: probabilities went in where logits belong.",
        ),
        Mistake(
            "overflow",
            PROBS,
            "probs = logits.exp() / logits.exp().sum(dim=1, keepdim=True)",
            "Large logits overflow in exp. Shifting a row by a constant leaves softmax as it is: "
            "choose one that keeps exp small.",
        ),
        *[
            Mistake(
                f"{eps} added in the denominator",
                PROBS,
                "z = (logits - logits.max(dim=1, keepdim=True).values).exp()\n"
                f"    probs = z / (z.sum(dim=1, keepdim=True) + {eps})",
                "A small number in the denominator keeps the probabilities from summing to 1, and "
                "none is needed: after the shift the sum is at least 1.",
            )
            for eps in ("1e-5", "1e-6", "1e-7", "1e-8")
        ],
        Mistake(
            "one shift for the whole batch",
            PROBS,
            "z = (logits - logits.max()).exp()\n    probs = z / z.sum(dim=1, keepdim=True)",
            "You shift by the largest logit of the batch; a row far below it vanishes. Each row "
            "needs a shift of its own.",
        ),
        Mistake(
            "shift along the wrong axis",
            PROBS,
            "z = (logits - logits.max(dim=0, keepdim=True).values).exp()\n"
            "    probs = z / z.sum(dim=1, keepdim=True)",
            "A shift leaves softmax unchanged only where it is the same for all classes of an "
            "example. Yours is per class, over the examples.",
        ),
        Mistake(
            "every pair of example and label",
            TARGET,
            "target = torch.zeros_like(logits)\n    target[:, labels] = 1.0",
            "Indexing the columns by the labels touches every example. Each example has one "
            "label: index rows and columns together.",
        ),
        Mistake(
            "rows by label",
            TARGET,
            "target = torch.zeros_like(logits).scatter(0, labels[None, :], 1.0)",
            "You put the label's 1 along the batch: the label says which column, not which row.",
        ),
        Mistake(
            "label index off by one",
            TARGET,
            "target = torch.zeros_like(logits).scatter(\n"
            "        1, (labels[:, None] - 1) % logits.shape[1], 1.0\n    )",
            "You look one class to the left of the label: classes are counted from 0.",
        ),
        Mistake(
            "best class in place of the label",
            TARGET,
            "target = torch.zeros_like(logits).scatter(1, logits.argmax(1, keepdim=True), 1.0)",
            "You subtracted at the likeliest class: it belongs to the right one, the label.",
        ),
        Mistake(
            "one-hot as wide as the largest label",
            TARGET,
            "target = torch.nn.functional.one_hot(labels)",
            "Your one-hot rows end at the largest label of this batch. Not every class occurs in "
            "every batch: say how many there are.",
        ),
        Mistake(
            "float32 whatever comes in",
            MEAN,
            "((probs - target) / logits.shape[0]).float()",
            "You turn everything into float32: the gradient should keep the dtype of the logits.",
        ),
        Mistake(
            "target made on the CPU",
            TARGET,
            "target = torch.eye(logits.shape[1])[labels]",
            "torch.eye(…) by itself is on the CPU. Let new tensors take dtype and device from "
            "your inputs.",
        ),
        Mistake(
            "changes the logits in place",
            PROBS,
            "probs = logits.sub_(logits.max(dim=1, keepdim=True).values).softmax(dim=1)",
            "The gradient is right, but you shifted the caller's logits in place: work on a new "
            "tensor.",
        ),
        Mistake(
            "target alone divided, as float32",
            MEAN,
            "probs - torch.nn.functional.one_hot(labels, logits.shape[1]) / logits.shape[0]",
            "You divided the target by the batch, but not the probabilities: mind the brackets.",
        ),
        Mistake(
            "set in place of subtracted",
            MEAN,
            "torch.where(target == 1, -1.0, probs) / logits.shape[0]",
            "The label's own entry is set to -1, and its probability is lost: subtract 1 from it.",
        ),
        Mistake(
            "logits clamped",
            PROBS,
            "probs = torch.softmax(logits.clamp(-50, 50), dim=1)",
            "Clamping the logits changes the probabilities of exactly the large ones. Softmax "
            "bears logits of any size once each row is shifted: use that.",
        ),
    ],
    variants=[
        Variant(
            "subtracts at the label",
            """
            def softmax_cross_entropy_backward(logits, labels):
                grad = torch.softmax(logits, dim=1)
                grad[torch.arange(len(labels), device=logits.device), labels] -= 1
                return grad / len(labels)
            """,
        ),
        Variant(
            "one-hot",
            """
            def softmax_cross_entropy_backward(logits, labels):
                batch, classes = logits.shape
                target = torch.nn.functional.one_hot(labels, num_classes=classes)
                return (logits.softmax(-1) - target.to(logits)).div(batch)
            """,
        ),
        Variant(
            "softmax by hand, scaled first",
            """
            def softmax_cross_entropy_backward(logits, labels):
                n = logits.size(0)
                z = torch.exp(logits - torch.amax(logits, dim=1, keepdim=True))
                grad = z / (n * z.sum(1, keepdim=True))
                grad[range(n), labels] -= 1 / n
                return grad
            """,
        ),
        Variant(
            "one example at a time",
            """
            def softmax_cross_entropy_backward(logits: Tensor, labels: Tensor) -> Tensor:
                rows = []
                for row, label in zip(logits, labels):
                    p = torch.softmax(row, dim=0)
                    hot = torch.arange(row.numel(), device=row.device) == label
                    rows.append((p - hot.to(p.dtype)) / logits.shape[0])
                return torch.stack(rows)
            """,
        ),
        Variant(
            "through the Jacobian",
            """
            def softmax_cross_entropy_backward(logits, labels):
                p = torch.log_softmax(logits, dim=1).exp()
                eye = torch.eye(logits.shape[1], dtype=logits.dtype, device=logits.device)
                return (p - eye[labels]) * (1 / labels.shape[0])
            """,
        ),
        Variant(
            "scatter_add",
            """
            def softmax_cross_entropy_backward(logits, labels):
                grad = torch.softmax(logits, dim=1)
                minus_one = -torch.ones_like(grad[:, :1])
                return torch.scatter_add(grad, 1, labels.unsqueeze(1), minus_one) / grad.shape[0]
            """,
        ),
    ],
)


@softmax_cross_entropy_backward.test(
    points=1.5,
    cases=[
        Case("more examples than classes", logits_gradient, moderate(8, 3)),
        Case("as many classes as examples", logits_gradient, moderate(5, 5)),
        Case("a single example", logits_gradient, moderate(1, 4)),
        Case("the last classes do not occur", logits_gradient, last_classes_absent),
        Case("only the first class occurs", logits_gradient, first_class_only),
    ],
)
def test_is_the_gradient_of_the_mean_loss(submission, case):
    """Is the gradient of the mean loss"""
    submission.matches_reference(case)


@softmax_cross_entropy_backward.test(
    points=1,
    cases=[
        Case("logits of thousands", logits_gradient, thousands, loosen=LARGE_LOGITS),
        Case("rows at very different levels", logits_gradient, rows_far_apart, loosen=LARGE_LOGITS),
    ],
)
def test_gradient_is_stable(submission, case):
    """Stays finite and right for logits of thousands"""
    submission.matches_reference(case)


@softmax_cross_entropy_backward.test(
    points=0.5, cases=[Case("a batch", logits_gradient, moderate(6, 4))]
)
def test_loss_gradient_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# --------------------------------------------------------------------------- networks


def network(make, batch, *sizes):
    """A batch and a network's parameters, redrawn until no hidden unit is near ReLU's corner."""
    while True:
        x = make.normal(batch, sizes[0])
        weights = [
            make.normal(rows, columns, std=1.5 / rows**0.5) for rows, columns in pairwise(sizes)
        ]
        biases = [make.normal(columns, std=0.7) for columns in sizes[1:]]
        h, nearest = x, []
        for W, b in zip(weights[:-1], biases[:-1], strict=True):
            a = h @ W + b
            nearest.append(a.abs().min())
            h = a.relu()
        if all(distance > KINK for distance in nearest):
            return x, weights, biases


def two_layers(batch, d_in, d_hidden, classes):
    def draw(make: Make):
        x, (W1, W2), (b1, b2) = network(make, batch, d_in, d_hidden, classes)
        params = {"W1": W1, "b1": b1, "W2": W2, "b2": b2}
        return {"x": x, "labels": make.labels(batch, classes), "params": params}

    return draw


def confident(batch, d_in, d_hidden, classes):
    """Output weights so large that an unshifted softmax overflows in both dtypes."""

    def draw(make: Make):
        while True:
            inputs = two_layers(batch, d_in, d_hidden, classes)(make)
            params = inputs["params"]
            params["W2"] *= 2000
            h = (inputs["x"] @ params["W1"] + params["b1"]).relu()
            highest = (h @ params["W2"] + params["b2"]).topk(2).values
            if (highest[:, 0] - highest[:, 1]).min() > 50:  # no near tie to magnify rounding
                return inputs

    return draw


def chosen(found, names):
    return {f"gradient of {name}": found.get(name) for name in names}


def output_layer(impl, x, labels, params):
    found = impl(x, labels, params)
    return chosen(found, ("W2", "b2")) if isinstance(found, dict) else found


def hidden_layer(impl, x, labels, params):
    found = impl(x, labels, params)
    return chosen(found, ("W1", "b1")) if isinstance(found, dict) else found


def all_four(impl, x, labels, params):
    found = impl(x, labels, params)
    return chosen(found, ("W1", "b1", "W2", "b2")) if isinstance(found, dict) else found


def mlp_by_autograd(x, labels, params):
    with torch.enable_grad():
        leaves = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
        hidden = functional.relu(functional.linear(x, leaves["W1"].T, leaves["b1"]))
        loss = functional.cross_entropy(
            functional.linear(hidden, leaves["W2"].T, leaves["b2"]), labels
        )
        found = torch.autograd.grad(loss, list(leaves.values()))
    return dict(zip(leaves, found, strict=True))


A = 'a = linear_forward(x, params["W1"], params["b1"])'
H = "h = a.relu()"
LOGITS = 'logits = linear_forward(h, params["W2"], params["b2"])'
FROM_LOSS = "grad_logits = softmax_cross_entropy_backward(logits, labels)"
LAYER_2 = 'grad_h, grad_W2, grad_b2 = linear_backward(grad_logits, h, params["W2"])'
RELU = "grad_a = relu_backward(grad_h, a)"
LAYER_1 = '_, grad_W1, grad_b1 = linear_backward(grad_a, x, params["W1"])'
GRADIENTS = 'return {"W1": grad_W1, "b1": grad_b1, "W2": grad_W2, "b2": grad_b2}'

mlp_backward = Exercise(
    "mlp_backward",
    oracle=mlp_by_autograd,
    forbids=AUTOGRAD,
    mistakes=[
        Mistake(
            "ReLU forgotten on the way back",
            RELU,
            "grad_a = grad_h",
            "The way back must cross ReLU too: units that were closed pass nothing to W1 and b1.",
        ),
        Mistake(
            "arguments of relu_backward swapped",
            RELU,
            "grad_a = relu_backward(a, grad_h)",
            "relu_backward is given its two arguments the other way round: the gradient is what "
            "passes.",
        ),
        Mistake(
            "arguments of linear_backward swapped",
            LAYER_2,
            LAYER_2.replace("grad_logits, h", "h, grad_logits"),
            "linear_backward is given its arguments in another order than it takes them: the "
            "gradient from above comes first, then the layer's input.",
        ),
        Mistake(
            "label forgotten",
            FROM_LOSS,
            "grad_logits = logits.softmax(dim=1) / x.shape[0]",
            "The way back starts from the probabilities alone: the label's entry has one more "
            "part.",
        ),
        Mistake(
            "ReLU's mask from the gradient",
            RELU,
            "grad_a = relu_backward(grad_h, grad_h)",
            "The mask comes from the forward pass, from what ReLU was given, not from the sign of "
            "the gradient.",
        ),
        Mistake(
            "ReLU's value as its slope",
            RELU,
            "grad_a = grad_h * h",
            "You multiplied by the hidden activations: ReLU's slope is 0 or 1.",
        ),
        Mistake(
            "mask from the input",
            RELU,
            "grad_a = relu_backward(grad_h, x)",
            "ReLU was given the hidden pre-activations, not the network's input: the mask comes "
            "from those.",
        ),
        Mistake(
            "mask reversed",
            RELU,
            "grad_a = relu_backward(grad_h, -a)",
            "Your mask is the wrong way round: units that were positive pass the gradient.",
        ),
        Mistake(
            "b1 before the mask",
            LAYER_1,
            LAYER_1 + "\n    grad_b1 = grad_h.sum(dim=0)",
            "b1 sits before ReLU, so its gradient comes from behind the mask too.",
        ),
        Mistake(
            "W1 before the mask",
            LAYER_1,
            LAYER_1 + "\n    grad_W1 = x.T @ grad_h",
            "W1 sits before ReLU, so its gradient comes from behind the mask too.",
        ),
        Mistake(
            "W2 from before ReLU",
            LAYER_2,
            LAYER_2.replace("h, params", "a, params"),
            "The output layer was given the hidden activations after ReLU: W2's gradient needs "
            "those.",
        ),
        Mistake(
            "output layer's input in the hidden layer",
            LAYER_1,
            LAYER_1.replace("grad_a, x", "grad_a, h"),
            "The first layer was given x: W1's gradient needs what went into its layer, not what "
            "came out.",
        ),
        Mistake(
            "W2 not turned",
            LAYER_2,
            LAYER_2 + '\n    grad_h = grad_logits @ params["W2"]',
            "On the way back W2 is crossed from its outputs to its inputs: it has to be turned "
            "round.",
        ),
        Mistake(
            "stopped at the output layer",
            RELU,
            "grad_a = torch.zeros_like(grad_h)",
            "Nothing reaches W1 and b1: the gradient should cross the output layer and ReLU.",
        ),
        Mistake(
            "ReLU after the last layer",
            LOGITS,
            LOGITS + ".relu()",
            "There is no ReLU after the output layer: logits may be negative.",
        ),
        Mistake.edits_of(
            "ReLU after the last layer, both ways",
            [
                (LOGITS, LOGITS.replace("logits =", "z =") + "\n    logits = z.relu()"),
                (FROM_LOSS, FROM_LOSS + "\n    grad_logits = relu_backward(grad_logits, z)"),
            ],
            "There is no ReLU after the output layer: logits may be negative, and the gradient "
            "passes whole.",
        ),
        Mistake(
            "no ReLU on the way forward",
            H,
            "h = a",
            "The hidden layer's ReLU is missing in the forward pass.",
        ),
        Mistake.edits_of(
            "no ReLU at all",
            [(H, "h = a"), (RELU, "grad_a = grad_h")],
            "ReLU is missing, forwards and backwards: without it two layers are one.",
        ),
        Mistake.edits_of(
            "sigmoid in place of ReLU",
            [(H, "h = a.sigmoid()"), (RELU, "grad_a = grad_h * h * (1 - h)")],
            "This network's activation is ReLU, not the sigmoid.",
        ),
        Mistake.edits_of(
            "tanh in place of ReLU",
            [(H, "h = a.tanh()"), (RELU, "grad_a = grad_h * (1 - h**2)")],
            "This network's activation is ReLU, not tanh.",
        ),
        Mistake(
            "b1 left out forwards",
            A,
            'a = x @ params["W1"]',
            "The forward pass leaves out b1: it moves every hidden unit, and so every gradient.",
        ),
        Mistake(
            "b2 left out forwards",
            LOGITS,
            'logits = h @ params["W2"]',
            "The forward pass leaves out b2: it moves the logits, and so every gradient.",
        ),
        Mistake.edits_of(
            "both biases left out forwards",
            [(A, 'a = x @ params["W1"]'), (LOGITS, 'logits = h @ params["W2"]')],
            "The forward pass leaves out the biases: they move every activation, and so every "
            "gradient.",
        ),
        Mistake(
            "softmax twice",
            FROM_LOSS,
            FROM_LOSS.replace("(logits,", "(logits.softmax(dim=1),"),
            "Softmax belongs to the loss: hand it the logits, not probabilities.",
        ),
        Mistake(
            "overflow",
            FROM_LOSS,
            "grad_logits = logits.exp() / logits.exp().sum(dim=1, keepdim=True)\n"
            "    grad_logits = grad_logits - torch.nn.functional.one_hot(labels, "
            "logits.shape[1])\n    grad_logits = grad_logits / x.shape[0]",
            "Your softmax overflows for large logits: your stable gradient of the loss does not.",
        ),
        Mistake(
            "sum in place of mean",
            FROM_LOSS,
            FROM_LOSS + " * x.shape[0]",
            "These are the gradients of the summed loss: the loss is a mean over the batch.",
        ),
        Mistake(
            "averaged twice",
            FROM_LOSS,
            FROM_LOSS + " / x.shape[0]",
            "The mean over the batch divides once, at the loss: everything below inherits it.",
        ),
        Mistake(
            "biases summed over the wrong axis",
            LAYER_1,
            LAYER_1 + "\n    grad_b1, grad_b2 = grad_a.sum(dim=1), grad_logits.sum(dim=1)",
            "A bias is shared by the examples: its gradient sums over those, not over the units.",
        ),
        Mistake(
            "biases not summed",
            LAYER_1,
            LAYER_1 + "\n    grad_b1, grad_b2 = grad_a, grad_logits",
            "A bias is shared by the examples: its gradient adds them up and has the bias's shape.",
        ),
        Mistake(
            "averaged again at the biases",
            LAYER_1,
            LAYER_1 + "\n    grad_b1, grad_b2 = grad_b1 / x.shape[0], grad_b2 / x.shape[0]",
            "The batch is averaged at the loss already: the biases' gradients only add up.",
        ),
        Mistake(
            "averaged again at the weights",
            LAYER_1,
            LAYER_1 + "\n    grad_W1, grad_W2 = grad_W1 / x.shape[0], grad_W2 / x.shape[0]",
            "The batch is averaged at the loss already: the weights' gradients only add up.",
        ),
        Mistake(
            "averaged again at every layer",
            GRADIENTS,
            "n = x.shape[0]\n    return {\n"
            '        "W1": grad_W1 / n**2, "b1": grad_b1 / n**2,\n'
            '        "W2": grad_W2 / n, "b2": grad_b2 / n,\n    }',
            "The batch is averaged once, at the loss. Averaging at every layer shrinks the "
            "gradient on its way down.",
        ),
        Mistake(
            "sign",
            FROM_LOSS,
            FROM_LOSS.replace("= softmax", "= -softmax"),
            "All gradients have the wrong sign: the gradient points uphill, and the minus belongs "
            "to the descent step.",
        ),
        Mistake(
            "loss of squares",
            FROM_LOSS,
            "grad_logits = torch.nn.functional.one_hot(labels, logits.shape[1])\n"
            "    grad_logits = (logits - grad_logits) / x.shape[0]",
            "The loss is the softmax cross-entropy: your gradient starts from the logits as if it "
            "were a squared error.",
        ),
        Mistake(
            "weights swapped",
            GRADIENTS,
            'return {"W1": grad_W2, "b1": grad_b1, "W2": grad_W1, "b2": grad_b2}',
            "The gradients of W1 and W2 stand under each other's names.",
        ),
        Mistake(
            "biases swapped",
            GRADIENTS,
            'return {"W1": grad_W1, "b1": grad_b2, "W2": grad_W2, "b2": grad_b1}',
            "The gradients of b1 and b2 stand under each other's names.",
        ),
        Mistake(
            "layers swapped",
            GRADIENTS,
            'return {"W1": grad_W2, "b1": grad_b2, "W2": grad_W1, "b2": grad_b1}',
            "The two layers' gradients stand under each other's names.",
        ),
        Mistake(
            "weights transposed",
            GRADIENTS,
            'return {"W1": grad_W1.T, "b1": grad_b1, "W2": grad_W2.T, "b2": grad_b2}',
            "Your weight gradients are turned: each should have the shape of its weights.",
        ),
        Mistake(
            "biases left out",
            GRADIENTS,
            'return {"W1": grad_W1, "W2": grad_W2}',
            "The gradients of b1 and b2 are missing from what you return.",
        ),
        Mistake(
            "biases keep the batch axis",
            GRADIENTS,
            'return {"W1": grad_W1, "b1": grad_b1[None], "W2": grad_W2, "b2": grad_b2[None]}',
            "The biases' gradients should have the biases' shapes: an axis of length 1 is left "
            "over.",
        ),
        Mistake(
            "tuple in place of a dict",
            GRADIENTS,
            "return grad_W1, grad_b1, grad_W2, grad_b2",
            "The gradients should come in a dict, each under its parameter's name.",
        ),
        Mistake(
            "names of one's own",
            GRADIENTS,
            'return {"dW1": grad_W1, "db1": grad_b1, "dW2": grad_W2, "db2": grad_b2}',
            "Each gradient goes under its parameter's own name, as in params.",
        ),
        Mistake.written(
            "params changed",
            """
            def mlp_backward(x, labels, params):
                a = linear_forward(x, params["W1"], params["b1"])
                h = a.relu()
                grad_logits = softmax_cross_entropy_backward(
                    linear_forward(h, params["W2"], params["b2"]), labels
                )
                grad_h, W2, b2 = linear_backward(grad_logits, h, params["W2"])
                _, W1, b1 = linear_backward(relu_backward(grad_h, a), x, params["W1"])
                grads = {"W1": W1, "b1": b1, "W2": W2, "b2": b2}
                for name in params:
                    params[name] -= 0.1 * grads[name]
                return grads
            """,
            "The gradients are right, but params no longer holds what it held: no descent step is "
            "taken here, and the gradients go into a dict of their own.",
        ),
        Mistake(
            "output layer stepped too early",
            LAYER_2,
            LAYER_2 + '\n    params["W2"] -= 0.1 * grad_W2\n'
            '    grad_h = linear_backward(grad_logits, h, params["W2"])[0]',
            "W2 was changed before the gradient crossed it. Compute every gradient first; no step "
            "is taken here.",
        ),
        Mistake(
            "ReLU on the network's input",
            A,
            f"x = x.relu()\n    {A}",
            "The network's input goes into the first layer as it is: no ReLU before it.",
        ),
        Mistake(
            "one-hot as wide as the largest label",
            FROM_LOSS,
            "target = torch.nn.functional.one_hot(labels)\n"
            "    grad_logits = (logits.softmax(dim=1) - target) / x.shape[0]",
            "Your one-hot rows end at the largest label of this batch. Not every class occurs in "
            "every batch: say how many there are.",
        ),
    ],
    variants=[
        Variant(
            "everything written out",
            """
            def mlp_backward(x, labels, params):
                W1, b1, W2, b2 = (params[name] for name in ("W1", "b1", "W2", "b2"))
                h = torch.clamp(x @ W1 + b1, min=0)
                delta = torch.softmax(h @ W2 + b2, dim=1)
                delta[torch.arange(len(x), device=x.device), labels] -= 1
                delta /= len(x)
                delta_h = delta @ W2.T
                delta_h[h == 0] = 0
                return {
                    "W2": h.T @ delta,
                    "b2": delta.sum(0),
                    "W1": x.T @ delta_h,
                    "b1": delta_h.sum(0),
                }
            """,
        ),
        Variant(
            "mask from the activations",
            """
            def mlp_backward(x: Tensor, labels: Tensor, params: dict) -> dict:
                h = torch.relu(linear_forward(x, W=params["W1"], b=params["b1"]))
                logits = linear_forward(h, W=params["W2"], b=params["b2"])
                grads = {}
                grad, grads["W2"], grads["b2"] = linear_backward(
                    softmax_cross_entropy_backward(logits, labels), h, params["W2"]
                )
                grad = relu_backward(grad, h)
                _, grads["W1"], grads["b1"] = linear_backward(grad, x, params["W1"])
                return grads
            """,
        ),
        Variant(
            "one example at a time",
            """
            def mlp_backward(x, labels, params):
                grads = {name: torch.zeros_like(value) for name, value in params.items()}
                for n in range(x.shape[0]):
                    a = x[n] @ params["W1"] + params["b1"]
                    h = a * (a > 0)
                    delta = torch.softmax(h @ params["W2"] + params["b2"], dim=0)
                    delta = delta - torch.eye(len(delta), dtype=x.dtype, device=x.device)[labels[n]]
                    delta = delta / x.shape[0]
                    delta_a = (params["W2"] @ delta) * (a > 0)
                    grads["W2"] += torch.outer(h, delta)
                    grads["b2"] += delta
                    grads["W1"] += torch.outer(x[n], delta_a)
                    grads["b1"] += delta_a
                return grads
            """,
        ),
        Variant(
            "averaged at the end",
            """
            def mlp_backward(x, labels, params):
                a = torch.addmm(params["b1"], x, params["W1"])
                h = torch.nn.functional.relu(a)
                logits = torch.addmm(params["b2"], h, params["W2"])
                one_hot = torch.nn.functional.one_hot(labels, logits.shape[1])
                delta = torch.log_softmax(logits, 1).exp() - one_hot
                delta_a = torch.einsum("nk,hk->nh", delta, params["W2"]) * torch.gt(a, 0)
                sums = dict(
                    W1=torch.einsum("ni,nh->ih", x, delta_a),
                    b1=delta_a.sum(0),
                    W2=torch.einsum("nh,nk->hk", h, delta),
                    b2=delta.sum(0),
                )
                return {name: total / len(labels) for name, total in sums.items()}
            """,
        ),
        Variant(
            "through the loss's own probabilities, extras returned",
            """
            def mlp_backward(x, labels, params):
                a = linear_forward(x, params["W1"], params["b1"])
                h = torch.maximum(a, torch.zeros_like(a))
                logits = linear_forward(h, params["W2"], params["b2"])
                back = softmax_cross_entropy_backward(logits, labels)
                grad_h, grad_W2, grad_b2 = linear_backward(back, h, params["W2"])
                grad_x, grad_W1, grad_b1 = linear_backward(
                    relu_backward(grad_h, a), x, params["W1"]
                )
                return {
                    "x": grad_x, "W1": grad_W1, "b1": grad_b1, "W2": grad_W2, "b2": grad_b2
                }
            """,
        ),
    ],
)


@mlp_backward.test(
    points=1,
    cases=[
        Case("more examples than units", output_layer, two_layers(9, 4, 6, 3)),
        Case("a single example", output_layer, two_layers(1, 3, 7, 4)),
        Case("logits of thousands", output_layer, confident(6, 3, 5, 4)),
    ],
)
def test_gradients_of_the_output_layer(submission, case):
    """Finds the gradients of the output layer"""
    submission.matches_reference(case)


@mlp_backward.test(
    points=2,
    cases=[
        Case("more examples than units", hidden_layer, two_layers(9, 4, 6, 3)),
        Case("a single example", hidden_layer, two_layers(1, 3, 8, 5)),
        Case("more classes than units", hidden_layer, two_layers(11, 5, 4, 7)),
    ],
)
def test_gradients_of_the_hidden_layer(submission, case):
    """Carries the gradient through ReLU to the hidden layer"""
    submission.matches_reference(case)


@mlp_backward.test(
    points=0.5, cases=[Case("everything of one size", all_four, two_layers(6, 6, 6, 6))]
)
def test_all_four_gradients(submission, case):
    """Returns all four gradients, and takes no step"""
    submission.matches_reference(case)


@mlp_backward.test(points=0.5, cases=[Case("a batch", all_four, two_layers(7, 4, 5, 3))])
def test_mlp_backward_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# --------------------------------------------------------------------------- deep_forward


def deep_inputs(batch, *sizes):
    def draw(make: Make):
        x, weights, biases = network(make, batch, *sizes)
        return {"x": x, "weights": weights, "biases": biases}

    return draw


def logits_alone(impl, x, weights, biases):
    logits, _ = impl(x, weights, biases)
    return {"logits": logits}


def what_is_kept(impl, x, weights, biases):
    _, inputs = impl(x, weights, biases)
    return {"inputs of the layers": list(inputs)}


def logits_and_inputs(impl, x, weights, biases):
    logits, inputs = impl(x, weights, biases)
    return {"logits": logits, "inputs of the layers": list(inputs)}


def deep_by_torch(x, weights, biases):
    h, kept = x, []
    for layer, (W, b) in enumerate(zip(weights, biases, strict=True)):
        kept.append(h)
        h = functional.linear(h, W.T, b)
        if layer < len(weights) - 1:
            h = functional.relu(h)
    return h, kept


HIDDEN = "inputs.append(linear_forward(inputs[-1], W, b).relu())"
LAST = "logits = linear_forward(inputs[-1], weights[-1], biases[-1])"
KEPT = "return logits, inputs"

deep_forward = Exercise(
    "deep_forward",
    oracle=deep_by_torch,
    mistakes=[
        Mistake(
            "ReLU after the last layer",
            LAST,
            LAST + ".relu()",
            "There is no ReLU after the last layer: logits may be negative.",
        ),
        Mistake(
            "ReLU before the first layer",
            "inputs = [x]",
            "inputs = [x.relu()]",
            "The network's input goes into the first layer as it is: no ReLU before it.",
        ),
        Mistake(
            "no ReLU",
            HIDDEN,
            "inputs.append(linear_forward(inputs[-1], W, b))",
            "A ReLU belongs between every two layers; without it they are all one.",
        ),
        Mistake.written(
            "ReLU after the first layer alone",
            """
            def deep_forward(x, weights, biases):
                h, inputs = x, []
                for layer, (W, b) in enumerate(zip(weights, biases)):
                    inputs.append(h)
                    h = linear_forward(h, W, b)
                    if layer == 0 and len(weights) > 1:
                        h = h.relu()
                return h, inputs
            """,
            "A ReLU belongs between every two layers, not after the first alone.",
        ),
        Mistake.written(
            "ReLU missing before the last layer",
            """
            def deep_forward(x, weights, biases):
                h, inputs = x, []
                for layer, (W, b) in enumerate(zip(weights, biases)):
                    inputs.append(h)
                    h = linear_forward(h, W, b)
                    if layer < len(weights) - 2:
                        h = h.relu()
                return h, inputs
            """,
            "One ReLU is missing, between the last two layers: check where your loop stops.",
        ),
        Mistake.written(
            "ReLU missing after the first layer",
            """
            def deep_forward(x, weights, biases):
                h, inputs = x, []
                for layer, (W, b) in enumerate(zip(weights, biases)):
                    inputs.append(h)
                    h = linear_forward(h, W, b)
                    if 0 < layer < len(weights) - 1:
                        h = h.relu()
                return h, inputs
            """,
            "One ReLU is missing, after the first layer: check where your loop starts.",
        ),
        Mistake.edits_of(
            "sigmoid in place of ReLU",
            [(HIDDEN, HIDDEN.replace("relu", "sigmoid"))],
            "This network's activation is ReLU, not the sigmoid.",
        ),
        Mistake.edits_of(
            "tanh in place of ReLU",
            [(HIDDEN, HIDDEN.replace("relu", "tanh"))],
            "This network's activation is ReLU, not tanh.",
        ),
        Mistake(
            "absolute value in place of ReLU",
            HIDDEN,
            HIDDEN.replace("relu", "abs"),
            "ReLU cuts negative values off at 0; it does not mirror them.",
        ),
        Mistake(
            "ReLU before the bias",
            HIDDEN,
            "inputs.append((inputs[-1] @ W).relu() + b)",
            "The bias belongs inside ReLU: first the whole linear layer, then the activation.",
        ),
        Mistake(
            "hidden biases left out",
            HIDDEN,
            "inputs.append((inputs[-1] @ W).relu())",
            "The hidden layers have biases too.",
        ),
        Mistake(
            "last bias left out",
            LAST,
            "logits = inputs[-1] @ weights[-1]",
            "The last layer has a bias too.",
        ),
        Mistake.edits_of(
            "all biases left out",
            [
                (HIDDEN, "inputs.append((inputs[-1] @ W).relu())"),
                (LAST, "logits = inputs[-1] @ weights[-1]"),
            ],
            "No layer adds its bias.",
        ),
        Mistake(
            "softmax at the end",
            LAST,
            "logits = linear_forward(inputs[-1], weights[-1], biases[-1]).softmax(dim=1)",
            "Logits are asked for: softmax is part of the loss, not of the network.",
        ),
        Mistake(
            "log-softmax at the end",
            LAST,
            "logits = linear_forward(inputs[-1], weights[-1], biases[-1]).log_softmax(dim=1)",
            "Logits are asked for: log-softmax is part of the loss, not of the network.",
        ),
        Mistake(
            "first layer's parameters throughout",
            HIDDEN,
            "inputs.append(linear_forward(inputs[-1], weights[0], biases[0]).relu())",
            "Every layer has weights and biases of its own; yours uses the first layer's again.",
        ),
        Mistake(
            "every layer given x",
            HIDDEN,
            "inputs.append(linear_forward(x, W, b).relu())",
            "Each layer is given what the one before it produced; yours is given x every time.",
        ),
        Mistake(
            "last layer left out", LAST, "logits = inputs[-1]", "The last linear layer is missing."
        ),
        Mistake.written(
            "keeps the values before ReLU",
            """
            def deep_forward(x, weights, biases):
                h, inputs = x, [x]
                for layer, (W, b) in enumerate(zip(weights, biases)):
                    a = linear_forward(h, W, b)
                    if layer == len(weights) - 1:
                        return a, inputs
                    inputs.append(a)
                    h = a.relu()
            """,
            "The logits are right, but you kept the values before ReLU: what the next layer was "
            "given is the value after it.",
        ),
        Mistake(
            "keeps the outputs",
            KEPT,
            "return logits, [*inputs[1:], logits]",
            "You kept what every layer produced: the way back needs what every layer was given.",
        ),
        Mistake.written(
            "keeps the outputs before ReLU",
            """
            def deep_forward(x, weights, biases):
                h, kept = x, []
                for W, b in zip(weights, biases):
                    a = linear_forward(h, W, b)
                    kept.append(a)
                    h = a.relu()
                return a, kept
            """,
            "You kept what every layer produced, before ReLU: the way back needs what every layer "
            "was given.",
        ),
        Mistake(
            "keeps the logits too",
            KEPT,
            "return logits, [*inputs, logits]",
            "One tensor too many is kept: L layers were given L inputs, and the logits are not "
            "among them.",
        ),
        Mistake(
            "x not kept",
            KEPT,
            "return logits, inputs[1:]",
            "The first layer's input, x itself, is missing from what you keep.",
        ),
        Mistake(
            "kept last layer first",
            KEPT,
            "return logits, inputs[::-1]",
            "The kept inputs are in reverse: the first layer's comes first.",
        ),
        Mistake(
            "keeps the last input alone",
            KEPT,
            "return logits, inputs[-1:]",
            "Only the last layer's input is kept: every layer's is needed.",
        ),
        Mistake(
            "keeps x alone",
            KEPT,
            "return logits, [x] * len(weights)",
            "x is kept for every layer: each layer was given something else.",
        ),
        Mistake(
            "keeps pairs",
            KEPT,
            "return logits, list(zip(inputs, weights, strict=True))",
            "You kept more than asked: one tensor a layer, what it was given.",
        ),
        Mistake(
            "returned the other way round",
            KEPT,
            "return inputs, logits",
            "The logits come first, then what was kept.",
        ),
        Mistake(
            "logits alone",
            KEPT,
            "return logits",
            "What the way back needs is not returned: the list of the layers' inputs.",
        ),
        Mistake.written(
            "empties the lists",
            """
            def deep_forward(x, weights, biases):
                inputs = [x]
                while len(weights) > 1:
                    h = linear_forward(inputs[-1], weights.pop(0), biases.pop(0)).relu()
                    inputs.append(h)
                return linear_forward(inputs[-1], weights[0], biases[0]), inputs
            """,
            "The caller's lists of weights and biases are emptied on the way: read them without "
            "taking things out.",
        ),
    ],
    variants=[
        Variant(
            "one loop with a condition",
            """
            def deep_forward(x, weights, biases):
                h, inputs = x, []
                for layer in range(len(weights)):
                    inputs.append(h)
                    h = linear_forward(h, weights[layer], biases[layer])
                    if layer + 1 < len(weights):
                        h = torch.relu(h)
                return h, inputs
            """,
        ),
        Variant(
            "written out, a tuple kept",
            """
            def deep_forward(x, weights, biases):
                kept = (x,)
                *hidden, last = list(zip(weights, biases))
                for W, b in hidden:
                    kept = (*kept, torch.clamp(kept[-1] @ W + b, min=0))
                return kept[-1] @ last[0] + last[1], kept
            """,
        ),
        Variant(
            "ReLU at the start of a layer",
            """
            def deep_forward(x: Tensor, weights: list[Tensor], biases: list[Tensor]):
                inputs, z = [], x
                for i, (W, b) in enumerate(zip(weights, biases)):
                    inputs.append(z if i == 0 else z * (z > 0))
                    z = linear_forward(inputs[i], W, b)
                return [z, inputs]
            """,
        ),
        Variant(
            "recursive",
            """
            def deep_forward(x, weights, biases):
                y = torch.einsum("ni,ij->nj", x, weights[0]) + biases[0]
                if len(weights) == 1:
                    return y, [x]
                logits, rest = deep_forward(y.clamp(min=0), weights[1:], biases[1:])
                return logits, [x] + rest
            """,
        ),
        Variant(
            "in place on its own tensors",
            """
            def deep_forward(x, weights, biases):
                inputs = [x.clone()]
                for W, b in zip(weights[:-1], biases[:-1]):
                    h = inputs[-1].mm(W)
                    h += b
                    h.relu_()
                    inputs.append(h)
                return inputs[-1].mm(weights[-1]).add(biases[-1]), inputs
            """,
        ),
    ],
)


@deep_forward.test(
    points=1,
    cases=[
        Case("three layers", logits_alone, deep_inputs(5, 4, 7, 6, 3)),
        Case("five layers", logits_alone, deep_inputs(6, 3, 8, 5, 7, 4, 2)),
        Case("a single layer", logits_alone, deep_inputs(6, 4, 3)),
        Case("every layer of one size", logits_alone, deep_inputs(6, 6, 6, 6, 6)),
        Case("a single example", logits_alone, deep_inputs(1, 5, 7, 4)),
    ],
)
def test_computes_the_logits(submission, case):
    """Computes the logits, with a ReLU between every two layers"""
    submission.matches_reference(case)


@deep_forward.test(
    points=1,
    cases=[
        Case("three layers", what_is_kept, deep_inputs(5, 4, 7, 6, 3)),
        Case("a single layer", what_is_kept, deep_inputs(6, 4, 3)),
        Case("every layer of one size", what_is_kept, deep_inputs(6, 6, 6, 6, 6)),
    ],
)
def test_keeps_what_every_layer_was_given(submission, case):
    """Keeps what every layer was given"""
    submission.matches_reference(case)


@deep_forward.test(
    points=0.5, cases=[Case("three layers", logits_and_inputs, deep_inputs(6, 3, 5, 4, 2))]
)
def test_deep_forward_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# --------------------------------------------------------------------------- deep_backward


def kept(x, weights, biases):
    inputs = [x]
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        inputs.append((inputs[-1] @ W + b).relu())
    return inputs


def deep_gradient_inputs(batch, *sizes):
    def draw(make: Make):
        x, weights, biases = network(make, batch, *sizes)
        grad_logits = make.normal(batch, sizes[-1])
        return {"grad_logits": grad_logits, "inputs": kept(x, weights, biases), "weights": weights}

    return draw


def parameter_gradients(impl, grad_logits, inputs, weights):
    _, grad_weights, grad_biases = impl(grad_logits, inputs, weights)
    return {
        "gradients of the weights": list(grad_weights),
        "gradients of the biases": list(grad_biases),
    }


def input_gradient(impl, grad_logits, inputs, weights):
    grad_x, _, _ = impl(grad_logits, inputs, weights)
    return {"gradient of x": grad_x}


def returned(impl, grad_logits, inputs, weights):
    return impl(grad_logits, inputs, weights)


def deep_gradients_by_autograd(grad_logits, inputs, weights):
    """Each layer differentiated by itself; a bias of zero and ReLU of what was kept redo it."""
    grad, grad_weights, grad_biases = grad_logits, [], []
    with torch.enable_grad():
        for layer in range(len(weights) - 1, -1, -1):
            x = inputs[layer].detach().clone().requires_grad_()
            W = weights[layer].detach().clone().requires_grad_()
            b = torch.zeros_like(W[0]).requires_grad_()
            y = functional.linear(functional.relu(x) if layer else x, W.T, b)
            grad, grad_W, grad_b = torch.autograd.grad(y, (x, W, b), grad)
            grad_weights.append(grad_W)
            grad_biases.append(grad_b)
    return grad, grad_weights[::-1], grad_biases[::-1]


BACK = "grad, grad_W, grad_b = linear_backward(grad, inputs[layer], weights[layer])"
MASK = "grad = relu_backward(grad, inputs[layer])"
LISTS = "return grad, grad_weights, grad_biases"

deep_backward = Exercise(
    "deep_backward",
    oracle=deep_gradients_by_autograd,
    forbids=AUTOGRAD,
    mistakes=[
        Mistake(
            "ReLU not crossed",
            MASK,
            "pass",
            "The way back must cross every ReLU. A mask that is open at 0 does not: what ReLU "
            "returned is never negative.",
        ),
        Mistake(
            "mask at the input too",
            "if layer > 0:",
            "if layer >= 0:",
            "There is no ReLU before the first layer: the gradient of x passes unmasked.",
        ),
        Mistake(
            "lowest ReLU not crossed",
            "if layer > 0:",
            "if layer > 1:",
            "One ReLU is not crossed, the one after the first layer: check where your loop ends.",
        ),
        Mistake(
            "highest ReLU not crossed",
            "if layer > 0:",
            "if 0 < layer < len(weights) - 1:",
            "One ReLU is not crossed, the one before the last layer: check where your loop starts.",
        ),
        Mistake(
            "mask from the gradient",
            MASK,
            "grad = grad.relu()",
            "The mask comes from the forward pass, from what ReLU did there, not from the sign of "
            "the gradient.",
        ),
        Mistake(
            "arguments of relu_backward swapped",
            MASK,
            "grad = relu_backward(inputs[layer], grad)",
            "relu_backward is given its two arguments the other way round: the gradient is what "
            "passes.",
        ),
        Mistake(
            "ReLU's value as its slope",
            MASK,
            "grad = grad * inputs[layer]",
            "You multiplied by the activations: ReLU's slope is 0 or 1.",
        ),
        Mistake(
            "mask reversed",
            MASK,
            "grad = grad * (inputs[layer] == 0)",
            "Your mask is the wrong way round: units that were positive pass the gradient.",
        ),
        Mistake(
            "sigmoid's slope",
            MASK,
            "grad = grad * inputs[layer] * (1 - inputs[layer])",
            "h(1 - h) is the sigmoid's slope: this network's activation is ReLU.",
        ),
        Mistake(
            "mask one layer too low",
            MASK,
            "grad = relu_backward(grad, inputs[layer - 1])",
            "Your masks are shifted: each ReLU is crossed with what it produced itself.",
        ),
        Mistake.edits_of(
            "mask one layer too high",
            [
                ("if layer > 0:", "if layer < len(weights) - 1:"),
                (MASK, "grad = relu_backward(grad, inputs[layer + 1])"),
            ],
            "Your masks are shifted: each ReLU is crossed with what it produced itself.",
        ),
        Mistake(
            "biases summed over the wrong axis",
            BACK,
            "above = grad\n        " + BACK + "\n        grad_b = above.sum(dim=1)",
            "A bias is shared by the examples: its gradient sums over those, not over the units.",
        ),
        Mistake(
            "biases not summed",
            BACK,
            "above = grad\n        " + BACK + "\n        grad_b = above",
            "A bias is shared by the examples: its gradient adds them up and has the bias's shape.",
        ),
        Mistake(
            "mask from x throughout",
            MASK,
            "grad = relu_backward(grad, inputs[0])",
            "Your masks all come from x: each ReLU is crossed with what it produced itself.",
        ),
        Mistake(
            "weights' gradients from the layer below",
            BACK,
            "grad, grad_W, grad_b = linear_backward(grad, inputs[layer - 1], weights[layer])",
            "A layer's weight gradient needs what that layer was given: yours is shifted by one.",
        ),
        Mistake(
            "weights not turned",
            BACK,
            "above = grad\n        " + BACK + "\n        grad = above @ weights[layer]",
            "On the way back weights are crossed from outputs to inputs: they have to be turned "
            "round.",
        ),
        Mistake(
            "arguments of linear_backward swapped",
            BACK,
            "grad, grad_W, grad_b = linear_backward(inputs[layer], grad, weights[layer])",
            "linear_backward is given its arguments in another order than it takes them: the "
            "gradient from above comes first, then the layer's input.",
        ),
        Mistake(
            "gradient of the logits at every layer",
            BACK,
            BACK.replace("(grad,", "(grad_logits,"),
            "Each layer takes the gradient that arrives from the layer above; yours starts again "
            "from the logits every time.",
        ),
        Mistake(
            "biases before the mask",
            "if layer > 0:\n            " + MASK,
            "grad_b = (grad_logits if layer == len(weights) - 1 else below).sum(dim=0)\n"
            "        below = grad\n"
            "        if layer > 0:\n            " + MASK,
            "A bias sits before its ReLU, so its gradient comes from behind the mask too.",
        ),
        Mistake(
            "weights before the mask",
            "if layer > 0:\n            " + MASK,
            "grad_W = inputs[layer].T @ (grad_logits if layer == len(weights) - 1 else below)\n"
            "        below = grad\n"
            "        if layer > 0:\n            " + MASK,
            "Weights sit before their ReLU, so their gradient comes from behind the mask too.",
        ),
        Mistake.written(
            "first layer not crossed",
            """
            def deep_backward(grad_logits, inputs, weights):
                grad, grad_weights, grad_biases = grad_logits, [], []
                for layer in reversed(range(len(weights))):
                    below, grad_W, grad_b = linear_backward(grad, inputs[layer], weights[layer])
                    grad_weights.insert(0, grad_W)
                    grad_biases.insert(0, grad_b)
                    if layer > 0:
                        grad = relu_backward(below, inputs[layer])
                return grad, grad_weights, grad_biases
            """,
            "The gradient of x still has to cross the first layer's weights: yours stops one layer "
            "above.",
        ),
        Mistake(
            "lower layers left at zero",
            MASK,
            "grad = torch.zeros_like(grad)",
            "Only the last layer's gradients are right: nothing passes on to the layers below.",
        ),
        Mistake(
            "weights' gradients transposed",
            LISTS,
            "return grad, [g.T for g in grad_weights], grad_biases",
            "Your weight gradients are turned: each should have the shape of its weights.",
        ),
        Mistake(
            "divided by the batch once more",
            "grad = grad_logits",
            "grad = grad_logits / inputs[0].shape[0]",
            "Nothing is averaged here: grad_logits knows of any mean already.",
        ),
        Mistake(
            "divided by the batch at every layer",
            BACK,
            BACK.replace("(grad,", "(grad / inputs[0].shape[0],"),
            "Nothing is averaged here: dividing at every layer shrinks the gradient on its way "
            "down.",
        ),
        Mistake(
            "weights and biases averaged",
            LISTS,
            "n = inputs[0].shape[0]\n"
            "    return grad, [g / n for g in grad_weights], [g / n for g in grad_biases]",
            "Nothing is averaged here: the gradients of weights and biases add the examples up.",
        ),
        Mistake(
            "biases averaged",
            LISTS,
            "return grad, grad_weights, [g / inputs[0].shape[0] for g in grad_biases]",
            "Nothing is averaged here: the gradients of the biases add the examples up.",
        ),
        Mistake(
            "minus sign",
            LISTS,
            "return -grad, [-g for g in grad_weights], [-g for g in grad_biases]",
            "All gradients have the wrong sign: the minus belongs to the descent step.",
        ),
        Mistake(
            "last layer first",
            LISTS,
            "return grad, grad_weights[::-1], grad_biases[::-1]",
            "You went backwards and kept that order: both lists should begin with the first layer.",
        ),
        Mistake(
            "weights' gradients last layer first",
            LISTS,
            "return grad, grad_weights[::-1], grad_biases",
            "The weights' gradients come out last layer first: turn that list round.",
        ),
        Mistake(
            "biases' gradients last layer first",
            LISTS,
            "return grad, grad_weights, grad_biases[::-1]",
            "The biases' gradients come out last layer first: turn that list round.",
        ),
        Mistake(
            "gradient of x last",
            LISTS,
            "return grad_weights, grad_biases, grad",
            "The order is wrong: the gradient of x comes first, then the two lists.",
        ),
        Mistake(
            "lists swapped",
            LISTS,
            "return grad, grad_biases, grad_weights",
            "The two lists are swapped: the weights' gradients come before the biases'.",
        ),
        Mistake(
            "gradient of x not returned",
            LISTS,
            "return grad_weights, grad_biases",
            "The gradient of x is missing from what you return: it comes first.",
        ),
        Mistake(
            "a pair for every layer",
            LISTS,
            "return grad, list(zip(grad_weights, grad_biases, strict=True))",
            "Two lists are asked for, one of the weights and one of the biases, not pairs.",
        ),
        Mistake.written(
            "empties the kept list",
            """
            def deep_backward(grad_logits, inputs, weights):
                grad, grad_weights, grad_biases = grad_logits, [], []
                for W in reversed(weights):
                    x = inputs.pop()
                    grad, grad_W, grad_b = linear_backward(grad, x, W)
                    if inputs:
                        grad = relu_backward(grad, x)
                    grad_weights.insert(0, grad_W)
                    grad_biases.insert(0, grad_b)
                return grad, grad_weights, grad_biases
            """,
            "The gradients are right, but the caller's list of inputs is emptied on the way: read "
            "it without taking things out.",
        ),
        Mistake.written(
            "turns the lists round in place",
            """
            def deep_backward(grad_logits, inputs, weights):
                grad, grad_weights, grad_biases = grad_logits, [], []
                inputs.reverse()
                weights.reverse()
                for layer in range(len(weights)):
                    grad, grad_W, grad_b = linear_backward(grad, inputs[layer], weights[layer])
                    if layer < len(weights) - 1:
                        grad = relu_backward(grad, inputs[layer])
                    grad_weights.insert(0, grad_W)
                    grad_biases.insert(0, grad_b)
                return grad, grad_weights, grad_biases
            """,
            "The gradients are right, but the caller's lists are left back to front: walk through "
            "them backwards without changing them.",
        ),
        Mistake(
            "turns the kept tensors into masks",
            MASK,
            "inputs[layer][inputs[layer] > 0] = 1\n            grad = grad * inputs[layer]",
            "The gradients are right, but you wrote masks over what the caller kept: make new "
            "tensors.",
        ),
        Mistake(
            "mask at the logits",
            "grad = grad_logits",
            "grad = grad_logits.relu()",
            "There is no ReLU after the last layer: the gradient of the logits enters it whole.",
        ),
        Mistake(
            "gradient of the logits returned",
            LISTS,
            LISTS.replace("grad,", "grad_logits,"),
            "What you return first is the gradient of the logits, as it came in: x's gradient is "
            "what is "
            "left after the first layer.",
        ),
        Mistake(
            "gradient of x added up",
            LISTS,
            LISTS.replace("grad,", "grad.sum(dim=0),"),
            "You added the examples' gradients of x up. Each example has an x of its own, and so a "
            "gradient of its own.",
        ),
        Mistake(
            "topmost ReLU alone",
            "if layer > 0:",
            "if layer == len(weights) - 1 and layer > 0:",
            "Only the ReLU below the last layer is crossed: every other one on the way down has a "
            "mask "
            "too.",
        ),
    ],
    variants=[
        Variant(
            "appended, then turned round",
            """
            def deep_backward(grad_logits, inputs, weights):
                grad, grad_weights, grad_biases = grad_logits, [], []
                for i in range(len(weights) - 1, -1, -1):
                    grad_weights.append(inputs[i].T @ grad)
                    grad_biases.append(grad.sum(0))
                    grad = grad @ weights[i].T
                    if i:
                        grad = torch.where(inputs[i] > 0, grad, torch.zeros_like(grad))
                return grad, grad_weights[::-1], grad_biases[::-1]
            """,
        ),
        Variant(
            "lists filled by index",
            """
            def deep_backward(grad_logits, inputs, weights):
                L = len(weights)
                grad_weights, grad_biases = [None] * L, [None] * L
                delta, grad_weights[-1], grad_biases[-1] = linear_backward(
                    grad_logits, inputs[-1], weights[-1]
                )
                for layer in range(L - 2, -1, -1):
                    delta = relu_backward(delta, inputs[layer + 1])
                    delta, grad_weights[layer], grad_biases[layer] = linear_backward(
                        delta, inputs[layer], weights[layer]
                    )
                return delta, grad_weights, grad_biases
            """,
        ),
        Variant(
            "recursive",
            """
            def deep_backward(grad_logits, inputs, weights):
                if len(weights) == 1:
                    grad_x, grad_W, grad_b = linear_backward(grad_logits, inputs[0], weights[0])
                    return grad_x, [grad_W], [grad_b]
                above, later_weights, later_biases = deep_backward(
                    grad_logits, inputs[1:], weights[1:]
                )
                above = relu_backward(above, inputs[1])
                grad_x, grad_W, grad_b = linear_backward(above, inputs[0], weights[0])
                return grad_x, [grad_W, *later_weights], [grad_b, *later_biases]
            """,
        ),
        Variant(
            "zipped backwards, in place on its own tensors",
            """
            def deep_backward(grad_logits: Tensor, inputs: list[Tensor], weights: list[Tensor]):
                grads = []
                grad = grad_logits.clone()
                for x, W in zip(reversed(inputs), reversed(weights)):
                    if grads:
                        grad *= above_mask
                    grads.append((torch.einsum("ni,nj->ij", x, grad), torch.einsum("nj->j", grad)))
                    grad = torch.einsum("nj,ij->ni", grad, W)
                    above_mask = x > 0
                grad_weights, grad_biases = zip(*reversed(grads))
                return [grad, grad_weights, grad_biases]
            """,
        ),
        Variant(
            "masks prepared first",
            """
            def deep_backward(grad_logits, inputs, weights):
                masks = [torch.ones_like(inputs[0])] + [torch.sign(h) for h in inputs[1:]]
                deltas = [grad_logits]
                for mask, W in zip(masks[::-1], weights[::-1]):
                    deltas.append(torch.matmul(deltas[-1], W.t()).mul(mask))
                grad_x, *of_layers = deltas[::-1]
                grad_weights = [x.t().mm(delta) for x, delta in zip(inputs, of_layers)]
                return grad_x, grad_weights, [delta.sum(dim=0) for delta in of_layers]
            """,
        ),
    ],
)


@deep_backward.test(
    points=3.5,
    cases=[
        Case("three layers", parameter_gradients, deep_gradient_inputs(7, 4, 8, 6, 3)),
        Case("five layers", parameter_gradients, deep_gradient_inputs(9, 3, 8, 7, 10, 6, 2)),
        Case("a single layer", parameter_gradients, deep_gradient_inputs(5, 4, 3)),
        Case("every layer of one size", parameter_gradients, deep_gradient_inputs(6, 6, 6, 6, 6)),
        Case("a single example", parameter_gradients, deep_gradient_inputs(1, 5, 12, 9, 4)),
    ],
)
def test_finds_every_layers_gradients(submission, case):
    """Finds the gradients of every layer's weights and biases"""
    submission.matches_reference(case)


@deep_backward.test(
    points=1,
    cases=[
        Case("three layers", input_gradient, deep_gradient_inputs(7, 4, 8, 6, 3)),
        Case("a single layer", input_gradient, deep_gradient_inputs(5, 4, 3)),
        Case("all that is returned", returned, deep_gradient_inputs(6, 6, 6, 6, 6)),
    ],
)
def test_carries_the_gradient_to_the_input(submission, case):
    """Carries the gradient back to the network's input"""
    submission.matches_reference(case)


@deep_backward.test(
    points=0.5, cases=[Case("three layers", returned, deep_gradient_inputs(6, 3, 7, 5, 2))]
)
def test_deep_backward_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)
